"""The tool that runs autograd's tests on tape: it finds wrong derivatives, counts, and leaves out what its list says."""

import os
import pathlib
import subprocess
import sys

SUITE = '''
import autograd.numpy as np
import autograd.numpy.random as npr
from autograd import elementwise_grad, grad, hessian_tensor_product, jacobian, make_ggnvp, value_and_grad
from autograd.misc import flatten
from autograd.test_util import check_grads, combo_check


def test_right():
    combo_check(np.multiply, [0, 1])([1.5, npr.randn(3)], [npr.randn(2, 3)])
    check_grads(lambda x: np.array([x, x**2]))(0.5)
    check_grads(lambda d, y: d["a"] * np.sin(y), argnum=(0, 1))({"a": 0.5}, 0.7)
    assert grad(lambda x, y: np.mean([x, y * y]), 1)(1.0, 2.0) == 2.0
    assert value_and_grad(lambda x: np.sum(x, keepdims=True))(npr.randn(2))[1].shape == (2,)
    np.testing.assert_allclose(elementwise_grad(np.sin)(np.zeros(2)), [1.0, 1.0])
    np.testing.assert_allclose(jacobian(lambda x: np.append([1.0], x))(np.zeros(1)), [[0.0], [1.0]])
    np.testing.assert_allclose(hessian_tensor_product(lambda x: np.sum(x**3))(np.ones(2), np.ones(2)), [6.0, 6.0])
    np.testing.assert_allclose(make_ggnvp(lambda x: 2 * x)(np.ones(2))(np.ones(2)), [4.0, 4.0])
    vector, unflatten = flatten({"a": 1.0, "b": np.ones((2, 2))})
    assert unflatten(vector)["b"].shape == (2, 2)


def test_wrong():
    # Differences see the change that rounding hides from the derivative.
    check_grads(lambda x: x + np.round(1e9 * x) / 1e9)(0.5)


def test_complex_only():
    combo_check(np.sin, [0])([1j, np.ones(2) * 1j])
'''


def test_a_suite_in_autograds_names(tmp_path):
    (tmp_path / "test_some.py").write_text(SUITE)
    (tmp_path / "test_fft.py").write_text("raise ValueError('not to be imported')")
    root = pathlib.Path(__file__).parent.parent
    run = subprocess.run([sys.executable, "-m", "tests.autograd_suite", str(tmp_path), "-q"], cwd=root,
                         capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(root)})
    assert run.returncode == 1, run.stdout + run.stderr
    assert "test_some.py            1 failed, 1 passed, 1 skipped" in run.stdout
    assert "FAILED" in run.stdout
    assert "test_wrong" in run.stdout
    assert "test_fft.py             left out: complex numbers" in run.stdout
