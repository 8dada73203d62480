"""Tangent over reverse: the reverse sweep and its derivative along the tangents, which gives Hessian-vector products."""

from __future__ import annotations

from compiled.cache import kernel
from compiled.sweeps.planes import Update
from compiled.sweeps.reverse import walk as reverse_walk
from compiled.sweeps.steps import structural_intrinsic, walk_intrinsics
from compiled.sweeps.sweep import clear_output, make_array_step
from compiled.table.layout import ACCUMULATES, FLAGS, LIVE, OUT, OUTPUT, SCALAR, SPACE
from compiled.table.numbers import WithTangent, plus, product

VALUES, TANGENTS, ADJOINTS, ADJOINT_TANGENTS = 0, 1, 2, 3


def walk(table, row):
    """For each active operand k, with p its partial and p' the derivative of p along the tangents.

    adjoint(k) += adjoint(out) * p;  adjoint tangent(k) += adjoint tangent(out) * p + adjoint(out) * p'
    """

    def adjoint_tangent(k, partial):
        def body(load):
            duals = [WithTangent(load(VALUES, j), load(TANGENTS, j), table) for j in (*range(row.arity), OUT)]
            p = partial(*duals)
            primal, tangent = (p.primal, p.tangent) if isinstance(p, WithTangent) else (p, 0.0)
            first = product(table, load(ADJOINT_TANGENTS, OUT), primal)
            return plus(first, product(table, load(ADJOINTS, OUT), tangent))

        return Update((ADJOINT_TANGENTS, k), body, add=True, active=k)

    def renumbered(update):
        numbers = (VALUES, ADJOINTS)

        def body(load):
            return update.body(lambda buffer, operand: load(numbers[buffer], operand))

        return Update((numbers[update.target[0]], update.target[1]), body, update.add, update.active)

    # The adjoint tangents come first: they read values and adjoints that an assignment's reverse pass resets.
    updates = [adjoint_tangent(k, p) for k, p in enumerate(row.partials) if p is not None]
    if row.overwrites:
        updates.append(Update((ADJOINT_TANGENTS, OUT), lambda load: 0.0, add=False))
        updates.append(Update((TANGENTS, OUT), lambda load: load(TANGENTS, 1), add=False))
    return updates + [renumbered(update) for update in reverse_walk(table, row)]


def make_tangent_reverse(table):
    """Make the sweep `tangent_reverse(code, geometry, values, tangents, adjoints, adjoint_tangents)`.

    Values and tangents are those that the tangent sweep left. Adjoints are set to zero once handed on, as in the reverse
    sweep without `keep`.
    """
    scalar_step, plane_step = walk_intrinsics("tangent_reverse", table, walk, buffers=4)
    structural_step = structural_intrinsic(table, "tangent_reverse")
    array_step = make_array_step(plane_step)

    @kernel(table)
    def tangent_reverse(code, geometry, values, tangents, adjoints, adjoint_tangents):
        for i in range(len(code) - 1, -1, -1):
            flags = code[i, FLAGS]
            if not flags & LIVE:
                continue
            space = code[i, SPACE]
            buffers = (values, tangents, adjoints, adjoint_tangents)
            if space == SCALAR:
                scalar_step(code, i, buffers)
                if not flags & ACCUMULATES:
                    adjoints[code[i, OUTPUT]] = 0.0
                    adjoint_tangents[code[i, OUTPUT]] = 0.0
                continue
            if geometry[space] >= 0:
                array_step(code, i, geometry, buffers)
            else:
                structural_step(code, i, geometry, buffers)
            if not flags & ACCUMULATES:
                clear_output(code, i, geometry, adjoints)
                clear_output(code, i, geometry, adjoint_tangents)

    return tangent_reverse
