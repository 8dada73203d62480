"""Arrays made of others: joined, repeated, padded, masked, chosen from, and products that lay arrays side by side.

What is not here: concatenate, stack and the splits (`arrays.py`), matrix products (`contractions.py`).
"""

from __future__ import annotations

import math

import numpy as np

from compiled.table.views import View, broadcast_strides
from tape.errors import NotDifferentiable
from tape.recording.arrays import RecordedArray, plain, record
from tape.recording.dispatch import implements
from tape.rules import contractions
from tape.rules.arrays import first_recorded, recorded_items
from tape.rules.contractions import as_recorded

# ---------------------------------------------------------------------- joining and repeating


@implements(np.atleast_3d)
def atleast_3d(*arrays):
    """`numpy.atleast_3d`."""
    results = [np.reshape(x, {0: (1, 1, 1), 1: (1, -1, 1), 2: (*np.shape(x), 1)}[np.ndim(x)]) if np.ndim(x) < 3 else x
               for x in map(plain, arrays)]
    return results[0] if len(results) == 1 else tuple(results)


@implements(np.dstack)
def dstack(tup):
    """`numpy.dstack`."""
    return np.concatenate([np.atleast_3d(x) for x in recorded_items(list(tup))[1]], axis=2)


@implements(np.column_stack)
def column_stack(tup):
    """`numpy.column_stack`."""
    arrays = recorded_items(list(tup))[1]
    return np.concatenate([x if x.ndim > 1 else np.reshape(x, (-1, 1)) for x in arrays], axis=1)


@implements(np.tile)
def tile(A, reps):
    """`numpy.tile`."""
    reps = (reps,) if np.ndim(reps) == 0 else tuple(reps)
    ndim = max(len(reps), A.ndim)
    reps = (1,) * (ndim - len(reps)) + reps
    shape = (1,) * (ndim - A.ndim) + A.shape
    apart = np.reshape(A, [m for n in shape for m in (1, n)])
    whole = np.broadcast_to(apart, [m for r, n in zip(reps, shape, strict=True) for m in (r, n)])
    return np.reshape(whole.copy(), [r * n for r, n in zip(reps, shape, strict=True)])


@implements(np.resize)
def resize(a, new_shape):
    """`numpy.resize`: the elements again and again."""
    shape = (new_shape,) if np.ndim(new_shape) == 0 else tuple(new_shape)
    flat = np.ravel(a)
    if flat.size == 0:
        return np.zeros_like(a, shape=shape)
    return np.reshape(flat[np.arange(math.prod(shape)) % flat.size], shape)


@implements(np.meshgrid)
def meshgrid(*xi, copy=True, sparse=False, indexing="xy"):
    """`numpy.meshgrid`."""
    if indexing not in ("xy", "ij"):
        raise ValueError("Valid values for `indexing` are 'xy' and 'ij'.")
    order = list(range(len(xi)))
    if indexing == "xy" and len(xi) > 1:
        order[:2] = 1, 0
    recorder = first_recorded(*xi).recorder
    arrays = [as_recorded(recorder, x) for x in xi]
    arrays = [np.reshape(x, tuple(-1 if k == axis else 1 for k in range(len(xi))))
              for x, axis in zip(arrays, order, strict=True)]
    if not sparse:
        arrays = np.broadcast_arrays(*arrays)
    return tuple(x.copy() if copy else x for x in arrays)


@implements(np.delete)
def delete(arr, obj, axis=None):
    """`numpy.delete`."""
    arr, axis = (np.ravel(arr), 0) if axis is None else (arr, axis)
    return np.take(arr, np.delete(np.arange(arr.shape[axis]), obj), axis=axis)


@implements(np.insert)
def insert(arr, obj, values, axis=None):
    """`numpy.insert`; the places are constants."""
    if isinstance(obj, RecordedArray):
        raise NotDifferentiable("numpy.insert at recorded places: expected constants; nearest: np.concatenate of parts")
    arr = as_recorded(first_recorded(arr, values).recorder, arr)
    arr, axis = (np.ravel(arr), 0) if axis is None else (arr, np.lib.array_utils.normalize_axis_index(axis, arr.ndim))
    n = arr.shape[axis]
    places = np.arange(n)[obj] if isinstance(obj, slice) else np.asarray(obj)
    places = np.flatnonzero(places) if places.dtype == bool else places
    values = as_recorded(arr.recorder, values).astype(arr.dtype)
    values = np.reshape(values, (1,) * (arr.ndim - np.ndim(values)) + np.shape(values))
    if places.ndim == 0:
        values = np.moveaxis(values, 0, axis)  # as NumPy takes them for one place
    count = values.shape[axis] if places.size == 1 else places.size
    which = np.insert(np.arange(n), places.item() if places.size == 1 else places.astype(int), n + np.arange(count))
    added = np.broadcast_to(values, tuple(count if k == axis else m for k, m in enumerate(arr.shape)))
    return np.take(np.concatenate([arr, added], axis=axis), which, axis=axis)


# ---------------------------------------------------------------------- padding

BY_POSITION = ("edge", "reflect", "symmetric", "wrap")
BY_STATISTIC = {"maximum": np.max, "minimum": np.min, "mean": np.mean, "median": np.median}


@implements(np.pad)
def pad(array, pad_width, mode="constant", **kwargs):
    """`numpy.pad` in every mode but a function; `reflect` and `symmetric` with even reflection."""
    if isinstance(pad_width, dict):
        pad_width = [pad_width.get(k, pad_width.get(k - array.ndim, 0)) for k in range(array.ndim)]
        pad_width = [w if np.ndim(w) else (w, w) for w in pad_width]
    if mode not in ("constant", "empty", "linear_ramp", *BY_POSITION, *BY_STATISTIC):
        raise NotDifferentiable(f"numpy.pad with mode={mode!r}: not supported; nearest: np.concatenate")
    if kwargs.pop("reflect_type", "even") != "even":
        raise NotDifferentiable("numpy.pad with reflect_type='odd': expected 'even'")
    widths = _pairs(pad_width, array.ndim, "pad_width")
    if mode == "constant":
        return _padded_with_constants(array, widths, _pairs(kwargs.pop("constant_values", 0), array.ndim, "constant_values"))
    for axis, (before, after) in enumerate(widths):
        if before or after:
            array = _padded_along(array, int(before), int(after), axis, mode, kwargs)
    return array


def _pairs(x, ndim, name):
    """(before, after) for each axis, as NumPy broadcasts them."""
    if first_recorded(x) is not None:
        raise NotDifferentiable(f"numpy.pad with a recorded {name}: expected constants; nearest: np.concatenate")
    return np.broadcast_to(np.asarray(x), (ndim, 2)).tolist() if ndim else []


def _padded_with_constants(array, widths, constants):
    """Constants copied to both ends of each axis, where those of later axes have the corners, and the array between them."""
    recorder, shape = array.recorder, tuple(n + before + after for n, (before, after) in zip(array.shape, widths, strict=True))
    result = recorder.new_slot(shape)
    whole = RecordedArray(recorder, result, array.dtype)
    inside = [slice(before, before + n) for n, (before, _) in zip(array.shape, widths, strict=True)]
    for axis, ((before, after), ends) in enumerate(zip(widths, constants, strict=True)):
        rest = inside[axis + 1 :]
        for part, value in zip((slice(before), slice(shape[axis] - after, None)), ends, strict=True):
            _fill(whole[(*(slice(None),) * axis, part, *rest)], np.asarray(value).astype(array.dtype))
    _fill(whole[tuple(inside)], array)
    return whole


def _fill(target, source):
    """Copy into cells that nothing has been written to."""
    if target.size:
        view = as_recorded(target.recorder, source).view
        spread = View(view.cell, target.shape, broadcast_strides(view, target.shape))
        target.recorder.elementwise("copy", [spread], target.shape, target.view)


def _padded_along(array, before, after, axis, mode, kwargs):
    n = array.shape[axis]
    if mode in BY_POSITION:
        return _padded_by_position(array, before, after, axis, mode)
    if mode == "empty":
        mode, kwargs = "linear_ramp", {}  # any values will do
    lead = (slice(None),) * axis
    if mode == "linear_ramp":
        low, high = _pairs(kwargs.get("end_values", 0), array.ndim, "end_values")[axis]
        weights = (np.arange(before) / max(before, 1), np.arange(after)[::-1] / max(after, 1))
        edges = array[(*lead, slice(None, 1))], array[(*lead, slice(n - 1, None))]
        ends = [_ramp(edge, end, weight.astype(array.dtype).reshape((-1,) + (1,) * (array.ndim - axis - 1)))
                for edge, end, weight in zip(edges, (low, high), weights, strict=True)]
    else:
        lengths = kwargs.get("stat_length")
        lengths = (n, n) if lengths is None else _pairs(lengths, array.ndim, "stat_length")[axis]
        parts = array[(*lead, slice(None, lengths[0]))], array[(*lead, slice(max(n - lengths[1], 0), None))]
        ends = []
        for part, width in zip(parts, (before, after), strict=True):
            shape = tuple(width if k == axis else m for k, m in enumerate(array.shape))
            ends.append(np.broadcast_to(BY_STATISTIC[mode](part, axis=axis, keepdims=True), shape))
    return np.concatenate([ends[0], array, ends[1]], axis=axis)


def _padded_by_position(array, before, after, axis, mode):
    """By elements of the array's own: views of it where each side needs an element once, else by their positions."""
    n, lead = array.shape[axis], (slice(None),) * axis
    skipped = int(mode == "reflect")
    if max(before, after) > n - skipped or mode == "edge":
        return np.take(array, np.pad(np.arange(n), (before, after), mode), axis=axis)
    if mode == "wrap":
        ends = slice(n - before, None), slice(None, after)
    else:
        ends = slice(skipped, before + skipped), slice(n - skipped - after, n - skipped)
    step = slice(None, None, 1 if mode == "wrap" else -1)
    low, high = (array[(*lead, end)][(*lead, step)] for end in ends)
    return np.concatenate([low, array, high], axis=axis)


def _ramp(edge, end, weight):
    return edge * weight + end * (1 - weight)


# ---------------------------------------------------------------------- diagonals and triangles


@implements(np.diag)
def diag(v, k=0):
    """`numpy.diag`."""
    if v.ndim == 2:
        return np.diagonal(v, k).copy()
    if v.ndim != 1:
        raise ValueError("Input must be 1- or 2-d.")
    n = v.shape[0] + abs(k)
    result = np.zeros_like(v, shape=(n * n,))
    start = k if k > 0 else -k * n
    result[start : start + v.shape[0] * (n + 1) : n + 1] = v
    return np.reshape(result, (n, n))


@implements(np.diagflat)
def diagflat(v, k=0):
    """`numpy.diagflat`."""
    return diag(np.ravel(v), k)


@implements(np.tril)
def tril(m, k=0):
    """`numpy.tril`."""
    return np.where(np.tri(*_matrix_shape(m), k=k, dtype=bool), m, 0)


@implements(np.triu)
def triu(m, k=0):
    """`numpy.triu`."""
    return np.where(np.tri(*_matrix_shape(m), k=k - 1, dtype=bool), 0, m)


def _matrix_shape(m):
    return m.shape[-2:] if m.ndim > 1 else (m.shape[0], m.shape[0])


# ---------------------------------------------------------------------- choosing


@implements(np.select)
def select(condlist, choicelist, default=0):
    """`numpy.select`: branches that are not taken get exactly 0."""
    if len(condlist) != len(choicelist) or not condlist:
        raise ValueError("list of cases must be same length as list of conditions, and not empty")
    kind = np.result_type(*(x.dtype if hasattr(x, "dtype") else x for x in (*choicelist, default)))
    result = default
    for condition, choice in zip(reversed(condlist), reversed(choicelist), strict=True):
        result = record("where", (condition, choice, result)) if first_recorded(condition, choice, result) is not None else (
            np.where(condition, choice, result))
    return result.astype(kind) if result.dtype != kind else result


@implements(np.piecewise)
def piecewise(x, condlist, funclist, *args, **kw):
    """`numpy.piecewise`: each function sees the whole array, and what is not taken is left out."""
    conditions = [condlist] if not isinstance(condlist, (list, tuple)) else list(condlist)
    if len(funclist) not in (len(conditions), len(conditions) + 1):
        raise ValueError(f"with {len(conditions)} conditions, as many functions are expected, or one more")
    values = [f(x, *args, **kw) if callable(f) else f for f in funclist]
    default = values.pop() if len(values) > len(conditions) else 0
    for condition, value in zip(conditions, values, strict=True):  # where several hold, NumPy takes the last
        default = np.where(condition, value, default)
    return default


@implements(np.compress)
def compress(condition, a, axis=None, out=None):
    """`numpy.compress`; a recorded condition is a guard."""
    a, axis = (np.ravel(a), 0) if axis is None else (a, axis)
    return np.take(a, np.nonzero(condition)[0], axis=axis)


@implements(np.extract)
def extract(condition, arr):
    """`numpy.extract`; a recorded condition is a guard."""
    return np.ravel(plain(arr))[np.nonzero(np.ravel(plain(condition)))[0]]


@implements(np.choose)
def choose(a, choices, out=None, mode="raise"):
    """`numpy.choose` with mode 'raise'."""
    if mode != "raise" or out is not None:
        raise NotDifferentiable("numpy.choose: expected mode='raise' and no out")
    arrays = np.broadcast_arrays(a, *[plain(x) for x in choices])
    return np.take_along_axis(np.stack(arrays[1:]), arrays[0][None], axis=0)[0]


# ---------------------------------------------------------------------- statistics


@implements(np.ptp)
def ptp(a, axis=None, out=None, keepdims=False):
    """`numpy.ptp`."""
    return np.max(a, axis=axis, keepdims=keepdims) - np.min(a, axis=axis, keepdims=keepdims)


@implements(np.average)
def average(a, axis=None, weights=None, returned=False, *, keepdims=False):
    """`numpy.average`."""
    keepdims = keepdims is True
    a = as_recorded(first_recorded(a, weights).recorder, a)
    if weights is None:
        result = np.mean(a, axis=axis, keepdims=keepdims)
        scale = np.full(result.shape, a.size / max(result.size, 1))
    else:
        weights = plain(weights)
        if np.shape(weights) != a.shape:
            if axis is None or np.ndim(weights) != 1 or np.ndim(axis):
                raise TypeError("Axis must be specified when shapes of a and weights differ.")
            weights = np.reshape(weights, (-1,) + (1,) * (a.ndim - axis % a.ndim - 1))
        scale = np.sum(np.broadcast_to(weights, a.shape), axis=axis, keepdims=keepdims)
        result = np.sum(a * weights, axis=axis, keepdims=keepdims) / scale
    return (result, scale) if returned else result


@implements(np.cov)
def cov(m, y=None, rowvar=True, bias=False, ddof=None, fweights=None, aweights=None, *, dtype=None):
    """`numpy.cov`."""
    rows = [np.atleast_2d(plain(x)) for x in (m, y) if x is not None]
    rows = [x if rowvar or np.ndim(original) < 2 else np.transpose(x) for x, original in zip(rows, (m, y), strict=False)]
    x = (np.concatenate(rows) if len(rows) > 1 else rows[0]).astype(np.float64 if dtype is None else dtype)
    ddof = (0 if bias else 1) if ddof is None else ddof
    weights = [plain(w) for w in (fweights, aweights) if w is not None]
    if not weights:
        centred = x - np.mean(x, axis=1, keepdims=True)
        return np.squeeze(np.matmul(centred, np.transpose(centred)) / (x.shape[1] - ddof))
    w = weights[0] * weights[1] if len(weights) > 1 else 1.0 * weights[0]
    total = np.sum(w)
    free = total - ddof * (1.0 if aweights is None else np.sum(w * aweights) / total)
    centred = x - np.sum(x * w, axis=1, keepdims=True) / total
    return np.squeeze(np.matmul(centred * w, np.transpose(centred)) / free)


@implements(np.corrcoef)
def corrcoef(x, y=None, rowvar=True, *, dtype=None):
    """`numpy.corrcoef`."""
    c = np.cov(x, y, rowvar, dtype=dtype)
    if c.ndim == 0:
        return c / c
    deviation = np.sqrt(np.diagonal(c))
    return np.clip(c / deviation[:, None] / deviation[None, :], -1, 1)


# ---------------------------------------------------------------------- products


@implements(np.kron)
def kron(a, b):
    """`numpy.kron`."""
    recorder = first_recorded(a, b).recorder
    a, b = as_recorded(recorder, a), as_recorded(recorder, b)
    ndim = max(a.ndim, b.ndim)
    rows, columns = ((1,) * (ndim - x.ndim) + x.shape for x in (a, b))
    left = np.reshape(a, [m for n in rows for m in (n, 1)])
    right = np.reshape(b, [m for n in columns for m in (1, n)])
    return np.reshape(left * right, [m * n for m, n in zip(rows, columns, strict=True)])


@implements(np.cross)
def cross(a, b, axisa=-1, axisb=-1, axisc=-1, axis=None):
    """`numpy.cross` of vectors of length 3 (2 counts as a third component of 0)."""
    axisa, axisb, axisc = (axisa, axisb, axisc) if axis is None else (axis,) * 3
    a, b = np.moveaxis(plain(a), axisa, -1), np.moveaxis(plain(b), axisb, -1)
    lengths = a.shape[-1], b.shape[-1]
    if not set(lengths) <= {2, 3}:
        raise ValueError(f"incompatible dimensions for cross product (dimension must be 2 or 3), got {lengths}")
    a, b = ([x[..., k] for k in range(n)] + [0.0] * (3 - n) for x, n in zip((a, b), lengths, strict=True))
    last = a[0] * b[1] - a[1] * b[0]
    if lengths == (2, 2):
        return last
    parts = np.broadcast_arrays(a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], last)
    return np.moveaxis(np.stack(parts, axis=-1), -1, axisc)


@implements(np.linalg.cross)
def _vector_cross(x1, x2, /, *, axis=-1):
    return np.cross(x1, x2, axis=axis)


@implements(np.convolve)
def convolve(a, v, mode="full"):
    """`numpy.convolve`."""
    recorder = first_recorded(a, v).recorder
    a, v = (np.atleast_1d(as_recorded(recorder, x)) for x in (a, v))
    if a.ndim != 1 or v.ndim != 1 or not a.size or not v.size:
        raise ValueError("convolve: expected two arrays of one axis, not empty")
    a, v = (v, a) if v.size > a.size else (a, v)
    if mode not in ("full", "same", "valid"):
        raise ValueError(f"mode must be one of 'valid', 'same', or 'full' (got {mode!r})")
    m = v.size
    zeros = {"full": (m - 1, m - 1), "same": (m // 2, (m - 1) // 2), "valid": (0, 0)}[mode]
    padded = np.pad(a, zeros) if any(zeros) else a
    windows = np.lib.stride_tricks.sliding_window_view(padded, padded.size - m + 1)  # one an element of v
    return contractions.sum_of_products(windows, np.broadcast_to(v[::-1, None], windows.shape))


@implements(np.correlate)
def correlate(a, v, mode="valid"):
    """`numpy.correlate`."""
    a, v = (np.atleast_1d(plain(x)) for x in (a, v))
    if v.size > a.size:
        return np.correlate(v, a, mode)[::-1]
    windows = {"full": "full", "same": "same", "valid": "valid"}[mode]
    return np.convolve(a, v[::-1], windows)


@implements(np.linalg.multi_dot)
def multi_dot(arrays, *, out=None):
    """`numpy.linalg.multi_dot`, from left to right."""
    result = arrays[0]
    for x in arrays[1:]:
        result = np.dot(result, x)
    return result


@implements(np.linalg.diagonal)
def _matrix_diagonal(x, /, *, offset=0):
    return np.diagonal(x, offset, -2, -1)


@implements(np.linalg.trace)
def _matrix_trace(x, /, *, offset=0, dtype=None):
    return np.sum(np.diagonal(x, offset, -2, -1), axis=-1, dtype=dtype)


@implements(np.linalg.outer)
def _vector_outer(x1, x2, /):
    if np.ndim(x1) != 1 or np.ndim(x2) != 1:
        raise ValueError(f"Input arrays must be one-dimensional, but they are {np.ndim(x1)} and {np.ndim(x2)}-dimensional.")
    return np.outer(x1, x2)


@implements(np.linalg.vecdot)
def _vecdot(x1, x2, /, *, axis=-1):
    return np.vecdot(np.moveaxis(plain(x1), axis, -1), np.moveaxis(plain(x2), axis, -1))


@implements(np.linalg.matmul)
def _matmul(x1, x2, /):
    return np.matmul(x1, x2)


@implements(np.linalg.tensordot)
def _tensordot(x1, x2, /, *, axes=2):
    return np.tensordot(x1, x2, axes)


@implements(np.matrix_transpose, np.linalg.matrix_transpose)
def matrix_transpose(x, /):
    """`numpy.matrix_transpose`."""
    return np.swapaxes(x, -1, -2)


@implements(np.sinc)
def sinc(x):
    """`numpy.sinc`; near 0 by its series, so that derivatives of every order hold there."""
    y = math.pi * x
    near = np.abs(y) < 1.0
    z = np.square(np.where(near, y, 0.0))
    series = 0.0
    for k in range(10, -1, -1):  # the next term is 1 / 23!
        series = series * z + (-1.0) ** k / math.factorial(2 * k + 1)
    far = np.where(near, 1.0, y)
    return np.where(near, series, np.sin(far) / far)
