"""Where the chain rule meets zero times infinity: every mode gives the same, and warns where a derivative may be hidden."""

import itertools
import math
import warnings

import numba
import numpy as np
import pytest

import tape
from compiled.table.instructions import ROWS, undefined

INF = math.inf


def softplus(x):
    return np.log1p(np.exp(x))


def shifted_softplus(x):
    return np.log(1.0 + np.exp(x)) - x


def gompertz(x):
    return np.exp(-np.exp(x))


def length(x):
    return np.sqrt(x * x)


def cube_root_of_cube(x):
    return np.cbrt(x * x * x)


def root_of_length(x):
    return (x * x) ** 0.25


def log_of_bell(x):
    return np.log(np.exp(-x * x))


def guarded_root(x):
    return np.where(x > 0.0, np.sqrt(x), 0.0)


def guarded_log(x):
    return np.where(x > 0.0, np.log(x), 0.0)


def guarded_exp(x):
    return np.where(x > 700.0, x, np.exp(x))


def capped_exp(x):
    return np.minimum(np.exp(x), 1.0)


def angle(x):
    return np.arctan(1.0 / (x * x))


def bump(x):
    return np.exp(-1.0 / (x * x))


def squashed(x):
    return np.tanh(np.sinh(x))


def logistic(x):
    return 1.0 / (1.0 + np.exp(-x))


def nothing_of_exp(x):
    return 0.0 * np.exp(x)


def log_of_nothing(x):
    return np.log(0.0 * x)


def power(x):
    return x**1.5


def entropy(x):
    return x * np.log(x)


CASES = [  # function, point, derivative, and the place that a warning about it names, if there is one
    (softplus, 800.0, 0.0, r"exp\(800\)"),
    (shifted_softplus, 800.0, -1.0, r"exp\(800\)"),
    (gompertz, 800.0, 0.0, None),
    (length, 0.0, 0.0, r"sqrt\(0\)"),
    (cube_root_of_cube, 0.0, 0.0, r"cbrt\(0\)"),
    (root_of_length, 0.0, 0.0, r"pow\(0, 0.25\)"),
    (log_of_bell, 50.0, 0.0, r"log\(0\)"),
    (guarded_root, 0.0, 0.0, None),
    (guarded_log, -1.0, 0.0, None),
    (guarded_log, 0.0, 0.0, None),
    (guarded_exp, 800.0, 1.0, None),
    (capped_exp, 800.0, 0.0, None),
    (angle, 0.0, 0.0, None),
    (bump, 0.0, 0.0, None),
    (squashed, 800.0, 0.0, None),
    (logistic, -800.0, 0.0, None),
    (nothing_of_exp, 800.0, 0.0, r"exp\(800\)"),
    (log_of_nothing, 1.0, 0.0, r"log\(0\)"),
    (power, 0.0, 0.0, None),
    (entropy, 0.0, -INF, r"log\(0\)"),
]
IDS = [f"{f.__name__}-{x:g}" for f, x, _, _ in CASES]
each_case = pytest.mark.parametrize(("f", "x", "slope", "place"), CASES, ids=IDS)
quiet = pytest.mark.filterwarnings("ignore::tape.UndefinedGradientWarning", "ignore::RuntimeWarning")

ONES = np.ones(2)


def summed(f):
    return lambda x: np.sum(f(x))


def of_variables(f, x):
    v = tape.variable(x, requires_grad=True)
    f(v).backward()
    return v.grad


def pulled_back(f, x):
    _, pullback = tape.vjp(f, x)
    (gradient,) = pullback(ONES)
    return gradient


def by_scan(f):
    return lambda x: tape.scan(lambda carry, row: (carry + f(row), None), 0.0, x)[0]


def by_fori(f):
    return lambda x: tape.fori(0, 2, lambda k, carry: carry + f(x[k]), 0.0)


def by_cond(f):
    return lambda x: tape.cond(x[0] < INF, lambda x: np.sum(f(x)), lambda x: np.sum(x), x)


def columns(f, x):
    return np.atleast_2d(tape.jacobian(f, mode="forward")(x)).sum(axis=0)


FIRST = {
    "reverse": lambda f, x: tape.grad(summed(f))(x),
    "forward": columns,
    "pullback": pulled_back,
    "eager": lambda f, x: of_variables(summed(f), x),
    "compiled": lambda f, x: tape.compile(summed(f), x).value_and_grad(x)[1],
    "compiled forward": lambda f, x: np.array([tape.compile(summed(f), x).jvp((x,), (e,))[1] for e in np.eye(2)]),
    "lanes": lambda f, x: tape.batch(tape.grad(f))(x),
    "scan": lambda f, x: tape.grad(by_scan(f))(x),
    "scan forward": lambda f, x: columns(by_scan(f), x),
    "fori": lambda f, x: tape.grad(by_fori(f))(x),
    "cond": lambda f, x: tape.grad(by_cond(f))(x),
    "symbolic": lambda f, x: tape.record(summed(f), x).build_grad(0).forward(x),
}


@quiet
@pytest.mark.parametrize("native", ["0", "always"])
@pytest.mark.parametrize("mode", FIRST)
@each_case
def test_first_derivatives_agree(f, x, slope, place, mode, native, monkeypatch):
    monkeypatch.setenv("TAPE_NATIVE", native)
    np.testing.assert_array_equal(FIRST[mode](f, np.full(2, x)), np.full(2, slope))


def jitted(f):
    return numba.njit(error_model="numpy")(f)


@pytest.mark.parametrize("f", [f for f, *_ in CASES], ids=IDS)
def test_jitted_functions_agree(f):
    """Forward, reverse, and reverse over an array, where a statement is one of a loop."""
    g = jitted(f)

    @numba.njit(error_model="numpy")
    def total(x):
        result = 0.0
        for k in range(len(x)):
            result += g(x[k])
        return result

    x, slope = next((x, slope) for known, x, slope, _ in CASES if known is f)
    assert tape.grad(g)(x) == slope
    assert tape.jvp(g, (x,), (1.0,))[1] == slope
    np.testing.assert_array_equal(tape.grad(total)(np.full(2, x)), np.full(2, slope))


WITH_INFINITE_CURVATURE = (length, root_of_length, power, entropy)


def forward_twice(f, x):
    return tape.jvp(lambda x: tape.jvp(summed(f), (x,), (ONES,))[1], (x,), (ONES,))[1]


SECOND = {
    "product": lambda f, x: np.sum(tape.hvp(summed(f))(x, ONES)),
    "hessian": lambda f, x: np.sum(tape.hessian(summed(f))(x)),
    "reverse twice": lambda f, x: np.sum(tape.grad(lambda x: np.sum(tape.grad(summed(f))(x)))(x)),
    "forward twice": forward_twice,
    "scan": lambda f, x: np.sum(tape.hvp(by_scan(f))(x, ONES)),
    "lanes": lambda f, x: np.sum(tape.batch(lambda x: tape.hvp(f)(x, 1.0))(x)),
}


@quiet
@pytest.mark.parametrize("native", ["0", "always"])
@pytest.mark.parametrize("mode", SECOND)
@each_case
def test_second_derivatives_agree(f, x, slope, place, mode, native, monkeypatch):
    """A finite second derivative is 0 at all of these points by the same rule; where there is none it is infinite."""
    monkeypatch.setenv("TAPE_NATIVE", native)
    expected = INF if f in WITH_INFINITE_CURVATURE else 0.0
    assert SECOND[mode](f, np.full(2, x)) == expected


@pytest.mark.parametrize("native", ["0", "always"])
@pytest.mark.parametrize("mode", ["reverse", "eager", "pullback"])
@each_case
def test_a_warning_names_the_place_and_there_is_none_where_nothing_is_hidden(f, x, slope, place, mode, native, monkeypatch):
    monkeypatch.setenv("TAPE_NATIVE", native)
    with warnings.catch_warnings(record=True) as given:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", tape.UndefinedGradientWarning)
        FIRST[mode](f, np.full(2, x))
    if place is None:
        assert not given
    else:
        assert given
        assert all(w.category is tape.UndefinedGradientWarning for w in given)
        with pytest.warns(tape.UndefinedGradientWarning, match=place):
            warnings.warn_explicit(given[0].message, given[0].category, "", 0)


@pytest.mark.parametrize("native", ["0", "always"])
@pytest.mark.parametrize(("f", "x", "place"), [(f, x, place) for f, x, _, place in CASES if f in (length, cube_root_of_cube)])
def test_strict_raises_where_an_infinity_was_dropped(f, x, place, native, monkeypatch):
    monkeypatch.setenv("TAPE_NATIVE", native)
    with tape.strict(), pytest.raises(tape.UndefinedGradient, match=place):
        tape.grad(f)(x)


@pytest.mark.parametrize("native", ["0", "always"])
def test_what_is_not_chosen_drops_infinities_without_a_word(native, monkeypatch):
    """The adjoint of a root at 0 is infinite, but the maximum did not take the argument."""
    monkeypatch.setenv("TAPE_NATIVE", native)
    x = np.array([-1.0, 4.0])
    np.testing.assert_array_equal(tape.grad(lambda x: np.sum(np.sqrt(np.maximum(x, 0.0))))(x), [0.0, 0.25])
    np.testing.assert_array_equal(tape.grad(lambda x: np.sum(np.sqrt(np.where(x > 0.0, x, 0.0))))(x), [0.0, 0.25])


@pytest.mark.parametrize("native", ["0", "always"])
def test_a_list_is_clean_after_a_sweep_that_kept_its_adjoints(native, monkeypatch):
    """What an infinite adjoint left is not in the next gradient."""
    monkeypatch.setenv("TAPE_NATIVE", native)
    gradient = tape.grad(lambda x: np.sum(np.cbrt(x * x * x) + x))
    with pytest.warns(tape.UndefinedGradientWarning, match=r"cbrt\(0\) .*1 of 2 elements"):
        np.testing.assert_allclose(gradient(np.array([0.0, 1.0])), [1.0, 2.0])
    np.testing.assert_allclose(gradient(np.array([2.0, 1.0])), [2.0, 2.0])


GRID = (-2.0, -1.0, -0.5, 0.0, 0.3, 0.5, 1.0, 2.0)


@pytest.mark.parametrize("row", [row for row in ROWS if row.arity and any(row.partials)], ids=lambda row: row.name)
def test_rows_with_an_infinite_derivative_of_a_finite_value_say_so(row):
    """Only their lists are looked at for infinities that were dropped."""
    found = False
    for point in itertools.product(map(np.float64, GRID), repeat=row.arity):
        with np.errstate(all="ignore"):
            out = np.float64(row.value(*point))
            partials = [p(*point, out) for p in row.partials if p not in (None, undefined)]
        found |= bool(np.isfinite(out) and np.isinf(partials).any())
    assert found == row.singular
