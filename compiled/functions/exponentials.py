"""Exponentials, logarithms and hyperbolic functions, without branches.

Sources: argument reduction and the polynomial of the logarithm after FDLIBM (Sun Microsystems, 1993, e_exp.c, e_log.c,
s_log1p.c, s_expm1.c); logarithms to other bases after FreeBSD's e_log2.c and e_log10.c; the tangent near 0 after Cephes
(Moshier, 1995, tanh.c); Taylor coefficients for the exponential and the hyperbolic sine near 0; inverse hyperbolic functions
by their logarithms (Abramowitz & Stegun 4.6.20-22), of pairs of doubles.
"""

from __future__ import annotations

import math

from compiled.functions.emitter import ROUNDING, FunctionEmitter

LN2 = (float.fromhex("0x1.62e42fefa39efp-1"), float.fromhex("0x1.abc9e3b39803fp-56"))
"""ln 2 as the double nearest to it and the rest."""

LOG2_HIGH = float.fromhex("0x1.62e42fee00000p-1")
LOG2_LOW = float.fromhex("0x1.a39ef35793c76p-33")
"""ln 2 in two parts: products of the first with whole numbers up to 2**20 are exact."""

LOG_POLYNOMIAL = (6.666666666666735130e-01, 3.999999999940941908e-01, 2.857142874366239149e-01, 2.222219843214978396e-01,
                  1.818357216161805012e-01, 1.531383769920937332e-01, 1.479819860511658591e-01)
"""FDLIBM's Lg1 to Lg7."""

TANH_NUMERATOR = (-1.61468768441708447952e3, -9.92877231001918586564e1, -9.64399179425052238628e-1)
TANH_DENOMINATOR = (4.84406305325125486048e3, 2.23548839060100448583e3, 1.12811678491632931402e2, 1.0)
"""Cephes' rational approximation of (tanh(x) - x) / x**3 in x**2, for |x| < 0.625."""

INVERSE_LN2 = (1.44269504072144627571e+00, 1.67517131648865118353e-10)
INVERSE_LN10 = (4.34294481878168880939e-01, 2.50829467116452752298e-11)
LOG10_2 = (3.01029995663611771306e-01, 3.69423907715893078616e-13)
"""FreeBSD's 1 / ln 2, 1 / ln 10 and log10 2 in two parts, of which the first has trailing zeros."""

UPPER_WORD = -(1 << 32)
"""The bits of the upper half of a double."""

SINH_NEAR = tuple(1 / math.factorial(k) for k in range(3, 20, 2))
"""Taylor coefficients of (sinh(x) - x) / x**3 in x**2."""


def reduced_exponential(e: FunctionEmitter, x):
    """Return (n, p) with exp(x) = 2**n (1 + p), n an integer word, |x - n ln 2| <= 0.35."""
    whole, n = e.rounded(e.muladd(x, e.number(1 / math.log(2.0)), e.number(ROUNDING)))
    r = e.muladd(whole, e.number(-LOG2_HIGH), x)
    r = e.muladd(whole, e.number(-LOG2_LOW), r)
    return n, e.muladd(e.mul(r, r), exponential_tail(e, r), r)


def exponential_tail(e: FunctionEmitter, r):
    """(exp(r) - 1 - r) / r**2, for |r| <= 0.35."""
    return e.polynomial(r, [1 / math.factorial(k) for k in range(2, 14)])


def power_of_two(e: FunctionEmitter, n):
    """2**n as a double, for -1022 <= n <= 1023."""
    return e.float(e.builder.shl(e.builder.add(n, e.word(1023)), e.word(52)))


def exp(e: FunctionEmitter, x):
    """Exponential; error below 1 ulp."""
    return scaled(e, *reduced_exponential(e, e.clamp(x, -746.0, 710.0)))


def scaled(e: FunctionEmitter, n, p):
    """2**n (1 + p), in two steps, so that it can be subnormal."""
    first, second = powers_of_two(e, n)
    return e.mul(e.muladd(p, first, first), second)


def powers_of_two(e: FunctionEmitter, n):
    """Two numbers whose product is 2**n, for |n| <= 2044."""
    half = e.builder.ashr(n, e.word(1))
    return power_of_two(e, half), power_of_two(e, e.builder.sub(n, half))


def exp2(e: FunctionEmitter, x):
    """Power of two; error below 1 ulp."""
    return exp2_of_pair(e, e.clamp(x, -1100.0, 1100.0), e.number(0.0))


def exp2_of_pair(e: FunctionEmitter, x, low):
    """2**(x + low), for |x| <= 1100 and low below the last place of x."""
    whole, n = e.rounded(e.add(x, e.number(ROUNDING)))
    r, low = e.quick_sum(e.sub(x, whole), low)
    q, q_low = e.exact_product(r, e.number(LN2[0]))
    q_low = e.muladd(low, e.number(LN2[0]), e.muladd(r, e.number(LN2[1]), q_low))
    # exp(q + q_low) - 1 = q + (q**2 tail + q_low (1 + q))
    rest = e.muladd(e.mul(q, q), exponential_tail(e, q), e.muladd(q_low, q, q_low))
    result, lost = e.quick_sum(e.number(1.0), q)
    first, second = powers_of_two(e, n)
    return e.mul(e.mul(e.add(result, e.add(lost, rest)), first), second)


def expm1(e: FunctionEmitter, x):
    """Exponential minus one; error below 2 ulp."""
    n, p = reduced_exponential(e, e.clamp(x, -50.0, 710.0))
    half = e.builder.ashr(n, e.word(1))
    first, second = power_of_two(e, half), power_of_two(e, e.builder.sub(n, half))
    # 2**n (1 + p) - 1 = 2**half ((2**rest - 2**-half) + 2**rest p): no part overflows before the result does.
    inverse = power_of_two(e, e.builder.sub(e.word(0), half))
    result = e.mul(first, e.muladd(second, p, e.sub(second, inverse)))
    return e.where(e.equal(x, e.number(0.0)), x, result)


def log(e: FunctionEmitter, x):
    """Natural logarithm; error below 1 ulp."""
    k, f = split(e, x)
    return _finished_log(e, x, _log_of_parts(e, k, f, e.number(0.0)))


def split(e: FunctionEmitter, x):
    """Return (k, f) with x = 2**k (1 + f), 1 + f in [sqrt(1/2), sqrt(2)), k a double."""
    subnormal = e.less(x, e.number(2.0**-1022))
    scaled = e.where(subnormal, e.mul(x, e.number(2.0**54)), x)
    bits = e.bits(scaled)
    # Adding this moves the exponent up for fractions from sqrt(2) on.
    offset = e.word(0x3FF0000000000000 - 0x3FE6A09E667F3BCD)
    moved = e.builder.add(bits, offset)
    k = e.builder.sub(e.builder.lshr(moved, e.word(52)), e.word(1023))
    fraction = e.builder.sub(bits, e.builder.shl(k, e.word(52)))
    k = e.where(subnormal, e.builder.sub(k, e.word(54)), k)
    return e.whole(k), e.sub(e.float(fraction), e.number(1.0))


def _log_of_parts(e: FunctionEmitter, k, f, correction):
    """k ln 2 + log(1 + f) + correction, after FDLIBM."""
    half_square, rest = _log_rest(e, f)
    low = e.add(e.muladd(k, e.number(LOG2_LOW), correction), rest)
    return e.add(e.mul(k, e.number(LOG2_HIGH)), e.sub(f, e.sub(half_square, low)))


def _log_rest(e: FunctionEmitter, f):
    """Return (f**2 / 2, r) with log(1 + f) = f - f**2 / 2 + r."""
    s = e.div(f, e.add(e.number(2.0), f))
    z = e.mul(s, s)
    r = e.mul(z, e.polynomial(z, LOG_POLYNOMIAL))
    half_square = e.mul(e.mul(e.number(0.5), f), f)
    return half_square, e.mul(s, e.add(half_square, r))


def log2(e: FunctionEmitter, x):
    """Logarithm to the base 2; error below 1 ulp."""
    return _log_to_base(e, x, INVERSE_LN2, (1.0, 0.0))


def log10(e: FunctionEmitter, x):
    """Logarithm to the base 10; error below 1 ulp."""
    return _log_to_base(e, x, INVERSE_LN10, LOG10_2)


def _log_to_base(e: FunctionEmitter, x, inverse, log_of_two):
    """Logarithm to the base whose 1 / ln and log 2 these are, after FreeBSD."""
    k, f = split(e, x)
    half_square, rest = _log_rest(e, f)
    difference = e.sub(f, half_square)
    high = e.float(e.builder.and_(e.bits(difference), e.word(UPPER_WORD)))
    low = e.add(e.sub(e.sub(f, high), half_square), rest)
    scaled_low = e.muladd(low, e.number(inverse[0]), e.scale(e.add(low, high), inverse[1]))
    result, lost = e.quick_sum(e.scale(k, log_of_two[0]), e.scale(high, inverse[0]))
    low = e.add(e.muladd(k, e.number(log_of_two[1]), scaled_low), lost)
    return _finished_log(e, x, e.add(result, low))


def _finished_log(e: FunctionEmitter, x, result):
    """The logarithm's value at 0, infinity, NaN and negative numbers, else the result."""
    result = e.where(e.less(x, e.number(math.inf)), result, x)
    result = e.where(e.equal(x, e.number(0.0)), e.number(-math.inf), result)
    return e.where(e.less(x, e.number(0.0)), e.number(math.nan), result)


def log1p(e: FunctionEmitter, x):
    """Logarithm of one plus x; error below 1 ulp."""
    u = e.add(e.number(1.0), x)
    k, f = split(e, u)
    # What rounding 1 + x lost, relative to u; below 2**-54 in u nothing else is left of x.
    lost = e.where(e.less(e.number(1.0), x), e.sub(e.number(1.0), e.sub(u, x)), e.sub(x, e.sub(u, e.number(1.0))))
    correction = e.where(e.less(u, e.number(math.inf)), e.div(lost, u), e.number(0.0))
    result = _finished_log(e, u, _log_of_parts(e, k, f, correction))
    tiny = e.less(e.abs(x), e.number(2.0**-54))
    return e.where(tiny, x, result)


def tanh(e: FunctionEmitter, x):
    """Hyperbolic tangent; error below 2 ulp."""
    magnitude = e.abs(x)
    z = e.mul(magnitude, magnitude)
    ratio = e.div(e.polynomial(z, TANH_NUMERATOR), e.polynomial(z, TANH_DENOMINATOR))
    near = e.muladd(e.mul(magnitude, z), ratio, magnitude)
    decay = _square_decay(e, x)
    far = e.sub(e.number(1.0), e.div(e.add(decay, decay), e.add(decay, e.number(1.0))))
    return e.copysign(e.where(e.less(magnitude, e.number(0.625)), near, far), x)


def sech2(e: FunctionEmitter, x):
    """Square of the hyperbolic secant, the derivative of the tangent, with all digits where it is tiny; error below 3 ulp."""
    decay = _square_decay(e, x)
    root = e.add(decay, e.number(1.0))
    return e.div(e.scale(decay, 4.0), e.mul(root, root))


def _square_decay(e: FunctionEmitter, x):
    """exp(-2 |x|), which a tangent and its derivative share where they are compiled together."""
    return scaled(e, *reduced_exponential(e, e.scale(e.clamp(e.abs(x), 0.0, 375.0), -2.0)))


def exp_product(e: FunctionEmitter, x, y):
    """exp(x y), without the rounding error of the product; error below 1 ulp."""
    product, lost = e.exact_product(x, y)
    lost = e.where(e.less(e.abs(product), e.number(800.0)), lost, e.number(0.0))
    n, p = reduced_exponential(e, e.clamp(product, -746.0, 710.0))
    return scaled(e, n, e.add(p, e.muladd(lost, p, lost)))


def sinh(e: FunctionEmitter, x):
    """Hyperbolic sine; error below 2 ulp."""
    magnitude = e.abs(x)
    z = e.mul(magnitude, magnitude)
    near = e.muladd(e.mul(magnitude, z), e.polynomial(z, SINH_NEAR), magnitude)
    half = _half_exponential(e, magnitude)
    far = e.sub(half, e.div(e.number(0.25), half))
    return e.copysign(e.where(e.less(magnitude, e.number(1.0)), near, far), x)


def cosh(e: FunctionEmitter, x):
    """Hyperbolic cosine; error below 2 ulp."""
    half = _half_exponential(e, e.abs(x))
    return e.add(half, e.div(e.number(0.25), half))


def _half_exponential(e: FunctionEmitter, x):
    """exp(x) / 2 for x >= 0, which overflows later than exp."""
    n, p = reduced_exponential(e, e.clamp(x, 0.0, 712.0))
    return scaled(e, e.builder.sub(n, e.word(1)), p)


# ---------------------------------------------------------------------- inverse hyperbolic functions

HUGE = 2.0**28
"""From here on x + sqrt(x**2 +- 1) is 2 x."""


def _log_of_one_plus(e: FunctionEmitter, x, low, doubled=None):
    """log(1 + x + low) for a pair of doubles x + low > -1; log(2 x) where `doubled` holds."""
    u, lost = e.exact_sum(e.number(1.0), x)
    lost = e.add(lost, low)
    if doubled is not None:
        u, lost = e.where(doubled, x, u), e.where(doubled, e.number(0.0), lost)
    k, f = split(e, u)
    k = k if doubled is None else e.where(doubled, e.add(k, e.number(1.0)), k)
    return _log_of_parts(e, k, f, e.div(lost, u))


def asinh(e: FunctionEmitter, x):
    """Inverse hyperbolic sine; error below 2 ulp."""
    magnitude = e.abs(x)
    square = e.mul(magnitude, magnitude)
    rest = e.div(square, e.add(e.number(1.0), e.sqrt(e.add(e.number(1.0), square))))
    huge = e.less(e.number(HUGE), magnitude)
    total, low = e.quick_sum(magnitude, rest)
    total, low = e.where(huge, magnitude, total), e.where(huge, e.number(0.0), low)
    result = _log_of_one_plus(e, total, low, huge)
    return e.where(e.is_ordinary(magnitude), e.copysign(result, x), x)


def acosh(e: FunctionEmitter, x):
    """Inverse hyperbolic cosine; error below 2 ulp."""
    t = e.sub(x, e.number(1.0))
    d, d_low = e.exact_sum(t, e.number(2.0))
    product, lost = e.exact_product(t, d)
    root = e.sqrt(product)
    root_low = e.div(e.add(e.residual(root, root, product), e.muladd(t, d_low, lost)), e.add(root, root))
    total, low = e.exact_sum(root, t)
    huge = e.less(e.number(HUGE), x)
    total, low = e.where(huge, x, total), e.where(huge, e.number(0.0), e.add(low, root_low))
    result = e.where(e.less(x, e.number(math.inf)), _log_of_one_plus(e, total, low, huge), x)
    result = e.where(e.equal(x, e.number(1.0)), e.number(0.0), result)
    return e.where(e.less(x, e.number(1.0)), e.number(math.nan), result)


def atanh(e: FunctionEmitter, x):
    """Inverse hyperbolic tangent; error below 2 ulp."""
    magnitude = e.abs(x)
    d, d_low = e.quick_sum(e.number(1.0), e.neg(magnitude))
    twice = e.add(magnitude, magnitude)
    ratio = e.div(twice, d)
    low = e.div(e.sub(e.residual(ratio, d, twice), e.mul(ratio, d_low)), d)
    result = e.scale(_log_of_one_plus(e, ratio, low), 0.5)
    result = e.where(e.equal(magnitude, e.number(1.0)), e.number(math.inf), result)
    result = e.where(e.less(e.number(1.0), magnitude), e.number(math.nan), result)
    tiny = e.less(magnitude, e.number(2.0**-30))
    return e.copysign(e.where(tiny, magnitude, result), x)
