"""amax: the extreme over some axes of a view.

Its words are [sign, kept ndim, reduced ndim, kept shape, reduced shape, kept strides of the operand, reduced strides of the
operand]; sign -1 gives the minimum.
"""

from __future__ import annotations

import math

import numpy as np
from llvmlite import ir
from numba.core import cgutils

from compiled.table.layout import FLAGS, OK, OPERAND, OUTPUT, SPACE
from compiled.table.llvm import I64
from compiled.table.structural.extents import Reader, neighbours, span
from compiled.table.structural.extremes import columns_extreme, emit_columns_extreme, emit_row_extreme, row_extreme
from compiled.table.structural.row import Rule, StructuralRow, block_of, offset_of, row_kernel, size_of, stack_cells
from compiled.table.views import View, contiguous, visited

COLUMNS = 64
"""Outputs whose ties are counted side by side."""


def _extents(block):
    reader = Reader(block)
    (sign,) = reader.take(1)
    kept, reduced = reader.dims(2)
    shape, reduced_shape = reader.dims(kept), reader.dims(reduced)
    if abs(sign) != 1 or reduced < 1 or 0 in reduced_shape:
        raise ValueError("an extreme of no elements, or of no sign")
    operand = span(shape + reduced_shape, reader.take(kept + reduced))
    return [operand, None, None, neighbours(math.prod(shape))]


# ---------------------------------------------------------------------- kernels


@row_kernel
def _reduction(code, i, geometry):
    """Number of outputs, number of rows reduced to each, length of a row, where the shapes and strides stand."""
    g = code[i, SPACE] + 2
    kept, reduced = geometry[g + 1], geometry[g + 2]
    shape = g + 3
    strides = shape + kept + reduced
    rows = size_of(geometry, shape + kept, reduced - 1)
    return size_of(geometry, shape, kept), rows, geometry[shape + kept + reduced - 1], kept, reduced, shape, strides


@row_kernel
def _columns(geometry, kept, reduced, shape, strides):
    """How many outputs are reduced side by side: those of the last kept axis, where their cells are neighbours."""
    side_by_side = kept > 0 and geometry[strides + kept - 1] == 1 and geometry[strides + kept + reduced - 1] != 1
    return max(geometry[shape + kept - 1], 1) if side_by_side else 1


@row_kernel
def _amax_forward(code, i, geometry, values):
    g, operand, _, _, out = block_of(code, i)
    sign = geometry[g]
    outputs, rows, length, kept, reduced, shape, strides = _reduction(code, i, geometry)
    step = geometry[strides + kept + reduced - 1]
    together = _columns(geometry, kept, reduced, shape, strides)
    for o in range(0, outputs, together):
        first = operand + offset_of(o, geometry, shape, strides, kept)
        for k in range(together):
            values[np.uintp(out + o + k)] = values[np.uintp(first + k)]
        for r in range(rows):
            cell = first + offset_of(r, geometry, shape + kept, strides + kept, reduced - 1)
            if step == 1:
                values[out + o] = _larger(values[out + o], row_extreme(values, cell, length, sign), sign)
                continue
            for j in range(length):
                columns_extreme(values, out + o, cell + j * step, together, sign)
    return OK


@row_kernel
def _larger(best, x, sign):
    """The larger (of sign -1 the smaller) of two numbers; a NaN wins and stays."""
    return x if not sign * x <= sign * best and best == best else best


@row_kernel
def _sum_over_ties(code, i, geometry, values, summed, first, out, n, ties, totals):
    """For n outputs from cell `out` on: the number of elements that tie, and the sum of `summed` over them.

    `first` is the first element of the first output; those of the others are its neighbours.
    """
    _, rows, length, kept, reduced, shape, strides = _reduction(code, i, geometry)
    step = geometry[strides + kept + reduced - 1]
    for k in range(n):
        ties[k] = 0.0
        totals[k] = 0.0
    for r in range(rows):
        cell = first + offset_of(r, geometry, shape + kept, strides + kept, reduced - 1)
        for j in range(length):
            for k in range(n):
                place = np.uintp(cell + j * step + k)
                tie = 1.0 if values[place] == values[np.uintp(out + k)] else 0.0
                ties[k] += tie
                totals[k] += summed[place] if tie else 0.0


@row_kernel
def _amax_tangent(code, i, geometry, values, tangents):
    _, operand, _, _, out = block_of(code, i)
    outputs, _, _, kept, reduced, shape, strides = _reduction(code, i, geometry)
    together = _columns(geometry, kept, reduced, shape, strides)
    ties, totals = stack_cells(values, COLUMNS), stack_cells(values, COLUMNS)
    for o in range(0, outputs, together):
        first = operand + offset_of(o, geometry, shape, strides, kept)
        for start in range(0, together, COLUMNS):
            n, place = min(COLUMNS, together - start), out + o + start
            _sum_over_ties(code, i, geometry, values, tangents, first + start, place, n, ties, totals)
            for k in range(n):
                tangents[place + k] = totals[k] / ties[k]
    return OK


@row_kernel
def _amax_reverse(code, i, geometry, values, adjoints):
    _, operand, _, _, out = block_of(code, i)
    if not code[i, FLAGS] & 1:
        return OK
    outputs, rows, length, kept, reduced, shape, strides = _reduction(code, i, geometry)
    step = geometry[strides + kept + reduced - 1]
    together = _columns(geometry, kept, reduced, shape, strides)
    ties, shares = stack_cells(values, COLUMNS), stack_cells(values, COLUMNS)
    for o in range(0, outputs, together):
        first = operand + offset_of(o, geometry, shape, strides, kept)
        for start in range(0, together, COLUMNS):
            n, place = min(COLUMNS, together - start), out + o + start
            if _is_zero(adjoints, place, n):
                continue
            _sum_over_ties(code, i, geometry, values, values, first + start, place, n, ties, shares)
            for k in range(n):
                adjoint = adjoints[place + k]
                shares[k] = (adjoint / ties[k] if ties[k] else np.nan) if adjoint else 0.0
            for r in range(rows):
                cell = first + start + offset_of(r, geometry, shape + kept, strides + kept, reduced - 1)
                for j in range(length):
                    _add_shares(values, adjoints, cell + j * step, place, n, ties, shares)
    return OK


@row_kernel
def _is_zero(cells, first, n):
    """Whether n neighbours are zero."""
    found = False
    for k in range(n):
        found |= cells[first + k] != 0.0
    return not found


@row_kernel
def _add_shares(values, adjoints, cell, out, n, ties, shares):
    """Add to n neighbouring adjoints the shares of those that tie; where the extreme is NaN, all of them."""
    for k in range(n):
        place = np.uintp(cell + k)
        adjoints[place] += shares[k] if values[place] == values[np.uintp(out + k)] or ties[k] == 0.0 else 0.0


@row_kernel
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


# ---------------------------------------------------------------------- native code


def _emit(piece, step):
    sign, kept, reduced, *rest = step.space.words
    shape, reduced_shape = tuple(rest[:kept]), tuple(rest[kept : kept + reduced])
    strides = rest[kept + reduced :]
    if 0 in shape:
        return
    reduced_shape, reduced_strides = _joined(reduced_shape, strides[kept:])
    extreme = _Extreme(piece, step, sign, shape, strides[:kept], reduced_shape, reduced_strides)
    if piece.emitter.lanes == 1 and reduced_strides[-1] == 1:
        piece.nest(shape, extreme.of_rows)
    elif piece.emitter.lanes == 1 and kept and strides[kept - 1] == 1:
        piece.nest(shape[:-1], extreme.of_columns)
    else:
        piece.nest(shape, extreme.one_by_one)


def _joined(shape, strides):
    """A shape and its strides, axes that follow each other in memory made one."""
    joined = [(shape[-1], strides[-1])]
    for n, step in zip(shape[-2::-1], strides[-2::-1], strict=True):
        inner, inner_step = joined[0]
        joined[:1] = [(n * inner, inner_step)] if step == inner * inner_step else [(n, step), joined[0]]
    return tuple(n for n, _ in joined), tuple(step for _, step in joined)


class _Extreme:
    """The loops of an amax inside those over the kept axes."""

    def __init__(self, piece, step, sign, shape, strides, reduced_shape, reduced_strides):
        self.piece, self.builder, self.row = piece, piece.builder, "max" if sign > 0 else "min"
        self.operand, self.result, self.out = step.operands[0], step.out, contiguous(shape)
        self.sign = piece.constant(sign)
        self.shape, self.strides, self.reduced_shape, self.steps = shape, strides, reduced_shape, reduced_strides

    def of_rows(self, indices):
        """One output; the reduced cells are neighbours."""
        first, best = self._first(indices), cgutils.alloca_once(self.builder, self.piece.kind)
        self.builder.store(self.piece.load(self.operand.slot, first), best)

        def row(more):
            pointer = self._pointer(self.operand.slot, self._at(first, self.steps[:-1], more))
            found = emit_row_extreme(self.builder, pointer, ir.Constant(I64, self.reduced_shape[-1]), self.sign)
            self._compare(best, found)

        self.piece.nest(self.reduced_shape[:-1], row)
        self._store(indices, best)

    def of_columns(self, indices):
        """A row of outputs; the kept cells are neighbours."""
        first, n = self._first((*indices, ir.Constant(I64, 0))), self.shape[-1]
        start = self.piece.offset(self.result.offset, self.out[:-1], indices)
        target = self._pointer(self.result.slot, start)

        def copy(place):
            value = self.piece.load(self.operand.slot, self.builder.add(first, place[0]))
            self.piece.store(self.result.slot, self.builder.add(start, place[0]), value)

        def columns(more):
            pointer = self._pointer(self.operand.slot, self._at(first, self.steps, more))
            emit_columns_extreme(self.builder, target, pointer, ir.Constant(I64, n), self.sign)

        self.piece.nest((n,), copy)
        self.piece.nest(self.reduced_shape, columns)

    def one_by_one(self, indices):
        """One output."""
        first, best = self._first(indices), cgutils.alloca_once(self.builder, self.piece.kind)
        self.builder.store(self.piece.load(self.operand.slot, first), best)
        self.piece.nest(self.reduced_shape, lambda more: self._compare(
            best, self.piece.load(self.operand.slot, self._at(first, self.steps, more))))
        self._store(indices, best)

    def _first(self, indices):
        return self.piece.offset(self.operand.offset, self.strides, indices)

    def _at(self, first, strides, indices):
        return self.builder.add(first, self.piece.offset(0, strides, indices))

    def _pointer(self, slot, index):
        return self.builder.gep(self.piece.base(slot)[0], [index])

    def _compare(self, best, value):
        before, value = (self.piece.number(x, inline=True) for x in (self.builder.load(best), value))
        self.builder.store(self.piece.raw(self.piece.table.apply(self.row, before, value)), best)

    def _store(self, indices, best):
        where = self.piece.offset(self.result.offset, self.out, indices)
        self.piece.store(self.result.slot, where, self.builder.load(best))


# ---------------------------------------------------------------------- sparse patterns, derivatives, reference


def _dependencies(found, words, operands, out):
    kept, shape, strides = _geometry(words)
    own = found.of(found.cells(View(int(operands[0]), shape, strides)))
    each = math.prod(shape[kept:])
    found.put(out + np.repeat(np.arange(math.prod(shape[:kept])), each), own, False)


def _geometry(words):
    """How many axes are kept; shape and strides of the operand, the kept axes first."""
    kept, reduced = int(words[1]), int(words[2])
    rest = [int(w) for w in words[3 : 3 + 2 * (kept + reduced)]]
    return kept, tuple(rest[: kept + reduced]), tuple(rest[kept + reduced :])


def _views(stretch, i):
    """Operand and output of an amax over one space, the axis of the operand's smallest step last, and the reduced axes."""
    kept, shape, strides = _geometry(stretch.words(i))
    order = sorted(range(len(shape)), key=lambda axis: -abs(strides[axis]))
    out = [*contiguous(shape[:kept]), *(0,) * (len(shape) - kept)]
    views = [View(stretch.cell(column, i), tuple(shape[k] for k in order), tuple(steps[k] for k in order))
             for column, steps in ((OPERAND, strides), (OUTPUT, out))]
    return *views, tuple(at for at, axis in enumerate(order) if axis >= kept)


def _tied(stretch, operand, out):
    """1 for each element that is the extreme, 0 for the others."""
    return stretch.array((stretch.array(operand) == stretch.array(out)).view)


def _reduced(view, axes):
    """The view without some of its axes."""
    left = [k for k in range(len(view.shape)) if k not in axes]
    return View(view.cell, tuple(view.shape[k] for k in left), tuple(view.strides[k] for k in left))


def _pull(stretch, i):
    if stretch.is_active(0, i):
        operand, out, axes = _views(stretch, i)
        ties = _tied(stretch, operand, out)
        adjoint = stretch.array(stretch.buddy(_reduced(out, axes))) / np.sum(ties, axis=axes)
        stretch.add(stretch.buddy(operand), ties * np.expand_dims(adjoint, axes))


def _push(stretch, i):
    operand, out, axes = _views(stretch, i)
    ties = _tied(stretch, operand, out)
    total = np.sum(stretch.array(stretch.buddy(operand)) * ties, axis=axes) / np.sum(ties, axis=axes)
    stretch.array(stretch.buddy(_reduced(out, axes)))[...] = total


def _reference(table, words, cells, active, values):
    kept, shape, strides = _geometry(words)
    for o, first in enumerate(visited(cells[0], shape[:kept], strides[:kept])):
        operands = visited(first, shape[kept:], strides[kept:])
        rule = Rule(lambda *x: words[0] * np.max(np.multiply(words[0], x)), [_share(table, k) for k in range(len(operands))])
        yield rule, -(active & 1), [(*operands, cells[3] + o)]


def _share(table, k):
    """The partial to element k: elements that tie share."""
    def partial(*x):
        return table.apply("eq", x[k], x[-1]) / sum(table.apply("eq", y, x[-1]) for y in x[:-1])

    return partial


AMAX = StructuralRow(
    "amax", 1, _amax_forward, _amax_reverse, _amax_tangent, _amax_tangent_reverse,
    length=lambda words: 3 + 2 * int(words[1] + words[2]), extents=_extents, differentiable=(True,), emit=_emit,
    dependencies=_dependencies, pull=_pull, push=_push, reference=_reference, bounds=lambda size, operand: operand,
    kinks="elements that tie share the adjoint equally; if one element is NaN, so is every partial", at_kink=_amax_ties)
