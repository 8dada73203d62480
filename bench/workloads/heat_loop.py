"""A heat equation as a stencil in loops, 200 cells and 500 steps: the gradient for the initial state and the rate."""

import functools

import numpy as np
from numba import njit

from bench.groups import NJIT
from bench.peers import with_jax
from bench.workload import Case, Limit, Workload


def misfit(steps, state, rate, observed):
    """March from one buffer into another; the first cell and the last stay as they are."""
    u, following = state.copy(), state.copy()
    for _ in range(steps):
        for i in range(1, len(u) - 1):
            following[i] = u[i] + rate * (u[i - 1] - 2.0 * u[i] + u[i + 1])
        u, following = following, u
    total = 0.0
    for i in range(len(u)):
        total += (u[i] - observed[i]) ** 2
    return total


def _gradient(steps, state, rate, observed):
    """By the adjoint equation, marched backward from the misfit."""
    states = [state]
    for _ in range(steps):
        states.append(_marched(np, states[-1], rate))
    back, by_rate = 2.0 * (states.pop() - observed), 0.0
    for u in reversed(states):
        inner = back[1:-1]
        by_rate += inner @ (u[:-2] - 2.0 * u[1:-1] + u[2:])
        back = back + rate * (np.pad(inner, (0, 2)) - 2.0 * np.pad(inner, 1) + np.pad(inner, (2, 0)))
    return back, by_rate


def _marched(np, u, rate):
    return np.concatenate([u[:1], u[1:-1] + rate * (u[:-2] - 2.0 * u[1:-1] + u[2:]), u[-1:]])


def _jax(steps, np, state, rate, observed):
    from bench.peers import jax

    u, _ = jax().lax.scan(lambda u, _: (_marched(np, u, rate), None), state, None, length=steps)
    return np.sum((u - observed) ** 2)


def _make(quick):
    cells, steps = (50, 20) if quick else (200, 500)
    x = np.linspace(0.0, 1.0, cells)
    args = (steps, np.exp(-40.0 * (x - 0.4) ** 2), 0.2, np.sin(np.pi * x))
    return Case(njit(misfit), args, (1, 2), exact=_gradient,
                peers={"jax": with_jax(functools.partial(_jax, steps), args[1:], (0, 1))})


WORKLOADS = [Workload("heat-loop", "heat stencil in loops, 200 cells, 500 steps", _make, NJIT, Limit(40.0))]
