"""A finished list: its arrays, the check that makes them safe to run, their text form, and one file to keep them.

What is not here: how it is written (`memory.py`) and run (`engine.py`).
"""

from __future__ import annotations

import json
import math
import zipfile
from dataclasses import dataclass, field

import numpy as np

from compiled.errors import InvalidTape
from compiled.instructions import TABLE, Table
from compiled.layout import (
    ACCUMULATES,
    FIELDS,
    FLAGS,
    LINE,
    LIVE,
    OPCODE,
    OPERAND,
    OPERANDS,
    OUT,
    OUTPUT,
    SCALAR,
    SPACE,
    STRUCTURAL,
)
from compiled.memory import MOST_CELLS, View, contiguous
from compiled.structural import span

FORMAT = 1
"""Version of the file format."""


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

    def __post_init__(self):
        self.starts = np.array([cell for cell, _ in self.slots], np.int64)
        self.sizes = np.array([max(math.prod(shape), 1) for _, shape in self.slots], np.int64)
        self.overwrites = bool(np.isin(self.code[:, OPCODE], [self.table.opcode["assign"], self.table.opcode["scatter_assign"]]).any())

    def slot_of(self, cells) -> np.ndarray:
        """Return the numbers of the slots that hold `cells` (-1 before the first slot)."""
        return np.searchsorted(self.starts, cells, side="right") - 1

    def slot_view(self, number: int) -> View:
        """Return all cells of a slot."""
        cell, shape = self.slots[number]
        return View(cell, shape, contiguous(shape))

    # ------------------------------------------------------------------ check

    def check(self) -> None:
        """Raise InvalidTape unless every sweep stays inside the buffers and reads only what was written before.

        Kernels trust a list that passed: they test nothing but positions read from data.
        """
        code, rows = self.code, self.table.rows
        if code.ndim != 2 or code.shape[1] != FIELDS or code.dtype != np.int32 or not code.flags.c_contiguous:
            raise InvalidTape(f"the code array: expected int32 of shape (n, {FIELDS}), got {code.dtype} of shape {code.shape}")
        if self.geometry.dtype != np.int64 or self.geometry.ndim != 1:
            raise InvalidTape("the geometry array: expected one axis of int64")
        if self.values.dtype not in (np.float64, np.float32) or self.values.ndim != 1 or not 0 < len(self.values) <= MOST_CELLS:
            raise InvalidTape("the value buffer: expected one axis of float64 or float32")
        self._check_slots()
        bad = np.flatnonzero((code[:, OPCODE] < 0) | (code[:, OPCODE] >= len(rows)))
        if bad.size:
            raise InvalidTape(f"instruction {bad[0]}: expected an opcode from 0 to {len(rows) - 1}, got {code[bad[0], OPCODE]}")
        self._check_flags()
        if len(code):
            self._check_instructions()

    def _check_slots(self):
        ends = self.starts + self.sizes
        if len(self.starts) and (self.starts[0] < 1 or (self.sizes < 0).any() or (self.starts[1:] < ends[:-1]).any()
                                 or ends.max() > len(self.values)):
            raise InvalidTape(f"the slots: expected disjoint ranges of the {len(self.values)} cells after cell 0, in order")
        for name, views in (("input", self.inputs), ("output", self.outputs)):
            for k, view in enumerate(views):
                if not self._inside(view.cell, span(view.shape, view.strides)):
                    raise InvalidTape(f"{name} {k}: cell {view.cell} with shape {view.shape} is not inside one slot")
                if name == "input" and (view.strides != contiguous(view.shape) or self.slot_view(int(self.slot_of(view.cell))) != view):
                    raise InvalidTape(f"input {k}: expected a whole slot")
        if not set(self.constants) <= set(range(len(self.slots))):
            raise InvalidTape("the constants: expected numbers of slots")
        if len(set(self.lines)) != len(self.lines):
            raise InvalidTape("the lines: a line stands twice")

    def _check_flags(self):
        code = self.code
        accumulates = np.array([row.accumulates for row in self.table.rows])[code[:, OPCODE]]
        accumulates |= code[:, OPCODE] == self.table.opcode["scatter_add"]
        bad = np.flatnonzero((accumulates != ((code[:, FLAGS] & ACCUMULATES) != 0)) | (code[:, FLAGS] & ~31 != 0))
        if bad.size:
            raise InvalidTape(f"{self._name(bad[0])}: flags {code[bad[0], FLAGS]} do not fit the operation")
        bad = np.flatnonzero((code[:, LINE] < 0) | (code[:, LINE] >= max(len(self.lines), 1)))
        if bad.size:
            raise InvalidTape(f"{self._name(bad[0])}: no source line {code[bad[0], LINE]}")

    def _inside(self, cell, reach):
        if reach is None:
            return 0 <= cell <= len(self.values)
        slot = int(self.slot_of(cell))
        return (slot >= 0 and cell < self.starts[slot] + self.sizes[slot]
                and cell + reach[0] >= self.starts[slot] and cell + reach[1] < self.starts[slot] + self.sizes[slot])

    def _check_instructions(self):
        """Vectorised over all instructions that share a block: the extents of a block are worked out once."""
        code = self.code
        written = np.full(len(self.slots) + 1, len(code), np.int64)  # first instruction that writes a slot
        written[-1] = len(code)
        held = [int(self.slot_of(view.cell)) for view in self.inputs if view.size] + list(self.constants)
        written[held] = -1
        numbers = np.arange(len(code))
        out_slots = self.slot_of(code[:, OUTPUT])
        np.minimum.at(written, out_slots, numbers)
        arities = np.array([row.arity for row in self.table.rows])[code[:, OPCODE]]
        keys = code[:, SPACE].astype(np.int64) * len(self.table) + code[:, OPCODE]
        for key in np.unique(keys):
            group = numbers[keys == key]
            space, opcode = divmod(int(key), len(self.table))
            reaches = self._extents(int(group[0]), self.table.rows[opcode], space)
            for view in range(OPERANDS + 1):
                if view == OUT or view < self.table.rows[opcode].arity:
                    self._check_views(group, view, reaches[view], written)
        unused = np.arange(OPERANDS) >= arities[:, None]
        if (code[:, OPERAND : OPERAND + OPERANDS][unused] != 0).any():
            raise InvalidTape("an operand that the operation does not have: expected cell 0")

    def _check_views(self, group, view, reach, written):
        """Check one view of the instructions `group`: inside one slot, of which something was written before."""
        if reach is None:
            return
        name = "output" if view == OUT else f"operand {view}"
        cells = self.code[group, OUTPUT if view == OUT else OPERAND + view].astype(np.int64)
        slots = self.slot_of(cells)
        inside = ((slots >= 0) & (cells + reach[0] >= self.starts[slots]) & (cells < self.starts[slots] + self.sizes[slots])
                  & (cells + reach[1] < self.starts[slots] + self.sizes[slots]))
        if not inside.all():
            bad = group[np.flatnonzero(~inside)[0]]
            raise InvalidTape(f"{self._name(bad)}: {name} reaches outside its slot")
        if view == OUT:
            held = written[slots] == -1
            if held.any() and not self.table.rows[self.code[group[0], OPCODE]].name.endswith("assign"):
                raise InvalidTape(f"{self._name(group[np.flatnonzero(held)[0]])}: output is an input or a constant")
            operands = self.code[group, OPERAND : OPERAND + OPERANDS]
            same = ((self.slot_of(operands) == slots[:, None]) & (operands > 0)).any(axis=1)
            if same.any():
                raise InvalidTape(f"{self._name(group[np.flatnonzero(same)[0]])}: output and an operand are of one slot")
            return
        late = written[slots] >= group
        if late.any():
            raise InvalidTape(f"{self._name(group[np.flatnonzero(late)[0]])}: {name} is read before it is written")

    def _extents(self, number, row, space):
        """(low, high) of the four views of instruction `number`, or None for a view of no cells."""
        if space == SCALAR:
            if row.structural:
                raise InvalidTape(f"{self._name(number)}: expected a geometry block, got none")
            return [(0, 0)] * (OPERANDS + 1)
        if not 0 <= space < len(self.geometry):
            raise InvalidTape(f"{self._name(number)}: no geometry block at {space}")
        block = self.geometry[space : space + 1024]
        if row.structural != (block[0] == STRUCTURAL):
            raise InvalidTape(f"{self._name(number)}: its geometry block is of another kind of operation")
        try:
            if row.structural:
                extents = row.extents(block[2:])
                owned = int(block[1])
                cells = extents[OUT][1] + 1 if extents[OUT] else 0
                owns = not row.name.endswith(("_add", "_assign")) and row.name != "guard"
                if owned != (cells if owns else 0):
                    raise ValueError(f"it owns {owned} cells of {cells}")
                return extents
            ndim = int(block[0])
            if not 1 <= ndim <= 64 or len(block) < 1 + 5 * ndim:
                raise ValueError(f"it has {ndim} axes")
            shape = block[1 : 1 + ndim].tolist()
            strides = block[1 + ndim : 1 + 5 * ndim].reshape(4, ndim).tolist()
            if min(shape) < 0:
                raise ValueError(f"its shape is {shape}")
            extents = [span(shape, s) for s in strides]
            if not row.accumulates and any(n > 1 and s == 0 for n, s in zip(shape, strides[OUT], strict=True)) and 0 not in shape:
                raise ValueError("it sets cells more than once")
            return extents
        except (ValueError, IndexError) as error:
            raise InvalidTape(f"{self._name(number)}: its geometry block is malformed: {error}") from None

    def _name(self, number) -> str:
        row = self.table.rows[self.code[number, OPCODE]]
        where = self.lines[self.code[number, LINE]] if 0 <= self.code[number, LINE] < len(self.lines) else ""
        return f"instruction {number} ({row.name}{', recorded at ' + where if where else ''})"

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
        if row.name == "guard":
            text = f"guard{operands}"
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
        covers = view.cell == slot.cell and view.size == slot.size and (view.strides == contiguous(view.shape) or view.size == 1)
        if whole or covers:
            return f"%{number}"
        if all(s == 0 for s in view.strides):
            return f"%{number}[{view.cell - slot.cell}]" if slot.size > 1 else f"%{number}"
        return f"%{number}[{view.cell - slot.cell}: shape {view.shape} strides {view.strides}]"

    # ------------------------------------------------------------------ one file

    def save(self, path, extra: dict) -> None:
        """Write the list and `extra` (what JSON can hold) to one file; nothing in it is code."""
        rows = [self.table.rows[k].name for k in range(len(self.table))]
        header = {
            "format": FORMAT, "rows": rows, "slots": self.slots, "inputs": self.inputs, "constants": self.constants,
            "outputs": self.outputs, "lines": self.lines, "cells": len(self.values), "extra": extra,
        }
        cells = [self.slot_view(number).of(self.values).ravel() for number in self.constants]
        np.savez(path, header=np.frombuffer(json.dumps(header).encode(), np.uint8), code=self.code, geometry=self.geometry,
                 constants=np.concatenate([*cells, self.values[:0]]))

    @classmethod
    def load(cls, path, limit: int | None = None) -> tuple[Program, dict]:
        """Read a list and its `extra`; raises InvalidTape unless the file is whole and the list well formed."""
        try:
            with np.load(path, allow_pickle=False) as file:
                header = json.loads(file["header"].tobytes())
                code, geometry, constants = file["code"], file["geometry"], file["constants"]
        except (ValueError, OSError, KeyError, zipfile.BadZipFile, EOFError, zipfile.LargeZipFile) as error:
            if isinstance(error, FileNotFoundError):
                raise
            raise InvalidTape(f"{path}: expected a file written by Tape.save, got one that cannot be read: {error}") from None
        try:
            return cls._from_parts(header, code, geometry, constants), header["extra"]
        except InvalidTape as error:
            raise InvalidTape(f"{path}: {error}") from None
        except (KeyError, TypeError, ValueError, IndexError, OverflowError, MemoryError, AttributeError) as error:
            raise InvalidTape(f"{path}: its header does not describe a list: {error!r}") from None

    @classmethod
    def _from_parts(cls, header, code, geometry, constants):
        if header["format"] != FORMAT:
            raise InvalidTape(f"expected format {FORMAT}, got {header['format']}; write the file again with this version")
        unknown = [name for name in header["rows"] if name not in TABLE.opcode]
        if unknown:
            raise InvalidTape(f"it uses the operation {unknown[0]!r}, which this version does not have")
        if code.ndim != 2 or code.shape[1] != FIELDS or code.dtype != np.int32:
            raise InvalidTape(f"the code array: expected int32 of shape (n, {FIELDS}), got {code.dtype} of shape {code.shape}")
        bad = np.flatnonzero((code[:, OPCODE] < 0) | (code[:, OPCODE] >= len(header["rows"])))
        if bad.size:
            raise InvalidTape(f"instruction {bad[0]}: unknown opcode {code[bad[0], OPCODE]}")
        code[:, OPCODE] = np.array([TABLE.opcode[name] for name in header["rows"]], np.int32)[code[:, OPCODE]]
        slots = [(int(cell), tuple(int(n) for n in shape)) for cell, shape in header["slots"]]
        sizes = [max(math.prod(shape), 1) for _, shape in slots]
        needed = max((cell + size for (cell, _), size in zip(slots, sizes, strict=True)), default=1)
        cells = int(header["cells"])
        if not needed <= cells <= needed + 64 or cells > MOST_CELLS or min(sizes, default=0) < 0 or min((c for c, _ in slots), default=1) < 1:
            raise InvalidTape(f"its slots need {needed} cells, its header says {cells}")
        numbers = [int(k) for k in header["constants"]]
        if constants.ndim != 1 or len(constants) != sum(math.prod(slots[k][1]) for k in numbers):
            raise InvalidTape("its constants do not fill their slots")
        program = cls(np.ascontiguousarray(code), np.ascontiguousarray(geometry), np.zeros(cells, constants.dtype), slots,
                      [_view(v) for v in header["inputs"]], numbers, [_view(v) for v in header["outputs"]],
                      [str(line) for line in header["lines"]])
        program.check()
        at = 0
        for number in numbers:
            view = program.slot_view(number)
            view.of(program.values)[...] = constants[at : at + view.size].reshape(view.shape)
            at += view.size
        return program


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


def _view(parts) -> View:
    cell, shape, strides = parts
    return View(int(cell), tuple(int(n) for n in shape), tuple(int(s) for s in strides))


def live_flags(code: np.ndarray, slots: np.ndarray) -> np.ndarray:
    """Return the FLAGS column with LIVE where some writer of the output's slot has an active operand.

    Parameters
    ----------
    code : ndarray(int32, shape (n, 8))
        The instructions.
    slots : ndarray(int64, shape (n,))
        Number of the slot each instruction writes.
    """
    flags = code[:, FLAGS] & ~LIVE
    active = np.zeros(slots.max(initial=0) + 1, bool)
    active[slots[flags & 7 != 0]] = True
    return flags | np.where(active[slots], LIVE, 0).astype(np.int32)
