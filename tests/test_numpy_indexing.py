"""Reading and assigning parts of recorded arrays in all of NumPy's ways: values and aliasing as NumPy's, gradients right."""


import numpy as np
import pytest
from counting import Counter

import tape

RANDOM = np.random.default_rng(5)
CUBE = RANDOM.permutation(np.linspace(0.3, 0.9, 60)).reshape(3, 4, 5)
MASK = RANDOM.random((3, 4)) < 0.5

BASIC = {
    "int": 1,
    "negative int": -1,
    "numpy int": np.int64(2),
    "two ints": (1, 2),
    "three ints": (1, -2, 3),
    "slice": slice(1, 3),
    "empty slice": slice(2, 2),
    "slice beyond": slice(-10, 10),
    "step": slice(None, None, 2),
    "negative step": slice(None, None, -1),
    "step -2": (slice(None), slice(3, 0, -2)),
    "ellipsis": ...,
    "ellipsis int": (..., 0),
    "int ellipsis int": (1, ..., -1),
    "newaxis": None,
    "newaxis inside": (slice(None), None, 1),
    "newaxis at the end": (..., None),
    "everything": (),
    "int slice": (0, slice(1, 3)),
    "slices": (slice(1, None), slice(None, -1), slice(None, None, 2)),
    "mixed": (None, 1, ..., slice(0, 2), None),
}

ADVANCED = {
    "list": [0, 2],
    "list with repeats": [1, 1, 0, 1],
    "negative list": [-1, -3],
    "array": np.array([2, 0]),
    "2-d array": np.array([[0, 1], [2, 2]]),
    "empty list": np.array([], np.int64),
    "pair": ([0, 1], [2, 3]),
    "broadcast pair": (np.array([[0], [2]]), np.array([1, 3, 3])),
    "triple": ([0, 1], [1, 1], [4, 0]),
    "array and int": ([0, 2], 1),
    "int and array": (1, [0, 2, 2]),
    "array and slice": ([0, 2], slice(1, 3)),
    "slice and array": (slice(1, 3), [3, 0]),
    "split by a slice": ([0, 2], slice(None), [1, 4]),
    "int, slice, array": (0, slice(None), [1, 4]),
    "array and ellipsis": ([1, 1], ..., 0),
    "array and newaxis": ([1, 1], None),
    "newaxis and arrays": (None, [1, 0], [2, 2]),
    "split by newaxis": ([1, 0], None, [2, 2]),
    "mask": CUBE > 0.6,
    "row mask": np.array([True, False, True]),
    "matrix mask": MASK,
    "mask and int": (np.array([True, False, True]), 1),
    "mask and slice": (slice(None), np.array([True, False, True, True]), slice(0, 2)),
    "mask and array": (np.array([True, False, True]), [0, 3]),
    "nothing": np.zeros((3, 4, 5), bool),
    "ix": np.ix_([0, 2], [1, 3], [0, 4]),
    "true": np.True_,
    "int8": np.array([0, 2], np.int8),
    "uint8": np.array([0, 2], np.uint8),
}

EVERY = {**BASIC, **ADVANCED}


def same(got, expected):
    assert np.shape(got) == np.shape(expected)
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("name", EVERY)
def test_get(name):
    index = EVERY[name]
    same(tape.vjp(lambda x: x[index], CUBE)[0], CUBE[index])
    tape.check_grads(lambda x: np.sin(x[index]) * x[index], (CUBE,), order=2)


@pytest.mark.parametrize("name", EVERY)
def test_get_from_a_view(name):
    index = EVERY[name]
    for view in (
        lambda x: x[::-1, :, ::-1],
        lambda x: np.transpose(np.transpose(x, (2, 0, 1)) * 1.0, (1, 2, 0)),
        lambda x: np.broadcast_to(x[:1], x.shape),
    ):
        same(
            tape.vjp(lambda x, view=view: view(x)[index], CUBE)[0]
            if view(CUBE).strides[0]
            else tape.record(lambda x, view=view: view(x)[index], CUBE).forward(CUBE),
            view(CUBE)[index],
        )
        tape.check_grads(lambda x, view=view: np.sin(view(x)[index]), (CUBE,), order=1)


def assigned(x, index, value, start):
    """A function that changes an array in place, for plain and recorded arrays alike."""
    y = start(x)
    y[index] = value(x)
    return y * y


@pytest.mark.parametrize(
    "start", [np.zeros_like, lambda x: x * 2.0, lambda x: (x * 2.0)[::-1, :, ::-1]], ids=["zeros", "product", "view"]
)
@pytest.mark.parametrize("name", EVERY)
def test_put(name, start):
    index = EVERY[name]
    for value in (
        lambda x: 7.0,
        lambda x: x[0, 0, 0],
        lambda x: np.sin(x)[index],
        lambda x: np.cos(x[index])[..., ::-1] if x[index].ndim else 1.0,
    ):

        def f(x, value=value):
            return assigned(x, index, value, start)

        np.testing.assert_allclose(tape.vjp(f, CUBE)[0], f(CUBE), rtol=1e-14)
        tape.check_grads(f, (CUBE,), order=1)
    tape.check_grads(f, (CUBE,), order=2)


@pytest.mark.parametrize("name", [n for n in EVERY if n not in ("nothing", "empty list")])
def test_augment(name):
    index = EVERY[name]

    def f(x):
        y = x * 2.0
        y[index] += x[0, 0, 0]
        y[index] *= np.sin(x[index])
        y[index] -= 0.3
        y[index] /= 1.7
        y[index] **= 2
        return y * x

    np.testing.assert_allclose(tape.vjp(f, CUBE)[0], f(CUBE), rtol=1e-12)
    tape.check_grads(f, (CUBE,), order=2)


@pytest.mark.parametrize(
    "operation",
    [
        lambda y, x: y.__iadd__(x),
        lambda y, x: y.__isub__(x),
        lambda y, x: y.__imul__(x),
        lambda y, x: y.__itruediv__(x),
        lambda y, x: y.__ipow__(2),
        lambda y, x: y.__iadd__(1),
        lambda y, x: y.__imul__(y),
        lambda y, x: y.__iadd__(y[::-1]),
    ],
)
def test_augmented_assignment_of_whole_arrays(operation):
    x = np.array([0.3, 0.5, 0.9])

    def f(x):
        y = np.exp(x)
        alias = y[1:]
        y = operation(y, x)
        return y * x, alias * 2.0

    for got, expected in zip(tape.vjp(f, x)[0], f(x), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-14)
    tape.check_grads(f, (x,), order=3)


@pytest.mark.parametrize(
    "index",
    [3, -4, (0, 4), (0, 0, 5), [0, 3], [-4], ([0], [4]), (0, 0, 0, 0), [0.5], "a", 1.0, slice(0.5, 2), np.array([True, False])],
    ids=repr,
)
def test_wrong_indices_are_refused_as_by_numpy(index):
    with pytest.raises((IndexError, TypeError)) as plain:
        CUBE[index]
    with pytest.raises(plain.type):
        tape.record(lambda x: x[index], CUBE)

    def f(x):
        y = x * 1.0
        y[index] = 1.0
        return y

    with pytest.raises(plain.type):
        tape.record(f, CUBE)


def test_wrong_shapes_are_refused_as_by_numpy():
    def f(x):
        y = x * 1.0
        y[0] = x[:, 0, 0]
        return y

    for run in (f, lambda x: tape.record(f, x)):
        with pytest.raises(ValueError, match="could not broadcast"):
            run(CUBE)


# ---------------------------------------------------------------------- recorded indices

RECORDED = {
    "one": (lambda x, i: x[i], (6,), np.array([0, 2, 2]), np.array([5, -1, -6])),
    "scalar": (lambda x, i: x[i], (6,), 2, -3),
    "2-d": (lambda x, i: x[i], (6,), np.array([[0, 2], [1, 1]]), np.array([[5, -1], [0, 0]])),
    "rows": (lambda x, i: x[i], (4, 3), np.array([0, 3]), np.array([-1, 1])),
    "columns": (lambda x, i: x[:, i], (4, 3), np.array([0, 2, 1]), np.array([-1, -2, -3])),
    "with slice": (lambda x, i: x[i, 1:], (4, 3), np.array([0, 2, 1]), np.array([-1, -2, -3])),
    "with int": (lambda x, i: x[i, 1], (4, 3), np.array([0, 2, 1]), np.array([-1, -2, -3])),
    "int first": (lambda x, i: x[1, i], (4, 3), np.array([0, 2, 1]), np.array([-1, -2, -3])),
    "with array": (lambda x, i: x[i, np.array([0, 1, 2])], (4, 3), np.array([0, 3, 1]), np.array([-1, -2, -4])),
    "twice": (lambda x, i: x[i, i], (4, 3), np.array([0, 2, 1]), np.array([-1, -2, -3])),
    "split": (lambda x, i: x[i, :, i], (3, 2, 3), np.array([0, 2]), np.array([-1, -3])),
    "broadcast": (lambda x, i: x[i[:, None], i[None, :]], (4, 3), np.array([0, 2]), np.array([-1, -3])),
    "ellipsis": (lambda x, i: x[..., i], (2, 3, 4), np.array([0, 2]), np.array([-1, -3])),
    "newaxis": (lambda x, i: x[None, i], (4, 3), np.array([0, 2]), np.array([-1, -3])),
    "mask beside": (lambda x, i: x[np.array([True, False, True]), i], (3, 4), np.array([0, 2]), np.array([-1, -3])),
    "of a view": (lambda x, i: x.T[::-1][i], (3, 4), np.array([0, 2]), np.array([-1, -3])),
    "computed": (lambda x, i: x[(i + 1) % 3], (3, 4), np.array([0, 2]), np.array([1, 1])),
    "take": (lambda x, i: np.take(x, i, axis=1), (3, 4), np.array([0, 2]), np.array([-1, -3])),
    "take_along_axis": (
        lambda x, i: np.take_along_axis(x, i, 1),
        (2, 4),
        np.array([[0, 2], [3, 3]]),
        np.array([[-1, -3], [0, 1]]),
    ),
    "list of recorded": (lambda x, i: x[[i[0], 1]], (4,), np.array([0, 2]), np.array([-1, -3])),
}


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_index_is_an_input_of_the_list(name):
    f, shape, first, second = RECORDED[name]
    x = RANDOM.permutation(np.linspace(0.3, 0.9, int(np.prod(shape)))).reshape(shape)
    recorded = tape.record(f, x, first)
    for i in (first, second):
        expected = f(x, i)
        same(recorded.forward(x, i), expected)
        weights = np.sin(np.arange(expected.size, dtype=float)).reshape(expected.shape)
        gradient = tape.grad(lambda x, i, w=weights: np.sum(w * np.square(f(x, i))))(x, i)
        reference = np.zeros_like(x)
        positions = f(np.arange(x.size).reshape(x.shape), i)
        np.add.at(reference.reshape(-1), positions, weights * 2.0 * expected)
        np.testing.assert_allclose(gradient, reference, rtol=1e-13, atol=1e-15)
        tape.check_grads(lambda x, i=i: np.sin(f(x, i)), (x,), order=2)


@pytest.mark.parametrize("i", [np.array([0, 6]), np.array([-7, 0])], ids=repr)
@pytest.mark.parametrize("assign", [False, True])
def test_recorded_index_out_of_range_names_the_line(i, assign):
    def f(x, i):
        if assign:
            y = x * 2.0
            y[i] = 0.0  # here
            return np.sum(y)
        return np.sum(x[i])  # here

    gradient = tape.grad(f)
    x = np.ones(6)
    gradient(x, np.array([0, 5]))
    first = f.__code__.co_firstlineno
    line = first + (3 if assign else 5)
    for run in (gradient, tape.grad(lambda x, i: f(x, i)), tape.record(f, x, np.array([0, 5])).forward):
        with pytest.raises(IndexError, match=rf"out of bounds(.|\n)*{__name__.rsplit('.', 1)[-1]}\.py:{line}"):
            run(x, i)
    np.testing.assert_array_equal(np.isfinite(gradient(x, np.array([0, 5]))), True)


@pytest.mark.parametrize(
    ("shape", "put"),
    [
        ((5,), lambda y, i, v: y.__setitem__(i, v)),
        ((5, 2), lambda y, i, v: y.__setitem__(i, v[:, None])),
        ((2, 5), lambda y, i, v: y.__setitem__((slice(None), i), v)),
        ((5, 5), lambda y, i, v: y.__setitem__((i, i), v)),
        ((5,), lambda y, i, v: y[::-1].__setitem__(i, v)),
    ],
)
def test_assignment_at_recorded_indices(shape, put):
    def f(x, v, i):
        y = x * 2.0
        put(y, i, v)
        return np.sin(y) * y

    x, v = RANDOM.random(shape), RANDOM.random(3)
    recorded = tape.record(f, x, v, np.array([0, 1, 2]))
    for i in (np.array([0, 1, 2]), np.array([4, 4, -1]), np.array([2, 2, 2])):
        np.testing.assert_allclose(recorded.forward(x, v, i), f(x, v, i), rtol=1e-14)
        tape.check_grads(lambda x, v, i=i: f(x, v, i), (x, v), order=2)


def test_recorded_mask_is_recorded_anew_when_it_changes():
    calls = Counter()

    def f(x):
        calls.note()
        y = x * 1.0
        y[x > 0.5] = np.square(x[x > 0.5])
        return np.sum(x[x < 0.4]) + np.sum(y)

    gradient = tape.grad(f)
    for x in (np.array([0.1, 0.6]), np.array([0.6, 0.1]), np.array([0.1, 0.1]), np.array([0.2, 0.7])):
        expected = np.where(x > 0.5, 2 * x, 1.0) + (x < 0.4)
        np.testing.assert_allclose(gradient(x), expected)
    assert calls.runs == 3


def test_scalar_assignment_under_a_recorded_mask_needs_no_guard():
    calls = Counter()

    def f(x):
        calls.note()
        y = x * 1.0
        y[x > 0.5] = 0.0
        return np.sum(y * y)

    gradient = tape.grad(f)
    for x in (np.array([0.1, 0.6]), np.array([0.6, 0.1])):
        np.testing.assert_allclose(gradient(x), np.where(x > 0.5, 0.0, 2 * x))
    assert calls.runs == 1


# ---------------------------------------------------------------------- aliasing

VIEWS = (
    lambda a: a[::-1],
    lambda a: a[1:] if a.shape[0] > 1 else a,
    lambda a: a.T,
    lambda a: a[..., ::2],
    lambda a: a[0] if a.ndim > 1 else a,
    lambda a: np.reshape(a, -1),
    lambda a: a[:, None],
    lambda a: np.swapaxes(a, 0, -1),
    lambda a: a[..., 0] if a.ndim > 1 else a,
    lambda a: a[[0, -1]],
    lambda a: a.copy(),
    lambda a: a.ravel(),
    lambda a: np.flip(a),
    lambda a: a * 1.0,
)


def random_program(seed, length=12):
    """Views, assignments and augmented assignments on one pool of arrays; the same code for plain and recorded arrays."""

    def program(x):
        random = np.random.default_rng(seed)
        pool = [x * 1.0, np.sin(x)]
        for _ in range(length):
            target, source = (pool[random.integers(len(pool))] for _ in range(2))
            kind = random.integers(7)
            if kind < 3:
                pool.append(VIEWS[random.integers(len(VIEWS))](target))
            elif kind == 3:
                target[0] = np.sum(source) * 0.1
            elif kind == 4:
                target *= 0.9 + 0.1 * np.mean(source)
            elif kind == 5:
                index = random.integers(target.shape[0], size=3)
                target[index] = np.max(source) * random.random((3,) + (1,) * (target.ndim - 1))
            elif source.size == target.size:
                target += np.cos(np.reshape(source, target.shape))
            else:
                target[..., :1] = target[..., -1:] * source.ravel()[0]
        return [p * p for p in pool]

    return program


def check_random_program(seed, order):
    x = np.random.default_rng([seed, 1]).permutation(np.linspace(0.3, 0.9, 12)).reshape(3, 4)
    program = random_program(seed)
    for got, expected in zip(tape.vjp(program, x)[0], program(x), strict=True):
        assert got.shape == expected.shape
        np.testing.assert_allclose(got, expected, rtol=1e-12)
    tape.check_grads(program, (x,), order=order, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("seed", range(60))
def test_random_programs_of_views_and_assignments(seed):
    check_random_program(seed, 1 if seed % 3 else 2)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(60, 600))
def test_many_random_programs_of_views_and_assignments(seed):
    check_random_program(seed, 2)


def test_an_assignment_is_seen_through_every_view():
    def f(x):
        y = x * 1.0
        row, column, flat = y[1], y.T[0], y.reshape(-1)
        y[1, 0] = 5.0 * x[0, 0]
        flat[1] = 7.0 * x[1, 1]
        return row, column, flat

    x = np.arange(1.0, 5.0).reshape(2, 2)
    for got, expected in zip(tape.vjp(f, x)[0], f(x), strict=True):
        np.testing.assert_array_equal(got, expected)
    tape.check_grads(f, (x,))


def test_overlapping_source_and_target():
    def f(x):
        y = x * 1.0
        y[1:] = y[:-1]
        y[::2] = y[::-2]
        y[:] = y[::-1] * y
        y[[0, 1]] = y[[1, 0]]
        return y

    x = np.array([0.3, 0.5, 0.7, 0.4, 0.9])
    np.testing.assert_allclose(tape.vjp(f, x)[0], f(x), rtol=1e-15)
    tape.check_grads(f, (x,), order=3)


def test_ravel_of_a_result_in_fortran_order_is_a_copy():
    def f(x):
        y = x.T * 2.0
        z = y.ravel()
        z[0] = 5.0 * x[1, 1]
        return np.sum(y * x.T)

    x = np.arange(1.0, 5.0).reshape(2, 2)
    assert tape.value_and_grad(f)(x)[0] == f(x)


def test_a_swap_as_numpy_does_it():
    def f(x):
        y = x * 1.0
        y[0], y[1] = y[1], y[0]  # of scalars, which NumPy copies
        return y

    x = np.array([0.3, 0.5])
    np.testing.assert_allclose(tape.vjp(f, x)[0], f(x))
    np.testing.assert_allclose(tape.jacobian(f)(x), [[0.0, 1.0], [1.0, 0.0]])


def test_the_argument_of_the_caller_is_not_changed():
    def f(x):
        x[0] = 2.0 * x[1]
        x += 1.0
        return np.sum(x * x)

    x = np.array([1.0, 2.0])
    np.testing.assert_array_equal(tape.grad(f)(x), [0.0, 2 * (5 * 2 + 3)])
    np.testing.assert_array_equal(x, [1.0, 2.0])
    tape.check_grads(f, (x,), order=3)


def test_assigning_floats_to_integers_is_refused():
    def f(x):
        y = np.zeros_like(x, dtype=np.int64)
        y[0] = x[0]
        return y

    with pytest.raises(tape.NotDifferentiable, match="would round"):
        tape.record(f, np.ones(2))


def test_single_precision_assignments():
    x = np.array([0.3, 0.5, 0.7], np.float32)

    def f(x):
        y = np.zeros_like(x)
        y[1:] = x[:-1] * 2
        y[[0, 0]] = x[1:]
        return y

    value, pullback = tape.vjp(f, x)
    assert value.dtype == np.float32
    np.testing.assert_array_equal(value, f(x))
    assert pullback(np.ones(3, np.float32))[0].dtype == np.float32
    tape.check_grads(f, (x,))


def test_every_overwritten_value_is_seen_by_the_reverse_sweep():
    def f(x):
        y = np.zeros_like(x)
        y[1:] = x[:-1] ** 2
        y[0] = np.sin(x[2])
        y *= x
        return np.sum(y[[0, 1, 1]]) + np.max(x) + x @ x + np.sum(np.outer(x, x) @ x)

    tape.check_grads(f, (np.array([0.3, 0.5, 0.9]),), order=3)
