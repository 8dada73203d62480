"""Which NumPy function is which list: views, joining, making, choosing.

Functions that give views ask NumPy for the view. What is not here: ufuncs (`ufuncs.py`), reductions (`reductions.py`), matrix
products (`contractions.py`), and the tables into which all of them go (`recording.dispatch`).
"""

from __future__ import annotations

import numpy as np

from compiled.table.views import View
from tape.errors import NotDifferentiable
from tape.recording.arrays import RecordedArray, plain, record
from tape.recording.dispatch import FUNCTIONS, implements, records
from tape.recording.recorder import current_recorder
from tape.rules import contractions
from tape.rules.indexing import located

# ---------------------------------------------------------------------- views, and what they are


def _views(function):
    """A NumPy function that gives a view, or several; where NumPy would copy, the cells are copied first."""

    def rule(array, *args, **kwargs):
        if not isinstance(array, RecordedArray):
            raise NotDifferentiable(f"numpy.{function.__name__}: expected the recorded array as first argument")
        recorder = array.recorder

        def attempt(array):
            buffer = recorder.memory.values
            cells = array.view.of(buffer)
            cells.flags.writeable = array.writeable
            result = function(cells, *args, **kwargs)
            parts = result if isinstance(result, (list, tuple)) else [result]
            # Of an array without axes NumPy may give the element.
            views = [array.view if isinstance(part, np.generic) else located(part, cells, buffer, array.view) for part in parts]
            if any(view is None for view in views):
                return None
            arrays = [RecordedArray(recorder, view, array.dtype, writeable=bool(part.flags.writeable))
                      for view, part in zip(views, parts, strict=True)]
            return type(result)(arrays) if isinstance(result, (list, tuple)) else arrays[0]

        result = attempt(array)
        return result if result is not None else attempt(array.copy())

    return rule


for _function in (np.reshape, np.ravel, np.transpose, np.swapaxes, np.moveaxis, np.rollaxis, np.squeeze, np.expand_dims,
                  np.broadcast_to, np.diagonal, np.flip, np.fliplr, np.flipud, np.rot90, np.split, np.array_split, np.hsplit,
                  np.vsplit, np.dsplit, np.lib.stride_tricks.sliding_window_view):
    FUNCTIONS[_function] = _views(_function)


_reshape, _ravel = FUNCTIONS[np.reshape], FUNCTIONS[np.ravel]


def _check_order(name, order):
    if order not in ("C", "F"):
        raise NotDifferentiable(f"numpy.{name} with order={order!r}: expected 'C' or 'F'; recorded arrays do not keep the "
                                "memory layout that NumPy's results have")


@implements(np.reshape)
def reshape(a, /, shape, order="C", *, copy=None):
    """`numpy.reshape`."""
    _check_order("reshape", order)
    if order == "C":
        return _reshape(a, shape)
    shape = (shape,) if isinstance(shape, (int, np.integer)) else tuple(shape)
    return np.transpose(_reshape(np.transpose(a), shape[::-1]))


@implements(np.ravel)
def ravel(a, order="C"):
    """`numpy.ravel`."""
    _check_order("ravel", order)
    return _ravel(a if order == "C" else np.transpose(a))


@implements(np.shape)
def _shape(array):
    return array.shape


@implements(np.ndim)
def _ndim(array):
    return array.ndim


@implements(np.size)
def _size(array, axis=None):
    return array.size if axis is None else array.shape[axis]


@implements(np.copy)
def _copy(array, order="K", subok=False):
    return array.copy(order)


@implements(np.iscomplexobj)
def _iscomplexobj(array):
    return False


@implements(np.result_type)
def _result_type(*args):
    return np.result_type(*(x.dtype if isinstance(x, RecordedArray) else x for x in args))


@implements(np.i0)
def _i0(x):
    return record("i0", (x,))


@implements(np.i0)
def _i0(x):
    return record("i0", (x,))


@implements(np.real, np.real_if_close)
def _real(array, *_, **__):
    return array


# ---------------------------------------------------------------------- joining


@records("stacked")
def stacked(items):
    """A nested list of numbers and recorded arrays as one array, as `numpy.array` would make it."""
    return np.stack([stacked(x) if isinstance(x, (list, tuple)) else x for x in items])


def first_recorded(*arrays):
    for x in arrays:
        if isinstance(x, RecordedArray):
            return x
        if isinstance(x, (list, tuple)):
            found = first_recorded(*x)
            if found is not None:
                return found
    return None


def recorded_items(arrays):
    recorder = first_recorded(arrays).recorder
    arrays = [contractions.as_recorded(recorder, stacked(x) if isinstance(x, (list, tuple)) else x) for x in arrays]
    return recorder, arrays, np.result_type(*(x.dtype for x in arrays))


@implements(np.concatenate)
def concatenate(arrays, axis=0, out=None, dtype=None, casting="same_kind"):
    """`numpy.concatenate`: each array is copied into its part of one slot."""
    recorder, arrays, kind = recorded_items(list(arrays))
    if axis is None:
        arrays, axis = [np.ravel(x) for x in arrays], 0
    if any(x.ndim == 0 for x in arrays):
        raise ValueError("zero-dimensional arrays cannot be concatenated")
    axis = np.lib.array_utils.normalize_axis_index(axis, arrays[0].ndim)
    frame = [n for k, n in enumerate(arrays[0].shape) if k != axis]
    for x in arrays:
        if [n for k, n in enumerate(x.shape) if k != axis] != frame:
            raise ValueError(f"all the input array dimensions except for the concatenation axis must match exactly, got "
                             f"{[x.shape for x in arrays]}")
    shape = list(arrays[0].shape)
    shape[axis] = sum(x.shape[axis] for x in arrays)
    result = recorder.new_slot(tuple(shape))
    at = result.cell
    for x in arrays:
        if x.size:
            recorder.elementwise("copy", [x.view], x.shape, View(at, x.shape, result.strides))
        at += x.shape[axis] * result.strides[axis]
    return RecordedArray(recorder, result, kind)


@implements(np.stack)
def stack(arrays, axis=0, out=None, *, dtype=None, casting="same_kind"):
    """`numpy.stack`."""
    _, arrays, _ = recorded_items(list(arrays))
    if len({x.shape for x in arrays}) != 1:
        raise ValueError(f"all input arrays must have the same shape, got {[x.shape for x in arrays]}")
    return np.concatenate([np.expand_dims(x, axis) for x in arrays], axis=axis)


@implements(np.vstack)
def vstack(tup, **_):
    """`numpy.vstack`."""
    _, arrays, _ = recorded_items(list(tup))
    return np.concatenate([x if x.ndim > 1 else np.reshape(x, (1, -1)) for x in arrays])


@implements(np.hstack)
def hstack(tup, **_):
    """`numpy.hstack`."""
    _, arrays, _ = recorded_items(list(tup))
    arrays = [np.reshape(x, (-1,)) if x.ndim == 0 else x for x in arrays]
    return np.concatenate(arrays, axis=0 if arrays[0].ndim == 1 else 1)


@implements(np.append)
def append(arr, values, axis=None):
    """`numpy.append`."""
    if axis is None:
        return np.concatenate([np.ravel(plain(x)) for x in (arr, values)])
    return np.concatenate([arr, values], axis=axis)


@implements(np.array, np.asarray, np.asanyarray, np.ascontiguousarray)
def _array(x, dtype=None, *, copy=True, order="K", subok=False, ndmin=0, like=None, **_):
    """`numpy.array(..., like=recorded)` of nested lists of numbers and recorded values."""
    found = first_recorded(x)
    if found is None:
        return np.array(x, dtype, ndmin=ndmin)
    result = x.copy() if isinstance(x, RecordedArray) else stacked(x)
    result = result if dtype is None else result.astype(dtype)
    return np.reshape(result, (1,) * (ndmin - result.ndim) + result.shape) if ndmin > result.ndim else result


# ---------------------------------------------------------------------- making


def _filled(recorder, shape, value, dtype):
    dtype = recorder.fitting(np.dtype(dtype))
    shape = (shape,) if isinstance(shape, (int, np.integer)) else tuple(int(n) for n in shape)
    out = recorder.zeros(shape)
    if not (isinstance(value, (int, float)) and value == 0):
        source = contractions.as_recorded(recorder, value).view
        out = recorder.new_slot(shape)
        recorder.elementwise("copy", [source], shape, out)
    return RecordedArray(recorder, out, dtype)


def _like(value):
    def rule(a, dtype=None, order="K", subok=True, shape=None, *, device=None):
        return _filled(a.recorder, a.shape if shape is None else shape, value, a.dtype if dtype is None else dtype)

    return rule


FUNCTIONS[np.zeros_like] = FUNCTIONS[np.empty_like] = _like(0)
FUNCTIONS[np.ones_like] = _like(1)


@implements(np.full_like)
def full_like(a, fill_value, dtype=None, order="K", subok=True, shape=None, *, device=None):
    """`numpy.full_like`."""
    return _filled(first_recorded(a, fill_value).recorder, np.shape(a) if shape is None else shape, fill_value,
                   a.dtype if dtype is None else dtype)


def _making(value):
    def rule(shape, dtype=None, order="C", *, device=None, like=None):
        return _filled(current_recorder(), shape, value, np.float64 if dtype is None else dtype)

    return rule


FUNCTIONS[np.zeros] = FUNCTIONS[np.empty] = _making(0)
FUNCTIONS[np.ones] = _making(1)


@implements(np.full)
def full(shape, fill_value, dtype=None, order="C", *, device=None, like=None):
    """`numpy.full(..., like=recorded)`."""
    fill_value = plain(fill_value)
    return _filled(current_recorder(), shape, fill_value, np.result_type(fill_value) if dtype is None else dtype)


# ---------------------------------------------------------------------- choosing


@implements(np.where)
def where(condition, x=None, y=None):
    """`numpy.where`; with one argument the indices of the true elements, under a guard."""
    if x is None and y is None:
        return np.nonzero(condition)
    return record("where", (condition, x, y))


@implements(np.nonzero, np.flatnonzero, np.argwhere)
def _nonzero(a):
    mask = record("ne", (a, 0))
    return np.nonzero(mask.recorder.guard(mask.view).reshape(mask.shape))


FUNCTIONS[np.flatnonzero] = lambda a: _nonzero(np.ravel(a))[0]
FUNCTIONS[np.argwhere] = lambda a: np.stack(_nonzero(a), axis=-1)


@implements(np.clip)
def clip(a, a_min=None, a_max=None, out=None, *, min=None, max=None, **_):
    """`numpy.clip`."""
    low = a_min if a_min is not None else min
    high = a_max if a_max is not None else max
    if low is None:
        return record("min", (a, high)) if high is not None else a
    return record("max", (a, low)) if high is None else record("clip", (a, low, high))


@implements(np.take)
def take(a, indices, axis=None, out=None, mode="raise"):
    """`numpy.take`."""
    a = plain(a)
    a, axis = (np.ravel(a), 0) if axis is None else (a, axis)
    shape = (*a.shape[: axis % a.ndim], *np.shape(indices), *a.shape[axis % a.ndim + 1 :])
    if 0 in shape:
        return np.zeros_like(a, shape=shape)
    if mode != "raise":
        n = a.shape[axis]
        indices = np.mod(indices, n) if mode == "wrap" else np.clip(indices, 0, n - 1)
    return a[(slice(None),) * (axis % a.ndim) + (indices,)]


@implements(np.take_along_axis)
def take_along_axis(arr, indices, axis=-1):
    """`numpy.take_along_axis`."""
    return arr[along_axis(np.shape(arr), indices, axis)] if axis is not None else np.ravel(arr)[indices]


def along_axis(shape, indices, axis) -> tuple:
    """The index that picks `indices` along one axis, and of the others all."""
    axis = np.lib.array_utils.normalize_axis_index(axis, len(shape))
    if np.ndim(indices) != len(shape):
        raise ValueError("`indices` and `arr` must have the same number of dimensions")
    index = [np.arange(n).reshape((n,) + (1,) * (len(shape) - k - 1)) for k, n in enumerate(shape)]
    index[axis] = indices
    return tuple(index)


@implements(np.roll)
def roll(a, shift, axis=None):
    """`numpy.roll`."""
    if axis is None:
        return np.reshape(np.roll(np.ravel(a), shift, 0), a.shape)
    for s, k in zip(np.atleast_1d(shift), np.atleast_1d(axis), strict=True):
        k, n = int(k) % a.ndim, a.shape[int(k)]
        s = int(s) % n if n else 0
        before = (slice(None),) * k
        a = np.concatenate([a[(*before, slice(n - s, None))], a[(*before, slice(None, n - s))]], axis=k) if s else a
    return a


@implements(np.trace)
def trace(a, offset=0, axis1=0, axis2=1, dtype=None, out=None):
    """`numpy.trace`."""
    return np.sum(np.diagonal(a, offset, axis1, axis2), axis=-1)


@implements(np.repeat)
def repeat(a, repeats, axis=None):
    """`numpy.repeat`."""
    a, axis = (np.ravel(a), 0) if axis is None else (a, np.lib.array_utils.normalize_axis_index(axis, a.ndim))
    if np.ndim(repeats):
        return np.take(a, np.repeat(np.arange(a.shape[axis]), repeats), axis=axis)
    if repeats < 0:
        raise ValueError("repeats may not contain negative values.")
    before, n, after = a.shape[:axis], a.shape[axis], a.shape[axis + 1 :]
    whole = np.broadcast_to(np.reshape(a, (*before, n, 1, *after)), (*before, n, int(repeats), *after))
    return np.reshape(whole.copy(), (*before, n * int(repeats), *after))


@implements(np.atleast_1d)
def atleast_1d(*arrays):
    """`numpy.atleast_1d`."""
    results = [np.reshape(x, (1,)) if np.ndim(x) == 0 else x for x in arrays]
    return results[0] if len(results) == 1 else tuple(results)


@implements(np.atleast_2d)
def atleast_2d(*arrays):
    """`numpy.atleast_2d`."""
    results = [np.reshape(x, (1,) * (2 - np.ndim(x)) + np.shape(x)) if np.ndim(x) < 2 else x for x in arrays]
    return results[0] if len(results) == 1 else tuple(results)


@implements(np.broadcast_arrays)
def broadcast_arrays(*arrays, subok=False):
    """`numpy.broadcast_arrays`."""
    shape = np.broadcast_shapes(*(np.shape(x) for x in arrays))
    return tuple(np.broadcast_to(x, shape) for x in arrays)


# ---------------------------------------------------------------------- products

FUNCTIONS.update({np.dot: contractions.dot, np.inner: contractions.inner, np.outer: contractions.outer,
                  np.tensordot: contractions.tensordot, np.einsum: contractions.einsum})


@implements(np.vdot)
def vdot(a, b):
    """`numpy.vdot`."""
    return np.dot(np.ravel(plain(a)), np.ravel(plain(b)))
