"""Native functions against the sweeps: `tape.compile` and what can be made of it, for Python, jitted code, SciPy and C.

What is not here: passes from list to list (`test_transforms.py`).
"""

import numpy as np
import pytest

import tape

ROUNDING = 1e-11
"""Relative; sums are added in another order than in the sweeps."""

SINGLE = 2e-4
"""The same in single precision."""


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory):
    """A cache of object code that is empty at first, so that everything is compiled."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAPE_CACHE_DIR", str(tmp_path_factory.mktemp("native")))
        yield


@pytest.fixture
def sweeps(monkeypatch):
    """Derivatives by the sweeps alone, to compare with."""
    monkeypatch.setenv("TAPE_NATIVE", "0")


# ---------------------------------------------------------------------- corpus

RANDOM = np.random.default_rng(7)
A3, A4, A23, A34, A234 = (RANDOM.uniform(0.2, 1.8, shape) for shape in (3, 4, (2, 3), (3, 4), (2, 3, 4)))
LARGE = RANDOM.uniform(-1.0, 1.0, (40, 40))
WEIGHTS = RANDOM.uniform(-1.0, 1.0, (40, 40))


def in_place(x):
    y = np.zeros_like(x)
    y[1:] = x[:-1] * 2.0
    y[0] = np.sin(x[-1])
    y += x
    y[::2] *= x[::2]
    return np.sum(y * y)


def assigned_argument(x):
    y = x.copy()
    y[0] = 0.0
    y[1:] += y[:-1] ** 2
    return np.sum(y**3)


def scattered(x):
    y = np.zeros_like(x)
    y[np.array([2, 0, 2, 1])] = x[np.array([0, 1, 2, 0])] ** 2
    return np.sum(y * x)


def network(p, x):
    h = np.tanh(x @ p["w"] + p["b"])
    return np.mean(tape.logsumexp(h, axis=1) - h[:, 0])


def oscillator(q, p):
    for _ in range(20):
        p = p - 0.1 * np.sin(q)
        q = q + 0.1 * p
    return q * q + p


def branching(x):
    return np.sum(x**2) if x[0] > 0 else np.sum(np.sin(x))


CORPUS = {
    "number": (lambda x: np.sin(x) * x, 0.7),
    "two numbers": (lambda x, y: x * y + np.exp(x / y), 0.7, 1.3),
    "constant factor": (lambda x: 3.0 * x, 2.0),
    "identity": (lambda x: x, 2.0),
    "many operations": (lambda x: np.sqrt(x) + np.log(x) * np.arctan(x) - np.cosh(x) / np.cbrt(x) + np.hypot(x, 2.0), 0.7),
    "powers": (lambda x: x**3 + x**0.5 + 2.0**x + x**-1.0 + x**x, 0.7),
    "loop of numbers": (oscillator, 0.5, 0.1),
    "vector": (lambda x: np.sum(np.sin(x) * x), A3),
    "element": (lambda x: x[1] * x[2], A3),
    "strided": (lambda x: np.sum(x[::2] * x[1::2][::-1]), A4),
    "matrix sum": (lambda x: np.sum(x**2 / (1.0 + x)), A23),
    "rows": (lambda x: np.sum(np.sum(x, axis=1) ** 2), A23),
    "columns": (lambda x: np.sum(np.sum(x, axis=0) ** 3), A23),
    "kept axes": (lambda x: np.sum((x - np.mean(x, axis=1, keepdims=True)) ** 2), A23),
    "first of three axes": (lambda x: np.sum(np.exp(np.sum(x, axis=0))), A234),
    "middle of three axes": (lambda x: np.sum(np.exp(np.sum(x, axis=1))), A234),
    "last of three axes": (lambda x: np.sum(np.exp(np.sum(x, axis=2))), A234),
    "two of three axes": (lambda x: np.sum(np.sum(x, axis=(0, 2)) ** 3), A234),
    "transposed": (lambda x: np.sum(x.T[1:, :] * x.T[:-1, ::-1]), A23),
    "broadcast": (lambda x, y: np.sum(x[:, None] * y - y**2), A3, A4),
    "vector result": (lambda x: np.tril(np.ones((3, 3))) @ x * x[::-1], A3),
    "matrix result": (lambda x, y: np.outer(x, y) + x[:, None], A3, A4),
    "view results": (lambda x: (x[1:], x.reshape(-1)[::-1]), A3),
    "broadcast result": (lambda x: np.broadcast_to(np.sum(x), (2, 3)), A3),
    "same result twice": (lambda x: (np.sin(x), np.sin(x), x), A3),
    "constant results": (lambda x: (np.sum(x), 2.0, np.array([1.0, 2.0])), A3),
    "nested results": (lambda x: {"a": (np.sum(x), [x * 2.0]), "b": x[0]}, A3),
    "nested arguments": (lambda a, b: a["x"] * np.sum(b[0] * a["y"][0]) + b[1], {"x": 2.0, "y": [A3]}, (A3 + 1.0, 0.5)),
    "integers": (lambda x, n: np.sum(x**2) * n, A3, 3),
    "integer array": (lambda x, n: np.sum(x * n), A3, np.array([1, 2, 3])),
    "booleans": (lambda x, m: np.sum(np.where(m, x**2, x)), A3, np.array([True, False, True])),
    "assignment": (in_place, A4),
    "assignment of a copy": (assigned_argument, A4),
    "gather": (lambda x: np.sum(x[np.array([0, 2, 2, 1])] ** 2), A3),
    "gather by argument": (lambda x, i: np.sum(x[i] ** 2), A4, np.array([3, 0, 3])),
    "scatter": (scattered, A3),
    "rows of a matrix": (lambda x: np.sum(x[np.array([1, 0, 1])] ** 3), A23),
    "product": (lambda x, y: np.sum((x @ y) ** 2), A23, A34),
    "product of vectors": (lambda x: x @ x * (x[::-1] @ x), A3),
    "matrix and vector": (lambda x, y: np.sum(np.sin(x @ y)), A23, A3),
    "vector and matrix": (lambda x, y: np.sum(np.sin(x @ y)), A3, A34),
    "batch of products": (lambda x, y: np.sum((x @ y) ** 2), A234, RANDOM.uniform(-1.0, 1.0, (2, 4, 2))),
    "broadcast batch": (lambda x, y: np.sum((x @ y) ** 2), A234, RANDOM.uniform(-1.0, 1.0, (4, 2))),
    "transposed product": (lambda x, y: np.sum(np.sin(x.T @ y)), A23, RANDOM.uniform(-1.0, 1.0, (2, 5))),
    "large product": (lambda x: np.sum(np.sin(x @ WEIGHTS) ** 2), LARGE),
    "large transposed product": (lambda x: np.sum(np.tanh(x.T @ x)), LARGE),
    "large matrix and vector": (lambda x, y: np.sum((x @ y) ** 2), RANDOM.uniform(-1.0, 1.0, (80, 60)), RANDOM.uniform(-1.0, 1.0, 60)),
    "where": (lambda x: np.sum(np.where(x > 1.0, x**2, np.log(x))), A34),
    "clip": (lambda x: np.sum(np.clip(x, 0.5, 1.5) ** 2), A34),
    "largest": (lambda x: np.max(x) * np.min(x), A34),
    "largest of rows": (lambda x: np.sum(np.max(x, axis=1) * np.min(x, axis=1)), A34),
    "largest of columns": (lambda x: np.sum(np.max(x, axis=0) ** 2), A34),
    "minimum": (lambda x, y: np.sum(np.maximum(x, y) * np.minimum(x, 1.0)), A34, A34[::-1] * 1.1),
    "logsumexp": (lambda x: tape.logsumexp(x) + np.sum(tape.logsumexp(x, axis=1)), A34),
    "sigmoid": (lambda x: np.sum(tape.sigmoid(x) * tape.relu(x - 1.0)), A34),
    "dropout": (lambda x, seed: np.sum(tape.dropout(x, 0.5, seed) ** 2), A34, 3),
    "stop": (lambda x: np.sum(tape.stop_gradient(x) * x), A3),
    "norm": (lambda x: np.linalg.norm(x) + np.std(x), A34),
    "joined": (lambda x, y: np.sum(np.concatenate([x, y]) ** 2 * np.arange(7.0)) + np.sum(np.stack([x, x])), A3, A4),
    "products": (lambda x: np.prod(x) * x[0], A4),
    "einsum": (lambda x, y: np.sum(np.einsum("ij,jk->ik", x, y) ** 2), A23, A34),
    "network": (network, {"w": RANDOM.uniform(-1.0, 1.0, (4, 5)), "b": RANDOM.uniform(-1.0, 1.0, 5)}, RANDOM.uniform(-1.0, 1.0, (6, 4))),
    "empty": (lambda x: np.sum(x) + 1.0, np.zeros(0)),
    "empty result": (lambda x: (x[:0] * 2.0, np.sum(x)), A3),
    "empty matrix": (lambda x: np.sum(x, axis=0), np.zeros((0, 3))),
    "empty product": (lambda x, y: np.sum((x @ y) ** 2), np.zeros((2, 0)), np.zeros((0, 3))),
    "axes of one": (lambda x: np.sum(x * x[0, 0, 0]), np.full((1, 1, 1), 0.3)),
    "long vector": (lambda x: np.sum(np.exp(-(x**2)) * np.sin(x)), np.linspace(-2.0, 2.0, 5000)),
    "stencil": (lambda x: np.sum((x[1:-1] + 0.1 * (x[2:] - 2.0 * x[1:-1] + x[:-2])) ** 2), np.linspace(0.0, 1.0, 100) ** 2),
    "derivative": (lambda x: np.sum(tape.grad(lambda y: np.sum(np.sin(y) * y**2))(x) ** 2), A3),
    "branch": (branching, A3),
    "constant alone": (lambda x: 2.0 * np.ones(3), A3),
}
"""Functions and their arguments."""

SINGLE_PRECISION = ["number", "two numbers", "vector", "rows", "broadcast", "product", "large product", "assignment", "gather",
                    "largest of rows", "logsumexp", "nested arguments", "where", "dropout", "stencil", "empty", "branch"]


def tree_map(function, tree):
    """The function of every leaf of nested containers."""
    if isinstance(tree, dict):
        return {k: tree_map(function, v) for k, v in tree.items()}
    return type(tree)(tree_map(function, v) for v in tree) if isinstance(tree, (tuple, list)) else function(tree)


def leaves(tree):
    """Leaves of nested containers."""
    if isinstance(tree, dict):
        tree = list(tree.values())
    return [leaf for item in tree for leaf in leaves(item)] if isinstance(tree, (tuple, list)) else [tree]


def is_float(x):
    """Whether a leaf is differentiated."""
    return isinstance(x, float) or getattr(getattr(x, "dtype", None), "kind", "") == "f"


def moved(args):
    """Other arguments of the same shapes, on the same side of branches."""
    return tree_map(lambda x: x * 1.05 if is_float(x) else x, args)


def copied(args):
    """Copies of arguments."""
    return tree_map(np.copy, args)


def assert_close(got, expected, rounding=ROUNDING):
    """Demand equal structure, shapes and dtypes, and close values."""
    for one, other in zip(leaves(got), leaves(expected), strict=True):
        assert np.shape(one) == np.shape(other)
        assert np.asarray(one).dtype == np.asarray(other).dtype
        np.testing.assert_allclose(one, other, rtol=rounding, atol=rounding)


def differentiated(args):
    """Numbers of the arguments that are made of floats."""
    return tuple(k for k, a in enumerate(args) if all(is_float(x) for x in leaves(a)))


def random_like(tree, seed=1):
    """Numbers of the shapes and dtypes of a result's leaves."""
    random = np.random.default_rng(seed)
    return tree_map(lambda x: np.asarray(random.standard_normal(np.shape(x)), np.asarray(x).dtype)[()], tree)


def compare(f, args, rounding=ROUNDING):
    """Compare all functions of the compiled object with those of the sweeps, at two points."""
    which = differentiated(args)
    compiled = tape.compile(f, *args, argnums=which)
    for point in (args, moved(args)):
        before = copied(point)
        value = compiled.value(*point)
        assert_close(value, f(*point), rounding)
        primals = [point[k] for k in which]
        only = lambda *chosen, point=point: f(*[chosen[which.index(k)] if k in which else a for k, a in enumerate(point)])
        tangents = tuple(random_like(primals))
        expected_value, pull = tape.vjp(only, *primals)
        seed = random_like(expected_value, 2)
        if leaves_differ(only, primals):
            assert_close(compiled.jvp(point, tangents), tape.jvp(only, tuple(primals), tangents), rounding)
            again, pullback = compiled.vjp(*point)
            assert_close(again, expected_value, rounding)
            assert_close(pullback(seed), pull(seed), rounding)
            assert_close(pullback(seed), pull(seed), rounding)
        if len(leaves(value)) == 1 and np.shape(value) == ():
            assert_close(compiled.value_and_grad(*point), tape.value_and_grad(f, argnums=which)(*point), rounding)
        for one, other in zip(leaves(point), leaves(before), strict=True):
            np.testing.assert_array_equal(one, other)
    return compiled


def leaves_differ(f, primals):
    """Whether a result depends on the arguments at all."""
    return any(isinstance(w, int) for w in tape.record(f, *primals)._trace.results)


@pytest.mark.usefixtures("sweeps")
@pytest.mark.parametrize("name", CORPUS)
def test_corpus(name):
    f, *args = CORPUS[name]
    compare(f, args)


@pytest.mark.usefixtures("sweeps")
@pytest.mark.parametrize("name", SINGLE_PRECISION)
def test_single_precision(name):
    f, *args = CORPUS[name]
    if name == "large product":
        f = lambda x: np.sum(np.sin(x @ WEIGHTS.astype(np.float32)) ** 2)
    compare(f, tree_map(lambda x: np.asarray(x, np.float32)[()] if is_float(x) else x, args), SINGLE)
