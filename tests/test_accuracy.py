"""Values and partials to the last digits: every row against mpmath over most exponents, and the engines at some of the points.

What is here: the bounds, and that `docs/accuracy.md` says what is measured. What is not: the points and the exact values
(`accuracy.py`), ordinary and special points (`test_instructions.py`).
"""

import numpy as np
import pytest
from accuracy import FULL, FUNCTIONS, RANGES, REDUCED, allowance, is_scipys, measured, stated
from rows import read
from test_instructions import run

from compiled.instructions import TABLE

PRECISIONS = [np.float64, np.float32]
LARGEST_ERROR = 4.0
"""In units of the last place, times the condition number where that is 10 or more."""

SCIPYS_RELATIVE_ERROR = 1e-12
"""Of rows on SciPy's kernels, in double precision."""

CANCELS = ("logaddexp", "rel_entr", "kl_div", "digamma_rise")
"""Rows whose value is a difference that vanishes somewhere."""


SECOND_ORDER = {("digamma_rise", 0)}
"""A difference of two values of the zeta function, which only second derivatives of `beta` and `betaln` take."""


def sweeps(row, operands):
    """Value and partials by the compiled sweeps, over contiguous arrays."""
    return run(row, operands, "contiguous")


def largest_error(row, dtype):
    """In units of the last place."""
    scipys = SCIPYS_RELATIVE_ERROR / np.finfo(dtype).eps if is_scipys(row) else 0.0
    return max(LARGEST_ERROR, scipys)


def assert_bounds_hold(row, dtype, reader, count):
    for what, entries in measured(row.name, dtype, reader, count).items():
        if what == "value" and (is_scipys(row) or row.name in CANCELS):
            continue
        if (row.name, what) in SECOND_ORDER:
            continue
        for error, condition, point in entries:
            assert error <= largest_error(row, dtype) * allowance(condition), (what, point, error, condition)


def test_every_function_has_its_ranges():
    assert {row.name for row in FUNCTIONS} <= set(RANGES) <= set(TABLE.opcode)


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("reader", [read, sweeps])
@pytest.mark.parametrize("row", FUNCTIONS, ids=lambda row: row.name)
def test_partials_have_all_their_digits(row, reader, dtype):
    assert_bounds_hold(row, dtype, reader, REDUCED)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("reader", [read, sweeps])
@pytest.mark.parametrize("row", FUNCTIONS, ids=lambda row: row.name)
def test_partials_have_all_their_digits_at_many_points(row, reader, dtype):
    assert_bounds_hold(row, dtype, reader, FULL)


def test_the_page_says_what_is_measured():
    """Every row, operand and precision; no point of the reduced set is further off than the worst of all that it names."""
    page, found = stated(), {}
    for row in FUNCTIONS:
        for dtype in PRECISIONS:
            for what, entries in measured(row.name, dtype, sweeps, REDUCED).items():
                found[row.name, dtype.__name__, what] = max(error / allowance(condition) for error, condition, _ in entries)
    assert set(found) == set(page)
    more = {key: (error, page[key]) for key, error in found.items() if error > 1.1 * page[key] + 1.0}
    assert not more
