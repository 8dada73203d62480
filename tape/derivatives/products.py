"""Products with Jacobians and Hessians: pulling adjoints back, pushing tangents forward, tangent over reverse."""

from __future__ import annotations

import contextlib
import functools
import time

import numpy as np
from numba.core import types
from numba.extending import overload

from compiled.active.preparation import original_of
from compiled.active.pullbacks import MakePullback, PushTangents
from compiled.sweeps.engine import ENGINE
from tape.derivatives.gradients import grad
from tape.derivatives.nested import recorded_call, wanted_leaves
from tape.errors import NotDifferentiable
from tape.jitted.derivatives import is_jitted, jitted_hvp, jitted_jvp, jitted_vjp
from tape.recording.arguments import arranged, check_argument_numbers, leaves_of, like_argument, single_argument, with_leaves
from tape.recording.arrays import RecordedArray, stop_gradient
from tape.recording.recorder import current_recorder
from tape.recording.traces import Trace, Workspace, traces_of
from tape.reports.strictness import verify
from tape.running.tiers import lists_of, run, tier_of
from tape.transforms.differentiate import pull_back, push_forward


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
    if is_jitted(f):
        return jitted_vjp(f, primals)
    if current_recorder() is not None:
        return _nested_vjp(f, primals, numbers)
    traces = traces_of(f)
    trace, workspace, results = run(traces, primals, {}, numbers, "value")
    if results is not None:
        return _vjp_with_loops(traces, trace, results, primals, numbers)
    value = trace.result(workspace)
    saved = workspace.values.copy()
    trace.idle.append(workspace)
    leaves = _copied(primals)

    def pullback(seed):
        seeds = _dynamic(_seeds(seed, value), trace)
        work = trace.workspace()
        work.values[...] = saved
        for which, s in enumerate(seeds):
            work.output_adjoints[which][...] += s
        gradients = trace.sweep_back(work)
        trace.idle.append(work)
        verify("vjp", trace, [leaves[k] for k in trace.dynamic], seeds, gradients)
        return arranged(gradients, primals, numbers, numbers)

    return value, pullback


def _vjp_with_loops(traces, trace, results, primals, numbers):
    value = trace.assembled(results)
    leaves = _copied(primals)

    def pullback(seed):
        seeds = _dynamic(_seeds(seed, value), trace)
        adjoints = lists_of(trace).run("vjp", leaves, seeds)[len(trace.program.outputs) :]
        return arranged(trace.like_arguments(adjoints), primals, numbers, numbers)

    return value, pullback


def _copied(primals) -> list:
    """Leaves of arguments that nobody changes."""
    return [np.copy(leaf) if isinstance(leaf, np.ndarray) else leaf for leaf in leaves_of((primals, {}))[0]]


def _dynamic(leaves, trace) -> list:
    """Those leaves of something like the result that belong to outputs of the list, in the order of the outputs."""
    return [leaf for leaf, which in zip(leaves, trace.results, strict=True) if isinstance(which, int)]


def _seeds(seed, value) -> list:
    """Leaves of a seed, checked against those of the value."""
    wanted, structure = leaves_of(value)
    leaves, got = leaves_of(seed)
    if got != structure:
        raise ValueError(f"the seed: expected the structure of the result, {structure}, got {got}")
    for k, (s, v) in enumerate(zip(leaves, wanted, strict=True)):
        if np.shape(s) != np.shape(v):
            raise ValueError(f"the seed: expected shape {np.shape(v)} for result {k}, got {np.shape(s)}")
    return leaves


def _nested_vjp(f, primals, numbers):
    stretch, results, structure = recorded_call(f, primals, {}, wanted_leaves(primals, {}, numbers))
    value = with_leaves(structure, results)

    def pullback(seed):
        pairs = [(x.view, s) for x, s in zip(results, _seeds(seed, value), strict=True) if isinstance(x, RecordedArray)]
        gradients = pull_back(stretch, [view for view, _ in pairs], [seed for _, seed in pairs])
        return arranged(gradients, primals, numbers, numbers)

    return value, pullback


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
    if is_jitted(f):
        return jitted_jvp(f, primals, tangents)
    numbers = tuple(range(len(primals)))
    if current_recorder() is not None:
        stretch, results, structure = recorded_call(f, primals, {}, wanted_leaves(primals, {}, numbers))
        recorded = [x for x in results if isinstance(x, RecordedArray)]
        pushed = iter(push_forward(stretch, [x.view for x in recorded], leaves))
        out = [next(pushed) if isinstance(x, RecordedArray) else np.zeros(np.shape(x)) for x in results]
        return with_leaves(structure, results), with_leaves(structure, out)
    begin = time.perf_counter()
    trace, workspace, results = run(traces_of(f), primals, {}, numbers, "jvp", leaves)
    if results is not None:
        count = len(trace.program.outputs)
        return trace.assembled(results[:count]), trace.assembled(results[count:], tangents=True)
    trace.load(workspace, leaves_of((primals, {}))[0])
    workspace.with_tangents()
    trace.set_tangents(workspace, leaves)
    trace.tangent(workspace)
    value = trace.result(workspace)
    out = []
    for which, dtype in zip(trace.results, trace.result_dtypes, strict=True):
        if isinstance(which, int):
            kind = dtype if dtype.kind == "f" else workspace.values.dtype
            array = trace.program.outputs[which].of(workspace.tangents).astype(kind, order="C", copy=True)
            out.append(array if array.ndim else array[()])
        else:
            out.append(np.zeros(np.shape(which[0]))[()])
    trace.idle.append(workspace)
    tier_of(trace, "jvp").spent(time.perf_counter() - begin)
    verify("jvp", trace, _inputs(trace, primals, {}), leaves, out, leaves_of(value)[0])
    return value, with_leaves(trace.structure, out)


def _inputs(trace, args, kwargs) -> list:
    """The arguments' leaves that are inputs of the list."""
    leaves = leaves_of((args, kwargs))[0]
    return [leaves[k] for k in trace.dynamic]


def _tangent_leaves(primals, tangents):
    leaves, structure = leaves_of(tangents)
    wanted, primal_structure = leaves_of(primals)
    if structure != primal_structure:
        raise ValueError(f"the tangents: expected the structure of the primals, {primal_structure}, got {structure}")
    for k, (t, p) in enumerate(zip(leaves, wanted, strict=True)):
        if np.shape(t) != np.shape(p):
            raise ValueError(f"the tangents: expected shape {np.shape(p)} for leaf {k}, got {np.shape(t)}")
    return leaves


@overload(jvp)
def _jvp_in_nopython(f, primals, tangents):
    if not isinstance(f, types.Dispatcher):
        return None
    push = PushTangents(original_of(f.dispatcher))
    return lambda f, primals, tangents: push(primals, tangents)


@overload(vjp)
def _vjp_in_nopython(f, *primals):
    if not isinstance(f, types.Dispatcher):
        return None
    make = MakePullback(original_of(f.dispatcher))

    def value_and_pullback(f, *primals):
        return make(primals)

    return value_and_pullback


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
    if is_jitted(f):
        return jitted_hvp(f, number)
    return _HessianProduct(f, number, replay)


class _HessianProduct:
    """What `tape.hvp` returns."""

    def __init__(self, f, number, replay=True):
        functools.update_wrapper(self, f, updated=())
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
        begin = time.perf_counter()
        trace, workspace, products = run(self._traces, args, kwargs, (self._number,), "hvp", leaves)
        if products is None:
            products = _PreparedProduct(trace, workspace)(leaves)
            trace.idle.append(workspace)
            tier_of(trace, "hvp").spent(time.perf_counter() - begin)
            verify("hvp", trace, _inputs(trace, args, kwargs), leaves, products)
        else:
            trace.check_scalar("tape.hvp")
            products = trace.like_arguments(products)
        return arranged(products, args, (self._number,), self._number)

    def _nested(self, args, kwargs, v):
        v = stop_gradient(v)
        gradient = grad(self._function, self._number)

        def of_one(x):
            return gradient(*args[: self._number], x, *args[self._number + 1 :], **kwargs)

        return jvp(of_one, (args[self._number],), (v,))[1]

    @contextlib.contextmanager
    def prepared(self, args, kwargs):
        """Run the function forward once; gives its trace, and what multiplies its Hessian with leaves of vectors."""
        trace, workspace, values = run(self._traces, args, kwargs, (self._number,), "value")
        if values is None:
            yield trace, _PreparedProduct(trace, workspace)
            trace.idle.append(workspace)
            return
        trace.check_scalar("tape.hvp")
        leaves = leaves_of((args, kwargs))[0]
        yield trace, lambda vectors: trace.like_arguments(lists_of(trace).run("hvp", leaves, vectors, checked=False))


class _PreparedProduct:
    """The Hessian at one point, as a product with leaves of a vector."""

    def __init__(self, trace: Trace, workspace: Workspace):
        self.trace, self.workspace = trace, workspace
        trace.seed_scalar(workspace, "tape.hvp")
        trace.clear(workspace)
        workspace.with_adjoint_tangents()
        if trace.program.overwrites:
            trace.rewind(workspace)

    def __call__(self, leaves):
        trace, work = self.trace, self.workspace
        program = trace.program
        trace.set_tangents(work, leaves)
        trace.tangent(work)
        trace.seed_scalar(work, "tape.hvp")
        ENGINE.tangent_reverse(program.code, program.geometry, work.values, work.tangents, work.adjoints, work.adjoint_tangents)
        results = [like_argument(program.inputs[k].of(work.adjoint_tangents), trace.leaves[trace.dynamic[k]])
                   for k in trace.wrt]
        trace.clear(work)
        for view in (*program.inputs, *program.outputs):
            view.of(work.adjoint_tangents)[...] = 0.0
        return results


def hessian_operator(f, x):
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
    product_of = hvp(f)

    def matvec(v):
        return product_of(x, np.reshape(v, x.shape))

    return LinearOperator((x.size, x.size), matvec=matvec, rmatvec=matvec, dtype=x.dtype)
