"""`scipy.linalg` for recorded arrays, under SciPy's names and defaults; plain arrays go to SciPy.

SciPy's functions of matrices are no ufuncs, and cannot hand over to us. Parameters, shapes and errors are those that SciPy's
documentation gives; each docstring says what is otherwise, and shows a derivative. What is not here: the operations and
their rules (`tape.rules.lapack`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy  # its submodules load when they are used

from tape.errors import NotDifferentiable
from tape.recording.arrays import RecordedArray
from tape.recording.containers import leaves_of
from tape.rules import lapack, linear_algebra

__all__ = ["block_diag", "cho_factor", "cho_solve", "cholesky", "det", "eigh", "eigvalsh", "expm", "inv", "logm", "lstsq",
           "norm", "pinv", "qr", "solve", "solve_banded", "solve_sylvester", "solve_triangular", "sqrtm", "svd", "svdvals",
           "toeplitz"]


def _scipys(rule: Callable[..., Any]) -> Callable[..., Any]:
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
    """The solution of a x = b: as SciPy's, except that only symmetry is made use of.

    Of matrices that are assumed symmetric or positive definite one triangle is read; all others are solved as general ones.

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
    """The solution of a x = b, where one triangle of `a` is read: as SciPy's, except that `trans` is 0, 1, "N" or "T".

    Another one raises `NotDifferentiable`.

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
    """The solution of a x = b for a matrix given by its diagonals: as SciPy's.

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
    """The inverse: as SciPy's.

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
    """The determinant: as SciPy's; its gradient is the matrix of cofactors, of singular matrices too.

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
    """The Cholesky factor: as SciPy's; the derivative is that with respect to the triangle that is read.

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
    """The Cholesky factor for `cho_solve`: as SciPy's, except that the other triangle is zero.

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
    """The solution of a x = b, given what `cho_factor` returned for a: as SciPy's.

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
    """The factors q and r: as SciPy's, of matrices of full rank, except for what is not determined by them.

    Pivoting, and mode "full" of more rows than columns, raise `NotDifferentiable`.

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
    """Left vectors, values, right vectors of the singular value decomposition: as SciPy's, except for `full_matrices`.

    It must be false where the matrix is not square; else `NotDifferentiable` is raised.

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
    """The singular values, the largest first: as SciPy's.

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
    """Eigenvalues and vectors of a symmetric matrix, or of a v = w b v with b positive definite: as SciPy's, except for parts.

    Another `type`, and subsets, raise `NotDifferentiable`. Vectors of equal values have no derivative.

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
    """Eigenvalues of a symmetric matrix in ascending order: as SciPy's, except as `eigh`.

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
    """The pseudoinverse: as SciPy's, except that `atol` and `return_rank` raise `NotDifferentiable`.

    The rank is taken as constant.

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
    """Solution, residues, rank and singular values of a least-squares problem: as SciPy's; the rank is taken as constant.

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
    """The norm of a matrix or vector: as SciPy's; at the origin the subgradient is 0.

    Examples
    --------
    >>> import numpy as np, tape
    >>> tape.grad(tape.scipy.linalg.norm)(np.array([3.0, 4.0]))
    array([0.6, 0.8])
    """
    return np.linalg.norm(a, ord, axis, keepdims)


@_scipys
def expm(A):
    """The exponential of square matrices: as SciPy's.

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
    """The logarithm of a square matrix: as SciPy's, except that `NotDifferentiable` is raised where it is complex.

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
    """The square root of a square matrix: as SciPy's, except that `NotDifferentiable` is raised where it is complex.

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
    """The solution of a x + x b = q: as SciPy's.

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
    """The matrix with these on its diagonal: as SciPy's, except that blocks have at most two axes.

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
    """The matrix with first column `c` and first row `r`: as SciPy's, of one `c` and one `r`, which are read as vectors.

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
