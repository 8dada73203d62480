"""Working memory of a native function: which cells each slot has there, and where the memory comes from.

Cells are used again after their last use. Little memory is on the stack; more is taken from a small pool of the module's own,
without a lock: whoever exchanges an entry for null has it.
"""

from __future__ import annotations

import heapq

from llvmlite import ir
from numba.core import cgutils

from compiled.native.schedule import STRUCTURAL
from compiled.table.llvm import I64

STACK_BYTES = 1 << 15
"""Functions that need no more have their cells on the stack."""

LINE_BYTES = 64
"""Slots start at multiples of a cache line."""

POOL = 8
"""Blocks that a module keeps for later calls."""

I8 = ir.IntType(8)


class Memory:
    """The layout of working memory, in cells.

    Attributes
    ----------
    offset : dict of int to int
        First cell of each slot that needs memory.
    cells : int
        How many there are.
    bodies, loops : dict
        For each body of a loop where its own working memory begins, and where the buffers of its carry do.
    """

    def __init__(self, listing, units, needed):
        first, last, structural = {}, {}, set()
        for number, unit in enumerate(units):
            for step, _ in unit.members:
                for slot in {*(ref.slot for ref in step.operands), *step.writes()}:
                    first.setdefault(slot, number)
                    last[slot] = number
                    if unit.kind == STRUCTURAL:
                        structural.add(slot)
        for result in listing.outputs:
            last[result.ref.slot] = len(units)
            first.setdefault(result.ref.slot, 0)
        for slot in listing.inputs:
            first[slot] = -1
        self.offset, self.cells = {}, 0
        self.bodies: dict[int, int] = {}
        self.loops: dict[int, list[int]] = {}
        self._line = max(LINE_BYTES // listing.dtype.itemsize, 1)
        line = max(LINE_BYTES // listing.dtype.itemsize, 1)
        self._assign(listing, [slot for slot in first if needed(slot, slot in structural)], first, last, line)

    def _assign(self, listing, slots, first, last, line):
        """In the order of first use; cells that are free again go to the next slot of the same size."""
        free: dict[int, list[int]] = {}
        busy: list[tuple[int, int, int]] = []
        for slot in sorted(slots, key=lambda s: first[s]):
            while busy and busy[0][0] < first[slot]:
                _, start, size = heapq.heappop(busy)
                free.setdefault(size, []).append(start)
            size = listing.size(slot)
            size += -size % line if size >= line else 0
            if free.get(size):
                start = free[size].pop()
            else:
                start = self.cells + (-self.cells % line if size >= line else 0)
                self.cells = start + size
            self.offset[slot] = start
            heapq.heappush(busy, (last[slot], start, size))

    def reserve(self, body: int, cells: int, buffers: list[int]) -> None:
        """Set cells apart for the body of a loop, and for the buffers of its carry."""
        self.loops[body] = []
        for size in (cells, *buffers):
            self.cells += -self.cells % self._line
            self.loops[body].append(self.cells)
            self.cells += size
        self.bodies[body], *self.loops[body] = self.loops[body]

    def acquire(self, builder, kind, name):
        """Emit code that gets the memory; returns its address and what emits code that gives it back."""
        size = self.cells * _size_of(kind)
        pointer = kind.as_pointer()
        if not self.cells:
            return ir.Constant(pointer, None), lambda builder: None
        if size <= STACK_BYTES:
            block = builder.alloca(kind, self.cells)
            block.align = max(LINE_BYTES, _size_of(kind))
            return block, lambda builder: None
        return self._from_pool(builder, pointer, size, max(LINE_BYTES, _size_of(kind)), name)

    def _from_pool(self, builder, pointer, size, line, name):
        module = builder.module
        entry = I8.as_pointer()
        pool = ir.GlobalVariable(module, ir.ArrayType(I64, POOL), f"{name}.pool")
        pool.linkage, pool.initializer = "internal", ir.Constant(pool.type.pointee, [0] * POOL)
        found = cgutils.alloca_once_value(builder, ir.Constant(I64, 0))
        for k in range(POOL):
            with builder.if_then(builder.icmp_unsigned("==", builder.load(found), ir.Constant(I64, 0))):
                place = builder.gep(pool, [ir.Constant(I64, 0), ir.Constant(I64, k)])
                builder.store(builder.atomic_rmw("xchg", place, ir.Constant(I64, 0), "acquire"), found)
        with builder.if_then(builder.icmp_unsigned("==", builder.load(found), ir.Constant(I64, 0))):
            malloc = cgutils.get_or_insert_function(module, ir.FunctionType(entry, [I64]), "malloc")
            builder.store(builder.ptrtoint(builder.call(malloc, [ir.Constant(I64, size + line)]), I64), found)
        address = builder.load(found)
        aligned = builder.and_(builder.add(address, ir.Constant(I64, line)), ir.Constant(I64, -line))

        def release(builder):
            here = cgutils.alloca_once_value(builder, address)
            for k in range(POOL):
                with builder.if_then(builder.icmp_unsigned("!=", builder.load(here), ir.Constant(I64, 0))):
                    place = builder.gep(pool, [ir.Constant(I64, 0), ir.Constant(I64, k)])
                    swapped = builder.cmpxchg(place, ir.Constant(I64, 0), address, "release", "monotonic")
                    done = builder.extract_value(swapped, 1)
                    builder.store(builder.select(done, ir.Constant(I64, 0), address), here)
            left = builder.load(here)
            with builder.if_then(builder.icmp_unsigned("!=", left, ir.Constant(I64, 0))):
                free = cgutils.get_or_insert_function(module, ir.FunctionType(ir.VoidType(), [entry]), "free")
                builder.call(free, [builder.inttoptr(left, entry)])

        return builder.inttoptr(aligned, pointer), release


def _size_of(kind):
    if isinstance(kind, ir.VectorType):
        return kind.count * _size_of(kind.element)
    return 8 if isinstance(kind, ir.DoubleType) else 4
