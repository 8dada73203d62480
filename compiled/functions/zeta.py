"""Hurwitz's zeta function, of which the derivatives of the digamma function are multiples.

Source: the Euler-Maclaurin formula, as in Cephes (Moshier, 1995, zeta.c).
"""

from __future__ import annotations

import math

from llvmlite import ir
from numba.core import cgutils

from compiled.functions.emitter import F64, intrinsic

TERMS = (0.08333333333333333, -0.001388888888888889, 3.306878306878307e-05, -8.267195767195768e-07, 2.08767569878681e-08,
         -5.284190138687493e-10, 1.3382536530684679e-11, -3.3896802963225827e-13, 8.586062056277845e-15,
         -2.174868698558062e-16, 5.5090028283602295e-18, -1.3954464685812525e-19)
"""Bernoulli's numbers B(2 j) / (2 j)! from j = 1 on."""

SUMMED_TO = 10.0
"""Powers are added one by one up to this, or up to s beyond it, where the formula's error is below a rounding."""

LEAST = -1e6
"""Below this there are too many terms before the first of a positive number: NaN."""

LARGE = 1e8
"""From here on the formula's first two terms are the sum."""


def body(builder, s, q, power) -> None:
    """Write the function of (s, q) that returns the sum of (q + k)**-s over k >= 0; error below 4 ulp for q > 0.

    `power(builder, x, y)` emits a power. As in SciPy the result is infinite at the poles, and NaN where s < 1, and for q < 0
    with broken s.
    """
    def number(x):
        return ir.Constant(F64, x)

    def where(condition, value):
        with builder.if_then(condition):
            builder.ret(number(value))

    def less(x, y):
        return builder.fcmp_ordered("<", x, y)

    def is_whole(x):
        return builder.fcmp_ordered("==", x, intrinsic(builder, "floor", [x]))

    where(builder.fcmp_ordered("==", s, number(1.0)), math.inf)
    where(less(s, number(1.0)), math.nan)
    where(builder.fcmp_unordered("uno", q, q), math.nan)
    negative = builder.fcmp_ordered("<=", q, number(0.0))
    where(builder.and_(negative, is_whole(q)), math.inf)
    where(builder.and_(negative, builder.or_(less(q, number(LEAST)), builder.not_(is_whole(s)))), math.nan)
    minus_s, s_1 = builder.fneg(s), builder.fsub(s, number(1.0))
    with builder.if_then(less(number(LARGE), q)):
        terms = builder.fadd(builder.fdiv(number(1.0), s_1), builder.fdiv(number(0.5), q))
        builder.ret(builder.fmul(terms, power(builder, q, builder.fneg(s_1))))
    with builder.if_then(builder.fcmp_ordered("==", s, number(math.inf))):
        powers = power(builder, q, minus_s)  # of which SciPy makes the sum 0 / 0 where the first is 0
        builder.ret(builder.select(builder.fcmp_ordered("==", powers, number(0.0)), number(math.nan), powers))
    w, total = _summed(builder, minus_s, q, builder.fadd(s, number(SUMMED_TO)), power)
    builder.ret(_with_tail(builder, s, s_1, w, total, power(builder, w, minus_s)))


def _summed(builder, minus_s, q, stop, power):
    """Add powers of q, q + 1, ... below `stop` while they count; returns the first that is left and the sum."""
    at, total = cgutils.alloca_once_value(builder, q), cgutils.alloca_once_value(builder, ir.Constant(F64, 0.0))
    test, more, done = (builder.append_basic_block(name) for name in ("test", "more", "done"))
    builder.branch(test)
    builder.position_at_end(test)
    builder.cbranch(builder.fcmp_ordered("<", builder.load(at), stop), more, done)
    builder.position_at_end(more)
    w = builder.load(at)
    term = power(builder, w, minus_s)
    new = builder.fadd(builder.load(total), term)
    builder.store(new, total)
    builder.store(builder.fadd(w, ir.Constant(F64, 1.0)), at)
    counts = builder.fcmp_unordered(">", term, builder.fmul(new, ir.Constant(F64, 2.0**-60)))
    negative = builder.fcmp_ordered("<", w, ir.Constant(F64, 0.0))
    builder.cbranch(builder.or_(counts, negative), test, done)
    builder.position_at_end(done)
    return builder.load(at), builder.load(total)


def _with_tail(builder, s, s_1, w, total, b):
    """The sum so far, and the Euler-Maclaurin formula for the powers from b = w**-s on."""
    inverse = builder.fdiv(ir.Constant(F64, 1.0), w)
    z = builder.fmul(inverse, inverse)
    # Terms one by one, from the first: factor = s (s + 1) ... (s + 2 j - 2) / w**(2 j - 1).
    factor, terms = builder.fmul(s, inverse), []
    for j, coefficient in enumerate(TERMS, 1):
        terms.append(builder.fmul(factor, ir.Constant(F64, coefficient)))
        ahead = builder.fmul(builder.fadd(s, ir.Constant(F64, 2.0 * j - 1)), builder.fadd(s, ir.Constant(F64, 2.0 * j)))
        factor = builder.fmul(factor, builder.fmul(ahead, z))
    rest = terms[-1]
    for term in reversed(terms[:-1]):
        rest = builder.fadd(rest, term)
    rest = builder.fadd(rest, ir.Constant(F64, 0.5))
    rest = builder.fadd(builder.fdiv(w, s_1), rest)
    return builder.fadd(total, builder.fmul(b, rest))
