"""The recorder: turns operations on views of cells into the instructions of one list.

Values are computed when somebody needs them: a guard, or the end. What is not here: the arrays that users' code sees
(`arrays.py`).
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import importlib
import math
from collections.abc import Iterator

import numpy as np

from compiled.lists import loops
from compiled.lists.calls import Call, CallWords
from compiled.lists.memory import ListMemory
from compiled.lists.program import Program, live_flags
from compiled.sweeps.engine import engine_of
from compiled.table.instructions import TABLE, Table, undefined
from compiled.table.layout import ACCUMULATES, FLAGS, GUARD_FAILED, INDEX_ERROR, instruction_and_code
from compiled.table.views import View, broadcast_strides, contiguous
from tape.errors import NotDifferentiable
from tape.recording.integers import INTERVALS, Interval, fits, interval_of, is_integral
from tape.recording.lines import user_line

_recorder: contextvars.ContextVar[Recorder | None] = contextvars.ContextVar("recorder", default=None)
_limit: contextvars.ContextVar[int | None] = contextvars.ContextVar("limit", default=None)


current_recorder = _recorder.get
"""Return the recorder at work in this thread, if any."""


@contextlib.contextmanager
def plain_ground() -> Iterator[None]:
    """Nothing is recorded inside: functions of the user's that are called, not recorded, may differentiate on their own."""
    token = _recorder.set(None)
    try:
        yield
    finally:
        _recorder.reset(token)


@contextlib.contextmanager
def memory_limit(nbytes: int | None) -> Iterator[None]:
    """Limit the memory of each list recorded inside the `with` block.

    Parameters
    ----------
    nbytes : int or None
        Bytes that a list's instructions and values may take together; None for no limit.

    Raises
    ------
    tape.CapacityError
        Inside the block, when a recording needs more. The message says how much.

    Examples
    --------
    >>> import numpy as np, tape
    >>> with tape.memory_limit(10_000):
    ...     tape.grad(lambda x: np.sum(x * x))(np.ones(100_000))
    Traceback (most recent call last):
        ...
    tape.CapacityError: the list needs ... bytes, but tape.memory_limit allows 10000; raise the limit, or record a
    smaller part of the computation
    """
    token = _limit.set(nbytes)
    try:
        yield
    finally:
        _limit.reset(token)


SQUARES_OF_ROOTS = {"sqrt": "square_of_root", "root_of_squares": "square_of_root", "hypot": "square_of_hypot", "abs": "square"}
"""Rows whose squares are smooth where they are not, and the row of the square, which has the same value."""


class Promote(Exception):
    """A float64 operand met a float32 list: the recording starts again in float64, as NumPy would compute."""


@functools.cache
def _load_rules():
    """Load the rules, which enter themselves in the tables of `dispatch.py`; by name, as they stand above this wing."""
    importlib.import_module("tape.rules")


class Recorder:
    """Writes one list.

    Parameters
    ----------
    dtype : numpy.dtype
        float64 or float32, of the list.
    table : instructions.Table
        The instruction set.
    """

    def __init__(self, dtype, table: Table = TABLE):
        self.table = table
        # Of the list's cells. Native code asks for NumPy's own dtype; that of an array out of a pickle is only equal to it.
        self.dtype = np.dtype(np.dtype(dtype).str)
        self.memory = ListMemory(self.dtype, _limit.get())
        self.active: list[bool] = []
        self.inputs: list[View] = []
        self.constants: list[int] = []
        self.outcomes: list[bytes] = []
        self.scalars: dict[int, dict[int, list]] = {}
        self.lines: dict[tuple[str, int], int] = {}
        self.line: int | None = None  # see `of_line`
        self.roots: dict[View, tuple[str, list[View]]] = {}  # results of SQUARES_OF_ROOTS' rows: row and operands
        self.engine = engine_of(self.table, self.dtype)
        _load_rules()
        self.executed = 0  # so many instructions have their values
        self._intervals: dict[int, Interval | None] = {}  # of slots of integers: bounds of their cells, None if unknown
        self.rounded = 0  # how many constants of integers were beyond what cells hold
        self.nonzero: set[int] = set()  # cells of numbers that a guard says are not 0
        self._scalars: dict[tuple[float, float], View] = {}
        self._arrays: dict[int, tuple[np.ndarray, View]] = {}
        self._slot_numbers: dict[int, int] = {}
        self.bodies: list[Program | Call] = []
        self.is_finished = False  # whether this goes on from a finished list, with a derivative of it
        self.without_values = 0  # how deep in what is recorded without values: bodies of loops, rules, derivatives

    def fitting(self, dtype: np.dtype) -> np.dtype:
        """The dtype of a result that NumPy would give `dtype`.

        A float32 list is recorded anew in float64 when it meets that; derivatives of a finished list keep its precision.
        """
        if dtype == np.float64 and self.dtype == np.float32:
            if not self.is_finished:
                raise Promote
            return self.dtype
        return dtype

    @property
    def code(self) -> np.ndarray:
        """The instructions' array, as a program has it."""
        return self.memory.code

    @property
    def geometry(self) -> np.ndarray:
        """The blocks' array, as a program has it."""
        return self.memory.geometry

    @contextlib.contextmanager
    def recording(self):
        """Make this the recorder at work in this thread."""
        token = _recorder.set(self)
        try:
            yield self
        finally:
            _recorder.reset(token)

    @contextlib.contextmanager
    def blindly(self):
        """Say, inside the `with` block, that there are no values: what is recorded there runs later, or many times."""
        self.without_values += 1
        try:
            yield
        finally:
            self.without_values -= 1

    # ------------------------------------------------------------------ slots

    def new_slot(self, shape, active=False) -> View:
        """Allocate a slot and return the view of all of it."""
        view = self.memory.allocate(shape)
        self._slot_numbers[view.cell] = len(self.active)
        self.active.append(active)
        return view

    def slot_number(self, cell: int) -> int:
        """Number of the slot that holds `cell`."""
        number = self._slot_numbers.get(cell)
        if number is None:
            low, high = 0, len(self.memory.slots)
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if self.memory.slots[middle][0] <= cell else (low, middle)
            number = self._slot_numbers[cell] = low
        return number

    def is_active(self, view: View) -> bool:
        """Whether the cells depend on an input that is differentiated."""
        return self.active[self.slot_number(view.cell)]

    def mark_active(self, view: View) -> None:
        """Say that derivatives are taken with respect to the slot of a view, in a call inside the recording."""
        self.active[self.slot_number(view.cell)] = True

    # ------------------------------------------------------------------ bounds of integers

    def interval(self, view: View) -> Interval | None:
        """Bounds of the integers in a view's cells; None if unknown, as of floats."""
        return self._intervals.get(self.slot_number(view.cell))

    def set_interval(self, view: View, interval: Interval | None) -> Interval | None:
        """Say what is known of the cells of a view's slot, which is returned."""
        self._intervals[self.slot_number(view.cell)] = interval
        return interval

    def _note_interval(self, name: str, operands: list[View], out: View, times=None) -> None:
        """Bounds of an instruction's result; `times` says how many terms are added to each cell of it."""
        row = self.table.by_name[name]
        if not self._intervals and row.structural is False and row.kind != "bool" and name != "zero":
            return  # nothing but floats so far
        slot, interval = self.slot_number(out.cell), None
        if not row.structural and row.kind == "bool":
            interval = (0, 1)
        elif name == "zero":
            interval = (0, 0)
        elif row.structural:
            if row.bounds is not None:
                known = [self._intervals.get(self.slot_number(view.cell)) for view in operands]
                interval = row.bounds(operands[0].size, *known)
        elif name in INTERVALS:
            read = operands[:1] if name == "assign" else operands  # what was kept is not in the result
            known = [self._intervals.get(self.slot_number(view.cell)) for view in read]
            if None not in known:
                low, high = INTERVALS[name](*known)
                terms = times() if times is not None else 1
                interval = low * terms, high * terms
        if interval is None and slot not in self._intervals:
            return  # of floats
        if slot in self._intervals:
            before = self._intervals[slot]
            if before is None or interval is None:
                interval = None
            elif row.accumulates:
                interval = before[0] + min(interval[0], 0), before[1] + max(interval[1], 0)
            else:
                interval = min(before[0], interval[0]), max(before[1], interval[1])
        self._intervals[slot] = interval

    def input(self, array: np.ndarray, active: bool, bounds: Interval | None = None) -> View:
        """Allocate an input slot that holds `array` now.

        `active` says whether it is differentiated; `bounds` are those of integers in all replays, as far as they are known.
        """
        view = self.new_slot(array.shape, active)
        if bounds is not None:
            self.set_interval(view, bounds)
        self._fill(view, array)
        self.inputs.append(view)
        return view

    def constant(self, value) -> View:
        """Return the view of a constant; equal constants share cells."""
        if isinstance(value, (float, int)) or np.ndim(value) == 0:
            number, integral = float(value), not isinstance(value, float) and is_integral(value)
            # 0.0 and -0.0 are different constants, and 1 is an integer, of which bounds are known.
            key = number, math.copysign(1.0, number), integral
            view = self._scalars.get(key)
            if view is None:
                view = self._scalars[key] = self._new_constant(value, integral)
            return view
        refuse_subclass(value)
        known = self._arrays.get(id(value))
        if known is not None and np.array_equal(known[1].of(self.memory.values), value):
            return known[1]
        view = self._new_constant(value, is_integral(value))
        self._arrays[id(value)] = value, view
        return view

    def _new_constant(self, value, integral) -> View:
        interval = interval_of(value) if integral else None
        array = np.asarray(float(value) if isinstance(value, int) else value)
        self.constants.append(len(self.active))
        view = self.new_slot(array.shape)
        if interval is not None:
            self.set_interval(view, interval)
            self.rounded += not fits(value, self.dtype)
        self._fill(view, array)  # rounded, as NumPy does where integers meet floats
        return view

    def _fill(self, view: View, array: np.ndarray):
        with np.errstate(over="ignore"):
            view.of(self.memory.values)[...] = array

    # ------------------------------------------------------------------ instructions

    def elementwise(self, name: str, operands: list[View], shape, out: View) -> None:
        """Write one elementwise instruction over the iteration space `shape`; views are broadcast to it."""
        row = self.table.by_name[name]
        flags = 0
        for k, partial in enumerate(row.partials):
            if partial is not None and self.is_active(operands[k]):
                if partial is undefined:
                    raise _undefined(row, k)
                flags |= 1 << k
        if row.accumulates:
            flags |= ACCUMULATES
        self._note_interval(name, operands, out, (lambda: terms_of_each(shape, out)) if row.accumulates else None)
        line = self._written(out.cell, flags)
        self.memory.append_elementwise(self.table.opcode[name], shape, operands, out, flags, line)

    def computed(self, name: str, operands: list[View]) -> View:
        """Write an elementwise instruction on views that are broadcast together; returns its result, in a new slot."""
        if name in ("square", "mul"):
            name, operands = self._squared_root(name, operands)
        shape = broadcast_shape([view.shape for view in operands])
        out = self._new_like(operands, shape)
        self.elementwise(name, operands, shape, out)
        if name in SQUARES_OF_ROOTS:
            self.roots[out] = name, operands
        return out

    def _new_like(self, views, shape) -> View:
        """A new slot for a result of `shape`, its axes in memory in the order of the operands' (NumPy's order "K")."""
        if len(shape) < 2:
            return self.new_slot(shape)
        orders = {tuple(sorted(range(len(shape)), key=lambda axis: -abs(view.strides[axis])))
                  for view in views if view.shape == shape}
        order = orders.pop() if len(orders) == 1 else tuple(range(len(shape)))
        out = self.new_slot(tuple(shape[axis] for axis in order))
        strides = dict(zip(order, out.strides, strict=True))
        return View(out.cell, tuple(shape), tuple(strides[axis] for axis in range(len(shape))))

    def _squared_root(self, name: str, views: list[View]) -> tuple[str, list[View]]:
        """The row and operands to record for a product that may be the square of a root.

        The chain rule cannot say what the second derivative of a squared length is at the origin, as the length has none.
        """
        if len(set(views)) != 1 or views[0] not in self.roots:
            return name, views
        root, operands = self.roots[views[0]]
        return SQUARES_OF_ROOTS[root], operands

    def structural(self, name: str, operands: list[View], out: View | None, words: tuple[int, ...], owned: int) -> None:
        """Write one structural instruction with the words of its own block."""
        row = self.table.by_name[name]
        flags = sum(1 << k for k, d in enumerate(row.differentiable) if d and self.is_active(operands[k]))
        if row.accumulates:
            flags |= ACCUMULATES
        if out is not None:
            self._note_interval(name, operands, out)
        cell = out.cell if out is not None else 0
        line = self._written(cell, flags)
        self.memory.append(self.table.opcode[name], (-1, owned, *words), cell, tuple(view.cell for view in operands), flags,
                           line)

    def _written(self, cell, flags) -> int:
        """Note that an instruction writes a cell; returns the number of the user's line."""
        if flags & 7:
            self.active[self.slot_number(cell)] = True
        return self.lines.setdefault(user_line(), len(self.lines)) if self.line is None else self.line

    @contextlib.contextmanager
    def of_line(self, line: int | None):
        """Let instructions be of a line, by its number, for the time of a `with` block; None is the line that the user runs."""
        before, self.line = self.line, line
        try:
            yield
        finally:
            self.line = before

    def copied(self, view: View) -> View:
        """Return a contiguous copy of the cells."""
        out = self.new_slot(view.shape)
        self.elementwise("copy", [view], view.shape, out)
        return out

    def zeros(self, shape) -> View:
        """Return a new slot that is zero at the start of each replay, for others to add to or to assign."""
        out = self.new_slot(shape)
        self.elementwise("zero", [], shape, out)
        return out

    def assign(self, target: View, source: View) -> None:
        """Overwrite `target` with `source` (of the same shape), keeping what it held for the reverse sweep."""
        self.roots.clear()  # of what is written now
        if self.slot_number(source.cell) == self.slot_number(target.cell):
            source = self.copied(source)
        saved = self.copied(target)
        self.elementwise("assign", [source, saved], target.shape, target)

    def scatter_assign(self, target: View, source: View, positions: View, reach: tuple[int, int]) -> None:
        """Overwrite the runs of cells `positions` after the first of `target` with `source`'s, keeping what they held.

        Source and positions are contiguous, and a run goes to each position, all as long; low <= position < high of `reach`.
        """
        self.roots.clear()  # of what is written now
        saved = self.new_slot(source.shape, self.is_active(target))
        words = (positions.size, *reach, source.size // max(positions.size, 1) or 1)
        self.structural("scatter_assign", [source, positions, saved], View(target.cell, (), ()), words, 0)

    def packed(self, views: list[View], size: int) -> View:
        """Return a new slot with the cells of all these views, one after the other."""
        out = self.new_slot((size,))
        at = out.cell
        for view in views:
            if view.size:
                self.elementwise("copy", [view], view.shape, View(at, view.shape, contiguous(view.shape)))
            at += view.size
        if not size:
            self.elementwise("zero", [], (1,), View(out.cell, (1,), (1,)))
        return out

    def loop(self, loop: loops.Loop, packs: loops.Packs, first: list[View], xs: list[View], ss: View | None) -> dict:
        """Write a loop instruction (see `compiled.lists.loops`); returns the views of what it computes, by `packs`' names."""
        operands = [self.packed(first, packs.sizes[0]), self.packed(xs, packs.sizes[1]), ss or self.packed([], 0)]
        out = self.new_slot((packs.sizes[3],))
        self.structural("loop", operands, out, loop.words(), packs.sizes[3])
        views = {name: [View(out.cell + cell, shape, contiguous(shape)) for cell, shape in getattr(packs, name)]
                 for name in ("last", "sums", "y", "rows")}
        views["ran"] = [View(out.cell + packs.ran, (), ())] if packs.ran is not None else []
        return views

    def call(self, call: Call, operands: list[View]) -> list[View]:
        """Write a call instruction (see `compiled.lists.calls`); returns the views of its results."""
        sizes = call.sizes
        pack = self.packed(operands, sizes[0])
        out = self.new_slot((sizes[1],))
        self.structural("call", [pack], out, CallWords(*sizes, len(self.bodies)), sizes[1])
        self.bodies.append(call)
        return call.results(out.cell)

    def guard(self, view: View) -> np.ndarray:
        """Return the cells' values now, and record that a replay must find the same ones."""
        if self.without_values:
            raise NotDifferentiable("{}:{}: a Python branch, index or loop bound on a recorded value inside the body of a loop "
                                    "would be decided once for all steps; use tape.where or tape.cond".format(*user_line()))
        if view.strides != contiguous(view.shape):
            view = self.copied(view)
        values = self.value(view).copy()
        self.outcomes.append(values.tobytes())
        self.structural("guard", [view, self.constant(values)], None, (view.size,), 0)
        self.executed = self.memory.length
        return values

    # ------------------------------------------------------------------ values

    def value(self, view: View) -> np.ndarray:
        """Run what was recorded so far, and return the cells as an array that shares the buffer."""
        memory = self.memory
        if self.executed < memory.length:
            status = loops.forward(self.engine, self, memory.values, self.executed, memory.length)
            if status >= 0:
                raise_status(status, self.program([]))
            self.executed = memory.length
        return view.of(memory.values)

    def program(self, outputs: list[View]) -> Program:
        """Return the list as recorded so far, as a program; constants keep their cells, all else is zero."""
        memory = self.memory
        code = memory.code[: memory.length].copy()
        values = np.zeros(memory.cells, self.dtype)
        for number in self.constants:
            cell, shape = memory.slots[number]
            size = math.prod(shape)
            values[cell : cell + size] = memory.values[cell : cell + size]
        lines = [f"{name}:{line}" for name, line in self.lines]
        program = Program(code, memory.geometry[: memory.words].copy(), values, list(memory.slots), list(self.inputs),
                          list(self.constants), outputs, lines, self.table, tuple(self.bodies))
        if len(code):
            code[:, FLAGS] = live_flags(program)
        return program


def _undefined(row, k):
    return NotDifferentiable(f"{row.name}: no derivative to operand {k + 1}, which is being differentiated; expected a "
                             "constant: a number, an argument that is not differentiated, or tape.stop_gradient of it")


def refuse_subclass(array) -> None:
    """Raise NotDifferentiable for masked arrays, matrices and other kinds of arrays with rules of their own."""
    # By `issubclass`, as `isinstance` asks recorded arrays for the class that the user is to see.
    if type(array) not in PLAIN_ARRAYS and issubclass(type(array), np.ndarray):
        raise NotDifferentiable("{}:{}: an array of type {}, whose rules are not those of plain arrays; expected a plain one: "
                                "{}".format(*user_line(), type(array).__name__, _plain_of(array)))


def _plain_of(array):
    if isinstance(array, np.ma.MaskedArray):
        return "say x.filled(0.0), or np.where(np.ma.getmaskarray(x), 0.0, x.data), with the filling that is meant"
    return "say np.asarray(x)"


PLAIN_ARRAYS = (np.ndarray, np.memmap)
"""Types of arrays that compute as ndarray does."""


def check_integers(array: np.ndarray, dtype) -> None:
    """Raise OverflowError unless the integers of `array` are exact in a list of `dtype`."""
    if array.dtype.kind in "iu" and array.size:
        exact = 2 ** (np.finfo(dtype).nmant + 1)
        largest = max(int(array.max()), -int(array.min()))
        if largest > exact:
            raise OverflowError(f"integers of a {dtype} list are exact up to {exact}, got {largest}; "
                                f"{'use float64 arguments' if dtype == np.float32 else 'reduce them first'}")


def failed_guard(status: int, program: Program) -> int:
    """The number of the guard at which a sweep stopped; raises what else its status says, naming the user's line."""
    number, code = instruction_and_code(status)
    if code == GUARD_FAILED:
        return number
    assert code == INDEX_ERROR
    raise IndexError(f"an index is out of bounds for its array, in instruction {number}: {program.instruction_text(number)}")


def raise_status(status: int, program: Program) -> None:
    """Raise what the status of a sweep that stopped says, naming the instruction and the user's line."""
    guard = failed_guard(status, program)
    raise AssertionError(f"a guard failed while recording: {program.instruction_text(guard)}")


def terms_of_each(shape, out: View) -> int:
    """How many of an iteration space's points go to one cell of a view, at most."""
    return math.prod(n for n, step in zip(shape, broadcast_strides(out, shape), strict=True) if not step)


def broadcast_shape(shapes) -> tuple[int, ...]:
    """The shape that `shapes` broadcast to."""
    first, *others = shapes
    for other in others:
        if other != first and other != ():
            return np.broadcast_shapes(*shapes)
    return first if first != () or not others else max(shapes, key=len)
