"""Operations with rules of the user's, checkpoints and scans, for jitted functions."""

from __future__ import annotations

import functools
import typing
from collections.abc import Callable
from typing import Any

from numba import njit
from numba.core import types
from numba.extending import overload

from compiled.active.checkpoints import Scan, checkpointed
from compiled.active.operations import Operation
from compiled.active.preparation import original_of
from tape.control.loops import checkpointed as traced_checkpoint
from tape.control.loops import eager_scan, traced_scan
from tape.derivatives.products import vjp
from tape.errors import NotDifferentiable
from tape.jitted import is_jitted
from tape.jitted.derivatives import jitted_caller, remembered
from tape.recording.arrays import RecordedArray
from tape.recording.containers import leaves_of
from tape.recording.made import RULES, Made, MadeAttribute, Making
from tape.recording.recorder import current_recorder
from tape.recording.signatures import Jitted, P, WithRules, X, Y
from tape.rules.calls import TracedOperation


class JittedOperation(Made, Operation):
    """A jitted function with a rule of its own: called like the function, from Python and in nopython mode.

    Its rule takes the place of whatever differentiating its body would give. Made by `tape.operation` or `tape.checkpoint`.

    Examples
    --------
    >>> import numba, tape
    >>> @tape.operation
    ... @numba.njit
    ... def clipped(x):
    ...     return min(x, 1.0)
    >>> @clipped.bprop
    ... def _(grad, out, x):
    ...     return grad  # straight through
    >>> isinstance(clipped, tape.JittedOperation), clipped(3.0), tape.grad(numba.njit(lambda x: clipped(x)))(3.0)
    (True, 1.0, 1.0)
    """

    def __init__(self, function, maker="operation", **rules):
        super().__init__(function, **rules)
        self._making = Making(maker, function, (), {})
        self._carries = RULES if maker == "operation" else RULES[:1]
        functools.update_wrapper(self, function.py_func)
        self.caller = jitted_caller(self, function)

    def __call__(self, *args):
        if any(isinstance(leaf, RecordedArray) for leaf in leaves_of(args)[0]):
            return self._traced(*args)
        return self.function(*args)

    @property
    def _traced(self) -> TracedOperation:
        """The operation as traced code calls it: jitted code between segments of the sweep."""
        twin = _Twin(self)
        if self.rule is None or self.body is not None:
            twin.bprop(lambda grad, out, *args: vjp(self.function, *args)[1](grad))
        else:
            twin.bprop(self.rule)
        if self.tangent_rule is not None:
            twin.jvp(self.tangent_rule)
        return twin

    def bprop(self, rule):
        """Decorator: ``rule(adjoint, out, *args)`` returns the adjoint of each argument (a tuple if there are several).

        The adjoint of an argument that is no float may be anything.
        """
        self.rule = _jitted(rule)
        return rule

    def jvp(self, rule):
        """Decorator: ``rule(tangents, out, *args)`` returns the tangent of the result; needed in forward mode."""
        self.tangent_rule = _jitted(rule)
        return rule


class _Twin(MadeAttribute, TracedOperation):
    """A jitted operation in traced code, which is pickled as that."""

    def __init__(self, operation):
        super().__init__(operation.function)
        self._attribute = operation, "_traced"


def _jitted(rule):
    return rule if is_jitted(rule) else njit(rule)


@typing.overload
def operation(function: Jitted) -> WithRules[..., Any]: ...
@typing.overload
def operation(function: Callable[P, Y]) -> WithRules[P, Y]: ...
def operation(function):
    """Decorator: give a function a rule of its own.

    Parameters
    ----------
    function : callable
        The value: any Python, which runs on plain arrays, or a jitted function. The operation treats its arguments as distinct,
        even when one variable is passed twice.

    Returns
    -------
    TracedOperation or JittedOperation
        Called like the function. Under ``@name.bprop`` stands the rule for adjoints, ``(grad, out, *args)``, and under
        ``@name.jvp`` that for tangents, ``(tangents, out, *args)``; of jitted functions both in nopython style. A traced
        operation needs one of the two; written in NumPy it can be differentiated again.

    Raises
    ------
    NotDifferentiable
        For what is no function.

    Examples
    --------
    >>> import numba, numpy as np, tape
    >>> @tape.operation
    ... def softplus(x):
    ...     return np.log1p(np.exp(x))
    >>> @softplus.bprop
    ... def _(grad, out, x):
    ...     return grad / (1 + np.exp(-x))
    >>> float(tape.grad(lambda x: 2.0 * softplus(x))(0.0)), float(tape.grad(tape.grad(softplus))(0.0))
    (1.0, 0.25)
    >>> @tape.operation
    ... @numba.njit
    ... def cube(x):
    ...     return x**3
    >>> @cube.bprop
    ... def _(grad, out, x):
    ...     return 3.0 * x**2 * grad
    >>> tape.grad(numba.njit(lambda x: 2.0 * cube(x)))(1.0)
    6.0
    """
    if not callable(function):
        raise NotDifferentiable(f"tape.operation: expected a function, got {type(function).__name__}")
    return JittedOperation(function) if is_jitted(function) else TracedOperation(function)


@typing.overload
def checkpoint(function: Jitted) -> Callable[..., Any]: ...
@typing.overload
def checkpoint(function: Callable[P, Y]) -> Callable[P, Y]: ...
def checkpoint(function):
    """Make the function that is recomputed in the reverse sweep instead of being stored.

    Parameters
    ----------
    function : jitted function, or NumPy code
        Of floats, float arrays, tuples of them, and anything else that is not differentiated.

    Returns
    -------
    JittedOperation or function
        Called like the function; a list that it is recorded in keeps its arguments and its result alone.

    Raises
    ------
    NotDifferentiable
        For what is no function.

    Examples
    --------
    >>> import numba, tape
    >>> @tape.checkpoint
    ... @numba.njit
    ... def long(x):
    ...     for _ in range(1000):
    ...         x = x - 0.001 * x * x
    ...     return x
    >>> f = numba.njit(lambda x: long(long(x)))
    >>> round(tape.grad(f)(1.0), 4)
    0.111
    """
    if not callable(function):
        raise NotDifferentiable(f"tape.checkpoint: expected a function, got {type(function).__name__}")
    if not is_jitted(function):
        return traced_checkpoint(function)
    inner = checkpointed(function)
    return JittedOperation(function, "checkpoint", rule=inner.rule, body=function)


@typing.overload
def scan(step: Callable[[X, Any], tuple[X, Any]], carry: X, xs: Any = None, length: int | None = None,
         checkpoints: int | None = None) -> tuple[X, Any]: ...
@typing.overload
def scan(step: Jitted, carry: X, xs: Any = None, length: int | None = None, checkpoints: int | None = None,
         ) -> tuple[X, Any]: ...
def scan(step, carry, xs=None, length=None, checkpoints=None):
    """Run a step in a loop whose reverse sweep stores states of the loop, not its operations.

    Callable from Python, in nopython mode, and in functions that are differentiated or recorded.

    Parameters
    ----------
    step : jitted function, or NumPy code
        ``step(carry, x)`` returns ``(carry, y)``; `y` may be None, a float or an array.
    carry : float, float array, or nested tuples of them
        The state before the first step. What a jitted step needs of parameters to be differentiated belongs into it too;
        NumPy code may use variables of the code around it. (There, any nested containers will do.)
    xs : array, optional
        Row k is the `x` of step k; without it `x` is None. (Nested containers of arrays for NumPy code.)
    length : int, optional
        Number of steps; that of `xs` by default.
    checkpoints : int, optional
        How many states the reverse sweep keeps at most: of jitted steps by binomial checkpointing, by default as many as
        64 MB hold, which for small states is enough to compute each step twice; of NumPy code by two levels of loops, by
        default all states.

    Returns
    -------
    carry, ys
        The last state, and the results of the steps in an array (None where `y` is None).

    Raises
    ------
    NotDifferentiable
        For a step that is no function, or whose carry changes its structure or shapes.
    ValueError
        For rows that are too few.

    Notes
    -----
    Steps are differentiated in units, whose list fits into the processor's cache. With c states and n units, the smallest r
    with C(c + r, c) >= n bounds how often a step is computed before it is recorded.

    Examples
    --------
    >>> import numba, tape
    >>> @numba.njit
    ... def step(carry, x):
    ...     q, p, k = carry
    ...     p = p - 0.001 * k * q
    ...     return (q + 0.001 * p, p, k), None
    >>> @numba.njit
    ... def amplitude(k):
    ...     (q, p, _), _ = tape.scan(step, (1.0, 0.0, k), None, 100_000)
    ...     return q * q + p * p
    >>> round(tape.grad(amplitude)(2.0), 3)
    3.461
    """
    if not callable(step):
        raise NotDifferentiable(f"tape.scan: expected a function as the step, got {type(step).__name__}")
    if xs is None and length is None:
        raise NotDifferentiable("tape.scan: expected xs, or a length")
    if not is_jitted(step):
        steps = len(leaves_of(xs)[0][0]) if length is None else int(length)
        if current_recorder() is None:
            return eager_scan(step, carry, xs, steps)
        return traced_scan(step, carry, xs, steps, checkpoints)
    steps = len(xs) if length is None else length
    if xs is not None and len(xs) < steps:
        raise ValueError(f"tape.scan: {steps} steps, but only {len(xs)} inputs")
    return _run_of(step)(carry, xs, steps, checkpoints or 0)


def _scan_of(step) -> Scan:
    step = original_of(step)
    return remembered(step, "scan", lambda: Scan(step))


def _run_of(step):
    emitter = _scan_of(step)
    return remembered(step, "run scan", lambda: njit(nogil=True)(
        lambda carry, xs, length, checkpoints: emitter(carry, xs, length, checkpoints)))


@overload(scan)
def _scan_in_nopython(step, carry, xs=None, length=None, checkpoints=None):
    if not isinstance(step, types.Dispatcher):
        return None
    emitter = _scan_of(step.dispatcher)
    missing = (None, types.none)

    def is_missing(kind):
        return kind in missing or isinstance(kind, (types.Omitted, types.NoneType))

    if is_missing(length):
        if is_missing(checkpoints):
            return lambda step, carry, xs=None, length=None, checkpoints=None: emitter(carry, xs, len(xs), 0)
        return lambda step, carry, xs=None, length=None, checkpoints=None: emitter(carry, xs, len(xs), checkpoints)
    if is_missing(checkpoints):
        return lambda step, carry, xs=None, length=None, checkpoints=None: emitter(carry, xs, length, 0)
    return lambda step, carry, xs=None, length=None, checkpoints=None: emitter(carry, xs, length, checkpoints)

