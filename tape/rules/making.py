"""Arrays made from a few numbers or from blocks, and functions applied along axes: linspace, block, apply_along_axis ...

What is not here: zeros, ones, full and their like, concatenate and stack (`arrays.py`), padding and tiling
(`assembling.py`).
"""

from __future__ import annotations

import math
import operator

import numpy as np

from tape.errors import NotDifferentiable
from tape.recording.arrays import RecordedArray, plain
from tape.recording.dispatch import implements
from tape.rules.arrays import first_recorded
from tape.rules.contractions import as_recorded

# ---------------------------------------------------------------------- sequences of numbers


@implements(np.linspace)
def linspace(start, stop, num=50, endpoint=True, retstep=False, dtype=None, axis=0, *, device=None):
    """`numpy.linspace`."""
    num = operator.index(num)
    if num < 0:
        raise ValueError(f"Number of samples, {num}, must be non-negative.")
    _only_floats("linspace", dtype)
    start, stop = _floats(start, stop)
    steps = num - 1 if endpoint else num
    step = (stop - start) / steps if steps > 0 else math.nan * (stop - start)
    along = np.arange(num, dtype=start.dtype).reshape((num,) + (1,) * start.ndim)
    result = start + along * (step if steps > 0 else stop - start)
    if endpoint and num > 1:
        result = np.concatenate([result[:-1], stop[None]])  # the last one is exactly the end
    result = np.moveaxis(result, 0, axis)
    return (result, step) if retstep else result


def _only_floats(name, dtype):
    if dtype is not None and np.dtype(dtype).kind != "f":
        raise NotDifferentiable(f"numpy.{name} with dtype={dtype}: expected a float dtype; nearest: np.floor of the result")


def _floats(*numbers):
    """Recorded arrays of one shape, in the precision that NumPy computes with."""
    recorder = first_recorded(*numbers).recorder
    numbers = [plain(x) for x in numbers]
    kind = np.result_type(*(x.dtype if hasattr(x, "dtype") else x for x in numbers), 0.0)
    return np.broadcast_arrays(*(as_recorded(recorder, x).astype(kind) for x in numbers))


@implements(np.logspace)
def logspace(start, stop, num=50, endpoint=True, base=10.0, dtype=None, axis=0):
    """`numpy.logspace`."""
    if first_recorded(start, stop) is None:
        exponents = np.linspace(start, stop, num, endpoint, axis=axis)
    else:
        exponents = linspace(start, stop, num, endpoint, axis=axis)
    _only_floats("logspace", dtype)
    if np.ndim(base):
        base = np.expand_dims(base, axis)
    return np.power(base, exponents)


@implements(np.geomspace)
def geomspace(start, stop, num=50, endpoint=True, dtype=None, axis=0):
    """`numpy.geomspace`, of numbers of one sign."""
    _only_floats("geomspace", dtype)
    start, stop = (x.astype(np.float64) for x in _floats(start, stop))  # as NumPy, whatever they are
    if not np.all(start * stop > 0):
        raise ValueError("Geometric sequence: expected start and stop of one sign, neither of them zero")
    sign = np.sign(start)
    result = np.moveaxis(sign * np.exp(linspace(np.log(sign * start), np.log(sign * stop), num, endpoint)), 0, 0)
    if num > 0:
        ends = [start[None]] + ([result[1:-1], stop[None]] if endpoint and num > 1 else [result[1:]])
        result = np.concatenate(ends)
    return np.moveaxis(result, 0, axis)


# ---------------------------------------------------------------------- blocks


@implements(np.block)
def block(arrays):
    """`numpy.block`."""
    depth = _depth(arrays)
    ndim = max(depth, _most_axes(arrays))
    recorder = first_recorded(arrays).recorder

    def joined(part, level):
        if not isinstance(part, list):
            part = as_recorded(recorder, part)
            return np.reshape(part, (1,) * (ndim - part.ndim) + part.shape)
        return np.concatenate([joined(x, level + 1) for x in part], axis=ndim - depth + level)

    return joined(arrays, 0) if isinstance(arrays, list) else joined(arrays, 0).copy()


def _depth(part) -> int:
    if not isinstance(part, list):
        return 0
    depths = {_depth(x) for x in part}
    if len(depths) != 1:
        raise ValueError("List depths are mismatched, or a list is empty: all parts of numpy.block must lie equally deep")
    return 1 + depths.pop()


def _most_axes(part) -> int:
    return max(map(_most_axes, part)) if isinstance(part, list) else np.ndim(part)


if hasattr(np, "unstack"):  # since NumPy 2.1

    @implements(np.unstack)
    def unstack(x, /, *, axis=0):
        """`numpy.unstack`."""
        if x.ndim == 0:
            raise ValueError("Input array must be at least 1-d.")
        x = np.moveaxis(x, axis, 0)
        return tuple(x[k, ...] for k in range(x.shape[0]))


@implements(np.trim_zeros)
def trim_zeros(filt, trim="fb", axis=None):
    """`numpy.trim_zeros` of one axis; which elements are zero is a guard."""
    if filt.ndim != 1:
        raise NotDifferentiable("numpy.trim_zeros: expected one axis; nearest: slices")
    found = np.flatnonzero(filt)
    first, last = (found[0], found[-1] + 1) if found.size else (filt.shape[0], filt.shape[0])
    trim = trim.lower()
    return filt[first if "f" in trim else 0 : last if "b" in trim else filt.shape[0]]


# ---------------------------------------------------------------------- functions along axes


@implements(np.apply_along_axis)
def apply_along_axis(func1d, axis, arr, *args, **kwargs):
    """`numpy.apply_along_axis`: the function is recorded once for each row."""
    axis = np.lib.array_utils.normalize_axis_index(axis, arr.ndim)
    rows = np.moveaxis(arr, axis, -1)
    frame = rows.shape[:-1]
    if not math.prod(frame):
        raise ValueError("Cannot apply_along_axis when any iteration dimensions are 0")
    results = [func1d(rows[index], *args, **kwargs) for index in np.ndindex(frame)]
    results = np.stack([np.asarray(x) for x in results] if first_recorded(results) is None else results)
    shape = results.shape[1:]
    result = np.reshape(results, (*frame, *shape))
    return np.moveaxis(result, tuple(range(len(frame), len(frame) + len(shape))), tuple(range(axis, axis + len(shape))))


@implements(np.apply_over_axes)
def apply_over_axes(func, a, axes):
    """`numpy.apply_over_axes`."""
    for axis in np.atleast_1d(axes):
        axis = int(axis) % a.ndim
        result = func(a, axis)
        a = result if result.ndim == a.ndim else np.expand_dims(result, axis)
    return a


# ---------------------------------------------------------------------- what depends on shapes alone


def _of_shape(function):
    def rule(arr, *args, **kwargs):
        return function(np.broadcast_to(0.0, arr.shape), *args, **kwargs)

    return rule


for _function in (np.triu_indices_from, np.tril_indices_from, np.diag_indices_from, np.isrealobj):
    implements(_function)(_of_shape(_function))


@implements(np.common_type)
def common_type(*arrays):
    """`numpy.common_type`."""
    return np.common_type(*(np.zeros(0, x.dtype) if isinstance(x, RecordedArray) else x for x in arrays))


@implements(np.array_repr, np.array_str, np.array2string)
def array_repr(a, *_, **__):
    """The values now."""
    return repr(a)
