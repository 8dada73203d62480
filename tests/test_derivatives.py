"""grad, vjp, jvp, jacobian, hessian, hvp and their like: containers, dtypes, nesting, and that the checker catches errors."""

import collections
import functools
import itertools

import numpy as np
import pytest
import scipy.optimize
from scipy.sparse.linalg import cg, eigsh

import tape

Point = collections.namedtuple("Point", ["x", "y"])
X = np.array([0.3, 0.5, 0.9])


def rosenbrock(x):
    return np.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


def energy(x):
    return np.sum(np.sin(x) * x[::-1] ** 2) + np.prod(x)


def energy_hessian(x):
    step = 1e-5
    return np.array([(tape.grad(energy)(x + step * e) - tape.grad(energy)(x - step * e)) / (2 * step) for e in np.eye(len(x))])


# ---------------------------------------------------------------------- one function, every derivative


def test_value_and_grad_agree_with_vjp_jvp_and_jacobian():
    value, gradient = tape.value_and_grad(energy)(X)
    assert value == energy(X)
    np.testing.assert_array_equal(gradient, tape.grad(energy)(X))
    np.testing.assert_allclose(tape.vjp(energy, X)[1](1.0)[0], gradient, rtol=1e-15)
    np.testing.assert_allclose([tape.jvp(energy, (X,), (e,))[1] for e in np.eye(3)], gradient, rtol=1e-14)
    for mode in (None, "forward", "reverse"):
        np.testing.assert_allclose(tape.jacobian(energy, mode=mode)(X), gradient, rtol=1e-14)


@pytest.mark.parametrize("mode", [None, "forward", "reverse"])
@pytest.mark.parametrize(
    ("f", "shape"),
    [
        (lambda x: np.sin(x), (3,)),
        (lambda x: np.outer(x, x), (3,)),
        (lambda x: x @ x.T, (2, 3)),
        (lambda x: np.sum(x, axis=0), (2, 3)),
        (lambda x: x[0], (3,)),
        (lambda x: x * 2.0, ()),
        (lambda x: x[:0], (3,)),
        (lambda x: np.stack([x, x]), (0,)),
    ],
)
def test_jacobian_has_the_shape_of_the_result_and_of_the_argument(f, shape, mode):
    x = np.random.default_rng(1).uniform(0.3, 0.9, shape)
    jacobian = tape.jacobian(f, mode=mode)(x)
    value, pullback = tape.vjp(f, x)
    assert jacobian.shape == np.shape(value) + shape
    for index in np.ndindex(np.shape(value)):
        seed = np.zeros(np.shape(value))
        seed[index] = 1.0
        np.testing.assert_allclose(jacobian[index], pullback(seed)[0], rtol=1e-14)


@pytest.mark.parametrize("mode", [None, "forward", "reverse"])
def test_jacobian_with_assignments(mode):
    def f(x):
        y = x * x
        y[1:] = y[:-1] * x[1:]
        y *= x
        return y

    expected = tape.jacobian(lambda x: np.stack([x[0] ** 3, x[0] ** 2 * x[1] ** 2, x[1] ** 2 * x[2] ** 2]))(X)
    np.testing.assert_allclose(tape.jacobian(f, mode=mode)(X), expected, rtol=1e-13)


def test_jacobian_of_containers():
    def f(p, s):
        return {"a": p.x * s, "b": [np.sum(p.y), p.x[0]]}

    p, s = Point(np.ones(2), np.array([2.0, 3.0, 4.0])), 5.0
    jacobian = tape.jacobian(f, argnums=(0, 1))(p, s)
    assert isinstance(jacobian["a"], tuple)
    assert isinstance(jacobian["a"][0], Point)
    np.testing.assert_array_equal(jacobian["a"][0].x, 5 * np.eye(2))
    np.testing.assert_array_equal(jacobian["a"][1], np.ones(2))
    np.testing.assert_array_equal(jacobian["b"][0][0].y, np.ones(3))
    np.testing.assert_array_equal(jacobian["b"][1][0].x, [1.0, 0.0])


def test_hessian_hvp_and_operator_agree():
    expected = energy_hessian(X)
    np.testing.assert_allclose(tape.hessian(energy)(X), expected, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose([tape.hvp(energy)(X, e) for e in np.eye(3)], expected, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(tape.hessian_operator(energy, X) @ np.eye(3), expected, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(tape.jacobian(tape.grad(energy))(X), expected, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(tape.jacobian(tape.jacobian(energy))(X), expected, rtol=1e-8, atol=1e-8)


def test_hessian_of_a_matrix_argument_and_of_a_number():
    x = np.random.default_rng(1).uniform(0.3, 0.9, (2, 3))
    hessian = tape.hessian(lambda x: np.sum(x @ x.T))(x)
    assert hessian.shape == (2, 3, 2, 3)
    np.testing.assert_allclose(hessian, np.einsum("ik,jl->ijkl", 2 * np.ones((2, 2)), np.eye(3)), atol=1e-14)
    assert tape.hessian(lambda x: x**3)(2.0) == 12.0
    assert np.shape(tape.hessian(lambda x: x**3)(2.0)) == ()


def test_hessian_of_the_second_argument():
    np.testing.assert_allclose(tape.hessian(lambda a, x: a * np.sum(x**3), argnums=1)(2.0, X), np.diag(12 * X))
    np.testing.assert_allclose(tape.hvp(lambda a, x: a * np.sum(x**3), argnums=1)(2.0, X, np.ones(3)), 12 * X)


def test_hessian_with_assignments():
    def f(x):
        y = x * x
        y[1:] = y[:-1] * x[1:]
        y[[0, 2]] *= x[1]
        return np.sum(y * y)

    step, gradient = 1e-6, tape.grad(f)
    expected = [(gradient(X + step * e) - gradient(X - step * e)) / (2 * step) for e in np.eye(3)]
    np.testing.assert_allclose(tape.hessian(f)(X), expected, rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(tape.hessian(f)(X), tape.jacobian(tape.grad(f))(X), rtol=1e-12)


def test_hessian_of_a_linear_function_is_zero():
    np.testing.assert_array_equal(tape.hessian(np.sum)(X), np.zeros((3, 3)))
    np.testing.assert_array_equal(tape.hessian(lambda x: 1.0)(X), np.zeros((3, 3)))


def test_hessian_operator_serves_scipys_solvers():
    matrix = np.diag([1.0, 2.0, 3.0, 4.0]) + 0.1
    operator = tape.hessian_operator(lambda x: 0.5 * x @ matrix @ x, np.zeros(4))
    assert operator.shape == (4, 4)
    np.testing.assert_allclose(cg(operator, np.ones(4), rtol=1e-12)[0], np.linalg.solve(matrix, np.ones(4)), rtol=1e-9)
    np.testing.assert_allclose(eigsh(operator, k=1)[0], np.linalg.eigvalsh(matrix)[-1:], rtol=1e-10)
    np.testing.assert_allclose(operator.T @ np.ones(4), matrix @ np.ones(4))


def test_scipy_minimizes():
    found = scipy.optimize.minimize(
        tape.value_and_grad(rosenbrock), np.zeros(5), jac=True, method="BFGS", options={"gtol": 1e-8}
    )
    np.testing.assert_allclose(found.x, np.ones(5), atol=1e-6)
    found = scipy.optimize.minimize(
        rosenbrock, np.zeros(5), jac=tape.grad(rosenbrock), hess=tape.hessian(rosenbrock), method="trust-exact"
    )
    np.testing.assert_allclose(found.x, np.ones(5), atol=1e-6)
    found = scipy.optimize.minimize(
        tape.value_and_grad(rosenbrock), np.zeros(5), jac=True, hessp=tape.hvp(rosenbrock), method="Newton-CG", tol=1e-10
    )
    np.testing.assert_allclose(found.x, np.ones(5), atol=1e-6)


# ---------------------------------------------------------------------- arguments and results


def test_gradients_have_the_structure_of_the_argument():
    def f(tree):
        return np.sum(tree["w"][0] * tree["w"][1]) + tree["p"].x * tree["p"].y + tree["t"][0]

    tree = {"w": [np.ones(2), np.arange(2.0)], "p": Point(2.0, np.float32(3.0)), "t": (4.0,)}
    gradient = tape.grad(f)(tree)
    assert list(gradient) == list(tree)
    assert type(gradient["w"]) is list
    assert type(gradient["p"]) is Point
    assert type(gradient["t"]) is tuple
    np.testing.assert_array_equal(gradient["w"][0], [0.0, 1.0])
    assert (gradient["p"].x, gradient["p"].y, gradient["t"][0]) == (3.0, 2.0, 1.0)
    assert gradient["p"].y.dtype == np.float32
    assert isinstance(gradient["t"][0], np.float64)


def test_results_have_their_structure_in_vjp_and_jvp():
    def f(x):
        return {"a": [x, (x[0], 2.0)], "b": Point(np.sum(x), x[1:])}

    value, pullback = tape.vjp(f, X)
    assert type(value["b"]) is Point
    np.testing.assert_array_equal(value["a"][0], X)
    assert value["a"][1][1] == 2.0
    (adjoint,) = pullback({"a": [np.ones(3), (10.0, 7.0)], "b": Point(100.0, np.array([1000.0, 2000.0]))})
    np.testing.assert_array_equal(adjoint, [111.0, 1101.0, 2101.0])
    tangent = tape.jvp(f, (X,), (np.array([1.0, 2.0, 3.0]),))[1]
    np.testing.assert_array_equal(tangent["a"][0], [1.0, 2.0, 3.0])
    assert tangent["a"][1] == (1.0, 0.0)
    assert tangent["b"].x == 6.0


def test_argnums_and_keywords():
    def f(x, y, *, scale=1.0, name="a"):
        return np.sum(x * y**2) * scale + len(name)

    x, y = np.array([1.0, 2.0]), np.array([3.0, 4.0])
    np.testing.assert_array_equal(tape.grad(f, argnums=1)(x, y), 2 * x * y)
    gradients = tape.grad(f, argnums=(1, 0))(x, y, scale=2.0)
    np.testing.assert_array_equal(gradients[0], 4 * x * y)
    np.testing.assert_array_equal(gradients[1], 2 * y**2)
    value, gradients = tape.value_and_grad(f, argnums=(0,))(x, y, name="long")
    assert value == 41.0 + 4 + 0 * 1 + 0
    assert isinstance(gradients, tuple)
    assert len(gradients) == 1
    gradient = tape.grad(f)
    assert [gradient(x, y, scale=s)[0] for s in (1.0, 2.0, 3.0)] == [9.0, 18.0, 27.0]
    assert tape.value_and_grad(f)(x, y, name="ab")[0] == 43.0
    assert tape.value_and_grad(f)(x, y, name="abc")[0] == 44.0


@pytest.mark.parametrize("x", [2.0, 2, np.float64(2.0), np.array(2.0)], ids=repr)
def test_numbers_are_differentiated(x):
    gradient = tape.grad(lambda x: x**3)(x)
    assert gradient == 12.0
    assert gradient.dtype == np.float64
    assert isinstance(gradient, np.ndarray if isinstance(x, np.ndarray) else np.float64)


@pytest.mark.parametrize("kinds", [(np.float32, np.float32), (np.float32, np.float64), (np.float64, np.float32)])
def test_gradients_have_the_precision_of_the_argument(kinds):
    x, y = (np.arange(1, 4).astype(kind) for kind in kinds)
    for gradient, z in zip(tape.grad(lambda x, y: np.sum(x * y), argnums=(0, 1))(x, y), (x, y), strict=True):
        assert gradient.dtype == z.dtype
    assert tape.value_and_grad(lambda x, y: np.sum(x * y))(x, y)[0].dtype == np.result_type(x, y)
    for derivative in (
        tape.grad(lambda x: np.sum(x**2)),
        tape.jacobian(lambda x: x**2),
        tape.hessian(lambda x: np.sum(x**2)),
        lambda x: tape.hvp(lambda x: np.sum(x**2))(x, x),
        lambda x: tape.jvp(lambda x: x**2, (x,), (x,))[1],
    ):
        assert derivative(x).dtype == x.dtype


@pytest.mark.parametrize(
    "x",
    [np.ones((3, 4)).T, np.ones((6, 4))[::2, ::-1], np.asfortranarray(np.ones((4, 3))), np.broadcast_to(1.0, (2, 3))],
    ids=["transposed", "strided", "fortran", "read-only"],
)
def test_gradients_are_fresh_contiguous_writable_arrays(x):
    gradient_of = tape.grad(lambda x: np.sum(x * x))
    first = gradient_of(x)
    assert type(first) is np.ndarray
    assert first.flags.c_contiguous
    assert first.flags.writeable
    first[...] = 7.0
    second = gradient_of(x)
    np.testing.assert_array_equal(second, 2 * x)
    assert not np.shares_memory(first, second)
    value, pullback = tape.vjp(lambda x: x, x)
    assert value.flags.c_contiguous
    assert value.flags.writeable
    value[...] = 5.0
    np.testing.assert_array_equal(pullback(np.ones(x.shape))[0], np.ones(x.shape))
    assert tape.jacobian(lambda x: x)(x).flags.c_contiguous
    value, tangent = tape.jvp(lambda x: x.T, (x,), (np.ones(x.shape),))
    assert value.flags.c_contiguous
    assert tangent.flags.c_contiguous


def test_pullback_may_be_called_many_times_and_after_other_calls():
    def f(x):
        y = np.exp(x)
        y *= x
        return y

    first = tape.vjp(f, X)[1]
    second = tape.vjp(f, 2 * X)[1]
    for _ in range(3):
        np.testing.assert_allclose(first(np.ones(3))[0], np.exp(X) * (1 + X), rtol=1e-13)
        np.testing.assert_allclose(second(np.ones(3))[0], np.exp(2 * X) * (1 + 2 * X), rtol=1e-13)


@pytest.mark.parametrize(
    ("f", "expected"),
    [
        (lambda x, y: np.sum(x), [1.0, 1.0, 1.0]),
        (lambda x, y: np.sum(y), [0.0, 0.0, 0.0]),
        (lambda x, y: 3.0, [0.0, 0.0, 0.0]),
        (lambda x, y: np.float32(3.0), [0.0, 0.0, 0.0]),
        (lambda x, y: x[1], [0.0, 1.0, 0.0]),
        (lambda x, y: np.sum(x * 0.0), [0.0, 0.0, 0.0]),
        (lambda x, y: np.sum(tape.stop_gradient(x)), [0.0, 0.0, 0.0]),
        (lambda x, y: y, [0.0, 0.0, 0.0]),
        (lambda x, y: x[0] + y, [1.0, 0.0, 0.0]),
    ],
)
def test_unused_arguments_and_constant_results(f, expected):
    gradient = tape.grad(f)
    for _ in range(2):
        np.testing.assert_array_equal(gradient(X, 2.0), expected)
        np.testing.assert_array_equal(tape.jacobian(f)(X, 2.0), expected)
        assert tape.jvp(f, (X, 2.0), (np.ones(3), 0.0))[1] == sum(expected)
        np.testing.assert_array_equal(tape.vjp(f, X, 2.0)[1](1.0)[0], expected)


def test_identity_and_views_as_results():
    weights = np.array([1.0, 2.0, 3.0])
    np.testing.assert_array_equal(tape.vjp(lambda x: x, X)[1](weights)[0], weights)
    np.testing.assert_array_equal(tape.vjp(lambda x: x[::-1], X)[1](weights)[0], weights[::-1])
    np.testing.assert_array_equal(tape.vjp(lambda x: x[:2], X)[1](weights[:2])[0], [1.0, 2.0, 0.0])
    np.testing.assert_array_equal(tape.vjp(lambda x: (x, x), X)[1]((weights, weights))[0], 2 * weights)
    np.testing.assert_array_equal(
        tape.vjp(lambda x: (x, x[1:], x[:1]), X)[1]((weights, weights[1:], weights[:1]))[0], 2 * weights
    )
    assert tape.grad(lambda x: x)(3.0) == 1.0
    np.testing.assert_array_equal(tape.jacobian(lambda x: x)(X), np.eye(3))
    a, b = tape.vjp(lambda x: (x, x), X)[0]
    assert not np.shares_memory(a, b)


@pytest.mark.parametrize(
    "f",
    [
        lambda x: np.broadcast_to(x, (2, 3)),
        lambda x: np.lib.stride_tricks.sliding_window_view(x, 2),
        lambda x: np.broadcast_to(x[0], (4,)),
        lambda x: (np.broadcast_to(x, (2, 3)), x),
    ],
)
def test_results_whose_elements_share_cells(f):
    value, pullback = tape.vjp(f, X)
    random = np.random.default_rng(1)
    seed = tuple(random.random(v.shape) for v in value) if isinstance(value, tuple) else random.random(value.shape)
    copied = tape.vjp(lambda x: tuple(v * 1.0 for v in f(x)) if isinstance(value, tuple) else f(x) * 1.0, X)[1]
    np.testing.assert_allclose(pullback(seed)[0], copied(seed)[0])
    tape.check_grads(f, (X,))
    if not isinstance(value, tuple):
        expected = tape.jacobian(lambda x: f(x) * 1.0)(X)
        for mode in ("forward", "reverse"):
            np.testing.assert_array_equal(tape.jacobian(f, mode=mode)(X), expected)


def test_derivatives_of_empty_arrays():
    assert tape.grad(np.sum)(np.ones(0)).shape == (0,)
    assert tape.grad(np.sum)(np.ones((2, 0))).shape == (2, 0)
    assert tape.hessian(np.sum)(np.ones(0)).shape == (0, 0)
    assert tape.jacobian(lambda x: x)(np.ones(0)).shape == (0, 0)


def test_derivatives_keep_name_and_docstring():
    assert tape.grad(rosenbrock).__name__ == "rosenbrock"
    assert tape.hvp(rosenbrock).__name__ == "rosenbrock"


def test_stop_gradient_of_containers_and_plain_values():
    def f(p):
        q = tape.stop_gradient({"a": p, "b": [p * 2]})
        return np.sum(p * q["a"] + q["b"][0])

    np.testing.assert_array_equal(tape.grad(f)(X), X)
    assert tape.stop_gradient(3.0) == 3.0
    np.testing.assert_array_equal(tape.stop_gradient(X), X)
    assert tape.stop_gradient((1.0, [X]))[1][0] is X


# ---------------------------------------------------------------------- nesting


def test_no_perturbation_confusion():
    # d/dx (x * d/dy (x + y)) = 1, not 2.
    assert tape.grad(lambda x: x * tape.grad(lambda y: x + y)(1.0))(1.0) == 1.0
    assert tape.jvp(lambda x: x * tape.jvp(lambda y: x + y, (1.0,), (1.0,))[1], (1.0,), (1.0,))[1] == 1.0
    assert tape.grad(lambda x: x * tape.jvp(lambda y: x * y, (3.0,), (1.0,))[1])(5.0) == 10.0
    assert tape.grad(lambda x: x * tape.grad(lambda y: x * y**2)(x))(2.0) == 6 * 4.0
    assert tape.grad(lambda x: tape.grad(lambda y: tape.grad(lambda z: x * y**2 * z**3)(y))(x))(2.0) == 48 * 2.0**3
    assert tape.grad(lambda x: tape.jvp(lambda y: tape.grad(lambda z: z * x * y)(x), (x,), (x,))[1])(3.0) == 2 * 3.0
    assert tape.jvp(lambda x: tape.grad(lambda y: y * tape.stop_gradient(x) * x)(x), (3.0,), (1.0,))[1] == 3.0


@pytest.mark.parametrize("order", range(1, 6))
def test_repeated_gradients(order):
    f = lambda x: np.sin(2 * x) + x**4
    for _ in range(order):
        f = tape.grad(f)
    expected = 2.0**order * np.sin(2 * 0.7 + order * np.pi / 2) + [4 * 0.7**3, 12 * 0.7**2, 24 * 0.7, 24.0, 0.0][order - 1]
    np.testing.assert_allclose(f(0.7), expected, rtol=1e-12)


def test_mixed_nesting_of_modes():
    hessian, v = energy_hessian(X), np.array([1.0, -2.0, 0.5])
    np.testing.assert_allclose(tape.jvp(tape.grad(energy), (X,), (v,))[1], hessian @ v, rtol=1e-7)
    np.testing.assert_allclose(tape.grad(lambda x: tape.jvp(energy, (x,), (v,))[1])(X), hessian @ v, rtol=1e-7)
    np.testing.assert_allclose(tape.grad(lambda x: tape.grad(energy)(x) @ v)(X), hessian @ v, rtol=1e-7)
    np.testing.assert_allclose(tape.jvp(lambda x: tape.jvp(energy, (x,), (v,))[1], (X,), (v,))[1], v @ hessian @ v, rtol=1e-7)
    np.testing.assert_allclose(tape.vjp(tape.grad(energy), X)[1](v)[0], hessian @ v, rtol=1e-7)
    np.testing.assert_allclose(tape.grad(lambda x: tape.vjp(np.sin, x)[1](v)[0] @ np.ones(3))(X), -np.sin(X) * v, rtol=1e-12)


def test_second_derivatives_inside_a_function():
    v = np.array([1.0, -2.0, 0.5])
    for f in (
        lambda x: tape.hvp(energy)(x, v),
        lambda x: tape.hessian(energy)(x),
        lambda x: tape.jacobian(np.sin)(x),
        tape.grad(energy),
        lambda x: tape.value_and_grad(energy)(x),
        lambda x: np.sum(tape.hessian(energy)(x) @ x),
    ):
        tape.check_grads(f, (X,), order=2)


def test_the_vector_of_a_hessian_product_is_a_constant():
    def curvature(x):
        g = tape.grad(lambda x: np.sum(x**3))(x)
        return np.sum(tape.hvp(lambda x: np.sum(x**3))(x, g))

    # H g = 6 x g with g held fixed: the derivative is 6 g = 18 x^2, not 54 x^2.
    np.testing.assert_allclose(tape.grad(curvature)(X), 18 * X**2, rtol=1e-13)
    np.testing.assert_allclose(tape.record(curvature, X).forward(X), np.sum(18 * X**3))


def test_gradient_descent_inside_a_loss():
    matrix, target = np.array([[2.0, 0.3], [0.3, 1.0]]), np.array([1.0, -1.0])

    def inner(w, a):
        return 0.5 * w @ (a * matrix) @ w - w @ target

    def loss(a):
        w = np.zeros_like(target)
        for _ in range(5):
            w = w - 0.1 * tape.grad(inner)(w, a)
        return np.sum((w - 1.0) ** 2)

    def by_hand(a):
        w = np.zeros(2)
        for _ in range(5):
            w = w - 0.1 * (a * (matrix @ w) - target)
        return np.sum((w - 1.0) ** 2)

    np.testing.assert_allclose(tape.value_and_grad(loss)(0.7)[0], by_hand(0.7), rtol=1e-13)
    np.testing.assert_allclose(tape.grad(loss)(0.7), (by_hand(0.7 + 1e-6) - by_hand(0.7 - 1e-6)) / 2e-6, rtol=1e-7)
    tape.check_grads(loss, (0.7,), order=2)


def test_nested_derivatives_with_containers():
    def f(p):
        return np.sum(p["a"] ** 2 * p["b"])

    def g(p):
        gradient = tape.grad(f)(p)
        assert set(gradient) == {"a", "b"}
        return np.sum(gradient["a"] * gradient["b"])

    tape.check_grads(g, ({"a": X, "b": 2 * X},))


def test_nested_calls_with_assignments():
    def f(x):
        y = x * x
        y[1:] *= x[:-1]
        y[[0, 0]] = x[1:] * y[1:]
        return np.sum(y * y)

    for g in (
        tape.grad(f),
        lambda x: tape.hvp(f)(x, X),
        lambda x: tape.jvp(f, (x,), (x,))[1],
        tape.hessian(f),
        lambda x: tape.jvp(tape.grad(f), (x,), (x,))[1],
    ):
        np.testing.assert_allclose(tape.vjp(g, X)[0], g(X), rtol=1e-12)
        tape.check_grads(g, (X,), order=1)
    tape.check_grads(f, (X,), order=3, rtol=1e-4)


@pytest.mark.parametrize("levels", [1, 2, 3, 4])
def test_all_nestings_of_an_assignment(levels):
    def f(x):
        y = x * x
        y *= x
        y[[1, 0]] *= x[1:]
        return np.sum(y * y)

    v = np.array([1.0, -0.5, 0.3])
    modes = [lambda g: lambda x: tape.jvp(g, (x,), (v,))[1], lambda g: lambda x: tape.grad(g)(x) @ v]
    values = []
    for choice in itertools.product(modes, repeat=levels):
        g = f
        for mode in choice:
            g = mode(g)
        values.append(float(g(X)))
        np.testing.assert_allclose(tape.vjp(g, X)[0], g(X), rtol=1e-12)
    np.testing.assert_allclose(values, values[0], rtol=1e-11)


def test_a_pullback_inside_a_recording_sees_what_was_overwritten_since():
    def f(x):
        w = x * 2.0
        value, pullback = tape.vjp(lambda z: np.exp(z) * w, x)
        kept = value * 1.0
        w *= 3.0
        value[...] = 0.0
        (first,) = pullback(x)
        w[[0, 0, 1]] = x[0]
        (second,) = pullback(w)
        return first, second + kept * w

    def by_hand(x):
        return np.exp(x) * 2 * x * x, np.exp(x) * 2 * x * np.stack([x[0], x[0], 6 * x[2]]) + np.exp(x) * 2 * x * np.stack(
            [x[0], x[0], 6 * x[2]]
        )

    for got, expected in zip(tape.vjp(f, X)[0], by_hand(X), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-13)
    tape.check_grads(f, (X,))


def test_a_pullback_inside_a_recording_sees_the_values_of_its_call():
    def f(x):
        w = x * 2.0
        value, pullback = tape.vjp(lambda z: np.exp(z) * w, x)
        (before,) = pullback(np.ones(3))
        (again,) = pullback(np.ones(3))
        return before * again + value

    tape.check_grads(f, (X,))


def test_inner_functions_see_outer_recorded_values():
    def outer(x, y):
        def inner(z):
            return np.sum(z * x + y)

        return tape.grad(inner)(y) @ x

    tape.check_grads(outer, (X, 2 * X), order=2)


# ---------------------------------------------------------------------- the checker itself


def slightly_wrong(f, factor):
    """`f` with a derivative that is off by `factor`."""
    return lambda x: f(x) * factor + tape.stop_gradient(f(x)) * (1.0 - factor)


@pytest.mark.parametrize("f", [lambda x: np.sum(np.sin(x)), lambda x: x**2 + 1.0, lambda x: np.outer(x, x)])
def test_checker_catches_a_derivative_that_is_off_by_half_a_thousandth(f):
    tape.check_grads(f, (X,))
    tape.check_grads(slightly_wrong(f, 1.0), (X,))
    for modes in (("forward",), ("reverse",)):
        with pytest.raises(AssertionError, match=rf"order 1, {modes[0]}.*derivative .* difference quotient"):
            tape.check_grads(slightly_wrong(f, 1.0005), (X,), modes=modes)


def test_checker_catches_a_second_derivative_that_is_wrong():
    def f(x):
        # Right value and first derivative; the second one lacks a part.
        y = tape.stop_gradient(x)
        return np.sum(y**3 + 3 * y**2 * (x - y))

    tape.check_grads(f, (X,), order=1)
    with pytest.raises(AssertionError, match="order 2"):
        tape.check_grads(f, (X,), order=2)


def test_checker_names_the_worst_component():
    wrong = np.array([1.0, 1.0, 1.01])
    with pytest.raises(AssertionError, match=r"1 of 3 components; worst at \(2,\)"):
        tape.check_grads(
            lambda x: np.sum(np.sin(x) * wrong) + tape.stop_gradient(np.sum(np.sin(x) * (1 - wrong))), (X,), modes=("reverse",)
        )


def test_checker_checks_large_arguments_along_directions():
    x = np.random.default_rng(1).random(500)
    tape.check_grads(lambda x: np.sum(np.sin(x)), (x,))
    with pytest.raises(AssertionError):
        tape.check_grads(slightly_wrong(lambda x: np.sum(np.sin(x)), 1.01), (x,))


def test_checker_catches_a_step_of_a_function():
    with pytest.raises(AssertionError):
        tape.check_grads(lambda x: np.floor(x * 1e3) * 1e-3, (np.array([0.001, 0.0019999999]),))


@pytest.mark.parametrize(
    "call",
    [
        lambda: tape.check_grads(np.sum, X),
        lambda: tape.check_grads(np.sum, (X,), modes=("backward",)),
        lambda: tape.check_grads(np.sum, (X,), order=0),
    ],
)
def test_checker_refuses_wrong_arguments(call):
    with pytest.raises(tape.NotDifferentiable, match=r"check_grads: expected"):
        call()


def test_checker_takes_containers_and_single_precision():
    tape.check_grads(lambda p, s: {"a": p.x * s, "b": [p.y**2]}, (Point(X, 2.0), 3.0))
    tape.check_grads(lambda x: np.sum(np.sin(x) * x), (X.astype(np.float32),))


def test_methods_and_partials_are_differentiated():
    class Model:
        def __init__(self):
            self.weight = 2.0

        def loss(self, x):
            return np.sum(self.weight * x**2)

        def __call__(self, x):
            return self.loss(x)

    model = Model()
    for f in (model.loss, model, functools.partial(lambda w, x: np.sum(w * x**2), 2.0), np.sum):
        factor = 1.0 if f is np.sum else 4 * X
        np.testing.assert_allclose(tape.grad(f)(X), np.ones(3) * factor)
