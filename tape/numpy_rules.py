"""Which NumPy function is which list.

Ufuncs that name a row of the table are that row. Functions that give views ask NumPy for the view. Reductions and the
rest are written here in terms of those. What is not here raises NotDifferentiable with the nearest alternative.
"""

from __future__ import annotations

import difflib
import math

import numpy as np

from compiled.instructions import TABLE
from compiled.memory import View
from tape import contractions
from tape.errors import NotDifferentiable
from tape.indexing import located
from tape.recorder import Promote, current_recorder
from tape.tracing import RecordedArray, _recorder_of, plain, record

# ---------------------------------------------------------------------- ufuncs


def call_ufunc(ufunc, method, inputs, kwargs):
    """Record a NumPy or SciPy ufunc (`__array_ufunc__`)."""
    name = ufunc.__name__
    kwargs = {k: v for k, v in kwargs.items() if not (k == "where" and v is True)}
    if kwargs.get("out") is not None:
        raise NotDifferentiable(f"numpy.{name} into an existing array: a plain array cannot hold recorded values; "
                                "make it with np.zeros_like(x) or np.zeros(shape, like=x), or write a = a + x for a += x")
    _recorder_of(inputs)  # refuses arrays of another recording
    if method == "reduce":
        return _reduce(ufunc, *inputs, **kwargs)
    if method == "outer":
        a, b = (plain(x) for x in inputs)
        return ufunc(np.reshape(a, np.shape(a) + (1,) * np.ndim(b)), b)
    if method == "accumulate":
        from tape.cumulative import accumulate

        return accumulate(ufunc, *inputs, **kwargs)
    if method != "__call__":
        raise NotDifferentiable(f"numpy.{name}.{method}: not supported; nearest: numpy.{name} itself, or sum, prod, max, min")
    if set(kwargs) - {"dtype", "casting"}:
        raise NotDifferentiable(f"numpy.{name} with {', '.join(kwargs)}: not supported; nearest: numpy.where on the result")
    special = _UFUNCS.get(name)
    if special is not None:
        return special(*(plain(x) for x in inputs))
    row = TABLE.ufuncs.get(name)
    if row is None:
        raise _no_rule(name)
    result = record(row, inputs)
    return result.astype(kwargs["dtype"]) if "dtype" in kwargs else result


def _reduce(ufunc, array, axis=0, dtype=None, keepdims=False, **_):
    reducers = {"add": np.sum, "multiply": np.prod, "maximum": np.max, "minimum": np.min, "logaddexp": logsumexp,
                "logical_and": np.all, "logical_or": np.any}
    if ufunc.__name__ not in reducers:
        raise NotDifferentiable(f"numpy.{ufunc.__name__}.reduce: not supported; supported: {', '.join(reducers)}")
    return reducers[ufunc.__name__](array, axis=axis, keepdims=keepdims)


def _is_bool(x):
    return isinstance(x, bool) or getattr(x, "dtype", None) == np.dtype(bool)


def _logical(row, name):
    def function(*operands):
        if not all(_is_bool(x) for x in operands):
            raise NotDifferentiable(f"numpy.{name} of numbers: expected booleans (comparisons)")
        return record(row, operands)

    return function


MOST_MULTIPLICATIONS = 16
"""Integer exponents up to this size become multiplications."""


def _power(x, y):
    if isinstance(y, (int, float, np.integer, np.floating)) and not isinstance(x, (int, float)):
        if y == 1:
            return record("copy", (x,))
        if y == 0.5:
            return record("sqrt", (x,))
        if y == int(y) if math.isfinite(y) else False:
            n = int(y)
            if 2 <= abs(n) <= MOST_MULTIPLICATIONS and (n > 0 or x.dtype.kind == "f"):
                product = _integer_power(x, abs(n))
                return product if n > 0 else record("reciprocal", (product,))
            if n == -1:
                return record("reciprocal", (x,))
    return record("pow", (x, y))


def _integer_power(x, n):
    """x**n by squaring."""
    if n == 1:
        return x
    half = _integer_power(x, n // 2)
    square = record("square", (half,))
    return record("mul", (square, x)) if n % 2 else square


def _float_power(x, y):
    """NumPy computes this one in double precision whatever the operands are."""
    return _power(*(v if isinstance(v, (int, float)) or v.dtype == np.float64 else v.astype(np.float64) for v in (x, y)))


def _fabs(x):
    result = record("abs", (x,))
    return result if result.dtype.kind == "f" else result.astype(np.float64)


def _reciprocal(x):
    if x.dtype.kind != "f":
        raise NotDifferentiable("numpy.reciprocal of integers would round; nearest: 1 / x")
    return record("reciprocal", (x,))


def _add(x, y):
    return record("or" if _is_bool(x) and _is_bool(y) else "add", (x, y))


def _floor_divide(x, y):
    return record("floor", (record("div", (x, y)),)).astype(_integer_result(x, y))


def _mod(x, y):
    return (x - record("floor", (record("div", (x, y)),)) * y).astype(_integer_result(x, y))


def _integer_result(x, y):
    kinds = [x.dtype if hasattr(x, "dtype") else x for x in (x, y)]
    return np.result_type(*kinds)


def _logit(x):
    """Near 1/2, where the logarithm of the quotient would cancel, by the inverse hyperbolic tangent."""
    middle = record("and", (record("lt", (0.3, x)), record("lt", (x, 0.7))))
    near = 2.0 * np.arctanh(2.0 * np.where(middle, x, 0.5) - 1.0)
    return np.where(middle, near, np.log(x) - np.log1p(-x))


def _boxcox(log, x, power):
    """(x**power - 1) / power, also where the power is 0."""
    logarithm = float(log(x)) if isinstance(x, (int, float)) else log(x)  # as weak as x is
    return logarithm * record("exprel", (power * logarithm,))


_UFUNCS = {
    "logit": _logit,
    "log_expit": lambda x: -record("softplus", (-x,)),
    "entr": lambda x: np.where(record("lt", (x, 0.0)), -math.inf, -record("xlogy", (x, x))),
    "cosm1": lambda x: -2.0 * np.square(np.sin(0.5 * x)),
    "boxcox": lambda x, power: _boxcox(np.log, x, power),
    "boxcox1p": lambda x, power: _boxcox(np.log1p, x, power),
    "exp10": lambda x: record("pow", (10.0, x)),
    "power": _power,
    "float_power": _float_power,
    "fabs": _fabs,
    "reciprocal": _reciprocal,
    "add": _add,
    "floor_divide": _floor_divide,
    "remainder": _mod,
    "bitwise_and": _logical("and", "bitwise_and"),
    "bitwise_or": _logical("or", "bitwise_or"),
    "bitwise_xor": _logical("xor", "bitwise_xor"),
    "invert": _logical("not", "invert"),
    "isnan": lambda x: record("ne", (x, x)),
    "isfinite": lambda x: record("lt", (record("abs", (x,)), math.inf)),
    "isinf": lambda x: record("eq", (record("abs", (x,)), math.inf)),
    "matmul": lambda a, b: contractions.matmul(a, b),
    "vecdot": lambda a, b: np.sum(a * b, axis=-1),
    "conjugate": lambda x: x,
}


# ---------------------------------------------------------------------- array functions

FUNCTIONS: dict = {}
"""NumPy function → the function that records it."""


def call_function(function, args, kwargs):
    """Record a NumPy function (`__array_function__`)."""
    rule = FUNCTIONS.get(function)
    name = f"{function.__module__}.{function.__name__}"
    if rule is None:
        raise _no_rule(name)
    _recorder_of(args)  # refuses arrays of another recording
    try:
        return rule(*args, **kwargs)
    except TypeError as error:
        if isinstance(error, NotDifferentiable) or "argument" not in str(error):
            raise
        raise NotDifferentiable(f"{name}: {error}; this argument is not supported on recorded arrays") from None


NEAREST = {
    "unwrap": "np.cumsum of wrapped differences", "polyfit": "np.linalg.lstsq of plain values", "lexsort": "np.argsort",
    "histogram": "np.sum of comparisons", "apply_along_axis": "a loop over rows, and np.stack", "vectorize": "array code",
}
"""What to write in place of functions that are not here."""


def _no_rule(name: str) -> NotDifferentiable:
    """The error for a function without a rule: it names the nearest alternative."""
    short = name.rpartition(".")[2]
    nearest = NEAREST.get(short) or ", ".join(difflib.get_close_matches(short, supported(), n=3, cutoff=0.75))
    hint = f"nearest: {nearest}; " if nearest else "write it in terms of the supported ones; "
    return NotDifferentiable(f"{name}: no rule for this function; {hint}supported: {', '.join(supported())}")


def supported() -> list[str]:
    """Names of the NumPy functions that recorded arrays support."""
    functions = {f.__name__ for f, rule in FUNCTIONS.items() if not getattr(rule, "refuses", False)}
    return sorted(functions | set(TABLE.ufuncs) | set(_UFUNCS))


def implements(*functions):
    """Decorator: this records those NumPy functions."""

    def register(rule):
        FUNCTIONS.update(dict.fromkeys(functions, rule))
        return rule

    return register


def _views(function):
    """A NumPy function that gives a view, or several; where NumPy would copy, the cells are copied first."""

    def rule(array, *args, **kwargs):
        if not isinstance(array, RecordedArray):
            raise NotDifferentiable(f"numpy.{function.__name__}: expected the recorded array as first argument")
        recorder = array.recorder

        def attempt(array):
            buffer = recorder.memory.values
            cells = array.view.of(buffer)
            result = function(cells, *args, **kwargs)
            parts = result if isinstance(result, (list, tuple)) else [result]
            views = [located(part, cells, buffer, array.view) for part in parts]
            if any(view is None for view in views):
                return None
            arrays = [RecordedArray(recorder, view, array.dtype) for view in views]
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


@implements(np.real, np.real_if_close)
def _real(array, *_, **__):
    return array


# ---------------------------------------------------------------------- reductions


def _axes(axis, ndim) -> tuple[int, ...]:
    """Normalised axes, as NumPy checks them."""
    if axis is None:
        return tuple(range(ndim))
    return tuple(np.lib.array_utils.normalize_axis_tuple(axis, ndim))


def _reduced_view(recorder, shape, axes, out: View) -> View:
    """`out`, which has the shape without `axes`, as a view of the whole shape that does not move along them."""
    kept = iter(out.strides)
    return View(out.cell, shape, tuple(0 if k in axes else next(kept) for k in range(len(shape))))


def _with_kept(array, shape, axes, keepdims):
    return np.reshape(array, tuple(1 if k in axes else n for k, n in enumerate(shape))) if keepdims else array


def _check_reduction(name, dtype, out, where):
    if out is not None or (where is not np._NoValue and where is not True):
        raise NotDifferentiable(f"numpy.{name} with out= or where=: not supported; nearest: numpy.where on the argument")
    if dtype is not None and np.dtype(dtype).kind != "f":
        raise NotDifferentiable(f"numpy.{name} with dtype={dtype}: expected a float dtype")


@implements(np.sum)
def sum_(a, axis=None, dtype=None, out=None, keepdims=False, initial=0, where=np._NoValue):
    """`numpy.sum`."""
    _check_reduction("sum", dtype, out, where)
    recorder = a.recorder
    axes = _axes(axis, a.ndim)
    result = recorder.zeros(tuple(n for k, n in enumerate(a.shape) if k not in axes))
    recorder.elementwise("accumulate", [a.view], a.shape, _reduced_view(recorder, a.shape, axes, result))
    kind = np.dtype(np.int64) if a.dtype.kind in "ib" else a.dtype
    total = _with_kept(RecordedArray(recorder, result, kind), a.shape, axes, keepdims is True)
    return total if (isinstance(initial, int) and initial == 0) or initial is np._NoValue else total + initial


@implements(np.mean)
def mean(a, axis=None, dtype=None, out=None, keepdims=False, *, where=np._NoValue):
    """`numpy.mean`."""
    _check_reduction("mean", dtype, out, where)
    count = math.prod(a.shape[k] for k in _axes(axis, a.ndim))
    return np.sum(a, axis=axis, keepdims=keepdims) / count


@implements(np.var)
def var(a, axis=None, dtype=None, out=None, ddof=0, keepdims=False, *, where=np._NoValue, mean=None, correction=None):
    """`numpy.var`."""
    _check_reduction("var", dtype, out, where)
    count = math.prod(a.shape[k] for k in _axes(axis, a.ndim))
    center = np.mean(a, axis=axis, keepdims=True) if mean is None else mean
    squares = np.sum(np.square(a - center), axis=axis, keepdims=keepdims)
    return squares / (count - (ddof if correction is None else correction))


@implements(np.std)
def std(a, axis=None, dtype=None, out=None, ddof=0, keepdims=False, *, where=np._NoValue, mean=None, correction=None):
    """`numpy.std`; of equal elements the derivative is the subgradient 0."""
    variance = var(a, axis, dtype, out, ddof, keepdims, where=where, mean=mean, correction=correction)
    return record("root_of_squares", (variance,))


@implements(np.prod)
def prod(a, axis=None, dtype=None, out=None, keepdims=False, initial=1, where=np._NoValue):
    """`numpy.prod`: a tree of products of halves, so that zeros need no division and any order of derivative is exact."""
    _check_reduction("prod", dtype, out, where)
    axes = _axes(axis, a.ndim)
    kept = [k for k in range(a.ndim) if k not in axes]
    shape = tuple(a.shape[k] for k in kept)
    n = math.prod(a.shape[k] for k in axes)
    x = np.reshape(np.transpose(a, [*axes, *kept]), (n, *shape))
    if n == 0:
        x = np.ones((1, *shape), a.dtype, like=a)
    while x.shape[0] > 1:
        half = x.shape[0] // 2
        product = x[:half] * x[half : 2 * half]
        x = np.concatenate([product, x[2 * half :]]) if x.shape[0] % 2 else product
    product = x[0].astype(np.int64) if a.dtype.kind in "ib" else x[0]
    result = _with_kept(product, a.shape, axes, keepdims is True)
    return result if (isinstance(initial, int) and initial == 1) or initial is np._NoValue else result * initial


def _extreme(sign, name, pair):
    def rule(a, axis=None, out=None, keepdims=False, initial=np._NoValue, where=np._NoValue):
        _check_reduction(name, None, out, where)
        recorder, axes = a.recorder, _axes(axis, a.ndim)
        kept = [k for k in range(a.ndim) if k not in axes]
        if not axes:
            return a.copy()
        if any(a.shape[k] == 0 for k in axes):
            raise ValueError(f"zero-size array to reduction operation {name} which has no identity")
        shape, reduced = [a.shape[k] for k in kept], [a.shape[k] for k in axes]
        strides = [a.view.strides[k] for k in kept], [a.view.strides[k] for k in axes]
        result = recorder.new_slot(tuple(shape))
        words = (sign, len(kept), len(axes), *shape, *reduced, *strides[0], *strides[1])
        recorder.structural("amax", [a.view], result, words, result.size)
        result = _with_kept(RecordedArray(recorder, result, a.dtype), a.shape, axes, keepdims is True)
        return result if initial is np._NoValue else pair(result, initial)

    return rule


FUNCTIONS[np.max] = _extreme(1, "max", np.maximum)
FUNCTIONS[np.min] = _extreme(-1, "min", np.minimum)


@implements(np.all)
def _all(a, axis=None, out=None, keepdims=False, **_):
    return np.min(record("ne", (a, 0)), axis=axis, keepdims=keepdims) if a.size else np.ones((), bool, like=a)


@implements(np.any)
def _any(a, axis=None, out=None, keepdims=False, **_):
    return np.max(record("ne", (a, 0)), axis=axis, keepdims=keepdims) if a.size else np.zeros((), bool, like=a)


def _arg_extreme(extreme, name):
    def rule(a, axis=None, out=None, *, keepdims=False):
        array, axis, ones = (np.ravel(a), 0, (1,) * a.ndim) if axis is None else (a, axis, None)
        axis = np.lib.array_utils.normalize_axis_index(axis, array.ndim)
        n = array.shape[axis]
        order = np.arange(n).reshape((n,) + (1,) * (array.ndim - axis - 1))
        best = extreme(array, axis=axis, keepdims=True)
        hit = record("or", (record("eq", (array, best)), record("ne", (array, array))))
        index = np.min(np.where(hit, order, n), axis=axis, keepdims=keepdims is True)
        index = np.reshape(index, ones) if ones is not None and keepdims is True else index
        return RecordedArray(a.recorder, index.view, np.dtype(np.int64))

    return rule


FUNCTIONS[np.argmax] = _arg_extreme(np.max, "argmax")
FUNCTIONS[np.argmin] = _arg_extreme(np.min, "argmin")


def logsumexp(a, axis=None, b=None, keepdims=False):
    """Logarithm of a sum of exponentials, without overflow; plain or recorded arrays.

    Parameters
    ----------
    a : array
        Exponents.
    axis : None, int or tuple of ints
        Axes to sum over; None for all.
    b : array, optional
        Factors of the exponentials, broadcast to `a`.
    keepdims : bool
        Whether the summed axes stay, with length 1.

    Returns
    -------
    array
        ``log(sum(b * exp(a), axis))``; its derivative is the softmax.

    Notes
    -----
    The largest exponent is subtracted first, as in SciPy's function of the same name (which cannot take recorded arrays).

    Examples
    --------
    >>> import numpy as np, tape
    >>> bool(np.isclose(tape.logsumexp(np.array([1000.0, 1000.0])), 1000.0 + np.log(2.0)))
    True
    >>> tape.grad(tape.logsumexp)(np.array([0.0, 0.0]))
    array([0.5, 0.5])
    """
    from tape.gradients import stop_gradient

    largest = stop_gradient(np.max(a, axis=axis, keepdims=True))
    largest = np.where(np.isfinite(largest), largest, 0.0)
    terms = np.exp(a - largest)
    total = np.sum(terms if b is None else b * terms, axis=axis, keepdims=True)
    result = np.log(total) + largest
    if keepdims:
        return result
    axes = _axes(axis, np.ndim(a))
    return np.reshape(result, tuple(n for k, n in enumerate(np.shape(a)) if k not in axes))


# ---------------------------------------------------------------------- joining


def stacked(items):
    """A nested list of numbers and recorded arrays as one array, as `numpy.array` would make it."""
    return np.stack([stacked(x) if isinstance(x, (list, tuple)) else x for x in items])


def _first_recorded(*arrays):
    for x in arrays:
        if isinstance(x, RecordedArray):
            return x
        if isinstance(x, (list, tuple)):
            found = _first_recorded(*x)
            if found is not None:
                return found
    return None


def _recorded_items(arrays):
    recorder = _first_recorded(arrays).recorder
    arrays = [contractions.as_recorded(recorder, stacked(x) if isinstance(x, (list, tuple)) else x) for x in arrays]
    return recorder, arrays, np.result_type(*(x.dtype for x in arrays))


@implements(np.concatenate)
def concatenate(arrays, axis=0, out=None, dtype=None, casting="same_kind"):
    """`numpy.concatenate`: each array is copied into its part of one slot."""
    recorder, arrays, kind = _recorded_items(list(arrays))
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
    _, arrays, _ = _recorded_items(list(arrays))
    if len({x.shape for x in arrays}) != 1:
        raise ValueError(f"all input arrays must have the same shape, got {[x.shape for x in arrays]}")
    return np.concatenate([np.expand_dims(x, axis) for x in arrays], axis=axis)


@implements(np.vstack)
def vstack(tup, **_):
    """`numpy.vstack`."""
    _, arrays, _ = _recorded_items(list(tup))
    return np.concatenate([x if x.ndim > 1 else np.reshape(x, (1, -1)) for x in arrays])


@implements(np.hstack)
def hstack(tup, **_):
    """`numpy.hstack`."""
    _, arrays, _ = _recorded_items(list(tup))
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
    found = _first_recorded(x)
    if found is None:
        return np.array(x, dtype, ndmin=ndmin)
    result = x.copy() if isinstance(x, RecordedArray) else stacked(x)
    result = result if dtype is None else result.astype(dtype)
    return np.reshape(result, (1,) * (ndmin - result.ndim) + result.shape) if ndmin > result.ndim else result


# ---------------------------------------------------------------------- making


def _filled(recorder, shape, value, dtype):
    dtype = np.dtype(dtype)
    if dtype == np.float64 and recorder.dtype == np.float32:
        raise Promote
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
    return _filled(_first_recorded(a, fill_value).recorder, np.shape(a) if shape is None else shape, fill_value,
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
    if mode != "raise":
        raise NotDifferentiable(f"numpy.take with mode={mode!r}: expected 'raise'; nearest: wrap or clip the indices first")
    if axis is None:
        return np.ravel(a)[indices]
    return a[(slice(None),) * (axis % a.ndim) + (indices,)]


@implements(np.take_along_axis)
def take_along_axis(arr, indices, axis=-1):
    """`numpy.take_along_axis`."""
    axis %= arr.ndim
    shape = np.shape(indices)
    index = [np.arange(n).reshape((n,) + (1,) * (arr.ndim - k - 1)) for k, n in enumerate(shape)]
    index[axis] = indices
    return arr[tuple(index)]


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
    a, axis = (np.ravel(a), 0) if axis is None else (a, axis)
    return np.take(a, np.repeat(np.arange(a.shape[axis]), repeats), axis=axis)


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


@implements(np.array_equal, np.allclose, np.isclose)
def _no_comparison(*_, **__):
    raise NotDifferentiable("numpy.allclose, isclose and array_equal: not supported on recorded arrays; nearest: "
                            "np.all(np.abs(a - b) <= tolerance)")


_no_comparison.refuses = True


# ---------------------------------------------------------------------- linear algebra

FUNCTIONS.update({np.dot: contractions.dot, np.inner: contractions.inner, np.outer: contractions.outer,
                  np.tensordot: contractions.tensordot, np.einsum: contractions.einsum})


@implements(np.vdot)
def vdot(a, b):
    """`numpy.vdot`."""
    return np.dot(np.ravel(plain(a)), np.ravel(plain(b)))


@implements(np.linalg.norm)
def norm(x, ord=None, axis=None, keepdims=False):
    """`numpy.linalg.norm`, of vectors and the Frobenius norm of matrices; at the origin the subgradient is 0."""
    axes = _axes(axis, x.ndim)
    if ord is None or (ord == "fro" and len(axes) == 2) or (ord == 2 and len(axes) == 1):
        if not keepdims and len(axes) == x.ndim:
            flat = np.ravel(x)
            return record("root_of_squares", (contractions._vector_product(flat, flat),))
        return record("root_of_squares", (np.sum(np.square(x), axis=axes, keepdims=keepdims),))
    if len(axes) == 1 and ord == 1:
        return np.sum(np.abs(x), axis=axes, keepdims=keepdims)
    if len(axes) == 1 and ord in (math.inf, -math.inf):
        return (np.max if ord > 0 else np.min)(np.abs(x), axis=axes, keepdims=keepdims)
    if len(axes) == 1 and isinstance(ord, (int, float)) and ord != 0:
        return np.sum(np.abs(x) ** ord, axis=axes, keepdims=keepdims) ** (1.0 / ord)
    raise NotDifferentiable(f"numpy.linalg.norm with ord={ord!r} over {len(axes)} axes: not supported; nearest: the Frobenius "
                            "norm")
