"""The remainder of a division of doubles.

Where the quotient is below 2**52, its whole part is found by dividing, at most one too high as division rounds, and a fused
multiply-add gives the remainder of that without rounding error: it is a multiple of the divisor's last place and not larger
than the divisor. All else, which is seldom, is left to C's library.
"""

from __future__ import annotations

from llvmlite import ir
from numba.core import cgutils

from compiled.functions import emitter
from compiled.functions.emitter import F64, FunctionEmitter

MOST = 2.0**52
"""From this quotient on its whole part has bits that a double has not, or is that of an infinity."""


def fmod(e: FunctionEmitter, x, y):
    """Remainder of x / y with the sign of x; exact. There is a branch in it also where code is to be straight."""
    if not emitter.has_fused_multiply_add():
        return e.lane_by_lane(_call, x, y)
    numerator, denominator = e.abs(x), e.abs(y)
    quotient = e.div(numerator, denominator)
    left = e.residual(e.trunc(quotient), denominator, numerator)
    left = e.where(e.less(left, e.number(0.0)), e.add(left, denominator), left)
    left = e.where(e.less(numerator, denominator), numerator, left)  # the denominator may be infinite
    is_large = e.builder.fcmp_ordered(">=", quotient, e.number(MOST))
    branching = FunctionEmitter(e.builder, e.width, straight=False)
    return branching.replaced(is_large, [e.copysign(left, x)], "remainder_of_large", _of_large, x, y)[0]


def _of_large(e, x, y):
    return [e.lane_by_lane(_call, x, y)]


def _call(builder, x, y):
    return builder.call(cgutils.get_or_insert_function(builder.module, ir.FunctionType(F64, [F64, F64]), "fmod"), [x, y])
