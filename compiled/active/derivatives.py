"""Derivatives of jitted functions, as calls that nopython code makes.

A derivative takes the arguments of the function; the numbers in those that are differentiated become `Active` or `Dual`
numbers over the deepest kind among all arguments, the function's twin is called with them, and adjoints are swept back or
tangents taken out. What is not here: how the twin is compiled (`preparation.py`).
"""

from __future__ import annotations

from llvmlite import ir
from numba.core import cgutils, errors, types
from numba.core.typing import signature

from compiled.active import arrays, casts, reverse  # noqa: F401  (what NumPy's functions become is registered there)
from compiled.active.arguments import (
    Counter,
    Walk,
    activated,
    element_count,
    gradient_kind,
    in_heap,
    in_workspace,
    leaf_kinds,
    leaf_values,
    make_room,
    mapped,
)
from compiled.active.emitter import Emitter
from compiled.active.expressions import _View
from compiled.active.numbers import Emission
from compiled.active.preparation import twin
from compiled.active.recording import WORDS as ENTRY_WORDS
from compiled.active.types import (
    Active,
    Differential,
    Dual,
    Recorded,
    bottom,
    constant,
    data_size,
    depth,
    differential_of,
    proxy,
    with_bottom,
)
from compiled.active.workspace import CELLS, FIRST, LOST, PAIRS, STATEMENTS, TOP, acquire, release
from compiled.errors import WorkspaceCapacityError

INDEX = constant(0xFFFFFFFF)
"""The part of a cell's word that is its number."""

WIDTH = 4
"""Tangents that a number of a forward Jacobian carries."""


def base_kind(kinds):
    """What the numbers of a new derivative stand over: the deepest kind among the arguments, or float64."""
    found = [d for d in map(differential_of, kinds) if d is not None]
    return with_bottom(max(found, key=depth), types.float64) if found else types.float64


class Derivative(Emitter):
    """Base of the derivatives of one function.

    Parameters
    ----------
    function : Dispatcher
        The jitted function.
    argnums : tuple of int
        Which arguments are differentiated.
    name : str
        For error messages.
    """

    def __init__(self, function, argnums, name):
        self.function, self.argnums, self.name = function, argnums, name

    def __repr__(self):
        return f"{type(self).__name__}({self.function.__name__}, {self.argnums}, {self.name})"

    def inner_call(self, typingctx, args, change):
        """(argument types, signature) of the twin's call, `change` applied to the numbers that are differentiated."""
        inner = list(args)
        for k in self.argnums:
            inner[k] = activated(args[k], change, self.name, k)
        call = types.Dispatcher(twin(self.function)).get_call_type(typingctx, tuple(inner), {})
        if isinstance(call.return_type, types.Optional):  # `call` raises where it is None
            call = call.replace(return_type=call.return_type.type)
        return inner, call

    def call(self, context, builder, inner, call, values, workspace):
        """Call the twin; the workspace is handed back if it raises."""
        overload = twin(self.function).overloads[call.args]
        context.add_linking_libs([overload.library])
        omitted = call.args[len(inner):]  # parameters that have their defaults
        cast = [context.cast(builder, v, a, b) for v, a, b in zip(values, inner, call.args, strict=False)]
        cast += [context.get_dummy_value() for _ in omitted]
        given = overload.signature.return_type
        status, result = context.call_internal_no_propagate(builder, overload.fndesc, call.replace(return_type=given), cast)
        with builder.if_then(status.is_error, likely=False):
            release(workspace)
            context.call_conv.return_status_propagate(builder, status)
        if isinstance(given, types.Optional):
            with builder.if_then(status.is_none, likely=False):
                release(workspace)
                context.call_conv.return_user_exc(builder, TypeError, (f"{self.name}: expected a number, got None as result",))
        return result

    def workspace(self, context, builder, base, kinds, args):
        """A workspace with room for the differentiated arguments as numbers of type `made`; and their number of elements."""
        workspace = acquire(context, builder, base)
        with builder.if_then(cgutils.is_null(builder, workspace.address), likely=False):
            message = "tape: more derivatives at work at one time than there are workspaces"
            context.call_conv.return_user_exc(builder, RuntimeError, (message,))
        total = constant(0)
        for k in self.argnums:
            total = builder.add(total, element_count(context, builder, kinds[k], args[k]))
        return workspace, total

    def require(self, context, builder, workspace, there):
        """Raise MemoryError when run without the memory asked for."""
        with builder.if_then(builder.not_(there), likely=False):
            release(workspace)
            context.call_conv.return_user_exc(builder, MemoryError, (f"{self.name}: out of memory",))

    def refuse_result(self, kind):
        """Raise for a result that cannot be differentiated."""
        raise errors.TypingError(f"{self.name}: expected a function that returns floats, float arrays or tuples of them, got "
                                 f"{kind}")

    def value_kind(self, kind):
        """Type of the function's value proper, for a result of type `kind`, at the level below the derivative."""
        level = self.level
        return mapped(kind, lambda k: k.base if depth(k) == level else k, self.refuse_result)


class Recording:
    """The function run forward on `Active` numbers: its list, and its result.

    Parameters
    ----------
    derivative : Derivative
    context, builder
        Where code is written.
    kinds, args
        Types and values of the function's arguments.
    """

    def __init__(self, derivative, context, builder, kinds, args):
        self.derivative, self.context, self.builder, self.args, self.kinds = derivative, context, builder, args, kinds
        self.base = base_kind(kinds)
        inner, call = derivative.inner_call(context.typing_context, kinds, derivative.change(kinds))
        self.workspace, total = derivative.workspace(context, builder, self.base, kinds, args)
        word = self.workspace.push_inputs(total, self.base)
        self.first_input = builder.and_(word, INDEX)
        self.workspace.store(FIRST, self.workspace.load(STATEMENTS))
        there = make_room(context, builder, self.workspace, total, Active(self.base))
        derivative.require(context, builder, self.workspace, there)
        self.emission, self.walk = Emission(context, builder), Walk(context, builder, self._give_up)
        counter, values = Counter(builder, word), list(args)
        for k in derivative.argnums:
            values[k] = self.walk.make(kinds[k], args[k], inner[k], self._numbered(counter),
                                       in_workspace(context, builder, self.workspace))
        self.kind = call.return_type
        self.result = derivative.call(context, builder, inner, call, values, self.workspace)
        with builder.if_then(builder.icmp_unsigned("!=", self.workspace.load(LOST), constant(0)), likely=False):
            self._raise_capacity()
        derivative.require(context, builder, self.workspace, reverse.make_adjoints(self.workspace, self.base))
        self.adjoints = reverse.Adjoints(self.emission, self.workspace, self.base)

    def _numbered(self, counter):
        def element(kind, value, made, *_):
            struct = proxy(self.context, self.builder, made)
            struct.value = self.emission.value(made.base, self.emission.number(kind, value))
            struct.cell = counter.next()
            return struct._getvalue()

        return element

    def _raise_capacity(self):
        pairs = self.builder.add(self.workspace.load(LOST), self.workspace.load(PAIRS))
        needed = self.builder.mul(pairs, constant(data_size(self.context, self.base) + 5))
        release(self.workspace)
        self.context.call_conv.return_dynamic_user_exc(self.builder, WorkspaceCapacityError, (needed,), (types.int64,))

    def value(self, out_kind):
        """The function's value as type `out_kind`, without this derivative's numbers."""
        def element(kind, value, made, *_):
            return self.emission.value(made, below(self.emission.number(kind, value), self.derivative.level))

        return self.walk.make(self.kind, self.result, out_kind, element, in_heap(self.context, self.builder))

    def seed(self, companion=None):
        """Add the companion's elements (1.0 without one) to the adjoints of the result."""
        def element(kind, value, seed_kind, seed):
            if depth(kind) == self.derivative.level:
                number = self.emission.number(kind, value)
                added = 1.0 if seed_kind is None else self.emission.double(self.emission.number(seed_kind, seed))
                self.adjoints.add(self.builder.and_(number.cell, INDEX), added)

        self.walk.visit(self.kind, self.result, element, companion)

    def sweep(self):
        """Sweep back; a failing rule of an operation propagates."""
        builder = self.builder
        excinfo = self.context.call_conv._get_excinfo_argument(builder.function)
        status = reverse.sweep(self.context, builder, self.workspace, self.base, excinfo)
        with builder.if_then(builder.icmp_signed("!=", status, ir.Constant(status.type, 0)), likely=False):
            self._give_up()
            builder.ret(status)

    def gradients(self):
        """The adjoints of the differentiated arguments, in their structures; they are zero after."""
        counter = Counter(self.builder, self.first_input)

        def element(kind, value, made, *_):
            return self.emission.value(made, self.adjoints.take(counter.next()))

        return [self.walk.make(self.kinds[k], self.args[k], gradient_kind(self.kinds[k], self.base), element,
                               in_heap(self.context, self.builder)) for k in self.derivative.argnums]

    def _give_up(self):
        """Leave no adjoint to the next call that takes the workspace."""
        reverse.clear(self.workspace)
        self.close()

    def close(self):
        """Give up the result and the workspace."""
        self.context.nrt.decref(self.builder, self.kind, self.result)
        release(self.workspace)


def below(number, level):
    """The number without the derivative of nesting level `level`."""
    return number.primal if getattr(number, "level", 0) == level else number


class Reverse(Derivative):
    """Base of what is computed with a list."""

    def change(self, kinds):
        """What becomes of a number that is differentiated."""
        base = base_kind(kinds)
        self.level = depth(base) + 1
        return lambda kind: Active(with_bottom(base, bottom(kind)))

    def recording_types(self, typingctx, args):
        """(base, result type of the twin, type of the value)."""
        _, call = self.inner_call(typingctx, args, self.change(args))
        return base_kind(args), call.return_type, self.value_kind(call.return_type)


class Gradient(Reverse):
    """(value, gradient, ...) of a scalar function: called with its arguments."""

    def signature(self, typingctx, args):
        """See `Emitter`."""
        base, result, value = self.recording_types(typingctx, args)
        if not isinstance(result, (types.Float, Differential)):
            raise errors.TypingError(f"{self.name}: expected a function whose result is one float, got {_told(result)}; use "
                                     "tape.jacobian or tape.vjp for other results")
        return signature(types.Tuple([value, *(gradient_kind(args[k], base) for k in self.argnums)]), *args)

    def emit(self, context, builder, signature, args):
        """See `Emitter`."""
        recording = Recording(self, context, builder, signature.args, args)
        value = recording.value(signature.return_type.types[0])
        recording.seed()
        recording.sweep()
        gradients = recording.gradients()
        recording.close()
        return context.make_tuple(builder, signature.return_type, [value, *gradients])


class Pullback(Reverse):
    """(value, adjoint, ...): called with the arguments of the function and a seed of the structure of its result."""

    def signature(self, typingctx, args):
        """See `Emitter`."""
        *args, seed = args
        base, result, value = self.recording_types(typingctx, tuple(args))
        seeds, wanted = leaf_kinds(types.unliteral(seed)), leaf_kinds(value)
        if [getattr(k, "ndim", 0) for k in seeds] != [getattr(k, "ndim", 0) for k in wanted]:
            raise errors.TypingError(f"{self.name}: expected a seed of the structure of the result, {_told(result)}, got "
                                     f"{seed}")
        gradients = [gradient_kind(args[k], base) for k in self.argnums]
        return signature(types.Tuple([value, *gradients]), *args, seed)

    def emit(self, context, builder, signature, args):
        """See `Emitter`."""
        recording = Recording(self, context, builder, signature.args[:-1], args[:-1])
        recording.seed((types.unliteral(signature.args[-1]), args[-1]))
        value = recording.value(signature.return_type.types[0])
        recording.sweep()
        gradients = recording.gradients()
        recording.close()
        return context.make_tuple(builder, signature.return_type, [value, *gradients])


class Forward(Derivative):
    """Base of what is computed with tangents."""

    width = 1

    def change(self, kinds):
        """What becomes of a number that is differentiated."""
        base = base_kind(kinds)
        self.level = depth(base) + 1
        return lambda kind: Dual(with_bottom(base, bottom(kind)), self.width)

    def dual(self, emission, kind, value, made, tangents):
        """The Numba value of a dual number of type `made`."""
        struct = proxy(emission.context, emission.builder, made)
        struct.value = emission.value(made.base, emission.number(kind, value))
        for k, tangent in enumerate(tangents):
            setattr(struct, f"tangent{k}", emission.value(made.base, tangent))
        return struct._getvalue()


class Pushforward(Forward):
    """(value, tangent): called with the function's arguments and a tangent for each differentiated one."""

    def signature(self, typingctx, args):
        """See `Emitter`."""
        count = len(self.argnums)
        plain, tangents = args[:-count], args[-count:]
        _, call = self.inner_call(typingctx, plain, self.change(args))
        value = self.value_kind(call.return_type)
        for k, tangent in zip(self.argnums, tangents, strict=True):
            wanted, got = leaf_kinds(types.unliteral(plain[k])), leaf_kinds(types.unliteral(tangent))
            if [getattr(x, "ndim", 0) for x in wanted] != [getattr(x, "ndim", 0) for x in got]:
                raise errors.TypingError(f"{self.name}: expected a tangent of the structure of argument {k}, {plain[k]}, got "
                                         f"{tangent}")
        base = base_kind(args)
        tangent = mapped(value, lambda k: with_bottom(base, bottom(k)), self.refuse_result)
        return signature(types.Tuple([value, tangent]), *args)

    def emit(self, context, builder, signature, args):
        """See `Emitter`."""
        count = len(self.argnums)
        kinds, tangent_kinds = signature.args[:-count], signature.args[-count:]
        base, change = base_kind(signature.args), self.change(signature.args)
        inner, call = self.inner_call(context.typing_context, kinds, change)
        workspace, total = self.workspace(context, builder, base, kinds, args)
        self.require(context, builder, workspace, make_room(context, builder, workspace, total, Dual(base, 1)))
        emission, values = Emission(context, builder), list(args[:-count])
        walk = Walk(context, builder, lambda: release(workspace))

        def element(kind, value, made, tangent_kind, tangent):
            return self.dual(emission, kind, value, made, [emission.double(emission.number(tangent_kind, tangent))])

        for k, tangent_kind, tangent in zip(self.argnums, tangent_kinds, args[-count:], strict=True):
            values[k] = walk.make(kinds[k], args[k], inner[k], element, in_workspace(context, builder, workspace),
                                  (types.unliteral(tangent_kind), tangent))
        result = self.call(context, builder, inner, call, values, workspace)

        def primal(kind, value, made, *_):
            return emission.value(made, below(emission.number(kind, value), self.level))

        def tangent_of(kind, value, made, *_):
            number = emission.number(kind, value)
            return emission.value(made, number.tangents[0] if depth(kind) == self.level else 0.0)

        heap = in_heap(context, builder)
        parts = [walk.make(call.return_type, result, out, element, heap)
                 for out, element in zip(signature.return_type.types, (primal, tangent_of), strict=True)]
        context.nrt.decref(builder, call.return_type, result)
        release(workspace)
        return context.make_tuple(builder, signature.return_type, parts)


# -------------------------------------------------------------------------------------------------- matrices


class _Blocks:
    """The Jacobian's blocks, one for each leaf of the result and each leaf of the differentiated arguments.

    A block has the axes of the result's leaf and then those of the argument's.
    """

    def __init__(self, derivative, context, builder, base, kinds, args):
        self.derivative, self.context, self.builder, self.base = derivative, context, builder, base
        self.inputs = []
        for k in derivative.argnums:
            kind = types.unliteral(kinds[k])
            for leaf, value in zip(leaf_kinds(kind), leaf_values(builder, kind, args[k]), strict=True):
                self.inputs.append((leaf, _shape(context, builder, leaf, value)))

    def allocate(self, result_kind, result):
        """Make the blocks for a result."""
        context, builder = self.context, self.builder
        self.outputs, self.blocks = [], []
        for leaf, value in zip(leaf_kinds(result_kind), leaf_values(builder, result_kind, result), strict=True):
            shape = _shape(context, builder, leaf, value)
            self.outputs.append((leaf, shape))
            for input_leaf, input_shape in self.inputs:
                kind = block_kind(self.base, leaf, input_leaf)
                if isinstance(kind, types.Array):
                    array = in_heap(context, builder)(kind, [*shape, *input_shape])
                    view = _View(context, builder, kind, array)
                    self.blocks.append((kind, array, view.data))
                else:
                    cell = cgutils.alloca_once(builder, context.get_data_type(kind))
                    self.blocks.append((kind, cell, cell))

    def store(self, output, row, input_number, column, number, emission):
        """Set an entry of the block of leaf `output` and input leaf `input_number`."""
        kind, _, data = self.blocks[output * len(self.inputs) + input_number]
        dtype = kind.dtype if isinstance(kind, types.Array) else kind
        at = self.builder.add(self.builder.mul(row, _size(self.builder, self.inputs[input_number][1])), column)
        value = self.context.get_value_as_data(self.builder, dtype, emission.value(dtype, number))
        self.builder.store(value, self.builder.gep(data, [at]))

    def packed(self, out_kind):
        """The blocks in the structure of the result."""
        values = []
        for kind, value, _ in self.blocks:
            if isinstance(kind, types.Array):
                values.append(value)
            else:
                model = self.context.data_model_manager[kind]
                values.append(model.load_from_data_pointer(self.builder, value))
        return _packed_leaves(self.context, self.builder, out_kind, iter(values))


def _packed_leaves(context, builder, kind, values):
    if isinstance(kind, types.BaseTuple):
        return context.make_tuple(builder, kind, [_packed_leaves(context, builder, k, values) for k in kind.types])
    return next(values)


def _shape(context, builder, kind, value) -> list:
    return _View(context, builder, kind, value).shape if isinstance(kind, types.Array) else []


def _size(builder, shape):
    size = constant(1)
    for n in shape:
        size = builder.mul(size, n)
    return size


def block_kind(base, output, argument):
    """Type of the block of two leaves."""
    ndim = getattr(output, "ndim", 0) + getattr(argument, "ndim", 0)
    element = argument.dtype if isinstance(argument, types.Array) else argument
    dtype = with_bottom(base, bottom(element))
    return types.Array(dtype, ndim, "C") if ndim else dtype


class _Jacobian:
    """What Jacobians by rows and by columns have in common; `single`: argnums was a number."""

    single = True

    def result_type(self, typingctx, args):
        """Type of the Jacobian: nested as the result and, inside, as the arguments."""
        _, call = self.inner_call(typingctx, args, self.change(args))
        base = base_kind(args)
        self.value_kind(call.return_type)
        wanted = [types.unliteral(args[k]) for k in self.argnums]
        inside = wanted[0] if self.single else types.Tuple(wanted)

        def nested(output, argument):
            if isinstance(argument, types.BaseTuple):
                return types.Tuple([nested(output, part) for part in argument.types])
            return block_kind(base, output, argument)

        def outer(kind):
            if isinstance(kind, types.BaseTuple):
                return types.Tuple([outer(part) for part in kind.types])
            return nested(kind, inside)

        return outer(call.return_type), base

    def signature(self, typingctx, args):
        """See `Emitter`."""
        return signature(self.result_type(typingctx, args)[0], *args)


class ReverseJacobian(_Jacobian, Reverse):
    """The Jacobian by rows: one recording, one sweep an element of the result."""

    def emit(self, context, builder, signature, args):
        """See `Emitter`."""
        kinds = signature.args
        recording = Recording(self, context, builder, kinds, args)
        blocks = _Blocks(self, context, builder, recording.base, kinds, args)
        blocks.allocate(recording.kind, recording.result)
        emission, walk = recording.emission, recording.walk
        leaves = zip(leaf_kinds(recording.kind), leaf_values(builder, recording.kind, recording.result), strict=True)
        for number, (leaf, value) in enumerate(leaves):
            rows = Counter(builder, constant(0))

            def element(kind, value, *_, number=number, rows=rows):
                row = rows.next()
                if depth(kind) == self.level:
                    active = emission.number(kind, value)
                    recording.adjoints.store(builder.and_(active.cell, INDEX), 1.0)
                    recording.sweep()
                cells = Counter(builder, recording.first_input)
                for k, (_, shape) in enumerate(blocks.inputs):
                    with cgutils.for_range(builder, _size(builder, shape), intp=constant(0).type) as loop:
                        blocks.store(number, row, k, loop.index, recording.adjoints.take(cells.next()), emission)

            walk.visit(leaf, value, element)
        recording.close()
        return blocks.packed(signature.return_type)


class ForwardJacobian(_Jacobian, Forward):
    """The Jacobian by columns, several at a time: the function runs once for each group of columns."""

    width = WIDTH

    def emit(self, context, builder, signature, args):
        """See `Emitter`."""
        kinds = signature.args
        base, change = base_kind(kinds), self.change(kinds)
        inner, call = self.inner_call(context.typing_context, kinds, change)
        workspace, total = self.workspace(context, builder, base, kinds, args)
        self.require(context, builder, workspace, make_room(context, builder, workspace, total, Dual(base, self.width)))
        blocks = _Blocks(self, context, builder, base, kinds, args)
        emission, walk = Emission(context, builder), Walk(context, builder)
        start = cgutils.alloca_once_value(builder, constant(0))
        loop, done = builder.append_basic_block("columns"), builder.append_basic_block("columns.done")
        builder.branch(loop)
        builder.position_at_end(loop)
        first = builder.load(start)
        result = self._run(context, builder, emission, walk, workspace, kinds, args, inner, call, first)
        self._allocate_once(context, builder, blocks, call.return_type, result, first)
        self._scatter(builder, emission, walk, blocks, call.return_type, result, first, total)
        context.nrt.decref(builder, call.return_type, result)
        after = builder.add(first, constant(self.width))
        builder.store(after, start)
        builder.cbranch(builder.icmp_unsigned("<", after, total), loop, done)
        builder.position_at_end(done)
        release(workspace)
        return blocks.packed(signature.return_type)

    def _run(self, context, builder, emission, walk, workspace, kinds, args, inner, call, first):
        workspace.store(TOP, constant(0))
        counter, values = Counter(builder, constant(0)), list(args)

        def element(kind, value, made, *_):
            number = counter.next()
            tangents = []
            for k in range(self.width):
                here = builder.icmp_unsigned("==", number, builder.add(first, constant(k)))
                double = ir.DoubleType()
                tangents.append(emission.number(types.float64, builder.select(here, ir.Constant(double, 1.0),
                                                                              ir.Constant(double, 0.0))))
            return self.dual(emission, kind, value, made, tangents)

        for k in self.argnums:
            values[k] = walk.make(kinds[k], args[k], inner[k], element, in_workspace(context, builder, workspace))
        # The counter restarts with each group.
        result = self.call(context, builder, inner, call, values, workspace)
        builder.store(constant(0), counter.cell)
        return result

    def _allocate_once(self, context, builder, blocks, kind, result, first):
        """Make the blocks in the first round, when the shape of the result is known."""
        holders = []
        for output in leaf_kinds(kind):
            for argument, _ in blocks.inputs:
                holder = block_kind(blocks.base, output, argument)
                holders.append(cgutils.alloca_once(builder, context.get_value_type(holder)) if isinstance(holder, types.Array)
                               else cgutils.alloca_once(builder, context.get_data_type(holder)))
        with builder.if_then(builder.icmp_unsigned("==", first, constant(0))):
            blocks.allocate(kind, result)
            for (block, value, _), holder in zip(blocks.blocks, holders, strict=True):
                if isinstance(block, types.Array):
                    builder.store(value, holder)
        made = []
        for (block, _, _), holder in zip(blocks.blocks, holders, strict=True):
            if isinstance(block, types.Array):
                value = builder.load(holder)
                made.append((block, value, _View(context, builder, block, value).data))
            else:
                made.append((block, holder, holder))
        blocks.blocks = made

    def _scatter(self, builder, emission, walk, blocks, kind, result, first, total):
        leaves = zip(leaf_kinds(kind), leaf_values(builder, kind, result), strict=True)
        for number, (leaf, value) in enumerate(leaves):
            rows = Counter(builder, constant(0))

            def element(kind, value, *_, number=number, rows=rows):
                row, dual = rows.next(), emission.number(kind, value)
                for k in range(self.width):
                    tangent = dual.tangents[k] if depth(kind) == self.level else 0.0
                    self._place(builder, emission, blocks, number, row, builder.add(first, constant(k)), tangent)

            walk.visit(leaf, value, element)
            builder.store(constant(0), rows.cell)

    def _place(self, builder, emission, blocks, output, row, column, tangent):
        """Store a tangent in the block whose columns hold number `column`."""
        begin = constant(0)
        for k, (_, shape) in enumerate(blocks.inputs):
            end = builder.add(begin, _size(builder, shape))
            inside = builder.and_(builder.icmp_unsigned(">=", column, begin), builder.icmp_unsigned("<", column, end))
            with builder.if_then(inside):
                blocks.store(output, row, k, builder.sub(column, begin), tangent, emission)
            begin = end


class Jacobian(ReverseJacobian):
    """The Jacobian by rows or by columns, whichever needs less work: by columns at once where the function takes numbers only
    and its result is no number; else the recorded list says how many rows there are."""

    def _forward(self):
        forward = ForwardJacobian(self.function, self.argnums, self.name)
        forward.single = self.single
        return forward

    def _is_forward(self, typingctx, args):
        numbers = all(not isinstance(leaf, types.Array) for k in self.argnums for leaf in leaf_kinds(types.unliteral(args[k])))
        if not numbers:
            return False
        _, call = self._forward().inner_call(typingctx, args, self._forward().change(args))
        return len(leaf_kinds(call.return_type)) > 1 or isinstance(call.return_type, types.Array)

    def result_type(self, typingctx, args):
        """See `_Jacobian`."""
        if self._is_forward(typingctx, args):
            return self._forward().result_type(typingctx, args)
        return super().result_type(typingctx, args)

    def emit(self, context, builder, signature, args):
        """See `Emitter`."""
        if self._is_forward(context.typing_context, signature.args):
            return self._forward().emit(context, builder, signature, args)
        return super().emit(context, builder, signature, args)


def _told(kind) -> str:
    """A type in the user's words."""
    return str(kind).replace("active(", "(").replace("dual(", "(")


class Listing(Derivative):
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
