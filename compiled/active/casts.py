"""Conversions between numbers, and the operators as Numba's own code (not prepared by us) meets them."""

from __future__ import annotations

import operator

from numba.core import errors, types
from numba.core.imputils import lower_cast, lower_getattr
from numba.core.typing.templates import AbstractTemplate, AttributeTemplate, infer_getattr, infer_global
from numba.extending import overload

from compiled.active.expressions import Expression, leaf, refusal
from compiled.active.functions import COMPARISONS, ELEMENTWISE, IN_PLACE
from compiled.active.numbers import Emission
from compiled.active.statements import folded
from compiled.active.types import Differential, bottom, depth, differential_of


@lower_cast(types.Float, Differential)
@lower_cast(types.Integer, Differential)
@lower_cast(types.Boolean, Differential)
@lower_cast(Differential, Differential)
def _cast(context, builder, from_kind, to_kind, value):
    emission = Emission(context, builder)
    return emission.value(to_kind, emission.number(from_kind, value))


def _written_out(name, parameters, result):
    """The function whose one expression is written out for a tuple of a known length."""
    space = {}
    exec(f"def {name}({parameters}):\n    return {result}\n", space)
    return space[name]


def _is_tuple_of_them(values, *others) -> bool:
    return isinstance(values, types.BaseTuple) and len(values) > 1 and any(map(differential_of, [*values, *others]))


@overload(operator.contains)
def _contains(values, item):
    """Whether a tuple holds a number, where either carries derivatives: Numba's own knows its own numbers only."""
    if _is_tuple_of_them(values, item):
        return _written_out("contains", "values, item", " or ".join(f"values[{k}] == item" for k in range(len(values))))


def _extreme_of_tuple(function):
    @overload(function)
    def _extreme(values):
        if _is_tuple_of_them(values):
            items = ", ".join(f"values[{k}]" for k in range(len(values)))
            return _written_out("extreme", "values", f"{function.__name__}({items})")


_extreme_of_tuple(min)
_extreme_of_tuple(max)


@infer_getattr
class _Parts(AttributeTemplate):
    """The real part of a number is itself, the imaginary one a plain 0, as Numba has it for floats."""

    key = Differential

    def resolve_real(self, kind):
        return kind

    def resolve_imag(self, kind):
        return bottom(kind)


@lower_getattr(Differential, "real")
def _real(context, builder, kind, value):
    return value


@lower_getattr(Differential, "imag")
def _imag(context, builder, kind, value):
    return context.get_constant(bottom(kind), 0.0)


def _register(function):
    """Type and lower one function for numbers that carry derivatives, a statement for each call."""
    expressions = {}

    class Template(AbstractTemplate):
        key = function

        def generic(self, args, kws):
            if kws or not any(map(differential_of, args)):
                return None
            if any(isinstance(getattr(k, "dtype", types.unliteral(k)), types.Complex) for k in args):
                raise errors.TypingError(f"tape: {getattr(function, '__name__', function)} of a number that is being "
                                         "differentiated and a complex one: only real numbers have derivatives here")
            if len(args) not in expressions:
                expressions[len(args)] = Expression(folded(function, [leaf(k) for k in range(len(args))]),
                                                    in_place=function in IN_PLACE)
            if not all(isinstance(k, Differential) or isinstance(types.unliteral(k), (types.Number, types.Boolean, types.Array))
                       for k in args):
                return None
            return expressions[len(args)].signature(self.context, args)

        def get_impl_key(self, sig):
            return expressions[len(sig.args)].implementation_key(sig)

    Template.__name__ = f"Differential_{getattr(function, '__name__', function)}"
    infer_global(function)(Template)


for _function in sorted({*ELEMENTWISE, *COMPARISONS} - {int, float, bool, round}, key=repr):
    if not isinstance(_function, type):
        _register(_function)


@infer_global(operator.setitem)
class _Refusal(AbstractTemplate):
    """Says why a number that carries derivatives cannot be stored into an array of plain ones."""

    def generic(self, args, kws):
        array, _, value = args
        plain = isinstance(array, types.Array) and differential_of(array) is None
        if plain and depth(differential_of(value)) > depth(differential_of(array)):
            raise errors.TypingError(refusal(array))
