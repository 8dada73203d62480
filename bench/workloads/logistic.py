"""Logistic regression on scikit-learn's breast cancer data: 569 tumours, 30 features."""

import functools

import numpy as np

from bench.peers import with_autograd, with_casadi, with_jax, with_torch
from bench.workload import Case, Workload


def negative_log_likelihood(np, w, X, y):
    """Mean of log(1 + exp(-y (X w))) with an L2 term; y is -1 or 1."""
    return np.mean(np.logaddexp(0.0, -y * (X @ w))) + 1e-3 * np.sum(w**2)


def _gradient(w, X, y):
    return -X.T @ (y / (1.0 + np.exp(y * (X @ w)))) / len(y) + 2e-3 * w


def _torch(torch, w, X, y):
    return torch.nn.functional.softplus(-y * (X @ w)).mean() + 1e-3 * (w**2).sum()


def _make(quick):
    from sklearn.datasets import load_breast_cancer

    data, target = load_breast_cancer(return_X_y=True)
    X = (data - data.mean(axis=0)) / data.std(axis=0)
    y = 2.0 * target - 1.0
    w = np.linspace(-0.5, 0.5, X.shape[1])
    args = (w, X, y)

    def casadi_expression(casadi, w):
        margin = -casadi.DM(y) * casadi.mtimes(casadi.DM(X), w)
        return casadi.sum1(casadi.log1p(casadi.exp(margin))) / len(y) + 1e-3 * casadi.sumsqr(w)

    peers = {"jax": with_jax(negative_log_likelihood, args), "torch": with_torch(_torch, args),
             "autograd": with_autograd(negative_log_likelihood, args), "casadi": with_casadi(casadi_expression, len(w), args)}
    return Case(functools.partial(negative_log_likelihood, np), args, exact=_gradient, peers=peers)


WORKLOADS = [Workload("logistic", "logistic regression, breast cancer 569 x 30", _make)]
