"""Polynomials by their coefficients, the highest power first: `numpy.polyval` and its kin.

What is not here: the classes of `numpy.polynomial`, whose constructors make plain arrays.
"""

from __future__ import annotations

import numpy as np

from tape.errors import NotDifferentiable
from tape.recording.arrays import RecordedArray, plain
from tape.recording.dispatch import implements
from tape.rules.arrays import first_recorded
from tape.rules.contractions import as_recorded


def _coefficients(*polynomials):
    recorder = first_recorded(*polynomials).recorder
    return [np.atleast_1d(as_recorded(recorder, p)) for p in polynomials]


def _without_leading_zeros(p):
    """As NumPy's products take them; that a coefficient is zero is a guard."""
    while p.shape[0] > 1 and bool(p[0] == 0):
        p = p[1:]
    return p


@implements(np.polyval)
def polyval(p, x):
    """`numpy.polyval`, by Horner's rule."""
    p, x = plain(p), plain(x)
    x = x if isinstance(x, RecordedArray) else np.asarray(x)[()]
    result = 0.0 * x
    for k in range(len(p)):
        result = result * x + p[k]
    return result


@implements(np.polyadd)
def polyadd(a1, a2):
    """`numpy.polyadd`."""
    a, b = _coefficients(a1, a2)
    return _to_length(a, b.shape[0]) + _to_length(b, a.shape[0])


@implements(np.polysub)
def polysub(a1, a2):
    """`numpy.polysub`."""
    a, b = _coefficients(a1, a2)
    return _to_length(a, b.shape[0]) - _to_length(b, a.shape[0])


def _to_length(p, n):
    return np.pad(p, (n - p.shape[0], 0)) if p.shape[0] < n else p


@implements(np.polymul)
def polymul(a1, a2):
    """`numpy.polymul`."""
    return np.convolve(*map(_without_leading_zeros, _coefficients(a1, a2)))


@implements(np.polydiv)
def polydiv(u, v):
    """`numpy.polydiv`: quotient and remainder, by long division."""
    u, v = _coefficients(u, v)
    m, n = u.shape[0] - 1, v.shape[0] - 1
    remainder = [u[k] + 0.0 for k in range(m + 1)]
    quotient = []
    for k in range(m - n + 1):
        quotient.append(remainder[k] / v[0])
        for j in range(n + 1):
            remainder[k + j] = remainder[k + j] - quotient[-1] * v[j]
    rest = np.stack(remainder[len(quotient):] if len(quotient) <= m else remainder[-1:])
    while rest.shape[0] > 1 and bool(np.abs(rest[0]) <= 1e-14):
        rest = rest[1:]
    return np.stack(quotient) if quotient else np.zeros_like(u, shape=(1,)), rest


@implements(np.polyder)
def polyder(p, m=1):
    """`numpy.polyder`."""
    (p,) = _coefficients(p)
    for _ in range(m):
        p = p[:-1] * np.arange(p.shape[0] - 1, 0, -1)
    return p


@implements(np.polyint)
def polyint(p, m=1, k=None):
    """`numpy.polyint`."""
    p, constants = _coefficients(p, 0.0 if k is None else k)
    constants = np.broadcast_to(constants, (m,)) if constants.shape[0] == 1 else constants
    if constants.shape[0] < m:
        raise ValueError("k must be a scalar or a rank-1 array of length 1 or >m.")
    for i in range(m):
        p = np.concatenate([p / np.arange(p.shape[0], 0, -1), constants[i : i + 1]])
    return p


@implements(np.poly)
def poly(seq_of_zeros):
    """`numpy.poly` of a sequence of zeros."""
    (zeros,) = _coefficients(seq_of_zeros)
    if zeros.ndim != 1:
        raise NotDifferentiable("numpy.poly of a matrix: expected a sequence of zeros; nearest: np.poly of its eigenvalues")
    p = np.ones_like(zeros, shape=(1,))
    for k in range(zeros.shape[0]):
        p = np.convolve(p, np.stack([np.ones_like(zeros[k]), -zeros[k]]))
    return p


@implements(np.polyfit)
def polyfit(x, y, deg, rcond=None, full=False, w=None, cov=False):
    """`numpy.polyfit`: the coefficients."""
    if full or cov:
        raise NotDifferentiable("numpy.polyfit with full= or cov=: expected the coefficients alone")
    recorder = first_recorded(x, y, w).recorder
    x, y = as_recorded(recorder, x) + 0.0, as_recorded(recorder, y) + 0.0
    if x.ndim != 1 or y.ndim not in (1, 2) or x.shape[:1] != y.shape[:1]:
        raise TypeError(f"expected x with one axis and y of the same length, got the shapes {x.shape} and {y.shape}")
    powers = np.vander(x, deg + 1)
    if w is not None:
        w = as_recorded(recorder, w)
        powers, y = powers * w[:, None], y * (w[:, None] if y.ndim == 2 else w)
    scale = np.sqrt(np.sum(np.square(powers), axis=0))
    solution = np.linalg.lstsq(powers / scale, y, rcond)[0]
    return solution / (scale[:, None] if y.ndim == 2 else scale)


@implements(np.vander)
def vander(x, N=None, increasing=False):
    """`numpy.vander`, by running products: exact at 0."""
    n, x = x.shape[0] if N is None else N, x.astype(np.result_type(x.dtype, int))
    columns = [np.ones_like(x)]
    for _ in range(n - 1):
        columns.append(columns[-1] * x)
    return np.stack(columns[:n] if increasing else columns[:n][::-1], axis=1) if n else np.zeros_like(x, shape=(x.size, 0))
