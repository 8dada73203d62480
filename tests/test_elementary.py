"""The elementary functions that are the project's own: errors in units of the last place against mpmath, and special values."""

import mpmath
import numpy as np
import pytest

import tape
from compiled.elementary import FUNCTIONS

SAMPLES = 1500
LARGEST_ERROR = {"exp": 1.0, "log": 1.0, "expm1": 2.0, "log1p": 1.0, "tanh": 2.0}
"""In units of the last place, as the docstrings of `compiled.elementary` state."""

random = np.random.default_rng(0)
TINY = 10.0 ** random.uniform(-320, 0, SAMPLES)
HUGE = 10.0 ** random.uniform(-323, 308, SAMPLES)
NORMAL = random.normal(size=SAMPLES)
RANGES = {
    "exp": [random.uniform(-745, 709.7, SAMPLES), random.uniform(-746, -700, SAMPLES), NORMAL, TINY],
    "expm1": [random.uniform(-60, 709.7, SAMPLES), NORMAL, TINY, -TINY],
    "log": [HUGE, random.uniform(0.5, 2, SAMPLES), 1 + random.uniform(-1e-4, 1e-4, SAMPLES)],
    "log1p": [HUGE, random.uniform(-0.99, 2, SAMPLES), -TINY[TINY < 0.9], -1 + 10.0 ** random.uniform(-15, 0, SAMPLES)],
    "tanh": [random.uniform(-25, 25, SAMPLES), NORMAL, TINY, -TINY],
}
SPECIAL = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 5e-324, -5e-324, 1.0, -1.0, 1e308, -1e308, 709.782712893384,
                    709.782712893385, -745.13, -745.14, -708.4, 2.0**-1022, 2.0**-1023, -1 + 2.0**-53])


def evaluated(name, x):
    """The function by the forward sweep, over a contiguous array (vector code)."""
    return tape.record(getattr(np, name), x).forward(x)


def test_every_function_has_its_ranges():
    assert set(RANGES) == set(LARGEST_ERROR) == set(FUNCTIONS)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_errors_in_units_of_the_last_place(name):
    exact = getattr(mpmath, name)
    with mpmath.workprec(160):
        for x in RANGES[name]:
            for argument, got in zip(x, evaluated(name, x), strict=True):
                expected = exact(mpmath.mpf(float(argument)))
                unit = np.spacing(abs(float(expected)))
                assert abs(mpmath.mpf(float(got)) - expected) <= LARGEST_ERROR[name] * unit, (argument, got)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_special_values_are_numpys(name):
    with np.errstate(all="ignore"):
        expected = getattr(np, name)(SPECIAL)
    got = evaluated(name, SPECIAL)
    np.testing.assert_allclose(got, expected, rtol=4 * np.finfo(float).eps, atol=0.0)
    np.testing.assert_array_equal(np.signbit(got)[~np.isnan(got)], np.signbit(expected)[~np.isnan(expected)])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_scalars_strided_and_contiguous_arrays_agree_bit_for_bit(name):
    x = np.abs(RANGES[name][-1][:200])
    contiguous = evaluated(name, x)
    strided = tape.record(lambda x: getattr(np, name)(x[::-1]), x).forward(x)[::-1]
    scalars = [tape.record(getattr(np, name), float(v)).forward(float(v)) for v in x[:20]]
    np.testing.assert_array_equal(contiguous, strided)
    np.testing.assert_array_equal(contiguous[:20], scalars)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_float32_is_computed_in_double_and_rounded(name):
    x = np.abs(NORMAL).astype(np.float32)
    got = evaluated(name, x)
    assert got.dtype == np.float32
    expected = getattr(np, name)(x.astype(np.float64))
    assert np.max(np.abs(got - expected) / np.spacing(np.abs(got))) <= 0.5 + 1e-6
