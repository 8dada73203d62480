"""Recorded arrays: they write a list while ordinary NumPy code runs on them.

What is here: `record`, which records one elementwise instruction as NumPy would compute it, and the `RecordedArray`, which
stands for some cells of the list. What is not: which NumPy function, and which index, is which list: the rules (`tape.rules`)
stand in the tables of `dispatch.py`.
"""

from __future__ import annotations

import functools
import operator

import numpy as np

from compiled.table.instructions import TABLE
from compiled.table.numbers import Number
from compiled.table.views import View
from tape.errors import NotDifferentiable
from tape.recording import integers
from tape.recording.containers import LEAF_TYPES, leaves_of, opened, with_leaves
from tape.recording.dispatch import SYNTAX, TAKEN_OVER, call_function
from tape.recording.foreign import PACKAGES, has_products_by_star, is_sparse, numbers_of, package_of
from tape.recording.lines import asked_by_sparse, asked_by_user, called_by, user_line
from tape.recording.methods import add_methods
from tape.recording.python_numbers import divided, power
from tape.recording.recorded import Recorded
from tape.recording.recorder import Recorder, current_recorder
from tape.recording.signatures import X

_result_dtypes: dict = {}


def result_dtype(name: str, operands, python: bool = False) -> np.dtype:
    """dtype that NumPy gives for this instruction on these operands (Python's numbers are weak).

    With `python` the operands are all Python's own numbers, of which True + True is 2.
    """
    key = (name, python, *map(_kind_of, operands))
    dtype = _result_dtypes.get(key)
    if dtype is None:
        row = TABLE.by_name[name]
        kinds = key[3:] if name == "where" else key[2:]
        if row.kind == "bool":
            dtype = np.dtype(bool)
        elif python:
            weakest = np.result_type(*kinds) if kinds else np.dtype(float)
            if _numpy_dtype(row, kinds).kind == "f":
                weakest = np.dtype(float)  # the quotient of integers
            dtype = np.dtype(int) if weakest.kind == "b" and name not in ("where", "copy") else weakest
        else:
            dtype = _numpy_dtype(row, kinds)
            if dtype == np.float16:
                raise NotDifferentiable(f"{_here()}: numpy.{row.numpy[0]} of {' and '.join(map(str, kinds))} computes in "
                                        "float16, which lists do not have; convert the operand with astype(np.float64)")
            if row.kind == "float" and dtype.kind in "iub":
                dtype = np.dtype(float)
        if dtype.kind not in "fiub" or (dtype.kind == "f" and dtype.itemsize not in (4, 8)):
            raise NotDifferentiable(f"{name}: expected float64, float32, integers or booleans, got {dtype}; convert it with "
                                    "astype")
        _result_dtypes[key] = dtype
    return dtype


def _kind_of(x):
    """The dtype of an operand, or the type of Python's number that it is or stands for."""
    if isinstance(x, RecordedArray):
        return x.dtype if x.plain_type is None or x.plain_type is np.ndarray else x.plain_type
    return x.dtype if isinstance(x, (np.ndarray, np.generic)) else type(x)


def _numpy_dtype(row, kinds):
    """What NumPy's own ufunc gives, where its rule is not that of the common type (booleans, narrow integers); or raises."""
    common = np.result_type(*(kind() if isinstance(kind, type) else kind for kind in kinds)) if kinds else np.dtype(float)
    if common.kind in "iub" and row.numpy and hasattr(np, row.numpy[0]):
        with np.errstate(all="ignore"):
            return getattr(np, row.numpy[0])(*(kind(1) if isinstance(kind, type) else np.ones((), kind)[()] for kind in kinds)
                                             ).dtype
    return common


def record(name: str, operands, python: bool = False) -> RecordedArray:
    """Record elementwise instruction `name` on arrays and numbers, of which at least one is recorded.

    With `python` the operands are all Python's own numbers, and so is the result.
    """
    recorder = recorder_of(operands)
    operands = [plain(x) for x in operands]
    dtype = result_dtype(name, operands, python)
    integral = dtype.kind != "f" and all(map(integers.is_integral, operands))
    if integral:
        if dtype.kind in "iu" and not python:
            operands = [integers.checked_python_integer(x, dtype) for x in operands]
            if not any(isinstance(x, RecordedArray) for x in operands):
                return integers.computed(_function_of(name, python), operands)
        if any(not isinstance(x, RecordedArray) and not integers.fits(x, recorder.dtype) for x in operands):
            return integers.computed(_function_of(name, python), operands)
        if dtype.kind == "b":
            name = _BOOLEAN.get(name, name)
    if dtype != recorder.dtype:
        dtype = recorder.dtype if python and dtype.kind == "f" else recorder.fitting(dtype)
    views = [x.view if isinstance(x, RecordedArray) else recorder.constant(x) for x in operands]
    out = recorder.computed(name, views)
    if integral and name in _SIGNED_ZERO and any(known is None or known[0] < 0 for known in map(recorder.interval, views)):
        out = recorder.computed("add", [out, recorder.constant(0)])
    result = RecordedArray(recorder, out, dtype, _PYTHON[dtype.kind] if python else None)
    return integers.settled(result, _function_of(name, python), operands) if integral and dtype.kind in "iu" else result


_PYTHON = {"f": float, "i": int, "b": bool}
"""Kind of dtype → Python's type of number."""

_SIGNED_ZERO = ("mul", "neg", "fmod", "mod", "floor_divide")
"""Instructions that give -0.0 in cells, which integers do not have: adding 0 makes it 0."""

_BOOLEAN = {"add": "or", "mul": "and"}
"""Instruction of numbers → that of booleans."""


def _function_of(name, python):
    """What computes an instruction of plain integers."""
    if python and name in integers.OPERATORS:
        return integers.OPERATORS[name]
    return np.where if name == "where" else getattr(np, TABLE[name].numpy[0]) if TABLE[name].numpy else None


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
    if isinstance(x, RecordedArray):
        return x
    if isinstance(x, (float, int, np.ndarray, np.generic)):
        if isinstance(x, (np.ndarray, np.generic)) and x.dtype.kind not in "fiub":
            if x.dtype == object and any(isinstance(item, RecordedArray) for item in np.ravel(x)):
                raise NotDifferentiable("an object array of recorded values: expected numbers; build it with np.stack or "
                                        "np.concatenate, or with np.array(..., like=x) where x is recorded")
            raise NotDifferentiable(f"an operand of dtype {x.dtype}: expected floats, integers or booleans")
        return x
    if isinstance(x, (list, tuple)):
        if any(isinstance(item, (RecordedArray, list, tuple)) for item in x):
            return SYNTAX["stacked"](x)
        return plain(np.asarray(x))
    numbers = numbers_of(x)
    if numbers is not None:
        return plain(numbers)
    if is_sparse(x):
        raise NotDifferentiable(f"{_here()}: a sparse matrix in another operation than a product: expected A @ x or x @ A; "
                                "make it dense with A.toarray(), or use its elements, A.data")
    raise NotDifferentiable(f"an operand of type {type(x).__name__}: expected an array or a number, got {x!r:.80}")


def is_bool(x) -> bool:
    """Whether an operand is made of booleans."""
    return isinstance(x, bool) or getattr(x, "dtype", None) == np.dtype(bool)


class RecordedArray(Recorded, Number):
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

    __slots__ = ()
    __hash__ = None
    __pandas_priority__ = 5000
    """Above that of pandas' own, whose operators hand over: its numbers are constants here."""

    def __init__(self, recorder: Recorder, view: View, dtype, plain_type=None, writeable: bool = True):
        self.recorder, self.view, self.dtype, self.plain_type, self.writeable = recorder, view, dtype, plain_type, writeable

    def __init_subclass__(cls):
        LEAF_TYPES.add(cls)

    @property
    def __class__(self):
        """To the user's code what the plain call has in its place: ndarray, a scalar of NumPy's, or a number of Python's."""
        if not asked_by_user():
            return RecordedArray
        return self.plain_type or (np.ndarray if self.view.shape else self.dtype.type)

    @staticmethod
    def apply(name, operands):
        """Record an operator; operands of other array types (which may hold recorded arrays) take it over, as in NumPy."""
        if _have_labels(operands):
            return SYNTAX["labelled"](functools.partial(_applied, name), operands)
        try:
            return record(name, operands, all(map(_is_python_number, operands)))
        except NotDifferentiable:
            if any(map(_is_foreign, operands)):
                return NotImplemented
            if name == "mul" and any(map(has_products_by_star, operands)):
                return operator.matmul(*operands)
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
        asking = asked_by_sparse()
        if asking in PRODUCTS:
            return PRODUCTS[asking]
        function = called_by("labels")
        if function is not None:
            raise NotDifferentiable(f"{_here()}: {function} of pandas or xarray takes plain arrays alone; use NumPy's function "
                                    "of the numbers, as in series.to_numpy() @ x")
        function = called_by("scipy")
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
        if method == "__call__" and _have_labels(inputs):
            return SYNTAX["labelled"](functools.partial(ufunc, **kwargs), inputs)
        try:
            return SYNTAX["ufunc"](ufunc, method, inputs, kwargs)
        except NotDifferentiable:
            if any(map(_is_foreign, inputs)):
                return NotImplemented
            raise

    def __array_function__(self, function, types, args, kwargs):
        recorder_of(args)  # refuses arrays of another recording
        return call_function(function, args, kwargs)

    # ------------------------------------------------------------------ operators that the table does not name

    def __pos__(self):
        return self

    def __abs__(self):
        return self.apply("abs", (self,))

    def __truediv__(self, other):
        return _divided("division", self, other)

    def __rtruediv__(self, other):
        return _divided("division", other, self)

    def __pow__(self, other):
        return _power(self, other)

    def __rpow__(self, other):
        return _power(other, self)

    def __matmul__(self, other):
        return SYNTAX["by sparse"](self, other) if is_sparse(other) else np.matmul(self, other)

    def __rmatmul__(self, other):
        return SYNTAX["sparse"](other, self) if is_sparse(other) else np.matmul(other, self)

    def __floordiv__(self, other):
        return _divided("floor division", self, other)

    def __rfloordiv__(self, other):
        return _divided("floor division", other, self)

    def __mod__(self, other):
        return _divided("modulo", self, other)

    def __rmod__(self, other):
        return _divided("modulo", other, self)

    def __divmod__(self, other):
        return self // other, self % other

    def __rdivmod__(self, other):
        return other // self, other % self

    def __round__(self, ndigits=0):
        return np.round(self, ndigits)

    def __invert__(self):
        return _bitwise(operator.invert, np.invert, self)

    def __and__(self, other):
        return _bitwise(operator.and_, np.bitwise_and, self, other)

    def __rand__(self, other):
        return _bitwise(operator.and_, np.bitwise_and, other, self)

    def __or__(self, other):
        return _bitwise(operator.or_, np.bitwise_or, self, other)

    def __ror__(self, other):
        return _bitwise(operator.or_, np.bitwise_or, other, self)

    def __xor__(self, other):
        return _bitwise(operator.xor, np.bitwise_xor, self, other)

    def __rxor__(self, other):
        return _bitwise(operator.xor, np.bitwise_xor, other, self)

    def __lshift__(self, other):
        return _bitwise(operator.lshift, np.left_shift, self, other)

    def __rlshift__(self, other):
        return _bitwise(operator.lshift, np.left_shift, other, self)

    def __rshift__(self, other):
        return _bitwise(operator.rshift, np.right_shift, self, other)

    def __rrshift__(self, other):
        return _bitwise(operator.rshift, np.right_shift, other, self)

    def __lt__(self, other):
        return self.apply("lt", (self, other))

    def __le__(self, other):
        return self.apply("le", (self, other))

    def __gt__(self, other):
        return self.apply("gt", (self, other))

    def __ge__(self, other):
        return self.apply("ge", (self, other))

    def __eq__(self, other):
        return self.apply("eq", (self, other)) if other is not None else False

    def __ne__(self, other):
        return self.apply("ne", (self, other)) if other is not None else True

    # ------------------------------------------------------------------ indexing and assignment

    def __getitem__(self, index):
        return SYNTAX["get"](self, index)

    def __setitem__(self, index, value):
        SYNTAX["put"](self, index, value)

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


LEAF_TYPES.add(RecordedArray)


PRODUCTS = {"_matmul_dispatch": np.array(None), "dot": np.empty(0)}
"""Methods in which SciPy's sparse matrices look at what they are multiplied with → what has them leave the product to it: for
`@` something that is no array, for `dot` of coordinates, which then says `@`, anything else."""

_PYTHON_TYPES = (float, int, bool)


def _is_python_number(x) -> bool:
    """Whether this is, or stands for, a number of Python's own, so that Python's rules hold for it."""
    return x.plain_type in _PYTHON_TYPES if isinstance(x, RecordedArray) else type(x) in _PYTHON_TYPES


def _divided(what, x, y):
    """A quotient, whole quotient or remainder by the operator."""
    if _is_python_number(x) and _is_python_number(y):
        return divided(what, x, y)
    if what == "division":
        return RecordedArray.apply("div", (x, y))
    return (np.floor_divide if what == "floor division" else np.remainder)(x, y)


def _power(x, y):
    """x**y by the operator."""
    if _is_python_number(x) and _is_python_number(y):
        return power(x, y)
    if type(y) is int and y == 2 and x.view.shape:
        return x.apply("square", (x,))  # NumPy's operator squares arrays, which for booleans is of another dtype
    return np.power(x, y)


def _bitwise(operation, ufunc, *operands):
    """An operator of bits: of Python's own integers as Python computes it, else by NumPy's function."""
    if all(map(_is_python_number, operands)) and any(_kind_of(x) is int for x in operands):
        return integers.computed(operation, operands)
    return ufunc(*operands)


def _applied(name, *operands):
    """An operator of operands without labels."""
    return RecordedArray.apply(name, operands)


def _have_labels(operands) -> bool:
    """Whether some operands are arrays with labels, of pandas or xarray."""
    return not LEAF_TYPES.issuperset(map(type, operands)) and any(
        package_of(x) in PACKAGES and numbers_of(x) is not None for x in operands)


def _is_foreign(x) -> bool:
    """Whether this is an array of a type that is neither NumPy's nor ours, nor one of those whose numbers are operands."""
    return (hasattr(type(x), "__array_ufunc__") and not isinstance(x, (RecordedArray, np.ndarray, np.generic))
            and package_of(x) not in PACKAGES)


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


def _astype(self, dtype, order="K", casting="unsafe", subok=True, copy=True):
    """A copy in another dtype; floats of a list share one precision, so a float64 list cannot round to float32."""
    dtype = np.dtype(dtype)
    if not np.can_cast(self.dtype, dtype, casting):
        raise TypeError(f"Cannot cast array data from {self.dtype!r} to {dtype!r} according to the rule {casting!r}")
    if not copy and dtype == self.dtype:
        return self
    if dtype.kind == "b":
        return record("ne", (self, 0))
    if dtype.kind in "iu":
        whole = self if self.dtype.kind in "iub" else record("add", (record("trunc", (self,)), 0.0))
        result = RecordedArray(self.recorder, self.recorder.copied(whole.view), dtype)
        return integers.settled(result, lambda x: np.asarray(x).astype(dtype)[()], (self,))
    if dtype not in (np.float64, np.float32):
        raise NotDifferentiable(f"astype({dtype}): expected float64, float32, an integer type or bool")
    return RecordedArray(self.recorder, self.recorder.copied(self.view), self.recorder.fitting(dtype))


def _deepcopy(self, memo):
    """A copy that shares no cells, the same one wherever the array stands in what is copied."""
    return memo.setdefault(id(self), _copy(self, "K"))


def _reduce(self):
    raise NotDifferentiable("a recorded array is of the recording at work, and cannot be pickled: a function that is recorded "
                            "may not send it to another process; differentiate there what is computed there")


RecordedArray.copy, RecordedArray.__reduce__ = _copy, _reduce
RecordedArray.__copy__, RecordedArray.__deepcopy__ = lambda self: _copy(self, "K"), _deepcopy
RecordedArray.flatten, RecordedArray.astype = _flatten, _astype
RecordedArray.sort, RecordedArray.fill, RecordedArray.compress = _sort, _fill, _compress


def stop_gradient(x: X) -> X:
    """Return `x` as a constant: no derivative flows through it.

    Parameters
    ----------
    x : array, float, or nested containers of them
        Plain or recorded.

    Returns
    -------
    same as x
        The same values.

    Examples
    --------
    >>> import tape
    >>> float(tape.grad(lambda x: x * tape.stop_gradient(x))(3.0))
    3.0
    """
    if isinstance(x, RecordedArray):
        recorder = x.recorder
        out = recorder.new_slot(x.shape)
        recorder.elementwise("stop", [x.view], x.shape, out)
        return RecordedArray(recorder, out, x.dtype)
    if x.__class__ in TAKEN_OVER:
        return x.detach()
    if isinstance(x, (float, int, np.ndarray, np.generic)):
        return x
    leaves, structure = leaves_of(opened(x))
    if len(leaves) == 1 and leaves[0] is x:
        return x
    return with_leaves(structure, [stop_gradient(leaf) for leaf in leaves])
