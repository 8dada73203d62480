"""The Tape of a jitted function: the entries that its run on recorded numbers wrote, as a program."""

from __future__ import annotations

import numpy as np

from compiled.active.recorded_list import RecordedList
from compiled.active.recording import CONSTANT, LINES
from compiled.lists.program import Program, live_flags
from compiled.table.instructions import TABLE
from compiled.table.layout import FIELDS, FLAGS, LINE, OPCODE, OPERAND, OUTPUT, SCALAR, SPACE
from compiled.table.views import View, contiguous
from tape.jitted.derivatives import derivative, remembered, way_of
from tape.recording.arguments import apart, describe
from tape.recording.containers import leaves_of
from tape.recording.lines import line_names
from tape.recording.made import Making
from tape.recording.trace import Trace, Workspace

GUARD_BLOCK = (-1, 0, 1)
"""Geometry of a guard of one cell."""


def listing(function, numbers: tuple[int, ...], count: int):
    """The jitted function that runs `function` on recorded numbers."""
    made, function = Making(listing, function, (numbers, count), {}), way_of(function)
    return remembered(function, ("record", numbers, count), lambda: derivative(
        made, function, f"record_{numbers}", RecordedList(function, numbers, "tape.record"), "r", count=count))


def recorded_trace(function, args, numbers: tuple[int, ...], has_aux: bool = False) -> tuple[Trace, Workspace]:
    """Run a jitted function on recorded numbers; returns its list, and the buffers with this run's values."""
    result, entries, values, cells = listing(function, numbers, len(args))(*args)
    leaves, _ = leaves_of((args, {}))
    described = [describe(leaf) for leaf in leaves]
    owner = [number for number, argument in enumerate(args) for _ in leaves_of(argument)[0]]
    recorded = [k for k, number in enumerate(owner) if number in numbers]
    # What is not recorded has been built into the list: it is part of its key, like a static argument.
    described = [d if k in recorded else d._replace(kind="static", dtype=leaf) for k, (d, leaf) in
                 enumerate(zip(described, leaves, strict=True))]
    layout = _Layout([np.shape(leaves[k]) for k in recorded], entries, values)
    result_leaves, structure = leaves_of(result)
    own = len(leaves_of(apart(result)[0])[0]) if has_aux else len(result_leaves)
    which, outputs, dtypes = [], [], []
    taken = 0
    for leaf in result_leaves:
        size = np.size(leaf)
        mine, taken = cells[taken : taken + size], taken + size
        dtypes.append(np.asarray(leaf).dtype)
        if not mine.any():
            which.append((leaf,))
            continue
        which.append(len(outputs))
        outputs.append(layout.output(np.shape(leaf), mine, np.ravel(leaf)))
    program = layout.program(outputs)
    outcomes = tuple(layout.values[program.code[i, OPERAND + 1]].tobytes() for i in program.instructions("guard"))
    trace = Trace(program=program, leaves=described, dynamic=recorded, wrt=list(range(len(recorded))), results=which,
                  result_dtypes=dtypes, own=own, has_aux=has_aux, structure=structure, outcomes=outcomes)
    workspace = Workspace(program, trace.wrt, layout.values)
    trace.load(workspace, leaves)
    return trace, workspace


class _Layout:
    """Entries as instructions, their cells those of the run; results that are arrays follow."""

    def __init__(self, shapes, entries, values):
        self.shapes = shapes
        inputs = 1 + sum(int(np.prod(shape)) for shape in shapes)  # cell 0 is nobody's
        self.slots, cell = [], 1
        for shape in shapes:
            self.slots.append((cell, shape))
            cell += int(np.prod(shape))
        self.inputs = [View(cell, shape, contiguous(shape)) for cell, shape in self.slots]
        self.slots += [(inputs + k, ()) for k in range(len(entries))]
        is_constant = entries[:, 0] == CONSTANT
        self.constants = [len(shapes) + int(k) for k in np.flatnonzero(is_constant)]
        self.values = np.concatenate([np.zeros(inputs), values])
        self.fixed = np.concatenate([np.zeros(inputs, bool), is_constant])
        self.code = _instructions(entries, np.flatnonzero(~is_constant), inputs, self.fixed)

    def output(self, shape, cells, numbers) -> View:
        """A contiguous slot with copies of `cells` (constants' `numbers` where they are 0), or the cell itself."""
        if shape == ():
            return View(int(cells[0]), (), ())
        missing = np.flatnonzero(cells == 0)
        sources = np.array(cells)
        for k in missing:
            sources[k] = self._new_cell(numbers[k], True)
            self.constants.append(len(self.slots))
            self.slots.append((int(sources[k]), ()))
        start = len(self.values)
        self.slots.append((start, shape))
        for number in numbers:
            self._new_cell(number, False)
        copies = np.zeros((len(sources), FIELDS), np.int32)
        copies[:, OPCODE], copies[:, SPACE] = TABLE.opcode["copy"], SCALAR
        copies[:, OUTPUT], copies[:, OPERAND] = np.arange(start, start + len(sources)), sources
        copies[:, FLAGS] = np.where(self.fixed[sources], 0, 1)
        self.code = np.concatenate([self.code, copies])
        return View(start, shape, contiguous(shape))

    def _new_cell(self, number, fixed) -> int:
        self.values = np.append(self.values, number)
        self.fixed = np.append(self.fixed, fixed)
        return len(self.values) - 1

    def program(self, outputs) -> Program:
        """The program with these outputs."""
        program = Program(self.code, np.array(GUARD_BLOCK, np.int64), np.where(self.fixed, self.values, 0.0), self.slots,
                          self.inputs, self.constants, outputs, line_names(LINES))
        if len(self.code):
            self.code[:, FLAGS] = live_flags(program)
        return program


def _instructions(entries, rows, inputs, fixed) -> np.ndarray:
    """The code array of the entries that are instructions."""
    code = np.zeros((len(rows), FIELDS), np.int32)
    opcodes = entries[rows, 0]
    code[:, OPCODE], code[:, LINE] = opcodes, entries[rows, 4]
    code[:, SPACE] = np.where(opcodes == TABLE.opcode["guard"], 0, SCALAR)
    code[:, OUTPUT] = np.where(opcodes == TABLE.opcode["guard"], 0, inputs + rows)
    arity = np.array([row.arity for row in TABLE.rows])[opcodes]
    differentiable = np.array([[k < len(_partials(row)) and _partials(row)[k] is not None for k in range(3)]
                               for row in TABLE.rows])
    passes = np.ones(len(fixed), bool)
    passes[inputs + rows] = differentiable[opcodes].any(1)
    for k in range(3):
        cells = entries[rows, 1 + k]
        used = k < arity
        code[used, OPERAND + k] = cells[used]
        active = used & ~fixed[cells] & passes[cells] & differentiable[opcodes, k]
        code[active, FLAGS] |= 1 << k
    return code


def _partials(row):
    return getattr(row, "partials", ())
