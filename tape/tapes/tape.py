"""The Tape: a recorded list as users hold it, with its arrays, its sweeps and its table of adjoints.

One class, and long: what it offers is what users ask of a list. It does little itself, and asks the wings below. What is not
here: where tapes come from (`record.py`), the graph (`graph.py`), the file (`saving.py`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from compiled.forking import cached_property
from compiled.lists.listing import Listing
from compiled.lists.program import Program
from compiled.table.layout import OPCODE, OPERAND, OPERANDS, OUTPUT
from compiled.table.views import View
from tape.draw import GraphPicture, draw
from tape.errors import GuardFailed, NotDifferentiable
from tape.recording.arguments import Leaf, checked_leaves, is_same, like_argument
from tape.recording.arrays import RecordedArray
from tape.recording.containers import leaves_of, opened, with_leaves
from tape.recording.recorder import failed_guard
from tape.recording.trace import Trace, Workspace
from tape.reports.inspection import inspect
from tape.reports.profile import Profile
from tape.reports.report import Report
from tape.reports.strictness import examine, is_finite, strictness
from tape.reports.tables import html_table
from tape.reports.timing import profile
from tape.running.linearised import fill_adjoints
from tape.tapes import saving
from tape.tapes.graph import Graph, Operation
from tape.transforms.build import with_gradients, with_tangents
from tape.transforms.simplify import ALL, dead_code, result_of, simplified

MOST_SHOWN = 100
"""Instructions of a list that a notebook shows; `str` gives all."""


class Variable:
    """A value on a tape: an input, a constant or a result of an instruction, by its slot.

    Attributes
    ----------
    number : int
        Its number in the text form: 7 for `%7`.
    view : compiled.table.views.View
        Its cells.
    """

    __slots__ = ("number", "view")

    def __init__(self, number: int, view: View):
        self.number, self.view = number, view

    def __repr__(self):
        return f"%{self.number} {self.view.shape}"


class GradTable:
    """The adjoints that the last reverse sweep left, by variable: the textbook's grad_table.

 with a `Variable` of the tape, a slot number, or a recorded array that the function kept.
    """

    def __init__(self, tape: Tape):
        self._tape = tape

    def __getitem__(self, variable: Any) -> np.ndarray[Any, Any]:
        """Adjoint of a variable, as a new array of its shape."""
        return self._tape._view_of(variable).of(self._tape._workspace.adjoints).copy()

    def __len__(self) -> int:
        return len(self._tape._program.slots)


class Tape:
    """The Wengert list of a function at given shapes; made by `tape.record` or `tape.load`.

    Attributes
    ----------
    opcodes : ndarray(int32, shape (n,))
        Instruction numbers in the table, read-only.
    operands : ndarray(int32, shape (n, 3))
        First cells of the operands; 0 where there is none.
    outputs : ndarray(int32, shape (n,))
        First cells of the results.
    values, adjoints : ndarray(float64 or float32)
        The buffers, read-only views; an instruction's cells are the same in both.
    inputs : nested containers of Variable
        In the structure of the arguments.
    results : nested containers of Variable
        In the structure of the result; a leaf that does not depend on the arguments is the number itself.
    grad_table : GradTable
        The adjoints by variable.

    Examples
    --------
    >>> import tape
    >>> t = tape.record(lambda x, y, z: (x + y) * z, -2.0, 5.0, -4.0)
    >>> t.reverse()
    >>> [float(t.grad_table[v]) for v in t.inputs]
    [-4.0, -4.0, 3.0]
    >>> len(t), float(t.forward(1.0, 2.0, 3.0))
    (2, 9.0)
    """

    def __init__(self, trace: Trace, structure, workspace: Workspace | None = None):
        self._trace, self._structure = trace, structure
        self._program: Program = trace.program
        self._workspace = workspace or Workspace(trace.program, trace.wrt)
        # Whether the values are not there: recording a loop does not run it.
        self._rewound = self._program.has_bodies or workspace is None
        self._seeded = None  # the seeds of the last reverse sweep; None when it was not run on these values
        self._names, self._said = (), "tape.Tape"
        self.grad_table = GradTable(self)

    def __reduce__(self):
        work, state = self._workspace, (self._rewound, self._seeded, self._names, self._said)
        return _tape_again, (self._trace, self._structure, work.values.copy(), work.adjoints.copy(), state)

    # ------------------------------------------------------------------ arrays

    def __len__(self) -> int:
        return len(self._program.code)

    def __str__(self):
        return self._program.text()

    def __repr__(self):
        return (f"<{self._said}: {len(self)} instructions, {len(self._program.values)} cells of "
                f"{self._program.values.dtype}>")

    def _repr_html_(self):
        """The list as a table, for notebooks; of a long one the beginning and the end."""
        program = self._program
        count = len(program.code)
        last = MOST_SHOWN // 4
        shown = range(count) if count <= MOST_SHOWN else [*range(MOST_SHOWN - last), *range(count - last, count)]
        rows = [["", f"%{int(program.slot_of(view.cell))} = input {view.shape}", ""] for view in program.inputs[:MOST_SHOWN]]
        before = -1
        for i in shown:
            if i > before + 1:
                rows.append(["…", f"{i - before - 1} more", ""])
            text, _, line = program.instruction_text(i).partition("  # ")
            rows.append([str(i), text, line])
            before = i
        rows.append(["", "return " + ", ".join(program.view_text(view) for view in program.outputs), ""])
        return html_table(repr(self).strip("<>"), ("", "instruction", "line"), rows, left=(1, 2))

    @property
    def opcodes(self) -> np.ndarray[Any, Any]:
        """Instruction numbers in the table."""
        return _read_only(self._program.code[:, OPCODE])

    @property
    def operands(self) -> np.ndarray[Any, Any]:
        """First cells of the operands."""
        return _read_only(self._program.code[:, OPERAND : OPERAND + OPERANDS])

    @property
    def outputs(self) -> np.ndarray[Any, Any]:
        """First cells of the results."""
        return _read_only(self._program.code[:, OUTPUT])

    @property
    def values(self) -> np.ndarray[Any, Any]:
        """The value buffer."""
        return _read_only(self._workspace.values)

    @property
    def adjoints(self) -> np.ndarray[Any, Any]:
        """The adjoint buffer."""
        return _read_only(self._workspace.adjoints)

    @property
    def inputs(self) -> Any:
        """Variables of the arguments; static leaves stay as they are."""
        views = iter(self._program.inputs)
        dynamic = set(self._trace.dynamic)
        leaves = [self._variable(next(views)) if k in dynamic else leaf.dtype for k, leaf in enumerate(self._trace.leaves)]
        args, _ = with_leaves(self._structure, leaves)
        return args

    @property
    def results(self) -> Any:
        """Variables of the result."""
        leaves = [self._variable(self._program.outputs[w]) if isinstance(w, int) else w[0] for w in self._trace.results]
        return with_leaves(self._trace.structure, leaves)

    def _variable(self, view: View) -> Variable:
        return Variable(int(self._program.slot_of(view.cell)), view)

    def _view_of(self, variable) -> View:
        if isinstance(variable, (Variable, RecordedArray)):
            return variable.view
        if isinstance(variable, (int, np.integer)) and 0 <= variable < len(self._program.slots):
            return self._program.slot_view(int(variable))
        raise KeyError(f"expected a variable of this tape or a slot number below {len(self._program.slots)}, got {variable!r}")

    # ------------------------------------------------------------------ the textbook's graph

    @cached_property
    def _graph(self) -> Graph:
        return Graph(Listing.of(self._program))

    @property
    def edges(self) -> int:
        """Number of edges of the computational graph: pairs of an operation and a variable that it reads."""
        return self._graph.edges

    def get_operation(self, variable: Any) -> Operation | None:
        """The operation that computes a variable, as in the textbook; None for an input or a constant.

        Parameters
        ----------
        variable : Variable, slot number or recorded array
            A variable is a slot: all instructions that write it are one operation (a sum is an initial zero and what is added
            to it). Of a recorded array that is a part of a slot, the slot is meant.

        Returns
        -------
        Operation or None
            With `name`, `f`, `bprop`, `row` and `line`.

        Raises
        ------
        NotDifferentiable
            When cells of the variable are assigned to after they were read: they hold several variables, one after the other,
            which no table of gradients by variable can tell apart (`reverse` and `build_grad` can).

        Notes
        -----
        Source: Goodfellow, Bengio, Courville, "Deep learning", MIT Press 2016, section 6.5.6.

        Examples
        --------
        >>> import tape
        >>> t = tape.record(lambda x, y, z: (x + y) * z, -2.0, 5.0, -4.0)
        >>> product = t.get_operation(t.results)
        >>> product.name, t.get_inputs(t.results), t.get_operation(t.inputs[0])
        ('mul', [%3 (), %2 ()], None)
        >>> float(product.bprop(t.get_inputs(t.results), t.inputs[2], 1.0))
        3.0
        """
        number = self._number_of(variable)
        if number not in self._graph.writers:
            return None
        self._graph.check_single(number)
        return Operation(self, self._graph, number)

    def get_inputs(self, variable: Any) -> list[Variable]:
        """The variables that the operation of a variable reads, constants included, each once; see `get_operation`."""
        return [self._numbered(k) for k in self._graph.inputs.get(self._number_of(variable), ())]

    def get_consumers(self, variable: Any) -> list[Variable]:
        """The variables whose operations read a variable, in the order of the list; see `get_operation`.

        Examples
        --------
        >>> import tape
        >>> t = tape.record(lambda x: x * (x + 1.0), 3.0)
        >>> t.get_consumers(t.inputs[0]), t.get_consumers(t.results), t.edges
        ([%2 (), %3 ()], [], 4)
        """
        return [self._numbered(k) for k in self._graph.consumers.get(self._number_of(variable), ())]

    def _number_of(self, variable) -> int:
        return self._graph.variable_of(int(self._program.slot_of(self._view_of(variable).cell)))

    def _numbered(self, number: int) -> Variable:
        return Variable(number, self._program.slot_view(number))

    def _value_of(self, variable) -> np.ndarray:
        """What a variable holds after the last forward sweep, as a new array."""
        if self._rewound:
            self._swept()
        return self._view_of(variable).of(self._workspace.values).copy()

    def _of_variables(self, listing, variables, wanted=None) -> Tape:
        """The tape of a list whose inputs are `variables`, in nested containers, and that computes `wanted`."""
        arguments = variables if isinstance(variables, tuple) else (variables,)
        leaves, structure = leaves_of((arguments, {}))
        described = [Leaf("array", self._view_of(v).shape, listing.dtype) for v in leaves]
        results, result_structure = leaves_of(wanted if wanted is not None else 0)
        program = listing.program()
        program.check()
        numbers = list(range(len(leaves)))
        trace = Trace(program=program, leaves=described, dynamic=numbers, wrt=numbers, results=list(range(len(results))),
                      result_dtypes=[listing.dtype] * len(results), structure=result_structure)
        return Tape(trace, structure)

    # ------------------------------------------------------------------ sweeps

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the forward sweep on new arguments of the recorded structure, shapes and dtypes.

        Returns
        -------
        The function's result.

        Raises
        ------
        ValueError
            For arguments of another structure or shape.
        tape.GuardFailed
            When a recorded branch would be decided otherwise: this list is not the function's there.
        """
        leaves, structure = leaves_of(opened((args, kwargs)))
        if structure != self._structure:
            raise ValueError(f"the arguments: expected the recorded structure {self._structure}, got {structure}")
        for k, (leaf, recorded) in enumerate(zip(leaves, self._trace.leaves, strict=True)):
            if recorded.kind != "static" and np.shape(leaf) != recorded.shape:
                raise ValueError(f"argument leaf {k}: expected the recorded shape {recorded.shape}, got {np.shape(leaf)}")
            if recorded.kind == "static" and not is_same(leaf, recorded.dtype):
                raise ValueError(f"argument leaf {k}: expected the recorded {recorded.dtype!r}, got {leaf!r:.60}")
        self._rewound, self._seeded = True, None  # stays so where a guard fails
        self._trace.check(leaves)
        if self._trace.has_bounds and not self._trace.admits(leaves):
            raise GuardFailed("an integer argument is beyond what the list was recorded for, as cells do not hold it exactly; "
                              "record again with these arguments, or use tape.grad, which does so by itself")
        self._trace.load(self._workspace, leaves)
        result = self._swept()
        if strictness() is not None:
            examine("value", self._program, (), self._initial_values, (), leaves_of(result)[0])
        return result

    def _swept(self):
        status = self._trace.forward(self._workspace)
        if status >= 0:
            text = self._program.instruction_text(failed_guard(status, self._program))
            raise GuardFailed(f"a branch of Python code is decided otherwise than when it was recorded: {text}; record again "
                              "with these arguments, or use tape.grad, which does so by itself")
        self._rewound = False
        return self._trace.result(self._workspace)

    def reverse(self, seed: Any = 1.0) -> None:
        """Run the reverse sweep from the values of the last forward sweep; fills `adjoints` and `grad_table`.

        Parameters
        ----------
        seed : float, array or nested containers of them
            Adjoint of the result: of its structure and shapes, or one number for every element.

        Raises
        ------
        NotDifferentiable
            When no result depends on the arguments.
        ValueError
            For a seed of another structure or shape.
        """
        seeds = self._seeds(seed)
        if self._rewound and not self._program.has_bodies:
            self._swept()  # the last reverse sweep undid the assignments: run them again
        undone = fill_adjoints(self._trace, self._workspace, seeds)
        self._rewound = undone or (self._rewound and self._program.has_bodies)
        self._seeded = seeds
        wrt = [self._program.inputs[k] for k in self._trace.wrt]
        adjoints = [view.of(self._workspace.adjoints) for view in wrt]
        if strictness() is not None or not is_finite(adjoints):
            examine("vjp", self._program, wrt, self._initial_values, self._output_seeds(seeds), adjoints)

    def _initial_values(self) -> np.ndarray:
        """The value buffer before the last forward sweep."""
        program, work = self._program, self._workspace.values.copy()
        if program.overwrites and not self._rewound:
            self._trace.engine.reverse(program.code, program.geometry, work, np.zeros_like(work), False)
        values = program.values.copy()
        for view in program.inputs:
            view.of(values)[...] = view.of(work)
        return values

    def _output_seeds(self, seeds):
        """The adjoint of each output of the list."""
        adjoints = [np.zeros(view.shape) for view in self._program.outputs]
        for which, seed in seeds:
            adjoints[which] += seed
        return adjoints

    def _seeds(self, seed):
        """Pairs of a number among the list's outputs and its seed, for the results that are computed."""
        if not self._dynamic_outputs():
            raise NotDifferentiable("no result of this tape depends on its arguments")
        trace = self._trace
        if np.ndim(seed) == 0 and isinstance(seed, (int, float, np.generic)):
            seeds = [seed] * len(trace.results)
        else:
            shapes = [self._program.outputs[w].shape if isinstance(w, int) else None for w in trace.results]
            seeds = checked_leaves(seed, trace.structure, shapes, numbers=True)
        return [(which, np.array(one)) for which, one in zip(trace.results, seeds, strict=True) if isinstance(which, int)]

    @property
    def gradients(self) -> Any:
        """Adjoints of the arguments after `reverse`, in their structure, shapes and dtypes."""
        leaves = []
        views = iter(self._program.inputs)
        dynamic = set(self._trace.dynamic)
        for k, leaf in enumerate(self._trace.leaves):
            if k in dynamic:
                leaves.append(like_argument(next(views).of(self._workspace.adjoints), _as_float(leaf)))
            else:
                leaves.append(leaf.dtype)
        return with_leaves(self._structure, leaves)[0]

    # ------------------------------------------------------------------ from list to list

    def build_grad(self, targets: Any = None, value: bool = False) -> Tape:
        """Build the list that computes the gradients of the targets, symbol to symbol.

        The instruction table's own rules write it, so it can be differentiated again, to any order.

        Parameters
        ----------
        targets : Variable, slot number, or nested containers of them, optional
            What to differentiate the results with respect to; by default the arguments (`inputs`).
        value : bool
            Whether the new tape returns ``(results, gradients)`` instead of the gradients alone.

        Returns
        -------
        Tape
            Of the same arguments; its result has the structure of the targets. Of results that are not scalar, the sum of all
            elements is differentiated, as by ``reverse(seed=1.0)``.

        Raises
        ------
        NotDifferentiable
            When no result depends on the arguments.

        Notes
        -----
        Source: Goodfellow, Bengio, Courville, "Deep learning", MIT Press 2016, section 6.5 (build_grad).

        Examples
        --------
        >>> import tape
        >>> t = tape.record(lambda x: x**3, 2.0)
        >>> first = t.build_grad(t.inputs[0])
        >>> second = first.build_grad(first.inputs[0])
        >>> float(first.forward(2.0)), float(second.forward(2.0))
        (12.0, 12.0)
        """
        views, structure = self._targets(targets)
        program, adjoints = with_gradients(self._program, self._dynamic_outputs(), views, seeded=False)
        return self._with_outputs(program, adjoints, structure, value)

    def build_jvp(self, targets: Any = None, value: bool = False) -> Tape:
        """Build the list that computes the tangents of the results: the forward-mode sister of `build_grad`.

        Parameters
        ----------
        targets : Variable, slot number, or nested containers of them, optional
            What the tangents belong to; by default the arguments that are made of floats.
        value : bool
            Whether the new tape returns ``(results, tangents)`` instead of the tangents alone.

        Returns
        -------
        Tape
            Its arguments are those of this tape, and one more: the tangents, in the structure of the targets.

        Raises
        ------
        NotDifferentiable
            When no result depends on the arguments.

        Examples
        --------
        >>> import tape
        >>> t = tape.record(lambda x, y: x * y, 2.0, 3.0)
        >>> float(t.build_jvp(t.inputs).forward(2.0, 3.0, (1.0, 10.0)))
        23.0
        """
        views, structure = self._targets(targets)
        program, tangents = with_tangents(self._program, self._dynamic_outputs(), views)
        leaves = list(range(len(self._trace.leaves)))
        args, kwargs = with_leaves(self._structure, leaves)
        named = [("tangent", k) for k in range(len(views))]
        order, arguments = leaves_of(((*args, with_leaves(structure, [_Token(n) for n in named])), kwargs))
        described = [self._trace.leaves[x] if not isinstance(x, _Token) else
                     Leaf("array", views[x.name[1]].shape, program.values.dtype) for x in order]
        places = {x if not isinstance(x, _Token) else x.name: k for k, x in enumerate(order)}
        dynamic = [places[k] for k in self._trace.dynamic] + [places[n] for n in named]
        results = iter(range(len(self._program.outputs), len(self._program.outputs) + len(tangents)))
        which = [next(results) if isinstance(w, int) else (np.zeros_like(w[0]),) for w in self._trace.results]
        dtypes = [d if np.dtype(d).kind == "f" else program.values.dtype for d in self._trace.result_dtypes]
        outputs = [*program.outputs, *tangents]
        parts = (which, dtypes, self._trace.structure)
        return self._longer(program, outputs, parts, value, described, dynamic, arguments)

    def prune(self, targets: Any = None, of: Any = None) -> Tape:
        """Build the list that computes the targets alone, without what they do not need.

        With `of`, the textbook's other pruning: only ancestors of the output that descend from the targets stay.

        Parameters
        ----------
        targets : Variable, slot number, or nested containers of them, optional
            What to compute; by default the results. With `of`, what the new list is a function of; by default the arguments.
        of : Variable, slot number, or nested containers of them, optional
            The outputs.

        Returns
        -------
        Tape
            Of the same arguments. With `of`, its arguments are the targets (a tuple gives as many arguments), its result is in
            the structure of `of`, and all else that it needs is constant, with the values of the last forward sweep.

        Raises
        ------
        NotDifferentiable
            With `of`, when a target is a part of a variable, or assigned to after it was read.

        Examples
        --------
        >>> import numpy as np, tape
        >>> t = tape.record(lambda x: (np.sin(x), np.cos(x)), 1.0)
        >>> len(t), len(t.prune(t.results[0]))
        (2, 1)
        >>> t = tape.record(lambda x, y: np.sin(x) * np.exp(y), 0.0, 1.0)
        >>> between = t.prune(t.inputs[1], of=t.results)
        >>> len(t), len(between), float(between.forward(5.0))
        (3, 2, 0.0)
        """
        if of is not None:
            return self._between(self._float_inputs() if targets is None else targets, of)
        listing = Listing.of(self._program)
        if targets is None:
            return self._rewritten(simplified(listing, (dead_code,)), self._trace.results, self._trace.result_dtypes,
                                   self._trace.structure, self._structure)
        leaves, structure = leaves_of(targets)
        views = [self._view_of(target) for target in leaves]
        listing.outputs = [result_of(self._program, view) for view in views]
        return self._rewritten(simplified(listing, (dead_code,)), list(range(len(views))),
                               [self._program.values.dtype] * len(views), structure, self._structure)

    def _between(self, targets, of) -> Tape:
        """The list of the outputs `of` as a function of the targets, at the values of now."""
        numbers = [int(self._program.slot_of(view.cell)) for view in self._targets(targets)[0]]
        for number in numbers:
            self._graph.check_single(number)
        wanted, structure = leaves_of(of)
        outputs = [result_of(self._program, self._view_of(v)) for v in wanted]
        listing = self._graph.between(numbers, outputs, self._constant_of)
        pruned = self._of_variables(listing, targets, with_leaves(structure, list(range(len(wanted)))))
        for cells, number in zip(pruned._workspace.inputs, numbers, strict=True):
            cells[...] = self._value_of(number)
        pruned._rewound = True
        return pruned

    def _constant_of(self, number: int) -> np.ndarray:
        self._graph.check_single(number)  # an argument that is assigned to no longer holds what the list began with
        return self._value_of(number)

    def simplify(self, passes: Sequence[Callable[[Listing], Listing]] | None = None) -> Tape:
        """Build an equal list of fewer instructions.

        Constants are folded, equal expressions computed once, copies and what no result needs left out, known forms
        rewritten (``log(sum(exp(x)))`` without overflow). Derivatives of the new list are those of the old.

        Parameters
        ----------
        passes : sequence of callables, optional
            Which passes of `tape.transforms.simplify` to run, in order; by default all.

        Returns
        -------
        Tape
            Of the same arguments and results.

        Examples
        --------
        >>> import numpy as np, tape
        >>> t = tape.record(lambda x: np.sin(x) * np.sin(x), 1.0)
        >>> len(t), len(t.simplify())
        (3, 2)
        """
        listing = simplified(Listing.of(self._program), ALL if passes is None else passes)
        return self._rewritten(listing, self._trace.results, self._trace.result_dtypes, self._trace.structure, self._structure)

    def _targets(self, targets):
        """Views of whole slots, and the structure of the targets."""
        if not any(isinstance(w, int) for w in self._trace.results):
            raise NotDifferentiable("no result of this tape depends on its arguments")
        leaves, structure = leaves_of(self._float_inputs() if targets is None else targets)
        views = [self._view_of(leaf) for leaf in leaves]
        for view in views:
            if self._program.slot_view(int(self._program.slot_of(view.cell))) != view:
                raise NotDifferentiable(f"a target of shape {view.shape} is a part of a variable: expected a whole one")
        return views, structure

    def _float_inputs(self):
        inputs = tuple(self._variable(self._program.inputs[k]) for k in self._trace.wrt)
        return inputs[0] if len(inputs) == 1 else inputs

    def _dynamic_outputs(self):
        return [w for w in self._trace.results if isinstance(w, int)]

    def _with_outputs(self, program, adjoints, structure, value):
        outputs = [*program.outputs, *adjoints]
        first = len(program.outputs)
        parts = list(range(first, len(outputs))), [program.values.dtype] * len(adjoints), structure
        return self._longer(program, outputs, parts, value, self._trace.leaves, self._trace.dynamic, self._structure)

    def _longer(self, program, outputs, parts, value, leaves, dynamic, arguments):
        """The tape of a longer program, whose results are those described by `parts`, after this tape's own with `value`."""
        which, dtypes, structure = parts
        if value:
            own = with_leaves(self._trace.structure, [0] * len(self._trace.results))
            structure = leaves_of((own, with_leaves(structure, [0] * len(which))))[1]
            which, dtypes = [*self._trace.results, *which], [*self._trace.result_dtypes, *dtypes]
        listing = Listing.of(program)
        listing.outputs = [result_of(program, view) for view in outputs]
        kept = sorted({w for w in which if isinstance(w, int)})
        listing.outputs = [listing.outputs[w] for w in kept]
        listing = simplified(listing)
        which = [kept.index(w) if isinstance(w, int) else w for w in which]
        return self._rewritten(listing, which, dtypes, structure, arguments, leaves, dynamic)

    def _rewritten(self, listing, which, dtypes, structure, arguments, leaves=None, dynamic=None):
        """A tape of a list made from this one's."""
        program = listing.program()
        program.check()
        old = self._trace
        trace = Trace(program=program, leaves=leaves or old.leaves, dynamic=old.dynamic if dynamic is None else dynamic,
                      wrt=old.wrt, results=list(which), result_dtypes=list(dtypes), structure=structure)
        trace.outcomes = old.outcomes if len(trace.guards) == len(old.guards) else ()
        built = Tape(trace, arguments)
        for cells, known in zip(built._workspace.inputs, self._workspace.inputs, strict=False):
            cells[...] = known  # what this tape ran with; a sweep that needs more than these runs forward first
        built._rewound = True
        built._names = self._names if arguments == self._structure else ()
        return built

    def report(self) -> Report:
        """Look at the last run: its kinks, undefined derivatives and first NaN or infinity; and say how large the list is.

        The list is walked once more, slowly, from the arguments of the last forward sweep and the seed of the last `reverse`
        (one where there was none): a kink or an undefined derivative is met where an adjoint that is not zero goes through it.

        Returns
        -------
        Report
            With the attributes `kinks`, `undefined`, `first_nonfinite`, `first_nonfinite_adjoint`, `guards`, `instructions`,
            `operations`, `slots`, `cells`, `bytes` and `loops`; `str` gives it as text.

        Raises
        ------
        tape.GuardFailed
            When the list is not the function's at the arguments it holds, as after a `forward` that said so.

        Examples
        --------
        >>> import numpy as np, tape
        >>> t = tape.record(lambda x: np.sum(np.sqrt(np.abs(x))), np.array([4.0, 0.0]))
        >>> print(t.report())
        4 instructions (1 abs, 1 accumulate, 1 sqrt, 1 zero), 4 slots, ... cells, ... bytes
        0 guards, 0 loops
          undefined: sqrt(0) at ... (1 of 2 elements) has the derivative inf
          kink: abs(0) at ... (1 of 2 elements); x = 0: the partial is 0
          first adjoint that is not finite: sqrt(0) at ... (1 of 2 elements) has the derivative inf
        """
        wrt = [self._program.inputs[k] for k in self._trace.wrt]
        seeds = self._output_seeds(self._seeded or self._seeds(1.0)) if self._dynamic_outputs() else []
        pairs = list(zip(self._program.outputs, seeds, strict=False))
        found = inspect(self._program, self._initial_values(), pairs, wrt)
        if found is None:
            raise GuardFailed("a branch of Python code is decided otherwise than when it was recorded, so the list says "
                              "nothing of the function at these arguments; record again with them")
        return Report.of(self._program, found)

    def profile(self, repeat: int = 5) -> Profile:
        """Measure what each line of the function's source costs in the sweeps, at the arguments of the last `forward`.

        A line's instructions are timed where they stand, in runs of the sweeps of their own; the tape keeps its values and
        adjoints. The reverse sweep has the seed of the last `reverse` (one where there was none). The time of a loop is divided
        among the lines of its body as one step's is; what a list with loops or calls takes back is the time of the list that
        computes its gradient. It is the list that is measured: recording it is not, nor machine code (`Compiled.profile`).

        Parameters
        ----------
        repeat : int
            How often everything is measured; medians are told.

        Returns
        -------
        Profile
            With a row a line: `line`, `instructions`, `cells`, `bytes`, `forward`, `back`, `seconds`. `str` gives a table,
            ``.draw()`` a picture.

        Raises
        ------
        tape.GuardFailed
            When the list is not the function's at the arguments it holds, as after a `forward` that said so.
        ValueError
            Unless `repeat` is an integer of at least 1.

        Examples
        --------
        >>> import numpy as np, tape
        >>> def f(x):
        ...     y = np.sin(x)
        ...     return np.sum(y * y)
        >>> profile = tape.record(f, np.ones(1000)).profile()
        >>> sorted(row.instructions for row in profile.rows)
        [1, 3]
        """
        seeds = (self._seeded or self._seeds(1.0)) if self._dynamic_outputs() and self._trace.wrt else []
        return profile(self._trace, self._initial_values(), seeds, repeat)

    def draw(self, path: str | os.PathLike[str] | None = None, values: bool = True, gradients: bool = True,
             fold: bool | None = None) -> GraphPicture:
        """Draw the computational graph, with the values and gradients of the last sweeps; see `tape.draw.draw`.

        Examples
        --------
        >>> import tape
        >>> t = tape.record(lambda x, y, z: (x + y) * z, -2.0, 5.0, -4.0)
        >>> [(node.title, node.value, node.gradient) for node in t.draw().nodes]
        [('x', '-2', '∂ -4'), ('y', '5', '∂ -4'), ('z', '-4', '∂ 3'), ('+', '3', '∂ -4'), ('×', '-12', '∂ 1')]
        """
        return draw(self, path, values, gradients, fold)

    # ------------------------------------------------------------------ check, save

    def check(self) -> None:
        """Raise `tape.InvalidTape`, naming instruction, operation and operand, unless the list is well formed."""
        self._program.check()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the list to one file, which `tape.load` reads.

        Parameters
        ----------
        path : str or path-like
            Name of the file; ".npz" is appended when it does not end so.

        Raises
        ------
        NotDifferentiable
            When an argument or a result is neither number nor array, or nested in other containers than tuples, lists
            and dicts.
        """
        saving.save(self._trace, self._structure, path)


def _tape_again(trace, structure, values, adjoints, state) -> Tape:
    """A tape with buffers of its own, as `Tape.__reduce__` describes it."""
    made = Tape(trace, structure, Workspace(trace.program, trace.wrt, values))
    made._workspace.adjoints[...] = adjoints
    made._rewound, made._seeded, made._names, made._said = state
    return made


class _Token:
    """A leaf that stands for a tangent while a structure is put together."""

    def __init__(self, name):
        self.name = name


def _read_only(array: np.ndarray) -> np.ndarray:
    view = array[...]
    view.flags.writeable = False
    return view


def _as_float(leaf: Leaf) -> Leaf:
    """A leaf whose adjoint is wanted: integers have a float one."""
    kind = leaf.dtype
    floating = kind is float or getattr(kind, "kind", "") == "f"
    return leaf if floating else Leaf(leaf.kind, leaf.shape, np.dtype(np.float64))
