"""The potential energy of 50 bodies, softened, in a loop over pairs; one call for each of several configurations."""

import math

import numpy as np
from numba import njit

import tape
from bench.groups import NJIT
from bench.peers import with_jax
from bench.workload import Case, Limit, Workload

SOFTENING = 0.05


def energy(positions, masses):
    """Of one configuration, n x 3."""
    total = 0.0
    for i in range(len(positions)):
        for j in range(i):
            x = positions[i, 0] - positions[j, 0]
            y = positions[i, 1] - positions[j, 1]
            z = positions[i, 2] - positions[j, 2]
            total -= masses[i] * masses[j] / math.sqrt(x * x + y * y + z * z + SOFTENING)
    return total


def _gradient(configurations, masses):
    apart = configurations[:, :, None] - configurations[:, None, :]
    pairs = masses[:, None] * masses * (np.sum(apart**2, axis=-1) + SOFTENING) ** -1.5
    return (np.sum(pairs[..., None] * apart, axis=2),)


def _jax(np, configurations, masses):
    from bench.peers import jax

    # A coordinate at a time: an axis of length 3 inside takes three times as long.
    squares = sum((x[:, :, None] - x[:, None, :]) ** 2 for x in np.moveaxis(configurations, -1, 0))
    pairs = masses[:, None] * masses * (1.0 - np.eye(len(masses)))
    return -0.5 * np.sum(pairs * jax().lax.rsqrt(squares + SOFTENING))


def _make(quick):
    bodies, count = (10, 3) if quick else (50, 20)
    function = njit(energy)

    @njit
    def total(configurations, masses):
        result = 0.0
        for k in range(len(configurations)):
            result += function(configurations[k], masses)
        return result

    def derivative():
        both = tape.value_and_grad(function)

        @njit
        def run(configurations, masses):
            result, gradient = 0.0, np.empty_like(configurations)
            for k in range(len(configurations)):
                value, change = both(configurations[k], masses)
                result += value
                for i in range(len(change)):  # Numba compiles the assignment to a slice for three seconds
                    for j in range(3):
                        gradient[k, i, j] = change[i, j]
            return result, (gradient,)

        return run

    random = np.random.default_rng(0)
    args = (random.standard_normal((count, bodies, 3)), random.uniform(0.5, 1.5, bodies))
    return Case(total, args, exact=_gradient, derivative=derivative, calls=count, peers={"jax": with_jax(_jax, args)})


WORKLOADS = [Workload("nbody", "potential energy of 50 bodies", _make, NJIT, Limit(6.0))]
