"""Loops as machine code: the body's units inside a native loop, numbers of the carry in registers, arrays where they stay.

What is here: a loop step of a list whose `bodies` are listings (see `LoopBody`). What is not: the loop's layout
(`compiled.lists.loops`), the body's own units (`emit.py`).
"""

from __future__ import annotations

import math
from typing import NamedTuple

from llvmlite import ir
from numba.core import cgutils

from compiled.lists.listing import POINT, Listing, Ref, Result, Space, Step, covers
from compiled.lists.loops import Loop, Packs
from compiled.table.llvm import I64
from compiled.table.views import contiguous


class LoopBody(NamedTuple):
    """The body of one loop step as native code runs it.

    Attributes
    ----------
    listing : Listing
        Simplified; its outputs are those that are wanted.
    wanted : tuple of int
        Which of the program's outputs they are.
    rows : bool
        Whether the states that the loop keeps are read.
    inputs, outputs : tuple of shapes
        Of all the program's leaves.
    """

    listing: Listing
    wanted: tuple[int, ...]
    rows: bool
    inputs: tuple
    outputs: tuple


def with_totals(body: LoopBody, loop: Loop) -> tuple[Listing, dict[int, int]]:
    """The body's listing, with sums that are added to in place; also the slot of each sum by its output's number."""
    listing = body.listing.with_steps(list(body.listing.steps))
    outputs, totals = list(listing.outputs), {}
    for at, number in enumerate(body.wanted):
        if loop.carry <= number < loop.carry + loop.sums:
            totals[number], outputs[at] = _total(listing, outputs[at], outputs, at)
    listing.outputs = outputs
    return listing, totals


def _total(listing, result, outputs, at):
    slot = result.ref.slot
    writers = [k for k, step in enumerate(listing.steps) if slot in step.writes()]
    readers = [step for step in listing.steps if slot in step.reads()]
    others = [r for k, r in enumerate(outputs) if k != at and r.ref.slot == slot]
    size = listing.size(slot)
    whole = (result.ref.offset == 0 and math.prod(result.shape) == size and result.strides == contiguous(result.shape))
    own = writers and not readers and not others and whole and slot not in listing.inputs and slot not in listing.constants
    rows = [listing.steps[k].row for k in writers]
    if own and rows[0].name == "zero" and covers(listing, listing.steps[writers[0]]) and all(r.accumulates for r in rows[1:]):
        del listing.steps[writers[0]]  # the sum so far takes the place of zero
        return slot, result
    total = listing.new_slot(result.shape)
    blank = (0,) * len(result.shape)
    # A single number is a point, also where it is one cell of a larger slot: its total is then a register.
    number = math.prod(result.shape) == 1
    space = POINT if number else Space(result.shape, (result.strides, blank, blank, contiguous(result.shape)))
    step = Step(listing.table["accumulate"], (result.ref,), Ref(total, 0), space, 0)
    listing.steps.append(step)
    return total, Result(Ref(total, 0), result.shape, contiguous(result.shape))


def emit_loop(piece, step) -> None:
    """Emit a loop step."""
    LoopEmitter(piece, step).emit()


class LoopEmitter:
    """One loop step in a piece."""

    def __init__(self, piece, step):
        self.piece, self.step, self.builder = piece, step, piece.builder
        self.loop = Loop.of(step.space.words)
        self.sub = piece.emitter.bodies[self.loop.body]
        self.body: LoopBody = piece.listing.bodies[self.loop.body]
        self.packs = Packs(self.loop, self.body.inputs, self.body.outputs)
        self.listing = self.sub.listing
        self.buffers = piece.emitter.memory.loops[self.loop.body]
        self.pointers = [self._pack(ref) for ref in (*step.operands, step.out)]
        loop = self.loop
        self.at = {number: k for k, number in enumerate(self.body.wanted)}
        self.ys = range(loop.carry + loop.sums, len(self.body.outputs) - loop.ends)

    def _pack(self, ref):
        base, narrow = self.piece.base(ref.slot)
        if narrow:
            base = self._widened(ref.slot)
        return self.builder.gep(base, [ir.Constant(I64, ref.offset)])

    def _widened(self, slot):
        """A copy, in lanes, of numbers that all samples share."""
        start, size = self.piece.emitter.widened[slot], self.piece.listing.size(slot)
        target = self.builder.gep(self.piece.work, [self.word(start)])
        self.piece.nest((size,), lambda indices: self.builder.store(
            self.piece.load(slot, indices[0]), self.builder.gep(target, indices)))
        return target

    def word(self, number):
        """A constant index."""
        return ir.Constant(I64, number)

    def pointer(self, pack, cell, row=None, size=0):
        """Pointer to a cell of a pack; with `row` that of a stack of rows."""
        index = self.word(cell)
        if row is not None:
            index = self.builder.add(index, self.builder.mul(row, self.word(size)))
        return self.builder.gep(self.pointers[pack], [index])

    # ------------------------------------------------------------------ the loop

    def emit(self):
        """Emit everything."""
        builder, loop = self.builder, self.loop
        steps = self._steps()
        self._start()
        ran = cgutils.alloca_once_value(builder, self.word(0)) if loop.ends else None
        head, body, done = (builder.append_basic_block(name) for name in ("steps", "step", "stepped"))
        before = builder.block
        builder.branch(head)
        builder.position_at_end(head)
        count = builder.phi(I64)
        count.add_incoming(self.word(0), before)
        builder.cbranch(builder.icmp_signed("<", count, steps), body, done)
        builder.position_at_end(body)
        k = builder.sub(builder.sub(steps, self.word(1)), count) if loop.backward else count
        self._step(k, done)
        following = builder.add(count, self.word(1), flags=("nuw", "nsw"))
        if ran is not None:
            builder.store(following, ran)
        count.add_incoming(following, builder.block)
        builder.branch(head)
        builder.position_at_end(done)
        self._finish(steps, ran)

    def _steps(self):
        """How many steps there are."""
        loop, builder = self.loop, self.builder
        if not loop.counted:
            return self.word(loop.length)
        if self.piece.emitter.lanes > 1:
            raise NotImplementedError("a loop whose number of steps differs between samples")
        number = builder.fptosi(builder.load(self.pointer(0, self.packs.count)), I64)
        return builder.select(builder.icmp_signed("<", number, self.word(loop.length)), number, self.word(loop.length))

    def _start(self):
        """Put the carry where the first step looks for it; clear the sums."""
        builder, piece = self.builder, self.piece
        self.numbers = {}
        self.current: list = []
        for leaf, place in enumerate(self.packs.carry):
            size = math.prod(place[1])
            source = self.pointer(0, place[0])
            if size == 1:
                variable = cgutils.alloca_once(builder, piece.kind)
                builder.store(builder.load(source), variable)
                self.numbers[leaf] = variable
                continue
            if self._has_rows():
                steps = self._steps()
                row = steps if self.loop.backward else self.word(0)
                self._copy(source, self.pointer(3, self.packs.rows[leaf][0], row, size), size)
            else:
                self._copy(source, self._buffer(leaf), size)
        self.totals = {}
        for number, (cell, shape) in enumerate(self.packs.sums, start=self.loop.carry):
            size = math.prod(shape)
            if number not in self.at:
                continue
            if size == 1:
                self.totals[number] = cgutils.alloca_once_value(builder, piece.constant(0.0))
            elif size:
                self._clear(self.pointer(3, cell), size)
        if self.loop.counted or self.loop.ends:  # rows of steps that are not run stay zero
            for number, (cell, shape) in zip(self.ys, self.packs.y, strict=True):
                if number in self.at and math.prod(shape):
                    self._clear(self.pointer(3, cell), math.prod(shape))

    def _has_rows(self):
        return bool(self.loop.keeps and self.body.rows)

    def _buffer(self, leaf):
        """Working memory for an array of the carry where no states are kept."""
        offset = self.buffers[leaf]
        return self.builder.gep(self.piece.work, [self.word(offset)])

    def _step(self, k, done):
        builder, loop, packs = self.builder, self.loop, self.packs
        arguments, numbers = [], []
        shapes = self.body.inputs
        row_before = builder.add(k, self.word(loop.before))
        row_after = builder.add(k, self.word(1 - loop.before))
        for leaf, (_, shape) in enumerate(packs.carry):
            size = math.prod(shape)
            if size == 1:
                numbers.append(builder.load(self.numbers[leaf]))
                arguments.append(None)
                if self._has_rows():
                    builder.store(numbers[-1], self.pointer(3, packs.rows[leaf][0], row_before, 1))
            else:
                numbers.append(None)
                rows = self._has_rows()
                arguments.append(self.pointer(3, packs.rows[leaf][0], row_before, size) if rows else self._buffer(leaf))
        for places, pack, row in ((packs.constants, 0, None), (packs.x, 1, k), (packs.s, 2, row_after)):
            for cell, shape in places:
                size = math.prod(shape if row is None else shape[1:])
                pointer = self.pointer(pack, cell, row, size)
                arguments.append(pointer)
                numbers.append(builder.load(pointer) if size == 1 else None)
        assert len(arguments) == len(shapes)
        results = self._run_body(arguments, numbers, k, row_after)
        if loop.ends:
            going = builder.fcmp_unordered("!=", results[len(self.body.outputs) - 1], self.piece.constant(0.0))
            more = builder.append_basic_block("more")
            builder.cbranch(going, more, done)
            builder.position_at_end(more)
        self._take(results, k, row_after)

    def _run_body(self, arguments, numbers, k, row_after):
        """Emit the body's units; returns the numbers among its outputs."""
        piece, builder = self.piece, self.builder
        targets = [self._target(number, k, row_after) for number in self.body.wanted]
        work = builder.gep(piece.work, [self.word(piece.emitter.memory.bodies[self.loop.body])])
        sub = self.sub.piece(builder, [*arguments, *targets], work)
        for slot, number in zip(self.listing.inputs, numbers, strict=True):
            if number is not None:
                sub.registers[slot] = number
        for number, variable in self.totals.items():
            sub.registers[self.sub.totals[number]] = builder.load(variable)
        sub.status = piece.status
        sub.emit_units(self.sub.units)
        results = {}
        for number, result, target in zip(self.body.wanted, self.listing.outputs, targets, strict=True):
            if number in self.totals:
                builder.store(sub.raw(sub.cell(result.ref)), self.totals[number])
            elif self._is_sum(number):
                continue  # an array that was added to in place
            elif math.prod(result.shape) == 1:
                results[number] = sub.raw(sub.cell(result.ref))
            elif math.prod(result.shape) and self.sub.result_of.get(result.ref.slot) != self.at[number]:
                sub.copy_out(result, target)
        return results

    def _is_sum(self, number):
        return self.loop.carry <= number < self.loop.carry + self.loop.sums

    def _target(self, number, k, row_after):
        """Where an array among the body's outputs goes; None for a number."""
        loop, packs = self.loop, self.packs
        if number < loop.carry:
            size = math.prod(packs.carry[number][1])
            if size == 1:
                return None
            if self._has_rows():
                return self.pointer(3, packs.rows[number][0], row_after, size)
            return self.builder.gep(self.piece.work, [self.word(self.buffers[number] + size)])
        if self._is_sum(number):
            cell, shape = packs.sums[number - loop.carry]
            return self.pointer(3, cell) if math.prod(shape) != 1 else None
        if number in self.ys:
            cell, shape = packs.y[number - loop.carry - loop.sums]
            return self.pointer(3, cell, k, math.prod(shape[1:]))
        return None

    def _take(self, results, k, row_after):
        """Make the results of the step the state of the next."""
        loop, packs, builder = self.loop, self.packs, self.builder
        for leaf, (_, shape) in enumerate(packs.carry):
            size = math.prod(shape)
            if size == 1:
                builder.store(results[leaf], self.numbers[leaf])
            elif not self._has_rows():
                buffer = self._buffer(leaf)
                self._copy(builder.gep(buffer, [self.word(size)]), buffer, size)
        for number, value in results.items():
            if number in self.ys:
                cell, _ = packs.y[number - loop.carry - loop.sums]
                builder.store(value, self.pointer(3, cell, k, 1))

    def _finish(self, steps, ran):
        """Put the last state, the sums and the number of steps in their places."""
        builder, loop, packs = self.builder, self.loop, self.packs
        for leaf, (cell, shape) in enumerate(packs.last):
            size = math.prod(shape)
            if size == 1:
                builder.store(builder.load(self.numbers[leaf]), self.pointer(3, cell))
            elif not self._has_rows():
                self._copy(self._buffer(leaf), self.pointer(3, cell), size)
            elif (loop.counted or loop.ends) and not loop.backward:
                row = builder.load(ran) if ran is not None else steps
                source = self.pointer(3, packs.rows[leaf][0], row, size)
                with builder.if_then(builder.icmp_signed("!=", row, self.word(loop.length))):
                    self._copy(source, self.pointer(3, cell), size)
        for number, variable in self.totals.items():
            builder.store(builder.load(variable), self.pointer(3, packs.sums[number - loop.carry][0]))
        if ran is not None:
            if self.piece.emitter.lanes > 1:
                raise NotImplementedError("a loop whose number of steps differs between samples")
            builder.store(builder.sitofp(builder.load(ran), self.piece.kind), self.pointer(3, packs.ran))

    # ------------------------------------------------------------------ memory

    def _copy(self, source, target, size):
        def body(indices):
            self.builder.store(self.builder.load(self.builder.gep(source, indices)), self.builder.gep(target, indices))

        if size:
            self.piece.nest((size,), body)

    def _clear(self, target, size):
        def body(indices):
            self.builder.store(self.piece.constant(0.0), self.builder.gep(target, indices))

        self.piece.nest((size,), body)


def buffer_cells(body: LoopBody, loop: Loop) -> list[int]:
    """Cells of working memory for each leaf of the carry: the state and the next one, where no states are kept."""
    cells = []
    for shape in body.inputs[: loop.carry]:
        size = math.prod(shape)
        cells.append(2 * size if size > 1 and not (loop.keeps and body.rows) else 0)
    return cells
