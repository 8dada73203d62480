"""Running sums and products, differences, and what is made of them.

A scan adds pairs, scans the pairs' sums, and fills in the rest (Blelloch, "Prefix sums and their applications", 1990): about
three operations an element, rounding as of a pairwise sum, and no division, so that products may have zeros.
"""

from __future__ import annotations

import numpy as np

from tape.errors import NotDifferentiable
from tape.recording.arrays import RecordedArray, is_bool, plain
from tape.recording.dispatch import implements
from tape.rules.arrays import first_recorded
from tape.rules.contractions import as_recorded
from tape.rules.reductions import summed_dtype


def scanned(combine, x, axis):
    """`combine.accumulate(x, axis)` for an associative function of two arrays."""
    return np.moveaxis(_scanned(combine, np.moveaxis(x, axis, 0)), 0, axis)


def _scanned(combine, x):
    n = x.shape[0]
    if n < 2:
        return x.copy()
    odd = _scanned(combine, combine(x[0 : n - 1 : 2], x[1::2]))
    even = np.concatenate([x[:1], combine(odd[: (n - 1) // 2], x[2::2])])
    pairs = np.stack([even[: n // 2], odd], axis=1)
    result = np.reshape(pairs, (n - n % 2, *x.shape[1:]))
    return np.concatenate([result, even[n // 2 :]]) if n % 2 else result


ACCUMULATED = ("add", "multiply", "maximum", "minimum", "logaddexp", "logical_and", "logical_or")
"""Ufuncs whose `accumulate` is supported; each is associative."""


def accumulate(ufunc, array, axis=0, dtype=None):
    """`ufunc.accumulate` of a recorded array."""
    if ufunc.__name__ not in ACCUMULATED or dtype is not None:
        raise NotDifferentiable(f"numpy.{ufunc.__name__}.accumulate{'' if dtype is None else ' with dtype='}: not supported; "
                                f"supported: {', '.join(ACCUMULATED)}")
    return scanned(ufunc, array, np.lib.array_utils.normalize_axis_index(axis, array.ndim))


def _cumulative(ufunc):
    def rule(a, axis=None, dtype=None, out=None):
        dtype = summed_dtype(a.dtype) if dtype is None else np.dtype(dtype)
        a = a if a.dtype == dtype else a.astype(dtype)
        return np.ravel(accumulate(ufunc, np.ravel(a))) if axis is None else accumulate(ufunc, a, axis)

    return rule


def _with_identity(ufunc, name, identity):
    def rule(x, /, *, axis=None, dtype=None, out=None, include_initial=False):
        if axis is None and x.ndim > 1:
            raise ValueError(f"For arrays which have more than one dimension ``axis`` argument is required in {name}.")
        axis = 0 if axis is None else axis
        result = _cumulative(ufunc)(np.atleast_1d(x), axis, dtype, out)
        if not include_initial:
            return result
        shape = tuple(1 if k == axis % result.ndim else n for k, n in enumerate(result.shape))
        return np.concatenate([np.full(shape, identity, result.dtype), result], axis=axis)

    return rule


implements(np.cumsum)(_cumulative(np.add))
implements(np.cumprod)(_cumulative(np.multiply))
for _name, _ufunc, _identity in (("cumulative_sum", np.add, 0), ("cumulative_prod", np.multiply, 1)):
    if hasattr(np, _name):  # since NumPy 2.1
        implements(getattr(np, _name))(_with_identity(_ufunc, _name, _identity))


def _without_nan(function, filling):
    def rule(a, axis=None, dtype=None, out=None):
        return function(np.where(np.isnan(a), filling, a), axis=axis, dtype=dtype, out=out)

    return rule


implements(np.nancumsum)(_without_nan(np.cumsum, 0.0))
implements(np.nancumprod)(_without_nan(np.cumprod, 1.0))


# ---------------------------------------------------------------------- differences


@implements(np.diff)
def diff(a, n=1, axis=-1, prepend=np._NoValue, append=np._NoValue):
    """`numpy.diff`."""
    if n < 0:
        raise ValueError(f"order must be non-negative but got {n}")
    a = as_recorded(first_recorded(a, prepend, append).recorder, a)
    if n == 0:
        return a
    axis = np.lib.array_utils.normalize_axis_index(axis, a.ndim)
    one = tuple(1 if k == axis else m for k, m in enumerate(a.shape))
    ends = [x if x is np._NoValue or np.ndim(x) else np.broadcast_to(x, one) for x in (prepend, append)]
    parts = [x for x in (ends[0], a, ends[1]) if x is not np._NoValue]
    a = np.concatenate(parts, axis=axis) if len(parts) > 1 else a
    before = (slice(None),) * axis
    for _ in range(n):
        later, earlier = a[(*before, slice(1, None))], a[(*before, slice(None, -1))]
        a = np.not_equal(later, earlier) if is_bool(a) else later - earlier
    return a


@implements(np.ediff1d)
def ediff1d(ary, to_end=None, to_begin=None):
    """`numpy.ediff1d`."""
    steps = np.diff(np.ravel(plain(ary)))
    parts = [np.ravel(plain(x)).astype(steps.dtype) for x in (to_begin, steps, to_end) if x is not None]
    return np.concatenate(parts) if len(parts) > 1 else parts[0]


@implements(np.trapezoid)
def trapezoid(y, x=None, dx=1.0, axis=-1):
    """`numpy.trapezoid`."""
    y = plain(y)
    before = (slice(None),) * (axis % np.ndim(y))
    if x is not None:
        x = plain(x)
        dx = np.diff(x, axis=axis if np.ndim(x) > 1 else -1)
        if np.ndim(x) == 1:
            dx = np.reshape(dx, (-1,) + (1,) * (np.ndim(y) - axis % np.ndim(y) - 1))
    return np.sum(dx * (y[(*before, slice(1, None))] + y[(*before, slice(None, -1))]) / 2.0, axis=axis)


@implements(np.gradient)
def gradient(f, *varargs, axis=None, edge_order=1):
    """`numpy.gradient`: second-order differences inside, one-sided ones at the ends."""
    f = plain(f)
    axes = tuple(range(f.ndim)) if axis is None else tuple(np.lib.array_utils.normalize_axis_tuple(axis, f.ndim))
    if len(varargs) not in (0, 1, len(axes)) or (len(varargs) == 1 < len(axes) and np.ndim(varargs[0])):
        raise TypeError("invalid number of arguments")
    spacings = varargs if len(varargs) == len(axes) else (varargs or (1.0,)) * len(axes)
    if edge_order not in (1, 2):
        raise ValueError("'edge_order' greater than 2 not supported")
    results = [_gradient_along(f, h, k, edge_order) for h, k in zip(spacings, axes, strict=True)]
    return results[0] if len(results) == 1 else tuple(results)


def _gradient_along(f, spacing, axis, edge_order):
    n = f.shape[axis]
    if n < edge_order + 1:
        raise ValueError("Shape of array too small to calculate a numerical gradient, at least (edge_order + 1) elements are "
                         "required.")
    f = np.moveaxis(f if isinstance(f, RecordedArray) else np.asarray(f), axis, 0)
    spacing = plain(spacing)
    spacing = spacing if isinstance(spacing, RecordedArray) else np.asarray(spacing, f.dtype if f.dtype.kind == "f" else float)
    if spacing.ndim and spacing.shape != (n,):
        raise ValueError("when 1d, distances must match the length of the corresponding dimension")
    steps = np.diff(spacing) if spacing.ndim else np.broadcast_to(spacing, (n - 1,))
    steps = np.reshape(steps, (n - 1,) + (1,) * (f.ndim - 1))
    slopes = (f[1:] - f[:-1]) / steps
    h, g = steps[:-1], steps[1:]
    inside = (g * slopes[:-1] + h * slopes[1:]) / (h + g)
    first, last = slopes[:1], slopes[-1:]
    if edge_order == 2:
        first = first + (first - slopes[1:2]) * steps[:1] / (steps[:1] + steps[1:2])
        last = last + (last - slopes[-2:-1]) * steps[-1:] / (steps[-1:] + steps[-2:-1])
    return np.moveaxis(np.concatenate([first, inside, last]), 0, axis)
