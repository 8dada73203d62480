"""Quantiles, percentiles and medians, with and without NaN, by every method of NumPy.

Of sorted elements a quantile is the one at a position that depends on `q`, the method and their number alone, or lies between
two of them. The position is what NumPy itself finds as the quantile of 0, 1, 2, ...
"""

from __future__ import annotations

import math

import numpy as np

from tape.errors import NotDifferentiable
from tape.recording.arrays import RecordedArray
from tape.recording.dispatch import implements
from tape.rules.reductions import axes_of

OF_ELEMENTS = ("inverted_cdf", "closest_observation", "lower", "higher", "nearest")
"""Methods whose result is one of the elements."""


def _quantile(name, a, q, axis, keepdims, method, without_nan):
    if isinstance(q, RecordedArray):
        raise NotDifferentiable(f"numpy.{name}: expected a constant q; nearest: np.interp of q in np.sort(a)")
    q = np.asarray(q, float)
    if q.size and not (q.min() >= 0 and q.max() <= 1):
        raise ValueError("Quantiles must be in the range [0, 1]" if name == "quantile" else "Percentiles must be in the range "
                         "[0, 100]")
    axes = axes_of(axis, a.ndim)
    kept = [k for k in range(a.ndim) if k not in axes]
    shape = tuple(a.shape[k] for k in kept)
    n = math.prod(a.shape[k] for k in axes)
    if n == 0:
        raise ValueError(f"numpy.{name} of no elements")
    ordered = np.sort(np.reshape(np.transpose(a, [*kept, *axes]), (*shape, n)))
    weak = q.ndim == 0 or method in OF_ELEMENTS  # arrays of q are strong where NumPy computes with them
    kind = ordered.dtype if ordered.dtype.kind == "f" and weak else np.dtype(float)
    at = _positions_without_nan(ordered, q, method) if without_nan else np.broadcast_to(
        _positions(n, q, method), (*shape, q.size))
    result = _between(ordered, at, kind, method)
    if not without_nan:
        result = np.where(np.isnan(ordered[..., -1:]), math.nan, result)
    result = np.reshape(np.moveaxis(result, -1, 0), q.shape + shape)
    return np.reshape(result, (*q.shape, *(1 if k in axes else m for k, m in enumerate(a.shape)))) if keepdims else result


def _positions(n, q, method):
    return np.quantile(np.arange(float(n)), np.ravel(q), method=method)


def _positions_without_nan(ordered, q, method):
    """For each row; how many elements are NaN is a guard."""
    holes = np.isnan(ordered)
    counts = ordered.shape[-1] - np.sum(holes.recorder.guard(holes.view).reshape(ordered.shape), axis=-1).astype(int)
    at = np.zeros((*counts.shape, q.size))
    for n in np.unique(counts):
        at[counts == n] = _positions(n, q, method) if n else 0.0  # a row of NaN gives NaN
    return at


def _between(ordered, at, kind, method):
    """The elements of each row at the positions, those between two elements interpolated."""
    low = np.floor(at).astype(int)
    weight = (at - low).astype(kind)
    lower = np.take_along_axis(ordered, low, -1)
    if not weight.any():
        return lower.astype(kind) if ordered.dtype.kind == "f" or method not in OF_ELEMENTS else lower
    return lower * (1 - weight) + np.take_along_axis(ordered, np.where(weight > 0, low + 1, low), -1) * weight


def _rule(name, percent=False, without_nan=False):
    def rule(a, q, axis=None, out=None, overwrite_input=False, method="linear", keepdims=False, *, weights=None):
        if weights is not None:
            raise NotDifferentiable(f"numpy.{name} with weights: not supported; nearest: np.interp in the running sum of the "
                                    "weights of the sorted elements")
        if percent and not isinstance(q, RecordedArray):
            q = np.true_divide(q, 100)
        return _quantile(name, a, q, axis, keepdims is True, method, without_nan)

    return rule


def _median(name, without_nan=False):
    def rule(a, axis=None, out=None, overwrite_input=False, keepdims=False):
        if not a.size:
            return np.sum(a, axis=axis, keepdims=keepdims is True) + math.nan
        return _quantile(name, a, 0.5, axis, keepdims is True, "linear", without_nan)

    return rule


implements(np.quantile)(_rule("quantile"))
implements(np.percentile)(_rule("percentile", percent=True))
implements(np.nanquantile)(_rule("nanquantile", without_nan=True))
implements(np.nanpercentile)(_rule("nanpercentile", percent=True, without_nan=True))
implements(np.median)(_median("median"))
implements(np.nanmedian)(_median("nanmedian", without_nan=True))
