"""Special functions by every way a list is run: sweeps, machine code, lanes, jitted code, C; derivatives of every order.

What is not here: values and partials of each row (`test_instructions.py`) and the ufuncs' shapes (`test_numpy_functions.py`).
"""

import ctypes
import math
import subprocess
import sys

import numba
import numpy as np
import pytest
import scipy.special as sp

import tape
from compiled.functions import special
from compiled.table.instructions import TABLE

X = np.linspace(0.3, 2.0, 9)


def mixture(x):
    """Many functions at once."""
    return np.sum(sp.gammaln(x) * sp.j1(x) + sp.erfc(x) * sp.gammainc(2.5, x) + sp.gamma(x) + sp.erfinv(0.3 * x)
                  + sp.beta(x, 2.0) * sp.iv(2, x) + tape.scipy.special.polygamma(1, x))


def test_every_kernel_is_found_and_named_by_a_row():
    """In the SciPy that is installed; where it is not found the stub serves, at a hundredth of the speed."""
    rows = {row.llvm.partition(":")[2] for row in TABLE.rows if (getattr(row, "llvm", None) or "").startswith("special:")}
    assert rows == set(special.FUNCTIONS)
    assert [name for name, arity in special.FUNCTIONS.items() if special._exported(name, arity) is None] == []


def test_machine_code_and_lanes():
    compiled = tape.compile(mixture, X)
    expected = tape.value_and_grad(mixture)
    for x in (X, 0.9 * X):
        value, gradient = compiled.value_and_grad(x)
        np.testing.assert_allclose(value, expected(x)[0], rtol=1e-14)
        np.testing.assert_allclose(gradient, expected(x)[1], rtol=1e-12)
    samples = np.random.default_rng(0).uniform(0.3, 2.0, (21, 9))
    _, gradients = tape.batch(tape.value_and_grad(mixture))(samples)
    np.testing.assert_allclose(gradients, [expected(x)[1] for x in samples], rtol=1e-12)
    tape.check_grads(mixture, (X,))


def test_single_precision_is_computed_in_double():
    x = X.astype(np.float32)
    for function in (sp.gammaln, sp.j1, sp.erfc, lambda x: sp.zeta(2.0, x)):
        got = tape.compile(lambda x: function(x), x).value(x)  # noqa: B023
        assert got.dtype == np.float32
        np.testing.assert_array_equal(got, function(x.astype(float)).astype(np.float32))


def test_jitted_code_has_the_functions_of_the_math_module():
    @numba.njit
    def f(x):
        return math.erfc(x) + math.lgamma(x) * math.gamma(x)

    def traced(x):
        return sp.erfc(x) + sp.gammaln(x) * sp.gamma(x)

    assert tape.grad(f)(1.3) == pytest.approx(tape.grad(traced)(1.3), rel=1e-13)
    assert tape.hessian(f)(1.3) == pytest.approx(tape.hessian(traced)(1.3), rel=1e-13)


AT_ZERO = {
    "j1": (sp.j1, (0.0, 0.5, 0.0, -0.375)),
    "i1": (sp.i1, (0.0, 0.5, 0.0, 0.375)),
    "jv": (lambda x: sp.jv(2, x), (0.0, 0.0, 0.25, 0.0)),
    "exprel": (sp.exprel, (1.0, 1 / 2, 1 / 3, 1 / 4)),
    "sinc": (np.sinc, (1.0, 0.0, -math.pi**2 / 3, 0.0)),
    "gammainc": (lambda x: sp.gammainc(2.0, x), (0.0, 0.0, 1.0, -2.0)),
    "gammaincc": (lambda x: sp.gammaincc(3.0, x), (1.0, 0.0, 0.0, -1.0)),
    "betainc": (lambda x: sp.betainc(3.0, 2.0, x), (0.0, 0.0, 0.0, 24.0)),
    "rgamma": (sp.rgamma, (0.0, 1.0, 2 * np.euler_gamma, 6 * (np.euler_gamma**2 / 2 - math.pi**2 / 12))),
    "erfinv": (sp.erfinv, (0.0, math.sqrt(math.pi) / 2, 0.0, math.pi**1.5 / 4)),
    "cosm1": (sp.cosm1, (0.0, 0.0, -1.0, 0.0)),
}
"""Value and three derivatives at 0, where formulas that divide by x fail."""


@pytest.mark.parametrize("name", AT_ZERO)
def test_derivatives_at_zero(name):
    function, expected = AT_ZERO[name]
    for k, value in enumerate(expected):
        assert float(function(0.0)) == pytest.approx(value, rel=1e-13, abs=1e-14), f"derivative {k}"
        function = tape.grad(function)


def test_boxcox_to_its_power_at_zero():
    slope = tape.grad(lambda p: sp.boxcox(3.0, p))
    assert slope(0.0) == pytest.approx(math.log(3.0) ** 2 / 2)
    assert slope(1e-9) == pytest.approx(math.log(3.0) ** 2 / 2)


@pytest.mark.parametrize("n", [0, 1, 2, 5])
def test_polygamma(n):
    x = np.array([0.2, 1.0, 3.7, 40.0, 2e8, -0.3, -4.6])
    f = tape.scipy.special.polygamma
    expected = sp.polygamma(n, x)
    np.testing.assert_allclose(f(n, x), expected, rtol=1e-13)
    np.testing.assert_allclose(tape.vjp(lambda x: f(n, x), x)[0], expected, rtol=1e-13)
    slopes = tape.vjp(lambda x: f(n, x), x)[1](np.ones_like(x))
    np.testing.assert_allclose(slopes[0] if isinstance(slopes, tuple) else slopes, sp.polygamma(n + 1, x), rtol=1e-13)


@pytest.mark.parametrize("d", [1, 2, 5])
def test_multigammaln(d):
    a = np.array([2.5, 3.0, 7.25])
    f = tape.scipy.special.multigammaln
    np.testing.assert_allclose(f(a, d), sp.multigammaln(a, d), rtol=1e-13)
    np.testing.assert_allclose(tape.vjp(lambda a: f(a, d), a)[0], sp.multigammaln(a, d), rtol=1e-13)
    tape.check_grads(lambda a: f(a, d), (a,))


def test_orders_that_are_no_constants():
    with pytest.raises(tape.NotDifferentiable, match="polygamma: expected the order as an int, a constant; got"):
        tape.grad(lambda n: tape.scipy.special.polygamma(n, 1.0))(2.0)
    with pytest.raises(tape.NotDifferentiable, match="expected an order from 0 on, got -1"):
        tape.scipy.special.polygamma(-1, 1.0)
    with pytest.raises(tape.NotDifferentiable, match="multigammaln: expected the dimension"):
        tape.scipy.special.multigammaln(3.0, 2.5)
    with pytest.raises(tape.NotDifferentiable, match=r"jv: no derivative to operand 1.*stop_gradient"):
        tape.grad(lambda v: sp.jv(v, 1.0))(2.0)
    assert tape.grad(lambda x: sp.jv(tape.stop_gradient(x), x))(1.0) == pytest.approx(sp.jvp(1, 1.0))


def test_export_names_the_functions_that_c_does_not_have(tmp_path):
    with pytest.raises(tape.TapeError, match=r"lambda_value computes erfinv, j1 by SciPy's code.*exported: gamma, gammaln"):
        tape.compile(lambda x: sp.j1(x) * sp.erfinv(x), X / 4).export(tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="no C compiler")
def test_export_of_functions_that_c_has(tmp_path):
    tape.compile(lambda x: (sp.gammaln(x), sp.gamma(x) * sp.erfc(x)), X).export(tmp_path)
    (path,) = tmp_path.glob("liblambda.*")
    out = np.zeros((2, 9))
    ctypes.CDLL(str(path)).lambda_value(*(ctypes.c_void_p(x.ctypes.data) for x in (X, out[0], out[1])))
    np.testing.assert_allclose(out, [sp.gammaln(X), sp.gamma(X) * sp.erfc(X)], rtol=1e-13, atol=1e-14)


def test_code_from_the_cache_on_disk_finds_the_kernels_in_a_new_process():
    """Without an import of scipy.special by the user, nor before the first call."""
    program = """
import sys
import numpy as np, numba, math, tape
x = np.linspace(0.3, 2.0, 9)
tape.grad(lambda x: np.sum(np.sin(x)))(x)
assert "scipy.special.cython_special" not in sys.modules
f = tape.compile(lambda x: tape.scipy.special.multigammaln(x, 1), x)
print(*f.value(x), tape.grad(numba.njit(lambda x: math.lgamma(x)))(0.3))
"""
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        np.testing.assert_allclose(list(map(float, done.stdout.split())), [*sp.gammaln(X), sp.psi(0.3)], rtol=1e-13)
