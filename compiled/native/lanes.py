"""The list of one sample as a function of many: each cell a vector of as many samples as there are lanes.

What is here: the loop over blocks of samples, how a block's arguments come into lanes, and how results leave them. What is not:
the list itself (`emit.py`, whose cells are vectors here), and threads (`threads.py`).

Arguments with a sample axis, and results, are sample-major: sample s of an argument of n cells begins at cell n s. The last
block may have fewer samples than lanes; the lanes left over compute its last sample again, so nothing is read or written out
of bounds, no guard fails that should not, and what such lanes store is what is there already.
"""

from __future__ import annotations

import itertools
import math

from llvmlite import ir
from numba.core import cgutils

from compiled.lists.listing import Listing, Ref
from compiled.lists.loops import Loop
from compiled.native import machine
from compiled.native.emit import ListEmitter, Piece, counted_loop, spread
from compiled.table.llvm import I32, I64
from compiled.table.views import contiguous

UNROLLED = 64
"""Arguments and results of up to so many cells are moved by straight code, so that the cells can be registers."""

TILE = 4
"""Cells of as many samples that are transposed at once."""


def has_lanes(listing: Listing) -> bool:
    """Whether every step of a list runs in lanes; loops do whose number of steps is known."""
    for step in listing.steps:
        if step.row.name == "loop":
            loop = Loop.of(step.space.words)
            if loop.counted or loop.ends or not has_lanes(listing.bodies[loop.body].listing):
                return False
        elif step.row.structural and not step.row.lanes:
            return False
    return True


MOST_BITS = 1024
"""Bits of all lanes of a cell: measured (AVX2), four registers full are 1.3 to 2 times as fast as two where instructions wait
for each other, and eight are slower again. Two of the widest registers are as many lanes."""


def lanes_of(listing: Listing) -> int:
    """Samples at once; fewer of lists over arrays, whose cells go through memory."""
    arrays = any(step.row.structural or step.space.shape for step in listing.steps)
    return min((2 if arrays else 4) * machine.vector_bits(), MOST_BITS) // (8 * listing.dtype.itemsize)


def most_lanes(dtype) -> int:
    """The most samples at once that `LanesEmitter` takes."""
    return MOST_BITS // (8 * dtype.itemsize)


class LanesEmitter(ListEmitter):
    """Writes the function ``status = name(start, stop, block, pointers)`` that runs the samples from start to stop.

    `pointers` is the address of a table: of each argument's numbers, then of each result's. Results that are summed go to
    row `block` of an array with a row for each call.

    Parameters
    ----------
    module, listing, name
        As for `ListEmitter`; the list is that of one sample.
    lanes : int
        Samples at once, a power of two from 2 on.
    mapped : sequence of bool
        Which arguments have a sample axis; the others are the same for all samples.
    summed : bool
        Whether results are summed over the samples.
    """

    def __init__(self, module, listing: Listing, name: str, lanes: int, mapped, summed: bool):
        self.mapped, self.summed = tuple(mapped), summed
        super().__init__(module, listing, name, lanes)
        self.sums = {}
        for k, result in enumerate(listing.outputs if summed else ()):
            self.sums[k] = self.memory.cells
            self.memory.cells += math.prod(result.shape)

    def _arguments_in_place(self):
        return {slot: k for k, slot in enumerate(self.listing.inputs) if not self.mapped[k]}

    def _shared_slots(self):
        found = super()._shared_slots()
        if len(self.pieces) > 1:  # pieces find arguments, and leave results, in memory
            found.update(self.listing.inputs, (result.ref.slot for result in self.listing.outputs))
        self.used = {result.ref.slot for result in self.listing.outputs}
        for unit in self.units:
            for step, _ in unit.members:
                self.used.update((*(ref.slot for ref in step.operands), *step.writes()))
        return found

    def _needs_memory(self, slot, structural):
        return slot in self.used and super()._needs_memory(slot, structural)

    # ------------------------------------------------------------------ the function

    def function(self) -> ir.Function:
        """Emit the function."""
        run = self._run()
        function = ir.Function(self.module, ir.FunctionType(I64, [I64] * 4), self.name)
        builder = ir.IRBuilder(function.append_basic_block("entry"))
        start, stop, block, address = function.args
        table = builder.inttoptr(address, self.number.as_pointer().as_pointer())
        pointers = [builder.load(builder.gep(table, [ir.Constant(I64, k)])) for k in range(len(run.args) - 2)]
        for k, result in enumerate(self.listing.outputs if self.summed else ()):
            row = builder.mul(block, ir.Constant(I64, math.prod(result.shape)))
            pointers[len(self.mapped) + k] = builder.gep(pointers[len(self.mapped) + k], [row])
        builder.ret(builder.call(run, [start, stop, *pointers]))
        return function

    def _run(self):
        """The loop over blocks, as a function of start, stop, arguments and results; none of these overlap."""
        count = len(self.listing.inputs) + len(self.listing.outputs)
        types = [I64, I64, *[self.number.as_pointer()] * count]
        function = ir.Function(self.module, ir.FunctionType(I64, types), f"{self.name}.run")
        function.linkage = "internal"
        for argument in function.args[2:]:
            argument.add_attribute("noalias")
        builder = ir.IRBuilder(function.append_basic_block("entry"))
        start, stop, *pointers = function.args
        arguments, results = pointers[: len(self.mapped)], pointers[len(self.mapped) :]
        work, release = self.memory.acquire(builder, self.kind, self.name)
        sums = _Sums(self, builder, work)
        same = self._same_for_all(builder, arguments, work)
        failed = cgutils.alloca_once_value(builder, ir.Constant(I64, 0))
        staging = _Staging(self, builder)

        def well():
            return builder.icmp_signed("==", builder.load(failed), ir.Constant(I64, 0))

        with counted_loop(builder, stop, start, self.lanes, well) as first:
            _Block(self, builder, first, stop, work, staging).emit(arguments, results, same, sums, failed)
        sums.finish(builder, results)
        release(builder)
        builder.ret(builder.load(failed))
        return function

    def _same_for_all(self, builder, arguments, work):
        """Numbers that all samples share, loaded before the loop."""
        piece = Piece(self, builder, arguments, work)
        return {slot: piece.load(slot, ir.Constant(I64, 0)) for slot in self.argument_of
                if self.listing.size(slot) == 1 and slot in self.used}


class _Staging:
    """A vector of memory for each argument and result that is one number a sample, used for a block that is not full."""

    def __init__(self, emitter, builder):
        listing = emitter.listing
        self.arguments = {k: cgutils.alloca_once(builder, emitter.kind) for k, slot in enumerate(listing.inputs)
                          if emitter.mapped[k] and slot in emitter.used and listing.size(slot) == 1}
        self.results = {k: cgutils.alloca_once(builder, emitter.kind) for k, result in enumerate(listing.outputs)
                        if not emitter.summed and math.prod(result.shape) == 1}


class _Block:
    """One pass of the loop: `lanes` samples from `first` on, or as many as there are before `stop`."""

    def __init__(self, emitter: LanesEmitter, builder, first, stop, work, staging):
        self.emitter, self.builder, self.first, self.stop, self.work = emitter, builder, first, stop, work
        self.listing, self.kind, self.lanes, self.staging = emitter.listing, emitter.kind, emitter.lanes, staging
        last = builder.sub(stop, ir.Constant(I64, 1))
        self.samples = []
        for lane in range(self.lanes):
            sample = builder.add(first, ir.Constant(I64, lane)) if lane else first
            self.samples.append(builder.select(builder.icmp_signed("<", sample, stop), sample, last))
        end = builder.add(first, ir.Constant(I64, self.lanes))
        self.full = builder.icmp_signed("<=", end, stop)

    def emit(self, arguments, results, same, sums, failed):
        """Load, compute, store."""
        emitter, builder = self.emitter, self.builder
        piece = Piece(emitter, builder, arguments, self.work)
        piece.registers.update(same)
        argument_cells, result_cells = self._numbers(arguments, results)
        for k, slot in enumerate(self.listing.inputs):
            if emitter.mapped[k] and slot in emitter.used:
                self._load(piece, slot, arguments[k], argument_cells.get(k))
        if len(emitter.pieces) == 1:
            status = piece.emit(emitter.units, last=True)
        else:
            piece.registers.clear()
            status = emitter._in_pieces(builder, arguments, self.work)
        builder.store(status, failed)
        for k, result in enumerate(self.listing.outputs):
            if emitter.summed:
                sums.add(self, piece, k, result)
            else:
                self._store(piece, result, results[k], result_cells.get(k))
        self._unstage(results)

    # ------------------------------------------------------------------ one number a sample

    def _numbers(self, arguments, results):
        """Addresses of the vectors of those arguments and results that are one number a sample: in place, or staged."""
        builder, pointer = self.builder, self.kind.as_pointer()
        places = [(arguments[k], k, own) for k, own in self.staging.arguments.items()]
        places += [(results[k], None, own) for k, own in self.staging.results.items()]
        if not places:
            return {}, {}
        with builder.if_else(self.full, likely=True) as (full, partial):
            with full:
                direct = [builder.bitcast(builder.gep(target, [self.first]), pointer) for target, _, _ in places]
                direct_end = builder.block
            with partial:
                for target, k, own in places:
                    if k is not None:
                        vector = self._gathered([builder.gep(target, [sample]) for sample in self.samples])
                        builder.store(vector, own)
                partial_end = builder.block
        found = []
        for (_, _, own), place in zip(places, direct, strict=True):
            phi = builder.phi(pointer)
            phi.add_incoming(place, direct_end)
            phi.add_incoming(own, partial_end)
            found.append(phi)
        count = len(self.staging.arguments)
        return (dict(zip(self.staging.arguments, found[:count], strict=True)),
                dict(zip(self.staging.results, found[count:], strict=True)))

    def _unstage(self, results):
        """Copy staged results to where they belong."""
        if not self.staging.results:
            return
        builder = self.builder
        with builder.if_then(builder.not_(self.full), likely=False):
            for k, own in self.staging.results.items():
                self._scatter(builder.load(own), [builder.gep(results[k], [sample]) for sample in self.samples])

    def _unaligned(self, instruction):
        instruction.align = self.listing.dtype.itemsize
        return instruction

    def _gathered(self, pointers):
        """The numbers at as many addresses as lanes, as a vector."""
        vector = ir.Constant(self.kind, ir.Undefined)
        for lane, pointer in enumerate(pointers):
            vector = self.builder.insert_element(vector, self.builder.load(pointer), ir.Constant(I32, lane))
        return vector

    def _scatter(self, vector, pointers):
        for lane, pointer in enumerate(pointers):
            self.builder.store(self.builder.extract_element(vector, ir.Constant(I32, lane)), pointer)

    # ------------------------------------------------------------------ arguments

    def _load(self, piece, slot, argument, cells):
        """Bring an argument into lanes."""
        builder, size = self.builder, self.listing.size(slot)
        if cells is not None:
            piece.put(Ref(slot, 0), piece.number(self._unaligned(builder.load(cells))))
            return
        rows = self._rows(argument, size)

        def tile(start):
            for offset, vector in enumerate(self._transposed_in(rows, start)):
                piece.store(slot, builder.add(start, ir.Constant(I64, offset)), vector)

        def one(index):
            piece.store(slot, index, self._gathered([builder.gep(row, [index]) for row in rows]))

        self._tiles(size, tile, one)

    def _rows(self, pointer, size):
        """Addresses of the samples' cells."""
        return [self.builder.gep(pointer, [self.builder.mul(sample, ir.Constant(I64, size))]) for sample in self.samples]

    def _tiles(self, size, tile, one):
        """Call `tile(start)` for each whole tile of cells, `one(index)` for the cells that are left."""
        whole = size // TILE
        if size <= UNROLLED:
            for t in range(whole):
                tile(ir.Constant(I64, t * TILE))
        else:
            with counted_loop(self.builder, whole) as t:
                tile(self.builder.mul(t, ir.Constant(I64, TILE)))
        for index in range(whole * TILE, size):
            one(ir.Constant(I64, index))

    def _transposed_in(self, rows, start):
        """`TILE` cells from `start` on, as a vector of lanes each."""
        builder, kind = self.builder, ir.VectorType(self.emitter.number, TILE)
        loaded = [self._unaligned(builder.load(builder.bitcast(builder.gep(row, [start]), kind.as_pointer()))) for row in rows]
        groups = []  # for each four samples, their cells
        for g in range(0, self.lanes, TILE):
            groups.append(self._transposed(_padded(builder, loaded[g : g + TILE], kind)))
        return [self._joined([group[cell] for group in groups]) for cell in range(TILE)]

    def _transposed(self, rows):
        """Four vectors of four numbers, transposed."""
        a, b, c, d = rows
        low, high = [0, 4, 2, 6], [1, 5, 3, 7]
        ab, ab_odd = self._shuffled(a, b, low), self._shuffled(a, b, high)
        cd, cd_odd = self._shuffled(c, d, low), self._shuffled(c, d, high)
        front, back = [0, 1, 4, 5], [2, 3, 6, 7]
        return [self._shuffled(ab, cd, front), self._shuffled(ab_odd, cd_odd, front),
                self._shuffled(ab, cd, back), self._shuffled(ab_odd, cd_odd, back)]

    def _shuffled(self, x, y, which):
        return self.builder.shuffle_vector(x, y, ir.Constant(ir.VectorType(I32, len(which)), which))

    def _joined(self, parts):
        """Vectors one after the other, cut to as many numbers as there are lanes."""
        while len(parts) > 1:
            count = 2 * parts[0].type.count
            parts = [self._shuffled(x, y, list(range(count))) for x, y in zip(parts[::2], parts[1::2], strict=True)]
        (whole,) = parts
        return whole if whole.type.count == self.lanes else self._shuffled(whole, whole, list(range(self.lanes)))

    # ------------------------------------------------------------------ results

    def _store(self, piece, result, target, cells):
        """Write a result of this block."""
        builder, (ref, shape, strides) = self.builder, result
        size = math.prod(shape)
        if cells is not None:
            self._unaligned(builder.store(self.value(piece, result, ()), cells))
            return
        if not size:
            return
        rows = self._rows(target, size)
        if strides == contiguous(shape) and self.listing.size(ref.slot) > 1:
            def tile(start):
                at = builder.add(start, ir.Constant(I64, ref.offset))
                vectors = [piece.load(ref.slot, builder.add(at, ir.Constant(I64, k))) for k in range(TILE)]
                self._transposed_out(vectors, rows, start)

            def one(index):
                vector = piece.load(ref.slot, builder.add(index, ir.Constant(I64, ref.offset)))
                self._scatter(vector, [builder.gep(row, [index]) for row in rows])

            self._tiles(size, tile, one)
            return
        out = contiguous(shape)

        def store(indices):
            at = piece.offset(0, out, indices)
            self._scatter(self.value(piece, result, indices), [builder.gep(row, [at]) for row in rows])

        self.each(piece, shape, store)

    def value(self, piece, result, indices):
        """The element of a result at `indices` (any, for a number), as a vector."""
        ref, shape, strides = result
        if self.listing.size(ref.slot) == 1:
            return piece.raw(piece.cell(ref))
        strides = strides if len(indices) == len(shape) else (0,) * len(indices)
        return piece.load(ref.slot, piece.offset(ref.offset, strides, indices))

    def _transposed_out(self, vectors, rows, start):
        """Store `TILE` cells of all lanes, neighbours of each sample."""
        builder = self.builder
        pointer = ir.VectorType(self.emitter.number, TILE).as_pointer()
        for g in range(0, self.lanes, TILE):
            lanes = [min(g + k, self.lanes - 1) for k in range(TILE)]
            four = self._transposed([self._shuffled(v, v, lanes) for v in vectors])
            for row, cells in zip(rows[g : g + TILE], four, strict=False):
                self._unaligned(builder.store(cells, builder.bitcast(builder.gep(row, [start]), pointer)))

    def each(self, piece, shape, body):
        """`body(indices)` for each element: straight code for few, loops for many."""
        if math.prod(shape) > UNROLLED:
            piece.nest(shape, body)
            return
        for indices in itertools.product(*map(range, shape)):
            body(tuple(ir.Constant(I64, i) for i in indices))

    def inside(self):
        """Which lanes have a sample of their own."""
        builder, words = self.builder, ir.VectorType(I64, self.lanes)
        lanes = ir.Constant(words, list(range(self.lanes)))
        return builder.icmp_signed("<", builder.add(spread(builder, self.first, self.lanes), lanes),
                                   spread(builder, self.stop, self.lanes))


def _padded(builder, rows, kind):
    """Rows, and undefined ones up to a whole tile."""
    return [*rows, *[ir.Constant(kind, ir.Undefined)] * (TILE - len(rows))]


class _Sums:
    """Accumulators of results that are summed: a vector for each element, lane by lane, added up at the end."""

    def __init__(self, emitter, builder, work):
        self.emitter, self.work = emitter, work
        self.totals, self.inside = {}, None
        zero = ir.Constant(emitter.kind, [0.0] * emitter.lanes)
        for k, start in emitter.sums.items():
            size = math.prod(emitter.listing.outputs[k].shape)
            if size == 1:  # can be a register
                self.totals[k] = cgutils.alloca_once_value(builder, zero)
            elif size:
                with counted_loop(builder, size) as index:
                    builder.store(zero, self._place(builder, start, index))

    def _place(self, builder, start, index):
        return builder.gep(self.work, [builder.add(index, ir.Constant(I64, start))])

    def add(self, block, piece, k, result):
        """Add one result of a block."""
        builder = block.builder
        inside = self.inside = self.inside or block.inside()
        zero = piece.constant(0.0)

        def one(place, indices):
            value = builder.select(inside, block.value(piece, result, indices), zero)
            builder.store(builder.fadd(builder.load(place), value), place)

        if k in self.totals:
            one(self.totals[k], (ir.Constant(I64, 0),) * len(result.shape))
        elif math.prod(result.shape):
            out = contiguous(result.shape)
            block.each(piece, result.shape,
                       lambda indices: one(self._place(builder, self.emitter.sums[k], piece.offset(0, out, indices)), indices))

    def finish(self, builder, results):
        """Add up the lanes, in their order."""
        for k, start in self.emitter.sums.items():
            size = math.prod(self.emitter.listing.outputs[k].shape)
            if k in self.totals:
                builder.store(self._total(builder, builder.load(self.totals[k])), results[k])
            elif size:
                with counted_loop(builder, size) as index:
                    total = self._total(builder, builder.load(self._place(builder, start, index)))
                    builder.store(total, builder.gep(results[k], [index]))

    def _total(self, builder, vector):
        parts = [builder.extract_element(vector, ir.Constant(I32, lane)) for lane in range(self.emitter.lanes)]
        while len(parts) > 1:
            parts = [builder.fadd(x, y) for x, y in zip(parts[::2], parts[1::2], strict=True)]
        return parts[0]
