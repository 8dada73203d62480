"""A program as users write it who check theirs with a type checker: `mypy --strict` finds nothing in it."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.optimize import minimize  # type: ignore[import-untyped]

import tape

Array = NDArray[np.float64]
Layers = list[tuple[Array, Array]]


def rosenbrock(x: Array, scale: float = 100.0) -> np.float64:
    """A scalar function of an array."""
    return np.sum(scale * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def misfit(layers: Layers, x: Array, y: Array) -> np.float64:
    """A scalar function of a nested container."""
    for weights, bias in layers:
        x = np.tanh(x @ weights + bias)
    return np.sum((x - y) ** 2)


def turned(x: Array, angle: float) -> Array:
    """An array of an array."""
    return np.stack([x[0] * np.cos(angle) - x[1] * np.sin(angle), x[0] * np.sin(angle) + x[1] * np.cos(angle)])


def gradients() -> Array:
    """Gradients have the type of the argument, also of a container."""
    x = np.zeros(10)
    value, gradient = tape.value_and_grad(rosenbrock)(x)
    gradient = gradient + tape.grad(rosenbrock)(x, scale=10.0)
    print(tape.grad(rosenbrock).report(), value + 1.0)
    layers: Layers = tape.grad(misfit)([(np.ones((10, 3)), np.zeros(3))], np.ones((5, 10)), np.ones((5, 3)))
    by_both: tuple[Array, float] = tape.grad(rosenbrock, argnums=(0, 1))(x, 100.0)
    best: Array = minimize(tape.value_and_grad(rosenbrock), x, jac=True).x
    total: Array = gradient + best + by_both[0] + layers[0][1].sum()
    return total


def matrices() -> Array:
    """Jacobians, Hessians and products with them."""
    x = np.ones(2)
    jacobian: Array = tape.jacobian(turned)(x, 0.5)
    hessian: Array = tape.hessian(rosenbrock)(x)
    product: Array = tape.hvp(rosenbrock)(x, np.ones(2))
    value, tangent = tape.jvp(turned, (x, 0.5), (np.ones(2), 0.0))
    value, pullback = tape.vjp(turned, x, 0.5)
    of_x, of_angle = pullback(np.ones(2))
    tape.check_grads(rosenbrock, (x,))
    return jacobian @ hessian @ (product + tangent + value + of_x * of_angle)


def lists_and_native_code() -> Array:
    """Lists, machine code, batches and loops."""
    t = tape.record(turned, np.ones(2), 0.5)
    t.reverse(seed=np.ones(2))
    adjoint: Array = t.grad_table[t.inputs[0]]
    print(len(t), t, t.report())
    compiled = tape.compile(rosenbrock, np.ones(10))
    value: np.float64 = compiled.value(np.ones(10))
    slopes: Array = tape.batch(tape.grad(rosenbrock))(np.ones((100, 10)))

    def step(state: Array, x: Array) -> tuple[Array, None]:
        return state + 0.1 * x, None

    last, _ = tape.scan(step, np.zeros(2), np.ones((5, 2)))
    with tape.strict(), tape.memory_limit(10**6):
        last = last + tape.fori(0, 3, lambda i, y: y + i, last)
    return adjoint + last + value + slopes[0, :2]


@tape.operation
def cube(x: Array) -> Array:
    """An operation with a rule of its own."""
    return x**3


@cube.bprop
def _(grad: Array, out: Array, x: Array) -> Array:
    return 3.0 * grad * x**2


def eager() -> float:
    """Eager use, and an operation."""
    w = tape.variable(1.0, requires_grad=True)
    loss = (3.0 * w - 6.0) ** 2
    loss.backward()
    w.data -= 0.05 * w.grad
    w.zero_grad()
    return float(w.item()) + float(cube(np.ones(2))[0])


@njit
def energy(q: Array, k: float) -> float:
    """A jitted function, whose type Numba's stubs do not know."""
    return float(0.5 * k * np.sum(q**2))


@njit(cache=False)
def drag(v: float, c: float) -> float:
    """A jitted function, whose type they know."""
    return 0.5 * c * v * v


def jitted() -> float:
    """Derivatives of jitted functions."""
    value, force = tape.value_and_grad(energy)(np.ones(2), 3.0)
    value, tangent = tape.jvp(energy, (np.ones(2), 3.0), (np.ones(2), 0.0))
    value, pullback = tape.vjp(energy, np.ones(2), 3.0)
    stiffness: Array = tape.hessian(energy)(np.ones(2), 3.0)
    print(force, tangent, pullback(1.0), stiffness, len(tape.record(energy, np.ones(2), 3.0)))
    slopes: tuple[float, float] = tape.grad(drag, argnums=(0, 1))(2.0, 0.1)
    return tape.grad(drag)(2.0, 0.1) + slopes[1] + float(value)


if __name__ == "__main__":
    print(gradients(), matrices(), lists_and_native_code(), eager(), jitted())
