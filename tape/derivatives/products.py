"""Products with Jacobians and Hessians: pulling adjoints back, pushing tangents forward, tangent over reverse."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from tape import jitted
from tape.derivatives.gradients import grad
from tape.derivatives.nested import recorded_call, wanted_leaves
from tape.errors import NotDifferentiable
from tape.recording.arguments import LEAVES, Selection, arranged, checked_leaves, is_number, parts_of, single_argument, taken
from tape.recording.arrays import RecordedArray, stop_gradient
from tape.recording.containers import leaves_of, opened, with_leaves
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
Y1 = typing.TypeVar("Y1")


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
def vjp(f: Callable[..., tuple[Y, Y1]], primal: Any, /, *primals: Any, has_aux: Literal[True],
        ) -> tuple[Y, Callable[[Y], tuple[Any, ...]], Y1]: ...
@typing.overload
def vjp(f: Jitted, *primals: Any, has_aux: bool = False) -> tuple[Any, ...]: ...
def vjp(f, *primals, has_aux=False):
    """Evaluate `f` and return the function that pulls adjoints of the result back to the arguments.

    Parameters
    ----------
    f : callable
        NumPy code.
    *primals : arrays, floats, or nested containers of them
        The arguments; all are differentiated.
    has_aux : bool
        As for `tape.value_and_grad`.

    Returns
    -------
    value
        ``f(*primals)``.
    pullback : callable
        ``pullback(seed)``: `seed` has the structure and shapes of the value; returns a tuple with the adjoint of each primal.
        It may be called any number of times, from several threads.
    aux
        Third, with `has_aux`.

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
        return jitted.jitted_vjp(f, primals, has_aux)
    primals = opened(primals)
    if current_recorder() is not None:
        return _nested_vjp(f, primals, numbers, has_aux)
    traces = traces_of(f, has_aux=has_aux)
    value, point = linearised(traces, primals, {}, numbers, "value", lambda point: (point.value, point.kept()))
    value, *aux = value if has_aux else (value,)

    leaves, structure = leaves_of(opened(value))
    return value, PullbackFunction.of(f, _pulled, point, structure, [np.shape(leaf) for leaf in leaves], primals), *aux


def _pulled(point, structure, shapes, primals, seed):
    """The adjoints of the primals at a point, in their places, from those of the results."""
    seeds = point.trace.of_outputs(checked_leaves(opened(seed), structure, shapes))
    numbers = tuple(range(len(primals)))
    return arranged(point.pull(seeds), primals, numbers, numbers)


def _seeds(seed, value) -> list:
    """Leaves of a seed, checked against those of the value."""
    wanted, structure = leaves_of(opened(value))
    return checked_leaves(opened(seed), structure, [np.shape(leaf) for leaf in wanted])


def _nested_vjp(f, primals, numbers, has_aux):
    stretch, results, structure, aux = recorded_call(f, primals, {}, wanted_leaves(primals, {}, numbers), has_aux)
    value = with_leaves(structure, results)

    def pullback(seed):
        pairs = [(x.view, s) for x, s in zip(results, _seeds(seed, value), strict=True) if isinstance(x, RecordedArray)]
        gradients = pull_back(stretch, [view for view, _ in pairs], [seed for _, seed in pairs])
        return arranged(gradients, primals, numbers, numbers)

    return (value, pullback, aux) if has_aux else (value, pullback)


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
def jvp(f: Callable[..., tuple[Y, Y1]], primals: list[Any] | tuple[Any, ...], tangents: list[Any] | tuple[Any, ...], *,
        has_aux: Literal[True]) -> tuple[Y, Y, Y1]: ...
@typing.overload
def jvp(f: Jitted, primals: list[Any] | tuple[Any, ...], tangents: list[Any] | tuple[Any, ...], has_aux: bool = False,
        ) -> tuple[Any, ...]: ...
def jvp(f, primals, tangents, has_aux=False):
    """Evaluate `f` and its derivative along a direction, in forward mode: one sweep up, no adjoints.

    Parameters
    ----------
    f : callable
        NumPy code.
    primals : tuple
        The arguments.
    tangents : tuple
        Their tangents, of the same structure and shapes.
    has_aux : bool
        As for `tape.value_and_grad`.

    Returns
    -------
    value, tangent
        ``f(*primals)`` and its derivative along `tangents`, of the same structure and shapes; with `has_aux` the aux third.

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
    if jitted.is_jitted(f):
        _tangent_leaves(primals, tangents)
        return jitted.jitted_jvp(f, primals, tangents, has_aux)
    primals = opened(primals)
    leaves = _tangent_leaves(primals, tangents)
    numbers = tuple(range(len(primals)))
    if current_recorder() is not None:
        wanted = wanted_leaves(primals, {}, numbers)
        stretch, results, structure, aux = recorded_call(f, primals, {}, wanted, has_aux)
        out = _pushed(stretch, results, leaves)
        return with_leaves(structure, results), with_leaves(structure, out), *((aux,) if has_aux else ())

    def ask(point):
        pushed = point.push(leaves)
        return point.value, point.trace.assembled(pushed, tangents=True)

    value, tangent = linearised(traces_of(f, has_aux=has_aux), primals, {}, numbers, "jvp", ask)
    return (value[0], tangent[0], value[1]) if has_aux else (value, tangent)


def linearize(f: Callable[..., Any], *primals: Any, has_aux: bool = False) -> tuple[Any, ...]:
    """Evaluate `f` and return the linear map that its derivative is there, for many directions.

    Parameters
    ----------
    f : callable
        NumPy code.
    *primals : arrays, floats, or nested containers of them
        The arguments; all are differentiated.
    has_aux : bool
        As for `tape.value_and_grad`.

    Returns
    -------
    value
        ``f(*primals)``.
    push : callable
        ``push(*tangents)``: the derivative along tangents of the structure and shapes of the primals, in the structure of the
        value. It may be called any number of times, from several threads, and does not call `f` again (jitted functions it
        does, as they are not recorded).
    aux
        Third, with `has_aux`.

    Raises
    ------
    NotDifferentiable
        As `tape.vjp`.
    ValueError
        From `push`, for tangents whose structure or shapes differ from the primals'.

    Examples
    --------
    >>> import numpy as np, tape
    >>> value, push = tape.linearize(lambda x: x**2, np.array([1.0, 3.0]))
    >>> push(np.array([1.0, 0.0])), push(np.array([0.0, 1.0]))
    (array([2., 0.]), array([0., 6.]))
    """
    if not primals:
        raise NotDifferentiable("tape.linearize: expected at least one primal after the function")
    numbers = tuple(range(len(primals)))
    if jitted.is_jitted(f):
        value, *aux = jitted.jitted_value(f, primals, has_aux)
        kept = jitted.copied_arguments(primals)

        def push(*tangents):
            _tangent_leaves(kept, tangents)
            return jitted.jitted_jvp(f, kept, tangents, has_aux)[1]

        return value, push, *aux
    primals = opened(primals)
    if current_recorder() is not None:
        wanted = wanted_leaves(primals, {}, numbers)
        stretch, results, structure, aux = recorded_call(f, primals, {}, wanted, has_aux)

        def push(*tangents):
            return with_leaves(structure, _pushed(stretch, results, _tangent_leaves(primals, tangents)))

        return with_leaves(structure, results), push, *((aux,) if has_aux else ())
    traces = traces_of(f, has_aux=has_aux)
    value, point = linearised(traces, primals, {}, numbers, "value", lambda point: (point.value, point.kept()))
    value, *aux = value if has_aux else (value,)

    def push(*tangents):
        tangent = point.trace.assembled(point.push(_tangent_leaves(primals, tangents)), tangents=True)
        return tangent[0] if has_aux else tangent

    return value, push, *aux


def _pushed(stretch, results, leaves):
    """Tangents of the results of a stretch, zeros for those that do not depend on it."""
    recorded = [x for x in results if isinstance(x, RecordedArray)]
    pushed = iter(push_forward(stretch, [x.view for x in recorded], leaves))
    return [next(pushed) if isinstance(x, RecordedArray) else np.zeros(np.shape(x)) if is_number(x) else x for x in results]


def _tangent_leaves(primals, tangents):
    """Leaves of tangents that belong to differentiated leaves of the primals, checked against all of these."""
    if (len(primals) == len(tangents) and all(type(x) in LEAVES for x in (*primals, *tangents))
            and all(np.shape(x) == np.shape(t) for x, t in zip(primals, tangents, strict=True))):
        return list(tangents)  # the commonest case
    leaves, structure, wanted = parts_of(primals)
    shapes = [np.shape(leaf) if w else None for leaf, w in zip(leaves, wanted, strict=True)]
    tangents = checked_leaves(opened(tangents), structure, shapes, "the tangents", "the primals", "leaf")
    return [tangent for tangent, w in zip(tangents, wanted, strict=True) if w]


@typing.overload
def hvp(f: Callable[[X], Scalar], argnums: Literal[0] = 0, replay: bool = True) -> Callable[[X, X], X]: ...
@typing.overload
def hvp(f: Callable[P, Scalar], argnums: int | str = 0, replay: bool = True) -> Callable[..., Any]: ...
@typing.overload
def hvp(f: Callable[P, tuple[Scalar, Any]], argnums: int | str = 0, replay: bool = True, *, has_aux: Literal[True],
        ) -> Callable[..., Any]: ...
@typing.overload
def hvp(f: Jitted, argnums: int | str = 0, replay: bool = True, has_aux: bool = False) -> Callable[..., Any]: ...
def hvp(f, argnums=0, replay=True, has_aux=False):
    """Make the function that multiplies the Hessian of a scalar function with a vector, without forming it.

    Tangent over reverse: one sweep up and one down, at a few times the cost of a gradient.

    Parameters
    ----------
    f : callable
        NumPy code with one scalar result.
    argnums : int or str
        Which argument to differentiate with respect to, by its position or name.
    replay, has_aux : bool
        As for `tape.value_and_grad`.

    Returns
    -------
    callable
        ``(*args, v)``, where `args` are those of `f` and `v` has the structure and shapes of the differentiated one; returns
        ``H v``, with `has_aux` ``(H v, aux)``. `v` is a constant even when it was computed from an argument.

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
    single_argument(argnums, "tape.hvp")
    if jitted.is_jitted(f):
        return jitted.jitted_hvp(f, argnums, has_aux)
    of = made_function("hvp", f, signature=_with_vector, argnums=argnums, replay=replay, has_aux=has_aux)
    return of(HessianProduct(f, argnums, replay, has_aux))


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

    def __init__(self, f, argnums, replay=True, has_aux=False):
        self._function, self._selection, self._has_aux = f, Selection(f, argnums), has_aux
        self._traces = traces_of(f, replay, has_aux)

    def __call__(self, *args, **kwargs):
        *args, v = args or ((),)
        if not args and not kwargs:
            raise NotDifferentiable("tape.hvp: expected the arguments of the function and a vector, as in tape.hvp(f)(x, v)")
        args, kwargs, (number,) = self._selection.of(tuple(args), kwargs)
        leaves = _tangent_leaves((taken(args, kwargs, number),), (v,))
        if current_recorder() is not None:
            return self._nested(args, kwargs, number, v)
        argnums = self._selection.argnums
        if self._has_aux:
            products, aux = linearised(self._traces, args, kwargs, (number,), "value",
                                       lambda point: (point.multiply(leaves), point.value[1]))
            return arranged(products, args, (number,), argnums, kwargs), aux
        products = linearised(self._traces, args, kwargs, (number,), "hvp", lambda point: point.multiply(leaves))
        return arranged(products, args, (number,), argnums, kwargs)

    def _nested(self, args, kwargs, number, v):
        v = stop_gradient(v)
        gradient = grad(self._function, number, has_aux=self._has_aux)

        def of_one(x):
            if isinstance(number, str):
                return gradient(*args, **{**kwargs, number: x})
            return gradient(*args[:number], x, *args[number + 1 :], **kwargs)

        _, *product = jvp(of_one, (taken(args, kwargs, number),), (v,), has_aux=self._has_aux)
        return tuple(product) if self._has_aux else product[0]

    def at(self, args, kwargs, numbers, ask):
        """Linearise the function once for many products, which are not looked at one by one; returns what `ask` does."""
        return linearised(self._traces, args, kwargs, numbers, "value", ask, checked=False)


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
