"""Order: sort and partition by permutation, positions in sorted arrays, interpolation.

What is not here: quantiles (`quantiles.py`), and what counts (`counting.py`).

A replay never uses a stale order. Short rows count, by instructions, how many elements come before each; long ones are
ordered while recording, under a guard that the order still holds, so that a replay that finds another order records anew.
"""

from __future__ import annotations

import numpy as np

from tape.recording.arrays import RecordedArray, plain, record
from tape.recording.dispatch import implements
from tape.rules.arrays import first_recorded
from tape.rules.contractions import as_recorded

MOST_COUNTED = 32
"""Rows up to this length are ordered by comparing each element with each."""

MOST_PLACES = 4
"""For more places in a long row a partition is an order."""


def _integers(array) -> RecordedArray:
    return RecordedArray(array.recorder, array.view, np.dtype(np.int64))


def order_of(x) -> RecordedArray | np.ndarray:
    """Stable order of the elements along the last axis, NaN last; valid at every replay."""
    if x.shape[-1] <= MOST_COUNTED:
        return _counted_order(x)
    values = x.recorder.value(x.view).copy()
    order = np.argsort(values, axis=-1, kind="stable")
    ordered = np.take_along_axis(x, order, -1)
    _guard_order(ordered[..., :-1], ordered[..., 1:])
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


def _partition_order(x, kth):
    """Positions along the last axis by which every `kth` element stands where sorting puts it; valid at every replay."""
    n = x.shape[-1]
    places = sorted({np.lib.array_utils.normalize_axis_index(int(k), n) for k in np.atleast_1d(kth)}) if n else []
    if n <= MOST_COUNTED or len(places) > MOST_PLACES:
        return order_of(x)
    order = np.argpartition(x.recorder.value(x.view), places, axis=-1)
    parted = np.take_along_axis(x, order, -1)
    for start, k, stop in zip([0, *places], places, [*places[1:], n], strict=False):
        pivot = parted[..., k : k + 1]
        _guard_order(parted[..., start:k], pivot)
        _guard_order(pivot, parted[..., k + 1 : stop])
    return order


def _guard_order(before, after):
    """Guard that no element comes after one that it stands before; NaN comes last."""
    if before.size and after.size:
        holds = np.min(record("or", (record("le", (before, after)), record("ne", (after, after)))))
        holds.recorder.guard(holds.view)


@implements(np.partition)
def partition(a, kth, axis=-1, kind="introselect", order=None):
    """`numpy.partition`, by permutation; elements between the places `kth` may stand in another order than NumPy's."""
    rows, axis = _rows(a, axis)
    return np.moveaxis(np.take_along_axis(rows, _partition_order(rows, kth), -1), -1, axis)


@implements(np.argpartition)
def argpartition(a, kth, axis=-1, kind="introselect", order=None):
    """`numpy.argpartition`: the permutation of `numpy.partition`."""
    rows, axis = _rows(a, axis)
    found = _partition_order(rows, kth)
    found = found if isinstance(found, RecordedArray) else _integers(as_recorded(a.recorder, found))
    return _integers(np.moveaxis(found, -1, axis))


# ---------------------------------------------------------------------- positions in sorted arrays


@implements(np.searchsorted)
def searchsorted(a, v, side="left", sorter=None):
    """`numpy.searchsorted`: a binary search by instructions, so that a replay searches again."""
    recorder = first_recorded(a, v, sorter).recorder
    a, v = as_recorded(recorder, a), as_recorded(recorder, v)
    a = a if sorter is None else a[sorter]
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
    """`numpy.digitize`; whether recorded bins increase is a guard."""
    side = "left" if right else "right"
    if len(bins) > 1 and bool(bins[0] > bins[-1]):
        return _integers(len(bins) - np.searchsorted(bins[::-1], x, side=side))
    return np.searchsorted(bins, x, side=side)


@implements(np.interp)
def interp(x, xp, fp, left=None, right=None, period=None):
    """`numpy.interp`; at a knot the slope of the piece to its right, at the last knot that of the piece to its left."""
    recorder = first_recorded(x, xp, fp).recorder
    x, xp, fp = (as_recorded(recorder, v).astype(np.float64) for v in (x, xp, fp))  # as NumPy, whatever they are
    n = xp.shape[0]
    if n == 0 or fp.shape != xp.shape:
        raise ValueError("array of sample points is empty" if n == 0 else "fp and xp are not of the same length.")
    if period is not None:
        if period == 0:
            raise ValueError("period must be a non-zero value")
        x, xp, fp = _around(x, xp, fp, abs(period))
        n, left, right = n + 2, None, None
    left, right = fp[0] if left is None else left, fp[-1] if right is None else right
    inside = fp[0] + 0.0 * x if n == 1 else _on_pieces(x, xp, fp, n)
    result = np.where(record("lt", (x, xp[0])), left, np.where(record("gt", (x, xp[-1])), right, inside))
    return np.where(np.isnan(x), x, result)


def _around(x, xp, fp, period):
    """Points and knots within one period, and at each end the knot from the other."""
    x, xp = np.mod(x, period), np.mod(xp, period)
    order = np.argsort(xp)
    xp, fp = xp[order], fp[order]
    return x, np.concatenate([xp[-1:] - period, xp, xp[:1] + period]), np.concatenate([fp[-1:], fp, fp[:1]])


def _on_pieces(x, xp, fp, n):
    piece = _integers(np.clip(np.searchsorted(xp, x, side="right") - 1, 0, n - 2))
    following = _integers(piece + 1)
    start, value = xp[piece], fp[piece]
    return value + (fp[following] - value) / (xp[following] - start) * (x - start)


@implements(np.count_nonzero)
def count_nonzero(a, axis=None, *, keepdims=False):
    """`numpy.count_nonzero`."""
    return np.sum(record("ne", (plain(a), 0)), axis=axis, keepdims=keepdims)
