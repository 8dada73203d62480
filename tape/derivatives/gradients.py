"""Gradients of scalar functions.

At the top level a gradient runs the sweeps over the function's list. Inside a function that is being recorded it writes itself
onto that list, symbol to symbol (`nested.py`), so derivatives nest to any order.
"""

from __future__ import annotations

import functools
import operator
import typing
from collections.abc import Callable
from typing import Any, Concatenate, Literal

from tape import jitted
from tape.derivatives.nested import nested_value_and_grad
from tape.recording.arguments import LEAVES, argument_numbers, arranged
from tape.recording.made import made_function
from tape.recording.recorder import current_recorder
from tape.recording.signatures import Jitted, P, Reporting, Scalar, ScalarResult, X
from tape.recording.traces import traces_of
from tape.reports.timing import profile_call
from tape.running.linearised import linearised
from tape.running.tiers import report

_gradient = operator.methodcaller("gradient", "tape.grad")
"""What a gradient asks of a point."""


@typing.overload
def value_and_grad(f: Callable[Concatenate[X, P], ScalarResult], argnums: Literal[0] = 0, replay: bool = True,
                   ) -> Reporting[Concatenate[X, P], tuple[ScalarResult, X]]: ...
@typing.overload
def value_and_grad(f: Callable[P, ScalarResult], argnums: int, replay: bool = True,
                   ) -> Reporting[P, tuple[ScalarResult, Any]]: ...
@typing.overload
def value_and_grad(f: Callable[P, ScalarResult], argnums: tuple[int, ...], replay: bool = True,
                   ) -> Reporting[P, tuple[ScalarResult, tuple[Any, ...]]]: ...
@typing.overload
def value_and_grad(f: Jitted, argnums: int | tuple[int, ...] = 0, replay: bool = True) -> Callable[..., Any]: ...
def value_and_grad(f, argnums=0, replay=True):
    """Make the function that computes a scalar function and its gradient.

    Parameters
    ----------
    f : callable
        NumPy code of floats, arrays and nested containers of them, with one scalar result.
    argnums : int or tuple of int
        Which positional arguments to differentiate with respect to.
    replay : bool
        False records `f` anew at each call: for functions that read what cannot be watched, as files, clocks and context
        variables. Jitted functions are never replayed.

    Returns
    -------
    callable
        With the arguments of `f`; returns ``(value, gradient)``. The gradient has the structure, shapes and dtypes of the
        argument (a tuple of gradients when `argnums` is a tuple), as new C-contiguous arrays. Its ``report()`` says what was
        recorded and which tier runs it: a list starts on the sweeps, and moves to native code when its calls so far would
        have paid for compiling (not with the environment variable ``TAPE_NATIVE=0``). Of NumPy code, its
        ``profile(*args, repeat=5)`` says what each line costs on the sweeps, see `Tape.profile`.

    Raises
    ------
    NotDifferentiable
        When called: if the result is not one float of shape (), an argument is not made of floats, or `f` uses a function
        without a rule.

    Examples
    --------
    >>> import numpy as np, tape
    >>> value, gradient = tape.value_and_grad(lambda x: np.sum(x**2))(np.array([1.0, 2.0]))
    >>> float(value), gradient
    (5.0, array([2., 4.]))
    """
    numbers = argument_numbers(argnums)
    if jitted.is_jitted(f):
        return jitted.jitted_value_and_grad(f, argnums)
    traces = traces_of(f, replay)

    @made_function("value_and_grad", f, argnums=argnums, replay=replay)
    def value_and_gradient(*args, **kwargs):
        if current_recorder() is not None:
            return nested_value_and_grad(f, numbers, argnums, args, kwargs)
        value, gradients = linearised(traces, args, kwargs, numbers, "value_and_grad", _gradient)
        if argnums.__class__ is int and args[argnums].__class__ in LEAVES:  # the commonest case
            return value, gradients[0]
        return value, arranged(gradients, args, numbers, argnums)

    value_and_gradient.report = functools.partial(report, traces)
    value_and_gradient.profile = functools.partial(profile_call, traces, numbers)
    return value_and_gradient


@typing.overload
def grad(f: Callable[Concatenate[X, P], Scalar], argnums: Literal[0] = 0, replay: bool = True,
         ) -> Reporting[Concatenate[X, P], X]: ...
@typing.overload
def grad(f: Callable[P, Scalar], argnums: int, replay: bool = True) -> Reporting[P, Any]: ...
@typing.overload
def grad(f: Callable[P, Scalar], argnums: tuple[int, ...], replay: bool = True) -> Reporting[P, tuple[Any, ...]]: ...
@typing.overload
def grad(f: Jitted, argnums: int | tuple[int, ...] = 0, replay: bool = True) -> Callable[..., Any]: ...
def grad(f, argnums=0, replay=True):
    """Make the function that computes the gradient of a scalar function.

    Parameters
    ----------
    f, argnums, replay
        As for `tape.value_and_grad`.

    Returns
    -------
    callable
        With the arguments of `f`; returns the gradient, in the structure, shapes and dtypes of the argument.

    Raises
    ------
    NotDifferentiable
        As `tape.value_and_grad`; of a function that is not scalar use `tape.jacobian` or `tape.vjp`.

    Examples
    --------
    >>> import numpy as np, tape
    >>> tape.grad(lambda x, y: x * np.sin(y), argnums=(0, 1))(2.0, 0.0)
    (np.float64(0.0), np.float64(2.0))
    >>> float(tape.grad(tape.grad(lambda x: x**3))(2.0))
    12.0
    """
    if jitted.is_jitted(f):
        return jitted.jitted_grad(f, argnums)
    both = value_and_grad(f, argnums, replay)

    @made_function("grad", f, argnums=argnums, replay=replay)
    def gradient(*args, **kwargs):
        return both(*args, **kwargs)[1]

    gradient.report = both.report
    if hasattr(both, "profile"):  # of traced code
        gradient.profile = both.profile
    return gradient
