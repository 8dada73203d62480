"""Convolution, pooling and a small convolutional network: value and gradient, beside torch."""

import functools

import numpy as np

import tape
from bench.groups import NATIVE
from bench.peers import with_torch
from bench.race import Bound, Race
from bench.workload import Workload

STEP = 1e-7
"""Of the differences: in a longer one some ReLUs change sides, and some windows have another largest element."""


# ---------------------------------------------------------------------- convolution and pooling, alone


def _windows(x, size, padding=0):
    padded = np.pad(x, [(0, 0), (0, 0), (padding, padding), (padding, padding)])
    return np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(2, 3))


def _conv_loss(padding, x, w, seed):
    return np.sum(tape.conv(x, w, padding=padding) * seed)


def _conv_plain(padding, x, w, seed):
    return np.sum(np.einsum("nchwij,ocij->nohw", _windows(x, w.shape[-1], padding), w, optimize=True) * seed)


def _conv_gradient(padding, x, w, seed):
    """By the transposed convolution, place by place of the kernel."""
    _, _, height, width = seed.shape
    by_x = np.zeros((*x.shape[:2], x.shape[2] + 2 * padding, x.shape[3] + 2 * padding))
    for i, j in np.ndindex(*w.shape[2:]):
        by_x[:, :, i : i + height, j : j + width] += np.einsum("nohw,oc->nchw", seed, w[:, :, i, j], optimize=True)
    inside = slice(padding, by_x.shape[2] - padding)
    by_w = np.einsum("nchwij,nohw->ocij", _windows(x, w.shape[-1], padding), seed, optimize=True)
    return by_x[:, :, inside, inside], by_w


def _conv_torch(padding, torch, x, w, seed):
    return (torch.nn.functional.conv2d(x, w, padding=padding) * seed).sum()


def _conv(batch, channels, length, outputs, size, padding):
    def make(quick):
        random = np.random.default_rng(0)
        count, places = 4 if quick else batch, length + 2 * padding - size + 1
        shapes = (count, channels, length, length), (outputs, channels, size, size), (count, outputs, places, places)
        args = tuple(map(random.standard_normal, shapes))
        loss = functools.partial(_conv_loss, padding)
        return Race(loss, args, (0, 1), plain=functools.partial(_conv_plain, padding),
                    exact=functools.partial(_conv_gradient, padding),
                    derivative=lambda: tape.compile(loss, *args, argnums=(0, 1)).value_and_grad,
                    peers={"torch": with_torch(functools.partial(_conv_torch, padding), args, (0, 1))},
                    bounds=(Bound("torch", faster=1.0),))

    title = f"convolution {channels} to {outputs}, {size} x {size}, batch {batch} of {length} x {length}"
    return Workload(f"native-conv-{channels}-{outputs}-{size}", title, make, NATIVE)


def _pool_loss(pool, x, seed):
    return np.sum(pool(x, 2) * seed)


def _pool_plain(reduce, x, seed):
    return np.sum(reduce(_windows(x, 2)[:, :, ::2, ::2], axis=(-2, -1)) * seed)


def _max_gradient(x, seed):
    wide = np.repeat(np.repeat(np.max(_windows(x, 2)[:, :, ::2, ::2], axis=(-2, -1)), 2, axis=2), 2, axis=3)
    return (np.repeat(np.repeat(seed, 2, axis=2), 2, axis=3) * (x == wide),)


def _mean_gradient(x, seed):
    return (np.repeat(np.repeat(seed, 2, axis=2), 2, axis=3) / 4.0,)


def _pool_torch(name, torch, x, seed):
    return (getattr(torch.nn.functional, name)(x, 2) * seed).sum()


def _pool(pool, reduce, gradient, peer):
    def make(quick):
        random = np.random.default_rng(0)
        shape = (4 if quick else 128, 16, 8, 8)
        args = random.standard_normal(shape), random.standard_normal((*shape[:2], 4, 4))
        loss = functools.partial(_pool_loss, pool)
        return Race(loss, args, (0,), plain=functools.partial(_pool_plain, reduce), exact=gradient,
                    derivative=lambda: tape.compile(loss, *args).value_and_grad,
                    peers={"torch": with_torch(functools.partial(_pool_torch, peer), args, (0,))},
                    bounds=(Bound("torch", faster=1.0),))

    name = pool.__name__.replace("_", "-")
    return Workload(f"native-{name}", f"{pool.__name__} 2 x 2, batch 128 of 16 x 8 x 8", make, NATIVE)


# ---------------------------------------------------------------------- a network


def _network(params, x, conv, pool, relu):
    for k in (1, 2):
        x = pool(relu(conv(x, params[f"W{k}"]) + params[f"b{k}"][:, None, None]))
    return x.reshape(len(x), -1) @ params["W3"] + params["b3"]


def _cross_entropy(logits, labels):
    largest = np.max(logits, axis=1, keepdims=True)
    normalizer = np.log(np.sum(np.exp(logits - largest), axis=1)) + largest[:, 0]
    return np.mean(normalizer - logits[np.arange(len(labels)), labels])


def _network_loss(params, x, labels):
    logits = _network(params, x, lambda x, w: tape.conv(x, w, padding="same"), lambda x: tape.max_pool(x, 2), tape.relu)
    return np.mean(tape.logsumexp(logits, axis=1) - logits[np.arange(len(labels)), labels])


def _network_plain(params, x, labels):
    def conv(x, w):
        return np.einsum("nchwij,ocij->nohw", _windows(x, w.shape[-1], w.shape[-1] // 2), w, optimize=True)

    def pool(x):
        return np.max(_windows(x, 2)[:, :, ::2, ::2], axis=(-2, -1))

    return _cross_entropy(_network(params, x, conv, pool, lambda x: np.maximum(x, 0.0)), labels)


def _network_gradient(params, x, labels):
    """By the rules of back-propagation, layer by layer."""
    padding, kept = params["W1"].shape[-1] // 2, []
    for k in (1, 2):
        w, b = params[f"W{k}"], params[f"b{k}"]
        affine = np.einsum("nchwij,ocij->nohw", _windows(x, w.shape[-1], padding), w, optimize=True) + b[:, None, None]
        kept.append((x, w, affine))
        x = np.max(_windows(np.maximum(affine, 0.0), 2)[:, :, ::2, ::2], axis=(-2, -1))
    flat = x.reshape(len(x), -1)
    logits = flat @ params["W3"] + params["b3"]
    back = np.exp(logits - logits.max(axis=1, keepdims=True))
    back /= back.sum(axis=1, keepdims=True)
    back[np.arange(len(labels)), labels] -= 1.0
    back /= len(labels)
    gradient = {"W3": flat.T @ back, "b3": back.sum(axis=0)}
    back = (back @ params["W3"].T).reshape(x.shape)
    for k, (before, w, affine) in ((2, kept[1]), (1, kept[0])):
        (back,) = _max_gradient(np.maximum(affine, 0.0), back)
        back = back * (affine > 0.0)
        gradient[f"b{k}"] = back.sum(axis=(0, 2, 3))
        back, gradient[f"W{k}"] = _conv_gradient(padding, before, w, back)
    return gradient


def _network_torch(torch, params, x, labels):
    functional = torch.nn.functional
    logits = _network(params, x, lambda x, w: functional.conv2d(x, w, padding="same"), lambda x: functional.max_pool2d(x, 2),
                      torch.relu)
    return functional.cross_entropy(logits, labels)


def _make_network(batch, length, sizes, kernel, features):
    def make(quick):
        random = np.random.default_rng(0)
        count, (first, second) = 8 if quick else batch, sizes

        def weights(*shape):
            return random.standard_normal(shape) * np.sqrt(2.0 / np.prod(shape[1:]))

        params = {"W1": weights(first, 1, kernel, kernel), "b1": 0.1 * np.ones(first),
                  "W2": weights(second, first, kernel, kernel), "b2": 0.1 * np.ones(second),
                  "W3": weights(10, features).T, "b3": np.zeros(10)}
        args = params, random.standard_normal((count, 1, length, length)), random.integers(0, 10, count)
        return Race(_network_loss, args, step=STEP, plain=_network_plain, exact=_network_gradient,
                    derivative=lambda: tape.compile(_network_loss, *args).value_and_grad,
                    peers={"torch": with_torch(_network_torch, args)}, bounds=(Bound("torch", faster=1.0),))

    return make


WORKLOADS = [
    _conv(128, 1, 8, 16, 3, 1), _conv(128, 16, 8, 32, 3, 1), _conv(32, 6, 14, 16, 5, 0),
    _pool(tape.max_pool, np.max, _max_gradient, "max_pool2d"), _pool(tape.avg_pool, np.mean, _mean_gradient, "avg_pool2d"),
    Workload("native-network-8", "convolutional network 16, 32, 10, batch 128 of 8 x 8",
             _make_network(128, 8, (16, 32), 3, 128), NATIVE),
    Workload("native-network-28", "convolutional network 6, 16, 10, 5 x 5, batch 32 of 28 x 28",
             _make_network(32, 28, (6, 16), 5, 784), NATIVE),
]
