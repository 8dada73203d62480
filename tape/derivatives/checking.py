"""Comparing derivatives with differences."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tape import jitted
from tape.derivatives.products import jvp, vjp
from tape.errors import NotDifferentiable
from tape.recording.arguments import is_number, parts_of
from tape.recording.containers import leaves_of, opened, with_leaves


def check_grads(f: Callable[..., Any], args: Sequence[Any], order: int = 2, modes: Sequence[str] = ("forward", "reverse"),
                rtol: float = 1e-5, atol: float = 1e-5) -> None:
    """Raise when derivatives of a function do not agree with central differences.

    Parameters
    ----------
    f : callable
        NumPy code of floats, arrays and nested containers of them.
    args : tuple
        The point at which to compare.
    order : int
        How many times to differentiate; 2 checks the derivative of the derivative too.
    modes : sequence of "forward" and "reverse"
        Which ways of differentiating to check.
    rtol, atol : float
        Each component must agree to ``atol + rtol * |difference quotient|``; for float32 arguments both are multiplied
        by 1000.

    Raises
    ------
    AssertionError
        With order, mode, and the worst component: its position, its derivative and its difference quotient.

    Notes
    -----
    A random direction v and a random adjoint w (of fixed seeds) are drawn; checked are, component by component, the tangent
    against central differences along v, and the adjoint against central differences of ``w . f`` along each argument's
    elements (along a few directions for arguments of more than 64 elements).

    Examples
    --------
    >>> import numpy as np, tape
    >>> tape.check_grads(lambda x: np.sum(np.sin(x) * x), (np.array([0.3, 0.7]),))
    """
    if not isinstance(args, (tuple, list)):
        raise NotDifferentiable(f"tape.check_grads: expected a tuple of arguments, got {type(args).__name__}")
    unknown = set(modes) - {"forward", "reverse"}
    if unknown or order < 1:
        raise NotDifferentiable(f"tape.check_grads: expected modes 'forward', 'reverse', order >= 1, got {modes}, {order}")
    _check(f, opened(tuple(args)), order, modes, rtol, atol, ())


def _check(f, args, order, modes, rtol, atol, before):
    """`before` names the modes of the derivatives that `f` already is."""
    for mode in modes:
        what = f"order {len(before) + 1}, {' of '.join((mode, *before))}"
        check = _check_forward if mode == "forward" else _check_reverse
        step, factor = _step(args)
        with contextlib.suppress(AssertionError):
            check(f, args, step, rtol * factor, atol * factor, what)
            continue
        # A kink nearby spoils difference quotients, but not those of shorter steps; a wrong derivative fails both.
        check(f, args, step / 10, rtol * factor, atol * factor, what)
    if order > 1:
        random = np.random.default_rng(7)
        for mode in modes:
            _check(_derivative(f, args, mode, random), args, order - 1, modes, rtol, atol, (mode, *before))


def _derivative(f, args, mode, random):
    """The first derivative along a fixed random direction (adjoint), as a function of the same arguments."""
    if mode == "forward":
        direction = _random_like(args, random)
        return jitted.along(f, mode, args, direction) if jitted.is_jitted(f) else lambda *a: jvp(f, a, direction)[1]
    seed = _random_like(_evaluated(f, args), random)
    if jitted.is_jitted(f):
        return jitted.along(f, mode, args, (seed,))
    return lambda *a: vjp(f, *a)[1](seed)


def _evaluated(f, args):
    return vjp(f, *args)[0]


def _random_like(tree, random):
    leaves, structure, wanted = parts_of(tree)
    return with_leaves(structure, [np.asarray(random.standard_normal(np.shape(x))).astype(_float_dtype(x))[()] if w else x
                                   for x, w in zip(leaves, wanted, strict=True)])


def _float_dtype(x):
    dtype = np.asarray(x).dtype
    return dtype if dtype.kind == "f" else np.dtype(float)


def _step(args) -> tuple[float, float]:
    """Step of the differences, and factor of the tolerances, for the precision of the arguments."""
    leaves, _, wanted = parts_of(args)
    single = any(w and _float_dtype(x) == np.float32 for x, w in zip(leaves, wanted, strict=True))
    return (1e-2, 1e3) if single else (1e-5, 1.0)


def _moved(args, direction, step):
    leaves, structure, wanted = parts_of(args)
    moves, _ = leaves_of(direction)
    moved = [np.asarray(x + step * m).astype(_float_dtype(x))[()] if w else x
             for x, m, w in zip(leaves, moves, wanted, strict=True)]
    return with_leaves(structure, moved)


def _numbers(result):
    """The leaves of a result that are numbers; in fields of classes there may be others."""
    return [leaf for leaf in leaves_of(opened(result))[0] if is_number(leaf)]


def _quotient(f, args, direction, step):
    """Leaves of the central difference quotient of `f` along a direction."""
    up, down = (_numbers(_evaluated(f, _moved(args, direction, s))) for s in (step, -step))
    return [(np.asarray(a, float) - np.asarray(b, float)) / (2 * step) for a, b in zip(up, down, strict=True)]


def _check_forward(f, args, step, rtol, atol, what):
    direction = _random_like(args, np.random.default_rng(1))
    tangent = _numbers(jvp(f, args, direction)[1])
    for k, (got, expected) in enumerate(zip(tangent, _quotient(f, args, direction, step), strict=True)):
        _compare(np.asarray(got, float), expected, rtol, atol, f"{what}, tangent of result {k}")


MOST_COMPONENTS = 64


def _check_reverse(f, args, step, rtol, atol, what):
    random = np.random.default_rng(2)
    value, pullback = vjp(f, *args)
    seed = _random_like(value, random)
    adjoints = leaves_of(pullback(seed))[0]
    weights = [np.asarray(w, float) for w in _numbers(seed)]

    def along(direction):
        return sum(float(np.sum(w * q)) for w, q in zip(weights, _quotient(f, args, direction, step), strict=True))

    leaves, structure, wanted = parts_of(args)
    for k, (leaf, adjoint) in enumerate(zip(leaves, adjoints, strict=True)):
        if not wanted[k]:
            continue
        shape = np.shape(leaf)
        zeros = [np.zeros(np.shape(x)) if w else x for x, w in zip(leaves, wanted, strict=True)]
        if np.size(leaf) <= MOST_COMPONENTS:
            expected = np.zeros(shape)
            for index in np.ndindex(shape):
                zeros[k] = np.zeros(shape)
                zeros[k][index] = 1.0
                expected[index] = along(with_leaves(structure, zeros))
            where = f"{what}, adjoint of argument leaf {k}"
            _compare(np.asarray(adjoint, float), expected, rtol, atol, where)
        else:
            for _ in range(3):
                zeros[k] = random.standard_normal(shape)
                expected = np.asarray(along(with_leaves(structure, zeros)))
                got = np.sum(np.asarray(adjoint, float) * zeros[k])
                _compare(got, expected, rtol, atol * np.sqrt(np.size(leaf)), f"{what}, argument leaf {k}")


def _compare(got, expected, rtol, atol, what):
    if got.shape != expected.shape:
        raise AssertionError(f"{what}: expected shape {expected.shape}, got {got.shape}")
    excess = np.abs(got - expected) - atol - rtol * np.abs(expected)
    wrong = ~(excess <= 0)
    if wrong.any():
        worst = np.unravel_index(np.argmax(np.where(np.isnan(excess), np.inf, excess)), excess.shape)
        raise AssertionError(f"{what}: the derivative differs from the difference quotient in {wrong.sum()} of {wrong.size} "
                             f"components; worst at {tuple(int(i) for i in worst)}: derivative {got[worst]:.10g}, difference "
                             f"quotient {expected[worst]:.10g}")
