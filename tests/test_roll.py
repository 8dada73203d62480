"""Repeats rolled back into loops: equal values and gradients, fewer instructions; what is no loop stays as it is."""

import numpy as np
import pytest

import tape
from compiled.lists.listing import Listing
from tape.transforms.roll import rolled

X = np.array([0.3, 0.2, 0.1])


def recurrence(x):
    a, b, c = x[0], x[1], x[2]
    for i in range(800):
        a = a * b + c
        b = b - a * 0.001
        c = np.sin(c) + b if i % 7 == 0 else c * 0.99
    return a + b + c


def vectors(x):
    y, total = x * 1.0, 0.0
    for _ in range(300):
        y = y + 0.01 * np.sin(y) * x[2]
        total = total + np.sum(y * y)
    return total + y[1]


def over_elements(c):
    r = 0.0
    for k in range(899, -1, -1):
        r = r * 0.5 + c[k] * c[2]
    return r


def all_results(x):
    out = []
    for i in range(500):
        x = x * 1.001 + 0.1 * i
        out.append(np.cos(x))
    return np.sum(np.stack(out) ** 2)


def products(w):
    h = np.ones(3)
    for _ in range(400):
        h = np.tanh(w @ h) + 0.1
    return np.sum(h)


def two_loops(x):
    for _ in range(600):
        x = np.sin(x) + 0.1
    for _ in range(700):
        x = x * x - 0.3 * x
    return np.sum(x)


ROLLED = [(recurrence, X), (vectors, X), (over_elements, np.linspace(0, 1, 900)), (all_results, 0.3),
          (products, np.linspace(-1, 1, 9).reshape(3, 3)), (two_loops, X)]


def of(function, x):
    t = tape.record(function, x)
    trace = t._trace
    listing = rolled(Listing.of(t._program))
    return t, t._rewritten(listing, trace.results, trace.result_dtypes, trace.structure, t._structure)


@pytest.mark.parametrize(("function", "x"), ROLLED, ids=[f.__name__ for f, _ in ROLLED])
def test_repeats_become_loops_of_equal_value_and_gradient(function, x):
    t, u = of(function, x)
    assert "loop" in str(u)
    assert len(u) < 0.6 * len(t)
    u.check()
    for scale in (1.0, 0.9):
        np.testing.assert_allclose(u.forward(scale * x), t.forward(scale * x), rtol=1e-13)
        u.reverse()
        t.reverse()
        np.testing.assert_allclose(u.gradients[0], t.gradients[0], rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize(("function", "x"), ROLLED, ids=[f.__name__ for f, _ in ROLLED])
def test_compiled_functions_are_rolled(function, x):
    c = tape.compile(function, x)
    value, gradient = c.value_and_grad(x)
    expected = tape.record(function, x)
    np.testing.assert_allclose(value, expected.forward(x), rtol=1e-12)
    expected.reverse()
    np.testing.assert_allclose(gradient, expected.gradients[0], rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(c.jvp((x,), (np.ones_like(x),))[1], np.sum(gradient), rtol=1e-9)


def test_what_is_no_loop_stays():
    order = np.random.default_rng(0).permutation(1000)

    def irregular(x):  # each step reads an element that no other rule than the table says
        total = 0.0
        for k in order:
            total = total * 0.9 + x[k]
        return total

    def longer_memory(x):  # reads what was computed three repeats before
        states = [x, x + 1.0, x + 2.0]
        for _ in range(1200):
            states.append(np.sin(states[-3]) + states[-1])
        return states[-1]

    def in_place(x):
        x = x * 1.0
        for k in range(600):
            x[k % 3] = x[(k + 1) % 3] * 0.5
        return np.sum(x)

    for function, x in ((irregular, np.linspace(0, 1, 1000)), (longer_memory, 0.3), (in_place, X)):
        t, u = of(function, x)
        assert len(t) == len(u)
        np.testing.assert_allclose(tape.compile(function, x).value_and_grad(x)[1], tape.grad(function)(x), rtol=1e-11)


def test_a_hundred_thousand_steps_compile_as_fast_as_a_thousand():
    def f(x):
        for _ in range(20_000):
            x = x + 1e-3 * np.sin(x) * x
        return x

    t, u = of(f, 0.3)
    assert len(t) >= 80_000
    assert len(u) < 100
    np.testing.assert_allclose(u.forward(0.3), t.forward(0.3), rtol=1e-12)
