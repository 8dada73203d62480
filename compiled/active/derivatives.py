"""Derivatives of jitted functions, as calls that nopython code makes.

A derivative takes the arguments of the function; the numbers in those that are differentiated become `Active` or `Dual`
numbers over the deepest kind among all arguments, the function's twin is called with them, and adjoints are swept back or
tangents taken out. What is not here: how the twin is compiled (`preparation.py`), matrices of derivatives (`jacobians.py`).
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
    make_room,
    mapped,
)
from compiled.active.emitter import Emitter
from compiled.active.numbers import Emission
from compiled.active.preparation import twin
from compiled.active.types import (
    Active,
    Differential,
    Dual,
    bottom,
    constant,
    data_size,
    depth,
    differential_of,
    proxy,
    with_bottom,
)
from compiled.active.workspace import FIRST, LOST, PAIRS, STATEMENTS, acquire, release
from compiled.errors import WorkspaceCapacityError

INDEX = constant(0xFFFFFFFF)
"""The part of a cell's word that is its number."""


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
            raise errors.TypingError(f"{self.name}: expected a function whose result is one float, got {told(result)}; use "
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
            raise errors.TypingError(f"{self.name}: expected a seed of the structure of the result, {told(result)}, got "
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


def told(kind) -> str:
    """A type in the user's words."""
    return str(kind).replace("active(", "(").replace("dual(", "(")
