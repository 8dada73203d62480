"""How far values and partials are from the exact ones: points of the whole range of each elementwise row, against mpmath.

What is here: the points, the exact values, partials and condition numbers, and the table that `docs/accuracy.md` holds. What is
not: the bounds (`test_accuracy.py`). `python tests/accuracy.py` writes the table anew.
"""

import functools
import math
import pathlib

import mpmath
import numpy as np
from rows import exact

from compiled.table.instructions import TABLE, undefined

PAGE = pathlib.Path(__file__).parent.parent / "docs" / "accuracy.md"

DIGITS = 120
"""Of mpmath, for numbers near 1."""

FUNCTIONS = [row for row in TABLE.rows if not row.structural and row.exact is not None and any(row.partials)]
"""Rows of functions; of the others value and partials are one operation of arithmetic or a choice."""


def is_scipys(row):
    """Whether SciPy's kernels have a part in the row."""
    return (row.llvm or "").startswith(("special:", "zeta")) or row.name in ("ndtr", "digamma_rise", "gamma_density",
                                                                             "beta_density")


# ---------------------------------------------------------------------- points


def logarithmic(random, low, high, count):
    """Numbers whose logarithms are spread evenly; with the bounds' sign."""
    sign = math.copysign(1.0, low)
    return sign * 10.0 ** random.uniform(*sorted((math.log10(abs(low)), math.log10(abs(high)))), count)


def even(random, low, high, count):
    """Numbers that are spread evenly."""
    return random.uniform(*sorted((low, high)), count)


def near(point, low, high):
    """Numbers on one side of a point, at distances spread logarithmically."""
    return lambda random, count: point + logarithmic(random, low, high, count)


def spread(low, high):
    """A range of one sign: logarithmic where it is wide."""
    wide = low * high > 0 and max(abs(low / high), abs(high / low)) > 100.0
    return lambda random, count: (logarithmic if wide else even)(random, low, high, count)


WHOLE = (spread(1e-300, 1e300), spread(-1e-300, -1e300), spread(-3.0, 3.0), spread(-40.0, 40.0))
POSITIVES = (spread(1e-300, 1e300), spread(0.1, 4.0), near(1.0, 1e-15, 0.1), near(1.0, -1e-15, -0.1))
UNITS = (spread(-0.9, 0.9), spread(1e-300, 0.9), near(1.0, -1e-15, -0.1), near(-1.0, 1e-15, 0.1))
EXPONENTS = (*WHOLE[2:], spread(1e-300, 700.0), spread(-1e-300, -740.0))
MODEST = (spread(0.1, 4.0), spread(1e-3, 1e3))

RANGES = {
    "sqrt": (POSITIVES,), "root_of_squares": (POSITIVES,), "log": (POSITIVES,), "log_of_sum": (POSITIVES,),
    "log_slope": (POSITIVES, POSITIVES),
    "square_of_root": (POSITIVES,), "log2": (POSITIVES,), "log10": (POSITIVES,),
    "cbrt": (WHOLE,), "log1p": ((*POSITIVES, spread(-1e-300, -0.9), near(-1.0, 1e-15, 0.1)),),
    "exp": (EXPONENTS,), "expm1": (EXPONENTS,), "exp2": (EXPONENTS,), "sinh": (EXPONENTS,), "cosh": (EXPONENTS,),
    "tanh": (EXPONENTS,), "sech2": (EXPONENTS,), "sigmoid": (EXPONENTS,), "softplus": (EXPONENTS,),
    "pow": ((*POSITIVES, *POSITIVES), (spread(-3.0, 3.0), spread(1e-20, 1.0), spread(-200.0, 200.0), spread(1e-3, 0.1))),
    "logaddexp": ((*EXPONENTS, spread(-1e3, 1e3)), (*EXPONENTS, spread(-10.0, 10.0))),
    "logistic": ((*EXPONENTS, spread(-1e3, 1e3)), (*EXPONENTS, spread(-10.0, 10.0))),
    "exp_product": ((spread(-25.0, 25.0), spread(1e-300, 1e300)), (spread(-25.0, 25.0), spread(-1e-3, -1e3))),
    "sin": (WHOLE,), "cos": (WHOLE,), "tan": (WHOLE,), "arcsin": (UNITS,), "arccos": (UNITS,), "arctan": (WHOLE,),
    "arctan2": (WHOLE, (*WHOLE[1:], WHOLE[0])), "hypot": (WHOLE, (*WHOLE[1:], WHOLE[0])), "deg2rad": (WHOLE,),
    "square_of_hypot": (WHOLE[2:], WHOLE[2:]),
    "rad2deg": (WHOLE,), "arcsinh": (WHOLE,), "arccosh": ((spread(1.0, 1e300), spread(1.1, 4.0), near(1.0, 1e-15, 0.1)),),
    "arctanh": (UNITS,), "erf": ((spread(-6.0, 6.0), spread(1e-300, 26.0), spread(-1e-3, -26.0)),),
    "erfc": ((spread(-6.0, 6.0), spread(1e-300, 26.0), spread(-1e-3, -26.0)),),
    "ndtr": ((spread(-8.0, 8.0), spread(1e-300, 37.0), spread(-1e-3, -37.0)),),
    "erfcx": ((spread(-5.0, 5.0), spread(1e-300, 1e100), spread(5.0, 200.0), spread(-1.0, -26.0)),),
    "erfinv": (UNITS,), "erfcinv": ((spread(1e-60, 1.0), near(2.0, -1e-15, -0.9), spread(0.1, 1.9)),),
    "log_ndtr": ((spread(-8.0, 8.0), spread(1e-300, 37.0), spread(-1.0, -1e10)),),
    "ndtri": ((spread(1e-60, 0.5), near(1.0, -1e-15, -0.4), spread(0.1, 0.9)),),
    "gamma": ((spread(1e-300, 0.1), spread(0.1, 170.0), near(-3.0, 1e-9, 0.4), near(-20.0, -1e-9, -0.4)),),
    "gammaln": ((spread(1e-300, 1e300), spread(0.1, 20.0), near(-3.0, 1e-9, 0.4), near(-20.0, -1e-9, -0.4)),),
    "rgamma": ((spread(1e-300, 0.1), spread(0.1, 170.0), near(-3.0, 1e-9, 0.4), near(-20.0, -1e-9, -0.4)),),
    "digamma": ((spread(1e-150, 1e150), spread(0.1, 20.0), near(-3.0, 1e-9, 0.4), near(-20.0, -1e-9, -0.4)),),
    "zeta": ((spread(1.5, 6.0), spread(1.01, 30.0)), (spread(0.1, 10.0), spread(1e-5, 1e3))),
    "beta": ((*MODEST, spread(1e-100, 1e2), spread(0.1, 4.0)), (*MODEST[::-1], spread(1e-9, 1e4), spread(1e-9, 1.0))),
    "betaln": ((*MODEST, spread(1e-20, 1e9), spread(0.1, 4.0)), (*MODEST[::-1], spread(1e-9, 1e9), spread(1e-9, 1.0))),
    "digamma_rise": ((*MODEST, spread(1e-20, 1e9), spread(0.1, 4.0)),
                     (*MODEST[::-1], spread(1e-9, 1e9), spread(1e-9, 1.0))),
    "gammainc": ((spread(0.1, 4.0), spread(1e-3, 200.0)), (spread(0.1, 4.0), spread(1e-3, 300.0))),
    "gammaincc": ((spread(0.1, 4.0), spread(1e-3, 30.0)), (spread(0.1, 4.0), spread(1e-3, 300.0))),
    "gamma_density": ((spread(0.1, 4.0), spread(1e-3, 200.0)), (spread(0.1, 4.0), spread(1e-3, 300.0))),
    "betainc": ((spread(0.1, 4.0), spread(1e-2, 150.0)), (spread(0.1, 4.0), spread(1e-2, 150.0)),
                (spread(0.05, 0.95), spread(1e-30, 0.9))),
    "beta_density": ((spread(0.1, 4.0), spread(1e-2, 150.0)), (spread(0.1, 4.0), spread(1e-2, 150.0)),
                     (spread(0.05, 0.95), spread(1e-30, 0.9))),
    "j0": ((spread(0.1, 2.0), spread(1e-300, 2.0)),), "j1": ((spread(-1.5, 1.5), spread(1e-300, 1.5)),),
    "jv": ((spread(1.0, 4.0),), (spread(0.1, 1.5),)), "y0": ((spread(1.0, 2.0), spread(1e-30, 2.0)),),
    "y1": ((spread(0.1, 2.0), spread(1e-30, 2.0)),), "yv": ((spread(1.0, 4.0),), (spread(0.1, 1.5),)),
    "i0": ((spread(-3.0, 3.0), spread(1e-300, 700.0)),), "i1": ((spread(-3.0, 3.0), spread(1e-320, 700.0)),),
    "iv": ((spread(1.0, 4.0),), (spread(0.1, 100.0),)),
    "i0e": ((spread(-3.0, 3.0), spread(1e-300, 1e100), spread(1.0, 1e3)),),
    "i1e": ((spread(-3.0, 3.0), spread(1e-300, 1e100), spread(1.6, 1e3)),),
    "ive": ((spread(1.0, 4.0), spread(1.0, 10.0)), (spread(0.1, 1e2), spread(10.0, 1e6))),
    "k0": ((spread(0.1, 4.0), spread(1e-30, 700.0)),), "k1": ((spread(0.1, 4.0), spread(1e-30, 700.0)),),
    "kv": ((spread(1.0, 4.0),), (spread(0.5, 4.0), spread(1.0, 600.0))),
    "exprel": ((spread(-3.0, 3.0), spread(1e-300, 715.0), spread(-1e-3, -1e100)),),
    "rel_entr": (POSITIVES, POSITIVES), "kl_div": (POSITIVES, POSITIVES),
    "copysign": (WHOLE, WHOLE), "xlogy": (WHOLE, POSITIVES), "xlog1py": (WHOLE, (*POSITIVES, near(-1.0, 1e-15, 0.1))),
    "fmod": ((spread(0.1, 0.9),), (spread(1.0, 4.0),)), "mod": ((spread(0.1, 0.9),), (spread(1.0, 4.0),)),
}
"""Of each operand of a row; every range of one meets a range of the others, in their order."""


FULL, REDUCED = 8, 2
"""Points of each range for the page, and for the tests that always run."""

EDGES = (0.0, 1.0, -1.0, 2.0, -3.0, -20.0)
"""Where something ends; numbers near them may round to them."""


def points(row, dtype, count=FULL):
    """`count` points of each range, of a row's dtype, the first of FULL; overflows and edges are left out."""
    random = np.random.default_rng(list(row.name.encode()))
    ranges, columns = RANGES[row.name], []
    longest = max(map(len, ranges))
    for choices in ranges:
        drawn = [choices[i % len(choices)](random, FULL)[:count] for i in range(longest)]
        columns.append(np.concatenate(drawn))
    with np.errstate(over="ignore", under="ignore"):
        columns = [x.astype(dtype) for x in columns]
    ordinary = np.all([np.isfinite(x) & ~np.isin(x, EDGES) for x in columns], axis=0)
    return [x[ordinary] for x in columns]


# ---------------------------------------------------------------------- exact values


def decades(point):
    """How many decades the furthest of a point's numbers is from 1."""
    return max(abs(math.log10(abs(x))) for x in point)


def derivative(name, point, operands, step):
    """The derivative of the row's exact value to the logarithms of the operands named, by central differences."""
    if not operands:
        return exact(name, *point)
    k, *others = operands
    sides = [derivative(name, [x * (1 + side * step) if j == k else x for j, x in enumerate(point)], others, step)
             for side in (1, -1)]
    return (sides[0] - sides[1]) / (2 * step)


GAUSSIAN = ("erf", "erfc", "ndtr")
"""Rows whose slopes are exponentials of squares."""


@functools.cache
def exactly(name, point):
    """Value, partials, and the condition number of each partial at a point: mpmath's numbers."""
    row = TABLE[name]
    far = decades(point)
    point = [mpmath.mpf(float(x)) for x in point]
    active = [k for k, rule in enumerate(row.partials) if rule is not None and rule is not undefined]
    grown = max(0.5 * float(x) ** 2 if name in GAUSSIAN else abs(float(x)) for x in point)
    grown = min(grown, 750.0)  # of exponentials beside 1
    with mpmath.workdps(int((DIGITS // 2 if is_scipys(row) else DIGITS) + 5 * far + grown)):
        step = mpmath.mpf(10) ** -int(20 + far)
        value, partials, conditions = exact(row.name, *point), {}, {}
        for k in active:
            slope = derivative(row.name, point, [k], step)
            # The logarithmic derivative of f_k = s / x_k, where s is what was computed.
            seconds = [derivative(row.name, point, [k, j], step) - (slope if j == k else 0) for j in active]
            total = sum(abs(x / slope) for x in seconds) if slope else mpmath.mpf(0)
            partials[k], conditions[k] = slope / point[k], float(min(total, mpmath.mpf(10) ** 300))
        return value, partials, conditions


def ulps(got, expected, dtype):
    """The distance in units of the last place of the exact number; None where that is beyond the dtype's range."""
    if mpmath.im(expected) != 0 or not abs(expected) < mpmath.mpf(float(np.finfo(dtype).max)):
        return None
    unit = np.spacing(dtype(abs(float(expected))))
    if not math.isfinite(got):
        return math.inf
    with mpmath.workdps(DIGITS):
        return float(min(abs(mpmath.mpf(float(got)) - expected) / mpmath.mpf(float(unit)), mpmath.mpf(10) ** 300))


@functools.cache
def measured(name, dtype, reader, count=FULL):
    """For the value and each partial of a row, as `reader` computes them: (error in ulp, condition number, point) of points."""
    row = TABLE[name]
    operands = points(row, dtype, count)
    values, partials = reader(row, operands)
    results = {what: [] for what in ("value", *range(row.arity))}
    for i, point in enumerate(zip(*operands, strict=True)):
        value, slopes, conditions = exactly(name, point)
        error = ulps(values[i], value, dtype)
        if error is None:
            continue
        results["value"].append((error, 1.0, point))
        for k, slope in slopes.items():
            error = ulps(partials[k][i], slope, dtype)
            if error is not None:
                results[k].append((error, conditions[k], point))
    return {what: entries for what, entries in results.items() if entries}


def allowance(condition):
    """By what the units of the last place that are allowed grow with the condition number."""
    return condition if condition >= 10.0 else 1.0


def worst(entries):
    """The entry that is furthest beyond what its condition number allows."""
    return max(entries, key=lambda entry: entry[0] / allowance(entry[1]))


# ---------------------------------------------------------------------- the page

HEADER = """# Accuracy of values and partials

Errors of the rows of the table, in units of the last place of the exact result (of mpmath), as the sweeps compute them: of
the value, and of the partial to each operand, the one that is furthest beyond what its condition number allows. The condition
number says by how many units of the last place the partial changes when the operands change by one. Where it is below 10 the
error is to be at most 4, else 4 times the condition number; of rows on SciPy's kernels (marked with *) it is as SciPy's, and
relative 1e-12 of what the condition number allows. Points are drawn from ranges that reach over most exponents, see
`tests/accuracy.py`; `python tests/accuracy.py` makes this page, and `tests/test_accuracy.py` holds the bounds.

| row | precision | of | ulp | condition | at | points |
| --- | --- | --- | --- | --- | --- | --- |
"""


def page(reader):
    """The page's text."""
    lines = []
    for row in FUNCTIONS:
        for dtype in (np.float64, np.float32):
            for what, entries in measured(row.name, dtype, reader).items():
                error, condition, point = worst(entries)
                of = what if what == "value" else f"partial {what}"
                at = ", ".join(f"{float(x):.5g}" for x in point)
                lines.append(f"| {row.name}{'*' if is_scipys(row) else ''} | {dtype.__name__} | {of} | {error:.2g} | "
                             f"{condition:.2g} | {at} | {len(entries)} |\n")
    return HEADER + "".join(lines)


if __name__ == "__main__":
    from test_instructions import run

    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(lambda row, operands: run(row, operands, "contiguous")), encoding="utf-8")
