"""The reverse sweep over a list of linear statements.

It walks the statements down; each hands its adjoint, times its partials, to its cells, and sets it to zero, so that the
buffer of adjoints is all zero again when the inputs' adjoints have been taken out. Over float64 that is a loop of
multiply-adds; over other numbers the same loop computes with them, which is how derivatives of derivatives come about.
"""

from __future__ import annotations

import functools
import operator

from llvmlite import ir
from numba.core import cgutils, types

from compiled.active.numbers import Emission
from compiled.active.types import I8, I32, I64, Active, Dual, Recorded, constant, data_size
from compiled.active.workspace import (
    ADJOINT_BYTES,
    ADJOINTS,
    BLOCK,
    CELLS,
    COUNTS,
    EXTERNAL,
    FIRST,
    HELD,
    LONG,
    MOST_ROWS,
    PAIRS,
    POINTER,
    STATEMENTS,
    Workspace,
    zeroed,
)
from compiled.table.instructions import TABLE, f
from compiled.table.llvm import LLVMValue, internal_function
from compiled.table.numbers import product

OK = ir.Constant(I32, 0)
NO_MEMORY = ir.Constant(I32, -100)
"""Status of a sweep without memory for the adjoints; others are those of Numba's calling convention."""


class _Held:
    """The adjoint of one cell, kept in a register while statements add to it again and again: the parameter of a loop.

    Only the last pair of a statement marked HELD goes through here; expressions put what is constant in a loop there. Adding
    to a place in memory at each statement would make each wait for the one before.
    """

    def __init__(self, emission, adjoints, kind):
        self.emission, self.builder, self.adjoints = emission, emission.builder, adjoints
        self.used = kind == types.float64
        if self.used:
            self.cell = cgutils.alloca_once_value(self.builder, constant(0))
            self.sum = cgutils.alloca_once_value(self.builder, ir.Constant(ir.DoubleType(), 0.0))

    def give_back(self):
        """Add what is held to its cell."""
        if self.used:
            held = LLVMValue(self.builder, self.builder.load(self.sum), TABLE)
            self.adjoints.add(self.builder.load(self.cell), held)
            self.builder.store(ir.Constant(ir.DoubleType(), 0.0), self.sum)

    def give_back_to(self, cell):
        """Add what is held to its cell, if that is `cell`."""
        if self.used:
            with self.builder.if_then(self.builder.icmp_unsigned("==", cell, self.builder.load(self.cell)), likely=False):
                self.give_back()

    def add(self, cell, number):
        """Add to a cell, and hold it from now on."""
        if not self.used:
            self.adjoints.add(cell, number)
            return
        builder = self.builder
        with builder.if_then(builder.icmp_unsigned("!=", cell, builder.load(self.cell)), likely=True):
            self.give_back()
            builder.store(cell, self.cell)
        builder.store(builder.fadd(builder.load(self.sum), number.value), self.sum)


class Adjoints:
    """The buffer of adjoints, as numbers, for code that is being emitted."""

    def __init__(self, emission, workspace: Workspace, kind):
        self.emission, self.kind = emission, kind
        self.pointer = workspace.adjoints(kind)

    def _address(self, index):
        return self.emission.builder.gep(self.pointer, [index], inbounds=True)

    def load(self, index):
        """The adjoint of a cell."""
        context, builder = self.emission.context, self.emission.builder
        model = context.data_model_manager[self.kind]
        return self.emission.number(self.kind, model.load_from_data_pointer(builder, self._address(index), align=8))

    def store(self, index, number):
        """Set the adjoint of a cell."""
        context, builder = self.emission.context, self.emission.builder
        value = self.emission.value(self.kind, number)
        builder.store(context.get_value_as_data(builder, self.kind, value), self._address(index), align=8)

    def add(self, index, number):
        """Add to the adjoint of a cell."""
        self.store(index, self.load(index) + number)

    def take(self, index):
        """The adjoint of a cell, which is zero after."""
        number = self.load(index)
        self.store(index, 0.0)
        return number


def is_zero(emission, kind, number):
    """Whether a number and all its derivatives are zero, so that it contributes nothing."""
    builder = emission.builder
    if isinstance(kind, (Active, Recorded)):
        constant_cell = builder.icmp_unsigned("==", number.cell, constant(0))
        return builder.and_(constant_cell, is_zero(emission, kind.base, number.primal))
    if isinstance(kind, Dual):
        result = is_zero(emission, kind.base, number.primal)
        for tangent in number.tangents:
            result = builder.and_(result, is_zero(emission, kind.base, tangent))
        return result
    return builder.fcmp_ordered("==", number.value, ir.Constant(number.value.type, 0.0))


def make_adjoints(workspace: Workspace, kind):
    """Make sure that every cell has an adjoint; returns whether there is memory for them."""
    size = constant(data_size(workspace.context, kind))
    return zeroed(workspace, ADJOINTS, ADJOINT_BYTES, workspace.builder.mul(workspace.load(STATEMENTS), size))


def sweep(context, builder, workspace: Workspace, kind, excinfo):
    """Sweep back over the whole list of partials of type `kind`; returns a status, zero for success."""

    def emit(builder, arguments):
        _emit_sweep(context, builder, Workspace(context, builder, arguments[0]), kind, arguments[1])

    name = f"tape.sweep.{kind}"
    function = internal_function(builder.module, name, [POINTER, excinfo.type], emit, inline=False, result=I32)
    return builder.call(function, [workspace.address, excinfo])


def _emit_sweep(context, builder, workspace, kind, excinfo):
    first = workspace.load(FIRST)
    cells, counts = workspace.pointer(CELLS, I32), workspace.pointer(COUNTS, I8)
    partials = workspace.partials(kind)
    emission = Emission(context, builder)
    adjoints = Adjoints(emission, workspace, kind)
    blocks = {name: builder.append_basic_block(name)
              for name in ("head", "body", "special", "long", "block", "external", "ordinary", "pairs", "pair", "paired",
                           "last", "next", "done")}
    entry = builder.block
    start_statement, start_pairs = workspace.load(STATEMENTS), workspace.load(PAIRS)
    held = _Held(emission, adjoints, kind)
    builder.branch(blocks["head"])

    builder.position_at_end(blocks["head"])
    above, end = builder.phi(I64), builder.phi(I64)
    above.add_incoming(start_statement, entry)
    end.add_incoming(start_pairs, entry)
    builder.cbranch(builder.icmp_unsigned(">", above, first), blocks["body"], blocks["done"])

    builder.position_at_end(blocks["body"])
    statement = builder.sub(above, constant(1))
    count = builder.zext(builder.load(builder.gep(counts, [statement], inbounds=True)), I64)
    with_held = builder.lshr(count, constant(7))
    ordinary_count = builder.and_(count, constant(HELD - 1))
    ordinary = builder.icmp_unsigned("<", count, constant(BLOCK))
    builder.cbranch(ordinary, blocks["ordinary"], blocks["special"])

    builder.position_at_end(blocks["special"])
    held.give_back()
    which = builder.switch(count, blocks["block"])
    which.add_case(constant(LONG), blocks["long"])
    which.add_case(constant(EXTERNAL), blocks["external"])

    builder.position_at_end(blocks["long"])
    last = builder.sub(end, constant(1))
    long_count = builder.zext(builder.load(builder.gep(cells, [last], inbounds=True)), I64)
    builder.branch(blocks["ordinary"])

    builder.position_at_end(blocks["external"])
    after = builder.bitcast(builder.gep(partials, [end], inbounds=True), I64.as_pointer())
    length, handler = (builder.load(builder.gep(after, [constant(-k)], inbounds=True)) for k in (1, 2))
    payload = builder.sub(end, length)
    signature = ir.FunctionType(I32, [POINTER, excinfo.type, POINTER, POINTER, I64])
    address = builder.bitcast(builder.gep(partials, [payload]), POINTER)
    status = builder.call(builder.inttoptr(handler, signature.as_pointer()),
                          [ir.Constant(POINTER, None), excinfo, workspace.address, address, statement])
    with builder.if_then(builder.icmp_signed("!=", status, OK), likely=False):
        builder.ret(status)
    external_end = builder.block
    builder.branch(blocks["next"])

    builder.position_at_end(blocks["ordinary"])
    number_of_pairs, stop = builder.phi(I64), builder.phi(I64)
    number_of_pairs.add_incoming(ordinary_count, blocks["body"])
    stop.add_incoming(end, blocks["body"])
    number_of_pairs.add_incoming(long_count, blocks["long"])
    stop.add_incoming(last, blocks["long"])
    holds = builder.phi(I64)
    holds.add_incoming(with_held, blocks["body"])
    holds.add_incoming(constant(0), blocks["long"])
    begin = builder.sub(stop, number_of_pairs)
    held.give_back_to(statement)
    adjoint = adjoints.load(statement)
    zero = is_zero(emission, kind, adjoint)
    idle = builder.or_(zero, builder.icmp_unsigned("==", number_of_pairs, constant(0)))
    ordinary_end = builder.block
    builder.cbranch(idle, blocks["next"], blocks["pairs"])

    builder.position_at_end(blocks["pairs"])
    adjoints.store(statement, 0.0)
    pairs_end = builder.block
    before_held = builder.sub(stop, holds)
    builder.cbranch(builder.icmp_unsigned("==", begin, before_held), blocks["last"], blocks["pair"])

    def contribution_at(at):
        cell = builder.zext(builder.load(builder.gep(cells, [at], inbounds=True)), I64)
        model = context.data_model_manager[kind]
        stored = model.load_from_data_pointer(builder, builder.gep(partials, [at], inbounds=True), align=8)
        partial = emission.number(kind, stored)
        if kind != types.float64:
            return cell, product(TABLE, adjoint, partial)
        # As the table's product has it; that the adjoint is not zero is known here.
        return cell, f.where(f.eq(partial, 0.0), 0.0, adjoint * partial)

    def pass_on(at):
        adjoints.add(*contribution_at(at))

    builder.position_at_end(blocks["pair"])
    at = builder.phi(I64)
    at.add_incoming(begin, pairs_end)
    pass_on(at)
    following = builder.add(at, constant(1))
    at.add_incoming(following, builder.block)
    builder.cbranch(builder.icmp_unsigned("<", following, before_held), blocks["pair"], blocks["paired"])

    builder.position_at_end(blocks["paired"])
    builder.cbranch(builder.icmp_unsigned("==", holds, constant(0)), blocks["next"], blocks["last"])

    builder.position_at_end(blocks["last"])
    cell, contribution = contribution_at(builder.sub(stop, constant(1)))
    held.add(cell, contribution)
    pair_end = builder.block
    builder.branch(blocks["next"])

    builder.position_at_end(blocks["next"])
    next_end = builder.phi(I64)
    next_end.add_incoming(begin, ordinary_end)
    next_end.add_incoming(begin, pair_end)
    next_end.add_incoming(begin, blocks["paired"])
    next_end.add_incoming(payload, external_end)
    next_above = builder.phi(I64)
    for source in (ordinary_end, pair_end, blocks["paired"], external_end):
        next_above.add_incoming(statement, source)
    above.add_incoming(next_above, builder.block)
    end.add_incoming(next_end, builder.block)
    builder.branch(blocks["head"])

    if kind == types.float64:
        _emit_blocks(builder, blocks, count, statement, end, (next_end, next_above), cells, partials, adjoints)
    else:
        builder.position_at_end(blocks["block"])
        builder.unreachable()

    builder.position_at_end(blocks["done"])
    held.give_back()
    adjoints.store(constant(0), 0.0)
    builder.ret(OK)


def _emit_blocks(builder, blocks, count, statement, end, following, cells, partials, adjoints):
    """Blocks of statements with the same cells: a small product of a row and a matrix for each number of rows."""
    next_end, next_above = following
    builder.position_at_end(blocks["block"])
    columns = builder.zext(builder.load(builder.gep(cells, [builder.sub(end, constant(1))], inbounds=True)), I64)
    unknown = builder.append_basic_block("unknown")
    switch = builder.switch(count, unknown)
    builder.position_at_end(unknown)
    builder.unreachable()
    for rows in range(2, MOST_ROWS + 1):
        begin_block, loop = (builder.append_basic_block(f"{name}{rows}") for name in ("rows", "columns"))
        switch.add_case(constant(BLOCK + rows), begin_block)
        builder.position_at_end(begin_block)
        begin = builder.sub(end, builder.mul(columns, constant(rows)))
        lowest = builder.sub(statement, constant(rows - 1))
        row = [adjoints.take(builder.add(lowest, constant(j))) for j in range(rows)]
        idle = ir.Constant(ir.IntType(1), 1)
        for adjoint in row:
            idle = builder.and_(idle, builder.fcmp_ordered("==", adjoint.value, ir.Constant(adjoint.value.type, 0.0)))
        next_end.add_incoming(begin, builder.block)
        next_above.add_incoming(lowest, builder.block)
        start = builder.block
        builder.cbranch(idle, blocks["next"], loop)
        builder.position_at_end(loop)
        k, at = builder.phi(I64), builder.phi(I64)
        k.add_incoming(constant(0), start)
        at.add_incoming(begin, start)
        cell = builder.zext(builder.load(builder.gep(cells, [builder.add(begin, k)], inbounds=True)), I64)
        column = [LLVMValue(builder, builder.load(builder.gep(partials, [builder.add(at, constant(j))], inbounds=True)), TABLE)
                  for j in range(rows)]
        plain = functools.reduce(operator.add, map(operator.mul, row, column))
        adjoints.add(cell, _unless_nan(builder, plain, lambda row=row, column=column: functools.reduce(
            operator.add, (product(TABLE, adjoint, partial) for adjoint, partial in zip(row, column, strict=True)))))
        k_after = builder.add(k, constant(1))
        k.add_incoming(k_after, builder.block)
        at.add_incoming(builder.add(at, constant(rows)), builder.block)
        next_end.add_incoming(begin, builder.block)
        next_above.add_incoming(lowest, builder.block)
        builder.cbranch(builder.icmp_unsigned("<", k_after, columns), loop, blocks["next"])


def _unless_nan(builder, plain, careful):
    """A number of plain products; where it is NaN, as 0 times infinity is, what `careful()` makes of the table's products."""
    before = builder.block
    with builder.if_then(builder.fcmp_unordered("uno", plain.value, plain.value), likely=False):
        again = careful().value
        inside = builder.block
    result = builder.phi(plain.value.type)
    result.add_incoming(plain.value, before)
    result.add_incoming(again, inside)
    return LLVMValue(builder, result, TABLE)


def clear(workspace: Workspace):
    """Set all adjoints to zero, after a sweep that failed."""
    start = workspace.builder.inttoptr(workspace.load(ADJOINTS), POINTER)
    cgutils.memset(workspace.builder, start, workspace.load(ADJOINT_BYTES), 0)
