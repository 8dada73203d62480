"""Loops of NumPy code as native code: the oscillator by `tape.scan`, the heat stencil by `tape.fori`."""

import functools

import numpy as np
from numba import njit

import tape
from bench.groups import NATIVE
from bench.peers import with_jax
from bench.race import Bound, Race
from bench.workload import Workload
from bench.workloads import heat_loop, oscillator
from bench.workloads.oscillator import FREQUENCY, PULL, STEP, STIFFNESS, WALL


def energy(steps, x, v, k, damping):
    """`oscillator.energy` as a scan; the number of the step is its input."""

    def march(state, i):
        x, v = state
        wall = np.where(x > WALL, STIFFNESS * (x - WALL), 0.0)
        v = v + STEP * (PULL * np.sin(FREQUENCY * i * STEP) - k * x - damping * v - wall)
        return (x + STEP * v, v), None

    (x, v), _ = tape.scan(march, (x, v), np.arange(steps, dtype=float))
    return 0.5 * v * v + 0.5 * k * x * x


def misfit(steps, state, rate, observed):
    """`heat_loop.misfit` with slices."""

    def march(_, u):
        return np.concatenate([u[:1], u[1:-1] + rate * (u[:-2] - 2.0 * u[1:-1] + u[2:]), u[-1:]])

    u = tape.fori(0, steps, march, state)
    return np.sum((u - observed) ** 2)


def _race(function, plain, exact, args, argnums, peer, bounds):
    """Bind the number of steps, the first argument, and compile."""
    steps, *args = args
    args = tuple(args)
    jitted = functools.partial(njit(plain), steps)
    function = functools.partial(function, steps)
    return Race(function, args, argnums, plain=functools.partial(plain, steps), jitted=jitted,
                exact=functools.partial(exact, steps), bounds=bounds, peers={"jax": with_jax(peer, args, argnums)},
                derivative=lambda: tape.compile(function, *args, argnums=argnums).value_and_grad,
                values={"jitted primal": lambda: jitted(*args)})


def _make_oscillator(quick):
    args = (1_000 if quick else 100_000, 0.52, -0.8, 2.0, 0.05)
    return _race(energy, oscillator.energy, oscillator._gradient, args, (0, 1, 2, 3),
                 functools.partial(oscillator._jax, args[0]), (Bound("jitted primal", times=2.5), Bound("jax", faster=1.0)))


def _make_heat(quick):
    cells, steps = (50, 20) if quick else (200, 500)
    x = np.linspace(0.0, 1.0, cells)
    args = (steps, np.exp(-40.0 * (x - 0.4) ** 2), 0.2, np.sin(np.pi * x))
    return _race(misfit, heat_loop.misfit, heat_loop._gradient, args, (0, 1), functools.partial(heat_loop._jax, steps),
                 (Bound("jitted primal", times=8.0), Bound("jax", faster=1.0)))


WORKLOADS = [Workload("native-oscillator", "damped oscillator, scan of 100,000 steps", _make_oscillator, NATIVE),
             Workload("native-heat", "heat stencil, 200 cells, 500 steps", _make_heat, NATIVE)]
