"""One pass of an instruction over its cells: what it is, and the loops that LLVM can vectorise or that are of vectors.

A plane is the last two axes of an iteration space. Each pass is an LLVM function of its own, which chooses by the strides
among loops of constant strides and falls back to one that takes any.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

from llvmlite import ir
from numba.core import cgutils

from compiled.functions.emitter import F64, splat, with_width
from compiled.table.instructions import Row, Table
from compiled.table.layout import OPERANDS, OUT
from compiled.table.llvm import I32, I64, LLVMValue, internal_function, is_branching, is_vectorised
from compiled.table.numbers import Number


class _Probe(Number):
    """A number that only notes what it depends on, whether LLVM could vectorise its computation, and whether that branches."""

    __slots__ = ("branching", "loads", "table", "vectorised")

    def __init__(self, table, loads, vectorised=True, branching=False):
        self.table, self.loads, self.vectorised, self.branching = table, loads, vectorised, branching

    def apply(self, name, operands):
        row = self.table[name]
        if row.llvm is None:
            return row.value(*operands)
        probes = [x for x in operands if isinstance(x, _Probe)]
        loads = [load for x in probes for load in x.loads]
        vectorised = is_vectorised(row) and all(x.vectorised for x in probes)
        branching = is_branching(row) or any(x.branching for x in probes)
        return _Probe(self.table, list(dict.fromkeys(loads)), vectorised, branching)


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
        result = self._probed(table)
        return (result.loads, result.vectorised) if isinstance(result, _Probe) else ([], True)

    def is_branching(self, table: Table) -> bool:
        """Whether its loop is to be written in vectors, as a branch keeps LLVM from it."""
        result = self._probed(table)
        return isinstance(result, _Probe) and result.branching

    def _probed(self, table):
        return self.body(lambda buffer, operand: _Probe(table, [(buffer, operand)]))


def store(builder, address, value, add):
    kind = address.type.pointee
    result = value.value if isinstance(value, LLVMValue) else ir.Constant(kind, float(value))
    builder.store(builder.fadd(builder.load(address), result) if add else result, address)


@dataclasses.dataclass
class Plane:
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
        return internal_function(module, name, [v.type for v in values], self._emit, inline=False)

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
        function = internal_function(builder.module, name, [a.type for a in arguments], emit_any, inline=False)
        function.attributes.add("optsize")
        builder.call(function, arguments)

    def _rows(self, builder, rows, count, addresses, row_strides, strides, inline):
        with cgutils.for_range(builder, rows) as row:
            here = [builder.gep(address, [builder.mul(row.index, row_strides[operand])])
                    for address, (_, operand) in zip(addresses, self.streams, strict=True)]
            loop = _vector_loop if inline and self.update.is_branching(self.table) else _loop
            loop(builder, count, here, strides, self.table, self.update, self.streams, inline)


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
    """Emit `for j in range(count)` around the update; a target of stride 0 is summed in a register, in double
    precision."""
    target, kind = addresses[0], addresses[0].type.pointee
    summed = _is_zero(stride_of[update.target[1]])
    entry = builder.block
    body, done = builder.append_basic_block("body"), builder.append_basic_block("done")
    builder.cbranch(builder.icmp_signed(">", count, ir.Constant(I64, 0)), body, done)
    builder.position_at_end(body)
    index = builder.phi(I64)
    index.add_incoming(ir.Constant(I64, 0), entry)
    total = builder.phi(F64) if summed else None

    def address(stream):
        pointer, stride = addresses[streams.index(stream)], stride_of[stream[1]]
        return pointer if _is_zero(stride) else builder.gep(pointer, [builder.mul(index, stride)])

    def load(buffer, operand):
        unused = (buffer, operand) not in streams
        value = ir.Constant(kind, 0.0) if unused else builder.load(address((buffer, operand)))
        return LLVMValue(builder, value, table, inline)

    value = update.body(load)
    if summed:
        total.add_incoming(ir.Constant(F64, 0.0), entry)
        result = value.value if isinstance(value, LLVMValue) else ir.Constant(kind, float(value))
        subtotal = builder.fadd(total, _in_double(builder, result), flags=("reassoc", "nsz"))
        total.add_incoming(subtotal, builder.block)
    else:
        store(builder, address(update.target), value, update.add)
    following = builder.add(index, ir.Constant(I64, 1))
    index.add_incoming(following, builder.block)
    end_of_body = builder.block
    builder.cbranch(builder.icmp_signed("<", following, count), body, done)
    builder.position_at_end(done)
    if summed:
        final = builder.phi(F64)
        final.add_incoming(ir.Constant(F64, 0.0), entry)
        final.add_incoming(subtotal, end_of_body)
        _add_to_cell(builder, target, final)


def _in_double(builder, value):
    """A number or vector in double precision: sums of float32 are not rounded at each step."""
    if isinstance(getattr(value.type, "element", value.type), ir.DoubleType):
        return value
    return builder.fpext(value, with_width(F64, value))


def _add_to_cell(builder, target, total):
    """Add a sum in double precision to a cell."""
    result = builder.fadd(_in_double(builder, builder.load(target)), total)
    kind = target.type.pointee
    builder.store(result if isinstance(kind, ir.DoubleType) else builder.fptrunc(result, kind), target)


def _vector_loop(builder, count, addresses, stride_of, table, update, streams, inline):
    """`_loop` for strides of 0 and 1, written in vectors of 32 bytes; what is left over runs in `_loop`."""
    target, kind = addresses[0], addresses[0].type.pointee
    width = 8 if isinstance(kind, ir.FloatType) else 4
    vector = ir.VectorType(kind, width)
    summed = _is_zero(stride_of[update.target[1]])
    doubles = ir.VectorType(F64, width)
    total = cgutils.alloca_once(builder, doubles) if summed else None
    if summed:
        builder.store(splat(doubles, 0.0), total)
    whole = builder.and_(count, ir.Constant(I64, -width))
    with cgutils.for_range_slice(builder, ir.Constant(I64, 0), whole, ir.Constant(I64, width), intp=I64) as (index, _):
        def pointer(stream):
            return builder.bitcast(builder.gep(addresses[streams.index(stream)], [index]), vector.as_pointer())

        def load(buffer, operand):
            stream = (buffer, operand)
            if stream not in streams:
                value = splat(vector, 0.0)
            elif _is_zero(stride_of[operand]):
                value = _broadcast(builder, builder.load(addresses[streams.index(stream)]), vector)
            else:
                value = builder.load(pointer(stream), align=_size(kind))
            return LLVMValue(builder, value, table, inline)

        value = update.body(load)
        result = value.value if isinstance(value, LLVMValue) else splat(vector, float(value))
        if summed:
            builder.store(builder.fadd(builder.load(total), _in_double(builder, result)), total)
        else:
            place = pointer(update.target)
            result = builder.fadd(builder.load(place, align=_size(kind)), result) if update.add else result
            builder.store(result, place, align=_size(kind))
    if summed:
        lanes = [builder.extract_element(builder.load(total), ir.Constant(I32, i)) for i in range(width)]
        _add_to_cell(builder, target, functools.reduce(builder.fadd, lanes))
    rest = [a if _is_zero(stride_of[o]) else builder.gep(a, [whole]) for a, (_, o) in zip(addresses, streams, strict=True)]
    _loop(builder, builder.sub(count, whole), rest, stride_of, table, update, streams, inline=False)


def _broadcast(builder, number, vector):
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), number, ir.Constant(I32, 0))
    order = ir.Constant(ir.VectorType(I32, vector.count), [0] * vector.count)
    return builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), order)


def _size(kind):
    """Bytes of a float or double, which is all that cells are aligned to."""
    return 4 if isinstance(kind, ir.FloatType) else 8


def _is_zero(stride):
    return isinstance(stride, ir.Constant) and stride.constant == 0
