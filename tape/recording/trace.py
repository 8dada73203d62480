"""A recorded list with what is needed to call it, and the memory to run it in.

What is not here: how a call is recorded (`recordings.py`), which list a call runs (`traces.py`), derivatives of a list
(`running.linearised`).
"""

from __future__ import annotations

import collections
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import compiled.native.interpreter  # noqa: F401  enters itself as what stands in for the forward sweep
from compiled.lists import loops
from compiled.lists.program import Program
from compiled.sweeps.engine import Engine, engine_of
from compiled.table.layout import OPCODE, OPERAND
from tape.recording.argument_memory import ArgumentMemory
from tape.recording.arguments import Leaf, is_number, like_argument, require_scalar
from tape.recording.containers import with_leaves
from tape.recording.integers import Interval, interval_of
from tape.recording.recorder import check_integers, raise_status

IDLE_WORKSPACES = 8
"""Workspaces kept for one list; more are made when more threads run it at once."""

IDLE_BYTES = 1 << 28
"""Memory of the workspaces kept for one list, where that is more than one of them."""


class Workspace:
    """The buffers in which one thread runs one list.

    Parameters
    ----------
    program : Program
        The list.
    wrt : list of int
        Which inputs are differentiated.
    values : ndarray, optional
        What its cells hold at the start, those of the constants by default.
    left_at : int or None
        Number of the first instruction whose results are not among the values yet, as nobody has asked for them while
        recording; `Trace.finish` computes the rest.
    """

    __slots__ = ("adjoint_tangents", "adjoints", "gradients", "inputs", "left_at", "output_adjoints", "outputs",
                 "program", "tangents", "values")

    def __init__(self, program: Program, wrt: list[int], values: np.ndarray | None = None, left_at: int | None = None):
        self.program, self.left_at = program, left_at
        self.values = (program.values if values is None else values[: len(program.values)]).copy()
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


@dataclass(eq=False, kw_only=True)
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
        For each leaf of the result a number among the program's outputs, or, in a tuple, the constant it is.
    result_dtypes : list of dtype
        Of the leaves of the result.
    has_aux, own : bool, int
        Whether the result is a pair (result, aux), and how many leaves are no aux; those come first.
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
    native : dict
        What runs derivatives that have gone over to the lists that compute them, by their names; `running.tiers` fills it.
    runners : dict
        What else runs the list: what `running.tiers` knows, by the names of derivatives, and its machine code in lanes.
    has_bounds : bool
        Whether the list is for some integers only, which `admits` looks at.
    has_own_dtype : bool
        Whether all gradients have the list's own dtype, and need no conversion.
    is_scalar, is_own_scalar : bool
        Whether it is known that the result is one float of shape (); and that it is the list's first output as it stands.
    is_singular : bool
        Whether the list has rows with an infinite derivative where the value is finite, as the square root at 0.
    guards : list of int
        The instructions that are guards.
    engine : Engine
        The sweeps that run the list.
    whole : list of int
        Leaves that are integers where floats are meant.
    """

    program: Program
    leaves: list[Leaf]
    dynamic: list[int]
    wrt: list[int]
    results: list
    result_dtypes: list
    structure: Any
    own: int = -1
    has_aux: bool = False
    outcomes: tuple[bytes, ...] = ()
    bounds: dict[int, Interval] = field(default_factory=dict)
    fixed: dict[int, Any] = field(default_factory=dict)
    state: list | None = None
    memory: ArgumentMemory | None = None
    used: int = 0
    native: dict[str, Any] = field(default_factory=dict)
    runners: dict[str, Any] = field(default_factory=dict)
    sparsity: dict[str, Any] = field(default_factory=dict)
    is_scalar: bool = field(default=False, init=False)
    is_own_scalar: bool = field(default=False, init=False)
    is_singular: bool = field(init=False)
    guards: list[int] = field(init=False)
    engine: Engine = field(init=False)
    whole: list[int] = field(init=False)
    idle: collections.deque = field(init=False)

    def __post_init__(self):
        if self.own < 0:
            self.own = len(self.results)
        nbytes = 2 * self.program.values.nbytes + 1  # values and adjoints
        self.idle = collections.deque(maxlen=min(max(IDLE_BYTES // nbytes, 1), IDLE_WORKSPACES))
        kinds = [self.leaves[k].dtype for k in self.dynamic]
        floats = {self.dynamic[k] for k in self.wrt}
        self._integers = [k for k, kind in zip(self.dynamic, kinds, strict=True)
                          if k not in floats and (kind is int or (kind is not float and kind.kind in "iu"))]
        self.has_bounds = bool(self.bounds or self.fixed)
        self.is_singular = bool(self.program.table.singular[self.program.code[:, OPCODE]].any())
        self.guards = self.program.instructions("guard")
        self.engine = engine_of(self.program.table, self.program.values.dtype)
        differentiated = [self.leaves[self.dynamic[k]] for k in self.wrt]
        dtype = self.program.values.dtype
        self.whole = [self.dynamic[k] for k in self.wrt if np.dtype(self.leaves[self.dynamic[k]].dtype).kind in "iu"]
        self.has_own_dtype = all(leaf.kind == "array" and leaf.dtype == dtype for leaf in differentiated)

    def __reduce__(self):
        # Not what runs the list, which is of this process, nor what else its function read there.
        kept = ("program", "leaves", "dynamic", "wrt", "results", "result_dtypes", "structure", "outcomes", "bounds", "fixed",
                "memory", "own", "has_aux")
        return _trace, ({name: getattr(self, name) for name in kept},)

    def run(self, leaves: list) -> tuple[Workspace, int]:
        """Run the forward sweep on arguments; returns the workspace with the values, and the sweep's status."""
        workspace = self.workspace()
        self.load(workspace, leaves)
        return workspace, self.forward(workspace)

    def explain(self, workspace: Workspace, leaves: list) -> None:
        """Raise what the sweeps find wrong with arguments for which native code stopped."""
        self.load(workspace, leaves)
        status = self.forward(workspace)
        if status >= 0:
            raise_status(status, self.program)

    def workspace(self) -> Workspace:
        """Take an idle workspace, or make one; hand it back with `idle.append`."""
        try:
            return self.idle.pop()
        except IndexError:
            return Workspace(self.program, self.wrt)

    def admits(self, leaves) -> bool:
        """Whether the integers among the arguments are within the bounds that the list was made for, if it `has_bounds`."""
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

    def inputs_of(self, leaves) -> list:
        """The leaves that are inputs of the list, integers where floats are meant as floats, as machine code takes them."""
        return [np.asarray(leaves[k], float)[()] if k in self.whole else leaves[k] for k in self.dynamic]

    def forward(self, workspace: Workspace) -> int:
        """Run the forward sweep; returns its status."""
        program, workspace.left_at = self.program, None
        if program.has_bodies:
            return loops.forward(self.engine, program, workspace.values, 0, len(program.code))
        return self.engine.forward(program.code, program.geometry, workspace.values, 0, len(program.code))

    def finish(self, workspace: Workspace) -> None:
        """Compute what recording has left for those who want it."""
        if workspace.left_at is not None:
            program = self.program
            status = loops.forward(self.engine, program, workspace.values, workspace.left_at, len(program.code))
            workspace.left_at = None
            if status >= 0:
                raise_status(status, program)

    def outcome_at(self, workspace: Workspace, number: int) -> tuple[bytes, ...]:
        """The outcomes up to the guard, instruction `number`, that failed in the workspace, with what it saw now."""
        k = self.guards.index(number)
        cell = self.program.code[number, OPERAND]
        size = len(self.outcomes[k]) // workspace.values.itemsize
        return (*self.outcomes[:k], workspace.values[cell : cell + size].tobytes())

    def result(self, workspace: Workspace):
        """The function's result as plain arrays, copied out of the workspace."""
        return self.assembled([array.copy() for array in workspace.outputs])

    def assembled(self, arrays, tangents: bool = False):
        """The function's result (or its tangent), of arrays of the program's outputs that nobody else holds."""
        leaves = []
        for which, dtype in zip(self.results, self.result_dtypes, strict=True):
            if isinstance(which, int):
                kind = dtype if not tangents or np.dtype(dtype).kind == "f" else self.program.values.dtype
                array = arrays[which] if arrays[which].dtype == kind else arrays[which].astype(kind)
                leaves.append(array if array.ndim else array[()])
            else:
                leaves.append(np.zeros(np.shape(which[0]))[()] if tangents and is_number(which[0]) else _own(which[0]))
        return with_leaves(self.structure, leaves)

    def of_outputs(self, leaves) -> list:
        """Those leaves of something like the result, without an aux, that belong to outputs of the list, in their order.

        Those of an aux are zero.
        """
        leaves = [*leaves, *(np.zeros(self.result_shape(k)) for k in range(self.own, len(self.results)))]
        return [leaf for leaf, which in zip(leaves, self.results, strict=True) if isinstance(which, int)]

    def like_arguments(self, arrays) -> list:
        """Derivatives in the shapes and dtypes of the differentiated leaves, of arrays that nobody else holds."""
        if self.has_own_dtype:
            return [np.asarray(array) for array in arrays]
        return [like_argument(np.asarray(array), self.leaves[self.dynamic[k]], copy=False)
                for array, k in zip(arrays, self.wrt, strict=True)]

    def check_scalar(self, what: str) -> None:
        """Raise NotDifferentiable when the function returns anything but one float of shape ()."""
        if not self.is_scalar:  # which is asked at every call
            require_scalar(self.result_dtypes[: self.own], [self.result_shape(k) for k in range(self.own)], what)
            self.is_scalar = True
            own = isinstance(self.results[0], int) and self.result_dtypes[0] == self.program.values.dtype
            self.is_own_scalar = own and not self.has_aux

    @property
    def own_outputs(self) -> list[int]:
        """The numbers of the list's outputs that are no aux."""
        return [which for which in self.results[: self.own] if isinstance(which, int)]

    def result_shape(self, k: int) -> tuple[int, ...]:
        """Shape of leaf k of the result."""
        which = self.results[k]
        return self.program.outputs[which].shape if isinstance(which, int) else np.shape(which[0])


def _trace(kept) -> Trace:
    return Trace(**kept)


def _own(constant):
    """A constant result, as the caller's own: another call gives it again."""
    return constant.copy() if isinstance(constant, np.ndarray) else constant
