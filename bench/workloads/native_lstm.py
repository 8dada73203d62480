"""A long short-term memory cell over 100 steps, 128 inputs and 128 units: the gradient for its weights."""

import numpy as np

import tape
from bench.groups import NATIVE
from bench.peers import jax, torch
from bench.race import Bound, Race
from bench.workload import Workload


def _sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def _march(sigmoid, tanh, h, s, g):
    """State and memory after a step, of the gates' sums; the order of the gates is torch's."""
    n = len(h)
    s = sigmoid(g[n : 2 * n]) * s + sigmoid(g[:n]) * tanh(g[2 * n : 3 * n])
    return sigmoid(g[3 * n :]) * tanh(s), s


def loss(W, U, b, xs):
    """Sum of the squares of the last state."""
    zeros = np.zeros(U.shape[1])
    (h, _), _ = tape.scan(lambda c, x: (_march(tape.sigmoid, np.tanh, *c, W @ x + U @ c[0] + b), None), (zeros, zeros), xs)
    return np.sum(h * h)


def plain(W, U, b, xs):
    """The same as a loop in NumPy."""
    h = s = np.zeros(U.shape[1])
    for x in xs:
        h, s = _march(_sigmoid, np.tanh, h, s, W @ x + U @ h + b)
    return np.sum(h * h)


def _gradient(W, U, b, xs):
    """Back through time."""
    n = U.shape[1]
    h = s = np.zeros(n)
    kept = []
    for x in xs:
        g = W @ x + U @ h + b
        i, f, o, z = _sigmoid(g[:n]), _sigmoid(g[n : 2 * n]), _sigmoid(g[3 * n :]), np.tanh(g[2 * n : 3 * n])
        kept.append((x, h, s, i, f, o, z))
        s = f * s + i * z
        h = o * np.tanh(s)
    by_h, by_s, by_W, by_U, by_b = 2.0 * h, np.zeros(n), np.zeros_like(W), np.zeros_like(U), np.zeros_like(b)
    for x, before, memory, i, f, o, z in reversed(kept):
        t = np.tanh(f * memory + i * z)
        by_s = by_s + by_h * o * (1.0 - t * t)
        g = np.concatenate([by_s * z * i * (1.0 - i), by_s * memory * f * (1.0 - f), by_s * i * (1.0 - z * z),
                            by_h * t * o * (1.0 - o)])
        by_W += np.outer(g, x)
        by_U += np.outer(g, before)
        by_b += g
        by_h, by_s = U.T @ g, by_s * f
    return by_W, by_U, by_b


def _jax(args):
    def prepare():
        module = jax()

        def total(W, U, b, xs):
            zeros = module.numpy.zeros(U.shape[1])

            def step(c, x):
                return _march(module.nn.sigmoid, module.numpy.tanh, *c, W @ x + U @ c[0] + b), None

            (h, _), _ = module.lax.scan(step, (zeros, zeros), xs)
            return (h * h).sum()

        run = module.jit(module.value_and_grad(total, (0, 1, 2)))
        placed = [module.numpy.asarray(a) for a in args]
        return lambda: module.block_until_ready(run(*placed))[1]

    return prepare


def _torch_layer(args):
    """torch.nn.LSTM."""

    def prepare():
        module = torch()
        W, U, b, xs = (module.tensor(a) for a in args)
        layer = module.nn.LSTM(W.shape[1], U.shape[1]).double()
        with module.no_grad():
            for own, given in ((layer.weight_ih_l0, W), (layer.weight_hh_l0, U), (layer.bias_ih_l0, b)):
                own.copy_(given)
            layer.bias_hh_l0.zero_()
        wanted, rows = [layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0], xs[:, None, :]

        def run():
            _, (h, _) = layer(rows)
            return [g.numpy() for g in module.autograd.grad((h * h).sum(), wanted)]

        return run

    return prepare


def _torch_cells(args):
    """A loop of cells."""

    def prepare():
        module = torch()
        W, U, b = wanted = [module.tensor(a).requires_grad_() for a in args[:3]]
        xs = module.tensor(args[3])

        def run():
            h = s = module.zeros(U.shape[1])
            for g in xs @ W.T + b:
                i, f, z, o = (g + U @ h).chunk(4)
                s = module.sigmoid(f) * s + module.sigmoid(i) * module.tanh(z)
                h = module.sigmoid(o) * module.tanh(s)
            return [g.numpy() for g in module.autograd.grad((h * h).sum(), wanted)]

        return run

    return prepare


def _make(quick):
    size, steps = (8, 5) if quick else (128, 100)
    random = np.random.default_rng(0)
    W, U = (random.standard_normal((4 * size, size)) / np.sqrt(size) for _ in range(2))
    args = (W, U, 0.1 * random.standard_normal(4 * size), random.standard_normal((steps, size)))
    argnums = (0, 1, 2)
    return Race(loss, args, argnums, plain=plain, exact=_gradient,
                derivative=lambda: tape.compile(loss, *args, argnums=argnums).value_and_grad,
                peers={"torch.nn.LSTM": _torch_layer(args), "torch cells": _torch_cells(args), "jax": _jax(args)},
                bounds=(Bound("torch.nn.LSTM", faster=3.0), Bound("torch cells", faster=3.0)))


WORKLOADS = [Workload("native-lstm", "LSTM cell, 128 x 128, 100 steps", _make, NATIVE)]
