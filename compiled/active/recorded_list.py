"""The recorded list of a jitted function: what it writes when it runs on recorded numbers, handed out as arrays."""

from __future__ import annotations

from llvmlite import ir
from numba.core import cgutils, errors, types
from numba.core.typing import signature

from compiled.active.arguments import (
    Counter,
    Walk,
    element_count,
    in_heap,
    in_workspace,
    make_room,
)
from compiled.active.derivatives import INDEX, Derivative, base_kind, below
from compiled.active.expressions import _View
from compiled.active.numbers import Emission
from compiled.active.recording import WORDS as ENTRY_WORDS
from compiled.active.types import (
    Recorded,
    bottom,
    constant,
    depth,
    differential_of,
    proxy,
)
from compiled.active.workspace import CELLS, FIRST, LOST, PAIRS, STATEMENTS, release
from compiled.errors import WorkspaceCapacityError


class RecordedList(Derivative):
    """The function run on `Recorded` numbers: (result, entries, values, cells of the result's floats).

    `entries` has a row of opcode, operands and line for each cell from 1 on, inputs (opcode CONSTANT) first.
    """

    def change(self, kinds):
        """What becomes of a number that is recorded."""
        self.level = 1
        if base_kind(kinds) != types.float64 or differential_of(types.Tuple(kinds)) is not None:
            raise errors.TypingError(f"{self.name}: expected plain arguments")

        def changed(kind):
            if bottom(kind) != types.float64:
                raise errors.TypingError(f"{self.name}: lists of jitted functions are of float64; convert float32 arguments "
                                         "with astype(np.float64)")
            return Recorded(types.float64)

        return changed

    def signature(self, typingctx, args):
        """See `Emitter`."""
        _, call = self.inner_call(typingctx, args, self.change(args))
        value = self.value_kind(call.return_type)
        return signature(types.Tuple([value, types.Array(types.int32, 2, "C"), types.Array(types.float64, 1, "C"),
                                      types.Array(types.int64, 1, "C")]), *args)

    def emit(self, context, builder, signature, args):
        """See `Emitter`."""
        kinds, base = signature.args, types.float64
        inner, call = self.inner_call(context.typing_context, kinds, self.change(kinds))
        workspace, total = self.workspace(context, builder, base, kinds, args)
        word = self._inputs(builder, workspace, total)
        self.require(context, builder, workspace, make_room(context, builder, workspace, total, Recorded(base)))
        emission, walk, heap = Emission(context, builder), Walk(context, builder), in_heap(context, builder)
        counter, values = Counter(builder, word), list(args)

        def element(kind, value, made, *_):
            struct = proxy(context, builder, made)
            struct.value = emission.value(made.base, emission.number(kind, value))
            struct.cell = counter.next()
            return struct._getvalue()

        for k in self.argnums:
            values[k] = walk.make(kinds[k], args[k], inner[k], element, in_workspace(context, builder, workspace))
        result = self.call(context, builder, inner, call, values, workspace)
        with builder.if_then(builder.icmp_unsigned("!=", workspace.load(LOST), constant(0)), likely=False):
            needed = builder.mul(builder.add(workspace.load(LOST), workspace.load(PAIRS)), constant(13))
            release(workspace)
            context.call_conv.return_dynamic_user_exc(builder, WorkspaceCapacityError, (needed,), (types.int64,))

        def primal(kind, value, made, *_):
            return emission.value(made, below(emission.number(kind, value), 1))

        value = walk.make(call.return_type, result, signature.return_type.types[0], primal, heap)
        entries, numbers = self._entries(context, builder, workspace, signature.return_type, heap)
        cells = self._result_cells(context, builder, emission, walk, call.return_type, result, heap)
        context.nrt.decref(builder, call.return_type, result)
        release(workspace)
        return context.make_tuple(builder, signature.return_type, [value, entries, numbers, cells])

    @staticmethod
    def _inputs(builder, workspace, total):
        """Cells 1 to `total`; returns the word of the first."""
        workspace.reserve(builder.mul(total, constant(ENTRY_WORDS)), types.float64)
        workspace.store(STATEMENTS, builder.add(total, constant(1)))
        workspace.store(PAIRS, builder.add(builder.mul(total, constant(ENTRY_WORDS)), constant(1)))
        workspace.store(FIRST, builder.add(total, constant(1)))
        return builder.or_(workspace.tag(), constant(1))

    @staticmethod
    def _entries(context, builder, workspace, kinds, heap):
        first = workspace.load(FIRST)
        count = builder.sub(workspace.load(STATEMENTS), first)
        entries = heap(kinds.types[1], [count, constant(ENTRY_WORDS)])
        numbers = heap(kinds.types[2], [count])
        start = builder.add(builder.mul(builder.sub(first, constant(1)), constant(ENTRY_WORDS)), constant(1))
        source = builder.gep(workspace.pointer(CELLS, ir.IntType(32)), [start])
        target = _View(context, builder, kinds.types[1], entries).data
        cgutils.raw_memcpy(builder, target, source, builder.mul(count, constant(ENTRY_WORDS)), 4)
        values, out = workspace.partials(types.float64), _View(context, builder, kinds.types[2], numbers).data
        with cgutils.for_range(builder, count, intp=count.type) as loop:
            at = builder.add(start, builder.mul(loop.index, constant(ENTRY_WORDS)))
            builder.store(builder.load(builder.gep(values, [at])), builder.gep(out, [loop.index]))
        return entries, numbers

    @staticmethod
    def _result_cells(context, builder, emission, walk, kind, result, heap):
        array = types.Array(types.int64, 1, "C")
        cells = heap(array, [element_count(context, builder, kind, result)])
        data, position = _View(context, builder, array, cells).data, Counter(builder, constant(0))

        def element(kind, value, *_):
            word = emission.number(kind, value).cell if depth(kind) else constant(0)
            builder.store(builder.and_(word, INDEX), builder.gep(data, [position.next()]))

        walk.visit(kind, result, element)
        return cells
