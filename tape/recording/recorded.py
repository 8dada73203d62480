"""What a recorded array is made of, for the modules that arrays are built on.

What is not here: what it does (`arrays.py`).
"""

from __future__ import annotations

from compiled.lists.memory import View


class Recorded:
    """Some cells of a list that is being recorded, and what they stand for.

    Parameters
    ----------
    recorder : Recorder
        Of the list.
    view : View
        The cells.
    dtype : dtype
        That NumPy would give; cells are floats.
    plain_type : type, optional
        float, int or bool where the plain call has a number of Python's own; ndarray where it has an array without axes.
    writeable : bool
        As NumPy's flag: views of what may not be changed, and broadcast ones, are read-only.
    """

    __slots__ = ("dtype", "plain_type", "recorder", "view", "writeable")

    def __init__(self, recorder, view: View, dtype, plain_type=None, writeable: bool = True):
        self.recorder, self.view, self.dtype, self.plain_type, self.writeable = recorder, view, dtype, plain_type, writeable

    @staticmethod
    def apply(name: str, operands):
        """Record an elementwise instruction."""
        raise NotImplementedError


_PYTHON_TYPES = (float, int, bool)


def is_python_number(x) -> bool:
    """Whether this is, or stands for, a number of Python's own, so that Python's rules hold for it."""
    return x.plain_type in _PYTHON_TYPES if isinstance(x, Recorded) else type(x) in _PYTHON_TYPES
