"""What every walk of a list shares: running the cells of one array instruction, row by row and block by block."""

from __future__ import annotations

from numba import njit

from compiled.sweeps.steps import fill_zero
from compiled.table.layout import BLOCK, OPERAND, OUTPUT, SPACE, SUMMED_BLOCK


@njit(inline="always")
def axes(geometry, space):
    """Of an elementwise block: (ndim, planes, rows of a plane, length of a row, where the strides stand).

    A row is the last axis, a plane the last two; without a second axis a plane is one row.
    """
    ndim = geometry[space]
    planes = 1
    for d in range(1, ndim - 1):
        planes *= geometry[space + d]
    rows = geometry[space + ndim - 1] if ndim > 1 else 1
    return ndim, planes, rows, geometry[space + ndim], space + 1 + ndim


@njit(inline="always")
def plane_offsets(code, i, geometry, plane):
    """First cells of plane number `plane`: of the three operands and of the output."""
    space = code[i, SPACE]
    ndim = geometry[space]
    a, b, c, out = code[i, OPERAND], code[i, OPERAND + 1], code[i, OPERAND + 2], code[i, OUTPUT]
    strides = space + 1 + ndim
    for d in range(ndim - 3, -1, -1):
        quotient = plane // geometry[space + 1 + d]
        index = plane - quotient * geometry[space + 1 + d]
        plane = quotient
        a += index * geometry[strides + d]
        b += index * geometry[strides + ndim + d]
        c += index * geometry[strides + 2 * ndim + d]
        out += index * geometry[strides + 3 * ndim + d]
    return a, b, c, out


@njit(inline="always")
def steps_of(geometry, axis, ndim):
    """Steps of the four views along an axis, given where the first one stands."""
    return geometry[axis], geometry[axis + ndim], geometry[axis + 2 * ndim], geometry[axis + 3 * ndim]


@njit(inline="always")
def moved(cells, steps, n):
    """Cells n steps on."""
    return cells[0] + n * steps[0], cells[1] + n * steps[1], cells[2] + n * steps[2], cells[3] + n * steps[3]


def make_array_step(plane_step):
    """Make `array_step(code, i, geometry, buffers)`, which runs an elementwise array instruction by `plane_step`.

    It goes block by block, so that all passes of the instruction over a block find it in the first-level cache.
    """

    @njit(inline="always")
    def array_step(code, i, geometry, buffers):
        ndim, planes, rows, length, strides = axes(geometry, code[i, SPACE])
        steps = steps_of(geometry, strides + ndim - 1, ndim)
        row_steps = steps_of(geometry, strides + ndim - 2, ndim) if ndim > 1 else (0, 0, 0, 0)
        # What is summed into one cell is rounded to the cell's precision once a block: longer ones keep sums of float32 exact.
        block = SUMMED_BLOCK if buffers[0].itemsize == 4 and min(steps) == 0 and max(steps) > 0 else BLOCK
        together = max(1, block // max(length, 1))
        for plane in range(planes):
            first = plane_offsets(code, i, geometry, plane)
            for row in range(0, rows, together):
                cells = moved(first, row_steps, row)
                for start in range(0, length, block):
                    plane_step(code, i, min(together, rows - row), min(block, length - start), moved(cells, steps, start),
                               row_steps, steps, buffers)

    return array_step


@njit(inline="always")
def clear_output(code, i, geometry, buffer):
    """Set the cells of an array instruction's output to zero in `buffer`."""
    space = code[i, SPACE]
    if geometry[space] < 0:
        out = code[i, OUTPUT]
        fill_zero(buffer, out, geometry[space + 1], 1)
        return
    ndim, planes, rows, length, strides = axes(geometry, space)
    size, low, high = planes * rows * length, 0, 0
    for d in range(ndim):
        along = (geometry[space + 1 + d] - 1) * geometry[strides + 3 * ndim + d]
        low, high = low + min(along, 0), high + max(along, 0)
    if high - low + 1 == size:  # the cells are neighbours, in whatever order; the first element need not be the lowest
        fill_zero(buffer, code[i, OUTPUT] + low, size, 1)
        return
    step = geometry[strides + 4 * ndim - 1]
    row_step = geometry[strides + 4 * ndim - 2] if ndim > 1 else 0
    for plane in range(planes):
        out = plane_offsets(code, i, geometry, plane)[3]
        for row in range(rows):
            fill_zero(buffer, out + row * row_step, length, step)
