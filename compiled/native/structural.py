"""Structural steps as LLVM code: matrix products, gathers, scatters, extremes, guards.

What is here: an emitter a row of `structural.STRUCTURAL_ROWS`, all shapes known. What is not: the kernels of the sweeps.
"""

from __future__ import annotations

from llvmlite import ir
from numba.core import cgutils

from compiled.lists.memory import contiguous
from compiled.native.calls import emit_call
from compiled.native.loops import emit_loop
from compiled.table.layout import GUARD_FAILED, INDEX_ERROR
from compiled.table.llvm import I64
from compiled.table.structural.extremes import emit_columns_extreme, emit_row_extreme

SMALL_PRODUCT = 2048
"""Matrix products of fewer multiplications are loops of their own; BLAS takes longer to start."""

I8 = ir.IntType(8)


def emit_structural(piece, step) -> None:
    """Emit one structural step."""
    for slot in {ref.slot for ref in step.operands}:
        _write_home(piece, slot)
    if step.out is not None:
        _write_home(piece, step.out.slot)
    _EMITTERS[step.row.name](piece, step)
    for slot in step.writes():
        piece.registers.pop(slot, None)


def _write_home(piece, slot):
    """Bring a cell that a register holds to where pointers can find it."""
    known = piece.registers.get(slot)
    constant = piece.listing.constants.get(slot)
    if known is None and constant is not None and constant.size == 1:
        known = float(constant.reshape(-1)[0])
    if known is not None and piece.has_home(slot):
        piece.store(slot, ir.Constant(I64, 0), piece.constant(known) if isinstance(known, float) else known)


class _Cells:
    """The cells from a reference on, as numbers: in lanes a cell is as many neighbours."""

    def __init__(self, piece, ref):
        self.piece, self.ref = piece, ref
        array = piece.listing.constants.get(ref.slot)
        self.number = float(array.reshape(-1)[0]) if array is not None and array.size == 1 else None
        if self.number is None:
            base, narrow = piece.base(ref.slot)
            self.pointer = piece.builder.gep(base, [ir.Constant(I64, ref.offset)])
            self.lanes = 1 if narrow else piece.emitter.lanes
            if self.lanes > 1:
                self.pointer = piece.builder.bitcast(self.pointer, piece.emitter.number.as_pointer())

    def address(self, index, lane):
        builder = self.piece.builder
        if self.lanes > 1:
            index = builder.add(builder.mul(index, ir.Constant(I64, self.lanes)), lane)
        return builder.gep(self.pointer, [index])

    def load(self, index, lane):
        if self.number is not None:
            return ir.Constant(self.piece.emitter.number, self.number)
        return self.piece.builder.load(self.address(index, lane))

    def store(self, index, lane, value):
        self.piece.builder.store(value, self.address(index, lane))


# ---------------------------------------------------------------------- gather, scatter


def _indexed(piece, step, body):
    """For each lane and each of the positions (operand 1), in range: `body(j, position, lane)`."""
    count, low, high = step.space.words[:3]
    builder, positions = piece.builder, _Cells(piece, step.operands[1])
    number = piece.emitter.number
    if not count:
        return

    def one(indices):
        lane, j = indices
        stored = positions.load(j, lane)
        inside = builder.and_(builder.fcmp_ordered(">=", stored, ir.Constant(number, low)),
                              builder.fcmp_ordered("<", stored, ir.Constant(number, high)))
        with builder.if_else(inside, likely=True) as (good, bad):
            with good:
                body(j, builder.fptosi(stored, I64), lane)
            with bad:
                builder.store(ir.Constant(I64, INDEX_ERROR), piece.status)

    piece.nest((piece.emitter.lanes, count), one)


def _gather(piece, step):
    base, out = _Cells(piece, step.operands[0]), _Cells(piece, step.out)
    _indexed(piece, step, lambda j, position, lane: out.store(j, lane, base.load(position, lane)))


def _scatter_add(piece, step):
    source, out = _Cells(piece, step.operands[0]), _Cells(piece, step.out)

    def add(j, position, lane):
        out.store(position, lane, piece.builder.fadd(out.load(position, lane), source.load(j, lane)))

    _indexed(piece, step, add)


def _scatter_assign(piece, step):
    source, saved, out = (_Cells(piece, ref) for ref in (step.operands[0], step.operands[2], step.out))

    def put(j, position, lane):
        saved.store(j, lane, out.load(position, lane))
        out.store(position, lane, source.load(j, lane))

    _indexed(piece, step, put)


# ---------------------------------------------------------------------- extremes


def _amax(piece, step):
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


# ---------------------------------------------------------------------- guards


def _guard(piece, step):
    builder, (count, *_) = piece.builder, step.space.words
    seen, wanted = (_Cells(piece, ref) for ref in step.operands[:2])

    def one(indices):
        lane, j = indices
        differs = builder.fcmp_unordered("!=", seen.load(j, lane), wanted.load(j, lane))
        builder.store(builder.select(differs, ir.Constant(I64, GUARD_FAILED), builder.load(piece.status)), piece.status)

    if count:
        piece.nest((piece.emitter.lanes, count), one)


# ---------------------------------------------------------------------- matrix products


def _matmul(piece, step):
    """out = a b; where the step's row accumulates, out += a b."""
    words = step.space.words
    ndim, m, k, n = words[:4]
    steps = [tuple(words[4 + 2 * v : 6 + 2 * v]) for v in range(3)]
    batch = words[10 : 10 + ndim]
    batch_strides = [words[10 + ndim * (v + 1) : 10 + ndim * (v + 2)] for v in range(3)]
    views = (step.operands[0], step.operands[1], step.out)
    if 0 in batch or not m or not n:
        return

    def one(indices):
        firsts = [piece.offset(ref.offset, s, indices) for ref, s in zip(views, batch_strides, strict=True)]
        if k and piece.emitter.blas and m * k * n > SMALL_PRODUCT:
            _blas(piece, [ref.slot for ref in views], firsts, (m, k, n), steps)
        else:
            _loops(piece, [ref.slot for ref in views], firsts, (m, k, n), steps)

    piece.nest(tuple(batch), one)


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




def _loop(piece, step):
    emit_loop(piece, step)


def _call(piece, step):
    (operand,), out = step.operands, step.out
    pointers = [piece.builder.gep(piece.base(ref.slot)[0], [ir.Constant(I64, ref.offset)]) for ref in (operand, out)]
    emit_call(piece, step, *pointers)


_EMITTERS = {"loop": _loop, "call": _call, "gather": _gather, "scatter_add": _scatter_add, "scatter_assign": _scatter_assign,
             "amax": _amax, "guard": _guard, "matmul": _matmul}
