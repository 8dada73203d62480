"""What stands between tape and solvers: Jacobians for `curve_fit`, containers as vectors, linear maps of derivatives."""

import threading

import numpy as np
import pytest
import scipy.optimize
from numba import njit

import tape

T = np.linspace(0.1, 3.0, 40)

MODELS = {
    "one": (lambda t, a: a * t + np.sin(a * t), [0.7]),
    "two": (lambda t, a, b: a * np.exp(-b * t), [2.5, 1.3]),
    "three": (lambda t, a, b, c: a * np.exp(-b * t) + c, [2.5, 1.3, 0.5]),
    "five": (lambda t, a, b, c, d, e: a * np.exp(-b * t) + c * np.cos(d * t + e), [2.5, 1.3, 0.5, 2.0, 0.3]),
    "branch": (lambda t, a, b: np.where(t > 1.0, a * t, b + 0.0 * t), [2.0, 1.0]),
}


@pytest.mark.parametrize("jitted", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_jacobians_for_curve_fit(name, jitted):
    model, exact = MODELS[name]
    jac = tape.curve_fit_jac(njit(model) if jitted else model)
    matrix = jac(T, *exact)
    assert matrix.shape == (40, len(exact))
    for k in range(len(exact)):
        step = 1e-6 * (np.arange(len(exact)) == k)
        difference = (model(T, *(exact + step)) - model(T, *(exact - step))) / 2e-6
        np.testing.assert_allclose(matrix[:, k], difference, atol=1e-7)
    y = model(T, *exact)
    sigma = 0.1 * np.ones(40)
    for options in ({}, {"sigma": sigma, "absolute_sigma": True}, {"method": "trf"}, {"sigma": np.diag(sigma**2)}):
        start = np.array(exact) * 1.05
        best, covariance = scipy.optimize.curve_fit(model, T, y, p0=start, jac=jac, **options)
        np.testing.assert_allclose(best, exact, rtol=1e-5)
        assert np.isfinite(covariance).all()


def test_curve_fit_from_integers_and_with_noise():
    model, exact = MODELS["three"]
    noise = 0.02 * np.random.default_rng(3).normal(size=40)
    y, sigma = model(T, *exact) + noise, np.full(40, 0.02)
    for absolute in (False, True):
        options = {"sigma": sigma, "absolute_sigma": absolute}
        best, covariance = scipy.optimize.curve_fit(model, T, y, p0=[1, 1, 0], jac=tape.curve_fit_jac(model), **options)
        plain, expected = scipy.optimize.curve_fit(model, T, y, p0=[1.0, 1.0, 0.0], **options)
        np.testing.assert_allclose(best, plain, rtol=1e-5)
        np.testing.assert_allclose(covariance, expected, rtol=1e-4)
    np.testing.assert_allclose(tape.curve_fit_jac(model)(T, 2, 1, 0)[:, 0], np.exp(-T))


def test_curve_fit_with_several_rows_of_data():
    def model(x, a, b):
        return a * x[0] + b * x[1] ** 2

    x = np.stack([T, np.cos(T)])
    matrix = tape.curve_fit_jac(model)(x, 1.0, 2.0)
    np.testing.assert_allclose(matrix, np.stack([x[0], x[1] ** 2], axis=1))


def test_models_that_do_not_fit():
    with pytest.raises(tape.NotDifferentiable, match="expected parameters after x, got none"):
        tape.curve_fit_jac(lambda t: t)(T)
    with pytest.raises(tape.NotDifferentiable, match=r"to return an array with one axis, got one of shape \(2, 40\)"):
        tape.curve_fit_jac(lambda t, a: np.stack([a * t, t]))(T, 1.0)


# ---------------------------------------------------------------------- containers as vectors


def test_a_vector_of_containers_and_back():
    tree = {"w": np.arange(6.0).reshape(2, 3), "layers": [(np.ones(2), 0.5), None], "n": np.float64(3.0)}
    vector, unravel = tape.ravel(tree)
    assert vector.shape == (10,)
    assert vector.dtype == np.float64
    back = unravel(2.0 * vector)
    np.testing.assert_array_equal(back["w"], 2.0 * tree["w"])
    np.testing.assert_array_equal(back["layers"][0][0], [2.0, 2.0])
    assert (back["layers"][0][1], back["layers"][1], back["n"]) == (1.0, None, 6.0)
    vector[0] = 99.0  # its own memory
    back["w"][0, 0] = 98.0
    assert tree["w"][0, 0] == 0.0


def test_dtypes_of_ravelled_leaves():
    single, double = np.ones(2, np.float32), np.ones(3)
    vector, unravel = tape.ravel([single, single])
    assert vector.dtype == np.float32
    vector, unravel = tape.ravel([single, double, 3, np.array([1, 2])])
    assert vector.dtype == np.float64
    assert [x.dtype for x in unravel(vector + 0.25)] == [np.float32, np.float64, np.float64, np.float64]
    np.testing.assert_array_equal(unravel(vector + 0.25)[3], [1.25, 2.25])
    assert tape.ravel([])[0].shape == tape.ravel(None)[0].shape == (0,)
    assert tape.ravel([])[1](np.zeros(0)) == []


def test_ravelling_inside_differentiated_functions():
    tree = {"w": np.array([[1.0, 2.0], [3.0, 4.0]]), "b": np.array([0.5, -1.0], np.float32)}
    x = np.array([0.3, -0.2])
    vector, unravel = tape.ravel(tree)

    def loss(tree):
        return np.sum(np.tanh(tree["w"] @ x + tree["b"]) ** 2)

    gradient = tape.grad(lambda v: loss(unravel(v)))(vector)
    expected = tape.grad(loss)(tree)
    np.testing.assert_allclose(gradient, np.concatenate([expected["b"], expected["w"].ravel()]), rtol=1e-6)
    hessian = tape.hessian(lambda v: loss(unravel(v)))(vector)
    np.testing.assert_allclose(hessian, hessian.T, atol=1e-12)
    squares = tape.grad(lambda tree: np.sum(tape.ravel(tree)[0] ** 2))(tree)
    np.testing.assert_allclose(squares["w"], 2.0 * tree["w"])
    assert squares["b"].dtype == np.float32
    best = scipy.optimize.minimize(tape.value_and_grad(lambda v: loss(unravel(v)) + np.sum((v - 1.0) ** 2)), vector, jac=True)
    assert best.success
    assert unravel(best.x)["w"].shape == (2, 2)


def test_what_cannot_be_ravelled():
    with pytest.raises(tape.NotDifferentiable, match=r"tape.ravel: expected numbers, got str \('text'\)"):
        tape.ravel([1.0, "text"])
    with pytest.raises(ValueError, match=r"unravel: expected a vector of shape \(2,\), got shape \(3,\)"):
        tape.ravel([1.0, 2.0])[1](np.zeros(3))


# ---------------------------------------------------------------------- linearize


def swirl(x, p):
    """Several results of an array and a container."""
    return {"a": np.sin(x) * p["k"], "b": np.sum(x**2) + p["k"]}


@pytest.mark.parametrize("engine", ["0", "always"])
def test_linear_maps_of_derivatives(engine, monkeypatch):
    monkeypatch.setenv("TAPE_NATIVE", engine)
    calls, x, p = [], np.array([0.3, -0.5, 2.0]), {"k": 2.0}

    def counted(x, p):
        calls.append(1)
        return swirl(x, p)

    value, push = tape.linearize(counted, x, p)
    np.testing.assert_allclose(value["a"], 2.0 * np.sin(x))
    recorded = len(calls)
    x_then = x.copy()
    x[0] = 17.0  # the point stays what it was
    for direction in (*np.eye(3), np.array([1.0, -2.0, 0.5])):
        tangent = push(direction, {"k": 0.5})
        exact = tape.jvp(swirl, (x_then, p), (direction, {"k": 0.5}))[1]
        np.testing.assert_allclose(tangent["a"], exact["a"], rtol=1e-14)
        np.testing.assert_allclose(tangent["b"], exact["b"], rtol=1e-14)
    assert len(calls) == recorded
    with pytest.raises(ValueError, match="the tangents: expected shape"):
        push(np.ones(2), {"k": 1.0})
    with pytest.raises(ValueError, match="the tangents: expected the structure"):
        push(np.ones(3))


def test_linear_maps_of_functions_that_change_cells_and_loop():
    def stepped(x):
        y = np.zeros_like(x)
        for i in range(3):
            y[i] = x[i] * y[i - 1] + x[0]
            x[i] = 2.0 * x[i]
        return y * x

    def looped(x):
        return tape.fori(0, 4, lambda i, c: np.sin(c) * x, x)

    x = np.array([0.5, 1.5, -1.0])
    for function in (stepped, looped):
        value, push = tape.linearize(function, x.copy())
        np.testing.assert_allclose(value, function(x.copy()))
        for direction in (*np.eye(3), *np.eye(3)):
            np.testing.assert_allclose(push(direction), tape.jvp(function, (x.copy(),), (direction,))[1], rtol=1e-13)


def test_linear_maps_with_aux_in_recordings_and_threads():
    x = np.array([0.3, -0.5, 2.0])
    value, push, aux = tape.linearize(lambda x: (x**3, {"twice": 2.0 * x}), x, has_aux=True)
    np.testing.assert_allclose(value, x**3)
    np.testing.assert_allclose(push(np.ones(3)), 3.0 * x**2)
    np.testing.assert_allclose(aux["twice"], 2.0 * x)

    def outer(x):
        value, push = tape.linearize(lambda x: x**3, x)
        return np.sum(push(np.ones(3)) + push(2.0 * value))  # 3 x^2 + 6 x^5

    np.testing.assert_allclose(tape.grad(outer)(x), 6.0 * x + 30.0 * x**4)
    found = {}
    threads = [threading.Thread(target=lambda k=k: found.update({k: push(k * np.ones(3))})) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for k in range(8):
        np.testing.assert_allclose(found[k], 3.0 * k * x**2)


def test_linear_maps_of_jitted_functions():
    x = np.array([0.3, -0.5])
    value, push = tape.linearize(njit(lambda x, p: np.sin(x) * p), x, 2.0)
    np.testing.assert_allclose(value, 2.0 * np.sin(x))
    np.testing.assert_allclose(push(np.array([1.0, 0.0]), 1.0), [2.0 * np.cos(0.3) + np.sin(0.3), np.sin(-0.5)])
    value, push, aux = tape.linearize(njit(lambda x: (np.sum(x**2), x + 1.0)), x, has_aux=True)
    assert np.isclose(push(np.ones(2)), 2.0 * np.sum(x))
    np.testing.assert_allclose(aux, x + 1.0)
    with pytest.raises(tape.NotDifferentiable, match=r"tape.linearize: expected at least one primal"):
        tape.linearize(np.sin)
