"""Callables of nopython mode whose code is emitted by a Python object: typed by a method, no overload resolution."""

from __future__ import annotations

from numba.core import types
from numba.core.imputils import lower_constant
from numba.core.registry import cpu_target
from numba.extending import models, register_model, typeof_impl


class Emitter:
    """Base of such objects. Where jitted code names one, its calls are typed by `signature` and written by `emit`."""

    def signature(self, typingctx, args):
        """Return the Numba signature for arguments of types `args`, or None."""
        raise NotImplementedError

    def emit(self, context, builder, signature, args):
        """Write the call; returns the LLVM value of the result."""
        raise NotImplementedError

    def implementation_key(self, signature):
        """Key under which Numba finds `emit`, which is registered at first use."""
        key = self, signature.args
        context = cpu_target.target_context
        if not context._defns[key].versions:
            context.insert_func_defn([(_Implementation(self, signature), key, signature.args)])
        return key


class _Implementation:
    """What Numba calls to write a call."""

    def __init__(self, emitter, signature):
        self.emitter, self.signature = emitter, signature

    def __call__(self, context, builder, signature, args):
        return self.emitter.emit(context, builder, signature, args)


class EmitterType(types.Callable, types.Opaque):
    """The type of one emitter."""

    def __init__(self, emitter):
        self.emitter = emitter
        super().__init__(f"emitter({emitter!r})")

    @property
    def key(self):
        return id(self.emitter)

    def get_call_type(self, context, args, kws):
        if kws:
            return None
        return self.emitter.signature(context, args)

    def get_call_signatures(self):
        return (), True

    def get_impl_key(self, sig):
        return self.emitter.implementation_key(sig)


register_model(EmitterType)(models.OpaqueModel)


@typeof_impl.register(Emitter)
def _typeof_emitter(value, c):
    return EmitterType(value)


@lower_constant(EmitterType)
def _emitter_constant(context, builder, kind, value):
    return context.get_dummy_value()
