"""Writing into recorded arrays by other means than assignment: `out=`, `where=`, `ufunc.at`, put, copyto and their like.

All end in an assignment to cells (`indexing.py`), so views alias and the reverse sweep restores what was overwritten. A plain
array cannot hold recorded values, and says so.
"""

from __future__ import annotations

import numpy as np

from tape.errors import NotDifferentiable
from tape.recording.arrays import RecordedArray, plain, record
from tape.recording.dispatch import implements, records
from tape.rules.arrays import along_axis
from tape.rules.indexing import (
    _broadcast,
    _items,
    _keep_scalars,
    _position_view,
    _positions,
    _reach,
    cell_positions,
    check_writeable,
    gather,
    put,
)


def writable(array, name) -> RecordedArray:
    """The array to write into; raises NotDifferentiable unless it is recorded."""
    if not isinstance(array, RecordedArray):
        raise NotDifferentiable(f"numpy.{name} into an existing array: a plain array cannot hold recorded values; make it with "
                                "np.zeros_like(x) or np.zeros(shape, like=x), or write a = a + x for a += x")
    return array


@records("write")
def write(target, result, name, where=True) -> RecordedArray:
    """Put the result of function `name` into `target`, as ``out=`` does, and return it.

    Raises
    ------
    NotDifferentiable
        For a plain `target`.
    ValueError, TypeError
        For a result of another shape, or of a dtype that cannot be cast.
    """
    target = writable(target, name)
    dtype = getattr(result, "dtype", None) or np.result_type(result)
    if not np.can_cast(dtype, target.dtype, "same_kind"):
        raise TypeError(f"numpy.{name}: cannot cast the result from {dtype} to {target.dtype}, the dtype of out")
    lengths = zip(reversed(np.shape(result)), reversed(target.shape), strict=False)
    if np.ndim(result) > target.ndim or any(n not in (1, m) for n, m in lengths):
        raise ValueError(f"numpy.{name}: a result of shape {np.shape(result)} does not fit out, of shape {target.shape}")
    target[...] = result if where is True else _chosen(where, result, target)
    return target


def _chosen(where, result, otherwise):
    where = np.asarray(where) if isinstance(where, (list, tuple)) else plain(where)
    if not isinstance(where, bool) and where.dtype != np.dtype(bool):
        raise TypeError(f"where=: expected booleans, got {getattr(where, 'dtype', type(where).__name__)}")
    return np.where(where, result, otherwise)


# ---------------------------------------------------------------------- at: one element after the other, repeated ones too


def ufunc_at(ufunc, array, indices, values=None):
    """`ufunc.at`: repeated indices act again and again."""
    array = writable(array, f"{ufunc.__name__}.at")
    _, positions = _positions(array, _items(indices))
    if values is not None:
        values = plain(values)
        dtype = values.dtype if hasattr(values, "dtype") else np.min_scalar_type(values)
        if not np.can_cast(dtype, array.dtype, "same_kind"):
            raise TypeError(f"numpy.{ufunc.__name__}.at: cannot cast {dtype} to {array.dtype}")
        values = np.broadcast_to(values, np.shape(positions)) if not isinstance(values, RecordedArray) else RecordedArray(
            values.recorder, _broadcast(values.recorder, values, np.shape(positions)), values.dtype)
    if ufunc in (np.add, np.subtract):
        _add_at(array, positions, values if ufunc is np.add else np.negative(values))
        return
    if isinstance(positions, RecordedArray):
        raise NotDifferentiable(f"numpy.{ufunc.__name__}.at with recorded indices: expected constant ones; of recorded ones "
                                "add and subtract are supported")
    _at_in_rounds(ufunc, array, np.ravel(positions), None if values is None else np.ravel(values))


def _add_at(array, positions, values):
    """Add up what comes to each cell in new memory first: cells that were read must keep what they hold until overwritten."""
    view = array.view
    if isinstance(positions, RecordedArray):
        low, high = _reach(view)
        spread = sums_at(values, record("sub", (positions, float(low))), high - low)
        return put(array, ..., array + gather(spread, cell_positions(view) - low))
    cells, inverse = np.unique(positions, return_inverse=True)
    sums = sums_at(values, inverse.reshape(np.shape(positions)), cells.size, like=array)
    _put_cells(array, cells, gather(array, cells) + sums)


def sums_at(values, positions, count, like=None) -> RecordedArray:
    """Sums of the values that have the position 0, 1, ... count - 1, as a new array; positions are integers in that range."""
    found = next(x for x in (values, positions, like) if isinstance(x, RecordedArray))
    recorder, out = found.recorder, found.recorder.zeros((count,))
    source = _broadcast(recorder, values, np.shape(positions))
    where = _position_view(recorder, positions)
    recorder.structural("scatter_add", [recorder.copied(source), where], out, (where.size, 0, count, 1), 0)
    return RecordedArray(recorder, out, values.dtype if hasattr(values, "dtype") else np.result_type(values))


def _put_cells(array, cells, values):
    recorder = array.recorder
    check_writeable(array)
    _keep_scalars(recorder, array.view)
    recorder.scatter_assign(array.view, recorder.copied(values.view), _position_view(recorder, cells), _reach(array.view))


def _at_in_rounds(ufunc, array, positions, values):
    """Round k does what comes to a cell as its k-th."""
    order = np.argsort(positions, kind="stable")
    ordered = positions[order]
    starts = np.r_[True, ordered[1:] != ordered[:-1]] if ordered.size else np.zeros(0, bool)
    rank = np.arange(ordered.size) - np.maximum.accumulate(np.where(starts, np.arange(ordered.size), 0))
    for k in range(int(rank.max(initial=-1)) + 1):
        chosen = order[rank == k]
        old = gather(array, positions[chosen])
        _put_cells(array, positions[chosen], ufunc(old) if values is None else ufunc(old, values[chosen]))


# ---------------------------------------------------------------------- functions that write into their first argument


@implements(np.put_along_axis)
def put_along_axis(arr, indices, values, axis=-1):
    """`numpy.put_along_axis`."""
    arr = writable(arr, "put_along_axis")
    if axis is None:
        return put(arr, np.unravel_index(np.asarray(indices), arr.shape), values)
    arr[along_axis(arr.shape, indices, axis)] = values


@implements(np.put)
def put_flat(a, ind, v, mode="raise"):
    """`numpy.put`: values are repeated where they are too few."""
    a, ind = writable(a, "put"), np.ravel(plain(ind))
    if mode != "raise":
        ind = np.mod(ind, a.size) if mode == "wrap" else np.clip(ind, 0, a.size - 1)
    if ind.size:
        a[np.unravel_index(np.where(ind < 0, ind + a.size, ind), a.shape)] = np.resize(np.ravel(plain(v)), ind.size)


@implements(np.putmask)
def putmask(a, mask, values):
    """`numpy.putmask`: where the mask holds, the values at the same place, repeated where they are too few."""
    a, values = writable(a, "putmask"), plain(values)
    a[...] = np.where(np.reshape(plain(mask), a.shape), np.resize(values, a.shape), a)


@implements(np.place)
def place(arr, mask, vals):
    """`numpy.place`: the values one after the other, repeated where they are too few; a recorded mask is a guard."""
    arr = writable(arr, "place")
    where = np.nonzero(np.reshape(plain(mask), arr.shape))
    if where[0].size:
        arr[where] = np.resize(np.ravel(plain(vals)), where[0].size)


@implements(np.copyto)
def copyto(dst, src, casting="same_kind", where=True):
    """`numpy.copyto`."""
    dst, src = writable(dst, "copyto"), plain(src)
    dtype = src.dtype if hasattr(src, "dtype") else np.min_scalar_type(src)
    if not np.can_cast(dtype, dst.dtype, casting):
        raise TypeError(f"Cannot cast array data from {dtype} to {dst.dtype} according to the rule {casting!r}")
    dst[...] = src if where is True else _chosen(where, src, dst)


@implements(np.fill_diagonal)
def fill_diagonal(a, val, wrap=False):
    """`numpy.fill_diagonal`."""
    a, val = writable(a, "fill_diagonal"), plain(val)
    pattern = np.zeros(a.shape, np.int64)
    np.fill_diagonal(pattern, 1, wrap)
    where = np.nonzero(pattern)
    if where[0].size:
        a[where] = val if np.ndim(val) == 0 else np.resize(np.ravel(val), where[0].size)
