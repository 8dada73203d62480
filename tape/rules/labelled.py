"""Arrays with labels whose numbers are differentiated: series of pandas, and arrays of xarray.

The function gets an array of the same kind, with the same labels, that holds a recorded array: of pandas as an extension array,
so that pandas itself aligns and selects by labels; xarray takes recorded arrays as they are. What the derivative gives back has
the labels of the argument.

What is here: such arrays taken apart and put together. What is not: those that are constants (`tape.recording.foreign`).
Neither package is imported before an object of it is met.
"""

from __future__ import annotations

import functools

import numpy as np

from tape.errors import NotDifferentiable
from tape.recording.arrays import RecordedArray
from tape.recording.containers import LABELLED, OPENED, Labelled, opener
from tape.recording.dispatch import records
from tape.recording.foreign import numbers_of
from tape.recording.recorder import current_recorder


class SeriesLabels:
    """The labels of a series of pandas."""

    def __init__(self, series):
        self.index, self.name = series.index, series.name

    def __eq__(self, other):
        return isinstance(other, SeriesLabels) and _are_equal(self.index, other.index) and self.name == other.name

    def __hash__(self):
        return hash((len(self.index), str(self.name)))

    def labelled(self, data):
        """A series of these numbers; what is no array of a number for each label stays as it is."""
        if not _has_shape(data, self.index.shape):
            return data
        return _pandas().Series(_held(data), index=self.index, name=self.name, copy=False)


class FrameLabels:
    """The labels of a frame of pandas."""

    def __init__(self, frame):
        self.index, self.columns = frame.index, frame.columns

    def __eq__(self, other):
        return (isinstance(other, FrameLabels) and _are_equal(self.index, other.index)
                and _are_equal(self.columns, other.columns))

    def __hash__(self):
        return hash((len(self.index), len(self.columns)))

    def labelled(self, data):
        """A frame of these numbers; what is of another shape stays as it is."""
        if not _has_shape(data, (len(self.index), len(self.columns))):
            return data
        if isinstance(data, np.ndarray):
            return _pandas().DataFrame(data, index=self.index, columns=self.columns)
        frame = _pandas().DataFrame({k: _held(data[:, k]) for k in range(data.shape[1])}, index=self.index)
        frame.columns = self.columns
        return frame


class ArrayLabels:
    """Names of the axes, coordinates, name and attributes of an array of xarray."""

    def __init__(self, array):
        self.template = array.copy(data=np.broadcast_to(0.0, array.shape))

    def __eq__(self, other):
        return isinstance(other, ArrayLabels) and self.template.identical(other.template)

    def __hash__(self):
        return hash((self.template.dims, self.template.shape, str(self.template.name)))

    def labelled(self, data):
        """An array of these numbers; what is of another shape stays as it is."""
        return self.template.copy(data=data) if _has_shape(data, self.template.shape) else data


def _pandas():
    import pandas  # an optional package, which is loaded where its objects are

    return pandas


def _are_equal(index, other) -> bool:
    return index.equals(other) and index.names == other.names


def _has_shape(data, shape) -> bool:
    return isinstance(data, (np.ndarray, np.generic, RecordedArray)) and data.shape == shape


def _held(data):
    """Numbers as a series holds them; of comparisons the outcome, which is one of the branches of the recording."""
    if not isinstance(data, RecordedArray):
        return data
    return data.recorder.guard(data.view).astype(bool) if data.dtype.kind == "b" else extension()(data)


def _opened(labels, array):
    """An array with labels as a container of its numbers; one of anything else as it is."""
    data = numbers_of(array)
    return Labelled(data, labels(array)) if isinstance(data, RecordedArray) or data.dtype.kind in "fiu" else array


@records("labelled")
def with_labels(function, operands):
    """A function of operands of which some have labels, elementwise: of their numbers, with the labels of the first one."""
    labelled = next(x for x in operands if numbers_of(x) is not None)
    numbers = [x if numbers_of(x) is None else numbers_of(x) for x in operands]
    result = function(*numbers)
    return result if opener(type(labelled)) is None else LABELS[type(labelled)](labelled).labelled(result)


LABELS: dict = {}
"""Type of an array with labels → the class of its labels."""


def _enter(kind, labels):
    OPENED[kind], LABELS[kind] = functools.partial(_opened, labels), labels


def _enter_pandas():
    _enter(_pandas().Series, SeriesLabels)
    _enter(_pandas().DataFrame, FrameLabels)


def _enter_xarray():
    import xarray  # an optional package, which is loaded where its objects are

    _enter(xarray.DataArray, ArrayLabels)


LABELLED.update(pandas=_enter_pandas, xarray=_enter_xarray)

REDUCTIONS = {"sum": np.sum, "mean": np.mean, "prod": np.prod, "min": np.min, "max": np.max, "median": np.median}
"""Reductions of series by the names that pandas has for them."""

SPREADS = {"var": np.var, "std": np.std}
"""Those that divide by the number of elements less `ddof`, which is 1 in pandas."""


@functools.cache
def extension():
    """The class of pandas' extension arrays that hold a recorded array."""
    import pandas  # an optional package, which is loaded where its objects are
    from pandas.api.extensions import ExtensionArray, ExtensionDtype, ExtensionScalarOpsMixin
    from pandas.api.indexers import check_array_indexer

    class RecordedDtype(ExtensionDtype):
        """The dtype of recorded numbers in a series."""

        name, type, kind, na_value, _is_numeric = "recorded", float, "f", np.nan, True

        @classmethod
        def construct_array_type(cls):
            """The class of the arrays."""
            return RecordedExtension

    class RecordedExtension(ExtensionArray, ExtensionScalarOpsMixin):
        """A recorded array with one axis, as a series of pandas holds it."""

        __array_priority__ = 2000

        def __init__(self, values: RecordedArray):
            self.values = values

        # -------------------------------------------------------------- what pandas asks for

        @property
        def dtype(self):
            """Of recorded numbers."""
            return RecordedDtype()

        @property
        def nbytes(self) -> int:
            """Of the numbers."""
            return self.values.size * self.values.dtype.itemsize

        def __len__(self):
            return len(self.values)

        def __getitem__(self, item):
            found = self.values[check_array_indexer(self, item) if not isinstance(item, tuple) else item]
            return type(self)(found) if found.ndim else found

        def __setitem__(self, key, value):
            self.values[check_array_indexer(self, key)] = _unwrapped(value)

        @classmethod
        def _from_sequence(cls, scalars, *, dtype=None, copy=False):
            values = _unwrapped(scalars)
            if not isinstance(values, RecordedArray):
                values = np.stack(list(values)) if any(isinstance(x, RecordedArray) for x in values) else _constant(values)
            return cls(values.copy() if copy else values)

        def isna(self):
            """What is missing is NaN; which elements are is one of the branches of the recording."""
            return np.ravel(self.values.recorder.guard(np.isnan(self.values).view)).astype(bool)

        def take(self, indices, *, allow_fill=False, fill_value=None):
            """The elements at positions; with `allow_fill` -1 stands for what is missing."""
            indices = np.asarray(indices, np.int64)
            if not allow_fill or not (indices < 0).any():
                return type(self)(self.values[indices])
            filling = np.nan if fill_value is None or fill_value is self.dtype.na_value else fill_value
            return type(self)(np.concatenate([self.values, np.array([filling], float)])[indices])

        def copy(self):
            """A copy that shares no cells."""
            return type(self)(self.values.copy())

        @classmethod
        def _concat_same_type(cls, arrays):
            return cls(np.concatenate([array.values for array in arrays]))

        def astype(self, dtype, copy=True):
            """The same numbers as floats."""
            if pandas.api.types.pandas_dtype(dtype) not in (np.dtype(float), self.dtype):
                raise NotDifferentiable(f"a differentiated series cannot become one of {dtype}: expected float")
            return self.copy() if copy else self

        def map(self, mapper, na_action=None):
            """A function of each element."""
            return type(self)._from_sequence([mapper(x) for x in self.values])

        def to_numpy(self, dtype=None, copy=False, na_value=None):
            """The recorded array."""
            return self.values.copy() if copy else self.values

        def _reduce(self, name, *, skipna=True, keepdims=False, **options):
            missing = self.isna()
            values = self.values[~missing] if skipna and missing.any() else self.values
            if name in SPREADS:
                result = SPREADS[name](values, ddof=options.get("ddof", 1))
            elif name in REDUCTIONS:
                result = REDUCTIONS[name](values)
            else:
                raise NotDifferentiable(f"pandas.Series.{name} of a differentiated series: not supported; use NumPy's "
                                        "functions of series.to_numpy()")
            return type(self)(np.reshape(result, (1,))) if keepdims else result

        def _accumulate(self, name, *, skipna=True, **options):
            if name not in ("cumsum", "cumprod") or self.isna().any():
                missing = "" if name in ("cumsum", "cumprod") else " with missing values"
                raise NotDifferentiable(f"pandas.Series.{name} of a differentiated series{missing}: not supported")
            return type(self)(getattr(np, name)(self.values))

        # -------------------------------------------------------------- NumPy's protocols

        def __array__(self, dtype=None, copy=None):
            return self.values.__array__(dtype, copy)

        def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
            if any(isinstance(x, (pandas.Series, pandas.Index, pandas.DataFrame)) for x in inputs):
                return NotImplemented
            return _wrapped(getattr(ufunc, method)(*map(_unwrapped, inputs), **kwargs), len(self))

        def __array_function__(self, function, types, args, kwargs):
            return function(*(_unwrapped(x) for x in args), **{name: _unwrapped(x) for name, x in kwargs.items()})

        # -------------------------------------------------------------- operators

        @classmethod
        def _create_method(cls, operation, coerce_to_dtype=True, result_dtype=None):
            def method(self, other):
                if isinstance(other, (pandas.Series, pandas.Index, pandas.DataFrame)):
                    return NotImplemented
                return _wrapped(operation(self.values, _unwrapped(other)), len(self))

            return method

        _create_arithmetic_method = _create_comparison_method = _create_logical_method = _create_method

        def __neg__(self):
            return type(self)(-self.values)

        def __pos__(self):
            return self

        def __abs__(self):
            return type(self)(np.abs(self.values))

        def __matmul__(self, other):
            return self.values @ _unwrapped(other)

    def _unwrapped(x):
        return x.values if isinstance(x, RecordedExtension) else x

    def _wrapped(result, length):
        return _held(result) if _has_shape(result, (length,)) else result

    def _constant(values):
        recorder, array = current_recorder(), np.asarray(values, float)
        return RecordedArray(recorder, recorder.copied(recorder.constant(array)), array.dtype)

    RecordedExtension._add_arithmetic_ops()
    RecordedExtension._add_comparison_ops()
    return RecordedExtension
