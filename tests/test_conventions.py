"""Conventions that people bring along: an aux, arguments by name, and integers where floats are meant.

What is here: values, of every call that takes them, in NumPy code and in jitted functions; what SciPy's solvers hand over.
"""

import array

import numpy as np
import pytest
import scipy.optimize
from numba import njit
from scipy.integrate import solve_ivp

import tape

X = np.array([0.3, 1.2, -0.7])


def loss(x, w=2.0, *, scale=1.0):
    """A scalar of an array and two numbers."""
    return np.sum(np.sin(x) * w) * scale


def with_aux(x, w):
    """The same with an aux of several kinds."""
    return np.sum(np.sin(x) * w), {"scaled": x * w, "name": "loss", "none": None, "count": 3, "mask": x > 0.0}


jitted_with_aux = njit(lambda x, w: (np.sum(np.sin(x) * w), (x * w, len(x))))


def check_aux(aux, x, w):
    """The aux of `with_aux` is plain, and that of these arguments."""
    assert type(aux["scaled"]) is np.ndarray
    np.testing.assert_array_equal(aux["scaled"], x * w)
    np.testing.assert_array_equal(aux["mask"], x > 0.0)
    assert (aux["name"], aux["none"], aux["count"]) == ("loss", None, 3)


# ---------------------------------------------------------------------- has_aux


@pytest.mark.parametrize("engine", ["0", "always"])
def test_aux_of_every_derivative(engine, monkeypatch):
    monkeypatch.setenv("TAPE_NATIVE", engine)
    x, w, v = X, 2.0, np.array([1.0, -2.0, 0.5])

    def function(x, w):
        return with_aux(x, w)

    gradient, hessian = w * np.cos(x), np.diag(-w * np.sin(x))
    for shift in (0.0, 0.1):  # the second call replays
        x = X + shift
        gradient, hessian = w * np.cos(x), np.diag(-w * np.sin(x))
        found, aux = tape.grad(function, has_aux=True)(x, w)
        np.testing.assert_allclose(found, gradient, rtol=1e-14)
        check_aux(aux, x, w)
        (value, aux), found = tape.value_and_grad(function, argnums="w", has_aux=True)(x, w)
        assert np.isclose(value, np.sum(np.sin(x)) * w)
        assert np.isclose(found, np.sum(np.sin(x)))
        check_aux(aux, x, w)
        found, aux = tape.hessian(function, has_aux=True)(x, w)
        np.testing.assert_allclose(found, hessian, atol=1e-14)
        check_aux(aux, x, w)
        found, aux = tape.hessian(function, mode="sparse", has_aux=True)(x, w)
        np.testing.assert_allclose(found.toarray(), hessian, atol=1e-14)
        found, aux = tape.hvp(function, has_aux=True)(x, w, v)
        np.testing.assert_allclose(found, hessian @ v, atol=1e-14)
        check_aux(aux, x, w)
        value, tangent, aux = tape.jvp(function, (x, w), (v, 1.0), has_aux=True)
        assert np.isclose(tangent, gradient @ v + np.sum(np.sin(x)))
        check_aux(aux, x, w)
        value, pullback, aux = tape.vjp(function, x, w, has_aux=True)
        np.testing.assert_allclose(pullback(2.0)[0], 2.0 * gradient)
        assert np.isclose(value, np.sum(np.sin(x)) * w)
        check_aux(aux, x, w)


@pytest.mark.parametrize("mode", ["forward", "reverse", "sparse", None])
def test_aux_of_a_jacobian(mode):
    found, aux = tape.jacobian(lambda x: (x**2, 3.0 * x), mode=mode, has_aux=True)(X)
    np.testing.assert_allclose(found.toarray() if mode == "sparse" else found, np.diag(2.0 * X))
    np.testing.assert_array_equal(aux, 3.0 * X)
    (first, second), aux = tape.jacobian(lambda x: ((x**2, x[:2]), x[0]), has_aux=True, mode=None)(X)
    np.testing.assert_allclose(first, np.diag(2.0 * X))
    assert second.shape == (2, 3)
    assert aux == X[0]


def test_an_aux_inside_a_recording_is_the_outer_ones():
    def outer(x):
        gradient, aux = tape.grad(lambda x: (np.sum(x**3), x**2), has_aux=True)(x)
        return np.sum(gradient * aux)  # 3 x^4

    np.testing.assert_allclose(tape.grad(outer)(X), 12.0 * X**3)
    np.testing.assert_allclose(tape.hessian(outer)(X), np.diag(36.0 * X**2))

    def product(x):
        found, aux = tape.hvp(lambda x: (np.sum(x**3), x), has_aux=True)(x, np.ones(3))
        return np.sum(found * aux)  # 6 x^2

    np.testing.assert_allclose(tape.grad(product)(X), 12.0 * X)

    def matrix(x):
        found, aux = tape.jacobian(lambda x: (x**2, x), has_aux=True)(x)
        return np.sum(found) + aux[0]

    np.testing.assert_allclose(tape.grad(matrix)(X), np.array([3.0, 2.0, 2.0]))


def test_an_aux_that_changes_nothing_has_no_derivative():
    gradient, aux = tape.grad(lambda x: (np.sum(x), np.sum(np.sqrt(x))), has_aux=True)(np.zeros(2))
    assert gradient.tolist() == [1.0, 1.0]  # without a warning, and without the infinite slope of the root
    assert aux == 0.0
    gradient, aux = tape.grad(lambda x: (3.0, np.sum(x)), has_aux=True)(np.ones(2))
    assert (gradient.tolist(), aux) == ([0.0, 0.0], 2.0)


def test_aux_of_loops():
    def looped(x):
        x, steps = tape.scan(lambda c, _: (c * x[0], c), x[1], None, 3)
        return x, steps

    gradient, aux = tape.grad(looped, has_aux=True)(np.array([2.0, 3.0]))
    np.testing.assert_allclose(gradient, [3 * 4.0 * 3.0, 8.0])
    np.testing.assert_allclose(aux, [3.0, 6.0, 12.0])


@pytest.mark.parametrize("function", [lambda x: np.sum(x), lambda x: (np.sum(x), x, x), lambda x: [np.sum(x), x]])
def test_an_aux_that_is_missing(function):
    with pytest.raises(tape.NotDifferentiable, match=r"has_aux=True: expected the function to return a pair"):
        tape.grad(function, has_aux=True)(X)


def test_an_aux_that_could_hold_recorded_values():
    class Holder:
        def __init__(self, x):
            self.x = x

    with pytest.raises(tape.NotDifferentiable, match="expected an aux of numbers, arrays and text in containers, got Holder"):
        tape.grad(lambda x: (np.sum(x), [Holder(x)]), has_aux=True)(X)
    with pytest.raises(tape.NotDifferentiable, match=r"tape\.grad: expected a function with a scalar result"):
        tape.grad(lambda x: (x, 1.0), has_aux=True)(X)


def test_aux_of_jitted_functions():
    x, w, v = X, 2.0, np.array([1.0, -2.0, 0.5])
    gradient = w * np.cos(x)

    def check(aux):
        np.testing.assert_allclose(aux[0], x * w)
        assert aux[1] == 3

    found, aux = tape.grad(jitted_with_aux, has_aux=True)(x, w)
    np.testing.assert_allclose(found, gradient)
    check(aux)
    (value, aux), found = tape.value_and_grad(jitted_with_aux, "w", has_aux=True)(x, w)
    assert np.isclose(found, np.sum(np.sin(x)))
    check(aux)
    found, aux = tape.jacobian(jitted_with_aux, has_aux=True)(x, w)
    np.testing.assert_allclose(found, gradient)
    check(aux)
    found, aux = tape.hessian(jitted_with_aux, "x", has_aux=True)(x, w)
    np.testing.assert_allclose(found, np.diag(-w * np.sin(x)))
    check(aux)
    found, aux = tape.hvp(jitted_with_aux, has_aux=True)(x, w, v)
    np.testing.assert_allclose(found, -w * np.sin(x) * v)
    check(aux)
    value, tangent, aux = tape.jvp(jitted_with_aux, (x, w), (v, 0.0), has_aux=True)
    assert np.isclose(tangent, gradient @ v)
    check(aux)
    value, pullback, aux = tape.vjp(jitted_with_aux, x, w, has_aux=True)
    assert np.isclose(value, np.sum(np.sin(x)) * w)
    np.testing.assert_allclose(pullback(1.0)[0], gradient)
    check(aux)
    derivative = tape.grad(jitted_with_aux, has_aux=True)
    found, aux = njit(lambda x: derivative(x, 2.0))(x)
    np.testing.assert_allclose(found, gradient)
    check(aux)


def test_an_aux_of_a_jitted_function_that_changes_its_arguments():
    @njit
    def function(x, pair):
        x[0] = 5.0
        pair[0][1] = 7.0
        return np.sum(x * x * pair[0]), x * 1.0

    x, pair = np.ones(2), (np.ones(2), 1.0)
    gradient, aux = tape.grad(function, has_aux=True)(x, pair)
    np.testing.assert_allclose(gradient, [0.0, 14.0])
    np.testing.assert_allclose(aux, [5.0, 1.0])
    assert x.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("jitted", [False, True])
def test_aux_of_compiled_functions(jitted):
    def function(x):
        return np.sum(x**2), 3.0 * x

    c = tape.compile(njit(function) if jitted else function, np.ones(3), has_aux=True)
    value, aux = c.value(X)
    (again, same), gradient = c.value_and_grad(X)
    assert np.isclose(value, X @ X)
    assert np.isclose(again, X @ X)
    np.testing.assert_allclose([aux, same], [3.0 * X, 3.0 * X])
    np.testing.assert_allclose(gradient, 2.0 * X)
    value, tangent, aux = c.jvp((X,), (np.ones(3),))
    assert np.isclose(tangent, 2.0 * np.sum(X))
    np.testing.assert_allclose(aux, 3.0 * X)
    value, pullback, aux = c.vjp(X)
    np.testing.assert_allclose(pullback(0.5), X)
    np.testing.assert_allclose(aux, 3.0 * X)


def test_aux_of_batches():
    def function(x):
        return np.sum(x**2), 3.0 * x

    many = np.arange(8.0).reshape(4, 2)
    gradients, aux = tape.batch(tape.grad(function, has_aux=True))(many)
    np.testing.assert_allclose(gradients, 2.0 * many)
    np.testing.assert_allclose(aux, 3.0 * many)
    (values, aux), gradients = tape.compile(function, many[0], has_aux=True, lanes=2).value_and_grad(many)
    np.testing.assert_allclose(values, np.sum(many**2, axis=1))
    np.testing.assert_allclose(gradients, 2.0 * many)
    np.testing.assert_allclose(aux, 3.0 * many)


# ---------------------------------------------------------------------- arguments by name


@pytest.mark.parametrize("engine", ["0", "always"])
def test_arguments_by_name_and_by_keyword(engine, monkeypatch):
    monkeypatch.setenv("TAPE_NATIVE", engine)
    sines = np.sum(np.sin(X))
    np.testing.assert_allclose(tape.grad(loss, "x")(X), 2.0 * np.cos(X))
    np.testing.assert_allclose(tape.grad(loss, "x")(x=X, w=3.0), 3.0 * np.cos(X))
    np.testing.assert_allclose(tape.grad(loss)(x=X, w=3.0), 3.0 * np.cos(X))
    assert np.isclose(tape.grad(loss, "w")(X), sines)  # its default
    assert np.isclose(tape.grad(loss, "w")(X, 5.0, scale=2.0), 2.0 * sines)
    assert np.isclose(tape.grad(loss, "w")(X, w=5.0, scale=2.0), 2.0 * sines)
    assert np.isclose(tape.grad(loss, "scale")(X, scale=7.0), 2.0 * sines)
    assert np.isclose(tape.grad(loss, 1)(X, w=5.0), sines)
    by_scale, by_x, by_w = tape.grad(loss, ("scale", 0, "w"))(X, 5.0, scale=3.0)
    np.testing.assert_allclose(by_x, 15.0 * np.cos(X))
    np.testing.assert_allclose([by_scale, by_w], [5.0 * sines, 3.0 * sines])
    twice = tape.grad(loss, ("x", 0))(X)
    np.testing.assert_allclose(twice[0], twice[1])


def test_names_in_all_derivatives():
    v = np.array([1.0, -2.0, 0.5])
    np.testing.assert_allclose(tape.jacobian(lambda a, b: a * b, "b")(X, v), np.diag(X))
    np.testing.assert_allclose(tape.jacobian(lambda a, b: a * b, ("b", 0))(X, b=v)[1], np.diag(v))
    np.testing.assert_allclose(tape.hessian(loss, "x")(x=X), np.diag(-2.0 * np.sin(X)))
    np.testing.assert_allclose(tape.hessian(loss, "w")(X), 0.0)
    np.testing.assert_allclose(tape.hvp(loss, "x")(X, v), -2.0 * np.sin(X) * v)
    np.testing.assert_allclose(tape.hvp(loss, "x")(v, x=X), -2.0 * np.sin(X) * v)
    value, gradient = tape.compile(loss, X, 2.0, argnums="w").value_and_grad(X, 3.0)
    assert np.isclose(value, loss(X, 3.0))
    assert np.isclose(gradient, np.sum(np.sin(X)))
    np.testing.assert_allclose(tape.batch(tape.grad(loss, "x"))(np.stack([X, X])), 2.0 * np.cos(np.stack([X, X])))
    np.testing.assert_allclose(tape.grad(lambda w: tape.grad(loss, "x")(X, w=w)[0])(2.0), np.cos(X[0]))
    np.testing.assert_allclose(tape.hessian(lambda x: tape.grad(loss, "w")(X * x, scale=x))(1.0),
                               np.sum(2.0 * X * np.cos(X) - X**2 * np.sin(X)))
    np.testing.assert_allclose(tape.grad(lambda y: np.sum(tape.hvp(loss, "x")(v, x=y)))(X), -2.0 * np.cos(X) * v)
    np.testing.assert_allclose(tape.grad(lambda **named: named["a"] * named["b"], "b")(a=2.0, b=3.0), 2.0)


def test_names_of_jitted_functions():
    function = njit(lambda x, w: np.sum(np.sin(x) * w))
    assert np.isclose(tape.grad(function, "w")(X, 2.0), np.sum(np.sin(X)))
    by_w, by_x = tape.grad(function, ("w", "x"))(X, 2.0)
    assert np.isclose(by_w, np.sum(np.sin(X)))
    np.testing.assert_allclose(by_x, 2.0 * np.cos(X))
    np.testing.assert_allclose(tape.grad(function, "x")(w=2.0, x=X), 2.0 * np.cos(X))
    with pytest.raises(tape.NotDifferentiable, match="or names among x, w, got 'y'"):
        tape.grad(function, "y")


def test_names_that_are_not_there():
    with pytest.raises(tape.NotDifferentiable, match=r"name of an argument of this call, got 'y'; loss takes \(x, w"):
        tape.grad(loss, "y")(X)
    with pytest.raises(tape.NotDifferentiable, match="expected the name of an argument of this call, got 'x'"):
        tape.grad(loss, "x")(w=X)
    with pytest.raises(tape.NotDifferentiable, match=r"argument scale: expected floats .* got str"):
        tape.grad(loss, "scale")(X, scale="text")
    with pytest.raises(tape.NotDifferentiable, match="argnums: expected"):
        tape.compile(loss, X, argnums="w")


def test_replays_tell_what_was_given_by_keyword():
    f = tape.grad(lambda x, w, *, scale: loss(x, w, scale=scale), "w")
    assert [float(f(X, w, scale=s)) / np.sum(np.sin(X)) for w in (1.0, 2.0) for s in (1.0, 4.0)] == pytest.approx([1, 4, 1, 4])
    assert f.report().startswith("1 lists")


# ---------------------------------------------------------------------- integers where floats are meant

WHOLE = [3, np.int32(3), np.array(3), np.array([1, 2, 3]), np.array([[1, 2], [3, 4]], np.uint8), np.arange(4, dtype=np.int16)]


@pytest.mark.parametrize("engine", ["0", "always"])
@pytest.mark.parametrize("x", WHOLE, ids=repr)
def test_integers_are_differentiated_as_floats(x, engine, monkeypatch):
    monkeypatch.setenv("TAPE_NATIVE", engine)

    def cubes(x):
        return np.sum(x**3) / 2

    exact = np.asarray(x, float)
    for _ in range(2):
        found = tape.grad(cubes)(x)
        assert found.dtype == np.float64
        assert isinstance(found, np.ndarray) == isinstance(x, np.ndarray)
        np.testing.assert_allclose(found, 1.5 * exact**2)
    value, found = tape.value_and_grad(cubes)(x)
    assert value == np.sum(exact**3) / 2
    found = tape.jacobian(lambda x: x**2)(x)
    assert found.dtype == np.float64
    np.testing.assert_allclose(np.reshape(found, (exact.size, exact.size)), np.diag(2.0 * np.ravel(exact)))
    np.testing.assert_allclose(np.reshape(tape.hessian(cubes)(x), (exact.size, exact.size)), np.diag(3.0 * np.ravel(exact)))
    np.testing.assert_allclose(tape.hvp(cubes)(x, exact), 3.0 * exact**2)
    value, pullback = tape.vjp(lambda x: x**2, x)
    np.testing.assert_allclose(pullback(exact)[0], 2.0 * exact**2)
    value, tangent = tape.jvp(lambda x: x**2, (x,), (exact,))
    np.testing.assert_allclose(tangent, 2.0 * exact**2)
    value, found = tape.compile(cubes, x).value_and_grad(x)
    np.testing.assert_allclose(found, 1.5 * exact**2)


def test_integers_in_containers_and_beside_others():
    found = tape.grad(lambda p: np.sum(p["a"] ** 2) * p["b"])({"a": np.array([1, 2]), "b": [3][0]})
    np.testing.assert_allclose(found["a"], [6.0, 12.0])
    assert found["b"] == 5.0
    assert tape.grad(lambda x: x[0] * x[1])([2, 3]) == [3.0, 2.0]  # a list is a structure

    def picked(x, index):
        assert index.dtype.kind == "i"
        return np.sum(x[index])

    np.testing.assert_allclose(tape.grad(picked)(np.array([5, 6, 7]), np.array([0, 2, 2])), [1.0, 0.0, 2.0])
    found = tape.grad(lambda x, y: np.sum(x * y))(np.array([1, 2]), np.array([1, 2], np.float32))
    assert found.dtype == np.float64
    # As with floats, a quotient of what were integers is no whole number.
    assert tape.grad(lambda x: np.sum(x / 2 * x))(np.array([1])) == 1.0


@pytest.mark.parametrize("engine", ["0", "always"])
def test_integers_that_cells_round(engine, monkeypatch):
    monkeypatch.setenv("TAPE_NATIVE", engine)
    for large in (np.array([2**60 + 1, 3]), 2**60 + 1):
        f = tape.grad(lambda x: np.sum(x * x))
        for _ in range(2):
            np.testing.assert_allclose(f(large), 2.0 * np.asarray(large, float))
        np.testing.assert_allclose(tape.compile(lambda x: np.sum(x * x), large).value_and_grad(large)[1], f(large))


def test_integers_of_batches():
    many = np.array([[1, 2], [3, 4], [500, 6]])
    np.testing.assert_allclose(tape.batch(tape.grad(lambda x: np.sum(x**3)))(many), 3.0 * many**2)


def test_integers_given_to_jitted_functions():
    function = njit(lambda x, w: x**3 * w)
    for three in (3, np.int64(3)):
        assert tape.grad(function)(three, 2.0) == 54.0
        assert tape.value_and_grad(function)(three, 2.0) == (54.0, 54.0)
        assert tape.grad(function, (0, 1))(three, 2) == (54.0, 27.0)
        assert tape.hessian(function)(three, 1.0) == 18.0
        assert tape.hvp(function)(three, 1.0, 2) == 36.0
        assert tape.jvp(function, (three, 1), (1, 0)) == (27.0, 27.0)
        assert tape.vjp(function, three, 1)[1](1) == (27.0, 27.0)
    squares = njit(lambda x: np.sum(x**2))
    with pytest.raises(tape.NotDifferentiable, match=r"argument 0 cannot be differentiated: .* one of int64; convert it"):
        tape.grad(squares)(np.array([1, 2]))
    value, gradient = tape.compile(squares, np.array([1, 2])).value_and_grad(np.array([3, 4]))
    assert (value, gradient.tolist()) == (25.0, [6.0, 8.0])


def test_what_scipy_hands_over():
    def rosenbrock(x):
        return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)

    for start in ([2, -1], np.array([2, -1]), (2.0, -1.0)):
        best = scipy.optimize.minimize(tape.value_and_grad(rosenbrock), start, jac=True)
        np.testing.assert_allclose(best.x, 1.0, atol=1e-5)
        best = scipy.optimize.minimize(rosenbrock, start, jac=tape.grad(rosenbrock), hess=tape.hessian(rosenbrock),
                                       method="Newton-CG")
        np.testing.assert_allclose(best.x, 1.0, atol=1e-5)
        best = scipy.optimize.minimize(rosenbrock, start, jac=tape.grad(rosenbrock), hessp=tape.hvp(rosenbrock),
                                       method="trust-ncg", options={"gtol": 1e-8})
        np.testing.assert_allclose(best.x, 1.0, atol=1e-5)

    def equations(x):
        return np.stack([x[0] ** 2 + x[1] - 3.0, x[0] - x[1]])

    root = (np.sqrt(13.0) - 1.0) / 2.0
    for method in ("hybr", "lm"):
        found = scipy.optimize.root(equations, [1, 1], jac=tape.jacobian(equations), method=method)
        np.testing.assert_allclose(found.x, root)
    found = scipy.optimize.least_squares(equations, [1, 1], jac=tape.jacobian(equations))
    np.testing.assert_allclose(found.x, root)
    found = scipy.optimize.fsolve(equations, [1, 1], fprime=tape.jacobian(equations))
    np.testing.assert_allclose(found, root)
    assert np.isclose(scipy.optimize.newton(lambda x: x**2 - 2.0, 1, fprime=tape.grad(lambda x: x**2 - 2.0)), np.sqrt(2.0))

    def stiff(t, y):
        return np.stack([-100.0 * y[0] + y[1], -y[1]])

    solution = solve_ivp(stiff, (0, 1), [1, 1], method="Radau", jac=tape.jacobian(stiff, argnums="y"), rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(solution.y[1, -1], np.exp(-1.0), rtol=1e-6)


def test_integers_of_eager_variables():
    x = tape.variable(np.array([1, 2, 3]), requires_grad=True)
    np.sum(x**2).backward()
    assert x.data.dtype == x.grad.dtype == np.float64
    assert x.grad.tolist() == [2.0, 4.0, 6.0]


# ---------------------------------------------------------------------- what goes along as it is

FIXED = {
    "float16": np.array([1.0, 2.0, 3.0], np.float16),
    "longdouble": np.array([1.0, 2.0, 3.0], np.longdouble),
    "memoryview": memoryview(np.array([1.0, 2.0, 3.0])),
    "array.array": array.array("d", [1.0, 2.0, 3.0]),
}


@pytest.mark.parametrize("engine", ["0", "always"])
@pytest.mark.parametrize("name", FIXED)
def test_arguments_that_lists_do_not_hold_go_along(name, engine, monkeypatch):
    monkeypatch.setenv("TAPE_NATIVE", engine)
    fixed = FIXED[name]

    def function(x, fixed):
        assert type(fixed).__name__ != "RecordedArray"
        return np.sum(x**2 * np.asarray(fixed, float))

    f = tape.grad(function)
    for _ in range(3):
        np.testing.assert_allclose(f(X, fixed), 2.0 * X * [1.0, 2.0, 3.0])
    assert f.report().startswith("1 lists")
    fixed[1] = 7.0  # in place, which a replay sees
    np.testing.assert_allclose(f(X, fixed), 2.0 * X * [1.0, 7.0, 3.0])
    np.testing.assert_allclose(tape.grad(lambda x: function(x, fixed))(X), 2.0 * X * [1.0, 7.0, 3.0])
    fixed[1] = 2.0
    np.testing.assert_allclose(f(X, fixed=fixed), 2.0 * X * [1.0, 2.0, 3.0])
    np.testing.assert_allclose(tape.jacobian(function)(X, fixed), 2.0 * X * [1.0, 2.0, 3.0])
    compiled = tape.compile(function, X, fixed)
    np.testing.assert_allclose(compiled.value_and_grad(X, fixed)[1], 2.0 * X * [1.0, 2.0, 3.0])


def test_single_precision_computes_as_numpy_does_with_half():
    half, x = np.array([0.1, 0.2], np.float16), np.array([3.0, 4.0], np.float32)
    gradient = tape.grad(lambda x, half: np.sum(x * half))(x, half)
    assert gradient.dtype == np.float32
    np.testing.assert_array_equal(gradient, half.astype(np.float32))


def test_none_text_and_dates_go_along():
    dates = np.array(["2020-01-01", "2020-01-03"], "datetime64[D]")

    def function(x, options, dates):
        days = (dates - dates[0]).astype(int)
        return np.sum(x[:2] ** days) if options["kind"] == "power" and options["none"] is None else 0.0

    gradient = tape.grad(function)(X, {"kind": "power", "none": None}, dates)
    np.testing.assert_allclose(gradient, [0.0, 2.0 * X[1], 0.0])
    found = tape.grad(lambda p: p["a"] ** 2)({"a": 3.0, "none": None})
    assert found == {"a": 6.0, "none": None}


def test_half_precision_has_no_derivative():
    half = np.ones(2, np.float16)
    for call in (lambda: tape.grad(np.sum)(half), lambda: tape.grad(lambda p: np.sum(p["a"]))({"a": half})):
        with pytest.raises(tape.NotDifferentiable, match="argument 0 is of dtype float16: expected float64, float32, or"):
            call()
    with pytest.raises(tape.NotDifferentiable, match="argument 0 with a sample axis is of dtype float16"):
        tape.batch(lambda x: x)(half)
    with pytest.raises(tape.NotDifferentiable, match=r"tape.variable is of dtype float16"):
        tape.variable(half)
