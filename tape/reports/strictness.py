"""Derivatives that are not defined: errors inside `tape.strict`, warnings outside of it.

What is here: when a derivative is looked at, and what is said of it. What is not: how the place is found (`inspection.py`).

A derivative that is undefined at a place that an adjoint reaches is infinite or NaN there, and stays so on the way to the
arguments, as nothing makes it finite again. So it is enough to ask whether what is returned is finite; only when it is not is
the list walked once more, slowly, for the place. Native code asks in its epilogue (`compiled.native.wrappers`).
"""

from __future__ import annotations

import contextlib
import contextvars
import math
import warnings
from collections.abc import Iterator
from inspect import signature
from typing import NamedTuple

import numpy as np
import optree

from compiled.forking import Lock
from compiled.lists import loops
from compiled.sweeps.engine import engine_of
from tape import jitted
from tape.errors import TapeError, UndefinedGradient, UndefinedGradientWarning
from tape.recording.lines import user_stacklevel
from tape.reports.inspection import Findings, inspect, inspect_forward
from tape.reports.report import adjoint_text, kink_text, undefined_text, value_text
from tape.transforms.build import with_gradients

SUBJECTS = {"value": "the value", "value_and_grad": "the gradient", "vjp": "the adjoint of an argument", "jvp": "the tangent",
            "hvp": "the product with the Hessian", "jacobian": "the Jacobian", "hessian": "the Hessian"}
"""What is not finite, by the kind of derivative."""

MOST_NAMED = 3
"""Places that a message names."""


class Strictness(NamedTuple):
    """What `tape.strict` was asked for."""

    kinks: bool


_strictness: contextvars.ContextVar[Strictness | None] = contextvars.ContextVar("strictness", default=None)
strictness = _strictness.get
"""`strictness()` is None outside of `tape.strict`."""


@contextlib.contextmanager
def strict(kinks: bool = False) -> Iterator[None]:
    """Raise where a derivative is not defined, inside the `with` block (of this thread).

    Outside of such a block a derivative that is not finite is returned as it is, with an `UndefinedGradientWarning`.

    Parameters
    ----------
    kinks : bool
        Whether to raise also where the derivative is a convention, as of `abs` at 0 or of a maximum where two operands tie.
        Optimisers meet those all the time and are well served by a subgradient, so it has to be asked for; each call then walks
        its list slowly, to look. Of jitted functions those are seen that `tape.record` takes.

    Raises
    ------
    tape.UndefinedGradient
        Inside the block, from any derivative that meets a place where it is undefined, or whose result or value is not finite.
        The message names the operation, its operands' values and the user's file and line.

    Examples
    --------
    >>> import numpy as np, tape
    >>> with tape.strict():
    ...     tape.grad(lambda x: np.sum(np.sqrt(x)))(np.array([1.0, 0.0]))
    Traceback (most recent call last):
        ...
    tape.errors.UndefinedGradient: the gradient is not defined here: sqrt(0) at ... has the derivative inf; ...
    >>> with tape.strict(kinks=True):
    ...     tape.grad(abs)(0.0)
    Traceback (most recent call last):
        ...
    tape.errors.UndefinedGradient: the gradient is a convention here: abs(0) at ...; x = 0: the partial is 0; ...
    """
    token = _strictness.set(Strictness(bool(kinks)))
    _watched.add(1)
    try:
        yield
    finally:
        _watched.add(-1)
        _strictness.reset(token)


# ---------------------------------------------------------------------- traced functions


def verify(kind: str, trace, inputs, extra, derivatives, values=(), dropped: bool = False) -> None:
    """Raise or warn where a derivative of a trace is not finite; costs a look at it where it is.

    Parameters
    ----------
    kind : str
        A key of `SUBJECTS`.
    trace : Trace
        Of the function.
    inputs : list of array_like
        The inputs of its list.
    extra : list of array_like
        For "vjp" the adjoints of the list's outputs, for "jvp" and "hvp" the tangents of the differentiated inputs.
    derivatives, values : iterable of arrays or numbers
        What was computed. Outside of `strict` values that are not finite are a reason to look for a derivative that was lost.
    dropped : bool
        Whether it is known that something that is not finite met a partial of zero on the way.
    """
    if _strictness.get() is None and not dropped and is_finite(derivatives) and is_finite(values):
        return

    def initial():
        program = trace.program
        buffer = program.values.copy()
        for view, x in zip(program.inputs, inputs, strict=True):
            view.of(buffer)[...] = x
        return buffer

    examine(kind, trace.program, [trace.program.inputs[k] for k in trace.wrt], initial, extra, derivatives, values,
            dropped)


def examine(kind, program, wrt, initial, extra, derivatives, values=(), dropped=False) -> None:
    """As `verify`, of a list whose value buffer before the first instruction is `initial()`."""
    asked, finite = _strictness.get(), is_finite(derivatives)
    if asked is not None and not values and kind in ("vjp", "jacobian"):  # which are computed without them
        values = _values(program, initial())
    if asked is None and ((finite and not dropped and is_finite(values)) or _is_ignored()):
        return
    if asked is not None and finite and is_finite(values) and not dropped and not asked.kinks:
        return
    buffer = initial()
    given, known = is_finite([*(view.of(buffer) for view in program.inputs), *extra]), is_finite([buffer])
    if asked is None and not given:
        return  # what the user put in, not what the function does
    found = _findings(kind, program, wrt, buffer, extra)
    if asked is None and finite:
        if found is not None and (found.lost or _has_dropped(found)):
            warnings.warn(_lost(SUBJECTS[kind], found), UndefinedGradientWarning, stacklevel=user_stacklevel())
        return
    finite = finite and is_finite(values)
    if finite and found is not None and _has_dropped(found):
        raise UndefinedGradient(_lost(SUBJECTS[kind], found))
    if finite and not (found is not None and found.kinks):
        return
    text = _explained(SUBJECTS[kind], found, finite, given, known)
    if asked is not None:
        raise UndefinedGradient(text)
    if found is not None and (found.undefined or found.first_nonfinite or found.first_nonfinite_adjoint):
        warnings.warn(text, UndefinedGradientWarning, stacklevel=user_stacklevel())


def _values(program, buffer):
    """The results of a list whose arguments are in a buffer of its own."""
    loops.forward(engine_of(program.table, buffer.dtype), program, buffer, 0, len(program.code))
    return [view.of(buffer) for view in program.outputs]


def is_finite(arrays) -> bool:
    """Whether there is no infinity and no NaN."""
    for x in arrays:
        if x.__class__ is float or not isinstance(x, np.ndarray):
            if not math.isfinite(x):
                return False
        elif x.dtype.kind == "f" and not math.isfinite(np.vdot(x, x)) and not np.isfinite(x).all():
            return False  # the sum of squares is the fastest look, but it overflows
    return True


def _findings(kind, program, wrt, buffer, extra) -> Findings | None:
    if kind == "jvp" and not program.has_bodies:
        return inspect_forward(program, buffer, extra, wrt)
    if kind in ("hvp", "hessian"):
        outputs = list(range(len(program.outputs)))[:1]
        longer, views = with_gradients(program, outputs, wrt, seeded=False)
        values = longer.values.copy()
        for view in program.inputs:
            view.of(values)[...] = view.of(buffer)
        return inspect(longer, values, _seeded(views, extra if kind == "hvp" else None), wrt)
    outputs = program.outputs[:1] if kind == "value_and_grad" else program.outputs
    if kind in ("value", "value_and_grad"):
        seeds = [(view, 1.0) for view in outputs if kind != "value"]
    else:
        seeds = _seeded(outputs, extra if kind == "vjp" else None)
    return inspect(program, buffer, seeds, wrt)


def _seeded(views, seeds):
    """Views with their seeds; by default numbers whose sums do not cancel."""
    if seeds is not None:
        return list(zip(views, seeds, strict=True))
    steps = [np.arange(1.0, view.size + 1.0).reshape(view.shape) for view in views]
    return [(view, 1.0 + np.modf(0.6180339887 * step)[0]) for view, step in zip(views, steps, strict=True)]


def _has_dropped(found) -> bool:
    """Whether an infinity was dropped that the function made itself; NaN in what it reads is the user's own."""
    return bool(found.dropped and (found.undefined or found.first_nonfinite or found.first_nonfinite_adjoint))


def _lost(subject, found) -> str:
    """The message of a warning about derivatives that may be lost in infinities."""
    if not found.lost:
        infinite = list(found.undefined.values())
        where = _named(undefined_text, infinite) if infinite else _named(str, list(found.dropped.values()))
        return (f"{subject} may lack what goes through here: {where}; what is infinite meets a derivative of exactly 0 at "
                f"{_named(str, list(found.dropped.values()))}, and 0 times infinity is taken for 0; keep the operand away from "
                "this point, as in np.sqrt(np.where(x > 0, x, 1.0))")
    places = _named(str, list(found.lost.values()))
    return (f"{subject} may lack what goes through {places}, as the value there is not finite: its "
            "adjoint of 0 times an infinite partial is taken for 0; state the function so that it does not overflow, as "
            "np.logaddexp(0, x) does for np.log1p(np.exp(x))")


def _explained(subject, found, finite, given, known) -> str:
    """The message of an error or a warning; `given` and `known`: what was passed in, and constants, are finite."""
    if finite:
        kinks = list(found.kinks.values())
        return f"{subject} is a convention here: {_named(kink_text, kinks)}; tape.strict() without kinks=True takes it"
    if found is not None and found.undefined:
        text = f"{subject} is not defined here: {_named(undefined_text, list(found.undefined.values()))}"
        return f"{text}; keep the operand away from this point, as in np.sqrt(np.where(x > 0, x, 1.0))"
    if found is not None and found.first_nonfinite is not None:
        text = f"{subject} is not finite, and the first value that is not is {value_text(found.first_nonfinite)}"
        return f"{text}; keep its operands in the domain, or scale them"
    if found is not None and found.first_nonfinite_adjoint is not None:
        where = adjoint_text(found.first_nonfinite_adjoint)
        return f"{subject} is not finite: an adjoint overflows at {where}; scale the problem"
    if not given:
        return f"{subject} is not finite, as what was passed in is not: an argument, seed or tangent holds NaN or infinity"
    if not known:
        return f"{subject} is not finite, as a constant that the function reads holds NaN or infinity"
    return f"{subject} is not finite; no instruction could be named: look at tape.record(f, ...).report()"


def _named(text, places) -> str:
    more = f", and at {len(places) - MOST_NAMED} more places" if len(places) > MOST_NAMED else ""
    return ", and ".join(text(place) for place in places[:MOST_NAMED]) + more


def _is_ignored() -> bool:
    """Whether the first filter that is about the warning drops it, so that there is no need to look for the place."""
    for action, message, category, module, line in warnings.filters:
        if issubclass(UndefinedGradientWarning, category):
            return action == "ignore" and message is None and module is None and line == 0
    return False


# ---------------------------------------------------------------------- jitted functions


class _Watched:
    """Has calls of jitted derivatives from Python looked at as long as any thread is strict.

    A jitted derivative is called in tenths of a microsecond, without any code of Python's: asking each time whether its
    thread is strict would take as long. What threads share here is whether to ask, not the answer.
    """

    def __init__(self):
        self._count, self._lock = 0, Lock()

    def add(self, change):
        with self._lock:
            self._count += change
            if self._count and "__call__" not in vars(jitted.JittedDerivative):
                jitted.JittedDerivative.__call__ = _called
            elif not self._count:
                del jitted.JittedDerivative.__call__


_watched = _Watched()


def _called(derivative, *args, **kwargs):
    """Call a jitted derivative, and look at its result in threads that are strict."""
    result = super(jitted.JittedDerivative, derivative).__call__(*args, **kwargs)
    asked = _strictness.get()
    if asked is not None and not isinstance(derivative.emitter, jitted.RecordedList):
        finite = is_finite(_floats(result))
        if not finite or asked.kinks:
            _examine_jitted(derivative, signature(derivative.py_func).bind(*args, **kwargs).args, finite)
    return result


def _examine_jitted(derivative, args, finite):
    """Record the function at the arguments, where that is possible, and look at its list."""
    found, subject = None, f"the result of {derivative.__name__}"
    with contextlib.suppress(TapeError):  # not everything that is differentiated can be recorded
        trace, workspace = jitted.recorded_trace(derivative.original, args[: derivative.count], derivative.emitter.argnums)
        program = trace.program
        buffer = program.values.copy()
        for view, x in zip(program.inputs, workspace.inputs, strict=True):
            view.of(buffer)[...] = x
        found = inspect(program, buffer, _seeded(program.outputs, None), [program.inputs[k] for k in trace.wrt])
    if not finite or (found is not None and found.kinks):
        raise UndefinedGradient(_explained(subject, found, finite, is_finite(_floats(args)), True))


def _floats(tree):
    return [x for x in optree.tree_leaves(tree) if isinstance(x, (float, np.ndarray))]
