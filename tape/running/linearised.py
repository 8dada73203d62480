"""A function at a point: its value, and products with its derivatives there.

Whoever wants a derivative linearises the function where it is wanted, and pulls adjoints back, or pushes tangents forward:

==============  ========================================================================================
value           the function's result
gradient        the value and the adjoints of a scalar function from the seed 1
pull            adjoints of the differentiated arguments, from adjoints of the results (vjp)
push            tangents of the results, from tangents of the differentiated arguments (jvp)
multiply        the product of the Hessian of a scalar function with tangents (hvp)
==============  ========================================================================================

They are leaves: of the results those that the list computes, in the order of its outputs; of the arguments the differentiated
ones, in the list's dtype when they come in, and like the argument when they go out. `SweptPoint` computes them by the sweeps
over the function's list, `ListedPoint` by the lists of the derivatives, which are machine code or run by the sweeps.
`linearised` chooses between the two.

What is not here: which list belongs to a call (`recording.traces`), when machine code pays (`tiers.py`).
"""

from __future__ import annotations

import math
import time

import numpy as np

from compiled.lists import loops
from tape.recording.arguments import is_number, like_argument
from tape.recording.trace import Trace, Workspace
from tape.recording.traces import Traces
from tape.reports.inspection import drops
from tape.reports.strictness import is_finite, strictness, verify
from tape.running.executables import Stopped, run
from tape.running.tiers import PINNED, lists_of, mode, tier_of
from tape.transforms.build import with_gradients


def linearised(traces: Traces, args, kwargs, numbers, derivative: str, ask, checked: bool = True):
    """Linearise a function at its arguments, and ask for what is wanted there.

    Parameters
    ----------
    traces : Traces
        The lists of the function.
    args, kwargs, numbers
        The arguments, and which positional ones are differentiated.
    derivative : str
        "value_and_grad", "jvp" or "hvp", of which each goes over to machine code when its calls so far would have paid for
        compiling; "value" for what stays on the sweeps, of lists without loops and calls.
    ask : callable
        Is given the point, which holds as long as it runs, and asks it for what is wanted. It may be called more than once:
        where machine code finds that its list is not the function's at these arguments.
    checked : bool
        Whether derivatives are looked at, see `strictness.verify`.

    Returns
    -------
    What `ask` returned.
    """
    begin = time.perf_counter()
    key, leaves, found, trace, workspace = traces.start(args, kwargs, numbers, derivative)
    if workspace is None:
        for known in found:
            if derivative in known.native:
                try:
                    return ask(ListedPoint(known, leaves, checked))
                except Stopped:
                    continue
        trace, workspace = traces.run_found(key, leaves, found, args, kwargs, numbers)
    tier, chosen = trace.runners.get(derivative) or tier_of(trace, derivative), PINNED.get() or mode()
    if not tier.can_sweep or chosen == "always":
        tier.start(chosen)
    if derivative in trace.native or not tier.can_sweep:
        try:
            return ask(ListedPoint(trace, leaves, checked))
        except Stopped:
            if trace.program.has_bodies:
                trace.explain(workspace, leaves)
    if workspace.left_at is not None:
        trace.finish(workspace)
    answer = ask(SweptPoint(trace, workspace, leaves, checked))
    trace.idle.append(workspace)
    if found and derivative != "value":  # what recording takes is not counted
        tier.seconds += time.perf_counter() - begin
        if tier.seconds >= tier.price:
            tier.move(chosen)
    return answer


def point_of(trace: Trace, workspace: Workspace, leaves, checked: bool = True):
    """The point of a list that has run on these leaves, with its values in the workspace."""
    if trace.program.has_bodies or not tier_of(trace, "value").can_sweep:
        return ListedPoint(trace, leaves, checked)
    return SweptPoint(trace, workspace, leaves, checked)


class SweptPoint:
    """A function at a point, by the sweeps over its list.

    Parameters
    ----------
    trace : Trace
        The list, without loops and calls.
    workspace : Workspace
        With the values of a forward sweep; its adjoints are all zero, and so they are after each product.
    leaves : sequence
        All leaves of the arguments.
    checked : bool
        Whether derivatives are looked at.
    """

    __slots__ = ("_at_end", "_dropped", "_last", "checked", "leaves", "trace", "work")

    def __init__(self, trace, workspace, leaves, checked=True, last=None):
        self.trace, self.work, self.leaves, self.checked = trace, workspace, leaves, checked
        # Of lists that assign to cells: whether the values are those of the end, as sweeps back undo assignments, and a copy.
        self._at_end, self._last = True, last
        self._dropped = False  # whether the last sweep back let nothing of an infinite adjoint through a partial of 0

    @property
    def value(self):
        """The function's result, as the caller's own."""
        if not self._at_end and self.trace.program.overwrites:
            self._go_to_end()
        return self.work.outputs[0][()] if self.trace.is_own_scalar else self.trace.result(self.work)

    def gradient(self, what: str):
        """Value and adjoints of a scalar function.

        Raises
        ------
        NotDifferentiable
            When the function returns anything but one float of shape (); `what` says who asks.
        """
        if not self.trace.is_scalar:
            self.trace.check_scalar(what)
        value = self.value  # which puts the values of the end in place
        for adjoint in self.work.output_adjoints:
            adjoint.fill(1.0)
        gradients = self._swept_back()
        number = value[0] if self.trace.has_aux else value
        if self.checked and (self._dropped or strictness() is not None
                             or not (math.isfinite(number) and is_finite(gradients))):
            self._verify("value_and_grad", (), gradients, (number,))
        return value, gradients

    def pull(self, seeds) -> list:
        """Adjoints of the arguments."""
        work = self.work
        if self.trace.program.overwrites:
            self._go_to_end()
        for adjoint, seed in zip(work.output_adjoints, seeds, strict=True):
            adjoint[...] += seed
        values = [output.copy() for output in work.outputs] if self.checked and self.trace.program.overwrites else work.outputs
        adjoints = self._swept_back()
        if self.checked:
            self._verify("vjp", seeds, adjoints, values)
        return adjoints

    def push(self, tangents) -> list:
        """Tangents of the list's outputs, as new arrays."""
        self._push(tangents)
        pushed = [view.of(self.work.tangents).copy() for view in self.trace.program.outputs]
        if self.checked:
            results = self.trace.results[: self.trace.own]
            values = [self.work.outputs[w] if isinstance(w, int) else w[0] for w in results
                      if isinstance(w, int) or is_number(w[0])]
            self._verify("jvp", tangents, pushed, values)
        return pushed

    def multiply(self, vectors) -> list:
        """The product of the Hessian with leaves like the arguments."""
        trace, work, program = self.trace, self.work, self.trace.program
        trace.check_scalar("tape.hvp")
        work.with_adjoint_tangents()
        self._push(vectors)
        for adjoint in work.output_adjoints:
            adjoint.fill(1.0)
        trace.engine.tangent_reverse(program.code, program.geometry, work.values, work.tangents, work.adjoints,
                                     work.adjoint_tangents)
        self._at_end = False
        products = [like_argument(program.inputs[k].of(work.adjoint_tangents), trace.leaves[trace.dynamic[k]])
                    for k in trace.wrt]
        self.clear()
        for view in (*program.inputs, *program.outputs):
            view.of(work.adjoint_tangents)[...] = 0.0
        if self.checked:
            self._verify("hvp", vectors, products)
        return products

    def kept(self) -> KeptPoint:
        """The same point for pulls and pushes at any time."""
        return KeptPoint(self)

    # ------------------------------------------------------------------ sweeps

    def _swept_back(self) -> list:
        """Adjoints of the arguments from those of the outputs, which are in place; all are zero after."""
        trace, work, program = self.trace, self.work, self.trace.program
        # Where an infinite adjoint meets a partial of 0 nothing comes out that tells: the adjoints stay, to be looked at.
        stay = trace.is_singular and self.checked
        trace.engine.reverse(program.code, program.geometry, work.values, work.adjoints, stay)
        self._at_end, self._dropped = False, stay and drops(program, work.values, work.adjoints)
        if trace.has_own_dtype:
            adjoints = [adjoint.copy() for adjoint in work.gradients]
        else:
            adjoints = [like_argument(adjoint, trace.leaves[trace.dynamic[k]])
                        for adjoint, k in zip(work.gradients, trace.wrt, strict=True)]
        if stay:
            work.adjoints.fill(0.0)
        else:
            self.clear()
        return adjoints

    def _push(self, tangents):
        """Run the tangent sweep, which computes the values along with the tangents."""
        trace, work, program = self.trace, self.work, self.trace.program
        work.with_tangents()
        if program.overwrites:
            trace.load(work, self.leaves)
        for view in program.inputs:
            view.of(work.tangents)[...] = 0.0
        for k, tangent in zip(trace.wrt, tangents, strict=True):
            program.inputs[k].of(work.tangents)[...] = tangent
        trace.engine.tangent(program.code, program.geometry, work.values, work.tangents)
        self._at_end = True

    def _go_to_end(self):
        """Put the values of the end in place, which a sweep back undoes."""
        if self._last is None:
            if not self._at_end:
                self.trace.load(self.work, self.leaves)
                self.trace.forward(self.work)
            self._last = self.work.values.copy()
        elif not self._at_end:
            self.work.values[...] = self._last
        self._at_end = True

    def clear(self):
        """Set to zero what a reverse sweep that cleans up after itself leaves: adjoints of inputs and of results."""
        for adjoint in self.work.gradients:
            adjoint.fill(0.0)
        for adjoint in self.work.output_adjoints:
            adjoint[...] = 0.0  # may be a broadcast view

    def _verify(self, kind, extra, derivatives, values=()):
        verify(kind, self.trace, [self.leaves[k] for k in self.trace.dynamic], extra, derivatives, values, self._dropped)


class KeptPoint:
    """A point whose values are kept, for pulls and pushes at any time and from any thread."""

    def __init__(self, point: SweptPoint):
        self.trace, self.leaves, self.values = point.trace, copied(point.leaves), point.work.values.copy()

    def pull(self, seeds) -> list:
        """As of `SweptPoint`."""
        return self._at_work(lambda point: point.pull(seeds))

    def push(self, tangents) -> list:
        """As of `SweptPoint`."""
        return self._at_work(lambda point: point.push(tangents))

    def _at_work(self, ask):
        """Ask the point, in a workspace that holds its values."""
        work = self.trace.workspace()
        work.values[...] = self.values
        answer = ask(SweptPoint(self.trace, work, self.leaves, last=self.values))
        self.trace.idle.append(work)
        return answer


class ListedPoint:
    """A function at a point, by the lists that compute its derivatives, each made when it is first asked for.

    What it is asked for raises `Stopped` where the list is not the function's at these arguments. Parameters are as of
    `SweptPoint`.
    """

    __slots__ = ("_outputs", "checked", "inputs", "trace")

    def __init__(self, trace, leaves, checked=True):
        self.trace, self.checked, self._outputs = trace, checked, None
        is_plain = len(trace.dynamic) == len(leaves) and not trace.whole
        self.inputs = leaves if is_plain else trace.inputs_of(leaves)

    @property
    def value(self):
        """The function's result, of what was computed last; the caller's own."""
        if self._outputs is None:
            self._run("value")
        outputs, self._outputs = self._outputs, None
        return self.trace.assembled(outputs)

    def gradient(self, what: str):
        """As of `SweptPoint`."""
        trace = self.trace
        if not trace.is_scalar:
            trace.check_scalar(what)
        results, finite = run(self._executable("value_and_grad"), self.inputs)
        value = results[0] if trace.is_own_scalar else trace.assembled(results)
        first = len(trace.program.outputs)
        gradients = trace.like_arguments(results[first : first + len(trace.wrt)])
        number = value[0] if trace.has_aux else value
        if self.checked and (not finite or not math.isfinite(number) or strictness() is not None):
            seen = results[first + len(trace.wrt) :]
            verify("value_and_grad", trace, self.inputs, (), gradients, (number,), not is_finite(seen))
        return value, gradients

    def pull(self, seeds) -> list:
        """As of `SweptPoint`."""
        return self.trace.like_arguments(self._run("vjp", seeds))

    def push(self, tangents) -> list:
        """As of `SweptPoint`."""
        return self._run("jvp", tangents)

    def multiply(self, vectors) -> list:
        """As of `SweptPoint`."""
        self.trace.check_scalar("tape.hvp")
        return self.trace.like_arguments(self._run("hvp", vectors))

    def kept(self) -> ListedPoint:
        """As of `SweptPoint`."""
        return ListedPoint(self.trace, copied(self.inputs), self.checked)

    def _run(self, name, extra=()):
        """The derivatives that a list computes; the outputs that it computes along with them are remembered."""
        function = self._executable(name)
        results, finite = run(function, [*self.inputs, *extra])
        first = function.derivatives
        outputs, derivatives, seen = results[:first], results[first:], ()
        if name == "vjp":
            derivatives, seen = derivatives[: len(self.trace.wrt)], derivatives[len(self.trace.wrt) :]
        if self.checked and name != "value" and (not finite or strictness() is not None or not is_finite(outputs)):
            verify(name, self.trace, self.inputs, extra, derivatives, outputs, not is_finite(seen))
        if name != "hvp":  # whose list computes no outputs
            self._outputs = outputs
        return derivatives

    def _executable(self, name):
        return self.trace.native.get(name) or getattr(lists_of(self.trace), name)


def copied(leaves) -> list:
    """Leaves of arguments that nobody changes."""
    return [np.copy(leaf) if isinstance(leaf, np.ndarray) else leaf for leaf in leaves]


def fill_adjoints(trace: Trace, workspace: Workspace, seeds) -> bool:
    """Leave the adjoint of every variable of a list in a workspace that holds its values.

    `seeds` are pairs of an output's number and its adjoint. Returns whether assignments have been undone, so that the values
    are no longer those of the end.
    """
    program, adjoints = trace.program, workspace.adjoints
    adjoints[...] = 0.0
    if program.has_bodies:
        _fill_by_list(trace, workspace, seeds)
        return False
    for which, seed in seeds:
        program.outputs[which].of(adjoints)[...] += seed
    trace.engine.reverse(program.code, program.geometry, workspace.values, adjoints, True)
    return program.overwrites


def _fill_by_list(trace, workspace, seeds):
    """Adjoints by the list that computes them, as the sweeps do not go into loops and calls."""
    program = trace.program
    slots = [program.slot_view(k) for k in range(len(program.slots)) if k not in program.constants]
    longer, views = with_gradients(program, [which for which, _ in seeds], slots, seeded=True)
    values = longer.values.copy()
    given = [view.of(workspace.values) for view in program.inputs] + [seed for _, seed in seeds]
    for view, value in zip(longer.inputs, given, strict=True):
        view.of(values)[...] = value
    loops.forward(trace.engine, longer, values, 0, len(longer.code))
    for slot, view in zip(slots, views, strict=True):
        slot.of(workspace.adjoints)[...] = view.of(values)
