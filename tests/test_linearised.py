"""A function at a point: its products agree, whatever they are computed by, and in whatever order they are asked for."""

import functools
import itertools

import numpy as np
import pytest

import tape
from tape.recording.arguments import checked_leaves, leaves_of
from tape.recording.traces import Traces
from tape.running.linearised import ListedPoint, SweptPoint, linearised, point_of
from tape.running.tiers import lists_of, tier_of

X, W = np.linspace(0.3, 1.2, 5), np.linspace(-1.0, 2.0, 5)


def smooth(x, w):
    return np.sum(np.sin(x) * w**2) + x[0] * w[1]


def assigning(x, w):
    """Its list assigns to cells, which a sweep back undoes."""
    y = np.zeros_like(x)
    y[:] = np.tanh(x * w)
    y[1:] *= x[:-1]
    x[0] = y[2]
    return np.sum(y * y * x)


def branching(x, w):
    return np.sum(x * w) if np.sum(x) > 0 else np.sum(x * x * w)


FUNCTIONS = [smooth, assigning, branching]
SEEDS, TANGENTS = [np.float64(0.7)], [np.cos(X), np.sin(W)]

ASKED = {
    "value": lambda point: point.value,
    "pull": lambda point: point.pull(SEEDS),
    "push": lambda point: point.push(TANGENTS),
    "multiply": lambda point: point.multiply(TANGENTS),
    "gradient": lambda point: point.gradient("a test")[1],
}


@functools.cache
def trace_of(function):
    """The list of a function, whose branches are the same at all points here."""
    return Traces(function).run((X.copy(), W.copy()), {}, (0, 1))[0]


def at(function, kind, step=0.0):
    """The point that lies so far along the tangents, by the sweeps or by lists."""
    args, trace = (X + step * TANGENTS[0], W + step * TANGENTS[1]), trace_of(function)
    return SweptPoint(trace, trace.run(args)[0], args) if kind is SweptPoint else ListedPoint(trace, args)


@pytest.mark.parametrize("kind", [SweptPoint, ListedPoint])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_products_agree(function, kind):
    """v·(Jᵀw) = w·(Jv), and the product with the Hessian is the derivative of the gradient."""
    point = at(function, kind)
    adjoints, pushed = point.pull(SEEDS), point.push(TANGENTS)
    np.testing.assert_allclose(sum(np.vdot(a, t) for a, t in zip(adjoints, TANGENTS, strict=True)),
                               np.vdot(pushed[0], SEEDS[0]), rtol=1e-13)
    h = 1e-6
    ahead, behind = (at(function, kind, step).pull([1.0]) for step in (h, -h))
    for product, a, b in zip(point.multiply(TANGENTS), ahead, behind, strict=True):
        np.testing.assert_allclose(product, (a - b) / (2 * h), rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("kind", [SweptPoint, ListedPoint])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_questions_in_any_order(function, kind):
    """What was asked before changes no answer, also where sweeps back undo assignments; values stand before and after."""
    expected = {name: ask(at(function, kind)) for name, ask in ASKED.items()}
    for order in itertools.product(["pull", "push", "multiply", "gradient"], repeat=3):
        point = at(function, kind)
        for name in order:
            for got, wanted in zip(ASKED[name](point), expected[name], strict=True):
                np.testing.assert_array_equal(got, wanted, err_msg=f"{name} in {order}")
            assert point.value == expected["value"], f"the value after {name} in {order}"


@pytest.mark.parametrize("kind", [SweptPoint, ListedPoint])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_point_that_is_kept(function, kind):
    point = at(function, kind)
    kept, expected = point.kept(), point.pull(SEEDS)
    for _ in range(2):
        for got, wanted in zip(kept.pull(SEEDS), expected, strict=True):
            np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_sweeps_and_lists_agree(function):
    swept, listed = at(function, SweptPoint), at(function, ListedPoint)
    assert swept.gradient("a test")[0] == pytest.approx(listed.gradient("a test")[0], rel=1e-13)
    for name, ask in ASKED.items():
        one, other = ask(at(function, SweptPoint)), ask(listed)
        np.testing.assert_allclose(np.concatenate([np.ravel(a) for a in np.atleast_1d(one)], axis=None),
                                   np.concatenate([np.ravel(a) for a in np.atleast_1d(other)], axis=None), rtol=1e-12,
                                   err_msg=name)


def test_the_list_of_another_branch_is_not_asked():
    """A list that has gone over to machine code stops where a branch is decided otherwise, and another answers."""
    function = lambda x, w: branching(x, w)  # referred to weakly
    traces = Traces(function)
    traces.run((X, W), {}, (0, 1))
    (trace,) = traces
    tier_of(trace, "value_and_grad").compile()
    assert "value_and_grad" in trace.native
    value, gradients = linearised(traces, (-X, W), {}, (0, 1), "value_and_grad", lambda point: point.gradient("a test"))
    assert value == pytest.approx(np.sum(X * X * W))
    np.testing.assert_allclose(gradients[0], -2 * X * W)
    assert len(list(traces)) == 2


def test_lists_with_loops_are_run_by_lists():
    def function(x):
        return tape.fori(0, 3, lambda i, y: np.sin(y), x)

    trace, workspace = Traces(function).run((X,), {}, (0,))
    assert trace.program.has_bodies
    assert trace.program.has_loops
    assert isinstance(point_of(trace, workspace, (X,)), ListedPoint)
    (adjoint,) = point_of(trace, workspace, (X,)).pull([np.ones(5)])
    s, t = np.sin(X), np.sin(np.sin(X))
    np.testing.assert_allclose(adjoint, np.cos(X) * np.cos(s) * np.cos(t), rtol=1e-14)
    assert lists_of(trace).value.results([X])[0] == 0


@pytest.mark.parametrize(("given", "shapes", "message"), [
    ((1.0,), [()], "the seed: expected the structure of the result"),
    ([np.ones(2)], [(3,)], r"the seed: expected shape \(3,\) for result 0, got \(2,\)"),
])
def test_seeds_are_checked(given, shapes, message):
    structure = leaves_of([0.0])[1]
    with pytest.raises(ValueError, match=message):
        checked_leaves(given, structure, shapes)


def test_numbers_may_stand_for_arrays():
    structure = leaves_of([0.0])[1]
    assert checked_leaves([2.0], structure, [(3,)], numbers=True) == [2.0]
    assert checked_leaves([np.ones(2)], structure, [None])[0].shape == (2,)
