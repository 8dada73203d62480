"""Log-likelihood of a Gaussian mixture in matrix form: 2,000 points in 8 dimensions, 10 components, full precisions."""

import functools

import numpy as np

import tape
from bench.peers import with_autograd, with_jax, with_torch
from bench.workload import Case, Workload


def _log_likelihood(np, logsumexp, weights, means, factors, X):
    """Of X, n x d, under components of log-weights (k), means (k x d) and factors L of the precisions L L' (k x d x d)."""
    centered = X[None, :, :] - means[:, None, :]
    whitened = np.matmul(centered, factors)
    diagonal = np.abs(np.diagonal(factors, axis1=-1, axis2=-2))
    exponents = (weights - logsumexp(weights) + np.sum(np.log(diagonal), axis=1))[:, None] - 0.5 * np.sum(whitened**2, axis=2)
    return np.sum(logsumexp(exponents, 0)) - 0.5 * X.size * np.log(2.0 * np.pi)


def _plain_logsumexp(np):
    def logsumexp(a, axis=None):
        largest = np.max(a, axis=axis, keepdims=True)
        return np.sum(np.log(np.sum(np.exp(a - largest), axis=axis, keepdims=True)) + largest, axis=axis)

    return logsumexp


def _for_peer(np, *args):
    return _log_likelihood(np, _plain_logsumexp(np), *args)


def _gradient(weights, means, factors, X):
    """By the components' responsibilities for the points, as in expectation maximisation."""
    centered = X[None, :, :] - means[:, None, :]
    whitened = centered @ factors
    diagonal = np.diagonal(factors, axis1=1, axis2=2)
    exponents = (weights + np.sum(np.log(np.abs(diagonal)), axis=1))[:, None] - 0.5 * np.sum(whitened**2, axis=2)
    shares = np.exp(exponents - exponents.max(axis=0))
    shares /= shares.sum(axis=0)
    pulled = shares[:, :, None] * whitened
    prior = np.exp(weights - weights.max())
    by_factors = -np.swapaxes(centered, 1, 2) @ pulled
    each = np.arange(X.shape[1])
    by_factors[:, each, each] += shares.sum(axis=1)[:, None] / diagonal
    by_means = np.sum(pulled @ np.swapaxes(factors, 1, 2), axis=1)
    return shares.sum(axis=1) - len(X) * prior / prior.sum(), by_means, by_factors


def _torch(torch, weights, means, factors, X):
    whitened = torch.matmul(X[None, :, :] - means[:, None, :], factors)
    diagonal = torch.diagonal(factors, dim1=1, dim2=2).abs()
    exponents = (weights - torch.logsumexp(weights, 0) + diagonal.log().sum(1))[:, None] - 0.5 * (whitened**2).sum(2)
    return torch.logsumexp(exponents, 0).sum() - 0.5 * X.numel() * np.log(2.0 * np.pi)


def _make(quick):
    n, d, k = (200, 3, 4) if quick else (2000, 8, 10)
    random = np.random.default_rng(0)
    factors = np.tril(0.2 * random.standard_normal((k, d, d))) + np.eye(d)
    args = (random.standard_normal(k), random.standard_normal((k, d)), factors, random.standard_normal((n, d)))
    argnums = (0, 1, 2)
    peers = {"jax": with_jax(_for_peer, args, argnums), "torch": with_torch(_torch, args, argnums),
             "autograd": with_autograd(_for_peer, args, argnums)}
    ours, plain = functools.partial(_log_likelihood, np, tape.logsumexp), functools.partial(_for_peer, np)
    return Case(ours, args, argnums, plain, exact=_gradient, peers=peers)


WORKLOADS = [Workload("mixture", "Gaussian mixture, 2,000 x 8, 10 components", _make)]
