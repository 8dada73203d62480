"""Operations with rules of their own, in lists of linear statements: one entry, whatever they compute.

The entry keeps the values of the arguments and of the result, and the cells of the arguments; in the sweep its handler
gathers the adjoints of the result, calls the rule, and adds what it returns to the arguments' adjoints. Products of
matrices (`arrays.py`), checkpoints and scans (`checkpoints.py`) and users' own operations are all of this kind.

What stands in the list: the count EXTERNAL at the last of the result's cells; in `partials` the payload, and in its last
two words the address of the handler and the number of pairs that the payload takes.
"""

from __future__ import annotations

from llvmlite import ir
from numba.core import cgutils, errors, types
from numba.core.typing import signature
from numba.np import arrayobj

from compiled.active.arguments import Walk, in_heap, leaf_kinds, leaf_values, mapped, rebuilt
from compiled.active.emitter import Emitter, EmitterType
from compiled.active.expressions import _View
from compiled.active.numbers import Emission
from compiled.active.preparation import twin
from compiled.active.reverse import Adjoints
from compiled.active.types import I8, Active, Dual, Recorded, constant, data_size, depth, differential_of, proxy, with_bottom
from compiled.active.workspace import COUNTS, EXTERNAL, PAIRS, POINTER, STATEMENTS, Workspace
from compiled.table.llvm import internal_function

INDEX = constant(0xFFFFFFFF)


class Operation(Emitter):
    """A jitted function with a rule for its adjoint, called in nopython mode.

    Parameters
    ----------
    function : Dispatcher
        The value.
    rule : Dispatcher, Emitter or tuple of Dispatcher, optional
        ``rule(adjoint, out, *args)`` returns the adjoints of the arguments, as a tuple if there are several (what it has
        for arguments that are no floats is not looked at); or one function for each argument.
    tangent_rule : Dispatcher, optional
        ``tangent_rule(tangents, out, *args)``: the tangent of the result, for a tuple of the arguments' tangents.
    body : Dispatcher, optional
        The same value by elementary operations, for lists of instructions, and for tangents where they have no rule.
    """

    is_jitted_operation = True

    def __init__(self, function, rule=None, tangent_rule=None, body=None, name=None):
        self.function, self.rule, self.tangent_rule, self.body = function, rule, tangent_rule, body
        self.__name__ = name or function.__name__

    def __repr__(self):
        return f"operation {self.__name__}"

    # ------------------------------------------------------------------ types

    def signature(self, typingctx, args):
        """See `Emitter`."""
        args = tuple(types.unliteral(kind) for kind in args)
        top = differential_of(types.Tuple(args))
        if top is None:
            return types.Dispatcher(self.function).get_call_type(typingctx, args, {})
        if self._runs_body(top):
            return types.Dispatcher(twin(self._body())).get_call_type(typingctx, args, {})
        inner = tuple(_below(kind, top.depth) for kind in args)
        out = self.signature(typingctx, inner).return_type
        if isinstance(top, Dual):
            self._tangent_call(typingctx, top, args, inner, out)
        else:
            self._rule_calls(typingctx, top, args, inner, out)
        return signature(_above(out, top), *args)

    def _runs_body(self, top) -> bool:
        """Whether numbers of the kind of `top` go through the body."""
        return isinstance(top, Recorded) or (isinstance(top, Dual) and self.tangent_rule is None and self.body is not None)

    def _body(self):
        if self.body is None:
            raise errors.TypingError(f"tape: operation {self.__name__} has a rule of its own, which a list of instructions "
                                     "cannot hold; use tape.grad and its kin, not tape.record")
        return self.body

    def _rule_calls(self, typingctx, top, args, inner, out):
        """[(rule, its signature, argument number or None for all)]."""
        if self.rule is None:
            raise errors.TypingError(f"tape: operation {self.__name__} has no rule: expected one under @{self.__name__}.bprop")
        adjoint = _doubled(out)
        out, inner = _stored(out), tuple(map(_stored, inner))
        if not isinstance(self.rule, tuple):
            return [(self.rule, _call_type(typingctx, self.rule, (adjoint, out, *inner)), None)]
        wanted = [k for k, kind in enumerate(args) if _carries(kind, top.depth)]
        return [(self.rule[k], _call_type(typingctx, self.rule[k], (adjoint, out, *inner)), k) for k in wanted]

    def _tangent_call(self, typingctx, top, args, inner, out):
        if self.tangent_rule is None:
            raise errors.TypingError(f"tape: operation {self.__name__} has no rule for tangents: expected one under "
                                     f"@{self.__name__}.jvp, for forward mode, hvp and hessian")
        tangents = types.Tuple([_doubled(kind) if _is_numeric(kind) else kind for kind in inner])
        return _call_type(typingctx, self.tangent_rule, (tangents, out, *inner))

    # ------------------------------------------------------------------ code

    def emit(self, context, builder, signature, args):
        """See `Emitter`."""
        kinds = signature.args
        top = differential_of(types.Tuple(kinds))
        if top is None or self._runs_body(top):
            function = types.Dispatcher(self.function if top is None else twin(self._body()))
            return context.get_function(function, signature)(builder, args)
        typingctx = context.typing_context
        inner = tuple(_below(kind, top.depth) for kind in kinds)
        emission, walk, heap = Emission(context, builder), Walk(context, builder), in_heap(context, builder)

        def primal(kind, value, made, *_):
            number = emission.number(kind, value)
            return emission.value(made, number.primal if depth(kind) == top.depth else number)

        values = [walk.make(kind, value, below, primal, heap) if _carries(kind, top.depth) else value
                  for kind, value, below in zip(kinds, args, inner, strict=True)]
        inner_signature = self.signature(typingctx, inner)
        out_kind = inner_signature.return_type
        out = self.emit(context, builder, inner_signature, values) if differential_of(types.Tuple(inner)) is not None else \
            context.get_function(types.Dispatcher(self.function), inner_signature)(builder, values)
        if isinstance(top, Dual):
            result = self._emit_tangents(emission, walk, top, kinds, args, inner, values, out_kind, out, signature.return_type)
        else:
            calls = self._rule_calls(typingctx, top, kinds, inner, out_kind)
            entry = _Entry(self, emission, walk, top, kinds, args, inner, values, out_kind, out, calls)
            result = entry.written(signature.return_type)
        for kind, below, value in zip(kinds, inner, values, strict=True):
            if _carries(kind, top.depth):
                context.nrt.decref(builder, below, value)
        context.nrt.decref(builder, out_kind, out)
        return result

    def _emit_tangents(self, emission, walk, top, kinds, args, inner, values, out_kind, out, result_kind):
        context, builder = emission.context, emission.builder
        call = self._tangent_call(context.typing_context, top, kinds, inner, out_kind)
        heap = in_heap(context, builder)
        lanes = []
        for k in range(top.width):
            def tangent(kind, value, made, *_, k=k):
                number = emission.number(kind, value)
                return emission.value(made, number.tangents[k] if depth(kind) == top.depth else 0.0)

            parts = [walk.make(kind, value, wanted, tangent, heap) if _is_numeric(below) else value
                     for kind, value, below, wanted in zip(kinds, args, inner, call.args[0].types, strict=True)]
            packed = context.make_tuple(builder, call.args[0], parts)
            rule = _callee(self.tangent_rule, call.args)
            lanes.append(context.get_function(rule, call)(builder, [packed, out, *values]))
            for below, wanted, part in zip(inner, call.args[0].types, parts, strict=True):
                if _is_numeric(below):
                    context.nrt.decref(builder, wanted, part)
        result = None
        for k, lane in enumerate(lanes):
            def joined(kind, value, made, lane_kind, lane_value, k=k):
                if not isinstance(made, Dual) or made.depth != top.depth:
                    return value
                struct = proxy(context, builder, made, None if k == 0 else value)
                if k == 0:
                    struct.value = emission.value(made.base, emission.number(kind, value))
                setattr(struct, f"tangent{k}", emission.value(made.base, emission.number(lane_kind, lane_value)))
                return struct._getvalue()

            source = (out_kind, out) if k == 0 else (result_kind, result)
            made = walk.make(*source, result_kind, joined, heap, (call.return_type, lane))
            if k:
                context.nrt.decref(builder, result_kind, result)
            context.nrt.decref(builder, call.return_type, lane)
            result = made
        return result


class _Entry:
    """One call of an operation on `Active` numbers, while its entry is written."""

    def __init__(self, operation, emission, walk, top, kinds, args, inner, values, out_kind, out, calls):
        self.operation, self.emission, self.walk, self.top = operation, emission, walk, top
        self.kinds, self.args, self.inner, self.values = kinds, args, inner, values
        self.out_kind, self.out, self.calls = out_kind, out, calls
        self.context, self.builder = emission.context, emission.builder
        self.base = with_bottom(top.base, types.float64)
        self.format = _Format(self)

    def written(self, result_kind):
        """Write the entry, unless all arguments are constants; returns the result as numbers with cells."""
        builder = self.builder
        combined = self._combined_words()
        first = cgutils.alloca_once_value(builder, constant(0))
        with builder.if_then(builder.icmp_unsigned("!=", combined, constant(0))):
            workspace = Workspace.of_word(self.context, builder, combined)
            count = self._out_count()
            slots = self._slots(count)
            with builder.if_then(workspace.reserve(slots, self.base)), builder.if_then(
                    builder.icmp_unsigned("!=", count, constant(0))):
                pairs, statement = workspace.load(PAIRS), workspace.load(STATEMENTS)
                start = builder.bitcast(builder.gep(workspace.partials(self.base), [pairs]), POINTER)
                self.format.write(builder, start)
                end = builder.bitcast(builder.gep(workspace.partials(self.base), [builder.add(pairs, slots)]),
                                      ir.IntType(64).as_pointer())
                builder.store(slots, builder.gep(end, [constant(-1)]))
                handler = builder.ptrtoint(_handler(self), ir.IntType(64))
                builder.store(handler, builder.gep(end, [constant(-2)]))
                counts = workspace.pointer(COUNTS, I8)
                cgutils.memset(builder, builder.gep(counts, [statement]), count, 0)
                last = builder.add(statement, builder.sub(count, constant(1)))
                builder.store(ir.Constant(I8, EXTERNAL), builder.gep(counts, [last]))
                workspace.store(PAIRS, builder.add(pairs, slots))
                workspace.store(STATEMENTS, builder.add(statement, count))
                builder.store(builder.or_(workspace.tag(), statement), first)
        return self._result(result_kind, first)

    def _combined_words(self):
        builder, cell = self.builder, cgutils.alloca_once_value(self.builder, constant(0))

        def element(kind, value, *_):
            if depth(kind) == self.top.depth:
                word = self.emission.number(kind, value).cell
                builder.store(builder.or_(builder.load(cell), word), cell)

        for kind, value in zip(self.kinds, self.args, strict=True):
            if _carries(kind, self.top.depth):
                self.walk.visit(kind, value, element)
        return builder.load(cell)

    def _out_count(self):
        return _count(self.context, self.builder, self.out_kind, self.out, lambda kind: _is_numeric(kind))

    def _slots(self, count):
        """Pairs that the entry takes: room for the payload, and one for each cell of the result."""
        builder, size = self.builder, data_size(self.context, self.base)
        bytes_needed = builder.add(self.format.size(builder), constant(16 + size - 1))
        slots = builder.udiv(bytes_needed, constant(size))
        return builder.select(builder.icmp_unsigned("<", slots, count), count, slots)

    def _result(self, result_kind, first):
        builder = self.builder

        def element(kind, value, made, *_):
            if not isinstance(made, Active) or made.depth != self.top.depth:
                return value
            word = builder.load(first)
            struct = proxy(self.context, builder, made)
            struct.value = self.emission.value(made.base, self.emission.number(kind, value))
            struct.cell = word
            after = builder.select(builder.icmp_unsigned("==", word, constant(0)), word, builder.add(word, constant(1)))
            builder.store(after, first)
            return struct._getvalue()

        return self.walk.make(self.out_kind, self.out, result_kind, element, in_heap(self.context, builder))


class _Format:
    """How the payload of an entry stands in memory: the leaves of the arguments and of the result, one after the other.

    A leaf that is an array: its shape, its elements, and, where it carries derivatives, its cells; a number: itself, and its
    cell; anything else: itself.
    """

    def __init__(self, entry):
        self.context, self.entry = entry.context, entry
        self.level = entry.top.depth
        self.parts = []
        for kind, below in [*zip(entry.kinds, entry.inner, strict=True), (entry.out_kind, entry.out_kind)]:
            leaves = zip(leaf_kinds(kind), leaf_kinds(below), strict=True)
            self.parts.append([(leaf, inner, depth(differential_of(leaf)) == self.level) for leaf, inner in leaves])

    def _values(self, builder):
        entry = self.entry
        for kind, value, below, inner in [*zip(entry.kinds, entry.args, entry.inner, entry.values, strict=True),
                                          (entry.out_kind, entry.out, entry.out_kind, entry.out)]:
            yield from zip(leaf_kinds(kind), leaf_values(builder, kind, value), leaf_kinds(below),
                           leaf_values(builder, below, inner), strict=True)

    def size(self, builder):
        """Bytes of the payload."""
        total = constant(0)
        for (kind, _, below, inner), (_, _, carries) in zip(self._values(builder), [p for ps in self.parts for p in ps],
                                                            strict=True):
            if isinstance(below, types.Array):
                n = self.context.make_array(below)(self.context, builder, inner).nitems
                each = _padded(data_size(self.context, below.dtype) if below.dtype != types.boolean else 1)
                total = builder.add(total, builder.add(constant(8 * below.ndim), builder.mul(
                    n, constant(each + (8 if carries else 0)))))
            else:
                total = builder.add(total, constant(_padded(_width(self.context, below)) + (8 if carries else 0)))
            del kind
        return total

    def write(self, builder, start):
        """Write the payload from `start` on."""
        cursor = _Cursor(self.context, builder, start)
        emission = Emission(self.context, builder)
        carries = [c for ps in self.parts for _, _, c in ps]
        for (kind, value, below, inner), carried in zip(self._values(builder), carries, strict=True):
            if not isinstance(below, types.Array):
                cursor.put(below, inner)
                if carried:
                    cursor.put(types.uint64, emission.number(kind, value).cell)
                continue
            view = _View(self.context, builder, below, inner)
            for n in view.shape:
                cursor.put(types.uint64, n)
            with cgutils.loop_nest(builder, view.shape, intp=constant(0).type) as indices:
                cursor.put(below.dtype, view.load(indices), packed=True)
            cursor.pad()
            if carried:
                cells = _View(self.context, builder, kind, value)
                with cgutils.loop_nest(builder, cells.shape, intp=constant(0).type) as indices:
                    cursor.put(types.uint64, emission.number(kind.dtype, cells.load(indices)).cell)

    def read(self, builder, start):
        """[(value of an argument or of the result at the level below, [cells of its leaves])]."""
        cursor = _Cursor(self.context, builder, start)
        found = []
        whole = [_stored(kind) for kind in (*self.entry.inner, self.entry.out_kind)]
        for kind, leaves in zip(whole, self.parts, strict=True):
            values, cells = [], []
            for _, below, carried in leaves:
                if isinstance(below, types.Array):
                    shape = [cursor.take(types.uint64) for _ in range(below.ndim)]
                    values.append(cursor.array(_stored(below), shape))
                    cells.append(cursor.skip(shape) if carried else None)
                else:
                    values.append(cursor.take(below))
                    cells.append(cursor.skip([]) if carried else None)
            found.append((_packed(self.context, builder, kind, iter(values)), cells))
        return found


def _padded(size: int) -> int:
    return -(-size // 8) * 8


def _width(context, kind) -> int:
    return context.get_abi_sizeof(context.get_data_type(kind))


class _Cursor:
    """A place in a payload."""

    def __init__(self, context, builder, start):
        self.context, self.builder = context, builder
        self.cell = cgutils.alloca_once_value(builder, start)

    def _advance(self, size):
        here = self.builder.load(self.cell)
        self.builder.store(self.builder.gep(here, [size]), self.cell)
        return here

    def put(self, kind, value, packed=False):
        """Write a value; arrays' elements stand without gaps."""
        stored = self.context.get_value_as_data(self.builder, kind, value)
        width = _width(self.context, kind)
        here = self._advance(constant(width if packed else _padded(width)))
        self.builder.store(stored, self.builder.bitcast(here, stored.type.as_pointer()), align=1)

    def pad(self):
        """Go to the next word."""
        word = self.builder.ptrtoint(self.builder.load(self.cell), ir.IntType(64))
        word = self.builder.and_(self.builder.add(word, constant(7)), constant(-8))
        self.builder.store(self.builder.inttoptr(word, POINTER), self.cell)

    def take(self, kind):
        """Read a value."""
        model = self.context.data_model_manager[kind]
        here = self._advance(constant(_padded(_width(self.context, kind))))
        data = self.context.get_data_type(kind)
        return model.load_from_data_pointer(self.builder, self.builder.bitcast(here, data.as_pointer()), align=1)

    def array(self, kind, shape):
        """An array over the elements that stand here."""
        builder, size = self.builder, _width(self.context, kind.dtype)
        strides, width = [], constant(size)
        for n in reversed(shape):
            strides.insert(0, width)
            width = builder.mul(width, n)
        here = self._advance(width)
        self.pad()
        array = arrayobj.make_array(kind)(self.context, builder)
        data = self.context.get_data_type(kind.dtype)
        arrayobj.populate_array(array, data=builder.bitcast(here, data.as_pointer()), shape=cgutils.pack_array(builder, shape),
                                strides=cgutils.pack_array(builder, strides), itemsize=constant(size), meminfo=None,
                                parent=None)
        return array._getvalue()

    def skip(self, shape):
        """The cells that stand here."""
        size = constant(8)
        for n in shape:
            size = self.builder.mul(size, n)
        return self._advance(size)


def _packed(context, builder, kind, values):
    if isinstance(kind, types.BaseTuple):
        return context.make_tuple(builder, kind, [_packed(context, builder, part, values) for part in kind.types])
    return next(values)


def _count(context, builder, kind, value, wanted):
    total = constant(0)
    for leaf, part in zip(leaf_kinds(kind), leaf_values(builder, kind, value), strict=True):
        if wanted(leaf):
            size = context.make_array(leaf)(context, builder, part).nitems if isinstance(leaf, types.Array) else constant(1)
            total = builder.add(total, size)
    return total


def _handler(entry):
    """The function that takes an entry's adjoints back, in Numba's calling convention."""
    context = entry.context
    module = entry.builder.module
    kinds = "_".join(map(str, (*entry.kinds, entry.out_kind)))
    name = f"tape.rule.{entry.operation.__name__}.{id(entry.operation)}.{kinds}"
    excinfo = context.call_conv._get_excinfo_argument(entry.builder.function).type

    def emit(builder, arguments):
        _emit_handler(entry, builder, *arguments[2:])

    return internal_function(module, name, [POINTER, excinfo, POINTER, POINTER, ir.IntType(64)], emit, inline=False,
                             result=ir.IntType(32))


def _emit_handler(entry, builder, address, payload, statement):
    context = entry.context
    workspace = Workspace(context, builder, address)
    emission, walk = Emission(context, builder), Walk(context, builder)
    adjoints = Adjoints(emission, workspace, entry.base)
    *arguments, (out, _) = entry.format.read(builder, payload)
    count = _count(context, builder, _stored(entry.out_kind), out, _is_numeric)
    cursor = cgutils.alloca_once_value(builder, builder.sub(builder.add(statement, constant(1)), count))

    def gathered(kind, value, made, *_):
        here = builder.load(cursor)
        builder.store(builder.add(here, constant(1)), cursor)
        return emission.value(made, adjoints.take(here))

    adjoint_kind = _doubled(entry.out_kind)
    adjoint = walk.make(_stored(entry.out_kind), out, adjoint_kind, gathered, in_heap(context, builder))
    for rule, call, number in entry.calls:
        values = [adjoint, out, *(value for value, _ in arguments)]
        cast = [context.cast(builder, v, a, b) for v, a, b in
                zip(values, (adjoint_kind, *map(_stored, (entry.out_kind, *entry.inner))), call.args, strict=True)]
        returned = context.get_function(_callee(rule, call.args), call)(builder, cast)
        _scatter(entry, builder, emission, walk, adjoints, arguments, number, call.return_type, returned)
        context.nrt.decref(builder, call.return_type, returned)
    context.nrt.decref(builder, adjoint_kind, adjoint)
    builder.ret(ir.Constant(ir.IntType(32), 0))


def _scatter(entry, builder, emission, walk, adjoints, arguments, number, kind, returned):
    """Add what a rule returned to the adjoints of the arguments."""
    if number is None:
        several = isinstance(kind, types.BaseTuple) and (len(arguments) > 1 or not isinstance(entry.kinds[0], types.BaseTuple))
        if several and len(kind) != len(arguments):
            raise errors.TypingError(f"tape: the rule of {entry.operation.__name__} returns {len(kind)} adjoints for "
                                     f"{len(arguments)} arguments")
        if not several and len(arguments) > 1:
            raise errors.TypingError(f"tape: the rule of {entry.operation.__name__} returns one adjoint for {len(arguments)} "
                                     "arguments; expected a tuple")
        each = enumerate(kind.types) if several else [(0, kind)]
        given = [(k, part, builder.extract_value(returned, k) if several else returned) for k, part in each]
    else:
        given = [(number, kind, returned)]
    for k, part, value in given:
        if not _carries(entry.kinds[k], entry.top.depth):
            continue
        inner = _stored(entry.inner[k])
        inner_leaves = zip(leaf_kinds(inner), leaf_values(builder, inner, arguments[k][0]), arguments[k][1], leaf_kinds(part),
                           leaf_values(builder, part, value), strict=True)
        for leaf, leaf_value, cells, given_kind, given_value in inner_leaves:
            if cells is None:
                continue
            words = cgutils.alloca_once_value(builder, builder.bitcast(cells, ir.IntType(64).as_pointer()))

            def element(kind, value, given_kind, given, words=words):
                here = builder.load(words)
                builder.store(builder.gep(here, [constant(1)]), words)
                cell = builder.and_(builder.load(here), INDEX)
                adjoints.add(cell, emission.double(emission.number(given_kind, given)))

            walk.visit(leaf, leaf_value, element, (given_kind, given_value))


# -------------------------------------------------------------------------------------------------- kinds


def _below(kind, level):
    """The type with the numbers of nesting depth `level` replaced by what they stand over."""
    if isinstance(kind, types.BaseTuple):
        return rebuilt(kind, [_below(part, level) for part in kind.types])
    if depth(differential_of(kind)) != level:
        return kind
    return mapped(kind, lambda k: k.base if depth(k) == level else k, lambda k: k)


def _above(kind, top):
    """The type with its floats as numbers of the kind of `top`."""
    def change(number):
        return number if isinstance(number, types.Integer) else top.over(number)

    return mapped(kind, change, lambda k: k)


def _stored(kind):
    """The type of a value once it stands in a payload: arrays are C-contiguous there."""
    if isinstance(kind, types.BaseTuple):
        return rebuilt(kind, [_stored(part) for part in kind.types])
    return types.Array(kind.dtype, kind.ndim, "C") if isinstance(kind, types.Array) else kind


def _doubled(kind):
    """Type of the adjoint or tangent of what is of type `kind`."""
    return mapped(kind, lambda k: with_bottom(k, types.float64) if not isinstance(k, types.Integer) else types.float64,
                  lambda k: k)


def _carries(kind, level) -> bool:
    """Whether a type has numbers of nesting depth `level` in it."""
    return depth(differential_of(kind)) == level


def _is_numeric(kind) -> bool:
    """Whether a type is made of floats."""
    if isinstance(kind, types.BaseTuple):
        return all(map(_is_numeric, kind.types))
    element = kind.dtype if isinstance(kind, types.Array) else kind
    return isinstance(element, types.Float) or depth(element) > 0


def _callee(rule, kinds):
    """The Numba type of what is called with arguments of types `kinds`."""
    if isinstance(rule, Emitter):
        return EmitterType(rule)
    return types.Dispatcher(rule if differential_of(types.Tuple(kinds)) is None else twin(rule))


def _call_type(typingctx, rule, kinds):
    return _callee(rule, kinds).get_call_type(typingctx, tuple(kinds), {})
