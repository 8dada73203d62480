"""Recorded arrays: they write a list while ordinary NumPy code runs on them.

What is here: `record`, which records one elementwise instruction as NumPy would compute it, and the `RecordedArray`, which
stands for some cells of the list. What is not: which NumPy function is which list (`tape.rules`),
indexing (`tape.rules.indexing`).
"""

from __future__ import annotations

import numpy as np

from compiled.instructions import TABLE, Number
from compiled.memory import View
from tape.errors import NotDifferentiable
from tape.lines import called_by_scipy, user_line
from tape.methods import add_methods
from tape.recorder import SQUARES_OF_ROOTS, Recorder, broadcast_shape, current_recorder

_result_dtypes: dict = {}


def result_dtype(name: str, operands) -> np.dtype:
    """dtype that NumPy gives for this instruction on these operands (Python scalars are weak)."""
    key = (name, *(x.dtype if isinstance(x, (RecordedArray, np.ndarray, np.generic)) else type(x) for x in operands))
    dtype = _result_dtypes.get(key)
    if dtype is None:
        kind = TABLE[name].kind
        if kind == "bool":
            dtype = np.dtype(bool)
        else:
            if name == "where":
                operands = operands[1:]
            weak = [x if isinstance(x, (bool, int, float)) and not isinstance(x, np.generic) else x.dtype for x in operands]
            dtype = np.result_type(*weak) if weak else np.dtype(float)
            if kind == "float" and dtype.kind in "iub":
                dtype = np.dtype(float)
        if dtype.kind not in "fiub" or (dtype.kind == "f" and dtype.itemsize not in (4, 8)):
            raise NotDifferentiable(f"{name}: expected float64, float32, integers or booleans, got {dtype}; convert it with "
                                    "astype")
        _result_dtypes[key] = dtype
    return dtype


def record(name: str, operands) -> RecordedArray:
    """Record elementwise instruction `name` on arrays and numbers, of which at least one is recorded."""
    recorder = recorder_of(operands)
    operands = [plain(x) for x in operands]
    dtype = result_dtype(name, operands)
    dtype = recorder.fitting(dtype)
    views = [x.view if isinstance(x, RecordedArray) else recorder.constant(x) for x in operands]
    if name in ("square", "mul"):
        name, views = recorder.squared_root(name, views)
    shape = broadcast_shape([view.shape for view in views])
    out = new_like(recorder, views, shape)
    recorder.elementwise(name, views, shape, out)
    if name in SQUARES_OF_ROOTS:
        recorder.roots[out] = name, views
    return RecordedArray(recorder, out, dtype)


def new_like(recorder: Recorder, views, shape) -> View:
    """A new slot for a result of `shape`, its axes in memory in the order of the operands' (NumPy's order "K")."""
    orders = {tuple(sorted(range(len(shape)), key=lambda axis: -abs(view.strides[axis])))
              for view in views if view.shape == shape and len(shape) > 1}
    order = orders.pop() if len(orders) == 1 else tuple(range(len(shape)))
    out = recorder.new_slot(tuple(shape[axis] for axis in order))
    strides = dict(zip(order, out.strides, strict=True))
    return View(out.cell, tuple(shape), tuple(strides[axis] for axis in range(len(shape))))


def recorder_of(operands) -> Recorder:
    recorder = None
    for x in operands:
        if isinstance(x, RecordedArray):
            recorder = x.recorder
            if recorder is not current_recorder():
                raise NotDifferentiable(
                    "a recorded array was used outside the recording that made it (it was kept in a variable of an outer "
                    "scope); return it from the function instead")
    return recorder


def evaluated(function, array: np.ndarray):
    """Evaluate a function of one recorded array on a plain one, on a list of its own."""
    recorder = Recorder(np.float32 if array.dtype == np.float32 else np.float64)
    with recorder.recording():
        return function(RecordedArray(recorder, recorder.input(array, False), array.dtype)).numpy()[()]


def plain(x):
    """An operand as RecordedArray, Python number or numeric ndarray; raises for anything else."""
    if isinstance(x, (RecordedArray, float, int, np.ndarray, np.generic)):
        if isinstance(x, (np.ndarray, np.generic)) and x.dtype.kind not in "fiub":
            if x.dtype == object and any(isinstance(item, RecordedArray) for item in np.ravel(x)):
                raise NotDifferentiable("an object array of recorded values: expected numbers; build it with np.stack or "
                                        "np.concatenate, or with np.array(..., like=x) where x is recorded")
            raise NotDifferentiable(f"an operand of dtype {x.dtype}: expected floats, integers or booleans")
        return x
    if isinstance(x, (list, tuple)):
        if any(isinstance(item, (RecordedArray, list, tuple)) for item in x):
            from tape.rules.arrays import stacked

            return stacked(x)
        return plain(np.asarray(x))
    raise NotDifferentiable(f"an operand of type {type(x).__name__}: expected an array or a number, got {x!r:.80}")


class RecordedArray(Number):
    """An array that records what is done with it; behaves as a NumPy array does.

    Made by the functions that differentiate or record. Indexing, transposing and reshaping give views that alias as
    NumPy's do. A Python `if` or `while` on a recorded value is a guard: its outcome is part of the list, and when another
    call would decide otherwise, the function is recorded anew for that branch.

    Examples
    --------
    >>> import numpy as np, tape
    >>> def f(x):
    ...     print(type(x).__name__, x.shape, x[1:].T.shape, isinstance(x, tape.RecordedArray))
    ...     return np.sum(x) if x[0, 0] > 0 else -np.sum(x)
    >>> tape.grad(f)(np.ones((2, 3)))
    RecordedArray (2, 3) (3, 1) True
    array([[1., 1., 1.],
           [1., 1., 1.]])
    """

    __slots__ = ("dtype", "recorder", "view")
    __hash__ = None

    def __init__(self, recorder: Recorder, view: View, dtype):
        self.recorder, self.view, self.dtype = recorder, view, dtype

    @staticmethod
    def apply(name, operands):
        """Record an operator; operands of other array types (which may hold recorded arrays) take it over, as in NumPy."""
        try:
            return record(name, operands)
        except NotDifferentiable:
            if any(map(_is_foreign, operands)):
                return NotImplemented
            raise

    # ------------------------------------------------------------------ what it looks like

    @property
    def shape(self) -> tuple[int, ...]:
        """As of an ndarray."""
        return self.view.shape

    @property
    def ndim(self) -> int:
        """As of an ndarray."""
        return len(self.view.shape)

    @property
    def size(self) -> int:
        """As of an ndarray."""
        return self.view.size

    @property
    def T(self) -> RecordedArray:
        """As of an ndarray."""
        return np.transpose(self)

    @property
    def mT(self) -> RecordedArray:
        """As of an ndarray."""
        return np.matrix_transpose(self)

    @property
    def real(self) -> RecordedArray:
        """As of an ndarray: the array itself."""
        return self

    @property
    def imag(self) -> RecordedArray:
        """As of an ndarray: zeros."""
        return np.imag(self)

    @property
    def flat(self):
        """Iterate over the elements."""
        return iter(np.ravel(self))

    def numpy(self) -> np.ndarray:
        """The values now, as a plain array; the derivative does not see what is done with it."""
        return self.recorder.value(self.view).astype(self.dtype)

    def __repr__(self):
        return f"RecordedArray({self.numpy()!r})"

    def __len__(self):
        if not self.shape:
            raise TypeError("len() of unsized object")
        return self.shape[0]

    def __iter__(self):
        if not self.shape:
            raise TypeError("iteration over a 0-d array")
        return (self[i] for i in range(self.shape[0]))

    # ------------------------------------------------------------------ leaving the list

    def __bool__(self):
        if self.size != 1:
            raise ValueError("The truth value of an array with more than one element is ambiguous. Use np.any or np.all")
        return bool(self.recorder.guard(_point(record("ne", (self, 0)).view)))

    def __int__(self):
        if self.size != 1:
            raise TypeError("only arrays of one element can be converted to Python integers")
        whole = self if self.dtype.kind in "iub" else record("where", (record("lt", (self, 0)), np.ceil(self), np.floor(self)))
        return int(self.recorder.guard(_point(whole.view)))

    def __index__(self):
        if self.dtype.kind not in "iu":
            raise TypeError("only integer recorded arrays can be used as an index")
        return int(self)

    def __float__(self):
        raise NotDifferentiable(
            f"{_here()}: float() of a recorded value would cut its derivative; leave it out, use NumPy's functions in place "
            "of math's, make arrays for results with np.zeros_like(x) or np.zeros(shape, like=x), or say "
            "tape.stop_gradient(x) where a constant is meant")

    def __array__(self, dtype=None, copy=None):
        function = called_by_scipy()
        if function is not None:
            raise NotDifferentiable(
                f"{_here()}: SciPy's {function} takes plain arrays alone; tape.scipy.linalg and tape.scipy.special have "
                "functions of SciPy's names for recorded arrays, and tape.operation gives a rule to any other")
        raise NotDifferentiable(
            f"{_here()}: a recorded array cannot become a plain one, that would cut its derivative; build arrays with "
            "np.stack, np.concatenate or np.array(..., like=x), and make arrays for results with np.zeros_like(x) or "
            "np.zeros(shape, like=x)")

    def item(self, *index):
        """The element, still recorded."""
        return self[index] if index else np.ravel(self)[0]

    # ------------------------------------------------------------------ NumPy's protocols

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        from tape.rules.ufuncs import call_ufunc

        try:
            return call_ufunc(ufunc, method, inputs, kwargs)
        except NotDifferentiable:
            if any(map(_is_foreign, inputs)):
                return NotImplemented
            raise

    def __array_function__(self, function, types, args, kwargs):
        from tape.rules import call_function

        return call_function(function, args, kwargs)

    # ------------------------------------------------------------------ operators that the table does not name

    def __pos__(self):
        return self

    def __abs__(self):
        return record("abs", (self,))

    def __pow__(self, other):
        return np.power(self, other)

    def __rpow__(self, other):
        return np.power(other, self)

    def __matmul__(self, other):
        return np.matmul(self, other)

    def __rmatmul__(self, other):
        return np.matmul(other, self)

    def __floordiv__(self, other):
        return np.floor_divide(self, other)

    def __rfloordiv__(self, other):
        return np.floor_divide(other, self)

    def __mod__(self, other):
        return np.mod(self, other)

    def __rmod__(self, other):
        return np.mod(other, self)

    def __divmod__(self, other):
        return np.divmod(self, other)

    def __rdivmod__(self, other):
        return np.divmod(other, self)

    def __round__(self, ndigits=0):
        return np.round(self, ndigits)

    def __invert__(self):
        return np.invert(self)

    def __and__(self, other):
        return np.bitwise_and(self, other)

    __rand__ = __and__

    def __or__(self, other):
        return np.bitwise_or(self, other)

    __ror__ = __or__

    def __xor__(self, other):
        return np.bitwise_xor(self, other)

    __rxor__ = __xor__

    def __lt__(self, other):
        return record("lt", (self, other))

    def __le__(self, other):
        return record("le", (self, other))

    def __gt__(self, other):
        return record("gt", (self, other))

    def __ge__(self, other):
        return record("ge", (self, other))

    def __eq__(self, other):
        return record("eq", (self, other)) if other is not None else False

    def __ne__(self, other):
        return record("ne", (self, other)) if other is not None else True

    # ------------------------------------------------------------------ indexing and assignment

    def __getitem__(self, index):
        from tape.rules.indexing import get

        return get(self, index)

    def __setitem__(self, index, value):
        from tape.rules.indexing import put

        put(self, index, value)

    def _in_place(self, result):
        """Put `result` into these cells; a scalar, like NumPy's, is replaced instead."""
        if not self.shape:
            return result
        if not np.can_cast(result.dtype, self.dtype, "same_kind"):
            raise TypeError(f"cannot put {result.dtype} into an array of {self.dtype} in place; use x = x + y")
        self[...] = result
        return self

    def __iadd__(self, other):
        return self._in_place(self + other)

    def __isub__(self, other):
        return self._in_place(self - other)

    def __imul__(self, other):
        return self._in_place(self * other)

    def __itruediv__(self, other):
        return self._in_place(self / other)

    def __ipow__(self, other):
        return self._in_place(self**other)

    def __ifloordiv__(self, other):
        return self._in_place(self // other)

    def __imod__(self, other):
        return self._in_place(self % other)

    def __imatmul__(self, other):
        return self._in_place(self @ other)


def _is_foreign(x) -> bool:
    """Whether this is an array of a type that is neither NumPy's nor ours."""
    return hasattr(type(x), "__array_ufunc__") and not isinstance(x, (RecordedArray, np.ndarray, np.generic))


def _point(view: View) -> View:
    """A view of one element without axes."""
    return View(view.cell, (), ())


def _here() -> str:
    return "{}:{}".format(*user_line())


add_methods(RecordedArray, ("sum", "mean", "prod", "max", "min", "var", "std", "ravel", "swapaxes", "squeeze", "dot", "take",
                            "clip", "all", "any", "argmax", "argmin", "diagonal", "trace", "repeat", "cumsum", "cumprod",
                            "argsort", "searchsorted", "choose", "nonzero", "put", "round", "conj", "conjugate"))


def _copy(self, order="C"):
    """A copy that shares no cells."""
    if order == "K":
        return record("copy", (self,))
    return RecordedArray(self.recorder, self.recorder.copied(self.view), self.dtype)


def _compress(self, condition, axis=None, out=None):
    """`numpy.compress` of this array."""
    return np.compress(condition, self, axis, out)


def _sort(self, axis=-1, kind=None, order=None, *, stable=None):
    """Sort in place."""
    self[...] = np.sort(self, axis=axis)


def _fill(self, value):
    """Set all elements."""
    self[...] = value


def _flatten(self, order="C"):
    """A copy with one axis."""
    return np.ravel(self.copy(), order=order)


def _astype(self, dtype, **_):
    """A copy in another dtype; floats of a list share one precision, so a float64 list cannot round to float32."""
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return record("ne", (self, 0))
    if dtype.kind in "iu":
        whole = self if self.dtype.kind in "iub" else record("where", (record("lt", (self, 0)), np.ceil(self), np.floor(self)))
        return RecordedArray(self.recorder, self.recorder.copied(whole.view), dtype)
    if dtype not in (np.float64, np.float32):
        raise NotDifferentiable(f"astype({dtype}): expected float64, float32, an integer type or bool")
    return RecordedArray(self.recorder, self.recorder.copied(self.view), self.recorder.fitting(dtype))


RecordedArray.copy = _copy
RecordedArray.flatten, RecordedArray.astype = _flatten, _astype
RecordedArray.sort, RecordedArray.fill, RecordedArray.compress = _sort, _fill, _compress
