"""Writing into arrays and reading what loops give: every way to write, every producer read by every consumer.

What is here: small programs whose gradient is compared with tangents, and whose value with plain NumPy's.
"""

import copy

import numpy as np
import pytest

import tape

X = np.array([0.3, -0.2, 0.9])


def agrees(f, x, order=2, tol=1e-9):
    """Compare the gradient with tangents along each axis, then the gradient of a part of it."""
    directions = np.eye(x.size).reshape(x.size, *x.shape)
    gradient = tape.grad(f)(x)
    np.testing.assert_allclose(gradient.ravel(), [tape.jvp(f, (x,), (d,))[1] for d in directions], rtol=tol, atol=tol)
    weights = np.cos(np.arange(x.size)).reshape(x.shape)
    h = 1e-6
    along = (f(x + h * weights) - f(x - h * weights)) / (2 * h)
    np.testing.assert_allclose(np.sum(gradient * weights), along, rtol=1e-5, atol=1e-6)
    if order > 1:
        agrees(lambda x: np.sum(tape.grad(f)(x) * weights), x, order - 1)


@tape.operation
def halved_cube(y):
    """An operation with a rule, which is differentiated in its turn for second order."""
    return 0.5 * y**3


@halved_cube.bprop
def _(adjoint, out, y):
    return adjoint * 1.5 * y * y


PRODUCERS = {
    "scan y": lambda y: tape.scan(lambda c, x: (c + x, c * x), y[0], y)[1],
    "scan last": lambda y: tape.scan(lambda c, x: (c * x + np.sin(c), None), y, y)[0],
    "fori": lambda y: tape.fori(0, 2, lambda i, c: c * y + np.sin(c), y),
    "while": lambda y: tape.while_loop(lambda c: np.sum(c * c) < 3.0, lambda c: 1.5 * c + 0.1 * y, y),
    "cond": lambda y: tape.cond(y[0] > 0, lambda y: y * y, lambda y: -y, y),
    "checkpoint": lambda y: tape.checkpoint(lambda y: np.sin(y) * y)(y),
    "operation": lambda y: halved_cube(y),
    "batch": lambda y: tape.batch(lambda s: s * np.sin(s))(y),
    "nested": lambda y: tape.scan(lambda c, x: (tape.fori(0, 2, lambda i, d: d * x + c, c), tape.checkpoint(np.cos)(c)),
                                  y[1], y)[1],
}
CONSUMERS = {
    "direct": lambda w: w * w,
    "checkpoint": lambda w: tape.checkpoint(np.sin)(w),
    "fori closure": lambda w: tape.fori(0, 2, lambda i, c: c * w + w[::-1], np.ones(3)),
    "scan closure": lambda w: tape.scan(lambda c, x: (c + x * w[1], c * w), w, w)[1],
    "while closure": lambda w: tape.while_loop(lambda c: np.sum(c) < 9.0, lambda c: c + 1.0 + w * w, w),
    "cond closure": lambda w: tape.cond(w[0] > -9.0, lambda: w * w[::-1], lambda: w),
    "view": lambda w: tape.checkpoint(np.sin)(w[::-2]),
    "operation": lambda w: halved_cube(w[::-1]),
    "batch": lambda w: tape.batch(lambda s, v: s * np.sum(v * v), in_axes=(0, None))(w, w),
    "nested": lambda w: tape.fori(0, 2, lambda i, c: tape.cond(c[0] > w[1], lambda: c * w, lambda: c + w), w[::-1]),
}


PAIRS = [pytest.param(p, c, native, marks=() if native == "0" and (i + j) % 4 == 0 else pytest.mark.slow)
         for native in ("0", "always") for i, p in enumerate(PRODUCERS) for j, c in enumerate(CONSUMERS)]


@pytest.mark.parametrize(("producer", "consumer", "native"), PAIRS)
def test_every_producer_is_read_by_every_consumer(producer, consumer, native, monkeypatch):
    monkeypatch.setenv("TAPE_NATIVE", native)
    agrees(lambda y: np.sum(CONSUMERS[consumer](PRODUCERS[producer](y))), X, order=1 if native == "0" else 2)


def random_program(seed):
    """Source of a function of a (4, 5) array that writes into arrays in some ways, drawn by `seed`."""
    rng = np.random.default_rng(seed)
    slices = ["::-1", "::-2", "::2", "1:", ":-1:3", "3::-1", "2:2"]
    lines = ["def f(x):", "    z = x * 2.0"]

    def place():
        return f"z[{rng.choice(slices)}, {rng.choice(slices)}]"

    writers = [lambda: f"z = z.T.copy().T; {place()} = {rng.uniform():.2f}",
               lambda: f"v = {place()}; v *= np.sin(x[0, 0])", lambda: f"v = {place()}; v[...] = np.cos(v) + 1.0",
               lambda: f"v = {place()}[::-1]; v += 0.5", lambda: f"v = {place()}; np.exp(0.1 * v, out=v)",
               lambda: f"v = z.T[::-1, {rng.integers(4)}]; v[::-2] = x[0, :3] * 2.0",
               lambda: "z[[0, 2, 0], [1, -1, 1]] = x[1, :3]", lambda: "z[z > 1.0] = x[0, 1]",
               lambda: "np.add.at(z, ([0, 1, 0], [2, 2, 2]), x[2, :3])", lambda: "np.fill_diagonal(z, x[0, 0])",
               lambda: f"np.copyto({place()}, x[3, 3], where=True)", lambda: "np.put(z, [0, 7, -1], x[0, :3])",
               lambda: "z.reshape(-1)[::-3] = 0.25" if rng.random() < 0.5 else "w = z[::-1].reshape(5, 4); z[:, 0] += w[0, 0]"]
    lines += [f"    {writers[rng.integers(len(writers))]()}" for _ in range(rng.integers(2, 6))]
    return "\n".join([*lines, "    return np.sum(z * z[::-1, ::-1] + np.sin(z) * x)"])


def check_eager(f, x, value, gradient):
    """With eager variables, which are views of each other as NumPy's arrays are."""
    w = tape.variable(x, requires_grad=True)
    result = f(w)
    result.backward()
    np.testing.assert_allclose(result.item(), value, rtol=1e-12)
    np.testing.assert_allclose(w.grad, gradient, rtol=1e-10, atol=1e-12)


def check_native(f, x, value, gradient):
    """Compiled, and in a batch beside a sample whose branches are others."""
    for other, slope in (tape.compile(f, x).value_and_grad(x), (f(x), tape.batch(tape.grad(f))(np.stack([x, 2.0 * x]))[0])):
        np.testing.assert_allclose(other, value, rtol=1e-12)
        np.testing.assert_allclose(slope, gradient, rtol=1e-10, atol=1e-12)


def check_program(seed, native):
    source = random_program(seed)
    namespace = {"np": np}
    exec(source, namespace)
    f, x = namespace["f"], np.random.default_rng(seed).uniform(0.2, 1.5, (4, 5))
    try:
        value, gradient = tape.value_and_grad(f)(x)
        weights = np.cos(np.arange(20.0)).reshape(4, 5)
        assert abs(value - f(x)) <= 1e-12 * max(1.0, abs(value))
        np.testing.assert_allclose(np.sum(gradient * weights), tape.jvp(f, (x,), (weights,))[1], rtol=1e-9, atol=1e-9)
        second = tape.hvp(f)(x, weights)
        np.testing.assert_allclose(second, tape.jvp(tape.grad(f), (x,), (weights,))[1], rtol=1e-8, atol=1e-8)
        steps = [(f(x + h * weights) - f(x - h * weights)) / (2 * h) for h in (1e-6, 2e-7)]
        if abs(steps[0] - steps[1]) < 1e-4 * (1.0 + abs(steps[0])):  # else an element passes the bound of a mask on the way
            np.testing.assert_allclose(np.sum(gradient * weights), steps[0], rtol=1e-4, atol=1e-4)
        check_eager(f, x, value, gradient)
        if native:
            check_native(f, x, value, gradient)
    except Exception as error:
        raise AssertionError(f"seed {seed}: {error}\n{source}") from error


NATIVE_EVERY = 10
"""Compiling takes most of the time of a program: so many are checked by the sweeps and eagerly for one in machine code, too."""


@pytest.mark.parametrize("seeds", [range(20), *(pytest.param(range(k, k + 500), marks=pytest.mark.slow)
                                                for k in range(0, 10_000, 500))],
                         ids=lambda seeds: f"{seeds[0]} to {seeds[-1]}")
def test_random_programs(seeds, monkeypatch):
    for seed in seeds:
        native = seed % NATIVE_EVERY == 1
        monkeypatch.setenv("TAPE_NATIVE", "always" if native else "0")
        check_program(seed, native)


@pytest.mark.parametrize("view", [lambda y: np.broadcast_to(y, (3, 3)), lambda y: np.diagonal(np.outer(y, y)),
                                  lambda y: np.broadcast_arrays(y, np.ones((2, 1)))[0],
                                  lambda y: np.broadcast_to(y, (3, 3))[1:].T])
def test_a_read_only_view_refuses_what_numpy_refuses(view):
    def f(x):
        y = view(x * 1.0)
        y += 1.0
        return np.sum(y)

    with pytest.raises(ValueError, match=r"test_writers\.py.*read-only"):
        tape.grad(f)(X)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda y: copy.deepcopy({"y": [y]})["y"][0]])
def test_copies_share_nothing(copied):
    def f(x):
        y = x * 1.0
        c = copied(y)
        c *= 3
        return np.sum(c * y)

    np.testing.assert_allclose(tape.grad(f)(X), 6 * X)


def test_one_array_given_twice_and_changed():
    def f(a, b):
        a[0] = b[1] * 2
        b[1] = a[0] * a[1]
        return np.sum(a * b)

    g = tape.value_and_grad(f, argnums=(0, 1))
    y = X + 1
    for first, second in ((y, y), (y, y.copy()), (y, y)):  # the second call must not take the list of the first
        z = first.copy()
        want = f(z, z if second is first else second.copy())
        value, gradients = g(first, second)
        np.testing.assert_allclose(value, want)
        if second is first:
            assert not gradients[1].any()  # the memory is one, and stands under the first argument
    with pytest.raises(tape.NotDifferentiable, match="overlap in memory"):
        g(y, y[::-1])


@pytest.mark.parametrize("y", [lambda a: None, lambda a: {"y": a * np.ones(2)}])
def test_a_scan_of_no_steps(y):
    def f(a):
        carry, ys = tape.scan(lambda c, t: (c * a + t, y(a)), a, np.zeros(0))
        return carry + (0.0 if ys is None else np.sum(ys["y"]))

    assert f(1.3) == 1.3
    assert tape.grad(f)(1.3) == 1.0
