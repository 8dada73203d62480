"""The slow reference interpreter in plain Python: the living definition of what the sweeps compute, the idea on one page.

Every instruction comes down to points, one after another: the cells of its operands and of its output. What is not here:
anything for speed, and statuses (the program must have passed its check, its positions and guards must hold).
"""

import numpy as np

from compiled.table.layout import OUT
from compiled.table.numbers import WithTangent
from compiled.table.views import visited


@np.errstate(all="ignore")
def forward(program, values, tangents):
    """Set out = value(operands), and tangent(out) = sum of tangent(operand k) * partial k; buffers modified in place."""
    product = program.table["adjoint_product"].value
    for i in range(len(program.code)):
        for row, _, points in steps(program, i, values):
            for *cells, out in points:
                result = row.value(*values[cells])
                values[out] = values[out] + result if row.accumulates else result
                shares = [product(tangents[cells[k]], partial(*values[cells], values[out]))
                          for k, partial in enumerate(row.partials) if partial]
                tangents[out] = sum(shares, tangents[out] if row.accumulates else 0.0)


@np.errstate(all="ignore")
def reverse(program, values, adjoints, keep, tangents, adjoint_tangents):
    """Add adjoint(out) * partial k to adjoint(operand k), and the derivative of that along the tangents to its tangent."""
    product = program.table["adjoint_product"].value
    for i in reversed(range(len(program.code))):
        for row, active, points in reversed(list(steps(program, i, values))):
            for *cells, out in points:
                for k in np.flatnonzero([active >> k & 1 for k in range(len(row.partials))]):
                    partial = row.partials[k](*(WithTangent(values[x], tangents[x], program.table) for x in (*cells, out)))
                    slope, partial = getattr(partial, "tangent", 0.0), getattr(partial, "primal", partial)
                    second = product(adjoints[out], slope)
                    adjoint_tangents[cells[k]] += product(adjoint_tangents[out], partial) + second
                    adjoints[cells[k]] += product(adjoints[out], partial)
                if row.overwrites:  # operand 1 kept what stood here before
                    values[out], tangents[out] = values[cells[1]], tangents[cells[1]]
                if row.overwrites or not (keep or row.accumulates):
                    adjoints[out] = adjoint_tangents[out] = 0.0


def steps(program, i, values):
    """Instruction i as elementwise ones: for each its row, which operands are active (bits), and its points."""
    table, (opcode, space, out, a, b, c, active, _) = program.table, program.code[i].tolist()
    row, words = table.rows[opcode], program.geometry[space + 2 :].tolist()
    if not row.structural:
        shape, strides = program.iteration(i)
        views = [(first, strides[k]) for k, first in enumerate((a, b, c, out)) if k < row.arity or k == OUT]
        yield row, active, zip(*(visited(first, shape, s) for first, s in views), strict=True)
    elif row.reference is not None:
        yield from row.reference(program.table, words, (a, b, c, out), active, values)
