"""The error function, its complement, and the normal distribution function, without branches.

Source: erf(x) = x + x p(x**2) for |x| < 1, else 1 - exp(-x**2) q(t) with t = (|x| - 3) / (|x| + 3); p and q interpolate at
Chebyshev's nodes, computed with mpmath. Likewise erfc(x) = exp(-x**2) r(t) / (1 + 2 x) for x > 0, after Shepherd & Laframboise,
"Chebyshev approximation of (1 + 2 x) exp(x**2) erfc(x)", Math. Comp. 36, 1981; the square has two parts, so that the tail is
right to the last place down to underflow.
"""

from __future__ import annotations

import math

from compiled.functions.emitter import FunctionEmitter
from compiled.functions.exponentials import powers_of_two, reduced_exponential, scaled

NEAR = (0.1283791670955126, -0.3761263890318375, 0.11283791670954879, -0.026866170645076792, 0.0052239776248180145,
        -0.000854832698083379, 0.0001205533111164271, -1.4925595266831182e-05, 1.6461000484121368e-06,
        -1.6350312701054695e-07, 1.4659775274047436e-08, -1.1372848856791674e-09, 5.957176147748911e-11)
"""erf(x) / x - 1 in x**2 on [0, 1]: absolute error 2**-55."""

FAR = (0.17900115118138996, -0.3262335600430372, 0.24560380171233487, -0.15011593650077898, 0.07166583719747308,
       -0.024392499318915004, 0.004269136356961225, 0.0007077464666941425, -0.0005970624964924544, 4.525434558991009e-05,
       6.406279226046039e-05, -1.2845780030775907e-05, -8.00978093907608e-06, 2.0135111426447427e-06,
       1.2755818949624478e-06, 3.381355142042904e-09)
"""erfc(x) exp(x**2) in (x - 3) / (x + 3) for x in [1, 6]: relative error 2**-52, of what is at most a sixth of the result."""

TAIL = (1.2530080582697296, -0.1356211061245807, -0.047562294353446374, 0.12964515870270552, -0.11927366341552853,
        0.06830802734580459, -0.02377051491423367, 0.002529391788270445, 0.001888690312003782, -0.0007798320379611115,
        -0.00010515949033775975, 0.00012509815174864322, 4.948147875576539e-06, -2.009663087595395e-05, -7.275875746667183e-07,
        3.463997532352904e-06, 3.4899197889744293e-07, -6.050048623933503e-07, -1.311166137536459e-07, 9.186243026143847e-08,
        3.29163439676632e-08, -8.500119502115306e-09, -4.210104975119195e-09)
"""(1 + 2 x) erfc(x) exp(x**2) in (x - 3) / (x + 3) for x in [0, 28]: relative error 2**-54."""

ZERO_FROM = 28.0
"""From here on erfc(x) is 0; it is subnormal from 26.5 on."""

ONE_FROM = 6.0
"""From here on erf(x) rounds to 1."""


def erf(e: FunctionEmitter, x):
    """Error function; error below 2 ulp."""
    magnitude = e.clamp(e.abs(x), 0.0, ONE_FROM)
    z = e.mul(magnitude, magnitude)
    near = e.muladd(magnitude, e.polynomial(z, NEAR), magnitude)
    t = e.div(e.sub(magnitude, e.number(3.0)), e.add(magnitude, e.number(3.0)))
    decay = scaled(e, *reduced_exponential(e, e.neg(z)))
    far = e.sub(e.number(1.0), e.mul(decay, e.polynomial(t, FAR)))
    return e.copysign(e.where(e.less(magnitude, e.number(1.0)), near, far), x)


def erfc(e: FunctionEmitter, x):
    """Complementary error function; error below 4 ulp, also where it is tiny."""
    u = e.clamp(e.abs(x), 0.0, ZERO_FROM)
    tail = _tail(e, u, *e.exact_product(u, u), 1.0)
    return e.where(e.less(x, e.number(0.0)), e.sub(e.number(2.0), tail), tail)


def ndtr(e: FunctionEmitter, x):
    """Normal distribution function; error below 4 ulp, also where it is tiny."""
    magnitude = e.clamp(e.abs(x), 0.0, ZERO_FROM / math.sqrt(0.5))
    square, lost = e.exact_product(magnitude, magnitude)
    tail = _tail(e, e.scale(magnitude, math.sqrt(0.5)), e.scale(square, 0.5), e.scale(lost, 0.5), 0.5)
    return e.where(e.less(e.number(0.0), x), e.sub(e.number(1.0), tail), tail)


def _tail(e, u, square, lost, factor):
    """`factor` erfc(u) for 0 <= u <= 28, where square + lost is u**2."""
    t = e.div(e.sub(u, e.number(3.0)), e.add(u, e.number(3.0)))
    n, p = reduced_exponential(e, e.neg(square))
    first, second = powers_of_two(e, n)
    ratio = e.div(e.scale(e.polynomial(t, TAIL), factor), e.muladd(e.number(2.0), u, e.number(1.0)))
    ratio = e.muladd(e.neg(lost), ratio, ratio)  # exp(-lost)
    return e.mul(e.mul(e.muladd(p, ratio, ratio), first), second)
