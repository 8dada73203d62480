"""A list taken apart into steps that passes can rewrite, and put together again as a program.

What is here: `Listing` and its steps, in which cells are named by slot and offset, so that a slot can be replaced by another.
What is not: the passes (`tape.transforms`), and how lists become machine code (`native`).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from compiled.lists.calls import CallWords
from compiled.lists.loops import Loop
from compiled.lists.memory import ListMemory
from compiled.lists.program import Program, live_flags
from compiled.table.layout import ACCUMULATES, FLAGS, LINE, OPCODE, OPERAND, OPERANDS, OUT, OUTPUT, SCALAR, SPACE
from compiled.table.views import View, contiguous


class Ref(NamedTuple):
    """A cell by its slot and its place there."""

    slot: int
    offset: int


class Space(NamedTuple):
    """The iteration space of an elementwise step: its shape, and the strides of the three operands and of the output."""

    shape: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]


class Block(NamedTuple):
    """The words of a structural step (see `compiled.table.structural`)."""

    owned: int
    words: tuple[int, ...]


POINT = Space((), ((),) * (OPERANDS + 1))
"""The space of a step whose operands are single cells."""


class Step:
    """One instruction.

    Attributes
    ----------
    row : Row or StructuralRow
        What it does.
    operands : tuple of Ref
        First cells of its operands.
    out : Ref or None
        First cell of its output; None for a guard.
    space : Space or Block
        Its geometry.
    line : int
        Where it was recorded, a number in the listing's lines.
    """

    __slots__ = ("line", "operands", "out", "row", "space")

    def __init__(self, row, operands, out, space, line):
        self.row, self.operands, self.out, self.space, self.line = row, operands, out, space, line

    def reads(self) -> list[int]:
        """Slots whose cells the step reads, without the output it adds to."""
        names = [ref.slot for ref in self.operands]
        if self.row.name == "assign":
            return names[:1]  # the second operand is what the reverse sweep needs
        if self.row.structural and self.row.scratch is not None:
            del names[self.row.scratch]
        return names

    def writes(self) -> list[int]:
        """Slots of which the step writes cells."""
        names = [self.out.slot] if self.out is not None else []
        if self.row.structural and self.row.scratch is not None:
            names.append(self.operands[self.row.scratch].slot)
        return names


class Result(NamedTuple):
    """A result of the list: some cells of a slot as an array."""

    ref: Ref
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class Listing:
    """A list as steps.

    Attributes
    ----------
    steps : list of Step
        In order.
    shapes : list of tuple of int
        Of each slot, by its number.
    constants : dict of int to ndarray
        Contents of the slots that hold constants.
    inputs : list of int
        Slots of the arguments.
    active : set of int
        Those of the inputs that are differentiated.
    outputs : list of Result
        Where the results are.
    bodies : sequence of Program or Call
        Of the loops (see `loops.py`) and of the calls (see `calls.py`), by number.
    """

    def __init__(self, dtype, table, shapes, constants, inputs, active, outputs, lines, steps, bodies=()):
        self.dtype, self.table, self.shapes, self.constants = dtype, table, shapes, constants
        self.inputs, self.active, self.outputs, self.lines, self.steps = inputs, active, outputs, lines, steps
        self.bodies = bodies

    @classmethod
    def of(cls, program: Program) -> Listing:
        """Take a program apart."""
        code, geometry = program.code, program.geometry
        spaces: dict[int, Any] = {SCALAR: POINT}
        cells = code[:, OUTPUT : OPERAND + OPERANDS]
        slots = program.slot_of(cells)
        offsets = (cells - program.starts[slots]).tolist() if len(code) else []
        slots = slots.tolist()
        rows, steps = program.table.rows, []
        for i, (opcode, space) in enumerate(code[:, [OPCODE, SPACE]].tolist()):
            row = rows[opcode]
            geometry_here = spaces.get((space, row.structural) if row.structural else space)
            if geometry_here is None:
                geometry_here = _space_at(geometry, space, row)
                spaces[(space, row.structural) if row.structural else space] = geometry_here
            refs = tuple(Ref(slots[i][k + 1], offsets[i][k + 1]) for k in range(row.arity))
            out = Ref(slots[i][0], offsets[i][0]) if row.output else None
            steps.append(Step(row, refs, out, geometry_here, int(code[i, LINE])))
        inputs = [int(program.slot_of(view.cell)) for view in program.inputs]
        active = set()
        for k in range(OPERANDS):
            flagged = code[:, FLAGS] & (1 << k) != 0
            active.update(program.slot_of(code[flagged, OPERAND + k]).tolist())
        constants = {number: program.slot_view(number).of(program.values).copy() for number in program.constants}
        outputs = []
        for view in program.outputs:
            slot = int(program.slot_of(view.cell))
            outputs.append(Result(Ref(slot, view.cell - int(program.starts[slot])), view.shape, view.strides))
        return cls(program.values.dtype, program.table, [shape for _, shape in program.slots], constants, inputs,
                   active & set(inputs), outputs, list(program.lines), steps, program.bodies)

    def new_slot(self, shape) -> int:
        """Add a slot; returns its number."""
        self.shapes.append(tuple(shape))
        return len(self.shapes) - 1

    def constant(self, value: float) -> int:
        """The slot of a constant number, shared by equal ones."""
        for slot in self._numbers().get((value, math.copysign(1.0, value)), ()):
            return slot
        slot = self.new_slot(())
        self.constants[slot] = np.asarray(value, self.dtype)
        self._known[value, math.copysign(1.0, value)] = (slot,)
        return slot

    def _numbers(self):
        if not hasattr(self, "_known"):
            numbers = [(slot, float(a)) for slot, a in self.constants.items() if a.ndim == 0]
            self._known = {(x, math.copysign(1.0, x)): (slot,) for slot, x in numbers}
        return self._known

    def size(self, slot: int) -> int:
        """Number of cells of a slot."""
        return max(math.prod(self.shapes[slot]), 1)

    def with_steps(self, steps, outputs=None) -> Listing:
        """The same slots with other steps (and results)."""
        return Listing(self.dtype, self.table, list(self.shapes), dict(self.constants), list(self.inputs), set(self.active),
                       self.outputs if outputs is None else outputs, self.lines, steps, self.bodies)

    # ------------------------------------------------------------------ back to a program

    def program(self) -> Program:
        """Put the list together; slots that nothing uses are left out."""
        used = set(self.inputs) | {result.ref.slot for result in self.outputs}
        for step in self.steps:
            used.update(ref.slot for ref in step.operands)
            if step.out is not None:
                used.add(step.out.slot)
        memory = ListMemory(self.dtype)
        cells, numbers = {}, {}
        for slot in sorted(used):
            numbers[slot] = len(memory.slots)
            cells[slot] = memory.allocate(self.shapes[slot]).cell
        active = set(self.active)
        bodies = sorted({number for step in self.steps if (number := body_of(step)) is not None})
        for step in self.steps:
            self._append(memory, step, cells, active, bodies)
        kept = sorted(slot for slot in self.constants if slot in used)
        values = np.zeros(memory.cells, self.dtype)
        for slot in kept:
            View(cells[slot], self.shapes[slot], contiguous(self.shapes[slot])).of(values)[...] = self.constants[slot]
        views = [View(cells[slot], self.shapes[slot], contiguous(self.shapes[slot])) for slot in self.inputs]
        outputs = [View(cells[r.ref.slot] + r.ref.offset, r.shape, r.strides) for r in self.outputs]
        program = Program(memory.code[: memory.length].copy(), memory.geometry[: memory.words].copy(), values,
                          list(memory.slots), views, [numbers[slot] for slot in kept], outputs, self.lines, self.table,
                          tuple(self.bodies[k] for k in bodies))
        if len(program.code):
            program.code[:, FLAGS] = live_flags(program)
        return program

    def _append(self, memory, step, cells, active, bodies):
        row = step.row
        differentiable = row.differentiable if row.structural else [p is not None for p in row.partials]
        flags = sum(1 << k for k, ref in enumerate(step.operands) if differentiable[k] and ref.slot in active)
        if row.structural and row.scratch is not None and step.out.slot in active:
            active.add(step.operands[row.scratch].slot)
        if flags:
            active.add(step.out.slot)
        if row.accumulates:
            flags |= ACCUMULATES
        if isinstance(step.space, Block):
            number = body_of(step)
            space = step.space if number is None else with_body(step, bodies.index(number))  # bodies are numbered anew
            words = (-1, space.owned, *space.words)
        elif step.space.shape:
            shape, strides = step.space
            words = (len(shape), *shape, *(s for view in strides for s in view))
        else:
            words = None
        out = cells[step.out.slot] + step.out.offset if step.out is not None else 0
        operands = tuple(cells[ref.slot] + ref.offset for ref in step.operands)
        memory.append(self.table.opcode[row.name], words, out, operands, flags, step.line)


def _space_at(geometry, space, row):
    """The geometry block at word `space`, as a Space or a Block."""
    if row.structural:
        words = geometry[space + 2 :]
        return Block(int(geometry[space + 1]), tuple(words[: row.length(words)].tolist()))
    ndim = int(geometry[space])
    words = geometry[space + 1 : space + 1 + 5 * ndim].tolist()
    strides = tuple(tuple(words[ndim * (k + 1) : ndim * (k + 2)]) for k in range(OPERANDS + 1))
    return Space(tuple(words[:ndim]), strides)


def body_of(step) -> int | None:
    """Number of the body that a loop or a call runs; None for other steps."""
    if step.row.name == "loop":
        return Loop.of(step.space.words).body
    return CallWords.of(step.space.words).body if step.row.name == "call" else None


def with_body(step, number: int) -> Block:
    """The block of a loop or a call with another body's number."""
    kind = Loop.of(step.space.words) if step.row.name == "loop" else CallWords.of(step.space.words)
    words = kind._replace(body=number)
    return Block(step.space.owned, words.words() if isinstance(words, Loop) else tuple(words))


def is_dense(shape, strides, size) -> bool:
    """Whether a view that starts at a slot's first cell has each of its `size` cells exactly once."""
    step = 1
    for s, n in sorted(zip(strides, shape, strict=True)):
        if n == 1:
            continue
        if s != step:
            return False
        step *= n
    return step == size


def covers(listing: Listing, step: Step) -> bool:
    """Whether an elementwise step writes every cell of its output's slot exactly once."""
    if step.row.structural or step.out.offset:
        return False
    return is_dense(step.space.shape, step.space.strides[OUT], listing.size(step.out.slot))
