"""Derivatives of jitted functions: every kind, called from Python, from nopython mode, and inside each other."""

import collections
import gc
import math
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest
from numba import njit, prange
from numba.core.runtime import _nrt_python, rtsys

import tape
from compiled.active.checkpoints import binomial_reach, steps_computed
from compiled.active.workspace import BUSY, HEADERS


@njit
def rosenbrock(x):
    s = 0.0
    for i in range(x.shape[0] - 1):
        s += 100.0 * (x[i + 1] - x[i] ** 2) ** 2 + (1.0 - x[i]) ** 2
    return s


def rosenbrock_gradient(x):
    gradient = np.zeros_like(x)
    inner = x[1:] - x[:-1] ** 2
    gradient[:-1] = -400 * x[:-1] * inner - 2 * (1 - x[:-1])
    gradient[1:] += 200 * inner
    return gradient


@njit
def pendulum(x, p):
    out = np.empty(2)
    out[0] = x[1]
    out[1] = -p * np.sin(x[0])
    return out


@njit
def two(a, b):
    return a * b, a / b


X = np.linspace(0.2, 0.9, 5)


def busy_workspaces():
    return int(HEADERS[1:, 0].sum())


# ------------------------------------------------------------------ first order


def test_gradient_of_rosenbrock():
    value, gradient = tape.value_and_grad(rosenbrock)(X)
    assert value == rosenbrock(X)
    np.testing.assert_allclose(gradient, rosenbrock_gradient(X), rtol=1e-13)


def test_argnums_keywords_and_defaults():
    @njit
    def f(x, y=2.0, n=3):
        return n * x * y

    assert tape.grad(f)(5.0) == 6.0
    assert tape.grad(f, (0, 1))(5.0, 3.0) == (9.0, 15.0)
    assert tape.grad(f, 1)(5.0, y=1.0, n=2) == 10.0
    assert tape.value_and_grad(f, (1,))(2.0, 3.0) == (18.0, (6.0,))
    with pytest.raises(tape.NotDifferentiable, match="counted from 0"):
        tape.grad(f, 3)


def test_structures_of_arguments():
    Point = collections.namedtuple("Point", "a b")

    @njit
    def f(point, pair, x):
        return point.a * x + point.b[0] * point.b[1] + pair[0] * pair[1][0]

    got = tape.grad(f, (0, 1, 2))(Point(2.0, np.array([3.0, 4.0])), (5.0, (6.0,)), 7.0)
    assert got[0].a == 7.0
    assert got[0].b.tolist() == [4.0, 3.0]
    assert got[1:] == ((6.0, (5.0,)), 2.0)


def test_float32_arguments_have_float32_gradients():
    @njit
    def f(x):
        s = np.float32(0)
        for i in range(x.size):
            s += x[i] * x[i]
        return s

    x = np.arange(4, dtype=np.float32)
    value, gradient = tape.value_and_grad(f)(x)
    assert value == f(x)
    assert gradient.dtype == np.float32
    assert gradient.tolist() == [0.0, 2.0, 4.0, 6.0]


def test_views_and_empty_arrays():
    matrix = np.arange(12.0).reshape(3, 4)
    f = njit(lambda x: np.sum(x * x))
    for view in (matrix[::2, 1:], matrix.T, matrix[:0]):
        np.testing.assert_array_equal(tape.grad(f)(view), 2 * view)


def test_kinks_take_the_side_of_the_table():
    assert tape.grad(njit(lambda x: abs(x)))(0.0) == 0.0
    assert tape.grad(njit(lambda x: max(x, 0.0)))(0.0) == 0.5
    assert tape.grad(njit(lambda x: math.sqrt(x) * 0.0))(0.0) == 0.0
    assert math.isinf(tape.grad(njit(lambda x: math.sqrt(x)))(0.0))


def test_constants_and_unused_arguments_have_zero_gradients():
    assert tape.grad(njit(lambda x, y: x), 1)(1.0, 2.0) == 0.0
    assert tape.value_and_grad(njit(lambda x: 3.0))(1.0) == (3.0, 0.0)


# ------------------------------------------------------------------ matrices and products


@pytest.mark.parametrize("mode", [None, "forward", "reverse"])
def test_jacobians(mode):
    x = np.array([0.3, 0.4])
    by_x, by_p = tape.jacobian(pendulum, (0, 1), mode)(x, 2.0)
    np.testing.assert_allclose(by_x, [[0, 1], [-2 * np.cos(0.3), 0]], rtol=1e-14)
    np.testing.assert_allclose(by_p, [0, -np.sin(0.3)], rtol=1e-14)
    assert tape.jacobian(two, (0, 1), mode)(2.0, 4.0) == ((4.0, 2.0), (0.25, -0.125))
    wide = njit(lambda x: np.outer(x, x))
    got = tape.jacobian(wide, 0, mode)(np.arange(1.0, 8.0))
    eye, v = np.eye(7), np.arange(1.0, 8.0)
    np.testing.assert_allclose(got, eye[:, None, :] * v[None, :, None] + eye[None, :, :] * v[:, None, None])


def test_products_and_hessian():
    v = np.arange(5.0)
    expected = tape.hessian(lambda x: np.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2))(X)
    np.testing.assert_allclose(tape.hessian(rosenbrock)(X), expected, rtol=1e-12)
    np.testing.assert_allclose(tape.hvp(rosenbrock)(X, v), expected @ v, rtol=1e-12)
    np.testing.assert_allclose(tape.hessian_operator(rosenbrock, X) @ v, expected @ v, rtol=1e-12)
    value, tangent = tape.jvp(rosenbrock, (X,), (v,))
    assert value == rosenbrock(X)
    np.testing.assert_allclose(tangent, rosenbrock_gradient(X) @ v, rtol=1e-12)
    value, pullback = tape.vjp(pendulum, np.array([0.3, 0.4]), 2.0)
    first, second = pullback(np.array([1.0, 1.0])), pullback(np.array([0.0, 1.0]))
    np.testing.assert_allclose(first[0], [-2 * np.cos(0.3), 1.0])
    np.testing.assert_allclose(second[0], [-2 * np.cos(0.3), 0.0])
    np.testing.assert_allclose([first[1], second[1]], -np.sin(0.3))


def test_check_grads_takes_jitted_functions():
    tape.check_grads(rosenbrock, (X,))

    @tape.operation
    @njit
    def wrong(x):
        return x * x

    @wrong.bprop
    def _(g, out, x):
        return g * x

    with pytest.raises(AssertionError, match="adjoint of argument"):
        tape.check_grads(wrong, (1.0,), order=1, modes=("reverse",))


# ------------------------------------------------------------------ derivatives of derivatives


@njit
def inner(y, a):
    return (y - a) ** 4 + 0.5 * y * y


slope = tape.grad(inner)
curvature = tape.hvp(inner)


@njit
def descended(a):
    """The end of a gradient descent, as a function of a parameter."""
    y = 0.0
    for _ in range(30):
        y -= 0.05 * slope(y, a)
    return y * y


@njit
def newton(a):
    """The root of the slope, by Newton's method."""
    y = 0.0
    for _ in range(30):
        step = slope(y, a) / curvature(y, a, 1.0)
        y -= step
        if abs(step) < 1e-14:
            break
    return y


def central(f, x, h=1e-5):
    return (f(x + h) - f(x - h)) / (2 * h)


@pytest.mark.parametrize("f", [descended, newton])
def test_derivatives_inside_differentiated_functions(f):
    reverse = tape.grad(f)(0.7)
    np.testing.assert_allclose(reverse, central(f, 0.7), rtol=1e-7)
    np.testing.assert_allclose(tape.jvp(f, (0.7,), (1.0,))[1], reverse, rtol=1e-10)
    np.testing.assert_allclose(tape.hvp(f)(0.7, 1.0), central(tape.grad(f), 0.7), rtol=1e-6)


def test_all_combinations_of_modes():
    f = njit(lambda x: x**3 * math.sin(x))
    exact = 6 * 0.7 * math.sin(0.7) + 6 * 0.7**2 * math.cos(0.7) - 0.7**3 * math.sin(0.7)
    gradient = tape.grad(f)

    @njit
    def tangent(x):
        return tape.jvp(f, (x,), (1.0,))[1]

    for second in (tape.grad(gradient)(0.7), tape.jvp(gradient, (0.7,), (1.0,))[1], tape.grad(tangent)(0.7),
                   tape.jvp(tangent, (0.7,), (1.0,))[1]):
        np.testing.assert_allclose(second, exact, rtol=1e-12)
    third = tape.grad(tape.grad(gradient))(0.7)
    np.testing.assert_allclose(third, central(tape.grad(gradient), 0.7), rtol=1e-8)


def test_a_derivative_does_not_see_the_numbers_of_the_one_outside():
    inner_gradient = tape.grad(njit(lambda y, x: x * y))
    f = njit(lambda x: x * inner_gradient(2.0, x))
    assert tape.grad(f)(3.0) == 6.0


# ------------------------------------------------------------------ nopython mode, threads, memory


energy = njit(lambda q, k: 0.5 * k * np.sum(q * q))
denergy = tape.grad(energy)


@njit(parallel=True)
def gradients(rows, k):
    out = np.empty(rows.shape)
    for i in prange(rows.shape[0]):
        out[i] = denergy(rows[i], k)
    return out


def test_every_kind_in_nopython_mode():
    jacobian, hessian, hvp = tape.jacobian(pendulum), tape.hessian(rosenbrock), tape.hvp(rosenbrock)
    both = tape.value_and_grad(rosenbrock)

    @njit
    def use(x, p, y):
        value, tangent = tape.jvp(pendulum, (x, p), (np.ones_like(x), 1.0))
        same, back = tape.vjp(pendulum, x, p)
        return value, tangent, same, back(np.ones_like(x)), back(x), jacobian(x, p), hessian(y), hvp(y, y), both(y)

    x = np.array([0.1, 0.2])
    value, tangent, same, first, second, matrix, hessian_, product, (number, gradient) = use(x, 2.0, X)
    np.testing.assert_array_equal(value, pendulum(x, 2.0))
    np.testing.assert_array_equal(same, value)
    np.testing.assert_allclose(tangent, matrix @ np.ones(2) + [0.0, -np.sin(0.1)])
    np.testing.assert_allclose(first[0], np.ones(2) @ matrix)
    np.testing.assert_allclose(second[0], x @ matrix)
    np.testing.assert_allclose(product, hessian_ @ X)
    np.testing.assert_allclose(gradient, rosenbrock_gradient(X))
    assert number == rosenbrock(X)


def test_in_parallel_loops():
    rows = np.random.default_rng(3).random((1000, 5))
    np.testing.assert_array_equal(gradients(rows, 2.0), 2.0 * rows)


def test_eight_threads_get_the_results_of_one():
    rows, wrong = np.random.default_rng(4).random((8, 5)), []
    denergy(rows[0], 2.0)

    def work(row):
        for _ in range(20_000):
            if not np.array_equal(denergy(row, 2.0), 2.0 * row):
                wrong.append(row)

    threads = [threading.Thread(target=work, args=(row,)) for row in rows]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert busy_workspaces() == 0


@njit
def long_decay(x, n):
    for _ in range(n):
        x = 0.999999 * x + 1e-9
    return x


def test_lists_grow_and_workspaces_are_used_again():
    gradient = tape.grad(long_decay)
    for n in (10, 1_000_000, 10):
        np.testing.assert_allclose(gradient(1.0, n), 0.999999**n, rtol=1e-9)
    buffers = HEADERS[1:, 4].copy()
    gradient(1.0, 500_000)
    np.testing.assert_array_equal(HEADERS[1:, 4], buffers)


def test_calls_do_not_leak():
    f = njit(lambda x: np.sum(np.outer(x, x) @ np.exp(x)) + np.sum(np.concatenate((x, 2 * x)).reshape(2, -1)[1]))
    gradient = tape.grad(f)

    def work():
        gradient(X)
        tape.jvp(f, (X,), (X,))

    work()
    gc.collect()
    _nrt_python.memsys_enable_stats()
    try:
        before = rtsys.get_allocation_stats()
        for _ in range(50):
            work()
        after = rtsys.get_allocation_stats()
    finally:
        _nrt_python.memsys_disable_stats()
    assert after.alloc - before.alloc == after.free - before.free > 0


def test_a_limit_says_how_much_was_needed():
    gradient = tape.grad(long_decay)
    tape.workspace_limit(1_000_000)
    try:
        # A list that has been written keeps its room; a longer one may not grow past the limit.
        with pytest.raises(tape.CapacityError, match=r"5200\d{4} bytes, more than tape.workspace_limit"):
            gradient(1.0, 4_000_000)
    finally:
        tape.workspace_limit(None)
    assert busy_workspaces() == 0
    np.testing.assert_allclose(gradient(1.0, 4_000_000), 0.999999**4_000_000, rtol=1e-9)


def test_exceptions_of_the_function_pass_through():
    @njit
    def f(x):
        if x < 0:
            raise ValueError("negative")
        return 1 / x

    with pytest.raises(ValueError, match="negative"):
        tape.grad(f)(-1.0)
    with pytest.raises(ZeroDivisionError):
        tape.grad(f)(0.0)
    assert tape.grad(f)(2.0) == -0.25
    assert busy_workspaces() == 0


# ------------------------------------------------------------------ errors


def test_errors_name_the_line_and_the_remedy():
    @njit
    def kept_in_plain(x, out):
        out[0] = x * x
        return out[0]

    with pytest.raises(tape.NotDifferentiable, match=r"(?s)create the array inside the function.*test_jitted.py.*out\[0\] = x"):
        tape.grad(kept_in_plain)(1.0, np.zeros(1))
    assert tape.grad(kept_in_plain, (0, 1))(3.0, np.zeros(1))[0] == 6.0
    with pytest.raises(tape.NotDifferentiable, match="for other results"):
        tape.grad(pendulum)(np.ones(2), 1.0)
    with pytest.raises(tape.NotDifferentiable, match="argument 0 cannot be differentiated"):
        tape.grad(rosenbrock)(np.arange(3))
    with pytest.raises(tape.NotDifferentiable, match="named ones"):
        tape.grad(njit(lambda *x: x[0]))
    with pytest.raises(tape.NotDifferentiable, match="recorded array"):
        tape.grad(lambda x: rosenbrock(x))(X)
    with pytest.raises(ValueError, match="another shape"):
        tape.hvp(rosenbrock)(X, np.ones(3))


@pytest.mark.parametrize(("function", "name"), [
    (lambda x: np.sum(np.nan_to_num(x)), "nan_to_num"), (lambda x: np.sum(np.heaviside(x, 0.5)), "heaviside"),
    (lambda x: np.percentile(x, 30.0), "percentile")])
def test_functions_without_a_derivative_are_refused_in_words(function, name):
    with pytest.raises(tape.NotDifferentiable, match=rf"{name} of these arguments has no .*\n.*test_jitted.py") as refused:
        tape.grad(njit(function))(X)
    assert "Overload" not in str(refused.value)  # nothing of Numba's search


def test_a_seed_or_tangent_of_another_shape_leaves_nothing_behind():
    """No workspace at work, and no adjoint that the next call would add to its own."""
    @njit
    def pair(x):
        return x * x, np.sin(x)

    pull, product = tape.vjp(pair, X)[1], tape.hvp(rosenbrock)
    before, (expected,) = np.count_nonzero(HEADERS[1:, BUSY]), pull((np.ones(X.size), np.ones(X.size)))
    for _ in range(3):
        with pytest.raises(ValueError, match="another shape"):
            pull((np.full(X.size, 1e9), np.ones(X.size + 1)))
        with pytest.raises(ValueError, match="another shape"):
            product(X, np.ones(X.size + 1))
        np.testing.assert_array_equal(pull((np.ones(X.size), np.ones(X.size)))[0], expected)
    assert np.count_nonzero(HEADERS[1:, BUSY]) == before


# ------------------------------------------------------------------ lists, operations, checkpoints, scans


def test_recorded_list_guards_its_branches():
    @njit
    def f(x, n):
        s = 0.0
        for i in range(n):
            s += math.sin(x[i]) if x[i] > 0.5 else int(3 * x[i]) * x[i]
        return s

    x = np.array([0.3, 0.7, 0.9])
    t = tape.record(f, x, 3)
    assert t.forward(x, 3) == f(x, 3)
    t.reverse()
    np.testing.assert_allclose(t.gradients[0], tape.grad(f)(x, 3))
    assert "test_jitted.py" in str(t)
    t.check()
    with pytest.raises(tape.GuardFailed, match="record again"):
        t.forward(x[::-1].copy(), 3)


def test_recorded_results_that_are_arrays(tmp_path):
    t = tape.record(pendulum, np.array([0.3, 0.4]), 2.0)
    t.save(tmp_path / "list.npz")
    for again in (t, tape.load(tmp_path / "list.npz")):
        np.testing.assert_allclose(again.forward(np.array([0.5, 0.6]), 3.0), pendulum(np.array([0.5, 0.6]), 3.0), rtol=1e-15)


@tape.operation
@njit
def clipped(x):
    """The identity; its rule clips the adjoint, which no derivative of its body would."""
    return x * 1.0


@clipped.bprop
def _(grad, out, x):
    return np.minimum(grad, 1.0)


@clipped.jvp
def _(tangents, out, x):
    return tangents[0]


@tape.operation
@njit
def scaled(a, x, times):
    return a * x * times


@scaled.bprop
def _(grad, out, a, x, times):
    return np.sum(grad * x) * times, grad * a * times, 0


def test_operations_follow_their_rules():
    assert tape.grad(njit(lambda x: 10.0 * clipped(x * x)))(3.0) == 6.0
    np.testing.assert_array_equal(tape.grad(njit(lambda x: np.sum(clipped(5.0 * x))))(X), np.full(5, 5.0))
    assert clipped(2.0) == 2.0
    assert tape.jvp(clipped, (2.0,), (3.0,)) == (2.0, 3.0)
    f = njit(lambda a, x: np.sum(scaled(a, x, 2) ** 2))
    by_a, by_x = tape.grad(f, (0, 1))(1.5, X)
    np.testing.assert_allclose(by_a, 8 * 1.5 * np.sum(X * X))
    np.testing.assert_allclose(by_x, 8 * 1.5**2 * X)
    twice = njit(lambda x: scaled(x[0], x, 1)[0])
    np.testing.assert_allclose(tape.grad(twice)(np.array([3.0])), [6.0])
    with pytest.raises(tape.NotDifferentiable, match=r"scaled\.jvp"):
        tape.jvp(f, (1.5, X), (1.0, X))
    with pytest.raises(tape.NotDifferentiable, match="rule of its own"):
        tape.record(f, 1.5, X)


@njit
def many_steps(x):
    for _ in range(1000):
        x = x - 0.001 * x * x
    return x


def test_checkpoints_change_nothing_but_the_memory():
    kept = tape.checkpoint(many_steps)
    plain, checkpointed = njit(lambda x: many_steps(many_steps(x))), njit(lambda x: kept(kept(x)))
    assert tape.value_and_grad(checkpointed)(1.0) == tape.value_and_grad(plain)(1.0)
    np.testing.assert_allclose(tape.hvp(checkpointed)(1.0, 1.0), tape.hvp(plain)(1.0, 1.0), rtol=1e-12)
    np.testing.assert_allclose(tape.jvp(checkpointed, (1.0,), (1.0,)), tape.jvp(plain, (1.0,), (1.0,)), rtol=1e-14)


@njit
def oscillator_step(carry, x):
    q, p, k = carry
    p = p - 0.001 * k * q
    return (q + 0.001 * p, p, k), None


@njit
def oscillator(k, n, kept):
    (q, p, _), _ = tape.scan(oscillator_step, (1.0, 0.0, k), None, n, kept)
    return q * q + p * p


@njit
def oscillator_loop(k, n):
    q, p = 1.0, 0.0
    for _ in range(n):
        p = p - 0.001 * k * q
        q = q + 0.001 * p
    return q * q + p * p


@pytest.mark.parametrize("kept", [0, 1, 2, 5])
@pytest.mark.parametrize("n", [1, 2, 1365, 1366, 20_000])
def test_scans_are_the_loop(n, kept):
    assert oscillator(2.0, n, kept) == oscillator_loop(2.0, n)
    np.testing.assert_allclose(tape.grad(oscillator)(2.0, n, kept), tape.grad(oscillator_loop)(2.0, n), rtol=1e-11)


@njit
def forced_step(u, x):
    u = u + 0.1 * x * np.sin(u)
    return u, u.sum()


@njit
def forced(u, xs):
    last, ys = tape.scan(forced_step, u, xs)
    return np.sum(last * last) + np.sum(ys * ys)


@njit
def forced_loop(u, xs):
    s = 0.0
    for i in range(len(xs)):
        u = u + 0.1 * xs[i] * np.sin(u)
        s += u.sum() ** 2
    return s + np.sum(u * u)


def test_scans_with_inputs_results_and_arrays():
    u, xs = np.array([0.1, 0.2, 0.3]), np.linspace(0.0, 1.0, 7)
    for got, expected in zip(tape.grad(forced, (0, 1))(u, xs), tape.grad(forced_loop, (0, 1))(u, xs), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-12)
    np.testing.assert_allclose(tape.hessian(forced)(u, xs), tape.hessian(forced_loop)(u, xs), rtol=1e-12)
    last, ys = tape.scan(forced_step, u, xs)
    assert ys.shape == (7,)
    np.testing.assert_array_equal(ys[-1], last.sum())
    with pytest.raises(tape.NotDifferentiable, match="a length"):
        tape.scan(oscillator_step, (1.0, 0.0, 1.0))


@pytest.mark.parametrize("states", [1, 2, 3, 5, 10])
@pytest.mark.parametrize("steps", [1, 2, 7, 50, 300])
def test_scans_compute_no_more_steps_than_the_textbook(steps, states):
    """Proposition 1 of Griewank & Walther (2000): r l - C(s + r, r - 1) steps beyond recording each, r minimal."""
    repeats = 0
    while binomial_reach(states, repeats) < steps:
        repeats += 1
    optimum = repeats * steps - math.comb(states + repeats, repeats - 1) if repeats else 0
    assert steps_computed(steps, states) == optimum


# ------------------------------------------------------------------ the cache on disk


def test_derivatives_are_cached_where_the_function_is(tmp_path):
    (tmp_path / "user.py").write_text(textwrap.dedent("""
        import numba, tape, math

        @numba.njit(cache=True)
        def f(x):
            return math.sin(x) * x

        g = tape.grad(f)
        print(g(2.0), sum(g.stats.cache_hits.values()), sum(g.stats.cache_misses.values()))
    """))
    runs = [subprocess.run([sys.executable, "user.py"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout.split()
            for _ in range(2)]
    assert runs[0][0] == runs[1][0]
    assert [run[1:] for run in runs] == [["0", "1"], ["1", "0"]]


def test_a_statement_of_many_terms():
    terms = " + ".join(f"{k + 1}.0 * x[{k}] * x[{(k + 1) % 300}]" for k in range(300))
    space = {}
    exec(f"def f(x):\n    return {terms}\n", space)
    x, weights = np.linspace(0.5, 1.5, 300), np.arange(1.0, 301.0)
    expected = weights * np.roll(x, -1) + np.roll(weights * x, 1)
    np.testing.assert_allclose(tape.grad(njit(space["f"]))(x), expected, rtol=1e-13)


def test_a_parameter_of_a_loop_that_is_computed_before_it():
    """Its adjoint is kept in a register until the sweep has left the loop."""

    @njit
    def f(u, a):
        rate = a * a
        other = 2.0 * a
        for k in range(20):
            for i in range(1, u.shape[0] - 1):
                u[i] = u[i] + rate * (u[i - 1] - u[i] + u[i + 1])
            if k % 3 == 0:
                rate = rate * 0.9 + 0.01 * other
            u[0] = u[0] * other * rate + u.sum() * 1e-3
        return np.sum(u * u)

    np.testing.assert_allclose(tape.grad(f, (0, 1))(X.copy(), 0.4)[1], central(lambda a: f(X.copy(), a), 0.4, 1e-6), rtol=1e-7)


@njit
def _fill(values, x):
    for k in range(len(values)):
        values[k] += k * x * x


@njit
def _repeated(x):
    values = [0.0] * 3
    values[1] = x * x
    return values[1] * x + values[0]


@njit
def _written_out(x):
    values = [1.0, 2.0]
    values[0] *= x
    return values[0] * values[1] * x * x / 2.0


@njit
def _comprehension(x):
    values = [0.0 for _ in range(3)]
    values[2] = x**3
    return values[2] + values[1]


@njit
def _appended(x):
    values = []
    values.append(0.0)
    values.append(x)
    return values[1] ** 3 + values[0]


@njit
def _filled_elsewhere(x):
    values = [0.0] * 2
    _fill(values, x)
    _fill(values, x)
    return values[1] * x / 2.0


@njit
def _chosen(x):
    places = [0] * 3
    places[0] += 1
    values = [0.0] * 3
    values[places[0]] = x * x
    return values[1] * x


@pytest.mark.parametrize("f", [_repeated, _written_out, _comprehension, _appended, _filled_elsewhere, _chosen])
def test_lists_of_plain_numbers_are_written_into(f):
    assert f(1.5) == 1.5**3
    assert tape.grad(f)(1.5) == pytest.approx(3 * 1.5**2)
    assert tape.hessian(f)(1.5) == pytest.approx(6 * 1.5)


def test_real_parts_and_complex_numbers():
    real = njit(lambda x: x.real * x + x.imag)
    assert tape.grad(real)(1.5) == 3.0
    assert tape.hessian(real)(1.5) == 2.0
    for f in (njit(lambda x: (x + 0.0j).real), njit(lambda x: abs(2.0j * x)), njit(lambda x: (x**1j).real)):
        with pytest.raises(tape.NotDifferentiable, match="complex"):
            tape.grad(f)(1.5)


def test_results_that_may_be_none():
    @njit
    def f(x):
        if x < 0.0:
            return None
        return x * x

    assert tape.value_and_grad(f)(1.5) == (2.25, 3.0)
    assert tape.jvp(f, (1.5,), (1.0,)) == (2.25, 3.0)
    assert tape.hessian(f)(1.5) == 2.0
    for derivative in (tape.grad(f), tape.hessian(f), lambda x: tape.jvp(f, (x,), (1.0,))):
        with pytest.raises(TypeError, match="None"):
            derivative(-1.0)


def test_products_with_parameters_left_to_their_defaults():
    f = njit(lambda x, n=0.5: x * x * n)
    assert tape.jvp(f, (1.5,), (1.0,)) == (1.125, 1.5)
    value, back = tape.vjp(f, 1.5)
    assert (value, back(1.0)) == (1.125, (1.5,))


def test_numbers_looked_for_in_tuples():
    f = njit(lambda x, y: x * x if x in (y, 2.0 * y, 3) else 5.0 * x)
    assert tape.grad(f)(4.0, 2.0) == 8.0
    assert tape.grad(f)(3.0, 2.0) == 6.0
    assert tape.grad(f)(5.0, 2.0) == 5.0


@pytest.mark.parametrize("x", [0.5, 2.5, 7.0])
def test_extremes_of_tuples(x):
    assert tape.grad(njit(lambda x, y: x * min((x, y, 3.0))))(x, 2.0) == (2 * x if x < 2 else 2.0)
    assert tape.grad(njit(lambda x, y: x * max((5, y, x))))(x, 2.0) == (2 * x if x > 5 else 5.0)


def test_branches_for_arguments_that_are_none_are_not_compiled():
    @njit
    def squares(x, out=None):
        if out is None:
            out = np.zeros(x.size)
        else:
            out[:] = 0.0
        for k in range(x.size):
            out[k] += x[k] * x[k]
        return out

    x = np.array([1.0, 2.0, 3.0])
    for f in (njit(lambda x: squares(x).sum()), njit(lambda x: squares(x, None).sum())):
        np.testing.assert_array_equal(tape.grad(f)(x), 2 * x)
        np.testing.assert_array_equal(tape.hessian(f)(x), 2 * np.eye(3))
