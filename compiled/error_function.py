"""The error function, without branches.

Source: erf(x) = x + x p(x**2) for |x| < 1, else 1 - exp(-x**2) q(t) with t = (|x| - 3) / (|x| + 3); p and q interpolate at
Chebyshev's nodes, computed with mpmath.
"""

from __future__ import annotations

from compiled.emitter import Emitter
from compiled.exponentials import reduced_exponential, scaled

NEAR = (0.1283791670955126, -0.3761263890318375, 0.11283791670954879, -0.026866170645076792, 0.0052239776248180145,
        -0.000854832698083379, 0.0001205533111164271, -1.4925595266831182e-05, 1.6461000484121368e-06,
        -1.6350312701054695e-07, 1.4659775274047436e-08, -1.1372848856791674e-09, 5.957176147748911e-11)
"""erf(x) / x - 1 in x**2 on [0, 1]: absolute error 2**-55."""

FAR = (0.17900115118138996, -0.3262335600430372, 0.24560380171233487, -0.15011593650077898, 0.07166583719747308,
       -0.024392499318915004, 0.004269136356961225, 0.0007077464666941425, -0.0005970624964924544, 4.525434558991009e-05,
       6.406279226046039e-05, -1.2845780030775907e-05, -8.00978093907608e-06, 2.0135111426447427e-06,
       1.2755818949624478e-06, 3.381355142042904e-09)
"""erfc(x) exp(x**2) in (x - 3) / (x + 3) for x in [1, 6]: relative error 2**-52, of what is at most a sixth of the result."""

ONE_FROM = 6.0
"""From here on erf(x) rounds to 1."""


def erf(e: Emitter, x):
    """Error function; error below 2 ulp."""
    magnitude = e.clamp(e.abs(x), 0.0, ONE_FROM)
    z = e.mul(magnitude, magnitude)
    near = e.muladd(magnitude, e.polynomial(z, NEAR), magnitude)
    t = e.div(e.sub(magnitude, e.number(3.0)), e.add(magnitude, e.number(3.0)))
    decay = scaled(e, *reduced_exponential(e, e.neg(z)))
    far = e.sub(e.number(1.0), e.mul(decay, e.polynomial(t, FAR)))
    return e.copysign(e.where(e.less(magnitude, e.number(1.0)), near, far), x)
