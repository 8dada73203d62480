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

POINT, ONES = np.ones(2), np.ones(2)


def summed(f):
    return lambda x: np.sum(f(x))


def of_variables(f, x):
    v = tape.variable(x, requires_grad=True)
    f(v).backward()
    return v.grad


def by_scan(f):
    return lambda x: tape.scan(lambda carry, row: (carry + f(row), None), 0.0, x)[0]


def by_fori(f):
    return lambda x: tape.fori(0, 2, lambda k, carry: carry + f(x[k]), 0.0)


def by_cond(f):
    return lambda x: tape.cond(x[0] < INF, lambda x: np.sum(f(x)), lambda x: np.sum(x), x)


def columns(f, x):
    return tape.jacobian(f, mode="forward")(x).sum(axis=0)


FIRST = {
    "reverse": lambda f, x: tape.grad(summed(f))(x),
    "forward": lambda f, x: columns(f, x),
    "pullback": lambda f, x: tape.vjp(f, x)[1](ONES)[0] if isinstance(tape.vjp(f, x)[1](ONES), tuple) else tape.vjp(f, x)[1](ONES),
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
