"""Native functions against the sweeps: `tape.compile` and what can be made of it, for Python, jitted code, SciPy and C.

What is not here: passes from list to list (`test_transforms.py`).
"""

import concurrent.futures
import ctypes
import gc
import math
import os
import pathlib
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
import test_textbook
from numba import njit, prange
from numba.core.errors import TypingError
from scipy.integrate import IntegrationWarning, nquad, quad
from scipy.optimize import brentq, minimize
from test_engines import RandomProgram

import tape
from compiled import cache as machine_cache
from compiled.lists.listing import Listing
from compiled.native import machine
from compiled.native.function import NativeFunction
from compiled.sweeps.engine import ENGINE
from tape.recording.traces import Traces
from tape.running import tiers
from tape.running.derived import native_listing
from tape.running.executables import converted
from tape.transforms.build import with_gradients

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
    "broadcast twice": (lambda x, y: np.sum(np.sin(x * y) * y), A23, A3),
    "broadcast and squared": (lambda x, y: np.sum(x * y * y), A34, A4),
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
    "product with a constant number": (lambda x: np.sum((x @ np.array([[2.0]])) ** 2) + np.array([3.0]) @ x[0], A23[:, :1]),
    "product of vectors": (lambda x: x @ x * (x[::-1] @ x), A3),
    "matrix and vector": (lambda x, y: np.sum(np.sin(x @ y)), A23, A3),
    "vector and matrix": (lambda x, y: np.sum(np.sin(x @ y)), A3, A34),
    "batch of products": (lambda x, y: np.sum((x @ y) ** 2), A234, RANDOM.uniform(-1.0, 1.0, (2, 4, 2))),
    "broadcast batch": (lambda x, y: np.sum((x @ y) ** 2), A234, RANDOM.uniform(-1.0, 1.0, (4, 2))),
    "transposed product": (lambda x, y: np.sum(np.sin(x.T @ y)), A23, RANDOM.uniform(-1.0, 1.0, (2, 5))),
    "large product": (lambda x: np.sum(np.sin(x @ WEIGHTS) ** 2), LARGE),
    "large transposed product": (lambda x: np.sum(np.tanh(x.T @ x)), LARGE),
    "large matrix and vector": (lambda x, y: np.sum((x @ y) ** 2), LARGE[:30], LARGE[0]),
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
    "network": (network, {"w": LARGE[:4, :5], "b": LARGE[5, :5]}, LARGE[6:12, :4]),
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


# ---------------------------------------------------------------------- random lists

SEEDS = [pytest.param(seed, marks=() if seed < 8 else pytest.mark.slow) for seed in range(400)]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("seed", SEEDS)
def test_random_lists(seed, dtype):
    program = RandomProgram(seed, dtype).program
    native = random_native(program, f"random_{seed}")
    for scale in (1.0, 0.9):
        values = program.values.copy()
        arguments = [view.of(values).copy() * scale for view in program.inputs]
        for view, argument in zip(program.inputs, arguments, strict=True):
            view.of(values)[...] = argument
        status = ENGINE.forward(program.code, program.geometry, values, 0, len(program.code))
        before = [a.copy() for a in arguments]
        found, results = native.results([np.asarray(a) for a in arguments])
        assert (found == 0) == (status == -1)
        for argument, old in zip(arguments, before, strict=True):
            np.testing.assert_array_equal(argument, old)
        for view, result in zip(program.outputs, results, strict=True) if found == 0 else ():
            expected = view.of(values)
            tolerance = (1e-9 if dtype == np.float64 else 2e-3) * np.max(np.abs(expected[np.isfinite(expected)]), initial=1.0)
            np.testing.assert_allclose(result, expected, rtol=tolerance, atol=tolerance)


def random_native(program, name):
    """A random program's results as a native function."""
    inputs, outputs = [f"x{k}" for k in range(len(program.inputs))], [f"y{k}" for k in range(len(program.outputs))]
    return NativeFunction(native_listing(Listing.of(program)), inputs, outputs, name)


@pytest.mark.parametrize("seed", SEEDS)
def test_gradients_of_random_lists(seed):
    program = RandomProgram(seed, length=12).program
    wanted = [k for k, view in enumerate(program.outputs) if view.size and view.shape]
    with np.errstate(all="ignore"):
        longer, adjoints = with_gradients(program, wanted, program.inputs[:3], seeded=False)
    longer.outputs = adjoints
    native = random_native(longer, f"gradients_{seed}")
    values, back = program.values.copy(), np.zeros_like(program.values)
    assert ENGINE.forward(program.code, program.geometry, values, 0, len(program.code)) == -1
    for k in wanted:
        program.outputs[k].of(back)[...] += 1.0
    status, results = native.results([view.of(values).copy() for view in program.inputs])
    assert status == 0
    ENGINE.reverse(program.code, program.geometry, values, back, False)
    for view, result in zip(program.inputs[:3], results, strict=True):
        expected = view.of(back)
        tolerance = 1e-8 * np.max(np.abs(expected[np.isfinite(expected)]), initial=1.0)
        np.testing.assert_allclose(result, expected, rtol=tolerance, atol=tolerance)


# ---------------------------------------------------------------------- arguments and results


def cubes(x):
    return np.sum(x**3)


def polynomial(x, y):
    """A number and a matrix."""
    return x * np.sum(y**2) + np.sum(np.sin(x * y))


def test_arguments_of_other_layouts_are_converted():
    f = lambda x: np.sum(np.arange(1.0, 7.0).reshape(2, 3) * np.sin(x))
    c = tape.compile(f, A23)
    base = np.arange(24.0).reshape(4, 6) / 10.0
    views = [base[::2, ::2], base[:3, :2].T, np.asfortranarray(A23), np.broadcast_to(A23[0], (2, 3)), base[1::-1, 2::-1],
             np.ones((2, 3), np.float32), np.ones((2, 3), int), np.ones((2, 3), bool), A23.astype(">f8"),
             np.frombuffer(b"0" + A23.tobytes(), float, offset=1).reshape(2, 3)]
    for view in views:
        plain = np.array(view, float)
        value, gradient = c.value_and_grad(view)
        np.testing.assert_allclose(value, f(plain), rtol=1e-14)
        np.testing.assert_allclose(gradient, np.cos(plain) * np.arange(1.0, 7.0).reshape(2, 3), rtol=1e-13)
        assert gradient.flags.c_contiguous
        assert gradient.flags.writeable


@pytest.mark.parametrize("number", [2, np.int32(2), 2.0, np.float64(2.0), np.float32(2.0), np.array(2.0), np.array(2), True])
def test_numbers_of_other_types_are_converted(number):
    c = tape.compile(lambda x: x**2 + 1.0, 3.0)
    assert c.value(number) == float(number) ** 2 + 1.0
    assert c.value_and_grad(number)[1] == 2.0 * float(number)


def test_read_only_arguments():
    x = np.array([1.0, 2.0])
    x.flags.writeable = False
    c = tape.compile(cubes, x)
    np.testing.assert_array_equal(c.value_and_grad(x)[1], 3.0 * x**2)


@pytest.mark.parametrize(("argument", "error", "message"), [
    (np.ones(4), ValueError, r"argument x: compiled for shape \(3,\), got \(4,\)"),
    (np.ones((3, 1)), ValueError, r"argument x: compiled for shape \(3,\), got \(3, 1\)"),
    (1.0, ValueError, r"shape \(3,\), got \(\)"),
    (np.ones(3, complex), tape.NotDifferentiable, "argument x: expected numbers, got complex128"),
    (np.array(["a", "b", "c"]), tape.NotDifferentiable, "argument x: expected numbers"),
    ({"x": np.ones(3)}, (ValueError, tape.NotDifferentiable), "argument x"),
    (np.array([2**53 + 1, 0, 0]), OverflowError, "exact up to"),
])
@pytest.mark.parametrize("function", ["value", "value_and_grad"])
def test_arguments_that_do_not_fit(function, argument, error, message):
    c = tape.compile(lambda x: np.sum(x**2), np.ones(3))
    with pytest.raises(error, match=message):
        getattr(c, function)(argument)


@pytest.mark.parametrize("number", [2.5, np.array([1.0, 2.0, 3.0]), 1j])
def test_numbers_that_are_no_integers(number):
    c = tape.compile(lambda x, n: x * np.sum(n), 1.0, np.ones_like(number, int))
    with pytest.raises(tape.NotDifferentiable, match="compiled for integers, got"):
        c.value(2.0, number)
    c = tape.compile(lambda x, m: np.sum(np.where(m, x, 0.0)), A3, np.ones(3, bool))
    with pytest.raises(tape.NotDifferentiable, match="compiled for booleans, got int64"):
        c.value_and_grad(A3, np.arange(3))


def test_arrays_of_an_equal_dtype():
    dtype = np.dtype(np.float64, metadata={"unit": "m"})
    x = np.array([1.0, 2.0, 3.0]).astype(dtype)
    c = tape.compile(cubes, np.ones(3))
    assert c.value(x) == 36.0
    assert c.value(np.ma.masked_array([1.0, 2.0, 3.0])) == 36.0
    np.testing.assert_array_equal(c.value_and_grad(x)[1], 3.0 * np.arange(1.0, 4.0) ** 2)


@pytest.mark.parametrize("args", [(), (A3, A3)])
@pytest.mark.parametrize("function", ["value", "value_and_grad"])
def test_a_wrong_number_of_arguments(function, args):
    with pytest.raises((ValueError, TypeError)):
        getattr(tape.compile(cubes, A3), function)(*args)


def test_what_cannot_be_compiled():
    with pytest.raises(tape.NotDifferentiable, match="example"):
        tape.compile(cubes)
    with pytest.raises(tape.NotDifferentiable, match="scalar"):
        tape.compile(np.sin, A3).value_and_grad(A3)
    with pytest.raises(tape.NotDifferentiable, match="being recorded"):
        tape.grad(lambda x: tape.compile(cubes, A3).value(x))(A3)
    with pytest.raises(AttributeError, match="value_and_grad"):
        tape.compile(cubes, A3).njit.gradient  # noqa: B018


def test_results_are_new_arrays():
    c = tape.compile(lambda x: (x, x[1:], np.sin(x)), A3)
    first, second = c.value(A3), c.value(A3)
    for k in range(3):
        first[k][...] = 7.0
        np.testing.assert_array_equal(second[k], c.value(A3)[k])
        assert not np.shares_memory(first[k], A3)
        assert first[k].flags.owndata
    _, gradient = tape.compile(cubes, A3).value_and_grad(A3)
    assert gradient.flags.owndata


def test_arguments_are_never_changed():
    def f(x, y):
        x[1:] = y[:-1] * x[:-1]
        y[...] = x * 2.0
        return np.sum(x * y)

    x, y = A3.copy(), A3 + 1.0
    c = tape.compile(f, x.copy(), y.copy(), argnums=(0, 1))
    for call in (c.value, c.value_and_grad, c.vjp, lambda *args: c.jvp(args, (A3, A3))):
        for _ in range(2):
            call(x, y)
            np.testing.assert_array_equal(x, A3)
            np.testing.assert_array_equal(y, A3 + 1.0)
    np.testing.assert_allclose(c.value_and_grad(x, y)[1], tape.grad(f, argnums=(0, 1))(x.copy(), y.copy()), rtol=1e-13)
    out_x, out_y = np.empty(3), np.empty(3)
    c.njit.value_and_grad(x, y, out_x, out_y)
    np.testing.assert_array_equal(x, A3)


def test_indices_out_of_bounds():
    c = tape.compile(lambda x, i: np.sum(x[i] ** 2), A4, np.array([0, 1]))
    assert c.value(A4, np.array([3, -1])) == pytest.approx(2.0 * A4[3] ** 2)
    for function in (c.value, c.value_and_grad):
        with pytest.raises(IndexError):
            function(A4, np.array([0, 4]))
    out = np.empty(4)
    with pytest.raises(IndexError):
        c.njit.value_and_grad(A4, np.array([0.0, 4.0]), out)


def test_derivatives_of_some_arguments():
    x, y = 0.5, A23
    one = tape.compile(polynomial, x, y, argnums=1).value_and_grad(x, y)
    assert_close(one, tape.value_and_grad(polynomial, argnums=1)(x, y))
    both = tape.compile(polynomial, x, y, argnums=(1, 0)).value_and_grad(x, y)
    assert_close(both, tape.value_and_grad(polynomial, argnums=(1, 0))(x, y))
    value, tangent = tape.compile(polynomial, x, y, argnums=(1, 0)).jvp((x, y), (A23, 2.0))
    assert tangent == pytest.approx(tape.jvp(polynomial, (x, y), (2.0, A23))[1])
    assert value == pytest.approx(polynomial(x, y))


def test_jitted_functions_are_compiled_too():
    @njit
    def energy(q, k):
        e = 0.0
        for i in range(1, q.shape[0]):
            e += 0.5 * k * (q[i] - q[i - 1]) ** 2 + math.cos(q[i])
        return e

    c = tape.compile(energy, A4, 2.0)
    value, gradient = c.value_and_grad(A4, 2.0)
    assert value == pytest.approx(energy(A4, 2.0))
    np.testing.assert_allclose(gradient, tape.grad(energy)(A4, 2.0), rtol=1e-12)


# ---------------------------------------------------------------------- branches


def test_another_branch_is_compiled_by_itself():
    x = np.array([0.5, 1.0])
    c = tape.compile(branching, x)
    for point in (x, -x, x, -2.0 * x):
        assert c.value(point) == pytest.approx(branching(point))
        assert_close(c.value_and_grad(point), tape.value_and_grad(branching)(point))
        assert_close(c.jvp((point,), (x,)), tape.jvp(branching, (point,), (x,)))
        value, pullback = c.vjp(point)
        assert value == pytest.approx(branching(point))
        np.testing.assert_allclose(pullback(1.0), tape.grad(branching)(point))
    assert len(c._branches) == 1


def test_another_branch_of_arguments_that_are_converted():
    c = tape.compile(lambda x: x * x if x > 0 else -x, 2.0)
    assert c.value(-3) == 3.0
    assert c.value_and_grad(-3) == (3.0, -1.0)
    assert c.value_and_grad(np.float32(-0.5)) == (0.5, -1.0)
    c = tape.compile(lambda x: np.sum(x**2) if x[0] > 0 else -np.sum(x), A3)
    value, gradient = c.value_and_grad(-np.ones(3, np.float32))
    assert value.dtype == gradient.dtype == np.float64
    assert len(c._branches) == 1


def test_not_a_number_decides_a_branch():
    c = tape.compile(lambda x: x * x if x > 0 else -x, 2.0)
    assert math.isnan(c.value(math.nan))
    c = tape.compile(lambda x: x * x if x else -x, 2.0)
    assert c.value(math.nan) != 0.0


def test_a_pullback_remembers_its_arguments():
    args = {"x": A3.copy()}, [A4.copy()]
    c = tape.compile(lambda a, b: np.sum(a["x"] ** 2) * np.sum(b[0]), *args, argnums=(0, 1))
    _, pullback = c.vjp(*args)
    expected = pullback(1.0)
    args[0]["x"][...] = 0.0
    args[1][0][...] = 0.0
    assert_close(pullback(1.0), expected)
    with pytest.raises(ValueError, match="structure"):
        pullback((1.0, 2.0))
    with pytest.raises(ValueError, match="seed_out"):
        pullback(A3)


def test_another_branch_in_jitted_code_raises():
    x = np.array([0.5, 1.0])
    value_and_grad = tape.compile(branching, x).njit.value_and_grad

    @njit
    def descend(x, steps):
        gradient = np.empty_like(x)
        for _ in range(steps):
            value_and_grad(x, gradient)
            x = x - 0.5 * gradient - 0.1
        return x

    with pytest.raises(tape.GuardFailed, match="branch"):
        descend(x, 5)
    with pytest.raises(tape.GuardFailed):
        value_and_grad(-x, np.empty(2))

    @njit
    def caught(x):
        try:
            return value_and_grad(x, np.empty(2))
        except Exception:
            return -1.0

    assert caught(-x) == -1.0
    assert caught(x) == pytest.approx(1.25)


def test_another_branch_in_c_is_nan():
    x = np.array([0.5, 1.0])
    c = tape.compile(branching, x)
    gradient, pointer = np.zeros(2), ctypes.POINTER(ctypes.c_double)
    call = lambda x: c.value_and_grad.ctypes(x.ctypes.data_as(pointer), gradient.ctypes.data_as(pointer))
    assert call(x) == 1.25
    np.testing.assert_array_equal(gradient, [1.0, 2.0])
    assert math.isnan(call(-x))
    assert np.isnan(gradient).all()
    assert math.isnan(c.ctypes((-x).ctypes.data_as(pointer)))


# ---------------------------------------------------------------------- threads


@pytest.mark.parametrize("n", [50, 200_000])
def test_threads(n):
    """Working memory is on the stack, or from the module's pool."""
    f = lambda x: np.sum(np.sin(x / (1.0 + np.sum(x**2))) ** 2)
    points = [np.linspace(0.0, 1.0 + k, n) for k in range(8)]
    c = tape.compile(f, points[0])
    alone = [c.value_and_grad(x) for x in points]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for _ in range(3 if n > 1000 else 30):
            together = list(pool.map(c.value_and_grad, points * 4))
            for (value, gradient), (expected, by_one) in zip(together, alone * 4, strict=True):
                assert value == expected
                np.testing.assert_array_equal(gradient, by_one)


def test_memory_of_the_pool_is_given_back():
    n = 50_000
    c = tape.compile(lambda x: np.sum(np.sin(x / (1.0 + np.sum(x**2))) ** 2), np.ones(n))
    x = np.linspace(0.0, 1.0, n)
    c.value_and_grad(x)
    before = resident()
    for _ in range(300):
        c.value_and_grad(x)
    assert resident() - before < 20 * n * 8


def resident():
    """Bytes of memory that the process has."""
    resource = pytest.importorskip("resource")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


# ---------------------------------------------------------------------- jitted code


def test_in_jitted_code():
    c = tape.compile(polynomial, 0.5, A23, argnums=(0, 1))
    value, value_and_grad, jvp, vjp = c.njit.value, c.njit.value_and_grad, c.njit.jvp, c.njit.vjp

    @njit
    def every(x, y):
        dx, dy = np.empty(1), np.empty_like(y)
        one = value(x, y)
        two = value_and_grad(x, y, dx, dy)
        tangent = np.empty(1)
        three = jvp(x, y, 1.0, np.ones_like(y), tangent)
        ax, ay = np.empty(1), np.empty_like(y)
        four = vjp(x, y, 2.0, ax, ay)
        return one, two, three, four, dx[0], dy, tangent[0], ax[0], ay

    one, two, three, four, dx, dy, tangent, ax, ay = every(0.5, A23)
    expected, (by_x, by_y) = tape.value_and_grad(polynomial, argnums=(0, 1))(0.5, A23)
    np.testing.assert_allclose([one, two, three, four], expected, rtol=1e-13)
    np.testing.assert_allclose([dx, ax / 2.0], by_x, rtol=1e-13)
    np.testing.assert_allclose(dy, by_y, rtol=1e-13)
    np.testing.assert_allclose(ay, 2.0 * by_y, rtol=1e-13)
    assert tangent == pytest.approx(by_x + np.sum(by_y), rel=1e-12)


def test_in_parallel_loops():
    n = 3000
    f = lambda x: np.sum(np.sin(x / (1.0 + np.sum(x**2))) ** 2)
    value_and_grad = tape.compile(f, np.ones(n)).njit.value_and_grad

    @njit(parallel=True)
    def rows(xs):
        gradients, values = np.empty_like(xs), np.empty(len(xs))
        for i in prange(len(xs)):
            values[i] = value_and_grad(xs[i], gradients[i])
        return values, gradients

    xs = np.random.default_rng(0).standard_normal((40, n))
    values, gradients = rows(xs)
    for k in range(len(xs)):
        expected, gradient = tape.value_and_grad(f)(xs[k])
        np.testing.assert_allclose(values[k], expected, rtol=1e-12)
        np.testing.assert_allclose(gradients[k], gradient, rtol=1e-10, atol=1e-14)


def test_as_an_argument_of_jitted_code():
    @njit
    def descend(gradient_of, x, steps):
        gradient = np.empty_like(x)
        for _ in range(steps):
            gradient_of(x, gradient)
            x = x - 0.1 * gradient
        return x

    first = tape.compile(lambda x: np.sum((x - 1.0) ** 2), np.zeros(2)).njit.value_and_grad
    second = tape.compile(lambda x: np.sum((x - 2.0) ** 2), np.zeros(2)).njit.value_and_grad
    for _ in range(2):
        np.testing.assert_allclose(descend(first, np.zeros(2), 200), 1.0)
        np.testing.assert_allclose(descend(second, np.zeros(2), 200), 2.0)


@pytest.mark.parametrize(("args", "message"), [
    ((A3,), "expected 2 arguments, got 1"),
    ((1.0, A3), "argument x: expected a C-contiguous array"),
    ((A3[:, None], A3), "with 1 axes"),
    ((A4[::2][:2], A3), "C-contiguous"),
    ((A3.astype(np.float32), A3), "float64"),
])
def test_wrong_arguments_in_jitted_code(args, message):
    with pytest.raises(TypingError, match=message):
        tape.compile(cubes, A3).njit.value_and_grad(*args)


def test_wrong_shapes_in_jitted_code():
    with pytest.raises(ValueError, match=r"argument x: expected an array of shape \(3,\)"):
        tape.compile(cubes, A3).njit.value_and_grad(A4, A4)
    with pytest.raises(ValueError, match=r"expected an array of shape \(3,\)"):
        tape.compile(cubes, A3).njit.value_and_grad(A3, np.empty(4))


CACHED = """
import sys
import numpy as np, tape
from numba import njit
factor = float(sys.argv[1])
value_and_grad = tape.compile(lambda x: factor * np.sum(x**2), np.ones(3)).njit.value_and_grad

@njit(cache=True)
def call(x):
    gradient = np.empty(3)
    return value_and_grad(x, gradient), gradient

value, gradient = call(np.ones(3))
assert value == 3.0 * factor, value
assert (gradient == 2.0 * factor).all(), gradient
"""


def test_cached_jitted_code_is_never_stale(tmp_path):
    """Machine code with an address of this process is not kept for another, in which something else is compiled."""
    script = tmp_path / "cached.py"
    script.write_text(CACHED)
    for factor in ("1.0", "5.0", "1.0"):
        run(script, factor, TAPE_CACHE_DIR=str(tmp_path / "cache"))


def run(script, *args, **variables):
    """Run a script in another process, in which warnings are warnings; returns what it prints."""
    root = str(pathlib.Path(tape.__file__).parent.parent)
    environment = {**os.environ, "PYTHONPATH": root, **variables}
    done = subprocess.run([sys.executable, str(script), *args], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


# ---------------------------------------------------------------------- C and SciPy


def pointers(*arrays):
    """Arrays as ctypes passes them."""
    return [a.ctypes.data_as(ctypes.POINTER(ctypes.c_double)) for a in arrays]


def test_ctypes():
    c = tape.compile(polynomial, 0.5, A23, argnums=(0, 1))
    assert c.ctypes(0.5, *pointers(A23)) == pytest.approx(polynomial(0.5, A23), rel=1e-14)
    dx, dy = np.zeros(1), np.zeros((2, 3))
    assert c.value_and_grad.ctypes(0.5, *pointers(A23, dx, dy)) == pytest.approx(polynomial(0.5, A23), rel=1e-14)
    by_x, by_y = tape.grad(polynomial, argnums=(0, 1))(0.5, A23)
    np.testing.assert_allclose(dx[0], by_x)
    np.testing.assert_allclose(dy, by_y)
    assert c.value_and_grad.declaration == (
        "double polynomial_value_and_grad(double x, const double *y, double *grad_x, double *grad_y);")
    prototype = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double, ctypes.POINTER(ctypes.c_double))
    assert prototype(c.address)(0.5, *pointers(A23)) == c.ctypes(0.5, *pointers(A23))


def test_ctypes_of_arrays_alone():
    c = tape.compile(lambda x: (x * 2.0, np.sum(x)), A3)
    doubled, total = np.zeros(3), np.zeros(1)
    assert c.ctypes(*pointers(A3, doubled, total)) is None
    np.testing.assert_array_equal(doubled, 2.0 * A3)
    assert total[0] == pytest.approx(np.sum(A3))


def test_ctypes_in_single_precision():
    c = tape.compile(lambda x, y: np.sum(x) * y, A3.astype(np.float32), np.float32(2.0))
    x = A3.astype(np.float32)
    assert c.ctypes(x.ctypes.data_as(ctypes.POINTER(ctypes.c_float)), 2.0) == pytest.approx(2.0 * np.sum(A3), rel=1e-6)
    assert "float" in c.value.declaration


def test_functions_outlive_their_owner():
    function = tape.compile(lambda x: np.sin(x) * x, 1.0).ctypes
    callable_ = tape.compile(lambda x: np.cos(x) * x, 1.0).low_level_callable
    jitted = tape.compile(lambda x: np.tan(x) * x, 1.0).njit.value
    gc.collect()
    assert function(0.5) == pytest.approx(np.sin(0.5) * 0.5)
    assert quad(callable_, 0.0, 1.0)[0] == pytest.approx(np.cos(1.0) + np.sin(1.0) - 1.0)
    assert jitted(0.5) == pytest.approx(np.tan(0.5) * 0.5)


def test_scipy_integrates_numbers():
    c = tape.compile(lambda x: np.exp(-x * x), 1.0)
    assert quad(c.low_level_callable, 0.0, 2.0)[0] == pytest.approx(quad(lambda x: math.exp(-x * x), 0.0, 2.0)[0], rel=1e-12)
    c = tape.compile(lambda x, a, b: a * np.sin(b * x), 1.0, 2.0, 3.0)
    expected = quad(lambda x: 2.0 * math.sin(3.0 * x), 0.0, 2.0)[0]
    assert quad(c.low_level_callable, 0.0, 2.0, args=(2.0, 3.0))[0] == pytest.approx(expected, rel=1e-12)


def test_scipy_integrates_arrays():
    f = lambda x: x[0] * np.exp(-x[1]) + np.sum(x**2)
    ranges = [[0.0, 1.0], [0.0, 2.0], [0.5, 1.0]]
    c = tape.compile(f, np.ones(3))
    expected = nquad(lambda *x: f(np.array(x)), ranges)[0]
    assert nquad(c.low_level_callable, ranges)[0] == pytest.approx(expected, rel=1e-10)


def test_scipy_integrates_derivatives():
    c = tape.compile(tape.grad(lambda x: np.sin(x) * x), 1.0)
    assert quad(c.low_level_callable, 0.0, 2.0)[0] == pytest.approx(2.0 * np.sin(2.0), rel=1e-12)


def test_scipy_refuses_the_wrong_number_of_arguments():
    c = tape.compile(lambda x, a: a * x, 1.0, 2.0)
    with pytest.warns(IntegrationWarning):
        assert math.isnan(quad(c.low_level_callable, 0.0, 1.0, args=(2.0, 3.0))[0])


@pytest.mark.parametrize(("f", "args"), [(lambda x: x * 2.0, (A3,)), (lambda x, y: np.sum(x) * y, (A3, 2.0)),
                                         (lambda x: np.sum(x), (A23,)), (lambda x: x * 2.0, (np.float32(2.0),))])
def test_what_scipy_does_not_take(f, args):
    c = tape.compile(f, *args)
    with pytest.raises(TypeError, match="SciPy takes functions of numbers"):
        c.low_level_callable  # noqa: B018


def test_scipy_minimises_and_solves():
    c = tape.compile(lambda x: np.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2), np.zeros(5))
    assert minimize(c.value_and_grad, np.zeros(5), jac=True).success
    np.testing.assert_allclose(minimize(c.value_and_grad, np.zeros(5), jac=True, tol=1e-10).x, 1.0, atol=1e-6)
    curve = tape.compile(lambda x: x**3 - x - 2.0, 1.0)
    assert brentq(curve.value, 1.0, 2.0) == pytest.approx(1.5213797068045676)
    assert brentq(lambda x: curve.ctypes(x), 1.0, 2.0) == pytest.approx(1.5213797068045676)


PROGRAM = r"""
#include <stdio.h>
#include "polynomial.h"

int main(void) {
    double y[6] = {0.1, 0.2, 0.3, 0.4, 0.5, 0.6}, dx, dy[6];
    printf("%.17g\n", polynomial_value(0.5, y));
    printf("%.17g\n", polynomial_value_and_grad(0.5, y, &dx, dy));
    printf("%.17g\n", dx);
    for (int i = 0; i < 6; i++) printf("%.17g\n", dy[i]);
    return 0;
}
"""


@pytest.fixture
def c_compiler():
    """The system's compiler."""
    found = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if found is None or sys.platform == "win32":
        pytest.skip("no C compiler (cc, gcc, clang) on this machine")
    return found


@pytest.mark.parametrize("cpu", ["native", "generic"])
def test_export(c_compiler, tmp_path, cpu):
    c = tape.compile(polynomial, 0.5, A23, argnums=(0, 1))
    header = c.export(tmp_path / "made", cpu=cpu)
    assert header.name == "polynomial.h"
    (tmp_path / "main.c").write_text(PROGRAM)
    binary = tmp_path / "main"
    where = [f"-I{header.parent}", f"-L{header.parent}", f"-Wl,-rpath,{header.parent}"]
    strict = ["-Wall", "-Wextra", "-Werror", "-pedantic"]
    subprocess.run([c_compiler, *strict, "-o", binary, tmp_path / "main.c", *where, "-lpolynomial"], check=True)
    printed = [float(line) for line in subprocess.run([binary], check=True, capture_output=True, text=True).stdout.split()]
    y = np.arange(1.0, 7.0).reshape(2, 3) / 10.0
    value, (dx, dy) = tape.value_and_grad(polynomial, argnums=(0, 1))(0.5, y)
    np.testing.assert_allclose(printed, [value, value, dx, *dy.ravel()], rtol=1e-14)


def test_export_of_products_and_large_memory(c_compiler, tmp_path):
    """Libraries need no BLAS and no Python."""
    def f(x):
        return np.sum(np.tanh(x @ WEIGHTS) @ x)

    c = tape.compile(f, LARGE)
    (path,) = c.export(tmp_path).parent.glob("libf.*")
    library = ctypes.CDLL(str(path))
    gradient = np.zeros_like(LARGE)
    library.f_value_and_grad.restype = ctypes.c_double
    assert library.f_value_and_grad(*pointers(LARGE, gradient)) == pytest.approx(f(LARGE), rel=1e-10)
    np.testing.assert_allclose(gradient, tape.grad(f)(LARGE), rtol=1e-8, atol=1e-10)


def test_export_of_functions_that_are_not_scalar(c_compiler, tmp_path):
    text = tape.compile(lambda x: (x * 2.0, x[0]), A3).export(tmp_path).read_text()
    assert "void lambda_value(const double *x, double *out0, double *out1);" in text
    assert "grad" not in text


def test_names_that_c_does_not_take(c_compiler, tmp_path):
    def θ_step(double, out, β, γ, grad_out):
        return double * out * β + γ * grad_out

    c = tape.compile(θ_step, *(np.full(2, float(k)) for k in range(5)), argnums=(0, 1, 2, 3, 4))
    np.testing.assert_array_equal(c.value(*np.arange(10.0).reshape(5, 2)), [48.0, 78.0])
    header = c.export(tmp_path)
    (tmp_path / "main.c").write_text(f'#include "{header.name}"\nint main(void) {{ return 0; }}\n')
    for extra in (["-x", "c"], ["-x", "c++"]) if shutil.which("c++") else (["-x", "c"],):
        subprocess.run([c_compiler, "-Werror", "-fsyntax-only", *extra, str(tmp_path / "main.c")], check=True)
    assert c.vjp(*np.arange(10.0).reshape(5, 2))[1](np.ones(2))[0].tolist() == [8.0, 15.0]


def test_export_without_a_compiler(monkeypatch, tmp_path):
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(FileNotFoundError, match="expected a C compiler"):
        tape.compile(cubes, A3).export(tmp_path)


# ---------------------------------------------------------------------- the cache on disk

COUNTED = """
import sys
import numpy as np, tape
from compiled.native import machine
count, plain = 0, machine.optimised
def optimised(*args):
    global count
    count += 1
    return plain(*args)
machine.optimised = optimised
c = tape.compile(lambda x, k=float(sys.argv[1]): np.sum(x**3) * k, np.ones(3))
value, gradient = c.value_and_grad(np.array([1.0, 2.0, 3.0]))
assert value == 36.0 * float(sys.argv[1]) and gradient[2] == 27.0 * float(sys.argv[1])
print(count)
"""


def test_a_second_process_does_not_compile(tmp_path):
    script, cache = tmp_path / "counted.py", tmp_path / "cache"
    script.write_text(COUNTED)
    again = lambda factor: int(run(script, factor, TAPE_CACHE_DIR=str(cache)))
    assert again("1.0") == 1
    assert len(list(cache.glob("**/*.o"))) == 1
    assert again("1.0") == 0
    assert again("2.0") == 1
    assert len(list(cache.glob("**/*.o"))) == 2
    assert {path.suffix for path in cache.glob("**/*") if path.is_file()} == {".o"}


@pytest.fixture
def counted(monkeypatch, tmp_path):
    """Number of compilations of a function in an empty cache, and the cache's directory."""
    monkeypatch.setenv("TAPE_CACHE_DIR", str(tmp_path / "cache"))
    calls, plain = [], machine.optimised
    monkeypatch.setattr(machine, "optimised", lambda *args: calls.append(1) or plain(*args))

    def compile_again():
        before = len(calls)
        c = tape.compile(cubes, A3)
        np.testing.assert_allclose(c.value_and_grad(A3)[1], 3.0 * A3**2)
        return len(calls) - before

    return compile_again, tmp_path / "cache"


def uncached(monkeypatch):
    """Expects the warning that nothing is kept on disk, as if it were the first of the process."""
    monkeypatch.setattr(machine_cache, "_told", [])
    return pytest.warns(RuntimeWarning, match="compiled code is not kept on disk")


@pytest.mark.parametrize("damage", [
    lambda code: code[: len(code) // 2],
    lambda code: b"",
    lambda code: code[:-1] + bytes([code[-1] ^ 1]),
    lambda code: code[:20] + b"xx" + code[22:],
    lambda code: b"something else",
    lambda code: code[:300] + bytes(100) + code[400:],
])
def test_damaged_files_are_compiled_again(counted, damage):
    compile_again, cache = counted
    assert [compile_again(), compile_again()] == [1, 0]
    (file,) = cache.glob("**/*.o")
    file.write_bytes(damage(file.read_bytes()))
    assert [compile_again(), compile_again()] == [1, 0]


def test_a_directory_that_cannot_be_written(counted, monkeypatch, tmp_path):
    compile_again, _ = counted
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TAPE_CACHE_DIR", str(tmp_path / "file"))
    with uncached(monkeypatch):
        assert [compile_again(), compile_again()] == [1, 1]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_directory_without_permission(counted, monkeypatch, tmp_path):
    compile_again, _ = counted
    (tmp_path / "closed").mkdir(mode=0o500)
    monkeypatch.setenv("TAPE_CACHE_DIR", str(tmp_path / "closed"))
    with uncached(monkeypatch):
        assert [compile_again(), compile_again()] == [1, 1]


def test_a_full_disk_leaves_nothing_behind(counted, monkeypatch):
    compile_again, cache = counted

    def fails(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fails)
    with uncached(monkeypatch):
        assert compile_again() == 1
    assert [path for path in cache.glob("**/*") if path.is_file()] == []


def test_old_files_go(counted, monkeypatch):
    _, cache = counted
    monkeypatch.setattr(machine, "MOST_FILES", 3)
    for k in range(6):
        tape.compile(lambda x, k=k: np.sum(x**3) + float(k), A3).value(A3)
    assert len(list(cache.glob("**/*.o"))) == 3


def test_old_files_may_go_by_another_process(counted, monkeypatch):
    """Between the look into the folder and the look at a file; the others go all the same, without a warning."""
    compile_again, cache = counted
    compile_again()
    (old,) = cache.glob("**/*.o")
    gone = old.with_name("gone.o")
    gone.touch()
    seen = list(os.scandir(old.parent))
    gone.unlink()
    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", lambda path: iter(seen))
        patch.setattr(machine, "MOST_FILES", 0)
        tape.compile(lambda x: np.sum(x**3) + 7.0, A3).value(A3)
    (new,) = cache.glob("**/*.o")
    assert new != old


# ---------------------------------------------------------------------- tiers


def test_the_sweeps_when_asked(monkeypatch):
    monkeypatch.setenv("TAPE_NATIVE", "0")
    monkeypatch.setattr("tape.running.tiers.COMPILING", (0.0, 0.0))
    f = tape.value_and_grad(lambda x: np.sum(x**3))
    for _ in range(5):
        np.testing.assert_array_equal(f(A3)[1], 3.0 * A3**2)
    assert "TAPE_NATIVE=0" in f.report()
    assert "native code" not in f.report()
    monkeypatch.delenv("TAPE_NATIVE")
    np.testing.assert_allclose(f(A3)[1], 3.0 * A3**2)
    assert "native code" in f.report()


def test_native_code_at_once(monkeypatch):
    monkeypatch.setenv("TAPE_NATIVE", "always")
    f = tape.value_and_grad(lambda x: np.sum(x**3))
    assert f(A3)[0] == pytest.approx(np.sum(A3**3))
    assert "native code, compiled in" in f.report()
    np.testing.assert_allclose(f(A3)[1], 3.0 * A3**2)
    f(A4)
    assert f.report().count("native code") == 2


def test_native_code_when_it_pays(monkeypatch):
    monkeypatch.delenv("TAPE_NATIVE", raising=False)
    f = tape.grad(lambda x: np.sum(x**3))
    f(A3), f(A3)
    assert "sweeps" in f.report()
    assert "native code" not in f.report()
    monkeypatch.setattr("tape.running.tiers.COMPILING", (1e-9, 0.0))
    g = tape.grad(lambda x: np.sum(x**3))
    for _ in range(4):
        np.testing.assert_allclose(g(A3), 3.0 * A3**2)
    assert "native code, compiled in" in g.report()


@pytest.mark.parametrize(("f", "kind"), [
    (lambda x: np.sum(x * x), NativeFunction),
    (lambda x: tape.fori(0, 3, lambda k, c: c * x[0], 1.0), NativeFunction),
    (lambda x: np.linalg.norm(np.linalg.inv(np.outer(x, x) + np.eye(3))), tiers.SweptFirst),
])
def test_what_runs_a_list_that_is_promoted(monkeypatch, f, kind):
    """A list that has been on the sweeps for long enough does not start on them again; lists with calls begin there."""
    monkeypatch.setenv("TAPE_NATIVE", "1")
    trace, _ = Traces(f).run((np.ones(3),), {}, (0,))
    assert type(tiers.lists_of(trace).value_and_grad) is kind


def test_lists_with_calls_move_to_native_code(monkeypatch):
    monkeypatch.setenv("TAPE_NATIVE", "1")
    monkeypatch.setattr("tape.running.tiers.COMPILING", (1e-9, 0.0))

    def f(x):
        return np.linalg.det(np.outer(x, x) + np.eye(3))

    trace, _ = Traces(f).run((np.ones(3),), {}, (0,))
    function = tiers.lists_of(trace).value_and_grad
    first, second = (function.results([np.arange(3.0)]) for _ in range(2))
    assert type(function._function) is NativeFunction
    for a, b in zip(first[1], second[1], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-13)


def test_tiers_agree(monkeypatch):
    for mode in ("0", "always"):
        monkeypatch.setenv("TAPE_NATIVE", mode)
        f = tape.value_and_grad(branching)
        for x in (A3, -A3, A3, -2.0 * A3):
            value, gradient = f(x)
            assert value == pytest.approx(branching(x))
            np.testing.assert_allclose(gradient, 2.0 * x if x[0] > 0 else np.cos(x), rtol=1e-13)
        with pytest.raises(IndexError):
            tape.grad(lambda x, i: np.sum(x[i]))(A3, np.array([7]))


def test_long_lists_stay_on_the_sweeps(monkeypatch):
    monkeypatch.setenv("TAPE_NATIVE", "always")
    monkeypatch.setattr("tape.running.tiers.MOST_INSTRUCTIONS", 3)
    f = tape.grad(lambda x: np.sum(np.sin(np.cos(np.exp(x)))))
    f(A3)
    f(A3)
    assert "too long" in f.report()


@pytest.mark.parametrize("example", [
    lambda: test_textbook.test_sum_times(),
    lambda: test_textbook.test_twice_a_product_and_a_maximum(2.0, -1.0, 2.0, 0.0),
    lambda: test_textbook.test_python_max_is_a_branch(),
    lambda: test_textbook.test_sigmoid_neuron(),
])
def test_textbook_examples_by_native_code(example, monkeypatch):
    monkeypatch.setenv("TAPE_NATIVE", "always")
    example()


# ---------------------------------------------------------------------- long lists


def chain(n):
    """A function of n scalar operations."""
    def f(x):
        y = x
        for _ in range(n // 2):
            y = y * 0.999 + 0.001 * x
        return y

    return f


def test_long_lists(monkeypatch, tmp_path):
    """Compiling takes time in proportion to the length."""
    monkeypatch.setenv("TAPE_CACHE_DIR", str(tmp_path))
    seconds = []
    for n in (5000, 20_000):
        c = tape.compile(chain(n), 1.5)
        begin = time.perf_counter()
        function = c.value
        seconds.append(time.perf_counter() - begin)
        assert function(0.5) == pytest.approx(chain(n)(0.5), rel=1e-10)
    assert seconds[1] < 10.0 * seconds[0]


@pytest.mark.slow
def test_derivatives_of_long_lists(monkeypatch, tmp_path):
    monkeypatch.setenv("TAPE_CACHE_DIR", str(tmp_path))
    n = 20_000
    c = tape.compile(chain(n), 1.5)
    value, gradient = c.value_and_grad(0.5)
    expected, derivative = tape.value_and_grad(chain(n))(0.5)
    assert value == pytest.approx(expected, rel=1e-10)
    assert gradient == pytest.approx(derivative, rel=1e-10)


def test_long_lists_with_state_between_their_pieces():
    def f(x):
        state = [x[k] for k in range(4)]
        for k in range(850):
            state[k % 4] = np.sin(state[k % 4]) + 0.1 * state[(k + 1) % 4]
        return state[0] * state[1] + state[2] - state[3]

    c = tape.compile(f, A4)
    assert len(Listing.of(c._trace.program).steps) > 2400
    assert_close(c.value_and_grad(A4), tape.value_and_grad(f)(A4), 1e-9)


def test_report():
    c = tape.compile(polynomial, 0.5, A23)
    assert c.report() == f"polynomial: {len(c._trace.program.code)} instructions recorded"
    c.value(0.5, A23)
    c.value_and_grad(0.5, A23)
    lines = c.report().splitlines()
    assert [line.split(":")[0].strip() for line in lines] == ["polynomial", "value", "value_and_grad"]
    assert all("instructions after simplification, native" in line for line in lines[1:])


def test_arguments_that_fit_are_not_copied_where_others_are_converted():
    labels, X = np.arange(4) % 3, np.random.default_rng(0).normal(size=(4, 3))
    c = tape.compile(lambda x, k: np.sum(x[np.arange(4), k] ** 2), X, labels)
    expected = np.zeros_like(X)
    expected[np.arange(4), labels] = 2.0 * X[np.arange(4), labels]
    for x in (X, np.asfortranarray(X), X[::-1][::-1], X.astype(">f8")):
        gradient = c.value_and_grad(x, labels)[1]
        np.testing.assert_allclose(gradient, expected)
        assert gradient.flags.owndata or gradient.base is not x
        assert gradient.flags.writeable
    assert converted(X, X.shape, "x", X.dtype) is X
    assert converted(X.T, X.T.shape, "x", X.dtype) is not X
    again = c.value_and_grad(X, labels)[1]
    gradient[...] = 0.0
    np.testing.assert_allclose(again, expected)


def test_results_are_not_written_into_read_only_arrays():
    call = tape.compile(lambda x: np.sum(np.sin(x) * x), np.ones(4)).njit.value_and_grad
    out = np.zeros(4)
    out.setflags(write=False)
    with pytest.raises(TypingError, match="read-only"):
        call(np.ones(4), out)
    np.testing.assert_array_equal(out, np.zeros(4))
