"""Elementary functions as branch-free LLVM code, so that LLVM can turn loops over them into vector instructions.

Everything is computed in double precision, for float32 as well, with multiply-adds where the processor has them. No table,
no branch, no call: plain IR, on every architecture. Subnormals, infinities, NaN and signed zeros come out right; the errors
stated are the largest that `tests/test_elementary.py` finds against mpmath.

Sources: argument reduction and the polynomial of the logarithm after FDLIBM (Sun Microsystems, 1993, e_exp.c, e_log.c,
s_log1p.c, s_expm1.c); the tangent near 0 after Cephes (Moshier, 1995, tanh.c); Taylor coefficients for the exponential.
"""

from __future__ import annotations

import math

from llvmlite import ir

F64, I64 = ir.DoubleType(), ir.IntType(64)

LOG2_HIGH = float.fromhex("0x1.62e42fee00000p-1")
LOG2_LOW = float.fromhex("0x1.a39ef35793c76p-33")
"""ln 2 in two parts: products of the first with whole numbers up to 2**20 are exact."""

ROUNDING = 1.5 * 2.0**52
"""Adding this to a number below 2**51 leaves its nearest whole number in the low bits."""

LOG_POLYNOMIAL = (6.666666666666735130e-01, 3.999999999940941908e-01, 2.857142874366239149e-01, 2.222219843214978396e-01,
                  1.818357216161805012e-01, 1.531383769920937332e-01, 1.479819860511658591e-01)
"""FDLIBM's Lg1 to Lg7."""

TANH_NUMERATOR = (-1.61468768441708447952e3, -9.92877231001918586564e1, -9.64399179425052238628e-1)
TANH_DENOMINATOR = (4.84406305325125486048e3, 2.23548839060100448583e3, 1.12811678491632931402e2, 1.0)
"""Cephes' rational approximation of (tanh(x) - x) / x**3 in x**2, for |x| < 0.625."""


class _Emitter:
    """Short names for the instructions that the functions below are made of."""

    def __init__(self, builder):
        self.builder = builder

    @staticmethod
    def number(x):
        return ir.Constant(F64, float(x))

    @staticmethod
    def word(x):
        return ir.Constant(I64, x)

    def add(self, x, y):
        return self.builder.fadd(x, y)

    def sub(self, x, y):
        return self.builder.fsub(x, y)

    def mul(self, x, y):
        return self.builder.fmul(x, y)

    def div(self, x, y):
        return self.builder.fdiv(x, y)

    def muladd(self, x, y, z):
        """x y + z, fused where the processor can."""
        function = self.builder.module.declare_intrinsic("llvm.fmuladd", [F64], ir.FunctionType(F64, [F64] * 3))
        return self.builder.call(function, [x, y, z])

    def abs(self, x):
        function = self.builder.module.declare_intrinsic("llvm.fabs", [F64], ir.FunctionType(F64, [F64]))
        return self.builder.call(function, [x])

    def copysign(self, x, y):
        function = self.builder.module.declare_intrinsic("llvm.copysign", [F64], ir.FunctionType(F64, [F64] * 2))
        return self.builder.call(function, [x, y])

    def less(self, x, y):
        return self.builder.fcmp_ordered("<", x, y)

    def equal(self, x, y):
        return self.builder.fcmp_ordered("==", x, y)

    def where(self, condition, x, y):
        return self.builder.select(condition, x, y)

    def bits(self, x):
        return self.builder.bitcast(x, I64)

    def float(self, word):
        return self.builder.bitcast(word, F64)

    def polynomial(self, x, coefficients):
        """Horner's rule; coefficients from the constant one up."""
        result = self.number(coefficients[-1])
        for c in reversed(coefficients[:-1]):
            result = self.muladd(result, x, self.number(c))
        return result

    def clamp(self, x, low, high):
        """x in [low, high]; NaN stays."""
        x = self.where(self.less(x, self.number(low)), self.number(low), x)
        return self.where(self.less(self.number(high), x), self.number(high), x)

    def whole(self, n):
        """A double whose low bits hold the integer n as a double: the inverse of adding ROUNDING."""
        return self.sub(self.float(self.builder.add(n, self.bits(self.number(ROUNDING)))), self.number(ROUNDING))


def _reduced_exponential(e: _Emitter, x):
    """Return (n, p) with exp(x) = 2**n (1 + p), n an integer word, |x - n ln 2| <= 0.35."""
    shifted = e.muladd(x, e.number(1 / math.log(2.0)), e.number(ROUNDING))
    n = e.builder.sub(e.bits(shifted), e.bits(e.number(ROUNDING)))
    whole = e.sub(shifted, e.number(ROUNDING))
    r = e.muladd(whole, e.number(-LOG2_HIGH), x)
    r = e.muladd(whole, e.number(-LOG2_LOW), r)
    tail = e.polynomial(r, [1 / math.factorial(k) for k in range(2, 14)])
    return n, e.muladd(e.mul(r, r), tail, r)


def _power_of_two(e: _Emitter, n):
    """2**n as a double, for -1022 <= n <= 1023."""
    return e.float(e.builder.shl(e.builder.add(n, e.word(1023)), e.word(52)))


def exp(e: _Emitter, x):
    """Exponential; error below 1 ulp."""
    n, p = _reduced_exponential(e, e.clamp(x, -746.0, 710.0))
    half = e.builder.ashr(n, e.word(1))
    rest = e.builder.sub(n, half)
    scaled = e.muladd(p, _power_of_two(e, half), _power_of_two(e, half))
    return e.mul(scaled, _power_of_two(e, rest))


def expm1(e: _Emitter, x):
    """Exponential minus one; error below 2 ulp."""
    n, p = _reduced_exponential(e, e.clamp(x, -50.0, 710.0))
    half = e.builder.ashr(n, e.word(1))
    first, second = _power_of_two(e, half), _power_of_two(e, e.builder.sub(n, half))
    # 2**n (1 + p) - 1 = 2**half ((2**rest - 2**-half) + 2**rest p): no part overflows before the result does.
    inverse = _power_of_two(e, e.builder.sub(e.word(0), half))
    result = e.mul(first, e.muladd(second, p, e.sub(second, inverse)))
    return e.where(e.equal(x, e.number(0.0)), x, result)


def log(e: _Emitter, x):
    """Natural logarithm; error below 1 ulp."""
    k, f = _split(e, x)
    return _finished_log(e, x, _log_of_parts(e, k, f, e.number(0.0)))


def _split(e: _Emitter, x):
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


def _log_of_parts(e: _Emitter, k, f, correction):
    """k ln 2 + log(1 + f) + correction, after FDLIBM."""
    s = e.div(f, e.add(e.number(2.0), f))
    z = e.mul(s, s)
    r = e.mul(z, e.polynomial(z, LOG_POLYNOMIAL))
    half_square = e.mul(e.mul(e.number(0.5), f), f)
    low = e.add(e.muladd(k, e.number(LOG2_LOW), correction), e.mul(s, e.add(half_square, r)))
    return e.add(e.mul(k, e.number(LOG2_HIGH)), e.sub(f, e.sub(half_square, low)))


def _finished_log(e: _Emitter, x, result):
    """The logarithm's value at 0, infinity, NaN and negative numbers, else the result."""
    result = e.where(e.less(x, e.number(math.inf)), result, x)
    result = e.where(e.equal(x, e.number(0.0)), e.number(-math.inf), result)
    return e.where(e.less(x, e.number(0.0)), e.number(math.nan), result)


def log1p(e: _Emitter, x):
    """Logarithm of one plus x; error below 1 ulp."""
    u = e.add(e.number(1.0), x)
    k, f = _split(e, u)
    # What rounding 1 + x lost, relative to u; below 2**-54 in u nothing else is left of x.
    lost = e.where(e.less(e.number(1.0), x), e.sub(e.number(1.0), e.sub(u, x)), e.sub(x, e.sub(u, e.number(1.0))))
    correction = e.where(e.less(u, e.number(math.inf)), e.div(lost, u), e.number(0.0))
    result = _finished_log(e, u, _log_of_parts(e, k, f, correction))
    tiny = e.less(e.abs(x), e.number(2.0**-54))
    return e.where(tiny, x, result)


def tanh(e: _Emitter, x):
    """Hyperbolic tangent; error below 2 ulp."""
    magnitude = e.clamp(e.abs(x), 0.0, 22.0)
    z = e.mul(magnitude, magnitude)
    ratio = e.div(e.polynomial(z, TANH_NUMERATOR), e.polynomial(z, TANH_DENOMINATOR))
    near = e.muladd(e.mul(magnitude, z), ratio, magnitude)
    grown = exp(e, e.mul(e.number(2.0), magnitude))
    far = e.sub(e.number(1.0), e.div(e.number(2.0), e.add(grown, e.number(1.0))))
    return e.copysign(e.where(e.less(magnitude, e.number(0.625)), near, far), x)


FUNCTIONS = {"exp": exp, "expm1": expm1, "log": log, "log1p": log1p, "tanh": tanh}


def emit(builder, name: str, values):
    """Emit the function `name` of one value, float or double, at the builder's position."""
    (x,) = values
    single = isinstance(x.type, ir.FloatType)
    result = FUNCTIONS[name](_Emitter(builder), builder.fpext(x, F64) if single else x)
    return builder.fptrunc(result, x.type) if single else result
