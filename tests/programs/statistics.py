"""Jitted programs of statistics and machine learning: `PROGRAMS`, a list of (name, function, arguments, argnums).

Each returns one float and is differentiable at its data.
"""

import math
from collections import namedtuple

import numpy as np
from numba import njit

LOG_2PI = math.log(2 * math.pi)
NODES = np.array([-1.5, -0.5, 0.5, 1.5])  # a global constant array, frozen by the compiler
Prior = namedtuple("Prior", ["location", "scale", "weight"])


# ------------------------------------------------------------------ likelihoods


@njit
def logsumexp(x):
    m = x[0]
    for i in range(1, len(x)):
        if x[i] > m:
            m = x[i]
    s = 0.0
    for i in range(len(x)):
        s += math.exp(x[i] - m)
    return m + math.log(s)


@njit
def streaming_logsumexp(x):
    """One pass: the sum is rescaled whenever the maximum rises."""
    m = -np.inf
    s = 0.0
    for v in x:
        if v > m:
            s = s * math.exp(m - v) + 1.0
            m = v
        else:
            s += math.exp(v - m)
    return m + math.log(s)


@njit
def softmax_cross_entropy(logits, labels):
    n, k = logits.shape
    loss = 0.0
    p = np.empty(k)
    for i in range(n):
        m = np.max(logits[i])
        total = 0.0
        for j in range(k):
            p[j] = np.exp(logits[i, j] - m)
            total += p[j]
        p /= total
        loss -= np.log(p[labels[i]])
    return loss / n


@njit
def sigmoid(z):
    if z >= 0:
        return 1.0 / (1.0 + math.exp(-z))
    e = math.exp(z)
    return e / (1.0 + e)


@njit
def logistic_likelihood(w, b, X, y, penalise=True):
    total = 0.0
    for i in range(X.shape[0]):
        z = b
        for j in range(X.shape[1]):
            z += X[i, j] * w[j]
        p = sigmoid(z)
        total += math.log(p) if y[i] else math.log(1.0 - p)
    if penalise:
        total -= 0.5 * np.sum(w**2)
    return -total


@njit
def normal_logpdf(x, mu, sigma):
    z = (x - mu) / sigma
    return -0.5 * z * z - math.log(sigma) - 0.5 * LOG_2PI


@njit
def mixture_likelihood(logits, mu, log_sigma, data):
    k = len(mu)
    weights = np.exp(logits - logits.max())
    weights = weights / weights.sum()
    terms = np.zeros(k)
    total = 0.0
    for x in data:
        for j in range(k):
            terms[j] = np.log(weights[j]) + normal_logpdf(x, mu[j], np.exp(log_sigma[j]))
        total += logsumexp(terms)
    return total


@njit
def hmm_forward(transition, emission, start, observed):
    """Log likelihood of the observations; the forward probabilities are rescaled at every step."""
    n = start.shape[0]
    alpha = start * emission[:, observed[0]]
    c = alpha.sum()
    alpha /= c
    ll = np.log(c)
    for t in range(1, observed.shape[0]):
        new = np.zeros_like(alpha)
        for j in range(n):
            for i in range(n):
                new[j] += alpha[i] * transition[i, j]
            new[j] *= emission[j, observed[t]]
        c = new.sum()
        ll += np.log(c)
        alpha[:] = new / c
    return ll


@njit
def kalman_step(m, P, y, q, r):
    P = P + q
    S = P + r
    K = P / S
    v = y - m
    return m + K * v, (1 - K) * P, -0.5 * (LOG_2PI + math.log(S) + v * v / S)


@njit
def kalman_scalar(params, ys):
    q, r = math.exp(params[0]), math.exp(params[1])
    m, P = params[2], 1.0
    ll = 0.0
    for y in ys:
        if np.isnan(y):  # a missing observation only widens the state
            P += q
            continue
        m, P, term = kalman_step(m, P, y, q, r)
        ll += term
    return ll


@njit
def kalman_matrix(F, Q, H, R, ys):
    x = np.zeros(2)
    P = np.eye(2)
    ll = 0.0
    for t in range(ys.shape[0]):
        x = F @ x
        P = F @ P @ F.T + Q
        v = ys[t] - H @ x
        S = H @ P @ H.T + R
        K = np.linalg.solve(S, H @ P).T
        ll -= 0.5 * (np.dot(v, np.linalg.solve(S, v)) + np.log(S[0, 0] * S[1, 1] - S[0, 1] * S[1, 0]))
        x = x + K @ v
        P = P - K @ H @ P
    return ll - ys.shape[0] * LOG_2PI


# ------------------------------------------------------------------ regression and moments


@njit
def linear_regression(w, X, y, lam):
    r = X @ w - y
    return 0.5 * np.mean(r**2) + lam * np.dot(w, w)


@njit
def welford(x):
    """The variance of x by Welford's recurrence, over its squared mean."""
    count = 0
    mean = 0.0
    m2 = 0.0
    for v in x:
        count += 1
        delta = v - mean
        mean += delta / count
        m2 += delta * (v - mean)
    if count < 2:
        return 0.0
    return (m2 / (count - 1)) / mean**2


@njit
def ar2_likelihood(phi, sigma, y):
    n = y.size
    e = np.empty(n - 2)
    e[:] = y[2:] - phi[0] * y[1:-1] - phi[1] * y[:-2]
    return -0.5 * np.sum((e / sigma) ** 2) - (n - 2) * math.log(sigma)


@njit
def garch_likelihood(omega, alpha, beta, returns):
    n = len(returns)
    h = np.empty(n)
    h[0] = omega / (1.0 - alpha - beta)
    for t in range(1, n):
        h[t] = omega + alpha * returns[t - 1] ** 2 + beta * h[t - 1]
    return -0.5 * (np.log(h) + returns**2 / h).sum()


@njit
def two_layer_mlp(W1, b1, W2, b2, X, y):
    hidden = X @ W1 + b1
    hidden = np.where(hidden > 0, hidden, 0.1 * hidden)
    out = np.tanh(hidden @ W2 + b2)
    return np.mean((out[:, 0] - y) ** 2)


@njit
def cholesky(A):
    n = A.shape[0]
    L = np.zeros((n, n))
    for i in range(n):
        for j in range(i + 1):
            s = A[i, j]
            for k in range(j):
                s -= L[i, k] * L[j, k]
            if i == j:
                L[i, i] = math.sqrt(s)
            else:
                L[i, j] = s / L[j, j]
    return L


@njit
def mvn_logpdf(x, mu, cov):
    n = len(x)
    L = cholesky(cov)
    z = x - mu
    for i in range(n):
        for k in range(i):
            z[i] -= L[i, k] * z[k]
        z[i] /= L[i, i]
    half_logdet = 0.0
    for i in range(n):
        half_logdet += np.log(L[i, i])
    return -0.5 * (z @ z) - half_logdet - 0.5 * n * LOG_2PI


@njit
def poisson_regression(beta, X, counts, prior):
    ll = 0.0
    for i in range(len(counts)):
        eta = np.dot(X[i], beta)
        ll += counts[i] * eta - math.exp(eta) - math.lgamma(counts[i] + 1.0)
    for b in beta:
        ll += prior.weight * normal_logpdf(b, prior.location, prior.scale)
    return ll


@njit
def softmax_rows(A):
    out = np.empty_like(A)
    for i in range(A.shape[0]):
        row = np.exp(A[i, :] - A[i, :].max())
        out[i, :] = row / row.sum()
    return out


@njit
def attention(Q, K, V, causal):
    scores = Q @ K.T / math.sqrt(Q.shape[1])
    if causal:
        for i in range(scores.shape[0]):
            for j in range(i + 1, scores.shape[1]):
                scores[i, j] = -1e9
    out = softmax_rows(scores) @ V
    return (out * out).sum()


# ------------------------------------------------------------------ smaller idioms


@njit
def huber(w, X, y, delta):
    total = 0.0
    for i in range(X.shape[0]):
        r = abs(y[i] - np.sum(X[i] * w))
        if r <= delta:
            total += 0.5 * r**2
        else:
            total += delta * (r - 0.5 * delta)
    return total


@njit
def kernel_density(x, h, data):
    total = 0.0
    for i in range(0, len(x), 2):
        s = 0.0
        for d in data:
            u = (x[i] - d) / h
            if abs(u) > 6.0:
                continue
            s += math.exp(-0.5 * u * u)
        total += math.log(s / (len(data) * h))
    return total


@njit
def item_response(ability, difficulty, answers):
    """A Rasch model whose ability is integrated over four nodes."""
    total = 0.0
    for i in range(answers.shape[0]):
        like = 0.0
        for q in range(NODES.shape[0]):
            p = math.exp(-0.5 * NODES[q] ** 2)
            for j in range(answers.shape[1]):
                s = 1.0 / (1.0 + math.exp(-(ability + NODES[q] - difficulty[j])))
                p *= s if answers[i, j] == 1 else 1.0 - s
            like += p
        total += math.log(like)
    return total


@njit
def newton_mode(a, x):
    """The square root of the weighted mean of x by Newton steps that stop when they are small."""
    target = (a * x).sum() / a.sum()
    m = 1.0
    steps = 0
    while True:
        step = (m * m - target) / (2.0 * m)
        m -= step
        steps += 1
        if abs(step) < 1e-9 or steps >= 50:
            break
    return m


@njit
def standardised_distance(x, y):
    z = x.copy()
    z -= z.mean()
    z[1:] += 0.5 * z[:-1]
    z /= (z @ z) ** 0.5
    d = np.zeros_like(z)
    d[::2] = z[::2] - y[::2]
    d[1::2] = z[1::2] * y[1::2]
    return np.linalg.norm(d)


@njit
def exponential_smoothing(y, alpha, season):
    """Squared one-step error of seasonal smoothing with an integer period."""
    level = y[0]
    s = np.zeros(season)
    error = np.float32(0.0)
    for t in range(1, y.shape[0]):
        k = t % season
        e = y[t] - level - s[k]
        error += e * e
        level += alpha * e
        s[k] += 0.3 * e
    return error / y.shape[0]


def programs():
    """The list of programs with their data."""
    rng = np.random.default_rng(11)
    normal = rng.normal
    symmetric = normal(size=(4, 4))
    ys = normal(size=20)
    ys[[4, 9]] = np.nan
    step = np.array([[1.0, 0.1], [-0.1, 0.95]])
    rows = rng.random((3, 3)) + 0.2
    seen = rng.random((3, 4)) + 0.1
    X = normal(size=(12, 3))
    return [
        ("logsumexp", logsumexp, (normal(size=9) * 3,), (0,)),
        ("streaming_logsumexp", streaming_logsumexp, (normal(size=9) * 3,), (0,)),
        ("softmax_cross_entropy", softmax_cross_entropy, (normal(size=(6, 4)), rng.integers(0, 4, 6)), (0,)),
        ("logistic_likelihood", logistic_likelihood, (normal(size=3), 0.3, X, rng.random(12) < 0.5), (0, 1)),
        ("mixture_likelihood", mixture_likelihood, (normal(size=3), normal(size=3), 0.3 * normal(size=3), normal(size=15)),
         (0, 1, 2)),
        ("hmm_forward", hmm_forward, (rows / rows.sum(1)[:, None], seen / seen.sum(1)[:, None], np.array([0.5, 0.3, 0.2]),
                                      rng.integers(0, 4, 12)), (0, 1, 2)),
        ("kalman_scalar", kalman_scalar, (np.array([-1.0, -0.3, 0.2]), ys), (0,)),
        ("kalman_matrix", kalman_matrix, (step, 0.1 * np.eye(2), np.array([[1.0, 0.2], [0.1, 0.8]]),
                                          np.array([[0.5, 0.1], [0.1, 0.4]]), normal(size=(8, 2))), (0, 1, 2, 3)),
        ("linear_regression", linear_regression, (normal(size=3), X, normal(size=12), 0.05), (0, 1, 3)),
        ("welford", welford, (normal(size=14) + 2.0,), (0,)),
        ("ar2_likelihood", ar2_likelihood, (np.array([0.5, -0.2]), 0.8, normal(size=25)), (0, 1, 2)),
        ("garch_likelihood", garch_likelihood, (0.1, 0.15, 0.7, normal(size=30)), (0, 1, 2)),
        ("two_layer_mlp", two_layer_mlp, (normal(size=(3, 5)), normal(size=5), normal(size=(5, 1)), normal(size=1), X,
                                          normal(size=12)), (0, 1, 2, 3)),
        ("mvn_logpdf", mvn_logpdf, (normal(size=4), normal(size=4), symmetric @ symmetric.T + np.eye(4)), (0, 1, 2)),
        ("poisson_regression", poisson_regression, (0.4 * normal(size=3), X, rng.poisson(1.5, 12), Prior(0.1, 2.0, 0.5)), (0,)),
        ("attention_causal", attention, (normal(size=(5, 3)), normal(size=(5, 3)), normal(size=(5, 2)), True), (0, 1, 2)),
        ("attention_full", attention, (normal(size=(4, 3)), normal(size=(6, 3)), normal(size=(6, 2)), False), (0, 1, 2)),
        ("huber", huber, (normal(size=3), X, 2 * normal(size=12), 1.0), (0, 2, 3)),
        ("kernel_density", kernel_density, (normal(size=6), 0.4, normal(size=10)), (0, 1, 2)),
        ("item_response", item_response, (0.2, normal(size=4), rng.integers(0, 2, (5, 4))), (0, 1)),
        ("newton_mode", newton_mode, (rng.random(6) + 0.5, rng.random(6) + 2.0), (0, 1)),
        ("standardised_distance", standardised_distance, (normal(size=8), normal(size=8)), (0, 1)),
        ("exponential_smoothing", exponential_smoothing, (normal(size=16).astype(np.float32), 0.35, 4), (0, 1)),
    ]


PROGRAMS = programs()
