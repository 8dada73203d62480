"""Values and dtypes are those of plain NumPy and Python, whatever the dtypes of the arguments, in every engine.

What is here: remainders at special points, booleans, integers, casts, Python's own numbers, kinds of arrays and of types, sums
of many numbers. What is not: derivatives of rows (`test_instructions.py`).
"""

from __future__ import annotations

import math
import numbers
import operator

import numpy as np
import pytest

import tape
from tape.recording.traces import Traces

FLOATS = (np.float64, np.float32)
INTEGERS = (np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64)

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::tape.UndefinedGradientWarning")


def check_same(got, expected):
    """Same dtype, shape and numbers; zeros with their signs."""
    got, expected = np.asarray(got), np.asarray(expected)
    assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
    np.testing.assert_array_equal(got, expected)
    if got.dtype.kind == "f":
        zero = expected == 0
        np.testing.assert_array_equal(np.signbit(got[zero]), np.signbit(expected[zero]))


def replay_of(function):
    """`function(s, *args)` whose lists are kept; what is returned gives its second result."""
    traces = Traces(function)

    def call(*args):
        assert traces._function() is function
        trace, workspace = traces.run(args, {}, (0,))
        return trace.result(workspace)[1]

    return call


# ---------------------------------------------------------------------- remainders

SPECIAL = [0.0, -0.0, 0.1, -0.3, 1.0, -7.5, 3.0, 1e17, -1e20, math.inf, -math.inf, math.nan, 5e-324, 1e300]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("function", [np.mod, np.fmod, np.floor_divide, lambda x, y: np.divmod(x, y)[0]],
                         ids=["mod", "fmod", "floor_divide", "divmod"])
def test_remainders_are_those_of_numpy(function, dtype):
    with np.errstate(all="ignore"):
        x, y = (a.ravel() for a in np.meshgrid(np.array(SPECIAL, dtype), np.array(SPECIAL, dtype)))
        expected = function(x, y)
    check_same(tape.jvp(function, (x, y), (np.ones_like(x), np.ones_like(y)))[0], expected)
    check_same(tape.compile(function, x, y).value(x, y), expected)
    check_same(tape.batch(function)(x, y), expected)
    check_same(np.asarray(function(tape.variable(x), y).data), expected)
    strided = np.repeat(x, 2)[::2], np.repeat(y, 3)[::3]
    check_same(tape.jvp(function, strided, (np.ones_like(x), np.ones_like(y)))[0], expected)


@pytest.mark.parametrize(("function", "x", "y", "quotient"), [
    (np.fmod, 0.5, 0.1, 4.0), (np.mod, 1.0, 0.1, 9.0), (np.mod, 0.3, 0.1, 2.0), (np.mod, -1.0, math.inf, -1.0),
    (np.fmod, -7.5, 2.0, -3.0), (np.mod, -7.5, 2.0, -4.0), (np.mod, 5.0, -math.inf, -1.0), (np.fmod, 1.0, math.inf, 0.0)])
def test_the_partial_to_the_divisor_is_the_quotient_of_the_value(function, x, y, quotient):
    assert tape.grad(lambda y: function(x, y))(y) == -quotient
    assert tape.grad(function)(x, y) == 1.0
    assert tape.jvp(lambda y: function(x, y), (y,), (1.0,))[1] == -quotient
    assert tape.compile(lambda y: function(x, y), y).value_and_grad(y)[1] == -quotient
    assert tape.batch(tape.grad(lambda y: function(x, y)))(np.full(3, y))[1] == -quotient


# ---------------------------------------------------------------------- random programs over all dtypes

BINARY = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "//": operator.floordiv, "%": operator.mod,
    "/": operator.truediv, "&": operator.and_, "|": operator.or_, "^": operator.xor, "<<": operator.lshift,
    ">>": operator.rshift, "<": operator.lt, "==": operator.eq, "!=": operator.ne, ">=": operator.ge, "maximum": np.maximum,
    "minimum": np.minimum, "fmod": np.fmod, "where": lambda a, b: np.where(a > b, a, b), "**": lambda a, b: a ** (abs(b) % 4),
    "logical_and": np.logical_and, "copysign": np.copysign, "add": np.add,
}
UNARY = {
    "neg": operator.neg, "abs": abs, "sum": np.sum, "prod": np.prod, "cumsum": np.cumsum, "cumprod": np.cumprod,
    "mean": np.mean, "invert": operator.invert, "square": np.square, "max": np.max, "any": np.any, "all": np.all,
    "sign": np.sign, "argmax": np.argmax, "dot": lambda a: np.dot(a, a), "sort": lambda a: np.sort(np.atleast_1d(a)),
    "joined": lambda a: np.concatenate([np.atleast_1d(a), np.atleast_1d(a)]),
}
CASTS = (np.int8, np.uint8, np.int32, np.uint32, np.int64, np.float64, bool)
KINDS = (np.bool_, *INTEGERS, np.float32, np.float64, int, float)


def drawn(rng, kind, shape):
    """A number or an array of a kind: small numbers, or any that the dtype has."""
    if kind in (int, float):
        return kind(rng.choice([0.1, -2.5, 3.0, 7.25, 100.0]))
    dtype = np.dtype(kind)
    if dtype.kind == "b":
        return (rng.random(shape) < 0.5)[()]
    if dtype.kind == "f":
        return np.asarray(rng.choice([0.0, -0.0, 0.1, -0.3, 2.5, -7.0, 1e3], shape)).astype(dtype)[()]
    bounds = np.iinfo(dtype)
    if rng.random() < 0.5:
        return np.asarray(rng.integers(max(bounds.min, -9), 10, shape)).astype(dtype)[()]
    return np.asarray(rng.integers(bounds.min, bounds.max, shape, dtype=dtype, endpoint=True))[()]


def random_program(rng, kinds):
    """A function of two operands; without casts of floats to integers, which NumPy leaves to the processor."""
    steps = []
    for k in range(rng.integers(1, 4)):
        i, j = rng.integers(0, 2 + k, 2)
        if rng.random() < 0.6:
            steps.append((BINARY[str(rng.choice(list(BINARY)))], i, j))
        elif rng.random() < 0.2 and all(np.dtype(kind).kind != "f" for kind in kinds):
            dtype = CASTS[rng.integers(len(CASTS))]
            steps.append((lambda a, dtype=dtype: np.asarray(a, like=a).astype(dtype) if np.ndim(a) else np.add(a, 0), i, None))
        else:
            steps.append((UNARY[str(rng.choice(list(UNARY)))], i, None))

    def program(s, a, b):
        values = [a, b]
        for function, i, j in steps:
            values.append(function(values[i]) if j is None else function(values[i], values[j]))
        return s * 1.0, values[-1]

    return program


def is_left_out(error) -> bool:
    """What lists refuse by name: float16, which NumPy computes small integers and booleans in, and complex numbers."""
    return isinstance(error, tape.NotDifferentiable) and ("float16" in str(error) or "is complex" in str(error))


def outcome(call):
    """The value of a call, or its error."""
    with np.errstate(all="ignore"):
        try:
            return np.asarray(call())
        except Exception as error:  # whatever NumPy and Python raise here, of any kind
            return error


def check_program(seed):
    rng = np.random.default_rng(seed)
    kinds = [KINDS[k] for k in rng.choice(len(KINDS), 2)]
    shape = () if rng.random() < 0.3 else (3,)
    program = random_program(rng, kinds)
    first, args = ([drawn(rng, kind, shape) for kind in kinds] for _ in range(2))
    expected = outcome(lambda: program(1.0, *args)[1])
    replay = replay_of(program)
    outcome(lambda: replay(1.0, *first))
    engines = {
        "after other arguments": lambda: replay(1.0, *args),
        "compiled": lambda: tape.compile(program, 1.0, *args).value(1.0, *args)[1],
        "lanes": lambda: tape.batch(program, in_axes=(0, None, None))(np.ones(5), *args)[1][3],
    }
    for name, engine in engines.items():
        got = outcome(engine)
        context = f"seed {seed}, {name}, {kinds}, {args}: {got!r:.200}, expected {expected!r:.200}"
        if isinstance(expected, Exception) or isinstance(got, Exception):
            assert is_left_out(got) or (isinstance(expected, Exception) and isinstance(got, Exception)), context
            continue
        if expected.dtype == np.float64 and got.dtype == np.float32 and kinds.count(float) and np.float32 in kinds:
            continue  # Python's floats among themselves have the precision of the list
        assert got.dtype == expected.dtype, context
        tolerance = 1e-5 if expected.dtype == np.float32 else 1e-13
        is_exact = expected.dtype.kind != "f"
        equal = np.array_equal(got, expected) if is_exact else np.allclose(got, expected, tolerance, 1e-12, equal_nan=True)
        assert got.shape == expected.shape, context
        assert equal, context


@pytest.mark.parametrize("seeds", [range(k, k + 20) for k in range(0, 120, 20)], ids=str)
def test_random_programs_over_all_dtypes(seeds):
    for seed in seeds:
        check_program(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [range(k, k + 200) for k in range(1000, 7000, 200)], ids=str)
def test_many_random_programs_over_all_dtypes(seeds):
    for seed in seeds:
        check_program(seed)


# ---------------------------------------------------------------------- integers and booleans


@pytest.mark.parametrize("engine", ["0", "1", "always"])
@pytest.mark.parametrize(("function", "arguments"), [
    (lambda n: n * n % 10, [3, 2**30 + 1, 7, 2**80 + 3, 2**30 + 1]),
    (lambda n: n * n % 10, [np.int64(3), np.int64(2**40 + 1), np.int64(5)]),
    (lambda n: n + 1 == 2**60 + 1, [2**60, 2**60 + 1, 3]),
    (lambda n: (n >> 3) ^ 5, [2**70, 12]),
    (lambda n: np.sum(n), [np.array([1, 2]), np.array([2**62, 2**62]), np.array([2**53, 1])]),
    (lambda n: np.prod(n), [np.array([1, 2]), np.array([2**31 + 1, 2**31 + 3])]),
    (lambda n: n + np.uint8(200), [np.array([100, 1], np.uint8), np.array([255, 0], np.uint8)]),
    (lambda n: -n, [np.array([-128, 5], np.int8), np.array([3, 5], np.int8)]),
    (lambda n: n // 7, [np.array([2**64 - 1, 3], np.uint64), np.array([9, 3], np.uint64)]),
    (lambda n: n // np.array([0, 2]), [np.array([5, -5])]),
    (lambda n: 1.0 / (n * 0), [np.array([-3.0]).astype(int)]),
])
def test_integers_of_new_arguments(function, arguments, engine, monkeypatch):
    """A list that was made for other integers is not used where it would be wrong."""
    monkeypatch.setenv("TAPE_NATIVE", engine)
    replay = replay_of(lambda s, n: (s * 2.0, function(n)))
    scaled = tape.value_and_grad(lambda s, n: s * np.sum(function(n) * 1.0))
    for n in arguments:
        with np.errstate(all="ignore"):
            expected = function(n)
            check_same(replay(1.0, n), expected)
            assert scaled(1.0, n)[0] == np.sum(expected * 1.0)


def test_new_indices_do_not_record_anew():
    gradient = tape.grad(lambda x, n: np.sum(x[n + 1] * (n * 2)))
    for k in range(5):
        n = np.array([k, k + 1])
        np.testing.assert_array_equal(gradient(np.ones(9), n)[n + 1], n * 2)
    assert gradient.report().startswith("1 lists")


def test_integers_of_float32_lists():
    x = np.arange(3.0, dtype=np.float32)
    for n in (5, 2**25 + 1, 2**25 + 3):
        check_same(tape.value_and_grad(lambda x, n: np.sum(x * n % 7))(x, n)[0], np.sum(x * n % 7))
        assert tape.value_and_grad(lambda x, n: x[0] * 0 + n % 10)(x, n)[0] == n % 10


X = np.array([1.3, -0.7, 2.1, 0.4])
MASK = np.array([True, False, True, True])


@pytest.mark.parametrize("function", [
    lambda x, m: (x > 0) + (x > -5), lambda x, m: m + m, lambda x, m: m * (x > 0), lambda x, m: np.sum(m),
    lambda x, m: m.mean(), lambda x, m: np.prod(m), lambda x, m: np.cumsum(x > 0),
    lambda x, m: ~m, lambda x, m: m ^ (x > 1), lambda x, m: m ** 2,
    lambda x, m: np.where(m, True, x > 0), lambda x, m: np.maximum(m, x > 0), lambda x, m: m == (x > 0), lambda x, m: m < True,
    lambda x, m: m + 1, lambda x, m: m * 0.5, lambda x, m: m.sum(dtype=np.int8), lambda x, m: m.astype(np.uint8) - np.uint8(1),
    lambda x, m: m & True, lambda x, m: m // m[::-1],
])
def test_booleans(function):
    with np.errstate(all="ignore"):
        check_same(tape.vjp(lambda x: (x, function(x, MASK)), X)[0][1], function(X, MASK))
        t = tape.record(lambda x, m: (x, function(x, m)), X, ~MASK)
        check_same(t.forward(X, MASK)[1], function(X, MASK))


@pytest.mark.parametrize("function", [lambda m: m - m, lambda m: -m])
def test_what_numpy_refuses_of_booleans(function):
    with pytest.raises(TypeError, match="boolean"):
        tape.grad(lambda x: np.sum(x * function(x > 0)))(X)


@pytest.mark.parametrize("n", [300, -1])
def test_integers_of_python_that_do_not_fit(n):
    u = np.array([1, 2], np.uint8)
    with pytest.raises(OverflowError, match="out of bounds for uint8"):
        tape.grad(lambda x, u: x * np.sum(u + n))(1.0, u)
    with pytest.raises(OverflowError, match="out of bounds for uint8"):
        tape.grad(lambda x, u, n: x * np.sum(u + n))(1.0, u, n)


@pytest.mark.parametrize("target", [*INTEGERS, bool, np.float64])
@pytest.mark.parametrize("source", [*INTEGERS, bool])
def test_casts_of_integers(source, target):
    a = np.array([0, 1, 100, 127]).astype(source) if source is not bool else np.array([True, False, True, True])
    if np.dtype(source).kind in "iu":
        a = np.concatenate([a, np.array([np.iinfo(source).min, np.iinfo(source).max], source)])
    check_same(replay_of(lambda x, a: (x, a.astype(target)))(1.0, a), a.astype(target))


def test_casts_of_floats_truncate():
    x = np.array([2.7, -2.7, 0.0, -0.3, 100.5])
    for target in (np.int8, np.int64, np.int32, bool):
        check_same(tape.vjp(lambda x, target=target: (x, x.astype(target)), x)[0][1], x.astype(target))
    with pytest.raises(TypeError, match="Cannot cast"):
        tape.grad(lambda x: np.sum(x.astype(int, casting="safe")))(x)


def test_what_is_assigned_into_integers():
    def f(x, a, b):
        a = a.copy()
        a[:2] = b
        return x, a

    a, b = np.zeros(3, np.int8), np.array([3, 300])
    check_same(tape.record(f, 1.0, a, b).forward(1.0, a, b)[1], f(1.0, a, b)[1])
    with pytest.raises(tape.NotDifferentiable, match=r"test_values.py:\d+: an integer beyond"):
        tape.record(lambda x, a: (x, operator.setitem(a, 0, 2**60))[0], 1.0, np.zeros(3, int))


# ---------------------------------------------------------------------- kinds of arrays


class Tagged(np.ndarray):
    """An array of another kind."""


@pytest.mark.parametrize(("array", "hint"), [
    (np.ma.array([1.0, 2.0, 3.0], mask=[0, 1, 0]), "filled"),
    (np.ones(3).view(Tagged), "np.asarray"),
    (np.rec.array(np.ones(3)).view(np.recarray), "np.asarray"),
])
def test_kinds_of_arrays_that_are_refused(array, hint):
    for call in (lambda: tape.grad(lambda x: np.sum(x * array))(np.ones(3)),
                 lambda: tape.grad(lambda x, a: np.sum(x * a))(np.ones(3), array),
                 lambda: tape.grad(lambda x: np.sum(x))(array), lambda: tape.variable(array)):
        with pytest.raises(tape.NotDifferentiable, match=rf"test_values.py:\d+: an array of type .*{hint}"):
            call()


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
def test_matrices_are_refused():
    m = np.matrix(np.eye(2))
    with pytest.raises(tape.NotDifferentiable, match="of type matrix"):
        tape.grad(lambda x: np.sum(np.dot(m, x)))(np.ones(2))


# ---------------------------------------------------------------------- what the user's code asks of a type


def matched(x):
    match x:
        case float():
            return 2.0 * x
        case _:
            return 3.0 * x


@pytest.mark.parametrize("argument", [2.0, np.float64(2.0), np.float32(2.0), np.ones(3), np.ones(()), np.ones(3, np.float32)])
@pytest.mark.parametrize("asks", [
    lambda x: isinstance(x, np.ndarray), lambda x: isinstance(x, float), lambda x: isinstance(x, numbers.Real), np.isscalar,
    lambda x: isinstance(x, np.floating), lambda x: x.__class__ is np.ndarray, lambda x: x.__class__ is float,
    lambda x: isinstance(x, (list, tuple)), callable, lambda x: hasattr(x, "__len__") if np.ndim(x) else np.ndim(x) == 1,
])
def test_questions_about_types(asks, argument):
    answers = []
    tape.vjp(lambda x: (answers.append(asks(x)), x * 1.0)[1], argument)
    assert answers == [asks(argument)]


def test_patterns():
    assert tape.value_and_grad(matched)(1.0) == (2.0, 2.0)


# ---------------------------------------------------------------------- Python's own numbers


def quotient(x, y):
    try:
        return x / y
    except ZeroDivisionError:
        return 7.0 * x


@pytest.mark.parametrize("engine", ["0", "1", "always"])
def test_division_by_zero_of_python_floats(engine, monkeypatch):
    monkeypatch.setenv("TAPE_NATIVE", engine)
    f = tape.value_and_grad(quotient)
    for y in (2.0, 0.0, 4.0, -0.0, 2.0):
        assert f(3.0, y) == (quotient(3.0, y), 1 / y if y else 7.0)
    with np.errstate(all="ignore"):
        assert tape.value_and_grad(quotient)(np.float64(1.0), np.float64(0.0))[0] == math.inf
        np.testing.assert_array_equal(tape.vjp(quotient, np.ones(2), 0.0)[0], [math.inf, math.inf])


@pytest.mark.parametrize("function", [lambda x: x // 0.0, lambda x: x % 0.0, lambda x: divmod(x, 0.0), lambda x: 1.0 / (x - x),
                                      lambda x: (x - x) ** -1, lambda x: (x - x) ** -1.5, lambda x: 1 / 0.0 * x])
def test_errors_of_python_floats(function):
    with pytest.raises(ZeroDivisionError):
        function(2.0)
    with pytest.raises(ZeroDivisionError):
        tape.grad(function)(2.0)


def test_powers_that_are_complex_or_overflow():
    root = tape.grad(lambda x: x ** (1 / 3))
    assert math.isclose(root(8.0), 1 / 12)
    with pytest.raises(tape.NotDifferentiable, match=r"test_values.py:\d+: -8.0 \*\* 0.333.* is complex"):
        root(-8.0)
    assert math.isnan(tape.grad(lambda x: x ** (1 / 3))(np.float64(-8.0)))
    with pytest.raises(OverflowError):
        tape.grad(lambda x: x**0.5 * (x * x) ** 100.5)(1e3)


def test_weak_numbers_stay_weak():
    """Python's floats do not make float32 arrays wider, unless NumPy's functions have made them float64."""
    x = np.ones(3, np.float32)
    assert tape.vjp(lambda x: x * (2.0 * 3.0), x)[0].dtype == np.float32
    for function in (lambda x, k: x * (k * 2.0), lambda x, k: x * np.sin(k), lambda x, k: x + k // 2):
        for k in (2.0, 3):
            assert tape.batch(function, in_axes=(0, None))(x, k).dtype == np.result_type(function(x, k))


# ---------------------------------------------------------------------- sums of many numbers


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("engine", ["0", "always"])
def test_sums_are_as_accurate_as_those_of_numpy(dtype, engine, monkeypatch):
    """Values, and adjoints of what was broadcast, which are sums too: a few units in the last place."""
    monkeypatch.setenv("TAPE_NATIVE", engine)
    a = np.random.default_rng(0).random(1_000_000).astype(dtype)
    exact, one = math.fsum(a), dtype(1.0)
    weight = tape.variable(one, requires_grad=True)
    np.sum(weight * a).backward()
    sums = {
        "sum": tape.value_and_grad(np.sum)(a)[0], "mean": tape.value_and_grad(np.mean)(a)[0] * a.size,
        "forward": tape.jvp(lambda s: np.sum(s * a), (one,), (one,))[1], "adjoint": tape.grad(lambda s: np.sum(s * a))(one),
        "eager": weight.grad, "rows": np.sum(tape.vjp(lambda a: np.sum(a, axis=1), a.reshape(10, -1))[0], dtype=float),
        "all axes": tape.value_and_grad(lambda a: np.sum(a.T))(a.reshape(1000, -1))[0],
    }
    bound = 32 if dtype is np.float64 else 4
    for name, value in sums.items():
        assert abs(float(value) - exact) <= bound * np.finfo(dtype).eps * exact, name


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("product", [
    np.dot, np.inner, np.vdot, lambda a, b: np.outer(a, b) @ b, lambda a, b: np.einsum("i,i->", a, b),
    lambda a, b: np.tensordot(a, b, 1), lambda a, b: np.trace(np.outer(a, b)),
    lambda a, b: np.multiply.outer(a, b) @ a[:, None]])
def test_products_of_matrices_of_integers_wrap(product, dtype):
    rng, bounds = np.random.default_rng(0), np.iinfo(dtype)
    a, b = (rng.integers(bounds.min, bounds.max, 3, dtype=dtype, endpoint=True) for _ in range(2))
    replay = replay_of(lambda s, a, b: (s * 1.0, product(a, b)))
    for x, y in ((a, b), (b, a)):
        got, expected = replay(1.0, x, y), product(x, y)
        np.testing.assert_array_equal(got, expected)
        assert got.dtype == expected.dtype


def test_products_of_matrices_of_booleans_are_booleans():
    a, b = np.array([[True, True], [False, False]]), np.array([[True, False], [True, False]])
    got = tape.record(lambda s, a: (s * 1.0, a @ b), 1.0, a).forward(1.0, a)[1]
    np.testing.assert_array_equal(got, a @ b)
    assert got.dtype == bool


def test_a_list_of_integers_refuses_those_that_it_was_not_made_for():
    t = tape.record(lambda s, n: s * (n % 10), 1.0, np.int64(2**62 + 1))
    assert t.forward(1.0, np.int64(2**62 + 1)) == (2**62 + 1) % 10
    with pytest.raises(tape.GuardFailed, match="integer argument"):
        t.forward(1.0, np.int64(2**62 + 3))
