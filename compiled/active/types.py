"""The Numba types: `Active` (writes a list of linear statements), `Dual` (carries tangents), `Recorded` (writes instructions).

Each stands over a base: a float type, or another of them, so that derivatives nest: the number at the top belongs to the
innermost derivative. What is not here: what operations do (`numbers.py`).
"""

from __future__ import annotations

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.typeconv import Conversion
from numba.extending import models, register_model


class Differential(types.Type):
    """A number over `base` that carries derivatives; base of the three."""

    def __init__(self, base, name):
        self.base = base
        super().__init__(name)

    @property
    def depth(self) -> int:
        """How many derivatives are nested here."""
        return 1 + (self.base.depth if isinstance(self.base, Differential) else 0)

    @property
    def bottom(self):
        """The float type that holds the value proper."""
        return bottom(self.base)

    def over(self, base) -> Differential:
        """The same kind of number over another base."""
        raise NotImplementedError

    def unify(self, typingctx, other):
        other = types.unliteral(other)
        if isinstance(other, Differential) or is_number(other):
            return join(self, other)
        return None

    def can_convert_from(self, typingctx, other):
        other = types.unliteral(other)
        if not isinstance(other, Differential) and not is_number(other):
            return None
        joined = join(self, other)
        if joined == self:
            return Conversion.safe
        # As NumPy does when it stores float64 numbers into a float32 array.
        return Conversion.unsafe if joined is not None and with_bottom(joined, self.bottom) == self else None


class Active(Differential):
    """A value and the word of its cell: the list's number above, the cell's below; 0 for a constant."""

    def __init__(self, base):
        super().__init__(base, f"active({base})")

    def over(self, base):
        return Active(base)


class Dual(Differential):
    """A value and `width` tangents."""

    def __init__(self, base, width):
        self.width = width
        super().__init__(base, f"dual({base}, {width})")

    def over(self, base):
        return Dual(base, self.width)


class Recorded(Differential):
    """A value and the word of its cell in a list of table instructions."""

    def __init__(self, base):
        super().__init__(base, f"recorded({base})")

    def over(self, base):
        return Recorded(base)


def is_number(kind) -> bool:
    """Whether a Numba type is a plain real number."""
    return isinstance(kind, (types.Float, types.Integer, types.Boolean))


def bottom(kind):
    """The float type at the bottom of a number's type; integers count as float64."""
    if isinstance(kind, Differential):
        return bottom(kind.base)
    return kind if isinstance(kind, types.Float) else types.float64


def with_bottom(kind, float_type):
    """The type with another float type at its bottom."""
    return kind.over(with_bottom(kind.base, float_type)) if isinstance(kind, Differential) else float_type


def join(first, second):
    """The type that holds numbers of both types, or None."""
    if not isinstance(first, Differential) and not isinstance(second, Differential):
        if types.float64 in (bottom(first), bottom(second)):
            return types.float64
        return types.float32
    deeper, other = (first, second) if depth(first) >= depth(second) else (second, first)
    if depth(deeper) > depth(other):
        base = join(deeper.base, other)
        return None if base is None else deeper.over(base)
    if type(deeper) is not type(other) or getattr(deeper, "width", 0) != getattr(other, "width", 0):
        return None
    base = join(deeper.base, other.base)
    return None if base is None else deeper.over(base)


def depth(kind) -> int:
    """How many derivatives are nested in a number's type; 0 for a plain number, or None."""
    return kind.depth if isinstance(kind, Differential) else 0


def differential_of(kind):
    """The deepest `Differential` inside a type (an array's, a tuple's), or None."""
    if isinstance(kind, Differential):
        return kind
    if isinstance(kind, types.Array):
        return differential_of(kind.dtype)
    if isinstance(kind, (types.BaseTuple,)):
        found = [d for d in map(differential_of, kind.types) if d is not None]
        return max(found, key=depth, default=None)
    return None


@register_model(Active)
@register_model(Recorded)
class _CellModel(models.StructModel):
    """What an active number is in registers and in arrays."""

    def __init__(self, manager, kind):
        super().__init__(manager, kind, [("value", kind.base), ("cell", types.uint64)])


@register_model(Dual)
class _DualModel(models.StructModel):
    """What a dual number is in registers and in arrays: the tangents one after the other."""

    def __init__(self, manager, kind):
        members = [("value", kind.base)] + [(f"tangent{k}", kind.base) for k in range(kind.width)]
        super().__init__(manager, kind, members)


I8, I32, I64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)


def constant(value: int):
    """A 64-bit word."""
    return ir.Constant(I64, value)


def data_size(context, kind) -> int:
    """Bytes of a number in an array."""
    return context.get_abi_sizeof(context.get_data_type(kind))


def proxy(context, builder, kind, value=None):
    """Numba's view of a struct value by its members' names."""
    return cgutils.create_struct_proxy(kind)(context, builder, value=value)
