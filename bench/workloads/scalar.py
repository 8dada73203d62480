"""A function of two numbers, ten operations: its derivative called from jitted code, and from Python."""

import math

import numpy as np
from numba import njit

import tape
from bench.groups import NJIT
from bench.peers import with_jax
from bench.workload import Case, Limit, Workload


def scalar(x, y):
    """Ten operations, two of them transcendental."""
    return math.exp(-x * y) * math.sin(x + y) / (1.0 + x * x) + y


def _gradient(x, y):
    wave, tail = np.exp(-x * y) * np.sin(x + y), 1.0 + x * x
    slope = np.exp(-x * y) * np.cos(x + y)
    return (slope - y * wave) / tail - 2.0 * x * wave / tail**2, np.sum((slope - x * wave) / tail + 1.0)


def _jax(np, x, y):
    return np.sum(np.exp(-x * y) * np.sin(x + y) / (1.0 + x * x) + y)


def _make_inside(quick):
    count = 100 if quick else 100_000
    function = njit(scalar)

    @njit
    def total(x, y):
        result = 0.0
        for k in range(len(x)):
            result += function(x[k], y)
        return result

    def derivative():
        both = tape.value_and_grad(function, (0, 1))

        @njit
        def run(x, y):
            result, by_x, by_y = 0.0, np.empty_like(x), 0.0
            for k in range(len(x)):
                value, (by_x[k], change) = both(x[k], y)
                result += value
                by_y += change
            return result, (by_x, by_y)

        return run

    args, argnums = (np.linspace(-1.0, 2.0, count), 0.7), (0, 1)
    return Case(total, args, argnums, exact=_gradient, derivative=derivative, calls=count,
                peers={"jax": with_jax(_jax, args, argnums)})


def _make_python(quick):
    args, argnums = (0.3, 0.7), (0, 1)
    return Case(njit(scalar), args, argnums, exact=_gradient, peers={"jax": with_jax(_jax, args, argnums)})


WORKLOADS = [Workload("scalar-inside", "ten operations, from jitted code", _make_inside, NJIT, Limit(5.0, 20e-9)),
             Workload("scalar-python", "ten operations, from Python", _make_python, NJIT, Limit(0.0, 1.5e-6))]
