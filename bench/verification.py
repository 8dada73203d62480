"""The check before the clock starts: a time of a wrong gradient means nothing."""

from __future__ import annotations

import numpy as np

from bench.workload import Case

TOLERANCE = 1e-6
"""How far two gradients may be apart, relative to the larger components of the array."""

STEP = 1e-6
"""Of the differences: so small that hardly a ReLU changes its side, and rounding is still far below the tolerance."""


class VerificationError(Exception):
    """A value or a gradient is wrong."""


def leaves(tree) -> list[np.ndarray]:
    """Arrays of nested containers, dicts by sorted key."""
    if isinstance(tree, dict):
        return [leaf for key in sorted(tree) for leaf in leaves(tree[key])]
    if isinstance(tree, (tuple, list)):
        return [leaf for item in tree for leaf in leaves(item)]
    return [np.asarray(tree, float)]


def verify_ours(case: Case, value, gradient) -> float:
    """Check our value and gradient against everything that is known without a derivative library.

    The value is compared with the primal's (and Numba's), the gradient with central differences along three random
    directions, which any wrong component changes, and component by component with the gradient derived by hand.

    Returns
    -------
    float
        The largest relative deviation of the gradient.

    Raises
    ------
    VerificationError
        When anything differs by more than `TOLERANCE`, or is not finite.
    """
    verify_value(case, value)
    deviation = _along_directions(case, gradient)
    if case.exact is not None:
        exact = case.exact(*case.args)
        deviation = max(deviation, _deviation(exact, gradient, "our gradient", "the one derived by hand"))
    return deviation


def verify_value(case: Case, value, others: dict | None = None) -> float:
    """Check our value against those of `others`, by default the primal's and Numba's; returns the largest relative deviation.

    Values are numbers or arrays. A deviation beyond `TOLERANCE` raises VerificationError.
    """
    if others is None:
        others = {"the primal": case.primal()}
        if case.jitted is not None:
            others["Numba"] = case.jitted(*case.args)
    worst = 0.0
    for name, other in others.items():
        if np.shape(value) != np.shape(other):
            raise VerificationError(f"our value has the shape {np.shape(value)}, {name} gives {np.shape(other)}")
        error, size = np.max(np.abs(np.subtract(value, other))), np.max(np.abs(other))
        if not error <= TOLERANCE * size:
            at = np.argmax(np.abs(np.subtract(value, other)))
            raise VerificationError(f"our value is {float(np.ravel(value)[at])!r}, {name} gives {float(np.ravel(other)[at])!r}")
        worst = max(worst, float(error / max(size, 1e-300)))
    return worst


def verify_peer(name: str, ours, theirs) -> float:
    """Return the largest relative deviation of a peer's gradient from ours; raise VerificationError if it is too large."""
    return _deviation(ours, theirs, f"{name}: its gradient", "ours")


def _deviation(expected, got, what: str, reference: str) -> float:
    expected, got = leaves(expected), leaves(got)
    if [a.shape for a in expected] != [b.shape for b in got]:
        raise VerificationError(f"{what}: expected the shapes {[a.shape for a in expected]} of {reference}, "
                                f"got {[b.shape for b in got]}")
    worst = 0.0
    for k, (a, b) in enumerate(zip(expected, got, strict=True)):
        error = np.abs(a - b)
        deviation = np.max(error, initial=0.0) / np.max(np.abs(a), initial=1e-300)
        if not deviation <= TOLERANCE:
            at = np.unravel_index(np.argmax(error), error.shape)
            where = f"leaf {k}, component {tuple(map(int, at))}"
            raise VerificationError(f"{what} is {b[at]!r} where {reference} is {a[at]!r} ({where})")
        worst = max(worst, float(deviation))
    return worst


def _along_directions(case: Case, gradient) -> float:
    random, worst = np.random.default_rng(0), 0.0
    flat = np.concatenate([leaf.ravel() for leaf in leaves(gradient)])
    if not np.all(np.isfinite(flat)):
        raise VerificationError(f"our gradient is not finite in {np.sum(~np.isfinite(flat))} of {flat.size} components")
    for _ in range(3):
        direction = _map(lambda x: random.standard_normal(np.shape(x)), tuple(case.args[k] for k in case.argnums))
        along = flat @ np.concatenate([leaf.ravel() for leaf in leaves(direction)])
        quotient = _quotient(case, direction)
        # Relative to the gradient's length: along a direction that happens to be flat nothing but rounding is left.
        deviation = abs(along - quotient) / max(np.linalg.norm(flat), abs(quotient), 1e-300)
        if not deviation <= TOLERANCE:
            raise VerificationError(f"our gradient gives {along!r} along a direction, differences give {quotient!r}")
        worst = max(worst, float(deviation))
    return worst


def _quotient(case: Case, direction) -> float:
    """Directional derivative by central differences of the primal."""
    values, step = [], case.step or STEP
    for sign in (1.0, -1.0):
        args = list(case.args)
        for k, d in zip(case.argnums, direction, strict=True):
            args[k] = _moved(args[k], d, sign * step)
        values.append(float((case.plain or case.function)(*args)))
    return (values[0] - values[1]) / (2 * step)


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
