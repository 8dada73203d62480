"""The list of an eager computation: written when its gradient is asked for, kept for the next computation of the same form.

What is here: the nodes that eager operations leave behind, and their gradients. What is not: the variables (`variables.py`).

An eager operation is NumPy's own, at NumPy's speed; it leaves a node that says which function was called on what. `backward`
calls the functions again on recorded arrays, which makes one list, and sweeps back over it. A computation of the same functions
on the same shapes (a step of a training loop) runs the list of the last one again.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import NamedTuple

import numpy as np

from compiled.table.views import View, has_distinct_cells
from tape.errors import NotDifferentiable
from tape.recording.arguments import describe
from tape.recording.arrays import RecordedArray
from tape.recording.containers import leaves_of, with_leaves
from tape.recording.recorder import Promote, Recorder
from tape.recording.trace import Trace, Workspace
from tape.running.linearised import point_of

MOST_LISTS = 32
"""Lists that a thread keeps."""

_of_thread = threading.local()


class Given:
    """An array that a computation starts from, as it was when it was used.

    Attributes
    ----------
    value : ndarray
        A copy: the user's array may be changed before the gradient is asked for.
    variable : EagerVariable or None
        Whose gradient it adds to.
    """

    __slots__ = ("value", "variable")

    def __init__(self, value: np.ndarray, variable=None):
        self.value, self.variable = np.array(value), variable


class EagerOperation:
    """One eager operation.

    Attributes
    ----------
    function : callable
        What was called.
    leaves, structure
        Of its ``(args, kwargs)``; a leaf is a `Given`, an `EagerResult`, or what does not change from call to call.
    depth : int
        One more than that of the deepest node it depends on.
    """

    __slots__ = ("depth", "function", "leaves", "structure")

    def __init__(self, function, leaves, structure):
        self.function, self.leaves, self.structure = function, leaves, structure
        self.depth = 1 + max((leaf.node.depth for leaf in leaves if isinstance(leaf, EagerResult)), default=0)


class EagerResult(NamedTuple):
    """Leaf `number` of what a node computes."""

    node: EagerOperation
    number: int


class Computation:
    """Everything that a result depends on, in an order in which it can be computed."""

    def __init__(self, result: EagerResult):
        self.result = result
        self.nodes = _nodes_before(result.node)
        self.places = {id(node): k for k, node in enumerate(self.nodes)}
        self.givens = list({id(leaf): leaf for node in self.nodes for leaf in node.leaves if isinstance(leaf, Given)}.values())
        self._numbers = {id(given): k for k, given in enumerate(self.givens)}

    def key(self):
        """What two computations share that have the same list; None where that cannot be said."""
        parts: list = [self.places[id(self.result.node)], self.result.number]
        parts.extend((given.value.shape, given.value.dtype, given.variable is not None) for given in self.givens)
        for node in self.nodes:
            parts.append((node.function, node.structure, *map(self._leaf_key, node.leaves)))
        key = tuple(parts)
        try:
            hash(key)
        except TypeError:
            return None
        return key

    def _leaf_key(self, leaf):
        if isinstance(leaf, Given):
            return "given", self._numbers[id(leaf)]
        if isinstance(leaf, EagerResult):
            return "result", self.places[id(leaf.node)], leaf.number
        if isinstance(leaf, slice):
            return (slice, *map(self._leaf_key, (leaf.start, leaf.stop, leaf.step)))
        # 1, 1.0 and True are equal, and so are 0.0 and -0.0, but what is recorded with them is not.
        return type(leaf), repr(leaf) if isinstance(leaf, float) else leaf

    def computed(self, arrays):
        """Call the functions on these arrays in place of the given ones."""
        results = []
        for node in self.nodes:
            leaves = [arrays[self._numbers[id(leaf)]] if isinstance(leaf, Given) else
                      results[self.places[id(leaf.node)]][leaf.number] if isinstance(leaf, EagerResult) else leaf
                      for leaf in node.leaves]
            args, kwargs = with_leaves(node.structure, leaves)
            results.append(leaves_of(node.function(*args, **kwargs))[0])
        return results[-1][self.result.number]

    def recorded(self) -> tuple[Trace, bool]:
        """The list, with the values of this computation in an idle workspace; and whether other values may be put there."""
        floats = [given.value.dtype for given in self.givens if given.value.dtype.kind == "f"]
        try:
            return self._recorded(np.result_type(*floats), False), True
        except (NotDifferentiable, TypeError, Promote):
            # Lengths, axes and masks in arrays must be known to some functions; and NumPy may have computed in float64.
            return self._recorded(np.dtype(np.float64), True), False

    def _recorded(self, dtype, plain_integers) -> Trace:
        recorder = Recorder(dtype)
        arrays, described, wrt = [], [], []
        for given in self.givens:
            if plain_integers and given.value.dtype.kind != "f":
                arrays.append(given.value)
                described.append(describe("constant"))
                continue
            if given.variable is not None:
                wrt.append(len(recorder.inputs))
            view = recorder.input(given.value, given.variable is not None)
            arrays.append(RecordedArray(recorder, view, given.value.dtype))
            described.append(describe(given.value))
        with recorder.recording():
            out = self.computed(arrays)
            view = out.view if has_distinct_cells(out.view) else recorder.copied(out.view)
            recorder.value(View(0, (), ()))
        program = recorder.program([view])
        dynamic = [k for k, leaf in enumerate(described) if leaf.kind != "static"]
        trace = Trace(program=program, leaves=described, dynamic=dynamic, wrt=wrt, results=[0], result_dtypes=[out.dtype],
                      structure=leaves_of(0)[1], outcomes=tuple(recorder.outcomes))
        trace.idle.append(Workspace(program, wrt, recorder.memory.values))
        return trace


def _nodes_before(last: EagerOperation) -> list[EagerOperation]:
    """The node and all that it depends on, shallow ones first; without recursion, as graphs may be deep."""
    found, ahead = {id(last): last}, [last]
    while ahead:
        for leaf in ahead.pop().leaves:
            if isinstance(leaf, EagerResult) and id(leaf.node) not in found:
                found[id(leaf.node)] = leaf.node
                ahead.append(leaf.node)
    # Of equal depth the order of discovery stays, so that the last one is the node that was asked for.
    return sorted(found.values(), key=lambda node: node.depth)


def gradients_of(result: EagerResult, seed: np.ndarray) -> list[tuple]:
    """Pairs of a variable and what the adjoint `seed` of a result adds to its gradient."""
    computation = Computation(result)
    trace, workspace = _ready(computation)
    leaves = [given.value for given in computation.givens]
    gradients = point_of(trace, workspace, leaves).pull([seed])
    trace.idle.append(workspace)
    variables = [computation.givens[trace.dynamic[k]].variable for k in trace.wrt]
    return list(zip(variables, gradients, strict=True))


def _ready(computation: Computation):
    """The list of a computation, and a workspace with its values."""
    lists = _of_thread.__dict__.setdefault("lists", OrderedDict())
    key = computation.key()
    trace = lists.get(key) if key is not None else None
    if trace is not None:
        lists.move_to_end(key)
        leaves = [given.value for given in computation.givens]
        trace.check(leaves)
        workspace, status = trace.run(leaves)
        if status < 0:
            return trace, workspace
    trace, for_others = computation.recorded()
    if key is not None and for_others:
        lists[key] = trace
        if len(lists) > MOST_LISTS:
            lists.popitem(last=False)
    return trace, trace.workspace()
