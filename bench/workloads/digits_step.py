"""One training step's gradient of the digits network, without dropout: batch 128, 64-128-64-10, ReLU."""

import functools

import numpy as np

import tape
from bench.digits import Network, cross_entropy
from bench.peers import with_autograd, with_jax, with_torch
from bench.workload import Case, Workload

BATCH = 128
DECAY = 1e-4


def _loss(parameters, X, labels):
    logits = X
    for k in range(1, len(parameters) // 2 + 1):
        logits = logits @ parameters[f"W{k}"] + parameters[f"b{k}"]
        if k < len(parameters) // 2:
            logits = tape.relu(logits)
    decay = sum(np.sum(parameters[f"W{k}"] ** 2) for k in range(1, len(parameters) // 2 + 1))
    return cross_entropy(logits, labels) + DECAY * decay


def _peer_loss(np, parameters, X, labels):
    logits = X
    for k in range(1, len(parameters) // 2 + 1):
        logits = np.dot(logits, parameters[f"W{k}"]) + parameters[f"b{k}"]
        if k < len(parameters) // 2:
            logits = np.maximum(logits, 0.0)
    largest = np.max(logits, axis=1, keepdims=True)
    normalizer = np.log(np.sum(np.exp(logits - largest), axis=1)) + largest[:, 0]
    decay = sum(np.sum(parameters[f"W{k}"] ** 2) for k in range(1, len(parameters) // 2 + 1))
    return np.mean(normalizer - logits[np.arange(len(labels)), labels]) + DECAY * decay


def _gradient(parameters, X, labels):
    """By the rules of back-propagation, layer by layer."""
    layers = len(parameters) // 2
    inputs = [X]
    for k in range(1, layers + 1):
        affine = inputs[-1] @ parameters[f"W{k}"] + parameters[f"b{k}"]
        inputs.append(np.maximum(affine, 0.0) if k < layers else affine)
    logits, gradient = inputs.pop(), {}
    back = np.exp(logits - logits.max(axis=1, keepdims=True))
    back /= back.sum(axis=1, keepdims=True)
    back[np.arange(len(labels)), labels] -= 1.0
    back /= len(labels)
    for k in range(layers, 0, -1):
        gradient[f"W{k}"] = inputs[k - 1].T @ back + 2.0 * DECAY * parameters[f"W{k}"]
        gradient[f"b{k}"] = back.sum(axis=0)
        back = (back @ parameters[f"W{k}"].T) * (inputs[k - 1] > 0.0)
    return gradient


def _torch(torch, parameters, X, labels):
    logits = X
    for k in range(1, len(parameters) // 2 + 1):
        logits = torch.addmm(parameters[f"b{k}"], logits, parameters[f"W{k}"])
        if k < len(parameters) // 2:
            logits = torch.relu(logits)
    decay = sum((parameters[f"W{k}"] ** 2).sum() for k in range(1, len(parameters) // 2 + 1))
    return torch.nn.functional.cross_entropy(logits, labels) + DECAY * decay


def _make(quick):
    from sklearn.datasets import load_digits

    X, labels = load_digits(return_X_y=True)
    args = (Network((64, 128, 64, 10)).parameters, X[:BATCH] / 16.0, labels[:BATCH].astype(np.int64))
    peers = {"jax": with_jax(_peer_loss, args), "torch": with_torch(_torch, args),
             "autograd": with_autograd(_peer_loss, args)}
    return Case(_loss, args, plain=functools.partial(_peer_loss, np), exact=_gradient, peers=peers)


WORKLOADS = [Workload("digits-step", f"digits network 64-128-64-10, batch {BATCH}", _make)]
