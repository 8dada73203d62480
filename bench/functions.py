"""One NumPy function measured: verified, then timed beside NumPy's own call. The printing is in `table.py`.

What is timed. NumPy: the call. Native code, which a list moves to by itself when it runs often, and `tape.compile` makes at
once: forward is the call of the compiled function, backward is what value and adjoints together cost more; both from plain
arrays to new ones. The sweeps, which run a list from its first call: forward is the sweep over the list, in buffers that are
kept, backward the reverse sweep alone. Eager: the same call on variables that want a gradient.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

import tape
from bench.timing import side_by_side
from bench.verification import verify_ours, verify_value
from bench.workload import Case, Workload
from tape.native.compiled import Compiled
from tape.recording.traces import Traces
from tape.running.linearised import SweptPoint

FORWARD, BACKWARD = 2.0, 3.0
"""What a function may cost at most, in times of NumPy's own call."""

ROUNDS = 5
"""Samples of each contestant; there are many rows."""

ENGINES = ("native", "sweeps")


@dataclass(frozen=True)
class Call:
    """A call of a NumPy function.

    Attributes
    ----------
    function : callable
        With one array or number as its result.
    args : tuple of ndarray
        Its arguments; all are differentiated.
    note : str
        Why a limit cannot be met.
    """

    function: Callable
    args: tuple
    note: str = ""

    def seed(self) -> np.ndarray:
        """An adjoint of the result."""
        return np.random.default_rng(1).standard_normal(np.shape(self.function(*self.args)))


class Native:
    """A call by machine code."""

    def __init__(self, call: Call, seed):
        self.args, self.seed = call.args, seed
        self.compiled = Compiled(call.function, call.args, tuple(range(len(call.args))))

    def forward(self):
        """Compute the value."""
        return self.compiled.value.results(self.args)[0]

    value = forward

    def both(self) -> tuple:
        """Compute value and adjoints; returns the adjoints."""
        return tuple(self.compiled.vjp.results([*self.args, self.seed])[1:])

    without = forward
    """What `both` does beside the backward pass."""


class Sweeps:
    """A call by the sweeps."""

    def __init__(self, call: Call, seed):
        self.seed = seed
        self.trace, self.workspace = Traces(call.function).run(call.args, {}, tuple(range(len(call.args))))
        self.point = SweptPoint(self.trace, self.workspace, call.args, checked=False)

    def forward(self):
        """Sweep over the list."""
        self.trace.forward(self.workspace)

    def value(self):
        """Compute the value and copy it out."""
        self.forward()
        return self.workspace.outputs[0].copy()

    def both(self) -> tuple:
        """Sweep back from the values that are there; returns the adjoints."""
        return tuple(self.point.pull([self.seed]))

    def without(self):
        """Do what `both` does beside the backward pass."""
        self.workspace.output_adjoints[0][...] = self.seed
        tuple(adjoint.copy() for adjoint in self.workspace.gradients)
        self.point.clear()


def measure(workload: Workload, rounds: int, quick: bool, names: Iterable[str] = (),
            progress: Callable[[], None] = lambda: None) -> dict:
    """Verify and time one function; arguments as of `contest.measure`.

    Returns
    -------
    dict
        "seconds" by contestant: "numpy", "eager", and for each engine "<engine> forward" and "<engine> backward";
        "deviation" by engine, of the adjoints; "over": the contestants beyond their limits; "compile": seconds of both
        native functions; "note".

    Raises
    ------
    VerificationError
        When a value or a gradient is wrong.
    """
    call = workload.make(quick)
    seed, deviation, contestants = call.seed(), {}, {"numpy": lambda: call.function(*call.args)}
    start = time.perf_counter()
    native = Native(call, seed)
    native.both()
    compiling = time.perf_counter() - start
    for name, engine in zip(ENGINES, (native, Sweeps(call, seed)), strict=True):
        deviation[name] = verified(call, seed, engine.value(), engine.both())
        contestants |= {f"{name} forward": engine.forward, f"{name} both": engine.both, f"{name} without": engine.without}
    variables = [tape.variable(x, requires_grad=True) for x in call.args]
    eager = lambda: call.function(*variables)
    verify_value(Case(call.function, call.args), eager().data, {"NumPy": call.function(*call.args)})
    contestants["eager"] = eager
    del contestants["native without"]  # the forward call itself
    figures = {name: figure.median for name, figure in side_by_side(contestants, rounds, progress).items()}
    figures["native without"] = figures["native forward"]
    seconds = {"numpy": figures["numpy"], "eager": figures["eager"]}
    for name in ENGINES:
        seconds[f"{name} forward"] = figures[f"{name} forward"]
        seconds[f"{name} backward"] = max(figures[f"{name} both"] - figures[f"{name} without"], 0.0)
    return {"name": workload.name, "title": workload.title, "group": workload.group.name, "seconds": seconds, "problems": {},
            "deviation": deviation, "over": over(seconds), "compile": compiling, "note": call.note}


def over(seconds: dict[str, float]) -> list[str]:
    """The contestants that take more than their limits."""
    limits = {"eager": FORWARD} | {f"{name} {way}": limit for name in ENGINES
                                  for way, limit in (("forward", FORWARD), ("backward", BACKWARD))}
    return [name for name, limit in limits.items() if seconds[name] > limit * seconds["numpy"]]


def verified(call: Call, seed, value, adjoints) -> float:
    """Check a value against NumPy's, and adjoints against differences; returns the adjoints' relative deviation.

    Raises
    ------
    VerificationError
        When one is wrong.
    """
    verify_value(Case(call.function, call.args), value, {"NumPy": call.function(*call.args)})
    case = Case(lambda *args: np.sum(seed * call.function(*args)), call.args, tuple(range(len(call.args))))
    return verify_ours(case, case.primal(), adjoints)
