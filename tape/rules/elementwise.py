"""Functions of single elements that are no rows: rounding, parts of numbers, angles, tests, comparisons with tolerance.

What is not here: ufuncs that are rows, or nearly (`ufuncs.py`).
"""

from __future__ import annotations

import math

import numpy as np

from tape.errors import NotDifferentiable
from tape.recording.arrays import plain, record
from tape.recording.dispatch import UFUNCS, implements
from tape.rules.arrays import first_recorded
from tape.rules.contractions import as_recorded

# ---------------------------------------------------------------------- ufuncs


def _logaddexp2(x, y):
    """By the row of natural logarithms; NumPy's ufunc of the same name takes base 2."""
    return record("logaddexp", (math.log(2.0) * x, math.log(2.0) * y)) * (1.0 / math.log(2.0))


def _modf(x):
    whole = np.trunc(x).astype(_float_dtype(x))
    # An infinite number has the fractional part 0 with its sign.
    return np.copysign(np.where(np.isinf(x), 0.0, x - whole), x), whole


def _float_dtype(x):
    return x.dtype if x.dtype.kind == "f" else np.dtype(float)


def _ldexp(x, exponent):
    dtype = exponent.dtype if hasattr(exponent, "dtype") else np.result_type(exponent)
    if dtype.kind not in "iu":
        raise TypeError(f"numpy.ldexp: expected an integer exponent, got {dtype}")
    x = plain(x)
    kind = np.result_type(x.dtype, np.float32) if hasattr(x, "dtype") else np.float64
    return x * np.exp2(exponent * 1.0).astype(kind) if first_recorded(exponent) is not None else x * np.exp2(exponent).astype(
        kind)


def _signbit(x):
    return record("lt", (np.copysign(1.0, x), 0.0))


UFUNCS.update({
    "logaddexp2": _logaddexp2,
    "divmod": lambda x, y: (np.floor_divide(x, y), np.mod(x, y)),
    "modf": _modf,
    "ldexp": _ldexp,
    "signbit": _signbit,
    "matvec": lambda a, x: np.matmul(a, x[..., None])[..., 0],
    "vecmat": lambda x, a: np.matmul(x[..., None, :], a)[..., 0, :],
})


# ---------------------------------------------------------------------- rounding


@implements(np.round, np.around)
def round_(a, decimals=0, out=None):
    """`numpy.round`: the derivative is 0."""
    if a.dtype.kind == "b":
        raise NotDifferentiable("numpy.round of booleans computes in float16, which lists do not have; convert them with "
                                "astype(int)")
    if a.dtype.kind != "f":
        if decimals >= 0:
            return a.copy()
        scale = 10 ** -decimals
        return (np.rint(a / scale) * scale).astype(a.dtype)
    if decimals == 0:
        return np.rint(a)
    scale = 10.0 ** abs(decimals)
    return np.rint(a * scale) / scale if decimals > 0 else np.rint(a / scale) * scale


@implements(np.fix)
def fix(x, out=None):
    """`numpy.fix`."""
    return np.trunc(x)


@implements(np.unwrap)
def unwrap(p, discont=None, axis=-1, *, period=2 * math.pi):
    """`numpy.unwrap`: the jumps that are taken away are constants, so the derivative is that of `p`."""
    steps = np.diff(p, axis=axis)
    discont = period / 2 if discont is None else discont
    half = period / 2
    wrapped = np.mod(steps + half, period) - half
    wrapped = np.where(np.logical_and(wrapped == -half, steps > 0), half, wrapped)
    jumps = np.where(np.abs(steps) < discont, 0.0, np.rint((wrapped - steps) / period) * period)
    axis = np.lib.array_utils.normalize_axis_index(axis, p.ndim)
    first = (slice(None),) * axis + (slice(None, 1),)
    later = (slice(None),) * axis + (slice(1, None),)
    return np.concatenate([p[first], p[later] + np.cumsum(jumps, axis=axis)], axis=axis)


# ---------------------------------------------------------------------- complex numbers that are real


@implements(np.imag)
def imag(val):
    """`numpy.imag` of real numbers: 0."""
    return np.zeros_like(val)


@implements(np.angle)
def angle(z, deg=False):
    """`numpy.angle` of real numbers: 0 or pi, with the derivative 0."""
    z = z if z.dtype.kind == "f" else z.astype(np.float64)
    turn = 180.0 if deg else math.pi
    return np.where(np.isnan(z), z, np.where(_signbit(z), turn, 0.0)).astype(z.dtype)


@implements(np.isreal)
def isreal(x):
    """`numpy.isreal`: true everywhere."""
    return np.ones(np.shape(x), bool)


@implements(np.iscomplex)
def iscomplex(x):
    """`numpy.iscomplex`: false everywhere."""
    return np.zeros(np.shape(x), bool)[()]


@implements(np.isposinf)
def isposinf(x, out=None):
    """`numpy.isposinf`."""
    return record("eq", (x, math.inf))


@implements(np.isneginf)
def isneginf(x, out=None):
    """`numpy.isneginf`."""
    return record("eq", (x, -math.inf))


# ---------------------------------------------------------------------- comparisons of whole arrays


@implements(np.isclose)
def isclose(a, b, rtol=1e-05, atol=1e-08, equal_nan=False):
    """`numpy.isclose`."""
    recorder = first_recorded(a, b, rtol, atol).recorder
    a, b = as_recorded(recorder, a), as_recorded(recorder, b)
    near = record("and", (record("le", (np.abs(a - b), atol + rtol * np.abs(b))), np.isfinite(b)))
    near = record("or", (near, record("eq", (a, b))))
    return record("or", (near, record("and", (np.isnan(a), np.isnan(b))))) if equal_nan else near


@implements(np.allclose)
def allclose(a, b, rtol=1e-05, atol=1e-08, equal_nan=False):
    """`numpy.allclose`, under a guard."""
    return bool(np.all(isclose(a, b, rtol, atol, equal_nan)))


@implements(np.array_equal)
def array_equal(a1, a2, equal_nan=False):
    """`numpy.array_equal`, under a guard."""
    a, b = plain(a1), plain(a2)
    if np.shape(a) != np.shape(b):
        return False
    same = record("eq", (a, b))
    if equal_nan:
        same = record("or", (same, record("and", (record("ne", (a, a)), record("ne", (b, b))))))
    return bool(np.all(same))


@implements(np.array_equiv)
def array_equiv(a1, a2):
    """`numpy.array_equiv`, under a guard."""
    a, b = plain(a1), plain(a2)
    try:
        np.broadcast_shapes(np.shape(a), np.shape(b))
    except ValueError:
        return False
    return bool(np.all(record("eq", (a, b))))


@implements(np.astype)
def astype(x, dtype, /, *, copy=True, device=None):
    """`numpy.astype`."""
    return x.astype(dtype)


def _refused(name, nearest):
    def rule(*_, **__):
        raise NotDifferentiable(f"numpy.{name}: a recorded array has no values of its own; nearest: {nearest}")

    rule.refuses = True
    return rule


for _function in (np.save, np.savez, np.savez_compressed, np.savetxt):
    implements(_function)(_refused(_function.__name__, "return the array, and save what the derivative's function returns"))
