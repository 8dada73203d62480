"""The NumPy reader of rules: numbers that are arrays, for looking at many places at once.

What is not here: anything for speed; the sweeps have their own reader (`llvm.py`).
"""

from __future__ import annotations

import operator

import numpy as np

from compiled.table.numbers import Number

_COMPARISONS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq, "!=": operator.ne}


class Array(Number):
    """An array that rules take as a number."""

    __slots__ = ("table", "value")

    def __init__(self, value: np.ndarray, table):
        self.value, self.table = value, table

    def apply(self, name, operands):
        row = self.table[name]
        if row.llvm is None:
            return row.value(*operands)
        values = [x.value if isinstance(x, Array) else self.value.dtype.type(x) for x in operands]
        return Array(_primitive(row, values), self.table)


def _primitive(row, values):
    """The value of a primitive row, whose rule is one of NumPy or of single numbers."""
    emit, _, argument = row.llvm.partition(":")
    if emit == "compare":
        return _COMPARISONS[argument](*values).astype(values[0].dtype)
    if emit == "select":
        return np.where(values[0] != 0.0, *values[1:])
    if isinstance(row.value, np.ufunc):
        return row.value(*values)
    return np.vectorize(row.value, otypes=[values[0].dtype])(*values)


def evaluated(rule, table, *arrays) -> np.ndarray:
    """What a generic rule gives for arrays of one shape, element by element.

    Examples
    --------
    >>> import numpy as np
    >>> from compiled.table.instructions import TABLE
    >>> x = np.array([-1.0, 0.0, 2.0])
    >>> evaluated(TABLE["abs"].partials[0], TABLE, x, np.abs(x))
    array([-1.,  0.,  1.])
    """
    with np.errstate(all="ignore"):
        result = rule(*(Array(x, table) for x in arrays))
    result = result.value if isinstance(result, Array) else result
    return np.broadcast_to(np.asarray(result, arrays[0].dtype), arrays[0].shape)
