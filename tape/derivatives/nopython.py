"""`tape.jvp` and `tape.vjp` as jitted code calls them; loaded with these names, as a program may hand them to Numba."""

from __future__ import annotations

from numba.core import types
from numba.extending import overload

from compiled.active.preparation import original_of
from compiled.active.pullbacks import MakePullback, PushTangents
from tape.derivatives.products import jvp, vjp


@overload(jvp)
def _jvp_in_nopython(f, primals, tangents):
    if not isinstance(f, types.Dispatcher):
        return None
    push = PushTangents(original_of(f.dispatcher))
    return lambda f, primals, tangents: push(primals, tangents)


@overload(vjp)
def _vjp_in_nopython(f, *primals):
    if not isinstance(f, types.Dispatcher):
        return None
    make = MakePullback(original_of(f.dispatcher))

    def value_and_pullback(f, *primals):
        return make(primals)

    return value_and_pullback
