"""Which functions of Python, `math` and NumPy are which instruction, for numbers in jitted code.

What is not here: their values (Numba's own) and partials (the table's).
"""

from __future__ import annotations

import math
import operator

import numpy as np

from compiled.table.instructions import TABLE

FLOOR_DIVIDE = "floor_divide"
"""What stands for a row of that name, which the table has not: the derivative is zero, and a list takes div and floor."""


def _functions() -> dict:
    """Every elementwise function with a row of the table."""
    found = {getattr(np, name): row for name, row in TABLE.ufuncs.items() if isinstance(getattr(np, name, None), np.ufunc)}
    same_name = {"acos": "arccos", "acosh": "arccosh", "asin": "arcsin", "asinh": "arcsinh", "atan": "arctan",
                 "atan2": "arctan2", "atanh": "arctanh", "fmod": "fmod", "remainder": None, "pow": "pow", "fabs": "abs",
                 "degrees": "rad2deg", "radians": "deg2rad", "lgamma": "gammaln",
                 "floor": None, "ceil": None, "trunc": None}
    for name in dir(math):
        row = same_name.get(name, name)
        if row in TABLE.opcode and row not in ("max", "min"):
            found[getattr(math, name)] = row
    found |= {abs: "abs", max: "max", min: "min", pow: "pow"}
    operators = {"add": "add", "sub": "sub", "mul": "mul", "truediv": "div", "pow": "pow", "mod": "mod"}
    for name, row in operators.items():
        if row in TABLE.opcode:
            found[getattr(operator, name)] = found[getattr(operator, f"i{name}")] = row
    found |= dict.fromkeys((operator.floordiv, operator.ifloordiv, np.floor_divide), FLOOR_DIVIDE)
    found |= {operator.neg: "neg", operator.pos: "copy"}
    return found


FUNCTIONS = _functions()
"""Function to the name of its row."""

IN_PLACE = {operator.iadd: operator.add, operator.isub: operator.sub, operator.imul: operator.mul,
            operator.itruediv: operator.truediv, operator.ipow: operator.pow, operator.imod: operator.mod,
            operator.ifloordiv: operator.floordiv}
"""Augmented operators."""

COMPARISONS = {operator.lt: "lt", operator.le: "le", operator.gt: "gt", operator.ge: "ge", operator.eq: "eq", operator.ne: "ne",
               np.less: "lt", np.less_equal: "le", np.greater: "gt", np.greater_equal: "ge", np.equal: "eq", np.not_equal: "ne"}
"""Functions whose result is a plain truth value, and the rows that a recorded list compares with."""

for _function in COMPARISONS:
    FUNCTIONS.pop(_function, None)

TESTS = {bool, operator.truth, operator.not_, math.isnan, math.isinf, math.isfinite, np.isnan, np.isinf, np.isfinite,
         np.signbit, np.logical_and, np.logical_or, np.logical_not, np.logical_xor}
"""Further functions with a plain truth value; a recorded list guards the value itself."""

FUNCTIONS.pop(np.clip, None)  # no function of single numbers in nopython mode; `arrays.py` has it

for _function in TESTS:
    FUNCTIONS.pop(_function, None)

INTEGERS = {int, math.floor, math.ceil, math.trunc, round}
"""Functions with a whole number as their result; a recorded list guards the result."""

PLAIN = {*COMPARISONS, *TESTS, *INTEGERS}
"""All functions whose result carries no derivative."""

SAME = {float, np.float64}
"""Functions that leave a float64 as it is."""

ROUNDING = {np.float32}
"""Functions that round a number to another float type."""

FUNCTIONS |= dict.fromkeys(ROUNDING, "copy")

ELEMENTWISE = {*FUNCTIONS, *PLAIN, *SAME}
"""All that a statement may be made of."""
