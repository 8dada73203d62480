"""`scipy.special` functions that are no ufuncs: logsumexp, softmax, log_softmax; of plain and recorded arrays.

The ufuncs of `scipy.special` with a rule (`python -m tape.supported` lists them) are called under their own names.
"""

from __future__ import annotations

import numpy as np

from tape.reductions import logsumexp

__all__ = ["log_softmax", "logsumexp", "softmax"]


def _shifted(x, axis):
    """x less its largest element, which is a constant to derivatives: it cancels in what follows."""
    from tape.gradients import stop_gradient

    return x - stop_gradient(np.max(x, axis=axis, keepdims=True))


def softmax(x, axis=None):
    """Exponentials divided by their sum, without overflow.

    Parameters
    ----------
    x : array
        Exponents, plain or recorded.
    axis : None, int or tuple of ints
        Axes to sum over; None for all.

    Returns
    -------
    array
        Of the shape of `x`; along `axis` it sums to 1.

    Raises
    ------
    ValueError
        For an axis that `x` does not have, or along which it has no elements.

    Examples
    --------
    >>> import numpy as np, tape
    >>> tape.scipy.special.softmax(np.array([0.0, 0.0, 1000.0]))
    array([0., 0., 1.])
    >>> tape.grad(lambda x: tape.scipy.special.softmax(x)[0])(np.array([0.0, 0.0]))
    array([ 0.25, -0.25])
    """
    terms = np.exp(_shifted(x, axis))
    return terms / np.sum(terms, axis=axis, keepdims=True)


def log_softmax(x, axis=None):
    """Logarithm of `softmax`, without overflow and exact where the softmax is tiny.

    Parameters
    ----------
    x : array
        Exponents, plain or recorded.
    axis : None, int or tuple of ints
        Axes to sum over; None for all.

    Returns
    -------
    array
        Of the shape of `x`.

    Raises
    ------
    ValueError
        For an axis that `x` does not have, or along which it has no elements.

    Examples
    --------
    >>> import numpy as np, tape
    >>> tape.scipy.special.log_softmax(np.array([0.0, 1000.0]))
    array([-1000.,     0.])
    """
    shifted = _shifted(x, axis)
    return shifted - np.log(np.sum(np.exp(shifted), axis=axis, keepdims=True))
