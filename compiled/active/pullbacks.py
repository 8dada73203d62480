"""`tape.jvp` and `tape.vjp` in nopython mode: the value with a tangent, and the value with a function that pulls back.

The function that `tape.vjp` returns is a value of its own Numba type: copies of the arguments. Each call records the function
anew and sweeps back, so it needs no memory between the calls, and may be called from any thread.
"""

from __future__ import annotations

from numba.core import types
from numba.core.typing import signature
from numba.extending import models, register_model

from compiled.active.arguments import Walk, gradient_kind, in_heap
from compiled.active.derivatives import Pullback, Pushforward
from compiled.active.emitter import Emitter
from compiled.active.numbers import Emission
from compiled.active.preparation import twin
from compiled.active.types import differential_of, proxy, with_bottom


class PullbackFunctionType(types.Callable):
    """The type of a pullback: the function and the types of the arguments that it keeps."""

    def __init__(self, function, kinds):
        self.function, self.kinds = function, tuple(kinds)
        self.pullback = Pullback(function, tuple(range(len(kinds))), "tape.vjp")
        self.call = PullbackCall(self)
        super().__init__(f"pullback({function.__name__}, {self.kinds}, {id(function)})")

    def get_call_type(self, context, args, kws):
        if kws or len(args) != 1:
            return None
        made = self.pullback.signature(context, (*self.kinds, args[0])).return_type
        return signature(types.Tuple(made.types[1:]), *args).replace(recvr=self)

    def get_call_signatures(self):
        return (), True

    def get_impl_key(self, sig):
        return self.call.implementation_key(sig)


@register_model(PullbackFunctionType)
class _PullbackModel(models.StructModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, [("arguments", types.Tuple(kind.kinds))])


class PullbackCall(Emitter):
    """A call of a pullback with a seed."""

    def __init__(self, kind):
        self.kind = kind

    def emit(self, context, builder, signature, args):
        """See `Emitter`."""
        struct = proxy(context, builder, self.kind, args[0])
        kept = [builder.extract_value(struct.arguments, k) for k in range(len(self.kind.kinds))]
        call = self.kind.pullback.signature(context.typing_context, (*self.kind.kinds, signature.args[1]))
        result = self.kind.pullback.emit(context, builder, call, [*kept, args[1]])
        context.nrt.decref(builder, call.return_type.types[0], builder.extract_value(result, 0))
        parts = [builder.extract_value(result, k) for k in range(1, len(call.return_type))]
        return context.make_tuple(builder, signature.return_type, parts)


class MakePullback(Emitter):
    """(value, pullback): called with the primals in a tuple."""

    def __init__(self, function):
        self.function = function

    def __repr__(self):
        return f"vjp({self.function.__name__})"

    def _parts(self, typingctx, kinds):
        plain = [types.unliteral(k) for k in kinds.types]
        base = differential_of(types.Tuple(plain))
        function = types.Dispatcher(self.function if base is None else twin(self.function))
        over = with_bottom(base, types.float64) if base is not None else types.float64
        kept = [gradient_kind(k, over) for k in plain]
        return function, plain, kept

    def signature(self, typingctx, args):
        """See `Emitter`."""
        function, plain, kept = self._parts(typingctx, args[0])
        value = function.get_call_type(typingctx, tuple(plain), {}).return_type
        return signature(types.Tuple([value, PullbackFunctionType(self.function, kept)]), *args)

    def emit(self, context, builder, signature, args):
        """See `Emitter`."""
        function, plain, kept = self._parts(context.typing_context, signature.args[0])
        values = [context.cast(builder, builder.extract_value(args[0], k), kind, wanted)
                  for k, (kind, wanted) in enumerate(zip(signature.args[0].types, plain, strict=True))]
        emission, walk = Emission(context, builder), Walk(context, builder)

        def element(kind, value, made, *_):
            return emission.value(made, emission.number(kind, value))

        # The copies first: the function may change its arguments.
        copies = [walk.make(kind, value, made, element, in_heap(context, builder))
                  for kind, value, made in zip(plain, values, kept, strict=True)]
        call = function.get_call_type(context.typing_context, tuple(plain), {})
        value = context.get_function(function, call)(builder, values)
        struct = proxy(context, builder, signature.return_type.types[1])
        struct.arguments = context.make_tuple(builder, types.Tuple(kept), copies)
        return context.make_tuple(builder, signature.return_type, [value, struct._getvalue()])


class PushTangents(Emitter):
    """(value, tangent): called with the primals in a tuple, and the tangents in another."""

    def __init__(self, function):
        self.function = function

    def __repr__(self):
        return f"jvp({self.function.__name__})"

    def _pushforward(self, count):
        return Pushforward(self.function, tuple(range(count)), "tape.jvp")

    def signature(self, typingctx, args):
        """See `Emitter`."""
        kinds = [types.unliteral(k) for part in args for k in part.types]
        return signature(self._pushforward(len(args[0])).signature(typingctx, tuple(kinds)).return_type, *args)

    def emit(self, context, builder, signature, args):
        """See `Emitter`."""
        kinds, values = [], []
        for part, value in zip(signature.args, args, strict=True):
            for k, kind in enumerate(part.types):
                plain = types.unliteral(kind)
                kinds.append(plain)
                values.append(context.cast(builder, builder.extract_value(value, k), kind, plain))
        pushforward = self._pushforward(len(signature.args[0]))
        call = pushforward.signature(context.typing_context, tuple(kinds))
        return pushforward.emit(context, builder, call, values)

