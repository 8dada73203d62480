"""Functions of the instruction set that NumPy has no name for; they take plain and recorded arrays."""

from __future__ import annotations

import numpy as np

from tape.recording.arrays import RecordedArray, evaluated, record
from tape.recording.dispatch import taken_over
from tape.recording.signatures import X


def _elementwise(name, x):
    if isinstance(x, RecordedArray):
        return record(name, (x,))
    other = taken_over((x,))
    if other is not None:
        return other(_elementwise, (name, x), {})
    array = np.asarray(x)
    return evaluated(lambda recorded: record(name, (recorded,)), array)


def relu(x: X) -> X:
    """Rectified linear unit, ``max(x, 0)``, with the derivative 0 at 0.

    Parameters
    ----------
    x : array or float
        Plain or recorded, any shape.

    Returns
    -------
    array
        Of the shape and precision of `x`.

    Raises
    ------
    NotDifferentiable
        For arrays that are not numeric.

    Notes
    -----
    ``np.maximum(x, 0)`` is differentiated too, but there the tie at 0 gives each operand half.

    Examples
    --------
    >>> import numpy as np, tape
    >>> tape.grad(lambda x: np.sum(tape.relu(x)))(np.array([-1.0, 0.0, 2.0]))
    array([0., 0., 1.])
    """
    return _elementwise("relu", x)


def sigmoid(x: X) -> X:
    """Logistic function ``1 / (1 + exp(-x))``, without overflow.

    Parameters
    ----------
    x : array or float
        Plain or recorded, any shape.

    Returns
    -------
    array
        Of the shape and precision of `x`. SciPy's ``scipy.special.expit`` records the same instruction.

    Raises
    ------
    NotDifferentiable
        For arrays that are not numeric.

    Examples
    --------
    >>> import tape
    >>> float(tape.sigmoid(0.0)), float(tape.grad(tape.sigmoid)(0.0))
    (0.5, 0.25)
    """
    return _elementwise("sigmoid", x)


def softplus(x: X) -> X:
    """Smooth rectifier ``log(1 + exp(x))``, without overflow.

    Parameters
    ----------
    x : array or float
        Plain or recorded, any shape.

    Returns
    -------
    array
        Of the shape and precision of `x`; its derivative is the sigmoid.

    Raises
    ------
    NotDifferentiable
        For arrays that are not numeric.

    Examples
    --------
    >>> import tape
    >>> float(tape.softplus(1000.0)), float(tape.grad(tape.softplus)(0.0))
    (1000.0, 0.5)
    """
    return _elementwise("softplus", x)
