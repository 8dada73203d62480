"""Arrays with labels of pandas and xarray, and SciPy's sparse matrices: fixed, closed over, and differentiated.

Gradients are compared with differences of the plain call, so that labels mean the same in both.
"""

import numpy as np
import pytest
import scipy.sparse as sp

import tape

RNG = np.random.default_rng(7)
DENSE = RNG.normal(size=(5, 4)) * (RNG.random((5, 4)) < 0.5)
X, Y, MANY = RNG.normal(size=4), RNG.normal(size=5), RNG.normal(size=(4, 3))
FORMATS = [sp.csr_array, sp.csc_array, sp.coo_array, sp.dia_array, sp.lil_array, sp.dok_array, sp.csr_matrix, sp.bsr_matrix]


# ---------------------------------------------------------------------- sparse matrices


@pytest.mark.parametrize("make", FORMATS)
@pytest.mark.parametrize(
    ("sparse", "dense", "x"),
    [
        (lambda a, x: a @ x, lambda a, x: a @ x, X),
        (lambda a, x: a @ x, lambda a, x: a @ x, MANY),
        (lambda a, x: a.dot(x), lambda a, x: a @ x, X),
        (lambda a, x: a.T @ x, lambda a, x: a.T @ x, Y),
        (lambda a, x: x @ a, lambda a, x: x @ a, Y),
        (lambda a, x: MANY.T @ (a.T @ x) if x.ndim == 1 else x @ a, lambda a, x: MANY.T @ (a.T @ x), Y),
        (lambda a, x: np.stack([x, 2.0 * x]) @ a, lambda a, x: np.stack([x, 2.0 * x]) @ a, Y),
    ],
)
def test_products_with_sparse_matrices(make, sparse, dense, x):
    matrix = make(DENSE)
    first, second = (lambda x: np.sum(np.sin(sparse(matrix, x)))), (lambda x: np.sum(np.sin(dense(DENSE, x))))
    value, gradient = tape.value_and_grad(first)(x)
    assert np.isclose(value, first(x))
    np.testing.assert_allclose(gradient, tape.grad(second)(x), rtol=1e-12, atol=1e-14)
    v = np.cos(x)
    np.testing.assert_allclose(tape.hvp(first)(x, v), tape.hvp(second)(x, v), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(tape.jvp(first, (x,), (v,))[1], np.sum(gradient * v))


def test_products_with_old_matrices_by_star():
    matrix = sp.csr_matrix(DENSE)
    np.testing.assert_allclose(tape.grad(lambda x: np.sum((matrix * x) ** 2))(X), 2.0 * DENSE.T @ DENSE @ X)
    np.testing.assert_allclose(tape.grad(lambda y: np.sum((y * matrix) ** 2))(Y), 2.0 * DENSE @ DENSE.T @ Y)


def test_a_product_is_never_dense():
    n = 20_000
    laplacian = sp.diags_array([np.full(n - 1, -1.0), np.full(n, 2.0), np.full(n - 1, -1.0)], offsets=[-1, 0, 1]).tocsr()
    x = np.sin(np.arange(n))
    np.testing.assert_allclose(tape.grad(lambda x: 0.5 * x @ (laplacian @ x))(x), laplacian @ x, atol=1e-12)
    assert tape.record(lambda x: laplacian @ x, x)._trace.program.values.size < 30 * n
    found = tape.jacobian(lambda x: laplacian @ x, mode="sparse")(x)
    assert abs(found - laplacian).max() == 0.0


def test_products_in_native_code_batches_and_single_precision():
    matrix = sp.csr_array(DENSE)

    def function(x):
        return np.sum((matrix @ x) ** 2)

    exact = 2.0 * DENSE.T @ DENSE @ X
    value, gradient = tape.compile(function, X).value_and_grad(X)
    assert np.isclose(value, function(X))
    np.testing.assert_allclose(gradient, exact)
    np.testing.assert_allclose(tape.batch(tape.grad(function))(np.stack([X, 2 * X])), [exact, 2 * exact])
    np.testing.assert_allclose(tape.hessian(function)(X), 2.0 * DENSE.T @ DENSE, atol=1e-14)
    single = sp.csr_array(DENSE.astype(np.float32))
    gradient = tape.grad(lambda x: np.sum((single @ x) ** 2))(X.astype(np.float32))
    assert gradient.dtype == np.float32
    np.testing.assert_allclose(gradient, exact, rtol=1e-4, atol=1e-5)
    whole = sp.csr_array(np.array([[1, 0], [2, 3]]))
    np.testing.assert_allclose(tape.grad(lambda x: np.sum(whole @ x))(X[:2]), [3.0, 3.0])
    empty = sp.csr_array((3, 4))
    np.testing.assert_allclose(tape.grad(lambda x: np.sum(empty @ x) + np.sum(x))(X), np.ones(4))


def test_sparse_matrices_that_change_are_seen():
    matrix = sp.csr_array(DENSE)
    closed, given = tape.grad(lambda x: np.sum((matrix @ x) ** 2)), tape.grad(lambda x, a: np.sum((a @ x) ** 2))
    exact = 2.0 * DENSE.T @ DENSE @ X
    np.testing.assert_allclose(closed(X), exact)
    np.testing.assert_allclose(given(X, matrix), exact)
    matrix.data *= 3.0
    np.testing.assert_allclose(closed(X), 9.0 * exact)
    np.testing.assert_allclose(given(X, matrix), 9.0 * exact)
    np.testing.assert_allclose(given(X, sp.csr_array(DENSE)), exact)


@pytest.mark.parametrize("operation", [lambda a, x: a + x, lambda a, x: a * x, lambda a, x: x * a, lambda a, x: a.multiply(x)])
def test_other_operations_of_sparse_matrices_are_refused_with_the_users_line(operation):
    with pytest.raises(tape.NotDifferentiable, match=r"test_labelled.py:\d+: "):
        tape.grad(lambda x: np.sum(operation(sp.csr_array(DENSE), x)))(X)


def test_sparse_matrices_of_other_shapes():
    for function in (lambda x: sp.csr_array(DENSE) @ x[:3], lambda x: x @ sp.csr_array(DENSE),
                     lambda x: sp.csr_array(DENSE) @ np.ones((4, 2, 2), like=x)):
        with pytest.raises(ValueError, match=r"dimension mismatch|expected one or two axes|dimension"):
            tape.jacobian(function)(X)


def test_sparse_products_of_eager_variables():
    matrix, x = sp.csr_array(DENSE), tape.variable(X, requires_grad=True)
    loss = np.sum((matrix @ x) ** 2) + np.sum(matrix.T.dot(matrix @ x)) + np.sum(x @ matrix.T)
    loss.backward()
    expected = tape.grad(lambda x: np.sum((DENSE @ x) ** 2) + np.sum(DENSE.T @ (DENSE @ x)) + np.sum(x @ DENSE.T))(X)
    np.testing.assert_allclose(x.grad, expected)


# ---------------------------------------------------------------------- pandas


def differences(function, x):
    """Central differences by the elements of an array with labels, as a plain array."""
    found = np.zeros(x.shape)
    for i in np.ndindex(x.shape):
        sides = []
        for step in (1e-6, -1e-6):
            values = np.array(x.to_numpy(), float)
            values[i] += step
            like = x.copy(data=values) if hasattr(x, "dims") else type(x)(values, **_labels(x))
            sides.append(float(function(like)))
        found[i] = (sides[0] - sides[1]) / 2e-6
    return found


def _labels(x):
    return {"index": x.index, "columns": x.columns} if hasattr(x, "columns") else {"index": x.index, "name": x.name}


def agrees(function, x):
    """Whether value and gradient of the recorded function are those of the plain one; returns the gradient."""
    derivative = tape.value_and_grad(function)
    for _ in range(2):
        value, gradient = derivative(x)
        assert np.isclose(float(value), float(function(x)))
        assert type(gradient) is type(x)
        np.testing.assert_allclose(gradient.to_numpy(), differences(function, x), atol=2e-5)
    return gradient


SERIES = {
    "numpy": lambda s, t: np.sum(s**2),
    "aligned": lambda s, t: (s * t).sum(),
    "aligned from the left": lambda s, t: (t * s).sum(),
    "labels": lambda s, t: s["a"] ** 2 * s.loc["c"],
    "positions": lambda s, t: s.iloc[1:3].prod(),
    "chosen": lambda s, t: s[s > 2.5].sum(),
    "ufunc": lambda s, t: np.exp(s).mean(),
    "ufunc of two": lambda s, t: np.maximum(s, t - 38.0).sum(),
    "std": lambda s, t: s.std() + s.var(),
    "dot": lambda s, t: s.dot(t.reindex(s.index)) + s @ np.arange(4.0),
    "centred": lambda s, t: ((s - s.mean()) ** 2).sum(),
    "abs": lambda s, t: (s - s.mean()).abs().max(),
    "values": lambda s, t: np.sum(np.sin(s.values)),
    "cumsum": lambda s, t: s.cumsum().iloc[-2],
    "sorted": lambda s, t: s.sort_index().iloc[0] ** 2,
    "missing": lambda s, t: (s.diff().dropna() ** 2).sum(),
    "skipped": lambda s, t: s.shift(1).mean(),
    "clipped": lambda s, t: s.clip(0, 3.5).sum(),
    "python": lambda s, t: sum(s) / len(s),
    "grouped": lambda s, t: s.groupby([0, 0, 1, 1]).sum().iloc[1],
    "joined": lambda s, t: (-s).rename("z").add(t).sum() + s.min() + s.median(),
    "labels of a product": lambda s, t: (2.0 * s)["b"] * (s.iloc[0] * t)["b"],
    "labels of numpy's product": lambda s, t: (s.to_numpy()[0] * t)["d"] + np.power(s.to_numpy()[1], t / 20.0)["d"],
    "numbers as labels": lambda s, t: (s.reset_index(drop=True).iloc[::-1] ** 2)[1],
}


@pytest.mark.parametrize("name", SERIES)
def test_series_are_differentiated_as_pandas_computes(name):
    pd = pytest.importorskip("pandas")
    s = pd.Series([1.0, 2.0, 3.0, 4.0], index=list("dabc"), name="q")
    t = pd.Series([10.0, 20.0, 30.0, 40.0], index=list("abcd"))
    gradient = agrees(lambda s: SERIES[name](s, t), s)
    assert gradient.index.equals(s.index)
    assert gradient.name == "q"


def test_series_in_all_derivatives():
    pd = pytest.importorskip("pandas")
    s = pd.Series([1.0, 2.0, 3.0], index=list("cab"), name="q")

    def cubes(s):
        return (s**3).sum()

    np.testing.assert_allclose(tape.hessian(cubes)(s), np.diag(6.0 * s.to_numpy()))
    pd.testing.assert_series_equal(tape.hvp(cubes)(s, s), 6.0 * s**2, check_names=True)
    value, pullback = tape.vjp(lambda s: 2.0 * s, s)
    pd.testing.assert_series_equal(value, 2.0 * s)
    pd.testing.assert_series_equal(pullback(s)[0], 2.0 * s)
    value, tangent = tape.jvp(lambda s: s**2, (s,), (s,))
    pd.testing.assert_series_equal(tangent, 2.0 * s**2)
    np.testing.assert_allclose(tape.jacobian(lambda s: s**2)(s), np.diag(2.0 * s.to_numpy()))
    pd.testing.assert_series_equal(tape.jacobian(lambda p: p * s)(2.0), s)
    compiled = tape.compile(cubes, s)
    value, gradient = compiled.value_and_grad(2.0 * s)
    pd.testing.assert_series_equal(gradient, 12.0 * s**2)
    pd.testing.assert_series_equal(tape.grad(lambda s: tape.grad(cubes)(s).sum())(s), 6.0 * s)
    gradient, aux = tape.grad(lambda s: ((s**2).sum(), s * 3.0), has_aux=True)(s)
    pd.testing.assert_series_equal(aux, 3.0 * s)
    by_name = tape.grad(lambda p, s: (s * p["b"] * s).sum(), ("s", "p"))({"b": 2.0}, s=s)
    pd.testing.assert_series_equal(by_name[0], 4.0 * s)
    assert by_name[1] == {"b": 14.0}
    t = tape.record(cubes, s)
    assert t.forward(2.0 * s) == 8.0 * cubes(s)
    whole = tape.grad(lambda s: (s**2).sum())(pd.Series([1, 2, 3]))
    assert whole.dtype == np.float64
    assert whole.tolist() == [2.0, 4.0, 6.0]


def test_lists_of_series_are_told_apart_by_labels():
    pd = pytest.importorskip("pandas")
    s = pd.Series([1.0, 2.0], index=["a", "b"])
    f = tape.grad(lambda s: s["a"] ** 2)
    assert f(s).tolist() == [2.0, 0.0]
    assert f(pd.Series([1.0, 2.0], index=["b", "a"])).tolist() == [0.0, 4.0]
    assert f(2.0 * s).tolist() == [4.0, 0.0]
    assert f.report().startswith("2 lists")


def test_missing_numbers_decide_as_branches_do():
    pd = pytest.importorskip("pandas")
    f = tape.grad(lambda s: (s**2).mean())
    np.testing.assert_allclose(f(pd.Series([1.0, 2.0, 3.0])), [2 / 3, 4 / 3, 2.0])
    np.testing.assert_allclose(f(pd.Series([1.0, np.nan, 3.0])), [1.0, 0.0, 3.0])
    np.testing.assert_allclose(f(pd.Series([2.0, 2.0, 3.0])), [4 / 3, 4 / 3, 2.0])


def test_frames():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"u": [1.0, 2.0, 3.0], "v": [4.0, 5.0, 7.0]}, index=list("xyz"))
    for function in (lambda f: (f["u"] * f["v"]).sum(), lambda f: (f**2).sum().sum(), lambda f: (f.loc["y"] ** 2).prod(),
                     lambda f: (f @ np.array([1.0, 2.0]) if isinstance(f, np.ndarray) else f.mul(2.0)["u"]).max()):
        gradient = agrees(function, frame)
        assert list(gradient.columns) == ["u", "v"]
        assert list(gradient.index) == ["x", "y", "z"]


def test_pandas_as_data():
    pd = pytest.importorskip("pandas")
    data = pd.DataFrame({"u": X, "n": [1, 2, 3, 4], "name": list("abcd")}, index=list("wxyz"))

    def residual(p, data):
        return np.sum((p[0] * np.exp(p[1] * data["u"]) + data["n"] - p[0] * data["n"].to_numpy()) ** 2)

    p = np.array([1.5, -0.3])
    closed = tape.value_and_grad(lambda p: residual(p, data))
    for value, gradient in (closed(p), tape.value_and_grad(residual)(p, data)):
        assert np.isclose(value, residual(p, data))
        steps = 1e-6 * np.eye(2)
        np.testing.assert_allclose(gradient, [(residual(p + h, data) - residual(p - h, data)) / 2e-6 for h in steps], rtol=1e-5)
    for function in (lambda x: np.sum(np.where(data["n"] > 2, x, 0.0)), lambda x: x[data["n"] - 1].sum(),
                     lambda x: np.sum(np.stack([data["u"], x])), lambda x: x @ data["u"],
                     lambda x: (x > data["u"] + 0.1).sum() * x[0],
                     lambda x: np.sum(data[["u", "n"]] * x[0]).sum(), lambda x: ((x * data["u"]) / (1 + data["u"] ** 2))["y"]):
        value, gradient = tape.value_and_grad(function)(X)
        assert np.isclose(value, function(X))
        np.testing.assert_allclose(gradient, [(function(X + h) - function(X - h)) / 2e-6 for h in 1e-6 * np.eye(4)], atol=1e-5)


def test_pandas_that_changes_is_seen():
    pd = pytest.importorskip("pandas")
    s, frame = pd.Series([1.0, 2.0, 3.0, 4.0]), pd.DataFrame({"u": [1.0, 2.0, 3.0, 4.0], "name": list("abcd")})
    closed, given = tape.grad(lambda x: np.sum(s * x)), tape.grad(lambda x, f: np.sum(f["u"] * x))
    assert closed(X).tolist() == given(X, frame).tolist() == [1.0, 2.0, 3.0, 4.0]
    s.iloc[0], frame.loc[1, "u"] = 9.0, 7.0
    assert closed(X).tolist() == [9.0, 2.0, 3.0, 4.0]
    assert given(X, frame).tolist() == [1.0, 7.0, 3.0, 4.0]
    assert closed.report().startswith("1 lists")
    closed(X)
    assert closed.report().startswith("1 lists")


def test_what_pandas_cannot_do_names_the_users_line():
    pd = pytest.importorskip("pandas")
    s = pd.Series([1.0, 2.0, 3.0, 4.0])
    for function in (lambda x: s @ x, lambda x: np.interp(x, s, pd.Series(x)).sum(), lambda s: np.asarray(s).sum()):
        with pytest.raises(tape.NotDifferentiable, match=r"test_labelled.py:\d+: "):
            tape.grad(function)(s if function.__code__.co_varnames == ("s",) else X)
    with pytest.raises(tape.NotDifferentiable, match="got Series"):
        tape.grad(lambda s: 1.0)(pd.Series(list("abc")))


# ---------------------------------------------------------------------- xarray

ARRAYS = {
    "sum": lambda a, w: (a**2).sum(),
    "aligned": lambda a, w: (a * w).sum() + (w * a).max(),
    "labels": lambda a, w: a.sel(t=20, x="b") ** 2,
    "mean": lambda a, w: a.mean("t").max(),
    "ufunc": lambda a, w: np.sin(a).isel(t=0).sum(),
    "dot": lambda a, w: a.dot(w).sum(),
    "axes": lambda a, w: a.transpose("x", "t").isel(x=0).prod(),
    "centred": lambda a, w: (a - a.mean("x")).std(),
    "data": lambda a, w: np.sum(a.data**2),
    "where": lambda a, w: a.where(a > 0, 0.0).sum(),
    "shift": lambda a, w: (a.shift(t=1).isel(t=2) ** 2).sum(),
    "diff": lambda a, w: (a.diff("t") ** 2).sum(),
    "grouped": lambda a, w: a.groupby("t").sum().isel(t=0).sum(),
    "numbers": lambda a, w: (2.0 * a / 3 + 1).sum() * np.exp(a.data[0, 0] * w).sel(x="b"),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_of_xarray_are_differentiated_as_xarray_computes(name):
    xr = pytest.importorskip("xarray")
    coordinates = {"t": [10, 20, 30], "x": list("abcd")}
    a = xr.DataArray(RNG.normal(size=(3, 4)), dims=("t", "x"), coords=coordinates, name="T", attrs={"units": "K"})
    w = xr.DataArray([1.0, 2.0, 3.0, 4.0], dims="x", coords={"x": list("abcd")})
    gradient = agrees(lambda a: ARRAYS[name](a, w), a)
    assert gradient.identical(a.copy(data=gradient.values))


def test_arrays_of_xarray_as_data():
    xr = pytest.importorskip("xarray")
    w = xr.DataArray([1.0, 2.0, 3.0, 4.0], dims="x", coords={"x": list("abcd")})
    f = tape.grad(lambda p: ((p * w).sel(x="b") ** 2 + (w * p).sum()).sum())
    assert f(3.0) == 2 * 4.0 * 3.0 + 10.0
    w.loc["b"] = 5.0
    assert f(3.0) == 2 * 25.0 * 3.0 + 13.0
    np.testing.assert_allclose(tape.grad(lambda x, w: np.sum(x * w))(X, w), w.values)
    assert tape.jacobian(lambda p: p * w)(2.0).identical(w)
    value, pullback = tape.vjp(lambda w: 2.0 * w, w)
    assert value.identical(2.0 * w)
    assert pullback(w)[0].identical(2.0 * w)
