"""The tables of rules: which NumPy function, and which ufunc, is recorded by which function.

What is not here: the rules themselves (`ufuncs.py`, `reductions.py`, `numpy_rules.py` and those that name them), which enter
themselves. What is in neither table raises NotDifferentiable with the nearest alternative.
"""

from __future__ import annotations

import difflib

import numpy as np

from compiled.instructions import TABLE
from tape.errors import NotDifferentiable
from tape.tracing import _recorder_of

FUNCTIONS: dict = {}
"""NumPy function → the function that records it."""

UFUNCS: dict = {}
"""Name of a ufunc that is not just the row of the table that names it → the function that records it."""


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
    _recorder_of(args)  # refuses arrays of another recording
    try:
        return rule(*args, **kwargs)
    except TypeError as error:
        if isinstance(error, NotDifferentiable) or "argument" not in str(error):
            raise
        raise NotDifferentiable(f"{name}: {error}; this argument is not supported on recorded arrays") from None


NEAREST = {
    "unwrap": "np.cumsum of wrapped differences", "polyfit": "np.linalg.lstsq of plain values", "lexsort": "np.argsort",
    "histogram": "np.sum of comparisons", "apply_along_axis": "a loop over rows, and np.stack", "vectorize": "array code",
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
    short = name.rpartition(".")[2]
    nearest = NEAREST.get(short) or ", ".join(difflib.get_close_matches(short, supported(), n=3, cutoff=0.75))
    hint = f"nearest: {nearest}; " if nearest else "write it in terms of the supported ones; "
    return NotDifferentiable(f"{name}: no rule for this function; {hint}supported: {', '.join(supported())}")


def supported() -> list[str]:
    """Names of the NumPy functions that recorded arrays support."""
    functions = {f.__name__ for f in FUNCTIONS if has_rule(f)}
    return sorted(functions | set(TABLE.ufuncs) | set(UFUNCS))
