"""The derivative of a function of one number for 100,000 samples: in lanes of vectors, and on two threads."""

import functools
import os

import numpy as np

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


def _make(function, bounds, threads=1):
    def make(quick):
        args = (np.linspace(0.1, 1.5, 500 if quick else 100_000),)

        def total(x):
            return np.sum(function(np, x))

        def one_thread():
            run = _batched(function, 1)
            return lambda: [run(*args)]

        race = Race(total, args, exact=functools.partial(_derivative, function), bounds=bounds, threads=threads,
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
    Workload("native-lanes-exp", "100 operations with exp, log, sin, 100,000 samples",
             _make(transcendental, (Bound("jax", faster=3.0),)), NATIVE),
    Workload("native-threads", "the same with exp, log, sin on two threads",
             _make(transcendental, (Bound("one thread", faster=1.8),), threads=2), NATIVE),
]
