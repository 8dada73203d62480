"""Numba intrinsics by which a sweep runs one instruction, each an LLVM `switch` with a block a row of the table.

What is here: `walk_intrinsics`, which makes from a walk's updates the steps
for single cells and for planes of cells; `structural_intrinsic`, which calls the rows' own kernels. Numba's type inference
never sees a rule. What is not: what a walk does with a rule (`forward.py`, `reverse.py`, `tangent.py`, `tangent_reverse.py`).
"""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from compiled.sweeps.planes import Plane, Update, store
from compiled.table.instructions import Table
from compiled.table.layout import FIELDS, FLAGS, OPCODE, OPERAND, OPERANDS, OUT, OUTPUT
from compiled.table.llvm import I32, I64, LLVMValue, internal_function

Walk = Callable[[Table, object], list[Update]]
"""A walk gives, for the table and one of its rows, the passes that run one instruction."""


def walk_intrinsics(name: str, table: Table, walk: Walk, buffers: int):
    """Make the intrinsics that run one elementwise instruction in one walk of the list.

    Parameters
    ----------
    name : str
        Of the walk; it becomes part of the LLVM functions' names.
    table : Table
        The instruction set.
    walk : Walk
        What to do for a row.
    buffers : int
        Number of cell buffers the walk uses.

    Returns
    -------
    scalar_step : intrinsic
        `scalar_step(code, i, buffers)`: instruction i, every operand one cell.
    plane_step : intrinsic
        `plane_step(code, i, rows, n, offsets, row_strides, strides, buffers)`: rows of n cells of instruction i, from
        `offsets` (a tuple of four: operands, then output) with `strides` inside a row and `row_strides` between rows.
    """
    rows = [(opcode, row) for opcode, row in enumerate(table.rows) if not row.structural]

    @intrinsic
    def scalar_step(typingctx, code, i, arrays):
        def emit(context, builder, signature, args):
            code_value, index, tuple_value = args
            base = _code_row(context, builder, signature.args[0], code_value, index)
            pointers = _data_pointers(context, builder, signature.args[2], tuple_value)
            kind = pointers[0].type.pointee
            function = internal_function(builder.module, f"tape.{name}.scalar.{kind}", [base.type] + [p.type for p in pointers],
                                 lambda b, a: _scalar_switch(b, a, table, rows, walk), inline=True)
            builder.call(function, [base, *pointers])
            return context.get_dummy_value()

        assert len(arrays) == buffers
        return types.void(code, types.intp, arrays), emit

    @intrinsic
    def plane_step(typingctx, code, i, rows_here, n, offsets, row_strides, strides, arrays):
        def emit(context, builder, signature, args):
            code_value, index, row_count, count, *tuples, tuple_value = args
            base = _code_row(context, builder, signature.args[0], code_value, index)
            pointers = _data_pointers(context, builder, signature.args[7], tuple_value)
            kind = pointers[0].type.pointee
            words = [word for four in tuples for word in cgutils.unpack_tuple(builder, four, OPERANDS + 1)]
            arguments = [base, row_count, count, *words, *pointers]
            function = internal_function(builder.module, f"tape.{name}.plane.{kind}", [a.type for a in arguments],
                                 lambda b, a: _plane_switch(b, a, name, table, rows, walk), inline=False)
            builder.call(function, arguments)
            return context.get_dummy_value()

        four = types.UniTuple(types.intp, OPERANDS + 1)
        return types.void(code, types.intp, types.intp, types.intp, four, four, four, arrays), emit

    return scalar_step, plane_step


def structural_intrinsic(table: Table, walk: str):
    """Make the intrinsic `step(code, i, geometry, buffers) -> status` that runs one structural instruction.

    `walk` names the kernels of the rows ("forward", "reverse", "tangent", "tangent_reverse").
    """
    rows = [(opcode, row) for opcode, row in enumerate(table.rows) if row.structural]

    @intrinsic
    def structural_step(typingctx, code, i, geometry, arrays):
        def emit(context, builder, signature, args):
            code_value, index, geometry_value, tuple_value = args
            status = cgutils.alloca_once_value(builder, ir.Constant(I64, 0))
            done = builder.append_basic_block("structural.done")
            opcode_value = _field(builder, _code_row(context, builder, code, code_value, index), OPCODE)
            kernel_types = [code, types.intp, geometry, *arrays]
            kernel_args = [code_value, index, geometry_value, *cgutils.unpack_tuple(builder, tuple_value, len(arrays))]
            switch = builder.switch(opcode_value, done)
            for opcode, row in rows:
                kernel = getattr(row, walk)
                if kernel is None:
                    continue
                block = builder.append_basic_block(f"structural.{row.name}")
                switch.add_case(ir.Constant(I32, opcode), block)
                builder.position_at_end(block)
                function = context.typing_context.resolve_value_type(kernel)
                call = function.get_call_type(context.typing_context, kernel_types, {})
                builder.store(context.get_function(function, call)(builder, kernel_args), status)
                builder.branch(done)
            builder.position_at_end(done)
            return builder.load(status)

        return types.int64(code, types.intp, geometry, arrays), emit

    return structural_step


@intrinsic
def fill_zero(typingctx, array, first, n, step):
    """`fill_zero(array, first, n, step)`: set n cells to zero; where they are neighbours, by memset."""

    def emit(context, builder, signature, args):
        array_value, first_value, count, stride = args
        pointer = context.make_array(array)(context, builder, array_value).data
        kind = pointer.type.pointee
        start = builder.gep(pointer, [first_value])
        with builder.if_else(builder.icmp_signed("==", stride, ir.Constant(I64, 1))) as (neighbours, apart):
            with neighbours:
                size = builder.mul(count, ir.Constant(I64, context.get_abi_sizeof(kind)))
                cgutils.memset(builder, start, size, 0)
            with apart, cgutils.for_range(builder, count) as loop:
                builder.store(ir.Constant(kind, 0.0), builder.gep(start, [builder.mul(loop.index, stride)]))
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, types.intp), emit


def _code_row(context, builder, array_type, array, index):
    struct = context.make_array(array_type)(context, builder, array)
    return builder.gep(struct.data, [builder.mul(index, ir.Constant(I64, FIELDS))])


def _data_pointers(context, builder, tuple_type, value):
    arrays = cgutils.unpack_tuple(builder, value, len(tuple_type))
    return [context.make_array(t)(context, builder, a).data for t, a in zip(tuple_type, arrays, strict=True)]


def _field(builder, base, column):
    return builder.load(builder.gep(base, [ir.Constant(I64, column)]))


def _if_active(builder, base, update):
    """Context in which code runs where the operand that `update` is for is active."""
    flags = _field(builder, base, FLAGS)
    bit = builder.and_(flags, ir.Constant(I32, 1 << update.active))
    return builder.if_then(builder.icmp_unsigned("!=", bit, ir.Constant(I32, 0)))


def _switch(builder, base, rows, emit_row):
    """A switch over the opcode with a block a row; a checked list has no other opcode."""
    unknown = builder.append_basic_block("unknown")
    switch = builder.switch(_field(builder, base, OPCODE), unknown)
    for opcode, row in rows:
        block = builder.append_basic_block(row.name)
        switch.add_case(ir.Constant(I32, opcode), block)
        builder.position_at_end(block)
        emit_row(row)
        builder.ret_void()
    builder.position_at_end(unknown)
    builder.unreachable()


def _scalar_switch(builder, arguments, table, rows, walk):
    base, *pointers = arguments

    def address(buffer, operand):
        column = OUTPUT if operand == OUT else OPERAND + operand
        return builder.gep(pointers[buffer], [builder.sext(_field(builder, base, column), I64)])

    def emit_update(update):
        value = update.body(lambda buffer, operand: LLVMValue(builder, builder.load(address(buffer, operand)), table))
        store(builder, address(*update.target), value, update.add)

    def emit_row(row):
        for update in walk(table, row):
            if update.active is None:
                emit_update(update)
            else:
                with _if_active(builder, base, update):
                    emit_update(update)

    _switch(builder, base, rows, emit_row)


def _plane_switch(builder, arguments, name, table, rows, walk):
    base, row_count, count = arguments[:3]
    offsets, row_strides, strides, pointers = arguments[3:7], arguments[7:11], arguments[11:15], arguments[15:]

    def emit_row(row):
        for number, update in enumerate(walk(table, row)):
            loads, vectorised = update.uses(table)
            streams = [update.target, *(x for x in loads if x != update.target)]
            addresses = [builder.gep(pointers[buffer], [offsets[operand]]) for buffer, operand in streams]
            operands = list(dict.fromkeys(operand for _, operand in streams))
            values = [row_count, count, *addresses, *(row_strides[o] for o in operands), *(strides[o] for o in operands)]
            plane = Plane(table, row, update, streams, operands, vectorised)
            function = plane.function(builder.module, f"tape.{name}.{pointers[0].type.pointee}.{row.name}.{number}", values)
            if update.active is None:
                builder.call(function, values)
            else:
                with _if_active(builder, base, update):
                    builder.call(function, values)

    _switch(builder, base, rows, emit_row)
