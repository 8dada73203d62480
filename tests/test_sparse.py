"""Sparse Jacobians and Hessians: equal to the dense ones, with few sweeps, whatever the list holds; and the colourings."""

import numba
import numpy as np
import pytest
import scipy.optimize
import scipy.sparse

import tape
from compiled.sweeps import colouring
from tape.running.linearised import SweptPoint

X = np.linspace(0.1, 1.0, 12)


def in_place(x):
    y = np.zeros(20, like=x)
    y[2:14] = x
    y[3:9] *= x[:6]
    y[[0, 15]] = x[[5, 7]] ** 2
    np.add.at(y, [1, 1, 5], x[:3])
    return y


def choosing(x):
    return x[np.argsort(-x)[:4]] * np.where(x[:4] > 0.2, x[4:8], 3.0)


FUNCTIONS = {
    "diff": np.diff,
    "stencil": lambda x: x[2:] * x[:-2] + np.sin(x[1:-1]),
    "gather": lambda x: x[[1, 3, 5]] * x[[0, 2, 4]],
    "matmul": lambda x: np.reshape(x, (3, 4)) @ np.ones((4, 2)),
    "products in a batch": lambda x: np.reshape(x, (3, 2, 2)) @ np.reshape(x, (3, 2, 2)),
    "cumsum": np.cumsum,
    "sort": lambda x: np.sort(x)[:3],
    "max": lambda x: np.max(np.reshape(x, (3, 4)), axis=1),
    "loop": lambda x: tape.scan(lambda c, v: (c * v, c), 1.0, x)[1],
    "call": lambda x: np.linalg.inv(np.reshape(x[:9], (3, 3)) + 3 * np.eye(3)),
    "scalars": lambda x: np.stack([x[0] * x[1], x[2] ** 2, 3.0 * x[4]]),
    "stopped": lambda x: x * tape.stop_gradient(x[::-1]),
    "arrow": lambda x: np.concatenate([x * x[0], [np.sum(x)]]),
    "in place": in_place,
    "choosing": choosing,
    "matrix": lambda x: np.outer(x[:3], x[3:6]),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_sparse_jacobians_are_the_dense_ones(name):
    f = FUNCTIONS[name]
    sparse = tape.jacobian(f, mode="sparse")
    for x in (X, X[::-1] * 0.7):
        got, expected = sparse(x), tape.jacobian(f)(x)
        assert scipy.sparse.issparse(got)
        assert got.format == "csr"
        assert got.shape == (f(x).size, x.size)
        np.testing.assert_allclose(got.toarray(), expected.reshape(got.shape), rtol=1e-13, atol=1e-14)


def rosenbrock(x):
    return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


SCALARS = {
    "rosenbrock": rosenbrock,
    "arrow": lambda x: np.sum(x * x[0]) + np.sum(x**3),
    "dense": lambda x: np.sum(x) ** 2,
    "linear": np.sum,
    "in place": lambda x: np.sum(in_place(x) ** 3),
    "blocks": lambda x: np.sum(np.linalg.norm(np.reshape(x, (4, 3)), axis=1)),
    "two dimensions": lambda x: np.sum(np.diff(np.reshape(x, (3, 4)), axis=0) ** 4)
    + np.sum(np.diff(np.reshape(x, (3, 4)), axis=1) ** 4),
    "loop": lambda x: tape.fori(0, 3, lambda k, c: c * c * x[:3] + c, x[3:6])[0],
}


@pytest.mark.parametrize("name", SCALARS)
def test_sparse_hessians_are_the_dense_ones(name):
    f = SCALARS[name]
    sparse = tape.hessian(f, mode="sparse")
    for x in (X, X[::-1] * 0.7):
        np.testing.assert_allclose(sparse(x).toarray(), tape.hessian(f)(x), rtol=1e-12, atol=1e-12)


def swept(monkeypatch, name):
    """Counts the sweeps of a direction."""
    calls, whole = [], getattr(SweptPoint, name)
    monkeypatch.setattr(SweptPoint, name, lambda self, vectors: calls.append(1) or whole(self, vectors))
    return calls


def test_the_number_of_sweeps_is_that_of_the_colours(monkeypatch):
    pushed, pulled = swept(monkeypatch, "push"), swept(monkeypatch, "pull")
    tape.jacobian(np.diff, mode="sparse")(np.zeros(1000))
    assert (len(pushed), len(pulled)) == (2, 0)
    wide = tape.jacobian(lambda x: np.sum(np.reshape(x, (3, 100)), axis=1), mode="sparse")(np.zeros(300))
    assert (wide.nnz, len(pushed), len(pulled)) == (300, 2, 1)


def test_an_arrow_needs_two_products():
    matrix = scipy.sparse.lil_array((50, 50))
    matrix[0, :] = matrix[:, 0] = 1.0
    matrix.setdiag(1.0)
    assert colouring.symmetric(matrix).max() == 1
    assert colouring.columns(matrix).max() == 49


@pytest.mark.parametrize("seed", range(20))
def test_random_colourings_are_valid(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 40))
    pattern = scipy.sparse.random_array((int(rng.integers(1, 40)), n), density=rng.uniform(0.0, 0.3), rng=rng).astype(bool)
    colours = colouring.columns(pattern)
    for row in pattern.toarray():
        used = colours[row]
        assert len(set(used.tolist())) == len(used)
    square = scipy.sparse.random_array((n, n), density=rng.uniform(0.0, 0.2), rng=rng).toarray() != 0
    square |= square.T | np.eye(n, dtype=bool)
    colours = colouring.symmetric(scipy.sparse.csr_array(square))
    for i, j in zip(*np.nonzero(square), strict=True):
        alone = [(colours[square[a]] == colours[b]).sum() == 1 for a, b in ((i, j), (j, i))]
        assert any(alone), f"element {i}, {j} cannot be read"


def test_several_arguments_and_results():
    f = lambda a, b: (a[:3] * b[:3], {"s": np.sum(b)}, 5.0)
    a, b = np.arange(1.0, 5.0), np.linspace(1.0, 2.0, 5)
    sparse, dense = tape.jacobian(f, argnums=(0, 1), mode="sparse")(a, b), tape.jacobian(f, argnums=(0, 1))(a, b)
    for one, other, rows in ((sparse[0], dense[0], 3), (sparse[1]["s"], dense[1]["s"], 1), (sparse[2], dense[2], 1)):
        for block, expected, n in zip(one, other, (4, 5), strict=True):
            assert block.shape == (rows, n)
            np.testing.assert_allclose(block.toarray(), np.reshape(expected, (rows, n)))


def test_dtypes_and_large_problems():
    assert tape.jacobian(np.diff, mode="sparse")(np.zeros(5, np.float32)).dtype == np.float32
    x = np.linspace(-1.0, 1.0, 20_000)
    product = tape.hessian(rosenbrock, mode="sparse")(x) @ np.ones(len(x))
    np.testing.assert_allclose(product, tape.hvp(rosenbrock)(x, np.ones(len(x))), rtol=1e-10)


def test_least_squares_takes_the_sparse_jacobian():
    residuals = lambda x: np.concatenate([10 * (x[1:] - x[:-1] ** 2), 1 - x[:-1]])
    found = scipy.optimize.least_squares(residuals, np.zeros(50), jac=tape.jacobian(residuals, mode="sparse"), tr_solver="lsmr")
    np.testing.assert_allclose(found.x, 1.0, rtol=1e-6)


@pytest.mark.parametrize("call", [
    lambda: tape.jacobian(numba.njit(lambda x: x * x), mode="sparse")(X),
    lambda: tape.hessian(numba.njit(lambda x: np.sum(x)), mode="sparse")(X),
    lambda: tape.grad(lambda x: np.sum(tape.jacobian(np.diff, mode="sparse")(x)))(X),
    lambda: tape.grad(lambda x: np.sum(tape.hessian(rosenbrock, mode="sparse")(x)))(X),
])
def test_where_there_is_no_sparse_mode(call):
    with pytest.raises(tape.NotDifferentiable, match=r"mode='sparse'.*not supported; use"):
        call()
