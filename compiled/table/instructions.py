"""The instruction set: one table, one row an instruction; position is the opcode.

What is here: the rows, with the rules for values and local partials written once, over the table's own functions.
What is not: how rules are read (floats below, LLVM values in `llvm.py`, recorded arrays in `tape.transforms`) and the
structural instructions (`structural/`).

A rule is a Python function of numbers. It uses `+ - * /`, unary minus and the functions of `f`, so that the set is
closed under differentiation: whoever can read a value rule can read a partial rule, and differentiate it again.

Conventions that hold for every row: comparisons give 1.0 or 0.0; an adjoint (or tangent) of exactly zero contributes
nothing, even through an infinite partial, and none contributes through a partial of exactly zero, even an infinite one
(`adjoint_product` below); where the value is NaN, so is the partial, but for sums, products, quotients and what is chosen,
whose partials are their operands' as IEEE arithmetic has them. Where a partial has a limit at infinity it is that limit.

Zero times infinity has to be the same from either side, or forward and reverse mode would differ: the one multiplies the
partials of a path from its beginning, the other from its end. An adjoint of zero must contribute nothing, as a branch that is
not taken has one, and so must a tangent of zero, as all arguments but one have it in a column of a Jacobian. So a path with a
zero in it contributes nothing, wherever the zero stands.
"""

from __future__ import annotations

import dataclasses
import fractions
import hashlib
import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np

from compiled.functions import special, zeta
from compiled.table.fingerprints import code_content
from compiled.table.numbers import Number, is_constant
from compiled.table.structural.rows import STRUCTURAL_ROWS


@dataclasses.dataclass(frozen=True)
class Row:
    """One elementwise instruction.

    Parameters
    ----------
    name : str
        As it stands in the text form of a list and in `f`.
    arity : int
        Number of operands, 0 to 3.
    value : callable
        `value(*operands)`. A primitive row (one with `llvm`) takes and returns NumPy float scalars; a composite row
        is generic.
    partials : tuple of callable or None
        One an operand: `partial(*operands, out)`, generic; None where the derivative is zero everywhere it exists;
        `undefined` where no rule is known.
    llvm : str, optional
        For a primitive row: how `llvm.py` emits it.
    numpy : tuple of str
        Names of the NumPy or `scipy.special` ufuncs that record this row.
    kind : str
        NumPy kind of the result: "float" (computed in the list's dtype), "bool", or "same" (as NumPy promotes).
    kinks : str
        Where value or derivative is special, and the convention taken.
    at_kink : tuple of callable or None
        One an operand: `at_kink(*operands, out)`, generic, is not 0 where the value has a bend or a jump along that operand, so
        that the partial is a convention. (Where it is infinite or does not exist, the partial itself says so.) Left out
        where there is none.
    exact : callable, optional
        `exact(mp, *operands)`: the value in the arithmetic of an mpmath context, for the tests; None for exact arithmetic.
    domain : tuple of (float, float)
        For each operand the interval in which the tests draw ordinary points.
    source : str
        Where the formula comes from.
    accumulates : bool
        The instruction adds its value to its output cells instead of setting them.
    selects : tuple of int
        Operands of which one or another is taken, and whose partial of zero says that it is not: nothing is lost through it.
    singular : bool
        There are finite operands with a finite value at which a partial is infinite.
    overwrites : bool
        The output cells held other values before, which operand 1 has kept; the reverse sweep puts them back.
    """

    name: str
    arity: int
    value: Callable
    partials: tuple[Callable | None, ...]
    llvm: str | None = None
    numpy: tuple[str, ...] = ()
    kind: str = "float"
    kinks: str = ""
    exact: Callable | None = None
    domain: tuple[tuple[float, float], ...] = ()
    source: str = "elementary calculus"
    accumulates: bool = False
    overwrites: bool = False
    selects: tuple[int, ...] = ()
    singular: bool = False
    at_kink: tuple[Callable | None, ...] = ()

    structural, output = False, True

    def fingerprint(self) -> bytes:
        """Bytes that change when a rule of the row does."""
        rules = [code_content(rule) for rule in (self.value, *self.partials)]
        return repr((self.name, self.arity, self.llvm, self.accumulates, self.overwrites, rules)).encode()


class Table:
    """An instruction set: the rows in the order of their opcodes.

    Parameters
    ----------
    rows : iterable of Row or structural.row.StructuralRow
        Position is the opcode.

    Examples
    --------
    >>> from compiled.table.instructions import TABLE
    >>> TABLE["mul"].arity, TABLE.opcode["mul"] == TABLE.rows.index(TABLE["mul"])
    (2, True)
    """

    def __init__(self, rows):
        self.rows = tuple(rows)
        self.opcode = {row.name: i for i, row in enumerate(self.rows)}
        self.by_name = {row.name: row for row in self.rows}
        if len(self.opcode) != len(self.rows):
            raise ValueError("two rows of the table have the same name")
        self.singular = np.array([not row.structural and row.singular for row in self.rows])  # by opcode
        self.ufuncs = {ufunc: row.name for row in self.rows for ufunc in row.numpy}
        self._digest: str | None = None

    def __getitem__(self, name: str):
        return self.by_name[name]

    def __len__(self) -> int:
        return len(self.rows)

    def __reduce__(self):
        if self is not TABLE:
            raise pickle.PicklingError("an instruction set other than the project's is not pickled, nor is a list written in "
                                       "it: its rules are functions")
        return "TABLE"

    def extended(self, *rows) -> Table:
        """Return a new table with `rows` after those of this one."""
        return Table(self.rows + rows)

    def digest(self) -> str:
        """Hexadecimal hash of names, order and rules; part of the key of every kernel cached on disk."""
        if self._digest is None:  # each compiled list asks for it, and rows never change
            self._digest = hashlib.sha256(b"\n".join(row.fingerprint() for row in self.rows)).hexdigest()
        return self._digest

    def apply(self, name: str, *operands):
        """Apply instruction `name` to numbers of any reader; plain floats are computed at once."""
        for operand in operands:
            if isinstance(operand, Number):
                return operand.apply(name, operands)
        row = self[name]
        with np.errstate(all="ignore"):
            return row.value(*(np.float64(x) if not isinstance(x, np.floating) else x for x in operands))


class _Functions:
    """The table's functions as attributes: `f.exp(x)` for numbers of any reader."""

    def __getattr__(self, name: str):
        def function(*operands):
            return TABLE.apply(name, *operands)

        function.__name__ = name
        setattr(self, name, function)
        return function


f: Any = _Functions()

ANY = (-3.0, 3.0)
POSITIVE = (0.1, 4.0)
UNIT = (-0.9, 0.9)


def _bool(function: Callable) -> Callable:
    """The float scalar 1 or 0 of a Python comparison, in the operands' precision."""
    return lambda *operands: type(operands[0])(function(*operands))


def _float(function: Callable) -> Callable:
    """`function` of Python floats, in the operands' precision."""
    return lambda *operands: type(operands[0])(function(*(float(x) for x in operands)))


def _nan_with(out, partial):
    """`partial`, or NaN where `out` is NaN."""
    return f.where(f.eq(out, out), partial, out)


def undefined(*_):
    """The partial to an operand for which there is no rule: NaN, wherever it is not refused beforehand."""
    return math.nan


def _zeta(s, x):
    return special.value("_zeta")(s, x) if not x < zeta.LEAST or x == np.floor(x) else type(x)(math.nan)


def _on_either_side(condition, x, taken, other, point):
    """`taken(x)` where the condition holds, else `other(x)`.

    Each is computed at `point` where it is not chosen, as derivatives of an infinity that is not chosen are NaN from some
    order on.
    """
    return f.where(condition, taken(f.where(condition, x, point)), other(f.where(condition, point, x)))


def _chosen(condition, taken, other):
    """`taken()` where the condition holds, else `other()`; of a condition that is a plain number only what it asks for."""
    if is_constant(condition):
        return taken() if condition else other()
    return f.where(condition, taken(), other())


def _in_double(function):
    """A value rule whose intermediate results have double precision, whatever the precision of its operands."""
    def value(*operands):
        for x in operands:
            if isinstance(x, Number):
                return x.in_double(function, operands)
        return type(operands[0])(function(*map(np.float64, operands)))

    return value


def _power_slope(x, y, out):
    """Partial of x**y to x. For small y from the value, as y - 1 would lose digits of y that count."""
    def by_value():
        ordinary = f.lt(0.0, f.abs(x)) * f.lt(f.abs(x), math.inf)
        return f.where(ordinary, y * out / f.where(ordinary, x, 1.0), by_power())

    def by_power():
        return _chosen(f.eq(y, 0.0), lambda: 0.0, lambda: _limited_product(f.pow(x, y - 1.0), y))

    return _nan_with(out, _chosen(f.lt(f.abs(y), 0.5), by_value, by_power))


def _power_slope_of_exponent(x, y, out):
    """Partial of x**y to y."""
    at_zero = f.where(f.lt(y, 0.0), -f.div(1.0, x * x), 0.0)
    vanishes = f.eq(out, 0.0) * f.lt(0.0, x)
    return _nan_with(out, f.where(f.eq(x, 0.0), at_zero, f.where(vanishes, 0.0, out * f.log(x))))


def _limited_product(x, y):
    """x times y, 0 where x is 0 and y infinite; with y known to be finite a product."""
    return x * y if is_constant(y) and math.isfinite(y) else f.adjoint_product(x, y)


def _inverse_of_one_and_square(x):
    """1 / (1 + x**2), also where the square overflows."""
    far = f.lt(LARGE_SQUARE_ROOT, f.abs(x))
    inverse = 1.0 / f.where(far, x, 1.0 + x * x)
    return f.where(far, inverse * inverse, inverse)


LARGE_SQUARE_ROOT = 2.0**30
"""From here on 1 + x**2 rounds to x**2, in single and in double precision."""


def _ratio_to_length(x, y, length):
    """x / hypot(x, y), with its limit where x is infinite and y is not; 0 at the origin."""
    ratio = f.where(f.eq(length, 0.0), 0.0, x / length)
    return f.where(f.eq(f.abs(x), math.inf), f.sign(x) + 0.0 * y, ratio)


def _angle_slope(across, x, y, out):
    """`across` / (x**2 + y**2), for across = x or -y."""
    length = f.hypot(x, y)
    return _nan_with(out, f.where(f.eq(length, math.inf), 0.0, across / length / length))


def _logistic(x, y):
    """1 / (1 + exp(y - x)), with what rounding x - y lost."""
    difference = x - y
    back = difference - x
    lost = (x - (difference - back)) - (y + back)
    lost = f.where(f.lt(f.abs(difference), math.inf), f.where(f.lt(difference, 0.0), lost, -lost), 0.0)
    decay = f.exp(-f.abs(difference)) * (1.0 + lost)
    return f.where(f.lt(difference, 0.0), decay, 1.0) / (1.0 + decay)


def _exp_product(x, y):
    """exp(x y) of Python's floats, with what rounding the product lost."""
    product = x * y
    if not abs(product) < 800.0:
        return np.exp(product)
    lost = fractions.Fraction(x) * fractions.Fraction(y) - fractions.Fraction(product)
    return np.exp(product) * (1.0 + float(lost))


def _sech2(x):
    """1 / cosh(x)**2 of Python's floats."""
    decay = math.exp(-2.0 * abs(x))
    return 4.0 * decay / ((1.0 + decay) * (1.0 + decay))


def _bell(x, factor, exponent=-1.0):
    """factor exp(exponent x**2), without the rounding error of the square."""
    return factor * f.exp_product(x, exponent * x)


def _log_ndtr_slope(x, out):
    """The density over the distribution function."""
    def left(x):
        return math.sqrt(2.0 / math.pi) / f.erfcx(-math.sqrt(0.5) * x)

    def right(x):
        return _bell(x, math.sqrt(0.5 / math.pi), -0.5) / f.ndtr(x)

    return _nan_with(out, _on_either_side(f.lt(x, 0.0), x, left, right, 0.0))


def _erfcx_slope(x, _):
    """2 x erfcx(x) - 2 / sqrt(pi); its asymptotic series where the difference cancels (Abramowitz & Stegun 7.1.23)."""
    def far(x):
        inverse = 1.0 / x
        z = -0.5 * (inverse * inverse)
        result = 1.0
        for k in range(2 * ERFCX_TERMS - 1, 1, -2):
            result = 1.0 + k * (z * result)
        return 2.0 / math.sqrt(math.pi) * (z * result)

    def near(x):
        return 2.0 * (x * f.erfcx(x)) - 2.0 / math.sqrt(math.pi)

    return _on_either_side(f.lt(ERFCX_FAR, x), x, far, near, ERFCX_FAR)


ERFCX_FAR, ERFCX_TERMS = 8.0, 24


def _quantile_slope(out, factor, exponent, tail, scale):
    """factor exp(exponent out**2); where `tail`, the probability beyond |out| as erfc has it, is small, from that."""
    far = f.lt(tail, 0.5)
    by_tail = f.where(f.eq(tail, 0.0), factor * math.inf, factor * f.erfcx(scale * f.abs(out)) / f.where(far, tail, 1.0))
    return _nan_with(out, f.where(far, by_tail, _bell(f.where(far, 0.0, out), factor, exponent)))


def _digamma_rise(a, b):
    """digamma(a + b) - digamma(a) without cancellation for positive a and a + b, as a sum of positive terms; else by itself."""
    positive = f.lt(0.0, a) * f.lt(0.0, a + b)
    low, step = f.where(positive, a, 1.0), f.where(positive, b, 1.0)
    high = low + step
    total = 0.0
    for k in range(DIGAMMA_STEPS):
        total = total + (step / (low + float(k))) / (high + float(k))
    # From there on by the asymptotic series (Abramowitz & Stegun 6.3.18), each difference as a product.
    low, high = low + float(DIGAMMA_STEPS), high + float(DIGAMMA_STEPS)
    u, v = 1.0 / low, 1.0 / high
    z, w = u * u, v * v
    gap = step * u * v
    powers, latest, series = 1.0, 1.0, DIGAMMA_SERIES[0]  # `powers` is (z**k - w**k) / (z - w)
    for coefficient in DIGAMMA_SERIES[1:]:
        latest = latest * w
        powers = powers * z + latest
        series = series + coefficient * powers
    grown = f.where(f.lt(step, low), f.log1p(f.where(f.lt(step, low), step, 0.0) * u), f.log(high) - f.log(low))
    rise = total + (grown + gap * (0.5 + (u + v) * series))
    return f.where(positive, rise, f.digamma(a + b) - f.digamma(a))


DIGAMMA_STEPS = 10
DIGAMMA_SERIES = (1 / 12, -1 / 120, 1 / 252, -1 / 240, 1 / 132, -691 / 32760, 1 / 12)


def _gamma_density(a, x):
    """x**(a - 1) exp(-x) / gamma(a); for large a by Stirling's formula and the distance of x from a."""
    large = f.lt(GAMMA_LARGE, a)
    x_far = f.where(f.lt(x, math.inf), f.where(large, x, 1.0), 1.0)
    a_far = f.where(large, a, GAMMA_LARGE)
    offset = (x_far - a_far) / a_far
    central = f.lt(f.abs(offset), 0.5)
    logarithm = f.where(central, f.log1p(f.where(central, offset, 0.0)), f.log(x_far / a_far))
    exponent = -(a_far * (offset - logarithm)) - _stirling_error(a_far)
    far = f.sqrt(a_far) * math.sqrt(0.5 / math.pi) * f.exp(exponent) / x_far
    half = f.exp(-0.5 * x)
    power = f.pow(x, f.where(large, 0.0, a - 1.0))
    near = f.adjoint_product(half, f.adjoint_product(half * f.rgamma(a), power))
    return f.where(f.eq(a + x, a + x), f.where(f.lt(x, math.inf), f.where(large, f.where(f.eq(x, 0.0), 0.0, far), near), 0.0),
                   math.nan)


GAMMA_LARGE = 15.0


def _stirling_error(a):
    """log(gamma(a)) - (a - 1/2) log(a) + a - log(2 pi) / 2 for a >= 10 (Abramowitz & Stegun 6.1.41)."""
    inverse = 1.0 / a
    z = inverse * inverse
    series = 0.0
    for coefficient in (1 / 156, -691 / 360360, 1 / 1188, -1 / 1680, 1 / 1260, -1 / 360, 1 / 12):
        series = series * z + coefficient
    return series * inverse


def _beta_density(a, b, x):
    """x**(a - 1) (1 - x)**(b - 1) / beta(a, b)."""
    def by_powers():
        powers = f.adjoint_product(f.pow(x, a - 1.0), f.pow(1.0 - x, b - 1.0))
        return f.adjoint_product(1.0 / f.beta(a, b), powers)

    by_logarithms = f.exp(f.xlogy(a - 1.0, x) + f.xlog1py(b - 1.0, -x) - f.betaln(a, b))
    return f.where(f.lt(a + b, 200.0), by_powers(), by_logarithms)


def _i1_slope(x, out):
    """Derivative of the modified Bessel function of order 1; near 0 by its Taylor polynomial (DLMF 10.25.2)."""
    def near(x):
        z, result = 0.25 * (x * x), 0.0
        for k in range(I1_TERMS, -1, -1):
            result = result * z + (2 * k + 1) / (2.0 * math.factorial(k) * math.factorial(k + 1))
        return result

    return _on_either_side(f.lt(f.abs(x), 1.0), x, near, lambda x: 0.5 * (f.i0(x) + f.iv(2.0, x)), 1.0)


I1_TERMS = 9


def _scaled_bessel_slope(v, x, near):
    """Derivative of exp(-|x|) I_v(x); by `near`, or far to the right by the asymptotic expansion (DLMF 10.40.1)."""
    def far(x):
        inverse = 1.0 / x
        term, total = 1.0, 0.5
        for k in range(1, BESSEL_TERMS):
            term = term * ((2.0 * k - 1.0) * (2.0 * k - 1.0) - 4.0 * (v * v)) * (inverse / (8.0 * k))
            total = total + (k + 0.5) * term
        return -math.sqrt(0.5 / math.pi) * f.sqrt(inverse) * inverse * total

    is_far = f.lt(BESSEL_FAR, x) * f.lt(v * v, x)
    return _on_either_side(is_far, x, far, near, BESSEL_FAR)


BESSEL_FAR, BESSEL_TERMS = 40.0, 24


def _log_of_ratio(x, y):
    """log(x / y), also where the quotient overflows or underflows."""
    ratio = x / y
    ordinary = f.lt(SMALL, ratio) * f.lt(ratio, 1.0 / SMALL)
    return f.where(ordinary, f.log(f.where(ordinary, ratio, 1.0)), f.log(x) - f.log(y))


SMALL = 2.0**-100


def _rgamma_slope(x, out):
    """Derivative of the reciprocal of the gamma function; left of 1/2 by reflection, which holds at its zeros."""
    def reflected(x):
        return f.gamma(1.0 - x) * (f.cos(math.pi * x) - f.sin(math.pi * x) * f.digamma(1.0 - x) / math.pi)

    return _on_either_side(f.lt(x, 0.5), x, reflected, lambda x: f.adjoint_product(out, -f.digamma(x)), 0.5)


def _exprel_slope(x, out):
    """Derivative of (exp(x) - 1) / x; near 0 its Taylor polynomial, whose own derivatives hold there."""
    def near(x):
        result = 1.0 / (math.factorial(EXPREL_TERMS) * (EXPREL_TERMS + 2))
        for k in range(EXPREL_TERMS - 1, -1, -1):
            result = result * x + 1.0 / (math.factorial(k) * (k + 2))
        return result

    def far(x):
        return f.where(f.lt(x, 0.0), (f.exp(x) - out) / x, out * (1.0 - 1.0 / x) + 1.0 / x)

    return _nan_with(out, _on_either_side(f.lt(f.abs(x), 1.0), x, near, far, 1.0))


EXPREL_TERMS = 20


def _with_sign_of(remainder, y):
    """The remainder moved to the side of zero that `y` is on, as Python takes it."""
    moved = f.where(f.eq(f.lt(y, 0.0), f.lt(remainder, 0.0)), remainder, remainder + y)
    return f.where(f.eq(remainder, 0.0), f.where(f.lt(y, 0.0), -0.0, 0.0), moved)


def _floor_quotient(x, y):
    """x // y as NumPy takes it: of the remainder, which is exact, so that it never exceeds the quotient."""
    remainder = f.fmod(x, y)
    quotient = (x - remainder) / y
    below = f.ne(remainder, 0.0) * f.ne(f.lt(y, 0.0), f.lt(remainder, 0.0))
    quotient = f.where(below, quotient - 1.0, quotient)
    whole = f.floor(quotient)
    whole = f.where(f.lt(0.5, quotient - whole), whole + 1.0, whole)
    whole = f.where(f.eq(quotient, 0.0), f.copysign(0.0, x / y), whole)
    return f.where(f.eq(y, 0.0), x / y, whole)


def _at_origin(x, y, out):
    return f.eq(out, 0.0)


def _at_multiple(x, y, out):
    """Whether a remainder is zero because x is some steps of y away from 0."""
    return f.eq(out, 0.0) * f.ne(x, 0.0)


def _at_tie(x, y, out):
    return f.eq(x, y)


def uniform_bits(seed: int, index: int) -> float:
    """The number in [0, 1) that belongs to (seed, index): 53 bits of two rounds of SplitMix64.

    Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014; constants of the
    published C code. Counter-based: no state, so the result does not depend on order or threads.
    """
    mask = (1 << 64) - 1

    def mix(z: int) -> int:
        z = (z + 0x9E3779B97F4A7C15) & mask
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        return z ^ (z >> 31)

    return (mix(mix(seed & mask) ^ (index & mask)) >> 11) * 2.0**-53


def _uniform(seed, index):
    # Rounding 53 bits to single precision could give 1.0, so float32 keeps 24 bits.
    bits = uniform_bits(int(seed), int(index))
    return type(seed)(math.floor(bits * 2.0**24) * 2.0**-24 if isinstance(seed, np.float32) else bits)


ROWS = (
    # ------------------------------------------------------------------ moving data
    Row("zero", 0, lambda: 0.0, (), kind="same", source="initialises cells that others add to"),
    Row("copy", 1, lambda x: x, (lambda x, o: 1.0,), numpy=("positive",), kind="same", domain=(ANY,)),
    Row("stop", 1, lambda x: x, (None,), kind="same", domain=(ANY,), source="a copy that is a constant to derivatives"),
    Row("accumulate", 1, lambda x: x, (lambda x, o: 1.0,), kind="same", accumulates=True, domain=(ANY,)),
    Row("accumulate_product", 2, lambda x, y: x * y, (lambda x, y, o: y, lambda x, y, o: x), kind="same", accumulates=True,
        domain=(ANY, ANY)),
    Row("assign", 2, lambda x, saved: x, (lambda x, saved, o: 1.0, None), kind="same", overwrites=True, domain=(ANY, ANY)),
    # ------------------------------------------------------------------ arithmetic
    Row("add", 2, np.add, (lambda x, y, o: 1.0, lambda x, y, o: 1.0), "fadd", ("add",), "same", domain=(ANY, ANY)),
    Row("sub", 2, np.subtract, (lambda x, y, o: 1.0, lambda x, y, o: -1.0), "fsub", ("subtract",), "same", domain=(ANY, ANY)),
    Row("mul", 2, np.multiply, (lambda x, y, o: y, lambda x, y, o: x), "fmul", ("multiply",), "same", domain=(ANY, ANY)),
    Row("div", 2, np.divide, (lambda x, y, o: 1.0 / y, lambda x, y, o: -o / y), "fdiv", ("divide", "true_divide"),
        domain=(ANY, POSITIVE), kinks="y = 0: IEEE infinities and NaN"),
    Row("neg", 1, np.negative, (lambda x, o: -1.0,), "fneg", ("negative",), "same", domain=(ANY,)),
    Row("adjoint_product", 2, lambda g, p: f.where(f.eq(g, 0.0), 0.0, f.where(f.eq(p, 0.0), 0.0, g * p)),
        (lambda g, p, o: p, lambda g, p, o: g), domain=(POSITIVE, ANY),
        kinks="g = 0 or p = 0: nothing, even where the other is infinite or NaN"),
    Row("square", 1, lambda x: x * x, (lambda x, o: x + x,), numpy=("square",), kind="same", domain=(ANY,)),
    Row("reciprocal", 1, lambda x: 1.0 / x, (lambda x, o: -(o * o),), numpy=("reciprocal",), domain=(POSITIVE,),
        kinks="x = 0: infinite"),
    Row("sqrt", 1, np.sqrt, (lambda x, o: 0.5 / (o + 0.0),), "intrinsic:sqrt", ("sqrt",), domain=(POSITIVE,),
        exact=lambda mp, x: mp.sqrt(x), kinks="x = 0: the partial is +inf", singular=True),
    Row("root_of_squares", 1, lambda x: f.sqrt(x), (lambda x, o: f.where(f.eq(o, 0.0), 0.0, 0.5 / o),),
        domain=(POSITIVE,), exact=lambda mp, x: mp.sqrt(x),
        kinks="x = 0: the partial is 0, so that a norm has the subgradient 0 at the origin",
        at_kink=(lambda x, o: f.eq(x, 0.0),)),
    Row("square_of_root", 1, lambda x: f.square(f.sqrt(x)), (lambda x, o: _nan_with(o, 1.0),), domain=(POSITIVE,),
        exact=lambda mp, x: x, source="the square of a square root, of which the root's partial at 0 leaves nothing"),
    Row("pow", 2, np.power,
        (_power_slope, _power_slope_of_exponent),
        "elementary:pow", ("power", "float_power"), "same", domain=(POSITIVE, ANY), exact=lambda mp, x, y: mp.power(x, y),
        kinks="y = 0: partial to x is 0, even at x = 0; x = 0: partial to y is 0 for y >= 0, -inf for y < 0; x < 0: it is NaN",
        at_kink=(None, lambda x, y, o: f.eq(x, 0.0) * f.eq(y, 0.0)), singular=True),
    # ------------------------------------------------------------------ exponentials and logarithms
    Row("exp", 1, np.exp, (lambda x, o: o,), "elementary:exp", ("exp",), domain=(ANY,), exact=lambda mp, x: mp.exp(x)),
    Row("expm1", 1, np.expm1, (lambda x, o: f.exp(x),), "elementary:expm1", ("expm1",), domain=(ANY,),
        exact=lambda mp, x: mp.expm1(x)),
    Row("log", 1, np.log, (lambda x, o: f.log_slope(x, math.inf),), "elementary:log", ("log",), domain=(POSITIVE,),
        exact=lambda mp, x: mp.log(x), kinks="x = 0: value -inf, partial +inf; x < 0: value NaN"),
    Row("log_of_sum", 1, lambda x: f.log(x), (lambda x, o: f.log_slope(x, 0.0),),
        domain=(POSITIVE,), exact=lambda mp, x: mp.log(x),
        kinks="x = 0: value -inf, partial 0, as of a sum of exponentials of which none is left; x < 0: value NaN"),
    Row("log1p", 1, np.log1p, (lambda x, o: f.log_slope(1.0 + x, math.inf),), "elementary:log1p", ("log1p",),
        domain=(POSITIVE,), exact=lambda mp, x: mp.log1p(x), kinks="x = -1: value -inf, partial +inf"),
    Row("logaddexp", 2,
        lambda x, y: f.where(f.eq(x, y), x + math.log(2.0), f.max(x, y) + f.log1p(f.exp(-f.abs(x - y)))),
        (lambda x, y, o: _nan_with(o, f.where(f.eq(x, -math.inf), 0.0, f.logistic(x, y))),
         lambda x, y, o: _nan_with(o, f.where(f.eq(y, -math.inf), 0.0, f.logistic(y, x)))),
        numpy=("logaddexp",), domain=(ANY, ANY), exact=lambda mp, x, y: mp.log(mp.exp(x) + mp.exp(y)),
        kinks="an operand of -inf has the partial 0; one of +inf 1, beside another of +inf NaN"),
    Row("logistic", 2, _in_double(_logistic), (lambda x, y, o: f.logistic(x, y) * f.logistic(y, x),
        lambda x, y, o: -(f.logistic(x, y) * f.logistic(y, x))), domain=(ANY, ANY),
        exact=lambda mp, x, y: 1 / (1 + mp.exp(y - x)), source="the logistic function of a difference"),
    Row("sigmoid", 1, lambda x: f.where(f.lt(x, 0.0), f.exp(-f.abs(x)), 1.0) / (1.0 + f.exp(-f.abs(x))),
        (lambda x, o: o * f.sigmoid(-x),), numpy=("expit",), domain=(ANY,),
        exact=lambda mp, x: 1 / (1 + mp.exp(-x))),
    Row("exp2", 1, np.exp2, (lambda x, o: math.log(2.0) * o,), "elementary:exp2", ("exp2",), domain=(ANY,),
        exact=lambda mp, x: mp.power(2, x)),
    Row("log2", 1, np.log2, (lambda x, o: _nan_with(o, 1.0 / math.log(2.0) / (x + 0.0)),), "elementary:log2", ("log2",),
        domain=(POSITIVE,), exact=lambda mp, x: mp.log(x, 2), kinks="x = 0: value -inf, partial +inf; x < 0: value NaN"),
    Row("log10", 1, np.log10, (lambda x, o: _nan_with(o, 1.0 / math.log(10.0) / (x + 0.0)),), "elementary:log10", ("log10",),
        domain=(POSITIVE,), exact=lambda mp, x: mp.log(x, 10), kinks="x = 0: value -inf, partial +inf; x < 0: value NaN"),
    Row("cbrt", 1, np.cbrt, (lambda x, o: 1.0 / (3.0 * (o * o)),), "elementary:cbrt", ("cbrt",), domain=(POSITIVE,),
        exact=lambda mp, x: mp.sign(x) * mp.cbrt(abs(x)), kinks="x = 0: the partial is +inf", singular=True),
    # ------------------------------------------------------------------ trigonometry
    Row("sin", 1, np.sin, (lambda x, o: f.cos(x),), "elementary:sin", ("sin",), domain=(ANY,), exact=lambda mp, x: mp.sin(x)),
    Row("cos", 1, np.cos, (lambda x, o: -f.sin(x),), "elementary:cos", ("cos",), domain=(ANY,), exact=lambda mp, x: mp.cos(x)),
    Row("tan", 1, np.tan, (lambda x, o: 1.0 + o * o,), "elementary:tan", ("tan",), domain=((-1.4, 1.4),),
        exact=lambda mp, x: mp.tan(x)),
    Row("arcsin", 1, np.arcsin, (lambda x, o: 1.0 / f.sqrt((1.0 - x) * (1.0 + x)),), "elementary:arcsin", ("arcsin",),
        domain=(UNIT,), exact=lambda mp, x: mp.asin(x), kinks="|x| = 1: the partial is +inf; |x| > 1: NaN", singular=True),
    Row("arccos", 1, np.arccos, (lambda x, o: -1.0 / f.sqrt((1.0 - x) * (1.0 + x)),), "elementary:arccos", ("arccos",),
        domain=(UNIT,), exact=lambda mp, x: mp.acos(x), kinks="|x| = 1: the partial is -inf; |x| > 1: NaN", singular=True),
    Row("arctan", 1, np.arctan, (lambda x, o: _inverse_of_one_and_square(x),), "elementary:arctan", ("arctan",), domain=(ANY,),
        exact=lambda mp, x: mp.atan(x)),
    Row("arctan2", 2, np.arctan2,
        (lambda y, x, o: _angle_slope(x, x, y, o), lambda y, x, o: _angle_slope(-y, x, y, o)),
        "elementary:arctan2", ("arctan2",), domain=(ANY, POSITIVE), exact=lambda mp, y, x: mp.atan2(y, x),
        kinks="(0, 0): no derivative, the partials are NaN; y = 0, x < 0: the value jumps, the partials do not",
        at_kink=(lambda y, x, o: f.eq(y, 0.0) * f.lt(x, 0.0), None)),
    Row("hypot", 2, np.hypot,
        (lambda x, y, o: _ratio_to_length(x, y, o), lambda x, y, o: _ratio_to_length(y, x, o)),
        "elementary:hypot", ("hypot",), domain=(ANY, POSITIVE), exact=lambda mp, x, y: mp.hypot(x, y),
        kinks="(0, 0): the subgradient 0", at_kink=(_at_origin, _at_origin)),
    Row("square_of_hypot", 2, lambda x, y: f.square(f.hypot(x, y)),
        (lambda x, y, o: _nan_with(o, x + x), lambda x, y, o: _nan_with(o, y + y)), domain=(ANY, POSITIVE),
        exact=lambda mp, x, y: x * x + y * y, source="the square of a length, of which its own partials at 0 leave nothing"),
    # ------------------------------------------------------------------ hyperbolic
    Row("sinh", 1, np.sinh, (lambda x, o: f.cosh(x),), "elementary:sinh", ("sinh",), domain=(ANY,),
        exact=lambda mp, x: mp.sinh(x)),
    Row("cosh", 1, np.cosh, (lambda x, o: f.sinh(x),), "elementary:cosh", ("cosh",), domain=(ANY,),
        exact=lambda mp, x: mp.cosh(x)),
    Row("tanh", 1, np.tanh, (lambda x, o: f.sech2(x),), "elementary:tanh", ("tanh",), domain=(ANY,),
        exact=lambda mp, x: mp.tanh(x)),
    Row("sech2", 1, _float(_sech2), (lambda x, o: -2.0 * (o * f.tanh(x)),), "elementary:sech2", domain=(ANY,),
        exact=lambda mp, x: mp.sech(x) ** 2, source="the square of the hyperbolic secant"),
    Row("exp_product", 2, _float(_exp_product), (lambda x, y, o: y * o, lambda x, y, o: x * o), "elementary:exp_product",
        domain=(ANY, ANY), exact=lambda mp, x, y: mp.exp(x * y), source="the exponential of a product that is not rounded"),
    Row("deg2rad", 1, lambda x: x * (math.pi / 180.0), (lambda x, o: math.pi / 180.0,), numpy=("deg2rad", "radians"),
        domain=(ANY,), exact=lambda mp, x: x * mp.pi / 180),
    Row("rad2deg", 1, lambda x: x * (180.0 / math.pi), (lambda x, o: 180.0 / math.pi,), numpy=("rad2deg", "degrees"),
        domain=(ANY,), exact=lambda mp, x: x * 180 / mp.pi),
    Row("arcsinh", 1, np.arcsinh, (lambda x, o: 1.0 / f.hypot(x, 1.0),), "elementary:arcsinh", ("arcsinh",), domain=(ANY,),
        exact=lambda mp, x: mp.asinh(x)),
    Row("arccosh", 1, np.arccosh, (lambda x, o: 1.0 / (f.sqrt(x - 1.0) * f.sqrt(x + 1.0)),), "elementary:arccosh",
        ("arccosh",), domain=((1.1, 4.0),), exact=lambda mp, x: mp.acosh(x), kinks="x = 1: the partial is +inf; x < 1: NaN",
        singular=True),
    Row("arctanh", 1, np.arctanh, (lambda x, o: _nan_with(o, 1.0 / ((1.0 - x) * (1.0 + x))),), "elementary:arctanh",
        ("arctanh",), domain=(UNIT,), exact=lambda mp, x: mp.atanh(x),
        kinks="|x| = 1: value and partial infinite; |x| > 1: value NaN"),
    Row("erf", 1, _float(math.erf), (lambda x, o: _bell(x, 2.0 / math.sqrt(math.pi)),), "elementary:erf", ("erf",),
        domain=(ANY,), exact=lambda mp, x: mp.erf(x), source="Abramowitz & Stegun 7.1.1, 7.1.19"),
    Row("erfc", 1, _float(math.erfc), (lambda x, o: _bell(x, -2.0 / math.sqrt(math.pi)),), "elementary:erfc",
        ("erfc",), domain=(ANY,), exact=lambda mp, x: mp.erfc(x), source="Abramowitz & Stegun 7.1.2, 7.1.19"),
    Row("ndtr", 1, special.value("ndtr"), (lambda x, o: _bell(x, math.sqrt(0.5 / math.pi), -0.5),), "elementary:ndtr",
        ("ndtr",), domain=((-2.0, 3.0),), exact=lambda mp, x: mp.ncdf(x), source="Abramowitz & Stegun 26.2.2"),
    # ------------------------------------------------------------------ special functions, by SciPy's kernels
    Row("erfcx", 1, special.value("erfcx"), (_in_double(_erfcx_slope),), "special:erfcx",
        ("erfcx",), domain=((-2.0, 1.0),), exact=lambda mp, x: mp.exp(x * x) * mp.erfc(x), source="Abramowitz & Stegun 7.1.19"),
    Row("erfinv", 1, special.value("erfinv"), (lambda x, o: _quantile_slope(
        o, 0.5 * math.sqrt(math.pi), 1.0, 1.0 - f.abs(x), 1.0),), "special:erfinv",
        ("erfinv",), domain=(UNIT,), exact=lambda mp, x: mp.erfinv(x),
        kinks="|x| = 1: value and partial infinite; |x| > 1: NaN"),
    Row("erfcinv", 1, special.value("erfcinv"), (lambda x, o: _quantile_slope(
        o, -0.5 * math.sqrt(math.pi), 1.0, f.min(x, 2.0 - x), 1.0),), "special:erfcinv",
        ("erfcinv",), domain=((0.1, 1.9),), exact=lambda mp, x: mp.erfinv(1 - x),
        kinks="x = 0 or 2: value and partial infinite; outside: NaN"),
    Row("log_ndtr", 1, special.value("log_ndtr"), (_log_ndtr_slope,),
        "special:log_ndtr", ("log_ndtr",), domain=((-3.0, 1.0),), exact=lambda mp, x: mp.log(mp.ncdf(x))),
    Row("ndtri", 1, special.value("ndtri"), (lambda x, o: _quantile_slope(
        o, math.sqrt(2.0 * math.pi), 0.5, 2.0 * f.min(x, 1.0 - x), math.sqrt(0.5)),), "special:ndtri",
        ("ndtri",), domain=((0.05, 0.95),), exact=lambda mp, x: mp.sqrt(2) * mp.erfinv(2 * x - 1),
        kinks="x = 0 or 1: value and partial infinite; outside: NaN"),
    Row("gamma", 1, special.value("gamma"), (lambda x, o: o * f.digamma(x),), "special:gamma", ("gamma",), domain=(POSITIVE,),
        exact=lambda mp, x: mp.gamma(x), source="Abramowitz & Stegun 6.3.1",
        kinks="x = 0: value and partial infinite; x = -1, -2, ...: NaN"),
    Row("gammaln", 1, special.value("gammaln"), (lambda x, o: f.digamma(x),), "special:gammaln", ("gammaln",),
        domain=(POSITIVE,), exact=lambda mp, x: mp.re(mp.loggamma(x)), source="Abramowitz & Stegun 6.3.1",
        kinks="x = 0: value +inf, partial -inf; x = -1, -2, ...: value +inf, partial NaN"),
    Row("rgamma", 1, special.value("rgamma"), (_rgamma_slope,), "special:rgamma", ("rgamma",), domain=(POSITIVE,),
        exact=lambda mp, x: mp.rgamma(x), source="Abramowitz & Stegun 6.1.17, 6.3.1"),
    Row("gammasgn", 1, special.value("gammasgn"), (None,), "special:gammasgn", ("gammasgn",), domain=(POSITIVE,),
        exact=lambda mp, x: mp.sign(mp.gamma(x)), kinks="the partial is 0 everywhere",
        at_kink=(lambda x, o: f.le(x, 0.0) * f.eq(x, f.floor(x)),)),
    Row("digamma", 1, special.value("psi"), (lambda x, o: f.zeta(2.0, x),), "special:psi", ("psi",), domain=(POSITIVE,),
        exact=lambda mp, x: mp.digamma(x), source="Abramowitz & Stegun 6.4.10",
        kinks="x = 0, -1, -2, ...: the partial is +inf; below a million less than 0 it is NaN"),
    Row("digamma_rise", 2, _in_double(_digamma_rise), (_in_double(lambda a, b, o: f.zeta(2.0, a + b) - f.zeta(2.0, a)),
        lambda a, b, o: f.zeta(2.0, a + b)), domain=(POSITIVE, POSITIVE),
        exact=lambda mp, a, b: mp.digamma(a + b) - mp.digamma(a), source="Abramowitz & Stegun 6.3.18"),
    Row("zeta", 2, _zeta, (undefined, lambda s, x, o: -(s * f.zeta(s + 1.0, x))), "zeta", ("_zeta",),
        domain=((1.5, 6.0), POSITIVE), exact=lambda mp, s, x: mp.zeta(s, x), source="DLMF 25.11.17",
        kinks="x = 0, -1, -2, ...: infinite; below a million less than 0: NaN; no derivative to the first operand"),
    Row("beta", 2, special.value("beta"), (lambda a, b, o: -(o * f.digamma_rise(a, b)),
        lambda a, b, o: -(o * f.digamma_rise(b, a))), "special:beta", ("beta",), domain=(POSITIVE, POSITIVE),
        exact=lambda mp, a, b: mp.beta(a, b), source="DLMF 5.12.1", singular=True),
    Row("betaln", 2, special.value("betaln"), (lambda a, b, o: -f.digamma_rise(a, b),
        lambda a, b, o: -f.digamma_rise(b, a)), "special:betaln", ("betaln",), domain=(POSITIVE, POSITIVE),
        exact=lambda mp, a, b: mp.log(abs(mp.beta(a, b))), source="DLMF 5.12.1", singular=True),
    Row("gammainc", 2, special.value("gammainc"), (undefined, lambda a, x, o: _nan_with(o, f.gamma_density(a, x))),
        "special:gammainc", ("gammainc",), domain=(POSITIVE, POSITIVE),
        exact=lambda mp, a, x: mp.gammainc(a, 0, x, regularized=True), source="DLMF 8.8.13",
        kinks="no derivative to the first operand", singular=True),
    Row("gammaincc", 2, special.value("gammaincc"), (undefined, lambda a, x, o: _nan_with(o, -f.gamma_density(a, x))),
        "special:gammaincc", ("gammaincc",), domain=(POSITIVE, POSITIVE),
        exact=lambda mp, a, x: mp.gammainc(a, x, mp.inf, regularized=True),
        source="DLMF 8.8.14", kinks="no derivative to the first operand", singular=True),
    Row("betainc", 3, special.value("betainc"),
        (undefined, undefined, lambda a, b, x, o: _nan_with(o, f.beta_density(a, b, x))), "special:betainc", ("betainc",),
        domain=(POSITIVE, POSITIVE, (0.1, 0.9)), exact=lambda mp, a, b, x: mp.betainc(a, b, 0, x, regularized=True),
        source="DLMF 8.17.1", kinks="no derivative to the first two operands", singular=True),
    Row("gamma_density", 2, _in_double(_gamma_density),
        (_in_double(lambda a, x, o: f.gamma_density(a, x) * (f.log(x) - f.digamma(a))),
         _in_double(lambda a, x, o: f.gamma_density(a - 1.0, x) - f.gamma_density(a, x))),
        domain=(POSITIVE, POSITIVE), exact=lambda mp, a, x: mp.power(x, a - 1) * mp.exp(-x) * mp.rgamma(a),
        source="DLMF 8.8.13; Abramowitz & Stegun 6.1.41", singular=True),
    Row("beta_density", 3, _in_double(_beta_density),
        (_in_double(lambda a, b, x, o: f.beta_density(a, b, x) * (f.log(x) + f.digamma_rise(a, b))),
         _in_double(lambda a, b, x, o: f.beta_density(a, b, x) * (f.log1p(-x) + f.digamma_rise(b, a))),
         _in_double(lambda a, b, x, o: (a + b - 1.0) * (f.beta_density(a - 1.0, b, x) - f.beta_density(a, b - 1.0, x)))),
        domain=(POSITIVE, POSITIVE, (0.1, 0.9)), source="DLMF 8.17.1",
        exact=lambda mp, a, b, x: mp.power(x, a - 1) * mp.power(1 - x, b - 1) / mp.beta(a, b), singular=True),
    Row("j0", 1, special.value("j0"), (lambda x, o: -f.j1(x),), "special:j0", ("j0",), domain=((0.1, 2.0),),
        exact=lambda mp, x: mp.besselj(0, x), source="DLMF 10.6.3"),
    Row("j1", 1, special.value("j1"), (lambda x, o: 0.5 * (f.j0(x) - f.jv(2.0, x)),), "special:j1", ("j1",),
        domain=((-1.5, 1.5),), exact=lambda mp, x: mp.besselj(1, x), source="DLMF 10.6.1"),
    Row("jv", 2, special.value("jv"), (undefined, _in_double(
        lambda v, x, o: 0.5 * (f.jv(v - 1.0, x) - f.jv(v + 1.0, x)))), "special:jv",
        ("jv",), domain=((1.0, 4.0), (0.1, 1.5)), exact=lambda mp, v, x: mp.besselj(v, x), source="DLMF 10.6.1",
        kinks="no derivative to the order", singular=True),
    Row("y0", 1, special.value("y0"), (lambda x, o: -f.y1(x),), "special:y0", ("y0",), domain=((1.0, 2.0),),
        exact=lambda mp, x: mp.bessely(0, x), source="DLMF 10.6.3", kinks="x = 0: value -inf, partial +inf"),
    Row("y1", 1, special.value("y1"), (lambda x, o: f.where(f.eq(x, 0.0), math.inf, f.y0(x) - o / x),), "special:y1", ("y1",),
        domain=((0.1, 2.0),), exact=lambda mp, x: mp.bessely(1, x), source="DLMF 10.6.2",
        kinks="x = 0: value -inf, partial +inf"),
    Row("yv", 2, special.value("yv"), (undefined, _in_double(
        lambda v, x, o: 0.5 * (f.yv(v - 1.0, x) - f.yv(v + 1.0, x)))), "special:yv",
        ("yv", "yn"), domain=((1.0, 4.0), (0.1, 1.5)), exact=lambda mp, v, x: mp.bessely(v, x), source="DLMF 10.6.1",
        kinks="no derivative to the order"),
    Row("i0", 1, special.value("i0"), (lambda x, o: f.i1(x),), "special:i0", ("i0",), domain=(ANY,),
        exact=lambda mp, x: mp.besseli(0, x), source="DLMF 10.29.3"),
    Row("i1", 1, special.value("i1"), (_i1_slope,), "special:i1", ("i1",), domain=(ANY,),
        exact=lambda mp, x: mp.besseli(1, x), source="DLMF 10.29.1"),
    Row("iv", 2, special.value("iv"), (undefined, _in_double(
        lambda v, x, o: 0.5 * (f.iv(v - 1.0, x) + f.iv(v + 1.0, x)))), "special:iv",
        ("iv",), domain=((1.0, 4.0), POSITIVE), exact=lambda mp, v, x: mp.besseli(v, x), source="DLMF 10.29.1",
        kinks="no derivative to the order", singular=True),
    Row("i0e", 1, special.value("i0e"), (_in_double(lambda x, o: _scaled_bessel_slope(
            0.0, x, lambda x: f.i1e(x) - f.sign(x) * f.i0e(x))),), "special:i0e", ("i0e",), domain=(POSITIVE,),
        exact=lambda mp, x: mp.besseli(0, x) * mp.exp(-abs(x)), source="DLMF 10.29.3, 10.40.1",
        kinks="x = 0: the partial is 0, the mean of both sides", at_kink=(lambda x, o: f.eq(x, 0.0),)),
    Row("i1e", 1, special.value("i1e"), (_in_double(lambda x, o: _scaled_bessel_slope(
            1.0, x, lambda x: 0.5 * (f.i0e(x) + f.ive(2.0, x)) - f.sign(x) * f.i1e(x))),), "special:i1e", ("i1e",),
        domain=(POSITIVE,), exact=lambda mp, x: mp.besseli(1, x) * mp.exp(-abs(x)), source="DLMF 10.29.1, 10.40.1"),
    Row("ive", 2, special.value("ive"), (undefined, _in_double(lambda v, x, o: _scaled_bessel_slope(
            v, x, lambda x: 0.5 * (f.ive(v - 1.0, x) + f.ive(v + 1.0, x)) - f.sign(x) * f.ive(v, x)))), "special:ive",
        ("ive",), domain=((1.0, 4.0), POSITIVE), exact=lambda mp, v, x: mp.besseli(v, x) * mp.exp(-abs(x)),
        source="DLMF 10.29.1, 10.40.1", kinks="no derivative to the order; x = 0: the mean of both sides",
        at_kink=(None, lambda v, x, o: f.eq(x, 0.0) * f.ne(o, 0.0))),
    Row("k0", 1, special.value("k0"), (lambda x, o: -f.k1(x),), "special:k0", ("k0",), domain=(POSITIVE,),
        exact=lambda mp, x: mp.besselk(0, x), source="DLMF 10.29.3", kinks="x = 0: value +inf, partial -inf"),
    Row("k1", 1, special.value("k1"), (lambda x, o: -f.k0(x) - o / x,), "special:k1", ("k1",), domain=(POSITIVE,),
        exact=lambda mp, x: mp.besselk(1, x), source="DLMF 10.29.2", kinks="x = 0: value +inf, partial -inf"),
    Row("kv", 2, special.value("kv"), (undefined, _in_double(
        lambda v, x, o: -0.5 * (f.kv(v - 1.0, x) + f.kv(v + 1.0, x)))), "special:kv",
        ("kv",), domain=((1.0, 4.0), (0.5, 4.0)), exact=lambda mp, v, x: mp.besselk(v, x), source="DLMF 10.29.1",
        kinks="no derivative to the order"),
    Row("exprel", 1, special.value("exprel"), (_exprel_slope,), "special:exprel", ("exprel",), domain=(ANY,),
        exact=lambda mp, x: mp.expm1(x) / x if x else mp.mpf(1)),
    Row("rel_entr", 2, special.value("rel_entr"), (lambda x, y, o: _nan_with(o, _log_of_ratio(x, y) + 1.0),
        lambda x, y, o: _nan_with(o, -(x / y))), "special:rel_entr", ("rel_entr",), domain=((0.1, 1.0), (1.2, 4.0)),
        exact=lambda mp, x, y: x * mp.log(x / y), kinks="x = 0: value 0, partial to x -inf; outside: value +inf",
        singular=True),
    Row("kl_div", 2, special.value("kl_div"), (lambda x, y, o: _nan_with(o, _log_of_ratio(x, y)),
        lambda x, y, o: _nan_with(o, 1.0 - x / y)), "special:kl_div", ("kl_div",), domain=((0.1, 0.5), (1.5, 4.0)),
        exact=lambda mp, x, y: x * mp.log(x / y) - x + y, kinks="x = 0: value y, partial to x -inf; outside: value +inf",
        singular=True),
    # ------------------------------------------------------------------ pieces
    Row("abs", 1, np.absolute, (lambda x, o: f.sign(x),), "intrinsic:fabs", ("absolute", "fabs"), "same", domain=(POSITIVE,),
        kinks="x = 0: the partial is 0", at_kink=(lambda x, o: f.eq(x, 0.0),)),
    Row("sign", 1, lambda x: f.where(f.eq(x, x), f.lt(0.0, x) - f.lt(x, 0.0), x), (None,), numpy=("sign",), kind="same",
        domain=(POSITIVE,), kinks="the partial is 0 everywhere, x = 0 included", at_kink=(lambda x, o: f.eq(x, 0.0),)),
    Row("floor", 1, np.floor, (None,), "intrinsic:floor", ("floor",), "same", domain=(POSITIVE,),
        kinks="the partial is 0 everywhere", at_kink=(lambda x, o: f.eq(x, o),)),
    Row("ceil", 1, np.ceil, (None,), "intrinsic:ceil", ("ceil",), "same", domain=(POSITIVE,),
        kinks="the partial is 0 everywhere", at_kink=(lambda x, o: f.eq(x, o),)),
    Row("trunc", 1, np.trunc, (None,), "intrinsic:trunc", ("trunc",), "same", domain=(POSITIVE,),
        kinks="the partial is 0 everywhere", at_kink=(lambda x, o: f.eq(x, o) * f.ne(x, 0.0),)),
    Row("rint", 1, np.rint, (None,), "intrinsic:rint", ("rint",), domain=(POSITIVE,), kinks="the partial is 0 everywhere",
        at_kink=(lambda x, o: f.eq(f.abs(x - f.trunc(x)), 0.5),)),
    Row("fmod", 2, np.fmod, (lambda x, y, o: _nan_with(o, 1.0), lambda x, y, o: _nan_with(o, -f.rint((x - o) / y))),
        "elementary:fmod", ("fmod",), "same", domain=((0.1, 0.9), (1.0, 4.0)), exact=lambda mp, x, y: x - y * mp.floor(x / y),
        kinks="where x / y is whole: the partials from the right", at_kink=(_at_multiple, _at_multiple)),
    Row("mod", 2, lambda x, y: _with_sign_of(f.fmod(x, y), y),
        (lambda x, y, o: _nan_with(o, 1.0), lambda x, y, o: _nan_with(o, -f.floor_divide(x, y))), numpy=("remainder",),
        kind="same", domain=((0.1, 0.9), (1.0, 4.0)), exact=lambda mp, x, y: x - y * mp.floor(x / y),
        kinks="where x / y is whole: the partials from the right", at_kink=(lambda x, y, o: f.eq(o, 0.0), _at_multiple)),
    Row("floor_divide", 2, _floor_quotient, (None, None), numpy=("floor_divide",), kind="same",
        domain=((0.1, 0.9), (1.0, 4.0)), exact=lambda mp, x, y: mp.floor(x / y), kinks="the partials are 0 everywhere",
        at_kink=(lambda x, y, o: f.eq(f.fmod(x, y), 0.0), lambda x, y, o: f.eq(f.fmod(x, y), 0.0) * f.ne(x, 0.0))),
    Row("max", 2, lambda x, y: f.where(f.lt(y, x), x, f.where(f.eq(x, x), y, x)),
        (lambda x, y, o: _nan_with(o, f.lt(y, x) + 0.5 * f.eq(x, y)),
         lambda x, y, o: _nan_with(o, f.lt(x, y) + 0.5 * f.eq(x, y))),
        numpy=("maximum",), kind="same", domain=((-3.0, 0.0), (0.1, 3.0)),
        kinks="x = y: each operand takes half of the adjoint", at_kink=(_at_tie, _at_tie), selects=(0, 1)),
    Row("min", 2, lambda x, y: f.where(f.lt(x, y), x, f.where(f.eq(x, x), y, x)),
        (lambda x, y, o: _nan_with(o, f.lt(x, y) + 0.5 * f.eq(x, y)),
         lambda x, y, o: _nan_with(o, f.lt(y, x) + 0.5 * f.eq(x, y))),
        numpy=("minimum",), kind="same", domain=((-3.0, 0.0), (0.1, 3.0)),
        kinks="x = y: each operand takes half of the adjoint", at_kink=(_at_tie, _at_tie), selects=(0, 1)),
    Row("fmax", 2, lambda x, y: f.where(f.ne(y, y), x, f.where(f.lt(x, y), y, f.where(f.eq(x, x), x, y))),
        (lambda x, y, o: _nan_with(o, f.lt(y, x) + 0.5 * f.eq(x, y) + f.ne(y, y)),
         lambda x, y, o: _nan_with(o, f.lt(x, y) + 0.5 * f.eq(x, y) + f.ne(x, x))),
        numpy=("fmax",), kind="same", domain=((-3.0, 0.0), (0.1, 3.0)),
        kinks="x = y: each operand takes half of the adjoint; beside a NaN the other operand takes all of it",
        at_kink=(_at_tie, _at_tie), selects=(0, 1)),
    Row("fmin", 2, lambda x, y: f.where(f.ne(y, y), x, f.where(f.lt(y, x), y, f.where(f.eq(x, x), x, y))),
        (lambda x, y, o: _nan_with(o, f.lt(x, y) + 0.5 * f.eq(x, y) + f.ne(y, y)),
         lambda x, y, o: _nan_with(o, f.lt(y, x) + 0.5 * f.eq(x, y) + f.ne(x, x))),
        numpy=("fmin",), kind="same", domain=((-3.0, 0.0), (0.1, 3.0)),
        kinks="x = y: each operand takes half of the adjoint; beside a NaN the other operand takes all of it",
        at_kink=(_at_tie, _at_tie), selects=(0, 1)),
    Row("clip", 3, lambda x, lo, hi: f.min(f.max(x, lo), hi),
        (lambda x, lo, hi, o: _nan_with(o, f.le(lo, x) * f.le(x, hi)),
         lambda x, lo, hi, o: _nan_with(o, f.lt(x, lo) * f.le(lo, hi)),
         lambda x, lo, hi, o: _nan_with(o, f.lt(hi, f.max(x, lo)))),
        numpy=("clip",), kind="same", domain=(UNIT, (-3.0, -0.5), (0.5, 3.0)),
        kinks="at a bound x takes the whole adjoint; lo > hi: hi does, as NumPy's value is hi",
        at_kink=(lambda x, lo, hi, o: f.le(lo, hi) * f.max(f.eq(x, lo), f.eq(x, hi)),
                 lambda x, lo, hi, o: f.lt(x, hi) * f.max(f.eq(x, lo), f.eq(lo, hi)),
                 lambda x, lo, hi, o: f.eq(hi, f.max(x, lo))), selects=(0, 1, 2)),
    Row("relu", 1, lambda x: f.max(x, 0.0), (lambda x, o: _nan_with(o, f.lt(0.0, x)),), kind="same", domain=(POSITIVE,),
        kinks="x = 0: the partial is 0", at_kink=(lambda x, o: f.eq(x, 0.0),), selects=(0,)),
    Row("copysign", 2, np.copysign,
        (lambda x, y, o: _nan_with(o, f.sign(x) * f.copysign(1.0, y)), None), "intrinsic:copysign", ("copysign",),
        domain=(POSITIVE, POSITIVE), exact=lambda mp, x, y: abs(x) if y >= 0 else -abs(x),
        kinks="x = 0: the partial is 0; the partial to y is 0 everywhere",
        at_kink=(lambda x, y, o: f.eq(x, 0.0), lambda x, y, o: f.eq(y, 0.0) * f.ne(x, 0.0))),
    Row("heaviside", 2, lambda x, h: f.where(f.lt(x, 0.0), 0.0, f.where(f.lt(0.0, x), 1.0, f.where(f.eq(x, x), h, x))),
        (None, lambda x, h, o: _nan_with(o, f.eq(x, 0.0))), numpy=("heaviside",), domain=(POSITIVE, ANY),
        kinks="x = 0: the partial to x is 0, that to the value there is 1", at_kink=(lambda x, h, o: f.eq(x, 0.0), None)),
    Row("xlogy", 2, lambda x, y: f.where(f.eq(x, 0.0), f.where(f.eq(y, y), 0.0, y), x * f.log(y)),
        (lambda x, y, o: _nan_with(o, f.log(y)), lambda x, y, o: _nan_with(o, f.where(f.eq(x, 0.0), 0.0, x / y))),
        numpy=("xlogy",), domain=(ANY, (1.2, 4.0)), exact=lambda mp, x, y: x * mp.log(y),
        kinks="x = 0: the value is 0 and the partial to y is 0, even at y = 0, where the partial to x is -inf", singular=True),
    Row("xlog1py", 2, lambda x, y: f.where(f.eq(x, 0.0), f.where(f.eq(y, y), 0.0, y), x * f.log1p(y)),
        (lambda x, y, o: _nan_with(o, f.log1p(y)), lambda x, y, o: _nan_with(o, f.where(f.eq(x, 0.0), 0.0, x / (1.0 + y)))),
        numpy=("xlog1py",), domain=(ANY, POSITIVE), exact=lambda mp, x, y: x * mp.log1p(y),
        kinks="x = 0: the value is 0 and the partial to y is 0, even at y = -1, where the partial to x is -inf",
        singular=True),
    Row("softplus", 1, lambda x: f.max(x, 0.0) + f.log1p(f.exp(-f.abs(x))), (lambda x, o: f.sigmoid(x),), domain=(ANY,),
        exact=lambda mp, x: mp.log1p(mp.exp(x))),
    Row("where", 3, lambda c, x, y: x if c != 0.0 else y,
        (None, lambda c, x, y, o: f.ne(c, 0.0), lambda c, x, y, o: f.eq(c, 0.0)), "select", (), "same",
        domain=((0.0, 1.0), ANY, ANY), kinks="the branch that is not taken gets exactly 0", selects=(1, 2)),
    # ------------------------------------------------------------------ comparisons and logic
    Row("lt", 2, _bool(lambda x, y: x < y), (None, None), "compare:<", ("less",), "bool", domain=(ANY, ANY)),
    Row("le", 2, _bool(lambda x, y: x <= y), (None, None), "compare:<=", ("less_equal",), "bool", domain=(ANY, ANY)),
    Row("gt", 2, _bool(lambda x, y: x > y), (None, None), "compare:>", ("greater",), "bool", domain=(ANY, ANY)),
    Row("ge", 2, _bool(lambda x, y: x >= y), (None, None), "compare:>=", ("greater_equal",), "bool", domain=(ANY, ANY)),
    Row("eq", 2, _bool(lambda x, y: x == y), (None, None), "compare:==", ("equal",), "bool", domain=(ANY, ANY)),
    Row("ne", 2, _bool(lambda x, y: x != y), (None, None), "compare:!=", ("not_equal",), "bool", domain=(ANY, ANY)),
    Row("and", 2, lambda x, y: f.ne(x, 0.0) * f.ne(y, 0.0), (None, None), numpy=("logical_and",), kind="bool",
        domain=(ANY, ANY)),
    Row("or", 2, lambda x, y: f.max(f.ne(x, 0.0), f.ne(y, 0.0)), (None, None), numpy=("logical_or",), kind="bool",
        domain=(ANY, ANY)),
    Row("xor", 2, lambda x, y: f.ne(f.ne(x, 0.0), f.ne(y, 0.0)), (None, None), numpy=("logical_xor",), kind="bool",
        domain=(ANY, ANY)),
    Row("not", 1, lambda x: f.eq(x, 0.0), (None,), numpy=("logical_not",), kind="bool", domain=(ANY,)),
    # ------------------------------------------------------------------ random numbers without state
    Row("uniform", 2, _uniform, (None, None), "uniform", domain=((0.0, 100.0), (0.0, 100.0)),
        source="Steele, Lea, Flood, OOPSLA 2014 (SplitMix64); operands are integers"),
    # ------------------------------------------------------------------ slopes that take more than arithmetic
    Row("log_slope", 2, lambda x, y: f.where(f.eq(x, 0.0), y, f.where(f.lt(x, 0.0), math.nan, 1.0 / x)),
        (lambda x, y, o: -(o * o), None), domain=(POSITIVE, POSITIVE), exact=lambda mp, x, y: 1 / x,
        kinks="x = 0: value y, which no derivative goes to; x < 0: NaN, as of a logarithm that is NaN"),
)

TABLE = Table(ROWS + STRUCTURAL_ROWS)
"""The instruction set."""
