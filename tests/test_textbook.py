"""Gradients that textbooks write down, by `tape.grad` and by the list itself: exact to rounding."""

import itertools

import numpy as np
import pytest

import tape

EXACT = {"rtol": 1e-12, "atol": 1e-12}


def check(f, args, expected):
    """Compare all gradients of `f`, by `tape.grad` and by `record(...).reverse()` with the grad_table."""
    gradients = tape.grad(f, argnums=tuple(range(len(args))))(*args)
    recorded = tape.record(f, *args)
    recorded.reverse()
    for _ in range(2):
        for number, (gradient, wanted) in enumerate(zip(gradients, expected, strict=True)):
            flat = zip(
                leaves(gradient),
                leaves(wanted),
                leaves(recorded.gradients[number]),
                leaves(recorded.inputs[number]),
                strict=True,
            )
            for by_grad, by_hand, by_list, variable in flat:
                np.testing.assert_allclose(by_grad, by_hand, **EXACT)
                np.testing.assert_allclose(by_list, by_hand, **EXACT)
                np.testing.assert_allclose(recorded.grad_table[variable], by_hand, **EXACT)
        # Once more, after a replay.
        np.testing.assert_allclose(recorded.forward(*args), f(*args), **EXACT)
        recorded.reverse()


def leaves(tree):
    return [leaf for item in tree for leaf in leaves(item)] if isinstance(tree, (list, tuple)) else [tree]


def softmax(z):
    e = np.exp(z - np.max(z, axis=0))
    return e / np.sum(e, axis=0)


# ---------------------------------------------------------------------- circuits of scalars


def test_sum_times():
    check(lambda x, y, z: (x + y) * z, (-2.0, 5.0, -4.0), (-4.0, -4.0, 3.0))


@pytest.mark.parametrize(("z", "w", "dz", "dw"), [(2.0, -1.0, 2.0, 0.0), (-1.0, 2.0, 0.0, 2.0)])
def test_twice_a_product_and_a_maximum(z, w, dz, dw):
    check(lambda x, y, z, w: 2.0 * (x * y + np.maximum(z, w)), (3.0, -4.0, z, w), (-8.0, 6.0, dz, dw))


def test_python_max_is_a_branch():
    f = lambda x, y, z, w: 2.0 * (x * y + max(z, w))
    for z, w in ((2.0, -1.0), (-1.0, 2.0), (3.0, 2.0)):
        np.testing.assert_array_equal(
            tape.grad(f, argnums=(0, 1, 2, 3))(3.0, -4.0, z, w), (-8.0, 6.0, 2.0 * (z > w), 2.0 * (w > z))
        )


def test_sigmoid_neuron():
    w, x = np.array([2.0, -3.0, -3.0]), np.array([-1.0, -2.0])
    s = 1.0 / (1.0 + np.exp(-1.0))
    check(
        lambda w, x: 1.0 / (1.0 + np.exp(-(w[0] * x[0] + w[1] * x[1] + w[2]))),
        (w, x),
        (s * (1 - s) * np.array([-1.0, -2.0, 1.0]), s * (1 - s) * np.array([2.0, -3.0])),
    )


def test_intermediate_variables_are_in_the_table():
    kept = {}

    def f(x, y, z):
        kept["q"] = q = x + y
        kept["f"] = result = q * z
        return result

    recorded = tape.record(f, -2.0, 5.0, -4.0)
    recorded.reverse()
    assert recorded.grad_table[kept["q"]] == -4.0
    assert recorded.grad_table[kept["f"]] == 1.0
    assert len(recorded.grad_table) == 5


def test_logarithm_times_sine():
    x, y = 2.0, 5.0
    check(lambda x, y: np.log(x) + x * y - np.sin(y), (x, y), (1 / x + y, x - np.cos(y)))


# ---------------------------------------------------------------------- networks


@pytest.fixture
def random():
    return np.random.default_rng(3)


def test_one_hidden_layer_with_weight_decay(random):
    x, y, lam = random.standard_normal(4), random.standard_normal(3), 0.1
    w1, w2 = random.standard_normal((5, 4)), random.standard_normal((3, 5))
    kept = {}

    def objective(w1, w2):
        kept["z"] = z = w1 @ x
        kept["h"] = h = np.tanh(z)
        kept["o"] = o = w2 @ h
        kept["L"] = loss = 0.5 * np.sum((o - y) ** 2)
        kept["s"] = penalty = lam / 2 * (np.sum(w1**2) + np.sum(w2**2))
        return loss + penalty

    h = np.tanh(w1 @ x)
    do = w2 @ h - y
    dh = w2.T @ do
    dz = dh * (1 - h**2)
    check(objective, (w1, w2), (np.outer(dz, x) + lam * w1, np.outer(do, h) + lam * w2))
    recorded = tape.record(objective, w1, w2)
    recorded.reverse()
    for name, expected in {"o": do, "h": dh, "z": dz, "L": 1.0, "s": 1.0}.items():
        np.testing.assert_allclose(recorded.grad_table[kept[name]], expected, **EXACT)


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid"])
@pytest.mark.parametrize("depth", [1, 2, 5])
def test_layers_with_biases(random, depth, activation):
    phi, slope = {
        "relu": (tape.relu, lambda a, h: (a > 0).astype(float)),
        "tanh": (np.tanh, lambda a, h: 1 - h**2),
        "sigmoid": (tape.sigmoid, lambda a, h: h * (1 - h)),
    }[activation]
    sizes = [4, *random.integers(3, 6, depth - 1), 2]
    weights = [0.5 * random.standard_normal((m, n)) for n, m in itertools.pairwise(sizes)]
    biases = [random.standard_normal(m) for m in sizes[1:]]
    x, y = random.standard_normal(4), random.standard_normal(2)

    def loss(weights, biases):
        h = x
        for w, b in zip(weights, biases, strict=True):
            h = phi(b + w @ h)
        return 0.5 * np.sum((h - y) ** 2)

    # Algorithms 6.3 and 6.4 of Goodfellow, Bengio, Courville, "Deep Learning", 2016.
    hidden, sums = [x], []
    for w, b in zip(weights, biases, strict=True):
        sums.append(b + w @ hidden[-1])
        hidden.append(phi(sums[-1]))
    g, dw, db = hidden[-1] - y, [], []
    for k in reversed(range(depth)):
        g = g * slope(sums[k], hidden[k + 1])
        db.insert(0, g)
        dw.insert(0, np.outer(g, hidden[k]))
        g = weights[k].T @ g
    check(loss, (weights, biases), (dw, db))


def test_relu_network_with_cross_entropy_and_weight_decay(random):
    """Section 6.5.7 of the same book: dJ/dW2 = h^T G + 2 lam W2, dJ/dW1 = x^T G' + 2 lam W1."""
    x, lam = random.standard_normal((8, 4)), 0.01
    labels = random.integers(0, 3, 8)
    w1, w2 = random.standard_normal((4, 6)), random.standard_normal((6, 3))

    def objective(w1, w2):
        h = np.maximum(0.0, x @ w1)
        scores = h @ w2
        cross_entropy = np.sum(tape.logsumexp(scores, axis=1) - scores[np.arange(8), labels])
        return cross_entropy + lam * (np.sum(w1**2) + np.sum(w2**2))

    def objective_by_mask(w1, w2):
        scores = np.where(x @ w1 > 0, x @ w1, 0.0) @ w2
        log_p = scores - np.log(np.sum(np.exp(scores), axis=1, keepdims=True))
        return -np.sum(np.eye(3)[labels] * log_p) + lam * (np.sum(w1**2) + np.sum(w2**2))

    u = x @ w1
    h = np.maximum(0.0, u)
    g = softmax((h @ w2).T).T - np.eye(3)[labels]
    expected = x.T @ ((g @ w2.T) * (u > 0)) + 2 * lam * w1, h.T @ g + 2 * lam * w2
    check(objective, (w1, w2), expected)
    check(objective_by_mask, (w1, w2), expected)


# ---------------------------------------------------------------------- matrix calculus


def test_quadratic_forms(random):
    a, b, x = random.standard_normal((4, 4)), random.standard_normal(4), random.standard_normal(4)
    check(lambda x, b: 0.5 * x @ a @ x - b @ x, (x, b), (0.5 * (a + a.T) @ x - b, -x))
    check(lambda a: x @ a @ x, (a,), (np.outer(x, x),))
    np.testing.assert_allclose(tape.hessian(lambda x: x @ a @ x)(x), a + a.T, **EXACT)


def test_traces_of_products(random):
    a, b = random.standard_normal((3, 4)), random.standard_normal((4, 3))
    check(lambda a, b: np.trace(a @ b), (a, b), (b.T, a.T))
    check(lambda a: np.sum(a * a), (a,), (2 * a,))
    check(lambda a: np.trace(a @ a.T @ a @ a.T), (a,), (4 * a @ a.T @ a,))


def test_softmax_cross_entropy_is_probability_minus_label(random):
    z = random.standard_normal(5)
    check(lambda z: np.log(np.sum(np.exp(z))) - z[2], (z,), (softmax(z) - np.eye(5)[2],))
    np.testing.assert_allclose(tape.jacobian(softmax)(z), np.diag(softmax(z)) - np.outer(softmax(z), softmax(z)), **EXACT)


def test_gaussian_log_likelihood(random):
    data, mu, sigma = random.standard_normal(20), 0.3, 1.7
    n, r = len(data), data - 0.3
    check(
        lambda mu, sigma: -0.5 * np.sum(((data - mu) / sigma) ** 2) - n * np.log(sigma),
        (mu, sigma),
        (np.sum(r) / sigma**2, np.sum(r**2) / sigma**3 - n / sigma),
    )


def test_a_recurrence_over_time(random):
    """Backpropagation through time: h_t = w h_{t-1} + x_t, loss sum h_t^2 / 2."""
    x, w = random.standard_normal(10), 0.8

    def loss(w, x):
        h, total = 0.0, 0.0
        for t in range(10):
            h = w * h + x[t]
            total = total + 0.5 * h**2
        return total

    h = np.zeros(11)
    for t in range(10):
        h[t + 1] = w * h[t] + x[t]
    g = np.zeros(11)
    for t in reversed(range(10)):
        g[t] = h[t + 1] + w * g[t + 1]
    check(loss, (w, x), (np.sum(g[:10] * h[:10]), g[:10]))
