"""The extreme of neighbouring cells, in vectors: emitted once, for the sweeps' kernels and for native code.

A NaN wins and stays; of equal elements the first is taken. LLVM does not vectorise such a reduction by itself. Which cells
an `amax` reduces is said in `amax.py`.
"""

from __future__ import annotations

import functools

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from compiled.table.llvm import I32, I64

VECTOR_BYTES = 64
"""Of one vector; LLVM splits it where registers are shorter."""

VECTORS = 4
"""Vectors of a row that are compared at once: as many as hide the time one comparison takes."""


def larger(builder, best, x):
    """The larger of two numbers or, lane by lane, of two vectors."""
    beyond = builder.fcmp_unordered(">", x, best)
    return builder.select(builder.and_(beyond, builder.fcmp_ordered("==", best, best)), x, best)


def emit_row_extreme(builder, pointer, count, sign):
    """Emit code for the extreme of `count` > 0 neighbours.

    Parameters
    ----------
    builder : IRBuilder
        Where to emit.
    pointer : LLVM value
        Of the first of the neighbours.
    count : LLVM value
        int64.
    sign : LLVM value
        1 for the largest, -1 for the smallest, of the neighbours' kind.

    Returns
    -------
    LLVM value
        The extreme.
    """
    kind, vector = pointer.type.pointee, _vector(pointer.type.pointee)
    signs = _broadcast(builder, sign, vector)
    first = _broadcast(builder, builder.fmul(builder.load(pointer), sign), vector)
    best = [cgutils.alloca_once(builder, vector) for _ in range(VECTORS)]
    for place in best:
        builder.store(first, place)
    together = VECTORS * vector.count
    whole = builder.and_(count, ir.Constant(I64, -together))
    with cgutils.for_range_slice(builder, ir.Constant(I64, 0), whole, ir.Constant(I64, together), intp=I64) as (index, _):
        for k, place in enumerate(best):
            x = _load(builder, pointer, builder.add(index, ir.Constant(I64, k * vector.count)), vector)
            builder.store(larger(builder, builder.load(place), builder.fmul(x, signs)), place)
    pick = functools.partial(larger, builder)
    lanes = functools.reduce(pick, [builder.load(place) for place in best])
    total = cgutils.alloca_once(builder, kind)
    each = [builder.extract_element(lanes, ir.Constant(I32, k)) for k in range(vector.count)]
    builder.store(functools.reduce(pick, each), total)
    with cgutils.for_range_slice(builder, whole, count, ir.Constant(I64, 1), intp=I64) as (index, _):
        x = builder.fmul(builder.load(builder.gep(pointer, [index])), sign)
        builder.store(larger(builder, builder.load(total), x), total)
    return builder.fmul(builder.load(total), sign)


def emit_columns_extreme(builder, target, pointer, count, sign):
    """Emit code that makes each of `count` numbers from `target` on the extreme of itself and of its like from `pointer` on."""
    vector = _vector(pointer.type.pointee)
    whole = builder.and_(count, ir.Constant(I64, -vector.count))
    signs = _broadcast(builder, sign, vector)

    def one(best, x, sign):
        return builder.fmul(larger(builder, builder.fmul(best, sign), builder.fmul(x, sign)), sign)

    with cgutils.for_range_slice(builder, ir.Constant(I64, 0), whole, ir.Constant(I64, vector.count), intp=I64) as (index, _):
        result = one(_load(builder, target, index, vector), _load(builder, pointer, index, vector), signs)
        place = builder.bitcast(builder.gep(target, [index]), vector.as_pointer())
        builder.store(result, place, align=_bytes(vector.element))
    with cgutils.for_range_slice(builder, whole, count, ir.Constant(I64, 1), intp=I64) as (index, _):
        place = builder.gep(target, [index])
        builder.store(one(builder.load(place), builder.load(builder.gep(pointer, [index])), sign), place)


@intrinsic
def row_extreme(typingctx, array, first, n, sign):
    """`row_extreme(array, first, n, sign)`: the extreme of n > 0 cells."""

    def emit(context, builder, signature, args):
        pointer, count, factor = _arguments(context, builder, array, args[0], args[1], args[2], args[3])
        return emit_row_extreme(builder, pointer, count, factor)

    return array.dtype(array, types.intp, types.intp, types.intp), emit


@intrinsic
def columns_extreme(typingctx, array, out, first, n, sign):
    """`columns_extreme(array, out, first, n, sign)`: array[out + k] becomes the extreme of itself and array[first + k]."""

    def emit(context, builder, signature, args):
        pointer, count, factor = _arguments(context, builder, array, args[0], args[2], args[3], args[4])
        target = builder.gep(context.make_array(array)(context, builder, args[0]).data, [args[1]])
        emit_columns_extreme(builder, target, pointer, count, factor)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, types.intp, types.intp), emit


def _arguments(context, builder, array, value, first, count, sign):
    data = context.make_array(array)(context, builder, value).data
    return builder.gep(data, [first]), count, builder.sitofp(sign, data.type.pointee)


def _vector(kind):
    return ir.VectorType(kind, VECTOR_BYTES // _bytes(kind))


def _bytes(kind):
    """Of a float or double, which is all that cells are aligned to."""
    return 4 if isinstance(kind, ir.FloatType) else 8


def _load(builder, pointer, index, vector):
    place = builder.bitcast(builder.gep(pointer, [index]), vector.as_pointer())
    return builder.load(place, align=_bytes(vector.element))


def _broadcast(builder, number, vector):
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), number, ir.Constant(I32, 0))
    order = ir.Constant(ir.VectorType(I32, vector.count), [0] * vector.count)
    return builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), order)
