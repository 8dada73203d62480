"""The tangent sweep: walks the list up and fills the tangent buffer from values that the forward sweep left."""

from __future__ import annotations

from compiled.cache import kernel
from compiled.sweeps.forward import walk as forward_walk
from compiled.sweeps.planes import Update
from compiled.sweeps.steps import structural_intrinsic, walk_intrinsics
from compiled.sweeps.sweep import make_array_step
from compiled.table.layout import OK, OUT, SCALAR, SPACE, STATUS_BITS
from compiled.table.numbers import plus, product

VALUES, TANGENTS = 0, 1


def walk(table, row):
    """tangent(out) = sum over k of tangent(operand k) * partial k."""

    def body(load):
        operands = [load(VALUES, k) for k in range(row.arity)]
        total = 0.0
        for k, partial in enumerate(row.partials):
            if partial is not None:
                total = plus(total, product(table, load(TANGENTS, k), partial(*operands, load(VALUES, OUT))))
        return total

    return [Update((TANGENTS, OUT), body, row.accumulates)]


def make_tangent(table):
    """Make the sweep `tangent(code, geometry, values, tangents) -> status`.

    It walks up together with a forward sweep's results: cells that an assignment overwrites must hold what they held when
    the instruction ran, so it runs each instruction's value and then its tangent.
    """
    value_scalar, value_plane = walk_intrinsics("forward", table, forward_walk, buffers=1)
    tangent_scalar, tangent_plane = walk_intrinsics("tangent", table, walk, buffers=2)
    value_structural = structural_intrinsic(table, "forward")
    tangent_structural = structural_intrinsic(table, "tangent")
    value_array, tangent_array = make_array_step(value_plane), make_array_step(tangent_plane)

    @kernel(table)
    def tangent(code, geometry, values, tangents):
        for i in range(len(code)):
            space = code[i, SPACE]
            if space == SCALAR:
                value_scalar(code, i, (values,))
                tangent_scalar(code, i, (values, tangents))
            elif geometry[space] >= 0:
                value_array(code, i, geometry, (values,))
                tangent_array(code, i, geometry, (values, tangents))
            else:
                status = value_structural(code, i, geometry, (values,))
                if status != OK:
                    return i << STATUS_BITS | status
                tangent_structural(code, i, geometry, (values, tangents))
        return -1

    return tangent
