"""The tables of rules: which NumPy function, ufunc or piece of syntax is recorded by which function.

What is not here: the rules themselves (`tape.rules`), which enter themselves, so that recorded arrays, which ask these tables,
need not know them. What is in no table raises NotDifferentiable with the nearest alternative.
"""

from __future__ import annotations

import functools
import inspect

import numpy as np

from compiled.table.instructions import TABLE
from tape.errors import NotDifferentiable
from tape.recording.integers import computed, is_integral
from tape.recording.recorder import current_recorder, refuse_subclass

FUNCTIONS: dict = {}
"""NumPy function → the function that records it."""

UFUNCS: dict = {}
"""Name of a ufunc that is not just the row of the table that names it → the function that records it."""


SYNTAX: dict = {}
"""Piece of Python's syntax, or of NumPy's protocols → the function that records it: "get" (``x[i]``), "put" (``x[i] = v``),
"stacked" (nested lists), "ufunc" (``__array_ufunc__``), "write" (``out=``)."""

TAKEN_OVER: dict = {}
"""Another type of arrays → ``call(function, args, kwargs)``, which calls functions of ours that are given such arrays."""


def records(syntax):
    """Decorator: this records a piece of syntax."""

    def register(rule):
        SYNTAX[syntax] = rule
        return rule

    return register


def taken_over(leaves):
    """What calls a function of ours on these arguments in its place, where one is of an array type that asked for it."""
    for leaf in leaves:
        call = TAKEN_OVER.get(leaf.__class__)
        if call is not None:
            return call
    return None


def implements(*functions):
    """Decorator: this records those NumPy functions."""

    def register(rule):
        FUNCTIONS.update(dict.fromkeys(functions, rule))
        return rule

    return register


def call_function(function, args, kwargs):
    """Record a NumPy function (`__array_function__`)."""
    rule = FUNCTIONS.get(function)
    name = f"{function.__module__}.{function.__name__}"
    if rule is None:
        raise no_rule(name)
    for x in args:
        refuse_subclass(x)
    out, args, kwargs = _out_apart(rule, args, kwargs)
    recorder = current_recorder()
    rounded = recorder.rounded if recorder is not None else 0
    try:
        result = rule(*args, **kwargs)
        if recorder is not None and recorder.rounded != rounded and is_integral(result):
            result = computed(function, args, kwargs)  # integers that cells do not hold are among what it joins
    except TypeError as error:
        if isinstance(error, NotDifferentiable) or "argument" not in str(error):
            raise
        raise NotDifferentiable(f"{name}: {error}; this argument is not supported on recorded arrays") from None
    if out is None:
        return result
    return SYNTAX["write"](out, result, function.__name__)


def _out_apart(rule, args, kwargs):
    """``out=`` of a call (or None), and its arguments without it."""
    place = _place_of_out(rule)
    if place < len(args) and args[place] is not None:
        return args[place], (*args[:place], None, *args[place + 1 :]), kwargs
    if kwargs.get("out") is not None:
        return kwargs["out"], args, {k: x for k, x in kwargs.items() if k != "out"}
    return None, args, kwargs


@functools.cache
def _place_of_out(rule) -> int:
    """Number of the positional argument that is `out`; beyond all where there is none."""
    for k, (name, parameter) in enumerate(inspect.signature(rule).parameters.items()):
        if name == "out" and parameter.kind is parameter.POSITIONAL_OR_KEYWORD:
            return k
    return 1_000_000


NEAREST = {
    "eig": "np.linalg.eigh of symmetric matrices", "eigvals": "np.linalg.eigvalsh of symmetric matrices",
    "histogramdd": "np.histogram", "histogram2d": "np.histogram",
    "vectorize": "array code", "frexp": "np.log2 and np.floor",
}
"""What to write in place of functions that are not here."""


def has_rule(function) -> bool:
    """Whether a NumPy or SciPy function can be recorded."""
    if isinstance(function, np.ufunc):
        return function.__name__ in TABLE.ufuncs or function.__name__ in UFUNCS
    rule = FUNCTIONS.get(function)
    return rule is not None and not getattr(rule, "refuses", False)


def no_rule(name: str) -> NotDifferentiable:
    """The error for a function without a rule: it names the nearest alternative."""
    import difflib  # only errors need it, and it takes time to import

    short = name.rpartition(".")[2]
    nearest = NEAREST.get(short) or ", ".join(difflib.get_close_matches(short, supported(), n=3, cutoff=0.75))
    hint = f"nearest: {nearest}; " if nearest else "write it in terms of those, or give it a rule with tape.operation; "
    return NotDifferentiable(f"{name}: no rule for this function; {hint}python -m tape.supported lists those that have one")


def supported() -> list[str]:
    """Names of the NumPy functions that recorded arrays support."""
    functions = {f.__name__ for f in FUNCTIONS if has_rule(f)}
    return sorted(name for name in functions | set(TABLE.ufuncs) | set(UFUNCS) if not name.startswith("_"))
