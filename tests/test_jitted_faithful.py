"""Derivatives of jitted functions keep the plain function's values, the table's kinks, and their hands off unwritten memory."""

import math
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numba import float32, njit, types

import tape
from compiled.active.workspace import ADJOINT_BYTES, BUSY, HEADERS, PARTIAL_BYTES

FLAGS = (True, {"reassoc", "nsz"}, {"nnan", "ninf"}, {"contract", "arcp", "afn"})


def all_kernels(x, y):
    return x**y + x**-7 + math.exp(x) * math.erf(x) + math.tan(x) * math.log(x) ** 3 + math.gamma(x) + np.hypot(x, y)


@pytest.mark.parametrize("flags", FLAGS, ids=["all", "reassoc nsz", "nnan ninf", "contract arcp afn"])
def test_flags_of_fast_mathematics_do_not_reach_our_kernels(flags):
    fast, exact = njit(fastmath=flags)(all_kernels), njit(all_kernels)
    assert tape.grad(fast, (0, 1))(1.3, 2.2) == tape.grad(exact, (0, 1))(1.3, 2.2)
    code, wanted = ("".join(tape.grad(f, (0, 1)).inspect_llvm().values()) for f in (fast, exact))
    for flag in (" fast ", " reassoc ", " nnan ", " contract ", " arcp ", " afn "):
        assert code.count(flag) == wanted.count(flag)


def test_files_on_disk_tell_options_apart():
    from tape.jitted.derivatives import _computes

    def f(x):
        return x / (x - 1.0)

    keys = {_computes(njit(**options)(f)) for options in (
        {}, {"error_model": "numpy"}, {"boundscheck": True}, {"locals": {"x": float32}})}
    assert len(keys) == 4


UNWRITTEN = """
import numpy as np, tape
from numba import njit
def f(x):
    K = np.empty((2, 2)); K[0, 0] = x; K[1, 0] = x * x; K[1, 1] = 3 * x
    L = np.empty_like(K); L[0, 0] = x
    K = K * 1.0 + 0.0 * np.where(np.isnan(L), 0.0, 0.0)
    return K[0, 0] + K[1, 0]
f = njit(f)
print(tape.grad(f)(2.0), tape.jacobian(f, mode="forward")(2.0), tape.hessian(f)(2.0), tape.jvp(f, (2.0,), (1.0,))[1])
"""


def test_cells_that_nobody_wrote():
    done = subprocess.run([sys.executable, "-c", UNWRITTEN], capture_output=True, text=True,
                          env={**os.environ, "MALLOC_PERTURB_": "165"})
    assert done.stdout.split() == ["5.0", "5.0", "2.0", "5.0"], done.stderr


def test_forward_jacobian_with_a_branch_in_a_batch():
    g = njit(lambda z: z * z[0] if z[0] > 0.0 else -z)
    x = np.array([[1.0, 2.0], [-1.0, 3.0]])
    np.testing.assert_array_equal(tape.batch(tape.jacobian(g, mode="forward"))(x), [tape.jacobian(g)(v) for v in x])


KNOTS, HEIGHTS = np.array([0.0, 0.5, 1.0]), np.array([1.0, 3.0, 4.0])
KINKS = {
    "clip": (lambda v: np.sum(np.clip(v, 0.0, 1.0)), np.array([-0.5, 0.0, 0.5, 1.0, 2.0])),
    "interp": (lambda v: np.sum(np.interp(v, KNOTS, HEIGHTS)), np.array([-1.0, 0.0, 0.2, 0.5, 1.0, 2.0])),
    "max": (lambda v: np.max(v), np.array([1.0, 3.0, 3.0, 3.0])),
    "min": (lambda v: np.min(v), np.array([1.0, 1.0, 3.0])),
    "std": (lambda v: np.std(v), np.ones(3)),
    "maximum": (lambda v: np.sum(np.maximum(v, v[::-1])), np.array([1.0, 2.0, 1.0])),
    "abs": (lambda v: np.sum(np.abs(v)), np.array([0.0, -0.0, 1.0])),
    "hypot": (lambda v: np.hypot(v[0], v[1]), np.zeros(2)),
    "fmax": (lambda v: np.fmax(v[0], v[1]), np.ones(2)),
    "median": (lambda v: np.median(v), np.array([3.0, 1.0, 2.0])),
    "median of an even number": (lambda v: np.median(v * v) * v[0], np.array([3.0, 1.0, 2.0, -4.0])),
    "median of a matrix": (lambda v: np.median(np.outer(v, v)), np.array([3.0, 1.5, 2.0])),
    "median at a tie": (lambda v: np.median(v), np.array([1.0, 2.0, 2.0, 5.0])),
}


@pytest.mark.parametrize("name", KINKS)
def test_kinks_are_those_of_the_table(name):
    f, x = KINKS[name]
    value, gradient = tape.value_and_grad(f)(x)
    got, jitted = tape.value_and_grad(njit(f))(x)
    assert got == value
    np.testing.assert_allclose(jitted, gradient, rtol=1e-15, atol=1e-15)


@pytest.mark.parametrize("a", [np.array([2.0, 1.0]), np.zeros(0), np.array([1.5, 0.1, 0.3, 0.7], np.float32),
                               np.array([3, np.inf, 1.0])], ids=["two", "none", "float32", "infinite"])
def test_the_median_has_the_value_of_the_plain_function(a):
    f = njit(lambda v: np.median(v))
    value, gradient = tape.value_and_grad(f)(a)
    np.testing.assert_array_equal(value, f(a))
    assert gradient.dtype == a.dtype
    if a.dtype == float:
        with pytest.raises(ValueError, match="median of NaN"):
            tape.grad(f)(np.array([np.nan, 1.0, 2.0]))


SINGLE = np.random.default_rng(0).standard_normal(1001).astype(np.float32)
MATRIX = SINGLE[:16].reshape(4, 4).copy()
FLOAT32 = {
    "sum": (lambda a: np.sum(a), SINGLE), "mean": (lambda a: np.mean(a), SINGLE), "var": (lambda a: np.var(a), SINGLE),
    "std": (lambda a: np.std(a), SINGLE), "prod": (lambda a: np.prod(a), SINGLE), "dot": (lambda a: np.dot(a, a), SINGLE),
    "cumsum": (lambda a: np.cumsum(a)[-3], SINGLE), "cumprod": (lambda a: np.cumprod(a)[20], SINGLE),
    "outer": (lambda m: np.sum(np.outer(m[0], m[1])), MATRIX), "matmul": (lambda m: np.sum(m @ m), MATRIX),
    "cross": (lambda m: np.sum(np.cross(m[0, :3], m[1, :3])), MATRIX),
    "clip": (lambda a: np.sum(np.clip(a, -0.3, 0.7)), SINGLE),
    "scalar": (lambda v: np.float32(v[0]) * v[1], np.array([0.1, 0.7])),
    "masks": (lambda v: np.sum(v * ((v > 0) + (v > -5))), np.array([1.0, -2.0, 3.0])),
}


@pytest.mark.parametrize("name", FLOAT32)
def test_values_are_the_plain_functions(name):
    f, x = FLOAT32[name]
    f = njit(f)
    assert tape.value_and_grad(f)(x)[0] == f(x)


def test_masks_with_a_name_are_masks():
    @njit
    def f(v):
        mask = (v > 0) + (v > -5)
        return np.sum(v * mask)

    x = np.array([1.0, -2.0, 3.0])
    assert tape.value_and_grad(f)(x)[0] == f(x)


@pytest.mark.parametrize("declared", [{"t": float32, "u": float32}, {"u": types.float64}], ids=str)
def test_declared_types_of_names(declared):
    @njit(locals=declared)
    def f(x, y):
        t = x * y
        u = t * 3.7 + x
        for _ in range(3):
            t = t * u
        return t * u

    value, gradient = tape.value_and_grad(f)(0.3, 0.7)
    assert value == f(0.3, 0.7)
    np.testing.assert_allclose(gradient, tape.grad(njit(f.py_func))(0.3, 0.7), rtol=1e-5)


def renamed(x):
    t = x
    return x * t


def beside_another(x):
    s = math.log1p(x * x)
    t = 1.0 / (1.5 + np.square(s))
    return s + t


def read_twice(x):
    a = np.array([x, x * x])
    t = a[0]
    u = a[0]
    return t * u


def a_constant(x):
    t = 0.1
    return t * x + x**t


@pytest.mark.parametrize("f", [renamed, beside_another, read_twice, a_constant])
@pytest.mark.parametrize("kind", [float32, types.float64], ids=str)
def test_a_name_of_declared_type_is_no_other_name_of_its_value(f, kind):
    declared = njit(locals={"t": kind})(f)
    value, gradient = tape.value_and_grad(declared)(0.3)
    assert value == declared(0.3)
    np.testing.assert_allclose(gradient, tape.grad(njit(f))(0.3), rtol=1e-5)
    np.testing.assert_allclose(tape.jacobian(declared, mode="forward")(0.3), gradient, rtol=1e-6)


AT_LAST = ["np.sum(c * t)", "np.sum(np.where(c > 0.5, t, c))", "np.sum(np.clip(c, -t, t))", "np.sum(c[::-1] - t)"]


@pytest.mark.parametrize("first", ["0", "0.0"])
@pytest.mark.parametrize("result", AT_LAST)
def test_numbers_that_a_loop_makes_differentiated_beside_plain_arrays(result, first):
    if first == "0" and ("where" in result or "clip" in result):
        pytest.skip("integers there are asked to be floats from the start")
    space = {"np": np}
    exec("def f(x):\n    c = np.arange(3.0)\n"
         f"    t = {first}\n    for i in range(3):\n        t = t + x * i\n    return {result}", space)
    f = njit(space["f"])
    value, gradient = tape.value_and_grad(f)(1.7)
    assert value == f(1.7)
    np.testing.assert_allclose(gradient, (f(1.7 + 1e-6) - f(1.7 - 1e-6)) / 2e-6, rtol=1e-7)


MADE = ["np.arange(3.0)", "d.copy()", "d * 2.0", "np.linspace(0.0, 1.0, 3)", "np.where(d > 1.5, d, 1.0)", "np.zeros_like(d)",
        "(d + 1.0)[::-1]", "d + d if x > 0.0 else d.copy()", "np.eye(3)[0]"]


@pytest.mark.parametrize("made", MADE)
def test_plain_arrays_made_in_the_function_take_differentiated_numbers(made):
    space = {"np": np}
    exec(f"def f(x, d):\n    c = {made}\n    e = c\n    c[0] = x\n    c[1:] *= x\n"
         "    return np.sum(c * e * np.arange(3.0)) + np.sum(e ** 2) + d[0]", space)
    f, d = njit(space["f"]), np.array([1.0, 2.0, 3.0])
    value, gradient = tape.value_and_grad(f)(1.7, d)
    assert value == f(1.7, d)
    np.testing.assert_allclose(gradient, (f(1.7 + 1e-6, d) - f(1.7 - 1e-6, d)) / 2e-6, rtol=1e-7)
    np.testing.assert_array_equal(d, [1.0, 2.0, 3.0])


def test_batches_of_what_lists_cannot_hold():
    f = njit(lambda x: np.sum(x * x) * np.float32(0.3))
    x = np.arange(6.0).reshape(2, 3)
    for samples in (x, x.astype(np.float32)):
        values, gradients = tape.batch(tape.value_and_grad(f))(samples)
        np.testing.assert_array_equal(values, [f(sample) for sample in samples])
        np.testing.assert_array_equal(gradients, [tape.grad(f)(sample) for sample in samples])


def test_errors_of_division_are_the_functions_own():
    callee = njit(error_model="numpy")(lambda x: x / (x - 1.0))
    f = njit(lambda x: 1.0 / callee(x))
    assert tape.value_and_grad(f)(1.0)[0] == f(1.0) == 0.0
    with pytest.raises(ZeroDivisionError):
        tape.grad(njit(lambda x: x / (x - 1.0)))(1.0)


def test_second_derivatives_of_powers_at_zero():
    f = njit(lambda v, n: v[0] ** n)
    assert [tape.hessian(f)(np.zeros(3), n)[0, 0] for n in (0, 1, 2, 3)] == [0.0, 0.0, 2.0, 0.0]


@njit
def decay(x, n):
    for _ in range(n):
        x = x * 0.9999999 + 1e-9
    return x


def test_a_limit_holds_for_workspaces_that_have_grown():
    gradient = tape.grad(decay)
    before = gradient(1.0, 100_000)
    tape.workspace_limit(100_000)
    try:
        with pytest.raises(tape.CapacityError):
            gradient(1.0, 100_000)
        assert gradient(1.0, 10) > 0.9
    finally:
        tape.workspace_limit(None)
    assert gradient(1.0, 100_000) == before


def test_memory_of_all_threads_comes_back():
    """Also of workspaces that other threads made, and that no later call takes."""
    gradient = tape.grad(decay)
    gradient(1.0, 10)
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda _: gradient(1.0, 1_000_000), range(24)))
    assert HEADERS[1:, PARTIAL_BYTES].max() > 1_000_000
    tape.workspace_limit(1_000_000)
    try:
        assert HEADERS[1:, [PARTIAL_BYTES, ADJOINT_BYTES]].max() <= 1_000_000
        assert not HEADERS[1:, BUSY].any()
        assert gradient(1.0, 10) > 0.9
    finally:
        tape.workspace_limit(None)


@pytest.mark.parametrize("f", [lambda x, y: np.sin(x) * y + x / y, lambda x, y: x * 2 + y**3,
                               lambda x, y: np.exp(x) if y > 1 else x * y, lambda x, y: np.float32(0.1) * x + 0.1 * y])
def test_float32_scalars(f):
    """Values are the plain function's bit for bit, in its types; derivatives are float32 numbers, to a rounding or two."""
    x, y = np.float32(0.3), np.float32(1.7)
    jitted = njit(f)
    both = tape.value_and_grad(jitted, (0, 1))
    value, gradients = both(x, y)
    assert type(value) is type(jitted(x, y))
    assert value == jitted(x, y)
    exact = tape.grad(njit(f), (0, 1))(float(x), float(y))
    np.testing.assert_allclose(gradients, exact, rtol=3e-7)
    assert all(float(np.float32(g)) == g for g in gradients)
    value, tangent = tape.jvp(jitted, (x, y), (np.float32(1.0), np.float32(0.0)))
    assert (value, tangent) == (jitted(x, y), pytest.approx(exact[0], rel=3e-7))
    inside = njit(lambda x, y: both(x, y))
    assert inside(x, y) == (value, gradients)
    kind = jitted.nopython_signatures[0].return_type
    assert inside.nopython_signatures[0].return_type == types.Tuple([kind, types.UniTuple(types.float32, 2)])
