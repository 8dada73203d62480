"""What a recorded array is made of, for the modules that arrays are built on.

What is not here: what it does (`arrays.py`).
"""

from __future__ import annotations


class Recorded:
    """Some cells of a list that is being recorded, and what they stand for.

    Attributes
    ----------
    recorder : Recorder
        Of the list.
    view : View
        The cells.
    dtype : dtype
        That NumPy would give; cells are floats.
    plain_type : type or None
        float, int or bool where the plain call has a number of Python's own; ndarray where it has an array without axes.
    writeable : bool
        As NumPy's flag: views of what may not be changed, and broadcast ones, are read-only.
    """

    __slots__ = ("dtype", "plain_type", "recorder", "view", "writeable")

    @staticmethod
    def apply(name: str, operands):
        """Record an elementwise instruction."""
        raise NotImplementedError
