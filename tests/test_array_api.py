"""Code written for the array API standard, with `array_api_compat` and without."""

import numpy as np
import pytest

import tape

X = np.array([[1.0, 2.0], [3.0, 4.5]])

PROGRAMS = {
    "elementwise": lambda xp, x: xp.sum(xp.exp(xp.asarray(x)) * xp.acos(x / 5) + xp.pow(x, 2)),
    "statistics": lambda xp, x: xp.mean(x) + xp.std(x, correction=1) * xp.var(x),
    "shapes": lambda xp, x: xp.sum(xp.permute_dims(xp.concat([x, 2 * x]), (1, 0))[0]) + xp.sum(xp.expand_dims(x, axis=0)),
    "types": lambda xp, x: xp.sum(xp.astype(x, xp.float64) * xp.isdtype(x.dtype, "real floating")),
    "products": lambda xp, x: xp.sum(xp.matmul(x, xp.matrix_transpose(x)) @ x.mT) + xp.sum(xp.vecdot(x, x)),
    "linear algebra": lambda xp, x: xp.linalg.det(x) * xp.sum(xp.linalg.solve(x, x[:, 0])) + xp.linalg.vector_norm(x),
    "choices": lambda xp, x: xp.sum(xp.where(x > 1.5, x, xp.zeros_like(x))) + xp.sum(xp.clip(x, 0.0, 2.7)),
    "lists": lambda xp, x: xp.sum(xp.asarray([x[0, 0], x[1, 1]]) ** 2) + xp.sum(xp.unstack(x)[0]),
    "devices": lambda xp, x: xp.sum(xp.asarray(x.to_device(x.device), device=x.device, copy=True) ** 3),
}


def namespaces():
    """The functions that find a namespace."""
    found = {"protocol": lambda x: x.__array_namespace__()}
    try:
        import array_api_compat
        import array_api_compat.numpy

        found["array_api_compat"] = array_api_compat.array_namespace
    except ImportError:
        pass
    return found


@pytest.mark.parametrize("how", ["protocol", "array_api_compat"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_for_the_standard(name, how):
    if how not in namespaces():
        pytest.skip("array_api_compat is not installed")
    find = namespaces()[how]

    def function(x):
        return PROGRAMS[name](find(x), x)

    value, gradient = tape.value_and_grad(function)(X)
    plain = PROGRAMS[name](np, X)
    assert np.isclose(value, plain)
    differences = np.zeros_like(X)
    for i in np.ndindex(X.shape):
        step = np.zeros_like(X)
        step[i] = 1e-6
        differences[i] = (PROGRAMS[name](np, X + step) - PROGRAMS[name](np, X - step)) / 2e-6
    np.testing.assert_allclose(gradient, differences, rtol=1e-5, atol=1e-6)
    v = tape.variable(X, requires_grad=True)
    function(v).backward()
    np.testing.assert_allclose(v.grad, gradient)


def test_plain_and_recorded_arrays_may_be_mixed():
    compat = pytest.importorskip("array_api_compat")
    y = np.array([[2.0, 3.0], [4.0, 5.0]])
    for order in (lambda x: (x, y), lambda x: (y, x)):
        np.testing.assert_allclose(tape.grad(lambda x: compat.array_namespace(*order(x)).sum(x * y))(X), y)  # noqa: B023


def test_what_the_standard_asks_of_arrays():
    def function(x):
        xp = x.__array_namespace__(api_version="2023.12")
        assert xp.exp is np.exp
        assert x.device == "cpu"
        assert x.to_device("cpu") is x
        assert xp.asarray(x) is x
        assert xp.asarray(x, copy=True) is not x
        assert xp.asarray(x, dtype=xp.int64).dtype == np.int64
        assert type(xp.asarray([1.0, 2.0])) is np.ndarray
        assert {"sum", "asarray"} <= set(dir(xp))
        with pytest.raises(ValueError, match="expected the device 'cpu'"):
            x.to_device("gpu")
        with pytest.raises(ValueError, match=r"1999\.01"):
            x.__array_namespace__(api_version="1999.01")
        return xp.sum(x)

    assert tape.grad(function)(X).tolist() == np.ones((2, 2)).tolist()
