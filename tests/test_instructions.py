"""Every elementwise row: value and partials against mpmath, special values against NumPy, kinks as the row states them.

Each row is read by plain floats and run by the compiled sweeps, as scalars and as arrays of every layout. What is not here:
structural rows and programs of more than one instruction (`test_engines.py`).
"""

import functools
import itertools
import math

import mpmath
import numpy as np
import pytest
import scipy.special
from conftest import Sweeps, Writer
from rows import exact, read

from compiled.lists.check import check
from compiled.table.instructions import TABLE, undefined, uniform_bits
from compiled.table.views import View

ROWS = [row for row in TABLE.rows if not row.structural]

VALUE_ULPS = {np.float64: 4, np.float32: 4}
"""libm and NumPy's vector code promise 4 ulp at worst; where this was written no value is off by more than 2."""

PARTIAL_ULPS = {np.float64: 8, np.float32: 8}
"""A partial is some roundings and a function or two away from the operands, and may use the rounded value."""

SCIPYS_ULPS = 500
"""Of double precision: SciPy's kernels promise no bound; where this was written none is off by more than 80."""

SCALE = {"logaddexp": 1.0, "gammaln": 1.0, "digamma": 1.0, "betaln": 1.0, "rel_entr": 1.0}
"""Rows whose errors are measured against this where the result is smaller: logarithms and differences cancel near their
zeros."""

DIGITS = 50
"""Of mpmath, so that its numerical derivatives are good to far more than a double."""

POINTS, SLOW_POINTS = 40, 12
"""Ordinary points a row; fewer of functions that mpmath is slow for."""

SPECIAL = (0.0, -0.0, math.inf, -math.inf, math.nan, 1.0, -1.0, 0.25, -2.0, 3.0)
"""Not 0.5: as an exponent NumPy makes it a square root where it is a scalar, but not in an array."""


# ---------------------------------------------------------------------- one row, read and run


def exact_partial(row, k, operands):
    """The derivative of the exact value to operand k."""
    return mpmath.diff(lambda x: exact(row.name, *operands[:k], x, *operands[k + 1 :]), operands[k])


def contiguous_layout(writer, array, active):
    """The input as it is."""
    return writer.array(array, active)


def strided_layout(writer, array, active):
    """Every second cell of an input, from its end to its beginning."""
    return writer.seen(writer.array(np.repeat(array, 2)[::-1], active), lambda x: x[::-2])


def plane_layout(writer, array, active):
    """The columns of a plane as a matrix in which neither axis has step 1."""
    return writer.seen(writer.array(np.repeat(array.reshape(-1, 2), 3, axis=1), active), lambda x: x[:, ::3].T)


LAYOUTS = {"scalars": contiguous_layout, "contiguous": contiguous_layout, "strided": strided_layout, "plane": plane_layout}


def run(row, operands, layout):
    """Value and partials by the compiled sweeps."""
    writer = Writer(operands[0].dtype)
    views = [LAYOUTS[layout](writer, array, not is_undefined(row, k)) for k, array in enumerate(operands)]
    shape = views[0].shape
    out = writer.zeros(shape) if row.accumulates else writer.new_slot(shape)
    if layout == "scalars":
        for j in range(len(operands[0])):
            writer.elementwise(row.name, [View(view.cell + j, (), ()) for view in views], (), View(out.cell + j, (), ()))
    else:
        writer.elementwise(row.name, views, shape, out)
    program = writer.finished(out)
    check(program)
    sweeps = Sweeps(program)
    values, adjoints = sweeps.forward(), sweeps.reverse([(out, 1.0)])[1]
    flat = (lambda x: x.T.ravel()) if layout == "plane" else np.ravel
    return flat(out.of(values)), [flat(view.of(adjoints)) for view in views]


def is_scipys(row):
    """Whether SciPy's kernels compute the row, or have a part in it."""
    return (row.llvm or "").startswith("special:") or row.name in ("digamma_rise", "gamma_density", "beta_density")


def ordinary(row, dtype, count=None):
    """Random points of the row's domain, as one array an operand."""
    count = count or (SLOW_POINTS if is_scipys(row) or row.name == "zeta" else POINTS)
    random = np.random.default_rng(TABLE.opcode[row.name])
    points = [random.uniform(low, high, count).astype(dtype) for low, high in row.domain]
    return [np.floor(x) for x in points] if row.name == "uniform" else points


def assert_close(got, expected, ulps, scale=0.0):
    """Relative error of at most `ulps` units in the last place (of `scale` where the expected number is smaller)."""
    bound = ulps * np.finfo(got.dtype).eps * np.maximum(np.abs(expected), scale)
    error = np.abs(got.astype(float) - expected)
    bad = ~(error <= bound)
    assert not bad.any(), f"{got[bad][:3]}, expected {expected[bad][:3]}: {(error[bad] / bound[bad]).max():.3g} times the bound"


READERS = ["read", *LAYOUTS]
PRECISIONS = [np.float64, np.float32]


def evaluated(row, operands, reader):
    """Value and partials by one of the readers."""
    return read(row, operands) if reader == "read" else run(row, operands, reader)


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("row", [row for row in ROWS if row.arity], ids=lambda row: row.name)
def test_value_and_partials_at_ordinary_points(row, reader, dtype):
    """Against mpmath, to the errors stated above."""
    value, partials = evaluated(row, ordinary(row, dtype), reader)
    expected, slopes = exact_at_ordinary_points(row, dtype)
    if row.name != "uniform":
        assert_close(value, expected, allowed(row, VALUE_ULPS, dtype), SCALE.get(row.name, 0.0))
    for partial, slope in zip(partials, slopes, strict=True):
        if slope is not None:
            assert_close(partial.astype(dtype), slope, allowed(row, PARTIAL_ULPS, dtype), SCALE.get(row.name, 0.0))


def allowed(row, ulps, dtype):
    """Units in the last place that a row may be off by."""
    return ulps[dtype] + is_scipys(row) * SCIPYS_ULPS * np.finfo(float).eps / np.finfo(dtype).eps


@functools.cache
def exact_at_ordinary_points(row, dtype):
    """Value and partials by mpmath; None for a partial that is undefined."""
    with mpmath.workdps(DIGITS):
        points = [tuple(mpmath.mpf(float(x)) for x in point) for point in zip(*ordinary(row, dtype), strict=True)]
        value = None if row.name == "uniform" else np.array([float(exact(row.name, *point)) for point in points])
        slopes = [None if is_undefined(row, k) else np.zeros(len(points)) if is_constant(row, k) else
                  np.array([float(exact_partial(row, k, point)) for point in points]) for k in range(row.arity)]
        return value, slopes


def is_constant(row, k):
    """Whether operand k has no derivative by definition."""
    return row.partials[k] is None


def is_undefined(row, k):
    """Whether there is no rule for the derivative to operand k."""
    return row.partials[k] is undefined


def test_rows_without_partials_are_flat():
    """A partial is None only where the exact derivative is 0, but for `stop`, which says so."""
    for row in ROWS:
        for k in range(row.arity):
            if is_constant(row, k) and row.name not in ("stop", "uniform"):
                with mpmath.workdps(DIGITS):
                    for point in zip(*ordinary(row, np.float64, 3), strict=True):
                        assert exact_partial(row, k, [mpmath.mpf(float(x)) for x in point]) == 0


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("reader", READERS)
def test_uniform_is_the_published_generator(reader, dtype):
    """Bit for bit: the number of (seed, index), of which float32 keeps 24 bits; negative seeds and large indices too."""
    seeds = np.array([0, 1, -1, 12345, -2.0**20, 3, 3, 3], dtype)
    indices = np.array([0, 1, 2, 3, 4, 5, 2.0**23, -7], dtype)
    value, _ = evaluated(TABLE["uniform"], [seeds, indices], reader)
    expected = [uniform_bits(int(s), int(i)) for s, i in zip(seeds, indices, strict=True)]
    if dtype == np.float32:
        expected = np.floor(np.array(expected) * 2.0**24) * 2.0**-24
    np.testing.assert_array_equal(value, np.array(expected, dtype))


def test_uniform_has_the_first_numbers_of_splitmix64():
    """SplitMix64 of state 0 begins with 0xE220A8397B1DCDAF; a seed's numbers begin at that word."""
    word = 0xE220A8397B1DCDAF
    z = (word + 0x9E3779B97F4A7C15) & (2**64 - 1)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        z = ((z ^ (z >> shift)) * factor) & (2**64 - 1)
    assert uniform_bits(0, 0) == ((z ^ (z >> 31)) >> 11) * 2.0**-53


# ---------------------------------------------------------------------- special values


def ufunc_of(row):
    """NumPy's own function for a row."""
    name = row.numpy[0]
    if name == "i0":  # NumPy's is another function
        return scipy.special.i0
    return getattr(np, name, None) or getattr(scipy.special._ufuncs, name)


SIGN_OF_ZERO_IS_OPEN = ("max", "min", "clip", "fmax", "fmin")
"""Of 0 and -0 NumPy takes either, depending on the processor."""

SPECIAL_ULPS = 4


def special_points(row, dtype):
    """All combinations of special values and edges of the domain."""
    values = [[*SPECIAL, *edges] for edges in row.domain]
    return [np.array(column, dtype) for column in zip(*itertools.product(*values), strict=True)]


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("reader", ["read", "scalars", "contiguous"])
@pytest.mark.parametrize("row", [row for row in ROWS if row.numpy], ids=lambda row: row.name)
def test_special_values_are_those_of_numpy(row, reader, dtype):
    """The same NaN, infinities, and signs of zero as NumPy's ufunc."""
    operands = special_points(row, dtype)
    value, _ = evaluated(row, operands, reader)
    with np.errstate(all="ignore"):
        exactly = [x.astype(float) for x in operands] if is_scipys(row) else operands  # of float32 some have another code
        expected = ufunc_of(row)(*exactly).astype(dtype)
    wrong = ~same(value, expected)
    assert not wrong.any(), f"at {[x[wrong][:5] for x in operands]}: {value[wrong][:5]}, expected {expected[wrong][:5]}"
    if row.name not in SIGN_OF_ZERO_IS_OPEN:
        zero = (value == 0) & (expected == 0)
        wrong = zero & (np.signbit(value) != np.signbit(expected))
        assert not wrong.any(), f"sign of zero at {[x[wrong][:5] for x in operands]}"


def same(x, y, ulps=SPECIAL_ULPS):
    """Where two arrays agree: both NaN, equal, or within rounding."""
    with np.errstate(invalid="ignore"):
        return (np.isnan(x) & np.isnan(y)) | (x == y) | (np.abs(x - y) <= ulps * np.finfo(x.dtype).eps * np.abs(y))


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("row", [row for row in ROWS if row.arity and row.name != "uniform"], ids=lambda row: row.name)
def test_readers_agree_on_the_partials_at_special_values(row, dtype):
    """Plain floats and compiled code give the same partials, with the same NaN and infinities."""
    operands = special_points(row, dtype)
    _, expected = read(row, operands)
    for layout in ("scalars", "contiguous"):
        _, partials = run(row, operands, layout)
        for k, partial in enumerate(partials):
            if is_undefined(row, k):
                continue
            with np.errstate(all="ignore"):
                agreed = same(partial, expected[k].astype(dtype), SCIPYS_ULPS if is_scipys(row) else SPECIAL_ULPS)
            where = [x[~agreed][:5] for x in operands]
            assert agreed.all(), f"partial {k} at {where}: {partial[~agreed][:5]}, expected {expected[k][~agreed][:5]}"


@pytest.mark.parametrize("row", [row for row in ROWS if any(row.partials)], ids=lambda row: row.name)
def test_a_nan_operand_that_makes_the_value_nan_makes_the_partials_nan(row):
    """So that a NaN is never hidden by a gradient of zero; for every operand that has a derivative."""
    operands = special_points(row, np.float64)
    value, partials = read(row, operands)
    caused = np.isnan(value) & np.any([np.isnan(x) for x in operands], axis=0)
    for k, partial in enumerate(partials):
        if row.partials[k] is not None and row.name not in PARTIALS_WITHOUT_OUT:
            hidden = caused & ~np.isnan(partial)
            assert not hidden.any(), f"partial {k} at {[x[hidden][:5] for x in operands]} is {partial[hidden][:5]}"


PARTIALS_WITHOUT_OUT = ("copy", "accumulate", "accumulate_product", "assign", "add", "sub", "mul", "neg", "div",
                        "adjoint_product", "where", "deg2rad", "rad2deg")
"""Rows that are linear in each operand: the partial is the other operand or a constant, as IEEE arithmetic has it."""


# ---------------------------------------------------------------------- kinks

INF, NAN = math.inf, math.nan

KINKS = [
    ("div", (1.0, 0.0), (INF, -INF)),
    ("div", (0.0, 0.0), (INF, NAN)),
    ("adjoint_product", (0.0, INF), (INF, 0.0)),
    ("reciprocal", (0.0,), (-INF,)),
    ("sqrt", (0.0,), (INF,)),
    ("root_of_squares", (0.0,), (0.0,)),
    ("pow", (0.0, 0.0), (0.0, 0.0)),
    ("pow", (2.0, 0.0), (0.0, math.log(2.0))),
    ("pow", (0.0, 1.0), (1.0, 0.0)),
    ("pow", (0.0, 2.0), (0.0, 0.0)),
    ("pow", (0.0, 0.5), (INF, 0.0)),
    ("pow", (0.0, -1.0), (-INF, -INF)),
    ("pow", (-2.0, 2.0), (-4.0, NAN)),
    ("pow", (0.5, INF), (0.0, 0.0)),
    ("pow", (2.0, -INF), (0.0, 0.0)),
    ("pow", (INF, -1.0), (0.0, 0.0)),
    ("pow", (INF, 0.5), (0.0, INF)),
    ("log", (0.0,), (INF,)),
    ("log_of_sum", (0.0,), (0.0,)), ("log_slope", (0.0, 3.0), (-9.0, 0.0)), ("log_slope", (-2.0, 3.0), (NAN, 0.0)),
    ("log2", (0.0,), (INF,)),
    ("log10", (0.0,), (INF,)),
    ("cbrt", (0.0,), (INF,)),
    ("arccosh", (1.0,), (INF,)),
    ("arctanh", (1.0,), (INF,)),
    ("trunc", (1.0,), (0.0,)),
    ("rint", (0.5,), (0.0,)),
    ("fmod", (2.0, 1.0), (1.0, -2.0)),
    ("mod", (2.0, 1.0), (1.0, -2.0)),
    ("mod", (1.0, 0.1), (1.0, -9.0)),
    ("fmod", (0.5, 0.1), (1.0, -4.0)),
    ("floor_divide", (2.0, 1.0), (0.0, 0.0)),
    ("mod", (-2.0, 1.0), (1.0, 2.0)),
    ("log1p", (-1.0,), (INF,)),
    ("logaddexp", (-INF, 1.0), (0.0, 1.0)),
    ("logaddexp", (-INF, -INF), (0.0, 0.0)),
    ("logaddexp", (1.0, 1.0), (0.5, 0.5)),
    ("logaddexp", (INF, 1.0), (1.0, 0.0)),
    ("logaddexp", (INF, INF), (NAN, NAN)),
    ("sigmoid", (INF,), (0.0,)),
    ("sigmoid", (-INF,), (0.0,)),
    ("arcsin", (1.0,), (INF,)),
    ("arcsin", (-1.0,), (INF,)),
    ("arcsin", (2.0,), (NAN,)),
    ("arccos", (1.0,), (-INF,)),
    ("arccos", (-1.0,), (-INF,)),
    ("arccos", (-2.0,), (NAN,)),
    ("arctan2", (0.0, 0.0), (NAN, NAN)),
    ("hypot", (0.0, 0.0), (0.0, 0.0)),
    ("hypot", (INF, 1.0), (1.0, 0.0)),
    ("hypot", (-2.0, -INF), (0.0, -1.0)),
    ("hypot", (INF, INF), (NAN, NAN)),
    ("arctan2", (1.0, INF), (0.0, 0.0)),
    ("arctan2", (-INF, 1.0), (0.0, 0.0)),
    ("arctan", (INF,), (0.0,)),
    ("exprel", (INF,), (INF,)),
    ("i1", (5e-324,), (0.5,)),
    ("abs", (0.0,), (0.0,)),
    ("abs", (-0.0,), (0.0,)),
    ("sign", (0.0,), (0.0,)),
    ("floor", (1.0,), (0.0,)),
    ("ceil", (1.0,), (0.0,)),
    ("max", (1.0, 1.0), (0.5, 0.5)),
    ("max", (0.0, -0.0), (0.5, 0.5)),
    ("min", (1.0, 1.0), (0.5, 0.5)),
    ("fmax", (1.0, 1.0), (0.5, 0.5)),
    ("fmax", (NAN, 1.0), (0.0, 1.0)),
    ("fmax", (1.0, NAN), (1.0, 0.0)),
    ("fmin", (1.0, 1.0), (0.5, 0.5)),
    ("fmin", (NAN, 1.0), (0.0, 1.0)),
    ("fmin", (1.0, NAN), (1.0, 0.0)),
    ("copysign", (0.0, -1.0), (0.0, 0.0)),
    ("copysign", (-2.0, -0.0), (1.0, 0.0)),
    ("heaviside", (0.0, 0.5), (0.0, 1.0)),
    ("heaviside", (1.0, 0.5), (0.0, 0.0)),
    ("xlogy", (0.0, 0.0), (-INF, 0.0)),
    ("xlogy", (0.0, 2.0), (math.log(2.0), 0.0)),
    ("xlog1py", (0.0, -1.0), (-INF, 0.0)),
    ("clip", (-1.0, -1.0, 1.0), (1.0, 0.0, 0.0)),
    ("clip", (1.0, -1.0, 1.0), (1.0, 0.0, 0.0)),
    ("clip", (2.0, 2.0, 2.0), (1.0, 0.0, 0.0)),
    ("clip", (0.0, 1.0, -1.0), (0.0, 0.0, 1.0)),
    ("clip", (-2.0, -1.0, 1.0), (0.0, 1.0, 0.0)),
    ("clip", (2.0, -1.0, 1.0), (0.0, 0.0, 1.0)),
    ("erfinv", (1.0,), (INF,)),
    ("erfcinv", (2.0,), (-INF,)),
    ("ndtri", (0.0,), (INF,)),
    ("gamma", (0.0,), (-INF,)),
    ("gamma", (-1.0,), (NAN,)),
    ("gammaln", (0.0,), (-INF,)),
    ("gammaln", (-1.0,), (NAN,)),
    ("gammasgn", (0.0,), (0.0,)),
    ("rgamma", (0.0,), (1.0,)),
    ("rgamma", (-2.0,), (2.0,)),
    ("digamma", (-1.0,), (INF,)),
    ("digamma", (-2e6 - 0.5,), (NAN,)),
    ("zeta", (3.0, 0.0), (NAN, -INF)),
    ("gammainc", (0.5, 0.0), (NAN, INF)),
    ("gammainc", (1.0, 0.0), (NAN, 1.0)),
    ("gammainc", (2.0, 0.0), (NAN, 0.0)),
    ("gammainc", (2.0, INF), (NAN, 0.0)),
    ("gammaincc", (1.0, 0.0), (NAN, -1.0)),
    ("betainc", (1.0, 2.0, 0.0), (NAN, NAN, 2.0)),
    ("betainc", (2.0, 1.0, 1.0), (NAN, NAN, 2.0)),
    ("betainc", (0.5, 0.5, 1.0), (NAN, NAN, INF)),
    ("j1", (0.0,), (0.5,)),
    ("jv", (1.0, 0.0), (NAN, 0.5)),
    ("jv", (0.0, 0.0), (NAN, 0.0)),
    ("y0", (0.0,), (INF,)),
    ("y1", (0.0,), (INF,)),
    ("yv", (1.0, INF), (NAN, NAN)),
    ("i0", (0.0,), (0.0,)),
    ("i1", (0.0,), (0.5,)),
    ("iv", (1.0, 0.0), (NAN, 0.5)),
    ("i0e", (0.0,), (0.0,)),
    ("i1e", (0.0,), (0.5,)),
    ("ive", (0.0, 0.0), (NAN, 0.0)),
    ("k0", (0.0,), (-INF,)),
    ("k1", (0.0,), (-INF,)),
    ("kv", (1.0, 0.0), (NAN, -INF)),
    ("exprel", (0.0,), (0.5,)),
    ("rel_entr", (0.0, 2.0), (-INF, -0.0)),
    ("kl_div", (0.0, 2.0), (-INF, 1.0)),
    ("relu", (0.0,), (0.0,)),
    ("relu", (-0.0,), (0.0,)),
    ("where", (0.0, INF, 2.0), (0.0, 0.0, 1.0)),
    ("where", (-0.0, NAN, 2.0), (0.0, 0.0, 1.0)),
    ("where", (NAN, 1.0, 2.0), (0.0, 1.0, 0.0)),
]
"""Row, operands, partials: the conventions that the rows' `kinks` state."""


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("reader", ["read", "scalars", "contiguous", "strided"])
@pytest.mark.parametrize(("name", "operands", "expected"), KINKS, ids=[f"{k[0]}{k[1]}" for k in KINKS])
def test_partials_at_kinks(name, operands, expected, reader, dtype):
    """The side that the row says it takes."""
    twice = [np.array([x, x], dtype) for x in operands]
    _, partials = evaluated(TABLE[name], twice, reader)
    for k, (partial, wanted) in enumerate(zip(partials, expected, strict=True)):
        if is_undefined(TABLE[name], k):
            continue
        np.testing.assert_allclose(partial, np.full(2, wanted), rtol=4 * np.finfo(dtype).eps, equal_nan=True)


def test_every_kink_that_a_row_states_is_tested():
    """And no other."""
    assert {row.name for row in ROWS if row.kinks} <= {name for name, _, _ in KINKS}


# ---------------------------------------------------------------------- layouts


@pytest.mark.parametrize("row", [row for row in ROWS if row.arity == 2], ids=lambda row: row.name)
def test_broadcast_operands_collect_their_adjoints(row):
    """A row against a column: values as of the full planes, adjoints summed over what was broadcast."""
    operands = ordinary(row, np.float64, 7)
    writer = Writer(np.float64)
    column = writer.array(operands[0][:, None], not is_undefined(row, 0))
    line = writer.array(operands[1][None, :], not is_undefined(row, 1))
    shape = (7, 7)
    out = writer.zeros(shape) if row.accumulates else writer.new_slot(shape)
    writer.elementwise(row.name, [column, line], shape, out)
    sweeps = Sweeps(writer.finished(out))
    planes = [x.ravel() for x in np.broadcast_arrays(operands[0][:, None], operands[1][None, :])]
    value, partials = read(row, planes)
    np.testing.assert_allclose(out.of(sweeps.forward()).ravel(), value, rtol=1e-15)
    adjoints = sweeps.reverse([(out, 1.0)])[1]
    for k, (view, partial, axis) in enumerate(((column, partials[0], 1), (line, partials[1], 0))):
        if is_undefined(row, k):
            continue
        np.testing.assert_allclose(view.of(adjoints).ravel(), partial.reshape(shape).sum(axis), rtol=1e-13, atol=1e-13)


def test_zero():
    """It sets cells, whatever they held."""
    writer = Writer(np.float64)
    out = writer.zeros((3,))
    program = writer.finished(out)
    program.values[...] = 5.0
    assert out.of(Sweeps(program).forward()).tolist() == [0.0, 0.0, 0.0]
