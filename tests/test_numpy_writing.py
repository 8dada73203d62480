"""Writing into recorded arrays: out= and where= of ufuncs and functions, `ufunc.at`, put, place, copyto and their like."""

import numpy as np
import pytest
from test_numpy_functions import assert_agrees, drawn

import tape
from tape.recording import dispatch as rules
from tape.rules import writing


def writes(change):
    """A function of two arrays that changes a copy of the first in place, with the second, and returns it."""

    def f(x, v):
        a = x * 1.5
        change(a, v)
        return a * x

    return f


REPEATED = np.array([0, 2, 0, 0, -1])

CASES = {
    "add.at": lambda a, v: np.add.at(a, REPEATED, v[0][:, None]),
    "add.at recorded": lambda a, v: np.add.at(a, np.argsort(v[0]) // 2, v[0][:, None]),
    "add.at rows": lambda a, v: np.add.at(a, (slice(None), [0, 0, 1]), v[:, :3]),
    "add.at pairs": lambda a, v: np.add.at(a, ([0, 0, 2], [1, 1, 3]), v[0, :3]),
    "add.at number": lambda a, v: np.add.at(a, REPEATED, 2.0),
    "add.at mask": lambda a, v: np.add.at(a, np.arange(12).reshape(3, 4) % 2 == 0, v[1, 1]),
    "add.at view": lambda a, v: np.add.at(a.T[::2], [0, 0, 1], v[:, :3]),
    "add.at of a view that moved": lambda a, v: np.add.at(a[::-1, 1:], [0, 0, 2], v[:, 1:4]),
    "add.at slice": lambda a, v: np.add.at(a, slice(1, 3), v[:2, :4]),
    "add.at of nothing": lambda a, v: np.add.at(a, np.zeros(0, int), v[:0, :4]),
    "subtract.at": lambda a, v: np.subtract.at(a, REPEATED, v[0, 0]),
    "multiply.at": lambda a, v: np.multiply.at(a, ([0, 0, 2, 0], [1, 1, 3, 1]), v[0, :4]),
    "divide.at": lambda a, v: np.divide.at(a, REPEATED, v[0, :4]),
    "maximum.at": lambda a, v: np.maximum.at(a, ([0, 0, 2, 0], [1, 1, 3, 1]), v[0, :4]),
    "negative.at": lambda a, v: np.negative.at(a, ([0, 0, 1], [2, 2, 0])),
    "put": lambda a, v: np.put(a, [0, -1, 5], v[0, :2]),
    "put clip": lambda a, v: np.put(a, [3, 40], v[0, :2], mode="clip"),
    "put view": lambda a, v: np.put(a.T, [1, 4], v[0, :2], mode="wrap"),
    "put_along_axis": lambda a, v: np.put_along_axis(a, np.array([[0], [3], [1]]), v[:, :1], 1),
    "put_along_axis broadcast": lambda a, v: np.put_along_axis(a, np.array([[0, 2]]), v[:, :2], 1),
    "put_along_axis recorded": lambda a, v: np.put_along_axis(a, np.argmax(v[:, :4], 0, keepdims=True), v[:1, :4], 0),
    "putmask": lambda a, v: np.putmask(a, a > 0.8, v[0]),
    "place": lambda a, v: np.place(a, a > 0.8, v[0, :2]),
    "copyto": lambda a, v: np.copyto(a, v[0, :4]),
    "copyto where": lambda a, v: np.copyto(a, v[:, :4], where=a > 0.8),
    "copyto number": lambda a, v: np.copyto(a[1], 2),
    "fill_diagonal": lambda a, v: np.fill_diagonal(a, v[0, :3]),
    "fill_diagonal number": lambda a, v: np.fill_diagonal(a.T, v[0, 0], wrap=True),
    "out": lambda a, v: np.add(a, v[:, :4], out=a),
    "out of another shape": lambda a, v: np.multiply(v[0, 0], v[0, :4], out=a),
    "out of constants": lambda a, v: np.sqrt(np.arange(4.0), out=a[1]),
    "out overlaps": lambda a, v: np.add(a[:, :-1], a[:, 1:], out=a[:, 1:]),
    "out and where": lambda a, v: np.exp(v[:, :4], out=a, where=v[:, :4] > 0.5),
    "out of two": lambda a, v: np.modf(3 * v[:, :4], a, None),
    "positional out": lambda a, v: np.sin(v[:, :4], a),
    "sum out": lambda a, v: np.sum(v[:, :4], axis=0, out=a[0]),
    "positional sum out": lambda a, v: np.sum(v[:, :4], 0, None, a[0]),
    "cumsum out": lambda a, v: np.cumsum(v[:, :4], axis=0, out=a),
    "method out": lambda a, v: v[:, :4].mean(0, out=a[2]),
    "dot out": lambda a, v: np.dot(v, v.T @ a, out=a),
    "matmul out": lambda a, v: np.matmul(v, v.T[:, :3], out=a[:, :3]),
    "einsum out": lambda a, v: np.einsum("ij,kj->ik", v, v, out=a[:, 1:]),
    "concatenate out": lambda a, v: np.concatenate([v[:1, :4], v[:2, :4]], out=a),
    "stack out": lambda a, v: np.stack([v[0, :4], v[1, :4]], out=a[:2]),
    "clip out": lambda a, v: np.clip(a, 0.6, 0.9, out=a),
    "reduce out": lambda a, v: np.add.reduce(v[:, :4], out=a[1]),
    "accumulate out": lambda a, v: np.multiply.accumulate(v[:, :4], out=a),
    "round out": lambda a, v: np.round(a, 1, a),
    "sort method": lambda a, v: a[1:].sort(0),
    "fill method": lambda a, v: a[:, 1].fill(v[0, 0]),
    "put method": lambda a, v: a.put([1, 2], v[0, :2]),
}


@pytest.mark.parametrize("name", CASES)
def test_writing(name):
    f = writes(CASES[name])
    assert_agrees(f, drawn((3, 4)), drawn((3, 5), seed=1))


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_writing_in_single_precision(name):
    f = writes(CASES[name])
    assert_agrees(f, drawn((3, 4)).astype(np.float32), drawn((3, 5), seed=1).astype(np.float32))


def test_every_function_that_writes_has_a_case():
    for function, rule in rules.FUNCTIONS.items():
        if rule.__module__ == writing.__name__:
            assert any(name.startswith(function.__name__) for name in CASES), function.__name__


def test_out_is_returned_and_aliases():
    def f(x):
        a = np.zeros_like(x, shape=(2, 3))
        b = np.multiply(x, 2.0, out=a[1])
        a[1, 0] = 7.0
        return b  # a view of a

    np.testing.assert_array_equal(tape.vjp(f, np.ones(3))[0], [7.0, 2.0, 2.0])
    tape.check_grads(f, (np.ones(3),))


def test_elements_read_before_an_addition_keep_their_value():
    def f(x):
        a = x * 2.0
        first, row = a[0], a * a
        np.add.at(a, [0, 0, 1], x)
        return first * row + a

    tape.check_grads(f, (drawn((3,)),), order=2)
    assert_agrees(f, drawn((3,)))


def test_constants_take_recorded_values_only_where_they_are_recorded():
    x = np.ones(3)
    for f in (lambda x: np.sin(x, out=np.zeros(3)), lambda x: np.add.at(np.zeros(3), [0], x[0]),
              lambda x: np.put(np.zeros(3), 0, x[0]), lambda x: np.sum(x, out=np.zeros(())),
              lambda x: np.copyto(np.zeros(3), x),
              lambda x: np.put_along_axis(np.zeros(3), np.array([0]), x[:1], 0)):
        with pytest.raises(tape.NotDifferentiable, match="a plain array cannot hold recorded values"):
            tape.record(f, x)


@pytest.mark.parametrize(("f", "error", "words"), [
    (lambda x: np.sin(x, where=[True, False, True]), tape.NotDifferentiable, "no out="),
    (lambda x: np.sin(x, out=np.zeros(4, like=x)), ValueError, "does not fit out"),
    (lambda x: np.sin(x, out=np.zeros(3, int, like=x)), TypeError, "cannot cast"),
    (lambda x: np.add.at(np.zeros(3, int, like=x), [0], x[0]), TypeError, "cannot cast"),
    (lambda x: np.sin(x, out=x, where=np.ones(3)), TypeError, "booleans"),
    (lambda x: np.multiply.at(x, np.argsort(x), x), tape.NotDifferentiable, "recorded indices"),
    (lambda x: np.copyto(np.zeros(3, int, like=x), x), TypeError, "[Cc]ast"),
])
def test_what_does_not_fit_says_so(f, error, words):
    with pytest.raises(error, match=words):
        tape.record(f, np.ones(3))


@pytest.mark.parametrize("operation", ["__iadd__", "__isub__", "__imul__", "__itruediv__", "__ifloordiv__", "__imod__",
                                       "__ipow__", "__imatmul__"])
def test_operators_in_place_change_what_a_view_shows(operation):
    def f(x, v):
        a = x * 2.0
        row = a[:2, :2]
        getattr(row, operation)(v)
        return a

    assert_agrees(f, drawn((3, 4), 1.2, 1.4), drawn((2, 2), 0.5, 0.55, seed=1))


def test_native_code_adds_at_repeated_indices():
    def f(x):
        a = x * 2.0
        np.add.at(a, [0, 0, 2], x[1:4])
        return np.sum(a * a)

    x = drawn((5,))
    compiled = tape.compile(f, x)
    value, gradient = compiled.value_and_grad(x)
    expected, slope = tape.value_and_grad(f)(x)
    np.testing.assert_allclose(value, expected, rtol=1e-13)
    np.testing.assert_allclose(gradient, slope, rtol=1e-13)
