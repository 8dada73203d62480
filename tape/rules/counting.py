"""Counting and sets: histogram, bincount, unique, lexsort, isin and their like.

Counts have no derivative; weights have, and the values and edges that are found. Where the number of results depends on values,
it is a guard, so that a replay that would find another number records anew.
"""

from __future__ import annotations

import math

import numpy as np

from tape.errors import NotDifferentiable
from tape.recording.arrays import plain, record
from tape.recording.dispatch import implements
from tape.rules.arrays import first_recorded
from tape.rules.contractions import as_recorded
from tape.rules.writing import sums_at

# ---------------------------------------------------------------------- histograms


@implements(np.bincount)
def bincount(x, /, weights=None, minlength=0):
    """`numpy.bincount`; its length is a guard where `x` is recorded."""
    x = plain(x)
    if x.dtype.kind not in "iu":
        raise TypeError(f"Cannot cast array data from {x.dtype} to int64 according to the rule 'safe'")
    if x.size and int(np.min(x)) < 0:
        raise ValueError("'list' argument must have no negative elements")
    length = max(int(np.max(x)) + 1 if x.size else 0, minlength)
    values = np.ones(x.shape, np.int64) if weights is None else plain(weights)
    result = sums_at(values, x, length, like=first_recorded(x, weights))
    return result if weights is None else result.astype(np.float64)


@implements(np.histogram_bin_edges)
def histogram_bin_edges(a, bins=10, range=None, weights=None):
    """`numpy.histogram_bin_edges` for a number of bins, or their edges."""
    return _edges(a, bins, range)[0]


@implements(np.histogram)
def histogram(a, bins=10, range=None, density=None, weights=None):
    """`numpy.histogram` for a number of bins, or their edges."""
    edges, found = _edges(a, bins, range, weights)
    a = as_recorded(found.recorder, a)
    n = np.shape(edges)[0] - 1
    flat = np.ravel(a)
    which = np.searchsorted(edges, flat, side="right") - 1
    which = np.where(record("eq", (flat, edges[-1])), n - 1, which)
    outside = record("or", (record("lt", (flat, edges[0])), record("not", (record("le", (flat, edges[-1])),))))
    which = np.where(outside, n, which).astype(np.int64)  # beside the bins, and left out below
    values = np.ones(flat.shape, np.int64) if weights is None else np.ravel(plain(weights))
    if weights is not None and np.shape(weights) != a.shape:
        raise ValueError("weights should have the same shape as a.")
    counts = sums_at(values, which, n + 1)[:n]
    if not density:
        return counts, edges
    return counts / np.diff(edges).astype(np.float64) / np.sum(counts), edges


def _edges(a, bins, limits, weights=None):
    """The edges, and a recorded array of the same recording."""
    found = first_recorded(a, bins, limits, weights)
    if isinstance(bins, str):
        raise NotDifferentiable(f"numpy.histogram with bins={bins!r}: expected a number of bins, or their edges")
    if np.ndim(bins):
        return plain(bins), found
    if limits is None:
        limits = (np.min(a), np.max(a)) if np.size(a) else (0.0, 1.0)
    low, high = limits
    if bool(low == high):
        low, high = low - 0.5, high + 0.5
    kinds = [plain(x) for x in (low, high, a)]
    kind = np.result_type(*(x.dtype if hasattr(x, "dtype") else x for x in kinds))
    return np.linspace(low, high, int(bins) + 1).astype(kind if kind.kind == "f" else np.float64), found


# ---------------------------------------------------------------------- orders and sets


@implements(np.lexsort)
def lexsort(keys, axis=-1):
    """`numpy.lexsort`: the last key is the first to decide."""
    recorder = first_recorded(keys).recorder
    keys = [np.moveaxis(as_recorded(recorder, key), axis, -1) for key in keys]
    order = np.argsort(keys[0], axis=-1, kind="stable")
    for key in keys[1:]:
        order = np.take_along_axis(order, np.argsort(np.take_along_axis(key, order, -1), axis=-1, kind="stable"), -1)
    return np.moveaxis(order, -1, axis)


@implements(np.unique)
def unique(ar, return_index=False, return_inverse=False, return_counts=False, axis=None, *, equal_nan=True, sorted=True):
    """`numpy.unique` of all elements; how many there are of each, and in which order, is a guard."""
    if axis is not None:
        raise NotDifferentiable("numpy.unique with axis=: not supported; nearest: np.lexsort of the columns")
    ar = plain(ar)
    flat = np.ravel(ar)
    order = np.argsort(flat, kind="stable")
    ordered = np.take(flat, order)
    before, after = ordered[:-1], ordered[1:]
    differ = record("ne", (before, after))
    if equal_nan:
        differ = record("and", (differ, record("not", (record("and", (record("ne", (before, before)), record(
            "ne", (after, after)))),))))
    first = differ.recorder.guard(differ.view).reshape(differ.shape).astype(bool)
    first = np.concatenate([np.ones(min(flat.size, 1), bool), first])
    results = [ordered[first]]
    if return_index:
        results.append(order[first])
    if return_inverse:
        number = np.cumsum(first) - 1
        back = np.argsort(order, kind="stable")
        results.append(np.reshape(np.take(as_recorded(ar.recorder, number), back), ar.shape))
    if return_counts:
        results.append(np.diff(np.append(np.flatnonzero(first), flat.size)))
    return results[0] if len(results) == 1 else tuple(results)


@implements(np.union1d)
def union1d(ar1, ar2):
    """`numpy.union1d`."""
    return unique(np.concatenate([np.ravel(plain(x)) for x in (ar1, ar2)]))


@implements(np.intersect1d)
def intersect1d(ar1, ar2, assume_unique=False, return_indices=False):
    """`numpy.intersect1d`; what is in both is a guard."""
    if return_indices:
        raise NotDifferentiable("numpy.intersect1d with return_indices: not supported; nearest: np.isin")
    values = np.unique(plain(ar1))
    return values[np.isin(values, ar2)]


@implements(np.setdiff1d)
def setdiff1d(ar1, ar2, assume_unique=False):
    """`numpy.setdiff1d`; what is in the first alone is a guard."""
    values = np.ravel(plain(ar1)) if assume_unique else np.unique(plain(ar1))
    return values[np.isin(values, ar2, invert=True)]


@implements(np.isin)
def isin(element, test_elements, assume_unique=False, invert=False, *, kind=None):
    """`numpy.isin`, by comparing each with each."""
    element, candidates = plain(element), np.ravel(plain(test_elements))
    hit = record("eq", (np.expand_dims(element, -1), candidates))
    found = np.any(hit, axis=-1) if np.size(candidates) else np.zeros(np.shape(element), bool, like=hit)
    return np.logical_not(found) if invert else found


def _nan_arg_extreme(arg_extreme, filling):
    def rule(a, axis=None, out=None, *, keepdims=False):
        holes = np.isnan(a)
        if bool(np.any(np.all(holes, axis=axis))):
            raise ValueError("All-NaN slice encountered")
        return arg_extreme(np.where(holes, filling, a), axis=axis, keepdims=keepdims)

    return rule


implements(np.nanargmax)(_nan_arg_extreme(np.argmax, -math.inf))
implements(np.nanargmin)(_nan_arg_extreme(np.argmin, math.inf))
