"""A scheduled list as one LLVM function: single cells in registers, loops that LLVM can vectorise, memory only where needed.

What is here: where each slot lives, straight code, loop nests. What is not: structural steps (their rows emit them), signatures
(`wrappers.py`), LLVM's own passes (`machine.py`).

The function's arguments are a pointer for each argument of the list, then one for each result; it returns 0, or what a guard
or an index found wrong, as the sweeps do.
"""

from __future__ import annotations

import contextlib
import math

import numpy as np
from llvmlite import ir
from numba.core import cgutils

from compiled.functions.emitter import F64, splat, with_width
from compiled.lists.listing import Listing, Ref, Result, is_dense
from compiled.lists.loops import Loop
from compiled.native.calls import emit_call
from compiled.native.loops import buffer_cells, emit_loop, with_totals
from compiled.native.placement import Memory
from compiled.native.schedule import LOOP, STRAIGHT, inner_slots, schedule
from compiled.table.layout import OUT
from compiled.table.llvm import I32, I64, LLVMValue
from compiled.table.numbers import Number
from compiled.table.views import contiguous

PIECE_STEPS = 1500
"""Straight steps in one LLVM function: LLVM's time grows faster than linearly."""

KINDS = {"float64": ir.DoubleType(), "float32": ir.FloatType()}

REASSOCIATE = ("reassoc", "nsz")


class ListEmitter:
    """Writes one list into a module.

    Parameters
    ----------
    module : llvmlite.ir.Module
        Where to.
    listing : Listing
        Simplified, for forward runs alone.
    name : str
        Of the function.
    lanes : int
        Samples that are computed at once, each cell a vector of as many numbers; 1 for numbers.
    blas : bool
        Whether BLAS may be called.
    loop : (LoopBody, Loop), optional
        Of the list that is a loop's body.
    calls : list of Call
        What the module's calls are numbered by.
    """

    def __init__(self, module: ir.Module, listing: Listing, name: str, lanes: int = 1, blas: bool = True, loop=None,
                 calls=()):
        self.module, self.name, self.blas, self.calls = module, name, blas and lanes == 1, calls
        # In the body of a loop sums are added to in place.
        self.listing, self.totals = (listing, {}) if loop is None else with_totals(*loop)
        self.number = KINDS[listing.dtype.name]
        self.kind = self.number if lanes == 1 else ir.VectorType(self.number, lanes)
        self.lanes, self.table = lanes, listing.table
        self.units = schedule(self.listing)
        self.pieces = [self.units] if loop is not None else _pieces(self.units)
        self.constants = {slot: self._constant_array(slot) for slot, a in self.listing.constants.items() if a.size > 1}
        self.in_loop = loop is not None
        self.bodies, self.loops = {}, {}
        for step in self.listing.steps:
            if step.row.name == "loop":
                self._add_body(Loop.of(step.space.words), blas)
        self._bind()

    # ------------------------------------------------------------------ where slots live

    def _add_body(self, loop, blas):
        body = self.listing.bodies[loop.body]
        name = f"{self.name}.body{loop.body}"
        self.bodies[loop.body] = ListEmitter(self.module, body.listing, name, self.lanes, blas, (body, loop), self.calls)
        self.loops[loop.body] = buffer_cells(body, loop)

    def piece(self, builder, arguments, work) -> Piece:
        """A piece that emits this list's units where another emitter's builder stands."""
        return Piece(self, builder, arguments, work)

    def _bind(self):
        """Decide for each slot: an argument's memory, a result's, a constant, working memory, or a register."""
        listing = self.listing
        outside = set(listing.inputs) | set(listing.constants) | {result.ref.slot for result in listing.outputs}
        self.inner = inner_slots(self.units, outside)
        self.argument_of = self._arguments_in_place()
        self.result_of = {}
        for k, result in enumerate(listing.outputs if self.lanes == 1 or self.in_loop else ()):
            slot, size = result.ref.slot, math.prod(result.shape)
            direct = (slot not in self.argument_of and slot not in listing.constants and slot not in self.result_of
                      and result.ref.offset == 0 and size == listing.size(slot) and result.strides == contiguous(result.shape))
            if direct and size and not (self.in_loop and size == 1):
                self.result_of[slot] = k
        self.shared = self._shared_slots()
        self.memory = Memory(listing, self.units, self._needs_memory)
        for number, body in self.bodies.items():
            self.memory.reserve(number, body.memory.cells, self.loops[number])
        self.widened = self._widened() if self.lanes > 1 else {}

    def _widened(self):
        """First cells of copies, in lanes, of what loops read and all samples share."""
        read = {ref.slot for step in self.listing.steps if step.row.name == "loop" for ref in step.operands}
        shared = set(self.constants) | (set() if self.in_loop else set(self.argument_of))
        found = {}
        for slot in sorted(read & shared):
            found[slot] = self.memory.cells
            self.memory.cells += self.listing.size(slot)
        return found

    def _arguments_in_place(self):
        """Slots that are an argument's own memory, and its number; in the body of a loop numbers come in registers."""
        return {slot: k for k, slot in enumerate(self.listing.inputs) if not self.in_loop or self.listing.size(slot) != 1}

    def _shared_slots(self):
        """Slots that more than one piece uses."""
        return _used_in_several(self.pieces, self.listing.outputs)

    def _needs_memory(self, slot, structural):
        """Whether a slot needs working memory, given whether a structural step uses it."""
        if slot in self.inner or slot in self.argument_of or slot in self.result_of or slot in self.constants:
            return False
        if self.listing.size(slot) == 1:
            return structural or slot in self.shared
        return True

    def _constant_array(self, slot):
        array = np.ascontiguousarray(self.listing.constants[slot])
        data = bytearray(array.tobytes())
        kind = ir.ArrayType(ir.IntType(8), len(data))
        variable = ir.GlobalVariable(self.module, kind, f"{self.name}.constant.{slot}")
        variable.linkage, variable.global_constant, variable.align = "internal", True, 64
        variable.initializer = ir.Constant(kind, data)
        return variable

    # ------------------------------------------------------------------ the function

    def function(self) -> ir.Function:
        """Emit the function."""
        pointer = self.number.as_pointer()
        count = len(self.listing.inputs) + len(self.listing.outputs)
        arguments = [pointer] * count
        function = ir.Function(self.module, ir.FunctionType(I64, arguments), self.name)
        function.linkage = "internal"
        for argument in function.args:
            argument.add_attribute("noalias")
        builder = ir.IRBuilder(function.append_basic_block("entry"))
        work, release = self.memory.acquire(builder, self.kind, self.name)
        if len(self.pieces) == 1:
            status = Piece(self, builder, list(function.args), work).emit(self.units, last=True)
        else:
            status = self._in_pieces(builder, list(function.args), work)
        release(builder)
        builder.ret(status)
        return function

    def _in_pieces(self, builder, arguments, work):
        """Emit each piece as a function of its own."""
        status = ir.Constant(I64, 0)
        for number, units in enumerate(self.pieces):
            types = [a.type for a in arguments] + [work.type]
            function = ir.Function(self.module, ir.FunctionType(I64, types), f"{self.name}.{number}")
            function.linkage = "internal"
            function.attributes.add("noinline")
            inside = ir.IRBuilder(function.append_basic_block("entry"))
            *own, own_work = function.args
            inside.ret(Piece(self, inside, own, own_work).emit(units, last=number == len(self.pieces) - 1))
            one = builder.call(function, [*arguments, work])
            failed = builder.icmp_signed("!=", status, ir.Constant(I64, 0))
            status = builder.select(failed, status, one)
        return status


def _pieces(units):
    """Cut the units into pieces of about equal length."""
    total = sum(len(unit.members) for unit in units)
    if total <= PIECE_STEPS * 1.5:
        return [units]
    pieces, size = [[]], 0
    for unit in _cut_straight(units):
        if size + len(unit.members) > PIECE_STEPS and pieces[-1]:
            pieces.append([])
            size = 0
        pieces[-1].append(unit)
        size += len(unit.members)
    units[:] = [unit for piece in pieces for unit in piece]
    return pieces


def _used_in_several(pieces, outputs) -> set[int]:
    """Slots that more than one piece uses; the last piece copies results out."""
    home, found = {result.ref.slot: len(pieces) - 1 for result in outputs}, set()
    for number, units in enumerate(pieces if len(pieces) > 1 else ()):
        for unit in units:
            for step, _ in unit.members:
                for slot in (*(ref.slot for ref in step.operands), *step.writes()):
                    if home.setdefault(slot, number) != number:
                        found.add(slot)
    return found


def _cut_straight(units):
    for unit in units:
        if unit.kind == STRAIGHT and len(unit.members) > PIECE_STEPS:
            for start in range(0, len(unit.members), PIECE_STEPS):
                yield type(unit)(STRAIGHT, (), unit.members[start : start + PIECE_STEPS])
        else:
            yield unit


class Piece:
    """One LLVM function's worth of units."""

    def __init__(self, emitter: ListEmitter, builder, arguments, work):
        self.emitter, self.builder, self.arguments, self.work = emitter, builder, arguments, work
        self.listing, self.kind, self.table = emitter.listing, emitter.kind, emitter.table
        self.registers: dict[int, object] = {}  # what slots of one cell hold now
        self.status = None

    def emit(self, units, last):
        """Emit the units in order; returns the status."""
        self.status = cgutils.alloca_once_value(self.builder, ir.Constant(I64, 0))
        self.emit_units(units)
        if last:
            self._results()
        return self.builder.load(self.status)

    def emit_units(self, units):
        """Emit the units alone."""
        for unit in units:
            if unit.kind == STRAIGHT:
                for step, _ in unit.members:
                    self._straight(step)
            elif unit.kind == LOOP:
                Nest(self, unit).emit()
            else:
                self._structural(unit.members[0][0])

    # ------------------------------------------------------------------ cells

    def constant(self, value):
        """A number of the function's kind."""
        return splat(self.kind, float(value))

    def base(self, slot):
        """Pointer to a slot's first cell, and whether its cells are numbers although the function's are vectors."""
        emitter = self.emitter
        if slot in emitter.argument_of:
            return self.arguments[emitter.argument_of[slot]], emitter.lanes > 1 and not emitter.in_loop
        if slot in emitter.result_of:
            return self.arguments[len(self.listing.inputs) + emitter.result_of[slot]], False
        if slot in emitter.constants:
            pointer = self.builder.bitcast(emitter.constants[slot], emitter.number.as_pointer())
            return pointer, emitter.lanes > 1
        return self.builder.gep(self.work, [ir.Constant(I64, emitter.memory.offset[slot])]), False

    def load(self, slot, index):
        """Load a cell of a slot."""
        pointer, narrow = self.base(slot)
        value = self.builder.load(self.builder.gep(pointer, [index]))
        return spread(self.builder, value, self.emitter.lanes) if narrow else value

    def store(self, slot, index, value):
        """Store into a cell of a slot."""
        pointer, _ = self.base(slot)
        self.builder.store(value, self.builder.gep(pointer, [index]))

    def cell(self, ref: Ref, inline=False):
        """The number in one cell: a Python float where it is constant, else an LLVMValue."""
        if self.listing.size(ref.slot) > 1:
            return self.number(self.load(ref.slot, ir.Constant(I64, ref.offset)), inline)
        known = self.registers.get(ref.slot)
        if known is None:
            array = self.listing.constants.get(ref.slot)
            if array is not None:
                return float(array.reshape(-1)[0])
            known = self.registers[ref.slot] = self.load(ref.slot, ir.Constant(I64, 0))
        return self.number(known, inline) if not isinstance(known, float) else known

    def number(self, value, inline=False):
        """An LLVM value as what rules compute with."""
        return LLVMValue(self.builder, value, self.table, inline)

    def raw(self, value):
        """The LLVM value of a rule's result."""
        return value.value if isinstance(value, LLVMValue) else self.constant(value)

    def put(self, ref: Ref, value):
        """Set one cell."""
        if self.listing.size(ref.slot) == 1:
            self.registers[ref.slot] = value.value if isinstance(value, LLVMValue) else float(value)
            if not self.has_home(ref.slot):
                return
        self.store(ref.slot, ir.Constant(I64, ref.offset), self.raw(value))

    def has_home(self, slot):
        """Whether a slot has memory."""
        emitter = self.emitter
        return slot in emitter.memory.offset or slot in emitter.result_of

    # ------------------------------------------------------------------ straight code

    def _structural(self, step):
        """A structural step: its operands, and what it adds to, where pointers can find them, then its row's own code."""
        for slot in {ref.slot for ref in (*step.operands, step.out) if ref is not None}:
            self._write_home(slot)
        step.row.emit(self, step)
        for slot in step.writes():
            self.registers.pop(slot, None)

    def _write_home(self, slot):
        """Bring a cell that a register holds to where pointers can find it."""
        known = self.registers.get(slot)
        constant = self.listing.constants.get(slot)
        if known is None and constant is not None and constant.size == 1:
            known = float(constant.reshape(-1)[0])
        if known is not None and self.has_home(slot):
            self.store(slot, ir.Constant(I64, 0), self.constant(known) if isinstance(known, float) else known)

    def loop(self, step):
        """Emit a step that is a loop."""
        emit_loop(self, step)

    def call(self, step):
        """Emit a step that is a call."""
        pointers = [self.builder.gep(self.base(ref.slot)[0], [ir.Constant(I64, ref.offset)])
                    for ref in (*step.operands, step.out)]
        emit_call(self, step, *pointers)

    def _straight(self, step):
        operands = [self.cell(ref) for ref in step.operands]
        value = self.applied(step.row, operands)
        if step.row.accumulates:
            before = self.cell(step.out)
            value = self.table.apply("add", before, value)
        self.put(step.out, value)

    def applied(self, row, operands):
        """A row of operands."""
        if row.name in ("copy", "stop", "accumulate", "assign"):
            return operands[0]
        if row.name == "zero":
            return 0.0
        if row.name == "accumulate_product":
            return self.table.apply("mul", *operands)
        return self.table.apply(row.name, *operands)

    # ------------------------------------------------------------------ results

    def _results(self):
        if self.emitter.lanes > 1:
            return
        for k, (ref, shape, strides) in enumerate(self.listing.outputs):
            if self.emitter.result_of.get(ref.slot) == k or 0 in shape:
                continue
            target = self.arguments[len(self.listing.inputs) + k]
            if math.prod(shape) == 1:
                self.builder.store(self.raw(self.cell(ref)), target)
                continue
            self.copy_out(Result(ref, shape, strides), target)

    def copy_out(self, result, target):
        """Copy a result to where it is wanted."""
        ref, shape, strides = result
        if ref.offset == 0 and is_dense(shape, strides, math.prod(shape)) and strides == contiguous(shape):
            shape, strides = (math.prod(shape),), (1,)
        single = self.raw(self.cell(ref)) if self.listing.size(ref.slot) == 1 else None
        source = self.base(ref.slot)[0] if single is None else None
        out = contiguous(shape)

        def body(indices):
            value = single
            if source is not None:
                value = self.builder.load(self.builder.gep(source, [self.offset(ref.offset, strides, indices)]))
            self.builder.store(value, self.builder.gep(target, [self.offset(0, out, indices)]))

        self.nest(shape, body)

    def offset(self, first, strides, indices):
        """first + sum of strides times indices."""
        total = ir.Constant(I64, first)
        for step, index in zip(strides, indices, strict=True):
            if step:
                total = self.builder.add(total, self.builder.mul(index, ir.Constant(I64, step)) if step != 1 else index)
        return total

    def nest(self, shape, body, enter=None, leave=None, indices=()):
        """Emit a loop nest; `enter(depth)` and `leave(depth, indices)` run around the loops from that depth on."""
        depth = len(indices)
        if depth == len(shape):
            body(indices)
            return
        if enter:
            enter(depth)
        if shape[depth] == 1:
            self.nest(shape, body, enter, leave, (*indices, ir.Constant(I64, 0)))
        else:
            with counted_loop(self.builder, shape[depth]) as index:
                self.nest(shape, body, enter, leave, (*indices, index))
        if leave:
            leave(depth, indices)


@contextlib.contextmanager
def counted_loop(builder, stop, start=0, step=1, going=None):
    """`for index in range(start, stop, step)`, its test at the end: the body runs at least once.

    `going()`, if given, emits a condition besides the test.
    """
    before = builder.block
    body, after = builder.append_basic_block("loop"), builder.append_basic_block("after")
    builder.branch(body)
    builder.position_at_end(body)
    index = builder.phi(I64)
    index.add_incoming(_word(start), before)
    yield index
    following = builder.add(index, _word(step), flags=("nuw", "nsw"))
    index.add_incoming(following, builder.block)
    more = builder.icmp_signed("<", following, _word(stop))
    if going is not None:
        more = builder.and_(going(), more)
    builder.cbranch(more, body, after)
    builder.position_at_end(after)


def _word(n):
    return n if isinstance(n, ir.Value) else ir.Constant(I64, n)


def spread(builder, value, count: int):
    """A vector of equal numbers or words."""
    nothing = ir.Constant(ir.VectorType(value.type, count), ir.Undefined)
    vector = builder.insert_element(nothing, value, ir.Constant(I32, 0))
    return builder.shuffle_vector(vector, nothing, ir.Constant(ir.VectorType(I32, count), [0] * count))


class Nest:
    """One loop nest around the members of a unit."""

    def __init__(self, piece: Piece, unit):
        self.piece, self.unit, self.builder = piece, unit, piece.builder
        self.shape, self.inner = unit.shape, piece.emitter.inner
        self.sums: dict[int, tuple] = {}  # member number: (depth, accumulator)
        self.hoisted: dict[Ref, object] = {}

    def emit(self):
        """Emit the nest."""
        for number, (step, strides) in enumerate(self.unit.members):
            self._prepare(number, step, strides)
        self.piece.nest(self.shape, self._body, self._enter, self._leave)

    def _is_sum(self, step, strides):
        return step.row.accumulates and self.shape and strides[OUT][-1] == 0 and self.shape[-1] > 1

    def _prepare(self, number, step, strides):
        """Load what does not change in the loops; make accumulators."""
        written = {other.out.slot for other, _ in self.unit.members}
        for k, ref in enumerate(step.operands):
            if not any(strides[k]) and ref.slot not in written and ref not in self.hoisted:
                self.hoisted[ref] = self.piece.cell(ref, inline=True)
        if self._is_sum(step, strides):
            depth = len(self.shape)
            while depth and (strides[OUT][depth - 1] == 0 or self.shape[depth - 1] == 1):
                depth -= 1
            # In double precision: sums of float32 are not rounded at each step.
            accumulator = cgutils.alloca_once(self.builder, with_width(F64, ir.Constant(self.piece.kind, ir.Undefined)))
            self.sums[number] = (depth, accumulator)
            if depth == 0 and self.piece.listing.size(step.out.slot) == 1:
                self.piece.cell(step.out)  # what it holds is loaded before the loops

    def _enter(self, depth):
        for at, accumulator in self.sums.values():
            if at == depth:
                self.builder.store(splat(accumulator.type.pointee, 0.0), accumulator)

    def _leave(self, depth, indices):
        for number, (at, accumulator) in self.sums.items():
            if at != depth:
                continue
            step, strides = self.unit.members[number]
            total = self._converted(self.builder.load(accumulator), self.piece.kind)
            if self.piece.listing.size(step.out.slot) == 1:
                before = self.piece.cell(step.out)
                if isinstance(before, float) and before == 0.0:
                    self.piece.put(step.out, self.piece.number(total))
                else:
                    self.piece.put(step.out, self.piece.table.apply("add", before, self.piece.number(total)))
                continue
            index = self.piece.offset(step.out.offset, strides[OUT][:depth], indices)
            before = self.piece.load(step.out.slot, index)
            self.piece.store(step.out.slot, index, self.builder.fadd(before, total))

    def _body(self, indices):
        values: dict[tuple, object] = {}
        dirty: dict[tuple, tuple] = {}
        for number, (step, strides) in enumerate(self.unit.members):
            operands = [self._operand(ref, strides[k], indices, values) for k, ref in enumerate(step.operands)]
            value = self.piece.applied(step.row, operands)
            if number in self.sums:
                accumulator = self.sums[number][1]
                term = self._converted(self.piece.raw(value), accumulator.type.pointee)
                self.builder.store(self.builder.fadd(self.builder.load(accumulator), term, flags=REASSOCIATE), accumulator)
                continue
            key = (step.out, strides[OUT])
            if step.row.accumulates:
                before = self._operand(step.out, strides[OUT], indices, values)
                value = self.piece.table.apply("add", before, value)
            injective = all(s or n == 1 for s, n in zip(strides[OUT], self.shape, strict=True))
            values[key] = value  # a later step of the loop may read it, or add to it
            if not injective:
                self._store(step.out, strides[OUT], indices, value)
            elif step.out.slot not in self.inner:
                dirty[key] = (step.out, strides[OUT])
        for key, (ref, strides) in dirty.items():
            self._store(ref, strides, indices, values[key])

    def _converted(self, value, kind):
        """A number between the precision of the cells and that of the accumulators."""
        if value.type == kind:
            return value
        return (self.builder.fptrunc if self.piece.kind == kind else self.builder.fpext)(value, kind)

    def _store(self, ref, strides, indices, value):
        self.piece.store(ref.slot, self.piece.offset(ref.offset, strides, indices), self.piece.raw(value))

    def _operand(self, ref, strides, indices, values):
        known = values.get((ref, strides))
        if known is not None:
            return known
        if ref in self.hoisted and not any(strides):
            return self.hoisted[ref]
        if self.piece.listing.size(ref.slot) == 1:
            return self.piece.cell(ref, inline=True)
        loaded = self.piece.load(ref.slot, self.piece.offset(ref.offset, strides, indices))
        value = self.piece.number(loaded, inline=True)
        if isinstance(value, Number):
            values[ref, strides] = value
        return value
