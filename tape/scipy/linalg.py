"""`scipy.linalg` for recorded arrays, under SciPy's names and defaults; plain arrays go to SciPy.

SciPy's functions of matrices are no ufuncs, and cannot hand over to us. What is not here: the operations and their rules
(`tape.rules.lapack`).
"""

from __future__ import annotations

import functools

import numpy as np
import scipy  # its submodules load when they are used

from tape.errors import NotDifferentiable
from tape.recording.arguments import leaves_of
from tape.recording.arrays import RecordedArray
from tape.rules import lapack, linear_algebra

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

    Raises
    ------
    np.linalg.LinAlgError
        For matrices that are not square, or singular ones.

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
    """The solution of a x = b, where one triangle of `a` is read.

    Parameters
    ----------
    a : array of shape (n, n)
        The matrix; the upper triangle is read unless `lower`.
    b : array of shape (n,) or (n, k)
        The right-hand side.
    trans : 0, 1, "N" or "T"
        Whether to solve with the transpose.
    lower, unit_diagonal : bool
        Which triangle; whether its diagonal is taken as ones.

    Returns
    -------
    array
        Of the shape of `b`.

    Raises
    ------
    NotDifferentiable
        For another `trans`.
    np.linalg.LinAlgError
        For matrices that are not square, or singular ones.

    Examples
    --------
    >>> import numpy as np, tape
    >>> a = np.array([[2.0, 0.0], [1.0, 4.0]])
    >>> tape.grad(lambda b: tape.scipy.linalg.solve_triangular(a, b, lower=True)[1])(np.ones(2))
    array([-0.125,  0.25 ])
    """
    if trans not in (0, 1, "N", "T"):
        raise NotDifferentiable(f"scipy.linalg.solve_triangular with trans={trans!r}: expected 0, 1, 'N' or 'T'")
    transposed = trans in (1, "T")
    return linear_algebra.solve_triangular(_t(a) if transposed else a, b, lower != transposed, unit_diagonal)


@_scipys
def solve_banded(l_and_u, ab, b, overwrite_ab=False, overwrite_b=False, check_finite=True):
    """The solution of a x = b for a matrix given by its diagonals.

    Parameters
    ----------
    l_and_u : (int, int)
        How many diagonals there are below and above the main one.
    ab : array of shape (l + u + 1, n)
        The diagonals as rows, from the uppermost, as `scipy.linalg.solve_banded` takes them.
    b : array of shape (n,) or (n, k)
        The right-hand side.

    Returns
    -------
    array
        Of the shape of `b`.

    Raises
    ------
    ValueError, np.linalg.LinAlgError
        For diagonals that do not fit, and singular matrices.

    Examples
    --------
    >>> import numpy as np, tape
    >>> ab = np.array([[0.0, 1.0], [2.0, 4.0]])
    >>> tape.grad(lambda b: tape.scipy.linalg.solve_banded((0, 1), ab, b)[0])(np.ones(2))
    array([ 0.5  , -0.125])
    """
    return linear_algebra.solve_banded(l_and_u, ab, b)


@_scipys
def inv(a, overwrite_a=False, check_finite=True):
    """The inverse.

    Parameters
    ----------
    a : array of shape (n, n)
        The matrix.

    Returns
    -------
    array
        Of the shape of `a`.

    Raises
    ------
    np.linalg.LinAlgError
        For matrices that are not square, or singular ones.

    Examples
    --------
    >>> import numpy as np, tape
    >>> tape.grad(lambda a: np.trace(tape.scipy.linalg.inv(a)))(2.0 * np.eye(2)) + 0.0
    array([[-0.25,  0.  ],
           [ 0.  , -0.25]])
    """
    return np.linalg.inv(a)


@_scipys
def det(a, overwrite_a=False, check_finite=True):
    """The determinant; its gradient is the matrix of cofactors, of singular matrices too.

    Parameters
    ----------
    a : array of shape (n, n)
        The matrix.

    Returns
    -------
    array
        Of shape ().

    Raises
    ------
    np.linalg.LinAlgError
        For matrices that are not square.

    Examples
    --------
    >>> import numpy as np, tape
    >>> tape.grad(tape.scipy.linalg.det)(np.array([[1.0, 2.0], [3.0, 4.0]])).round(12)
    array([[ 4., -3.],
           [-2.,  1.]])
    """
    return np.linalg.det(a)


@_scipys
def cholesky(a, lower=False, overwrite_a=False, check_finite=True):
    """The Cholesky factor; the derivative is that with respect to the triangle that is read.

    Parameters
    ----------
    a : array of shape (n, n)
        A positive definite matrix; the upper triangle is read unless `lower`.
    lower : bool
        Whether the factor is lower.

    Returns
    -------
    array
        Of the shape of `a`; its other triangle is zero.

    Raises
    ------
    np.linalg.LinAlgError
        For matrices that are not positive definite.

    Examples
    --------
    >>> import numpy as np, tape
    >>> tape.grad(lambda a: tape.scipy.linalg.cholesky(a)[0, 0])(4.0 * np.eye(2))
    array([[0.25, 0.  ],
           [0.  , 0.  ]])
    """
    return np.linalg.cholesky(a, upper=not lower)


@_scipys
def cho_factor(a, lower=False, overwrite_a=False, check_finite=True):
    """The Cholesky factor for `cho_solve`; the other triangle is zero.

    Parameters
    ----------
    a : array of shape (n, n)
        A positive definite matrix.
    lower : bool
        Whether the factor is lower.

    Returns
    -------
    tuple
        The factor, of the shape of `a`, and `lower`.

    Raises
    ------
    np.linalg.LinAlgError
        For matrices that are not positive definite.

    Examples
    --------
    >>> import numpy as np, tape
    >>> solved = lambda a: tape.scipy.linalg.cho_solve(tape.scipy.linalg.cho_factor(a), np.ones(2))[0]
    >>> tape.grad(solved)(2.0 * np.eye(2)) + 0.0
    array([[-0.25, -0.25],
           [ 0.  ,  0.  ]])
    """
    return np.linalg.cholesky(a, upper=not lower), lower


@_scipys
def cho_solve(c_and_lower, b, overwrite_b=False, check_finite=True):
    """The solution of a x = b, given what `cho_factor` returned for a.

    Parameters
    ----------
    c_and_lower : (array of shape (n, n), bool)
        The factor, and whether it is lower.
    b : array of shape (n,) or (n, k)
        The right-hand side.

    Returns
    -------
    array
        Of the shape of `b`.

    Raises
    ------
    np.linalg.LinAlgError
        For a factor that is not square, or singular.

    Examples
    --------
    >>> import numpy as np, tape
    >>> factor = tape.scipy.linalg.cho_factor(4.0 * np.eye(2))
    >>> tape.grad(lambda b: tape.scipy.linalg.cho_solve(factor, b)[0])(np.ones(2))
    array([0.25, 0.  ])
    """
    c, lower = c_and_lower
    first, second = (c, _t(c)) if lower else (_t(c), c)
    return linear_algebra.solve_triangular(second, linear_algebra.solve_triangular(first, b, True), False)


@_scipys
def qr(a, overwrite_a=False, lwork=None, mode="full", pivoting=False, check_finite=True):
    """The factors q and r.

    Parameters
    ----------
    a : array of shape (m, n)
        Of full rank.
    mode : "full", "economic" or "r"
        "full" only where m <= n: other columns of q are not determined by the matrix.

    Returns
    -------
    tuple
        q and r, or (r,).

    Raises
    ------
    NotDifferentiable
        For `pivoting`, and for mode "full" with m > n.

    Examples
    --------
    >>> import numpy as np, tape
    >>> tape.grad(lambda a: tape.scipy.linalg.qr(a)[1][0, 0] ** 2)(np.eye(2)).round(12) + 0.0
    array([[2., 0.],
           [0., 0.]])
    """
    if pivoting:
        raise NotDifferentiable("scipy.linalg.qr with pivoting=True: not supported; leave it out")
    if mode == "full" and a.shape[-2] > a.shape[-1]:
        raise NotDifferentiable("scipy.linalg.qr of a matrix with more rows than columns: say mode='economic'; the other "
                                "columns of q are not determined by the matrix")
    result = np.linalg.qr(a, "r" if mode == "r" else "reduced")
    return (result,) if mode == "r" else tuple(result)


@_scipys
def svd(a, full_matrices=True, compute_uv=True, overwrite_a=False, check_finite=True, lapack_driver="gesdd"):
    """Left vectors, values, right vectors of the singular value decomposition.

    Parameters
    ----------
    a : array of shape (m, n)
        The matrix.
    full_matrices : bool
        Must be false where m and n differ.
    compute_uv : bool
        Whether to return the vectors.

    Returns
    -------
    tuple
        u, s, vh, of shapes (m, k), (k,), (k, n) with k = min(m, n); or s alone.

    Raises
    ------
    NotDifferentiable
        For `full_matrices` of a matrix that is not square.

    Examples
    --------
    >>> import numpy as np, tape
    >>> tape.grad(lambda a: tape.scipy.linalg.svd(a, compute_uv=False)[0])(np.diag([3.0, 1.0])).round(12) + 0.0
    array([[1., 0.],
           [0., 0.]])
    """
    result = np.linalg.svd(a, full_matrices, compute_uv)
    return tuple(result) if compute_uv else result


@_scipys
def svdvals(a, overwrite_a=False, check_finite=True):
    """The singular values.

    Parameters
    ----------
    a : array of shape (m, n)
        The matrix.

    Returns
    -------
    array
        Of shape (min(m, n),), the largest first.

    Raises
    ------
    np.linalg.LinAlgError
        For arrays that are no matrices.

    Examples
    --------
    >>> import numpy as np, tape
    >>> tape.grad(lambda a: np.sum(tape.scipy.linalg.svdvals(a)))(np.diag([3.0, 1.0])).round(12) + 0.0
    array([[1., 0.],
           [0., 1.]])
    """
    return np.linalg.svdvals(a)


@_scipys
def eigh(a, b=None, *, lower=True, eigvals_only=False, overwrite_a=False, overwrite_b=False, type=1, check_finite=True,
         subset_by_index=None, subset_by_value=None, driver=None):
    """Eigenvalues and vectors of a symmetric matrix, or of the problem a v = w b v with b positive definite.

    Parameters
    ----------
    a, b : array of shape (n, n)
        Symmetric; of each one triangle is read.
    lower : bool
        Which one.
    eigvals_only : bool
        Whether to leave out the vectors.

    Returns
    -------
    tuple
        w of shape (n,) and v of shape (n, n); or w. Vectors of equal values have no derivative.

    Raises
    ------
    NotDifferentiable
        For another `type`, and for subsets.
    np.linalg.LinAlgError
        For matrices that are not square.

    Examples
    --------
    >>> import numpy as np, tape
    >>> tape.grad(lambda a: tape.scipy.linalg.eigh(a)[0][1])(np.diag([1.0, 2.0])).round(12) + 0.0
    array([[0., 0.],
           [0., 1.]])
    """
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
    """Eigenvalues of a symmetric matrix; see `eigh`.

    Parameters
    ----------
    a, b : array of shape (n, n)
        Symmetric; of each one triangle is read.
    lower : bool
        Which one.
    **options
        As of `eigh`.

    Returns
    -------
    array
        Of shape (n,), in ascending order.

    Raises
    ------
    NotDifferentiable, np.linalg.LinAlgError
        As `eigh`.

    Examples
    --------
    >>> import numpy as np, tape
    >>> tape.grad(lambda a: tape.scipy.linalg.eigvalsh(a)[1])(np.diag([1.0, 2.0])).round(12) + 0.0
    array([[0., 0.],
           [0., 1.]])
    """
    return eigh(a, b, lower=lower, eigvals_only=True, **options)


@_scipys
def pinv(a, *, atol=None, rtol=None, return_rank=False, check_finite=True):
    """The pseudoinverse; the rank is taken as constant.

    Parameters
    ----------
    a : array of shape (m, n)
        The matrix.
    rtol : float, optional
        Singular values below this part of the largest count as zero.

    Returns
    -------
    array
        Of shape (n, m).

    Raises
    ------
    NotDifferentiable
        For `atol` and `return_rank`.

    Examples
    --------
    >>> import numpy as np, tape
    >>> tape.grad(lambda a: tape.scipy.linalg.pinv(a)[0, 0])(np.array([[2.0], [0.0]]))
    array([[-0.25],
           [ 0.  ]])
    """
    if atol is not None or return_rank:
        raise NotDifferentiable("scipy.linalg.pinv with atol or return_rank: not supported; nearest: rtol")
    return np.linalg.pinv(a, max(a.shape) * np.finfo(a.dtype).eps if rtol is None else rtol)


@_scipys
def lstsq(a, b, cond=None, overwrite_a=False, overwrite_b=False, check_finite=True, lapack_driver=None):
    """Solution, residues, rank and singular values of a least-squares problem; the rank is taken as constant.

    Parameters
    ----------
    a : array of shape (m, n)
        The matrix.
    b : array of shape (m,) or (m, k)
        The right-hand side.
    cond : float, optional
        Singular values below this part of the largest count as zero.

    Returns
    -------
    tuple
        x of shape (n,) or (n, k), residues of shape (0,), (1,) or (k,), the rank, and the singular values.

    Raises
    ------
    np.linalg.LinAlgError
        Where the singular values do not converge.

    Examples
    --------
    >>> import numpy as np, tape
    >>> a = np.array([[1.0], [1.0]])
    >>> tape.grad(lambda b: tape.scipy.linalg.lstsq(a, b)[0][0])(np.array([1.0, 3.0]))
    array([0.5, 0.5])
    """
    return np.linalg.lstsq(a, b, cond)


@_scipys
def norm(a, ord=None, axis=None, keepdims=False, check_finite=True):
    """The norm of a matrix or vector; at the origin the subgradient is 0.

    Parameters
    ----------
    a : array
        A vector or matrix, or several along other axes than `axis`.
    ord : None, int, float, inf, "fro" or "nuc"
        As of `numpy.linalg.norm`.

    Returns
    -------
    array
        Of shape (), or without the axes of the norm.

    Raises
    ------
    ValueError
        For an order that there is not.

    Examples
    --------
    >>> import numpy as np, tape
    >>> tape.grad(tape.scipy.linalg.norm)(np.array([3.0, 4.0]))
    array([0.6, 0.8])
    """
    return np.linalg.norm(a, ord, axis, keepdims)


@_scipys
def expm(A):
    """The exponential of square matrices.

    Parameters
    ----------
    A : array of shape (..., n, n)
        The matrices.

    Returns
    -------
    array
        Of the shape of `A`.

    Raises
    ------
    np.linalg.LinAlgError
        For matrices that are not square.

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
    """The logarithm of a square matrix, where it is real.

    Parameters
    ----------
    A : array of shape (n, n)
        The matrix.

    Returns
    -------
    array
        Of the shape of `A`.

    Raises
    ------
    NotDifferentiable
        Where it is complex.

    Examples
    --------
    >>> import numpy as np, tape
    >>> tape.grad(lambda a: np.trace(tape.scipy.linalg.logm(a)))(np.diag([2.0, 4.0])).round(12) + 0.0
    array([[0.5 , 0.  ],
           [0.  , 0.25]])
    """
    return lapack.logm(A)


@_scipys
def sqrtm(A, disp=True, blocksize=64):
    """The square root of a square matrix, where it is real.

    Parameters
    ----------
    A : array of shape (n, n)
        The matrix.

    Returns
    -------
    array
        Of the shape of `A`.

    Raises
    ------
    NotDifferentiable
        Where it is complex.

    Examples
    --------
    >>> import numpy as np, tape
    >>> tape.grad(lambda a: np.trace(tape.scipy.linalg.sqrtm(a)))(np.diag([1.0, 4.0])).round(12) + 0.0
    array([[0.5 , 0.  ],
           [0.  , 0.25]])
    """
    return lapack.sqrtm(A)


@_scipys
def solve_sylvester(a, b, q):
    """The solution of a x + x b = q.

    Parameters
    ----------
    a, b, q : array of shapes (m, m), (n, n), (m, n)
        The coefficients.

    Returns
    -------
    array
        Of the shape of `q`.

    Raises
    ------
    np.linalg.LinAlgError
        Where there is no single solution.

    Examples
    --------
    >>> import numpy as np, tape
    >>> a, b = np.array([[1.0]]), np.array([[3.0]])
    >>> tape.grad(lambda q: tape.scipy.linalg.solve_sylvester(a, b, q)[0, 0])(np.ones((1, 1)))
    array([[0.25]])
    """
    return lapack.solve_sylvester(a, b, q)


@_scipys
def block_diag(*arrs):
    """The matrix with these on its diagonal.

    Parameters
    ----------
    *arrs : array of at most two axes
        The blocks; a vector is a row.

    Returns
    -------
    array
        With the sums of their rows and columns.

    Raises
    ------
    ValueError
        For blocks of more than two axes.

    Examples
    --------
    >>> import numpy as np, tape
    >>> tape.grad(lambda a: np.sum(tape.scipy.linalg.block_diag(a, a)))(np.ones(2))
    array([2., 2.])
    """
    matrices = [np.atleast_2d(a) for a in arrs]
    columns = sum(m.shape[1] for m in matrices)
    rows, at = [], 0
    for m in matrices:
        rows.append(np.pad(m, ((0, 0), (at, columns - at - m.shape[1]))))
        at += m.shape[1]
    return np.concatenate(rows)


@_scipys
def toeplitz(c, r=None):
    """The matrix with first column `c` and first row `r`.

    Parameters
    ----------
    c, r : array
        `r` is `c` by default; its first element is not read.

    Returns
    -------
    array
        Of shape (c.size, r.size).

    Raises
    ------
    NotDifferentiable
        For what is no array of numbers.

    Examples
    --------
    >>> import numpy as np, tape
    >>> tape.grad(lambda c: np.sum(tape.scipy.linalg.toeplitz(c)))(np.zeros(3))
    array([3., 4., 2.])
    """
    r = c if r is None else r
    values = np.concatenate([np.flip(np.ravel(c)), np.ravel(r)[1:]])
    rows, columns = np.size(c), np.size(r)
    return values[rows - 1 - np.arange(rows)[:, None] + np.arange(columns)]
