"""Rules of `cumulative`, `sorting`, `quantiles`, `nan_reductions`, `assembling`: NumPy's values and dtypes, right derivatives.

The cases of `CASES` are swept, as in `test_numpy_functions.py`; a function of those modules without a case fails a test. In
single precision and with other layouts the sweep is marked slow.
"""

import functools
import itertools
import pathlib
import warnings

import numpy as np
import pytest
import scipy.signal
import scipy.special
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
from tape import supported
from tape.recording import dispatch as rules
from tape.rules import assembling, cumulative, nan_reductions, quantiles, sorting

CASES: dict = {}


def cases(function, *entries):
    """Register cases of a NumPy function: (callable, shapes or arrays...)."""
    CASES.setdefault(function, []).extend(entries)


# ---------------------------------------------------------------------- cumulative

for _function, _axis in itertools.product((np.cumsum, np.cumprod), (None, 0, 1, -1)):
    cases(_function, (functools.partial(_function, axis=_axis), (3, 4)), (functools.partial(_function, axis=_axis), (1, 7)))
for _function in (np.cumsum, np.cumprod):
    cases(_function, (_function, ()), (_function, (0,)), (functools.partial(_function, axis=1), (2, 0)),
          (_function, np.array([1, 2, 3])), (lambda x, f=_function: f(x > 0.5), (5,)),
          (lambda x, f=_function: f(x.T, axis=1), (3, 5)))
    cases(_function, (lambda x, f=_function: f(x, dtype=np.float64), (5,)))
cases(np.cumsum, (lambda x: x.cumsum(0) * x, (3, 2)), *((np.cumsum, (n,)) for n in (1, 2, 3, 6, 9)))
for _name in ("cumulative_sum", "cumulative_prod"):
    if hasattr(np, _name):
        cases(getattr(np, _name), (getattr(np, _name), (4,)),
              (functools.partial(getattr(np, _name), axis=1, include_initial=True), (2, 3)))
HOLES = np.array([[0.4, np.nan, 0.7], [0.3, 0.9, np.nan]])
for _function, _axis in itertools.product((np.nancumsum, np.nancumprod), (None, 0, -1)):
    cases(_function, (functools.partial(_function, axis=_axis), (2, 3)))
cases(np.diff, (np.diff, (5,)), (lambda x: np.diff(x, n=2), (5,)), (lambda x: np.diff(x, axis=0), (3, 4)), (np.diff, (3, 4)),
      (lambda x: np.diff(x, n=0), (3,)), (lambda x: np.diff(x, prepend=0.1, append=2.0), (4,)),
      (lambda x, y: np.diff(x, axis=0, prepend=y), (3, 2), (1, 2)), (lambda x: np.diff(x > 0.5), (5,)),
      (np.diff, np.array([1, 4, 2])), (np.diff, (1,)))
cases(np.ediff1d, (np.ediff1d, (2, 3)), (lambda x, y: np.ediff1d(x, to_begin=y, to_end=[1.0, 2.0]), (4,), (2,)))
cases(np.trapezoid, (np.trapezoid, (5,)), (lambda y, x: np.trapezoid(y, np.cumsum(x), axis=0), (4, 3), (4,)),
      (lambda y: np.trapezoid(y, dx=0.1, axis=0), (3, 2)), (lambda y, x: np.trapezoid(y, x), (2, 4), (2, 4)))
cases(np.gradient, (np.gradient, (5,)), (lambda x: np.gradient(x, 0.5), (3, 4)), (lambda x: np.gradient(x, axis=1), (3, 4)),
      (lambda x: np.gradient(x, 0.5, 2.0, edge_order=2), (4, 3)), (np.gradient, (2,)),
      (lambda x: np.gradient(x, np.array([0.0, 0.5, 2.0, 2.5]), axis=-1, edge_order=2), (3, 4)),
      (lambda x: np.gradient(x, np.array([0.0, 0.5, 2.0, 2.5])), (4,)), (lambda x, h: np.gradient(x, np.cumsum(h)), (4,), (4,)))

# ---------------------------------------------------------------------- sorting

LONG = sorting.MOST_COUNTED + 5
for _axis in (None, 0, 1, -1):
    cases(np.sort, (functools.partial(np.sort, axis=_axis), (3, 4)))
    cases(np.argsort, (functools.partial(np.argsort, axis=_axis), (3, 4)))
cases(np.sort, (np.sort, (LONG,)), (lambda x: np.sort(x, axis=0) * x, (LONG, 2)), (np.sort, (0,)), (np.sort, (1,)),
      (np.sort, np.array([3, 1, 2])), (lambda x: np.sort(x[::-1, ::2]), (3, 5)))
cases(np.argsort, (np.argsort, (LONG,)), (lambda x: x[np.argsort(-x)], (5,)), (lambda x: x.argsort(0, kind="stable"), (3, 2)),
      (functools.partial(np.argsort, kind="stable"), np.array([2, 1, 2, 1])))
cases(np.partition, (lambda x: np.partition(x, 2)[2], (6,)), (lambda x: np.sum(np.partition(x, 3, axis=0)[:3]), (5, 2)))
cases(np.argpartition, (lambda x: np.argpartition(x, 2)[2], (6,)))
for _axis, _keep in itertools.product((None, 0, -1, (0, 1)), (False, True)):
    cases(np.median, (functools.partial(np.median, axis=_axis, keepdims=_keep), (3, 4)))
    cases(np.quantile, (functools.partial(np.quantile, q=0.3, axis=_axis, keepdims=_keep), (3, 4)))
cases(np.median, (np.median, (5,)), (np.median, np.array([[1.0, np.nan], [2.0, 3.0]])[:, :1]))
cases(np.quantile, (lambda x: np.quantile(x, [0.0, 0.25, 1.0], axis=1), (3, 4)), (lambda x: np.quantile(x, 0.7), (LONG,)))
cases(np.percentile, (lambda x: np.percentile(x, [10, 50], axis=0), (5, 2)), (lambda x: np.percentile(x, 35), (6,)))
METHODS = ("inverted_cdf", "averaged_inverted_cdf", "closest_observation", "interpolated_inverted_cdf", "hazen", "weibull",
           "linear", "median_unbiased", "normal_unbiased", "lower", "higher", "midpoint", "nearest")
for _method in METHODS:
    cases(np.quantile, (lambda x, m=_method: np.quantile(x, [0.0, 0.33, 0.5, 0.8, 1.0], axis=1, method=m), (2, 5)))
    cases(np.percentile, (lambda x, m=_method: np.percentile(x, 40, method=m), (6,)))
for _axis, _keep in itertools.product((None, 0, -1, (0, 1)), (False, True)):
    for _nan_function in (np.nanquantile, np.nanpercentile):
        cases(_nan_function, (functools.partial(_nan_function, q=0.4, axis=_axis, keepdims=_keep), (3, 4)))
    cases(np.nanmedian, (functools.partial(np.nanmedian, axis=_axis, keepdims=_keep), (3, 4)))
KNOTS = np.array([0.1, 0.33, 0.34, 0.8])
for _side in ("left", "right"):
    cases(np.searchsorted, (lambda x, s=_side: np.searchsorted(KNOTS, x, side=s), (3, 4)),
          (lambda x, s=_side: np.searchsorted(np.cumsum(x), 1.0, side=s), (5,)),
          (lambda x, s=_side: np.searchsorted(np.array([1, 2, 2, 3]), x, side=s), np.array([0, 1, 2, 3, 4])))
cases(np.searchsorted, (lambda x: np.searchsorted(KNOTS[:0], x), (3,)), (lambda x: np.searchsorted(KNOTS[:1], x), (3,)))
cases(np.searchsorted, (lambda x: np.searchsorted(KNOTS[::-1], x, sorter=[3, 2, 1, 0]), (3,)))
cases(np.digitize, (lambda x: np.digitize(x, KNOTS[::-1]), (6,)),
      (lambda x: np.digitize(x, KNOTS[::-1], right=True), (6,)),
      (lambda x: np.digitize(np.arange(3.0), np.sort(x)[::-1]), (4,)),
      (lambda x: np.digitize(x, KNOTS), (6,)), (lambda x: np.digitize(x, KNOTS, right=True), (6,)))
cases(np.interp, (lambda x, y: np.interp(x, KNOTS, y), (3, 4), (4,)),
      (lambda x, h, y: np.interp(x, np.cumsum(h), y), (5,), (4,), (4,)),
      (lambda x: np.interp(x, KNOTS, KNOTS**2, left=-1.0, right=3.0), (7,)),
      (lambda x, y: np.interp(5.0 * x, KNOTS, y, period=0.77), (5,), (4,)),
      (lambda x, h, y: np.interp(x, np.cumsum(h)[::-1], y, period=-0.35), (5,), (4,), (4,)),
      (lambda y: np.interp(0.5, KNOTS, y), (4,)), (lambda x: np.interp(x, [0.5], [2.0]), (3,)))
cases(np.count_nonzero, (lambda x: np.count_nonzero(x > 0.5), (5,)),
      (lambda x: np.count_nonzero(x > 0.5, axis=0, keepdims=True), (3, 4)))

# ---------------------------------------------------------------------- without NaN

MASK = np.arange(12).reshape(3, 4) % 3 != 1
NAN_REDUCTIONS = (np.nansum, np.nanprod, np.nanmean, np.nanmax, np.nanmin, np.nanvar, np.nanstd)
for _function, _axis, _keep in itertools.product(NAN_REDUCTIONS, (None, 0, -1, (0, 1)), (False, True)):
    cases(_function, (functools.partial(_function, axis=_axis, keepdims=_keep), (3, 4)))
    if _function not in (np.nanmax, np.nanmin):
        cases(_function, (lambda x, f=_function, a=_axis: f(x, axis=a, where=MASK), (3, 4)))
    elif not _keep:
        cases(_function, (lambda x, f=_function, a=_axis: f(x, axis=a, where=MASK, initial=0.5), (3, 4)))
cases(np.nanvar, (functools.partial(np.nanvar, ddof=1), (5,)))
cases(np.nan_to_num, (np.nan_to_num, (3,)), (np.nan_to_num, np.array([1, 2])))

# ---------------------------------------------------------------------- assembling

for _shape in ((), (3,), (2, 3), (2, 3, 2)):
    cases(np.atleast_3d, (np.atleast_3d, _shape))
    for _reps in (2, (2,), (2, 3), (1, 2, 1), (0, 2)):
        cases(np.tile, (functools.partial(np.tile, reps=_reps), _shape))
cases(np.dstack, (lambda x, y: np.dstack([x, y]), (3,), (3,)), (lambda x, y: np.dstack((x, y)), (2, 3), (2, 3, 2)))
cases(np.column_stack, (lambda x, y: np.column_stack([x, y]), (3,), (3,)),
      (lambda x, y: np.column_stack((x, y)), (3,), (3, 2)))
cases(np.resize, (lambda x: np.resize(x, (2, 5)), (3,)), (lambda x: np.resize(x, 2), (2, 2)), (lambda x: np.resize(x, 3), (0,)))
for _sparse, _indexing in itertools.product((False, True), ("xy", "ij")):
    cases(np.meshgrid, (lambda x, y, s=_sparse, i=_indexing: np.meshgrid(x, y, sparse=s, indexing=i), (3,), (2,)),
          (lambda x, s=_sparse, i=_indexing: np.meshgrid(x, np.arange(2.0), x[:2], sparse=s, indexing=i), (3,)))
cases(np.delete, (lambda x: np.delete(x, 1), (2, 3)), (lambda x: np.delete(x, [0, -1], axis=1), (2, 3)))
cases(np.insert, (lambda x: np.insert(x, 1, 5.0), (4,)), (lambda x, y: np.insert(x, -1, y, axis=1), (2, 3), (2,)),
      (lambda x, y: np.insert(x, 2, y, axis=0), (2, 3), (3,)), (lambda x, y: np.insert(x, [0, -1, 1, 1], y), (4,), (4,)),
      (lambda x, y: np.insert(x, [2], y, axis=1), (2, 3), (2, 2)),
      (lambda x: np.insert(x, slice(0, 3, 2), 0.5, axis=1), (2, 3)),
      (lambda x, y: np.insert(x, [1, 2], y, axis=1), (2, 3), (2,)))
for _mode in ("constant", "edge", "linear_ramp", "maximum", "mean", "median", "minimum", "reflect", "symmetric", "wrap"):
    cases(np.pad, (functools.partial(np.pad, pad_width=2, mode=_mode), (5,)),
          (functools.partial(np.pad, pad_width=((1, 2), (0, 3)), mode=_mode), (3, 4)),
          (functools.partial(np.pad, pad_width=(2, 1), mode=_mode), (2, 3)))
cases(np.pad, (lambda x: np.pad(x, 1, constant_values=((1, 2), (3, 4.5))), (2, 2)), (lambda x: np.pad(x, 1), (0, 2)),
      (lambda x: np.pad(x, 2, "linear_ramp", end_values=(1.0, 2.0)), (4,)), (lambda x: np.pad(x, 0), ()),
      (lambda x: np.pad(x, 2, "mean", stat_length=2), (4, 3)), (lambda x: np.pad(x, 7, "reflect"), (3,)),
      (lambda x: np.pad(x, {-1: (1, 2)}), (2, 3)), (lambda x: np.pad(x, 1, "empty")[1:-1], (4,)))
for _k in (-1, 0, 2):
    cases(np.diag, (functools.partial(np.diag, k=_k), (3,)), (functools.partial(np.diag, k=_k), (3, 4)))
    cases(np.diagflat, (functools.partial(np.diagflat, k=_k), (2, 2)))
    for _shape in ((3,), (3, 4), (2, 3, 3), (0, 0)):
        cases(np.tril, (functools.partial(np.tril, k=_k), _shape))
        cases(np.triu, (functools.partial(np.triu, k=_k), _shape))
cases(np.select, (lambda x: np.select([x < 0.43, x < 0.57], [x, x**2], 7.0), (6,)),
      (lambda x: np.select([x < 0.43, np.array(True)], [1.0, np.sin(x)]), (2, 3)))
cases(np.piecewise, (lambda x: np.piecewise(x, [x < 0.43, x >= 0.57], [np.sin, lambda v: v**2, 2.0]), (6,)),
      (lambda x: np.piecewise(x, [x < 0.43], [np.exp]), (6,)))
cases(np.compress, (lambda x: np.compress([True, False, True], x, axis=1), (2, 3)), (lambda x: np.compress(x > 0.5, x), (5,)))
cases(np.extract, (lambda x: np.extract(x > 0.43, x), (2, 3)))
cases(np.choose, (lambda x: np.choose(np.array([0, 1, 1]), [x, -x]), (3,)),
      (lambda x: np.choose(np.argmax(x), [x[0], x[1], x[2]]), (3,)))
for _axis, _keep in itertools.product((None, 0, (0, 1)), (False, True)):
    cases(np.ptp, (functools.partial(np.ptp, axis=_axis, keepdims=_keep), (3, 4)))
    cases(np.average, (functools.partial(np.average, axis=_axis, keepdims=_keep), (3, 4)),
          (lambda x, w, a=_axis, k=_keep: np.average(x, axis=a, weights=w, keepdims=k), (3, 4), (3, 4)))
cases(np.average, (lambda x, w: np.average(x, axis=1, weights=w, returned=True), (3, 4), (4,)))
cases(np.cov, (np.cov, (3, 5)), (np.cov, (5,)), (lambda x, y: np.cov(x, y, ddof=0), (5,), (5,)),
      (lambda x: np.cov(x, rowvar=False, bias=True), (5, 2)), (lambda x, w: np.cov(x, aweights=w), (2, 5), (5,)),
      (lambda x, w: np.cov(x, fweights=[1, 2, 3, 1, 1], aweights=w, ddof=0), (2, 5), (5,)))
cases(np.corrcoef, (lambda x: np.corrcoef(x)[0, 1], (2, 5)))
cases(np.kron, (np.kron, (2,), (3,)), (np.kron, (2, 3), (2, 2)), (np.kron, (3,), (2, 2)),
      (lambda x: np.kron(np.eye(2), x), (2, 2)))
cases(np.cross, (np.cross, (3,), (3,)), (np.cross, (2, 3), (3,)), (lambda a, b: np.cross(a, b, axis=0), (3, 2), (3, 2)),
      (lambda a, b: np.cross(a, b, axisa=0, axisc=0), (3, 2), (2, 3)))
cases(np.linalg.cross, (np.linalg.cross, (2, 3), (2, 3)))
for _function, _mode in itertools.product((np.convolve, np.correlate), ("full", "same", "valid")):
    for _shapes in (((5,), (3,)), ((3,), (5,)), ((4,), (4,)), ((6,), (2,)), ((2,), (5,)), ((1,), (1,))):
        cases(_function, (functools.partial(_function, mode=_mode), *_shapes))
cases(np.linalg.matrix_power, *((functools.partial(np.linalg.matrix_power, n=_n), (2, 3, 3)) for _n in (0, 1, 2, 5)))
cases(np.linalg.multi_dot, (lambda x, y: np.linalg.multi_dot([x, y, x]), (2, 3), (3, 2)))
cases(np.linalg.diagonal, (lambda x: np.linalg.diagonal(x, offset=1), (2, 3, 4)))
cases(np.linalg.trace, (np.linalg.trace, (2, 3, 4)), (lambda x: np.linalg.trace(x, offset=-1), (3, 3)))
cases(np.linalg.outer, (np.linalg.outer, (2,), (3,)))
cases(np.linalg.matmul, (np.linalg.matmul, (2, 3), (3, 4)))
cases(np.linalg.tensordot, (lambda x, y: np.linalg.tensordot(x, y, axes=1), (2, 3), (3, 4)))
cases(np.linalg.vecdot, (np.linalg.vecdot, (2, 3), (3,)), (lambda x, y: np.linalg.vecdot(x, y, axis=0), (3, 2), (3, 2)))
cases(np.matrix_transpose, (np.matrix_transpose, (2, 3, 4)))
cases(np.linalg.matrix_transpose, (np.linalg.matrix_transpose, (2, 3)))
cases(np.sinc, (np.sinc, (3, 4)), (np.sinc, np.array([0.0, 1e-9, -0.2, 0.31, 0.32, 1.5, 7.3])))

FLAT = [pytest.param(f, args, id=f"{function.__name__}-{k}") for function, entries in CASES.items()
        for k, (f, *args) in enumerate(entries)]


@pytest.mark.parametrize(("f", "args"), FLAT)
def test_function(f, args):
    assert_agrees(f, *arguments(args))


@pytest.mark.slow
@pytest.mark.parametrize(("f", "args"), [p for p in FLAT if not any(LONG in np.shape(x) or (isinstance(x, tuple) and LONG in x)
                                                                    for x in p.values[1])])  # differences change their order
def test_function_in_single_precision(f, args):
    assert_agrees_in_single_precision(f, args)


@pytest.mark.slow
@pytest.mark.parametrize(("f", "args"), with_matrices(FLAT))
def test_function_of_non_contiguous_arguments(f, args):
    assert_agrees_on_other_layouts(f, args)


def test_every_function_has_a_case():
    modules = {module.__name__ for module in (assembling, cumulative, nan_reductions, quantiles, sorting)}
    recorded = {f for f, rule in rules.FUNCTIONS.items() if rule.__module__ in modules}
    assert recorded <= set(CASES)


# ---------------------------------------------------------------------- what the sweep does not say


@pytest.mark.parametrize("name", cumulative.ACCUMULATED)
@pytest.mark.parametrize("axis", [0, -1])
def test_ufunc_accumulate(name, axis):
    function = getattr(np, name)
    assert_agrees(lambda x: function.accumulate(x > 0.4 if name.startswith("logical") else x, axis=axis), drawn((5, 4)))


def test_a_product_with_zeros_has_every_derivative():
    x = np.array([2.0, 0.0, 3.0, 0.0, 1.0])
    tape.check_grads(np.cumprod, (x,), order=2)


@pytest.mark.parametrize("n", [5, LONG])
@pytest.mark.parametrize("f", [np.sort, np.argsort, np.median, lambda x: np.sort(x)[::-1] * np.arange(x.size)])
def test_an_order_is_never_stale(n, f):
    """Replays at points with other orders, with ties and NaN: values and gradients are those of a fresh recording."""
    random = np.random.default_rng(n)
    points = [random.permutation(np.arange(float(n))), random.permutation(np.arange(n) // 2).astype(float),
              random.normal(size=n), np.where(np.arange(n) % 3, random.normal(size=n), np.nan)]
    value = tape.jvp
    for x in (*points, *points[::-1]):
        expected = np.argsort(x, kind="stable") if f is np.argsort else f(x)
        np.testing.assert_array_equal(value(f, (x,), (np.ones(n),))[0] if f is not np.argsort else recorded_order(x), expected)
    gradient = tape.grad(lambda x: np.sum(np.sort(x) * np.arange(n)))
    for x in points[:1] + points[2:3]:
        np.testing.assert_array_equal(gradient(x), np.argsort(np.argsort(x)))


def recorded_order(x):
    """argsort inside a recording, as a function that returns it times 1.0."""
    return tape.vjp(lambda x: np.argsort(x) + 0.0, x)[0]


def test_a_long_sort_in_a_replayed_list_fails_its_guard_instead_of_being_stale():
    x = np.arange(float(LONG))
    t = tape.record(np.sort, x)
    np.testing.assert_array_equal(t.forward(x + 1.0), x + 1.0)
    shuffled = x[::-1].copy()
    with pytest.raises(tape.GuardFailed, match="record again"):
        t.forward(shuffled)
    np.testing.assert_array_equal(tape.vjp(np.sort, shuffled)[0], x)


@pytest.mark.parametrize("f", [*NAN_REDUCTIONS, np.nancumsum, np.nancumprod])
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_nan_is_left_out(f, axis):
    def g(x):
        return f(x, axis=axis)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        expected = g(HOLES)
        value, pullback = tape.vjp(g, HOLES)
    np.testing.assert_allclose(value, expected, rtol=1e-13)
    (adjoint,) = pullback(np.ones_like(np.asarray(expected)))
    assert (adjoint[np.isnan(HOLES)] == 0.0).all()
    tape.check_grads(lambda x: g(np.where(np.isnan(HOLES), HOLES, x)), (np.nan_to_num(HOLES),))


def test_a_row_of_nan_has_no_extreme():
    rows = np.array([[np.nan, np.nan], [1.0, np.nan]])
    for f in (np.nanmax, np.nanmin):
        np.testing.assert_array_equal(tape.vjp(lambda x: f(x, axis=1), rows)[0], [np.nan, 1.0])  # noqa: B023


def test_nan_to_num_replaces():
    x = np.array([np.nan, np.inf, -np.inf, 2.0])
    assert_same(tape.vjp(np.nan_to_num, x)[0], np.nan_to_num(x))
    np.testing.assert_array_equal(tape.grad(lambda x: np.sum(np.nan_to_num(x, nan=1.0, posinf=2.0)))(x), [0, 0, 0, 1])


def test_interpolation_outside_and_at_its_knots():
    x = np.array([-1.0, 0.1, 0.33, 0.8, 2.0, np.nan])
    np.testing.assert_array_equal(tape.vjp(lambda x: np.interp(x, KNOTS, KNOTS), x)[0], np.interp(x, KNOTS, KNOTS))
    slopes = tape.grad(lambda x: np.sum(np.interp(x, KNOTS, [1.0, 2.0, 3.0, 4.0])))(x[:-1])
    np.testing.assert_allclose(slopes, [0.0, 1 / 0.23, 1 / 0.01, 1 / 0.46, 0.0])


def test_searchsorted_puts_nan_last():
    x = np.array([np.nan, 0.0, 1.0])
    for side in ("left", "right"):
        np.testing.assert_array_equal(tape.record(lambda x: np.searchsorted(KNOTS, x, side=side), x).forward(x),  # noqa: B023
                                      np.searchsorted(KNOTS, x, side=side))


@pytest.mark.parametrize("f", [
    lambda x: np.quantile(x, x), lambda x: np.quantile(x, 0.5, weights=[1.0, 2.0, 3.0], method="inverted_cdf"),
    lambda x: np.pad(x, 1, "reflect", reflect_type="odd"), lambda x: np.pad(x, 1, lambda *_: None),
    lambda x: np.insert(np.arange(3.0), np.argsort(x), x), lambda x: np.intersect1d(x, x, return_indices=True),
    lambda x: np.unique(x[None], axis=0), lambda x: np.histogram(x, "auto"), lambda x: np.linspace(x[0], 1.0, 3, dtype=int)])
def test_what_is_not_supported_says_so(f):
    with pytest.raises(tape.NotDifferentiable, match="numpy"):
        tape.record(f, np.array([0.2, 0.3, 0.5]))


NATIVE = {
    "cumsum": lambda x: np.sum(np.cumsum(x) ** 2), "cumprod": lambda x: np.sum(np.cumprod(x)),
    "sort": lambda x: np.sum(np.sort(x) * np.arange(6.0)), "median": lambda x: np.median(x) ** 2,
    "interp": lambda x: np.sum(np.interp(x, KNOTS, KNOTS**2)), "pad": lambda x: np.sum(np.pad(x, 2, "reflect") ** 2),
    "convolve": lambda x: np.sum(np.convolve(x, x[:3]) ** 2), "diag": lambda x: np.sum((np.diag(x) @ np.outer(x, x)) ** 2),
    "sinc": lambda x: np.sum(np.sinc(x)), "nanmean": lambda x: np.nanmean(x) ** 2,
}


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in ("cumsum", "sort", "interp") else pytest.mark.slow)
                                  for n in NATIVE])
def test_native_code_computes_the_same(name):
    """At the point where it was compiled, and at another order of the elements."""
    f, x = NATIVE[name], drawn((6,))
    compiled = tape.compile(f, x)
    for point in (x, x[::-1].copy()):
        value, gradient = compiled.value_and_grad(point)
        expected, slope = tape.value_and_grad(f)(point)
        np.testing.assert_allclose(value, expected, rtol=1e-13)
        np.testing.assert_allclose(gradient, slope, rtol=1e-12, atol=1e-14)


# ---------------------------------------------------------------------- SciPy's names, and the table of what is supported


@pytest.mark.parametrize("name", ["logsumexp", "softmax", "log_softmax"])
@pytest.mark.parametrize("axis", [None, 0, -1, (0, 1)])
def test_scipy_functions_that_are_no_ufuncs(name, axis):
    x = drawn((3, 4), -3.0, 3.0)
    f = functools.partial(getattr(tape.scipy.special, name), axis=axis)
    for point in (x, 300.0 * x):
        expected = getattr(scipy.special, name)(point, axis=axis)
        np.testing.assert_allclose(f(point), expected, rtol=1e-13)
        np.testing.assert_allclose(tape.vjp(f, point)[0], expected, rtol=1e-13)
    tape.check_grads(f, (x,))


@pytest.mark.parametrize("name", ["convolve", "correlate"])
@pytest.mark.parametrize("mode", ["full", "valid", "same"])
@pytest.mark.parametrize("shapes", [((5,), (3,)), ((2,), (4,)), ((4, 5), (2, 3)), ((2, 3), (3, 4)), ((2, 3, 2), (1, 2, 2))])
def test_convolutions_of_any_number_of_axes(name, mode, shapes):
    f = functools.partial(getattr(tape.scipy.signal, name), mode=mode)
    x, y = drawn(shapes[0]), drawn(shapes[1], seed=1)
    expected = getattr(scipy.signal, name)(x, y, mode)
    np.testing.assert_allclose(f(x, y), expected, rtol=1e-12)
    np.testing.assert_allclose(tape.vjp(f, x, y)[0], expected, rtol=1e-12)
    tape.check_grads(f, (x, y))


def test_convolutions_that_do_not_fit():
    for shapes, mode in ((((2,), (2, 2)), "full"), (((2, 3), (3, 2)), "valid"), (((2,), (2,)), "half")):
        with pytest.raises(ValueError, match=r"expected|must be"):
            tape.scipy.signal.convolve(*map(drawn, shapes), mode)


@pytest.mark.parametrize("name", ["entr", "logit", "log_expit"])
def test_scipy_ufuncs_at_the_edges_of_their_domain(name):
    function = getattr(scipy.special, name)
    points = [0.0, 1.0, 0.5, np.nan, 2.0] if name == "logit" else [0.0, 1.0, -1.0, np.nan, np.inf, 40.0]
    x = np.array(points)
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(tape.vjp(lambda x: function(x), x)[0], function(x), rtol=1e-14)


def test_the_table_of_supported_functions(capsys, monkeypatch):
    entries = {entry.name: entry for entry in supported.table()}
    assert entries["numpy.maximum"] == ("numpy.maximum", "numpy.maximum", "x = y: each operand takes half of the adjoint")
    assert entries["scipy.special.xlogy"].call == "scipy.special.xlogy"
    assert entries["scipy.linalg.solve"].call == "tape.scipy.linalg.solve"
    assert entries["numpy.nanmax"].note == "elements that tie share the adjoint equally"
    assert not entries["numpy.save"].call
    assert {f"numpy.{f.__name__}" for f in CASES if f.__module__ == "numpy"} <= set(entries)
    monkeypatch.setattr("sys.argv", ["supported"])
    supported.main()
    assert "functions are supported" in capsys.readouterr().out


def test_the_table_in_the_documentation_is_that_of_the_code():
    written = (pathlib.Path(supported.__file__).parent / "SUPPORTED.md").read_text(encoding="utf-8")
    made = supported.markdown()
    if written.split("\n")[2] != made.split("\n")[2]:
        pytest.skip("made with other versions of NumPy and SciPy, which have other functions")
    assert written == made, "run python -m tape.supported --markdown > tape/SUPPORTED.md"


# ---------------------------------------------------------------------- extremes in vectors, and partitions


@pytest.mark.parametrize(("native", "dtype"), [(False, np.float64), (False, np.float32), (True, np.float64)])
@pytest.mark.parametrize("axis", [None, 0, 1])
@pytest.mark.parametrize("extreme", [np.max, np.min])
def test_extremes_of_long_rows_and_columns(extreme, axis, dtype, native):
    random = np.random.default_rng(0)
    x = random.permutation(70 * 37).reshape(70, 37).astype(dtype)
    x[40, 20], x[41, 20], x[40, 21] = (np.full(3, extreme(x) + (1 if extreme is np.max else -1)))  # ties
    weights = random.uniform(1.0, 2.0, np.shape(extreme(x, axis=axis))).astype(dtype)

    def f(x):
        return np.sum(weights * extreme(x, axis=axis))

    def both(x):
        return tape.compile(f, x).value_and_grad(x) if native else tape.value_and_grad(f)(x)

    value, gradient = both(x)
    ties = (x == extreme(x, axis=axis, keepdims=True)).astype(dtype)
    shares = ties / np.sum(ties, axis=axis, keepdims=True)
    np.testing.assert_allclose(value, f(x), rtol=1e-5 if dtype is np.float32 else 1e-12)
    np.testing.assert_allclose(gradient, shares * (weights if axis is None or axis == 0 else weights[:, None]), rtol=1e-6)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("extreme", [np.max, np.min])
def test_a_nan_wins_and_stays_wherever_it_stands(extreme, axis):
    start = np.random.default_rng(0).permutation(69 * 69).reshape(69, 69).astype(float)
    t = tape.record(lambda x: extreme(x, axis=axis), start)
    native = tape.compile(lambda x: extreme(x, axis=axis), start).value
    for at in (0, 5, 31, 32, 63, 64, 68):
        x = start.copy()
        x[at, 3] = x[7, at] = np.nan
        np.testing.assert_array_equal(t.forward(x), extreme(x, axis=axis))
        np.testing.assert_array_equal(native(x), extreme(x, axis=axis))


@pytest.mark.parametrize("kth", [0, 17, 49, -1, (3, 30)])
def test_partitions_of_long_rows_hold_at_every_replay(kth):
    random = np.random.default_rng(0)
    x = random.permutation(150).reshape(3, 50).astype(float)
    places = np.atleast_1d(kth)
    f = tape.value_and_grad(lambda x: np.sum(np.partition(x, kth)[:, places] * np.array([1.0, 10.0, 100.0])[:, None]))
    for _ in range(4):
        value, gradient = f(x)
        expected = np.sort(x)[:, places]
        np.testing.assert_allclose(value, np.sum(expected * np.array([1.0, 10.0, 100.0])[:, None]))
        np.testing.assert_array_equal(gradient, [[scale * (v in row) for v in values] for scale, values, row in zip(
            (1.0, 10.0, 100.0), x, expected, strict=True)])
        x = x[:, random.permutation(50)]
    x[1, 4] = np.nan
    t = tape.record(lambda x: np.partition(x, kth), x)
    np.testing.assert_array_equal(np.sort(t.forward(x)), np.sort(x))
    np.testing.assert_array_equal(t.forward(x)[:, places], np.sort(x)[:, places])
