"""loop and call: what whoever runs the list runs. How they are differentiated is registered by `tape`.

The words of a loop are [number of words that follow, sizes of the three operands and of the output, ...], see `lists/loops.py`;
those of a call [cells of the operand, cells of the output, number of its body], see `lists/calls.py`.
"""

from __future__ import annotations

from compiled.table.layout import CALL
from compiled.table.structural.extents import Reader, neighbours
from compiled.table.structural.row import StructuralRow, row_kernel


@row_kernel
def _by_the_caller(code, i, geometry, values):
    return CALL


def _loop_extents(block):
    reader = Reader(block)
    reader.take(1)
    return [neighbours(size) for size in reader.dims(4)]


def _call_extents(block):
    operand, output = Reader(block).dims(2)
    return [neighbours(operand), None, None, neighbours(output)]


def _loop_dependencies(found, words, operands, out):
    *sizes, size = (int(w) for w in words[1:5])
    found.put_all(zip(operands, operands + sizes, strict=True), out, size)


def _call_dependencies(found, words, operands, out):
    found.put_all([(operands[0], operands[0] + words[0])], out, int(words[1]))


LOOP = StructuralRow(
    "loop", 3, _by_the_caller, None, None, None, length=lambda words: 1 + int(words[0]), extents=_loop_extents,
    differentiable=(True, True, True), emit=lambda piece, step: piece.loop(step), dependencies=_loop_dependencies, kind="float")

CALLED = StructuralRow(
    "call", 1, _by_the_caller, None, None, None, length=lambda words: 3, extents=_call_extents, differentiable=(True,),
    emit=lambda piece, step: piece.call(step), dependencies=_call_dependencies, lanes=False, kind="float")
