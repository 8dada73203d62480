"""Jacobians and Hessians of jitted functions: blocks for each result and argument, filled by rows or by columns."""

from __future__ import annotations

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.typing import signature

from compiled.active.arguments import (
    Counter,
    Walk,
    in_heap,
    in_workspace,
    leaf_kinds,
    leaf_values,
    make_room,
)
from compiled.active.derivatives import INDEX, Forward, Recording, Reverse, base_kind
from compiled.active.expressions import _View
from compiled.active.numbers import Emission
from compiled.active.types import (
    Dual,
    bottom,
    constant,
    depth,
    with_bottom,
)
from compiled.active.workspace import TOP, release

WIDTH = 4
"""Tangents that a number of a forward Jacobian carries."""


class _Blocks:
    """The Jacobian's blocks, one for each leaf of the result and each leaf of the differentiated arguments.

    A block has the axes of the result's leaf and then those of the argument's.
    """

    def __init__(self, derivative, context, builder, base, kinds, args):
        self.derivative, self.context, self.builder, self.base = derivative, context, builder, base
        self.inputs = []
        for k in derivative.argnums:
            kind = types.unliteral(kinds[k])
            for leaf, value in zip(leaf_kinds(kind), leaf_values(builder, kind, args[k]), strict=True):
                self.inputs.append((leaf, _shape(context, builder, leaf, value)))

    def allocate(self, result_kind, result):
        """Make the blocks for a result."""
        context, builder = self.context, self.builder
        self.outputs, self.blocks = [], []
        for leaf, value in zip(leaf_kinds(result_kind), leaf_values(builder, result_kind, result), strict=True):
            shape = _shape(context, builder, leaf, value)
            self.outputs.append((leaf, shape))
            for input_leaf, input_shape in self.inputs:
                kind = block_kind(self.base, leaf, input_leaf)
                if isinstance(kind, types.Array):
                    array = in_heap(context, builder)(kind, [*shape, *input_shape])
                    view = _View(context, builder, kind, array)
                    self.blocks.append((kind, array, view.data))
                else:
                    cell = cgutils.alloca_once(builder, context.get_data_type(kind))
                    self.blocks.append((kind, cell, cell))

    def store(self, output, row, input_number, column, number, emission):
        """Set an entry of the block of leaf `output` and input leaf `input_number`."""
        kind, _, data = self.blocks[output * len(self.inputs) + input_number]
        dtype = kind.dtype if isinstance(kind, types.Array) else kind
        at = self.builder.add(self.builder.mul(row, _size(self.builder, self.inputs[input_number][1])), column)
        value = self.context.get_value_as_data(self.builder, dtype, emission.value(dtype, number))
        self.builder.store(value, self.builder.gep(data, [at]))

    def packed(self, out_kind):
        """The blocks in the structure of the result."""
        values = []
        for kind, value, _ in self.blocks:
            if isinstance(kind, types.Array):
                values.append(value)
            else:
                model = self.context.data_model_manager[kind]
                values.append(model.load_from_data_pointer(self.builder, value))
        return _packed_leaves(self.context, self.builder, out_kind, iter(values))


def _packed_leaves(context, builder, kind, values):
    if isinstance(kind, types.BaseTuple):
        return context.make_tuple(builder, kind, [_packed_leaves(context, builder, k, values) for k in kind.types])
    return next(values)


def _shape(context, builder, kind, value) -> list:
    return _View(context, builder, kind, value).shape if isinstance(kind, types.Array) else []


def _size(builder, shape):
    size = constant(1)
    for n in shape:
        size = builder.mul(size, n)
    return size


def block_kind(base, output, argument):
    """Type of the block of two leaves."""
    ndim = getattr(output, "ndim", 0) + getattr(argument, "ndim", 0)
    element = argument.dtype if isinstance(argument, types.Array) else argument
    dtype = with_bottom(base, bottom(element))
    return types.Array(dtype, ndim, "C") if ndim else dtype


class _Jacobian:
    """What Jacobians by rows and by columns have in common; `single`: argnums was a number."""

    single = True

    def result_type(self, typingctx, args):
        """Type of the Jacobian: nested as the result and, inside, as the arguments."""
        _, call = self.inner_call(typingctx, args, self.change(args))
        base = base_kind(args)
        self.value_kind(call.return_type)
        wanted = [types.unliteral(args[k]) for k in self.argnums]
        inside = wanted[0] if self.single else types.Tuple(wanted)

        def nested(output, argument):
            if isinstance(argument, types.BaseTuple):
                return types.Tuple([nested(output, part) for part in argument.types])
            return block_kind(base, output, argument)

        def outer(kind):
            if isinstance(kind, types.BaseTuple):
                return types.Tuple([outer(part) for part in kind.types])
            return nested(kind, inside)

        return outer(call.return_type), base

    def signature(self, typingctx, args):
        """See `Emitter`."""
        return signature(self.result_type(typingctx, args)[0], *args)


class ReverseJacobian(_Jacobian, Reverse):
    """The Jacobian by rows: one recording, one sweep an element of the result."""

    def emit(self, context, builder, signature, args):
        """See `Emitter`."""
        kinds = signature.args
        recording = Recording(self, context, builder, kinds, args)
        blocks = _Blocks(self, context, builder, recording.base, kinds, args)
        blocks.allocate(recording.kind, recording.result)
        emission, walk = recording.emission, recording.walk
        leaves = zip(leaf_kinds(recording.kind), leaf_values(builder, recording.kind, recording.result), strict=True)
        for number, (leaf, value) in enumerate(leaves):
            rows = Counter(builder, constant(0))

            def element(kind, value, *_, number=number, rows=rows):
                row = rows.next()
                if depth(kind) == self.level:
                    active = emission.number(kind, value)
                    recording.adjoints.store(builder.and_(active.cell, INDEX), 1.0)
                    recording.sweep()
                cells = Counter(builder, recording.first_input)
                for k, (_, shape) in enumerate(blocks.inputs):
                    with cgutils.for_range(builder, _size(builder, shape), intp=constant(0).type) as loop:
                        blocks.store(number, row, k, loop.index, recording.adjoints.take(cells.next()), emission)

            walk.visit(leaf, value, element)
        recording.close()
        return blocks.packed(signature.return_type)


class ForwardJacobian(_Jacobian, Forward):
    """The Jacobian by columns, several at a time: the function runs once for each group of columns."""

    width = WIDTH

    def emit(self, context, builder, signature, args):
        """See `Emitter`."""
        kinds = signature.args
        base, change = base_kind(kinds), self.change(kinds)
        inner, call = self.inner_call(context.typing_context, kinds, change)
        workspace, total = self.workspace(context, builder, base, kinds, args)
        self.require(context, builder, workspace, make_room(context, builder, workspace, total, Dual(base, self.width)))
        blocks = _Blocks(self, context, builder, base, kinds, args)
        emission, walk = Emission(context, builder), Walk(context, builder)
        start = cgutils.alloca_once_value(builder, constant(0))
        loop, done = builder.append_basic_block("columns"), builder.append_basic_block("columns.done")
        builder.branch(loop)
        builder.position_at_end(loop)
        first = builder.load(start)
        result = self._run(context, builder, emission, walk, workspace, kinds, args, inner, call, first)
        self._allocate_once(context, builder, blocks, call.return_type, result, first)
        self._scatter(builder, emission, walk, blocks, call.return_type, result, first, total)
        context.nrt.decref(builder, call.return_type, result)
        after = builder.add(first, constant(self.width))
        builder.store(after, start)
        builder.cbranch(builder.icmp_unsigned("<", after, total), loop, done)
        builder.position_at_end(done)
        release(workspace)
        return blocks.packed(signature.return_type)

    def _run(self, context, builder, emission, walk, workspace, kinds, args, inner, call, first):
        workspace.store(TOP, constant(0))
        counter, values = Counter(builder, constant(0)), list(args)

        def element(kind, value, made, *_):
            number = counter.next()
            tangents = []
            for k in range(self.width):
                here = builder.icmp_unsigned("==", number, builder.add(first, constant(k)))
                double = ir.DoubleType()
                tangents.append(emission.number(types.float64, builder.select(here, ir.Constant(double, 1.0),
                                                                              ir.Constant(double, 0.0))))
            return self.dual(emission, kind, value, made, tangents)

        for k in self.argnums:
            values[k] = walk.make(kinds[k], args[k], inner[k], element, in_workspace(context, builder, workspace))
        # The counter restarts with each group.
        result = self.call(context, builder, inner, call, values, workspace)
        builder.store(constant(0), counter.cell)
        return result

    def _allocate_once(self, context, builder, blocks, kind, result, first):
        """Make the blocks in the first round, when the shape of the result is known."""
        holders = []
        for output in leaf_kinds(kind):
            for argument, _ in blocks.inputs:
                holder = block_kind(blocks.base, output, argument)
                holders.append(cgutils.alloca_once(builder, context.get_value_type(holder)) if isinstance(holder, types.Array)
                               else cgutils.alloca_once(builder, context.get_data_type(holder)))
        with builder.if_then(builder.icmp_unsigned("==", first, constant(0))):
            blocks.allocate(kind, result)
            for (block, value, _), holder in zip(blocks.blocks, holders, strict=True):
                if isinstance(block, types.Array):
                    builder.store(value, holder)
        made = []
        for (block, _, _), holder in zip(blocks.blocks, holders, strict=True):
            if isinstance(block, types.Array):
                value = builder.load(holder)
                made.append((block, value, _View(context, builder, block, value).data))
            else:
                made.append((block, holder, holder))
        blocks.blocks = made

    def _scatter(self, builder, emission, walk, blocks, kind, result, first, total):
        leaves = zip(leaf_kinds(kind), leaf_values(builder, kind, result), strict=True)
        for number, (leaf, value) in enumerate(leaves):
            rows = Counter(builder, constant(0))

            def element(kind, value, *_, number=number, rows=rows):
                row, dual = rows.next(), emission.number(kind, value)
                for k in range(self.width):
                    tangent = dual.tangents[k] if depth(kind) == self.level else 0.0
                    self._place(builder, emission, blocks, number, row, builder.add(first, constant(k)), tangent)

            walk.visit(leaf, value, element)
            builder.store(constant(0), rows.cell)

    def _place(self, builder, emission, blocks, output, row, column, tangent):
        """Store a tangent in the block whose columns hold number `column`."""
        begin = constant(0)
        for k, (_, shape) in enumerate(blocks.inputs):
            end = builder.add(begin, _size(builder, shape))
            inside = builder.and_(builder.icmp_unsigned(">=", column, begin), builder.icmp_unsigned("<", column, end))
            with builder.if_then(inside):
                blocks.store(output, row, k, builder.sub(column, begin), tangent, emission)
            begin = end


class Jacobian(ReverseJacobian):
    """The Jacobian by rows or by columns, whichever needs less work: by columns at once where the function takes numbers only
    and its result is no number; else the recorded list says how many rows there are."""

    def _forward(self):
        forward = ForwardJacobian(self.function, self.argnums, self.name)
        forward.single = self.single
        return forward

    def _is_forward(self, typingctx, args):
        numbers = all(not isinstance(leaf, types.Array) for k in self.argnums for leaf in leaf_kinds(types.unliteral(args[k])))
        if not numbers:
            return False
        _, call = self._forward().inner_call(typingctx, args, self._forward().change(args))
        return len(leaf_kinds(call.return_type)) > 1 or isinstance(call.return_type, types.Array)

    def result_type(self, typingctx, args):
        """See `_Jacobian`."""
        if self._is_forward(typingctx, args):
            return self._forward().result_type(typingctx, args)
        return super().result_type(typingctx, args)

    def emit(self, context, builder, signature, args):
        """See `Emitter`."""
        if self._is_forward(context.typing_context, signature.args):
            return self._forward().emit(context, builder, signature, args)
        return super().emit(context, builder, signature, args)
