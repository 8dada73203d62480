"""Functions over a sample axis: against the function called for each sample."""

import threading

import numpy as np
import pytest
from numba import njit

import tape
from compiled.native import threads as native_threads
from compiled.native.lanes import most_lanes

WIDTH = most_lanes(np.dtype(np.float64))
TAILS = [0, 1, WIDTH - 1, WIDTH, WIDTH + 1, 3 * WIDTH + 5]
RNG = np.random.default_rng(7)


def looped(f, count, *args, axes=None):
    """The function's leaves for each sample, stacked."""
    axes = axes or (0,) * len(args)
    rows = []
    for s in range(count):
        result = f(*(a[s] if axis == 0 else a for a, axis in zip(args, axes, strict=True)))
        rows.append(flat(result))
    return [np.stack(column) for column in zip(*rows, strict=True)]


def flat(result):
    """The arrays of a result."""
    return [x for part in result for x in flat(part)] if isinstance(result, (tuple, list)) else [np.asarray(result)]


def assert_as_looped(f, *args, axes=None, rtol=1e-12, atol=1e-13, **options):
    axes = axes or (0,) * len(args)
    count = next(len(a) for a, axis in zip(args, axes, strict=True) if axis == 0)
    got = flat(tape.batch(f, in_axes=axes, **options)(*args))
    want = looped(f, count, *args, axes=axes)
    assert len(got) == len(want)
    for one, other in zip(got, want, strict=True):
        assert one.shape == other.shape
        assert one.dtype == other.dtype
        np.testing.assert_allclose(one, other, rtol=rtol, atol=atol)


def arithmetic(x, y):
    return (x * y - 2.0) / (1.0 + y * y) + x**3 - abs(y) + np.maximum(x, y) * np.square(x - y)


def elementary(x, y):
    total = np.exp(x) * np.sin(y) + np.log(1.0 + x * x) ** 1.5 + np.tanh(x * y)
    return total - np.arctan2(y, 2.0 + x) + np.sqrt(1 + y * y) ** 0.3


SCALAR = [arithmetic, elementary]


@pytest.mark.parametrize("count", TAILS)
@pytest.mark.parametrize("f", SCALAR, ids=lambda f: f.__name__)
def test_scalar_functions_and_their_gradients(f, count):
    x, y = RNG.normal(size=(2, count))
    for one in (f, tape.value_and_grad(f, argnums=(0, 1))):
        if count:
            assert_as_looped(one, x, y)
        else:
            assert all(a.shape == (0,) for a in flat(tape.batch(one)(x, y)))


def slices(x):
    return np.sum(x[1:] * np.exp(x[:-1])) ** 2 - np.mean(x[::2])


def extreme(x):
    return np.max(x) * np.min(x * x)


def products(x):
    return np.sum((x.reshape(3, -1) @ x.reshape(3, -1).T) ** 2)


def by_index(x):
    return np.sum(x[np.array([2, 0, 2])] * x[0])


def chosen(x):
    return np.sum(np.where(x > 0.1, np.sin(x), x**2))


VECTOR = [slices, extreme, products, by_index, chosen]


@pytest.mark.parametrize("f", VECTOR, ids=lambda f: f.__name__)
@pytest.mark.parametrize("derivative", [lambda f: f, tape.value_and_grad, tape.hessian],
                         ids=["value", "value_and_grad", "hessian"])
def test_vector_functions(f, derivative):
    assert_as_looped(derivative(f), RNG.normal(size=(WIDTH + 3, 6)), rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 63, 64, 65, 130])
def test_arguments_and_results_of_any_size(size):
    assert_as_looped(tape.grad(lambda x: np.sum(x * x * np.arange(size))), RNG.normal(size=(WIDTH + 1, size)))
    assert_as_looped(lambda x: (x[::-1], x[1:], np.broadcast_to(x[0], (2, 3))), RNG.normal(size=(WIDTH + 1, size)))


def test_jacobians():
    def f(x, y):
        return np.stack([x[0] * y, x[1] * np.sin(x[2]), y**2])

    assert_as_looped(tape.jacobian(f, argnums=(0, 1)), RNG.normal(size=(2 * WIDTH + 1, 3)), RNG.normal(size=2 * WIDTH + 1))


def test_positions_that_are_arguments():
    positions = RNG.integers(0, 5, size=(20, 3))
    assert_as_looped(tape.grad(lambda x, k: np.sum(x[k] ** 2)), RNG.normal(size=(20, 5)), positions)
    assert_as_looped(lambda x, k: x[k], RNG.normal(size=5), positions, axes=(None, 0))
    positions[13, 1] = 7
    with pytest.raises(IndexError):
        tape.batch(lambda x, k: x[k])(RNG.normal(size=(20, 5)), positions)


def test_assignment_leaves_arguments_as_they_are():
    def f(x):
        x[1:] = x[1:] * x[0]
        return np.sum(x**2)

    x = RNG.normal(size=(21, 4))
    kept = x.copy()
    got = tape.batch(f)(x)
    np.testing.assert_array_equal(x, kept)
    np.testing.assert_allclose(got, [f(row.copy()) for row in kept], rtol=1e-12)


@pytest.mark.parametrize("f", [*SCALAR, *VECTOR], ids=lambda f: f.__name__)
def test_float32(f):
    x = RNG.normal(size=(2, 37) if f in SCALAR else (37, 6)).astype(np.float32)
    args = tuple(x) if f in SCALAR else (x,)
    assert_as_looped(tape.value_and_grad(f), *args, rtol=2e-4, atol=2e-4)


def test_arguments_that_all_samples_share():
    def f(w, x, y):
        return (np.sum(np.tanh(w["a"] @ x)) * w["b"] - y) ** 2

    w = {"a": RNG.normal(size=(4, 3)), "b": 0.5}
    x, y = RNG.normal(size=(40, 3)), RNG.normal(size=40)
    got = tape.batch(tape.grad(f), in_axes=(None, 0, 0))(w, x, y)
    want = [tape.grad(f)(w, a, b) for a, b in zip(x, y, strict=True)]
    np.testing.assert_allclose(got["a"], [g["a"] for g in want], rtol=1e-11)
    np.testing.assert_allclose(got["b"], [g["b"] for g in want], rtol=1e-11)
    total = tape.batch(tape.grad(f), in_axes=(None, 0, 0), sum=True)(w, x, y)
    np.testing.assert_allclose(total["a"], got["a"].sum(0), rtol=1e-11)
    np.testing.assert_allclose(total["b"], got["b"].sum(0), rtol=1e-11)


def test_containers_statics_keywords_and_integers():
    def f(pair, kind, k, *, scale):
        return {"r": pair[0] * k * scale if kind == "a" else pair[1] * 1.0, "c": 3.0, "n": pair[0] > 0}

    x, y, k = RNG.normal(size=19), RNG.normal(size=(19, 2)), np.arange(19)
    got = tape.batch(f)((x, y), "a", k, scale=2.0)
    np.testing.assert_allclose(got["r"], x * k * 2.0)
    np.testing.assert_array_equal(got["c"], np.full(19, 3.0))
    np.testing.assert_array_equal(got["n"], x > 0)
    np.testing.assert_array_equal(tape.batch(f)((x, y), "b", k, scale=2.0)["r"], y)
    total = tape.batch(f, sum=True)((x, y), "a", k, scale=2.0)
    np.testing.assert_allclose([total["r"], total["c"]], [np.sum(x * k * 2.0), 57.0])
    assert total["n"] == np.sum(x > 0)


def test_not_contiguous():
    x = RNG.normal(size=(6, 50)).T[::2]
    assert_as_looped(tape.grad(slices), x)


# ---------------------------------------------------------------------- threads, sums


@pytest.fixture
def every_work_is_much(monkeypatch):
    """Threads are used for little work, too."""
    monkeypatch.setattr(native_threads, "LITTLE_WORK", 0)


@pytest.mark.parametrize("count", [1, 65, 1000, 4099])
@pytest.mark.parametrize("total", [False, True])
@pytest.mark.usefixtures("every_work_is_much")
def test_the_same_for_any_number_of_threads(count, total):
    x = RNG.normal(size=(count, 5))
    f = tape.value_and_grad(slices)
    one, two = (flat(tape.batch(f, threads=n, sum=total)(x)) for n in (1, 2))
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(one, looped(f, count, x), strict=True):
        np.testing.assert_allclose(a, b.sum(0) if total else b, rtol=1e-10, atol=1e-10)


def test_sums_of_nothing_and_of_float32():
    value, gradient = tape.batch(tape.value_and_grad(slices), sum=True)(np.zeros((0, 4)))
    assert value == 0.0
    np.testing.assert_array_equal(gradient, np.zeros(4))
    x = RNG.uniform(size=(5000, 3)).astype(np.float32)
    total = tape.batch(lambda x: np.sum(x), sum=True)(x)
    assert total.dtype == np.float32
    np.testing.assert_allclose(total, x.sum(dtype=np.float64), rtol=1e-6)


@pytest.mark.usefixtures("every_work_is_much")
def test_from_several_python_threads():
    f = tape.batch(tape.value_and_grad(elementary), threads=2)
    x, y = RNG.normal(size=(2, 3000))
    want, wrong = f(x, y), []

    def work():
        for _ in range(20):
            got = f(x, y)
            if not all(np.array_equal(a, b) for a, b in zip(got, want, strict=True)):
                wrong.append(got)

    workers = [threading.Thread(target=work) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def test_results_keep_their_memory():
    f, x = tape.batch(lambda x: x * 2.0), RNG.normal(size=40_000)
    views = [f(x + k)[::7] for k in range(5)]
    for k, view in enumerate(views):
        np.testing.assert_array_equal(view, (2.0 * (x + k))[::7])
    result = f(x)
    assert result.flags.writeable
    assert result.flags.c_contiguous
    address = result.ctypes.data
    del result
    assert f(x).ctypes.data == address


# ---------------------------------------------------------------------- what does not run in lanes


@pytest.mark.parametrize("total", [False, True])
def test_branches_that_samples_decide_differently(total):
    def f(x):
        return x * x if x > 0 else -3.0 * x

    x = np.concatenate([np.full(600, 0.5), RNG.normal(size=100), np.full(300, 2.0)])
    one = tape.value_and_grad(f)
    got = tape.batch(one, sum=total)(x)
    want = looped(one, len(x), x)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b.sum() if total else b, rtol=1e-12)


def test_results_of_different_shapes():
    with pytest.raises(ValueError, match="sample 2"):
        tape.batch(lambda x: np.stack([x, x]) if x > 0 else x)(np.array([1.0, 2.0, -1.0]))


def test_functions_that_change_what_they_read():
    rng = np.random.default_rng(1)
    got = tape.batch(lambda x: x + rng.normal())(np.zeros(5))
    assert len(set(got)) == 5


def test_inside_a_recording():
    x, y = RNG.normal(size=(7, 3)), RNG.normal(size=7)

    def loss(w, total):
        return np.sum(tape.batch(lambda x, y: (np.sum(w * x) - y) ** 2, sum=total)(x, y))

    w = RNG.normal(size=3)
    want = 2 * x.T @ (x @ w - y)
    for total in (False, True):
        np.testing.assert_allclose(tape.grad(loss)(w, total), want, rtol=1e-10)


@njit
def jitted(x, n):
    for _ in range(n):
        x = x * np.sin(x) + 0.5
    return x if x > 0 else x * 2.0


def test_jitted_functions():
    x = RNG.normal(size=50)
    np.testing.assert_allclose(tape.batch(jitted, in_axes=(0, None))(x, 3), [jitted(a, 3) for a in x], rtol=1e-12)
    np.testing.assert_allclose(tape.batch(jitted, in_axes=(0, None))(x, 2), [jitted(a, 2) for a in x], rtol=1e-12)
    counts = np.arange(50) % 4
    np.testing.assert_allclose(tape.batch(jitted)(x, counts), [jitted(a, n) for a, n in zip(x, counts, strict=True)])
    gradient = tape.grad(jitted)
    np.testing.assert_allclose(tape.batch(gradient, in_axes=(0, None))(x, 3), [gradient(a, 3) for a in x], rtol=1e-12)


def test_long_lists_are_cut_into_pieces():
    def f(x, w):
        y = x[0]
        for k in range(1500):
            y = y * x[k % 3] * w + 0.01 * k - 0.3 * y
            y = y / (1.0 + y * y)
        return y + x

    x = RNG.normal(size=(WIDTH + 2, 3))
    assert_as_looped(f, x, 0.7, axes=(0, None), rtol=1e-9)


# ---------------------------------------------------------------------- a fixed width, errors


@pytest.mark.parametrize("lanes", [2, 4, 8, 16])
def test_compile_for_lanes(lanes):
    x = RNG.normal(size=(lanes + 1, 5))
    c = tape.compile(slices, x[0], lanes=lanes)
    np.testing.assert_allclose(c.value(x), [slices(row) for row in x], rtol=1e-12)
    value, gradient = c.value_and_grad(x)
    want = looped(tape.value_and_grad(slices), len(x), x)
    np.testing.assert_allclose(value, want[0], rtol=1e-12)
    np.testing.assert_allclose(gradient, want[1], rtol=1e-11, atol=1e-12)
    with pytest.raises(ValueError, match="compile again"):
        c.value(x[:, :3])


@pytest.mark.parametrize("lanes", [0, 1, 3, 64])
def test_lanes_that_there_cannot_be(lanes):
    with pytest.raises(ValueError, match="power of two"):
        tape.compile(slices, np.ones(3), lanes=lanes)


@pytest.mark.parametrize(("options", "args", "message"), [
    ({}, (np.ones(3), np.ones(4)), "expected 3 samples"),
    ({}, (np.ones(3), 1.0), "leading sample axis"),
    ({"in_axes": None}, (np.ones(3), 1.0), "at least one argument"),
    ({"in_axes": (0,)}, (np.ones(3), 1.0), "in_axes has 1 entries"),
    ({"in_axes": 1}, (np.ones(3), 1.0), "moveaxis"),
    ({"in_axes": (0, "x")}, (np.ones(3), 1.0), "in_axes"),
    ({"threads": 0}, (np.ones(3), 1.0), "threads"),
])
def test_errors(options, args, message):
    with pytest.raises(ValueError, match=message):
        tape.batch(lambda x, y: x * y, **options)(*args)


def test_what_is_not_differentiable_says_so():
    with pytest.raises(tape.NotDifferentiable, match="expected a function"):
        tape.batch(3)
    with pytest.raises(tape.NotDifferentiable, match="scalar"):
        tape.batch(tape.grad(lambda x: x))(np.ones((4, 3)))


def scanned(x, y):
    def step(c, row):
        c = np.sin(c) * x + row
        return c, c * y

    carry, rows = tape.scan(step, np.stack([y, x[0]]), np.outer(np.arange(6.0), x))
    return np.sum(carry) + np.sum(rows**2)


def repeated(x, y):
    return tape.fori(0, 7, lambda k, c: np.cos(c * y) + x[0] * k, x[1])


@pytest.mark.parametrize("f", [scanned, repeated], ids=lambda f: f.__name__)
@pytest.mark.parametrize("axes", [(0, 0), (0, None), (None, 0)])
def test_loops(f, axes):
    x, y = RNG.normal(size=(WIDTH + 3, 2)), RNG.normal(size=WIDTH + 3)
    args = tuple(a if axis == 0 else a[0] for a, axis in zip((x, y), axes, strict=True))
    for one in (f, tape.value_and_grad(f, argnums=(0, 1))):
        assert_as_looped(one, *args, axes=axes, rtol=1e-10, atol=1e-11)


def test_loops_with_steps_that_differ():
    def f(x):
        return tape.while_loop(lambda c: np.abs(c) < 100.0, lambda c: c * 1.5 + 0.1, x)

    assert_as_looped(f, RNG.uniform(0.5, 2.0, size=20))
