"""Arguments and results of derivatives: nested tuples of floats and float arrays, element by element.

What is not here: which derivative makes what of an element (`derivatives.py`).
"""

from __future__ import annotations

from numba.core import cgutils, errors, types
from numba.np import arrayobj

from compiled.active.expressions import _View
from compiled.active.types import Differential, bottom, constant, data_size, with_bottom
from compiled.active.workspace import ARENA, ARENA_BYTES, POINTER, TOP, zeroed

MOST_AXES = 4
"""Axes of an array that is differentiated."""


# -------------------------------------------------------------------------------------------------- types


def mapped(kind, change, refuse):
    """The type with `change` applied to its numbers and arrays C-contiguous; `refuse(kind)` raises for anything else."""
    kind = types.unliteral(kind)
    if isinstance(kind, types.Omitted):
        kind = types.float64 if isinstance(kind.value, float) else refuse(kind)
    if isinstance(kind, types.BaseTuple) and len(kind):
        return rebuilt(kind, [mapped(k, change, refuse) for k in kind.types])
    if isinstance(kind, types.Array):
        if not isinstance(kind.dtype, (types.Float, Differential)):
            refuse(kind)
        return types.Array(change(kind.dtype), kind.ndim, "C")
    if isinstance(kind, (types.Float, types.Integer, Differential)) and not isinstance(kind, types.Boolean):
        return change(kind)
    return refuse(kind)


def rebuilt(kind, parts):
    """The tuple type like `kind` with other members."""
    if isinstance(kind, types.BaseNamedTuple):
        if len(set(parts)) == 1:
            return types.NamedUniTuple(parts[0], len(parts), kind.instance_class)
        return types.NamedTuple(parts, kind.instance_class)
    return types.Tuple(parts)


def activated(kind, change, name, position):
    """Type of an argument whose numbers carry derivatives."""
    def refuse(part):
        raise errors.TypingError(f"{name}: argument {position} cannot be differentiated: expected floats, float arrays of 1 to "
                                 f"{MOST_AXES} dimensions or tuples of them, got {part}")

    made = mapped(kind, change, refuse)
    for leaf in leaf_kinds(made):
        if isinstance(leaf, types.Array) and not 1 <= leaf.ndim <= MOST_AXES:
            refuse(kind)
    return made


def gradient_kind(kind, base):
    """Type of the gradient for an argument: its structure, of numbers over `base`."""
    return mapped(kind, lambda k: with_bottom(base, bottom(k)), lambda k: k)


def leaf_kinds(kind) -> list:
    """Types of the numbers and arrays in nested tuples."""
    if isinstance(kind, types.BaseTuple):
        return [leaf for part in kind.types for leaf in leaf_kinds(part)]
    return [kind]


def leaf_values(builder, kind, value) -> list:
    """Values of the numbers and arrays in nested tuples."""
    if isinstance(kind, types.BaseTuple):
        return [leaf for k, part in enumerate(kind.types)
                for leaf in leaf_values(builder, part, builder.extract_value(value, k))]
    return [value]


# -------------------------------------------------------------------------------------------------- values


def element_count(context, builder, kind, value):
    """Number of floats in nested tuples."""
    total = constant(0)
    for leaf, part in zip(leaf_kinds(kind), leaf_values(builder, kind, value), strict=True):
        size = context.make_array(leaf)(context, builder, part).nitems if isinstance(leaf, types.Array) else constant(1)
        total = builder.add(total, size)
    return total


class Walk:
    """A walk over the elements of nested tuples, always in the same order.

    Parameters
    ----------
    context, builder
        Where code is written.
    give_up : callable, optional
        Writes what is to be done before an error is raised, as handing back a workspace.
    """

    def __init__(self, context, builder, give_up=lambda: None):
        self.context, self.builder, self.give_up = context, builder, give_up

    def make(self, kind, value, out_kind, element, allocate, companion=None):
        """Return a value of type `out_kind`, made element by element.

        Parameters
        ----------
        kind, value
            What is walked over.
        out_kind : type
            Of the same structure.
        element : callable
            `element(kind, value, out_kind, companion's kind, companion's value)` returns the element of the result.
        allocate : callable
            `allocate(array kind, shape)` returns a new array.
        companion : (type, value), optional
            Walked over along with it; of the same shapes, or a ValueError is raised when run.
        """
        if isinstance(kind, types.BaseTuple):
            parts = []
            for k, part in enumerate(kind.types):
                beside = None if companion is None else (companion[0].types[k], self.builder.extract_value(companion[1], k))
                item = self.builder.extract_value(value, k)
                parts.append(self.make(part, item, out_kind.types[k], element, allocate, beside))
            return self.context.make_tuple(self.builder, out_kind, parts)
        if not isinstance(kind, types.Array):
            return element(kind, value, out_kind, *(companion or (None, None)))
        source = _View(self.context, self.builder, kind, value)
        result = allocate(out_kind, source.shape)
        target = _View(self.context, self.builder, out_kind, result)

        def each(indices, beside_kind, beside):
            made = element(kind.dtype, source.load(indices), out_kind.dtype, beside_kind, beside)
            target.store(indices, made)

        self._loop(source, each, companion)
        return result

    def visit(self, kind, value, element, companion=None):
        """Call `element(kind, value, companion's kind, companion's value)` for each element."""
        if isinstance(kind, types.BaseTuple):
            for k, part in enumerate(kind.types):
                beside = None if companion is None else (companion[0].types[k], self.builder.extract_value(companion[1], k))
                self.visit(part, self.builder.extract_value(value, k), element, beside)
        elif isinstance(kind, types.Array):
            source = _View(self.context, self.builder, kind, value)

            def each(indices, beside_kind, beside):
                element(kind.dtype, source.load(indices), beside_kind, beside)

            self._loop(source, each, companion)
        else:
            element(kind, value, *(companion or (None, None)))

    def _loop(self, source, each, companion):
        beside = None
        if companion is not None:
            beside = _View(self.context, self.builder, *companion)
            for n, m in zip(source.shape, beside.shape, strict=True):
                with self.builder.if_then(self.builder.icmp_unsigned("!=", n, m), likely=False):
                    self.give_up()
                    message = "tape: the tangent or seed has another shape than what it belongs to"
                    self.context.call_conv.return_user_exc(self.builder, ValueError, (message,))
        with cgutils.loop_nest(self.builder, source.shape, intp=source.shape[0].type) as indices:
            each(indices, *((None, None) if beside is None else (companion[0].dtype, beside.load(indices))))


def in_heap(context, builder):
    """Allocator of arrays that Numba counts references of."""
    def allocate(kind, shape):
        return arrayobj._empty_nd_impl(context, builder, kind, shape)._getvalue()

    return allocate


def in_workspace(context, builder, workspace):
    """Allocator of arrays that live until the workspace is handed back; the room has been made before."""
    def allocate(kind, shape):
        size = data_size(context, kind.dtype)
        start = builder.gep(builder.inttoptr(workspace.load(ARENA), POINTER), [workspace.load(TOP)])
        strides, width = [], constant(size)
        for n in reversed(shape):
            strides.insert(0, width)
            width = builder.mul(width, n)
        workspace.store(TOP, builder.add(workspace.load(TOP), width))
        array = arrayobj.make_array(kind)(context, builder)
        element = context.get_data_type(kind.dtype)
        arrayobj.populate_array(array, data=builder.bitcast(start, element.as_pointer()),
                                shape=cgutils.pack_array(builder, shape), strides=cgutils.pack_array(builder, strides),
                                itemsize=constant(size), meminfo=None, parent=None)
        return array._getvalue()

    return allocate


def make_room(context, builder, workspace, total, kind):
    """Make room for `total` numbers of type `kind` in the workspace; returns whether there is."""
    workspace.store(TOP, constant(0))
    return zeroed(workspace, ARENA, ARENA_BYTES, builder.mul(total, constant(data_size(context, kind))))


class Counter:
    """A word that grows by one at each use."""

    def __init__(self, builder, start):
        self.builder, self.cell = builder, cgutils.alloca_once_value(builder, start)

    def next(self):
        """The word, which is one more after."""
        word = self.builder.load(self.cell)
        self.builder.store(self.builder.add(word, constant(1)), self.cell)
        return word
