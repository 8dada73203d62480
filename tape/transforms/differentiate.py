"""Symbol to symbol: the derivative of a recorded stretch of a list, recorded on the same list.

The table's own rules are called with recorded arrays, so the result can be differentiated again, to any order. Adjoints
(tangents) belong to slots and to the inputs named, so nested derivatives cannot be confused.
"""

from __future__ import annotations

import contextlib
import math

import numpy as np

from compiled.lists.memory import View, broadcast_strides, contiguous
from compiled.lists.program import iteration_space
from compiled.table.instructions import TABLE
from compiled.table.layout import OPCODE, OPERAND, OUT, OUTPUT, SPACE
from compiled.table.numbers import plus, share
from compiled.table.structural.extents import span
from tape.recording.arrays import RecordedArray, record
from tape.recording.recorder import Recorder

OVERWRITING = ("assign", "scatter_assign")
"""Instructions that overwrite cells."""


def _overwrites(code) -> np.ndarray:
    """Whether each instruction overwrites cells."""
    return np.isin(code[:, OPCODE], [TABLE.opcode[name] for name in OVERWRITING])


class _RuleNumber(RecordedArray):
    """A recorded array as rules read it: comparisons are numbers of the list's dtype, not booleans, which NumPy promotes."""

    __slots__ = ()

    @staticmethod
    def apply(name, operands):
        result = record(name, operands)
        return _RuleNumber(result.recorder, result.view, result.recorder.dtype)


class Stretch:
    """Instructions start to stop of a recorder's list, and what depends on given inputs there.

    Parameters
    ----------
    recorder : Recorder
        Whose list it is; derivatives are written at its end.
    start, stop : int
        Numbers of instructions.
    inputs : list of View
        Whole slots, with respect to which derivatives are taken.
    """

    def __init__(self, recorder: Recorder, start: int, stop: int, inputs: list[View]):
        self.recorder = recorder
        self.code = recorder.memory.code[start:stop].copy()
        self.geometry = recorder.memory.geometry
        self.inputs = inputs
        self.active = {recorder.slot_number(view.cell) for view in inputs}
        for i in range(len(self.code)):
            row = self.row(i)
            if any(self.differentiable(row, k) and self._slot(OPERAND + k, i) in self.active for k in range(row.arity)):
                self.active.add(self._slot(OUTPUT, i))
            if row.name == "scatter_assign" and self._slot(OUTPUT, i) in self.active:
                self.active.add(self._slot(OPERAND + 2, i))
        self.buddies: dict[int, View] = {}
        self.stop, self.slots = stop, len(recorder.memory.slots)
        self.kept: dict[int, View] = {}
        self._distinct: dict[int, bool] = {}  # by instruction
        self._first_use: dict[int, int] | None = None  # by slot
        self.results: list[View] = []  # those that are differentiated
        # Ranges of the list, after the stretch, that in the end change nothing: its derivatives.
        self.neutral: list[tuple[int, int]] = []

    def is_read(self, i, view: View) -> bool:
        """Whether a step after i, or who takes the results, reads cells of the view (a contiguous part of a loop's output).

        Compared are all the cells that are read, not the first ones: a view that begins before this one may reach into it.
        """
        low, high = view.cell, view.cell + view.size
        return any(first < high and low <= last for first, last in self._reads_after(i, view))

    def _reads_after(self, i, view: View):
        """First and last cell of each view of the slot of `view` that steps after i, or the results, read."""
        number = self.recorder.slot_number(view.cell)
        start, shape = self.recorder.memory.slots[number]
        operands = self.code[i + 1 :, OPERAND : OPERAND + OUT]
        for step, k in np.argwhere((operands >= start) & (operands < start + math.prod(shape))).tolist():
            reach = self._reach(i + 1 + step, k)
            if reach is not None:
                yield int(operands[step, k]) + reach[0], int(operands[step, k]) + reach[1]
        for result in self.results:
            reach = span(result.shape, result.strides)
            if reach is not None and self.recorder.slot_number(result.cell) == number:
                yield result.cell + reach[0], result.cell + reach[1]

    def _reach(self, i, k):
        """Lowest and highest cell of operand k of instruction i, relative to its first; None where it reads none."""
        row = self.row(i)
        if k >= row.arity:
            return None
        if row.structural:
            return row.extents(self.words(i))[k]
        shape, strides = iteration_space(self.code[i], self.geometry)
        return span(shape, strides[k])

    def row(self, i):
        """Row of instruction i of the stretch."""
        return TABLE.rows[self.code[i, OPCODE]]

    @staticmethod
    def differentiable(row, k) -> bool:
        """Whether a derivative flows to operand k."""
        return row.differentiable[k] if row.structural else row.partials[k] is not None

    def _slot(self, column, i):
        return self.recorder.slot_number(int(self.code[i, column]))

    def is_active(self, k, i) -> bool:
        """Whether operand k of instruction i depends on the inputs."""
        return self.differentiable(self.row(i), k) and self._slot(OPERAND + k, i) in self.active

    def buddy(self, view: View) -> View:
        """The same view in the adjoint (or tangent) of its slot, which starts as zero."""
        number = self.recorder.slot_number(view.cell)
        if number not in self.buddies:
            self.buddies[number] = self.recorder.zeros(self.recorder.memory.slots[number][1])
        offset = view.cell - self.recorder.memory.slots[number][0]
        return View(self.buddies[number].cell + offset, view.shape, view.strides)

    def views(self, i) -> list[View]:
        """The four views of an elementwise instruction over its iteration space."""
        shape, strides = iteration_space(self.code[i], self.geometry)
        cells = [*self.code[i, OPERAND : OPERAND + OUT], self.code[i, OUTPUT]]
        return [View(int(cell), shape, s) for cell, s in zip(cells, strides, strict=True)]

    def array(self, view: View) -> RecordedArray:
        """The view as a recorded array of the list's dtype."""
        return RecordedArray(self.recorder, view, self.recorder.dtype)

    def rule_numbers(self, views) -> list[_RuleNumber]:
        """The views as what rules compute with."""
        return [_RuleNumber(self.recorder, view, self.recorder.dtype) for view in views]

    def words(self, i) -> np.ndarray:
        """What the kernels of structural instruction i read."""
        return self.geometry[int(self.code[i, SPACE]) + 2 :]

    def cell(self, column, i) -> int:
        """First cell of an operand or of the output."""
        return int(self.code[i, column])

    def add(self, target: View, contribution) -> None:
        """target += contribution, over the space of the target's shape."""
        recorder = self.recorder
        source = contribution.view if isinstance(contribution, RecordedArray) else recorder.constant(contribution)
        recorder.elementwise("accumulate", [View(source.cell, target.shape, broadcast_strides(source, target.shape))],
                             target.shape, target)

    # ------------------------------------------------------------------ assignments: going back, and forth again

    def overwriting(self) -> list[int]:
        """Instructions that overwrite cells."""
        return np.flatnonzero(_overwrites(self.code)).tolist()

    def is_used_before(self, i) -> bool:
        """Whether an instruction before i, in its derivative, may look at cells of the slot that assignment i overwrote."""
        if self._first_use is None:
            self._first_use = {}
            for j in range(len(self.code)):
                row = self.row(j)
                seen = [self._slot(OPERAND + k, j) for k in range(row.arity)]
                for slot in seen if row.name in ("zero", "copy") else [*seen, self._slot(OUTPUT, j)]:
                    self._first_use.setdefault(slot, j)
        return self._first_use.get(self._slot(OUTPUT, i), i) < i

    def undo(self, i) -> None:
        """Put back what assignment i overwrote; what stands there now is kept for `redo`."""
        row, recorder = self.row(i), self.recorder
        if row.name == "assign":
            _, saved, _, out = self.views(i)
            recorder.assign(out, saved)
            shape, operand = out.shape, 1
        else:
            saved = self._direct(OPERAND + 2, i)
            back = self.backward(i)
            self._put(i, saved[back], self._positions(i)[back])
            shape, operand = saved.shape, 2
        self.kept[i] = self.kept_by_last(shape, operand)

    def kept_by_last(self, shape, operand) -> View:
        """What the assignment just recorded has overwritten."""
        memory = self.recorder.memory
        return View(int(memory.code[memory.length - 1, OPERAND + operand]), shape, contiguous(shape))

    def redo(self, i) -> None:
        """Undo `undo`.

        Running the assignment itself again would not do: since then something may have been accumulated in its cells.
        """
        kept = self.kept.pop(i)
        if self.row(i).name == "assign":
            self.recorder.assign(self.views(i)[OUT], kept)
        else:
            self._put(i, self.array(kept)[self.backward(i)], self._positions(i))

    @contextlib.contextmanager
    def as_it_ended(self):
        """Take back what was assigned after the stretch to cells that it may have used, for the time of a `with` block.

        A pullback may be called long after the stretch was recorded.
        """
        recorder, begin = self.recorder, self.recorder.memory.length
        later = recorder.memory.code[self.stop : begin]
        found = _overwrites(later)
        if found.any():
            for start, stop in self.neutral:
                found[start - self.stop : stop - self.stop] = False
            found[[recorder.slot_number(int(cell)) >= self.slots for cell in later[:, OUTPUT]]] = False
        numbers = np.flatnonzero(found).tolist()
        tail = Stretch(recorder, self.stop, begin, []) if numbers else None
        for i in reversed(numbers):
            tail.undo(i)
        yield
        for i in numbers:
            tail.redo(i)
        self.neutral.append((begin, recorder.memory.length))

    def has_distinct_positions(self, i) -> bool:
        """Whether the positions of instruction i are constants, all different."""
        if self._slot(OPERAND + 1, i) not in self.recorder.constants:
            return False
        if i not in self._distinct:
            positions = self._positions(i).view.of(self.recorder.memory.values)
            self._distinct[i] = len(np.unique(positions)) == len(positions)
        return self._distinct[i]

    def backward(self, i) -> slice:
        """The order in which what scatter_assign i overwrote is put back: the last of equal positions first."""
        return slice(None, None, 1 if self.has_distinct_positions(i) else -1)

    def _direct(self, column, i) -> RecordedArray:
        count = int(self.words(i)[0])
        return self.array(View(self.cell(column, i), (count,), (1,)))

    def _positions(self, i) -> RecordedArray:
        return self._direct(OPERAND + 1, i)

    def _put(self, i, values, positions, target: View | None = None) -> None:
        recorder = self.recorder
        low, high = (int(w) for w in self.words(i)[1:3])
        source, where = (x.view if x.view.strides == contiguous(x.shape) else recorder.copied(x.view)
                         for x in (values, positions))
        if target is None:
            target = View(self.cell(OUTPUT, i), (), ())
        recorder.scatter_assign(target, source, where, (low, high))


def pull_back(stretch: Stretch, outputs: list[View], seeds: list) -> list[RecordedArray]:
    """Record the adjoints of the stretch's inputs, given those of its outputs.

    Parameters
    ----------
    stretch : Stretch
        What to differentiate; it may be pulled back any number of times.
    outputs : list of View
        Results of the stretch.
    seeds : list of array
        Their adjoints, plain or recorded.

    Returns
    -------
    list of RecordedArray
        One for each of the stretch's inputs, of its shape.
    """
    if stretch.recorder.memory.length > stretch.stop:
        # A seed may be a view of cells that are taken back for a while.
        seeds = [seed.copy() if isinstance(seed, RecordedArray) else seed for seed in seeds]
    with stretch.as_it_ended():
        return _pulled_back(stretch, outputs, seeds)


def _pulled_back(stretch, outputs, seeds):
    recorder = stretch.recorder
    stretch.buddies, stretch.results = {}, list(outputs)
    for view, seed in zip(outputs, seeds, strict=True):
        if recorder.slot_number(view.cell) in stretch.active:
            stretch.add(stretch.buddy(view), seed)
    for i in range(len(stretch.code) - 1, -1, -1):
        row = stretch.row(i)
        if recorder.slot_number(stretch.cell(OUTPUT, i)) in stretch.buddies and row.name != "guard":
            (REVERSE[row.name] if row.structural else _reverse_elementwise)(stretch, i)
        if row.name in OVERWRITING and stretch.is_used_before(i):
            stretch.undo(i)
    for i in stretch.overwriting():
        if i in stretch.kept:
            stretch.redo(i)
    return [stretch.array(stretch.buddy(view)) for view in stretch.inputs]


def _reverse_elementwise(stretch, i):
    row = stretch.row(i)
    *operands, out = stretch.views(i)
    adjoint = stretch.array(stretch.buddy(out))
    if row.overwrites:
        taken = stretch.array(stretch.recorder.copied(adjoint.view))
        adjoint[...] = 0.0
        adjoint = taken
    arrays = stretch.rule_numbers([*operands[: row.arity], out])
    for k, partial in enumerate(row.partials):
        if stretch.is_active(k, i):
            contribution = share(TABLE, row, k, adjoint, partial(*arrays))
            if not (isinstance(contribution, float) and contribution == 0.0):
                stretch.add(stretch.buddy(operands[k]), contribution)


def _reverse_gather(stretch, i):
    recorder = stretch.recorder
    count, low, high = (int(w) for w in stretch.words(i)[:3])
    if not stretch.is_active(0, i):
        return
    adjoint = stretch.buddy(View(stretch.cell(OUTPUT, i), (count,), (1,)))
    base = stretch.buddy(View(stretch.cell(OPERAND, i), (), ()))
    positions = View(stretch.cell(OPERAND + 1, i), (count,), (1,))
    recorder.structural("scatter_add", [adjoint, positions], base, (count, low, high), 0)


def _gathered(stretch, i, base: View) -> RecordedArray:
    """The elements of `base` at the positions of instruction i."""
    count, low, high = (int(w) for w in stretch.words(i)[:3])
    out = stretch.recorder.new_slot((count,))
    positions = View(stretch.cell(OPERAND + 1, i), (count,), (1,))
    stretch.recorder.structural("gather", [base, positions], out, (count, low, high), count)
    return stretch.array(out)


def _reverse_scatter_add(stretch, i):
    if stretch.is_active(0, i):
        adjoint = stretch.buddy(View(stretch.cell(OUTPUT, i), (), ()))
        count = int(stretch.words(i)[0])
        stretch.add(stretch.buddy(View(stretch.cell(OPERAND, i), (count,), (1,))), _gathered(stretch, i, adjoint))


def _reverse_scatter_assign(stretch, i):
    count = int(stretch.words(i)[0])
    target = stretch.buddy(View(stretch.cell(OUTPUT, i), (), ()))
    adjoint = _gathered(stretch, i, target)
    if stretch.is_active(0, i) and stretch.has_distinct_positions(i):
        stretch.add(stretch.buddy(View(stretch.cell(OPERAND, i), (count,), (1,))), adjoint)
    elif stretch.is_active(0, i):
        # Of equal positions only the last one wrote: number the writers, write the numbers, see which are left.
        slot_cell, shape = stretch.recorder.memory.slots[stretch.recorder.slot_number(stretch.cell(OUTPUT, i))]
        marks = stretch.recorder.zeros(shape)
        first = View(marks.cell + stretch.cell(OUTPUT, i) - slot_cell, (), ())
        numbers = stretch.array(stretch.recorder.constant(np.arange(count)))
        stretch._put(i, numbers, stretch._positions(i), first)
        last = _gathered(stretch, i, first) == numbers
        stretch.add(stretch.buddy(View(stretch.cell(OPERAND, i), (count,), (1,))), np.where(last, adjoint, 0.0))
    # What was overwritten lives on in the saved cells; the first of equal positions saved what stood there before.
    saved = stretch.array(stretch.buddy(View(stretch.cell(OPERAND + 2, i), (count,), (1,))))
    back = stretch.backward(i)
    stretch._put(i, saved[back], stretch._positions(i)[back], target)


def _matmul_views(stretch, i):
    """The three matrices of a matmul as views with their batch axes."""
    words = [int(w) for w in stretch.words(i)[:10]]
    ndim, m, k, n = words[:4]
    batch = [int(w) for w in stretch.words(i)[10 : 10 + 4 * ndim]]
    shape = tuple(batch[:ndim])
    cells = [stretch.cell(OPERAND, i), stretch.cell(OPERAND + 1, i), stretch.cell(OUTPUT, i)]
    views = []
    for number, matrix in enumerate(((m, k), (k, n), (m, n))):
        strides = tuple(batch[ndim * (number + 1) : ndim * (number + 2)])
        views.append(View(cells[number], shape + matrix, strides + tuple(words[4 + 2 * number : 6 + 2 * number])))
    return views


def _reverse_matmul(stretch, i):
    a, b, out = _matmul_views(stretch, i)
    adjoint = stretch.array(stretch.buddy(out))
    if stretch.is_active(0, i):
        stretch.add(stretch.buddy(a), adjoint @ np.swapaxes(stretch.array(b), -1, -2))
    if stretch.is_active(1, i):
        stretch.add(stretch.buddy(b), np.swapaxes(stretch.array(a), -1, -2) @ adjoint)


def _amax_views(stretch, i):
    """Operand and output of an amax over one space, the axis of the operand's smallest step last, and the reduced axes."""
    words = [int(w) for w in stretch.words(i)[:3]]
    kept, reduced = words[1:]
    rest = [int(w) for w in stretch.words(i)[3 : 3 + 2 * (kept + reduced)]]
    shape, strides = rest[: kept + reduced], rest[kept + reduced :]
    order = sorted(range(kept + reduced), key=lambda axis: -abs(strides[axis]))
    out = [*contiguous(tuple(shape[:kept])), *(0,) * reduced]
    views = [View(stretch.cell(column, i), tuple(shape[k] for k in order), tuple(steps[k] for k in order))
             for column, steps in ((OPERAND, strides), (OUTPUT, out))]
    return *views, tuple(at for at, axis in enumerate(order) if axis >= kept)


def _ties(stretch, operand, out):
    """1 for each element that is the extreme, 0 for the others."""
    return stretch.array((stretch.array(operand) == stretch.array(out)).view)


def _reverse_amax(stretch, i):
    if stretch.is_active(0, i):
        operand, out, axes = _amax_views(stretch, i)
        ties = _ties(stretch, operand, out)
        adjoint = stretch.array(stretch.buddy(_reduced(out, axes))) / np.sum(ties, axis=axes)
        stretch.add(stretch.buddy(operand), ties * np.expand_dims(adjoint, axes))


def _reduced(view, axes):
    """The view without some of its axes."""
    left = [k for k in range(len(view.shape)) if k not in axes]
    return View(view.cell, tuple(view.shape[k] for k in left), tuple(view.strides[k] for k in left))


REVERSE = {"gather": _reverse_gather, "scatter_add": _reverse_scatter_add, "scatter_assign": _reverse_scatter_assign,
            "matmul": _reverse_matmul, "amax": _reverse_amax}


def push_forward(stretch: Stretch, outputs: list[View], tangents: list) -> list[RecordedArray]:
    """Record the tangents of the stretch's outputs, given those of its inputs.

    Parameters
    ----------
    stretch : Stretch
        What to differentiate.
    outputs : list of View
        Results of the stretch.
    tangents : list of array
        One for each of the stretch's inputs, plain or recorded.
    """
    with stretch.as_it_ended():
        return _pushed_forward(stretch, outputs, tangents)


def _pushed_forward(stretch, outputs, tangents):
    stretch.buddies = {}
    for i in reversed(stretch.overwriting()):
        stretch.undo(i)
    for view, tangent in zip(stretch.inputs, tangents, strict=True):
        stretch.add(stretch.buddy(view), tangent)
    for i in range(len(stretch.code)):
        row = stretch.row(i)
        if stretch._slot(OUTPUT, i) in stretch.active and row.name != "guard":
            (FORWARD[row.name] if row.structural else _forward_elementwise)(stretch, i)
        if row.name in OVERWRITING:
            stretch.redo(i)
    return [stretch.array(stretch.buddy(view)) for view in outputs]


def _forward_elementwise(stretch, i):
    row = stretch.row(i)
    *operands, out = stretch.views(i)
    arrays = stretch.rule_numbers([*operands[: row.arity], out])
    total = 0.0
    for k, partial in enumerate(row.partials):
        if stretch.is_active(k, i):
            # An overwritten cell's value is not yet there, but the partial of an assignment is constant.
            tangent = stretch.array(stretch.buddy(operands[k]))
            total = plus(total, share(TABLE, row, k, tangent, partial(*arrays)))
    target = stretch.array(stretch.buddy(out))
    if row.accumulates:
        stretch.add(target.view, total)
    elif row.overwrites or not isinstance(total, float):
        target[...] = total


def _forward_gather(stretch, i):
    count = int(stretch.words(i)[0])
    base = stretch.buddy(View(stretch.cell(OPERAND, i), (), ()))
    out = stretch.array(stretch.buddy(View(stretch.cell(OUTPUT, i), (count,), (1,))))
    out[...] = _gathered(stretch, i, base)


def _forward_scatter_add(stretch, i):
    if stretch.is_active(0, i):
        count, low, high = (int(w) for w in stretch.words(i)[:3])
        tangent = stretch.buddy(View(stretch.cell(OPERAND, i), (count,), (1,)))
        positions = View(stretch.cell(OPERAND + 1, i), (count,), (1,))
        target = stretch.buddy(View(stretch.cell(OUTPUT, i), (), ()))
        stretch.recorder.structural("scatter_add", [tangent, positions], target, (count, low, high), 0)


def _forward_scatter_assign(stretch, i):
    count = int(stretch.words(i)[0])
    tangent = stretch.array(stretch.buddy(View(stretch.cell(OPERAND, i), (count,), (1,))))
    stretch._put(i, tangent, stretch._positions(i), stretch.buddy(View(stretch.cell(OUTPUT, i), (), ())))
    # The tangents that were overwritten are those of the saved cells, which a derivative inside the stretch reads.
    overwritten = stretch.array(stretch.kept_by_last((count,), 2))
    stretch.array(stretch.buddy(View(stretch.cell(OPERAND + 2, i), (count,), (1,))))[...] = overwritten


def _forward_matmul(stretch, i):
    a, b, out = _matmul_views(stretch, i)
    target = stretch.array(stretch.buddy(out))
    if stretch.is_active(0, i):
        stretch.add(target.view, stretch.array(stretch.buddy(a)) @ stretch.array(b))
    if stretch.is_active(1, i):
        stretch.add(target.view, stretch.array(a) @ stretch.array(stretch.buddy(b)))


def _forward_amax(stretch, i):
    operand, out, axes = _amax_views(stretch, i)
    ties = _ties(stretch, operand, out)
    total = np.sum(stretch.array(stretch.buddy(operand)) * ties, axis=axes) / np.sum(ties, axis=axes)
    stretch.array(stretch.buddy(_reduced(out, axes)))[...] = total


FORWARD = {"gather": _forward_gather, "scatter_add": _forward_scatter_add, "scatter_assign": _forward_scatter_assign,
            "matmul": _forward_matmul, "amax": _forward_amax}
