"""matmul: out = a b for matrices, over a batch.

Its words are [batch ndim, m, k, n, steps of a, b, out (row, column each), batch shape, batch strides of a, of b, of out]; a is
m x k, b is k x n. One step of each matrix is 1, as BLAS wants it.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba.core import cgutils

from compiled.table.layout import FLAGS, OK, OPERAND, OUTPUT
from compiled.table.llvm import I64
from compiled.table.structural.blas import matrix_product
from compiled.table.structural.extents import Reader, span
from compiled.table.structural.row import StructuralRow, block_of, offset_of, row_kernel, size_of
from compiled.table.views import View, visited

SMALL_PRODUCT = 2048
"""In native code matrix products of fewer multiplications are loops of their own; BLAS takes longer to start."""

I8 = ir.IntType(8)


def _extents(block):
    reader = Reader(block)
    ndim, m, k, n = reader.dims(4)
    a, b, out = reader.take(2), reader.take(2), reader.take(2)
    for (row, column), rows, columns in ((a, m, k), (b, k, n), (out, m, n)):
        if not ((column == 1 and row >= columns) or (row == 1 and column >= rows)):
            raise ValueError("steps of a matrix that BLAS cannot take")
    shape = reader.dims(ndim)
    batch = [reader.take(ndim) for _ in range(3)]
    views = zip((a, b, out), ((m, k), (k, n), (m, n)), batch, strict=True)
    spans = [span(shape + list(matrix), strides + steps) for steps, matrix, strides in views]
    return [spans[0], spans[1], None, spans[2]]


class Matrices:
    """The three matrices of a matmul, from its words: sizes m, k, n, and the steps of a, b and out, (row, column) each."""

    def __init__(self, words):
        ndim, *sizes = (int(w) for w in words[:4])
        self.sizes = self.m, self.k, self.n = tuple(sizes)
        self.steps = [tuple(int(w) for w in words[4 + 2 * number : 6 + 2 * number]) for number in range(3)]
        rest = [int(w) for w in words[10 : 10 + 4 * ndim]]
        self.batch, *self.batch_steps = (tuple(rest[ndim * part : ndim * (part + 1)]) for part in range(4))

    def view(self, number, cell) -> View:
        """Of a (0), b (1) or out (2), whose first cell is `cell`, with its batch axes."""
        shape = ((self.m, self.k), (self.k, self.n), (self.m, self.n))[number]
        return View(cell, self.batch + shape, self.batch_steps[number] + self.steps[number])


# ---------------------------------------------------------------------- kernels


@row_kernel
def _products(code, i, geometry, a_cells, b_cells, out_cells, target, beta):
    """Run one of the three products over the batch: target 3 is out = a b, 0 is a += out b', 1 is b += a' out."""
    g, a0, b0, _, out0 = block_of(code, i)
    ndim, m, k, n = geometry[g], geometry[g + 1], geometry[g + 2], geometry[g + 3]
    a_row, a_col = geometry[g + 4], geometry[g + 5]
    b_row, b_col = geometry[g + 6], geometry[g + 7]
    c_row, c_col = geometry[g + 8], geometry[g + 9]
    shape = g + 10
    for batch in range(size_of(geometry, shape, ndim)):
        a = a0 + offset_of(batch, geometry, shape, shape + ndim, ndim)
        b = b0 + offset_of(batch, geometry, shape, shape + 2 * ndim, ndim)
        c = out0 + offset_of(batch, geometry, shape, shape + 3 * ndim, ndim)
        if target == 3:
            matrix_product(m, k, n, a_cells, a, a_row, a_col, b_cells, b, b_row, b_col, out_cells, c, c_row, c_col, beta)
        elif target == 0:
            matrix_product(m, n, k, out_cells, c, c_row, c_col, b_cells, b, b_col, b_row, a_cells, a, a_row, a_col, beta)
        else:
            matrix_product(k, m, n, a_cells, a, a_col, a_row, out_cells, c, c_row, c_col, b_cells, b, b_row, b_col, beta)


@row_kernel
def _matmul_forward(code, i, geometry, values):
    _products(code, i, geometry, values, values, values, 3, 0.0)
    return OK


@row_kernel
def _matmul_reverse(code, i, geometry, values, adjoints):
    if code[i, FLAGS] & 1:
        _products(code, i, geometry, adjoints, values, adjoints, 0, 1.0)
    if code[i, FLAGS] & 2:
        _products(code, i, geometry, values, adjoints, adjoints, 1, 1.0)
    return OK


@row_kernel
def _matmul_tangent(code, i, geometry, values, tangents):
    _products(code, i, geometry, tangents, values, tangents, 3, 0.0)
    _products(code, i, geometry, values, tangents, tangents, 3, 1.0)
    return OK


@row_kernel
def _matmul_tangent_reverse(code, i, geometry, values, tangents, adjoints, adjoint_tangents):
    _matmul_reverse(code, i, geometry, values, adjoints)
    _matmul_reverse(code, i, geometry, values, adjoint_tangents)
    if code[i, FLAGS] & 1:
        _products(code, i, geometry, adjoint_tangents, tangents, adjoints, 0, 1.0)
    if code[i, FLAGS] & 2:
        _products(code, i, geometry, tangents, adjoint_tangents, adjoints, 1, 1.0)
    return OK


# ---------------------------------------------------------------------- native code


def _emit(piece, step):
    x, views = Matrices(step.space.words), (step.operands[0], step.operands[1], step.out)
    if 0 in x.batch or not x.m or not x.n:
        return

    def one(indices):
        firsts = [piece.offset(ref.offset, s, indices) for ref, s in zip(views, x.batch_steps, strict=True)]
        use_blas = x.k and piece.emitter.blas and x.m * x.k * x.n > SMALL_PRODUCT
        (_blas if use_blas else _loops)(piece, [ref.slot for ref in views], firsts, x.sizes, x.steps)

    piece.nest(x.batch, one)


def _loops(piece, slots, firsts, sizes, steps):
    """The product as loops; the innermost runs along the rows of the result where these are neighbours."""
    m, k, n = sizes
    builder = piece.builder

    def at(view, row, column):
        first = firsts[view]
        for index, step in ((row, steps[view][0]), (column, steps[view][1])):
            first = builder.add(first, builder.mul(index, ir.Constant(I64, step)))
        return first

    def clear(indices):
        piece.store(slots[2], at(2, *indices), piece.constant(0.0))

    def add(i, p, j):
        product = builder.fmul(piece.load(slots[0], at(0, i, p)), piece.load(slots[1], at(1, p, j)))
        where = at(2, i, j)
        piece.store(slots[2], where, builder.fadd(piece.load(slots[2], where), product))

    if steps[1][1] == 1 and n > 1 and piece.emitter.lanes == 1:  # rows of b are neighbours
        piece.nest((m, n), clear)
        piece.nest((m, k, n), lambda x: add(*x)) if k else None
        return
    total = cgutils.alloca_once(builder, piece.kind)

    def dot(indices):
        i, j = indices
        builder.store(piece.constant(0.0), total)

        def term(more):
            (p,) = more
            product = builder.fmul(piece.load(slots[0], at(0, i, p)), piece.load(slots[1], at(1, p, j)))
            builder.store(builder.fadd(builder.load(total), product, flags=("reassoc", "nsz")), total)

        piece.nest((k,), term) if k else None
        piece.store(slots[2], at(2, i, j), builder.load(total))

    piece.nest((m, n), dot)


def _blas(piece, slots, firsts, sizes, steps):
    """The product by BLAS, column-major: the transposed result is the product of the transposed, in the other order."""
    m, k, n = sizes
    a, b, c = ((slot, first, row, column) for slot, first, (row, column) in zip(slots, firsts, steps, strict=True))
    if c[3] != 1:
        a, b, c = (b[0], b[1], b[3], b[2]), (a[0], a[1], a[3], a[2]), (c[0], c[1], c[3], c[2])
        m, n = n, m
    (a_kind, a_step), (b_kind, b_step) = _layout(a, m, k), _layout(b, k, n)
    call = _BlasCall(piece)
    if m == 1 and a[3] == 1:  # row times matrix
        rows, columns = (n, k) if b_kind == "n" else (k, n)
        call.gemv(b_kind, rows, columns, b, b_step, a, c)
    elif n == 1 and c[2] == 1 and b[2] == 1:  # matrix times column
        rows, columns = (k, m) if a_kind == "n" else (m, k)
        call.gemv("t" if a_kind == "n" else "n", rows, columns, a, a_step, b, c)
    else:
        call.gemm(b_kind, a_kind, n, m, k, b, b_step, a, a_step, c, max(c[2], n))


def _layout(matrix, rows, columns):
    """How BLAS sees a matrix: not transposed ("n") where its rows are neighbours, and the step from row to row."""
    return ("n", max(matrix[2], columns)) if matrix[3] == 1 else ("t", max(matrix[3], rows))


class _BlasCall:
    """Calls of the BLAS that Numba links."""

    def __init__(self, piece):
        self.piece, self.builder = piece, piece.builder

    def gemm(self, ta, tb, m, n, k, a, lda, b, ldb, c, ldc):
        self._call("numba_xxgemm", [self._letter(ta), self._letter(tb), self._word(m), self._word(n), self._word(k),
                                    self._scalar(1.0), self._cells(a), self._word(lda), self._cells(b), self._word(ldb),
                                    self._scalar(0.0), self._cells(c), self._word(ldc)])

    def gemv(self, trans, m, n, a, lda, x, y):
        self._call("numba_xxgemv", [self._letter(trans), self._word(m), self._word(n), self._scalar(1.0), self._cells(a),
                                    self._word(lda), self._cells(x), self._scalar(0.0), self._cells(y)])

    def _call(self, name, arguments):
        kind = "s" if isinstance(self.piece.kind, ir.FloatType) else "d"
        arguments = [self._letter(kind), *arguments]
        signature = ir.FunctionType(ir.IntType(32), [a.type for a in arguments])
        self.builder.call(cgutils.get_or_insert_function(self.builder.module, signature, name), arguments)

    def _letter(self, letter):
        return ir.Constant(I8, ord(letter))

    def _word(self, number):
        return ir.Constant(I64, number)

    def _scalar(self, number):
        return self.builder.bitcast(cgutils.alloca_once_value(self.builder, self.piece.constant(number)), cgutils.voidptr_t)

    def _cells(self, matrix):
        pointer, _ = self.piece.base(matrix[0])
        return self.builder.bitcast(self.builder.gep(pointer, [matrix[1]]), cgutils.voidptr_t)


# ---------------------------------------------------------------------- sparse patterns, derivatives, reference


def _dependencies(found, words, operands, out):
    x, (a, b, _) = Matrices(words), operands.tolist()
    (a_row, a_col), (b_row, b_col), _ = x.steps
    shape, rows = (*x.batch, x.m, x.n), None
    for p in range(x.k):  # element (i, j) depends on row i of a and column j of b
        left = View(a + p * a_col, shape, (*x.batch_steps[0], a_row, 0))
        right = View(b + p * b_row, shape, (*x.batch_steps[1], 0, b_col))
        for view in (left, right):
            own = found.of(found.cells(view))
            rows = own if rows is None else rows if own is None else rows + own
    found.put(found.cells(x.view(2, out)), rows, False)


def _views(stretch, i):
    x = Matrices(stretch.words(i))
    return [x.view(number, stretch.cell(column, i)) for number, column in enumerate((OPERAND, OPERAND + 1, OUTPUT))]


def _pull(stretch, i):
    a, b, out = _views(stretch, i)
    adjoint = stretch.array(stretch.buddy(out))
    if stretch.is_active(0, i):
        stretch.add(stretch.buddy(a), adjoint @ np.swapaxes(stretch.array(b), -1, -2))
    if stretch.is_active(1, i):
        stretch.add(stretch.buddy(b), np.swapaxes(stretch.array(a), -1, -2) @ adjoint)


def _push(stretch, i):
    a, b, out = _views(stretch, i)
    target = stretch.buddy(out)
    if stretch.is_active(0, i):
        stretch.add(target, stretch.array(stretch.buddy(a)) @ stretch.array(b))
    if stretch.is_active(1, i):
        stretch.add(target, stretch.array(a) @ stretch.array(stretch.buddy(b)))


def _reference(table, words, cells, active, values):
    x, (a, b, _, out) = Matrices(words), cells
    yield table["zero"], 0, zip(visited(*x.view(2, out)))
    (a_row, a_col), (b_row, b_col), (out_row, out_col) = x.steps
    shape, steps = (*x.batch, x.m, x.k, x.n), ((a_row, a_col, 0), (0, b_row, b_col), (out_row, 0, out_col))
    views = [visited(first, shape, batch + own) for first, batch, own in zip((a, b, out), x.batch_steps, steps, strict=True)]
    yield table["accumulate_product"], active, zip(*views, strict=True)


def _bounds(size, a, b):
    if a is None or b is None:
        return None
    corners = [x * y * size for x in a for y in b]
    return min(corners), max(corners)


MATMUL = StructuralRow(
    "matmul", 2, _matmul_forward, _matmul_reverse, _matmul_tangent, _matmul_tangent_reverse,
    length=lambda words: 10 + 4 * int(words[0]), extents=_extents, differentiable=(True, True), emit=_emit,
    dependencies=_dependencies, pull=_pull, push=_push, reference=_reference, bounds=_bounds, kind="float")
