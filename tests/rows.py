"""Rules of the table read with plain floats and with mpmath's numbers, for the tests."""

import mpmath
import numpy as np

from compiled.table.instructions import TABLE
from compiled.table.numbers import Number


class Exact(Number):
    """A number of mpmath that reads rules."""

    def __init__(self, value):
        self.value = value

    def apply(self, name, operands):
        return Exact(exact(name, *(x.value if isinstance(x, Exact) else mpmath.mpf(x) for x in operands)))


PRIMITIVES = {
    "add": lambda x, y: x + y, "sub": lambda x, y: x - y, "mul": lambda x, y: x * y, "div": lambda x, y: x / y,
    "neg": lambda x: -x, "abs": abs, "floor": mpmath.floor, "ceil": mpmath.ceil,
    "trunc": lambda x: mpmath.sign(x) * mpmath.floor(abs(x)), "rint": mpmath.nint, "where": lambda c, x, y: x if c != 0 else y,
    "lt": lambda x, y: x < y, "le": lambda x, y: x <= y, "gt": lambda x, y: x > y, "ge": lambda x, y: x >= y,
    "eq": lambda x, y: x == y, "ne": lambda x, y: x != y,
}


def exact(name, *operands):
    """The value of a row in mpmath's arithmetic: by its `exact`, or by `PRIMITIVES`, or by its rule."""
    row = TABLE[name]
    if row.exact is not None:
        return row.exact(mpmath, *operands)
    if row.name in PRIMITIVES:
        return mpmath.mpf(PRIMITIVES[row.name](*operands))
    result = row.value(*map(Exact, operands))
    return result.value if isinstance(result, Exact) else mpmath.mpf(result)


def read(row, operands):
    """Value and partials by plain floats: arrays of the shape of the operands."""
    values = np.array([TABLE.apply(row.name, *point) for point in zip(*operands, strict=True)], operands[0].dtype)
    with np.errstate(all="ignore"):
        partials = [np.array([partial(*point, out) if partial else 0.0 for *point, out in zip(*operands, values, strict=True)])
                    for partial in row.partials]
    return values, partials
