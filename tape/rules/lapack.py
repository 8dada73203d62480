"""Factorisations and solutions by LAPACK as operations with rules, over any leading batch axes.

The rules are NumPy code on the arguments and results, so derivatives have any order. Functions that read one triangle of a
symmetric matrix (cholesky, eigh) have derivatives with respect to that triangle alone, as differences of NumPy's own functions
have.

What is here: the operations, of arrays that are recorded. What is not: NumPy's and SciPy's names and options
(`linear_algebra.py`, `tape.scipy.linalg`), how operations are recorded (`calls.py`).

Sources: Giles, "An extended collection of matrix derivative results for forward and reverse mode algorithmic differentiation",
Oxford 2008; Murray, "Differentiation of the Cholesky decomposition", arXiv:1602.07527; Walter and Lehmann, "Algorithmic
differentiation of linear algebra functions", arXiv:1009.6112; Golub and Pereyra, SIAM J. Numer. Anal. 10, 1973 (pseudoinverse);
Townsend, "Differentiating the singular value decomposition", 2016; Mathias, SIAM J. Matrix Anal. Appl. 17, 1996 (functions of
matrices by blocks).
"""

from __future__ import annotations

import numpy as np
import scipy  # its submodules load when they are used

from compiled.lists.calls import Call
from tape.errors import NotDifferentiable
from tape.recording.arrays import RecordedArray, record
from tape.recording.containers import leaves_of
from tape.recording.recorder import current_recorder
from tape.rules.calls import TracedOperation, Use, recorded
from tape.rules.contractions import as_recorded


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

    is_own = True

    def __init__(self, function, shapes, matrices=1):
        super().__init__(function)
        self._shapes, self.matrices = shapes, matrices

    def shapes(self, *args, **kwargs):
        """See `TracedOperation.shapes`."""
        return self._shapes(*(x.shape for x in args[: self.matrices]), *args[self.matrices :])

    def __call__(self, *args):
        """Record the operation on arrays of which at least one is recorded."""
        return recorded(self, (*map(as_floats, args[: self.matrices]), *args[self.matrices :]), {})

    def description(self, use):
        """See `TracedOperation.description`."""
        args, _ = use.arguments([None] * len(use.dynamic))
        return [self.name, *args[self.matrices :]]

    def __reduce__(self):
        return _known, (self.name,)


OPERATIONS: dict[str, Factorisation] = {}
"""The operations by the names that files know them by."""


def _known(name) -> Factorisation:
    return OPERATIONS[name]


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


def as_floats(x) -> RecordedArray:
    """An argument as a recorded array of floats."""
    x = as_recorded(current_recorder(), x)
    return x if x.dtype.kind == "f" else x.astype(x.recorder.dtype)


def eye(x, n=None):
    """The identity as large as the last axis of `x`, or n, in its dtype."""
    return np.eye(x.shape[-1] if n is None else n, dtype=x.dtype)


def _diagonal_matrix(x):
    return x[..., None] * eye(x)


def half_triangle(x):
    """The lower triangle, the diagonal halved: of an adjoint, what belongs to the triangle of a symmetric matrix."""
    n = x.shape[-1]
    return x * (np.tri(n, dtype=x.dtype) - 0.5 * eye(x))


def _same(a):
    return [a]


# ---------------------------------------------------------------------- linear equations


@_operation(lambda a, b: [b], matrices=2)
def solve(a, b):
    """The solution of a x = b; `b` has columns."""
    return np.linalg.solve(a, b)


@solve.bprop
def _(grad, out, a, b):
    adjoint = solve(a.mT, grad)
    return -adjoint @ out.mT, adjoint


LARGE = 64
"""Triangular matrices of fewer rows are solved with like any others, all of a batch at once: BLAS takes longer to start."""


@_operation(lambda a, b, lower, unit: [b], matrices=2)
def solve_triangular(a, b, lower, unit):
    """As `solve`, where one triangle of `a` is read."""
    if a.shape[-1] < LARGE:
        triangle = np.tril(a) if lower else np.triu(a)
        if unit:
            np.einsum("...ii->...i", triangle)[...] = 1.0
        return np.linalg.solve(triangle, b)
    return _each(lambda a, b: scipy.linalg.solve_triangular(a, b, lower=lower, unit_diagonal=unit), a, b)


@solve_triangular.bprop
def _(grad, out, a, b, lower, unit):
    adjoint = solve_triangular(a.mT, grad, not lower, unit)
    full = -adjoint @ out.mT
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


@_operation(_same)
def inv(a):
    """The inverse."""
    return np.linalg.inv(a)


@inv.bprop
def _(grad, out, a):
    return -out.mT @ grad @ out.mT


@_operation(lambda a, rcond: [(*a[:-2], a[-1], a[-2])])
def pinv(a, rcond):
    """The pseudoinverse; the rank is taken as constant."""
    return np.linalg.pinv(a, **({} if rcond is None else {"rcond": rcond}))


@pinv.bprop
def _(grad, out, a, rcond):
    p, pt = out, out.mT
    left = (eye(a, a.shape[-2]) - a @ p) @ grad.mT @ (p @ pt)
    right = (pt @ p) @ grad.mT @ (eye(a) - p @ a)
    return left + right - pt @ grad @ pt, None


@_operation(lambda a, b, rcond: [(a[-1], b[-1])], matrices=2)
def least_squares(a, b, rcond):
    """The shortest x with the least a x - b; the rank is taken as constant."""
    return np.linalg.lstsq(a, b, rcond=rcond)[0]


@least_squares.bprop
def _(grad, out, a, b, rcond):
    p = pinv(a, np.finfo(float).eps * max(a.shape) if rcond is None else rcond)
    adjoint = p.mT @ grad
    residual = b - a @ out
    return residual @ (p @ adjoint).mT + (p.mT @ out) @ (grad - a.mT @ adjoint).mT - adjoint @ out.mT, adjoint, None


# ---------------------------------------------------------------------- determinants


@_operation(lambda a: [a[:-2]])
def det(a):
    """The determinant."""
    return np.linalg.det(a)


@det.bprop
def _(grad, out, a):
    return grad[..., None, None] * cofactors(a)


LARGEST_CONDITION = 1e8
"""Above this the matrix of cofactors is computed by singular values, which costs more."""


@_operation(_same)
def cofactors(a):
    """The matrix of cofactors, also of singular matrices; its derivative asks for an inverse."""
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


@cofactors.bprop
def _(grad, out, a):
    inverse = inv(a).mT
    return np.sum(grad * out, axis=(-2, -1))[..., None, None] * inverse - inverse @ grad.mT @ out


@_operation(lambda a: [a[:-2], a[:-2]])
def slogdet(a):
    """Sign and logarithm of the determinant."""
    return tuple(np.linalg.slogdet(a))


@slogdet.bprop
def _(grad, out, a):
    return grad[1][..., None, None] * inv(a).mT


# ---------------------------------------------------------------------- factorisations


@_operation(_same)
def cholesky(a):
    """The lower Cholesky factor."""
    return np.linalg.cholesky(a)


@cholesky.bprop
def _(grad, out, a):
    middle = half_triangle(out.mT @ grad)
    right = solve_triangular(out.mT, middle.mT, False, False).mT
    adjoint = solve_triangular(out.mT, right, False, False)
    return half_triangle(adjoint + adjoint.mT)


def _qr_shapes(a):
    return [a, (*a[:-2], a[-1], a[-1])]


@_operation(_qr_shapes)
def qr(a):
    """The factors q, r of matrices with at least as many rows as columns, of full rank."""
    return tuple(np.linalg.qr(a))


@qr.bprop
def _(grad, out, a):
    q, r = out
    of_q, of_r = grad
    m = r @ of_r.mT - of_q.mT @ q
    symmetric = np.tril(m) + np.tril(m, -1).mT
    right = of_q + q @ symmetric
    return solve_triangular(r, right.mT, False, False).mT


def _differences(values):
    """values[j] - values[i], with ones on the diagonal; equal values give an infinite reciprocal."""
    return values[..., None, :] - values[..., :, None] + eye(values)


def _over_differences(m, differences):
    """m / differences off the diagonal, where 0 / 0 is 0: what does not depend on how equal values are told apart."""
    off = 1.0 - eye(m)
    return record("adjoint_product", (m * off, 1.0 / differences))


@_operation(lambda a, triangle: [a[:-1], a])
def eigh(a, triangle):
    """Eigenvalues and vectors of symmetric matrices; vectors of equal values have no finite derivative."""
    return tuple(np.linalg.eigh(a, triangle))


@eigh.bprop
def _(grad, out, a, triangle):
    values, vectors = out
    of_values, of_vectors = grad
    middle = _over_differences(vectors.mT @ of_vectors, _differences(values)) + _diagonal_matrix(of_values)
    return _on_triangle(vectors @ middle @ vectors.mT, triangle), None


@_operation(lambda a, triangle: [a[:-1]])
def eigvalsh(a, triangle):
    """Eigenvalues of symmetric matrices."""
    return np.linalg.eigvalsh(a, triangle)


@eigvalsh.bprop
def _(grad, out, a, triangle):
    vectors = eigh(a, triangle)[1]
    return _on_triangle((vectors * grad[..., None, :]) @ vectors.mT, triangle), None


def _on_triangle(adjoint, triangle):
    """The adjoint of a symmetric matrix, as one of the triangle that is read."""
    lower = half_triangle(adjoint + adjoint.mT)
    return lower if triangle == "L" else lower.mT


def _svd_shapes(a):
    k = min(a[-2:])
    return [(*a[:-1], k), (*a[:-2], k), (*a[:-2], k, a[-1])]


@_operation(_svd_shapes)
def svd(a):
    """As many singular vectors as values; vectors of equal values have no finite derivative."""
    return tuple(np.linalg.svd(a, full_matrices=False))


@svd.bprop
def _(grad, out, a):
    u, s, vt = out
    of_u, of_s, of_vt = grad
    v, of_v = vt.mT, of_vt.mT
    gaps = _differences(s * s)
    from_u, from_v = u.mT @ of_u, vt @ of_v
    from_u = _over_differences(from_u - from_u.mT, gaps)
    from_v = _over_differences(from_v - from_v.mT, gaps)
    adjoint = u @ (from_u * s[..., None, :] + s[..., :, None] * from_v + _diagonal_matrix(of_s)) @ vt
    if a.shape[-2] > a.shape[-1]:
        outside = of_u - u @ (u.mT @ of_u)
        adjoint = adjoint + record("adjoint_product", (outside, 1.0 / s[..., None, :])) @ vt
    if a.shape[-1] > a.shape[-2]:
        outside = of_v - v @ (vt @ of_v)
        adjoint = adjoint + u @ record("adjoint_product", (outside, 1.0 / s[..., None, :])).mT
    return adjoint


@_operation(lambda a: [(*a[:-2], min(a[-2:]))])
def svdvals(a):
    """Singular values."""
    return np.linalg.svd(a, compute_uv=False)


@svdvals.bprop
def _(grad, out, a):
    u, _, vt = svd(a)
    return (u * grad[..., None, :]) @ vt


# ---------------------------------------------------------------------- functions of square matrices


def _by_blocks(operation):
    """The rule of a function of matrices: f([[a', g], [0, a']]) holds the adjoint in its upper right block."""

    def rule(grad, out, a):
        n = a.shape[-1]
        at = a.mT
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
    adjoint = solve_sylvester(a.mT, b.mT, grad)
    return -adjoint @ out.mT, -out.mT @ adjoint, adjoint


# ---------------------------------------------------------------------- matrices that are bands


@_operation(lambda ab, b, lower, upper: [b], matrices=2)
def solve_banded(ab, b, lower, upper):
    """The solution of a x = b for a matrix given by its diagonals."""
    return scipy.linalg.solve_banded((lower, upper), ab, b)


@solve_banded.bprop
def _(grad, out, ab, b, lower, upper):
    n = ab.shape[-1]
    adjoint = solve_banded(_transposed_bands(ab, lower, upper), grad, upper, lower)
    below, above = np.pad(adjoint, ((upper, lower), (0, 0))), out
    rows = [-np.sum(below[k : k + n] * above, axis=-1) for k in range(lower + upper + 1)]
    return np.stack(rows), adjoint, None, None


def _transposed_bands(ab, lower, upper):
    """The diagonals of the transposed matrix, each at its new place: row k of a matrix's bands is its diagonal `upper` - k."""
    n = ab.shape[-1]
    padded = np.pad(ab, ((0, 0), (lower, upper)))
    return np.stack([padded[k, lower + upper - k : lower + upper - k + n] for k in range(lower + upper, -1, -1)])
