"""Integers and booleans of recorded arrays, as NumPy and Python have them.

What is here: the bounds that a recording keeps of the integers in its cells, and what is done where a result may lie beyond
them. Cells are floats: they hold integers up to 2**53 (2**24 in float32) exactly. A result that provably lies within that
range is an instruction like any other; where it only happens to, a guard says so; where it does not, its operands become
constants of the list, under a guard that asks for their values, and NumPy (or Python) computes it. Narrow integers wrap by
arithmetic of the list. What is not here: how an instruction is written (`arrays.py`).
"""

from __future__ import annotations

import operator

import numpy as np

from tape.recording.recorded import Recorded

Interval = tuple[int, int]


def exact_limit(dtype) -> int:
    """Up to which magnitude cells of `dtype` hold every integer."""
    return 2 ** (np.finfo(dtype).nmant + 1)


def interval_of(array) -> Interval:
    """Least and greatest of plain integers or booleans."""
    if isinstance(array, int):
        return int(array), int(array)
    return (int(array.min()), int(array.max())) if np.size(array) else (0, 0)


def fits(array, dtype) -> bool:
    """Whether plain integers are exact in cells of `dtype`."""
    low, high = interval_of(array)
    return max(high, -low) <= exact_limit(dtype)


def bounds_of_argument(array, dtype, tight=True) -> Interval | None:
    """What a list takes for granted of an integer argument: bounds around its values now; None where cells cannot hold it.

    They are wide, so that other indices and labels do not make the function be recorded again; all that cells hold unless
    `tight`.
    """
    low, high = interval_of(array)
    kind = getattr(array, "dtype", np.dtype(np.int64))
    if kind.kind == "b":
        return 0, 1
    kind = np.iinfo(kind)
    for bound in sorted({2**24 if tight else exact_limit(dtype), exact_limit(dtype)}):
        if bound <= exact_limit(dtype) and max(high, -low) <= bound:
            return max(-bound, int(kind.min)), min(bound, int(kind.max))
    return None


# ---------------------------------------------------------------------- intervals of results


def _product(a, b):
    corners = [x * y for x in a for y in b]
    return min(corners), max(corners)


def _absolute(a):
    return (0 if a[0] <= 0 <= a[1] else min(abs(a[0]), abs(a[1]))), max(abs(a[0]), abs(a[1]))


def _union(*intervals):
    return min(a[0] for a in intervals), max(a[1] for a in intervals)


def _quotient(a, b):
    largest = max(abs(a[0]), abs(a[1]))
    return (0 if a[0] >= 0 and b[0] >= 0 else -largest), largest


def _remainder(a, b):
    largest = max(abs(b[0]), abs(b[1]))
    return (0 if b[0] >= 0 else -largest), (0 if b[1] <= 0 else largest)


def _same(a, *_):
    return a


INTERVALS = {
    "add": lambda a, b: (a[0] + b[0], a[1] + b[1]), "sub": lambda a, b: (a[0] - b[1], a[1] - b[0]), "mul": _product,
    "neg": lambda a: (-a[1], -a[0]), "abs": _absolute, "square": lambda a: _absolute(_product(a, a)),
    "max": lambda a, b: (max(a[0], b[0]), max(a[1], b[1])), "min": lambda a, b: (min(a[0], b[0]), min(a[1], b[1])),
    "fmax": lambda a, b: (max(a[0], b[0]), max(a[1], b[1])), "fmin": lambda a, b: (min(a[0], b[0]), min(a[1], b[1])),
    "where": lambda c, a, b: _union(a, b), "clip": lambda a, b, c: _union(a, b, c), "sign": lambda a: (-1, 1),
    "copy": _same, "stop": _same, "floor": _same, "ceil": _same, "trunc": _same, "rint": _same, "assign": _same,
    "floor_divide": _quotient, "mod": _remainder, "fmod": lambda a, b: _union(_remainder(a, b), (min(a[0], 0), max(a[1], 0))),
    "accumulate": _same, "accumulate_product": _product,
}
"""Elementwise instruction → interval of its result (of those that sum: of one term), of those of its operands."""


# ---------------------------------------------------------------------- results that cells may not hold


def is_integral(x) -> bool:
    """Whether an operand is made of integers or booleans."""
    dtype = getattr(x, "dtype", None)
    return dtype.kind in "iub" if dtype is not None else type(x) in (int, bool)


def checked_python_integer(x, dtype):
    """An operand, where it is an integer of Python's one that an operation in `dtype` takes: NumPy refuses others.

    A recorded one that may be refused becomes plain, under a guard.
    """
    kind = np.iinfo(dtype)
    if isinstance(x, Recorded):
        interval = x.recorder.interval(x.view)
        if x.plain_type is not int or (kind.bits > 32 and kind.min < 0) or (interval and _within(interval, kind)):
            return x
        x = concrete(x)
    if type(x) is int and not kind.min <= x <= kind.max:
        raise OverflowError(f"Python integer {x} out of bounds for {dtype}")
    return x


def concrete(x):
    """A recorded operand as plain integers, under a guard that a replay must find the same ones; others as they are."""
    if type(x) in (list, tuple):
        return type(x)(concrete(item) for item in x)
    if not isinstance(x, Recorded):
        return x
    values = x.recorder.guard(x.view).astype(x.dtype)
    return x.plain_type(values) if x.plain_type in (int, bool) else values[()]


def computed(function, args, kwargs=None):
    """What NumPy or Python makes of integers, as a constant of the list."""
    with np.errstate(all="ignore"):
        return function(*(concrete(x) for x in args), **{name: concrete(x) for name, x in (kwargs or {}).items()})


OPERATORS = {"add": operator.add, "sub": operator.sub, "mul": operator.mul, "neg": operator.neg, "abs": abs,
             "floor_divide": operator.floordiv, "mod": operator.mod, "lt": operator.lt, "le": operator.le, "gt": operator.gt,
             "ge": operator.ge, "eq": operator.eq, "ne": operator.ne}
"""Instruction → the operator of Python that records it, on Python's own integers."""


def settled(result, function, args, kwargs=None):
    """A recorded result of integers alone as NumPy has it: itself, wrapped, or computed by `function` of plain integers."""
    recorder, interval = result.recorder, result.recorder.interval(result.view)
    limit = exact_limit(recorder.dtype)
    kind = np.iinfo(result.dtype)
    is_python = result.plain_type is int
    low, high = (-limit, limit) if is_python or kind.bits <= 32 else (max(-limit, int(kind.min)), limit)
    if interval is not None and (interval[0] < low or interval[1] > high):
        inside = not recorder.without_values and _guarded(result, function, args, kwargs or {}, low, high)
        if not inside:
            return computed(function, args, kwargs)
        interval = recorder.set_interval(result.view, (low, high))
    narrow = kind.bits <= 32 and not is_python
    # What is not known is of floats, or carried by a loop.
    return _wrapped(result, kind) if narrow and (interval is None or not _within(interval, kind)) else result


SUMS = {np.sum, np.cumsum, np.dot, np.matmul, np.einsum, np.tensordot, np.inner, np.vdot, np.trace}
"""Functions of which a result in range does not say that every sum on the way was: that of the magnitudes does."""


def _within(interval, kind):
    return kind.min <= interval[0] and interval[1] <= kind.max


def _guarded(result, function, args, kwargs, low, high):
    """Whether a result lies within bounds now, which becomes a guard; so do all sums on the way to it."""
    terms = function(*map(_magnitude, args), **kwargs) if function in SUMS else _magnitude(result)
    inside = result.apply("lt", (terms, float(high)))
    if low == 0:
        inside = result.apply("and", (inside, result.apply("le", (0.0, _as_float(result)))))
    inside = np.all(inside)
    return bool(inside.recorder.guard(inside.view))


def _magnitude(x):
    """Absolute values of integers as floats; of other arguments themselves."""
    if isinstance(x, Recorded):
        return x.apply("abs", (_as_float(x),))
    return np.abs(x).astype(float) if isinstance(x, np.ndarray) else x


def _as_float(x):
    return type(x)(x.recorder, x.view, x.recorder.dtype)


def _wrapped(result, kind):
    """Integers brought into the range of their dtype modulo its size; exact, as that is a power of two."""
    size, low = 2.0**kind.bits, float(kind.min)
    x = _as_float(result)
    turns = x.apply("floor", (x.apply("mul", (x.apply("sub", (x, low)), 1.0 / size)),))
    x = x.apply("sub", (x, x.apply("mul", (turns, size))))
    result.recorder.set_interval(x.view, (int(kind.min), int(kind.max)))
    return type(result)(result.recorder, x.view, result.dtype)
