"""window_product: products of matrices of which one is seen through windows of an array, as in a convolution.

Three tensors belong together: windows X[p, q] (element q of the kernel at place p), kernels B[q, o] and outputs Y[p, o]. With a
number t that says which of them the output is, the instruction adds to it the product of the other two:

t = 0    X[p, q] += sum over o of B[q, o] Y[p, o]     operands: B, Y
t = 1    B[q, o] += sum over p of X[p, q] Y[p, o]     operands: X, Y
t = 2    Y[p, o] += sum over q of X[p, q] B[q, o]     operands: X, B

So it is its own derivative: the adjoint (or tangent) of one of the three comes of those of the others. Elements of different
windows may be one cell. No array of all windows is made: BLAS multiplies a tile of them at a time, which fits into the cache.

Its words are [t, outputs, step of Y from place to place, runs, places (4), kernel (4), steps of X along places (4), along the
kernel (4)]; B and the outputs of a place are neighbours, B row by row. `runs` is 0 where elements of the kernel are neighbours
in memory for longer than places are, and 1 the other way round: in such runs cells are moved.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
from typing import NamedTuple

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from compiled.table.layout import FLAGS, OK, OPERAND, OUTPUT
from compiled.table.llvm import I64, internal_function
from compiled.table.structural.extents import Reader, span
from compiled.table.structural.row import StructuralRow, block_of, row_kernel
from compiled.table.views import View, contiguous, visited

AXES = 4
"""Axes of places (the batch and three spatial ones), and of a kernel (three and the channels)."""

LENGTH = 4 + 4 * AXES

X, B, Y = range(3)

TILE_BYTES = 1 << 18
"""Of the windows that are multiplied at a time: they stay in the second-level cache, and BLAS has rows enough (measured)."""

MOST_COLUMNS = 512
"""Elements of a kernel in a tile, so that it has rows enough."""

SMALL_PRODUCT = 2048
"""In native code products of fewer multiplications are loops; see `matmul.py`."""

I8 = ir.IntType(8)


class WindowWords(NamedTuple):
    """The words; places and kernel, and the steps along them, have four axes each."""

    target: int
    outputs: int
    y_step: int
    runs: int
    places: tuple[int, ...]
    kernel: tuple[int, ...]
    place_steps: tuple[int, ...]
    kernel_steps: tuple[int, ...]

    @classmethod
    def of(cls, words) -> WindowWords:
        """Read them."""
        numbers = [int(w) for w in words[:LENGTH]]
        return cls(*numbers[:4], *(tuple(numbers[4 + AXES * part : 4 + AXES * (part + 1)]) for part in range(4)))

    def words(self) -> tuple[int, ...]:
        """Write them."""
        return (*self[:4], *itertools.chain(*self[4:]))

    def view(self, tensor, cell) -> View:
        """X, B or Y, whose first cell is `cell`, as an array of two axes: those of places and of a kernel are one each."""
        return View(cell, *self._matrix(tensor))

    def _matrix(self, tensor):
        p, q, o = math.prod(self.places), math.prod(self.kernel), self.outputs
        return ((self.places + self.kernel, self.place_steps + self.kernel_steps) if tensor == X else
                ((q, o), (o, 1)) if tensor == B else ((p, o), (self.y_step, 1)))

    def views(self, cells) -> list[View]:
        """The three tensors as views over all axes: places, kernel, outputs; `cells` are their first cells."""
        zeros = (0,) * AXES
        b = tuple(step * self.outputs for step in contiguous(self.kernel))
        y = tuple(step * self.y_step for step in contiguous(self.places))
        steps = (self.place_steps + self.kernel_steps + (0,), zeros + b + (1,), y + zeros + (1,))
        shape = self.places + self.kernel + (self.outputs,)
        return [View(cell, shape, own) for cell, own in zip(cells, steps, strict=True)]


def others(target) -> tuple[int, int]:
    """The tensors that are operands where `target` is the output, in their order."""
    return tuple(tensor for tensor in (X, B, Y) if tensor != target)


def _extents(block):
    reader = Reader(block)
    (target,), (outputs, y_step), (runs,) = reader.take(1), reader.dims(2), reader.take(1)
    places, kernel = reader.dims(AXES), reader.dims(AXES)
    steps = reader.take(AXES), reader.take(AXES)
    if target not in (X, B, Y) or runs not in (0, 1) or 0 in (outputs, *places, *kernel) or y_step < outputs:
        raise ValueError("no such tensor, or an axis without elements")
    p, q = math.prod(places), math.prod(kernel)
    spans = [span(places + kernel, steps[0] + steps[1]), span((q, outputs), (outputs, 1)), span((p, outputs), (y_step, 1))]
    first, second = others(target)
    return [spans[first], spans[second], None, spans[target]]


# ---------------------------------------------------------------------- the product, for the sweeps and for native code


class _Axes(NamedTuple):
    """Four axes as LLVM values: their lengths, and the steps of X along them."""

    lengths: list
    steps: list

    def chosen(self, builder, condition, other):
        """These where the condition holds, else the others."""
        return _Axes(*([builder.select(condition, a, b) for a, b in zip(mine, theirs, strict=True)]
                       for mine, theirs in zip(self, other, strict=True)))

    def size(self, builder):
        """Number of elements."""
        return functools.reduce(builder.mul, self.lengths)

    def offset(self, builder, index):
        """How far the element of this number lies from the first."""
        total = _word(0)
        for length, step in zip(self.lengths[:0:-1], self.steps[:0:-1], strict=True):
            quotient = builder.udiv(index, length)
            total = builder.add(total, builder.mul(builder.sub(index, builder.mul(quotient, length)), step))
            index = quotient
        return builder.add(total, builder.mul(index, self.steps[0]))


def _word(number):
    return ir.Constant(I64, number)


def _smaller(builder, a, b):
    return builder.select(builder.icmp_signed("<", a, b), a, b)


def product_function(module, kind, target):
    """The module's function that adds the product to `target`, given pointers to the words and to the first cells of X, B, Y.

    `kind` is the LLVM type of the cells.
    """
    arguments = [I64.as_pointer(), *[kind.as_pointer()] * 3]
    return internal_function(module, f"tape.window_product.{kind}.{target}", arguments,
                             lambda builder, values: _emit_product(builder, target, *values), inline=False)


def _emit_product(builder, target, words, *pointers):
    """Tile by tile of windows: move it to (or from) neighbouring cells, and multiply."""
    word = [builder.load(builder.gep(words, [_word(k)])) for k in range(LENGTH)]
    outputs, y_step = word[1], word[2]
    groups = [word[4 + AXES * part : 4 + AXES * (part + 1)] for part in range(4)]
    places, kernel = _Axes(groups[0], groups[2]), _Axes(groups[1], groups[3])
    along_places = builder.icmp_signed("!=", word[3], _word(0))
    outer, inner = kernel.chosen(builder, along_places, places), places.chosen(builder, along_places, kernel)
    p, q = places.size(builder), kernel.size(builder)
    kind = pointers[0].type.pointee
    columns = _smaller(builder, q, _word(MOST_COLUMNS))
    rows = _smaller(builder, builder.udiv(_word(TILE_BYTES // _bytes(kind)), columns), p)
    memory = builder.call(_c_function(builder, "malloc", I8.as_pointer(), [I64]),
                          [builder.mul(builder.mul(rows, columns), _word(_bytes(kind)))])
    tile = builder.bitcast(memory, kind.as_pointer())
    with cgutils.for_range_slice(builder, _word(0), p, rows, intp=I64) as (first_row, _), \
            cgutils.for_range_slice(builder, _word(0), q, columns, intp=I64) as (first_column, _):
        n = _smaller(builder, rows, builder.sub(p, first_row))
        m = _smaller(builder, columns, builder.sub(q, first_column))
        b = builder.gep(pointers[B], [builder.mul(first_column, outputs)])
        y = builder.gep(pointers[Y], [builder.mul(first_row, y_step)])
        sides = _sides(builder, along_places, (first_row, n), (first_column, m))
        if target != X:
            _emit_moves(builder, tile, pointers[X], outer, inner, *sides, adds=False)
        _emit_gemm(builder, target, along_places, (n, m, outputs), (tile, b, y), y_step)
        if target == X:
            _emit_moves(builder, tile, pointers[X], outer, inner, *sides, adds=True)
    builder.call(_c_function(builder, "free", ir.VoidType(), [I8.as_pointer()]), [memory])


def _sides(builder, along_places, rows, columns):
    """First element and number of elements of a tile along the outer and the inner axes."""
    return [tuple(builder.select(along_places, a, b) for a, b in zip(*pair, strict=True))
            for pair in ((columns, rows), (rows, columns))]


def _emit_moves(builder, tile, x, outer, inner, outer_side, inner_side, adds):
    """Copy the windows of a tile to neighbouring cells, the inner axes side by side, or add those to the windows."""
    (start, count), (inner_start, inner_count) = outer_side, inner_side
    with _runs(builder, inner, inner_start, inner_count) as (at, length), _runs(builder, outer, start, count) as (row, more):
        source = builder.gep(x, [builder.add(inner.offset(builder, at), outer.offset(builder, row))])
        place = builder.add(builder.mul(builder.sub(row, start), inner_count), builder.sub(at, inner_start))
        target = builder.gep(tile, [place])
        with cgutils.for_range(builder, more) as loop:
            here = builder.gep(source, [builder.mul(loop.index, outer.steps[-1])])
            there = builder.gep(target, [builder.mul(loop.index, inner_count)])
            neighbours = builder.icmp_signed("==", inner.steps[-1], _word(1))
            with builder.if_else(neighbours) as (near, far):
                with near:
                    _emit_run(builder, there, here, length, _word(1), adds)
                with far:
                    _emit_run(builder, there, here, length, inner.steps[-1], adds)


@contextlib.contextmanager
def _runs(builder, axes, start, count):
    """Emit a loop over the runs of some elements, stretches along the last of four axes: gives first element and length."""
    length, stop, before = axes.lengths[-1], builder.add(start, count), builder.block
    body, after = builder.append_basic_block("run"), builder.append_basic_block("runs.end")
    builder.branch(body)
    builder.position_at_end(body)
    at = builder.phi(I64)
    at.add_incoming(start, before)
    here = _smaller(builder, builder.sub(length, builder.urem(at, length)), builder.sub(stop, at))
    yield at, here
    following = builder.add(at, here)
    at.add_incoming(following, builder.block)
    builder.cbranch(builder.icmp_signed("<", following, stop), body, after)
    builder.position_at_end(after)


def _emit_run(builder, tile, x, length, step, adds):
    """One run: the tile's cells become those of x, or are added to them."""
    with cgutils.for_range(builder, length) as loop:
        cell, own = builder.gep(x, [builder.mul(loop.index, step)]), builder.gep(tile, [loop.index])
        if adds:
            builder.store(builder.fadd(builder.load(cell), builder.load(own)), cell)
        else:
            builder.store(builder.load(cell), own)


def _emit_gemm(builder, target, along_places, sizes, pointers, y_step):
    """BLAS's product, column-major: what is a row here is a column there, so products are in the other order.

    The tile is a matrix of places times elements of the kernel, by rows where runs are of the latter, else by columns.
    """
    (n, m, outputs), (tile, b, y) = sizes, pointers
    tile_step = builder.select(along_places, n, m)
    normal, transposed = ir.Constant(I8, ord("n")), ir.Constant(I8, ord("t"))
    by_row, by_column = (builder.select(along_places, *pair) for pair in ((transposed, normal), (normal, transposed)))
    if target == Y:  # Y' = B' tile'
        _gemm(builder, normal, by_row, outputs, n, m, (b, outputs), (tile, tile_step), 1.0, (y, y_step))
    elif target == B:  # B' = Y' tile
        _gemm(builder, normal, by_column, outputs, m, n, (y, y_step), (tile, tile_step), 1.0, (b, outputs))
    else:  # tile' = B Y', or by columns tile = Y B'
        left = _chosen(builder, along_places, (y, y_step), (b, outputs))
        right = _chosen(builder, along_places, (b, outputs), (y, y_step))
        rows, columns = builder.select(along_places, n, m), builder.select(along_places, m, n)
        _gemm(builder, transposed, normal, rows, columns, outputs, left, right, 0.0, (tile, tile_step))


def _chosen(builder, condition, first, second):
    return tuple(builder.select(condition, a, b) for a, b in zip(first, second, strict=True))


def _gemm(builder, ta, tb, m, n, k, a, b, beta, c):
    kind = c[0].type.pointee

    def cells(pointer):
        return builder.bitcast(pointer, cgutils.voidptr_t)

    def scalar(number):
        return cells(cgutils.alloca_once_value(builder, ir.Constant(kind, number)))

    letter = ir.Constant(I8, ord("s" if isinstance(kind, ir.FloatType) else "d"))
    arguments = [letter, ta, tb, m, n, k, scalar(1.0), cells(a[0]), a[1], cells(b[0]), b[1], scalar(beta), cells(c[0]), c[1]]
    builder.call(_c_function(builder, "numba_xxgemm", ir.IntType(32), [x.type for x in arguments]), arguments)


def _c_function(builder, name, result, arguments):
    return cgutils.get_or_insert_function(builder.module, ir.FunctionType(result, arguments), name)


def _bytes(kind):
    return 4 if isinstance(kind, ir.FloatType) else 8


# ---------------------------------------------------------------------- kernels


@intrinsic
def _add_product(typingctx, target, geometry, words, x, x0, b, b0, y, y0):
    """`_add_product(target, geometry, words, x, x0, b, b0, y, y0)`: of three buffers, and the first cells in them."""

    def emit(context, builder, signature, args):
        def pointer(array, first):
            data = context.make_array(signature.args[array])(context, builder, args[array]).data
            return builder.gep(data, [args[first]])

        values = [pointer(1, 2), pointer(3, 4), pointer(5, 6), pointer(7, 8)]
        for tensor in (X, B, Y):
            with builder.if_then(builder.icmp_signed("==", args[0], ir.Constant(args[0].type, tensor))):
                builder.call(product_function(builder.module, values[1].type.pointee, tensor), values)
        return context.get_dummy_value()

    i = types.intp
    return types.void(i, geometry, i, x, i, b, i, y, i), emit


@row_kernel
def _tensors(code, i, geometry):
    """Where the words begin, the output's number, and the first cells of X, B and Y."""
    g, first, second, _, out = block_of(code, i)
    target = geometry[g]
    if target == X:
        return g, target, out, first, second
    if target == B:
        return g, target, first, out, second
    return g, target, first, second, out


@row_kernel
def _add(code, i, geometry, first, second, out):
    """The instruction with these buffers for its operands and its output."""
    g, target, x, b, y = _tensors(code, i, geometry)
    if target == X:
        _add_product(X, geometry, g, out, x, first, b, second, y)
    elif target == B:
        _add_product(B, geometry, g, first, x, out, b, second, y)
    else:
        _add_product(Y, geometry, g, first, x, second, b, out, y)


@row_kernel
def _add_to_operand(code, i, geometry, number, operand, other, out):
    """Add to operand `number` what the derivative says, with these buffers for it, for the other operand and the output."""
    g, target, x, b, y = _tensors(code, i, geometry)
    if target == X:
        if number == 0:
            _add_product(B, geometry, g, out, x, operand, b, other, y)
        else:
            _add_product(Y, geometry, g, out, x, other, b, operand, y)
    elif target == B:
        if number == 0:
            _add_product(X, geometry, g, operand, x, out, b, other, y)
        else:
            _add_product(Y, geometry, g, other, x, out, b, operand, y)
    elif number == 0:
        _add_product(X, geometry, g, operand, x, other, b, out, y)
    else:
        _add_product(B, geometry, g, other, x, operand, b, out, y)


@row_kernel
def _forward(code, i, geometry, values):
    _add(code, i, geometry, values, values, values)
    return OK


@row_kernel
def _reverse(code, i, geometry, values, adjoints):
    for number in range(2):
        if code[i, FLAGS] & (1 << number):
            _add_to_operand(code, i, geometry, number, adjoints, values, adjoints)
    return OK


@row_kernel
def _tangent(code, i, geometry, values, tangents):
    _add(code, i, geometry, tangents, values, tangents)
    _add(code, i, geometry, values, tangents, tangents)
    return OK


@row_kernel
def _tangent_reverse(code, i, geometry, values, tangents, adjoints, adjoint_tangents):
    for number in range(2):
        if code[i, FLAGS] & (1 << number):
            _add_to_operand(code, i, geometry, number, adjoints, values, adjoints)
            _add_to_operand(code, i, geometry, number, adjoint_tangents, values, adjoint_tangents)
            _add_to_operand(code, i, geometry, number, adjoint_tangents, tangents, adjoints)
    return OK


# ---------------------------------------------------------------------- native code


def _emit(piece, step):
    words = WindowWords.of(step.space.words)
    refs = dict(zip((*others(words.target), words.target), (*step.operands, step.out), strict=True))
    size = math.prod((*words.places, *words.kernel, words.outputs))
    if piece.emitter.blas and size > SMALL_PRODUCT:
        builder = piece.builder
        pointers = [builder.gep(piece.base(refs[tensor].slot)[0], [_word(refs[tensor].offset)]) for tensor in (X, B, Y)]
        kind = piece.emitter.number
        builder.call(product_function(builder.module, kind, words.target), [_constant_words(builder, words.words()), *pointers])
        return
    views = words.views([refs[tensor].offset for tensor in (X, B, Y)])
    first, second = others(words.target)

    def term(indices):
        at = [piece.offset(view.cell, view.strides, indices) for view in views]
        product = piece.builder.fmul(piece.load(refs[first].slot, at[first]), piece.load(refs[second].slot, at[second]))
        before = piece.load(refs[words.target].slot, at[words.target])
        piece.store(refs[words.target].slot, at[words.target], piece.builder.fadd(before, product))

    piece.nest(views[X].shape, term)


def _constant_words(builder, words):
    """Pointer to the words, which the module holds once."""
    kind = ir.ArrayType(I64, LENGTH)
    name = "tape.window_product." + "_".join(map(str, words))
    if name not in builder.module.globals:
        variable = ir.GlobalVariable(builder.module, kind, name)
        variable.linkage, variable.global_constant = "internal", True
        variable.initializer = ir.Constant(kind, [_word(w) for w in words])
    return builder.bitcast(builder.module.globals[name], I64.as_pointer())


# ---------------------------------------------------------------------- sparse patterns, derivatives, reference


def _dependencies(found, words, operands, out):
    words = WindowWords.of(words)
    first, second = others(words.target)
    cells = {first: int(operands[0]), second: int(operands[1]), words.target: out}
    views = words.views([cells[tensor] for tensor in (X, B, Y)])
    for index in itertools.product(*map(range, words.kernel)):  # an element of the kernel at a time, for the memory
        parts = [found.cells(_at_element(view, index)) for view in views]
        for tensor in (first, second):
            rows = found.of(parts[tensor])
            if rows is not None:
                found.put(parts[words.target], rows, True)


def _at_element(view, index) -> View:
    """A view over all axes, at one element of the kernel."""
    kernel = slice(AXES, 2 * AXES)
    offset = sum(i * step for i, step in zip(index, view.strides[kernel], strict=True))
    return View(view.cell + offset, *((*axes[:AXES], *axes[2 * AXES :]) for axes in (view.shape, view.strides)))


def _cells_of(stretch, i):
    """The words, and for each tensor the view of it."""
    words = WindowWords.of(stretch.words(i))
    columns = dict(zip((*others(words.target), words.target), (OPERAND, OPERAND + 1, OUTPUT), strict=True))
    return words, {tensor: words.view(tensor, stretch.cell(column, i)) for tensor, column in columns.items()}


def record_product(recorder, words, views) -> None:
    """Write the instruction, given the views of X, B and Y."""
    first, second = others(words.target)
    recorder.structural("window_product", [views[first], views[second]], views[words.target], words.words(), 0)


def _pull(stretch, i):
    words, views = _cells_of(stretch, i)
    adjoint = stretch.buddy(views[words.target])
    for number, tensor in enumerate(others(words.target)):
        if stretch.is_active(number, i):
            here = {**views, words.target: adjoint, tensor: stretch.buddy(views[tensor])}
            record_product(stretch.recorder, words._replace(target=tensor), here)


def _push(stretch, i):
    words, views = _cells_of(stretch, i)
    target = stretch.buddy(views[words.target])
    for number, tensor in enumerate(others(words.target)):
        if stretch.is_active(number, i):
            here = {**views, words.target: target, tensor: stretch.buddy(views[tensor])}
            record_product(stretch.recorder, words, here)


def _reference(table, words, cells, active, values):
    words = WindowWords.of(words)
    first, second = others(words.target)
    own = {first: cells[0], second: cells[1], words.target: cells[3]}
    views = words.views([own[tensor] for tensor in (X, B, Y)])
    seen = [visited(*views[tensor]) for tensor in (first, second, words.target)]
    yield table["accumulate_product"], active, zip(*seen, strict=True)


WINDOW_PRODUCT = StructuralRow(
    "window_product", 2, _forward, _reverse, _tangent, _tangent_reverse, length=lambda words: LENGTH, extents=_extents,
    differentiable=(True, True), emit=_emit, dependencies=_dependencies, pull=_pull, push=_push, reference=_reference,
    kind="float", accumulates=True)
