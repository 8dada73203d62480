"""The check that makes a list safe to run, wherever it came from.

Kernels trust a list that passed: they test nothing but positions read from data.
"""

from __future__ import annotations

import numpy as np

from compiled.errors import InvalidTape
from compiled.lists.calls import Call, CallWords
from compiled.lists.loops import FIXED_WORDS, Loop, Packs
from compiled.lists.memory import MOST_CELLS
from compiled.table.layout import (
    ACCUMULATES,
    FIELDS,
    FLAGS,
    LINE,
    OPCODE,
    OPERAND,
    OPERANDS,
    OUT,
    OUTPUT,
    SCALAR,
    SPACE,
    STRUCTURAL,
)
from compiled.table.structural.extents import span


def check(program) -> None:
    """Raise InvalidTape, naming instruction, operation and operand, unless every sweep stays inside the buffers.

    Every view must lie inside one slot, of which something was written before it is read; outputs must be fresh cells.

    Parameters
    ----------
    program : program.Program
        The list.
    """
    code, rows = program.code, program.table.rows
    if code.ndim != 2 or code.shape[1] != FIELDS or code.dtype != np.int32 or not code.flags.c_contiguous:
        raise InvalidTape(f"the code array: expected int32 of shape (n, {FIELDS}), got {code.dtype} of shape {code.shape}")
    if program.geometry.dtype != np.int64 or program.geometry.ndim != 1:
        raise InvalidTape("the geometry array: expected one axis of int64")
    values = program.values
    if values.dtype not in (np.float64, np.float32) or values.ndim != 1 or not 0 < len(values) <= MOST_CELLS:
        raise InvalidTape("the value buffer: expected one axis of float64 or float32")
    _check_slots(program)
    bad = np.flatnonzero((code[:, OPCODE] < 0) | (code[:, OPCODE] >= len(rows)))
    if bad.size:
        raise InvalidTape(f"instruction {bad[0]}: expected an opcode from 0 to {len(rows) - 1}, got {code[bad[0], OPCODE]}")
    _check_flags(program)
    if len(code):
        _check_instructions(program)
    _check_bodies(program)


def _check_bodies(program):
    """Check the bodies, and that the packs of each loop and call are as its body's arguments and results ask for."""
    for number, body in enumerate(program.bodies):
        if isinstance(body, Call):
            continue
        try:
            check(body)
        except InvalidTape as error:
            raise InvalidTape(f"body {number}: {error}") from None
        if body.values.dtype != program.values.dtype:
            raise InvalidTape(f"body {number}: expected {program.values.dtype}, got {body.values.dtype}")
    for name, checked in (("loop", _check_loop), ("call", _check_call)):
        for number in np.flatnonzero(program.code[:, OPCODE] == program.table.opcode[name]):
            words = program.geometry[program.code[number, SPACE] + 2 :]
            try:
                checked(program, words)
            except (ValueError, IndexError, TypeError) as error:
                raise InvalidTape(f"{_name(program, number)}: its {name} is malformed: {error}") from None


def _check_call(program, words):
    call = CallWords.of(words)
    if not 0 <= call.body < len(program.bodies) or not isinstance(program.bodies[call.body], Call):
        raise ValueError("no such body")
    if program.bodies[call.body].sizes != (call.operand, call.output):
        raise ValueError(f"its packs have sizes {call.operand} and {call.output}")


def _check_loop(program, words):
    if not FIXED_WORDS <= words[0] < len(words):
        raise ValueError(f"a loop of {words[0]} words")
    loop = Loop.of(words)
    if min(loop[1:-1]) < 0 or loop.length < 1 or not 0 <= loop.body < len(program.bodies):
        raise ValueError("a negative number, no step, or no such body")
    body = program.bodies[loop.body]
    if isinstance(body, Call):
        raise ValueError("its body is a call")
    inputs, outputs = [view.shape for view in body.inputs], [view.shape for view in body.outputs]
    if loop.carry + loop.constants + loop.x + loop.s != len(inputs):
        raise ValueError("its leaves do not fit the arguments of its body")
    if loop.carry + loop.sums + loop.spared + loop.ends > len(outputs) or inputs[: loop.carry] != outputs[: loop.carry]:
        raise ValueError("its leaves do not fit the results of its body")
    flags = (loop.backward, loop.counted, loop.ends, loop.keeps, *loop.active)
    if not set(flags) <= {0, 1} or (loop.ends and outputs[-1] != ()):
        raise ValueError("its flags do not fit its body")
    if Packs.of(loop, body).sizes != loop.sizes:
        raise ValueError(f"its packs have sizes {loop.sizes}")
    if loop.active and len(loop.active) != loop.constants + loop.x + loop.s:
        raise ValueError("its activity does not fit its leaves")


def _check_slots(program):
    if any(min(shape, default=0) < 0 for _, shape in program.slots):
        raise InvalidTape("the slots: a length is negative")
    ends = program.starts + program.sizes
    if len(program.starts) and (program.starts[0] < 1 or (program.sizes < 0).any() or (program.starts[1:] < ends[:-1]).any()
                             or ends.max() > len(program.values)):
        raise InvalidTape(f"the slots: expected disjoint ranges of the {len(program.values)} cells after cell 0, in order")
    for name, views in (("input", program.inputs), ("output", program.outputs)):
        for k, view in enumerate(views):
            try:
                inside = _inside(program, view.cell, span(view.shape, view.strides))
            except ValueError as error:
                raise InvalidTape(f"{name} {k}: {error}") from None
            if not inside:
                raise InvalidTape(f"{name} {k}: cell {view.cell} with shape {view.shape} is not inside one slot")
            if name == "input" and program.slot_view(int(program.slot_of(view.cell))) != view:
                raise InvalidTape(f"input {k}: expected a whole slot")
    if not set(program.constants) <= set(range(len(program.slots))):
        raise InvalidTape("the constants: expected numbers of slots")
    if len(set(program.lines)) != len(program.lines):
        raise InvalidTape("the lines: a line stands twice")


def _check_flags(program):
    code = program.code
    accumulates = np.array([row.accumulates for row in program.table.rows])[code[:, OPCODE]]
    bad = np.flatnonzero((accumulates != ((code[:, FLAGS] & ACCUMULATES) != 0)) | (code[:, FLAGS] & ~31 != 0))
    if bad.size:
        raise InvalidTape(f"{_name(program, bad[0])}: flags {code[bad[0], FLAGS]} do not fit the operation")
    bad = np.flatnonzero((code[:, LINE] < 0) | (code[:, LINE] >= max(len(program.lines), 1)))
    if bad.size:
        raise InvalidTape(f"{_name(program, bad[0])}: no source line {code[bad[0], LINE]}")


def _inside(program, cell, reach):
    if reach is None:
        return 0 <= cell <= len(program.values)
    slot = int(program.slot_of(cell))
    return (slot >= 0 and cell < program.starts[slot] + program.sizes[slot]
            and cell + reach[0] >= program.starts[slot] and cell + reach[1] < program.starts[slot] + program.sizes[slot])


def _check_instructions(program):
    """Vectorised over all instructions that share a block: the extents of a block are worked out once."""
    code = program.code
    written = np.full(len(program.slots) + 1, len(code), np.int64)  # first instruction that writes a slot
    written[-1] = len(code)
    held = [int(program.slot_of(view.cell)) for view in program.inputs if view.size] + list(program.constants)
    written[held] = -1
    numbers = np.arange(len(code))
    out_slots = program.slot_of(code[:, OUTPUT])
    np.minimum.at(written, out_slots, numbers)
    scratch_slots = _scratch_slots(program)
    np.minimum.at(written, scratch_slots[scratch_slots >= 0], numbers[scratch_slots >= 0])
    arities = np.array([row.arity for row in program.table.rows])[code[:, OPCODE]]
    keys = code[:, SPACE].astype(np.int64) * len(program.table) + code[:, OPCODE]
    order = np.argsort(keys, kind="stable")
    for group in np.split(order, np.flatnonzero(np.diff(keys[order])) + 1):
        key = keys[group[0]]
        space, opcode = divmod(int(key), len(program.table))
        reaches = _extents(program, int(group[0]), program.table.rows[opcode], space)
        for view in range(OPERANDS + 1):
            if view == OUT or view < program.table.rows[opcode].arity:
                _check_views(program, group, view, reaches[view], written)
    unused = np.arange(OPERANDS) >= arities[:, None]
    if (code[:, OPERAND : OPERAND + OPERANDS][unused] != 0).any():
        raise InvalidTape("an operand that the operation does not have: expected cell 0")


def _scratch_slots(program):
    """For each instruction the slot of the operand that it writes for itself, or -1."""
    scratch = np.array([row.scratch if row.structural and row.scratch is not None else -1 for row in program.table.rows])
    which = scratch[program.code[:, OPCODE]]
    cells = program.code[np.arange(len(which)), OPERAND + np.maximum(which, 0)]
    return np.where(which >= 0, program.slot_of(cells), -1)


def _check_views(program, group, view, reach, written):
    """Check one view of the instructions `group`: inside one slot, of which something was written before."""
    if reach is None:
        return
    name = "output" if view == OUT else f"operand {view}"
    cells = program.code[group, OUTPUT if view == OUT else OPERAND + view].astype(np.int64)
    slots = program.slot_of(cells)
    ends = program.starts[slots] + program.sizes[slots]
    inside = (slots >= 0) & (cells + reach[0] >= program.starts[slots]) & (cells < ends) & (cells + reach[1] < ends)
    if not inside.all():
        bad = group[np.flatnonzero(~inside)[0]]
        raise InvalidTape(f"{_name(program, bad)}: {name} reaches outside its slot")
    if view == OUT:
        held = written[slots] == -1
        if held.any() and not program.table.rows[program.code[group[0], OPCODE]].overwrites:
            raise InvalidTape(f"{_name(program, group[np.flatnonzero(held)[0]])}: output is an input or a constant")
        operands = program.code[group, OPERAND : OPERAND + OPERANDS]
        same = ((program.slot_of(operands) == slots[:, None]) & (operands > 0)).any(axis=1)
        if same.any():
            raise InvalidTape(f"{_name(program, group[np.flatnonzero(same)[0]])}: output and an operand are of one slot")
        return
    row = program.table.rows[program.code[group[0], OPCODE]]
    late = written[slots] != group if row.structural and row.scratch == view else written[slots] >= group
    if late.any():
        raise InvalidTape(f"{_name(program, group[np.flatnonzero(late)[0]])}: {name} is read before it is written")


def _extents(program, number, row, space):
    """(low, high) of the four views of instruction `number`, or None for a view of no cells."""
    if space == SCALAR:
        if row.structural:
            raise InvalidTape(f"{_name(program, number)}: expected a geometry block, got none")
        return [(0, 0)] * (OPERANDS + 1)
    if not 0 <= space < len(program.geometry):
        raise InvalidTape(f"{_name(program, number)}: no geometry block at {space}")
    block = program.geometry[space : space + 1024]
    if row.structural != (block[0] == STRUCTURAL):
        raise InvalidTape(f"{_name(program, number)}: its geometry block is of another kind of operation")
    try:
        if row.structural:
            extents = row.extents(block[2:])
            owned = int(block[1])
            cells = extents[OUT][1] + 1 if extents[OUT] else 0
            owns = row.output and not (row.accumulates or row.overwrites)
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
        raise InvalidTape(f"{_name(program, number)}: its geometry block is malformed: {error}") from None


def _name(program, number) -> str:
    row = program.table.rows[program.code[number, OPCODE]]
    where = program.lines[program.code[number, LINE]] if 0 <= program.code[number, LINE] < len(program.lines) else ""
    return f"instruction {number} ({row.name}{', recorded at ' + where if where else ''})"
