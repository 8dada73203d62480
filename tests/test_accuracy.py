"""Values and partials to the last digits: every row against mpmath over most exponents, and the engines at some of the points.

What is here: the bounds, and that `docs/accuracy.md` says what is measured. What is not: the points and the exact values
(`accuracy.py`), ordinary and special points (`test_instructions.py`).
"""

import numpy as np
import pytest
from accuracy import FULL, FUNCTIONS, PAGE, RANGES, REDUCED, allowance, is_scipys, measured
from rows import read
from test_instructions import run

import tape
from compiled.table.instructions import TABLE

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
        # NumPy's cbrt is the C library's, whose own error is up to 4 units in some.
        own = 4.0 if reader is read and row.name == "cbrt" else 0.0
        for error, condition, point in entries:
            assert error <= (largest_error(row, dtype) + own) * allowance(condition), (what, point, error, condition)


def test_every_function_has_its_ranges():
    assert {row.name for row in FUNCTIONS} <= set(RANGES) <= set(TABLE.opcode)


def test_the_page_has_every_function():
    """Its figures are made by `python tests/accuracy.py`, which takes minutes."""
    lines = [line.split("|")[1:3] for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")][2:]
    assert {(row.strip().rstrip("*"), precision.strip()) for row, precision in lines} == {
        (row.name, dtype.__name__) for row in FUNCTIONS for dtype in PRECISIONS}


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


# ---------------------------------------------------------------------- second derivatives at the origin


@pytest.mark.parametrize("exponent", range(6))
def test_powers_at_zero(exponent):
    """Of a constant exponent and of a recorded one."""
    second = 2.0 if exponent == 2 else 0.0
    assert tape.grad(lambda x: x**exponent)(0.0) == (exponent == 1)
    assert tape.hessian(lambda x: x**exponent)(0.0) == second
    assert tape.hessian(lambda v: v[0] ** v[1])(np.array([0.0, exponent]))[0, 0] == second


SQUARES = {
    "norm": lambda v: np.linalg.norm(v) ** 2,
    "norm along an axis": lambda v: np.sum(np.linalg.norm(v[None, :], axis=1) ** 2),
    "product": lambda v: np.multiply(*[np.linalg.norm(v)] * 2),
    "sqrt": lambda v: np.square(np.sqrt(v[0] ** 2 + v[1] ** 2)),
    "hypot": lambda v: np.hypot(v[0], v[1]) ** 2,
    "abs": lambda v: np.sum(np.abs(v) ** 2),
}


@pytest.mark.parametrize("name", SQUARES)
def test_squares_of_lengths_are_smooth(name):
    """At the origin, where lengths are not; the values stay NumPy's."""
    square, origin, other = SQUARES[name], np.zeros(2), np.array([0.3, -0.7])
    for x in (origin, other):
        value, gradient = tape.value_and_grad(square)(x)
        assert value == square(x)
        np.testing.assert_allclose(gradient, 2 * x, rtol=1e-15)
        np.testing.assert_allclose(tape.hessian(square)(x), 2 * np.eye(2), rtol=1e-15)


def test_lengths_that_were_written_to_are_no_lengths():
    def f(v):
        length = np.abs(v)
        length[0] = 5.0 * v[1]
        return np.sum(length**2)

    np.testing.assert_array_equal(tape.hessian(f)(np.array([1.0, 2.0])), [[0.0, 0.0], [0.0, 52.0]])


def test_a_sum_of_no_exponentials_has_the_slope_zero():
    np.testing.assert_array_equal(tape.grad(tape.logsumexp)(np.full(2, -np.inf)), [0.0, 0.0])
