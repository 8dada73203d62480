"""A heat equation of 200 cells and 500 steps: the misfit's gradient for the initial state and the conductivities."""

import functools

import numpy as np
from numba import njit

from bench.peers import with_autograd, with_jax, with_torch
from bench.workload import Case, Workload

RATE = 0.2


def misfit(steps, state, conductivity, observed):
    """March in place, as one writes it in NumPy."""
    u = state.copy()
    for _ in range(steps):
        flux = conductivity * (u[1:] - u[:-1])
        u[1:-1] += RATE * (flux[1:] - flux[:-1])
    return np.sum((u - observed) ** 2)


@njit
def _jitted(steps, state, conductivity, observed):
    u, flux = state.copy(), np.empty_like(conductivity)
    for _ in range(steps):
        for i in range(len(flux)):
            flux[i] = conductivity[i] * (u[i + 1] - u[i])
        for i in range(1, len(flux)):
            u[i] += RATE * (flux[i] - flux[i - 1])
    return np.sum((u - observed) ** 2)


def _gradient(steps, state, conductivity, observed):
    """By the adjoint equation, marched backward from the misfit."""
    states = [state]
    for _ in range(steps):
        states.append(_marched(np, states[-1], conductivity))
    back, by_conductivity = 2.0 * (states.pop() - observed), np.zeros_like(conductivity)
    for u in reversed(states):
        moved = np.concatenate([[0.0], back[1:-1], [0.0]])  # the first cell and the last stay as they are
        by_flux = RATE * (moved[:-1] - moved[1:])
        by_conductivity += by_flux * np.diff(u)
        back = back - np.diff(by_flux * conductivity, prepend=0.0, append=0.0)
    return back, by_conductivity


def _marched(np, u, conductivity):
    """One step without assignment, for peers whose arrays cannot be changed."""
    flux = conductivity * (u[1:] - u[:-1])
    return np.concatenate([u[:1], u[1:-1] + RATE * (flux[1:] - flux[:-1]), u[-1:]])


def _autograd(steps, np, state, conductivity, observed):
    u = state
    for _ in range(steps):
        u = _marched(np, u, conductivity)
    return np.sum((u - observed) ** 2)


def _jax(steps, np, state, conductivity, observed):
    from bench.peers import jax

    u, _ = jax().lax.scan(lambda u, _: (_marched(np, u, conductivity), None), state, None, length=steps)
    return np.sum((u - observed) ** 2)


def _make(quick):
    cells, steps = (50, 20) if quick else (200, 500)
    x = np.linspace(0.0, 1.0, cells)
    state = np.exp(-40.0 * (x - 0.4) ** 2)
    args = (state, 1.0 + 0.5 * np.sin(7.0 * x[1:]), np.sin(np.pi * x))
    argnums = (0, 1)
    peers = {"jax": with_jax(functools.partial(_jax, steps), args, argnums),
             "torch": with_torch(functools.partial(_autograd, steps), args, argnums),
             "autograd": with_autograd(functools.partial(_autograd, steps), args, argnums)}
    return Case(functools.partial(misfit, steps), args, argnums, jitted=functools.partial(_jitted, steps),
                exact=functools.partial(_gradient, steps), peers=peers)


WORKLOADS = [Workload("heat", "heat equation, 200 cells, 500 steps", _make)]
