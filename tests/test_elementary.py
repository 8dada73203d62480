"""The elementary functions that are the project's own: errors in units of the last place against mpmath, special values, and
that scalars, loops and vectors have the same results."""

import ctypes
import itertools
import math

import mpmath
import numpy as np
import pytest
import scipy.special
from llvmlite import binding, ir
from numba.core.codegen import get_host_cpu_features

import tape
from compiled.functions import emitter
from compiled.functions.elementary import FUNCTIONS, emit
from compiled.table.instructions import TABLE
from compiled.table.llvm import LLVMValue
from compiled.table.numbers import Number

SAMPLES = 700
LARGEST_ERROR = {
    "exp": 1.0, "expm1": 2.0, "exp2": 1.0, "log": 1.0, "log1p": 1.0, "log2": 1.0, "log10": 1.0, "sinh": 2.0, "cosh": 2.0,
    "tanh": 2.0, "sech2": 3.0, "exp_product": 1.0,
    "pow": 1.0, "cbrt": 1.0, "hypot": 1.0, "sin": 1.0, "cos": 1.0, "tan": 1.0, "arcsin": 1.0, "arccos": 1.0,
    "arctan": 2.0, "arctan2": 2.0, "erf": 2.0, "erfc": 4.0, "ndtr": 4.0, "arcsinh": 2.0, "arccosh": 2.0, "arctanh": 2.0,
    "fmod": 0.0,
}
"""In units of the last place, as the docstrings of the functions state."""

random = np.random.default_rng(0)
SIGNS = random.choice([-1.0, 1.0], SAMPLES)
TINY = 10.0 ** random.uniform(-320, 0, SAMPLES)
HUGE = 10.0 ** random.uniform(-323, 308, SAMPLES)
NORMAL = random.normal(size=SAMPLES)
NEAR_ONE = 1 + random.uniform(-1e-4, 1e-4, SAMPLES)
LARGE = SIGNS * 2.0 ** random.uniform(29, 1024, SAMPLES)

with mpmath.workprec(1300):
    NEAR_ZEROS = np.array([float(mpmath.pi / 2 * mpmath.mpf(2.0**k) * int(n)) for k, n in
                           zip(random.integers(0, 960, SAMPLES), random.integers(1, 2**53, SAMPLES), strict=True)])
    FIRST_ZEROS = np.array([float(mpmath.pi / 2 * int(n)) for n in random.integers(1, 2**29, SAMPLES)])
HARDEST = np.array([6381956970095103.0 * 2.0**797, 2.0**30, np.nextafter(2.0**30, np.inf), np.finfo(float).max, 1e22,
                    np.pi / 2, np.pi, 1.5 * np.pi])
"""The first comes closest to a multiple of pi/2 (Muller et al., "Handbook of Floating-Point Arithmetic", 2010)."""

WAVES = [3 * NORMAL, random.uniform(-1e4, 1e4, SAMPLES), LARGE, NEAR_ZEROS, FIRST_ZEROS, HARDEST, -TINY]
LOGS = [HUGE, random.uniform(0.5, 2, SAMPLES), NEAR_ONE]
UNIT = [random.uniform(-1, 1, SAMPLES), 1 - TINY, TINY - 1, -TINY]


def powers_of(x, low, high):
    """x with exponents for which the binary logarithm of the power is between the bounds."""
    return x, random.uniform(low, high, len(x)) / np.log2(x)


WHOLE = [random.integers(0, 9, SAMPLES), 2.0 ** random.uniform(0, 56, SAMPLES), np.full(SAMPLES, 2.0**52)]


def near_multiples(whole):
    """Numbers that are products of whole numbers and others, or the neighbours of these; and the others."""
    y = np.where(random.random(SAMPLES) < 0.2, np.maximum(TINY * 1e-250, 5e-324), SIGNS * np.exp(9 * NORMAL))
    x = np.trunc(whole) * y
    return np.nextafter(x, random.choice([-np.inf, 0.0, np.inf], SAMPLES)), y


RANGES = {
    "exp": [random.uniform(-745, 709.7, SAMPLES), random.uniform(-746, -700, SAMPLES), NORMAL, TINY],
    "expm1": [random.uniform(-60, 709.7, SAMPLES), NORMAL, TINY, -TINY],
    "exp2": [random.uniform(-1075, 1023.9, SAMPLES), random.uniform(-1076, -1020, SAMPLES), NORMAL, TINY],
    "log": LOGS, "log2": LOGS, "log10": LOGS,
    "log1p": [HUGE, random.uniform(-0.99, 2, SAMPLES), -TINY[TINY < 0.9], -1 + 10.0 ** random.uniform(-15, 0, SAMPLES)],
    "sinh": [random.uniform(-710.4, 710.4, SAMPLES), 2 * NORMAL, TINY, -TINY],
    "cosh": [random.uniform(-710.4, 710.4, SAMPLES), 2 * NORMAL, TINY],
    "tanh": [random.uniform(-25, 25, SAMPLES), NORMAL, TINY, -TINY],
    "sech2": [random.uniform(-25, 25, SAMPLES), random.uniform(-375, 375, SAMPLES), NORMAL, TINY],
    "exp_product": [(SIGNS * 26 * np.abs(NORMAL), 26 * NORMAL[::-1]),
                    (3 * NORMAL, -1.5 * NORMAL), (HUGE, NORMAL / np.maximum(HUGE, 1e-300)),
                    (TINY, HUGE)],
    "pow": [powers_of(HUGE, -1074, 1023.9), powers_of(HUGE, -1075, -1020), powers_of(HUGE, 1000, 1023.9),
            powers_of(NEAR_ONE, -1000, 1000), (SIGNS * 50 * np.abs(NORMAL), np.floor(random.uniform(-99, 99, SAMPLES))),
            (np.abs(NORMAL), 3 * NORMAL[::-1])],
    "cbrt": [HUGE, -HUGE, NORMAL],
    "hypot": [(NORMAL, NORMAL[::-1]), (HUGE, HUGE * NORMAL), (HUGE, HUGE[::-1]), (TINY, HUGE)],
    "sin": WAVES, "cos": WAVES, "tan": WAVES, "arcsin": UNIT, "arccos": UNIT,
    "arctan": [NORMAL, -HUGE, random.uniform(-3, 3, SAMPLES)],
    "arctan2": [(NORMAL, NORMAL[::-1]), (HUGE, SIGNS * HUGE[::-1]), (-HUGE, HUGE * NORMAL), (TINY, -HUGE)],
    "arcsinh": [NORMAL, -HUGE, TINY, 3 * NORMAL],
    "arccosh": [1 + HUGE, 1 + TINY, random.uniform(1, 9, SAMPLES)],
    "arctanh": [random.uniform(-1, 1, SAMPLES), -TINY, 1 - TINY[TINY > 1e-15]],
    "erf": [2 * NORMAL, random.uniform(0.9, 1.1, SAMPLES), random.uniform(-6.2, 6.2, SAMPLES), TINY],
    "erfc": [2 * NORMAL, random.uniform(-7.0, 27.3, SAMPLES), random.uniform(26.0, 27.3, SAMPLES), TINY, -TINY],
    "fmod": [(NORMAL, NORMAL[::-1]), (HUGE, HUGE[::-1]), (LARGE, NORMAL), (TINY, TINY[::-1]), *map(near_multiples, WHOLE)],
    "ndtr": [3 * NORMAL, random.uniform(-38.6, 9.0, SAMPLES), random.uniform(-38.6, -37.0, SAMPLES), TINY, -TINY],
}
SPECIAL = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 5e-324, -5e-324, 0.5, -0.5, 1.0, -1.0, 2.0, -2.0, 3.0, -3.0, 1e308,
                    -1e308, 709.782712893384, 709.782712893385, 710.4758, 710.4759, -745.13, -745.14, -708.4, 1023.9999, 1024.0,
                    -1074.5, -1075.5, 2.0**-1022, -(2.0**-1023), -1 + 2.0**-53, 1 + 2.0**-52, 2.0**53 - 1, -(2.0**53),
                    -(2.0**52) - 1])
PAIRS = tuple(np.array(column) for column in zip(*itertools.product(SPECIAL, SPECIAL), strict=True))
MPMATH = {"arcsin": "asin", "arccos": "acos", "arctan": "atan", "arctan2": "atan2", "pow": "power",
          "arcsinh": "asinh", "arccosh": "acosh", "arctanh": "atanh", "ndtr": "ncdf"}
UNNAMED = {"fmod": lambda x, y: mpmath.mpf(math.fmod(x, y)),
           "sech2": lambda x: mpmath.sech(x) ** 2, "exp_product": lambda x, y: mpmath.exp(x * y),
           "log2": lambda x: mpmath.log(x, 2), "exp2": lambda x: mpmath.power(2, x),
           "cbrt": lambda x: mpmath.sign(x) * mpmath.cbrt(abs(x))}


def ufunc(name):
    """NumPy's or SciPy's function; of a row that has none its rule for numbers, which recorded arrays take too."""
    if not TABLE[name].numpy:
        rule = np.vectorize(TABLE[name].value, otypes=[float])
        return lambda *x: TABLE.apply(name, *x) if isinstance(x[0], Number) else rule(*x)
    return getattr(np, TABLE[name].numpy[0], None) or getattr(scipy.special, name)


def exact(name):
    """mpmath's function."""
    return UNNAMED.get(name) or getattr(mpmath, MPMATH.get(name, name))


def operands(sample):
    """A sample as a tuple of arrays."""
    return sample if isinstance(sample, tuple) else (sample,)


def special(name):
    """Special points, all pairs of them for a function of two numbers."""
    return PAIRS if TABLE[name].arity == 2 else (SPECIAL,)


def evaluated(name, *x):
    """The function by the forward sweep, over a contiguous array (vector code)."""
    return tape.record(ufunc(name), *x).forward(*x)


def errors(name, sample, values):
    """Errors of values, in units of the last place of the exact ones, but for overflows that both have."""
    with mpmath.workprec(160):
        for *point, got in zip(*sample, values, strict=True):
            expected = exact(name)(*(mpmath.mpf(float(x)) for x in point))
            nearest = abs(float(expected))
            if nearest == abs(got) == np.inf:
                continue
            yield point, float(abs(mpmath.mpf(float(got)) - expected) / np.spacing(nearest))


def test_every_function_has_its_ranges():
    assert set(RANGES) == set(LARGEST_ERROR) == set(FUNCTIONS)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_errors_in_units_of_the_last_place(name):
    for sample in map(operands, RANGES[name]):
        for point, error in errors(name, sample, evaluated(name, *sample)):
            assert error <= LARGEST_ERROR[name], (point, error)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_special_values_are_numpys(name):
    x = special(name)
    with np.errstate(all="ignore"):
        expected = ufunc(name)(*x)
    got = evaluated(name, *x)
    np.testing.assert_allclose(got, expected, rtol=4 * np.finfo(float).eps, atol=0.0)
    np.testing.assert_array_equal(np.signbit(got)[~np.isnan(got)], np.signbit(expected)[~np.isnan(expected)])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_scalars_strided_and_contiguous_arrays_agree_bit_for_bit(name):
    for sample in RANGES[name]:
        x = tuple(np.abs(v[:200]) for v in operands(sample))
        contiguous = evaluated(name, *x)
        strided = tape.record(lambda *x: ufunc(name)(*(v[::-1] for v in x)), *x).forward(*x)[::-1]
        np.testing.assert_array_equal(contiguous, strided)
    points = [tuple(map(float, point)) for point in zip(*x, strict=True)][:20]
    scalars = [tape.record(ufunc(name), *point).forward(*point) for point in points]
    np.testing.assert_array_equal(contiguous[:20], scalars)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_float32_is_computed_in_double_and_rounded(name):
    x = [v.astype(np.float32) for v in (np.abs(NORMAL), NORMAL[::-1])][: TABLE[name].arity]
    got = evaluated(name, *x)
    assert got.dtype == np.float32
    with np.errstate(invalid="ignore"):
        expected = ufunc(name)(*(v.astype(np.float64) for v in x))
    np.testing.assert_array_equal(np.isnan(got), np.isnan(expected))
    ordinary = ~np.isnan(got)
    assert np.max(np.abs(got - expected)[ordinary] / np.spacing(np.abs(got[ordinary]))) <= 0.5 + 1e-6


@pytest.mark.parametrize("exponent", [1.0, 2.0, -1.0, 0.5])
def test_known_exponents_need_no_logarithm(exponent):
    """The values are those of the function, by one instruction or two."""
    x = np.concatenate([SPECIAL, NORMAL])
    module = Compiled(lambda builder, x: emit(builder, "pow", [x, ir.Constant(x.type, exponent)]), np.float64, 1)
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(module(x), np.power(x, np.full_like(x, exponent)), rtol=4e-16)
    assert "fmuladd" not in module.text


# ---------------------------------------------------------------------- vectors


class Compiled:
    """`function(builder, *values)` of scalars, or of vectors of `width` numbers, compiled for arrays."""

    def __init__(self, function, dtype, arity, width=None):
        element = ir.DoubleType() if dtype == np.float64 else ir.FloatType()
        kind = ir.VectorType(element, width) if width else element
        module = ir.Module()
        pointers = [element.as_pointer()] * (arity + 1)
        main = ir.Function(module, ir.FunctionType(ir.VoidType(), pointers), "main")
        builder = ir.IRBuilder(main.append_basic_block())
        *inputs, out = [builder.bitcast(p, kind.as_pointer()) for p in main.args]
        values = [builder.load(p) for p in inputs]
        for value in values:
            value.align = 4
        builder.store(function(builder, *values), out).align = 4
        builder.ret_void()
        self.text, self.width, self.dtype = str(module), width or 1, dtype
        machine = binding.Target.from_default_triple().create_target_machine(
            cpu=binding.get_host_cpu_name(), features=get_host_cpu_features(), opt=1)
        self.engine = binding.create_mcjit_compiler(binding.parse_assembly(self.text), machine)
        self.engine.finalize_object()
        self.call = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * (arity + 1))(self.engine.get_function_address("main"))

    def __call__(self, *x):
        count = len(x[0])
        x = [np.resize(np.asarray(v, self.dtype), -(-count // self.width) * self.width) for v in x]
        out = np.empty_like(x[0])
        for i in range(0, len(out), self.width):
            self.call(*(v[i:].ctypes.data for v in (*x, out)))
        return out[:count]


VECTORS = [(np.float64, 4), (np.float64, 2), (np.float32, 8)]


def mixed_points(name):
    """Some of everything: special points, so that lanes differ, and some of each range."""
    samples = [special(name), *([v[:40] for v in operands(sample)] for sample in RANGES[name])]
    return [np.concatenate(columns) for columns in zip(*samples, strict=True)]


@pytest.mark.parametrize(("dtype", "width"), VECTORS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_vectors_have_the_values_of_scalars(name, dtype, width):
    """Bit for bit, with branches around what is seldom needed and without."""
    with np.errstate(over="ignore", under="ignore"):
        x = [v.astype(dtype) for v in mixed_points(name)]
    expected = Compiled(lambda builder, *values: emit(builder, name, values), dtype, len(x))(*x)
    for straight in (True, False):
        function = Compiled(lambda builder, *values: emit(builder, name, values, straight), dtype, len(x), width)  # noqa: B023
        np.testing.assert_array_equal(function(*x).view(np.uint8), expected.view(np.uint8))
    branching = Compiled(lambda builder, *values: emit(builder, name, values, straight=False), dtype, len(x))
    np.testing.assert_array_equal(branching(*x).view(np.uint8), expected.view(np.uint8))


PRIMITIVE = [row for row in TABLE.rows if not row.structural and row.llvm]


@pytest.mark.parametrize(("dtype", "width"), VECTORS)
@pytest.mark.parametrize("row", PRIMITIVE, ids=lambda row: row.name)
def test_every_row_takes_vectors(row, dtype, width):
    """Of numbers and plain constants, spelled out and called, with the values of scalars."""
    rows = np.random.default_rng(TABLE.opcode[row.name])
    x = [rows.uniform(*interval, 24).astype(dtype) for interval in row.domain]
    x = [np.floor(v) for v in x] if row.name == "uniform" else x

    def function(inline, constant):
        def applied(builder, *values):
            numbers = [LLVMValue(builder, v, TABLE, inline) for v in values]
            numbers[-1] = 2.0 if constant and row.arity > 1 else numbers[-1]
            return numbers[0].apply(row.name, numbers).value
        return applied

    for inline, constant in itertools.product((False, True), (False, True)):
        expected = Compiled(function(inline, constant), dtype, row.arity)(*x)
        got = Compiled(function(inline, constant), dtype, row.arity, width)(*x)
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("name", ["pow", "sin", "cos", "tan", "hypot", "exp2", "arcsin", "fmod"])
def test_error_free_products_do_not_need_a_fused_instruction(name, monkeypatch):
    """Dekker's product is as exact, so that processors without one have the same accuracy."""
    monkeypatch.setattr(emitter, "has_fused_multiply_add", lambda: False)
    for sample in map(operands, RANGES[name]):
        sample = [v[:200] for v in sample]
        function = Compiled(lambda builder, *values: emit(builder, name, values), np.float64, len(sample), 4)
        assert "llvm.fma." not in function.text
        for point, error in errors(name, sample, function(*sample)):
            assert error <= LARGEST_ERROR[name], (point, error)
