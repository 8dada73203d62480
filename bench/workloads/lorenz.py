"""The Lorenz equations: 10,000 steps of the classical Runge-Kutta method, the distance from a point at the end."""

import functools

import numpy as np
from numba import njit

from bench.groups import NJIT
from bench.peers import with_jax
from bench.workload import Case, Limit, Workload

STEP = 5e-4
TARGET = (1.0, 2.0, 20.0)


def _jitted():
    """The function and its helpers, none of them compiled."""

    @njit
    def slope(x, y, z, sigma, rho, beta):
        return sigma * (y - x), x * (rho - z) - y, x * y - beta * z

    @njit
    def marched(x, y, z, sigma, rho, beta):
        x1, y1, z1 = slope(x, y, z, sigma, rho, beta)
        x2, y2, z2 = slope(x + 0.5 * STEP * x1, y + 0.5 * STEP * y1, z + 0.5 * STEP * z1, sigma, rho, beta)
        x3, y3, z3 = slope(x + 0.5 * STEP * x2, y + 0.5 * STEP * y2, z + 0.5 * STEP * z2, sigma, rho, beta)
        x4, y4, z4 = slope(x + STEP * x3, y + STEP * y3, z + STEP * z3, sigma, rho, beta)
        return (x + STEP / 6.0 * (x1 + 2.0 * x2 + 2.0 * x3 + x4), y + STEP / 6.0 * (y1 + 2.0 * y2 + 2.0 * y3 + y4),
                z + STEP / 6.0 * (z1 + 2.0 * z2 + 2.0 * z3 + z4))

    @njit
    def distance(steps, x, y, z, sigma, rho, beta):
        for _ in range(steps):
            x, y, z = marched(x, y, z, sigma, rho, beta)
        return (x - TARGET[0]) ** 2 + (y - TARGET[1]) ** 2 + (z - TARGET[2]) ** 2

    return distance


def _gradient(steps, x, y, z, sigma, rho, beta):
    """By the variational equations, marched by the same method: column 0 is the state, the others its derivatives."""

    def slope(columns):
        x, y, z = columns[:, 0]
        matrix = np.array([[-sigma, sigma, 0.0], [rho - z, -1.0, -x], [y, x, -beta]])
        slopes = matrix @ columns
        slopes[:, 0] = sigma * (y - x), x * (rho - z) - y, x * y - beta * z
        slopes[0, 4] += y - x
        slopes[1, 5] += x
        slopes[2, 6] -= z
        return slopes

    columns = np.column_stack([(x, y, z), np.eye(3, 6)])
    for _ in range(steps):
        first = slope(columns)
        second = slope(columns + 0.5 * STEP * first)
        third = slope(columns + 0.5 * STEP * second)
        columns = columns + STEP / 6.0 * (first + 2.0 * second + 2.0 * third + slope(columns + STEP * third))
    return tuple(2.0 * (columns[:, 0] - TARGET) @ columns[:, 1:])


def _jax(steps, np, x, y, z, sigma, rho, beta):
    from bench.peers import jax

    def slope(x, y, z):
        return sigma * (y - x), x * (rho - z) - y, x * y - beta * z

    def moved(state, size, slopes):
        return tuple(a + size * b for a, b in zip(state, slopes, strict=True))

    def march(state, _):
        first = slope(*state)
        second = slope(*moved(state, 0.5 * STEP, first))
        third = slope(*moved(state, 0.5 * STEP, second))
        fourth = slope(*moved(state, STEP, third))
        mean = tuple((a + 2.0 * b + 2.0 * c + d) / 6.0 for a, b, c, d in zip(first, second, third, fourth, strict=True))
        return moved(state, STEP, mean), None

    # Without checkpoints the loop keeps each intermediate value of each step, and takes fifty times as long.
    state, _ = jax().lax.scan(jax().checkpoint(march), (x, y, z), None, length=steps)
    return sum((a - b) ** 2 for a, b in zip(state, TARGET, strict=True))


def _make(quick):
    args = (100 if quick else 10_000, 1.0, 1.0, 1.05, 10.0, 28.0, 8.0 / 3.0)
    return Case(_jitted(), args, (1, 2, 3, 4, 5, 6), exact=_gradient,
                peers={"jax": with_jax(functools.partial(_jax, args[0]), args[1:], (0, 1, 2, 3, 4, 5))})


WORKLOADS = [Workload("lorenz", "Lorenz equations, 10,000 Runge-Kutta steps", _make, NJIT, Limit(4.0))]
