"""`scipy.linalg` for recorded arrays, under SciPy's names and defaults; plain arrays go to SciPy.

SciPy's functions of matrices are no ufuncs, and cannot hand over to us. What is not here: the operations and their rules
(`tape.rules.lapack`).
"""

from __future__ import annotations

import functools

import numpy as np
import scipy  # its submodules load when they are used

from tape.arguments import leaves_of
from tape.errors import NotDifferentiable
from tape.rules import lapack, linear_algebra
from tape.tracing import RecordedArray

__all__ = ["block_diag", "cho_factor", "cho_solve", "cholesky", "det", "eigh", "eigvalsh", "expm", "inv", "logm", "lstsq",
           "norm", "pinv", "qr", "solve", "solve_banded", "solve_sylvester", "solve_triangular", "sqrtm", "svd", "svdvals",
           "toeplitz"]


def _scipys(rule):
    """Decorator: a function of SciPy's, of recorded arrays by the rule, of plain ones SciPy's own."""

    @functools.wraps(rule)
    def function(*args, **kwargs):
        if any(isinstance(leaf, RecordedArray) for leaf in leaves_of((args, kwargs))[0]):
            return rule(*args, **kwargs)
        return getattr(scipy.linalg, rule.__name__)(*args, **kwargs)

    return function


def _t(x):
    return np.swapaxes(x, -1, -2)


@_scipys
def solve(a, b, lower=False, overwrite_a=False, overwrite_b=False, check_finite=True, assume_a=None, transposed=False):
    """The solution of a x = b.

    Parameters
    ----------
    a : array of shape (n, n)
        The matrix.
    b : array of shape (n,) or (n, k)
        The right-hand side.
    lower, assume_a
        As of `scipy.linalg.solve`: of matrices that are assumed symmetric one triangle is read.
    transposed : bool
        Whether to solve with the transpose.

    Returns
    -------
    array
        Of the shape of `b`.

    Examples
    --------
    >>> import numpy as np, tape
    >>> a = np.array([[2.0, 0.0], [1.0, 1.0]])
    >>> tape.grad(lambda b: tape.scipy.linalg.solve(a, b)[1])(np.array([2.0, 3.0]))
    array([-0.5,  1. ])
    """
    if assume_a in ("sym", "symmetric", "her", "hermitian", "pos", "positive definite"):
        a = lapack.half_triangle(a if lower else _t(a))
        a = a + _t(a)
    return np.linalg.solve(_t(a) if transposed else a, b)


@_scipys
def solve_triangular(a, b, trans=0, lower=False, unit_diagonal=False, overwrite_b=False, check_finite=True):
    """The solution of a x = b (a' x = b with `trans` 1 or "T"), where one triangle of `a` is read."""
    if trans not in (0, 1, "N", "T"):
        raise NotDifferentiable(f"scipy.linalg.solve_triangular with trans={trans!r}: expected 0, 1, 'N' or 'T'")
    transposed = trans in (1, "T")
    return linear_algebra.solve_triangular(_t(a) if transposed else a, b, lower != transposed, unit_diagonal)


@_scipys
def solve_banded(l_and_u, ab, b, overwrite_ab=False, overwrite_b=False, check_finite=True):
    """The solution of a x = b for a matrix given by its diagonals."""
    return linear_algebra.solve_banded(l_and_u, ab, b)


@_scipys
def inv(a, overwrite_a=False, check_finite=True):
    """The inverse."""
    return np.linalg.inv(a)


@_scipys
def det(a, overwrite_a=False, check_finite=True):
    """The determinant."""
    return np.linalg.det(a)


@_scipys
def cholesky(a, lower=False, overwrite_a=False, check_finite=True):
    """The Cholesky factor: upper unless `lower`."""
    return np.linalg.cholesky(a, upper=not lower)


@_scipys
def cho_factor(a, lower=False, overwrite_a=False, check_finite=True):
    """The Cholesky factor and whether it is lower, for `cho_solve`; the other triangle is zero."""
    return np.linalg.cholesky(a, upper=not lower), lower


@_scipys
def cho_solve(c_and_lower, b, overwrite_b=False, check_finite=True):
    """The solution of a x = b, given what `cho_factor` returned for a."""
    c, lower = c_and_lower
    first, second = (c, _t(c)) if lower else (_t(c), c)
    return linear_algebra.solve_triangular(second, linear_algebra.solve_triangular(first, b, True), False)


@_scipys
def qr(a, overwrite_a=False, lwork=None, mode="full", pivoting=False, check_finite=True):
    """The factors q, r; of matrices with more rows than columns with mode "economic"."""
    if pivoting:
        raise NotDifferentiable("scipy.linalg.qr with pivoting=True: not supported; leave it out")
    if mode == "full" and a.shape[-2] > a.shape[-1]:
        raise NotDifferentiable("scipy.linalg.qr of a matrix with more rows than columns: say mode='economic'; the other "
                                "columns of q are not determined by the matrix")
    result = np.linalg.qr(a, "r" if mode == "r" else "reduced")
    return (result,) if mode == "r" else tuple(result)


@_scipys
def svd(a, full_matrices=True, compute_uv=True, overwrite_a=False, check_finite=True, lapack_driver="gesdd"):
    """Left vectors, values, right vectors of the singular value decomposition."""
    result = np.linalg.svd(a, full_matrices, compute_uv)
    return tuple(result) if compute_uv else result


@_scipys
def svdvals(a, overwrite_a=False, check_finite=True):
    """The singular values."""
    return np.linalg.svdvals(a)


@_scipys
def eigh(a, b=None, *, lower=True, eigvals_only=False, overwrite_a=False, overwrite_b=False, type=1, check_finite=True,
         subset_by_index=None, subset_by_value=None, driver=None):
    """Eigenvalues and vectors of a symmetric matrix, or of the problem a v = w b v with b positive definite."""
    if type != 1 or subset_by_index is not None or subset_by_value is not None:
        raise NotDifferentiable("scipy.linalg.eigh with type or subset_by_...: not supported; take parts of the whole result")
    uplo = "L" if lower else "U"
    if b is None:
        return np.linalg.eigvalsh(a, uplo) if eigvals_only else tuple(np.linalg.eigh(a, uplo))
    factor = np.linalg.cholesky(b, upper=not lower)
    factor = factor if lower else _t(factor)
    triangle = lapack.half_triangle(lapack.as_floats(a) if lower else _t(lapack.as_floats(a)))
    left = linear_algebra.solve_triangular(factor, triangle + _t(triangle), True)
    reduced = linear_algebra.solve_triangular(factor, _t(left), True)
    if eigvals_only:
        return np.linalg.eigvalsh(reduced)
    values, vectors = np.linalg.eigh(reduced)
    return values, linear_algebra.solve_triangular(_t(factor), vectors, False)


@_scipys
def eigvalsh(a, b=None, *, lower=True, **options):
    """Eigenvalues of a symmetric matrix; see `eigh`."""
    return eigh(a, b, lower=lower, eigvals_only=True, **options)


@_scipys
def pinv(a, *, atol=None, rtol=None, return_rank=False, check_finite=True):
    """The pseudoinverse; the rank is taken as constant."""
    if atol is not None or return_rank:
        raise NotDifferentiable("scipy.linalg.pinv with atol or return_rank: not supported; nearest: rtol")
    return np.linalg.pinv(a, max(a.shape) * np.finfo(a.dtype).eps if rtol is None else rtol)


@_scipys
def lstsq(a, b, cond=None, overwrite_a=False, overwrite_b=False, check_finite=True, lapack_driver=None):
    """Solution, residues, rank and singular values of a least-squares problem; the rank is taken as constant."""
    return np.linalg.lstsq(a, b, cond)


@_scipys
def norm(a, ord=None, axis=None, keepdims=False, check_finite=True):
    """The norm of a matrix or vector."""
    return np.linalg.norm(a, ord, axis, keepdims)


@_scipys
def expm(A):
    """The exponential of square matrices.

    Examples
    --------
    >>> import numpy as np, tape
    >>> tape.grad(lambda a: np.trace(tape.scipy.linalg.expm(a)))(np.zeros((2, 2)))
    array([[1., 0.],
           [0., 1.]])
    """
    return lapack.expm(A)


@_scipys
def logm(A, disp=True):
    """The logarithm of square matrices, where it is real."""
    return lapack.logm(A)


@_scipys
def sqrtm(A, disp=True, blocksize=64):
    """The square root of square matrices, where it is real."""
    return lapack.sqrtm(A)


@_scipys
def solve_sylvester(a, b, q):
    """The solution of a x + x b = q."""
    return lapack.solve_sylvester(a, b, q)


@_scipys
def block_diag(*arrs):
    """The matrix with these on its diagonal."""
    matrices = [np.atleast_2d(a) for a in arrs]
    columns = sum(m.shape[1] for m in matrices)
    rows, at = [], 0
    for m in matrices:
        rows.append(np.pad(m, ((0, 0), (at, columns - at - m.shape[1]))))
        at += m.shape[1]
    return np.concatenate(rows)


@_scipys
def toeplitz(c, r=None):
    """The matrix with first column `c` and first row `r` (by default `c`)."""
    r = c if r is None else r
    values = np.concatenate([np.flip(np.ravel(c)), np.ravel(r)[1:]])
    rows, columns = np.size(c), np.size(r)
    return values[rows - 1 - np.arange(rows)[:, None] + np.arange(columns)]
