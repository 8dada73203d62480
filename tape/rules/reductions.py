"""Reductions: sums, products, extremes and what is made of them.

What is not here: those that leave out NaN (`nan_reductions.py`), running ones (`cumulative.py`), quantiles (`sorting.py`).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from compiled.table.views import View
from tape.errors import NotDifferentiable
from tape.recording.arrays import RecordedArray, record, stop_gradient
from tape.recording.dispatch import FUNCTIONS, implements
from tape.recording.integers import settled


def axes_of(axis, ndim) -> tuple[int, ...]:
    """Normalised axes, as NumPy checks them."""
    if axis is None:
        return tuple(range(ndim))
    return tuple(np.lib.array_utils.normalize_axis_tuple(axis, ndim))


def _reduced_view(recorder, shape, axes, out: View) -> View:
    """`out`, which has the shape without `axes`, as a view of the whole shape that does not move along them."""
    kept = iter(out.strides)
    return View(out.cell, shape, tuple(0 if k in axes else next(kept) for k in range(len(shape))))


def _with_kept(array, shape, axes, keepdims):
    return np.reshape(array, tuple(1 if k in axes else n for k, n in enumerate(shape))) if keepdims else array


def selected(name, a, where, filling, dtype=None):
    """The array in the dtype to reduce in, with `filling` where ``where`` does not hold."""
    if dtype is not None:
        if np.dtype(dtype).kind not in "fiu":
            raise NotDifferentiable(f"numpy.{name} with dtype={dtype}: expected a dtype of floats or integers")
        a = a.astype(dtype)
    return a if where is np._NoValue or where is True else np.where(where, a, filling)


def summed_dtype(dtype) -> np.dtype:
    """The dtype in which NumPy adds or multiplies elements: integers are widened."""
    if dtype.kind == "u":
        return np.result_type(dtype, np.uint)
    return np.result_type(dtype, np.int_) if dtype.kind in "ib" else dtype


def _count(a, axis, keepdims, where):
    """How many elements each result is of: a number, or an array in the precision of `a` where a mask decides."""
    if where is np._NoValue or where is True:
        return math.prod(a.shape[k] for k in axes_of(axis, a.ndim))
    count = np.sum(np.broadcast_to(where, a.shape), axis=axis, keepdims=keepdims)
    return count.astype(a.dtype) if a.dtype.kind == "f" else count


@implements(np.sum)
def sum_(a, axis=None, dtype=None, out=None, keepdims=False, initial=0, where=np._NoValue):
    """`numpy.sum`."""
    a = selected("sum", a, where, 0, dtype)
    recorder, shape = a.recorder, a.view.shape
    axes = axes_of(axis, len(shape))
    result = recorder.zeros(tuple(n for k, n in enumerate(shape) if k not in axes))
    recorder.elementwise("accumulate", [a.view], shape, _reduced_view(recorder, shape, axes, result))
    total = RecordedArray(recorder, result, summed_dtype(a.dtype) if dtype is None else a.dtype)
    if total.dtype.kind in "iu":
        total = settled(total, np.sum, (a,), {"axis": axes, "dtype": dtype})
    total = _with_kept(total, shape, axes, keepdims is True)
    return total if (isinstance(initial, int) and initial == 0) or initial is np._NoValue else total + initial


@implements(np.mean)
def mean(a, axis=None, dtype=None, out=None, keepdims=False, *, where=np._NoValue):
    """`numpy.mean`."""
    keepdims = keepdims is True
    dtype = np.dtype(float) if dtype is None and a.dtype.kind in "iub" else dtype
    return np.sum(a, axis=axis, dtype=dtype, keepdims=keepdims, where=where) / _count(a, axis, keepdims, where)


@implements(np.var)
def var(a, axis=None, dtype=None, out=None, ddof=0, keepdims=False, *, where=np._NoValue, mean=None, correction=None):
    """`numpy.var`."""
    a, keepdims = selected("var", a, True, 0, dtype), keepdims is True
    center = np.mean(a, axis=axis, keepdims=True, where=where) if mean is None else mean
    squares = np.sum(np.square(a - center), axis=axis, keepdims=keepdims, where=where)
    free = _count(a, axis, keepdims, where) - (ddof if correction is None else correction)
    return squares / (np.maximum(free, 0) if np.ndim(free) or isinstance(free, (RecordedArray, np.generic)) else max(free, 0))


@implements(np.std)
def std(a, axis=None, dtype=None, out=None, ddof=0, keepdims=False, *, where=np._NoValue, mean=None, correction=None):
    """`numpy.std`; of equal elements the derivative is the subgradient 0."""
    variance = var(a, axis, dtype, out, ddof, keepdims, where=where, mean=mean, correction=correction)
    return record("root_of_squares", (variance,))


@implements(np.prod)
def prod(a, axis=None, dtype=None, out=None, keepdims=False, initial=1, where=np._NoValue):
    """`numpy.prod`: a tree of products of halves, so that zeros need no division and any order of derivative is exact."""
    a = selected("prod", a, where, 1, dtype)
    if dtype is None and a.dtype.kind in "iub":
        a = a.astype(summed_dtype(a.dtype))
    axes = axes_of(axis, a.ndim)
    kept = [k for k in range(a.ndim) if k not in axes]
    shape = tuple(a.shape[k] for k in kept)
    n = math.prod(a.shape[k] for k in axes)
    x = np.reshape(np.transpose(a, [*axes, *kept]), (n, *shape))
    if n == 0:
        x = np.ones((1, *shape), a.dtype, like=a)
    while x.shape[0] > 1:
        half = x.shape[0] // 2
        product = x[:half] * x[half : 2 * half]
        x = np.concatenate([product, x[2 * half :]]) if x.shape[0] % 2 else product
    result = _with_kept(x[0], a.shape, axes, keepdims is True)
    return result if (isinstance(initial, int) and initial == 1) or initial is np._NoValue else result * initial


def _extreme(sign, name, pair):
    def rule(a, axis=None, out=None, keepdims=False, initial=np._NoValue, where=np._NoValue):
        if where is not np._NoValue and where is not True and initial is np._NoValue:
            raise ValueError(f"reduction operation {name} does not have an identity, so to use a where mask one has to specify "
                             "'initial'")
        a = selected(name, a, where, initial)
        recorder, axes = a.recorder, axes_of(axis, a.ndim)
        kept = [k for k in range(a.ndim) if k not in axes]
        if any(a.shape[k] == 0 for k in axes):
            if initial is np._NoValue:
                raise ValueError(f"zero-size array to reduction operation {name} which has no identity")
            shape = tuple(1 if k in axes else n for k, n in enumerate(a.shape) if keepdims is True or k not in axes)
            return np.full_like(a, initial, shape=shape)
        if not axes:
            return a.copy() if initial is np._NoValue else pair(a, initial)
        shape, reduced = [a.shape[k] for k in kept], [a.shape[k] for k in axes]
        strides = [a.view.strides[k] for k in kept], [a.view.strides[k] for k in axes]
        result = recorder.new_slot(tuple(shape))
        words = (sign, len(kept), len(axes), *shape, *reduced, *strides[0], *strides[1])
        recorder.structural("amax", [a.view], result, words, result.size)
        result = _with_kept(RecordedArray(recorder, result, a.dtype), a.shape, axes, keepdims is True)
        return result if initial is np._NoValue else pair(result, initial)

    return rule


implements(np.max, np.amax)(_extreme(1, "max", np.maximum))
implements(np.min, np.amin)(_extreme(-1, "min", np.minimum))


@implements(np.all)
def _all(a, axis=None, out=None, keepdims=False, *, where=np._NoValue):
    return np.min(selected("all", record("ne", (a, 0)), where, True), axis=axis, keepdims=keepdims, initial=True)


@implements(np.any)
def _any(a, axis=None, out=None, keepdims=False, *, where=np._NoValue):
    return np.max(selected("any", record("ne", (a, 0)), where, False), axis=axis, keepdims=keepdims, initial=False)


def _arg_extreme(extreme, name):
    def rule(a, axis=None, out=None, *, keepdims=False):
        array, axis, ones = (np.ravel(a), 0, (1,) * a.ndim) if axis is None else (a, axis, None)
        axis = np.lib.array_utils.normalize_axis_index(axis, array.ndim)
        n = array.shape[axis]
        order = np.arange(n).reshape((n,) + (1,) * (array.ndim - axis - 1))
        best = extreme(array, axis=axis, keepdims=True)
        hit = record("or", (record("eq", (array, best)), record("ne", (array, array))))
        index = np.min(np.where(hit, order, n), axis=axis, keepdims=keepdims is True)
        index = np.reshape(index, ones) if ones is not None and keepdims is True else index
        return RecordedArray(a.recorder, index.view, np.dtype(np.int64))

    return rule


FUNCTIONS[np.argmax] = _arg_extreme(np.max, "argmax")
FUNCTIONS[np.argmin] = _arg_extreme(np.min, "argmin")


def logsumexp(a: Any, axis: int | tuple[int, ...] | None = None, b: Any = None, keepdims: bool = False) -> Any:
    """Logarithm of a sum of exponentials, without overflow: as SciPy's, except that it does not return the sign.

    Of plain and recorded arrays (which SciPy's cannot take); its derivative is the softmax.

    Examples
    --------
    >>> import numpy as np, tape
    >>> bool(np.isclose(tape.logsumexp(np.array([1000.0, 1000.0])), 1000.0 + np.log(2.0)))
    True
    >>> tape.grad(tape.logsumexp)(np.array([0.0, 0.0]))
    array([0.5, 0.5])
    """
    largest = stop_gradient(np.max(a, axis=axis, keepdims=True))
    largest = np.where(np.isfinite(largest), largest, 0.0)
    terms = np.exp(a - largest)
    total = np.sum(terms if b is None else b * terms, axis=axis, keepdims=True)
    # Where all exponents are -inf, so that nothing is left of the sum, the derivatives are 0 and not 0 / 0.
    result = (record("log_of_sum", (total,)) if isinstance(total, RecordedArray) else np.log(total)) + largest
    if keepdims:
        return result
    axes = axes_of(axis, np.ndim(a))
    return np.reshape(result, tuple(n for k, n in enumerate(np.shape(a)) if k not in axes))
