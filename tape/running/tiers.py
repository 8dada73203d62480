"""When a derivative of a recorded list is run by native code: when the calls so far would have paid for compiling.

What is not here: how derivatives are run (`linearised.py`), the lists that compute them (`derived.py`).

Environment: `TAPE_NATIVE=0` stays on the sweeps, `TAPE_NATIVE=always` compiles at the first call.
"""

from __future__ import annotations

import contextlib
import contextvars
import math
import time

from compiled.native.function import NativeFunction
from compiled.sweeps.engine import mode
from tape.recording.trace import Trace
from tape.recording.traces import Traces
from tape.running.derived import Lists, native_listing
from tape.running.executables import SweptFunction

COMPILING = 0.05, 0.5e-3
"""Seconds that compiling takes: at least, and for each instruction."""

WORTH = 2.0
"""A list is compiled when it has been run for this many times as long as compiling takes."""

MOST_INSTRUCTIONS = 20_000
"""Longer lists stay on the sweeps unless `tape.compile` asks."""


def price(instructions: int) -> float:
    """Seconds in the sweeps from which on a list of so many instructions is compiled."""
    first, each = COMPILING
    return WORTH * (first + each * instructions)


SWEEPS = {"value_and_grad": ("forward", "reverse"), "value": ("forward", "reverse", "tangent"), "jvp": ("forward", "tangent"),
          "hvp": ("forward", "tangent", "tangent_reverse")}
"""The sweeps that run a derivative."""

PINNED: contextvars.ContextVar[str] = contextvars.ContextVar("pinned", default="")
"""What holds in place of `mode()` inside `pinned`; else empty."""


@contextlib.contextmanager
def pinned(chosen: str):
    """Run lists as `chosen` says, inside the block; unless `TAPE_NATIVE=0` says that there is no native code.

    The last bits of a sum depend on what runs it, and that, without this, on how long it took so far.
    """
    token = PINNED.set("0" if mode() == "0" else chosen)
    try:
        yield
    finally:
        PINNED.reset(token)


class Tier:
    """How one derivative of one list is run.

    Attributes
    ----------
    seconds : float
        Spent in the sweeps.
    price : float
        So many have to be spent before the list is compiled.
    can_sweep : bool
        Whether the sweeps can run it: it has no loops or calls, and there are kernels, or it is too long for anything else.
    """

    def __init__(self, trace: Trace, name: str):
        self.seconds, self.compiling, self.refused, self._function = 0.0, 0.0, "", None
        self.trace, self.name = trace, name
        self.price = price(len(trace.program.code))
        self.can_sweep = not trace.program.has_bodies and self._has_kernels()

    def _has_kernels(self):
        return len(self.trace.program.code) > MOST_INSTRUCTIONS or all(map(self.trace.engine.has, SWEEPS[self.name]))

    def start(self, chosen: str) -> None:
        """Go over to native code at once where the sweeps cannot run the derivative, or where the user has `chosen` so."""
        if not self.can_sweep and not self.trace.program.has_bodies and self._has_kernels():
            self.can_sweep = True  # of other lists enough has been compiled
        if not self.can_sweep:
            self.compile()
            if not self.trace.program.has_bodies:
                self.trace.engine.miss(SWEEPS[self.name], self.compiling)
        elif chosen == "always" and self.name != "value":
            self.move(chosen)

    def move(self, chosen: str) -> None:
        """Go over to native code, unless the user, who has `chosen` a mode, or the length of the list forbids it."""
        self.refused = "TAPE_NATIVE=0" if chosen == "0" else ""
        if not self.refused and len(lists_of(self.trace).program.code) > MOST_INSTRUCTIONS:
            self.refused = "too long for native code"
        if not self.refused:
            self.compile()

    def compile(self) -> None:
        """Make native code (of lists with loops, under `TAPE_NATIVE=0`, what runs the derivative's list by the sweeps)."""
        begin = time.perf_counter()
        self._function = getattr(lists_of(self.trace), self.name)
        self.compiling = time.perf_counter() - begin
        self.trace.native[self.name] = self._function

    def report(self) -> str:
        """Which tier runs the derivative."""
        if isinstance(self._function, SweptFirst) and self._function.waits:
            return f"{self.name}: sweeps, until native code pays"
        if self._function is not None and mode() != "0":
            return f"{self.name}: native code, compiled in {self.compiling:.3f} s after {self.seconds:.3f} s on the sweeps"
        return f"{self.name}: sweeps, {self.seconds:.3f} s so far" + (f" ({self.refused})" if self.refused else "")


def tier_of(trace: Trace, name: str) -> Tier:
    """How derivative `name` of a list is run."""
    tier = trace.runners.get(name)
    if tier is None:
        tier = trace.runners[name] = Tier(trace, name)
    return tier


def report(traces: Traces) -> str:
    """What is recorded for a function, and which tier runs it: a line a list."""
    lists = [f"  {_report(trace)}" for trace in traces]
    return "\n".join([f"{len(lists)} lists", *lists])


def _report(trace):
    """Size of a list, and which tier has run it."""
    arguments = ", ".join(str(leaf.shape) for leaf in trace.leaves if leaf.kind != "static")
    tiers = [runner for runner in trace.runners.values() if isinstance(runner, Tier)]
    said = "; ".join(tier.report() for tier in tiers if tier.seconds or tier.name in trace.native) or "recorded"
    return (f"arguments of shapes {arguments}: {len(trace.program.code)} instructions, {trace.program.values.nbytes} bytes "
            f"of values, {len(trace.guards)} guards; {said}")


def lists_of(trace: Trace) -> Lists:
    """The lists that compute derivatives of a trace, made from it once, run as `TAPE_NATIVE` says."""
    lists = trace.runners.get("lists")
    if lists is None:
        lists = trace.runners["lists"] = _lists(trace)
    return lists


def _lists(trace):
    chosen, program = PINNED.get() or mode(), trace.program
    # Steps of a loop are too many for the sweeps, which run a list with calls alone as well as any other. A list without
    # either has been on the sweeps for long enough when it comes here.
    waits = chosen == "1" and program.has_bodies and not program.has_loops
    return Lists(trace, "f", make=SweptFunction if chosen == "0" else SweptFirst if waits else None,
                 watched=trace.is_singular)


class SweptFirst:
    """A list with calls that the sweeps run until native code pays; in the place of a `NativeFunction`."""

    def __init__(self, listing, inputs, outputs, name, derivatives):
        self._parts, self.derivatives = (listing, inputs, outputs, name, derivatives), derivatives
        self._function = SweptFunction(*self._parts)
        self.signature, self.dtype = self._function.signature, self._function.dtype
        self._left = price(len(listing.steps)) if len(listing.steps) <= MOST_INSTRUCTIONS else math.inf

    @property
    def waits(self) -> bool:
        """Whether the sweeps still run it."""
        return self._left > 0.0

    def results(self, leaves):
        """As `NativeFunction.results`."""
        if not self.waits:
            return self._function.results(leaves)
        begin = time.perf_counter()
        results = self._function.results(leaves)
        self._left -= time.perf_counter() - begin
        if not self.waits:
            listing, *rest = self._parts
            self._function = NativeFunction(native_listing(listing), *rest)
        return results
