"""Workspaces: the memory in which one call of a derivative writes its list.

A workspace is a header of 16 words in one static block, and the buffers it points at. Calls take a free one (an atomic
exchange of its first word), and leave it with its buffers to the next call; threads never share one. The word of a cell
holds the header's offset in the block in its upper half, so that a number finds its list without being told.

The list: statement s (the number of its cell) has `counts[s]` pairs of a cell and a partial, written one after the other
to `cells` and `partials`. Cells 1 to n are the inputs; cell 0 is nobody's and takes what flows to constants. Some counts are
special:

HELD + k  k pairs; the last one's cell is that of many statements after another, so the sweep keeps its adjoint at hand
BLOCK + m m statements with the same n cells: the m x n partials stand column by column, the cells at the place of the first,
          n at that of the last; the counts of the m - 1 statements before are 0
LONG      the number of pairs stands after them, in the cell of one more pair
EXTERNAL  no pairs: the last words of `partials` say which function takes the adjoints back, and what it needs (`operations.py`)

What is not here: how the sweep reads the list (`reverse.py`).
"""

from __future__ import annotations

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types

from compiled.active.types import I8, I32, I64, constant, data_size
from compiled.table.llvm import internal_function

BUSY, PAIRS, STATEMENTS, CAPACITY, PARTIALS, CELLS, COUNTS, ADJOINTS, ADJOINT_BYTES, PARTIAL_BYTES, LOST, ARENA, ARENA_BYTES, \
    FIRST, TOP, CELL_CAPACITY = range(16)
"""Words of a header. FIRST: the first statement after the inputs; LOST: pairs that a limit kept out of the list."""

WORDS = 16
MOST = 4096
"""Headers: derivatives at work at one time, nested ones counted. The first one is nobody's; its second word is the limit."""

LIMIT = 1

HELD, BLOCK, LONG, EXTERNAL = 128, 240, 254, 255
MOST_PAIRS = 100
"""Of a statement with an ordinary count."""

MOST_ROWS = 8
"""Statements of a block."""

LEAST_CAPACITY = 4096
"""Pairs of a new workspace; more than a statement with an ordinary count has."""

_memory = np.zeros((MOST + 1, WORDS), np.int64)
# Two headers must not share a cache line, on any processor.
_start = -_memory.ctypes.data % 128 // 8
HEADERS = _memory.ravel()[_start : _start + MOST * WORDS].reshape(MOST, WORDS)
llvmlite.binding.add_symbol("tape_workspaces", HEADERS.ctypes.data)

POINTER = I8.as_pointer()


def limit_workspaces(nbytes: int | None) -> None:
    """Limit the memory of each list that a jitted derivative writes; None for no limit.

    What workspaces hold beyond the limit goes back: that of those at work now before their next call (see `acquire`), that
    of those at rest at once (`resting.py`).
    """
    HEADERS[0, LIMIT] = 0 if nbytes is None else max(int(nbytes), 1)


def block(builder):
    """Address of the static block."""
    module = builder.module
    try:
        symbol = module.globals["tape_workspaces"]
    except KeyError:
        symbol = cgutils.add_global_variable(module, I8, "tape_workspaces")
    return builder.bitcast(symbol, POINTER)


class Workspace:
    """A header's fields, for code that is being emitted.

    Parameters
    ----------
    context : numba target context
    builder : llvmlite IRBuilder
    address : LLVM pointer to bytes
        Of the header.
    """

    def __init__(self, context, builder, address):
        self.context, self.builder, self.address = context, builder, address

    @classmethod
    def of_word(cls, context, builder, word):
        """The workspace of a cell's word."""
        return cls(context, builder, builder.gep(block(builder), [builder.lshr(word, constant(32))]))

    def field(self, number):
        """Address of a field."""
        return self.builder.bitcast(self.builder.gep(self.address, [constant(8 * number)]), I64.as_pointer())

    def load(self, number):
        """A field, as a word."""
        return self.builder.load(self.field(number))

    def store(self, number, value):
        """Set a field."""
        self.builder.store(value, self.field(number))

    def pointer(self, number, kind):
        """A field, as a pointer to `kind`."""
        return self.builder.inttoptr(self.load(number), kind.as_pointer())

    def tag(self):
        """What the words of this workspace's cells have in their upper half."""
        offset = self.builder.sub(self.builder.ptrtoint(self.address, I64), self.builder.ptrtoint(block(self.builder), I64))
        return self.builder.shl(offset, constant(32))

    def partials(self, kind):
        """The buffer of partials of type `kind`."""
        return self.pointer(PARTIALS, self.context.get_data_type(kind))

    def adjoints(self, kind):
        """The buffer of adjoints of type `kind`."""
        return self.pointer(ADJOINTS, self.context.get_data_type(kind))

    def reserve(self, count, kind):
        """Make room for `count` more pairs with partials of type `kind`; returns whether there is."""
        return self.builder.call(_grow(self.context, self.builder.module, kind), [self.address, count])

    def push_inputs(self, count, kind):
        """Take the next `count` cells as inputs; returns the word of the first."""
        builder = self.builder
        self.reserve(count, kind)
        first = self.load(STATEMENTS)
        after = builder.add(first, count)
        self.store(STATEMENTS, after)
        # Each cell takes a pair's room, so that there are never more cells than pairs and one capacity serves both.
        self.store(PAIRS, builder.add(self.load(PAIRS), count))
        return builder.or_(self.tag(), first)


def acquire(context, builder, kind):
    """Take a free workspace for partials of type `kind`; a null address if there is none."""
    size = data_size(context, kind)

    def emit(builder, arguments):
        start = block(builder)
        loop = builder.append_basic_block("look")
        take, following, none = (builder.append_basic_block(name) for name in ("take", "next", "none"))
        entry = builder.block
        builder.branch(loop)
        builder.position_at_end(loop)
        offset = builder.phi(I64)
        offset.add_incoming(constant(8 * WORDS), entry)
        header = builder.gep(start, [offset])
        word = builder.bitcast(header, I64.as_pointer())
        # A plain look first: exchanging the word of a busy header would take its line from the thread that works there.
        idle = builder.icmp_unsigned("==", builder.load(word), constant(0))
        attempt = builder.append_basic_block("attempt")
        builder.cbranch(idle, attempt, following)
        builder.position_at_end(attempt)
        outcome = builder.cmpxchg(word, constant(0), constant(1), "acquire", "monotonic")
        builder.cbranch(builder.extract_value(outcome, 1), take, following)
        builder.position_at_end(following)
        after = builder.add(offset, constant(8 * WORDS))
        offset.add_incoming(after, following)
        builder.cbranch(builder.icmp_unsigned("<", after, constant(8 * WORDS * MOST)), loop, none)
        builder.position_at_end(none)
        builder.ret(ir.Constant(POINTER, None))
        builder.position_at_end(take)
        workspace = Workspace(context, builder, header)
        for number in (PAIRS, STATEMENTS):
            workspace.store(number, constant(1))
        for number in (LOST, TOP):
            workspace.store(number, constant(0))
        give_back(workspace, size + 5)
        room = builder.udiv(workspace.load(PARTIAL_BYTES), constant(size))
        cells = workspace.load(CELL_CAPACITY)
        workspace.store(CAPACITY, builder.select(builder.icmp_unsigned("<", room, cells), room, cells))
        builder.ret(header)

    function = internal_function(builder.module, f"tape.acquire.{size}", [], emit, inline=True, result=POINTER)
    return Workspace(context, builder, builder.call(function, []))


def give_back(workspace: Workspace, pair: int) -> None:
    """Free the buffers of a list that is larger than the limit, which may have been set since it grew.

    `pair`: bytes of a pair in the call that begins.
    """
    builder = workspace.builder
    limit = _larger(builder, _limit(builder), constant(LEAST_CAPACITY * pair))
    held = builder.add(workspace.load(PARTIAL_BYTES), builder.mul(workspace.load(CELL_CAPACITY), constant(5)))
    with builder.if_then(builder.icmp_unsigned(">", held, limit), likely=False):
        free = cgutils.get_or_insert_function(builder.module, ir.FunctionType(ir.VoidType(), [POINTER]), "NRT_Free")
        for number in (PARTIALS, CELLS, COUNTS, ADJOINTS, ARENA):
            builder.call(free, [workspace.pointer(number, I8)])
            workspace.store(number, constant(0))
        for number in (PARTIAL_BYTES, CELL_CAPACITY, ADJOINT_BYTES, ARENA_BYTES):
            workspace.store(number, constant(0))


def release(workspace: Workspace) -> None:
    """Hand the workspace back."""
    workspace.builder.store_atomic(constant(0), workspace.field(BUSY), "release", 8)


def _grow(context, module, kind):
    """The function that makes room: it doubles the buffers, or, past the limit, empties the list and counts what is lost."""
    size = data_size(context, kind)
    pair = size + 4 + 1
    """Bytes of a pair, its count included."""

    def emit(builder, arguments):
        address, count = arguments
        workspace = Workspace(context, builder, address)
        pairs, capacity = workspace.load(PAIRS), workspace.load(CAPACITY)
        need = builder.add(pairs, count)
        with builder.if_then(builder.icmp_unsigned("<=", need, capacity)):
            builder.ret(ir.Constant(ir.IntType(1), 1))
        wanted = _larger(builder, _larger(builder, builder.shl(capacity, constant(1)), need), constant(LEAST_CAPACITY))
        limit = builder.udiv(_limit(builder), constant(pair))
        bounded = builder.icmp_unsigned(">", wanted, limit)
        wanted = builder.select(bounded, _larger(builder, limit, constant(LEAST_CAPACITY)), wanted)
        fits = builder.icmp_unsigned("<=", need, wanted)
        with builder.if_then(fits):
            there = ir.Constant(ir.IntType(1), 1)
            for number, width in ((PARTIALS, size), (CELLS, 4), (COUNTS, 1)):
                held, room = (builder.mul(n, constant(width)) for n in (pairs, wanted))
                buffer = _resized(builder, workspace.load(number), held, room)
                ok = builder.icmp_unsigned("!=", buffer, constant(0))
                workspace.store(number, builder.select(ok, buffer, workspace.load(number)))
                there = builder.and_(there, ok)
            with builder.if_then(there):
                workspace.store(CAPACITY, wanted)
                workspace.store(CELL_CAPACITY, wanted)
                workspace.store(PARTIAL_BYTES, builder.mul(wanted, constant(size)))
                builder.ret(ir.Constant(ir.IntType(1), 1))
        # No room: from here on the computation goes on without a list that could be swept, to say how much it needs.
        lost = builder.add(builder.add(workspace.load(LOST), pairs), constant(1))
        workspace.store(LOST, lost)
        workspace.store(PAIRS, constant(1))
        workspace.store(STATEMENTS, constant(1))
        builder.ret(builder.icmp_unsigned("<", count, capacity))

    return internal_function(module, f"tape.grow.{size}", [POINTER, I64], emit, inline=False, result=ir.IntType(1))


def _larger(builder, x, y):
    return builder.select(builder.icmp_unsigned("<", x, y), y, x)


def _limit(builder):
    """Bytes a list may take; cells have 32 bits."""
    limit = builder.load(builder.bitcast(builder.gep(block(builder), [constant(8 * LIMIT)]), I64.as_pointer()))
    return builder.select(builder.icmp_unsigned("==", limit, constant(0)), constant(13 << 32), limit)


def _resized(builder, word, held, size):
    """A buffer of `size` bytes with the first `held` of the buffer at `word`, which is freed; 0 if there is no memory."""
    module = builder.module
    allocate = cgutils.get_or_insert_function(module, ir.FunctionType(POINTER, [I64]), "NRT_Allocate")
    free = cgutils.get_or_insert_function(module, ir.FunctionType(ir.VoidType(), [POINTER]), "NRT_Free")
    new, old = builder.call(allocate, [size]), builder.inttoptr(word, POINTER)
    there = builder.not_(cgutils.is_null(builder, new))
    with builder.if_then(builder.and_(there, builder.icmp_unsigned("!=", word, constant(0)))):
        cgutils.raw_memcpy(builder, new, old, held, 1)
        builder.call(free, [old])
    return builder.ptrtoint(new, I64)


def zeroed(workspace: Workspace, pointer: int, size: int, wanted):
    """Make the buffer `pointer`, whose bytes are in the field `size`, at least `wanted` bytes long; what is new is zero.

    Returns whether there is memory for it.
    """
    def emit(builder, arguments):
        address, wanted = arguments
        workspace = Workspace(context, builder, address)
        held = workspace.load(size)
        with builder.if_then(builder.icmp_unsigned(">", wanted, held)):
            more = builder.add(wanted, builder.lshr(wanted, constant(1)))
            buffer = _resized(builder, workspace.load(pointer), held, more)
            with builder.if_then(builder.icmp_unsigned("==", buffer, constant(0))):
                builder.ret(ir.Constant(ir.IntType(1), 0))
            workspace.store(pointer, buffer)
            start = builder.inttoptr(builder.add(buffer, held), POINTER)
            cgutils.memset(builder, start, builder.sub(more, held), 0)
            workspace.store(size, more)
        builder.ret(ir.Constant(ir.IntType(1), 1))

    context, builder = workspace.context, workspace.builder
    function = internal_function(builder.module, f"tape.zeroed.{pointer}", [POINTER, I64], emit, inline=False,
                                 result=ir.IntType(1))
    return builder.call(function, [workspace.address, wanted])


def push_statement(context, builder, kind, words, partials, held=False):
    """Write a statement with pairs of `words` and `partials` (stored values of type `kind`); returns its cell's word.

    `held`: the last pair's cell is that of many statements after another. Where all words are those of constants, nothing is
    written and the word is 0.
    """
    def write(workspace, pairs, statement):
        cells, values = workspace.pointer(CELLS, I32), workspace.partials(kind)
        for k, (word, partial) in enumerate(zip(words, partials, strict=True)):
            at = builder.add(pairs, constant(k))
            builder.store(builder.trunc(word, I32), builder.gep(cells, [at], inbounds=True))
            _store(builder, partial, builder.gep(values, [at], inbounds=True))
        count = ir.Constant(I8, len(words) + (HELD if held else 0))
        builder.store(count, builder.gep(workspace.pointer(COUNTS, I8), [statement], inbounds=True))

    (word,) = _push(context, builder, kind, words, len(words), 1, write)
    return word


def push_block(context, builder, words, rows):
    """Write statements with the same `words`, and with `rows` of float64 partials; returns the words of their cells."""
    size = len(rows) * len(words)

    def write(workspace, pairs, statement):
        cells, values = workspace.pointer(CELLS, I32), workspace.partials(types.float64)
        for k, word in enumerate(words):
            builder.store(builder.trunc(word, I32), builder.gep(cells, [builder.add(pairs, constant(k))], inbounds=True))
            for j, row in enumerate(rows):
                at = builder.add(pairs, constant(k * len(rows) + j))
                _store(builder, row[k], builder.gep(values, [at], inbounds=True))
        last = builder.add(pairs, constant(size - 1))
        builder.store(ir.Constant(I32, len(words)), builder.gep(cells, [last], inbounds=True))
        counts = workspace.pointer(COUNTS, I8)
        for j in range(len(rows)):
            count = BLOCK + len(rows) if j == len(rows) - 1 else 0
            builder.store(ir.Constant(I8, count), builder.gep(counts, [builder.add(statement, constant(j))], inbounds=True))

    return _push(context, builder, types.float64, words, size, len(rows), write)


def _push(context, builder, kind, words, size, statements, write):
    """Write `statements` statements that take `size` pairs, unless all `words` are constants'; returns their cells' words."""
    combined = words[0]
    for word in words[1:]:
        combined = builder.or_(combined, word)
    before = builder.block
    with builder.if_then(builder.icmp_unsigned("!=", combined, constant(0)), likely=True):
        workspace = Workspace.of_word(context, builder, combined)
        pairs, statement = _room(workspace, size, kind)
        write(workspace, pairs, statement)
        workspace.store(PAIRS, builder.add(pairs, constant(size)))
        workspace.store(STATEMENTS, builder.add(statement, constant(statements)))
        first = builder.or_(builder.and_(combined, constant(0xFFFFFFFF << 32)), statement)
        made = [builder.add(first, constant(k)) for k in range(statements)]
        inside = builder.block
    results = []
    for word in made:
        result = builder.phi(I64)
        result.add_incoming(constant(0), before)
        result.add_incoming(word, inside)
        results.append(result)
    return results


def _room(workspace, size, kind):
    """Numbers of the next pair and the next statement, with room for `size` pairs; what is at hand is not read again."""
    builder = workspace.builder
    pairs, statement = workspace.load(PAIRS), workspace.load(STATEMENTS)
    before = builder.block
    full = builder.icmp_unsigned(">", builder.add(pairs, constant(size)), workspace.load(CAPACITY))
    with builder.if_then(full, likely=False):
        workspace.reserve(constant(size), kind)
        again = workspace.load(PAIRS), workspace.load(STATEMENTS)
        grown = builder.block
    joined = []
    for first, second in zip((pairs, statement), again, strict=True):
        phi = builder.phi(I64)
        phi.add_incoming(first, before)
        phi.add_incoming(second, grown)
        joined.append(phi)
    return joined


def _store(builder, value, pointer):
    builder.store(value, pointer, align=8)
