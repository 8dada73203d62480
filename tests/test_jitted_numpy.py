"""What `@njit` code does with floats and arrays of them, differentiated: values bit for bit, gradients against differences."""

import numpy as np
import pytest
from numba import njit

import tape

random = np.random.default_rng(0)
SQUARE = random.normal(size=(3, 3)) + 3 * np.eye(3)
V, W = random.normal(size=3), random.normal(size=3)
TALL, CUBE = random.normal(size=(4, 3)), random.normal(size=(2, 3, 2))


@njit
def iterated(x):
    s = 0.0
    for v in x:
        s += v * v
    for row in x.reshape(3, 1):
        s += row[0]
    for i, v in enumerate(x):
        s += i * v * v
    for a, b in zip(x, W):  # noqa: B905  (Numba's zip has no `strict`)
        s += a * b
    return s


@njit
def listed(x):
    found = [x[0]]
    for i in range(1, 3):
        found.append(x[i] * found[-1])
    return sum(found) + found[1]


@njit
def tupled(x):
    t = (x[0], x[1] * 2, 3.0)
    a, b, c = t
    u = t + (x[2],)  # noqa: RUF005  (Numba has no such unpacking)
    return a * b * c + u[3] * t[1]


@njit
def filled(x):
    a = np.zeros(3)
    a[:] = x[0]
    b = np.empty((2, 3))
    b[0] = x
    b[1, :] = 2.0
    c = np.zeros(3)
    c.fill(x[1])
    return a.sum() + (b * b).sum() + c.sum()


@njit
def augmented(x):
    y = x.copy()
    y *= 2.0
    y += x
    y[0] -= x[1]
    y /= 3
    y **= 2
    a = np.zeros(5)
    a[1:4] += x
    a[:2] *= 2.0
    a[0:3] -= x * x
    return y.sum() + np.sum(a * a)


@njit
def overlapping(x):
    y = x.copy()
    y[1:] += 0.5 * y[:-1]
    y[:-1] *= y[1:]
    return np.sum(y ** 2)


@njit
def scaled_after(x):
    s = 0.0
    for v in x:
        s += v
    if s > 100.0:
        return np.array([0.0, 1.0])[0]
    y = W * s
    z = np.array([s, 1.0]).astype(np.float64)
    return np.sum(y * y) + z[0] * np.radians(z[0])


@njit
def rows(x):
    n, m = x.shape
    out = np.zeros((n, m))
    for i in range(n):
        out[i] = x[i] * 2
        for j in range(m):
            out[i, j] += x[n - 1 - i, j] ** 2
    return np.sum(out[:, 1] * out[:, 0]) + out[1:3, :].sum()


@njit
def swapped(x):
    a, b = x.copy(), np.zeros_like(x)
    for _ in range(3):
        for i in range(len(a)):
            b[i] = a[i] * a[(i + 1) % len(a)]
        a, b = b, a
    return a.sum()


@njit
def store(out, i, v):
    out[i] = v * v


@njit
def helped(x):
    out = np.empty(x.shape[0])
    for i in range(x.shape[0]):
        store(out, i, x[i])
    view = out[1:]
    view[0] = 2.0 * x[0]
    return out[0] * out[1] + out[2]


@njit
def power(x, n):
    if n == 0:
        return 1.0
    return x * power(x, n - 1)


@njit
def called(x, f):
    return f(x[0]) + f(x[1] * x[2])


@njit
def cubed(x):
    return x * x * x


CASES = {
    "sum": (lambda x: np.sum(x * x), V), "sum of columns": (lambda x: np.sum(np.sum(x * x, axis=0) ** 2), TALL),
    "sum of rows": (lambda x: (x.sum(1) ** 2).sum(), TALL),
    "sum of three axes": (lambda x: np.sum(np.sum(x * x, axis=1) ** 3), CUBE),
    "mean": (lambda x: np.mean(x) * x.mean(), TALL), "prod": (lambda x: np.prod(x), V),
    "max and min": (lambda x: x.max() * np.min(x), V), "dot": (lambda x: np.dot(x, x) * 2 + x.dot(W), V),
    "matrix dot vector": (lambda x: np.dot(SQUARE, x).sum(), V), "matrix @ vector": (lambda x: np.sum((x @ W) ** 2), SQUARE),
    "vector @ matrix": (lambda x: np.sum((W @ x) ** 3), SQUARE), "matrix @ matrix": (lambda x: np.sum((x @ x) ** 2), SQUARE),
    "cross": (lambda x: np.sum(np.cross(x, W) ** 2), V), "norm": (lambda x: np.linalg.norm(x) ** 3, V),
    "norm of a matrix": (lambda x: np.linalg.norm(x), SQUARE),
    "solve for the matrix": (lambda x: np.sum(np.linalg.solve(x, W) ** 2), SQUARE),
    "solve for the right side": (lambda x: np.sum(np.linalg.solve(SQUARE, x) ** 2), V),
    "inv": (lambda x: np.sum(np.linalg.inv(x) ** 2), SQUARE), "det": (lambda x: np.linalg.det(x), SQUARE),
    "where": (lambda x: np.sum(np.where(x > 0, x * x, -x)), V), "outer": (lambda x: np.sum(np.outer(x, x) ** 3), V),
    "cumsum": (lambda x: np.sum(np.cumsum(x) ** 2), V), "cumprod": (lambda x: np.sum(np.cumprod(x) ** 2), V),
    "var and std": (lambda x: np.var(x) + np.std(x), V),
    "transposed": (lambda x: np.sum(x @ W[:, None]) + x.T[0, 1] * x[0, 1], TALL),
    "copies": (lambda x: np.sum(x.copy() * np.copy(x) + np.ones_like(x) * x + np.full_like(x, 2.0) * x), V),
    "concatenate": (lambda x: np.sum(np.concatenate((x, x * 2)) ** 2), V),
    "array": (lambda x: np.sum(np.array([[x[0], 1.0], [x[1] * 2, x[2]]]) ** 2), V),
    "reshape": (lambda x: np.sum(x.reshape(6, 2) ** 2) + np.sum(x.ravel() ** 3), TALL),
    "broadcast": (lambda x: np.sum(x * W + x / W), TALL), "reversed": (lambda x: np.sum(x[::-1] * W), V),
    "builtins": (lambda x: abs(x[0]) + max(x[0], x[1], x[2]) + min(x[0], 2) + pow(x[1], 2) + float(x[2]), V),
    "functions": (lambda x: np.sum(np.exp(np.sin(x)) + np.tanh(x) + np.sqrt(x * x + 1) + np.maximum(x, 0.1) + np.log1p(x * x)
                                   + np.arctan2(x, W) + np.hypot(x, W) + np.cbrt(x) + np.arcsinh(x) + np.exp2(x)), V),
    "diff": (lambda x: np.sum(np.diff(x) ** 2), V), "vstack": (lambda x: np.sum(np.vstack((x, x)) @ W), V),
    "interp": (lambda x: np.interp(x[0], np.array([-5.0, 0, 5]), np.array([1.0, 2.0, 5.0])), V),
    "clip": (lambda x: np.sum(np.clip(x, -0.5, 0.5) * x), V),
    "powers": (lambda x: np.square(x[0]) + np.power(x[2] * x[2], 1.5) + x[0] ** 3 + x[1] ** 2 + (x[2] * x[2]) ** x[0], V),
    "whole numbers": (lambda x: x[0] % 0.7 + x[1] // 0.3 + np.floor(x[2]) * x[0] + np.sign(x[1]) * x[2] + int(x[0]) * x[1],
                      V),
    "logic": (lambda x: (x[0] if (x[0] > 0 and x[1] < 1) or not x[2] else x[1]) * (x[0] > 0), V),
    "tests": (lambda x: x[1] * x[2] if not np.isnan(x[0]) and np.isfinite(x[1]) else 0.0, V),
    "argmax": (lambda x: x[np.argmax(x)] * x[np.argsort(x)[0]] + np.sum(np.sort(x) * W), V),
    "iteration": (iterated.py_func, V), "lists": (listed.py_func, V), "tuples": (tupled.py_func, V),
    "filled": (filled.py_func, V),
    "overlapping": (overlapping.py_func, V), "scaled after a loop": (scaled_after.py_func, V),
    "augmented": (augmented.py_func, V), "rows": (rows.py_func, TALL), "swaps": (swapped.py_func, V),
    "stores in a helper": (helped.py_func, V), "recursion": (lambda x: power(x[0], 4) + x[1], V),
    "functions as arguments": (lambda x: called(x, cubed), V),
}


def differences(f, x, step=1e-6):
    found = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[index] += step
        down[index] -= step
        found[index] = (f(up) - f(down)) / (2 * step)
    return found


@pytest.mark.parametrize("name", CASES)
def test_value_bit_for_bit_and_gradient_against_differences(name):
    body, x = CASES[name]
    f = njit(body)
    before = x.copy()
    value, gradient = tape.value_and_grad(f)(x)
    assert np.array_equal(x, before)
    assert value == f(x)
    np.testing.assert_allclose(gradient, differences(f, x), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["sum", "norm", "where", "functions", *(
    pytest.param(name, marks=pytest.mark.slow) for name in ("matrix @ vector", "solve for the matrix", "augmented"))])
def test_forward_mode_second_order_and_recorded_list_agree(name):
    body, x = CASES[name]
    f = njit(body)
    gradient = tape.grad(f)(x)
    direction = np.random.default_rng(1).normal(size=x.shape)
    value, tangent = tape.jvp(f, (x,), (direction,))
    assert value == f(x)
    np.testing.assert_allclose(tangent, np.sum(gradient * direction), rtol=1e-12)
    up, down = (tape.grad(f)(x + s * direction) for s in (1e-6, -1e-6))
    np.testing.assert_allclose(tape.hvp(f)(x, direction), (up - down) / 2e-6, rtol=1e-5, atol=1e-6)
    t = tape.record(f, x)
    np.testing.assert_allclose(t.forward(x), f(x), rtol=1e-13)
    t.reverse()
    np.testing.assert_allclose(t.grad_table[t.inputs[0]], gradient, rtol=1e-11, atol=1e-13)
