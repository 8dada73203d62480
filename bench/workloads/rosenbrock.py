"""Rosenbrock's function, from a handful of variables to arrays that fill the cache."""

import functools

import numpy as np
from numba import njit
from scipy.optimize import rosen_der

from bench.peers import with_autograd, with_casadi, with_jax, with_torch
from bench.workload import Case, Workload

LARGEST_CASADI = 1000
"""casadi expands every element into scalar operations; beyond this building them takes minutes."""


def rosenbrock(np, x):
    """Sum of 100 (x[i+1] - x[i]^2)^2 + (1 - x[i])^2."""
    return np.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


@njit
def _jitted(x):
    total = 0.0
    for i in range(len(x) - 1):
        total += 100.0 * (x[i + 1] - x[i] ** 2) ** 2 + (1.0 - x[i]) ** 2
    return total


def _torch(torch, x):
    return (100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2).sum()


def _casadi(casadi, x):
    return casadi.sum1(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


def _make(n):
    def make(quick):
        size = min(n, 1000) if quick else n
        args = (np.linspace(-1.2, 1.5, size),)
        peers = {"jax": with_jax(rosenbrock, args), "torch": with_torch(_torch, args),
                 "autograd": with_autograd(rosenbrock, args)}
        if size <= LARGEST_CASADI:
            peers["casadi"] = with_casadi(_casadi, size, args)
        return Case(functools.partial(rosenbrock, np), args, jitted=_jitted, exact=rosen_der, peers=peers)

    return make


WORKLOADS = [Workload(f"rosenbrock-{n}", f"Rosenbrock, n = {n:,}", _make(n)) for n in (10, 1_000, 100_000)]
