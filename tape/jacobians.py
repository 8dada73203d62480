"""Matrices of derivatives: Jacobians and Hessians, a row or a column a sweep."""

from __future__ import annotations

import functools
import math

import numpy as np

from compiled.engine import ENGINE
from tape.arguments import (
    argument_numbers,
    arranged,
    check_argument_numbers,
    leaves_of,
    like_argument,
    single_argument,
    with_leaves,
)
from tape.errors import NotDifferentiable
from tape.gradients import grad
from tape.jitted import is_jitted, jitted_hessian, jitted_jacobian
from tape.nested import recorded_call, wanted_leaves
from tape.products import hvp
from tape.recorder import current_recorder
from tape.strictness import verify
from tape.tiers import run
from tape.traces import traces_of
from tape.tracing import RecordedArray
from tape.transforms.differentiate import pull_back


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
    if is_jitted(f):
        return jitted_jacobian(f, argnums, mode)
    numbers, traces = argument_numbers(argnums), traces_of(f)

    @functools.wraps(f, updated=())
    def jacobian_of(*args, **kwargs):
        check_argument_numbers(numbers, args)
        if current_recorder() is not None:
            blocks, structure = _nested_jacobian(f, numbers, args, kwargs)
        else:
            trace, workspace, values = run(traces, args, kwargs, numbers, "value")
            sweeps = _Sweeps(trace, workspace) if values is None else _Lists(trace, leaves_of((args, kwargs))[0])
            blocks, structure = _jacobian_blocks(trace, sweeps, mode), trace.structure
            if workspace is not None:
                trace.idle.append(workspace)
            leaves = leaves_of((args, kwargs))[0]
            verify("jacobian", trace, [leaves[k] for k in trace.dynamic], (), [block for row in blocks for block in row])
        return with_leaves(structure, [arranged(row, args, numbers, argnums) for row in blocks])

    return jacobian_of


def _jacobian_blocks(trace, sweeps, mode):
    """For each result leaf a list with, for each differentiated input, the block of shape out.shape + in.shape."""
    program = trace.program
    inputs = [program.inputs[k] for k in trace.wrt]
    shapes = [trace.result_shape(k) for k in range(len(trace.results))]
    dtypes = [like_argument(np.zeros(()), trace.leaves[trace.dynamic[k]]).dtype for k in trace.wrt]
    blocks = [[np.zeros(shape + view.shape, dtype) for view, dtype in zip(inputs, dtypes, strict=True)] for shape in shapes]
    rows = sum(math.prod(s) for s, which in zip(shapes, trace.results, strict=True) if isinstance(which, int))
    columns = sum(view.size for view in inputs)
    if mode == "forward" or (mode is None and columns < rows):
        for number, view in enumerate(inputs):
            for index in np.ndindex(view.shape):
                tangents = sweeps.column(number, index)
                for which, row in zip(trace.results, blocks, strict=True):
                    if isinstance(which, int):
                        row[number][(..., *index)] = tangents[which]
    else:
        for which, row in zip(trace.results, blocks, strict=True):
            for index in np.ndindex(program.outputs[which].shape) if isinstance(which, int) else ():
                for block, adjoint in zip(row, sweeps.row(which, index), strict=True):
                    block[index] = adjoint
    return blocks


class _Sweeps:
    """Rows and columns of a Jacobian by the sweeps; a row or column holds until the next is asked for."""

    def __init__(self, trace, workspace):
        self.trace, self.work, self.program = trace, workspace, trace.program
        self.inputs = [trace.program.inputs[k] for k in trace.wrt]
        self.saved = workspace.values.copy() if self.program.overwrites else None
        self.forward = False

    def row(self, which, index):
        """Adjoints of the inputs for one element of a result."""
        trace, work, program = self.trace, self.work, self.program
        if self.saved is not None:
            work.values[...] = self.saved
        program.outputs[which].of(work.adjoints)[index] += 1.0
        ENGINE.reverse(program.code, program.geometry, work.values, work.adjoints, False)
        adjoints = [view.of(work.adjoints).copy() for view in self.inputs]
        trace.clear(work)
        return adjoints

    def column(self, number, index):
        """Tangents of the results for one element of an input."""
        trace, work, program = self.trace, self.work, self.program
        if not self.forward:
            self.forward = True
            work.with_tangents()
            if self.saved is not None:
                self.saved = trace.rewind(work)
        if self.saved is not None:
            work.values[...] = self.saved
        for view in program.inputs:
            view.of(work.tangents)[...] = 0.0
        self.inputs[number].of(work.tangents)[index] = 1.0
        trace.tangent(work)
        return [view.of(work.tangents) for view in program.outputs]


class _Lists:
    """Rows and columns of the Jacobian of a list with loops, by the lists that compute them."""

    def __init__(self, trace, leaves):
        self.trace, self.leaves, self.program = trace, leaves, trace.program

    def _one(self, views, number, index):
        arrays = [np.zeros(view.shape) for view in views]
        arrays[number][index] = 1.0
        return arrays

    def row(self, which, index):
        """As of `_Sweeps`."""
        seeds = self._one(self.program.outputs, which, index)
        return self.trace.lists.run("vjp", self.leaves, seeds, checked=False)[len(seeds) :]

    def column(self, number, index):
        """As of `_Sweeps`."""
        tangents = self._one([self.program.inputs[k] for k in self.trace.wrt], number, index)
        return self.trace.lists.run("jvp", self.leaves, tangents, checked=False)[len(self.program.outputs) :]


def _nested_jacobian(f, numbers, args, kwargs):
    stretch, results, structure = recorded_call(f, args, kwargs, wanted_leaves(args, kwargs, numbers))
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
    number = single_argument(argnums, "tape.hessian")
    if is_jitted(f):
        return jitted_hessian(f, number)
    product_of = hvp(f, argnums)

    @functools.wraps(f, updated=())
    def hessian_of(*args, **kwargs):
        check_argument_numbers((number,), args)
        x = args[number]
        if isinstance(x, (tuple, list, dict)):
            raise NotDifferentiable(f"tape.hessian: expected an array or a number as argument {number}, got "
                                    f"{type(x).__name__}; put its parts into one array, or use tape.hvp")
        if current_recorder() is not None:
            return jacobian(grad(f, number), number)(*args, **kwargs)
        shape = np.shape(x)
        result = None
        with product_of.prepared(args, kwargs) as (trace, multiply):
            for index in np.ndindex(shape):
                direction = np.zeros(shape)
                direction[index] = 1.0
                column = multiply([direction])[0]
                result = np.zeros(shape + shape, column.dtype) if result is None else result
                result[(..., *index)] = column
        leaves = leaves_of((args, kwargs))[0]
        verify("hessian", trace, [leaves[k] for k in trace.dynamic], (), () if result is None else (result,))
        result = np.zeros(shape + shape) if result is None else result
        return result if shape else result[()]

    return hessian_of
