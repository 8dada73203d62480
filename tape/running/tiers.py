"""Which way a recorded list is run: by the sweeps at once, by native code when the calls so far would have paid for it.

Environment: `TAPE_NATIVE=0` stays on the sweeps, `TAPE_NATIVE=always` compiles at the first call.
"""

from __future__ import annotations

import functools
import math
import os
import time

from compiled.lists.calls import Call
from compiled.native.function import NativeFunction
from compiled.native.wrappers import NOT_FINITE
from tape.recording.traces import Trace, Traces
from tape.reports.strictness import is_finite, strictness, verify
from tape.running.derived import Lists, SweptFunction, called, native_listing

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


def mode() -> str:
    """What `TAPE_NATIVE` says: "0", "1" or "always"."""
    return os.environ.get("TAPE_NATIVE", "1")


class Tier:
    """How one derivative of one list is run.

    Attributes
    ----------
    seconds : float
        Spent in the sweeps.
    native : callable or None
        What runs the native code.
    """

    def __init__(self, trace: Trace, name: str):
        self.seconds, self.compiling, self.native, self.refused, self._function = 0.0, 0.0, None, "", None
        self.trace, self.name = trace, name
        self.price = price(len(trace.program.code))

    def spent(self, seconds):
        """Note a run by the sweeps; compile when that pays."""
        self.seconds += seconds
        chosen = mode()
        if self.seconds < self.price and chosen != "always":
            return
        self.refused = "TAPE_NATIVE=0" if chosen == "0" else ""
        if not self.refused and len(lists_of(self.trace).program.code) > MOST_INSTRUCTIONS:
            self.refused = "too long for native code"
        if self.refused:
            return
        self.compile()

    def compile(self):
        """Make native code (of lists with loops, under `TAPE_NATIVE=0`, what runs the derivative's list by the sweeps)."""
        begin = time.perf_counter()
        if self.name == "value_and_grad":
            self.native = NativeGradient(self.trace)
            self._function = self.native.function
        else:
            self._function = getattr(lists_of(self.trace), self.name)
            self.native = functools.partial(lists_of(self.trace).run, self.name)
        self.compiling = time.perf_counter() - begin

    def report(self) -> str:
        """Which tier runs the derivative."""
        if isinstance(self._function, SweptFirst) and self._function.waits:
            return f"{self.name}: sweeps, until native code pays"
        if self.native is not None and mode() != "0":
            return f"{self.name}: native code, compiled in {self.compiling:.3f} s after {self.seconds:.3f} s on the sweeps"
        return f"{self.name}: sweeps, {self.seconds:.3f} s so far" + (f" ({self.refused})" if self.refused else "")


class NativeGradient:
    """Value and gradients of one list by native code."""

    def __init__(self, trace: Trace):
        self.trace = trace
        self.function = lists_of(trace).value_and_grad
        self.count = len(trace.program.outputs)

    def __call__(self, leaves):
        """The value and the gradients' leaves, or None where a guard or an index fails: the sweeps say which."""
        trace = self.trace
        leaves = leaves if len(trace.dynamic) == len(leaves) else [leaves[k] for k in trace.dynamic]
        status, results = called(self.function, leaves)
        if status not in (0, NOT_FINITE):
            return None
        value = results[0] if self.count and trace.result_dtypes[0] == self.function.dtype else self._value(results)
        gradients = trace.like_arguments(results[self.count :])
        if status or not math.isfinite(value) or strictness() is not None:
            verify("value_and_grad", trace, leaves, (), gradients, (value,))
        return value, gradients

    def _value(self, results):
        return self.trace.result_dtypes[0].type(results[0]) if self.count else self.trace.results[0][0]


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
    said = "; ".join(tier.report() for tier in tiers if tier.seconds or tier.native) or "recorded"
    return (f"arguments of shapes {arguments}: {len(trace.program.code)} instructions, {trace.program.values.nbytes} bytes "
            f"of values, {len(trace.guards)} guards; {said}")


def lists_of(trace: Trace) -> Lists:
    """The lists that compute derivatives of a trace, made from it once, run as `TAPE_NATIVE` says."""
    lists = trace.runners.get("lists")
    if lists is None:
        lists = trace.runners["lists"] = _lists(trace)
    return lists


def _lists(trace):
    chosen, bodies = mode(), trace.program.bodies
    # Steps of a loop are too many for the sweeps, which run a list with calls alone as well as any other. A list without
    # either has been on the sweeps for long enough when it comes here.
    waits = chosen == "1" and bodies and all(isinstance(body, Call) for body in bodies)
    return Lists(trace, "f", make=SweptFunction if chosen == "0" else SweptFirst if waits else None)


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


def run(traces: Traces, args, kwargs, numbers, name, extra=()):
    """Run a derivative of a function by native code, where its list has reached that tier or has loops.

    Returns
    -------
    trace, workspace, results
        `results` are the arrays of list `name` (see `lists.Lists`), which takes the leaves `extra` after the arguments; None
        where the sweeps are to run it: then the workspace holds the values.
    """
    key, leaves, found = traces.find(args, kwargs, numbers)
    for trace in found:
        native = tier_of(trace, name).native
        results = native(leaves, extra) if native is not None else None
        if results is not None:
            return trace, None, results
    trace, workspace = traces.run_found(key, leaves, found, args, kwargs, numbers)
    if not trace.program.bodies:
        return trace, workspace, None
    tier_of(trace, name).compile()
    results = tier_of(trace, name).native(leaves, extra)
    if results is None:
        trace.explain(workspace, leaves)
    return trace, workspace, results


def tiered_gradient(traces: Traces, args, kwargs, numbers):
    """Value and gradients' leaves of a scalar function, by whichever tier the list has reached."""
    key, leaves, found = traces.find(args, kwargs, numbers)
    for trace in found:
        native = tier_of(trace, "value_and_grad").native
        result = native(leaves) if native is not None else None
        if result is not None:
            return result
    begin = time.perf_counter()
    trace, workspace = traces.run_found(key, leaves, found, args, kwargs, numbers)
    trace.seed_scalar(workspace, "tape.grad")
    tier = tier_of(trace, "value_and_grad")
    if trace.program.bodies:
        tier.compile()
        return tier.native(leaves) or trace.explain(workspace, leaves)
    value = trace.result(workspace)
    gradients = trace.sweep_back(workspace)
    trace.idle.append(workspace)
    tier.spent(time.perf_counter() - begin if found else 0.0)  # not what recording took
    result = tier.native(leaves) if tier.native is not None and mode() == "always" else None
    if result is not None:
        return result
    if strictness() is not None or not (math.isfinite(value) and is_finite(gradients)):
        verify("value_and_grad", trace, [leaves[k] for k in trace.dynamic], (), gradients, (value,))
    return value, gradients
