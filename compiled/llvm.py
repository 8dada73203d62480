"""The LLVM reader of rules, and the intrinsics by which a sweep runs one instruction.

What is here: `LLVMValue`, a number whose operators emit instructions;
`walk_intrinsics`, which turns the table into two Numba intrinsics (one scalar instruction; a plane of cells of an array
instruction), each an LLVM `switch` with a block a row. Numba's type inference never sees a rule.
What is not: what a walk does with a rule (`forward.py`, `reverse.py`, `tangent.py`, `tangent_reverse.py`).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from compiled import elementary
from compiled.instructions import Row, Table
from compiled.layout import FIELDS, FLAGS, OPCODE, OPERAND, OPERANDS, OUT, OUTPUT
from compiled.numbers import Number

I64 = ir.IntType(64)
I32 = ir.IntType(32)


class LLVMValue(Number):
    """A number that is an LLVM value; applying an instruction to it emits code at the builder's position.

    With `inline`, elementary functions are spelled out in place, as a loop that is to be vectorised needs them; without,
    they are calls, which compile faster.
    """

    __slots__ = ("builder", "inline", "table", "value")

    def __init__(self, builder, value, table, inline=False):
        self.builder, self.value, self.table, self.inline = builder, value, table, inline

    def apply(self, name, operands):
        row = self.table[name]
        if row.llvm is None:
            return row.value(*operands)
        kind = self.value.type
        values = [x.value if isinstance(x, LLVMValue) else ir.Constant(kind, float(x)) for x in operands]
        emit, _, argument = row.llvm.partition(":")
        if emit == "elementary" and not self.inline:
            emit = "called"
        return LLVMValue(self.builder, _EMITTERS[emit](self.builder, argument, values), self.table, self.inline)


def _intrinsic(builder, name, values):
    return builder.call(builder.module.declare_intrinsic(f"llvm.{name}", [values[0].type], _signature(values)), values)


def _libm(builder, name, values):
    name += "f" if isinstance(values[0].type, ir.FloatType) else ""
    return builder.call(cgutils.get_or_insert_function(builder.module, _signature(values), name), values)


def _called(builder, name, values):
    """An elementary function as a call of one copy of its code."""
    kind = values[0].type

    def emit(body, arguments):
        body.ret(elementary.emit(body, name, arguments))

    return builder.call(_function(builder.module, f"tape.{name}.{kind}", [kind], emit, inline=False, result=kind), values)


def _signature(values):
    return ir.FunctionType(values[0].type, [v.type for v in values])


def _compare(builder, predicate, values):
    compare = builder.fcmp_unordered if predicate == "!=" else builder.fcmp_ordered
    return builder.uitofp(compare(predicate, *values), values[0].type)


def _select(builder, _, values):
    condition, x, y = values
    return builder.select(builder.fcmp_unordered("!=", condition, ir.Constant(condition.type, 0.0)), x, y)


def _uniform(builder, _, values):
    """`instructions.uniform_bits` in 64-bit integer arithmetic."""

    def word(x):
        return ir.Constant(I64, x)

    def mix(z):
        z = builder.add(z, word(0x9E3779B97F4A7C15))
        z = builder.mul(builder.xor(z, builder.lshr(z, word(30))), word(0xBF58476D1CE4E5B9))
        z = builder.mul(builder.xor(z, builder.lshr(z, word(27))), word(0x94D049BB133111EB))
        return builder.xor(z, builder.lshr(z, word(31)))

    kind = values[0].type
    seed, index = (builder.fptosi(v, I64) for v in values)
    bits = 24 if isinstance(kind, ir.FloatType) else 53
    mixed = builder.lshr(mix(builder.xor(mix(seed), index)), word(64 - bits))
    return builder.fmul(builder.uitofp(mixed, kind), ir.Constant(kind, 2.0**-bits))


_EMITTERS = {
    "fadd": lambda b, _, v: b.fadd(*v),
    "fsub": lambda b, _, v: b.fsub(*v),
    "fmul": lambda b, _, v: b.fmul(*v),
    "fdiv": lambda b, _, v: b.fdiv(*v),
    "fneg": lambda b, _, v: b.fneg(*v),
    "called": _called,
    "elementary": elementary.emit,
    "intrinsic": _intrinsic,
    "libm": _libm,
    "compare": _compare,
    "select": _select,
    "uniform": _uniform,
}

VECTORISED = ("elementary", "fadd", "fsub", "fmul", "fdiv", "fneg", "compare", "select", "uniform",
              "intrinsic:sqrt", "intrinsic:fabs", "intrinsic:floor", "intrinsic:ceil")
"""What LLVM turns into vector instructions; a loop with anything else stays scalar."""


class _Probe(Number):
    """A number that only notes what it depends on and whether LLVM could vectorise its computation."""

    __slots__ = ("loads", "table", "vectorised")

    def __init__(self, table, loads, vectorised=True):
        self.table, self.loads, self.vectorised = table, loads, vectorised

    def apply(self, name, operands):
        row = self.table[name]
        if row.llvm is None:
            return row.value(*operands)
        probes = [x for x in operands if isinstance(x, _Probe)]
        loads = [load for x in probes for load in x.loads]
        vectorised = row.llvm.startswith(VECTORISED) and all(x.vectorised for x in probes)
        return _Probe(self.table, list(dict.fromkeys(loads)), vectorised)


@dataclasses.dataclass(frozen=True)
class Update:
    """One pass of an instruction over its cells: `target = body(load)` or `target += body(load)`.

    `target` and the arguments of `load` are (buffer number, operand number or OUT). The pass is skipped where bit
    `active` of the instruction's flags is not set.
    """

    target: tuple[int, int]
    body: Callable
    add: bool
    active: int | None = None

    def uses(self, table: Table) -> tuple[list[tuple[int, int]], bool]:
        """Return what the result depends on, and whether LLVM can vectorise its computation."""
        result = self.body(lambda buffer, operand: _Probe(table, [(buffer, operand)]))
        return (result.loads, result.vectorised) if isinstance(result, _Probe) else ([], True)


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
            function = _function(builder.module, f"tape.{name}.scalar.{kind}", [base.type] + [p.type for p in pointers],
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
            function = _function(builder.module, f"tape.{name}.plane.{kind}", [a.type for a in arguments],
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


def _function(module, name, argument_types, emit_body, inline, result=None):
    """Return the module's internal function `name`, emitting it at first use."""
    if name in module.globals:
        return module.globals[name]
    function = ir.Function(module, ir.FunctionType(result or ir.VoidType(), argument_types), name)
    function.linkage = "internal"
    function.attributes.add("nounwind")
    function.attributes.add("alwaysinline" if inline else "noinline")
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    emit_body(builder, list(function.args))
    if not builder.block.is_terminated:
        builder.ret_void()
    return function


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
        _store(builder, address(*update.target), value, update.add)

    def emit_row(row):
        for update in walk(table, row):
            if update.active is None:
                emit_update(update)
            else:
                with _if_active(builder, base, update):
                    emit_update(update)

    _switch(builder, base, rows, emit_row)


def _store(builder, address, value, add):
    kind = address.type.pointee
    result = value.value if isinstance(value, LLVMValue) else ir.Constant(kind, float(value))
    builder.store(builder.fadd(builder.load(address), result) if add else result, address)


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
            plane = _Plane(table, row, update, streams, operands, vectorised)
            function = plane.function(builder.module, f"tape.{name}.{pointers[0].type.pointee}.{row.name}.{number}", values)
            if update.active is None:
                builder.call(function, values)
            else:
                with _if_active(builder, base, update):
                    builder.call(function, values)

    _switch(builder, base, rows, emit_row)


@dataclasses.dataclass
class _Plane:
    """One update over the rows of a plane, as an LLVM function of its own.

    Its arguments are the number of rows, their length, the address of each stream (what is written comes first), and for
    each operand the stride between rows and the stride inside a row.
    """

    table: Table
    row: Row
    update: Update
    streams: list[tuple[int, int]]
    operands: list[int]
    vectorised: bool

    def function(self, module, name, values):
        """Emit the function, unless the module has it."""
        return _function(module, name, [v.type for v in values], self._emit, inline=False)

    def _emit(self, builder, arguments):
        # What is written never overlaps what is read: outputs are fresh slots, adjoints of different slots are disjoint.
        builder.function.args[2].add_attribute("noalias")
        rows, count, *rest = arguments
        n, m = len(self.streams), len(self.operands)
        addresses = rest[:n]
        row_strides = dict(zip(self.operands, rest[n : n + m], strict=True))
        strides = dict(zip(self.operands, rest[n + m :], strict=True))
        for steps in _stride_variants(self.operands, self.update, self.row) if self.vectorised else ():
            conditions = [builder.icmp_signed("==", strides[o], ir.Constant(I64, s)) for o, s in steps.items()]
            with builder.if_then(functools.reduce(builder.and_, conditions)):
                constants = {o: ir.Constant(I64, s) for o, s in steps.items()}
                self._rows(builder, rows, count, addresses, row_strides, constants, inline=True)
                builder.ret_void()

        def emit_any(any_builder, any_arguments):
            rows, count, *rest = any_arguments
            self._rows(any_builder, rows, count, rest[:n], dict(zip(self.operands, rest[n : n + m], strict=True)),
                       dict(zip(self.operands, rest[n + m :], strict=True)), inline=False)

        # Loops over any strides are not for speed: a function of its own keeps LLVM from unrolling and versioning them.
        name = f"{builder.function.name}.any"
        function = _function(builder.module, name, [a.type for a in arguments], emit_any, inline=False)
        function.attributes.add("optsize")
        builder.call(function, arguments)

    def _rows(self, builder, rows, count, addresses, row_strides, strides, inline):
        with cgutils.for_range(builder, rows) as row:
            here = [builder.gep(address, [builder.mul(row.index, row_strides[operand])])
                    for address, (_, operand) in zip(addresses, self.streams, strict=True)]
            _loop(builder, count, here, strides, self.table, self.update, self.streams, inline)


def _stride_variants(operands, update, row):
    """The combinations of strides inside a row that are worth a vectorised loop.

    All 1; all 1 but one operand 0, as in a broadcast or a sum; and, of three operands, the last two 0, as in `clip`. An
    output has stride 0 only where an instruction accumulates, and the first of three operands is seldom a number.
    """
    yield dict.fromkeys(operands, 1)
    inputs = [o for o in operands if o != OUT]
    zeros = [(o,) for o in inputs if o > 0 or row.arity < OPERANDS]
    if row.accumulates and OUT in operands:
        zeros.append((OUT,))
    if row.arity == OPERANDS and {1, 2} <= set(inputs):
        zeros.append((1, 2))
    for zero in zeros:
        if len(operands) > len(zero) and (update.add or update.target[1] not in zero):
            yield {operand: int(operand not in zero) for operand in operands}


def _loop(builder, count, addresses, stride_of, table, update, streams, inline):
    """Emit `for j in range(count)` around the update; a target of stride 0 is summed in a register."""
    target, kind = addresses[0], addresses[0].type.pointee
    summed = _is_zero(stride_of[update.target[1]])
    entry = builder.block
    body, done = builder.append_basic_block("body"), builder.append_basic_block("done")
    builder.cbranch(builder.icmp_signed(">", count, ir.Constant(I64, 0)), body, done)
    builder.position_at_end(body)
    index = builder.phi(I64)
    index.add_incoming(ir.Constant(I64, 0), entry)
    total = builder.phi(kind) if summed else None

    def address(stream):
        pointer, stride = addresses[streams.index(stream)], stride_of[stream[1]]
        return pointer if _is_zero(stride) else builder.gep(pointer, [builder.mul(index, stride)])

    def load(buffer, operand):
        unused = (buffer, operand) not in streams
        value = ir.Constant(kind, 0.0) if unused else builder.load(address((buffer, operand)))
        return LLVMValue(builder, value, table, inline)

    value = update.body(load)
    if summed:
        total.add_incoming(ir.Constant(kind, 0.0), entry)
        result = value.value if isinstance(value, LLVMValue) else ir.Constant(kind, float(value))
        subtotal = builder.fadd(total, result, flags=("reassoc", "nsz"))
        total.add_incoming(subtotal, builder.block)
    else:
        _store(builder, address(update.target), value, update.add)
    following = builder.add(index, ir.Constant(I64, 1))
    index.add_incoming(following, builder.block)
    end_of_body = builder.block
    builder.cbranch(builder.icmp_signed("<", following, count), body, done)
    builder.position_at_end(done)
    if summed:
        final = builder.phi(kind)
        final.add_incoming(ir.Constant(kind, 0.0), entry)
        final.add_incoming(subtotal, end_of_body)
        builder.store(builder.fadd(builder.load(target), final), target)


def _is_zero(stride):
    return isinstance(stride, ir.Constant) and stride.constant == 0
