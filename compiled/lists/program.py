"""A finished list: its arrays and its text form.

What is not here: how it is written (`memory.py`), checked (`check.py`), kept in a file (`file.py`) and run (`engine.py`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from compiled.lists.calls import Call, CallWords
from compiled.lists.check import check
from compiled.lists.loops import Loop
from compiled.table.instructions import TABLE, Table
from compiled.table.layout import ACCUMULATES, FLAGS, LINE, LIVE, OPCODE, OPERAND, OPERANDS, OUT, OUTPUT, SCALAR, SPACE
from compiled.table.views import View, contiguous


@dataclass(eq=False)
class Program:
    """A list that can be run.

    Parameters
    ----------
    code : ndarray(int32, shape (n, 8))
        The instructions (`layout.py`).
    geometry : ndarray(int64)
        The blocks that instructions point at.
    values : ndarray(float64 or float32)
        The value buffer as it is before the first sweep: constants in place. Never written after.
    slots : list of (int, tuple)
        First cell and shape of each slot, in the order of the cells.
    inputs : list of View
        Where the arguments go, whole slots.
    constants : list of int
        Numbers of the slots that hold constants.
    outputs : list of View
        Where the results are.
    lines : list of str
        "file:line" for the LINE column.
    table : Table
        The instruction set of the opcodes.
    bodies : sequence of Program or Call
        What the list's loops repeat (see `loops.py`), and what its calls run (`calls.py`).

    Attributes
    ----------
    has_bodies, has_loops : bool
        Whether there are loops or calls, which the reverse and tangent sweeps do not go into; and whether there are loops.
    """

    code: np.ndarray
    geometry: np.ndarray
    values: np.ndarray
    slots: list
    inputs: list
    constants: list
    outputs: list
    lines: list
    table: Table = field(default=TABLE)
    bodies: tuple = ()

    def __post_init__(self):
        self.starts = np.array([cell for cell, _ in self.slots], np.int64)
        self.sizes = np.array([max(math.prod(shape), 1) for _, shape in self.slots], np.int64)
        self.overwrites = bool(self.overwriting().any())
        self.has_bodies = bool(self.bodies)
        self.has_loops = not all(isinstance(body, Call) for body in self.bodies)

    def __setstate__(self, state):
        self.__dict__.update(state)
        # Native code takes arrays of the dtype itself; one out of a pickle is equal to it, and not the same.
        self.values = self.values.view(np.dtype(self.values.dtype.str))

    def check(self) -> None:
        """See `check.check`."""
        check(self)

    def overwriting(self) -> np.ndarray:
        """Which instructions overwrite cells."""
        overwrites = np.array([row.overwrites for row in self.table.rows])
        known = (self.code[:, OPCODE] >= 0) & (self.code[:, OPCODE] < len(overwrites))
        return known & overwrites[np.where(known, self.code[:, OPCODE], 0)]

    def instructions(self, name: str) -> list[int]:
        """The numbers of the instructions of one row of the table."""
        return np.flatnonzero(self.code[:, OPCODE] == self.table.opcode[name]).tolist()

    def slot_of(self, cells) -> np.ndarray:
        """Return the numbers of the slots that hold `cells` (-1 before the first slot)."""
        return np.searchsorted(self.starts, cells, side="right") - 1

    def slot_view(self, number: int) -> View:
        """Return all cells of a slot."""
        cell, shape = self.slots[number]
        return View(cell, shape, contiguous(shape))

    # ------------------------------------------------------------------ text

    def text(self) -> str:
        """Return the list as text: slots as `%k`, one instruction a line, and where it was recorded."""
        head = [f"list of {len(self.code)} instructions, {len(self.values)} cells of {self.values.dtype}"]
        for view in self.inputs:
            head.append(f"%{int(self.slot_of(view.cell))} = input {view.shape}")
        for number in self.constants:
            array = self.slot_view(number).of(self.values)
            head.append(f"%{number} = constant {array if array.ndim == 0 else array.shape}")
        body = [self.instruction_text(i) for i in range(len(self.code))]
        tail = ["return " + ", ".join(self.view_text(view) for view in self.outputs)]
        for number, repeated in enumerate(self.bodies):
            tail.append(f"body {number}: " + repeated.text().replace("\n", "\n    "))
        return "\n".join(head + body + tail)

    def instruction_text(self, i: int) -> str:
        """Return one instruction as text."""
        row = self.table.rows[self.code[i, OPCODE]]
        shape, strides = self.iteration(i)
        views = [View(int(self.code[i, OPERAND + k]), shape, strides[k]) if shape is not None else
                 View(int(self.code[i, OPERAND + k]), (), ()) for k in range(row.arity)]
        operands = "".join(f" {self.view_text(view, shape is None)}" for view in views)
        sign = "+=" if self.code[i, FLAGS] & ACCUMULATES else "="
        out = View(int(self.code[i, OUTPUT]), shape or (), strides[OUT] if shape is not None else ())
        where = self.lines[self.code[i, LINE]] if self.lines else ""
        text = f"{self.view_text(out, shape is None)} {sign} {row.name}{operands}"
        if row.name == "loop":
            text += f" {Loop.of(self.geometry[self.code[i, SPACE] + 2 :])}"
        if row.name == "call":
            text += f" {CallWords.of(self.geometry[self.code[i, SPACE] + 2 :])}"
        if not row.output:
            text = f"{row.name}{operands}"
        return f"{text}  # {where}" if where else text

    def iteration(self, i: int):
        """See `iteration_space`."""
        return iteration_space(self.code[i], self.geometry)

    def view_text(self, view: View, whole: bool = False) -> str:
        """`%k` for all of slot k (or when only its number is wanted), else with first element, shape and strides."""
        number = int(self.slot_of(view.cell))
        if number < 0:
            return "%empty"
        slot = self.slot_view(number)
        in_order = view.strides == contiguous(view.shape) or view.size == 1
        covers = view.cell == slot.cell and view.size == slot.size and in_order
        if whole or covers:
            return f"%{number}"
        if all(s == 0 for s in view.strides):
            return f"%{number}[{view.cell - slot.cell}]" if slot.size > 1 else f"%{number}"
        return f"%{number}[{view.cell - slot.cell}: shape {view.shape} strides {view.strides}]"


def iteration_space(instruction: np.ndarray, geometry: np.ndarray):
    """Return (shape, strides of the four views) of an elementwise instruction; shape None for a structural one."""
    space = int(instruction[SPACE])
    if space == SCALAR:
        return (), [()] * (OPERANDS + 1)
    ndim = int(geometry[space])
    if ndim < 0:
        return None, []
    words = geometry[space + 1 : space + 1 + 5 * ndim].tolist()
    return tuple(words[:ndim]), [tuple(words[ndim * (k + 1) : ndim * (k + 2)]) for k in range(4)]


def live_flags(program: Program) -> np.ndarray:
    """Return the FLAGS column with LIVE where a reverse sweep has something to do.

    That is where some writer of the output's slot has an active operand, so that the adjoint must be handed on or cleared;
    and where cells are overwritten, even inactive ones, because earlier partials need what they held.
    """
    code = program.code
    flags = code[:, FLAGS] & ~LIVE
    slots = program.slot_of(code[:, OUTPUT])
    active = np.zeros(len(program.slots) + 1, bool)
    active[slots[flags & 7 != 0]] = True
    live = active[slots] | program.overwriting()
    return flags | np.where(live, LIVE, 0).astype(np.int32)
