"""The forward sweep: walks the list up and fills the value buffer."""

from __future__ import annotations

from compiled.cache import kernel
from compiled.sweeps.planes import Update
from compiled.sweeps.steps import structural_intrinsic, walk_intrinsics
from compiled.sweeps.sweep import make_array_step
from compiled.table.layout import OK, OUT, SCALAR, SPACE, STATUS_BITS

VALUES = 0


def walk(table, row):
    """out = value(operands), or out += value(operands)."""

    def body(load):
        return table.apply(row.name, *(load(VALUES, k) for k in range(row.arity)))

    return [Update((VALUES, OUT), body, row.accumulates)]


def make_forward(table):
    """Make the sweep `forward(code, geometry, values, start, stop) -> status` over instructions start to stop.

    The status is -1, or says which instruction stopped the sweep and why (`layout.STATUS_BITS`).
    """
    scalar_step, plane_step = walk_intrinsics("forward", table, walk, buffers=1)
    structural_step = structural_intrinsic(table, "forward")
    array_step = make_array_step(plane_step)

    @kernel(table)
    def forward(code, geometry, values, start, stop):
        for i in range(start, stop):
            space = code[i, SPACE]
            if space == SCALAR:
                scalar_step(code, i, (values,))
            elif geometry[space] >= 0:
                array_step(code, i, geometry, (values,))
            else:
                status = structural_step(code, i, geometry, (values,))
                if status != OK:
                    return i << STATUS_BITS | status
        return -1

    return forward
