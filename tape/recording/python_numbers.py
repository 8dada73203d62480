"""Where numbers of Python's own differ from NumPy's: they raise errors, and powers of negative ones are complex.

What is here: division and powers of recorded scalars that stand for them. What is not: everything else that scalars do
(`arrays.py`).
"""

from __future__ import annotations

import math

import numpy as np

from tape.errors import NotDifferentiable
from tape.recording.integers import computed
from tape.recording.lines import user_line
from tape.recording.recorded import Recorded


def divided(what: str, x, y):
    """A quotient, whole quotient or remainder of numbers of Python's own.

    Raises ZeroDivisionError where Python would; of a recorded divisor under a guard that it is, or is not, zero. Where there
    are no values, in the bodies of loops, division gives infinities and NaN instead.
    """
    if y == 0 if not isinstance(y, Recorded) else not is_nonzero(y):
        raise ZeroDivisionError(_MESSAGES[what])
    return (x if isinstance(x, Recorded) else y).apply(_DIVISIONS[what], (x, y))


_DIVISIONS = {"division": "div", "floor division": "floor_divide", "modulo": "mod"}
"""Operation → its instruction."""

_MESSAGES = {"division": "float division by zero", "floor division": "float floor division by zero", "modulo": "float modulo"}


def is_nonzero(x) -> bool:
    """Whether a recorded number is not zero, under a guard; true where there are no values."""
    recorder = x.recorder
    if recorder.without_values or x.view.cell in recorder.nonzero:
        return True
    if not bool(x):
        return False
    recorder.nonzero.add(x.view.cell)
    return True


def power(x, y):
    """x**y of numbers of Python's own."""
    recorded = x if isinstance(x, Recorded) else y
    if all(_is_python_integer(v) for v in (x, y)):
        return computed(lambda x, y: x**y, (x, y))
    result = np.power(x, y)
    result.plain_type = float
    if not recorded.recorder.without_values and not _is_plain_exponent(y) and not bool(np.isfinite(result)):
        _raise_as_python(x, y)
    return result


def _is_python_integer(x):
    return getattr(x, "plain_type", type(x)) in (int, bool)


def _is_plain_exponent(y):
    """Whether powers with this exponent are neither complex nor divisions by zero."""
    return isinstance(y, (int, float)) and y >= 0 and float(y).is_integer()


def _raise_as_python(x, y):
    """Raise what Python raises for this power, of the values now, which a guard keeps."""
    x, y = (float(v.recorder.guard(v.view)) if hasattr(v, "recorder") else v for v in (x, y))
    result = float(x) ** y
    if isinstance(result, complex):
        raise NotDifferentiable("{}:{}: {} ** {} is complex for Python's floats; expected a base that is not negative, or a "
                                "whole exponent".format(*user_line(), x, y))
    assert not math.isfinite(result)
