"""Timing several contestants side by side: they take turns, so that a slow moment of the machine hits them all."""

from __future__ import annotations

import dataclasses
import gc
import statistics
import time
from collections.abc import Callable, Iterator

SAMPLE_SECONDS = 0.01
"""Length of one sample; as many calls as fit are made in it."""


@dataclasses.dataclass(frozen=True)
class Figures:
    """What the samples of one contestant say.

    Attributes
    ----------
    median, least : float
        Seconds of a call: the median over the samples, and the best sample.
    cores : float
        Processor seconds per second of the clock: above one, it used more threads than one.
    """

    median: float
    least: float
    cores: float


def seconds(function: Callable, calls: int) -> float:
    """Return the seconds of one call, averaged over `calls`."""
    start = time.perf_counter()
    for _ in range(calls):
        function()
    return (time.perf_counter() - start) / calls


def side_by_side(contestants: dict[str, Callable], rounds: int,
                 progress: Callable[[], None] = lambda: None) -> dict[str, Figures]:
    """Time functions in turns.

    Parameters
    ----------
    contestants : dict of str to callable
        Functions without arguments.
    rounds : int
        Samples of each contestant; in every round each has its turn, and another one begins.
    progress : callable
        Called after each round.

    Returns
    -------
    dict of str to Figures
        In the order of `contestants`.
    """
    calls = {name: _calls(function) for name, function in contestants.items()}
    samples: dict[str, list[float]] = {name: [] for name in contestants}
    busy = dict.fromkeys(contestants, 0.0)
    gc.collect()
    gc.disable()
    try:
        for turns in _turns(list(contestants), rounds):
            for name in turns:
                before = time.process_time()
                samples[name].append(seconds(contestants[name], calls[name]))
                busy[name] += time.process_time() - before
            progress()
    finally:
        gc.enable()
    return {name: Figures(statistics.median(values), min(values), busy[name] / (sum(values) * calls[name]))
            for name, values in samples.items()}


def _turns(names: list[str], rounds: int) -> Iterator[list[str]]:
    """Who plays in each round; the first of one round is the last of the next, so that nobody always follows the same one."""
    for k in range(rounds):
        first = k % len(names)
        yield names[first:] + names[:first]


def _calls(function) -> int:
    """How many calls make a sample, after a warm-up."""
    once = min(seconds(function, 1) for _ in range(3))
    return max(1, int(SAMPLE_SECONDS / max(once, 1e-7)))
