"""The rules of `making`, `counting`, `polynomials`, `elementwise`, and out=, where=, dtype= of functions and ufuncs.

The cases of `CASES` are swept, as in `test_numpy_functions.py`; a function of those modules without a case fails a test. What
is not here: functions whose purpose is to write into an array (`test_numpy_writing.py`).
"""

import functools
import itertools

import numpy as np
import pytest
from test_numpy_functions import (
    arguments,
    assert_agrees,
    assert_agrees_in_single_precision,
    assert_agrees_on_other_layouts,
    assert_same,
    drawn,
    with_matrices,
)

import tape
from tape.recording import dispatch as rules
from tape.rules import counting, elementwise, making, polynomials

CASES: dict = {}


def cases(function, *entries):
    """Register cases of a NumPy function: (callable, shapes or arrays...)."""
    CASES.setdefault(function, []).extend(entries)


# ---------------------------------------------------------------------- making

for _num, _endpoint in itertools.product((0, 1, 2, 5), (True, False)):
    for _shapes in (((), ()), ((3,), ()), ((2, 1), (3,))):
        cases(np.linspace, (lambda a, b, n=_num, e=_endpoint: np.linspace(a, b, n, e), *_shapes))
    cases(np.linspace, (lambda a, n=_num, e=_endpoint: np.linspace(0, a, n, e, axis=-1), (2,)))
    cases(np.logspace, (lambda a, b, n=_num, e=_endpoint: np.logspace(a, b, n, e, base=2.0), (2,), ()))
    cases(np.geomspace, (lambda a, b, n=_num, e=_endpoint: np.geomspace(a, b, n, e), (2,), ()),
          (lambda a, n=_num, e=_endpoint: np.geomspace(-1.0, -a, n, e, axis=-1), (2,)))
cases(np.linspace, (lambda a, b: np.linspace(a, b, 4, retstep=True), (), ()), (lambda a: np.linspace(1, a, 4), ()))
cases(np.block, (lambda x, y: np.block([x, y, 1.0]), (2,), (3,)),
      (lambda x, y: np.block([[x, np.ones((2, 1))], [y, 2.0]]), (2, 3), (1, 3)),
      (lambda x: np.block([[x, 2 * x], [np.zeros((3, 3)), x]]), (3, 3)), (lambda x: np.block([[[x]], [[x]]]), (2, 3)),
      (lambda x: np.block([x[0], x[1]]), (2,)), (lambda x: np.block([[x[0]], [x[1]]]), (2,)))
if hasattr(np, "unstack"):
    cases(np.unstack, (np.unstack, (3, 2)), (lambda x: np.unstack(x, axis=-1), (3, 2)))
cases(np.trim_zeros, *((lambda x, t=_trim: np.trim_zeros(np.concatenate([[0.0, 0.0], x, [0.0]]), t), (3,))
                       for _trim in ("fb", "f", "b")))
for _axis in (0, 1, -1):
    cases(np.apply_along_axis, (lambda x, a=_axis: np.apply_along_axis(np.sum, a, x), (3, 4)),
          (lambda x, a=_axis: np.apply_along_axis(lambda v: v[::-1] * v, a, x), (2, 3, 2)),
          (lambda x, a=_axis: np.apply_along_axis(lambda v, s: np.outer(v, v) * s, a, x, 2.0), (2, 3)))
cases(np.apply_over_axes, (lambda x: np.apply_over_axes(np.sum, x, [0, 2]), (2, 3, 4)),
      (lambda x: np.apply_over_axes(np.mean, x, -1), (2, 3)))
for _function in (np.triu_indices_from, np.tril_indices_from, np.diag_indices_from):
    cases(_function, (lambda x, f=_function: x[f(x)], (3, 3)))
cases(np.isrealobj, (lambda x: x * np.isrealobj(x), (3,)))
cases(np.common_type, (lambda x: x.astype(np.common_type(x)), (3,)))
for _function in (np.array_repr, np.array_str, np.array2string):
    cases(_function, (lambda x, f=_function: x * len(f(x)[:1]), (3,)))

# ---------------------------------------------------------------------- counting

EDGES = [0.1, 0.3, 0.45, 0.8]
cases(np.histogram, (lambda x: np.histogram(x, 3)[0], (9,)), (lambda x: np.histogram(x, EDGES)[0], (3, 4)),
      (lambda x, w: np.histogram(x, EDGES, weights=w)[0], (9,), (9,)), (lambda x: np.histogram(x, 4)[1], (7,)),
      (lambda x, w: np.histogram(x, 4, density=True, weights=w), (8,), (8,)), (lambda x: np.histogram(x, 3, (0, 1))[0], (9,)),
      (lambda x: np.histogram(x, EDGES, density=True)[0], (9,)), (lambda w: np.histogram(EDGES, EDGES, weights=w)[0], (4,)),
      (lambda e: np.histogram(np.linspace(0, 1, 9), np.cumsum(e), density=True)[0], (4,)))
cases(np.histogram_bin_edges, (lambda x: np.histogram_bin_edges(x, 4), (9,)),
      (lambda x: np.histogram_bin_edges(x, 4, (0.0, 2.0)) * x[0], (9,)))
cases(np.bincount, (lambda w: np.bincount([0, 2, 2, 5], w), (4,)), (lambda w: np.bincount([0, 2, 2], w, minlength=7), (3,)),
      (np.bincount, np.array([1, 1, 3])), (lambda x: np.bincount(np.argsort(x), weights=x), (5,)))
cases(np.lexsort, (lambda x: np.lexsort(x), (3, 4)), (lambda x: np.lexsort((x, [1, 0, 0, 1, 0])), (5,)),
      (lambda x: np.lexsort((x[0], np.round(x[1] * 3))), (2, 7)), (lambda x: np.lexsort((x, x > 0.5), axis=0), (3, 2)))
cases(np.unique, (np.unique, (2, 3)), (np.unique, (0,)), (lambda x: np.unique(np.concatenate([x, x[:2]])), (4,)),
      (lambda x: np.unique(np.concatenate([x, x[:2]]), True, True, True), (4,)),
      (lambda x: np.unique(np.round(x * 3)[None], return_inverse=True), (7,)))
cases(np.union1d, (np.union1d, (3,), (4,)), (lambda x: np.union1d(x, x[:2]), (3,)))
cases(np.intersect1d, (lambda x: np.intersect1d(x, x[1:]), (4,)))
cases(np.setdiff1d, (lambda x: np.setdiff1d(x, x[1:3]), (4,)), (lambda x: np.setdiff1d(x, x[1:3], assume_unique=True), (4,)))
cases(np.isin, (lambda x: np.isin(x, x[:1]), (2, 3)), (lambda x: np.isin(np.arange(3), np.round(x), invert=True), (4,)),
      (lambda x: np.isin(x, []), (2,)))
for _function, _axis in itertools.product((np.nanargmax, np.nanargmin), (None, 0, -1)):
    cases(_function, (functools.partial(_function, axis=_axis), (3, 4)),
          (lambda x, f=_function, a=_axis: f(np.where(x > 0.8, np.nan, x), axis=a, keepdims=True), (3, 4)))

# ---------------------------------------------------------------------- polynomials

cases(np.polyval, (np.polyval, (4,), (2, 3)), (lambda x: np.polyval([1.0, 2.0, 3.0], x), (3,)),
      (lambda p: np.polyval(p, 2.0), (3,)))
for _function in (np.polyadd, np.polysub, np.polymul, np.polydiv):
    for _shapes in (((4,), (2,)), ((2,), (4,)), ((3,), (3,))):
        cases(_function, (_function, *_shapes))
    cases(_function, (lambda p, f=_function: f([1.0, 2.0, 3.0], p), (2,)))
cases(np.polymul, (lambda p: np.polymul(p, [0.0, 1.0, 2.0]), (3,)))
for _m in (0, 1, 2):
    cases(np.polyder, (functools.partial(np.polyder, m=_m), (5,)))
    cases(np.polyint, (functools.partial(np.polyint, m=_m), (3,)))
cases(np.polyint, (lambda p, k: np.polyint(p, 2, k), (3,), (2,)), (lambda p, k: np.polyint(p, 2, k), (3,), ()))
cases(np.polyfit, (lambda x, y: np.polyfit(x, y, 2), (6,), (6,)), (lambda x, y, w: np.polyfit(x, y, 1, w=w), (5,), (5,), (5,)),
      (lambda y: np.polyfit(np.arange(5), y, 3), (5, 2)), (lambda x: np.polyfit(x, [1, 3, 2, 4], 1), (4,)))
cases(np.poly, (np.poly, (4,)), (np.poly, (1,)))
cases(np.vander, (np.vander, (4,)), (lambda x: np.vander(x, 2, increasing=True), (3,)), (lambda x: np.vander(x, 0), (3,)))

# ---------------------------------------------------------------------- elementwise

for _function in (np.round, np.around):
    cases(_function, (_function, (3, 4)), (lambda x, f=_function: f(x + 0.013, 1) * x, (5,)),
          (lambda x, f=_function: f(97 * x, -1), (5,)),
          (_function, np.array([12, 15, 25])), (lambda x, f=_function: f(x, -1), np.array([12, 14, 26])),
          (lambda x: x.round(2), (5,)))
cases(np.fix, (lambda x: np.fix(3 * x - 1.5) * x, (7,)))
for _axis in (0, -1):
    cases(np.unwrap, (lambda x, a=_axis: np.unwrap(20.0 * x, axis=a), (4, 5)),
          (lambda x, a=_axis: np.unwrap(9.0 * x, discont=4.0, axis=a, period=3.5), (5, 4)))
cases(np.imag, (lambda x: np.imag(x) + x, (3,)))
cases(np.angle, (lambda x: np.angle(x - 0.53) * x, (5,)), (lambda x: np.angle(x - 0.53, deg=True), (2, 3)))
cases(np.isreal, (lambda x: x * np.isreal(x), (3,)))
cases(np.iscomplex, (lambda x: x * (2.0 + np.iscomplex(x)), (3,)), (lambda x: x if not np.iscomplex(x) else 2 * x, ()))
cases(np.isposinf, (lambda x: np.isposinf(x) * x, (3,)))
cases(np.isneginf, (lambda x: np.isneginf(-1.0 / (x - x)) * 1.0, (3,)))
for _function in (np.isclose, np.allclose, np.array_equal, np.array_equiv):
    cases(_function, (lambda x, f=_function: x * f(x, (x * 2.0) / 2.0), (4,)), (lambda x, f=_function: x * f(x, x[::-1]), (4,)))
cases(np.array_equal, (lambda x: x * np.array_equal(x, np.ones(3)), (4,)))
cases(np.array_equiv, (lambda x: x * np.array_equiv(x, x[None]), (4,)))
cases(np.astype, (lambda x: np.astype(np.round(x), np.int64), (4,)))

FLAT = [pytest.param(f, args, id=f"{function.__name__}-{k}") for function, entries in CASES.items()
        for k, (f, *args) in enumerate(entries)]


@pytest.mark.parametrize(("f", "args"), FLAT)
def test_function(f, args):
    assert_agrees(f, *arguments(args))


@pytest.mark.slow
@pytest.mark.parametrize(("f", "args"), FLAT)
def test_function_in_single_precision(f, args):
    assert_agrees_in_single_precision(f, args)


@pytest.mark.slow
@pytest.mark.parametrize(("f", "args"), with_matrices(FLAT))
def test_function_of_non_contiguous_arguments(f, args):
    assert_agrees_on_other_layouts(f, args)


def test_every_function_has_a_case():
    modules = {module.__name__ for module in (counting, elementwise, making, polynomials)}
    recorded = {f for f, rule in rules.FUNCTIONS.items() if rule.__module__ in modules and rules.has_rule(f)}
    assert recorded <= set(CASES)


# ---------------------------------------------------------------------- where=, dtype=, initial= of reductions

MASK = np.arange(12).reshape(3, 4) % 3 != 1


@pytest.mark.parametrize("name", ["sum", "prod", "mean", "var", "std", "max", "min", "all", "any"])
@pytest.mark.parametrize(("axis", "keepdims"), [(None, False), (0, True), (-1, False), ((0, 1), True)])
def test_reductions_of_chosen_elements(name, axis, keepdims):
    settings = {"initial": 0.5} if name in ("max", "min") else {}
    function = functools.partial(getattr(np, name), axis=axis, keepdims=keepdims, **settings)
    assert_agrees(lambda x: function(x, where=MASK), drawn((3, 4)))
    assert_agrees(lambda x: function(x, where=x > 0.4), drawn((3, 4)))
    assert_agrees(lambda x: function(x, where=MASK), drawn((3, 4)).astype(np.float32))


@pytest.mark.parametrize("name", ["sum", "prod", "mean", "var", "std"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("given", [np.float32, np.float64, np.int64])
def test_reductions_in_another_precision(name, dtype, given):
    x = (drawn((5,)) * 10).astype(given)
    got, expected = tape.record(lambda x: getattr(np, name)(x, dtype=dtype), x).forward(x), getattr(np, name)(x, dtype=dtype)
    assert got.dtype == expected.dtype
    np.testing.assert_allclose(got, expected, rtol=1e-6)


@pytest.mark.parametrize("f", [
    lambda x: np.add.reduce(x, initial=2.0), lambda x: np.multiply.reduce(x, axis=None, where=MASK),
    lambda x: np.maximum.reduce(x, axis=1, initial=0.5), lambda x: np.sum(x, axis=0, initial=3.0, where=MASK),
    lambda x: np.logical_and.reduce(x > 0.3, axis=1), lambda x: np.max(x[:0], axis=0, initial=1.5),
    lambda x: np.all(x[:0], axis=0), lambda x: np.any(x[:, :0], axis=1), lambda x: np.min(x[:, :0], axis=1, initial=2.0),
    lambda x: np.add(x, x[0], dtype=np.float64), lambda x: np.sin(x, dtype=np.float64),
    lambda x: np.max(x, axis=(), initial=0.5)])
def test_settings_of_reductions(f):
    assert_agrees(f, drawn((3, 4)))
    assert_agrees(f, drawn((3, 4)).astype(np.float32))


def test_quantiles_leave_out_nan():
    x = np.array([[0.4, np.nan, 0.7, 0.1], [0.3, 0.9, 0.5, 0.2], [np.nan, np.nan, 0.6, np.nan]])
    for f in (lambda x: np.nanmedian(x, axis=1), lambda x: np.nanquantile(x, [0.2, 0.9], axis=1), np.nanmedian,
              lambda x: np.nanpercentile(x, 30, axis=0, method="hazen")):
        np.testing.assert_allclose(tape.vjp(f, x)[0], f(x), rtol=1e-14)
        tape.check_grads(lambda v: f(np.where(np.isnan(x), x, v)), (np.nan_to_num(x),))  # noqa: B023
    with pytest.warns(RuntimeWarning, match="All-NaN"):
        expected = np.nanmedian(x[:, 1::2], axis=1)
    np.testing.assert_array_equal(tape.vjp(lambda x: np.nanmedian(x[:, 1::2], axis=1), x)[0], expected)
    with pytest.raises(ValueError, match="All-NaN"):
        tape.record(lambda x: np.nanargmax(x[:, 1::2], axis=1), x)


def test_counts_are_never_stale():
    """Replays at points with other counts, other orders, other lengths."""
    points = [np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.4, 0.4, 0.1, 0.4]), np.array([1.0, 1.0, 1.0, 1.0])]
    for f in (lambda x: np.unique(x) * 1.0, lambda x: np.histogram(x, [0, 0.25, 0.5, 1.0])[0] * 1.0,
              lambda x: np.bincount(np.round(10 * x).astype(int)) * 1.0, lambda x: np.histogram(x, 2)[0] * x[:2],
              lambda x: np.lexsort((x, x > 0.3)) * 1.0, lambda x: np.unique(x, return_counts=True)[1] * x[0]):
        for x in (*points, *points):
            assert_same(tape.vjp(f, x)[0], f(x))


def test_special_points_of_elementwise_functions():
    x = np.array([-np.inf, -1.5, -0.0, 0.0, 2.5, 3.5, np.inf, np.nan])
    for f in (np.round, np.fix, np.angle, np.signbit, np.isposinf, np.isneginf, lambda x: np.isclose(x, x[::-1]), np.modf,
              lambda x: np.isclose(x, x, equal_nan=True), lambda x: np.ldexp(x, 3), lambda x: np.logaddexp2(x, 1.0)):
        with np.errstate(all="ignore"):
            expected = f(x)
        for got, wanted in zip(np.atleast_2d(*[tape.record(f, x).forward(x)]), np.atleast_2d(expected), strict=True):
            np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("f", [
    lambda x: x.mT * 1.0, lambda x: x.real + x.imag, lambda x: divmod(x, 0.3)[1], lambda x: divmod(2.0, x),
    lambda x: round(3.3 * x[0, 0], 1) * x, lambda x: x.conj().round(1)[:, 1:] + x.compress([True, False, True], 1),
    lambda x: x[x.nonzero()]])
def test_methods_and_python_functions(f):
    assert_agrees(f, drawn((3, 3), 0.61, 0.89))


def test_ldexp_and_products_of_matrices_with_vectors():
    assert_agrees(lambda x: np.ldexp(x, [1, -2, 3]), drawn((3,)))
    if hasattr(np, "matvec"):
        assert_agrees(lambda a, x: np.matvec(a, x), drawn((2, 3, 4)), drawn((4,), seed=2))
        assert_agrees(lambda x, a: np.vecmat(x, a), drawn((3,)), drawn((2, 3, 4), seed=2))
