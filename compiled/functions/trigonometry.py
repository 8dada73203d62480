"""Sine, cosine, tangent and their inverses.

Arguments up to 2**30 are reduced with pi/2 in three parts (Cody and Waite, 1980); larger ones, of which a branch-free code
computes every lane too, with as many bits of 2/pi as it takes (Payne and Hanek, 1983), so that the error is that of small
arguments everywhere. Sources: polynomials of FDLIBM's k_sin.c, k_cos.c and e_asin.c (Sun Microsystems, 1993), the rational
function of Cephes' atan.c (Moshier, 1995).
"""

from __future__ import annotations

import functools
import math

from compiled.functions.emitter import ROUNDING, FunctionEmitter

HALF_PI = tuple(map(float.fromhex, ("0x1.921fb54442d18p+0", "0x1.1a62633145c07p-54", "-0x1.f1976b7ed8fbcp-110")))
"""pi/2: the nearest double, the double nearest to the rest, and so on."""

SIN = (-1.66666666666666324348e-01, 8.33333333332248946124e-03, -1.98412698298579493134e-04, 2.75573137070700676789e-06,
       -2.50507602534068634195e-08, 1.58969099521155010221e-10)
COS = (4.16666666666666019037e-02, -1.38888888888741095749e-03, 2.48015872894767294178e-05, -2.75573143513906633035e-07,
       2.08757232129817482790e-09, -1.13596475577881948265e-11)
"""FDLIBM's S1 to S6 and C1 to C6, for arguments up to pi/4."""

SMALL = 2.0**30
"""Up to here pi/2 in three parts is enough."""

BINADES = 16
"""Numbers share a row of bits of 2/pi with this many exponents: those whose biased exponents are equal but for four bits."""

ROW_SCALE = 200
"""Rows are multiplied by 2 to this power, large arguments divided, so that no part of a row is subnormal."""

WHOLE_TURNS = 1.5 * 2.0**72
"""Adding this to a number below 2**71 rounds it to a multiple of 2**20."""

ASIN_NUMERATOR = (1.66666666666666657415e-01, -3.25565818622400915405e-01, 2.01212532134862925881e-01,
                  -4.00555345006794114027e-02, 7.91534994289814532176e-04, 3.47933107596021167570e-05)
ASIN_DENOMINATOR = (1.0, -2.40339491173441421878e+00, 2.02094576023350569471e+00, -6.88283971605453293030e-01,
                    7.70381505559019352791e-02)
"""FDLIBM's pS0 to pS5 and qS1 to qS4: asin(x) = x + x z R(z), z = x**2, for |x| <= 1/2."""

ATAN_NUMERATOR = (-6.485021904942025371773e1, -1.228866684490136173410e2, -7.500855792314704667340e1,
                  -1.615753718733365076637e1, -8.750608600031904122785e-1)
ATAN_DENOMINATOR = (1.945506571482613964425e2, 4.853903996359136964868e2, 4.328810604912902668951e2,
                    1.650270098316988542046e2, 2.485846490142306297962e1, 1.0)
"""Cephes' rational approximation of (atan(x) - x) / x**3 in x**2, for |x| <= 0.66."""

ATAN_NEAR = 0.66


@functools.cache
def _rows_of_two_by_pi():
    """For each group of exponents four doubles that sum up to 2/pi without the bits that give whole turns, scaled.

    Zeros for the exponents of small numbers, of which nobody uses what comes out.
    """
    precision = 1400
    # Machin: pi = 16 atan(1/5) - 4 atan(1/239), in integers.
    pi = 16 * _inverse_tangent(5, precision) - 4 * _inverse_tangent(239, precision)
    bits = (2 << 2 * precision) // pi
    rows = []
    for lowest in range(-1023, 1025, BINADES):
        if lowest + BINADES <= math.log2(SMALL):
            rows.append([0.0] * 4)
            continue
        # A number of exponent >= lowest is a multiple of 2**(lowest - 52): times a bit of 2**(54 - lowest) it is one of 4.
        rest, row = bits & ((1 << precision + 54 - lowest) - 1), []
        for _ in range(4):
            excess = max(rest.bit_length() - 53, 0)
            part = rest >> excess << excess
            row.append(math.ldexp(part >> excess, excess - precision + ROW_SCALE))
            rest -= part
        rows.append(row)
    return rows


def _inverse_tangent(n, precision):
    """atan(1 / n) * 2**precision, nearly."""
    power = total = (1 << precision) // n
    k = 1
    while power:
        power //= -n * n
        k += 2
        total += power // k
    return total


def _reduced(e: FunctionEmitter, x):
    """Return (n, r, low): x = n pi/2 + r + low, n a word of which the lowest two bits count, |r| <= pi/4 or little more."""
    whole, n = e.rounded(e.muladd(x, e.number(1 / HALF_PI[0]), e.number(ROUNDING)))
    r = e.residual(whole, e.number(HALF_PI[0]), x)
    product, product_low = e.exact_product(whole, e.number(HALF_PI[1]))
    r, low = e.exact_sum(r, e.neg(product))
    low = e.muladd(whole, e.number(-HALF_PI[2]), e.sub(low, product_low))
    is_large = e.less(e.number(SMALL), e.abs(x))
    return e.replaced(is_large, [n, r, low], "reduced", _reduced_large, x)


def _reduced_large(e: FunctionEmitter, x):
    """`_reduced` of numbers from 2**30 on."""
    group = e.builder.lshr(e.builder.shl(e.bits(x), e.word(1)), e.word(53 + BINADES.bit_length() - 1))
    row = e.lookup("two_by_pi", _rows_of_two_by_pi(), group)
    x = e.scale(x, 2.0**-ROW_SCALE)
    (a, a_low), (b, b_low), (c, c_low) = (e.exact_product(x, part) for part in row[:3])
    a = e.sub(a, e.sub(e.add(a, e.number(WHOLE_TURNS)), e.number(WHOLE_TURNS)))
    a, a_low = e.quick_sum(a, a_low)
    a, b = e.exact_sum(a, b)
    whole, n = e.rounded(e.add(a, e.number(ROUNDING)))
    turn, low = e.sub(a, whole), e.muladd(x, row[3], c_low)
    # What is left of a is 0 or more than what adding b lost.
    turn, lost = e.quick_sum(turn, b)
    low = e.add(low, lost)
    for part in (a_low, b_low, c):
        turn, lost = e.exact_sum(turn, part)
        low = e.add(low, lost)
    turn, low = e.quick_sum(turn, low)
    r, r_low = e.exact_product(turn, e.number(HALF_PI[0]))
    return n, r, e.add(r_low, e.muladd(turn, e.number(HALF_PI[1]), e.scale(low, HALF_PI[0])))


def _sine(e: FunctionEmitter, r, low):
    """sin(r + low) for |r| <= pi/4, as a number and what is to be added to it; after FDLIBM."""
    z = e.mul(r, r)
    cube = e.mul(z, r)
    rest = e.sub(e.mul(z, e.sub(e.scale(low, 0.5), e.mul(cube, e.polynomial(z, SIN[1:])))), low)
    # Written so that -0 stays -0.
    return r, e.neg(e.sub(rest, e.scale(cube, SIN[0])))


def _cosine(e: FunctionEmitter, r, low):
    """cos(r + low) for |r| <= pi/4, as a number and what is to be added to it; after FDLIBM."""
    z = e.mul(r, r)
    half = e.scale(z, 0.5)
    near = e.sub(e.number(1.0), half)
    lost = e.sub(e.sub(e.number(1.0), near), half)
    rest = e.sub(e.mul(e.mul(z, z), e.polynomial(z, COS)), e.mul(r, low))
    return near, e.add(lost, rest)


def _is_odd(e: FunctionEmitter, n):
    return e.builder.icmp_signed("!=", e.builder.and_(n, e.word(1)), e.word(0))


def _wave(e: FunctionEmitter, x, quarter):
    """The sine of x plus `quarter` right angles; NaN at infinities."""
    n, r, low = _reduced(e, x)
    n = e.builder.add(n, e.word(quarter)) if quarter else n
    odd = _is_odd(e, n)
    (s, s_low), (c, c_low) = _sine(e, r, low), _cosine(e, r, low)
    result = e.where(odd, e.add(c, c_low), e.add(s, s_low))
    sign = e.builder.shl(e.builder.and_(n, e.word(2)), e.word(62))
    result = e.float(e.builder.xor(e.bits(result), sign))
    return _finite_only(e, x, result)


def _finite_only(e: FunctionEmitter, x, result):
    return e.where(e.less(e.abs(x), e.number(math.inf)), result, e.number(math.nan))


def sin(e: FunctionEmitter, x):
    """Sine; error below 1 ulp."""
    return _wave(e, x, 0)


def cos(e: FunctionEmitter, x):
    """Cosine; error below 1 ulp."""
    return _wave(e, x, 1)


def tan(e: FunctionEmitter, x):
    """Tangent; error below 1 ulp."""
    n, r, low = _reduced(e, x)
    odd = _is_odd(e, n)
    sine, cosine = e.quick_sum(*_sine(e, r, low)), e.quick_sum(*_cosine(e, r, low))
    top = [e.where(odd, e.neg(c), s) for s, c in zip(sine, cosine, strict=True)]
    bottom = [e.where(odd, s, c) for s, c in zip(sine, cosine, strict=True)]
    inverse = e.div(e.number(1.0), bottom[0])
    ratio = e.mul(top[0], inverse)
    rest = e.sub(e.add(e.residual(ratio, bottom[0], top[0]), top[1]), e.mul(ratio, bottom[1]))
    result = _finite_only(e, x, e.muladd(rest, inverse, ratio))
    return e.where(e.equal(x, e.number(0.0)), x, result)


# ---------------------------------------------------------------------- inverse functions


def _asin_parts(e: FunctionEmitter, x):
    """Return (|x| < 1/2, s, low, ratio): asin(x) = s + (s ratio) for |x| < 1/2; else s + low is sqrt((1 - |x|) / 2)."""
    magnitude = e.abs(x)
    near = e.less(magnitude, e.number(0.5))
    z = e.where(near, e.mul(x, x), e.scale(e.sub(e.number(1.0), magnitude), 0.5))
    ratio = e.mul(z, e.div(e.polynomial(z, ASIN_NUMERATOR), e.polynomial(z, ASIN_DENOMINATOR)))
    root = e.sqrt(z)
    low = e.div(e.residual(root, root, z), e.add(root, root))
    low = e.where(e.equal(root, e.number(0.0)), e.number(0.0), low)
    return near, e.where(near, magnitude, root), e.where(near, e.number(0.0), low), ratio


def asin(e: FunctionEmitter, x):
    """Inverse sine; error below 1 ulp."""
    near, s, low, ratio = _asin_parts(e, x)
    rest = e.muladd(s, ratio, low)
    far, lost = e.quick_sum(e.number(HALF_PI[0]), e.scale(s, -2.0))
    far = e.add(far, e.add(lost, e.muladd(rest, e.number(-2.0), e.number(HALF_PI[1]))))
    return e.copysign(e.where(near, e.add(s, rest), far), x)


def acos(e: FunctionEmitter, x):
    """Inverse cosine; error below 1 ulp."""
    near, s, low, ratio = _asin_parts(e, x)
    rest = e.muladd(s, ratio, low)
    negative = e.less(x, e.number(0.0))
    # pi/2 - asin(x); else 2 asin(s) or pi - 2 asin(s).
    factor = e.where(near, e.number(1.0), e.number(2.0))
    high, low = (e.where(near, e.number(p), e.where(negative, e.number(2 * p), e.number(0.0))) for p in HALF_PI[:2])
    sign = e.builder.xor(near, negative)
    s, rest = (e.mul(p, e.where(sign, e.neg(factor), factor)) for p in (s, rest))
    total, lost = e.quick_sum(high, s)
    return e.add(total, e.add(lost, e.add(rest, low)))


def atan(e: FunctionEmitter, x):
    """Inverse tangent; error below 2 ulp."""
    return e.copysign(_angle(e, e.abs(x), e.number(1.0)), x)


def arctan2(e: FunctionEmitter, y, x):
    """The angle of the point (x, y); error below 2 ulp."""
    angle = _angle(e, e.abs(y), e.abs(x))
    behind = e.builder.icmp_signed("<", e.bits(x), e.word(0))
    opposite = e.add(e.sub(e.number(2 * HALF_PI[0]), angle), e.number(2 * HALF_PI[1]))
    result = e.copysign(e.where(behind, opposite, angle), y)
    return e.where(e.unordered(x, y), e.add(x, y), result)


def _angle(e: FunctionEmitter, y, x):
    """atan(y / x) for y, x >= 0."""
    one, zero = e.number(1.0), e.number(0.0)
    steep = e.less(x, y)
    low, high = e.where(steep, x, y), e.where(steep, y, x)
    endless = e.equal(low, e.number(math.inf))
    low, high = e.where(endless, one, low), e.where(e.either(endless, e.equal(high, zero)), one, high)
    # Neither may a sum overflow nor a product be subnormal.
    factor = e.where(e.less(high, e.number(2.0**-900)), e.number(2.0**100), one)
    factor = e.where(e.less(e.number(2.0**1000), high), e.number(0.25), factor)
    low, high = e.mul(low, factor), e.mul(high, factor)
    middle = e.less(e.scale(high, ATAN_NEAR), low)
    t = e.div(e.where(middle, e.sub(low, high), low), e.where(middle, e.add(low, high), high))
    z = e.mul(t, t)
    ratio = e.div(e.polynomial(z, ATAN_NUMERATOR), e.polynomial(z, ATAN_DENOMINATOR))
    rest = e.mul(e.mul(t, z), ratio)
    t, rest = (e.where(steep, e.neg(p), p) for p in (t, rest))
    base, base_low = (e.where(middle, e.number(p / 2), e.where(steep, e.number(p), zero)) for p in HALF_PI[:2])
    return e.add(base, e.add(t, e.add(rest, base_low)))
