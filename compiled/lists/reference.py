"""The slow reference interpreter in plain Python: the living definition of what the sweeps compute, the idea on one page.

Every instruction comes down to points, one after another: the cells of its operands and of its output. What is not here:
anything for speed, and statuses (the program must have passed its check, its positions and guards must hold).
"""

import numpy as np

from compiled.table.instructions import Row, f
from compiled.table.layout import OUT
from compiled.table.numbers import Dual


@np.errstate(all="ignore")
def forward(program, values, tangents):
    """Set out = value(operands), and tangent(out) = sum of tangent(operand k) * partial k; buffers modified in place."""
    for i in range(len(program.code)):
        for row, _, points in steps(program, i, values):
            for *cells, out in points:
                result = row.value(*values[cells])
                values[out] = values[out] + result if row.accumulates else result
                shares = [_share(program, row, k, tangents[cells[k]], partial(*values[cells], values[out]))
                          for k, partial in enumerate(row.partials) if partial]
                tangents[out] = sum(shares, tangents[out] if row.accumulates else 0.0)


def _share(program, row, k, flow, partial):
    """Nothing of a flow of zero, and nothing through an operand that the row did not take."""
    return 0.0 if k in row.selects and partial == 0.0 else program.table["adjoint_product"].value(flow, partial)


@np.errstate(all="ignore")
def reverse(program, values, adjoints, keep, tangents, adjoint_tangents):
    """Add adjoint(out) * partial k to adjoint(operand k), and the derivative of that along the tangents to its tangent."""
    product = program.table["adjoint_product"].value
    for i in reversed(range(len(program.code))):
        for row, active, points in reversed(list(steps(program, i, values))):
            for *cells, out in points:
                for k in np.flatnonzero([active >> k & 1 for k in range(row.arity)]):
                    partial = row.partials[k](*(Dual(values[x], tangents[x], program.table) for x in (*cells, out)))
                    slope, partial = getattr(partial, "tangent", 0.0), getattr(partial, "primal", partial)
                    second = product(adjoints[out], slope)
                    adjoint_tangents[cells[k]] += _share(program, row, k, adjoint_tangents[out], partial) + second
                    adjoints[cells[k]] += _share(program, row, k, adjoints[out], partial)
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
    elif row.name in ("gather", "scatter_add", "scatter_assign"):
        for j, p in enumerate(values[b : b + words[0]].astype(int).tolist()):
            if row.name == "scatter_assign":
                yield table["copy"], 1, [(out + p, c + j)]
            name, point = {"gather": ("copy", (a + p, out + j)), "scatter_add": ("accumulate", (a + j, out + p)),
                           "scatter_assign": ("assign", (a + j, c + j, out + p))}[row.name]
            yield table[name], active, [point]
    elif row.name == "matmul":
        d, m, k, n, a_row, a_col, b_row, b_col, out_row, out_col, *words = words
        batch, over_a, over_b, over_out = (words[j * d : (j + 1) * d] for j in range(4))
        yield table["zero"], 0, zip(visited(out, (*batch, m, n), (*over_out, out_row, out_col)))
        views = (a, (*over_a, a_row, a_col, 0)), (b, (*over_b, 0, b_row, b_col)), (out, (*over_out, out_row, 0, out_col))
        yield table["accumulate_product"], active, zip(*(visited(x, (*batch, m, k, n), s) for x, s in views), strict=True)
    elif row.name == "amax":
        sign, kept, reduced, *words = words
        shape, lengths, *strides = np.split(words[: 2 * (kept + reduced)], np.cumsum([kept, reduced, kept]))
        for o, first in enumerate(visited(a, shape, strides[0])):
            cells = visited(first, lengths, strides[1])
            share = [lambda *x, k=k: f.eq(x[k], x[-1]) / sum(f.eq(y, x[-1]) for y in x[:-1]) for k in range(len(cells))]
            row = Row("amax", len(cells), lambda *x: sign * np.max(np.multiply(sign, x)), share)
            yield row, -(active & 1), [(*cells, out + o)]


def visited(first, shape, strides):
    """The cells of a view, in row-major order."""
    return [first + sum(i * s for i, s in zip(index, strides, strict=True)) for index in np.ndindex(*shape)]
