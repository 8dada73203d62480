"""Textbook numerical methods as jitted functions: `PROGRAMS` lists (name, function, arguments, argnums)."""

import math
from collections import namedtuple

import numpy as np
from numba import njit

KERNEL = np.array([0.1, 0.25, 0.3, 0.25, 0.1])
KNOTS = np.array([0.0, 0.4, 1.0, 1.5, 2.3, 3.0])

Grid = namedtuple("Grid", ["x0", "y0", "dx", "dy"])


@njit
def newton_root(a, b, guess, tol):
    """The root of x**3 + a*x - b, iterated until the step is small."""
    x = guess
    step = 1.0
    while abs(step) > tol:
        step = (x**3 + a * x - b) / (3 * x**2 + a)
        x -= step
    return x


@njit
def cosine_residual(x, a, b):
    return math.cos(a * x) - b * x, -a * math.sin(a * x) - b


@njit
def bisection_newton(a, b, lo, hi):
    """A root of cos(a*x) = b*x: halvings, which carry no derivative, then one Newton step, which does."""
    while hi - lo > 1e-10:
        mid = 0.5 * (lo + hi)
        if cosine_residual(mid, a, b)[0] > 0:
            lo = mid
        else:
            hi = mid
    x = 0.5 * (lo + hi)
    value, slope = cosine_residual(x, a, b)
    return x - value / slope


@njit
def bilinear(z, points, grid):
    ny, nx = z.shape
    total = 0.0
    for k in range(points.shape[0]):
        u = (points[k, 0] - grid.x0) / grid.dx
        v = (points[k, 1] - grid.y0) / grid.dy
        j = min(max(int(u), 0), nx - 2)
        i = min(max(int(v), 0), ny - 2)
        s, t = u - j, v - i
        low = (1 - s) * z[i, j] + s * z[i, j + 1]
        high = (1 - s) * z[i + 1, j] + s * z[i + 1, j + 1]
        total += (k + 1) * ((1 - t) * low + t * high)
    return total


@njit
def bilinear_grid(z, points, x0, y0, dx, dy):
    return bilinear(z, points, Grid(x0, y0, dx, dy))


@njit
def find_interval(knots, x):
    lo, hi = 0, knots.size - 1
    while hi - lo > 1:
        mid = (lo + hi) // 2
        if knots[mid] > x:
            hi = mid
        else:
            lo = mid
    return lo


@njit
def table_interpolation(values, xs, extrapolate):
    """Linear interpolation at the global knots; beyond them constant, or linear."""
    out = np.empty(xs.shape[0])
    for k, x in enumerate(xs):
        if not extrapolate and x >= KNOTS[-1]:
            out[k] = values[-1]
            continue
        i = find_interval(KNOTS, x)
        w = (x - KNOTS[i]) / (KNOTS[i + 1] - KNOTS[i])
        out[k] = values[i] * (1 - w) + values[i + 1] * w
    return np.sum(out**2)


@njit
def cumulative_product(x):
    out = np.ones_like(x)
    out[0] = x[0]
    for i in range(1, len(x)):
        out[i] = out[i - 1] * x[i]
    return out.mean() + out[-1]


@njit
def suffix_product_in_place(x, scale):
    y = x * scale
    for i in range(y.size - 2, -1, -1):
        y[i] *= y[i + 1]
    return np.sum(y[::2]) - y[1]


@njit
def solve_lower(L, b):
    n = b.shape[0]
    x = np.zeros(n)
    for i in range(n):
        s = b[i]
        for j in range(i):
            s -= L[i, j] * x[j]
        x[i] = s / L[i, i]
    return x


@njit
def triangular_solve(L, b):
    x = solve_lower(L, b)
    return np.linalg.norm(x) + x[-1]


@njit
def lu_in_place(a):
    n = a.shape[0]
    for k in range(n - 1):
        for i in range(k + 1, n):
            a[i, k] /= a[k, k]
            a[i, k + 1 :] -= a[i, k] * a[k, k + 1 :]


@njit
def lu_logdet(a, b):
    """The logarithm of the determinant by LU without pivoting, and a solution by the same factors."""
    lu = a.copy()
    lu_in_place(lu)
    logdet = 0.0
    for i in range(lu.shape[0]):
        logdet += math.log(abs(lu[i, i]))
    x = b.copy()
    n = b.size
    for i in range(n):
        x[i] -= np.dot(lu[i, :i], x[:i])
    for i in range(n - 1, -1, -1):
        x[i] = (x[i] - np.dot(lu[i, i + 1 :], x[i + 1 :])) / lu[i, i]
    return logdet + x.sum()


@njit
def cholesky_factor(a):
    n = a.shape[0]
    L = np.zeros((n, n))
    for i in range(n):
        for j in range(i + 1):
            s = a[i, j]
            for k in range(j):
                s -= L[i, k] * L[j, k]
            if i == j:
                if s <= 0.0:
                    return False, L
                L[i, i] = s**0.5
            else:
                L[i, j] = s / L[j, j]
    return True, L


@njit
def gaussian_loglikelihood(x, mean, w, jitter):
    """A normal log-density by Cholesky's factor of a covariance built in the function."""
    n = x.shape[0]
    cov = w @ w.T + jitter * np.eye(n)
    ok, L = cholesky_factor(cov)
    if not ok:
        return -np.inf
    z = solve_lower(L, x - mean)
    return -0.5 * np.dot(z, z) - np.sum(np.log(np.diag(L))) - 0.5 * n * np.log(2 * np.pi)


@njit
def thomas(lower, diag, upper, rhs):
    n = diag.size
    c = np.empty(n - 1)
    d = np.empty(n)
    c[0] = upper[0] / diag[0]
    d[0] = rhs[0] / diag[0]
    for i in range(1, n):
        den = diag[i] - lower[i - 1] * c[i - 1]
        if i < n - 1:
            c[i] = upper[i] / den
        d[i] = (rhs[i] - lower[i - 1] * d[i - 1]) / den
    x = d
    for i in range(n - 2, -1, -1):
        x[i] -= c[i] * x[i + 1]
    return np.sum(x * x) + x[0]


@njit
def conjugate_gradient(w, b, shift, iterations):
    A = w.T @ w + shift * np.eye(b.size)
    x = np.zeros_like(b)
    r = b - A @ x
    p = r.copy()
    rs = r @ r
    for _ in range(iterations):
        Ap = A @ p
        alpha = rs / (p @ Ap)
        x += alpha * p
        r -= alpha * Ap
        new = r @ r
        p = r + (new / rs) * p
        rs = new
    return np.dot(b, x) + np.linalg.norm(r)


@njit
def horner(coefficients, x):
    """A polynomial and its derivative, by one loop."""
    p = 0.0
    dp = 0.0
    for c in coefficients[::-1]:
        dp = dp * x + p
        p = p * x + c
    return p + 0.5 * dp


@njit
def integrand(x, a, b):
    return math.exp(-a * x * x) * math.cos(b * x) + math.log1p(x**2)


@njit
def simpson(a, b, lo, hi, n):
    h = (hi - lo) / n
    s = integrand(lo, a, b) + integrand(hi, a, b)
    for i in range(1, n, 2):
        s += 4 * integrand(lo + i * h, a, b)
    for i in range(2, n - 1, 2):
        s += 2 * integrand(lo + i * h, a, b)
    return s * h / 3


@njit
def simpson_slices(a, b, hi):
    x = np.linspace(0.0, 1.0, 41) * hi
    y = np.exp(-a * x**2) * np.cos(b * x)
    return hi / 120 * (y[0] + 4 * np.sum(y[1:-1:2]) + 2 * y[2:-1:2].sum() + y[-1])


@njit
def power_iteration(a, v0, iterations):
    v = v0 / np.linalg.norm(v0)
    eigenvalue = 0.0
    for _ in range(iterations):
        w = a @ v
        eigenvalue = v @ w
        v = w / np.sqrt(np.sum(w**2))
    return eigenvalue + 0.1 * v[0]


@njit
def convolve(signal, kernel, same):
    n, k = signal.size, kernel.size
    out = np.zeros(n + k - 1)
    for i in range(n):
        for j in range(k):
            out[i + j] += signal[i] * kernel[j]
    if same:
        start = (k - 1) // 2
        return out[start : start + n]
    return out


@njit
def convolution(signal, kernel, same):
    y = convolve(convolve(signal, kernel, same), KERNEL, True)
    return np.sum(np.tanh(y) * np.arange(y.size))


@njit
def continued_fraction(x, n, depth):
    """x**2 / (1 - x**2 / (3 - ...)), of x * tan(x), by recursion."""
    if n == depth:
        return 2.0 * n + 1.0
    return (2.0 * n + 1.0) - x * x / continued_fraction(x, n + 1, depth)


@njit
def tangent(x):
    return x / continued_fraction(x, 0, 12)


@njit
def matrix_exponential(a, t, v):
    """By Taylor's series of a scaled matrix, squared twice."""
    n = a.shape[0]
    term = np.eye(n)
    total = np.eye(n)
    for k in range(1, 15):
        term = term @ (0.25 * t * a) / k
        total += term
    total = total @ total
    total = total @ total
    return np.sum(total @ v) + np.trace(total)


@njit
def gram_schmidt(a):
    n, m = a.shape
    q = a.copy()
    r = np.zeros((m, m))
    for j in range(m):
        for i in range(j):
            r[i, j] = np.dot(q[:, i], q[:, j])
            q[:, j] -= r[i, j] * q[:, i]
        r[j, j] = np.sqrt(np.sum(q[:, j] ** 2))
        q[:, j] /= r[j, j]
    total = 0.0
    for j in range(m):
        total += math.log(r[j, j]) + (j + 1) * q[n - 1, j]
    return total


@njit
def ridge_regression(X, y, penalty, intercept):
    if intercept:
        Z = np.ones((X.shape[0], X.shape[1] + 1))
        Z[:, 1:] = X
    else:
        Z = X.copy()
    w = np.linalg.solve(Z.T @ Z + penalty * np.eye(Z.shape[1]), Z.T @ y)
    residual = y - Z @ w
    return np.sum(residual**2) + np.linalg.norm(w)


@njit
def huber(x, target, delta):
    r = x - target
    small = np.abs(r) <= delta
    return np.where(small, 0.5 * r**2, delta * (np.abs(r) - 0.5 * delta)).sum()


@njit
def logsumexp(x):
    top = x[0]
    for v in x[1:]:
        if v > top:
            top = v
    return top + math.log(np.sum(np.exp(x - top)))


@njit
def cubic_spline(y, x):
    """A natural spline at integer knots by elimination, evaluated at `x`."""
    n = y.size
    second = np.zeros(n)
    u = np.zeros(n)
    for i in range(1, n - 1):
        p = 0.5 * second[i - 1] + 2.0
        second[i] = -0.5 / p
        u[i] = (3.0 * (y[i + 1] - 2 * y[i] + y[i - 1]) - 0.5 * u[i - 1]) / p
    second[n - 1] = 0.0
    for k in range(n - 2, -1, -1):
        second[k] = second[k] * second[k + 1] + u[k]
    i = int(x)
    b = x - i
    a = 1 - b
    return a * y[i] + b * y[i + 1] + ((a**3 - a) * second[i] + (b**3 - b) * second[i + 1]) / 6


@njit
def arithmetic_geometric_mean(a, b):
    """Exits by `break` when both agree to the last digits."""
    for _ in range(40):
        a, b = 0.5 * (a + b), math.sqrt(a * b)
        if abs(a - b) < 1e-14 * a:
            break
    return a


@njit
def chebyshev(c, x):
    """Clenshaw's recurrence at each of `x`, of the coefficients `c`, with an early return for a constant."""
    if c.size == 1:
        return c[0]
    b1 = np.zeros_like(x)
    b2 = np.zeros_like(x)
    for k in range(c.size - 1, 0, -1):
        b1, b2 = 2 * x * b1 - b2 + c[k], b1
    return np.mean((x * b1 - b2 + c[0]) ** 2)


@njit
def moving_average(x, window, power):
    n = x.shape[0] - window + 1
    out = np.empty(n)
    acc = 0.0
    for i in range(window):
        acc += x[i]
    out[0] = acc / window
    for i in range(1, n):
        acc += x[i + window - 1] - x[i - 1]
        out[i] = acc / window
    return np.sum(np.abs(out) ** power) ** (1 / power)


_rng = np.random.default_rng(23)
_square = _rng.normal(size=(5, 5)) + 5 * np.eye(5)
_symmetric = _square + _square.T
_signal = _rng.normal(size=15)
_points = np.array([[0.31, 0.42], [1.27, 0.93], [2.05, 1.71], [2.66, 0.18]])

PROGRAMS = [
    ("newton_root", newton_root, (1.3, 4.0, 2.0, 1e-12), (0, 1)),
    ("bisection_newton", bisection_newton, (1.2, 0.8, 0.0, 1.5), (0, 1)),
    ("bilinear", bilinear_grid, (_rng.normal(size=(5, 7)), _points, -0.1, -0.2, 0.5, 0.5), (0, 1, 2, 3, 4, 5)),
    ("table_interpolation", table_interpolation, (_rng.normal(size=6), np.array([0.2, 1.1, 2.9, 3.4]), False), (0, 1)),
    ("table_extrapolation", table_interpolation, (_rng.normal(size=6), np.array([0.2, 1.1, 2.9, 3.4]), True), (0, 1)),
    ("cumulative_product", cumulative_product, (_rng.uniform(0.5, 1.5, 8),), (0,)),
    ("cumulative_product_zero", cumulative_product, (np.array([1.2, 0.0, 0.7, 1.9]),), (0,)),
    ("suffix_product_in_place", suffix_product_in_place, (_rng.uniform(0.5, 1.5, 7), 1.1), (0, 1)),
    ("triangular_solve", triangular_solve, (np.tril(_square), _rng.normal(size=5)), (0, 1)),
    ("lu_logdet", lu_logdet, (_square, _rng.normal(size=5)), (0, 1)),
    (
        "gaussian_loglikelihood",
        gaussian_loglikelihood,
        (_rng.normal(size=4), _rng.normal(size=4), _rng.normal(size=(4, 3)), 0.7),
        (0, 1, 2, 3),
    ),
    (
        "thomas",
        thomas,
        (_rng.normal(size=7), 4 + _rng.normal(size=8), _rng.normal(size=7), _rng.normal(size=8)),
        (0, 1, 2, 3),
    ),
    ("conjugate_gradient", conjugate_gradient, (_rng.normal(size=(6, 5)), _rng.normal(size=5), 0.5, 3), (0, 1, 2)),
    ("horner", horner, (_rng.normal(size=7), 0.9), (0, 1)),
    ("simpson", simpson, (0.7, 1.3, -0.4, 2.1, 40), (0, 1, 2, 3)),
    ("simpson_slices", simpson_slices, (0.7, 1.3, 2.1), (0, 1, 2)),
    ("power_iteration", power_iteration, (_symmetric, _rng.normal(size=5), 12), (0, 1)),
    ("convolution_same", convolution, (_signal, _rng.normal(size=4), True), (0, 1)),
    ("convolution_full", convolution, (_signal, _rng.normal(size=4), False), (0, 1)),
    ("continued_fraction", tangent, (0.8,), (0,)),
    ("matrix_exponential", matrix_exponential, (0.4 * _rng.normal(size=(4, 4)), 1.2, _rng.normal(size=4)), (0, 1, 2)),
    ("gram_schmidt", gram_schmidt, (_rng.normal(size=(6, 4)),), (0,)),
    ("ridge_regression", ridge_regression, (_rng.normal(size=(9, 3)), _rng.normal(size=9), 0.3, False), (0, 1, 2)),
    ("ridge_intercept", ridge_regression, (_rng.normal(size=(9, 3)), _rng.normal(size=9), 0.3, True), (0, 1, 2)),
    ("huber", huber, (2 * _rng.normal(size=10), _rng.normal(size=10), 0.9), (0, 1, 2)),
    ("logsumexp", logsumexp, (3 * _rng.normal(size=8),), (0,)),
    ("logsumexp_large", logsumexp, (1000 + _rng.normal(size=8),), (0,)),
    ("cubic_spline", cubic_spline, (_rng.normal(size=8), 3.37), (0, 1)),
    ("arithmetic_geometric_mean", arithmetic_geometric_mean, (1.7, 0.6), (0, 1)),
    ("chebyshev", chebyshev, (_rng.normal(size=6), _rng.uniform(-0.9, 0.9, 5)), (0, 1)),
    ("moving_average", moving_average, (_signal, 4, 3.0), (0, 2)),
]
