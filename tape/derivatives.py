"""Derivatives of functions: what most people import this project for.

At the top level a derivative runs the sweeps over the function's list. Inside a function that is being recorded it writes
itself onto that list, symbol to symbol (`transforms/differentiate.py`), so derivatives nest to any order.
"""

from __future__ import annotations

import functools
import math

import numpy as np

from compiled.engine import ENGINE
from tape.arguments import describe, leaves_of, like_argument, result_leaves, with_leaves
from tape.errors import NotDifferentiable
from tape.tracing import RecordedArray, current_recorder, plain
from tape.traces import Trace, Workspace, differentiated_leaves, require_scalar, traces_of
from tape.transforms.differentiate import Stretch, pull_back, push_forward

# ---------------------------------------------------------------------- gradients


def value_and_grad(f, argnums=0):
    """Make the function that computes a scalar function and its gradient.

    Parameters
    ----------
    f : callable
        NumPy code of floats, arrays and nested containers of them, with one scalar result.
    argnums : int or tuple of int
        Which positional arguments to differentiate with respect to.

    Returns
    -------
    callable
        With the arguments of `f`; returns ``(value, gradient)``. The gradient has the structure, shapes and dtypes of the
        argument (a tuple of gradients when `argnums` is a tuple), as new C-contiguous arrays.

    Raises
    ------
    NotDifferentiable
        When called: if the result is not one float of shape (), an argument is not made of floats, or `f` uses a function
        without a rule.

    Examples
    --------
    >>> import numpy as np, tape
    >>> value, gradient = tape.value_and_grad(lambda x: np.sum(x**2))(np.array([1.0, 2.0]))
    >>> float(value), gradient
    (5.0, array([2., 4.]))
    """
    numbers, traces = _argnums(argnums), traces_of(f)

    @functools.wraps(f, updated=())
    def value_and_gradient(*args, **kwargs):
        _check_argnums(numbers, args)
        if current_recorder() is not None:
            return _nested_value_and_grad(f, numbers, argnums, args, kwargs)
        trace, workspace = traces.run(args, kwargs, numbers)
        trace.seed_scalar(workspace, "tape.grad")
        value = trace.result(workspace)
        gradients = trace.sweep_back(workspace)
        trace.idle.append(workspace)
        return value, _arranged(gradients, args, numbers, argnums)

    return value_and_gradient


def grad(f, argnums=0):
    """Make the function that computes the gradient of a scalar function.

    Parameters
    ----------
    f, argnums
        As for `tape.value_and_grad`.

    Returns
    -------
    callable
        With the arguments of `f`; returns the gradient, in the structure, shapes and dtypes of the argument.

    Raises
    ------
    NotDifferentiable
        As `tape.value_and_grad`; of a function that is not scalar use `tape.jacobian` or `tape.vjp`.

    Examples
    --------
    >>> import numpy as np, tape
    >>> tape.grad(lambda x, y: x * np.sin(y), argnums=(0, 1))(2.0, 0.0)
    (np.float64(0.0), np.float64(2.0))
    >>> float(tape.grad(tape.grad(lambda x: x**3))(2.0))
    12.0
    """
    both = value_and_grad(f, argnums)

    @functools.wraps(f, updated=())
    def gradient(*args, **kwargs):
        return both(*args, **kwargs)[1]

    return gradient


def _argnums(argnums) -> tuple[int, ...]:
    numbers = argnums if isinstance(argnums, tuple) else (argnums,)
    if not numbers or not all(isinstance(n, (int, np.integer)) and n >= 0 for n in numbers):
        raise NotDifferentiable(f"argnums: expected a number of a positional argument from 0, or a tuple of them, got {argnums!r}")
    return numbers


def _check_argnums(numbers, args):
    if max(numbers) >= len(args):
        raise NotDifferentiable(f"argnums: expected positional argument {max(numbers)}, got {len(args)} positional arguments")


_LEAVES = (np.ndarray, float, np.float64, RecordedArray)
"""The commonest types of arguments that are no containers."""


def _arranged(leaves, args, numbers, argnums):
    """Put the leaves of derivatives into the structure of the differentiated arguments."""
    if all(args[number].__class__ in _LEAVES for number in numbers) and (len(numbers) == 1 or numbers == tuple(sorted(set(numbers)))):
        return tuple(leaves) if argnums.__class__ is tuple else leaves[0]
    leaves = iter(leaves)
    trees = {}
    for number in sorted(set(numbers)):
        own, structure = leaves_of(args[number])
        trees[number] = with_leaves(structure, [next(leaves) for _ in own])
    return tuple(trees[n] for n in numbers) if isinstance(argnums, tuple) else trees[numbers[0]]


# ---------------------------------------------------------------------- derivatives inside a recording


def _recorded_call(f, args, kwargs, wanted):
    """Call `f` inside the current recording on fresh copies of the leaves in `wanted`.

    Returns the stretch of list that the call wrote, its results' leaves and their structure.
    """
    recorder = current_recorder()
    leaves, structure = leaves_of((args, kwargs))
    fresh = []
    for k in sorted(wanted):
        leaf = plain(leaves[k])
        view = leaf.view if isinstance(leaf, RecordedArray) else recorder.constant(np.asarray(leaf))
        fresh.append(recorder.copied(view))
        dtype = leaf.dtype if isinstance(leaf, (RecordedArray, np.ndarray, np.generic)) else recorder.dtype
        leaves[k] = RecordedArray(recorder, fresh[-1], dtype if dtype.kind == "f" else recorder.dtype)
    args, kwargs = with_leaves(structure, leaves)
    start = recorder.memory.length
    results, result_structure = result_leaves(f(*args, **kwargs))
    return Stretch(recorder, start, recorder.memory.length, fresh), results, result_structure


def _wanted(args, kwargs, numbers):
    leaves, _ = leaves_of((args, kwargs))
    described = [describe(np.zeros((), x.dtype) if isinstance(x, RecordedArray) else x) for x in leaves]
    return differentiated_leaves(args, numbers, leaves, described)


def _nested_value_and_grad(f, numbers, argnums, args, kwargs):
    stretch, results, structure = _recorded_call(f, args, kwargs, _wanted(args, kwargs, numbers))
    require_scalar([x.dtype if hasattr(x, "dtype") else np.asarray(x).dtype for x in results],
                   [np.shape(x) for x in results], "tape.grad")
    outputs = [x.view for x in results if isinstance(x, RecordedArray)]
    gradients = pull_back(stretch, outputs, [1.0] * len(outputs))
    return with_leaves(structure, results), _arranged(gradients, args, numbers, argnums)


def stop_gradient(x):
    """Return `x` as a constant: no derivative flows through it.

    Parameters
    ----------
    x : array, float, or nested containers of them
        Plain or recorded.

    Returns
    -------
    same as x
        The same values.

    Examples
    --------
    >>> import tape
    >>> float(tape.grad(lambda x: x * tape.stop_gradient(x))(3.0))
    3.0
    """
    if isinstance(x, RecordedArray):
        recorder = x.recorder
        out = recorder.new_slot(x.shape)
        recorder.elementwise("stop", [x.view], x.shape, out)
        return RecordedArray(recorder, out, x.dtype)
    if isinstance(x, (float, int, np.ndarray, np.generic)):
        return x
    leaves, structure = leaves_of(x)
    if leaves == [x]:
        return x
    return with_leaves(structure, [stop_gradient(leaf) for leaf in leaves])


# ---------------------------------------------------------------------- vector-Jacobian and Jacobian-vector products


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
    if current_recorder() is not None:
        return _nested_vjp(f, primals, numbers)
    traces = traces_of(f)
    trace, workspace = traces.run(primals, {}, numbers)
    value = trace.result(workspace)
    saved = workspace.values.copy()
    trace.idle.append(workspace)

    def pullback(seed):
        work = trace.workspace()
        work.values[...] = saved
        for which, s in zip(trace.results, _seeds(seed, value), strict=True):
            if isinstance(which, int):
                work.output_adjoints[which][...] += s
        gradients = trace.sweep_back(work)
        trace.idle.append(work)
        return _arranged(gradients, primals, numbers, numbers)

    return value, pullback


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
    stretch, results, structure = _recorded_call(f, primals, {}, _wanted(primals, {}, numbers))
    value = with_leaves(structure, results)

    def pullback(seed):
        pairs = [(x.view, s) for x, s in zip(results, _seeds(seed, value), strict=True) if isinstance(x, RecordedArray)]
        gradients = pull_back(stretch, [view for view, _ in pairs], [seed for _, seed in pairs])
        return _arranged(gradients, primals, numbers, numbers)

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
    numbers = tuple(range(len(primals)))
    if current_recorder() is not None:
        stretch, results, structure = _recorded_call(f, primals, {}, _wanted(primals, {}, numbers))
        recorded = [x for x in results if isinstance(x, RecordedArray)]
        pushed = iter(push_forward(stretch, [x.view for x in recorded], leaves))
        out = [next(pushed) if isinstance(x, RecordedArray) else np.zeros(np.shape(x)) for x in results]
        return with_leaves(structure, results), with_leaves(structure, out)
    trace, workspace = traces_of(f).run(primals, {}, numbers)
    trace.load(workspace, leaves_of((primals, {}))[0])
    workspace.with_tangents()
    _set_tangents(trace, workspace, leaves)
    _sweep_tangents(trace, workspace)
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
    return value, with_leaves(trace.structure, out)


def _tangent_leaves(primals, tangents):
    leaves, structure = leaves_of(tangents)
    wanted, primal_structure = leaves_of(primals)
    if structure != primal_structure:
        raise ValueError(f"the tangents: expected the structure of the primals, {primal_structure}, got {structure}")
    for k, (t, p) in enumerate(zip(leaves, wanted, strict=True)):
        if np.shape(t) != np.shape(p):
            raise ValueError(f"the tangents: expected shape {np.shape(p)} for leaf {k}, got {np.shape(t)}")
    return leaves


def _set_tangents(trace, workspace, leaves) -> None:
    """Fill the inputs' tangents; `leaves` are those of the differentiated inputs."""
    for view in trace.program.inputs:
        view.of(workspace.tangents)[...] = 0.0
    for k, tangent in zip(trace.wrt, leaves, strict=True):
        trace.program.inputs[k].of(workspace.tangents)[...] = tangent


def _sweep_tangents(trace, workspace) -> None:
    ENGINE.tangent(trace.program.code, trace.program.geometry, workspace.values, workspace.tangents)


# ---------------------------------------------------------------------- Jacobians and Hessians


def jacobian(f, argnums=0, mode=None):
    """Make the function that computes the matrix of all partial derivatives.

    Parameters
    ----------
    f : callable
        NumPy code; the result may have any shape and structure.
    argnums : int or tuple of int
        Which positional arguments to differentiate with respect to.
    mode : None, "forward" or "reverse"
        One sweep a column, or one sweep a row; None takes the fewer sweeps.

    Returns
    -------
    callable
        With the arguments of `f`; returns arrays of shape ``out.shape + in.shape``, nested as the result is and, inside
        that, as the argument is.

    Raises
    ------
    NotDifferentiable
        As `tape.vjp`.

    Examples
    --------
    >>> import numpy as np, tape
    >>> tape.jacobian(lambda x: np.stack([x[0] * x[1], x[0] ** 2]))(np.array([2.0, 3.0]))
    array([[3., 2.],
           [4., 0.]])
    """
    if mode == "sparse":
        raise NotDifferentiable("tape.jacobian with mode='sparse': not yet supported; use mode='forward' or 'reverse'")
    if mode not in (None, "forward", "reverse"):
        raise NotDifferentiable(f"tape.jacobian: expected mode None, 'forward' or 'reverse', got {mode!r}")
    numbers, traces = _argnums(argnums), traces_of(f)

    @functools.wraps(f, updated=())
    def jacobian_of(*args, **kwargs):
        _check_argnums(numbers, args)
        if current_recorder() is not None:
            blocks, structure = _nested_jacobian(f, numbers, args, kwargs)
        else:
            trace, workspace = traces.run(args, kwargs, numbers)
            blocks, structure = _jacobian_blocks(trace, workspace, mode), trace.structure
            trace.idle.append(workspace)
        return with_leaves(structure, [_arranged(row, args, numbers, argnums) for row in blocks])

    return jacobian_of


def _jacobian_blocks(trace, workspace, mode):
    """For each result leaf a list with, for each differentiated input, the block of shape out.shape + in.shape."""
    program = trace.program
    inputs = [program.inputs[k] for k in trace.wrt]
    shapes = [trace.result_shape(k) for k in range(len(trace.results))]
    dtypes = [like_argument(np.zeros(()), trace.leaves[trace.dynamic[k]]).dtype for k in trace.wrt]
    blocks = [[np.zeros(shape + view.shape, dtype) for view, dtype in zip(inputs, dtypes, strict=True)] for shape in shapes]
    rows = sum(math.prod(s) for s, which in zip(shapes, trace.results, strict=True) if isinstance(which, int))
    columns = sum(view.size for view in inputs)
    if mode == "forward" or mode is None and columns < rows:
        _fill_columns(trace, workspace, inputs, blocks)
    else:
        _fill_rows(trace, workspace, inputs, blocks)
    return blocks


def _fill_rows(trace, workspace, inputs, blocks):
    program = trace.program
    saved = workspace.values.copy() if program.overwrites else None
    for which, row in zip(trace.results, blocks, strict=True):
        if not isinstance(which, int):
            continue
        output = program.outputs[which].of(workspace.adjoints)
        for index in np.ndindex(output.shape):
            if saved is not None:
                workspace.values[...] = saved
            output[index] += 1.0
            ENGINE.reverse(program.code, program.geometry, workspace.values, workspace.adjoints, False)
            for view, block in zip(inputs, row, strict=True):
                block[index] = view.of(workspace.adjoints)
            trace.clear(workspace)


def _fill_columns(trace, workspace, inputs, blocks):
    program = trace.program
    workspace.with_tangents()
    saved = _before_overwriting(trace, workspace) if program.overwrites else None
    for view in program.inputs:
        view.of(workspace.tangents)[...] = 0.0
    for number, view in enumerate(inputs):
        tangent = view.of(workspace.tangents)
        for index in np.ndindex(view.shape):
            if saved is not None:
                workspace.values[...] = saved
                for other in program.inputs:
                    other.of(workspace.tangents)[...] = 0.0
            tangent[index] = 1.0
            _sweep_tangents(trace, workspace)
            for which, row in zip(trace.results, blocks, strict=True):
                if isinstance(which, int):
                    row[number][(..., *index)] = program.outputs[which].of(workspace.tangents)
            tangent[index] = 0.0


def _before_overwriting(trace, workspace):
    """The value buffer with every assignment undone, as a reverse sweep leaves it."""
    ENGINE.reverse(trace.program.code, trace.program.geometry, workspace.values, workspace.adjoints, False)
    return workspace.values.copy()


def _nested_jacobian(f, numbers, args, kwargs):
    stretch, results, structure = _recorded_call(f, args, kwargs, _wanted(args, kwargs, numbers))
    blocks = []
    for x in results:
        if not isinstance(x, RecordedArray):
            blocks.append([np.zeros(np.shape(x) + view.shape) for view in stretch.inputs])
            continue
        rows = []
        for k in range(x.size):
            seed = np.zeros(x.size)
            seed[k] = 1.0
            rows.append(pull_back(stretch, [x.view], [seed.reshape(x.shape)]))
        columns = zip(*rows, strict=True) if rows else [[] for _ in stretch.inputs]
        blocks.append([np.reshape(np.stack(column), x.shape + view.shape) if column else np.zeros(x.shape + view.shape)
                       for column, view in zip(columns, stretch.inputs, strict=True)])
    return blocks, structure


def hessian(f, argnums=0, mode=None):
    """Make the function that computes the matrix of second derivatives of a scalar function.

    Parameters
    ----------
    f : callable
        NumPy code with one scalar result.
    argnums : int
        Which positional argument to differentiate with respect to: one array or number.
    mode : None
        Dense, one tangent-over-reverse sweep a column.

    Returns
    -------
    callable
        With the arguments of `f`; returns an array of shape ``in.shape + in.shape``.

    Raises
    ------
    NotDifferentiable
        As `tape.grad`.

    Examples
    --------
    >>> import numpy as np, tape
    >>> tape.hessian(lambda x: x[0] ** 2 * x[1])(np.array([1.0, 2.0]))
    array([[4., 2.],
           [2., 0.]])
    """
    if mode is not None:
        raise NotDifferentiable(f"tape.hessian: mode={mode!r} is not yet supported; use mode=None")
    number = _single(argnums, "tape.hessian")
    product_of = hvp(f, argnums)

    @functools.wraps(f, updated=())
    def hessian_of(*args, **kwargs):
        _check_argnums((number,), args)
        x = args[number]
        if isinstance(x, (tuple, list, dict)):
            raise NotDifferentiable(f"tape.hessian: expected an array or a number as argument {number}, got "
                                    f"{type(x).__name__}; put its parts into one array, or use tape.hvp")
        if current_recorder() is not None:
            return jacobian(grad(f, number), number)(*args, **kwargs)
        shape = np.shape(x)
        run = product_of.prepare(args, kwargs)
        result = np.zeros(shape + shape, run.dtype)
        for index in np.ndindex(shape):
            direction = np.zeros(shape)
            direction[index] = 1.0
            result[(..., *index)] = run([direction])[0]
        run.close()
        return result if shape else result[()]

    return hessian_of


def _single(argnums, what):
    if isinstance(argnums, tuple):
        raise NotDifferentiable(f"{what}: expected the number of one argument, got {argnums!r}")
    return _argnums(argnums)[0]


def hvp(f, argnums=0):
    """Make the function that multiplies the Hessian of a scalar function with a vector, without forming it.

    Tangent over reverse: one sweep up and one down, at a few times the cost of a gradient.

    Parameters
    ----------
    f : callable
        NumPy code with one scalar result.
    argnums : int
        Which positional argument to differentiate with respect to.

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
    number = _single(argnums, "tape.hvp")
    return _HessianProduct(f, number)


class _HessianProduct:
    """What `tape.hvp` returns."""

    def __init__(self, f, number):
        functools.update_wrapper(self, f, updated=())
        self._function, self._number, self._traces = f, number, traces_of(f)

    def __call__(self, *args, **kwargs):
        *args, v = args
        args = tuple(args)
        if not args:
            raise NotDifferentiable("tape.hvp: expected the arguments of the function and a vector, as in tape.hvp(f)(x, v)")
        _check_argnums((self._number,), args)
        leaves = _tangent_leaves((args[self._number],), (v,))
        if current_recorder() is not None:
            return self._nested(args, kwargs, v)
        run = self.prepare(args, kwargs)
        products = run(leaves)
        run.close()
        return _arranged(products, args, (self._number,), self._number)

    def _nested(self, args, kwargs, v):
        v = stop_gradient(v)
        gradient = grad(self._function, self._number)

        def of_one(x):
            return gradient(*args[: self._number], x, *args[self._number + 1 :], **kwargs)

        return jvp(of_one, (args[self._number],), (v,))[1]

    def prepare(self, args, kwargs):
        """Run the function forward once, and return the callable that multiplies its Hessian with leaves of vectors."""
        trace, workspace = self._traces.run(args, kwargs, (self._number,))
        return _PreparedProduct(trace, workspace)


class _PreparedProduct:
    """The Hessian at one point, as a product with leaves of a vector; `close` hands the workspace back."""

    def __init__(self, trace: Trace, workspace: Workspace):
        self.trace, self.workspace = trace, workspace
        trace.seed_scalar(workspace, "tape.hvp")
        trace.clear(workspace)
        self.dtype = like_argument(np.zeros(()), trace.leaves[trace.dynamic[trace.wrt[0]]]).dtype
        workspace.with_adjoint_tangents()
        if trace.program.overwrites:
            _before_overwriting(trace, workspace)

    def __call__(self, leaves):
        trace, work = self.trace, self.workspace
        program = trace.program
        _set_tangents(trace, work, leaves)
        _sweep_tangents(trace, work)
        trace.seed_scalar(work, "tape.hvp")
        ENGINE.tangent_reverse(program.code, program.geometry, work.values, work.tangents, work.adjoints, work.adjoint_tangents)
        results = [like_argument(program.inputs[k].of(work.adjoint_tangents), trace.leaves[trace.dynamic[k]]) for k in trace.wrt]
        trace.clear(work)
        for view in (*program.inputs, *program.outputs):
            view.of(work.adjoint_tangents)[...] = 0.0
        return results

    def close(self) -> None:
        """Hand the workspace back."""
        self.trace.idle.append(self.workspace)


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
