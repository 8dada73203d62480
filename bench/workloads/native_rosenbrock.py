"""Rosenbrock's function compiled: called from Python with NumPy's arrays, and from jitted code."""

import functools

import numpy as np
from numba import njit
from scipy.optimize import rosen_der

import tape
from bench.groups import NATIVE
from bench.peers import with_jax_between_arrays
from bench.race import Bound, Race
from bench.workload import Workload
from bench.workloads.rosenbrock import rosenbrock

FUNCTION = functools.partial(rosenbrock, np)


def by_hand(x, gradient):
    """Value and, in `gradient`, the derivatives."""
    total = 0.0
    for i in range(len(x)):
        gradient[i] = 0.0
    for i in range(len(x) - 1):
        rest, miss = x[i + 1] - x[i] * x[i], 1.0 - x[i]
        total += 100.0 * rest * rest + miss * miss
        gradient[i] -= 400.0 * x[i] * rest + 2.0 * miss
        gradient[i + 1] += 200.0 * rest
    return total


def _returning(function):
    """The jitted function that makes the array of the gradient."""

    @njit
    def both(x):
        gradient = np.empty_like(x)
        return function(x, gradient), gradient

    return both


def _make_python(n, bounds):
    def make(quick):
        args = (np.linspace(-1.2, 1.5, n),)

        def hand_written():
            both = _returning(njit(by_hand))
            return lambda: (both(*args)[1],)

        return Race(FUNCTION, args, exact=lambda x: (rosen_der(x),), bounds=bounds,
                    derivative=lambda: tape.compile(FUNCTION, *args).value_and_grad,
                    answer=lambda result: (result[0], (result[1],)), rivals={"hand-written": hand_written},
                    peers={"jax": with_jax_between_arrays(rosenbrock, args)})

    return make


def _total(points):
    return np.sum(100.0 * (points[:, 1:] - points[:, :-1] ** 2) ** 2 + (1.0 - points[:, :-1]) ** 2)


def _over(function):
    """The jitted loop over the rows of an array."""

    @njit
    def run(points):
        total, gradients = 0.0, np.empty_like(points)
        for k in range(len(points)):
            total += function(points[k], gradients[k])
        return total, (gradients,)

    return run


def _make_inside(quick):
    count = 10 if quick else 10_000
    args = (np.random.default_rng(0).uniform(-1.2, 1.5, (count, 10)),)

    def hand_written():
        run = _over(njit(by_hand))
        return lambda: run(*args)[1]

    return Race(_total, args, exact=lambda points: (np.array([rosen_der(x) for x in points]),), calls=count,
                derivative=lambda: _over(tape.compile(FUNCTION, np.zeros(10)).njit.value_and_grad),
                rivals={"hand-written": hand_written}, bounds=(Bound("hand-written", times=2.0),))


WORKLOADS = [
    Workload("native-rosenbrock-10", "Rosenbrock, n = 10, from Python",
             _make_python(10, (Bound(seconds=1.2e-6), Bound("jax", faster=6.0))), NATIVE),
    Workload("native-rosenbrock-1000", "Rosenbrock, n = 1,000, from Python",
             _make_python(1_000, (Bound("hand-written", times=1.5), Bound("jax", faster=5.0))), NATIVE),
    Workload("native-rosenbrock-inside", "Rosenbrock, n = 10, from jitted code", _make_inside, NATIVE),
]
