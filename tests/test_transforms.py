"""From list to list: every pass leaves values and derivatives as they are; derivatives built symbol to symbol are right.

What is not here: lists as machine code (`test_native.py`).
"""

import numpy as np
import pytest
from test_engines import RandomProgram

import tape
from compiled.lists.listing import Listing
from compiled.sweeps.engine import ENGINE
from compiled.table.views import View
from tape.transforms import simplify
from tape.transforms.simplify import ALL, FORWARD_ONLY, dead_code, distinct_results, fold_constants, share, simplified

ROUNDING = 1e-12
"""Relative to the largest of a result: squares become products, and quotients by powers of two products."""

SEEDS = [pytest.param(seed, marks=() if seed < 30 else pytest.mark.slow) for seed in range(300)]

PASSES = {f.__name__: f for f in (dead_code, fold_constants, share, simplify.forward_copies, simplify.without_saving,
                                  simplify.without_stops, simplify.own_arguments, distinct_results)}

SAME_DERIVATIVES = ("dead_code", "fold_constants", "share", "forward_copies", "distinct_results")
"""Passes after which the list can still be swept backward."""

GROWING = ("own_arguments", "distinct_results", "share", "forward_copies")
"""Passes that may write copies; those of the last two take the place of what dead code leaves out."""


# ---------------------------------------------------------------------- passes on random lists


def pruned(program, seed) -> Listing:
    """A random program as steps, with some of its outputs, some of them as views."""
    random = np.random.default_rng(seed)
    listing = Listing.of(program)
    views = [view for view in program.outputs if random.integers(3) == 0] or [program.outputs[-1]]
    views = [View(view.cell, view.shape[::-1], view.strides[::-1]) if random.integers(2) else view for view in views]
    broadcast = views[0]
    views.append(View(broadcast.cell, (2, *broadcast.shape), (0, *broadcast.strides)))
    listing.outputs = [simplify.result_of(program, view) for view in views]
    listing.active = set(listing.inputs[:3])  # the list itself does not say it of inputs that no instruction uses
    return listing


def results(program):
    """Results of a forward sweep over the inputs that are in the program."""
    values = program.values.copy()
    status = ENGINE.forward(program.code, program.geometry, values, 0, len(program.code))
    assert status == -1
    return [view.of(values).copy() for view in program.outputs]


def gradients(program, active):
    """Adjoints of the active inputs, for adjoints of the results that depend on nothing but their place."""
    values, adjoints = program.values.copy(), np.zeros_like(program.values)
    ENGINE.forward(program.code, program.geometry, values, 0, len(program.code))
    random = np.random.default_rng(0)
    for view in program.outputs:
        np.add.at(adjoints, view.of(np.arange(len(values))), random.standard_normal(view.shape))
    ENGINE.reverse(program.code, program.geometry, values, adjoints, False)
    return [program.inputs[k].of(adjoints).copy() for k in active]


def with_inputs(program, like):
    """The program with the values of the inputs of another in place."""
    for view, other in zip(program.inputs, like.inputs, strict=True):
        view.of(program.values)[...] = other.of(like.values)
    return program


def assert_equal(got, expected, rounding=ROUNDING):
    """Demand equal arrays, NaN included."""
    for one, other in zip(got, expected, strict=True):
        assert one.shape == other.shape
        scale = np.max(np.abs(other[np.isfinite(other)]), initial=1.0)
        np.testing.assert_allclose(one, other, rtol=rounding, atol=rounding * scale)


def compare(program, listing, passes, derivatives):
    """Demand that a listing computes the same before and after the passes."""
    before = with_inputs(listing.program(), program)
    rewritten = simplified(listing, passes)
    after = with_inputs(rewritten.program(), program)
    after.check()
    rounding = ROUNDING if program.values.dtype == np.float64 else 1e-4
    assert_equal(results(after), results(before), rounding)
    if derivatives:
        active = range(3)
        assert_equal(gradients(after, active), gradients(before, active), 10 * rounding)
    return len(before.code), len(after.code)


@pytest.mark.parametrize("name", PASSES)
@pytest.mark.parametrize("seed", SEEDS)
def test_one_pass(name, seed):
    program = RandomProgram(seed).program
    for listing in (Listing.of(program), pruned(program, seed)):
        before, after = compare(program, listing, (PASSES[name],), name in SAME_DERIVATIVES)
        assert name in GROWING or after <= before


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("seed", SEEDS)
def test_all_passes(seed, dtype):
    program = RandomProgram(seed, dtype).program
    for listing in (Listing.of(program), pruned(program, seed)):
        compare(program, listing, ALL, dtype == np.float64)
        before, after = compare(program, listing, (dead_code, fold_constants, share, dead_code), False)
        assert after <= before
        compare(program, listing, FORWARD_ONLY, False)


# ---------------------------------------------------------------------- identities


def names(t) -> list[str]:
    """Names of a tape's instructions."""
    return [t._program.table.rows[opcode].name for opcode in t.opcodes]


def simplified_names(f, *args):
    """Names of the instructions of a function's simplified list."""
    return names(tape.record(f, *args).simplify())


IDENTITIES = {
    "times one": (lambda x: np.sin(x * 1.0), ["sin"]),
    "one times": (lambda x: np.sin(1.0 * x), ["sin"]),
    "times minus one": (lambda x: x * -1.0, ["neg"]),
    "times zero": (lambda x: x * 0.0, ["mul"]),
    "plus zero": (lambda x: np.sin(x + 0.0), ["add", "sin"]),
    "plus minus zero": (lambda x: np.sin(x + -0.0), ["sin"]),
    "minus zero": (lambda x: np.sin(x - 0.0), ["sin"]),
    "divided by one": (lambda x: np.sin(x / 1.0), ["sin"]),
    "divided by four": (lambda x: x / 4.0, ["mul"]),
    "divided by three": (lambda x: x / 3.0, ["div"]),
    "first power": (lambda x: np.sin(x**1.0), ["sin"]),
    "square": (lambda x: x**2, ["mul"]),
    "reciprocal": (lambda x: x**-1.0, ["reciprocal"]),
    "twice the same": (lambda x: np.sin(x) * np.sin(x), ["sin", "mul"]),
    "the same the other way round": (lambda x: np.sin(x * 2.0) + np.sin(2.0 * x), ["mul", "sin", "add"]),
    "not the same the other way round": (lambda x: (x - 2.0) * (2.0 - x), ["sub", "sub", "mul"]),
    "copies": (lambda x: np.positive(np.positive(np.sin(x))), ["sin"]),
    "a known choice": (lambda x: np.where(np.array([True, True]), x, np.exp(x)), ["copy"]),
    "nothing used": (lambda x: (np.sin(x), x)[1], []),
    "a constant to derivatives": (lambda x: tape.stop_gradient(x) * x, ["stop", "mul"]),
}
"""Functions, and the instructions that are left of their lists where that is certain."""


@pytest.mark.filterwarnings("ignore::tape.UndefinedGradientWarning")
@pytest.mark.parametrize("name", IDENTITIES)
def test_identities(name):
    f, expected = IDENTITIES[name]
    for x in map(np.float64, (0.7, -0.0, 0.0, np.inf, -np.inf, np.nan)):
        with np.errstate(all="ignore"):
            t = tape.record(f, x)
            short = t.simplify()
            np.testing.assert_array_equal(short.forward(x), f(x))
        short.check()
        assert len(short) <= len(t)
        assert expected is None or names(short) == expected
        t.reverse()
        short.reverse()
        np.testing.assert_allclose(short.gradients[0], t.gradients[0], rtol=1e-15)


def test_constants_are_folded():
    t = tape.record(lambda x: np.sin(np.ones_like(x) * 2.0) * x, np.ones(3))
    assert names(t.simplify()) == ["mul"]
    np.testing.assert_allclose(t.simplify().forward(np.array([1.0, 2.0, np.nan])), np.sin(2.0) * np.array([1.0, 2.0, np.nan]))


def test_equal_expressions_of_arrays_that_change_are_not_shared():
    def f(x):
        y = x * 2.0
        before = np.sin(y)
        y[1] = x[0]
        return before + np.sin(y)

    x = np.array([0.3, 0.4, 0.5])
    t = tape.record(f, x).simplify()
    np.testing.assert_allclose(t.forward(x), f(x), rtol=1e-15)
    t.reverse()
    np.testing.assert_allclose(t.gradients[0], tape.grad(lambda x: np.sum(f(x)))(x), rtol=1e-15)


def test_what_is_a_constant_to_derivatives_stays_one():
    t = tape.record(lambda x: tape.stop_gradient(x * x) * x, 3.0)
    short = t.simplify()
    assert short.forward(3.0) == 27.0
    short.reverse()
    assert short.gradients[0] == 9.0
    first = t.build_grad()
    assert [float(g.forward(3.0)) for g in (first, first.build_grad(), first.build_grad().build_grad())] == [9.0, 0.0, 0.0]


def test_simplify_runs_the_passes_that_it_is_given():
    t = tape.record(lambda x: np.sin(x) * np.sin(x) + 0.0 * np.exp(x), 1.0)
    assert len(t.simplify(())) == len(t)
    assert len(t.simplify((share, dead_code))) == len(t) - 1


# ---------------------------------------------------------------------- sums of exponentials

SUMS_OF_EXPONENTIALS = {
    "vector": (lambda x: np.log(np.sum(np.exp(x))), (3,)),
    "rows": (lambda x: np.log(np.sum(np.exp(x), axis=1)), (4, 3)),
    "columns": (lambda x: np.log(np.sum(np.exp(x), axis=0, keepdims=True)) * 2.0, (4, 3)),
    "two axes of three": (lambda x: np.log(np.sum(np.exp(x.T), axis=(0, 2), keepdims=True))[:, ::-1], (4, 3, 2)),
    "middle axis, transposed": (lambda x: np.log(np.exp(x).sum(1).T), (2, 3, 2)),
    "a slice": (lambda x: np.sum(x[::2] * np.log(np.sum(np.exp(2.0 * x[::2, 1:]), axis=1))[:, None]), (4, 3)),
    "one row": (lambda x: np.sum(x - np.log(np.sum(np.exp(x), axis=1, keepdims=True))), (1, 3)),
}
"""Functions in which log(sum(exp(...))) is rewritten, and the argument's shape."""


@pytest.mark.parametrize("name", SUMS_OF_EXPONENTIALS)
def test_sums_of_exponentials_do_not_overflow(name):
    f, shape = SUMS_OF_EXPONENTIALS[name]
    x = np.random.default_rng(1).standard_normal(shape)
    t = tape.record(f, x)
    stable = t.simplify()
    stable.check()
    assert "amax" in names(stable)
    assert "amax" not in names(t)
    np.testing.assert_allclose(stable.forward(x), f(x), rtol=1e-13, atol=1e-13)
    t.reverse()
    stable.reverse()
    np.testing.assert_allclose(stable.gradients[0], t.gradients[0], rtol=1e-13, atol=1e-13)
    second, expected = (s.build_grad().build_grad().forward(x) for s in (stable, t))
    np.testing.assert_allclose(second, expected, rtol=1e-12, atol=1e-12)
    large = 500.0 + 400.0 * x  # some sums overflow, some do not
    assert np.all(np.isfinite(stable.forward(large)))
    stable.reverse()
    np.testing.assert_allclose(stable.build_grad().forward(large), stable.gradients[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", SUMS_OF_EXPONENTIALS)
def test_sums_of_exponentials_of_infinities(name):
    f, shape = SUMS_OF_EXPONENTIALS[name]
    x = np.random.default_rng(1).standard_normal(shape)
    stable = tape.record(f, x).simplify()
    for special in (np.inf, -np.inf, np.nan):
        for where in (np.s_[:1], np.s_[...]):
            y = x.copy()
            y[where] = special
            with np.errstate(all="ignore"):
                np.testing.assert_allclose(stable.forward(y), f(y), rtol=1e-13)


def test_large_exponents():
    stable = tape.record(lambda x: np.log(np.sum(np.exp(x))), np.zeros(2)).simplify()
    assert float(stable.forward(np.array([1000.0, 1000.0]))) == pytest.approx(1000.0 + np.log(2.0), rel=1e-15)
    stable.reverse()
    np.testing.assert_array_equal(stable.gradients[0], [0.5, 0.5])
    assert float(stable.forward(np.array([-1000.0, -1000.0]))) == pytest.approx(-1000.0 + np.log(2.0), rel=1e-15)


@pytest.mark.parametrize("f", [
    lambda x: np.log(np.sum(np.exp(x))) + np.sum(np.exp(x)),  # with shared exponentials
    lambda x: (np.log(np.sum(np.exp(x))), np.exp(x)),
    lambda x: np.log(np.sum(np.exp(x)) + 1.0),
    lambda x: np.log(np.sum(2.0 * np.exp(x))),
    lambda x: np.log(np.sum(np.exp(x)[:2])),
    lambda x: np.log(np.exp(x)),
    lambda x: np.log(np.sum(np.exp(x[:, None]), axis=1)),
])
def test_other_sums_stay_as_they_are(f):
    x = np.array([0.1, 0.2, 0.3])
    assert "amax" not in simplified_names(f, x)


def cross_entropy(x, y):
    """Of a softmax with logits x and labels y, stable."""
    return tape.logsumexp(x) - np.sum(x * y)


def naive_cross_entropy(x, y):
    """The same by its definition."""
    return -np.sum(y * np.log(np.exp(x) / np.sum(np.exp(x))))


@pytest.mark.parametrize(("f", "most"), [(cross_entropy, 13), (naive_cross_entropy, 17)])
def test_softmax_with_cross_entropy(f, most):
    x, y = np.array([1.0, 2.0, 3.0]), np.array([0.0, 1.0, 0.0])
    t = tape.record(f, x, y)
    gradient = t.build_grad(t.inputs[0])
    np.testing.assert_allclose(gradient.forward(x, y), np.exp(x) / np.sum(np.exp(x)) - y, rtol=1e-13)
    assert len(gradient) <= most


def test_softmax_with_cross_entropy_ends_in_probabilities_minus_labels():
    x, y = np.array([1.0, 2.0, 3.0]), np.array([0.0, 1.0, 0.0])
    t = tape.record(cross_entropy, x, y)
    after = names(t.build_grad(t.inputs[0]))
    # 1 / sum, which is 0 for a sum of nothing and NaN where its logarithm is, times each exponential, and the labels taken off.
    assert after[after.index("accumulate") + 1 :] == [
        "neg", "log_slope", "adjoint_product", "add"]


# ---------------------------------------------------------------------- build_grad, build_jvp

MATRIX = np.array([[0.5, -0.2, 0.1], [0.3, 0.8, -0.4], [0.2, 0.1, 0.9]])


def stored(x):
    y = np.zeros_like(x)
    y[1:] = x[:-1] ** 2
    y[0] = np.sin(x[2])
    y[1] *= y[0]
    return np.sum(y * x)


BUILT = {
    "powers": (lambda x: np.sum(x**3) * x[0], 3),
    "transcendental": (lambda x: np.sum(np.sin(x) * np.exp(x / 2.0)) / (1.0 + x[1] ** 2), 3),
    "slices": (lambda x: np.sum(x[1:] * x[:-1] ** 2), 4),
    "matrix": (lambda x: x @ MATRIX @ np.tanh(MATRIX @ x), 3),
    "gather": (lambda x: np.sum(x[[0, 2, 0]] ** 3), 3),
    "assignment": (stored, 4),
    "logsumexp": (lambda x: tape.logsumexp(2.0 * x) ** 2, 3),
    "naive logsumexp": (lambda x: np.log(np.sum(np.exp(2.0 * x))) ** 2, 3),
    "largest": (lambda x: np.max(x) ** 3 + np.min(x) * x[0], 3),
    "broadcast": (lambda x: np.sum((x[:, None] - x) ** 4), 3),
    "branches": (lambda x: np.sum(np.where(x > 0.5, x**3, np.sin(x))) + np.sum(np.clip(x, 0.2, 0.8) ** 2), 3),
    "norm": (lambda x: np.linalg.norm(x) ** 3, 3),
    "numbers": (lambda x: sum(x[i] * x[i + 1] * np.cos(x[i]) for i in range(2)), 3),
}
"""Scalar functions of a vector, and its length."""


@pytest.fixture
def point():
    """Vectors of a given length, the same each time, without ties or kinks."""
    return lambda n: np.linspace(0.3, 0.9, n)[np.arange(n) * 3 % n if n % 3 else np.arange(n)[::-1]]


@pytest.mark.parametrize("name", BUILT)
def test_build_grad_once_twice_three_times(name, point):
    f, n = BUILT[name]
    x = point(n)
    t = tape.record(f, x)
    first = t.build_grad(t.inputs[0])
    first.check()
    np.testing.assert_allclose(first.forward(x), tape.grad(f)(x), rtol=1e-11, atol=1e-12)
    total = lambda x: np.sum(tape.grad(f)(x))
    second = first.build_grad(first.inputs[0])
    second.check()
    np.testing.assert_allclose(second.forward(x), tape.grad(total)(x), rtol=1e-10, atol=1e-11)
    third = second.build_grad(second.inputs[0])
    third.check()
    expected = tape.grad(lambda x: np.sum(tape.grad(total)(x)))(x)
    np.testing.assert_allclose(third.forward(x), expected, rtol=1e-9, atol=1e-9)
    steps = [(second.forward(x + h) - second.forward(x - h)) / 2e-5 for h in 1e-5 * np.eye(n)]
    np.testing.assert_allclose(third.forward(x), np.sum(steps, axis=1), rtol=1e-6, atol=1e-6)
    other = x[::-1] * 0.9 + 0.02
    np.testing.assert_allclose(first.forward(other), tape.grad(f)(other), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", BUILT)
def test_build_jvp(name, point):
    f, n = BUILT[name]
    x, v = point(n), np.cos(np.arange(n))
    t = tape.record(f, x)
    pushed = t.build_jvp(t.inputs[0], value=True)
    pushed.check()
    value, tangent = tape.jvp(f, (x,), (v,))
    np.testing.assert_allclose(pushed.forward(x, v), (value, tangent), rtol=1e-12)
    # The tangent's derivative with respect to its direction is the gradient; forward over reverse is reverse over forward.
    by_direction = pushed.build_grad(pushed.inputs[1])
    assert len(pushed.prune(pushed.results[1])) <= len(pushed)
    assert by_direction.forward(x, v).shape == x.shape
    pushed = t.build_jvp()
    np.testing.assert_allclose(pushed.build_grad(pushed.inputs[1]).forward(x, v), tape.grad(f)(x), rtol=1e-10, atol=1e-12)
    over = t.build_grad(t.inputs[0])
    np.testing.assert_allclose(over.build_jvp(over.inputs[0]).forward(x, v), tape.hvp(f)(x, v), rtol=1e-10, atol=1e-11)


def test_build_grad_with_values_and_several_arguments():
    f = lambda x, y: (np.sum(x * y["a"]) * y["b"], 2.0)[0]
    x, y = np.array([1.0, 2.0]), {"a": np.array([3.0, 4.0]), "b": 5.0}
    t = tape.record(f, x, y)
    value, gradients = t.build_grad(value=True).forward(x, y)
    expected, by_tape = tape.value_and_grad(f, argnums=(0, 1))(x, y)
    assert value == expected
    np.testing.assert_array_equal(gradients[0], by_tape[0])
    np.testing.assert_array_equal(gradients[1]["a"] if isinstance(gradients[1], dict) else gradients[1], by_tape[1]["a"])


def test_build_grad_with_respect_to_interior_variables():
    t = tape.record(lambda x: np.sum(np.sin(x) ** 2), np.array([0.3, 0.4]))
    x = np.array([0.3, 0.4])
    sine = int(np.searchsorted([cell for cell, _ in t._program.slots], t.outputs[names(t).index("sin")]))
    np.testing.assert_allclose(t.build_grad(sine).forward(x), 2.0 * np.sin(x), rtol=1e-14)
    both = t.build_grad({"x": t.inputs[0], "sine": sine}).forward(x)
    np.testing.assert_allclose(both["x"], np.sin(2.0 * x), rtol=1e-14)
    np.testing.assert_allclose(both["sine"], 2.0 * np.sin(x), rtol=1e-14)
    assert t.build_grad(t.results).forward(x) == 1.0


def test_build_grad_of_several_results_is_that_of_their_sum():
    f = lambda x: (np.sin(x), {"y": np.sum(x**2)}, 3.0)
    x = np.array([0.3, 0.4])
    t = tape.record(f, x)
    np.testing.assert_allclose(t.build_grad(t.inputs[0]).forward(x), np.cos(x) + 2.0 * x, rtol=1e-14)
    (sine, sums, constant), gradient = t.build_grad(t.inputs[0], value=True).forward(x)
    np.testing.assert_allclose(sine, np.sin(x), rtol=1e-15)
    np.testing.assert_allclose([sums["y"], constant], [np.sum(x**2), 3.0])
    np.testing.assert_allclose(gradient, np.cos(x) + 2.0 * x, rtol=1e-14)
    first, second, constant = t.build_jvp(t.inputs[0]).forward(x, np.array([1.0, -1.0]))
    np.testing.assert_allclose(first, np.cos(x) * [1.0, -1.0])
    np.testing.assert_allclose([second["y"], constant], [2.0 * x[0] - 2.0 * x[1], 0.0])


def test_prune_to_some_targets():
    f = lambda x: (np.sin(x), np.exp(np.cos(x)))
    t = tape.record(f, 0.5)
    assert names(t.prune(t.results[0])) == ["sin"]
    assert names(t.prune(t.results[1])) == ["cos", "exp"]
    assert names(t.prune([t.results[1], t.results[0]])) == ["sin", "cos", "exp"]
    pruned_list = t.prune({"b": t.results[1]})
    assert pruned_list.forward(0.5)["b"] == np.exp(np.cos(0.5))
    np.testing.assert_allclose(pruned_list.build_grad(pruned_list.inputs[0]).forward(0.5), -np.sin(0.5) * np.exp(np.cos(0.5)))
    assert float(t.prune(t.inputs[0]).forward(0.25)) == 0.25


def test_guards_stay_in_pruned_and_simplified_lists():
    def f(x):
        return x * 2.0 if np.sum(x) > 0 else x

    t = tape.record(f, np.array([1.0, 2.0]))
    for shorter in (t.prune(), t.simplify(), t.build_grad(), t.prune(t.results)):
        shorter.forward(np.array([2.0, 1.0]))
        with pytest.raises(tape.GuardFailed):
            shorter.forward(np.array([-2.0, -1.0]))


def test_targets_that_cannot_be():
    t = tape.record(lambda x: x[0] * 2.0, np.array([1.0, 2.0]))
    with pytest.raises(KeyError, match="slot number"):
        t.build_grad(1000)
    with pytest.raises(tape.NotDifferentiable, match="depends"):
        tape.record(lambda x: 1.0, 2.0).build_grad()
    t = tape.record(lambda x: x[1:], np.array([1.0, 2.0]))
    with pytest.raises(tape.NotDifferentiable, match="part"):
        t.build_grad(t.results)


@pytest.mark.parametrize("name", ["matrix", "assignment", "gather", "logsumexp"])
def test_built_lists_in_files(name, point, tmp_path):
    f, n = BUILT[name]
    x = point(n)
    first = tape.record(f, x).build_grad()
    first.save(tmp_path / "gradient.npz")
    np.testing.assert_array_equal(tape.load(tmp_path / "gradient.npz").forward(x), first.forward(x))


@pytest.mark.parametrize("name", BUILT)
def test_built_lists_in_single_precision(name, point):
    f, n = BUILT[name]
    if name == "matrix":
        f = lambda x: x @ MATRIX.astype(np.float32) @ np.tanh(MATRIX.astype(np.float32) @ x)
    x = point(n).astype(np.float32)
    t = tape.record(f, x)
    gradient = t.build_grad(t.inputs[0]).forward(x)
    assert gradient.dtype == np.float32
    np.testing.assert_allclose(gradient, tape.grad(BUILT[name][0])(point(n)), rtol=3e-4, atol=1e-4)


def test_a_built_tape_sweeps_back_from_the_values_that_were_recorded():
    t = tape.record(lambda x: np.sum(np.sin(x) ** 2), np.array([0.3, 0.7]))
    t.reverse()
    u = t.simplify()
    u.reverse()
    np.testing.assert_allclose(u.gradients[0], t.gradients[0], rtol=1e-14)
    first = t.build_grad(t.inputs[0])
    first.reverse()
    np.testing.assert_allclose(first.gradients[0], 2 * np.cos([0.6, 1.4]), rtol=1e-13)
