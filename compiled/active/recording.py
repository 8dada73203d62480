"""The list of table instructions that `Recorded` numbers write, operation by operation.

It stands in a workspace, five pairs an entry: in `cells` opcode, three operands and line, in `partials` the value. Entry
number k is cell k; the inputs come first; a constant operand is an entry with the opcode CONSTANT. A decision (a
comparison whose outcome the code branches on, a number made whole) is followed by an entry with the opcode of a guard, so
that a replay that would decide otherwise is noticed. What is not here: how the entries become a program (`tape.jitted.lists`).
"""

from __future__ import annotations

import math

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types

from compiled.active.functions import COMPARISONS
from compiled.active.types import I32, Recorded, constant
from compiled.active.workspace import CELLS, PAIRS, STATEMENTS, Workspace
from compiled.table.instructions import TABLE

WORDS = 5
"""Pairs of an entry."""

CONSTANT = -1

LINES: dict[tuple[str, int], int] = {("<unknown>", 0): 0}
"""Lines of users' code that compiled expressions stand on, and their numbers."""


def line_number(loc) -> int:
    """The number of a line of the user's code."""
    return LINES.setdefault((loc.filename, loc.line), len(LINES)) if loc is not None else 0


def push_instruction(emission, row, operands, inner, value, line=0):
    """Write an instruction; returns the word of its cell, 0 where all operands are constants."""
    number = next(x for x in operands if getattr(x, "kind", None) is not None and isinstance(x.kind, Recorded))
    level = number.level
    words = [x.cell if getattr(x, "level", 0) == level else constant(0) for x in operands]
    combined = constant(0)
    builder = emission.builder
    for word in words:
        combined = builder.or_(combined, word)
    result = cgutils.alloca_once_value(builder, constant(0))
    with builder.if_then(builder.icmp_unsigned("!=", combined, constant(0)), likely=True):
        workspace = Workspace.of_word(emission.context, builder, combined)
        cells = []
        for word, x in zip(words, inner, strict=True):
            cells.append(_operand(emission, workspace, word, emission.value(types.float64, x)))
        cells += [constant(0)] * (3 - len(cells))
        number = _entry(emission, workspace, TABLE.opcode[row.name], cells, emission.value(types.float64, value), line)
        builder.store(builder.or_(workspace.tag(), number), result)
    return builder.load(result)


def _operand(emission, workspace, word, value):
    """The number of an operand's cell; a constant is written first."""
    builder = emission.builder
    index = builder.and_(word, constant(0xFFFFFFFF))
    cell = cgutils.alloca_once_value(builder, index)
    with builder.if_then(builder.icmp_unsigned("==", index, constant(0))):
        builder.store(_entry(emission, workspace, CONSTANT, [constant(0)] * 3, value, 0), cell)
    return builder.load(cell)


def _entry(emission, workspace, opcode, cells, value, line):
    builder = emission.builder
    workspace.reserve(constant(WORDS), types.float64)
    pairs, number = workspace.load(PAIRS), workspace.load(STATEMENTS)
    words = [ir.Constant(I32, opcode), *(builder.trunc(cell, I32) for cell in cells), ir.Constant(I32, line)]
    for k, word in enumerate(words):
        builder.store(word, builder.gep(workspace.pointer(CELLS, I32), [builder.add(pairs, constant(k))]))
    builder.store(value, builder.gep(workspace.partials(types.float64), [pairs]))
    workspace.store(PAIRS, builder.add(pairs, constant(WORDS)))
    workspace.store(STATEMENTS, builder.add(number, constant(1)))
    return number


def push_decision(emission, function, operands, kind, outcome, line=0):
    """Write the instructions that decide as `function` did, and the guard that a replay must pass."""
    builder, context = emission.builder, emission.context
    if isinstance(kind, types.Boolean):
        value = builder.uitofp(outcome, ir.DoubleType())
    else:
        value = context.cast(builder, outcome, kind, types.float64)
    decided = _decision(function, [_listed(x) for x in operands])
    if not getattr(decided, "level", 0):
        return
    with builder.if_then(builder.icmp_unsigned("!=", decided.cell, constant(0))):
        workspace = Workspace.of_word(context, builder, decided.cell)
        expected = _entry(emission, workspace, CONSTANT, [constant(0)] * 3, value, 0)
        cells = [builder.and_(decided.cell, constant(0xFFFFFFFF)), expected, constant(0)]
        _entry(emission, workspace, TABLE.opcode["guard"], cells, value, line)


def _listed(number):
    """The number of the list below the derivatives that are taken in it."""
    while getattr(number, "level", 0) > 1:
        number = number.primal
    return number


def _decision(function, operands):
    """The decision as a number: 1 or 0 for a truth value."""
    def apply(name, *numbers):
        return TABLE.apply(name, *numbers)

    x = operands[0]
    if function in COMPARISONS:
        return apply(COMPARISONS[function], *operands)
    if function in (math.isnan, np.isnan):
        return apply("ne", x, x)
    if function in (math.isfinite, np.isfinite):
        return apply("eq", x - x, 0.0)
    if function in (math.isinf, np.isinf):
        return apply("eq", apply("abs", x), math.inf)
    if function is np.signbit:
        return apply("lt", x, 0.0)
    if function in (np.logical_and, np.logical_or, np.logical_xor):
        return apply(function.__name__.partition("_")[2], *operands)
    if function.__name__ in ("not_", "logical_not"):
        return apply("not", x)
    whole = {"int": "trunc", "trunc": "trunc", "floor": "floor", "ceil": "ceil", "round": "rint"}.get(function.__name__)
    return apply(whole, x) if whole else apply("ne", x, 0.0)
