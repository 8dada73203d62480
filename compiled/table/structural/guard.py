"""guard: stop where a recorded decision changes. Its words are [count]; it has no output."""

from __future__ import annotations

from llvmlite import ir

from compiled.table.layout import GUARD_FAILED, OK
from compiled.table.llvm import I64
from compiled.table.structural.cells import Cells
from compiled.table.structural.extents import Reader, neighbours
from compiled.table.structural.row import StructuralRow, block_of, row_kernel


@row_kernel
def _guard(code, i, geometry, values):
    g, operand, expected, _, _ = block_of(code, i)
    for j in range(geometry[g]):
        if values[operand + j] != values[expected + j]:
            return GUARD_FAILED
    return OK


def _extents(block):
    (count,) = Reader(block).dims(1)
    return [neighbours(count), neighbours(count), None, None]


def _emit(piece, step):
    builder, (count, *_) = piece.builder, step.space.words
    seen, wanted = (Cells(piece, ref) for ref in step.operands[:2])

    def one(indices):
        lane, j = indices
        differs = builder.fcmp_unordered("!=", seen.load(j, lane), wanted.load(j, lane))
        builder.store(builder.select(differs, ir.Constant(I64, GUARD_FAILED), builder.load(piece.status)), piece.status)

    if count:
        piece.nest((piece.emitter.lanes, count), one)


GUARD = StructuralRow(
    "guard", 2, _guard, None, None, None, length=lambda words: 1, extents=_extents, differentiable=(False, False), emit=_emit,
    dependencies=lambda found, words, operands, out: None, reference=lambda *_: (), output=False)
