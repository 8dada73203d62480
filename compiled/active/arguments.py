"""Arguments and results of derivatives: plain values become numbers that carry derivatives, adjoints become gradients.

Arrays of such numbers stand in the workspace, so that a call allocates nothing but its results.
"""

from __future__ import annotations

from llvmlite import ir
from numba.core import cgutils, errors, types
from numba.np import arrayobj

from compiled.active.expressions import _View
from compiled.active.numbers import Emission
from compiled.active.reverse import Adjoints
from compiled.active.types import Differential, bottom, constant, data_size, proxy, with_bottom
from compiled.active.workspace import ARENA, ARENA_BYTES, POINTER, TOP, zeroed


def activated(kind, base, make, name, position):
    """Type of an argument of type `kind` once it carries derivatives over `base`; `make` is the number's class."""
    kind = types.unliteral(kind)
    if isinstance(kind, (types.Float, Differential)):
        return make(with_bottom(base, bottom(kind)))
    if isinstance(kind, types.Array) and isinstance(kind.dtype, (types.Float, Differential)) and kind.ndim <= 4:
        return types.Array(activated(kind.dtype, base, make, name, position), kind.ndim, "C")
    if isinstance(kind, types.BaseTuple) and len(kind):
        return rebuilt(kind, [activated(k, base, make, name, position) for k in kind.types])
    raise errors.TypingError(f"{name}: argument {position} cannot be differentiated: expected floats, float arrays of 1 to 4 "
                             f"dimensions or tuples of them, got {kind}")


def rebuilt(kind, parts):
    """The tuple type like `kind` with other members."""
    if isinstance(kind, types.BaseNamedTuple):
        return types.NamedTuple(parts, kind.instance_class) if len(set(parts)) > 1 else types.NamedUniTuple(
            parts[0], len(parts), kind.instance_class)
    return types.Tuple(parts)


def gradient_kind(kind, base):
    """Type of the gradient for an argument."""
    kind = types.unliteral(kind)
    if isinstance(kind, types.BaseTuple):
        return rebuilt(kind, [gradient_kind(k, base) for k in kind.types])
    if isinstance(kind, types.Array):
        return types.Array(with_bottom(base, bottom(kind.dtype)), kind.ndim, "C")
    return with_bottom(base, bottom(kind))


def element_count(context, builder, kind, value):
    """Number of floats in an argument."""
    if isinstance(kind, types.BaseTuple):
        total = constant(0)
        for k, part in enumerate(kind.types):
            total = builder.add(total, element_count(context, builder, part, builder.extract_value(value, k)))
        return total
    if isinstance(kind, types.Array):
        return context.make_array(kind)(context, builder, value).nitems
    return constant(1)


def make_arena(context, builder, workspace, total, base):
    """Make room for `total` numbers over `base` in the workspace; raises MemoryError when run where there is none."""
    size = data_size(context, base) + 8
    there = zeroed(workspace, ARENA, ARENA_BYTES, builder.mul(total, constant(size)))
    with builder.if_then(builder.not_(there), likely=False):
        context.call_conv.return_user_exc(builder, MemoryError, ("tape: no memory for the arguments",))


def fill_active(context, builder, workspace, kind, value, made, word):
    """Return the argument as numbers of type `made`, whose cells begin at `word`, and the word after the last."""
    emission = Emission(context, builder)
    if isinstance(kind, types.BaseTuple):
        parts = []
        for k, part in enumerate(kind.types):
            filled, word = fill_active(context, builder, workspace, part, builder.extract_value(value, k), made.types[k], word)
            parts.append(filled)
        return context.make_tuple(builder, made, parts), word
    if isinstance(kind, types.Array):
        return _filled_array(emission, workspace, kind, value, made, word)
    return _number(emission, kind, value, made, word), builder.add(word, constant(1))


def _number(emission, kind, value, made, word):
    struct = proxy(emission.context, emission.builder, made)
    struct.value = emission.value(made.base, emission.number(kind, value))
    struct.cell = word
    return struct._getvalue()


def _filled_array(emission, workspace, kind, value, made, word):
    context, builder = emission.context, emission.builder
    source = _View(context, builder, kind, value)
    size = data_size(context, made.dtype)
    start = builder.gep(builder.inttoptr(workspace.load(ARENA), POINTER), [workspace.load(TOP)])
    workspace.store(TOP, builder.add(workspace.load(TOP), builder.mul(source.array.nitems, constant(size))))
    array = arrayobj.make_array(made)(context, builder)
    element = context.get_data_type(made.dtype)
    strides, width = [], constant(size)
    for n in reversed(source.shape):
        strides.insert(0, width)
        width = builder.mul(width, n)
    arrayobj.populate_array(array, data=builder.bitcast(start, element.as_pointer()),
                            shape=cgutils.pack_array(builder, source.shape), strides=cgutils.pack_array(builder, strides),
                            itemsize=constant(size), meminfo=None, parent=None)
    target = _View(context, builder, made, array._getvalue())
    cursor = cgutils.alloca_once_value(builder, word)
    with cgutils.loop_nest(builder, source.shape, intp=source.shape[0].type) as indices:
        here = builder.load(cursor)
        target.store(indices, _number(emission, kind.dtype, source.load(indices), made.dtype, here))
        builder.store(builder.add(here, constant(1)), cursor)
    return array._getvalue(), builder.load(cursor)


def collect(emission, workspace, base, kind, value, gradient, word):
    """Return the adjoints of an argument's cells from `word` on, in its form, and the word after; the cells are zero then."""
    context, builder = emission.context, emission.builder
    if isinstance(kind, types.BaseTuple):
        parts = []
        for k, part in enumerate(kind.types):
            collected, word = collect(emission, workspace, base, part, builder.extract_value(value, k), gradient.types[k], word)
            parts.append(collected)
        return context.make_tuple(builder, gradient, parts), word
    adjoints = Adjoints(emission, workspace, base)
    if not isinstance(kind, types.Array):
        number = adjoints.take(builder.and_(word, constant(0xFFFFFFFF)))
        return emission.value(gradient, number), builder.add(word, constant(1))
    source = _View(context, builder, kind, value)
    array = arrayobj._empty_nd_impl(context, builder, gradient, source.shape)
    target = _View(context, builder, gradient, array._getvalue())
    cursor = cgutils.alloca_once_value(builder, word)
    with cgutils.loop_nest(builder, source.shape, intp=source.shape[0].type) as indices:
        here = builder.load(cursor)
        number = adjoints.take(builder.and_(here, constant(0xFFFFFFFF)))
        target.store(indices, emission.value(gradient.dtype, number))
        builder.store(builder.add(here, constant(1)), cursor)
    return array._getvalue(), builder.load(cursor)


__all__ = ["ir"]
