"""What every walk of a list shares: running the cells of one array instruction, row by row and block by block."""

from __future__ import annotations

from numba import njit

from compiled.layout import BLOCK, OPERAND, OUTPUT, SPACE
from compiled.llvm import fill_zero


@njit(inline="always")
def iteration(geometry, space):
    """Return (ndim, number of rows, length of a row, where the strides stand) of an elementwise block."""
    ndim = geometry[space]
    rows = 1
    for d in range(1, ndim):
        rows *= geometry[space + d]
    length = geometry[space + ndim]
    return ndim, rows if length else 0, length, space + 1 + ndim


@njit(inline="always")
def row_offsets(code, i, geometry, row):
    """First cells of row number `row`: of the three operands and of the output."""
    space = code[i, SPACE]
    ndim = geometry[space]
    a, b, c, out = code[i, OPERAND], code[i, OPERAND + 1], code[i, OPERAND + 2], code[i, OUTPUT]
    strides = space + 1 + ndim
    for d in range(ndim - 2, -1, -1):
        quotient = row // geometry[space + 1 + d]
        index = row - quotient * geometry[space + 1 + d]
        row = quotient
        a += index * geometry[strides + d]
        b += index * geometry[strides + ndim + d]
        c += index * geometry[strides + 2 * ndim + d]
        out += index * geometry[strides + 3 * ndim + d]
    return a, b, c, out


def make_array_step(row_step):
    """Make `array_step(code, i, geometry, buffers)`, which runs an elementwise array instruction by `row_step`."""

    @njit(inline="always")
    def array_step(code, i, geometry, buffers):
        ndim, rows, length, strides = iteration(geometry, code[i, SPACE])
        last = strides + ndim - 1
        steps = (geometry[last], geometry[last + ndim], geometry[last + 2 * ndim], geometry[last + 3 * ndim])
        for row in range(rows):
            a, b, c, out = row_offsets(code, i, geometry, row)
            for start in range(0, length, BLOCK):
                offsets = (a + start * steps[0], b + start * steps[1], c + start * steps[2], out + start * steps[3])
                row_step(code, i, min(BLOCK, length - start), offsets, steps, buffers)

    return array_step


@njit(inline="always")
def clear_output(code, i, geometry, buffer):
    """Set the cells of an array instruction's output to zero in `buffer`."""
    space = code[i, SPACE]
    if geometry[space] < 0:
        out = code[i, OUTPUT]
        fill_zero(buffer, out, geometry[space + 1], 1)
        return
    ndim, rows, length, strides = iteration(geometry, space)
    step = geometry[strides + 4 * ndim - 1]
    for row in range(rows):
        _, _, _, out = row_offsets(code, i, geometry, row)
        fill_zero(buffer, out, length, step)
