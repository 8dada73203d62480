"""One workload measured: verified, then timed side by side. The printing is in `table.py`."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable

import tape
from bench import peers
from bench.timing import side_by_side
from bench.verification import VerificationError, verify_ours, verify_peer
from bench.workload import Workload

BUSY = 1.1
"""Cores from which on a contestant counts as one that used more than a thread."""


def first_gradient() -> float:
    """Return the seconds of the first gradient in this process: loading the kernels, or compiling them."""
    start = time.perf_counter()
    tape.grad(lambda x: x * x)(1.0)
    return time.perf_counter() - start


def measure(workload: Workload, rounds: int, quick: bool, names: Iterable[str] = (),
            progress: Callable[[], None] = lambda: None) -> dict:
    """Verify and time one workload.

    Parameters
    ----------
    workload : Workload
        A row of the table.
    rounds : int
        Samples of each contestant.
    quick : bool
        Whether a small case is enough.
    names : iterable of str
        The peers that are imported.
    progress : callable
        Called after each round.

    Returns
    -------
    dict
        By contestant ("primal", "jitted", "tape", "forward" for our forward sweep alone, and each peer that can do it):
        "seconds", the median of a call; "least", the best sample; "cores", processor seconds per second.
        "record": seconds of recording our list; "first" and "prepare": of our first call and of each peer's (recording,
        tracing, compiling; kernels and libraries are loaded before); "instructions": length of our list; "deviation": of
        gradients, relative, ours from the known one and each peer's from ours; "problems": why a peer has no figure.

    Raises
    ------
    VerificationError
        When our own gradient is wrong.
    """
    case = workload.make(quick)
    start = time.perf_counter()
    recorded = tape.record(case.function, *case.args)
    record = time.perf_counter() - start
    start = time.perf_counter()
    ours = case.ours()
    value, gradient = ours()
    first = time.perf_counter() - start
    deviation = {"tape": verify_ours(case, value, gradient)}
    contestants = {"primal": case.primal, "tape": ours, "forward": functools.partial(recorded.forward, *case.args)}
    if case.jitted is not None:
        contestants["jitted"] = functools.partial(case.jitted, *case.args)
    prepare, problems = {}, {}
    for name in names:
        if name not in case.peers:
            continue
        try:
            start = time.perf_counter()
            run = case.peers[name]()
            theirs = run()
            prepare[name] = time.perf_counter() - start
            deviation[name] = verify_peer(name, gradient, theirs)
            contestants[name] = run
        except VerificationError as error:
            problems[name] = str(error)
        except Exception as error:  # a peer's failure is a footnote, whatever it is
            problems[name] = f"{name}: {peers.reason(error)}"
    figures = side_by_side(contestants, rounds, progress)
    for name, figure in figures.items():
        # Samples of a quick run are too short for the clock of processor time.
        if figure.cores > BUSY and not quick:
            problems[f"{name} threads"] = f"{name}: used {figure.cores:.1f} cores, not one"
    return {
        "name": workload.name, "title": workload.title, "seconds": {name: f.median for name, f in figures.items()},
        "least": {name: f.least for name, f in figures.items()}, "cores": {name: f.cores for name, f in figures.items()},
        "record": record, "first": first, "prepare": prepare, "deviation": deviation, "problems": problems,
        "instructions": len(recorded),
    }
