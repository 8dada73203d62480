"""The textbook's network on real handwritten digits: scikit-learn's `load_digits`, 1,797 images of 8 x 8 pixels.

A multilayer perceptron with dropout and softmax cross-entropy on integer labels, L2 regularisation, minibatch stochastic
gradient descent with momentum. The picture is drawn by `picture.py`.
"""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np

import tape

ACTIVATIONS = {"relu": tape.relu, "sigmoid": tape.sigmoid, "tanh": np.tanh}
RATES = {"relu": 0.05, "sigmoid": 0.5, "tanh": 0.1}
"""Initial learning rates: the flatter the activation, the larger the step."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """How to train.

    Attributes
    ----------
    hidden : tuple of int
        Widths of the hidden layers.
    activation : str
        "relu", "sigmoid" or "tanh".
    dropout : float
        Probability with which a hidden unit is dropped.
    decay : float
        Factor of the squared weights in the loss.
    rate, momentum : float
        Of the descent; the rate falls along half a cosine to zero. None takes the activation's own.
    batch, epochs, seed : int
        Images in a minibatch, passes over the training set, seed of all random numbers.
    """

    hidden: tuple[int, ...] = (128, 64)
    activation: str = "relu"
    dropout: float = 0.1
    decay: float = 1e-4
    rate: float | None = None
    momentum: float = 0.9
    batch: int = 16
    epochs: int = 30
    seed: int = 0


@dataclasses.dataclass
class Outcome:
    """What training gave, epoch by epoch.

    Attributes
    ----------
    losses, accuracies : list of float
        Mean training loss and test accuracy after each epoch.
    interrupted : bool
        Whether the user stopped it; what was trained by then is kept.
    """

    losses: list[float] = dataclasses.field(default_factory=list)
    accuracies: list[float] = dataclasses.field(default_factory=list)
    interrupted: bool = False


class Network:
    """Weights and biases by name: W1, b1, W2, b2, ...

    Parameters
    ----------
    widths : tuple of int
        Of the input, the hidden layers and the output.
    seed : int
        Of the initial weights (He's initialisation).
    """

    def __init__(self, widths: tuple[int, ...], seed: int = 0):
        random = np.random.default_rng(seed)
        self.parameters = {}
        for k, (n, m) in enumerate(itertools.pairwise(widths), 1):
            self.parameters[f"W{k}"] = random.standard_normal((n, m)) * np.sqrt(2.0 / n)
            self.parameters[f"b{k}"] = np.zeros(m)


def logits_of(parameters: dict, X, activation, dropout: float = 0.0, seed: int = 0):
    """Return the network's outputs before the softmax, n x classes."""
    layers = len(parameters) // 2
    for k in range(1, layers + 1):
        X = X @ parameters[f"W{k}"] + parameters[f"b{k}"]
        if k < layers:
            X = activation(X)
            if dropout:
                X = tape.dropout(X, dropout, seed + k)
    return X


def cross_entropy(logits, labels):
    """Mean of -log softmax(logits)[label]."""
    return np.mean(tape.logsumexp(logits, axis=1) - logits[np.arange(len(labels)), labels])


def loss(parameters: dict, X, labels, seed: int, settings: Settings):
    """Cross-entropy under dropout, with the L2 term; `seed` is an input, so that each step draws its own mask."""
    logits = logits_of(parameters, X, ACTIVATIONS[settings.activation], settings.dropout, seed)
    squares = sum(np.sum(parameters[name] ** 2) for name in sorted(parameters) if name.startswith("W"))
    return cross_entropy(logits, labels) + settings.decay * squares


def load() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return training images and labels, test images and labels: a fifth is for testing, pixels are in [0, 1]."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    X, X_test, y, y_test = train_test_split(images / 16.0, labels, test_size=0.2, random_state=0, stratify=labels)
    return X, y, X_test, y_test


def train(settings: Settings, progress=lambda epochs: epochs) -> tuple[dict, Outcome]:
    """Train the network.

    Parameters
    ----------
    settings : Settings
        How to train.
    progress : callable
        Wraps the range of epochs, as tqdm does.

    Returns
    -------
    parameters : dict of str to ndarray
        The weights and biases.
    outcome : Outcome
        Loss and accuracy of each epoch. Ctrl-C ends training and keeps what there is.
    """
    X, y, X_test, y_test = load()
    parameters = Network((X.shape[1], *settings.hidden, 10), settings.seed).parameters
    velocity = {name: np.zeros_like(value) for name, value in parameters.items()}
    gradient_of = tape.value_and_grad(loss)
    random = np.random.default_rng(settings.seed)
    first_rate = RATES[settings.activation] if settings.rate is None else settings.rate
    outcome, step, steps = Outcome(), 0, settings.epochs * (len(X) // settings.batch)
    try:
        for _ in progress(range(settings.epochs)):
            order, total = random.permutation(len(X)), 0.0
            # Whole batches only, so that one recorded list serves them all; the order differs from epoch to epoch.
            batches = order[: len(X) // settings.batch * settings.batch].reshape(-1, settings.batch)
            for batch in batches:
                value, gradient = gradient_of(parameters, X[batch], y[batch], 1000 * step, settings)
                rate = first_rate * 0.5 * (1.0 + np.cos(np.pi * step / steps))
                for name in parameters:
                    velocity[name] = settings.momentum * velocity[name] - rate * gradient[name]
                    parameters[name] += velocity[name]
                step, total = step + 1, total + value
            outcome.losses.append(float(total / len(batches)))
            outcome.accuracies.append(accuracy(parameters, X_test, y_test, settings))
    except KeyboardInterrupt:
        outcome.interrupted = True
    return parameters, outcome


def accuracy(parameters: dict, X, labels, settings: Settings) -> float:
    """Fraction of images whose largest output is the label's, without dropout."""
    logits = logits_of(parameters, X, ACTIVATIONS[settings.activation])
    return float(np.mean(np.argmax(logits, axis=1) == labels))
