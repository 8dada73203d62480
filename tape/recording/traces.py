"""The recorded lists of one function, and the memory to run them in.

A list is kept for each structure, shape and dtype of the arguments, and for each outcome of the Python branches on the way.
The cache is bounded, safe to use from several threads, and trusts nothing that may have changed (`freshness.py`).
"""

from __future__ import annotations

import collections
import functools
import itertools
import weakref
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from compiled.forking import Lock
from compiled.lists import loops
from compiled.lists.memory import View
from compiled.lists.program import Program
from compiled.sweeps.engine import ENGINE
from compiled.table.layout import GUARD_FAILED, OPERAND, STATUS_BITS
from compiled.table.views import has_distinct_cells
from tape.errors import NotDifferentiable
from tape.recording.argument_memory import ArgumentMemory, changes_inputs, memory_of, shared_leaves
from tape.recording.arguments import (
    Leaf,
    argument_of,
    describe,
    differentiated_leaves,
    leaves_of,
    like_argument,
    require_scalar,
    result_leaves,
    with_leaves,
)
from tape.recording.arrays import RecordedArray
from tape.recording.freshness import State, global_random_state
from tape.recording.integers import Interval, bounds_of_argument, interval_of, is_integral
from tape.recording.recorder import Promote, Recorder, check_integers, raise_status

MOST_TRACES = 256
"""Lists kept for one function."""

IDLE_WORKSPACES = 8
"""Workspaces kept for one list; more are made when more threads run it at once."""

IDLE_BYTES = 1 << 28
"""Memory of the workspaces kept for one list, where that is more than one of them."""

_lock = Lock()
"""Around the moments in which lists of functions are kept; one for all, as a child process has to find it free."""


class Workspace:
    """The buffers in which one thread runs one list."""

    __slots__ = ("adjoint_tangents", "adjoints", "gradients", "inputs", "output_adjoints", "outputs", "program", "tangents",
                 "values")

    def __init__(self, program: Program, wrt: list[int]):
        self.program = program
        self.values = program.values.copy()
        self.inputs = [view.of(self.values) for view in program.inputs]
        self.outputs = [view.of(self.values) for view in program.outputs]
        self.adjoints = np.zeros_like(self.values)
        self.gradients = [program.inputs[k].of(self.adjoints) for k in wrt]
        self.output_adjoints = [view.of(self.adjoints) for view in program.outputs]
        self.tangents = self.adjoint_tangents = None

    def with_tangents(self) -> None:
        """Make the tangent buffer."""
        if self.tangents is None:
            self.tangents = np.zeros_like(self.values)

    def with_adjoint_tangents(self) -> None:
        """Make the buffers of tangent over reverse."""
        self.with_tangents()
        if self.adjoint_tangents is None:
            self.adjoint_tangents = np.zeros_like(self.values)


@dataclass(eq=False)
class Trace:
    """A list of a function, with what is needed to call it.

    Attributes
    ----------
    program : Program
        The list.
    leaves : list of Leaf
        Description of every leaf of the arguments.
    dynamic : list of int
        Which leaves are inputs of the list.
    wrt : list of int
        Which inputs are differentiated.
    results : list
        For each leaf of the result a number among the program's outputs, or the constant it is.
    structure : optree structure
        Of the result.
    outcomes : tuple of bytes
        What the guards saw.
    memory : ArgumentMemory or None
        How the arguments shared memory, where the list changes them in place; None where that makes no difference.
    bounds : dict
        Leaf → bounds of its integers, for which the list was made.
    fixed : dict
        Leaf → its value: integers that cells do not hold exactly are constants of the list.
    runners : dict
        What runs derivatives of the list, by their names; `running.tiers` fills it.
    """

    program: Program
    leaves: list[Leaf]
    dynamic: list[int]
    wrt: list[int]
    results: list
    result_dtypes: list
    structure: Any
    outcomes: tuple[bytes, ...]
    guards: list[int]
    bounds: dict[int, Interval] = field(default_factory=dict)
    fixed: dict[int, Any] = field(default_factory=dict)
    state: list | None = None
    memory: ArgumentMemory | None = None
    used: int = 0
    runners: dict[str, Any] = field(default_factory=dict)
    sparsity: dict[str, Any] = field(default_factory=dict)
    idle: collections.deque = field(init=False)

    def __post_init__(self):
        nbytes = 2 * self.program.values.nbytes + 1  # values and adjoints
        self.idle = collections.deque(maxlen=min(max(IDLE_BYTES // nbytes, 1), IDLE_WORKSPACES))
        kinds = [self.leaves[k].dtype for k in self.dynamic]
        self._integers = [k for k, kind in zip(self.dynamic, kinds, strict=True)
                          if kind is int or (kind is not float and kind.kind in "iu")]
        self._depends_on_integers = bool(self.bounds or self.fixed)
        self._is_scalar = False
        # Gradients that all have the list's own dtype need no conversion.
        self._like_arguments = all(self.leaves[self.dynamic[k]].kind == "array"
                           and self.leaves[self.dynamic[k]].dtype == self.program.values.dtype for k in self.wrt)

    def explain(self, workspace: Workspace, leaves: list) -> None:
        """Raise what the sweeps find wrong with arguments for which native code stopped."""
        self.load(workspace, leaves)
        raise_status(self.forward(workspace), self.program)

    def workspace(self) -> Workspace:
        """Take an idle workspace, or make one; hand it back with `idle.append`."""
        try:
            return self.idle.pop()
        except IndexError:
            return Workspace(self.program, self.wrt)

    def admits(self, leaves) -> bool:
        """Whether the integers among the arguments are within the bounds that the list was made for."""
        if not self._depends_on_integers:
            return True
        return (all(low <= interval[0] and interval[1] <= high for (low, high), interval in
                    ((bounds, interval_of(leaves[k])) for k, bounds in self.bounds.items()))
                and all(np.array_equal(leaves[k], value) for k, value in self.fixed.items()))

    def check(self, leaves) -> None:
        """Raise OverflowError unless the integers among the arguments are exact in the list's cells."""
        for k in self._integers:
            check_integers(np.asarray(leaves[k]), self.program.values.dtype)

    def load(self, workspace: Workspace, leaves: list) -> None:
        """Copy the arguments into the workspace."""
        for cells, k in zip(workspace.inputs, self.dynamic, strict=True):
            cells[...] = leaves[k]

    def forward(self, workspace: Workspace) -> int:
        """Run the forward sweep; returns its status."""
        code = self.program.code
        return loops.forward(ENGINE, self.program, workspace.values, 0, len(code))

    def sweep_back(self, workspace: Workspace) -> list:
        """Sweep back from the outputs' adjoints, as they were seeded; returns the gradients of the differentiated leaves.

        The adjoint buffer, all zero but for the seeds before, is all zero after.
        """
        program = self.program
        assert not program.bodies, "the sweeps do not go into loops and calls"
        ENGINE.reverse(program.code, program.geometry, workspace.values, workspace.adjoints, False)
        if self._like_arguments:
            gradients = [adjoint.copy() for adjoint in workspace.gradients]
        else:
            gradients = [like_argument(adjoint, self.leaves[self.dynamic[k]])
                         for adjoint, k in zip(workspace.gradients, self.wrt, strict=True)]
        self.clear(workspace)
        return gradients

    def rewind(self, workspace: Workspace) -> np.ndarray:
        """Undo every assignment, as a reverse sweep does; returns a copy of the value buffer."""
        ENGINE.reverse(self.program.code, self.program.geometry, workspace.values, workspace.adjoints, False)
        return workspace.values.copy()

    def set_tangents(self, workspace: Workspace, leaves: list) -> None:
        """Fill the inputs' tangents, those of the differentiated ones with `leaves`, all others with zero."""
        workspace.with_tangents()
        for view in self.program.inputs:
            view.of(workspace.tangents)[...] = 0.0
        for k, tangent in zip(self.wrt, leaves, strict=True):
            self.program.inputs[k].of(workspace.tangents)[...] = tangent

    def tangent(self, workspace: Workspace) -> None:
        """Run the tangent sweep (values are computed along with it)."""
        ENGINE.tangent(self.program.code, self.program.geometry, workspace.values, workspace.tangents)

    @staticmethod
    def clear(workspace: Workspace) -> None:
        """Set to zero what a reverse sweep that cleans up after itself leaves: adjoints of inputs and of results."""
        for adjoint in workspace.gradients:
            adjoint.fill(0.0)
        for adjoint in workspace.output_adjoints:
            adjoint[...] = 0.0  # may be a broadcast view

    def outcome_at(self, workspace: Workspace, number: int) -> tuple[bytes, ...]:
        """The outcomes up to the guard, instruction `number`, that failed in the workspace, with what it saw now."""
        k = self.guards.index(number)
        cell = self.program.code[number, OPERAND]
        size = len(self.outcomes[k]) // workspace.values.itemsize
        return (*self.outcomes[:k], workspace.values[cell : cell + size].tobytes())

    def result(self, workspace: Workspace):
        """The function's result as plain arrays, copied out of the workspace."""
        if self._is_scalar and workspace.outputs and self.result_dtypes[0] == workspace.values.dtype:
            return workspace.outputs[0][()]
        leaves = []
        for which, dtype in zip(self.results, self.result_dtypes, strict=True):
            if isinstance(which, int):
                array = workspace.outputs[which].astype(dtype, order="C", copy=True)
                leaves.append(array if array.ndim else array[()])
            else:
                leaves.append(_own(which[0]))
        return with_leaves(self.structure, leaves)

    def assembled(self, arrays, tangents: bool = False):
        """The function's result (or its tangent), of arrays of the program's outputs that nobody else holds."""
        leaves = []
        for which, dtype in zip(self.results, self.result_dtypes, strict=True):
            if isinstance(which, int):
                kind = dtype if not tangents or np.dtype(dtype).kind == "f" else self.program.values.dtype
                array = arrays[which] if arrays[which].dtype == kind else arrays[which].astype(kind)
                leaves.append(array if array.ndim else array[()])
            else:
                leaves.append(np.zeros(np.shape(which[0]))[()] if tangents else _own(which[0]))
        return with_leaves(self.structure, leaves)

    def like_arguments(self, arrays) -> list:
        """Derivatives in the shapes and dtypes of the differentiated leaves, of arrays that nobody else holds."""
        if self._like_arguments:
            return [np.asarray(array) for array in arrays]
        return [like_argument(np.asarray(array), self.leaves[self.dynamic[k]], copy=False)
                for array, k in zip(arrays, self.wrt, strict=True)]

    def seed_scalar(self, workspace: Workspace, what: str) -> None:
        """Set the adjoint of the single scalar result to one.

        Raises
        ------
        NotDifferentiable
            When the function returns anything but one float of shape ().
        """
        self.check_scalar(what)
        if workspace.output_adjoints:
            workspace.output_adjoints[0].fill(1.0)

    def check_scalar(self, what: str) -> None:
        """Raise NotDifferentiable when the function returns anything but one float of shape ()."""
        if not self._is_scalar:
            require_scalar(self.result_dtypes, [self.result_shape(k) for k in range(len(self.results))], what)
            self._is_scalar = True

    def result_shape(self, k: int) -> tuple[int, ...]:
        """Shape of leaf k of the result."""
        which = self.results[k]
        return self.program.outputs[which].shape if isinstance(which, int) else np.shape(which[0])


class Traces:
    """The lists of one function.

    Parameters
    ----------
    function : callable
        NumPy code.
    checks_integers : bool
        Whether bounds of integer arguments are looked at before each call; else the list itself has a guard wherever its
        results could be beyond what cells hold.
    replay : bool
        Whether lists are kept for further calls.
    """

    def __init__(self, function, checks_integers=True, replay=True):
        if not callable(function):
            raise NotDifferentiable(f"expected a function, got {type(function).__name__} ({function!r:.60})")
        try:
            # The registry of traces must not keep the function alive.
            self._function = weakref.ref(function)
        except TypeError:
            self._function = lambda: function
        self._groups: dict[Any, list[Trace]] = {}
        self._checks_integers, self._replay_calls = checks_integers, replay
        self._clock = itertools.count()
        self._states: State | None = None

    def run(self, args: tuple, kwargs: dict, argnums: tuple[int, ...]) -> tuple[Trace, Workspace]:
        """Run the function forward on plain arguments, recording it where no list fits.

        Returns
        -------
        trace, workspace
            The list that ran, and the buffers it ran in, values in place; hand the workspace back with `trace.idle.append`.
        """
        return self.run_found(*self.find(args, kwargs, argnums), args, kwargs, argnums)

    def find(self, args, kwargs, argnums):
        """Return the key of a call, its leaves, and the lists that were recorded for it and are not stale."""
        key = None if kwargs else _plain_key(args, argnums)
        if key is not None:
            leaves = args
        else:
            leaves, structure = leaves_of((args, kwargs))
            orders = _orders((args, kwargs)) if _has_orders(structure) else ()
            key = self._key((structure, orders), [describe(leaf) for leaf in leaves], argnums)
        traces = self._groups.get(key)
        if traces:
            return key, leaves, self._fresh(traces, leaves, () if leaves is args else objects_of(leaves))
        return key, leaves, ()

    @staticmethod
    def _fresh(traces, leaves, objects):
        """The lists for these arguments that are not stale; those of equal snapshots have the same one, which is asked once."""
        fresh, asked, holds = [], None, False
        for trace in traces:
            if trace.state is not asked:
                asked, holds = trace.state, trace.state.holds(objects)
            if holds and trace.admits(leaves) and (trace.memory is None or trace.memory == memory_of(leaves)):
                fresh.append(trace)
        return fresh

    def run_found(self, key, leaves, traces, args, kwargs, argnums):
        """`run`, given what `find` found."""
        traces = [t for t in traces if not t.program.bodies]
        if traces:
            found = self._replay(traces, leaves)
            if found is not None:
                return found
        leaves, structure = leaves_of((args, kwargs))
        trace, workspace = self._record(leaves, structure, [describe(leaf) for leaf in leaves], args, argnums)
        if trace.state is not None and self._replay_calls:
            self._keep(key, trace)
        return trace, workspace

    def __iter__(self):
        """The lists that are kept."""
        return (trace for group in list(self._groups.values()) for trace in group)

    def _key(self, structure, described, argnums):
        key = (argnums, structure, tuple(described))
        try:
            hash(key)
        except TypeError:
            static = tuple(id(d.dtype) if d.kind == "static" else d for d in described)
            key = (argnums, structure, static)
        return key

    @property
    def state(self) -> State:
        """What the function read when it was last recorded."""
        if self._states is None:
            self._states = State(self._function())
        return self._states

    def _replay(self, traces, leaves):
        """Run the trace whose guards all hold; None where there is none."""
        known: tuple[bytes, ...] = ()
        for _ in range(len(traces)):
            trace = next((t for t in traces if t.outcomes[: len(known)] == known), None)
            if trace is None:
                return None
            workspace = trace.workspace()
            trace.load(workspace, leaves)
            status = trace.forward(workspace)
            if status < 0:
                trace.used = next(self._clock)
                return trace, workspace
            number = status >> STATUS_BITS
            if status & ((1 << STATUS_BITS) - 1) != GUARD_FAILED:
                raise_status(status, trace.program)
            known = trace.outcome_at(workspace, number)
            trace.idle.append(workspace)
        return None

    def _keep(self, key, trace):
        with _lock:
            trace.used = next(self._clock)
            group = [t for t in self._groups.get(key, []) if t.state == trace.state]
            for other in group:
                trace.state = other.state
            self._groups[key] = [trace, *group]
            everything = [(t.used, k, t) for k, group in self._groups.items() for t in group]
            if len(everything) > MOST_TRACES:
                _, oldest_key, oldest = min(everything, key=lambda entry: entry[0])
                kept = [t for t in self._groups[oldest_key] if t is not oldest]
                if kept:
                    self._groups[oldest_key] = kept
                else:
                    del self._groups[oldest_key]

    def _record(self, leaves, structure, described, args, argnums):
        differentiated = differentiated_leaves(args, argnums, leaves, described)
        # Python floats are weak, as in NumPy: they do not make a float32 list float64.
        arrays = [d.dtype for d in described if d.kind != "static" and not isinstance(d.dtype, type) and d.dtype.kind == "f"]
        dtype = np.result_type(*arrays) if arrays else np.dtype(np.float64)
        self._states = state = State(self._function())  # what it reads now may be other variables
        objects = objects_of(leaves)
        before = state.snapshot(objects), global_random_state()
        trace, workspace = self._recorded_as_given(leaves, structure, described, differentiated, dtype)
        # A function that changes what it reads (a counter, a random generator) is recorded at each call.
        unchanged = before[0].holds(objects) and before[1] == global_random_state()
        trace.state = before[0] if unchanged else None
        return trace, workspace

    def _recorded_as_given(self, leaves, structure, described, differentiated, dtype):
        """Record the function, its arguments sharing memory where the function changes them and they do."""
        def recorded(shared=()):
            try:
                return self._recorded(leaves, structure, described, differentiated, dtype, shared)
            except Promote:
                return self._recorded(leaves, structure, described, differentiated, np.dtype(np.float64), shared)

        trace, workspace = recorded()
        if not changes_inputs(trace.program):
            return trace, workspace
        memory = memory_of(leaves)
        if memory.overlaps:
            trace, workspace = recorded(shared_leaves(memory, differentiated))
        trace.memory = memory
        return trace, workspace

    def _recorded(self, leaves, structure, described, differentiated, dtype, shared=()):
        """Record the function; `shared` are pairs of leaves that are one memory, of which the first stands for both."""
        recorder = Recorder(dtype)
        inputs, dynamic, wrt, bounds, fixed = [], [], [], {}, {}
        for k, (leaf, description) in enumerate(zip(leaves, described, strict=True)):
            if description.kind == "static":
                inputs.append(leaf)
                continue
            if k not in differentiated and is_integral(leaf):
                bounds[k] = bounds_of_argument(leaf, dtype, self._checks_integers)
                if bounds[k] is None:
                    del bounds[k]
                    fixed[k] = leaf.copy() if isinstance(leaf, np.ndarray) else leaf
                    inputs.append(leaf)
                    continue
            if k in differentiated:
                wrt.append(len(dynamic))
            dynamic.append(k)
            array = np.asarray(leaf)
            if k in differentiated and array.dtype.kind in "iu":
                array = array.astype(np.float64)
            view = recorder.input(array, k in differentiated, bounds.get(k))
            inputs.append(argument_of(recorder, view, array.dtype, description))
            inputs[-1].writeable = description.kind != "array" or bool(leaf.flags.writeable)
        for one, other in shared:
            if isinstance(inputs[other], RecordedArray):  # not so integers that cells do not hold
                inputs[other].view = inputs[one].view
        args, kwargs = with_leaves(structure, inputs)
        with recorder.recording():
            try:
                results, result_structure = result_leaves(self._function()(*args, **kwargs))
            except (TypeError, ValueError) as error:
                raise _reason(error) from None
        outputs, which, dtypes = [], [], []
        for leaf in results:
            if isinstance(leaf, RecordedArray):
                if leaf.recorder is not recorder:
                    raise NotDifferentiable("the function returned a recorded array of another recording")
                which.append(len(outputs))
                # Adjoints are added element by element, so no two elements of a result may share a cell.
                outputs.append(leaf.view if has_distinct_cells(leaf.view) else recorder.copied(leaf.view))
                dtypes.append(leaf.dtype)
            else:
                which.append((leaf,))
                dtypes.append(np.asarray(leaf).dtype)
        if not recorder.bodies:  # loops are run by native code, when the derivative is known
            recorder.value(View(0, (), ()))
        program = recorder.program(outputs)
        trace = Trace(program, described, dynamic, wrt, which, dtypes, result_structure, tuple(recorder.outcomes),
                      list(recorder.guards), narrowed(bounds, described), fixed)
        workspace = Workspace(program, wrt)
        workspace.values[...] = recorder.memory.values[: len(program.values)]
        return trace, workspace


def _own(constant):
    """A constant result, as the caller's own: another call gives it again."""
    return constant.copy() if isinstance(constant, np.ndarray) else constant


@functools.lru_cache(maxsize=4096)
def _has_orders(structure) -> bool:
    """Whether a structure has dicts of more than one key."""
    return (structure.num_children > 1 and issubclass(structure.type, dict)) or any(map(_has_orders, structure.children()))


def _orders(tree):
    """The orders of the keys of dicts in a structure, which do not count for whether structures are equal."""
    if isinstance(tree, dict):
        return tuple(tree), *map(_orders, tree.values())
    return tuple(map(_orders, tree)) if isinstance(tree, (list, tuple)) else ()


def objects_of(leaves):
    """The leaves that are neither numbers nor arrays."""
    return [leaf for leaf in leaves if not isinstance(leaf, (float, int, np.ndarray, np.generic, str, type(None)))]


def narrowed(bounds, described):
    """The bounds that are to be looked at: narrow integers are within theirs whatever their values are."""
    return {k: interval for k, interval in bounds.items() if described[k].dtype is int or described[k].dtype.itemsize > 2}


def _reason(error: Exception) -> Exception:
    """The NotDifferentiable that NumPy turned into an error of its own, or the error."""
    reason = error
    while reason is not None:
        if isinstance(reason, NotDifferentiable):
            return reason
        reason = reason.__cause__ or reason.__context__
    return error


def _plain_key(args, argnums):
    """Key of a call whose arguments are arrays and floats, without a look into containers; None for any other."""
    key = [argnums]
    for argument in args:
        kind = type(argument)
        if kind is np.ndarray:
            key.append(argument.shape)
            key.append(argument.dtype)
        elif kind is float:
            key.append(kind)
        else:
            return None
    return tuple(key)


_known: weakref.WeakKeyDictionary[Any, Traces] = weakref.WeakKeyDictionary()


def traces_of(function, replay=True) -> Traces:
    """The lists of `function`, shared by all derivatives of it, for as long as it lives; unless `replay`, none is kept."""
    if not replay:
        return Traces(function, replay=False)
    try:
        with _lock:
            return _known.setdefault(function, Traces(function))
    except TypeError:  # not hashable, or it cannot be referred to weakly
        return Traces(function)
