"""Derivatives of jitted functions, as calls that nopython code makes.

A derivative takes the arguments of the function; those that are differentiated become numbers over the others' deepest
kind, the function's twin is called with them, and what it wrote is swept.
"""

from __future__ import annotations

from llvmlite import ir
from numba.core import cgutils, errors, types
from numba.core.typing import signature
from numba.np import arrayobj

from compiled.active import reverse
from compiled.active.arguments import activated, collect, element_count, fill_active, gradient_kind
from compiled.active import casts  # noqa: F401  (conversions and operators are registered there)
from compiled.active.emitter import Emitter
from compiled.active.numbers import Emission
from compiled.active.preparation import twin
from compiled.active.types import Active, Differential, constant, data_size, depth, differential_of, with_bottom
from compiled.active.workspace import FIRST, LOST, PAIRS, STATEMENTS, acquire, release
from compiled.errors import WorkspaceCapacityError


def base_kind(kinds):
    """What the numbers of a new derivative stand over: the deepest kind among the arguments, or float64."""
    found = [d for d in map(differential_of, kinds) if d is not None]
    return with_bottom(max(found, key=depth), types.float64) if found else types.float64


class Gradient(Emitter):
    """Value and gradient by statements and one sweep: called with the arguments of the function.

    Parameters
    ----------
    function : Dispatcher
        The jitted function.
    argnums : tuple of int
        Which arguments are differentiated.
    """

    def __init__(self, function, argnums, name="tape.grad"):
        self.function, self.argnums, self.name = function, argnums, name

    def __repr__(self):
        return f"{self.name}({self.function.__name__}, {self.argnums})"

    def _types(self, typingctx, args):
        base = base_kind(args)
        inner = list(args)
        for k in self.argnums:
            inner[k] = activated(args[k], base, Active, self.name, k)
        call = types.Dispatcher(twin(self.function)).get_call_type(typingctx, tuple(inner), {})
        return base, tuple(inner), call

    def signature(self, typingctx, args):
        """See `Emitter`."""
        base, _, call = self._types(typingctx, args)
        result = call.return_type
        value = _value_kind(result, base, self)
        gradients = [gradient_kind(args[k], base) for k in self.argnums]
        return signature(types.Tuple([value, *gradients]), *args)

    def emit(self, context, builder, signature, args):
        """See `Emitter`."""
        base, inner, call = self._types(context.typing_context, signature.args)
        excinfo = context.call_conv._get_excinfo_argument(builder.function)
        workspace = acquire(context, builder, base)
        with builder.if_then(cgutils.is_null(builder, workspace.address), likely=False):
            context.call_conv.return_user_exc(builder, RuntimeError, ("tape: too many derivatives at work at one time",))
        total = constant(0)
        for k in self.argnums:
            total = builder.add(total, element_count(context, builder, signature.args[k], args[k]))
        word = workspace.push_inputs(total, base)
        workspace.store(FIRST, workspace.load(STATEMENTS))
        values, starts = list(args), {}
        workspace_room(context, builder, workspace, total, base)
        for k in self.argnums:
            starts[k] = word
            values[k], word = fill_active(context, builder, workspace, signature.args[k], args[k], inner[k], word)
        dispatcher = twin(self.function)
        overload = dispatcher.overloads[call.args]
        context.add_linking_libs([overload.library])
        cast = [context.cast(builder, v, a, b) for v, a, b in zip(values, inner, call.args, strict=True)]
        status, result = context.call_internal_no_propagate(builder, overload.fndesc, call, cast)
        with builder.if_then(status.is_error, likely=False):
            release(workspace)
            context.call_conv.return_status_propagate(builder, status)
        with builder.if_then(builder.icmp_unsigned("!=", workspace.load(LOST), constant(0)), likely=False):
            self._raise_capacity(context, builder, workspace, base)
        value, gradients = self._swept(context, builder, workspace, base, call.return_type, result, signature, args, starts,
                                       excinfo)
        release(workspace)
        return context.make_tuple(builder, signature.return_type, [value, *gradients])

    def _raise_capacity(self, context, builder, workspace, base):
        pairs = builder.add(workspace.load(LOST), workspace.load(PAIRS))
        needed = builder.mul(pairs, constant(data_size(context, base) + 5))
        release(workspace)
        context.call_conv.return_dynamic_user_exc(builder, WorkspaceCapacityError, (needed,), (types.int64,))

    def _swept(self, context, builder, workspace, base, kind, result, signature, args, starts, excinfo):
        emission = Emission(context, builder)
        result_base = signature.return_type.types[0]
        with_memory = reverse.make_adjoints(workspace, base)
        with builder.if_then(builder.not_(with_memory), likely=False):
            release(workspace)
            context.call_conv.return_user_exc(builder, MemoryError, ("tape: no memory for the adjoints",))
        if isinstance(kind, Active):
            number = emission.number(kind, result)
            value = emission.value(result_base, number.primal)
            adjoints = reverse.Adjoints(emission, workspace, base)
            adjoints.store(builder.and_(number.cell, constant(0xFFFFFFFF)), 1.0)
            status = reverse.sweep(context, builder, workspace, base, excinfo)
            with builder.if_then(builder.icmp_signed("!=", status, ir.Constant(status.type, 0)), likely=False):
                reverse.clear(workspace)
                release(workspace)
                builder.ret(status)
        else:
            value = result
        gradients = [collect(emission, workspace, base, signature.args[k], args[k], gradient_kind(signature.args[k], base),
                             starts[k])[0] for k in self.argnums]
        return value, gradients


def _value_kind(result, base, derivative):
    """Type of the value proper of a scalar result."""
    if isinstance(result, Active) and (depth(result) == 1 or True):
        return result.base
    if isinstance(result, types.Float):
        return result
    raise errors.TypingError(f"{derivative.name}: expected a function whose result is one float, got {result}; "
                             "use tape.jacobian or tape.vjp for other results")


def workspace_room(context, builder, workspace, total, base):
    """Make room for the arrays of inputs."""
    from compiled.active.arguments import make_arena

    make_arena(context, builder, workspace, total, base)


__all__ = ["Differential", "Gradient", "arrayobj"]
