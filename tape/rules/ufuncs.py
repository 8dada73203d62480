"""NumPy's and SciPy's ufuncs: which is which row of the table, or which function of rows.

A ufunc that a row names is that row; the others are written here. What is not here: `accumulate` (`cumulative.py`).
"""

from __future__ import annotations

import math

import numpy as np

from compiled.table.instructions import TABLE
from compiled.table.special_powers import MOST_MULTIPLIED, SPECIAL_POWERS, by_squaring
from tape.errors import NotDifferentiable
from tape.recording.arrays import RecordedArray, is_bool, plain, record, recorder_of, result_dtype
from tape.recording.dispatch import UFUNCS, no_rule, records
from tape.recording.integers import computed, is_integral
from tape.rules import contractions
from tape.rules.cumulative import accumulate
from tape.rules.reductions import logsumexp
from tape.rules.writing import ufunc_at, writable, write


@records("ufunc")
def call_ufunc(ufunc, method, inputs, kwargs):
    """Record a NumPy or SciPy ufunc (`__array_ufunc__`)."""
    name = ufunc.__name__
    out = kwargs.pop("out", None)
    recorder_of(inputs)  # refuses arrays of another recording
    if method == "at":
        return ufunc_at(ufunc, *inputs)
    if out is None:
        if method == "__call__" and kwargs.get("where", True) is not True:
            raise NotDifferentiable(f"numpy.{name} with where= but no out=: the other elements would be undefined; nearest: "
                                    "numpy.where on the result")
        return _called(ufunc, method, inputs, kwargs)
    targets = [x if x is None else writable(x, name) for x in out]
    where = kwargs.pop("where", True) if method == "__call__" else True
    result = getattr(ufunc, method)(*inputs, **kwargs)
    if not isinstance(result, tuple):
        return write(targets[0], result, name, where)
    return tuple(x if target is None else write(target, x, name, where) for target, x in zip(targets, result, strict=True))


def _called(ufunc, method, inputs, kwargs):
    name = ufunc.__name__
    if method == "reduce":
        return _reduce(ufunc, *inputs, **kwargs)
    if method == "outer":
        a, b = (plain(x) for x in inputs)
        return ufunc(np.reshape(a, np.shape(a) + (1,) * np.ndim(b)), b)
    if method == "accumulate":
        return accumulate(ufunc, *inputs, **kwargs)
    if method != "__call__":
        raise NotDifferentiable(f"numpy.{name}.{method}: not supported; nearest: numpy.{name} itself, or sum, prod, max, min")
    if set(kwargs) - {"dtype", "casting", "where"}:
        raise NotDifferentiable(f"numpy.{name} with {', '.join(kwargs)}: not supported")
    special, row = UFUNCS.get(name), TABLE.ufuncs.get(name)
    by_value = name in BY_VALUE and not _is_logic(name, inputs) and not _is_small_power(name, inputs)
    if all(map(is_integral, inputs)) and (by_value or (special is None and row is None)):
        return computed(ufunc, inputs, kwargs)
    if special is None and row is None:
        raise no_rule(name)
    result = special(*(plain(x) for x in inputs)) if special is not None else record(row, inputs)
    return result.astype(kwargs["dtype"]) if kwargs.get("dtype") is not None else result


BY_VALUE = ("power", "bitwise_and", "bitwise_or", "bitwise_xor", "invert", "left_shift", "right_shift")
"""Ufuncs of integers that NumPy computes, under a guard on their values."""


def _is_logic(name, inputs):
    """Whether a bitwise function is that of booleans."""
    return name in ("bitwise_and", "bitwise_or", "bitwise_xor", "invert") and all(map(is_bool, inputs))


def _is_small_power(name, inputs):
    """Whether integers are raised to a power that is some multiplications."""
    return name == "power" and type(inputs[1]) is int and 1 <= inputs[1] <= MOST_MULTIPLIED


def _reduce(ufunc, array, axis=0, **kwargs):
    reducers = {"add": np.sum, "multiply": np.prod, "maximum": np.max, "minimum": np.min, "logaddexp": logsumexp,
                "logical_and": np.all, "logical_or": np.any}
    if ufunc.__name__ not in reducers:
        raise NotDifferentiable(f"numpy.{ufunc.__name__}.reduce: not supported; supported: {', '.join(reducers)}")
    return reducers[ufunc.__name__](array, axis=axis, **kwargs)


def _logical(row, name):
    def function(*operands):
        if not all(is_bool(x) for x in operands):
            raise NotDifferentiable(f"numpy.{name} of numbers: expected booleans (comparisons)")
        return record(row, operands)

    return function


def _power(x, y):
    if is_bool(x) and is_integral(y):
        x = x.astype(np.power(np.ones((), bool), y).dtype)
    if isinstance(y, (int, float, np.integer, np.floating)) and not isinstance(x, (int, float)):
        if y in SPECIAL_POWERS:
            return record(SPECIAL_POWERS[y], (x,))
        if y == int(y) if math.isfinite(y) else False:
            n = int(y)
            if 2 <= abs(n) <= MOST_MULTIPLIED and (n > 0 or x.dtype.kind == "f"):
                product = by_squaring(x, abs(n), lambda half: record("square", (half,)), lambda a, b: record("mul", (a, b)))
                return product if n > 0 else record("reciprocal", (product,))
    return record("pow", (x, y))


def _float_power(x, y):
    """NumPy computes this one in double precision whatever the operands are."""
    return _power(*(v if isinstance(v, (int, float)) or v.dtype == np.float64 else v.astype(np.float64) for v in (x, y)))


def _fabs(x):
    result = record("abs", (x,))
    return result if result.dtype.kind == "f" else result.astype(np.float64)


def _reciprocal(x):
    if x.dtype.kind != "f":
        raise NotDifferentiable("numpy.reciprocal of integers would round; nearest: 1 / x")
    return record("reciprocal", (x,))


def _divided(row, x, y):
    """A quotient or remainder; of integers by 0 it is 0, as in NumPy."""
    if not (is_integral(x) and is_integral(y)) or result_dtype(row, (x, y)).kind == "f":
        return record(row, (x, y))
    if not isinstance(y, RecordedArray) and np.all(y):
        return record(row, (x, y))
    zero = np.equal(y, 0)
    divisor = np.where(zero, np.ones((), getattr(y, "dtype", np.int64)), y)
    if isinstance(divisor, RecordedArray):
        divisor.plain_type = getattr(y, "plain_type", None)  # an integer of Python's is as weak as it was
    result = record(row, (x, divisor))
    return np.where(zero, np.zeros((), result.dtype), result)


def _logit(x):
    """Near 1/2, where the logarithm of the quotient would cancel, by the inverse hyperbolic tangent."""
    middle = record("and", (record("lt", (0.3, x)), record("lt", (x, 0.7))))
    near = 2.0 * np.arctanh(2.0 * np.where(middle, x, 0.5) - 1.0)
    return np.where(middle, near, np.log(x) - np.log1p(-x))


def _boxcox(log, x, power):
    """(x**power - 1) / power, also where the power is 0."""
    logarithm = float(log(x)) if isinstance(x, (int, float)) else log(x)  # as weak as x is
    return logarithm * record("exprel", (power * logarithm,))


UFUNCS.update({
    "logit": _logit,
    "log_expit": lambda x: -record("softplus", (-x,)),
    "entr": lambda x: np.where(record("lt", (x, 0.0)), -math.inf, -record("xlogy", (x, x))),
    "cosm1": lambda x: -2.0 * np.square(np.sin(0.5 * x)),
    "boxcox": lambda x, power: _boxcox(np.log, x, power),
    "boxcox1p": lambda x, power: _boxcox(np.log1p, x, power),
    "exp10": lambda x: record("pow", (10.0, x)),
    "power": _power,
    "float_power": _float_power,
    "fabs": _fabs,
    "reciprocal": _reciprocal,
    "floor_divide": lambda x, y: _divided("floor_divide", x, y),
    "remainder": lambda x, y: _divided("mod", x, y),
    "fmod": lambda x, y: _divided("fmod", x, y),
    "bitwise_and": _logical("and", "bitwise_and"),
    "bitwise_or": _logical("or", "bitwise_or"),
    "bitwise_xor": _logical("xor", "bitwise_xor"),
    "invert": _logical("not", "invert"),
    "isnan": lambda x: record("ne", (x, x)),
    "isfinite": lambda x: record("lt", (record("abs", (x,)), math.inf)),
    "isinf": lambda x: record("eq", (record("abs", (x,)), math.inf)),
    "matmul": lambda a, b: contractions.matmul(a, b),
    "vecdot": lambda a, b: np.sum(a * b, axis=-1),
    "conjugate": lambda x: x,
})
