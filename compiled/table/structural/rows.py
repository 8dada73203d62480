"""Structural instructions: what moves, multiplies or reduces cells and cannot be said cell by cell.

Each row brings a kernel a walk. A kernel takes (code, i, geometry, buffers...) and returns a status (see `layout.py`).
The blocks that the kernels read, after the words STRUCTURAL and `owned` (how many cells from OUTPUT on the instruction
sets; 0 where it adds to cells or overwrites them):

gather, scatter_add, scatter_assign   [count, low, high]; a position p means cell base + p and must have low <= p < high
matmul                                [batch ndim, m, k, n, steps of a, b, out (row, column each), batch shape,
                                       batch strides of a, of b, of out]
amax                                  [sign, kept ndim, reduced ndim, kept shape, reduced shape, kept strides of the operand,
                                       reduced strides of the operand]; sign -1 gives the minimum
guard                                 [count]
loop                                  [number of words that follow, ...], see `loops.py`
call                                  [cells of the operand, cells of the output, number of its body], see `calls.py`
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
from numba import njit

from compiled.table.layout import CALL, FLAGS, GUARD_FAILED, INDEX_ERROR, OK, OPERAND, OUTPUT, SPACE
from compiled.table.structural.blas import matrix_product
from compiled.table.structural.extents import (
    amax_extents,
    call_extents,
    guard_extents,
    indexed_extents,
    loop_extents,
    matmul_extents,
)
from compiled.table.structural.extremes import columns_extreme, row_extreme


@dataclasses.dataclass(frozen=True)
class StructuralRow:
    """One structural instruction.

    Parameters
    ----------
    name, arity, kind, kinks, source
        As in `instructions.Row`.
    forward, reverse, tangent, tangent_reverse : jitted function or None
        Kernels over the buffers (values), (values, adjoints), (values, tangents) and
        (values, tangents, adjoints, adjoint tangents); None where the walk has nothing to do.
    extents : callable
        `extents(block)` returns for the three operands and the output the (low, high) of the cells, relative to the
        first, that the kernels may touch, or None where a view is not used. Raises ValueError when the block is malformed.
    differentiable : tuple of bool
        For each operand, whether a derivative flows to it.
    accumulates, overwrites : bool
        As in `instructions.Row`.
    scratch : int, optional
        Number of the operand whose cells the kernels write for themselves.
    at_kink : callable or None
        `at_kink(words, operand, out, values)`, of the words that the kernels read, the first cells and the buffer: for each
        output whether the derivative is a convention.
    """

    name: str
    arity: int
    forward: Callable
    reverse: Callable | None
    tangent: Callable | None
    tangent_reverse: Callable | None
    extents: Callable
    differentiable: tuple[bool, ...]
    kind: str = "same"
    kinks: str = ""
    source: str = "elementary calculus"
    numpy: tuple[str, ...] = ()

    accumulates: bool = False
    overwrites: bool = False
    scratch: int | None = None
    at_kink: Callable | None = None

    structural = True

    def fingerprint(self) -> bytes:
        """Bytes that name the row; its kernels' source is hashed with the package (see `cache.py`)."""
        return repr((self.name, self.arity)).encode()


def _kernel(function):
    return njit(nogil=True, error_model="numpy", _nrt=False, no_cpython_wrapper=True, no_cfunc_wrapper=True)(function)


@_kernel
def _block(code, i):
    """Where the words of instruction i's own begin in its block, and its first cells."""
    return code[i, SPACE] + 2, code[i, OPERAND], code[i, OPERAND + 1], code[i, OPERAND + 2], code[i, OUTPUT]


@_kernel
def _position(values, cell, low, high):
    """The position stored in `cell`, or `high` when it is not a number in [low, high).

    Reverse kernels ask again: a tampered list may have changed the positions since. (Indices that Numba knows to be
    unsigned it does not count from the end, which costs as much as the check.)
    """
    stored = values[np.uintp(cell)]
    return np.int64(stored) if low <= stored < high else high


# ---------------------------------------------------------------------- gather: out[j] = base[positions[j]]


@_kernel
def _gather(code, i, geometry, values, buffer):
    g, base, positions, _, out = _block(code, i)
    low, high = geometry[g + 1], geometry[g + 2]
    for j in range(geometry[g]):
        p = _position(values, positions + j, low, high)
        if p == high:
            return INDEX_ERROR
        buffer[np.uintp(out + j)] = buffer[np.uintp(base + p)]
    return OK


@_kernel
def _gather_forward(code, i, geometry, values):
    return _gather(code, i, geometry, values, values)


@_kernel
def _gather_reverse(code, i, geometry, values, adjoints):
    g, base, positions, _, out = _block(code, i)
    if not code[i, FLAGS] & 1:
        return OK
    for j in range(geometry[g]):
        p = _position(values, positions + j, geometry[g + 1], geometry[g + 2])
        if p == geometry[g + 2]:
            return INDEX_ERROR
        adjoints[np.uintp(base + p)] += adjoints[np.uintp(out + j)]
    return OK


@_kernel
def _gather_tangent_reverse(code, i, geometry, values, tangents, adjoints, adjoint_tangents):
    _gather_reverse(code, i, geometry, values, adjoints)
    return _gather_reverse(code, i, geometry, values, adjoint_tangents)


# ---------------------------------------------------------------------- scatter_add: out[positions[j]] += operand[j]


@_kernel
def _scatter(code, i, geometry, values, buffer):
    g, source, positions, _, out = _block(code, i)
    low, high = geometry[g + 1], geometry[g + 2]
    for j in range(geometry[g]):
        p = _position(values, positions + j, low, high)
        if p == high:
            return INDEX_ERROR
        buffer[np.uintp(out + p)] += buffer[np.uintp(source + j)]
    return OK


@_kernel
def _scatter_forward(code, i, geometry, values):
    return _scatter(code, i, geometry, values, values)


@_kernel
def _scatter_reverse(code, i, geometry, values, adjoints):
    g, source, positions, _, out = _block(code, i)
    if not code[i, FLAGS] & 1:
        return OK
    for j in range(geometry[g]):
        p = _position(values, positions + j, geometry[g + 1], geometry[g + 2])
        if p == geometry[g + 2]:
            return INDEX_ERROR
        adjoints[np.uintp(source + j)] += adjoints[np.uintp(out + p)]
    return OK


@_kernel
def _scatter_tangent_reverse(code, i, geometry, values, tangents, adjoints, adjoint_tangents):
    _scatter_reverse(code, i, geometry, values, adjoints)
    return _scatter_reverse(code, i, geometry, values, adjoint_tangents)


# ---------------------------------------------------------------------- scatter_assign: out[positions[j]] = operand[j]


@_kernel
def _put(code, i, geometry, values, buffer):
    """Operand 2 keeps what is overwritten, one position after another: of equal positions the last one wins."""
    g, source, positions, saved, out = _block(code, i)
    low, high = geometry[g + 1], geometry[g + 2]
    for j in range(geometry[g]):
        p = _position(values, positions + j, low, high)
        if p == high:
            return INDEX_ERROR
        cell = np.uintp(out + p)
        buffer[np.uintp(saved + j)] = buffer[cell]
        buffer[cell] = buffer[np.uintp(source + j)]
    return OK


@_kernel
def _put_forward(code, i, geometry, values):
    return _put(code, i, geometry, values, values)


@_kernel
def _unput(code, i, geometry, values, buffer):
    g, _, positions, saved, out = _block(code, i)
    for j in range(geometry[g] - 1, -1, -1):
        p = _position(values, positions + j, geometry[g + 1], geometry[g + 2])
        if p != geometry[g + 2]:
            buffer[np.uintp(out + p)] = buffer[np.uintp(saved + j)]


@_kernel
def _take_adjoint(code, i, geometry, values, adjoints):
    g, source, positions, saved, out = _block(code, i)
    active = code[i, FLAGS] & 1
    for j in range(geometry[g] - 1, -1, -1):
        p = _position(values, positions + j, geometry[g + 1], geometry[g + 2])
        if p == geometry[g + 2]:
            continue
        cell, kept = np.uintp(out + p), np.uintp(saved + j)
        if active:
            adjoints[np.uintp(source + j)] += adjoints[cell]
        # What was overwritten lives on in the saved cells, which a nested derivative may have read.
        adjoints[cell] = adjoints[kept]
        adjoints[kept] = 0.0


@_kernel
def _put_reverse(code, i, geometry, values, adjoints):
    _take_adjoint(code, i, geometry, values, adjoints)
    _unput(code, i, geometry, values, values)
    return OK


@_kernel
def _put_tangent_reverse(code, i, geometry, values, tangents, adjoints, adjoint_tangents):
    _take_adjoint(code, i, geometry, values, adjoints)
    _take_adjoint(code, i, geometry, values, adjoint_tangents)
    _unput(code, i, geometry, values, tangents)
    _unput(code, i, geometry, values, values)
    return OK


# ---------------------------------------------------------------------- walking the axes of a view


@_kernel
def _offset(flat, geometry, shape, strides, ndim):
    """Cell offset of element number `flat` (row-major) of a view."""
    offset = 0
    for d in range(ndim - 1, -1, -1):
        quotient = flat // geometry[shape + d]
        offset += (flat - quotient * geometry[shape + d]) * geometry[strides + d]
        flat = quotient
    return offset


@_kernel
def _size(geometry, shape, ndim):
    size = 1
    for d in range(ndim):
        size *= geometry[shape + d]
    return size


# ---------------------------------------------------------------------- matmul: out = a b, over a batch


@_kernel
def _products(code, i, geometry, a_cells, b_cells, out_cells, target, beta):
    """Run one of the three products over the batch: target 3 is out = a b, 0 is a += out b', 1 is b += a' out."""
    g, a0, b0, _, out0 = _block(code, i)
    ndim, m, k, n = geometry[g], geometry[g + 1], geometry[g + 2], geometry[g + 3]
    a_row, a_col = geometry[g + 4], geometry[g + 5]
    b_row, b_col = geometry[g + 6], geometry[g + 7]
    c_row, c_col = geometry[g + 8], geometry[g + 9]
    shape = g + 10
    for batch in range(_size(geometry, shape, ndim)):
        a = a0 + _offset(batch, geometry, shape, shape + ndim, ndim)
        b = b0 + _offset(batch, geometry, shape, shape + 2 * ndim, ndim)
        c = out0 + _offset(batch, geometry, shape, shape + 3 * ndim, ndim)
        if target == 3:
            matrix_product(m, k, n, a_cells, a, a_row, a_col, b_cells, b, b_row, b_col, out_cells, c, c_row, c_col, beta)
        elif target == 0:
            matrix_product(m, n, k, out_cells, c, c_row, c_col, b_cells, b, b_col, b_row, a_cells, a, a_row, a_col, beta)
        else:
            matrix_product(k, m, n, a_cells, a, a_col, a_row, out_cells, c, c_row, c_col, b_cells, b, b_row, b_col, beta)


@_kernel
def _matmul_forward(code, i, geometry, values):
    _products(code, i, geometry, values, values, values, 3, 0.0)
    return OK


@_kernel
def _matmul_reverse(code, i, geometry, values, adjoints):
    if code[i, FLAGS] & 1:
        _products(code, i, geometry, adjoints, values, adjoints, 0, 1.0)
    if code[i, FLAGS] & 2:
        _products(code, i, geometry, values, adjoints, adjoints, 1, 1.0)
    return OK


@_kernel
def _matmul_tangent(code, i, geometry, values, tangents):
    _products(code, i, geometry, tangents, values, tangents, 3, 0.0)
    _products(code, i, geometry, values, tangents, tangents, 3, 1.0)
    return OK


@_kernel
def _matmul_tangent_reverse(code, i, geometry, values, tangents, adjoints, adjoint_tangents):
    _matmul_reverse(code, i, geometry, values, adjoints)
    _matmul_reverse(code, i, geometry, values, adjoint_tangents)
    if code[i, FLAGS] & 1:
        _products(code, i, geometry, adjoint_tangents, tangents, adjoints, 0, 1.0)
    if code[i, FLAGS] & 2:
        _products(code, i, geometry, tangents, adjoint_tangents, adjoints, 1, 1.0)
    return OK


# ---------------------------------------------------------------------- amax: the extreme over some axes


@_kernel
def _reduction(code, i, geometry):
    """Number of outputs, number of rows reduced to each, length of a row, where the shapes and strides stand."""
    g = code[i, SPACE] + 2
    kept, reduced = geometry[g + 1], geometry[g + 2]
    shape = g + 3
    strides = shape + kept + reduced
    rows = _size(geometry, shape + kept, reduced - 1)
    return _size(geometry, shape, kept), rows, geometry[shape + kept + reduced - 1], kept, reduced, shape, strides


@_kernel
def _amax_forward(code, i, geometry, values):
    g, operand, _, _, out = _block(code, i)
    sign = geometry[g]
    outputs, rows, length, kept, reduced, shape, strides = _reduction(code, i, geometry)
    step = geometry[strides + kept + reduced - 1]
    columns = kept > 0 and geometry[strides + kept - 1] == 1 and step != 1
    together = geometry[shape + kept - 1] if columns else 1
    for o in range(0, outputs, max(together, 1)):
        first = operand + _offset(o, geometry, shape, strides, kept)
        for k in range(together):
            values[np.uintp(out + o + k)] = values[np.uintp(first + k)]
        for r in range(rows):
            cell = first + _offset(r, geometry, shape + kept, strides + kept, reduced - 1)
            if step == 1:
                values[out + o] = _larger(values[out + o], row_extreme(values, cell, length, sign), sign)
                continue
            for j in range(length):
                columns_extreme(values, out + o, cell + j * step, together, sign)
    return OK


@_kernel
def _larger(best, x, sign):
    """The larger (of sign -1 the smaller) of two numbers; a NaN wins and stays."""
    return x if not sign * x <= sign * best and best == best else best


@_kernel
def _tangent_over_ties(code, i, geometry, values, tangents, o):
    """Number of elements that tie for output o, and the sum of their tangents."""
    _, operand, _, _, out = _block(code, i)
    _, rows, length, kept, reduced, shape, strides = _reduction(code, i, geometry)
    step = geometry[strides + kept + reduced - 1]
    first = operand + _offset(o, geometry, shape, strides, kept)
    extreme, ties, total = values[out + o], 0, 0.0
    for r in range(rows):
        cell = first + _offset(r, geometry, shape + kept, strides + kept, reduced - 1)
        for j in range(length):
            place = np.uintp(cell + j * step)
            if values[place] == extreme:
                ties += 1
                total += tangents[place]
    return ties, total


@_kernel
def _amax_tangent(code, i, geometry, values, tangents):
    for o in range(_reduction(code, i, geometry)[0]):
        ties, total = _tangent_over_ties(code, i, geometry, values, tangents, o)
        tangents[code[i, OUTPUT] + o] = total / ties
    return OK


@_kernel
def _amax_reverse(code, i, geometry, values, adjoints):
    _, operand, _, _, out = _block(code, i)
    if not code[i, FLAGS] & 1:
        return OK
    outputs, rows, length, kept, reduced, shape, strides = _reduction(code, i, geometry)
    step = geometry[strides + kept + reduced - 1]
    for o in range(outputs):
        adjoint, extreme = adjoints[out + o], values[out + o]
        if adjoint == 0.0:
            continue
        ties, _ = _tangent_over_ties(code, i, geometry, values, values, o)
        share = adjoint / ties if ties else np.nan
        first = operand + _offset(o, geometry, shape, strides, kept)
        for r in range(rows):
            cell = first + _offset(r, geometry, shape + kept, strides + kept, reduced - 1)
            for j in range(length):
                place = np.uintp(cell + j * step)
                if values[place] == extreme or ties == 0:
                    adjoints[place] += share
    return OK


@_kernel
def _amax_tangent_reverse(code, i, geometry, values, tangents, adjoints, adjoint_tangents):
    _amax_reverse(code, i, geometry, values, adjoints)
    return _amax_reverse(code, i, geometry, values, adjoint_tangents)


def _amax_ties(words, operand, out, values):
    """Of which outputs more than one element is the extreme."""
    kept, reduced = int(words[1]), int(words[2])
    shape = tuple(int(n) for n in words[3 : 3 + kept + reduced])
    strides = tuple(int(n) * values.itemsize for n in words[3 + kept + reduced : 3 + 2 * (kept + reduced)])
    elements = np.ndarray(shape, values.dtype, values, operand * values.itemsize, strides)
    extremes = values[out : out + math.prod(shape[:kept])].reshape(shape[:kept] + (1,) * reduced)
    return np.sum(elements == extremes, axis=tuple(range(kept, kept + reduced))).ravel() > 1


# ---------------------------------------------------------------------- guard: stop where a recorded decision changes


@_kernel
def _guard(code, i, geometry, values):
    g, operand, expected, _, _ = _block(code, i)
    for j in range(geometry[g]):
        if values[operand + j] != values[expected + j]:
            return GUARD_FAILED
    return OK


# ---------------------------------------------------------------------- loop, call: run by whoever runs the sweep


@_kernel
def _by_the_caller(code, i, geometry, values):
    return CALL


# ---------------------------------------------------------------------- the rows

STRUCTURAL_ROWS = (
    StructuralRow("gather", 2, _gather_forward, _gather_reverse, _gather, _gather_tangent_reverse,
                  indexed_extents((0,), (1, 3)), (True, False)),
    StructuralRow("scatter_add", 2, _scatter_forward, _scatter_reverse, _scatter, _scatter_tangent_reverse,
                  indexed_extents((3,), (0, 1)), (True, False), accumulates=True),
    StructuralRow("scatter_assign", 3, _put_forward, _put_reverse, _put, _put_tangent_reverse,
                  indexed_extents((3,), (0, 1, 2)), (True, False, False), overwrites=True, scratch=2),
    StructuralRow("matmul", 2, _matmul_forward, _matmul_reverse, _matmul_tangent, _matmul_tangent_reverse,
                  matmul_extents, (True, True), kind="float"),
    StructuralRow("amax", 1, _amax_forward, _amax_reverse, _amax_tangent, _amax_tangent_reverse, amax_extents, (True,),
                  kinks="elements that tie share the adjoint equally; if one element is NaN, so is every partial",
                  at_kink=_amax_ties),
    StructuralRow("loop", 3, _by_the_caller, None, None, None, loop_extents, (True, True, True), kind="float"),
    StructuralRow("call", 1, _by_the_caller, None, None, None, call_extents, (True,), kind="float"),
    StructuralRow("guard", 2, _guard, None, None, None, guard_extents, (False, False)),
)
