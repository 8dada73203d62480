"""The reverse sweep: walks the list down and adds into the adjoint buffer, in place."""

from __future__ import annotations

from compiled.cache import kernel
from compiled.sweeps.planes import Update
from compiled.sweeps.steps import structural_intrinsic, walk_intrinsics
from compiled.sweeps.sweep import clear_output, make_array_step
from compiled.table.layout import ACCUMULATES, FLAGS, LIVE, OUT, OUTPUT, SCALAR, SPACE
from compiled.table.numbers import product

VALUES, ADJOINTS = 0, 1


def walk(table, row):
    """adjoint(operand k) += adjoint(out) * partial k, for each active operand.

    An assignment takes the adjoint out of the cells it overwrote, and puts their former values back.
    """

    def update(k, partial):
        def body(load):
            operands = (load(VALUES, j) for j in range(row.arity))
            return product(table, load(ADJOINTS, OUT), partial(*operands, load(VALUES, OUT)))

        return Update((ADJOINTS, k), body, add=True, active=k)

    updates = [update(k, partial) for k, partial in enumerate(row.partials) if partial is not None]
    if row.overwrites:
        updates.append(Update((ADJOINTS, OUT), lambda load: 0.0, add=False))
        updates.append(Update((VALUES, OUT), lambda load: load(VALUES, 1), add=False))
    return updates


def make_reverse(table):
    """Make the sweep `reverse(code, geometry, values, adjoints, keep)`, from the last instruction to the first.

    With `keep` false every adjoint is set to zero once it has been handed on, so that the buffer is clean for the next
    sweep and only the inputs' adjoints remain. Cells overwritten by assignments get their former values back.
    """
    scalar_step, plane_step = walk_intrinsics("reverse", table, walk, buffers=2)
    structural_step = structural_intrinsic(table, "reverse")
    array_step = make_array_step(plane_step)

    @kernel(table)
    def reverse(code, geometry, values, adjoints, keep):
        for i in range(len(code) - 1, -1, -1):
            flags = code[i, FLAGS]
            if not flags & LIVE:
                continue
            space = code[i, SPACE]
            if space == SCALAR:
                scalar_step(code, i, (values, adjoints))
                if not (keep or flags & ACCUMULATES):
                    adjoints[code[i, OUTPUT]] = 0.0
                continue
            if geometry[space] >= 0:
                array_step(code, i, geometry, (values, adjoints))
            else:
                structural_step(code, i, geometry, (values, adjoints))
            if not (keep or flags & ACCUMULATES):
                clear_output(code, i, geometry, adjoints)

    return reverse
