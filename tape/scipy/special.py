"""`scipy.special` functions that are no ufuncs, of plain and recorded arrays: logsumexp, softmax, log_softmax, polygamma,
multigammaln.

The ufuncs of `scipy.special` with a rule (`python -m tape.supported` lists them) are called under their own names.
"""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np

from tape.errors import NotDifferentiable
from tape.recording.arrays import stop_gradient
from tape.rules.reductions import logsumexp

__all__ = ["log_softmax", "logsumexp", "multigammaln", "polygamma", "softmax"]


def _shifted(x, axis):
    """x less its largest element, which is a constant to derivatives: it cancels in what follows."""
    return x - stop_gradient(np.max(x, axis=axis, keepdims=True))


def softmax(x: Any, axis: int | tuple[int, ...] | None = None) -> Any:
    """Exponentials divided by their sum, without overflow: as SciPy's, of plain and recorded arrays.

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


def log_softmax(x: Any, axis: int | tuple[int, ...] | None = None) -> Any:
    """Logarithm of `softmax`, without overflow and exact where that is tiny: as SciPy's, of plain and recorded arrays.

    Examples
    --------
    >>> import numpy as np, tape
    >>> tape.scipy.special.log_softmax(np.array([0.0, 1000.0]))
    array([-1000.,     0.])
    """
    shifted = _shifted(x, axis)
    return shifted - np.log(np.sum(np.exp(shifted), axis=axis, keepdims=True))


def polygamma(n: int, x: Any) -> Any:
    """Derivative number n of the digamma function: as SciPy's, except that `n` is one int from 0 on, a constant.

    Another one raises `NotDifferentiable`.

    Notes
    -----
    Source: ``(-1)**(n + 1) n! zeta(n + 1, x)`` (Abramowitz & Stegun 6.4.10), which is differentiated to any order.

    Examples
    --------
    >>> import tape
    >>> round(float(tape.scipy.special.polygamma(1, 1.0)), 6)
    1.644934
    >>> round(float(tape.grad(lambda x: tape.scipy.special.polygamma(1, x))(1.0)), 6)
    -2.404114
    """
    from scipy.special import digamma, zeta

    n = _whole(n, "polygamma", "the order")
    if n < 0:
        raise NotDifferentiable(f"polygamma: expected an order from 0 on, got {n}")
    return digamma(x) if n == 0 else (-1.0) ** (n + 1) * math.factorial(n) * zeta(n + 1.0, x)


def multigammaln(a: Any, d: int) -> Any:
    """Logarithm of the multivariate gamma function: as SciPy's, except that `d` is a constant.

    A dimension that is no int, or that is recorded, raises `NotDifferentiable`.

    Examples
    --------
    >>> import tape
    >>> round(float(tape.scipy.special.multigammaln(3.0, 2)), 6)
    1.550195
    """
    from scipy.special import gammaln

    d = _whole(d, "multigammaln", "the dimension")
    return 0.25 * d * (d - 1) * math.log(math.pi) + sum(gammaln(a - 0.5 * k) for k in range(d))


def _whole(n, function, what):
    try:
        return operator.index(n)
    except TypeError:
        raise NotDifferentiable(f"{function}: expected {what} as an int, a constant; got {type(n).__name__}") from None
