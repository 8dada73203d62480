"""The likelihood of logistic regression in explicit loops: 1,000 samples, 20 features."""

import math

import numpy as np
from numba import njit

from bench.groups import NJIT
from bench.peers import with_jax
from bench.workload import Case, Limit, Workload


def negative_log_likelihood(w, X, y):
    """Sum of log(1 + exp(-y (X w))); y is -1 or 1."""
    total = 0.0
    for i in range(len(X)):
        margin = 0.0
        for j in range(len(w)):
            margin += X[i, j] * w[j]
        margin *= -y[i]
        total += max(margin, 0.0) + math.log1p(math.exp(-abs(margin)))
    return total


def _gradient(w, X, y):
    return (-X.T @ (y / (1.0 + np.exp(y * (X @ w)))),)


def _jax(np, w, X, y):
    return np.sum(np.logaddexp(0.0, -y * (X @ w)))


def _make(quick):
    samples, features = (50, 5) if quick else (1_000, 20)
    random = np.random.default_rng(0)
    X = random.standard_normal((samples, features))
    args = (np.linspace(-0.5, 0.5, features), X, np.sign(X[:, 0] + random.standard_normal(samples)))
    return Case(njit(negative_log_likelihood), args, exact=_gradient, peers={"jax": with_jax(_jax, args)})


WORKLOADS = [Workload("logistic-loop", "logistic likelihood in loops, 1,000 x 20", _make, NJIT, Limit(6.0))]
