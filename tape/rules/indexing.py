"""Reading and assigning parts of recorded arrays.

Basic indices give views and record nothing. Integer arrays become positions for gather and scatter: computed at once where
the index is constant, recorded where it is itself recorded (so that a replay uses the new index). A recorded boolean mask
fixes the shape of what follows, so it is a guard.
"""

from __future__ import annotations

import math
import weakref

import numpy as np

from compiled.table.views import View, broadcast_strides, contiguous
from tape.errors import NotDifferentiable
from tape.recording.arrays import RecordedArray, plain, record, recorder_of
from tape.recording.dispatch import records
from tape.recording.integers import exact_limit, fits, is_integral
from tape.recording.lines import user_line


@records("get")
def get(array: RecordedArray, index) -> RecordedArray:
    """`array[index]`."""
    recorder_of((array,))
    items = _items(index)
    if _is_basic(items):
        view = sub_view(array, items)
        # Ellipsis gives a view without axes, integers alone give a scalar.
        scalar = view.shape == () and not any(item is Ellipsis for item in items)
        return _scalar(array, view) if scalar else RecordedArray(array.recorder, view, array.dtype, writeable=array.writeable)
    array, items, rows = _rows_apart(array, items)
    view, positions = _positions(array, items)
    return gather(RecordedArray(array.recorder, view, array.dtype), positions, rows)


@records("put")
def put(array: RecordedArray, index, value) -> None:
    """`array[index] = value`."""
    recorder = recorder_of((array,))
    check_writeable(array)
    items = _items(index)
    value = plain(value)
    dtype = value.dtype if hasattr(value, "dtype") else np.min_scalar_type(value)
    if array.dtype.kind in "iub" and dtype.kind == "f":
        raise NotDifferentiable(f"assigning floats to a recorded array of {array.dtype} would round them; make it with a float "
                                "dtype")
    if array.dtype.kind in "iu" and is_integral(value):
        value = _as_held(value, array.dtype, recorder)
    if len(items) == 1 and _is_mask(items[0]) and np.ndim(value) == 0:
        mask = items[0]
        if mask.shape != array.shape[: mask.ndim]:
            raise IndexError(f"boolean index did not match the array: mask of shape {mask.shape}, array of shape {array.shape}")
        _keep_scalars(recorder, array.view)
        whole = record("where", (_expanded(mask, array.ndim), value, array))
        recorder.assign(array.view, whole.view)
        return
    if _is_basic(items):
        target = sub_view(array, items)
        if isinstance(value, RecordedArray) and value.view == target:
            return  # `x[i] += y` has changed these cells in place, and Python assigns them to themselves
        _keep_scalars(recorder, target)
        recorder.assign(target, _broadcast(recorder, value, target.shape))
        return
    _keep_scalars(recorder, array.view)
    array, items, rows = _rows_apart(array, items)
    view, positions = _positions(array, items)
    source = _broadcast(recorder, value, (*np.shape(positions), *rows))
    if source.strides != contiguous(source.shape) or recorder.slot_number(source.cell) == recorder.slot_number(view.cell):
        source = recorder.copied(source)
    where = _position_view(recorder, positions)
    recorder.scatter_assign(view, source, where, _reach(view))


def check_writeable(array: RecordedArray) -> None:
    """Raise the ValueError that NumPy raises for a write into a read-only array.

    Cells of a broadcast view are several elements at once: a write through it would change what NumPy refuses to.
    """
    if not array.writeable:
        raise ValueError("{}:{}: assignment destination is read-only: a broadcast, diagonal or windowed view, or an argument "
                         "that is; write into a copy of it".format(*user_line()))


class _Scalar(RecordedArray):
    """An element read with integers, which in NumPy is a copy: a view as long as nobody overwrites its cell."""

    __slots__ = ("__weakref__",)


def _scalar(array: RecordedArray, view: View) -> _Scalar:
    scalar = _Scalar(array.recorder, view, array.dtype)
    _scalars_of(array.recorder, view).setdefault(view.cell, []).append(weakref.ref(scalar))
    return scalar


def _scalars_of(recorder, view: View) -> dict[int, list]:
    """The scalars read from the slot of `view`, by cell."""
    return recorder.scalars.setdefault(recorder.slot_number(view.cell), {})


def _as_held(value, dtype, recorder):
    """Integers as an array of `dtype` holds them: wrapped, as NumPy does; raises for those that cells do not hold."""
    if isinstance(value, RecordedArray):
        value = value if np.can_cast(value.dtype, dtype) else value.astype(dtype)
    else:
        value = np.asarray(value, dtype) if isinstance(value, int) else np.asarray(value).astype(dtype)
    if isinstance(value, RecordedArray) or fits(value, recorder.dtype):
        return value
    raise NotDifferentiable("{}:{}: an integer beyond {} put into a recorded array of {}, whose cells do not hold it; expected "
                            "a smaller one, or an array that is not recorded".format(*user_line(), exact_limit(recorder.dtype),
                                                                                   dtype))


def _keep_scalars(recorder, target: View) -> None:
    """Copy the elements that were read from cells about to be overwritten."""
    scalars = _scalars_of(recorder, target)
    if scalars:
        cells = target.cell + cell_positions(target)
        for cell in scalars.keys() & set(cells.reshape(-1).tolist()):
            for reference in scalars.pop(cell):
                scalar = reference()
                if scalar is not None:
                    scalar.view = recorder.copied(scalar.view)


def sub_view(array: RecordedArray, items: tuple) -> View:
    """The view that basic indices give, found by NumPy itself."""
    return view_by_numpy(array, lambda cells: cells[(*items, ...) if not any(i is Ellipsis for i in items) else items])


def view_by_numpy(array: RecordedArray, function) -> View | None:
    """Apply a NumPy function that gives a view; None where it had to copy.

    The function sees the cells themselves, as NumPy would, and where its result lies in them tells the new view.
    """
    buffer = array.recorder.memory.values
    cells = array.view.of(buffer)
    return located(function(cells), cells, buffer, array.view)


def located(result: np.ndarray, cells: np.ndarray, buffer: np.ndarray, view: View) -> View | None:
    """Where `result` lies in `buffer`, given that it came from `cells`; None where it does not."""
    item = buffer.itemsize
    strides = tuple(s // item for s in result.strides)
    if result.size == 0:
        return View(view.cell, result.shape, strides)
    if not np.may_share_memory(result, cells):
        return None
    start = buffer.__array_interface__["data"][0]
    return View((result.__array_interface__["data"][0] - start) // item, result.shape, strides)


def gather(array: RecordedArray, positions, rows=()) -> RecordedArray:
    """The elements of `array` whose cells lie `positions` after its first, or from each on as many neighbours as rows have."""
    recorder = array.recorder
    where = _position_view(recorder, positions)
    out = recorder.new_slot((*where.shape, *rows))
    words = (where.size, *_reach(array.view), math.prod(rows))
    recorder.structural("gather", [View(array.view.cell, (), ()), where], out, words, out.size)
    return RecordedArray(recorder, out, array.dtype)


def _rows_apart(array: RecordedArray, items: tuple):
    """An array and an index of it, without last axes of which the index takes all and which are neighbours in memory.

    Returns the first elements of such rows, the index that is left, and the shape of a row.
    """
    given = items[:-1] if items[-1] is Ellipsis else items
    if any(item is Ellipsis for item in given) or 0 in array.shape:
        return array, items, ()
    used = sum(np.ndim(item) if _is_mask(item) else item is not None for item in given)
    view, rows = array.view, ()
    while len(view.shape) > max(used, 1) and view.strides[-1] == math.prod(rows):
        rows = (view.shape[-1], *rows)
        view = View(view.cell, view.shape[:-1], view.strides[:-1])
    if not rows:
        return array, items, ()
    return RecordedArray(array.recorder, view, array.dtype, writeable=array.writeable), given, rows


def _reach(view: View) -> tuple[int, int]:
    """The [low, high) of the positions that lie in the view."""
    reach = [(n - 1) * s for n, s in zip(view.shape, view.strides, strict=True)]
    if view.size == 0:
        return 0, 0
    return sum(min(r, 0) for r in reach), sum(max(r, 0) for r in reach) + 1


def cell_positions(view: View) -> np.ndarray:
    """For each element of the view, how far its cell lies from the first."""
    positions = np.zeros(view.shape, np.int64)
    for axis, (n, stride) in enumerate(zip(view.shape, view.strides, strict=True)):
        positions += (np.arange(n) * stride).reshape((n,) + (1,) * (len(view.shape) - axis - 1))
    return positions


def _position_view(recorder, positions) -> View:
    if isinstance(positions, RecordedArray):
        view = positions.view
        return view if view.strides == contiguous(view.shape) else recorder.copied(view)
    return recorder.constant(positions)


def _items(index) -> tuple:
    items = index if isinstance(index, tuple) else (index,)
    return tuple(np.asarray(i) if isinstance(i, list) and not any(isinstance(j, RecordedArray) for j in i)
                 else np.stack(i) if isinstance(i, list) else i for i in items)


def _is_basic(items) -> bool:
    return all(i is None or i is Ellipsis or (isinstance(i, (slice, int, np.integer)) and not isinstance(i, (bool, np.bool_)))
               for i in items)


def _is_mask(item) -> bool:
    return isinstance(item, (RecordedArray, np.ndarray, np.bool_)) and item.dtype == bool


def _expanded(mask, ndim):
    return np.reshape(mask, mask.shape + (1,) * (ndim - mask.ndim))


def _broadcast(recorder, value, shape) -> View:
    """`value` as a view of `shape`; leading axes of length 1 may be dropped, as in NumPy's assignment."""
    view = value.view if isinstance(value, RecordedArray) else recorder.constant(value)
    while len(view.shape) > len(shape) and view.shape[0] == 1:
        view = View(view.cell, view.shape[1:], view.strides[1:])
    extra = len(shape) - len(view.shape)
    if extra < 0 or any(n not in (1, m) for n, m in zip(view.shape, shape[extra:], strict=True)):
        raise ValueError(f"could not broadcast input array from shape {view.shape} into shape {tuple(shape)}")
    return View(view.cell, tuple(shape), broadcast_strides(view, tuple(shape)))


def _positions(array: RecordedArray, items: tuple):
    """Split an advanced index: (the view, positions in it as an array, recorded where an index is)."""
    items = tuple(_resolved(item) for item in items)
    if not any(isinstance(item, RecordedArray) for item in items):
        return array.view, cell_positions(array.view)[items]
    return array.view, _recorded_positions(array, items)


def _resolved(item):
    """A recorded mask as a constant one, under a guard."""
    if isinstance(item, RecordedArray):
        if item.dtype == bool:
            return item.recorder.guard(item.view).astype(bool).reshape(item.shape)
        if item.dtype.kind not in "iu":
            raise IndexError(f"arrays used as indices must be of integer (or boolean) type, got {item.dtype}")
    return item


def _recorded_positions(array: RecordedArray, items: tuple) -> RecordedArray:
    """Positions for an index of which some part is a recorded integer array."""
    items = tuple(part for item in items for part in (np.nonzero(item) if _is_mask(item) and not isinstance(item, RecordedArray)
                                                      else (item,)))
    axes = sum(1 for i in items if i is not None and i is not Ellipsis)
    if axes > array.ndim:
        raise IndexError(f"too many indices: array is {array.ndim}-dimensional, but {axes} were indexed")
    fill = (slice(None),) * (array.ndim - axes)
    at = next((k for k, i in enumerate(items) if i is Ellipsis), len(items))
    items = items[:at] + fill + items[at + 1 :]
    # Slices, new axes and single integers first, as a view; what is left is arrays and whole axes.
    advanced = [i for i in items if isinstance(i, (RecordedArray, np.ndarray))]
    scalars_too = len(advanced) > 0
    kept, indices = [], []
    for axis, item in enumerate(items):
        if isinstance(item, (RecordedArray, np.ndarray)) or (scalars_too and isinstance(item, (int, np.integer))):
            kept.append(slice(None))
            indices.append((axis, item))
        else:
            kept.append(item)
    view = sub_view(array, tuple(kept))
    where = [axis for axis, _ in indices]
    adjacent = where == list(range(where[0], where[0] + len(where)))
    # In the list's own precision where that holds all positions: integers beside float32 would make it a list of float64.
    holds = max(map(abs, _reach(view))) <= exact_limit(array.recorder.dtype)
    kind = array.recorder.dtype if holds else np.dtype(float)
    parts = [_wrapped(item, view.shape[axis], kind) for axis, item in indices]
    shape = np.broadcast_shapes(*(np.shape(p) for p in parts))
    rest = [axis for axis in range(len(view.shape)) if axis not in where]
    before = [axis for axis in rest if adjacent and axis < where[0]]
    after = [axis for axis in rest if axis not in before]
    total = view.cell - array.view.cell
    for part, axis in zip(parts, where, strict=True):
        aligned = np.reshape(part, (1,) * (len(shape) - np.ndim(part)) + np.shape(part) + (1,) * len(after))
        total = aligned * view.strides[axis] + total
    for group, trailing in ((before, len(shape) + len(after)), (after, 0)):
        for k, axis in enumerate(group):
            n = view.shape[axis]
            steps = (np.arange(n, dtype=kind) * view.strides[axis]).reshape((n,) + (1,) * (len(group) - k - 1 + trailing))
            total = total + steps
    full = tuple(view.shape[a] for a in before) + shape + tuple(view.shape[a] for a in after)
    return np.broadcast_to(total, full)


def _wrapped(index, n: int, kind: np.dtype):
    """An index, as floats, with negative values counted from the end; out of range it is NaN, which gather refuses."""
    if isinstance(index, RecordedArray):
        index = RecordedArray(index.recorder, index.view, kind)
        inside = record("and", (record("ge", (index, -n)), record("lt", (index, n))))
        wrapped = record("where", (record("lt", (index, 0)), index + n, index))
        return record("where", (inside, wrapped, math.nan))
    index = np.asarray(index)
    if index.size and (index.min() < -n or index.max() >= n):
        raise IndexError(f"index {index.min() if index.min() < -n else index.max()} is out of bounds for axis of length {n}")
    return np.where(index < 0, index + n, index).astype(kind)
