"""Every misuse gives the promised class of error, and a message that says what was expected, what was got and where."""

import math
import re

import numpy as np
import pytest

import tape

X = np.array([0.3, 0.5, 0.9])


def scalar(x):
    return np.sum(x * x)


# ---------------------------------------------------------------------- results and arguments


@pytest.mark.parametrize(
    ("f", "message"),
    [
        (
            lambda x: x,
            r"tape\.grad: expected a function with a scalar result, got a result of shape \(3,\); use tape\.jacobian",
        ),
        (lambda x: x[:1], r"got a result of shape \(1,\)"),
        (lambda x: (np.sum(x), np.sum(x)), r"one scalar result, got 2 results; use tape\.jacobian or tape\.vjp"),
        (lambda x: (), r"got 0 results"),
        (lambda x: np.argmax(x), r"expected a float result, got int64"),
        (lambda x: x[0] > 0, r"expected a float result, got bool"),
        (lambda x: 3, r"expected a float result, got int64"),
        (lambda x: None, r"got 0 results|returned NoneType"),
        (lambda x: "text", r"returned str \('text'\)"),
        (lambda x: {1, 2}, r"returned set"),
        (lambda x: np.ones(3), r"got a result of shape \(3,\)"),
    ],
)
def test_results_that_have_no_gradient(f, message):
    for derivative in (tape.grad(f), tape.value_and_grad(f)):
        with pytest.raises(tape.NotDifferentiable, match=message):
            derivative(X)
    with pytest.raises(tape.NotDifferentiable, match=message):
        tape.grad(lambda x: tape.grad(f)(x)[0] * 1.0)(X)


def test_non_scalar_hessian_and_product():
    for derivative in (
        tape.hessian(lambda x: x),
        lambda x: tape.hvp(lambda x: x)(x, x),
        lambda x: tape.hessian_operator(lambda x: x, x) @ x,
    ):
        with pytest.raises(tape.NotDifferentiable, match=r"shape \(3,\)"):
            derivative(X)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (
            np.array([True, False]),
            r"argument 0: expected floats .* got an array of bool; convert it with astype\(np\.float64\)",
        ),
        (np.ones(2, np.complex128), "dtype complex128: expected float64, float32"),
        (np.complex128(1j), "complex128"),
        (1j, r"got complex \(1j\)"),
        (np.array([1.0, None], object), "dtype object: expected float64"),
        (np.array(["a"]), "dtype <U1: expected float64"),
        ("text", r"got str \('text'\)"),
        (b"bytes", "got bytes"),
        (np.ones(2, np.float16), "dtype float16: expected float64"),
        (np.ones(2, np.longdouble), "dtype (float128|longdouble): expected float64"),
        (np.array(["2020-01-01"], "datetime64[D]"), "dtype datetime64"),
        (True, r"got bool \(True\)"),
        ([1.0, "a"], r"got str \('a'\)"),
        ({"a": np.arange(2) > 0}, "got an array of bool"),
        (object(), "got object"),
    ],
)
def test_arguments_that_cannot_be_differentiated(x, message):
    for call in (tape.grad(lambda x: 1.0), tape.jacobian(lambda x: 1.0), lambda x: tape.vjp(lambda x: 1.0, x)):
        with pytest.raises(tape.NotDifferentiable, match=message):
            call(x)


def test_none_is_no_leaf():
    assert tape.grad(lambda x, none: np.sum(x) if none is None else 0.0)(X, None).tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("make", [tape.grad, tape.value_and_grad, tape.jacobian])
@pytest.mark.parametrize("argnums", [-1, 1.5, (), (0, -2), None, [0], b"x"])
def test_wrong_argnums(make, argnums):
    with pytest.raises(tape.NotDifferentiable, match="argnums: expected the number of a positional argument, counted from 0"):
        make(scalar, argnums=argnums)


@pytest.mark.parametrize("make", [tape.grad, tape.value_and_grad, tape.jacobian, tape.hessian])
def test_an_argument_that_was_not_given(make):
    with pytest.raises(tape.NotDifferentiable, match="expected positional argument 2, got 1 positional arguments"):
        make(scalar, argnums=2)(X)


@pytest.mark.parametrize("make", [tape.hvp, tape.hessian])
def test_several_argnums_where_one_is_expected(make):
    with pytest.raises(tape.NotDifferentiable, match=r"expected the number or the name of one argument, got \(0, 1\)"):
        make(scalar, argnums=(0, 1))


@pytest.mark.parametrize("f", [3.0, None, "sin", X])
def test_something_that_is_no_function(f):
    for make in (
        tape.grad,
        tape.value_and_grad,
        tape.jacobian,
        tape.hvp,
        lambda f: tape.vjp(f, X),
        lambda f: tape.record(f, X),
    ):
        with pytest.raises(tape.NotDifferentiable, match=f"expected a function, got {type(f).__name__}"):
            make(f)


@pytest.mark.parametrize(
    "call",
    [
        lambda: tape.jacobian(scalar, mode="up"),
        lambda: tape.hessian(scalar, mode="up"),
    ],
)
def test_modes_that_do_not_exist(call):
    with pytest.raises(tape.NotDifferentiable, match="mode"):
        call()


def test_the_functions_own_errors_pass_unchanged():
    class OwnError(Exception):
        pass

    def f(x):
        raise OwnError("text")

    with pytest.raises(OwnError, match="text"):
        tape.grad(f)(X)
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        tape.grad(lambda x, y: x)(X)
    with pytest.raises(ZeroDivisionError):
        tape.grad(lambda x: x[0] / (1 // 0))(X)
    assert tape.grad(scalar)(X).tolist() == (2 * X).tolist()


# ---------------------------------------------------------------------- code that cannot be recorded

LINE = re.compile(r"test_errors\.py:(\d+)")


def misuse_float(x):
    return float(x[0])


def misuse_math(x):
    return math.sin(x[0])


def misuse_array(x):
    return np.sum(np.array([x[0], x[1]]))


def misuse_asarray(x):
    return np.sum(np.asarray(x[0]).astype(float))


def misuse_store(x):
    y = np.zeros(3)
    y[0] = x[0]
    return np.sum(y)


def misuse_store_slice(x):
    y = np.zeros(3)
    y[:] = x * 2
    return np.sum(y)


def misuse_scipy(x):
    from scipy.special import logsumexp

    return logsumexp(x)


def misuse_complex(x):
    return complex(x[0])


def misuse_format(x):
    return f"{x[0]:.3f}"


@pytest.mark.parametrize("f", [misuse_float, misuse_math, misuse_array, misuse_store, misuse_store_slice, misuse_asarray])
def test_leaving_the_list_names_the_line_and_what_to_do(f):
    with pytest.raises(tape.NotDifferentiable) as caught:
        tape.grad(f)(X)
    message = str(caught.value)
    lines = {int(n) for n in LINE.findall(message)}
    first = f.__code__.co_firstlineno
    assert any(first < n <= first + 4 for n in lines), message
    assert "would cut its derivative" in message
    assert "np.zeros_like(x)" in message


@pytest.mark.parametrize(
    ("f", "alternative"),
    [(misuse_array, "np.stack"), (misuse_store, "np.zeros_like"), (misuse_math, "math"), (misuse_float, "stop_gradient")],
)
def test_leaving_the_list_names_the_alternative(f, alternative):
    with pytest.raises(tape.NotDifferentiable, match=alternative):
        tape.grad(f)(X)


@pytest.mark.parametrize("f", [misuse_complex, misuse_scipy, misuse_format])
def test_other_ways_out_are_closed(f):
    with pytest.raises((tape.NotDifferentiable, TypeError)):
        tape.grad(f)(X)


@pytest.mark.parametrize(
    ("f", "name"),
    [
        (lambda x: np.linalg.eig(np.outer(x, x)), "eig"),
        (lambda x: np.fft.fft(x), "fft"),
        (lambda x: np.histogramdd(x), "histogramdd"),
        (lambda x: np.roots(x), "roots"),
    ],
)
def test_functions_without_a_rule_are_named_with_what_is_supported(f, name):
    with pytest.raises(tape.NotDifferentiable, match=rf"{name}.*(supported|nearest)"):
        tape.record(f, X)


@pytest.mark.parametrize(
    ("f", "name"),
    [
        (lambda x: np.nextafter(x, x), "nextafter"),
        (lambda x: np.gcd(x, x), "gcd"),
        (lambda x: np.frexp(x), "frexp"),
        (lambda x: np.add.reduceat(x, [0]), "add.reduceat"),
        (lambda x: np.subtract.accumulate(x), "subtract.accumulate"),
        (lambda x: np.subtract.reduce(x), "subtract.reduce"),
    ],
)
def test_ufuncs_without_a_rule_are_named(f, name):
    with pytest.raises(tape.NotDifferentiable, match=rf"{name}.*(supported|nearest)"):
        tape.record(f, X)


@pytest.mark.parametrize(
    ("f", "message"),
    [
        (lambda x: np.add(x, x, out=np.zeros(3)), "into an existing array"),
        (lambda x: np.add(x, 1.0, where=x > 0.4), "with where"),
        (lambda x: np.sum(x, out=np.zeros(())), "into an existing array"),
        (lambda x: np.sum(x, dtype=complex), "expected a dtype of floats or integers"),
        (lambda x: np.bitwise_and(x, x), "expected booleans"),
        (lambda x: np.einsum("i", x, dtype=np.float32), "dtype"),
        (lambda x: x.astype(complex), "astype"),
        (lambda x: x.astype(np.float16), "astype"),
        (lambda x: x + 1j, "complex"),
        (lambda x: x + np.ones(3, complex), "complex128"),
        (lambda x: x + "a", "str"),
        (lambda x: x + None, "NoneType"),
        (lambda x: x * np.array([None, 1, 2]), "object"),
        (lambda x: np.array([x[0], 1.0], object) * x[0], "would cut|object"),
        (lambda x: x.ravel(order="K"), "order='K'"),
        (lambda x: np.reshape(x, 3, order="A"), "order='A'"),
    ],
)
def test_unsupported_arguments_of_functions(f, message):
    with pytest.raises(tape.NotDifferentiable, match=message):
        tape.record(f, X)


@pytest.mark.parametrize("f", [lambda x: np.add(x, x, out=np.zeros(3)), lambda x: np.zeros(3).__iadd__(x)])
def test_adding_into_a_plain_array(f):
    with pytest.raises(tape.NotDifferentiable, match=r"np\.zeros_like"):
        tape.grad(lambda x: np.sum(f(x)))(X)


def test_truth_of_several_elements():
    with pytest.raises(ValueError, match="ambiguous"):
        tape.grad(lambda x: 1.0 if x > 0 else 2.0)(X)


def test_leaked_recorded_arrays():
    leaked = []

    def leaking(x):
        leaked.append(x)
        return np.sum(x)

    tape.grad(leaking)(X)
    for use in (lambda x: x * leaked[0], lambda x: leaked[0] * x, lambda x: np.sum(leaked[0]) * x, lambda x: leaked[0]):
        with pytest.raises(tape.NotDifferentiable, match=r"another recording|outside the recording"):
            tape.vjp(use, X)
    for use in (lambda: leaked[0] + 1.0, lambda: np.sin(leaked[0])):
        with pytest.raises(tape.NotDifferentiable, match="outside the recording"):
            use()


def test_leaked_recorded_arrays_in_reductions_and_indexing():
    leaked = []
    tape.grad(lambda x: (leaked.append(x), np.sum(x))[1])(X)
    for use in (
        lambda: np.sum(leaked[0]),
        lambda: leaked[0] @ np.ones(3),
        lambda: leaked[0][np.array([0, 1])],
        lambda: np.max(leaked[0]),
    ):
        with pytest.raises(tape.NotDifferentiable, match="outside the recording"):
            use()


# ---------------------------------------------------------------------- seeds, tangents and vectors


@pytest.mark.parametrize("seed", [1.0, np.ones(2), np.ones((3, 1)), (np.ones(3),), [1.0, 1.0, 1.0], None])
def test_wrong_seeds(seed):
    _, pullback = tape.vjp(np.sin, X)
    with pytest.raises(ValueError, match="the seed: expected"):
        pullback(seed)
    with pytest.raises(ValueError, match="the seed: expected"):
        tape.grad(lambda x: np.sum(tape.vjp(np.sin, x)[1](seed)[0]))(X)
    np.testing.assert_allclose(pullback(np.ones(3))[0], np.cos(X))


@pytest.mark.parametrize("tangents", [(1.0,), (np.ones(2),), (X, X), ((X,),), ([0.1, 0.2, 0.3],)])
def test_wrong_tangents(tangents):
    with pytest.raises(ValueError, match="the tangents: expected"):
        tape.jvp(np.sin, (X,), tangents)
    with pytest.raises(ValueError, match="the tangents: expected"):
        tape.grad(lambda x: np.sum(tape.jvp(np.sin, (x,), tangents)[1]))(X)


@pytest.mark.parametrize(
    "call", [lambda: tape.jvp(np.sin, X, X), lambda: tape.jvp(np.sin, (X,), X), lambda: tape.jvp(np.sin, (), ())]
)
def test_primals_that_are_no_tuple(call):
    with pytest.raises(tape.NotDifferentiable, match="expected tuples of primals and of tangents"):
        call()


def test_calls_that_lack_arguments():
    with pytest.raises(tape.NotDifferentiable, match="expected at least one primal"):
        tape.vjp(np.sin)
    with pytest.raises(tape.NotDifferentiable, match="expected the arguments of the function and a vector"):
        tape.hvp(scalar)(X)
    with pytest.raises(ValueError, match="the tangents: expected shape"):
        tape.hvp(scalar)(X, np.ones(2))
    with pytest.raises(tape.NotDifferentiable, match="expected an array or a number"):
        tape.hessian(lambda p: np.sum(p["a"]))({"a": X})
    with pytest.raises(ValueError, match="expected a point with one axis"):
        tape.hessian_operator(scalar, np.ones((2, 2)))


@pytest.mark.parametrize("args", [(np.ones(2), 1.0), (X,), (X, 1.0, 2.0), (X, np.ones(2)), ([X], 1.0)])
def test_a_tape_run_on_other_shapes(args):
    recorded = tape.record(lambda x, s: x * s, X, 2.0)
    with pytest.raises(ValueError, match=r"expected the recorded (shape|structure)"):
        recorded.forward(*args)
    np.testing.assert_array_equal(recorded.forward(X, 3.0), 3 * X)


def test_a_tape_with_other_static_arguments():
    recorded = tape.record(lambda x, mode: x * 2 if mode == "a" else x, X, "a")
    with pytest.raises(ValueError, match="expected the recorded 'a', got 'b'"):
        recorded.forward(X, "b")


@pytest.mark.parametrize("seed", [np.ones(2), (np.ones(3),), np.ones((3, 3))])
def test_a_tape_with_wrong_seeds(seed):
    with pytest.raises(ValueError, match="the seed: expected"):
        tape.record(np.sin, X).reverse(seed)


def test_a_tape_whose_result_depends_on_nothing():
    with pytest.raises(tape.NotDifferentiable, match="no result of this tape depends on its arguments"):
        tape.record(lambda x: 1.0, X).reverse()


def test_wrong_keys_of_the_table():
    recorded = tape.record(np.sin, X)
    recorded.reverse()
    for key in (99, -1, "x", 1.5):
        with pytest.raises(KeyError, match="expected a variable of this tape"):
            recorded.grad_table[key]


def test_all_errors_are_tape_errors():
    for name in ("InvalidTape", "CapacityError", "GuardFailed", "UndefinedGradient", "NotDifferentiable"):
        assert issubclass(getattr(tape, name), tape.TapeError)
    assert issubclass(tape.NotDifferentiable, TypeError)
    assert issubclass(tape.UndefinedGradientWarning, RuntimeWarning)
