"""Functions of a module, as users write them, for the tests of other processes: plain, jitted, decorated, with rules."""

import numpy as np
from numba import njit

import tape

SCALE = 1.5


def wave(x):
    """A wave."""
    return np.sum(np.sin(SCALE * x) * x**2) + x[0] * x[-1]


def columns(x):
    return np.stack([x**2, np.sin(x)])


@njit
def spring(x):
    e = 0.0
    for i in range(1, x.shape[0]):
        e += (x[i] - x[i - 1]) ** 2 * np.cos(x[i])
    return e


@njit(cache=True)
def kept_spring(x):
    e = 0.0
    for i in range(1, x.shape[0]):
        e += np.sin(x[i] - x[i - 1])
    return e


@tape.grad
def slope(x):
    """A slope."""
    return np.sum(np.exp(-SCALE * x) * x)


@tape.batch
@tape.grad
def slopes(x):
    return np.sum(np.cos(x) * x)


@tape.grad
@njit
def jitted_slope(x):
    return np.sum(np.exp(x) * x)


@tape.operation
def softplus(x):
    return np.log1p(np.exp(x))


@softplus.bprop
def _(grad, out, x):
    return grad / (1 + np.exp(-x))


@tape.operation
def noisy(x):
    """With a rule that is no NumPy code."""
    return np.array([float(v) ** 3 for v in x])


@noisy.bprop
def _(grad, out, x):
    return np.array([3 * float(v) ** 2 * float(g) for v, g in zip(x, grad, strict=True)])


@tape.operation
@njit
def cube(x):
    return x**3


@cube.bprop
def _(grad, out, x):
    return 3.0 * x**2 * grad


@tape.checkpoint
def twice(x):
    return np.sin(np.sin(x))


@tape.checkpoint
@njit
def jitted_twice(x):
    return np.sin(np.sin(x))


@njit
def with_cubes(x):
    return cube(x) + jitted_twice(x)


def with_operations(x):
    return np.sum(softplus(x) * twice(x)) + np.sum(noisy(x))


def solved(x):
    return np.sum(np.linalg.solve(np.diag(x) + 0.1, np.sin(x)))


def looped(x):
    return np.sum(tape.fori(0, 5, lambda i, c: np.sin(c) * 1.1, x))


class Model:
    """Parameters, and a method that is differentiated."""

    def __init__(self, scale):
        self.scale = np.asarray(scale)

    def loss(self, x):
        return np.sum((self.scale * x) ** 2)

    @tape.grad
    def own(x, self):  # noqa: N805  the gradient is by the first argument
        return np.sum(x**3)
