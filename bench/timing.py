"""Timing several contestants side by side: they take turns, so that a slow moment of the machine hits them all."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator

SAMPLE_SECONDS = 0.01
"""Length of one sample; as many calls as fit are made in it."""


def seconds(function: Callable, calls: int) -> float:
    """Return the seconds of one call, averaged over `calls`."""
    start = time.perf_counter()
    for _ in range(calls):
        function()
    return (time.perf_counter() - start) / calls


def side_by_side(contestants: dict[str, Callable], rounds: int) -> dict[str, float]:
    """Return the median seconds of a call of each contestant, over `rounds` in which each has its turn."""
    calls = {name: _calls(function) for name, function in contestants.items()}
    samples: dict[str, list[float]] = {name: [] for name in contestants}
    gc.collect()
    gc.disable()
    try:
        for name in _turns(contestants, rounds):
            samples[name].append(seconds(contestants[name], calls[name]))
    finally:
        gc.enable()
    return {name: statistics.median(values) for name, values in samples.items()}


def _turns(contestants, rounds) -> Iterator[str]:
    for _ in range(rounds):
        yield from contestants


def _calls(function) -> int:
    """How many calls make a sample, after a warm-up."""
    once = min(seconds(function, 1) for _ in range(3))
    return max(1, int(SAMPLE_SECONDS / max(once, 1e-7)))
