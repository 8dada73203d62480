"""Linear algebra: every operation against NumPy's and SciPy's values and against differences to second order, batches, float32,
nested in loops and derivatives, native code, and what is refused."""

import functools

import numpy as np
import pytest
import scipy.linalg

import tape
from tape.recording import dispatch as rules
from tape.rules import linear_algebra
from tape.scipy import linalg as tsl

rng = np.random.default_rng(0)
L = np.linalg
A = rng.normal(size=(3, 3)) + 3 * np.eye(3)
B = rng.normal(size=(3, 2))
V = rng.normal(size=3)
S = A @ A.T
TALL = rng.normal(size=(5, 3))
BATCH = rng.normal(size=(2, 3, 3)) + 3 * np.eye(3)
BATCH_S = BATCH @ np.swapaxes(BATCH, -1, -2)


def _parts(function):
    return lambda *args: tuple(function(*args))


CASES = {
    "solve": (L.solve, (A, B)),
    "solve vector": (L.solve, (A, V)),
    "solve batch": (L.solve, (BATCH, B)),
    "solve broadcast": (L.solve, (A, rng.normal(size=(2, 3, 1)))),
    "inv": (L.inv, (A,)),
    "inv batch": (L.inv, (BATCH,)),
    "det": (L.det, (A,)),
    "det batch": (L.det, (BATCH,)),
    "det 1 x 1": (L.det, (A[:1, :1],)),
    "slogdet": (lambda a: L.slogdet(a)[1], (A,)),
    "slogdet named": (lambda a: L.slogdet(a).logabsdet, (BATCH,)),
    "cholesky": (L.cholesky, (S,)),
    "cholesky upper": (lambda a: L.cholesky(a, upper=True), (S,)),
    "cholesky batch": (L.cholesky, (BATCH_S,)),
    "qr": (_parts(L.qr), (TALL,)),
    "qr square": (_parts(L.qr), (A,)),
    "qr wide": (_parts(L.qr), (TALL.T,)),
    "qr batch": (_parts(L.qr), (BATCH,)),
    "qr r": (lambda a: L.qr(a, "r"), (TALL,)),
    "qr complete": (lambda a: tuple(L.qr(a, "complete")), (A,)),
    "eigh": (_parts(L.eigh), (S,)),
    "eigh upper": (lambda a: tuple(L.eigh(a, "U")), (S,)),
    "eigh batch": (_parts(L.eigh), (BATCH_S,)),
    "eigvalsh": (L.eigvalsh, (S,)),
    "svd": (lambda a: tuple(L.svd(a, full_matrices=False)), (TALL,)),
    "svd wide": (lambda a: tuple(L.svd(a, full_matrices=False)), (TALL.T,)),
    "svd square": (_parts(L.svd), (A,)),
    "svd batch": (_parts(L.svd), (BATCH,)),
    "svd hermitian": (lambda a: L.svd(a, hermitian=True).S, (S,)),
    "svdvals": (L.svdvals, (TALL,)),
    "svd values": (lambda a: L.svd(a, compute_uv=False), (TALL.T,)),
    "pinv": (L.pinv, (TALL,)),
    "pinv wide": (L.pinv, (TALL.T,)),
    "pinv hermitian": (lambda a: L.pinv(a, hermitian=True), (S,)),
    "pinv batch": (L.pinv, (BATCH,)),
    "lstsq": (lambda a, b: L.lstsq(a, b)[0], (TALL, rng.normal(size=5))),
    "lstsq columns": (lambda a, b: L.lstsq(a, b)[:2], (TALL, rng.normal(size=(5, 2)))),
    "lstsq wide": (lambda a, b: L.lstsq(a, b)[0], (TALL.T, V)),
    "lstsq values": (lambda a, b: L.lstsq(a, b)[3], (TALL, rng.normal(size=5))),
    "cond": (L.cond, (A,)),
    "cond -2": (lambda a: L.cond(a, -2), (A,)),
    "cond 1": (lambda a: L.cond(a, 1), (A,)),
    "matrix_power": (lambda a: L.matrix_power(a, 5), (A,)),
    "matrix_power -3": (lambda a: L.matrix_power(a, -3), (A,)),
    "tensorsolve": (L.tensorsolve, (rng.normal(size=(2, 3, 6)), rng.normal(size=(2, 3)))),
    "tensorinv": (lambda a: L.tensorinv(a, 1), (rng.normal(size=(6, 2, 3)),)),
    "vector_norm": (lambda a: L.vector_norm(a, axis=0, ord=3), (TALL,)),
    "matrix_norm": (lambda a: L.matrix_norm(a, ord=2), (BATCH,)),
    **{f"norm {o}": (lambda a, o=o: L.norm(a, o), (A,)) for o in (None, "fro", "nuc", 1, -1, 2, -2, np.inf, -np.inf)},
    **{f"norm {o} axes": (lambda a, o=o: L.norm(a, o, axis=(0, 2), keepdims=True), (BATCH,))
       for o in (None, "fro", "nuc", 1, -1, 2, -2, np.inf, -np.inf)},
    **{f"norm {o} vectors": (lambda a, o=o: L.norm(a, o, axis=1), (TALL,))
       for o in (None, 0, 1, 2, 3, 0.5, -1, -2.5, np.inf, -np.inf)},
}
"""NumPy's functions, by a name, and arguments."""

SCIPY_CASES = {
    "solve": (A, B),
    "solve_triangular": (A, V),
    "inv": (A,),
    "det": (A,),
    "cholesky": (S,),
    "cho_factor": (S,),
    "qr": (A,),
    "svd": (A,),
    "svdvals": (TALL,),
    "eigh": (S,),
    "eigvalsh": (S,),
    "pinv": (TALL,),
    "lstsq": (TALL, rng.normal(size=5)),
    "norm": (A,),
    "expm": (0.3 * A,),
    "logm": (S,),
    "sqrtm": (S,),
    "solve_sylvester": (A, S[:2, :2], B),
    "block_diag": (A, B),
    "toeplitz": (V, B[:, 0]),
}
"""Names of `scipy.linalg`, and arguments."""


def _leaves(result):
    return [np.asarray(x) for x in (result if isinstance(result, (tuple, list)) else [result])]


@pytest.mark.parametrize("name", CASES)
def test_values_are_numpys(name):
    function, args = CASES[name]
    got = tape.record(function, *args).forward(*args)
    for x, y in zip(_leaves(got), _leaves(function(*args)), strict=True):
        assert x.shape == y.shape
        np.testing.assert_allclose(x, y, rtol=1e-12, atol=1e-12)


def test_every_function_has_a_case():
    recorded = {f.__name__ for f, rule in rules.FUNCTIONS.items() if rule.__module__ == linear_algebra.__name__}
    assert recorded
    assert recorded <= {name.split()[0] for name in CASES} | {"matrix_rank"}


def test_the_rank_is_numpys():
    for matrix in (A, TALL, np.outer(V, V), BATCH):
        recorded = tape.record(L.matrix_rank, matrix)
        np.testing.assert_array_equal(recorded.forward(matrix), L.matrix_rank(matrix))


@pytest.mark.parametrize("name", CASES)
def test_derivatives_to_second_order(name):
    function, args = CASES[name]
    tape.check_grads(function, args)


@pytest.mark.parametrize("name", SCIPY_CASES)
def test_scipys_names(name):
    args = SCIPY_CASES[name]
    function = getattr(tsl, name)
    plain, own = _leaves(getattr(scipy.linalg, name)(*args)), _leaves(function(*args))
    arrays = tape.record(lambda *args: [x for x in _as_list(function(*args)) if hasattr(x, "dtype")], *args)
    recorded = _leaves(arrays.forward(*args))
    for x, y in zip(own, plain, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-12, atol=1e-12)
    floats = [x for x in plain if x.dtype.kind == "f"]
    for x, y in zip(recorded, floats, strict=False):
        x, y = (np.abs(x), np.abs(y)) if name == "eigh" else (x, y)  # the signs of eigenvectors are the driver's
        np.testing.assert_allclose(x, y if name != "cho_factor" else np.triu(y), rtol=1e-9, atol=1e-12)

    def of_floats(*args):
        return [x for x in _as_list(function(*args)) if getattr(x, "dtype", np.dtype(int)).kind == "f"]

    tape.check_grads(of_floats, args, order=1 if name in ("logm", "expm") else 2)


def _as_list(result):
    return list(result) if isinstance(result, (tuple, list)) else [result]


def test_the_options_of_solve_triangular_and_cho_solve():
    for lower in (False, True):
        for trans in (0, 1, "T"):
            for unit in (False, True):
                def f(a, b, options=(trans, lower, unit)):
                    return tsl.solve_triangular(a, b, options[0], options[1], options[2])

                expected = scipy.linalg.solve_triangular(A, B, trans, lower, unit)
                np.testing.assert_allclose(tape.record(f, A, B).forward(A, B), expected, rtol=1e-12)
                tape.check_grads(f, (A, B))
    for lower in (False, True):
        def g(a, b, lower=lower):
            return tsl.cho_solve(tsl.cho_factor(a, lower), b)

        np.testing.assert_allclose(tape.record(g, S, V).forward(S, V), np.linalg.solve(S, V), rtol=1e-10)
        tape.check_grads(g, (S, V))


@pytest.mark.parametrize("bands", [(0, 0), (1, 1), (2, 1), (0, 2), (2, 0)])
@pytest.mark.parametrize("columns", [(), (2,)])
def test_matrices_that_are_bands(bands, columns):
    random = np.random.default_rng(1)
    ab, b = random.normal(size=(sum(bands) + 1, 5)), random.normal(size=(5, *columns))
    ab[bands[1]] += 4.0
    f = functools.partial(tsl.solve_banded, bands)
    np.testing.assert_allclose(tape.record(f, ab, b).forward(ab, b), scipy.linalg.solve_banded(bands, ab, b), rtol=1e-12)
    tape.check_grads(f, (ab, b))


def test_the_generalised_eigenvalue_problem():
    b = np.eye(3) + 0.1 * S
    values = tape.record(lambda a, b: tsl.eigh(a, b), S, b).forward(S, b)[0]
    np.testing.assert_allclose(values, scipy.linalg.eigh(S, b)[0], rtol=1e-10)
    tape.check_grads(lambda a, b: tsl.eigh(a, b)[0], (S, b))
    tape.check_grads(lambda a, b: tsl.eigh(a, b)[1] ** 2, (S, b))


def test_the_gradient_of_a_determinant_is_the_matrix_of_cofactors_even_of_singular_matrices():
    np.testing.assert_allclose(tape.grad(L.det)(np.array([[1.0, 2.0], [2.0, 4.0]])), [[4.0, -2.0], [-2.0, 1.0]], rtol=1e-14)
    np.testing.assert_array_equal(tape.grad(L.det)(np.zeros((3, 3))), np.zeros((3, 3)))
    near = A.copy()
    near[2] = near[0] + near[1] + 1e-13
    exact = np.array([[(-1) ** (i + j) * L.det(np.delete(np.delete(near, i, 0), j, 1)) for j in range(3)] for i in range(3)])
    np.testing.assert_allclose(tape.grad(L.det)(near), exact, rtol=1e-10, atol=1e-12)


@pytest.mark.filterwarnings("ignore::tape.UndefinedGradientWarning")
def test_eigenvectors_of_equal_eigenvalues_have_no_finite_derivative_but_sums_of_eigenvalues_have():
    np.testing.assert_allclose(tape.grad(lambda a: np.sum(L.eigvalsh(a) ** 2))(2 * np.eye(3)), 4 * np.eye(3))
    assert not np.isfinite(tape.grad(lambda a: np.sum(TALL[:3] * L.eigh(a)[1]))(np.eye(3))).all()
    np.testing.assert_allclose(tape.grad(lambda a: np.sum(L.eigh(a)[0]))(np.eye(3)), np.eye(3))


@pytest.mark.parametrize("name", ["solve", "cholesky", "eigh", "svd", "qr", "det", "pinv", "lstsq columns"])
def test_float32(name):
    function, args = CASES[name]

    def loss(*args):
        return sum(np.sum(x**2) if k else np.sum(x**3) for k, x in enumerate(_as_list(function(*args))))

    exact = tape.grad(loss)(*args)
    single = tape.grad(loss)(*(x.astype(np.float32) for x in args))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, exact, rtol=1e-2, atol=1e-3 * np.abs(exact).max())
    tangent = tape.hvp(loss)(*(x.astype(np.float32) for x in (args[0], args[0], *args[1:])) if len(args) == 1 else
                             (*(x.astype(np.float32) for x in args), args[0].astype(np.float32))) if len(args) == 1 else None
    assert tangent is None or tangent.dtype == np.float32


def test_inside_loops_branches_and_other_derivatives():
    def scanned(a):
        return np.sum(tape.scan(lambda x, _: (np.linalg.solve(a, x), None), V, None, 4)[0])

    np.testing.assert_allclose(tape.grad(scanned)(A), tape.grad(lambda a: np.sum(np.linalg.solve(L.matrix_power(a, 4), V)))(A),
                               rtol=1e-10)
    tape.check_grads(scanned, (A,))
    tape.check_grads(lambda a: np.sum(tape.grad(lambda a: L.slogdet(a)[1])(a) * S), (A,))
    tape.check_grads(lambda a: np.sum(tape.checkpoint(L.inv)(a)), (A,))


@pytest.mark.parametrize("mode", ["0", "always"])
def test_sweeps_and_native_code_agree(monkeypatch, mode):
    monkeypatch.setenv("TAPE_NATIVE", mode)

    def loss(a):
        return np.sum(np.linalg.solve(a, V) ** 2) + L.slogdet(a)[1] * L.norm(a, "nuc")

    function = tape.value_and_grad(loss)
    for matrix in (A, A + np.eye(3), A):
        value, gradient = function(matrix)
        np.testing.assert_allclose(value, loss(matrix), rtol=1e-12)
        np.testing.assert_allclose(gradient, tape.jacobian(loss, mode="forward")(matrix), rtol=1e-9)
    with pytest.raises(np.linalg.LinAlgError, match="Singular"):
        function(np.zeros((3, 3)))


def test_compiled_and_batched():
    compiled = tape.compile(L.det, A)
    value, gradient = compiled.value_and_grad(A)
    np.testing.assert_allclose(value, L.det(A))
    np.testing.assert_allclose(gradient, L.det(A) * L.inv(A).T)
    np.testing.assert_allclose(tape.batch(tape.grad(L.det))(BATCH), [tape.grad(L.det)(x) for x in BATCH], rtol=1e-12)
    with pytest.raises(tape.TapeError, match=r"calls det, a Python function"):
        compiled.export("unused")


def test_the_report_says_what_runs_it(monkeypatch):
    monkeypatch.setenv("TAPE_NATIVE", "1")
    function = tape.value_and_grad(L.det)
    function(A)
    assert "sweeps, until native code pays" in function.report()
    monkeypatch.setattr("tape.running.tiers.COMPILING", (1e-9, 0.0))
    other = tape.value_and_grad(lambda a: L.det(a))
    other(A), other(A)
    assert "native code, compiled in" in other.report()


def test_eager_variables():
    v = tape.variable(A, requires_grad=True)
    for _ in range(2):
        loss = (np.linalg.inv(v) ** 2).sum()
        v.grad = None
        loss.backward()
    np.testing.assert_allclose(v.grad, tape.grad(lambda a: np.sum(L.inv(a) ** 2))(A), rtol=1e-12)


def test_saved_and_loaded(tmp_path):
    def f(a):
        return np.sum(L.eigh(a, "U")[1] ** 3) + L.det(a)

    t = tape.record(f, S)
    t.save(tmp_path / "list.npz")
    loaded = tape.load(tmp_path / "list.npz")
    other = S + np.diag([0.1, 0.2, 0.3])
    np.testing.assert_allclose(loaded.forward(other), f(other), rtol=1e-12)
    loaded.reverse()
    np.testing.assert_allclose(loaded.gradients[0], tape.grad(f)(other), rtol=1e-12)


@pytest.mark.parametrize(("function", "args", "error", "message"), [
    (lambda a: np.sum(L.svd(a)[0]), (TALL,), tape.NotDifferentiable, "full_matrices=False"),
    (lambda a: np.sum(L.qr(a, "complete")[0]), (TALL,), tape.NotDifferentiable, "reduced"),
    (lambda a: L.det(a), (TALL,), L.LinAlgError, "square"),
    (lambda a: np.sum(L.solve(a, V)), (TALL,), L.LinAlgError, "square"),
    (lambda a: np.sum(L.inv(a)), (np.zeros((2, 2)),), L.LinAlgError, "Singular"),
    (lambda a: L.norm(a, "unknown"), (A,), ValueError, "order"),
    (lambda a: np.sum(L.eigvals(a).real), (A,), tape.NotDifferentiable, "eigvals"),
    (lambda a: np.sum(tsl.logm(a)), (-A,), tape.NotDifferentiable, "complex"),
])
def test_what_is_refused(function, args, error, message):
    with pytest.raises(error, match=message):
        tape.grad(function)(*args)
