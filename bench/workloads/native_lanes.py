"""The derivative of a function of one number for 100,000 samples: in lanes of vectors, and on two threads."""

import functools
import os

import numpy as np
from scipy.optimize import rosen_der

import tape
from bench.groups import NATIVE
from bench.race import Bound, Race
from bench.workload import Workload

ONE = 1.0


def arithmetic(np, x):
    """A hundred operations, none of them transcendental."""
    y = x
    for k in range(20):
        y = y * (ONE - 0.1 * y) + (0.01 + 0.001 * k) * x
    return y


def of_vectors(np, x):
    """About a hundred operations on the ten elements of an array, none of them transcendental: Rosenbrock's function."""
    total = 0.0
    for k in range(9):
        rest, miss = x[..., k + 1] - x[..., k] * x[..., k], ONE - x[..., k]
        total = total + 100.0 * rest * rest + miss * miss
    return total


def transcendental(np, x):
    """A hundred operations, among them eight each of exp, log and sin."""
    y = x
    for k in range(8):
        y = np.exp(-0.1 * y * y)
        y = np.log(ONE + y + x * x) - 0.1 * k
        y = y + 0.5 * np.sin(x + y)
    return y * x + y * y + 0.5 * x


def _derivative(function, x):
    """Along a line in the complex plane: for functions that are analytic, exact to rounding."""
    return (np.imag(function(np, x + 1e-30j)) / 1e-30,)


def _jax(function, x):
    """`prepare` of the derivative, vectorised and jitted."""

    def prepare():
        from bench.peers import jax

        module = jax()
        run = module.jit(module.vmap(module.grad(functools.partial(function, module.numpy))))
        placed = module.numpy.asarray(x)
        return lambda: [run(placed).block_until_ready()]

    return prepare


def _batched(function, threads):
    return tape.batch(tape.grad(functools.partial(function, np)), threads=threads)


def _make(function, bounds, threads=1, exact=None, size=()):
    def make(quick):
        args = (np.random.default_rng(0).uniform(0.1, 1.5, (500 if quick else 100_000, *size)),)

        def total(x):
            return np.sum(function(np, x))

        def one_thread():
            run = _batched(function, 1)
            return lambda: [run(*args)]

        race = Race(total, args, exact=exact or functools.partial(_derivative, function), bounds=bounds, threads=threads,
                    derivative=lambda: _batched(function, threads), answer=lambda gradient: (total(*args), (gradient,)),
                    peers={"jax": _jax(function, *args)} if threads == 1 else {},
                    rivals={"one thread": one_thread} if threads > 1 else {})
        if not hasattr(tape, "batch"):
            race.missing = "this version has no tape.batch"
        elif threads > (os.cpu_count() or 1):
            race.missing = f"needs {threads} processors"
        return race

    return make


WORKLOADS = [
    Workload("native-lanes", "100 operations, arithmetic, 100,000 samples", _make(arithmetic, (Bound("jax", faster=10.0),)),
             NATIVE),
    Workload("native-lanes-vectors", "the same of 10 numbers each (Rosenbrock), arithmetic, 100,000 samples",
             _make(of_vectors, (Bound("jax", faster=10.0),), exact=lambda x: (rosen_der(x.T).T,), size=(10,)), NATIVE),
    Workload("native-lanes-exp", "100 operations with exp, log, sin, 100,000 samples",
             _make(transcendental, (Bound("jax", faster=3.0),)), NATIVE),
    Workload("native-threads", "the same with exp, log, sin on two threads",
             _make(transcendental, (Bound("one thread", faster=1.8),), threads=2), NATIVE),
]
