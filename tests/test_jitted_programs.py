"""The corpus of jitted programs, and random ones: against differences, in every mode, from Python and from jitted code."""

import linecache

import numpy as np
import pytest
from jitted_programs import PROGRAMS
from numba import njit
from programs import finance_geometry, statistics

import tape

SOME = PROGRAMS[::14]
NAMES = [name for name, *_ in PROGRAMS]


def leaves(tree):
    if isinstance(tree, tuple):
        return [leaf for part in tree for leaf in leaves(part)]
    return [np.asarray(tree, float)]


def moved(tree, direction, step):
    if isinstance(tree, tuple):
        parts = [moved(t, d, step) for t, d in zip(tree, direction, strict=True)]
        return type(tree)(*parts) if hasattr(tree, "_fields") else tuple(parts)
    return tree + step * direction


def direction_like(tree, random):
    if isinstance(tree, tuple):
        parts = [direction_like(t, random) for t in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else tuple(parts)
    return random.normal(size=np.shape(tree)) if np.ndim(tree) else float(random.normal())


def along(f, args, argnums, direction, step):
    moved_args = list(args)
    for k, d in zip(argnums, direction, strict=True):
        moved_args[k] = moved(args[k], d, step)
    return f(*moved_args)


def quotient(f, args, argnums, direction, step=1e-4):
    """Directional derivative by central differences, extrapolated once (Richardson)."""
    wide, narrow = ((along(f, args, argnums, direction, h) - along(f, args, argnums, direction, -h)) / (2 * h)
                    for h in (step, step / 2))
    return (4 * narrow - wide) / 3


def product(gradient, direction):
    return sum(float(np.sum(g * d)) for g, d in zip(leaves(gradient), leaves(direction), strict=True))


def assert_gradient(f, args, argnums, directions=4):
    value, gradient = tape.value_and_grad(f, argnums)(*args)
    assert value == f(*args)
    random = np.random.default_rng(5)
    scale = max(float(np.max(np.abs(g), initial=0.0)) for g in leaves(gradient))
    for _ in range(directions):
        direction = tuple(direction_like(args[k], random) for k in argnums)
        np.testing.assert_allclose(product(gradient, direction), quotient(f, args, argnums, direction), rtol=1e-6,
                                   atol=1e-6 * scale)
    return gradient


@pytest.mark.parametrize("case", PROGRAMS, ids=NAMES)
def test_value_and_gradient(case):
    _, f, args, argnums = case
    gradient = assert_gradient(f, args, argnums)
    if case not in SOME:
        return
    derivative = tape.grad(f, argnums)
    inside = njit(lambda *a: derivative(*a))
    for got, expected in zip(leaves(inside(*args)), leaves(gradient), strict=True):
        np.testing.assert_array_equal(got, expected)


MORE = [*statistics.PROGRAMS, *finance_geometry.PROGRAMS]


@pytest.mark.parametrize("case", MORE[::8], ids=[name for name, *_ in MORE[::8]])
def test_more_programs(case):
    assert_gradient(*case[1:])


@pytest.mark.slow
@pytest.mark.parametrize("case", [c for k, c in enumerate(MORE) if k % 8], ids=[c[0] for k, c in enumerate(MORE) if k % 8])
def test_the_other_programs(case):
    assert_gradient(*case[1:])


@pytest.mark.parametrize("case", finance_geometry.VECTOR_PROGRAMS[:3], ids=[c[0] for c in finance_geometry.VECTOR_PROGRAMS[:3]])
def test_jacobians_by_rows_and_by_columns_agree(case):
    _, f, args, argnums = case
    forward, reverse = (tape.jacobian(f, argnums, mode)(*args) for mode in ("forward", "reverse"))
    for a, b in zip(leaves(forward), leaves(reverse), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)
    random = np.random.default_rng(8)
    k = argnums[0]
    direction = direction_like(args[k], random)
    if isinstance(args[k], np.ndarray) and isinstance(f(*args), np.ndarray):
        up, down = (f(*args[:k], args[k] + s * direction, *args[k + 1 :]) for s in (1e-6, -1e-6))
        by_first = forward[0] if isinstance(forward, tuple) else forward
        np.testing.assert_allclose(np.tensordot(by_first, direction, direction.ndim), (up - down) / 2e-6, rtol=1e-6, atol=1e-7)


def check_other_modes(case):
    _, f, args, argnums = case
    gradient = tape.grad(f, argnums)(*args)
    t = tape.record(f, *args)
    np.testing.assert_allclose(t.forward(*args), f(*args), rtol=1e-12)
    t.reverse()
    recorded = tuple(t.gradients[k] for k in argnums)
    scale = max(float(np.max(np.abs(g), initial=0.0)) for g in leaves(gradient))
    for got, expected in zip(leaves(recorded), leaves(gradient), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-10 * scale)
    random = np.random.default_rng(6)
    k = argnums[0]
    direction = direction_like(args[k], random)
    second = tape.hvp(f, k)(*args, direction)
    first = tape.grad(f, k)
    up, down = (leaves(first(*args[:k], moved(args[k], direction, h), *args[k + 1 :])) for h in (1e-5, -1e-5))
    for got, a, b in zip(leaves(second), up, down, strict=True):
        expected = (a - b) / 2e-5
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4 * max(1.0, float(np.max(np.abs(expected), initial=0.0))))


@pytest.mark.parametrize("case", SOME, ids=NAMES[::14])
def test_recorded_list_and_second_order(case):
    check_other_modes(case)


@pytest.mark.slow
@pytest.mark.parametrize("case", [c for c in PROGRAMS if c not in SOME], ids=[
    name for name in NAMES if name not in NAMES[::14]])
def test_recorded_list_and_second_order_of_the_others(case):
    check_other_modes(case)


# ------------------------------------------------------------------ random programs


FUNCTIONS = ("math.sin({})", "math.tanh({})", "math.exp(-{} * {})", "math.sqrt(1.0 + {} ** 2)", "math.atan({})", "{} * 0.5")
OPERATORS = ("{} + {}", "{} - {}", "{} * {}", "{} / (2.0 + {} ** 2)", "math.hypot({}, 1.0 + {} ** 2)")


def random_program(seed):
    """Source of a function of two floats and an array, with branches, loops and stores."""
    random = np.random.default_rng(seed)
    names, lines = ["x", "y", "a[0]", "a[1]"], ["b = np.zeros(3)", "b[0] = x", "b[1] = a[2] * y"]

    def pick():
        return str(random.choice(names))

    def expression(depth=2):
        if depth == 0 or random.random() < 0.2:
            return pick()
        if random.random() < 0.4:
            inner = expression(depth - 1)
            return str(random.choice(FUNCTIONS)).format(f"({inner})", f"({inner})")
        return "(" + str(random.choice(OPERATORS)).format(expression(depth - 1), expression(depth - 1)) + ")"

    for k in range(int(random.integers(4, 9))):
        kind = random.random()
        if kind < 0.5 or k == 0:
            lines.append(f"v{k} = {expression()}")
            names.append(f"v{k}")
        elif kind < 0.65:
            lines.append(f"b[{random.integers(3)}] += {expression()}")
            names.append(f"b[{random.integers(3)}]")
        elif kind < 0.8:
            lines += [f"w{k} = {pick()}", f"for i in range({random.integers(1, 5)}):",
                      f"    w{k} = math.sin(w{k}) + 0.3 * a[i % 3] * {pick()}"]
            names.append(f"w{k}")
        else:
            lines += [f"if {pick()} > {random.normal():.3f}:", f"    u{k} = {expression()}", "else:",
                      f"    u{k} = {expression()}"]
            names.append(f"u{k}")
    lines.append("return " + " + ".join(names[-3:]) + " + b[0] * b[1] + b[2]")
    return "def program(x, y, a):\n" + "\n".join("    " + line for line in lines) + "\n"


def check_random_program(seed):
    import math

    source = random_program(seed)
    name = f"<random program {seed}>"
    linecache.cache[name] = (len(source), None, source.splitlines(True), name)
    space = {"np": np, "math": math}
    exec(compile(source, name, "exec"), space)
    f = njit(space["program"])
    random = np.random.default_rng(seed)
    args = (float(random.normal()), float(random.normal()), random.normal(size=3))
    gradient = assert_gradient(f, args, (0, 1, 2), directions=2)
    t = tape.record(f, *args)
    t.reverse()
    for got, expected in zip(leaves(t.gradients), leaves(gradient), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_random_programs(seed):
    check_random_program(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 250))
def test_more_random_programs(seed):
    check_random_program(seed)
