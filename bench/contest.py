"""One workload measured: verified, then timed side by side. The printing is in `table.py`."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable

import numba
from numba.extending import is_jitted

import tape
from bench import peers
from bench.timing import side_by_side
from bench.verification import VerificationError, verify_ours, verify_peer
from bench.workload import Limit, Workload

BUSY = 1.1
"""Cores from which on a contestant counts as one that used more than a thread."""

COMPILING = Limit(8.0, 0.3)
"""On the first call of our derivative of a jitted function, in first calls of that function."""


def first_gradient() -> float:
    """Return the seconds of the first gradient in this process: loading the kernels, or compiling them."""
    start = time.perf_counter()
    tape.grad(lambda x: x * x)(1.0)
    return time.perf_counter() - start


def first_compilation() -> dict[str, float]:
    """Return the seconds of the first jitted function in this process and of its gradient, with what they load."""
    figures, function = {}, numba.njit(lambda x: x * x)
    for name, run in (("primal", function), ("derivative", tape.value_and_grad(function))):
        start = time.perf_counter()
        run(1.0)
        figures[name] = time.perf_counter() - start
    return figures


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
        "first" and "prepare": seconds of our first call and of each peer's (recording, tracing, compiling; kernels and
        libraries are loaded before); "deviation": of gradients, relative, ours from the known one and each peer's from ours;
        "problems": why a peer has no figure; "limit" and "compile limit": "seconds" that "tape" and "first" may take, and
        their rule as "text".
        Of functions that are recorded, "record": seconds of recording our list; "instructions": its length. Of jitted
        functions, "compile": seconds of the primal's first call. None where there is no such thing.

    Raises
    ------
    VerificationError
        When our own gradient is wrong.
    """
    case = workload.make(quick)
    contestants, record, instructions, compiling = {"primal": case.primal}, None, None, None
    start = time.perf_counter()
    if is_jitted(case.function):
        case.primal()
        compiling = time.perf_counter() - start
    else:
        recorded = tape.record(case.function, *case.args)
        record, instructions = time.perf_counter() - start, len(recorded)
        contestants["forward"] = functools.partial(recorded.forward, *case.args)
    start = time.perf_counter()
    ours = case.ours()
    value, gradient = ours()
    first = time.perf_counter() - start
    deviation = {"tape": verify_ours(case, value, gradient)}
    contestants["tape"] = ours
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
    seconds = {name: figure.median / case.calls for name, figure in figures.items()}
    return {
        "name": workload.name, "title": workload.title, "group": workload.group.name, "seconds": seconds,
        "least": {name: f.least / case.calls for name, f in figures.items()},
        "cores": {name: f.cores for name, f in figures.items()}, "first": first, "prepare": prepare, "deviation": deviation,
        "problems": problems, "limit": _bound(workload.limit, seconds["primal"]), "compile limit": _bound(COMPILING, compiling),
        "record": record, "instructions": instructions, "compile": compiling,
    }


def _bound(limit, primal) -> dict | None:
    if limit is None or primal is None:
        return None
    return {"seconds": limit.of(primal), "text": str(limit)}
