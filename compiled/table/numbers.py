"""Numbers that a rule can be read with, whatever they do with it.

What is here: `Number`, whose operators arrive as table instructions; `WithTangent`, a number with its tangent over any reader;
and the two sums and products that leave out what is known to be zero.
"""

import math
from typing import Any


class Number:
    """Base of whatever can stand in a rule: operators and table functions arrive in `apply(name, operands)`."""

    __slots__ = ()

    def apply(self, name: str, operands: tuple) -> Any:
        """Return instruction `name` applied to `operands`, of which at least one is of this class."""
        raise NotImplementedError

    def in_double(self, function, operands: tuple) -> Any:
        """Return `function` of the operands with intermediate results of double precision, in the operands' precision.

        Readers that only look at a rule, or write it down, have no precision.
        """
        return function(*operands)

    def __add__(self, other):
        return self.apply("add", (self, other))

    def __radd__(self, other):
        return self.apply("add", (other, self))

    def __sub__(self, other):
        return self.apply("sub", (self, other))

    def __rsub__(self, other):
        return self.apply("sub", (other, self))

    def __mul__(self, other):
        return self.apply("mul", (self, other))

    def __rmul__(self, other):
        return self.apply("mul", (other, self))

    def __truediv__(self, other):
        return self.apply("div", (self, other))

    def __rtruediv__(self, other):
        return self.apply("div", (other, self))

    def __neg__(self):
        return self.apply("neg", (self,))


class WithTangent(Number):
    """A number and its tangent, over any reader: the rules' own partials carry the tangent along."""

    __slots__ = ("primal", "table", "tangent")

    def __init__(self, primal, tangent, table):
        self.primal, self.tangent, self.table = primal, tangent, table

    def apply(self, name, operands):
        primals = [x.primal if isinstance(x, WithTangent) else x for x in operands]
        value, row = self.table.apply(name, *primals), self.table[name]
        tangent = 0.0
        for x, partial in zip(operands, row.partials, strict=True):
            if partial is not None and isinstance(x, WithTangent):
                tangent = plus(tangent, product(self.table, x.tangent, partial(*primals, value)))
        return WithTangent(value, tangent, self.table)


def is_constant(x, value=None) -> bool:
    """Whether `x` is a plain number (equal to `value`)."""
    return not isinstance(x, Number) and (value is None or x == value)


def plus(x, y):
    """`x + y`, leaving out what is known to be zero."""
    if is_constant(x, 0.0):
        return y
    return x if is_constant(y, 0.0) else x + y


def product(table, flow, partial):
    """`flow * partial` of an adjoint or a tangent, where an exact zero on either side contributes nothing.

    The rule is the row `adjoint_product` of the table; here it is left out where a factor is known to be neither zero nor
    infinite.
    """
    if is_constant(flow, 0.0) or is_constant(partial, 0.0):
        return 0.0
    if is_constant(partial) and math.isfinite(partial):
        return flow if partial == 1.0 else -flow if partial == -1.0 else flow * partial
    if is_constant(flow) and math.isfinite(flow):
        return partial if flow == 1.0 else -partial if flow == -1.0 else flow * partial
    return table.apply("adjoint_product", flow, partial)
