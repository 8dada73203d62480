"""Products with Jacobians and Hessians: pulling adjoints back, pushing tangents forward, tangent over reverse."""

from __future__ import annotations

import functools
import inspect
import itertools
import typing
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np

from tape import jitted
from tape.derivatives.gradients import grad
from tape.derivatives.nested import recorded_call, wanted_leaves
from tape.errors import NotDifferentiable
from tape.recording.arguments import (
    arranged,
    check_argument_numbers,
    checked_leaves,
    leaves_of,
    single_argument,
    with_leaves,
)
from tape.recording.arrays import RecordedArray, stop_gradient
from tape.recording.made import PullbackFunction, made_function, without_result
from tape.recording.recorder import current_recorder
from tape.recording.signatures import Jitted, P, Scalar, X, Y
from tape.recording.traces import traces_of
from tape.running.linearised import linearised
from tape.transforms.differentiate import pull_back, push_forward

if typing.TYPE_CHECKING:
    from scipy.sparse.linalg import LinearOperator  # takes 0.1 s to import
    from typing_extensions import Unpack  # in typing from Python 3.11 on

X1 = typing.TypeVar("X1")
X2 = typing.TypeVar("X2")


@typing.overload
def vjp(f: Callable[[X], Y], primal: X, /) -> tuple[Y, Callable[[Y], tuple[X]]]: ...
@typing.overload
def vjp(f: Callable[[X, X1], Y], primal: X, primal1: X1, /) -> tuple[Y, Callable[[Y], tuple[X, X1]]]: ...
@typing.overload
def vjp(f: Callable[[X, X1, X2], Y], primal: X, primal1: X1, primal2: X2, /,
        ) -> tuple[Y, Callable[[Y], tuple[X, X1, X2]]]: ...
@typing.overload
def vjp(f: Callable[..., Y], primal: Any, primal1: Any, primal2: Any, primal3: Any, /, *primals: Any,
        ) -> tuple[Y, Callable[[Y], tuple[Any, ...]]]: ...
@typing.overload
def vjp(f: Jitted, *primals: Any) -> tuple[Any, Callable[[Any], tuple[Any, ...]]]: ...
def vjp(f, *primals):
    """Evaluate `f` and return the function that pulls adjoints of the result back to the arguments.

    Parameters
    ----------
    f : callable
        NumPy code.
    *primals : arrays, floats, or nested containers of them
        The arguments; all are differentiated.

    Returns
    -------
    value
        ``f(*primals)``.
    pullback : callable
        ``pullback(seed)``: `seed` has the structure and shapes of the value; returns a tuple with the adjoint of each primal.
        It may be called any number of times, from several threads.

    Raises
    ------
    NotDifferentiable
        As `tape.value_and_grad`, but the result need not be scalar.
    ValueError
        From the pullback, for a seed of another shape than the result.

    Examples
    --------
    >>> import numpy as np, tape
    >>> value, pullback = tape.vjp(np.sin, np.array([0.0, np.pi]))
    >>> pullback(np.array([1.0, 2.0]))
    (array([ 1., -2.]),)
    """
    numbers = tuple(range(len(primals)))
    if not primals:
        raise NotDifferentiable("tape.vjp: expected at least one primal after the function")
    if jitted.is_jitted(f):
        return jitted.jitted_vjp(f, primals)
    if current_recorder() is not None:
        return _nested_vjp(f, primals, numbers)
    value, point = linearised(traces_of(f), primals, {}, numbers, "value", lambda point: (point.value, point.kept()))

    leaves, structure = leaves_of(value)
    return value, PullbackFunction.of(f, _pulled, point, structure, [np.shape(leaf) for leaf in leaves], _Places.of(primals))


def _pulled(point, structure, shapes, places, seed):
    """The adjoints of the primals at a point, in their places, from those of the results."""
    return places.filled(point.pull(point.trace.of_outputs(checked_leaves(seed, structure, shapes))))


class _Places(NamedTuple):
    """Where the leaves of primals are, without the primals: the structure and the number of the leaves of each."""

    structures: list
    counts: list[int]

    @classmethod
    def of(cls, primals):
        found = [leaves_of(primal) for primal in primals]
        return cls([structure for _, structure in found], [len(leaves) for leaves, _ in found])

    def filled(self, leaves) -> tuple:
        """A tuple of derivatives like the primals."""
        leaves = iter(leaves)
        return tuple(with_leaves(structure, list(itertools.islice(leaves, count)))
                     for structure, count in zip(self.structures, self.counts, strict=True))


def _seeds(seed, value) -> list:
    """Leaves of a seed, checked against those of the value."""
    wanted, structure = leaves_of(value)
    return checked_leaves(seed, structure, [np.shape(leaf) for leaf in wanted])


def _nested_vjp(f, primals, numbers):
    stretch, results, structure = recorded_call(f, primals, {}, wanted_leaves(primals, {}, numbers))
    value = with_leaves(structure, results)

    def pullback(seed):
        pairs = [(x.view, s) for x, s in zip(results, _seeds(seed, value), strict=True) if isinstance(x, RecordedArray)]
        gradients = pull_back(stretch, [view for view, _ in pairs], [seed for _, seed in pairs])
        return arranged(gradients, primals, numbers, numbers)

    return value, pullback


@typing.overload
def jvp(f: Callable[[X], Y], primals: tuple[X], tangents: tuple[X]) -> tuple[Y, Y]: ...
@typing.overload
def jvp(f: Callable[[X, X1], Y], primals: tuple[X, X1], tangents: tuple[X, X1]) -> tuple[Y, Y]: ...
@typing.overload
def jvp(f: Callable[[X, X1, X2], Y], primals: tuple[X, X1, X2], tangents: tuple[X, X1, X2]) -> tuple[Y, Y]: ...
@typing.overload
def jvp(f: Callable[..., Y], primals: list[Any] | tuple[Any, Any, Any, Any, Unpack[tuple[Any, ...]]],
        tangents: list[Any] | tuple[Any, Any, Any, Any, Unpack[tuple[Any, ...]]]) -> tuple[Y, Y]: ...
@typing.overload
def jvp(f: Jitted, primals: list[Any] | tuple[Any, ...], tangents: list[Any] | tuple[Any, ...]) -> tuple[Any, Any]: ...
def jvp(f, primals, tangents):
    """Evaluate `f` and its derivative along a direction, in forward mode: one sweep up, no adjoints.

    Parameters
    ----------
    f : callable
        NumPy code.
    primals : tuple
        The arguments.
    tangents : tuple
        Their tangents, of the same structure and shapes.

    Returns
    -------
    value, tangent
        ``f(*primals)`` and its derivative along `tangents`, of the same structure and shapes.

    Raises
    ------
    NotDifferentiable
        As `tape.vjp`.
    ValueError
        For tangents whose structure or shapes differ from the primals'.

    Examples
    --------
    >>> import numpy as np, tape
    >>> value, tangent = tape.jvp(lambda x: x**2, (3.0,), (1.0,))
    >>> float(value), float(tangent)
    (9.0, 6.0)
    """
    if not isinstance(primals, (tuple, list)) or not isinstance(tangents, (tuple, list)) or not primals:
        raise NotDifferentiable("tape.jvp: expected tuples of primals and of tangents, as in tape.jvp(f, (x,), (v,))")
    primals, tangents = tuple(primals), tuple(tangents)
    leaves = _tangent_leaves(primals, tangents)
    if jitted.is_jitted(f):
        return jitted.jitted_jvp(f, primals, tangents)
    numbers = tuple(range(len(primals)))
    if current_recorder() is not None:
        stretch, results, structure = recorded_call(f, primals, {}, wanted_leaves(primals, {}, numbers))
        recorded = [x for x in results if isinstance(x, RecordedArray)]
        pushed = iter(push_forward(stretch, [x.view for x in recorded], leaves))
        out = [next(pushed) if isinstance(x, RecordedArray) else np.zeros(np.shape(x)) for x in results]
        return with_leaves(structure, results), with_leaves(structure, out)

    def ask(point):
        pushed = point.push(leaves)
        return point.value, point.trace.assembled(pushed, tangents=True)

    return linearised(traces_of(f), primals, {}, numbers, "jvp", ask)


def _tangent_leaves(primals, tangents):
    """Leaves of tangents, checked against those of the primals."""
    wanted, structure = leaves_of(primals)
    return checked_leaves(tangents, structure, [np.shape(leaf) for leaf in wanted], "the tangents", "the primals", "leaf")


@typing.overload
def hvp(f: Callable[[X], Scalar], argnums: Literal[0] = 0, replay: bool = True) -> Callable[[X, X], X]: ...
@typing.overload
def hvp(f: Callable[P, Scalar], argnums: int = 0, replay: bool = True) -> Callable[..., Any]: ...
@typing.overload
def hvp(f: Jitted, argnums: int = 0, replay: bool = True) -> Callable[..., Any]: ...
def hvp(f, argnums=0, replay=True):
    """Make the function that multiplies the Hessian of a scalar function with a vector, without forming it.

    Tangent over reverse: one sweep up and one down, at a few times the cost of a gradient.

    Parameters
    ----------
    f : callable
        NumPy code with one scalar result.
    argnums : int
        Which positional argument to differentiate with respect to.
    replay : bool
        As for `tape.value_and_grad`.

    Returns
    -------
    callable
        ``(*args, v)``, where `args` are those of `f` and `v` has the structure and shapes of the differentiated one; returns
        ``H v``. `v` is a constant even when it was computed from an argument.

    Raises
    ------
    NotDifferentiable
        As `tape.grad`.
    ValueError
        When `v` has another structure or shape than the argument.

    Examples
    --------
    >>> import numpy as np, tape
    >>> tape.hvp(lambda x: np.sum(x**3))(np.array([1.0, 2.0]), np.array([1.0, 1.0]))
    array([ 6., 12.])
    """
    number = single_argument(argnums, "tape.hvp")
    if jitted.is_jitted(f):
        return jitted.jitted_hvp(f, number)
    of = made_function("hvp", f, signature=_with_vector, argnums=argnums, replay=replay)
    return of(HessianProduct(f, number, replay))


def _with_vector(signature):
    """The signature of products with the Hessian of a function."""
    parameters = list(signature.parameters.values())
    last = sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)
    name = "v" if "v" not in signature.parameters else "v_"
    own = [p.replace(kind=p.POSITIONAL_ONLY, default=p.empty) for p in parameters[:last]]
    own.append(inspect.Parameter(name, inspect.Parameter.POSITIONAL_ONLY))
    own += [p for p in parameters[last:] if p.kind != p.VAR_POSITIONAL]
    return without_result(signature.replace(parameters=own))


class HessianProduct:
    """What computes the products that `tape.hvp` returns."""

    def __init__(self, f, number, replay=True):
        self._function, self._number, self._traces = f, number, traces_of(f, replay)

    def __call__(self, *args, **kwargs):
        *args, v = args
        args = tuple(args)
        if not args:
            raise NotDifferentiable("tape.hvp: expected the arguments of the function and a vector, as in tape.hvp(f)(x, v)")
        check_argument_numbers((self._number,), args)
        leaves = _tangent_leaves((args[self._number],), (v,))
        if current_recorder() is not None:
            return self._nested(args, kwargs, v)
        products = linearised(self._traces, args, kwargs, (self._number,), "hvp", lambda point: point.multiply(leaves))
        return arranged(products, args, (self._number,), self._number)

    def _nested(self, args, kwargs, v):
        v = stop_gradient(v)
        gradient = grad(self._function, self._number)

        def of_one(x):
            return gradient(*args[: self._number], x, *args[self._number + 1 :], **kwargs)

        return jvp(of_one, (args[self._number],), (v,))[1]

    def at(self, args, kwargs, ask):
        """Linearise the function once for many products, which are not looked at one by one; returns what `ask` does."""
        return linearised(self._traces, args, kwargs, (self._number,), "value", ask, checked=False)


def hessian_operator(f: Callable[[np.ndarray[Any, Any]], Scalar], x: np.ndarray[Any, Any]) -> LinearOperator:
    """Return the Hessian of a scalar function at a point as a linear operator, for CG, Lanczos or eigsh.

    Parameters
    ----------
    f : callable
        NumPy code of one array, with one scalar result.
    x : ndarray(float, shape (n,))
        The point.

    Returns
    -------
    scipy.sparse.linalg.LinearOperator
        Of shape (n, n), symmetric; each product is one `tape.hvp`.

    Raises
    ------
    NotDifferentiable
        As `tape.hvp`.
    ValueError
        When `x` has not one axis.

    Examples
    --------
    >>> import numpy as np, tape
    >>> from scipy.sparse.linalg import cg
    >>> operator = tape.hessian_operator(lambda x: np.sum(x**2 * np.array([1.0, 2.0])), np.ones(2))
    >>> cg(operator, np.array([2.0, 8.0]))[0]
    array([1., 2.])
    """
    from scipy.sparse.linalg import LinearOperator  # takes 0.1 s to import

    x = np.array(x)
    if x.ndim != 1:
        raise ValueError(f"tape.hessian_operator: expected a point with one axis, got shape {x.shape}")
    matvec = functools.partial(_multiplied, hvp(f), x)
    return LinearOperator((x.size, x.size), matvec=matvec, rmatvec=matvec, dtype=x.dtype)


def _multiplied(product_of, x, v):
    """One product of a linear operator."""
    return product_of(x, np.reshape(v, x.shape))
