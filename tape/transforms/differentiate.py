"""Symbol to symbol: the derivative of a recorded stretch of a list, recorded on the same list.

The table's own rules are called with recorded arrays, so the result can be differentiated again, to any order. Adjoints
(tangents) belong to slots and to the inputs named, so nested derivatives cannot be confused.
"""

from __future__ import annotations

import contextlib
import math

import numpy as np

from compiled.lists.program import iteration_space
from compiled.table.layout import LINE, OPCODE, OPERAND, OUT, OUTPUT, SPACE
from compiled.table.numbers import is_constant, plus, product
from compiled.table.structural.extents import span
from compiled.table.views import View, broadcast_strides, contiguous
from tape.recording.arrays import RecordedArray, record
from tape.recording.recorder import Recorder

REVERSE: dict = {}
"""Instruction → `pull(stretch, i)`, where its row has none: whoever runs loops and calls says how they are differentiated."""

FORWARD: dict = {}
"""Instruction → `push(stretch, i)`; as `REVERSE`."""


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
            if row.structural and row.scratch is not None and self._slot(OUTPUT, i) in self.active:
                self.active.add(self._slot(OPERAND + row.scratch, i))
        self.buddies: dict[int, View] = {}
        self.stop, self.slots = stop, len(recorder.memory.slots)
        self.kept: dict[int, View] = {}
        self.notes: dict = {}  # by instruction: what its row's derivative has found out
        self._first_use: dict[int, int] | None = None  # by slot
        self.results: list[View] = []  # those that are differentiated
        # Where somebody asks: NaN where an adjoint that is not finite met a partial of 0, which leaves no trace in the results.
        self.watched, self.witness = False, 0.0
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
        return self.recorder.table.rows[self.code[i, OPCODE]]

    def line(self, i) -> int | None:
        """The line of instruction i, and of its derivatives; None for a call, whose rule is code with lines."""
        return None if self.row(i).name == "call" else int(self.code[i, LINE])

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
        return np.flatnonzero(self._overwrites(self.code)).tolist()

    def _overwrites(self, code) -> np.ndarray:
        """Whether each of these instructions overwrites cells."""
        return np.array([row.overwrites for row in self.recorder.table.rows])[code[:, OPCODE]]

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
        row = self.row(i)
        if row.structural:
            self.kept[i] = row.undo(self, i)
        else:
            _, saved, _, out = self.views(i)
            self.recorder.assign(out, saved)
            self.kept[i] = self.kept_by_last(out.shape, 1)

    def kept_by_last(self, shape, operand) -> View:
        """What the assignment just recorded has overwritten."""
        memory = self.recorder.memory
        return View(int(memory.code[memory.length - 1, OPERAND + operand]), shape, contiguous(shape))

    def redo(self, i) -> None:
        """Undo `undo`.

        Running the assignment itself again would not do: since then something may have been accumulated in its cells.
        """
        kept, row = self.kept.pop(i), self.row(i)
        if row.structural:
            row.redo(self, i, kept)
        else:
            self.recorder.assign(self.views(i)[OUT], kept)

    @contextlib.contextmanager
    def as_it_ended(self):
        """Take back what was assigned after the stretch to cells that it may have used, for the time of a `with` block.

        A pullback may be called long after the stretch was recorded.
        """
        recorder, begin = self.recorder, self.recorder.memory.length
        later = recorder.memory.code[self.stop : begin]
        found = self._overwrites(later)
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

    def constant(self, view: View) -> np.ndarray | None:
        """What a view holds where that is a constant, else None."""
        is_constant = self.recorder.slot_number(view.cell) in self.recorder.constants
        return view.of(self.recorder.memory.values) if is_constant else None


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
    last = stretch.line(len(stretch.code) - 1) if len(stretch.code) else None
    with stretch.as_it_ended(), stretch.recorder.of_line(last):
        return _pulled_back(stretch, outputs, seeds)


def _pulled_back(stretch, outputs, seeds):
    recorder = stretch.recorder
    stretch.buddies, stretch.results = {}, list(outputs)
    for view, seed in zip(outputs, seeds, strict=True):
        if recorder.slot_number(view.cell) in stretch.active:
            stretch.add(stretch.buddy(view), seed)
    for i in range(len(stretch.code) - 1, -1, -1):
        row = stretch.row(i)
        recorder.line = stretch.line(i)
        if row.output and recorder.slot_number(stretch.cell(OUTPUT, i)) in stretch.buddies:
            (row.pull or REVERSE[row.name] if row.structural else _reverse_elementwise)(stretch, i)
        if row.overwrites and stretch.is_used_before(i):
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
            found = partial(*arrays)
            contribution = product(stretch.recorder.table, adjoint, found)
            if stretch.watched and k not in row.selects and not is_constant(found):
                met = _RuleNumber.apply("where", (_RuleNumber.apply("eq", (found, 0.0)), adjoint - adjoint, 0.0))
                stretch.witness = plus(stretch.witness, np.sum(met))
            if not (isinstance(contribution, float) and contribution == 0.0):
                stretch.add(stretch.buddy(operands[k]), contribution)


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
    with stretch.as_it_ended(), stretch.recorder.of_line(None):
        return _pushed_forward(stretch, outputs, tangents)


def _pushed_forward(stretch, outputs, tangents):
    stretch.buddies = {}
    for i in reversed(stretch.overwriting()):
        stretch.undo(i)
    for view, tangent in zip(stretch.inputs, tangents, strict=True):
        stretch.add(stretch.buddy(view), tangent)
    for i in range(len(stretch.code)):
        row = stretch.row(i)
        stretch.recorder.line = stretch.line(i)
        if row.output and stretch._slot(OUTPUT, i) in stretch.active:
            (row.push or FORWARD[row.name] if row.structural else _forward_elementwise)(stretch, i)
        if row.overwrites:
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
            total = plus(total, product(stretch.recorder.table, tangent, partial(*arrays)))
    target = stretch.array(stretch.buddy(out))
    if row.accumulates:
        stretch.add(target.view, total)
    elif row.overwrites or not isinstance(total, float):
        target[...] = total
