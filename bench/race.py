"""Rows of native code: what we compile beside code written by hand and the peers, each with a limit that is met or not.

A row is a `Workload` whose `make` returns a `Race`. The printing is in `table.py`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from bench import peers
from bench.contest import BUSY
from bench.table import duration
from bench.timing import Figures, side_by_side
from bench.verification import VerificationError, verify_ours, verify_peer, verify_value
from bench.workload import Case, Workload


@dataclass(frozen=True)
class Bound:
    """A limit on our time: at most `times` that of `than`, or at least `faster` times as fast, or `seconds`.

    Examples
    --------
    >>> str(Bound("jax", faster=6.0)), str(Bound("hand-written", times=1.5)), str(Bound(seconds=1.2e-6))
    ('at least 6 x faster', 'at most 1.5 x', 'at most 1.2 us')
    >>> Bound("jax", faster=6.0).judged({"tape": 1.0, "jax": 9.0})
    {'than': 'jax', 'text': 'at least 6 x faster', 'ratio': '9.0 x faster', 'met': True}
    """

    than: str = ""
    times: float = 0.0
    faster: float = 0.0
    seconds: float = 0.0

    def judged(self, seconds: dict[str, float]) -> dict:
        """Return what the table says, "met" None where there is no figure to compare with."""
        ours, theirs = seconds["tape"], seconds.get(self.than) if self.than else self.seconds
        if theirs is None:
            return {"than": self.than, "text": str(self), "ratio": "-", "met": None}
        if not self.than:
            return {"than": "", "text": str(self), "ratio": "-", "met": ours <= self.seconds}
        if self.faster:
            ratio, met = f"{theirs / ours:.1f} x faster", ours * self.faster <= theirs
        else:
            ratio, met = f"{ours / theirs:.2f} x", ours <= self.times * theirs
        return {"than": self.than, "text": str(self), "ratio": ratio, "met": met}

    def __str__(self):
        if self.faster:
            return f"at least {self.faster:g} x faster" if self.faster != 1.0 else "at least as fast"
        return f"at most {self.times:g} x" if self.than else f"at most {duration(self.seconds)}"


@dataclass
class Race(Case):
    """A `Case` with more contestants, and limits.

    Attributes
    ----------
    bounds : tuple of Bound
        On our time.
    rivals : dict of str to callable
        Besides the peers, code written by hand or another way to run ours: `prepare()` returns a callable without arguments
        that returns the gradient.
    values : dict of str to callable
        Without arguments; each computes the value alone, which is compared with ours.
    free : dict of str to callable
        Without arguments; part of the work, whose result is compared with nothing.
    answer : callable
        Of what our callable returns: value and gradient, the gradient None where the value alone is computed.
    shares : dict of str to int
        How many calls a call of that contestant stands for, where that is not `calls`.
    once : bool
        Whether each contestant runs once, as it takes long.
    threads : int
        How many of them we use.
    missing : str
        Why there is nothing to measure.
    """

    bounds: tuple[Bound, ...] = ()
    rivals: dict[str, Callable] = field(default_factory=dict)
    values: dict[str, Callable] = field(default_factory=dict)
    free: dict[str, Callable] = field(default_factory=dict)
    answer: Callable = tuple
    shares: dict[str, int] = field(default_factory=dict)
    once: bool = False
    threads: int = 1
    missing: str = ""


def measure(workload: Workload, rounds: int, quick: bool, names: Iterable[str] = (),
            progress: Callable[[], None] = lambda: None) -> dict:
    """Verify and time one row; arguments as of `contest.measure`.

    Returns
    -------
    dict
        "seconds", "least", "cores", "prepare", "deviation" and "problems" as of `contest.measure`, and "bounds": what
        `Bound.judged` says of each.

    Raises
    ------
    VerificationError
        When our own value or gradient is wrong.
    """
    race = workload.make(quick)
    row = {"name": workload.name, "title": workload.title, "group": workload.group.name, "seconds": {}, "least": {},
           "cores": {}, "first": None, "prepare": {}, "deviation": {}, "problems": {}, "bounds": []}
    if race.missing:
        row["problems"]["tape"] = race.missing
        return row
    start = time.perf_counter()
    ours = race.ours()
    value, gradient = race.answer(ours())
    row["first"] = time.perf_counter() - start
    row["deviation"]["tape"] = verify_value(race, value) if gradient is None else verify_ours(race, value, gradient)
    contestants = {"tape": ours, **_verified(race, value, gradient, names, row), **race.free}
    figures = _once(contestants) if race.once else side_by_side(contestants, rounds, progress)
    for name, figure in figures.items():
        calls = race.shares.get(name, race.calls)
        row["seconds"][name], row["least"][name], row["cores"][name] = figure.median / calls, figure.least / calls, figure.cores
        if figure.cores > max(BUSY, race.threads) and not quick:
            row["problems"][f"{name} threads"] = f"{name}: used {figure.cores:.1f} cores"
    row["bounds"] = [bound.judged(row["seconds"]) for bound in race.bounds]
    return row


def _verified(race, value, gradient, names, row) -> dict[str, Callable]:
    """The other contestants, each right; a peer that is not has a footnote instead."""
    found = {}
    for name, run in race.values.items():
        verify_value(race, value, {name: run()})
        found[name] = run
    for name, prepare in race.rivals.items():
        found[name] = prepare()
        row["deviation"][name] = verify_peer(name, gradient, found[name]())
    for name, prepare in race.peers.items():
        if name.replace(".", " ").split()[0] not in names:
            continue
        try:
            start = time.perf_counter()
            run = prepare()
            theirs = run()
            row["prepare"][name] = time.perf_counter() - start
            row["deviation"][name] = verify_peer(name, value if gradient is None else gradient, theirs)
            found[name] = run
        except VerificationError as error:
            row["problems"][name] = str(error)
        except Exception as error:  # a peer's failure is a footnote, whatever it is
            row["problems"][name] = f"{name}: {peers.reason(error)}"
    return found


def _once(contestants) -> dict[str, Figures]:
    """Seconds of one run of each."""
    figures = {}
    for name, run in contestants.items():
        busy, start = time.process_time(), time.perf_counter()
        run()
        seconds = time.perf_counter() - start
        figures[name] = Figures(seconds, seconds, (time.process_time() - busy) / seconds)
    return figures
