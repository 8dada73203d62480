"""Every NumPy function and ufunc that recorded arrays support: NumPy's value, dtype and shape, and the right derivatives.

The cases of `CASES` and `UFUNC_CASES` are swept; a function that is supported and has none fails a test. What is not here:
indexing (`test_numpy_indexing.py`) and matrix products (`test_numpy_contractions.py`).
"""

import functools
import itertools

import numpy as np
import pytest
import scipy.special

import tape
from compiled.table.instructions import TABLE, undefined
from tape.recording import dispatch as rules
from tape.rules import arrays, contractions, reductions

# ---------------------------------------------------------------------- what every case must fulfil


def leaves(result):
    """The arrays in a result."""
    return [leaf for item in result for leaf in leaves(item)] if isinstance(result, (tuple, list)) else [np.asarray(result)]


def assert_same(got, expected, single=False):
    """Structure, shapes, dtypes and values are NumPy's; elementary functions may differ in the last bits."""
    assert type(got) is type(expected) or not isinstance(expected, (tuple, list))
    got, expected = leaves(got), leaves(expected)
    assert [x.dtype for x in got] == [x.dtype for x in expected]
    assert [x.shape for x in got] == [x.shape for x in expected]
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5 if single else 1e-12, atol=1e-5 if single else 1e-13)


def assert_agrees(f, *args, order=2):
    """`f` gives NumPy's result when recorded and when replayed at another point, and its derivatives are right."""
    single = any(np.asarray(x).dtype == np.float32 for x in args)
    with np.errstate(all="ignore"):
        expected = f(*args)
    recorded = tape.record(f, *args)
    assert_same(recorded.forward(*args), expected, single)
    moved = [np.asarray(x * 0.99).astype(np.asarray(x).dtype) if np.asarray(x).dtype.kind == "f" else x for x in args]
    with np.errstate(all="ignore"):
        assert_same(tape.vjp(f, *moved)[0] if all_floats(args) else recorded.forward(*moved), f(*moved), single)
    if not all_floats(args) or any(x.dtype.kind != "f" for x in leaves(expected)):
        return
    tape.check_grads(f, args, order=1 if single else order, rtol=1e-5, atol=2e-5)
    for adjoint, x in zip(tape.vjp(f, *args)[1](expected), args, strict=True):
        assert np.asarray(adjoint).dtype == np.asarray(x).dtype
        assert np.shape(adjoint) == np.shape(x)


def all_floats(args):
    return all(np.asarray(x).dtype.kind == "f" for x in args)


def drawn(shape, low=0.2, high=0.9, seed=0):
    """Random numbers, no two equal, none near a kink of the functions below."""
    size = int(np.prod(shape))
    steps = np.linspace(low, high, size + 2)[1:-1]
    return np.random.default_rng([seed, size]).permutation(steps).reshape(shape)


# ---------------------------------------------------------------------- ufuncs

SPECIAL_DOMAINS = {
    "power": ((0.3, 2.0), (-2.0, 1.7)),
    "float_power": ((0.3, 2.0), (-2.0, 1.7)),
    "floor_divide": ((2.3, 2.5), (0.9, 0.97)),
    "remainder": ((2.3, 2.5), (1.4, 1.6)),
    "isnan": ((-1.0, 1.0),),
    "isinf": ((-1.0, 1.0),),
    "isfinite": ((-1.0, 1.0),),
    "conjugate": ((-1.0, 1.0),),
    "vecdot": ((-1.0, 1.0), (-1.0, 1.0)),
    "add": ((-1.0, 1.0), (-1.0, 1.0)),
    "logit": ((0.05, 0.95),),
    "log_expit": ((-3.0, 3.0),),
    "entr": ((0.1, 3.0),),
    "exp10": ((-1.0, 1.0),),
    "cosm1": ((-2.0, 2.0),),
    "boxcox": ((0.3, 3.0), (-2.0, 2.0)),
    "boxcox1p": ((0.3, 3.0), (-2.0, 2.0)),
    "yn": ((1.0, 4.0), (1.0, 1.5)),
    "divmod": ((2.3, 2.5), (1.4, 1.6)),
    "modf": ((1.2, 1.9),),
    "signbit": ((-1.0, 1.0),),
    "logaddexp2": ((-3.0, 0.0), (0.1, 3.0)),
}

LOGICAL = ("bitwise_and", "bitwise_or", "bitwise_xor", "invert")
ELSEWHERE = ("matmul", "matvec", "vecmat", "ldexp")
KINKED_AT_TIES = ("equal", "not_equal")

UFUNCS = sorted((set(TABLE.ufuncs) | set(rules.UFUNCS)) - {"clip"})
ELEMENTWISE = [name for name in UFUNCS if name not in (*LOGICAL, *ELSEWHERE, "vecdot")]


def ufunc(name):
    found = getattr(np, name, None)
    return found if isinstance(found, np.ufunc) else getattr(scipy.special._ufuncs, name)


WITHOUT_DERIVATIVE = {name: [partial is undefined for partial in TABLE[row].partials] for name, row in TABLE.ufuncs.items()
                      if undefined in TABLE[row].partials}
"""Ufuncs that take constants, and which of their operands are such."""


def domains(name):
    """For each operand the interval to draw from, away from kinks; those of the table, narrowed."""
    if name in SPECIAL_DOMAINS:
        return SPECIAL_DOMAINS[name]
    intervals = TABLE[TABLE.ufuncs[name]].domain
    return tuple((low + 0.01 * (high - low), high - 0.013 * (high - low)) for low, high in intervals)


def operands(name, shapes, seed=1):
    return [drawn(shape, *interval, seed + k) for k, (shape, interval) in enumerate(zip(shapes, domains(name), strict=True))]


UNARY = [name for name in ELEMENTWISE if ufunc(name).nin == 1]
BINARY = [name for name in ELEMENTWISE if ufunc(name).nin == 2 and name not in WITHOUT_DERIVATIVE]
DIFFERENTIATED = [name for name in ELEMENTWISE if name not in WITHOUT_DERIVATIVE]
SHAPES = [(), (1,), (5,), (3, 4), (2, 1, 3), (0,), (2, 0, 3)]
PAIRS = [
    ((), ()),
    ((), (3,)),
    ((3,), (3,)),
    ((3, 4), (4,)),
    ((3, 1), (1, 4)),
    ((2, 3, 4), (3, 1)),
    ((0,), (1,)),
    ((2, 0), (1, 1)),
    ((1,), (2, 3)),
    ((3, 4), ()),
]
LAYOUTS = {
    "transposed": lambda x: x.T,
    "sliced": lambda x: x[1:, ::2],
    "reversed": lambda x: x[::-1, ::-1],
    "step -2": lambda x: x[:, ::-2],
    "broadcast": lambda x: np.broadcast_to(x[:1], (3, *x.shape[1:])),
}


def ufunc_of(name):
    return lambda *args: ufunc(name)(*args)


@pytest.mark.parametrize("name", UNARY)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_unary_ufunc(name, shape):
    assert_agrees(ufunc_of(name), *operands(name, (shape,)))


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize("shapes", PAIRS, ids=str)
def test_binary_ufunc_broadcasts(name, shapes):
    assert_agrees(ufunc_of(name), *operands(name, shapes))


@pytest.mark.parametrize("name", DIFFERENTIATED)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_ufunc_of_views(name, layout):
    view, function = LAYOUTS[layout], ufunc(name)
    arrays = operands(name, [(4, 5)] * function.nin)
    # Once as layouts of the plain arguments, once as views taken in the recorded code.
    assert_agrees(ufunc_of(name), *(view(x) for x in arrays))
    if layout != "broadcast":
        assert_agrees(lambda *a: function(*(view(x) for x in a)), *arrays)


@pytest.mark.parametrize("name", DIFFERENTIATED)
def test_ufunc_in_single_precision(name):
    assert_agrees(ufunc_of(name), *(x.astype(np.float32) for x in operands(name, [(3, 4)] * ufunc(name).nin)))


@pytest.mark.parametrize("name", DIFFERENTIATED)
def test_ufunc_of_integers(name):
    if name == "reciprocal":
        with pytest.raises(tape.NotDifferentiable, match="nearest: 1 / x"):
            tape.record(np.reciprocal, np.array([1, 2]))
        return
    if name == "logit":  # infinite at 1
        return
    if name in ("arcsin", "arccos"):
        arrays = [np.array([1, 1, 1])]
    else:
        arrays = [np.array([1, 2, 3]), np.array([2, 1, 2])][: ufunc(name).nin]
    assert_agrees(ufunc_of(name), *arrays)


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize("constant", ["float", "int", "array", "integer array", "numpy scalar"])
@pytest.mark.parametrize("side", [0, 1])
def test_binary_ufunc_with_a_constant(name, constant, side):
    x, y = operands(name, [(3,), (3,)])
    arrays, other = [x, y], [x, y][1 - side]
    value = {
        "float": float(other[0]),
        "int": 2,
        "array": other,
        "integer array": np.array([1, 2, 2]),
        "numpy scalar": other[0],
    }[constant]

    def f(z):
        return ufunc(name)(z, value) if side == 0 else ufunc(name)(value, z)

    if name in ("remainder", "divmod") and "int" in constant:
        assert_agrees(f, np.array([0.3, 0.45, 0.7]))
    else:
        assert_agrees(f, arrays[side])
    # SciPy computes these of single precision and a Python number in double precision; here such a number is weak everywhere.
    if constant in ("float", "int") and name not in ("xlogy", "xlog1py", "beta", "betaln", "boxcox", "boxcox1p"):
        assert_agrees(f, arrays[side].astype(np.float32))


@pytest.mark.parametrize("name", WITHOUT_DERIVATIVE)
@pytest.mark.parametrize("shape", [(), (3, 4), (0,)], ids=str)
def test_ufunc_that_takes_constants(name, shape):
    """Constants in the code and constant arguments; one that is differentiated is refused."""
    whole = name == "yn"  # takes no other order
    arrays = operands(name, [shape] * ufunc(name).nin)
    constants = [np.floor(a).astype(int) if whole else a for a in arrays]
    chosen = WITHOUT_DERIVATIVE[name]
    for fixed in (constants, [2 if whole else 1.5] * len(arrays)):
        def f(x, fixed=fixed):
            return ufunc(name)(*(c if constant else x for c, constant in zip(fixed, chosen, strict=True)))

        assert_agrees(f, arrays[-1])
    for k, constant in enumerate(chosen):
        if constant and shape == (3, 4):
            with pytest.raises(tape.NotDifferentiable, match=f"no derivative to operand {k + 1}.*expected a constant"):
                tape.grad(lambda *args: np.sum(ufunc(name)(*args)), argnums=k)(*arrays)


@pytest.mark.parametrize("x", [0.5, np.float64(0.5), np.float32(0.5), 2, np.array(0.5)], ids=repr)
@pytest.mark.parametrize("name", ["sin", "negative", "sign"])
def test_ufunc_of_numbers(name, x):
    value = tape.vjp(ufunc_of(name), x)[0]
    # A Python int that is differentiated is a float.
    assert value.dtype == (np.float64 if isinstance(x, int) else ufunc(name)(x).dtype)
    np.testing.assert_allclose(value, ufunc(name)(x), rtol=1e-6)


@pytest.mark.parametrize("name", LOGICAL)
def test_logical_operators(name):
    x = np.array([0.1, 0.6, 0.7, 0.2])

    def f(x):
        return ufunc(name)(*([x > 0.5, x < 0.65][: ufunc(name).nin]))

    assert_agrees(f, x)


def test_vecdot():
    assert_agrees(np.vecdot, drawn((3, 4)), drawn((4,), seed=2))


@pytest.mark.parametrize(
    "operation",
    [
        lambda x, y: x + y,
        lambda x, y: x - y,
        lambda x, y: x * y,
        lambda x, y: x / y,
        lambda x, y: x**y,
        lambda x, y: x // y,
        lambda x, y: x % y,
        lambda x, y: x @ y,
        lambda x, y: -x + y,
        lambda x, y: +x * abs(y),
        lambda x, y: (x < y) * x,
        lambda x, y: (x <= y) * x,
        lambda x, y: (x > y) * x,
        lambda x, y: (x >= y) * x,
        lambda x, y: (x == y) * x,
        lambda x, y: (x != y) * x,
        lambda x, y: ((x > 0.4) & (y > 0.4)) * x,
        lambda x, y: ((x > 0.4) | ~(y > 0.4)) * y,
        lambda x, y: ((x > 0.4) ^ (y > 0.4)) * y,
    ],
)
def test_operators(operation):
    x, y = drawn((4,), 0.2, 0.9, 1), drawn((4,), 0.25, 0.95, 2)
    assert_agrees(operation, x, y)
    assert_agrees(lambda x: operation(x, y), x)
    assert_agrees(lambda y: operation(x, y), y)


@pytest.mark.parametrize(
    "operation",
    [
        lambda x: 2 + x,
        lambda x: 2 - x,
        lambda x: 2 * x,
        lambda x: 2 / x,
        lambda x: 2**x,
        lambda x: 1.2 // x,
        lambda x: 1.2 % x,
        lambda x: x + 2,
        lambda x: x - 2,
        lambda x: x * 2,
        lambda x: x / 2,
        lambda x: x**2,
        lambda x: x // 2,
        lambda x: x % 2,
        lambda x: True * x,
        lambda x: x + np.int64(3),
        lambda x: x * np.float32(2.0),
        lambda x: x**0,
        lambda x: x**1,
        lambda x: x**-1,
        lambda x: x**3,
        lambda x: x**-2,
        lambda x: x**0.5,
        lambda x: x**17,
        lambda x: x**1.5,
        lambda x: x**-0.5,
    ],
)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_operators_with_python_numbers(operation, dtype):
    assert_agrees(operation, drawn((4,), 0.55, 0.95).astype(dtype))
    assert_agrees(operation, dtype(0.7))


@pytest.mark.parametrize("exponent", [0, 1, 2, 3, 5, 16])
def test_integer_powers_of_integers_stay_integers(exponent):
    assert_agrees(lambda x: x**exponent, np.array([-2, 0, 1, 3]))


def test_powers_of_negative_numbers():
    assert_agrees(lambda x: x**3 + x**-3, np.array([-1.5, 2.0]))
    np.testing.assert_allclose(tape.grad(lambda x: np.sum(x**17.0))(np.array([-1.0, 0.0])), [17.0, 0.0])


def test_floor_division_and_remainder_of_negative_numbers():
    x, y = np.array([-7.5, 7.5, -7.5, 7.5]), np.array([2.0, 2.0, -2.0, -2.0])
    assert_agrees(lambda x: x // y, x)
    assert_agrees(lambda x: x % y, x)
    assert_agrees(lambda x: x // 2, np.array([-7, 7, -8]))
    assert_agrees(lambda x: x % 3, np.array([-7, 7, -9]))


@pytest.mark.parametrize("function", [np.add.outer, np.multiply.outer, np.subtract.outer, np.maximum.outer])
def test_ufunc_outer(function):
    assert_agrees(lambda x, y: function(x, y), drawn((2, 3), seed=1), drawn((4,), seed=2))


@pytest.mark.parametrize("name", ["add", "multiply", "maximum", "minimum", "logaddexp"])
@pytest.mark.parametrize("axis", [0, 1, -1, None, (0, 1)])
@pytest.mark.parametrize("keepdims", [False, True])
def test_ufunc_reduce(name, axis, keepdims):
    if name == "logaddexp" and axis is not None and not isinstance(axis, int):
        pytest.skip("NumPy does not reorder this reduction")
    assert_agrees(lambda x: ufunc(name).reduce(x, axis=axis, keepdims=keepdims), drawn((3, 4)))


# ---------------------------------------------------------------------- functions

CASES: dict = {}


def cases(function, *entries):
    """Register cases of a NumPy function: (callable, shapes or arrays...)."""
    CASES.setdefault(function, []).extend(entries)


cases(np.i0, (np.i0, (3, 4)))
AXES = [None, 0, 1, -1, (0, 2), (-1, 0), (0, 1, 2), ()]
for _function, _axis, _keep in itertools.product(
    (np.sum, np.mean, np.prod, np.max, np.min, np.var, np.std), AXES, (False, True)
):
    if _axis == () and _function in (np.std, np.var):
        continue
    cases(_function, (functools.partial(_function, axis=_axis, keepdims=_keep), (2, 3, 4)))
for _function in (np.sum, np.mean, np.prod, np.max, np.min):
    cases(
        _function,
        (_function, ()),
        (_function, (1,)),
        (lambda x, f=_function: f(x.T, axis=1), (3, 4)),
        (lambda x, f=_function: f(x[::-1, ::2], axis=0), (3, 4)),
        (lambda x, f=_function: f(x * 2.0), (7,)),
    )
for _function in (np.sum, np.prod):
    cases(
        _function,
        (_function, (0,)),
        (functools.partial(_function, axis=0), (0, 3)),
        (functools.partial(_function, axis=1), (0, 3)),
        (functools.partial(_function, axis=0, initial=2.0), (3, 2)),
        (lambda x, f=_function: f(x), np.array([1, 2, 3])),
        (lambda x, f=_function: f(x > 0.5, axis=0), (3, 2)),
    )
cases(
    np.max,
    (functools.partial(np.max, axis=1), (0, 3)),
    (functools.partial(np.max, axis=0, initial=0.47), (3, 2)),
    (np.max, np.array([1, 4, 3])),
)
cases(
    np.min,
    (functools.partial(np.min, axis=1), (0, 3)),
    (functools.partial(np.min, axis=0, initial=0.47), (3, 2)),
    (np.min, np.array([2, 4, 3])),
)
cases(np.amax, (np.amax, (3, 4)))
cases(np.amin, (lambda x: np.amin(x, axis=0), (3, 4)))
cases(np.mean, (np.mean, np.array([1, 2, 4])), (functools.partial(np.mean, axis=1), (0, 3)))
cases(np.var, (functools.partial(np.var, ddof=1), (5,)), (functools.partial(np.var, axis=0, correction=1), (5, 2)))
cases(np.std, (functools.partial(np.std, ddof=1), (5,)), (functools.partial(np.std, axis=-1, ddof=1), (2, 5)))
for _function, _axis in itertools.product((np.all, np.any), (None, 0, (0, 1))):
    cases(
        _function,
        (lambda x, f=_function, a=_axis: f(x > 0.5, axis=a), (2, 3)),
        (lambda x, f=_function, a=_axis: f(x < 2.0, axis=a, keepdims=True), (2, 3)),
    )
for _function, _axis in itertools.product((np.argmax, np.argmin), (None, 0, 1, -1)):
    cases(
        _function,
        (functools.partial(_function, axis=_axis), (3, 4)),
        (functools.partial(_function, axis=_axis, keepdims=True), (3, 4)),
        (lambda x, f=_function, a=_axis: f(x, axis=a), np.array([[1, 3, 3], [3, 1, 1]])),
    )

cases(
    np.reshape,
    (lambda x: np.reshape(x, (4, 3)), (3, 4)),
    (lambda x: np.reshape(x, -1), (3, 4)),
    (lambda x: x.reshape(2, -1), (3, 4)),
    (lambda x: x.T.reshape(3, 4), (3, 4)),
    (lambda x: np.reshape(x, (4, 3), order="F"), (3, 4)),
    (lambda x: x.reshape((0, 2)), (0,)),
    (lambda x: x.reshape(()), (1,)),
    (lambda x: x.reshape(1, 1), ()),
)
cases(
    np.ravel,
    (np.ravel, (3, 4)),
    (lambda x: np.ravel(x.T), (3, 4)),
    (lambda x: np.ravel(x, order="F"), (3, 4)),
    (np.ravel, ()),
    (lambda x: x.ravel() * x.flatten(), (2, 3)),
)
cases(
    np.transpose,
    (np.transpose, (2, 3, 4)),
    (lambda x: np.transpose(x, (1, 2, 0)), (2, 3, 4)),
    (lambda x: x.transpose(2, 0, 1), (2, 3, 4)),
    (lambda x: x.T, (3,)),
    (lambda x: x.transpose((-1, 0, 1)), (2, 3, 4)),
)
cases(np.swapaxes, (lambda x: np.swapaxes(x, 0, -1), (2, 3, 4)), (lambda x: x.swapaxes(1, 0), (2, 3)))
cases(np.moveaxis, (lambda x: np.moveaxis(x, 0, -1), (2, 3, 4)), (lambda x: np.moveaxis(x, (0, 1), (-1, 0)), (2, 3, 4)))
cases(np.rollaxis, (lambda x: np.rollaxis(x, 2), (2, 3, 4)))
cases(np.squeeze, (np.squeeze, (2, 1, 3, 1)), (lambda x: np.squeeze(x, axis=-1), (2, 1, 3, 1)), (np.squeeze, (1, 1)))
cases(np.expand_dims, (lambda x: np.expand_dims(x, 1), (2, 3)), (lambda x: np.expand_dims(x, (0, -1)), (2, 3)))
cases(
    np.broadcast_to,
    (lambda x: np.broadcast_to(x, (2, 3)) * 1.0, (3,)),
    (lambda x: np.broadcast_to(x, (4, 3, 2)) * 2.0, (3, 1)),
    (lambda x: np.broadcast_to(x, (2, 3)) + 0.0, ()),
)
cases(
    np.diagonal, (np.diagonal, (3, 4)), (lambda x: np.diagonal(x, 1), (3, 4)), (lambda x: np.diagonal(x, -1, 0, 2), (3, 2, 4))
)
cases(np.flip, (np.flip, (2, 3)), (lambda x: np.flip(x, 1), (2, 3)), (lambda x: np.flip(x, (0, 1)) * x, (2, 3)))
cases(np.fliplr, (np.fliplr, (2, 3)))
cases(np.flipud, (np.flipud, (2, 3)))
cases(np.rot90, (np.rot90, (2, 3)), (lambda x: np.rot90(x, 2), (2, 3)), (lambda x: np.rot90(x, -1, (1, 2)), (2, 3, 4)))
cases(np.split, (lambda x: np.split(x, 3), (6, 2)), (lambda x: np.split(x, [1, 4], axis=1), (2, 5)))
cases(np.array_split, (lambda x: np.array_split(x, 3), (7,)), (lambda x: np.array_split(x, 2, axis=1), (2, 5)))
cases(np.hsplit, (lambda x: np.hsplit(x, 2), (3, 4)))
cases(np.vsplit, (lambda x: np.vsplit(x, 2), (4, 3)))
cases(np.dsplit, (lambda x: np.dsplit(x, 2), (2, 3, 4)))
cases(
    np.lib.stride_tricks.sliding_window_view,
    (lambda x: np.lib.stride_tricks.sliding_window_view(x, 3) * 1.0, (6,)),
    (lambda x: np.lib.stride_tricks.sliding_window_view(x, (2, 2)) * 1.0, (3, 4)),
    (lambda x: np.sum(np.lib.stride_tricks.sliding_window_view(x, 2, axis=1), axis=-1), (3, 4)),
)
cases(np.shape, (lambda x: x * np.shape(x)[0], (3,)))
cases(np.ndim, (lambda x: x * np.ndim(x), (3, 2)))
cases(np.size, (lambda x: x * np.size(x), (3, 2)), (lambda x: x * np.size(x, 1), (3, 2)))
cases(np.copy, (np.copy, (3, 2)), (lambda x: x.copy() * x, (3,)), (lambda x: np.copy(x.T), (3, 2)))
cases(np.iscomplexobj, (lambda x: x * (1 + np.iscomplexobj(x)), (3,)))
cases(np.result_type, (lambda x: np.sin(x).astype(np.result_type(x, np.float32)), (3,)))
cases(np.real, (lambda x: np.real(x) * 2, (3,)))
cases(np.real_if_close, (lambda x: np.real_if_close(x) * 2, (3,)))

cases(
    np.concatenate,
    (lambda x, y: np.concatenate([x, y]), (3,), (2,)),
    (lambda x, y: np.concatenate((x, y), axis=1), (2, 3), (2, 1)),
    (lambda x, y: np.concatenate([x, y], axis=-1), (2, 3), (2, 1)),
    (lambda x, y: np.concatenate([x, y], axis=None), (2, 3), (4,)),
    (lambda x: np.concatenate([x, np.arange(3.0), [1.0, 2.0], x[::-1]]), (3,)),
    (lambda x: np.concatenate([x, x[:0]]), (3,)),
    (lambda x, y: np.concatenate([x.T, y]), (3, 2), (1, 3)),
)
cases(
    np.stack,
    (lambda x, y: np.stack([x, y]), (3,), (3,)),
    (lambda x, y: np.stack((x, y), axis=-1), (2, 3), (2, 3)),
    (lambda x: np.stack([x[0], 2.0, x[1] * x[2]]), (3,)),
    (lambda x: np.stack([x, np.ones(3)], axis=1), (3,)),
)
cases(np.vstack, (lambda x, y: np.vstack([x, y]), (3,), (2, 3)), (lambda x, y: np.vstack((x, y)), (3,), (3,)))
cases(
    np.hstack,
    (lambda x, y: np.hstack([x, y]), (3,), (2,)),
    (lambda x, y: np.hstack((x, y)), (2, 3), (2, 1)),
    (lambda x: np.hstack([x[0], x]), (3,)),
)
cases(
    np.append,
    (lambda x, y: np.append(x, y), (2, 3), (2,)),
    (lambda x: np.append(x, 2.0), (3,)),
    (lambda x, y: np.append(x, y, axis=0), (2, 3), (1, 3)),
    (lambda x: np.append([1.0], x), (3,)),
)
for _function in (np.array, np.asarray, np.asanyarray, np.ascontiguousarray):
    cases(
        _function,
        (
            lambda x, f=_function: (
                f([x[0], x[1] * 2.0, 3.0], like=x) if isinstance(x, tape.RecordedArray) else f([x[0], x[1] * 2.0, 3.0])
            ),
            (3,),
        ),
        (
            lambda x, f=_function: (
                f([[x[0], 1.0], [x[1], x[0]]], like=x) if isinstance(x, tape.RecordedArray) else f([[x[0], 1.0], [x[1], x[0]]])
            ),
            (2,),
        ),
    )

cases(np.zeros_like, (lambda x: np.zeros_like(x) + x, (3, 2)), (lambda x: np.zeros_like(x, shape=(2, 3)) + x[0], (3,)))
cases(np.empty_like, (lambda x: np.empty_like(x) * 0.0 + x, (3, 2)))
cases(np.ones_like, (lambda x: np.ones_like(x) + x, (3, 2)), (lambda x: np.ones_like(x, dtype=np.int64), (3,)))
cases(
    np.full_like,
    (lambda x: np.full_like(x, 2.5) * x, (3, 2)),
    (lambda x: np.full_like(x, x[0]), (3,)),
)
for _function in (np.zeros, np.ones, np.empty):
    cases(
        _function,
        (lambda x, f=_function: f((2, 3), like=x) * 0.0 + x, (3,)),
        (lambda x, f=_function: f(3, like=x) * 0.0 + x, (3,)),
    )
cases(np.full, (lambda x: np.full((2, 3), 1.5, like=x) * x, (3,)), (lambda x: np.full(3, x[0], like=x) * x, (3,)))

cases(
    np.where,
    (lambda x, y: np.where(x > y, x, y), (3, 4), (4,)),
    (lambda x: np.where(x > 0.5, x, 0.0), (5,)),
    (lambda x: np.where(np.array([True, False, True]), np.sin(x), x * 2), (3,)),
    (lambda x: np.where(x > 0.5, 1, x), (5,)),
    (lambda x: x[np.where(x > 0.5)], (5,)),
    (lambda x: np.where(x > 0.5, 1, 2), (5,)),
)
cases(np.nonzero, (lambda x: x[np.nonzero(x > 0.5)], (3, 4)))
cases(np.flatnonzero, (lambda x: x.ravel()[np.flatnonzero(x > 0.5)], (3, 4)))
cases(np.argwhere, (lambda x: x[tuple(np.argwhere(x > 0.5).T)], (3, 4)))
cases(
    np.clip,
    (lambda x: np.clip(x, 0.3, 0.7), (5,)),
    (lambda x: np.clip(x, None, 0.5), (5,)),
    (lambda x: np.clip(x, 0.5, None), (5,)),
    (lambda x: np.clip(x, min=0.3, max=0.7), (5,)),
    (lambda x: x.clip(0.3, 0.7), (5,)),
    (lambda x, lo, hi: np.clip(x, lo - 0.3, hi + 0.1), (3, 4), (4,), (3, 1)),
    (lambda x: np.clip(x, 2, 3), np.array([1, 2, 3, 4])),
)
cases(
    np.take,
    (lambda x: np.take(x, [0, 2, 2]), (3, 4)),
    (lambda x: np.take(x, [[0, 2], [1, 1]], axis=1), (3, 4)),
    (lambda x: np.take(x, 1, axis=0), (3, 4)),
    (lambda x: x.take([-1, 0], axis=-1), (3, 4)),
    (lambda x: np.take(x, [-5, 9], axis=1, mode="wrap"), (3, 4)),
    (lambda x: np.take(x, [[-5, 99]], mode="clip"), (3, 4)),
)
cases(
    np.take_along_axis,
    (lambda x: np.take_along_axis(x, np.array([[0], [2], [1]]), axis=1), (3, 4)),
    (lambda x: np.take_along_axis(x, np.argmax(x, axis=0, keepdims=True), axis=0), (3, 4)),
    (lambda x: np.take_along_axis(x, np.array([[0, 1, 0, 2]]), 0), (3, 4)),
    (lambda x: np.take_along_axis(x, np.array([[0, 3]]), 1), (3, 4)),
    (lambda x: np.take_along_axis(x, np.array([0, 7]), None), (3, 4)),
)
cases(
    np.roll,
    (lambda x: np.roll(x, 2), (5,)),
    (lambda x: np.roll(x, -1), (3, 4)),
    (lambda x: np.roll(x, 1, axis=0) * x, (3, 4)),
    (lambda x: np.roll(x, (1, -2), axis=(0, 1)), (3, 4)),
    (lambda x: np.roll(x, 7, axis=-1), (3, 4)),
)
cases(np.trace, (np.trace, (3, 3)), (lambda x: np.trace(x, 1), (3, 4)), (lambda x: x.trace(axis1=0, axis2=2), (3, 2, 3)))
cases(np.diff, (np.diff, (5,)), (lambda x: np.diff(x, n=2), (5,)), (lambda x: np.diff(x, axis=0), (3, 4)), (np.diff, (3, 4)))
cases(
    np.repeat,
    (lambda x: np.repeat(x, 2), (3, 2)),
    (lambda x: np.repeat(x, 3, axis=1), (3, 2)),
    (lambda x: x.repeat([1, 0, 2], axis=0), (3, 2)),
)
cases(np.atleast_1d, (np.atleast_1d, ()), (np.atleast_1d, (3, 2)), (lambda x, y: np.atleast_1d(x, y), (), (2,)))
cases(
    np.atleast_2d,
    (np.atleast_2d, ()),
    (np.atleast_2d, (3,)),
    (np.atleast_2d, (3, 2)),
    (lambda x, y: np.atleast_2d(x, y), (), (2,)),
)
cases(np.broadcast_arrays, (lambda x, y: tuple(a * 1.0 for a in np.broadcast_arrays(x, y)), (3,), (2, 1)))

cases(np.vdot, (np.vdot, (5,), (5,)), (np.vdot, (2, 3), (2, 3)))
cases(
    np.linalg.norm,
    (np.linalg.norm, (5,)),
    (np.linalg.norm, (3, 4)),
    (lambda x: np.linalg.norm(x, axis=1), (3, 4)),
    (lambda x: np.linalg.norm(x, axis=-1, keepdims=True), (3, 4)),
    (lambda x: np.linalg.norm(x, "fro"), (3, 4)),
    (lambda x: np.linalg.norm(x, 1), (5,)),
    (lambda x: np.linalg.norm(x, np.inf, axis=0), (5, 2)),
    (lambda x: np.linalg.norm(x, -np.inf), (5,)),
    (lambda x: np.linalg.norm(x, 3), (5,)),
    (lambda x: np.linalg.norm(x, axis=(0, 1)), (3, 4)),
    (np.linalg.norm, (2, 3, 4)),
    (lambda x: np.linalg.norm(x, 2), (5,)),
)

CONTRACTIONS = (np.dot, np.inner, np.outer, np.tensordot, np.einsum)

FLAT = [
    pytest.param(f, args, id=f"{function.__name__}-{k}")
    for function, entries in CASES.items()
    for k, (f, *args) in enumerate(entries)
]


def arguments(args):
    return [drawn(x, seed=k) if isinstance(x, tuple) else x for k, x in enumerate(args)]


def assert_agrees_in_single_precision(f, args):
    assert_agrees(f, *(x.astype(np.float32) if x.dtype.kind == "f" else x for x in arguments(args)))


def with_matrices(cases):
    """The cases that have a matrix among their arguments."""
    return [p for p in cases if any(isinstance(x, tuple) and len(x) == 2 for x in p.values[1])]


def assert_agrees_on_other_layouts(f, args):
    views = [np.repeat(x, 2, axis=-1)[..., ::2].T.copy().T if x.ndim == 2 else x for x in arguments(args)]
    assert_agrees(f, *views, order=1)


@pytest.mark.parametrize(("f", "args"), FLAT)
def test_function(f, args):
    assert_agrees(f, *arguments(args))


@pytest.mark.parametrize(("f", "args"), FLAT)
def test_function_in_single_precision(f, args):
    assert_agrees_in_single_precision(f, args)


@pytest.mark.parametrize(("f", "args"), with_matrices(FLAT))
def test_function_of_non_contiguous_arguments(f, args):
    assert_agrees_on_other_layouts(f, args)


def test_every_supported_function_has_a_case():
    here = {module.__name__ for module in (arrays, contractions, reductions)}  # others: test_numpy_breadth.py and its kin
    recorded = {f.__name__ for f, rule in rules.FUNCTIONS.items() if rule.__module__ in here}
    missing = recorded - {f.__name__ for f in (*CASES, *CONTRACTIONS)}
    assert not missing, f"add cases for {sorted(missing)}"
    tested = {*ELEMENTWISE, *LOGICAL, *ELSEWHERE, "vecdot", "clip"}
    assert tested == set(TABLE.ufuncs) | set(rules.UFUNCS)


# ---------------------------------------------------------------------- points where values are special


@pytest.mark.parametrize("axis", [None, 0, 1, (0, 1)])
@pytest.mark.parametrize("keepdims", [False, True])
def test_logsumexp_is_scipys(axis, keepdims):
    x = drawn((3, 4), -3.0, 3.0)
    weights = np.array([1.0, 2.0, 0.5, 3.0])
    for b in (None, weights):
        f = functools.partial(tape.logsumexp, axis=axis, b=b, keepdims=keepdims)
        expected = scipy.special.logsumexp(x, axis=axis, b=b, keepdims=keepdims)
        np.testing.assert_allclose(f(x), expected, rtol=1e-13)
        value = tape.vjp(f, x)[0]
        assert np.shape(value) == np.shape(expected)
        np.testing.assert_allclose(value, expected, rtol=1e-13)
        tape.check_grads(f, (x,))


def test_logsumexp_of_infinite_rows():
    x = np.array([[-np.inf, -np.inf], [0.0, -np.inf], [1000.0, 1000.0], [np.inf, 0.0]])
    expected = scipy.special.logsumexp(x, axis=1)
    with np.errstate(divide="ignore"):
        np.testing.assert_array_equal(tape.vjp(lambda x: tape.logsumexp(x, axis=1), x)[0][[0, 1, 3]], expected[[0, 1, 3]])
    gradient = tape.grad(lambda x: np.sum(tape.logsumexp(x[1:3], axis=1)))(x)
    np.testing.assert_allclose(gradient, [[0, 0], [1, 0], [0.5, 0.5], [0, 0]], atol=1e-15)


def test_nan_and_infinity_pass_as_in_numpy():
    x = np.array([np.nan, 1.0, -np.inf, np.inf, -0.0])
    for f in (
        np.max,
        np.min,
        np.sum,
        lambda x: np.maximum(x, 0.5),
        lambda x: np.minimum(x, 0.5),
        np.isnan,
        np.isinf,
        np.isfinite,
        np.sign,
        lambda x: np.clip(x, -1.0, 1.0),
        lambda x: np.where(x > 0, x, -x),
        np.abs,
        np.exp,
        np.tanh,
        np.sqrt,
        np.floor,
        np.argmax,
        np.argmin,
        lambda x: x == x,
        lambda x: x**2,
        lambda x: 1.0 / x,
        np.any,
        np.all,
    ):
        with np.errstate(all="ignore"):
            np.testing.assert_allclose(tape.record(f, x).forward(x), f(x), rtol=1e-15)


def test_second_derivative_of_a_power_with_exponent_zero():
    tape.check_grads(lambda x, y: x**y, (1.5, 0.0))


def test_ties_share_the_adjoint_of_an_extreme():
    x = np.array([1.0, 3.0, 3.0])
    np.testing.assert_array_equal(tape.grad(np.max)(x), [0.0, 0.5, 0.5])
    np.testing.assert_array_equal(tape.grad(np.min)(-x), [0.0, 0.5, 0.5])


def test_subgradients_at_kinks():
    zero = np.zeros(3)
    for f in (
        lambda x: np.linalg.norm(x),
        lambda x: np.std(x),
        lambda x: np.sum(np.abs(x)),
        lambda x: np.sum(tape.relu(x)),
        lambda x: np.sum(np.sign(x)),
    ):
        np.testing.assert_array_equal(tape.grad(f)(zero), zero)


def test_product_with_zeros():
    for x in (np.array([2.0, 0.0, 3.0]), np.array([0.0, 0.0, 3.0]), np.zeros(3)):
        expected = [np.prod(np.delete(x, k)) for k in range(3)]
        np.testing.assert_array_equal(tape.grad(np.prod)(x), expected)
        tape.check_grads(np.prod, (x,), order=3)


@pytest.mark.parametrize("f", [np.max, np.min, np.argmax])
def test_extreme_of_nothing(f):
    with pytest.raises(ValueError, match=r"zero-size|empty"):
        tape.record(lambda x: f(x), np.ones(0))


def test_single_and_double_precision_mix_as_in_numpy():
    x, y = np.arange(3, dtype=np.float32), np.arange(3.0)
    value, pullback = tape.vjp(lambda x, y: x * y, x, y)
    assert value.dtype == np.float64
    assert [g.dtype for g in pullback(np.ones(3))] == [np.float32, np.float64]
    assert tape.vjp(lambda x: x * y, x)[0].dtype == np.float64
    assert tape.vjp(lambda x: x * 2.0, x)[0].dtype == np.float32
    assert tape.vjp(lambda x: x * np.float64(2.0), x)[0].dtype == np.float64
    assert tape.vjp(lambda x: x.astype(np.float64), x)[0].dtype == np.float64
