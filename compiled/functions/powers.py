"""Powers, cube roots and hypotenuses, without branches.

Sources: the logarithm of `power` is twice the series of the inverse hyperbolic tangent (as in FDLIBM's e_pow.c), in pairs of
doubles (Dekker, "A floating-point technique for extending the available precision", 1971), with a polynomial that
interpolates the series' tail at Chebyshev's nodes; cases that are not ordinary as C99 Annex F has them; `cbrt` after
FreeBSD's s_cbrt.c.
"""

from __future__ import annotations

import math

from llvmlite import ir

from compiled.functions.emitter import ROUNDING, FunctionEmitter, intrinsic, splat
from compiled.functions.exponentials import exp2_of_pair, split

TWO_BY_LN2 = (float.fromhex("0x1.71547652b82fep+1"), float.fromhex("0x1.777d0ffda0d24p-55"))
THIRD_BY_LN2 = (float.fromhex("0x1.ec709dc3a03fdp-1"), float.fromhex("0x1.d27f05548af0cp-55"))
"""2 / ln 2 and a third of it, as the nearest doubles and the rest."""

LOG_TAIL = (0.5770780163555853, 0.4121985831111439, 0.32059889796713803, 0.2623081914719228, 0.2219527881822988,
            0.19238058793412885, 0.16888470469467604, 0.16913584808113521)
"""2 (atanh(s) / s - 1 - z / 3) / (z**2 ln 2) in z = s**2 <= 0.02945: relative error 2**-53."""

LIMIT = 1100.0
"""Powers of two beyond 2**1100 are infinite, below 2**-1100 zero."""

CBRT_OFFSET = 715094163
CBRT_POLYNOMIAL = (1.87595182427177009643, -1.88497979543377169875, 1.621429720105354466140, -0.758397934778766047437,
                   0.145996192886612446982)
"""FreeBSD's B1, and its P0 to P4."""


def _log2_pair(e: FunctionEmitter, x):
    """log2(x) of a positive x as a pair of doubles; relative error below 2**-63."""
    k, f = split(e, x)
    d, d_low = e.quick_sum(e.number(2.0), f)
    inverse = e.div(e.number(1.0), d)
    s = e.mul(f, inverse)
    s_low = e.mul(e.sub(e.residual(s, d, f), e.mul(s, d_low)), inverse)
    z, z_low = e.exact_product(s, s)
    z_low = e.muladd(e.scale(s, 2.0), s_low, z_low)
    # log2(1 + f) = s (2 / ln 2 + z (2 / (3 ln 2) + z tail))
    tail = e.muladd(z, e.polynomial(z, LOG_TAIL), e.number(THIRD_BY_LN2[1]))
    c, c_low = e.quick_sum(e.number(THIRD_BY_LN2[0]), tail)
    t, t_low = _pair_product(e, (z, z_low), (c, c_low))
    a, a_low = e.quick_sum(e.number(TWO_BY_LN2[0]), t)
    a_low = e.add(a_low, e.add(t_low, e.number(TWO_BY_LN2[1])))
    product, product_low = _pair_product(e, (s, s_low), (a, a_low))
    result, low = e.quick_sum(k, product)
    return e.quick_sum(result, e.add(low, product_low))


def _pair_product(e: FunctionEmitter, x, y):
    product, low = e.exact_product(x[0], y[0])
    return product, e.add(low, e.muladd(x[0], y[1], e.mul(x[1], y[0])))


def power(e: FunctionEmitter, x, y):
    """x to the power y; error below 1 ulp."""
    magnitude = e.abs(x)
    high, low = _log2_pair(e, magnitude)
    exponent, lost = e.exact_product(y, high)
    lost = e.muladd(y, low, lost)
    lost = e.where(e.less(e.abs(exponent), e.number(LIMIT)), lost, e.number(0.0))
    result = exp2_of_pair(e, e.clamp(exponent, -LIMIT, LIMIT), lost)
    return _power_at_special_points(e, x, y, magnitude, result)


def _power_at_special_points(e: FunctionEmitter, x, y, magnitude, result):
    """The sign of a power, and its value at zeros, ones, infinities and NaN."""
    zero, one, infinity = e.number(0.0), e.number(1.0), e.number(math.inf)
    half = e.scale(y, 0.5)
    whole = e.equal(e.floor(y), y)
    odd = e.both(whole, e.builder.not_(e.equal(e.floor(half), half)))
    extreme = e.either(e.equal(magnitude, zero), e.equal(magnitude, infinity))
    grows = e.builder.xor(e.less(magnitude, one), e.less(zero, y))
    result = e.where(extreme, e.where(grows, infinity, zero), result)
    result = e.where(e.equal(magnitude, one), one, result)
    invalid = e.both(e.both(e.less(x, zero), e.less(magnitude, infinity)), e.builder.not_(whole))
    result = e.where(invalid, e.number(math.nan), result)
    result = e.where(odd, e.copysign(result, x), result)
    result = e.where(e.unordered(x, y), e.add(x, y), result)
    return e.where(e.either(e.equal(y, zero), e.equal(x, one)), one, result)


def simple_power(builder, values):
    """A power whose exponent is known to be 1, 2, -1 or 1/2, of floats, doubles or vectors; None for any other."""
    x, y = values
    known = y.constant if isinstance(y, ir.Constant) else None
    if isinstance(known, (list, tuple)):
        known = known[0] if len(set(known)) == 1 else None
    simple = SIMPLE_POWERS.get(known)
    return None if simple is None else simple(builder, x)


def _square_root(builder, x):
    """As `power` has it: of -0 it is 0, of minus infinity infinity."""
    root = intrinsic(builder, "sqrt", [builder.fadd(x, splat(x.type, 0.0))])
    endless = builder.fcmp_ordered("==", x, splat(x.type, -math.inf))
    return builder.select(endless, splat(x.type, math.inf), root)


SIMPLE_POWERS = {
    1.0: lambda builder, x: x,
    2.0: lambda builder, x: builder.fmul(x, x),
    -1.0: lambda builder, x: builder.fdiv(splat(x.type, 1.0), x),
    0.5: _square_root,
}


def cbrt(e: FunctionEmitter, x):
    """Cube root; error below 1 ulp."""
    magnitude = e.abs(x)
    subnormal = e.less(magnitude, e.number(2.0**-1022))
    m = e.where(subnormal, e.scale(magnitude, 2.0**54), magnitude)
    # A third of the exponent, by dividing the upper word by 3.
    upper = e.whole(e.builder.lshr(e.bits(m), e.word(32)))
    _, third = e.rounded(e.muladd(upper, e.number(1 / 3), e.number(ROUNDING + CBRT_OFFSET)))
    t = e.float(e.builder.shl(third, e.word(32)))
    t = e.mul(t, e.polynomial(e.mul(e.mul(t, t), e.div(t, m)), CBRT_POLYNOMIAL))
    # With 23 bits its square is exact.
    t = e.float(e.builder.and_(e.builder.add(e.bits(t), e.word(1 << 31)), e.word(-(1 << 30))))
    r = e.div(m, e.mul(t, t))
    t = e.muladd(t, e.div(e.sub(r, t), e.add(e.add(t, t), r)), t)
    t = e.copysign(e.where(subnormal, e.scale(t, 2.0**-18), t), x)
    return e.where(e.is_ordinary(magnitude), t, x)


def hypot(e: FunctionEmitter, x, y):
    """Square root of x**2 + y**2; error below 1 ulp."""
    a, b = e.abs(x), e.abs(y)
    swapped = e.less(a, b)
    large, small = e.where(swapped, b, a), e.where(swapped, a, b)
    # Squares that neither overflow nor lose what counts.
    is_big, is_tiny = e.less(e.number(2.0**500), large), e.less(large, e.number(2.0**-400))
    factor = e.where(is_big, e.number(2.0**-600), e.where(is_tiny, e.number(2.0**600), e.number(1.0)))
    back = e.where(is_big, e.number(2.0**600), e.where(is_tiny, e.number(2.0**-600), e.number(1.0)))
    p, q = e.mul(large, factor), e.mul(small, factor)
    square, square_low = e.exact_product(p, p)
    other, other_low = e.exact_product(q, q)
    total, low = e.quick_sum(square, other)
    low = e.add(low, e.add(square_low, other_low))
    root = e.sqrt(total)
    correction = e.div(e.add(e.residual(root, root, total), low), e.add(root, root))
    result = e.mul(e.add(root, correction), back)
    result = e.where(e.equal(large, e.number(0.0)), large, result)
    result = e.where(e.unordered(x, y), e.add(x, y), result)
    infinite = e.either(e.equal(a, e.number(math.inf)), e.equal(b, e.number(math.inf)))
    return e.where(infinite, e.number(math.inf), result)
