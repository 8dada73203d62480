"""A driven, damped oscillator against a soft wall: 100,000 steps of the symplectic Euler method, the energy at the end."""

import functools
import math

import numpy as np
from numba import njit

from bench.groups import NJIT
from bench.peers import with_jax
from bench.workload import Case, Limit, Workload

STEP = 1e-4
WALL, STIFFNESS = 0.5, 5.0
PULL, FREQUENCY = 0.8, 1.3
UNROLLED = 4
"""Steps in a round of jax's loop: fewer or more are slower."""


def energy(steps, x, v, k, damping):
    """Of the oscillator after `steps` steps; beyond the wall a stiffer spring pushes back."""
    for i in range(steps):
        force = PULL * math.sin(FREQUENCY * i * STEP) - k * x - damping * v
        if x > WALL:
            force -= STIFFNESS * (x - WALL)
        v += STEP * force
        x += STEP * v
    return 0.5 * v * v + 0.5 * k * x * x


def _gradient(steps, x, v, k, damping):
    """By the derivatives of x and v for all four, marched along with them."""
    by_x, by_v, by_k, by_damping = np.eye(4)
    for i in range(steps):
        stiffness = k + STIFFNESS * (x > WALL)
        force = PULL * math.sin(FREQUENCY * i * STEP) - k * x - damping * v - STIFFNESS * max(x - WALL, 0.0)
        by_v = by_v - STEP * (stiffness * by_x + x * by_k + damping * by_v + v * by_damping)
        v += STEP * force
        by_x = by_x + STEP * by_v
        x += STEP * v
    return tuple(v * by_v + k * x * by_x + 0.5 * x * x * by_k)


def _jax(steps, np, x, v, k, damping):
    from bench.peers import jax

    def march(state, i):
        x, v = state
        wall = np.where(x > WALL, STIFFNESS, 0.0) * (x - WALL)
        v = v + STEP * (PULL * np.sin(FREQUENCY * i * STEP) - k * x - damping * v - wall)
        return (x + STEP * v, v), None

    (x, v), _ = jax().lax.scan(march, (x, v), np.arange(steps, dtype=float), unroll=UNROLLED)
    return 0.5 * v * v + 0.5 * k * x * x


def _make(quick):
    args = (1_000 if quick else 100_000, 0.52, -0.8, 2.0, 0.05)
    return Case(njit(energy), args, (1, 2, 3, 4), exact=_gradient,
                peers={"jax": with_jax(functools.partial(_jax, args[0]), args[1:], (0, 1, 2, 3))})


WORKLOADS = [Workload("oscillator", "damped oscillator, 100,000 steps", _make, NJIT, Limit(3.0))]
