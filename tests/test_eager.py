"""Eager variables: the tutorial's loops, accumulation, seeds, in-place changes, threads."""

import threading

import numpy as np
import pytest

import tape

CLOSE = {"rtol": 1e-12, "atol": 1e-12}


def leaf(value):
    return tape.variable(value, requires_grad=True)


def test_the_tutorials_linear_regression():
    x_data, y_data = [1.0, 2.0, 3.0], [2.0, 4.0, 6.0]
    w, by_hand = leaf(1.0), 1.0
    for _ in range(10):
        for x, y in zip(x_data, y_data, strict=True):
            loss = (x * w - y) ** 2
            loss.backward()
            gradient = 2 * x * (x * by_hand - y)
            np.testing.assert_allclose(w.grad, gradient, **CLOSE)
            w.data -= 0.01 * w.grad
            w.zero_grad()
            by_hand -= 0.01 * gradient
            assert w.grad == 0.0
    np.testing.assert_allclose(w.item(), by_hand, **CLOSE)
    assert abs((w * 4.0).item() - 8.0) < 0.2  # ten rounds, as in the tutorial


@pytest.mark.parametrize("batches", [1, 4])
def test_a_network_learns_digits(batches):
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    images, labels = images[:400] / 16.0, labels[:400]
    random = np.random.default_rng(0)
    w1, b1 = leaf(0.2 * random.standard_normal((64, 32))), leaf(np.zeros(32))
    w2, b2 = leaf(0.2 * random.standard_normal((32, 10))), leaf(np.zeros(10))

    def scores_of(x):
        return tape.relu(x @ w1 + b1) @ w2 + b2

    for _ in range(60 // batches):
        for x, y in zip(np.split(images, batches), np.split(labels, batches), strict=True):
            scores = scores_of(x)
            loss = np.mean(tape.logsumexp(scores, axis=1) - scores[np.arange(len(y)), y])
            loss.backward()
            with tape.no_grad():
                for parameter in (w1, b1, w2, b2):
                    parameter -= 0.5 * parameter.grad
                    parameter.zero_grad()
    with tape.no_grad():
        assert np.mean(np.argmax(scores_of(images), axis=1) == labels) > 0.9


def f(x, y):
    z = np.concatenate([x * y, np.sin(x)])
    return np.sum(np.where(z > 0, z, 0.1 * z) ** 2) + np.max(y) * np.mean(x[1:])


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_gradients_are_those_of_grad(dtype):
    a, b = np.array([0.5, -1.0, 2.0], dtype), np.array([1.0, 3.0, -2.0], dtype)
    x, y = leaf(a), leaf(b)
    value = f(x, y)
    assert value.dtype == dtype
    assert value.item() == f(a, b)
    value.backward()
    for mine, wanted in zip((x.grad, y.grad), tape.grad(f, (0, 1))(a, b), strict=True):
        assert mine.dtype == dtype
        np.testing.assert_allclose(mine, wanted, rtol=1e-5 if dtype == np.float32 else 1e-12)


def test_gradients_add_up_until_zeroed():
    x = leaf([1.0, 2.0])
    y = (x**2).sum()
    y.backward()
    y.backward()
    np.testing.assert_array_equal(x.grad, [4.0, 8.0])
    (3.0 * x).sum().backward()
    np.testing.assert_array_equal(x.grad, [7.0, 11.0])
    x.zero_grad()
    y.backward()
    np.testing.assert_array_equal(x.grad, [2.0, 4.0])


def test_variables_of_several_elements_need_a_seed():
    x = leaf([1.0, 2.0])
    y = x * x
    with pytest.raises(ValueError, match=r"shape \(2,\): expected a seed of that shape"):
        y.backward()
    with pytest.raises(ValueError, match=r"expected shape \(2,\), got \(3,\)"):
        y.backward(np.ones(3))
    y.backward(tape.variable([1.0, 10.0]))
    np.testing.assert_array_equal(x.grad, [2.0, 40.0])
    x.backward([1.0, 1.0])
    np.testing.assert_array_equal(x.grad, [3.0, 41.0])
    one = leaf([[3.0]])
    (one * one).backward()
    np.testing.assert_array_equal(one.grad, [[6.0]])


def test_gradients_are_taken_where_the_values_were():
    """Neither a descent step nor a buffer that is filled anew changes what was computed before."""
    w, batch = leaf([1.0, 2.0]), np.array([3.0, 4.0])
    y = np.sum(w**2 * batch)
    w.data -= 1.0
    batch[:] = 0.0
    z = np.sum(w * w)
    y.backward()
    np.testing.assert_array_equal(w.grad, [6.0, 16.0])
    z.backward()
    np.testing.assert_array_equal(w.grad, [6.0, 18.0])


def test_constants():
    x, c = leaf(3.0), tape.variable(2.0)
    y = x * c + x.detach() * x + tape.stop_gradient(x)
    y.backward()
    assert x.grad == 5.0
    assert c.grad is None
    assert not (c * c).requires_grad
    with tape.no_grad():
        quiet = x * x
    assert not quiet.requires_grad
    for constant in (quiet, c * c, x.detach()):
        with pytest.raises(tape.NotDifferentiable, match="depends on none with requires_grad=True"):
            constant.backward()
    assert x.detach().data is x.data


def test_comparisons_and_positions_are_plain():
    x = leaf([1.0, -2.0, 3.0])
    assert isinstance(x > 0, np.ndarray)
    assert np.argmax(x) == 2
    assert np.shape(x) == x.shape == (3,)
    assert x[0] > x[1]
    (x[x > 0] * x[[0, 2]]).sum().backward()
    np.testing.assert_array_equal(x.grad, [2.0, 0.0, 6.0])


def test_a_mask_of_the_same_shape_that_changes():
    for mask in ([True, False, True], [True, True, False]):
        x = leaf([1.0, -2.0, 3.0])
        (x[np.array(mask)] ** 2).sum().backward()
        np.testing.assert_array_equal(x.grad, np.where(mask, 2 * x.data, 0.0))


def test_equal_numbers_of_other_kinds_are_other_lists():
    for power, slope in ((2, 6.0), (2.0, 6.0), (3.0, 27.0), (True, 1.0)):
        x = leaf(3.0)
        (x**power).backward()
        np.testing.assert_allclose(x.grad, slope, **CLOSE)
    for zero in (0.0, -0.0):
        x = leaf(1.0)
        np.arctan2(x * zero, -1.0).backward()
        np.testing.assert_allclose(x.grad, -zero)


def test_in_place_changes():
    x = leaf([1.0, 2.0])
    total = tape.variable(0.0)
    for _ in range(3):
        total += np.sum(x * x)
    y = 2.0 * x
    before = y * y
    y[0] = x[1] * 5.0
    y *= x
    (np.sum(y) + total + np.sum(before)).backward()
    np.testing.assert_allclose(x.grad, [10.0 + 6.0 + 8.0, 5.0 + 8.0 + 12.0 + 16.0], **CLOSE)
    with pytest.raises(tape.NotDifferentiable, match="its gradient would be lost"):
        x += 1.0
    with pytest.raises(tape.NotDifferentiable, match="its gradient would be lost"):
        x[0] = 1.0
    with tape.no_grad():
        x[0] = 7.0
    np.testing.assert_array_equal(x.data, [7.0, 2.0])
    with pytest.raises(ValueError, match=r"expected shape \(2,\), got \(3,\)"):
        x.data = np.zeros(3)


def test_several_results_and_nested_arguments():
    x = leaf(np.arange(6.0))
    first, second = np.split(x, 2)
    np.sum(np.stack([first, second * 2.0]) ** 2 * 0.5).backward()
    np.testing.assert_array_equal(x.grad, [0.0, 1.0, 2.0, 12.0, 16.0, 20.0])


def test_dropout_takes_another_seed_on_the_same_list():
    x = leaf(np.ones(100))
    for seed in (1, 2):
        x.zero_grad()
        y = tape.dropout(x, 0.5, seed)
        y.sum().backward()
        np.testing.assert_array_equal(x.grad, y.data)


def test_what_would_cut_a_gradient_is_refused():
    x = leaf(2.0)
    for cut in (float, np.asarray, lambda x: np.add(x, 1.0, out=np.zeros(()))):
        with pytest.raises(tape.NotDifferentiable):
            cut(x)
    assert float(tape.variable(2.0)) == x.item() == 2.0
    assert f"{x:.2f}" == "2.00"
    assert repr(x) == "variable(array(2.), requires_grad=True)"
    with pytest.raises(tape.NotDifferentiable, match="no rule"):
        np.linalg.eigvals(leaf(np.eye(2)))
    with pytest.raises(tape.NotDifferentiable, match="being recorded"):
        tape.grad(lambda y: y * 2.0 + np.stack([x, y])[0])(1.0)
    with pytest.raises(tape.NotDifferentiable, match="expected floats"):
        leaf(np.arange(3) > 1)


def test_a_deep_graph_needs_no_recursion():
    x = leaf(1.0)
    y = x
    for _ in range(3000):
        y = y * 1.0001
    y.backward()
    np.testing.assert_allclose(x.grad, 1.0001**3000, rtol=1e-10)


def test_threads_share_nothing():
    results, barrier = {}, threading.Barrier(4)

    def descend(number):
        w = leaf(np.full(3, float(number)))
        barrier.wait()
        for _ in range(50):
            if number % 2:
                with tape.no_grad():
                    assert not (w * w).requires_grad
            np.sum((w - number - 1.0) ** 2).backward()
            w.data -= 0.25 * w.grad
            w.zero_grad()
        results[number] = w.data

    threads = [threading.Thread(target=descend, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(4):
        np.testing.assert_allclose(results[number], number + 1.0)


# ---------------------------------------------------------------------- views share memory, as NumPy's do


VIEWS = (
    lambda y: y[1:], lambda y: y[::-2], lambda y: y[...], lambda y: y.T, lambda y: np.reshape(y, (-1,)), lambda y: y[0],
    lambda y: np.swapaxes(y, 0, -1), lambda y: y[..., 1:], lambda y: np.reshape(y, (2, -1)) if y.size % 2 == 0 else y[:1],
    lambda y: np.split(y, [1])[1],
)


def scaled(y, x):
    y *= x[0]


def assigned(y, x):
    y[...] = y + x[1]


def out_of_a_function(y, x):
    np.add(y, x[2], out=y)


def copied_to(y, x):
    np.copyto(y, 3.0 * y * x[0])


def put_first(y, x):
    np.put(y, [0], x[1])


def element(y, x):
    y[(0,) * y.ndim] = x[2] * y[(-1,) * y.ndim]


WRITES = (scaled, assigned, out_of_a_function, copied_to, put_first, element)


def aliasing_program(seed):
    """A function of three numbers that writes to views of views of an array, and reads them all."""

    def program(x):
        random = np.random.default_rng(seed)
        y = np.outer(x, np.array([1.0, 2.0, -1.0, 0.5])) * 1.0
        held = [y]
        for _ in range(8):
            chosen = held[random.integers(len(held))]
            if random.random() < 0.5 and chosen.ndim and chosen.size > 2:
                view = VIEWS[random.integers(len(VIEWS))](chosen)
                held.extend([view] if view.ndim and view.size else [])
            else:
                WRITES[random.integers(len(WRITES))](chosen, x)
        return sum(np.sum((k + 1.0) * np.sin(view)) for k, view in enumerate(held))

    return program


def check_aliasing_program(seed):
    point, program = np.array([0.7, -0.4, 1.1]), aliasing_program(seed)
    w = tape.variable(point, requires_grad=True)
    result = program(w)
    result.backward()
    value, gradient = tape.value_and_grad(program)(point)
    np.testing.assert_allclose(result.item(), program(point), rtol=1e-13, err_msg=f"seed {seed}")
    np.testing.assert_allclose(value, program(point), rtol=1e-13, err_msg=f"seed {seed}")
    np.testing.assert_allclose(w.grad, gradient, rtol=1e-11, atol=1e-12, err_msg=f"seed {seed}")


@pytest.mark.parametrize("first", range(0, 60, 20))
def test_writes_to_views_of_views(first):
    for seed in range(first, first + 20):
        check_aliasing_program(seed)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(100, 2100, 100))
def test_writes_to_views_of_views_many_times(first):
    for seed in range(first, first + 100):
        check_aliasing_program(seed)


def test_rows_of_a_loop_write_to_the_array():
    w = tape.variable(np.arange(6.0).reshape(2, 3), requires_grad=True)
    y = w * 1.0
    for k, row in enumerate(y):
        row *= k + 2.0
    np.sum(y).backward()
    np.testing.assert_array_equal(w.grad, [[2.0] * 3, [3.0] * 3])


def test_repeated_positions_add_up():
    w = tape.variable(np.ones(3), requires_grad=True)
    y = w * 1.0
    np.add.at(y, [0, 0, 2], w * 2.0)
    np.sum(y).backward()
    np.testing.assert_array_equal(y.data, [5.0, 1.0, 3.0])
    np.testing.assert_array_equal(w.grad, [3.0, 3.0, 3.0])


def test_what_numpy_gives_for_reading_is_not_written_to():
    w = tape.variable(np.ones(3), requires_grad=True)
    y = np.broadcast_to(w * 1.0, (2, 3))
    with pytest.raises(ValueError, match="read-only"):
        y += 1.0


def test_a_view_of_a_variable_with_a_gradient_is_not_written_to():
    w = tape.variable(np.ones(3), requires_grad=True)
    v = w[1:]
    with pytest.raises(tape.NotDifferentiable, match="gradient would be lost"):
        v *= 2.0
