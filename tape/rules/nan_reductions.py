"""Reductions that leave out NaN, and `nan_to_num`: an element that is NaN has the derivative 0."""

from __future__ import annotations

import math

import numpy as np

from tape.recording.arrays import record
from tape.recording.dispatch import implements
from tape.rules.reductions import selected


def _filled(a, value):
    return np.where(np.isnan(a), value, a) if a.dtype.kind == "f" else a


def _count(a, axis, keepdims=False):
    return np.sum(record("eq", (a, a)), axis=axis, keepdims=keepdims)


@implements(np.nansum)
def nansum(a, axis=None, dtype=None, out=None, keepdims=False, initial=0, where=np._NoValue):
    """`numpy.nansum`."""
    a = selected("nansum", a, where, math.nan, dtype)
    return np.sum(_filled(a, 0.0), axis=axis, keepdims=keepdims is True, initial=initial)


@implements(np.nanprod)
def nanprod(a, axis=None, dtype=None, out=None, keepdims=False, initial=1, where=np._NoValue):
    """`numpy.nanprod`."""
    a = selected("nanprod", a, where, math.nan, dtype)
    return np.prod(_filled(a, 1.0), axis=axis, keepdims=keepdims is True, initial=initial)


@implements(np.nanmean)
def nanmean(a, axis=None, dtype=None, out=None, keepdims=False, *, where=np._NoValue):
    """`numpy.nanmean`."""
    a = selected("nanmean", a, where, math.nan, dtype)
    return np.sum(_filled(a, 0.0), axis=axis, keepdims=keepdims is True) / _in_precision(a, _count(a, axis, keepdims is True))


def _in_precision(a, count):
    """The count in the precision of the array, as NumPy divides."""
    return count.astype(a.dtype) if a.dtype.kind == "f" else count


@implements(np.nanvar)
def nanvar(a, axis=None, dtype=None, out=None, ddof=0, keepdims=False, *, where=np._NoValue, mean=None, correction=None):
    """`numpy.nanvar`."""
    a = selected("nanvar", a, where, math.nan, dtype)
    center = np.nanmean(a, axis=axis, keepdims=True) if mean is None else mean
    squares = np.where(np.isnan(a), 0.0, np.square(_filled(a, 0.0) - center))
    count = _in_precision(a, _count(a, axis, keepdims is True)) - (ddof if correction is None else correction)
    # Without degrees of freedom NumPy says NaN, also where the quotient is infinite.
    return np.sum(squares, axis=axis, keepdims=keepdims is True) / np.where(count > 0, count, math.nan)


@implements(np.nanstd)
def nanstd(a, axis=None, dtype=None, out=None, ddof=0, keepdims=False, *, where=np._NoValue, mean=None, correction=None):
    """`numpy.nanstd`; of equal elements the derivative is the subgradient 0."""
    variance = nanvar(a, axis, dtype, out, ddof, keepdims, where=where, mean=mean, correction=correction)
    return record("root_of_squares", (variance,))


def _nan_extreme(extreme, limit, name):
    def rule(a, axis=None, out=None, keepdims=False, initial=np._NoValue, where=np._NoValue):
        if where is not np._NoValue and where is not True and initial is np._NoValue:
            raise ValueError(f"{name} with where=: expected initial=, for where nothing is left")
        a = selected(name, a, where, math.nan)
        if a.dtype.kind != "f":
            return extreme(a, axis=axis, keepdims=keepdims is True, initial=initial)
        found = extreme(_filled(a, limit), axis=axis, keepdims=keepdims is True, initial=initial)
        return np.where(_count(a, axis, keepdims is True) > 0, found, math.nan)

    rule.__doc__ = f"`numpy.{name}`; elements that tie share the adjoint equally."
    return rule


implements(np.nanmax)(_nan_extreme(np.max, -math.inf, "nanmax"))
implements(np.nanmin)(_nan_extreme(np.min, math.inf, "nanmin"))


@implements(np.nan_to_num)
def nan_to_num(x, copy=True, nan=0.0, posinf=None, neginf=None):
    """`numpy.nan_to_num`; what is replaced has the derivative 0."""
    if x.dtype.kind != "f":
        return x
    limits = np.finfo(x.dtype)
    x = np.where(x == math.inf, float(limits.max) if posinf is None else posinf, x)
    x = np.where(x == -math.inf, float(limits.min) if neginf is None else neginf, x)
    return np.where(np.isnan(x), nan, x)
