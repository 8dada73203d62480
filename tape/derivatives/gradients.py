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
from tape.recording.arguments import LEAVES, Selection, arranged
from tape.recording.made import made_function
from tape.recording.recorder import current_recorder
from tape.recording.signatures import Jitted, P, Reporting, Scalar, ScalarResult, X, Y
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
def value_and_grad(f: Callable[P, ScalarResult], argnums: int | str, replay: bool = True,
                   ) -> Reporting[P, tuple[ScalarResult, Any]]: ...
@typing.overload
def value_and_grad(f: Callable[P, ScalarResult], argnums: tuple[int | str, ...], replay: bool = True,
                   ) -> Reporting[P, tuple[ScalarResult, tuple[Any, ...]]]: ...
@typing.overload
def value_and_grad(f: Callable[P, tuple[ScalarResult, Y]], argnums: int | str | tuple[int | str, ...] = 0, replay: bool = True,
                   *, has_aux: Literal[True]) -> Reporting[P, tuple[tuple[ScalarResult, Y], Any]]: ...
@typing.overload
def value_and_grad(f: Jitted, argnums: int | str | tuple[int | str, ...] = 0, replay: bool = True, has_aux: bool = False,
                   ) -> Callable[..., Any]: ...
def value_and_grad(f, argnums=0, replay=True, has_aux=False):
    """Make the function that computes a scalar function and its gradient.

    Parameters
    ----------
    f : callable
        NumPy code of floats, arrays and nested containers of them, with one scalar result.
    argnums : int, str, or tuple of them
        Which arguments to differentiate with respect to: numbers of positional arguments, or names of arguments, which may be
        passed by position or by keyword.
    replay : bool
        False records `f` anew at each call: for functions that read what cannot be watched, as files, clocks and context
        variables. Jitted functions are never replayed.
    has_aux : bool
        Whether `f` returns a pair ``(value, aux)`` of the scalar and of more numbers, arrays and text, in containers, which go
        along without a derivative.

    Returns
    -------
    callable
        With the arguments of `f`; returns ``(value, gradient)``. The gradient has the structure, shapes and dtypes of the
        argument (a tuple of gradients when `argnums` is a tuple), as new C-contiguous arrays; integers are differentiated as
        floats, and their gradients are float64. With `has_aux` it is ``((value, aux), gradient)``. Its ``report()`` says what
        was recorded and which tier runs it: a list starts on the sweeps, and moves to native code when its calls so far would
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
    >>> tape.value_and_grad(lambda x, w: (x * w, {"w": w}), argnums="w", has_aux=True)(3.0, w=2.0)
    ((np.float64(6.0), {'w': np.float64(2.0)}), np.float64(3.0))
    """
    selection = Selection(f, argnums)
    if jitted.is_jitted(f):
        return jitted.jitted_value_and_grad(f, argnums, has_aux)
    traces, single, chosen = traces_of(f, replay, has_aux), argnums.__class__ is int, selection.numbers

    @made_function("value_and_grad", f, argnums=argnums, replay=replay, has_aux=has_aux)
    def value_and_gradient(*args, **kwargs):
        if current_recorder() is not None:
            return nested_value_and_grad(selection, args, kwargs, has_aux)
        if single and argnums < len(args) and args[argnums].__class__ in LEAVES:  # the commonest case
            value, gradients = linearised(traces, args, kwargs, chosen, "value_and_grad", _gradient)
            return value, gradients[0]
        args, kwargs, numbers = selection.of(args, kwargs)
        value, gradients = linearised(traces, args, kwargs, numbers, "value_and_grad", _gradient)
        return value, arranged(gradients, args, numbers, argnums, kwargs)

    value_and_gradient.report = functools.partial(report, traces)
    value_and_gradient.profile = functools.partial(profile_call, traces, chosen)
    return value_and_gradient


@typing.overload
def grad(f: Callable[Concatenate[X, P], Scalar], argnums: Literal[0] = 0, replay: bool = True,
         ) -> Reporting[Concatenate[X, P], X]: ...
@typing.overload
def grad(f: Callable[P, Scalar], argnums: int | str, replay: bool = True) -> Reporting[P, Any]: ...
@typing.overload
def grad(f: Callable[P, Scalar], argnums: tuple[int | str, ...], replay: bool = True) -> Reporting[P, tuple[Any, ...]]: ...
@typing.overload
def grad(f: Callable[P, tuple[Scalar, Y]], argnums: int | str | tuple[int | str, ...] = 0, replay: bool = True,
         *, has_aux: Literal[True]) -> Reporting[P, tuple[Any, Y]]: ...
@typing.overload
def grad(f: Jitted, argnums: int | str | tuple[int | str, ...] = 0, replay: bool = True, has_aux: bool = False,
         ) -> Callable[..., Any]: ...
def grad(f, argnums=0, replay=True, has_aux=False):
    """Make the function that computes the gradient of a scalar function.

    Parameters
    ----------
    f, argnums, replay, has_aux
        As for `tape.value_and_grad`.

    Returns
    -------
    callable
        With the arguments of `f`; returns the gradient, in the structure, shapes and dtypes of the argument (float64 for
        integers). With `has_aux` it is ``(gradient, aux)``.

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
        return jitted.jitted_grad(f, argnums, has_aux)
    both = value_and_grad(f, argnums, replay, has_aux)

    def gradient(*args, **kwargs):
        return both(*args, **kwargs)[1]

    def gradient_and_aux(*args, **kwargs):
        (_, aux), found = both(*args, **kwargs)
        return found, aux

    make = made_function("grad", f, argnums=argnums, replay=replay, has_aux=has_aux)
    gradient = make(gradient_and_aux if has_aux else gradient)
    gradient.report = both.report
    if hasattr(both, "profile"):  # of traced code
        gradient.profile = both.profile
    return gradient
