"""What a workload is: a function, its arguments, the same mathematics for each peer; and the check before the clock starts.

A new workload is one `Workload` in one file of `bench/workloads/`; nothing else names it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

import tape


@dataclass
class Case:
    """A workload at given data.

    Attributes
    ----------
    function : callable
        NumPy code with one scalar result.
    args : tuple
        Its arguments.
    argnums : tuple of int
        Those that are differentiated.
    peers : dict of str to callable
        For each peer a function `prepare()`, which returns a callable without arguments that computes value and gradient and
        returns the gradient, as a list of arrays in the order of `argnums` (containers flattened by sorted key).
    rtol : float
        Relative to the largest component, how far a peer's gradient may be from ours.
    """

    function: Callable
    args: tuple
    argnums: tuple[int, ...] = (0,)
    peers: dict[str, Callable] = field(default_factory=dict)
    rtol: float = 1e-8

    def primal(self):
        """Evaluate the function with plain NumPy."""
        return self.function(*self.args)

    def ours(self) -> Callable:
        """Return the callable that computes our value and gradient."""
        return functools.partial(tape.value_and_grad(self.function, self.argnums), *self.args)


@dataclass(frozen=True)
class Workload:
    """A row of the table.

    Attributes
    ----------
    name : str
        For `--only`.
    title : str
        For the table.
    make : callable
        `make(quick)` returns the `Case`; `quick` asks for a small one.
    """

    name: str
    title: str
    make: Callable[[bool], Case]


class VerificationError(Exception):
    """A gradient is wrong, so its time means nothing."""


def leaves(tree) -> list[np.ndarray]:
    """Arrays of nested containers, dicts by sorted key."""
    if isinstance(tree, dict):
        return [leaf for key in sorted(tree) for leaf in leaves(tree[key])]
    if isinstance(tree, (tuple, list)):
        return [leaf for item in tree for leaf in leaves(item)]
    return [np.asarray(tree, float)]


def verify_ours(case: Case, gradient, rtol: float = 1e-6) -> None:
    """Compare our gradient with central differences along three random directions.

    Raises
    ------
    VerificationError
        When a directional derivative differs by more than `rtol` relative to the gradient's length.
    """
    random = np.random.default_rng(0)
    flat = np.concatenate([leaf.ravel() for leaf in leaves(gradient)])
    scale = np.linalg.norm(flat)
    for _ in range(3):
        direction = _map(lambda x: random.standard_normal(np.shape(x)), tuple(case.args[k] for k in case.argnums))
        along = flat @ np.concatenate([leaf.ravel() for leaf in leaves(direction)])
        quotient = _quotient(case, direction)
        if not abs(along - quotient) <= rtol * max(scale, abs(quotient)):
            raise VerificationError(f"our gradient gives {along!r} along a direction, differences give {quotient!r}")


def verify_peer(case: Case, name: str, ours, theirs) -> None:
    """Raise VerificationError unless a peer's gradient is ours."""
    for k, (a, b) in enumerate(zip(leaves(ours), leaves(theirs), strict=True)):
        if a.shape != b.shape or not np.max(np.abs(a - b), initial=0.0) <= case.rtol * np.max(np.abs(a), initial=1e-300):
            raise VerificationError(f"{name}: gradient leaf {k} differs from ours by {np.max(np.abs(a - b), initial=0.0):.3g}")


def _map(function, tree):
    if isinstance(tree, dict):
        return {key: _map(function, value) for key, value in sorted(tree.items())}
    if isinstance(tree, (tuple, list)):
        return type(tree)(_map(function, value) for value in tree)
    return function(tree)


def _moved(tree, direction, step):
    if isinstance(tree, dict):
        return {key: _moved(value, direction[key], step) for key, value in tree.items()}
    if isinstance(tree, (tuple, list)):
        return type(tree)(_moved(a, b, step) for a, b in zip(tree, direction, strict=True))
    return tree + step * direction


STEP = 1e-6
"""Of the differences: so small that hardly a ReLU changes its side, and rounding is still far below the tolerance."""


def _quotient(case: Case, direction) -> float:
    """Directional derivative by central differences."""
    values = []
    for sign in (1.0, -1.0):
        args = list(case.args)
        for k, d in zip(case.argnums, direction, strict=True):
            args[k] = _moved(args[k], d, sign * STEP)
        values.append(float(case.function(*args)))
    return (values[0] - values[1]) / (2 * STEP)
