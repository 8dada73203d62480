"""`numpy.linalg` for recorded arrays: NumPy's names and options, in terms of the operations on LAPACK.

What is here: solutions, factorisations, norms, and what is made of them. What is not: the operations and their rules
(`lapack.py`), SciPy's names (`tape.scipy.linalg`), products (`contractions.py`).
"""

from __future__ import annotations

import functools

import numpy as np

from tape.errors import NotDifferentiable
from tape.recording.arrays import record
from tape.recording.dispatch import implements
from tape.rules import lapack
from tape.rules.lapack import as_floats, half_triangle


def _square(name, a):
    if len(a.shape) < 2 or a.shape[-1] != a.shape[-2]:
        raise np.linalg.LinAlgError(f"{name}: expected square matrices, in the last two axes, got shape {a.shape}")


@implements(np.linalg.solve)
def solve(a, b):
    """`numpy.linalg.solve`."""
    a, b = as_floats(a), as_floats(b)
    _square("numpy.linalg.solve", a)
    columns = b[..., None] if b.ndim == 1 else b
    x = lapack.solve(*_batched(a, columns))
    return x[..., 0] if b.ndim == 1 else x


def _batched(*matrices):
    """The matrices with their leading axes broadcast."""
    batch = np.broadcast_shapes(*(x.shape[:-2] for x in matrices))
    return [x if x.shape[:-2] == batch else np.broadcast_to(x, (*batch, *x.shape[-2:])) for x in matrices]


def solve_triangular(a, b, lower=False, unit_diagonal=False):
    """The solution of a x = b, where of `a` one triangle is read; `b` is a vector or has columns."""
    a, b = as_floats(a), as_floats(b)
    _square("solve_triangular", a)
    columns = b[..., None] if b.ndim == 1 else b
    x = lapack.solve_triangular(*_batched(a, columns), bool(lower), bool(unit_diagonal))
    return x[..., 0] if b.ndim == 1 else x


@implements(np.linalg.inv)
def inv(a):
    """`numpy.linalg.inv`."""
    _square("numpy.linalg.inv", a)
    return lapack.inv(a)


@implements(np.linalg.pinv)
def pinv(a, rcond=None, hermitian=False, *, rtol=np._NoValue):
    """`numpy.linalg.pinv`; the rank is taken as constant."""
    if hermitian:
        a = half_triangle(a) + half_triangle(a).mT
    return lapack.pinv(a, rcond if rtol is np._NoValue else rtol)


@implements(np.linalg.lstsq)
def lstsq(a, b, rcond=None):
    """`numpy.linalg.lstsq`; the rank is taken as constant."""
    a, b = as_floats(a), as_floats(b)
    columns = b[:, None] if b.ndim == 1 else b
    x = lapack.least_squares(a, columns, rcond)
    values = svdvals(a)
    tolerance = np.finfo(np.float64).eps * max(a.shape) if rcond is None else rcond
    rank = int(np.sum(values > tolerance * np.max(values))) if values.size else 0
    if rank == a.shape[1] and a.shape[0] > a.shape[1]:
        residuals = np.sum(np.square(columns - a @ x), axis=0)
    else:
        residuals = np.zeros(0, like=x)
    return x[:, 0] if b.ndim == 1 else x, residuals, rank, values


@implements(np.linalg.det)
def det(a):
    """`numpy.linalg.det`; the first derivative exists for singular matrices too, the second asks for an inverse."""
    _square("numpy.linalg.det", a)
    return lapack.det(a)


@implements(np.linalg.slogdet)
def slogdet(a):
    """`numpy.linalg.slogdet`; the sign is a constant."""
    _square("numpy.linalg.slogdet", a)
    sign, logarithm = lapack.slogdet(a)
    return _named(np.linalg.slogdet)(record("stop", (sign,)), logarithm)


@functools.cache
def _named(function, *args):
    """The named tuple that a function of NumPy returns."""
    return type(function(np.eye(1), *args))


@implements(np.linalg.cholesky)
def cholesky(a, /, *, upper=False):
    """`numpy.linalg.cholesky`; the derivative is that with respect to the triangle that is read."""
    _square("numpy.linalg.cholesky", a)
    return (lapack.cholesky(a.mT)).mT if upper else lapack.cholesky(a)


@implements(np.linalg.qr)
def qr(a, mode="reduced"):
    """`numpy.linalg.qr`, for matrices of full rank (of their first columns, where there are more columns than rows)."""
    rows, columns = a.shape[-2:]
    if mode not in ("reduced", "r") and not (mode == "complete" and rows <= columns):
        raise NotDifferentiable(f"numpy.linalg.qr with mode={mode!r}: expected 'reduced' or 'r'; columns of q beyond those "
                                "of the matrix are not determined by it")
    if rows >= columns:
        q, r = lapack.qr(a)
    else:
        q, r = lapack.qr(a[..., :rows])
        r = np.concatenate([r, q.mT @ a[..., rows:]], axis=-1)
    return r if mode == "r" else _named(np.linalg.qr)(q, r)


def _triangle(name, a, triangle):
    _square(name, a)
    if triangle not in ("L", "U", "l", "u"):
        raise ValueError(f"{name}: UPLO: expected 'L' or 'U', got {triangle!r}")
    return triangle.upper()


@implements(np.linalg.eigh)
def eigh(a, UPLO="L"):
    """`numpy.linalg.eigh`; eigenvectors of equal eigenvalues have no derivative, it is infinite or NaN."""
    return _named(np.linalg.eigh)(*lapack.eigh(a, _triangle("numpy.linalg.eigh", a, UPLO)))


@implements(np.linalg.eigvalsh)
def eigvalsh(a, UPLO="L"):
    """`numpy.linalg.eigvalsh`."""
    return lapack.eigvalsh(a, _triangle("numpy.linalg.eigvalsh", a, UPLO))


@implements(np.linalg.svd)
def svd(a, full_matrices=True, compute_uv=True, hermitian=False):
    """`numpy.linalg.svd`; vectors of equal singular values have no derivative, it is infinite or NaN."""
    if hermitian:
        a = half_triangle(a) + half_triangle(a).mT
    if not compute_uv:
        return lapack.svdvals(a)
    if full_matrices and a.shape[-1] != a.shape[-2]:
        raise NotDifferentiable(f"numpy.linalg.svd of matrices of shape {a.shape[-2:]} with full_matrices=True: the vectors "
                                "beyond the singular values are not determined by the matrix; say full_matrices=False")
    return _named(np.linalg.svd)(*lapack.svd(a))


@implements(np.linalg.svdvals)
def svdvals(a, /):
    """`numpy.linalg.svdvals`."""
    return lapack.svdvals(as_floats(a))


def solve_banded(l_and_u, ab, b):
    """The solution of a x = b for a matrix given by its diagonals, as `scipy.linalg.solve_banded` takes them."""
    ab, b = as_floats(ab), as_floats(b)
    lower, upper = map(int, l_and_u)
    if ab.ndim != 2 or ab.shape[0] != lower + upper + 1 or b.shape[:1] != ab.shape[1:]:
        raise ValueError(f"solve_banded: the shapes {ab.shape} and {b.shape} do not fit {lower} diagonals below, {upper} above")
    x = lapack.solve_banded(ab, b[:, None] if b.ndim == 1 else b, lower, upper)
    return x[:, 0] if b.ndim == 1 else x


# ---------------------------------------------------------------------- norms, and what is made of the rest


@implements(np.linalg.norm)
def norm(x, ord=None, axis=None, keepdims=False):
    """`numpy.linalg.norm`; at the origin the subgradient is 0, and of elements that tie each takes its share."""
    x = as_floats(x)
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
    result = spectral[ord](lapack.svdvals(np.moveaxis(x, axes, (-2, -1))), axis=-1)
    return np.expand_dims(result, tuple(sorted(axes))) if keepdims else result


@implements(np.linalg.vector_norm)
def vector_norm(x, /, *, axis=None, keepdims=False, ord=2):
    """`numpy.linalg.vector_norm`."""
    x = as_floats(x)
    axes = tuple(range(x.ndim)) if axis is None else np.lib.array_utils.normalize_axis_tuple(axis, x.ndim)
    return _vector_norm(x, ord, axes, keepdims)


@implements(np.linalg.matrix_norm)
def matrix_norm(x, /, *, keepdims=False, ord="fro"):
    """`numpy.linalg.matrix_norm`."""
    x = as_floats(x)
    return _matrix_norm(x, ord, (x.ndim - 2, x.ndim - 1), keepdims)


@implements(np.linalg.cond)
def cond(x, p=None):
    """`numpy.linalg.cond`."""
    if p in (None, 2, -2):
        values = lapack.svdvals(x)
        return values[..., -1] / values[..., 0] if p == -2 else values[..., 0] / values[..., -1]
    return norm(x, p, (-2, -1)) * norm(lapack.inv(x), p, (-2, -1))


@implements(np.linalg.matrix_rank)
def matrix_rank(A, tol=None, hermitian=False, *, rtol=None):
    """`numpy.linalg.matrix_rank`, a constant."""
    values = lapack.svdvals(A)
    if tol is None:
        tol = np.max(values, axis=-1, keepdims=True) * (max(A.shape[-2:]) * np.finfo(A.dtype).eps if rtol is None else rtol)
    return np.sum(values > tol, axis=-1)


@implements(np.linalg.tensorsolve)
def tensorsolve(a, b, axes=None):
    """`numpy.linalg.tensorsolve`."""
    a, b = as_floats(a), as_floats(b)
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
        return matrix_power(lapack.inv(a), -n)
    if n == 0:
        return np.broadcast_to(np.eye(a.shape[-1], dtype=a.dtype), a.shape) + 0.0 * a
    half = matrix_power(a, n // 2) if n > 1 else None
    square = a if half is None else np.matmul(half, half)
    return np.matmul(square, a) if n % 2 and n > 1 else square
