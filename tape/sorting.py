"""Order: sort and partition by permutation, quantiles, positions in sorted arrays, interpolation.

A replay never uses a stale order. Short rows count, by instructions, how many elements come before each; long ones are
ordered while recording, under a guard that the order still holds, so that a replay that finds another order records anew.
"""

from __future__ import annotations

import math

import numpy as np

from tape.contractions import as_recorded
from tape.errors import NotDifferentiable
from tape.numpy_rules import _first_recorded
from tape.reductions import axes_of
from tape.rules import implements
from tape.tracing import RecordedArray, plain, record

MOST_COUNTED = 32
"""Rows up to this length are ordered by comparing each element with each."""


def _integers(array) -> RecordedArray:
    return RecordedArray(array.recorder, array.view, np.dtype(np.int64))


def order_of(x) -> RecordedArray | np.ndarray:
    """Stable order of the elements along the last axis, NaN last; valid at every replay."""
    if x.shape[-1] <= MOST_COUNTED:
        return _counted_order(x)
    values = x.recorder.value(x.view).copy()
    order = np.argsort(values, axis=-1, kind="stable")
    ordered = np.take_along_axis(x, order, -1)
    before, after = ordered[..., :-1], ordered[..., 1:]
    holds = np.min(record("or", (record("le", (before, after)), record("ne", (after, after)))))
    holds.recorder.guard(holds.view)
    return order


def _counted_order(x):
    n = x.shape[-1]
    positions = np.arange(n)
    left, right = x[..., None, :], x[..., :, None]
    earlier = positions[None, :] < positions[:, None]
    numbers = record("and", (record("eq", (left, left)), record("ne", (right, right))))
    both_nan = record("and", (record("ne", (left, left)), record("ne", (right, right))))
    tie = record("or", (record("eq", (left, right)), both_nan))
    precedes = record("or", (record("or", (record("lt", (left, right)), numbers)), record("and", (tie, earlier))))
    rank = np.sum(precedes, axis=-1)
    return _integers(np.sum(np.where(rank[..., :, None] == positions, positions[:, None], 0), axis=-2))


def _rows(a, axis):
    """The array with the axis last, and which axis that was; all elements in a row for None."""
    if axis is None:
        return np.ravel(a), 0
    axis = np.lib.array_utils.normalize_axis_index(axis, a.ndim)
    return np.moveaxis(a, axis, -1), axis


@implements(np.argsort)
def argsort(a, axis=-1, kind=None, order=None, *, stable=None):
    """`numpy.argsort`, always stable."""
    rows, axis = _rows(a, axis)
    found = order_of(rows)
    found = found if isinstance(found, RecordedArray) else _integers(as_recorded(a.recorder, found))
    return _integers(np.moveaxis(found, -1, axis))


@implements(np.sort)
def sort(a, axis=-1, kind=None, order=None, *, stable=None):
    """`numpy.sort`: the elements in the order found; the adjoint goes back by the same permutation."""
    rows, axis = _rows(a, axis)
    return np.moveaxis(np.take_along_axis(rows, order_of(rows), -1), -1, axis)


@implements(np.partition)
def partition(a, kth, axis=-1, kind="introselect", order=None):
    """`numpy.partition`, by sorting: which is a partition at every `kth`."""
    return np.sort(a, axis=axis)


@implements(np.argpartition)
def argpartition(a, kth, axis=-1, kind="introselect", order=None):
    """`numpy.argpartition`, by sorting."""
    return np.argsort(a, axis=axis)


@implements(np.unique)
def _unique(*_, **__):
    raise NotDifferentiable("numpy.unique: the number of results depends on the values; nearest: np.sort")


_unique.refuses = True


# ---------------------------------------------------------------------- quantiles


@implements(np.quantile)
def quantile(a, q, axis=None, out=None, overwrite_input=False, method="linear", keepdims=False, *, weights=None):
    """`numpy.quantile` by linear interpolation; `q` is a constant."""
    if method != "linear" or weights is not None or out is not None or isinstance(q, RecordedArray):
        raise NotDifferentiable("numpy.quantile: expected method='linear', a constant q, no weights and no out")
    q = np.asarray(q, float)
    if q.size and not (q.min() >= 0 and q.max() <= 1):
        raise ValueError("Quantiles must be in the range [0, 1]")
    axes = axes_of(axis, a.ndim)
    kept = [k for k in range(a.ndim) if k not in axes]
    shape = tuple(a.shape[k] for k in kept)
    n = math.prod(a.shape[k] for k in axes)
    if n == 0:
        raise ValueError("numpy.quantile of no elements")
    ordered = np.sort(np.reshape(np.transpose(a, [*kept, *axes]), (*shape, n)))
    kind = ordered.dtype if ordered.dtype.kind == "f" and q.ndim == 0 else np.float64  # arrays of q are strong
    result = _interpolated_rows(ordered, q, n, kind)
    result = np.where(np.isnan(ordered[..., -1:]), math.nan, result)
    result = np.reshape(np.moveaxis(result, -1, 0), q.shape + shape)
    return np.reshape(result, (*q.shape, *(1 if k in axes else m for k, m in enumerate(a.shape)))) if keepdims else result


def _interpolated_rows(ordered, q, n, kind):
    at = np.ravel(q) * (n - 1)
    low = np.floor(at).astype(int)
    weight = (at - low).astype(kind)
    high = np.minimum(low + 1, n - 1)
    return ordered[..., low] * (1 - weight) + ordered[..., high] * weight


@implements(np.percentile)
def percentile(a, q, axis=None, out=None, overwrite_input=False, method="linear", keepdims=False, *, weights=None):
    """`numpy.percentile` by linear interpolation; `q` is a constant."""
    if isinstance(q, RecordedArray):
        raise NotDifferentiable("numpy.percentile: expected a constant q")
    return quantile(a, np.true_divide(q, 100), axis, out, overwrite_input, method, keepdims, weights=weights)


@implements(np.median)
def median(a, axis=None, out=None, overwrite_input=False, keepdims=False):
    """`numpy.median`; of an even number of elements the two in the middle share the adjoint."""
    return quantile(a, 0.5, axis, out, keepdims=keepdims)


# ---------------------------------------------------------------------- positions in sorted arrays


@implements(np.searchsorted)
def searchsorted(a, v, side="left", sorter=None):
    """`numpy.searchsorted`: a binary search by instructions, so that a replay searches again."""
    if sorter is not None:
        raise NotDifferentiable("numpy.searchsorted with sorter=: not supported; nearest: index the array with it first")
    recorder = _first_recorded(a, v).recorder
    a, v = as_recorded(recorder, a), as_recorded(recorder, v)
    n = a.shape[0]
    position = np.zeros(v.shape, np.int64, like=v)
    step = 1 << max(n.bit_length() - 1, 0)
    while step and n:
        probe = position + step
        element = a[_integers(np.minimum(probe, n) - 1)]
        beyond = record("ge" if side == "left" else "gt", (element, v))  # false for NaN, which comes last
        inside = record("and", (record("not", (beyond,)), record("le", (probe, n))))
        position = _integers(record("where", (inside, probe, position)))
        step >>= 1
    return position


@implements(np.digitize)
def digitize(x, bins, right=False):
    """`numpy.digitize` for increasing bins."""
    if not isinstance(bins, RecordedArray) and len(bins) > 1 and bins[0] > bins[-1]:
        raise NotDifferentiable("numpy.digitize with decreasing bins: expected increasing ones")
    return np.searchsorted(bins, x, side="left" if right else "right")


@implements(np.interp)
def interp(x, xp, fp, left=None, right=None, period=None):
    """`numpy.interp`; at a knot the slope of the piece to its right, at the last knot that of the piece to its left."""
    if period is not None:
        raise NotDifferentiable("numpy.interp with period=: not supported; nearest: np.mod on x, and knots repeated")
    recorder = _first_recorded(x, xp, fp).recorder
    x, xp, fp = (as_recorded(recorder, v).astype(np.float64) for v in (x, xp, fp))  # as NumPy, whatever they are
    n = xp.shape[0]
    if n == 0 or fp.shape != xp.shape:
        raise ValueError("array of sample points is empty" if n == 0 else "fp and xp are not of the same length.")
    left, right = fp[0] if left is None else left, fp[-1] if right is None else right
    inside = fp[0] + 0.0 * x if n == 1 else _on_pieces(x, xp, fp, n)
    result = np.where(record("lt", (x, xp[0])), left, np.where(record("gt", (x, xp[-1])), right, inside))
    return np.where(np.isnan(x), x, result)


def _on_pieces(x, xp, fp, n):
    piece = _integers(np.clip(np.searchsorted(xp, x, side="right") - 1, 0, n - 2))
    following = _integers(piece + 1)
    start, value = xp[piece], fp[piece]
    return value + (fp[following] - value) / (xp[following] - start) * (x - start)


@implements(np.count_nonzero)
def count_nonzero(a, axis=None, *, keepdims=False):
    """`numpy.count_nonzero`."""
    return np.sum(record("ne", (plain(a), 0)), axis=axis, keepdims=keepdims)
