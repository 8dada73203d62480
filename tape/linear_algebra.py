"""Linear algebra: factorisations and solutions by LAPACK as operations with rules, over any leading batch axes.

Values are those of `numpy.linalg` and `scipy.linalg`. The rules are NumPy code on the arguments and results, so derivatives
have any order. Functions that read one triangle of a symmetric matrix (cholesky, eigh) have derivatives with respect to that
triangle alone, as differences of NumPy's own functions have.

What is here: the operations, and what is written in terms of them under NumPy's names. What is not: SciPy's names
(`tape.scipy.linalg`), products (`contractions.py`), how operations are recorded (`calls.py`).

Sources: Giles, "An extended collection of matrix derivative results for forward and reverse mode algorithmic differentiation",
Oxford 2008; Murray, "Differentiation of the Cholesky decomposition", arXiv:1602.07527; Walter and Lehmann, "Algorithmic
differentiation of linear algebra functions", arXiv:1009.6112; Golub and Pereyra, SIAM J. Numer. Anal. 10, 1973 (pseudoinverse);
Townsend, "Differentiating the singular value decomposition", 2016; Mathias, SIAM J. Matrix Anal. Appl. 17, 1996 (functions of
matrices by blocks).
"""

from __future__ import annotations

import functools

import numpy as np
import scipy  # its submodules load when they are used

from compiled.calls import Call
from tape.arguments import leaves_of
from tape.calls import TracedOperation, Use, recorded
from tape.contractions import as_recorded
from tape.errors import NotDifferentiable
from tape.recorder import current_recorder
from tape.rules import implements
from tape.tracing import RecordedArray, record


class Factorisation(TracedOperation):
    """An operation that comes with the project; its leading arguments are matrices, the others options.

    Parameters
    ----------
    function : callable
        Of plain arrays.
    shapes : callable
        Takes the shapes of the matrices and the options, and returns those of the results.
    matrices : int
        How many arguments are matrices.
    """

    copies = False

    def __init__(self, function, shapes, matrices=1):
        super().__init__(function)
        self._shapes, self.matrices = shapes, matrices

    def shapes(self, *args, **kwargs):
        """See `TracedOperation.shapes`."""
        return self._shapes(*(x.shape for x in args[: self.matrices]), *args[self.matrices :])

    def __call__(self, *args):
        """Record the operation on arrays of which at least one is recorded."""
        return recorded(self, (*map(_recorded, args[: self.matrices]), *args[self.matrices :]), {})

    def description(self, use):
        """See `TracedOperation.description`."""
        args, _ = use.arguments([None] * len(use.dynamic))
        return [self.name, *args[self.matrices :]]


OPERATIONS: dict[str, Factorisation] = {}
"""The operations by the names that files know them by."""


def described_call(description, inputs, outputs, active) -> Call:
    """The call that a file describes (see `Factorisation.description`).

    Raises
    ------
    KeyError, TypeError, ValueError
        For what is no description.
    """
    name, *options = description
    operation = OPERATIONS[name]
    if len(inputs) != operation.matrices or operation._shapes(*inputs, *options) != list(outputs):
        raise ValueError(f"{name}: the shapes {inputs} and {outputs} do not fit it")
    structure = leaves_of(((0,) * operation.matrices + tuple(options), {}))[1]
    use = Use(operation, structure, leaves_of(options)[0])
    use.dynamic, use.input_shapes = list(range(operation.matrices)), list(inputs)
    use.leaves = [None] * operation.matrices + use.leaves
    use.dtypes = [np.dtype(np.float64)] * operation.matrices
    use.set_results(len(outputs), np.dtype(np.float64))
    return use.call(list(outputs), active)


def _operation(shapes, matrices=1):
    def decorate(function):
        name = function.__name__.strip("_")
        operation = OPERATIONS[name] = Factorisation(function, shapes, matrices)
        operation.name = name
        return operation

    return decorate


def _recorded(x) -> RecordedArray:
    """An argument as a recorded array of floats."""
    x = as_recorded(current_recorder(), x)
    return x if x.dtype.kind == "f" else x.astype(x.recorder.dtype)


def _t(x):
    return np.swapaxes(x, -1, -2)


def _eye(x, n=None):
    """The identity as large as the last axis of `x`, or n, in its dtype."""
    return np.eye(x.shape[-1] if n is None else n, dtype=x.dtype)


def _diagonal_matrix(x):
    return x[..., None] * _eye(x)


def half_triangle(x):
    """The lower triangle, the diagonal halved: of an adjoint, what belongs to the triangle of a symmetric matrix."""
    n = x.shape[-1]
    return x * (np.tri(n, dtype=x.dtype) - 0.5 * _eye(x))


def _square(name, a):
    if len(a.shape) < 2 or a.shape[-1] != a.shape[-2]:
        raise np.linalg.LinAlgError(f"{name}: expected square matrices, in the last two axes, got shape {a.shape}")


def _same(a):
    return [a]


# ---------------------------------------------------------------------- linear equations


@_operation(lambda a, b: [b], matrices=2)
def _solve(a, b):
    return np.linalg.solve(a, b)


@_solve.bprop
def _(grad, out, a, b):
    adjoint = _solve(_t(a), grad)
    return -adjoint @ _t(out), adjoint


@implements(np.linalg.solve)
def solve(a, b):
    """`numpy.linalg.solve`."""
    a, b = _recorded(a), _recorded(b)
    _square("numpy.linalg.solve", a)
    columns = b[..., None] if b.ndim == 1 else b
    x = _solve(*_batched(a, columns))
    return x[..., 0] if b.ndim == 1 else x


def _batched(*matrices):
    """The matrices with their leading axes broadcast."""
    batch = np.broadcast_shapes(*(x.shape[:-2] for x in matrices))
    return [x if x.shape[:-2] == batch else np.broadcast_to(x, (*batch, *x.shape[-2:])) for x in matrices]


LARGE = 64
"""Triangular matrices of fewer rows are solved with like any others, all of a batch at once: BLAS takes longer to start."""


@_operation(lambda a, b, lower, unit: [b], matrices=2)
def _solve_triangular(a, b, lower, unit):
    if a.shape[-1] < LARGE:
        triangle = np.tril(a) if lower else np.triu(a)
        if unit:
            np.einsum("...ii->...i", triangle)[...] = 1.0
        return np.linalg.solve(triangle, b)
    return _each(lambda a, b: scipy.linalg.solve_triangular(a, b, lower=lower, unit_diagonal=unit), a, b)


@_solve_triangular.bprop
def _(grad, out, a, b, lower, unit):
    adjoint = _solve_triangular(_t(a), grad, not lower, unit)
    full = -adjoint @ _t(out)
    k = -1 if unit else 0
    return np.tril(full, k) if lower else np.triu(full, -k), adjoint, None, None


def _each(function, *stacks):
    """A function of matrices over leading axes."""
    batch = stacks[0].shape[:-2]
    if not batch:
        return function(*stacks)
    flat = [x.reshape(-1, *x.shape[-2:]) for x in stacks]
    if not len(flat[0]):
        return np.zeros((*batch, *stacks[-1].shape[-2:]))
    results = np.stack([function(*matrices) for matrices in zip(*flat, strict=True)])
    return results.reshape(*batch, *results.shape[1:])


def solve_triangular(a, b, lower=False, unit_diagonal=False):
    """The solution of a x = b, where of `a` one triangle is read; `b` is a vector or has columns."""
    a, b = _recorded(a), _recorded(b)
    _square("solve_triangular", a)
    columns = b[..., None] if b.ndim == 1 else b
    x = _solve_triangular(*_batched(a, columns), bool(lower), bool(unit_diagonal))
    return x[..., 0] if b.ndim == 1 else x


@_operation(_same)
def _inv(a):
    return np.linalg.inv(a)


@_inv.bprop
def _(grad, out, a):
    return -_t(out) @ grad @ _t(out)


@implements(np.linalg.inv)
def inv(a):
    """`numpy.linalg.inv`."""
    _square("numpy.linalg.inv", a)
    return _inv(a)


@_operation(lambda a, rcond: [(*a[:-2], a[-1], a[-2])])
def _pinv(a, rcond):
    return np.linalg.pinv(a, **({} if rcond is None else {"rcond": rcond}))


@_pinv.bprop
def _(grad, out, a, rcond):
    p, pt = out, _t(out)
    left = (_eye(a, a.shape[-2]) - a @ p) @ _t(grad) @ (p @ pt)
    right = (pt @ p) @ _t(grad) @ (_eye(a) - p @ a)
    return left + right - pt @ grad @ pt, None


@implements(np.linalg.pinv)
def pinv(a, rcond=None, hermitian=False, *, rtol=np._NoValue):
    """`numpy.linalg.pinv`; the rank is taken as constant."""
    if hermitian:
        a = half_triangle(a) + _t(half_triangle(a))
    return _pinv(a, rcond if rtol is np._NoValue else rtol)


@_operation(lambda a, b, rcond: [(a[-1], b[-1])], matrices=2)
def _least_squares(a, b, rcond):
    return np.linalg.lstsq(a, b, rcond=rcond)[0]


@_least_squares.bprop
def _(grad, out, a, b, rcond):
    p = _pinv(a, np.finfo(float).eps * max(a.shape) if rcond is None else rcond)
    adjoint = _t(p) @ grad
    residual = b - a @ out
    return residual @ _t(p @ adjoint) + (_t(p) @ out) @ _t(grad - _t(a) @ adjoint) - adjoint @ _t(out), adjoint, None


@implements(np.linalg.lstsq)
def lstsq(a, b, rcond=None):
    """`numpy.linalg.lstsq`; the rank is taken as constant."""
    a, b = _recorded(a), _recorded(b)
    columns = b[:, None] if b.ndim == 1 else b
    x = _least_squares(a, columns, rcond)
    values = svdvals(a)
    tolerance = np.finfo(np.float64).eps * max(a.shape) if rcond is None else rcond
    rank = int(np.sum(values > tolerance * np.max(values))) if values.size else 0
    if rank == a.shape[1] and a.shape[0] > a.shape[1]:
        residuals = np.sum(np.square(columns - a @ x), axis=0)
    else:
        residuals = np.zeros(0, like=x)
    return x[:, 0] if b.ndim == 1 else x, residuals, rank, values


# ---------------------------------------------------------------------- determinants


@_operation(lambda a: [a[:-2]])
def _det(a):
    return np.linalg.det(a)


@_det.bprop
def _(grad, out, a):
    return grad[..., None, None] * _cofactors(a)


LARGEST_CONDITION = 1e8
"""Above this the matrix of cofactors is computed by singular values, which costs more."""


@_operation(_same)
def _cofactors(a):
    try:
        inverse = np.linalg.inv(a)
        condition = np.linalg.norm(a, axis=(-2, -1)) * np.linalg.norm(inverse, axis=(-2, -1))
        if np.all(condition < LARGEST_CONDITION):
            return np.linalg.det(a)[..., None, None] * np.swapaxes(inverse, -1, -2)
    except np.linalg.LinAlgError:
        pass
    u, s, vt = np.linalg.svd(a)
    n = a.shape[-1]
    others = np.prod(np.where(np.eye(n, dtype=bool), 1.0, s[..., None, :]), axis=-1)
    return (np.linalg.det(u) * np.linalg.det(vt))[..., None, None] * ((u * others[..., None, :]) @ vt)


@_cofactors.bprop
def _(grad, out, a):
    inverse = _t(_inv(a))
    return np.sum(grad * out, axis=(-2, -1))[..., None, None] * inverse - inverse @ _t(grad) @ out


@implements(np.linalg.det)
def det(a):
    """`numpy.linalg.det`; the first derivative exists for singular matrices too, the second asks for an inverse."""
    _square("numpy.linalg.det", a)
    return _det(a)


@_operation(lambda a: [a[:-2], a[:-2]])
def _slogdet(a):
    return tuple(np.linalg.slogdet(a))


@_slogdet.bprop
def _(grad, out, a):
    return grad[1][..., None, None] * _t(_inv(a))


@implements(np.linalg.slogdet)
def slogdet(a):
    """`numpy.linalg.slogdet`; the sign is a constant."""
    _square("numpy.linalg.slogdet", a)
    sign, logarithm = _slogdet(a)
    return _named(np.linalg.slogdet)(record("stop", (sign,)), logarithm)


@functools.cache
def _named(function, *args):
    """The named tuple that a function of NumPy returns."""
    return type(function(np.eye(1), *args))


# ---------------------------------------------------------------------- factorisations


@_operation(_same)
def _cholesky(a):
    return np.linalg.cholesky(a)


@_cholesky.bprop
def _(grad, out, a):
    middle = half_triangle(_t(out) @ grad)
    right = _t(_solve_triangular(_t(out), _t(middle), False, False))
    adjoint = _solve_triangular(_t(out), right, False, False)
    return half_triangle(adjoint + _t(adjoint))


@implements(np.linalg.cholesky)
def cholesky(a, /, *, upper=False):
    """`numpy.linalg.cholesky`; the derivative is that with respect to the triangle that is read."""
    _square("numpy.linalg.cholesky", a)
    return _t(_cholesky(_t(a))) if upper else _cholesky(a)


def _qr_shapes(a):
    return [a, (*a[:-2], a[-1], a[-1])]


@_operation(_qr_shapes)
def _qr(a):
    return tuple(np.linalg.qr(a))


@_qr.bprop
def _(grad, out, a):
    q, r = out
    of_q, of_r = grad
    m = r @ _t(of_r) - _t(of_q) @ q
    symmetric = np.tril(m) + _t(np.tril(m, -1))
    right = of_q + q @ symmetric
    return _t(_solve_triangular(r, _t(right), False, False))


@implements(np.linalg.qr)
def qr(a, mode="reduced"):
    """`numpy.linalg.qr`, for matrices of full rank (of their first columns, where there are more columns than rows)."""
    rows, columns = a.shape[-2:]
    if mode not in ("reduced", "r") and not (mode == "complete" and rows <= columns):
        raise NotDifferentiable(f"numpy.linalg.qr with mode={mode!r}: expected 'reduced' or 'r'; columns of q beyond those "
                                "of the matrix are not determined by it")
    if rows >= columns:
        q, r = _qr(a)
    else:
        q, r = _qr(a[..., :rows])
        r = np.concatenate([r, _t(q) @ a[..., rows:]], axis=-1)
    return r if mode == "r" else _named(np.linalg.qr)(q, r)


def _differences(values):
    """values[j] - values[i], with ones on the diagonal; equal values give an infinite reciprocal."""
    return values[..., None, :] - values[..., :, None] + _eye(values)


def _over_differences(m, differences):
    """m / differences off the diagonal, where 0 / 0 is 0: what does not depend on how equal values are told apart."""
    off = 1.0 - _eye(m)
    return record("adjoint_product", (m * off, 1.0 / differences))


@_operation(lambda a, triangle: [a[:-1], a])
def _eigh(a, triangle):
    return tuple(np.linalg.eigh(a, triangle))


@_eigh.bprop
def _(grad, out, a, triangle):
    values, vectors = out
    of_values, of_vectors = grad
    middle = _over_differences(_t(vectors) @ of_vectors, _differences(values)) + _diagonal_matrix(of_values)
    return _on_triangle(vectors @ middle @ _t(vectors), triangle), None


@_operation(lambda a, triangle: [a[:-1]])
def _eigvalsh(a, triangle):
    return np.linalg.eigvalsh(a, triangle)


@_eigvalsh.bprop
def _(grad, out, a, triangle):
    vectors = _eigh(a, triangle)[1]
    return _on_triangle((vectors * grad[..., None, :]) @ _t(vectors), triangle), None


def _on_triangle(adjoint, triangle):
    """The adjoint of a symmetric matrix, as one of the triangle that is read."""
    lower = half_triangle(adjoint + _t(adjoint))
    return lower if triangle == "L" else _t(lower)


def _triangle(name, a, triangle):
    _square(name, a)
    if triangle not in ("L", "U", "l", "u"):
        raise ValueError(f"{name}: UPLO: expected 'L' or 'U', got {triangle!r}")
    return triangle.upper()


@implements(np.linalg.eigh)
def eigh(a, UPLO="L"):
    """`numpy.linalg.eigh`; eigenvectors of equal eigenvalues have no derivative, it is infinite or NaN."""
    return _named(np.linalg.eigh)(*_eigh(a, _triangle("numpy.linalg.eigh", a, UPLO)))


@implements(np.linalg.eigvalsh)
def eigvalsh(a, UPLO="L"):
    """`numpy.linalg.eigvalsh`."""
    return _eigvalsh(a, _triangle("numpy.linalg.eigvalsh", a, UPLO))


def _svd_shapes(a):
    k = min(a[-2:])
    return [(*a[:-1], k), (*a[:-2], k), (*a[:-2], k, a[-1])]


@_operation(_svd_shapes)
def _svd(a):
    return tuple(np.linalg.svd(a, full_matrices=False))


@_svd.bprop
def _(grad, out, a):
    u, s, vt = out
    of_u, of_s, of_vt = grad
    v, of_v = _t(vt), _t(of_vt)
    gaps = _differences(s * s)
    from_u, from_v = _t(u) @ of_u, vt @ of_v
    from_u = _over_differences(from_u - _t(from_u), gaps)
    from_v = _over_differences(from_v - _t(from_v), gaps)
    adjoint = u @ (from_u * s[..., None, :] + s[..., :, None] * from_v + _diagonal_matrix(of_s)) @ vt
    if a.shape[-2] > a.shape[-1]:
        outside = of_u - u @ (_t(u) @ of_u)
        adjoint = adjoint + record("adjoint_product", (outside, 1.0 / s[..., None, :])) @ vt
    if a.shape[-1] > a.shape[-2]:
        outside = of_v - v @ (vt @ of_v)
        adjoint = adjoint + u @ _t(record("adjoint_product", (outside, 1.0 / s[..., None, :])))
    return adjoint


@_operation(lambda a: [(*a[:-2], min(a[-2:]))])
def _svdvals(a):
    return np.linalg.svd(a, compute_uv=False)


@_svdvals.bprop
def _(grad, out, a):
    u, _, vt = _svd(a)
    return (u * grad[..., None, :]) @ vt


@implements(np.linalg.svd)
def svd(a, full_matrices=True, compute_uv=True, hermitian=False):
    """`numpy.linalg.svd`; vectors of equal singular values have no derivative, it is infinite or NaN."""
    if hermitian:
        a = half_triangle(a) + _t(half_triangle(a))
    if not compute_uv:
        return _svdvals(a)
    if full_matrices and a.shape[-1] != a.shape[-2]:
        raise NotDifferentiable(f"numpy.linalg.svd of matrices of shape {a.shape[-2:]} with full_matrices=True: the vectors "
                                "beyond the singular values are not determined by the matrix; say full_matrices=False")
    return _named(np.linalg.svd)(*_svd(a))


@implements(np.linalg.svdvals)
def svdvals(a, /):
    """`numpy.linalg.svdvals`."""
    return _svdvals(_recorded(a))


# ---------------------------------------------------------------------- functions of square matrices


def _by_blocks(operation):
    """The rule of a function of matrices: f([[a', g], [0, a']]) holds the adjoint in its upper right block."""

    def rule(grad, out, a):
        n = a.shape[-1]
        at = _t(a)
        blocks = np.concatenate([np.concatenate([at, grad], axis=-1),
                                 np.concatenate([np.zeros_like(at), at], axis=-1)], axis=-2)
        return operation(blocks)[..., :n, n:]

    return rule


@_operation(_same)
def expm(a):
    """The exponential of square matrices."""
    return scipy.linalg.expm(a)


@_operation(_same)
def logm(a):
    """The logarithm of square matrices, where it is real."""
    return _each(lambda a: _real(scipy.linalg.logm(a), "logm"), a)


@_operation(_same)
def sqrtm(a):
    """The square root of square matrices, where it is real."""
    return _each(lambda a: _real(scipy.linalg.sqrtm(a), "sqrtm"), a)


def _real(x, name):
    if np.iscomplexobj(x):
        if np.abs(x.imag).max() > 1e-9 * np.abs(x).max():
            raise NotDifferentiable(f"scipy.linalg.{name} of this matrix is complex; expected one whose result is real")
        return x.real
    return x


for _function in (expm, logm, sqrtm):
    _function.bprop(_by_blocks(_function))


@_operation(lambda a, b, q: [q], matrices=3)
def solve_sylvester(a, b, q):
    """The solution of a x + x b = q."""
    return scipy.linalg.solve_sylvester(a, b, q)


@solve_sylvester.bprop
def _(grad, out, a, b, q):
    adjoint = solve_sylvester(_t(a), _t(b), grad)
    return -adjoint @ _t(out), -_t(out) @ adjoint, adjoint


# ---------------------------------------------------------------------- matrices that are bands


@_operation(lambda ab, b, lower, upper: [b], matrices=2)
def _solve_banded(ab, b, lower, upper):
    return scipy.linalg.solve_banded((lower, upper), ab, b)


@_solve_banded.bprop
def _(grad, out, ab, b, lower, upper):
    n = ab.shape[-1]
    adjoint = _solve_banded(_transposed_bands(ab, lower, upper), grad, upper, lower)
    below, above = np.pad(adjoint, ((upper, lower), (0, 0))), out
    rows = [-np.sum(below[k : k + n] * above, axis=-1) for k in range(lower + upper + 1)]
    return np.stack(rows), adjoint, None, None


def _transposed_bands(ab, lower, upper):
    """The diagonals of the transposed matrix, each at its new place: row k of a matrix's bands is its diagonal `upper` - k."""
    n = ab.shape[-1]
    padded = np.pad(ab, ((0, 0), (lower, upper)))
    return np.stack([padded[k, lower + upper - k : lower + upper - k + n] for k in range(lower + upper, -1, -1)])


def solve_banded(l_and_u, ab, b):
    """The solution of a x = b for a matrix given by its diagonals, as `scipy.linalg.solve_banded` takes them."""
    ab, b = _recorded(ab), _recorded(b)
    lower, upper = map(int, l_and_u)
    if ab.ndim != 2 or ab.shape[0] != lower + upper + 1 or b.shape[:1] != ab.shape[1:]:
        raise ValueError(f"solve_banded: the shapes {ab.shape} and {b.shape} do not fit {lower} diagonals below, {upper} above")
    x = _solve_banded(ab, b[:, None] if b.ndim == 1 else b, lower, upper)
    return x[:, 0] if b.ndim == 1 else x


# ---------------------------------------------------------------------- norms, and what is made of the rest


@implements(np.linalg.norm)
def norm(x, ord=None, axis=None, keepdims=False):
    """`numpy.linalg.norm`; at the origin the subgradient is 0, and of elements that tie each takes its share."""
    x = _recorded(x)
    if axis is None:
        if ord is None or (ord in ("fro", "f") and x.ndim == 2) or (ord == 2 and x.ndim == 1):
            flat = np.ravel(x)
            result = record("root_of_squares", (np.dot(flat, flat),))
            return np.reshape(result, (1,) * x.ndim) if keepdims else result
        axis = tuple(range(x.ndim))
    axes = np.lib.array_utils.normalize_axis_tuple(axis, x.ndim)
    if len(axes) == 1:
        return _vector_norm(x, 2 if ord is None else ord, axes, keepdims)
    if len(axes) != 2:
        raise ValueError("Improper number of dimensions to norm.")
    return _matrix_norm(x, "fro" if ord is None else ord, axes, keepdims)


def _vector_norm(x, ord, axis, keepdims):
    if isinstance(ord, str):
        raise ValueError(f"Invalid norm order {ord!r} for vectors")
    options = {"axis": axis, "keepdims": keepdims}
    if ord == np.inf:
        return np.max(np.abs(x), **options)
    if ord == -np.inf:
        return np.min(np.abs(x), **options)
    if ord == 0:
        return np.sum((x != 0).astype(x.dtype), **options)
    if ord == 1:
        return np.sum(np.abs(x), **options)
    if ord == 2:
        return record("root_of_squares", (np.sum(np.square(x), **options),))
    total = np.sum(np.abs(x) ** ord, **options)
    # The root at 0 has an infinite derivative; the subgradient there is 0.
    nonzero = total != 0.0
    return np.where(nonzero, np.where(nonzero, total, 1.0) ** (1.0 / ord), 0.0)


def _matrix_norm(x, ord, axes, keepdims):
    row, column = axes
    if ord in ("fro", "f"):
        return _vector_norm(x, 2, axes, keepdims)
    sums = {1: (np.max, row), -1: (np.min, row), np.inf: (np.max, column), -np.inf: (np.min, column)}
    if ord in sums:
        extreme, axis = sums[ord]
        other = column if axis == row else row
        return extreme(np.sum(np.abs(x), axis=axis, keepdims=True), axis=(axis, other), keepdims=keepdims)
    spectral = {"nuc": np.sum, 2: np.max, -2: np.min}
    if ord not in spectral:
        raise ValueError(f"Invalid norm order {ord!r} for matrices")
    result = spectral[ord](_svdvals(np.moveaxis(x, axes, (-2, -1))), axis=-1)
    return np.expand_dims(result, tuple(sorted(axes))) if keepdims else result


@implements(np.linalg.vector_norm)
def vector_norm(x, /, *, axis=None, keepdims=False, ord=2):
    """`numpy.linalg.vector_norm`."""
    x = _recorded(x)
    axes = tuple(range(x.ndim)) if axis is None else np.lib.array_utils.normalize_axis_tuple(axis, x.ndim)
    return _vector_norm(x, ord, axes, keepdims)


@implements(np.linalg.matrix_norm)
def matrix_norm(x, /, *, keepdims=False, ord="fro"):
    """`numpy.linalg.matrix_norm`."""
    x = _recorded(x)
    return _matrix_norm(x, ord, (x.ndim - 2, x.ndim - 1), keepdims)


@implements(np.linalg.cond)
def cond(x, p=None):
    """`numpy.linalg.cond`."""
    if p in (None, 2, -2):
        values = _svdvals(x)
        return values[..., -1] / values[..., 0] if p == -2 else values[..., 0] / values[..., -1]
    return norm(x, p, (-2, -1)) * norm(_inv(x), p, (-2, -1))


@implements(np.linalg.matrix_rank)
def matrix_rank(A, tol=None, hermitian=False, *, rtol=None):
    """`numpy.linalg.matrix_rank`, a constant."""
    values = _svdvals(A)
    if tol is None:
        tol = np.max(values, axis=-1, keepdims=True) * (max(A.shape[-2:]) * np.finfo(A.dtype).eps if rtol is None else rtol)
    return np.sum(values > tol, axis=-1)


@implements(np.linalg.tensorsolve)
def tensorsolve(a, b, axes=None):
    """`numpy.linalg.tensorsolve`."""
    a, b = _recorded(a), _recorded(b)
    if axes is not None:
        a = np.moveaxis(a, axes, range(a.ndim - len(axes), a.ndim))
    rest = a.shape[b.ndim :]
    return np.reshape(solve(np.reshape(a, (b.size, -1)), np.ravel(b)), rest)


@implements(np.linalg.tensorinv)
def tensorinv(a, ind=2):
    """`numpy.linalg.tensorinv`."""
    first, second = a.shape[:ind], a.shape[ind:]
    return np.reshape(inv(np.reshape(a, (int(np.prod(first)), -1))), (*second, *first))


@implements(np.linalg.matrix_power)
def matrix_power(a, n):
    """`numpy.linalg.matrix_power`."""
    _square("numpy.linalg.matrix_power", a)
    if n < 0:
        return matrix_power(_inv(a), -n)
    if n == 0:
        return np.broadcast_to(np.eye(a.shape[-1], dtype=a.dtype), a.shape) + 0.0 * a
    half = matrix_power(a, n // 2) if n > 1 else None
    square = a if half is None else np.matmul(half, half)
    return np.matmul(square, a) if n % 2 and n > 1 else square
