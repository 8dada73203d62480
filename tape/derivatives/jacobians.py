"""Matrices of derivatives: Jacobians and Hessians, a row or a column a sweep."""

from __future__ import annotations

import math
import typing
from collections.abc import Callable
from typing import Any, Concatenate, Literal

import numpy as np

from tape import jitted
from tape.derivatives.gradients import grad
from tape.derivatives.nested import recorded_call, wanted_leaves
from tape.derivatives.products import HessianProduct
from tape.derivatives.sparsity import SparseHessian, SparseJacobian, hessian_pattern, jacobian_pattern
from tape.errors import NotDifferentiable
from tape.recording.arguments import Selection, arranged, is_number, like_argument, single_argument, taken
from tape.recording.arrays import RecordedArray
from tape.recording.containers import leaves_of, with_leaves
from tape.recording.made import made_function
from tape.recording.recorder import current_recorder
from tape.recording.signatures import Jitted, P, Scalar, Y
from tape.recording.traces import traces_of
from tape.reports.strictness import verify
from tape.running.linearised import linearised
from tape.transforms.differentiate import pull_back


@typing.overload
def jacobian(f: Callable[Concatenate[np.ndarray[Any, Any], P], np.ndarray[Any, Any]], argnums: Literal[0] = 0,
             mode: Literal["forward", "reverse"] | None = None, replay: bool = True,
             ) -> Callable[Concatenate[np.ndarray[Any, Any], P], np.ndarray[Any, Any]]: ...
@typing.overload
def jacobian(f: Jitted, argnums: int | str | tuple[int | str, ...] = 0, mode: Literal["forward", "reverse"] | None = None,
             replay: bool = True, has_aux: bool = False) -> Callable[..., Any]: ...
@typing.overload
def jacobian(f: Callable[P, Any], argnums: int | str | tuple[int | str, ...] = 0,
             mode: Literal["forward", "reverse", "sparse"] | None = None, replay: bool = True, has_aux: bool = False,
             ) -> Callable[P, Any]: ...
def jacobian(f, argnums=0, mode=None, replay=True, has_aux=False):
    """Make the function that computes the matrix of all partial derivatives.

    Parameters
    ----------
    f : callable
        NumPy code; the result may have any shape and structure.
    argnums : int, str, or tuple of them
        As for `tape.value_and_grad`.
    mode : None, "forward", "reverse" or "sparse"
        One sweep a column, or one sweep a row; None takes the fewer sweeps. "sparse" works out on the list which elements can
        be other than zero, once, and computes columns (or rows) together that have none in common.
    replay, has_aux : bool
        As for `tape.value_and_grad`.

    Returns
    -------
    callable
        With the arguments of `f`; returns arrays of shape ``out.shape + in.shape``, nested as the result is and, inside
        that, as the argument is. With "sparse" they are `scipy.sparse.csr_array` of shape ``(out.size, in.size)``. With
        `has_aux` it is ``(jacobian, aux)``.

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
    >>> tape.jacobian(np.diff, mode="sparse")(np.zeros(1000)).nnz
    1998
    """
    if mode not in (None, "forward", "reverse", "sparse"):
        raise NotDifferentiable(f"tape.jacobian: expected mode None, 'forward', 'reverse' or 'sparse', got {mode!r}")
    if jitted.is_jitted(f):
        _refuse_sparse(mode, "tape.jacobian", "a jitted function", "function.py_func")
        return jitted.jitted_jacobian(f, argnums, mode, has_aux)
    selection, traces = Selection(f, argnums), traces_of(f, replay, has_aux)

    def ask(point):
        aux = point.value[1] if has_aux else None
        return point.trace, _sparse_blocks(point) if mode == "sparse" else _jacobian_blocks(point, mode), aux

    @made_function("jacobian", f, argnums=argnums, mode=mode, replay=replay, has_aux=has_aux)
    def jacobian_of(*args, **kwargs):
        args, kwargs, numbers = selection.of(args, kwargs)
        if current_recorder() is not None:
            _refuse_sparse(mode, "tape.jacobian", "a function that is being recorded", "another mode")
            blocks, structure, results, aux = _nested_jacobian(f, numbers, args, kwargs, has_aux)
        else:
            trace, blocks, aux = linearised(traces, args, kwargs, numbers, "value", ask, checked=False)
            structure = trace.structure.child(0) if has_aux else trace.structure
            results = [which[0] if isinstance(which, tuple) else None for which in trace.results[: trace.own]]
            _verify("jacobian", trace, args, kwargs, [_elements(block) for row in blocks for block in row])
        # What is no number in a result goes along.
        matrix = with_leaves(structure, [arranged(row, args, numbers, argnums, kwargs) if x is None or is_number(x) else x
                                         for row, x in zip(blocks, results, strict=True)])
        return (matrix, aux) if has_aux else matrix

    return jacobian_of


def _refuse_sparse(mode, what, where, instead):
    if mode == "sparse":
        raise NotDifferentiable(f"{what} with mode='sparse' in {where}: not supported; use {instead}")


def _elements(block):
    """The numbers that a dense or sparse block holds."""
    return block if isinstance(block, np.ndarray) else block.data


def _sparse_blocks(point):
    """As `_jacobian_blocks`, of sparse matrices."""
    trace = point.trace
    program, inputs = trace.program, [trace.program.inputs[k] for k in trace.wrt]
    known = trace.sparsity.get("jacobian")
    if known is None:
        known = trace.sparsity["jacobian"] = SparseJacobian(jacobian_pattern(program, inputs))
    matrix = known.matrix(lambda vector: _joined(point.push(_split(vector, inputs))),
                          lambda vector: _joined(point.pull(_split(vector, program.outputs))))
    dtypes = [like_argument(np.zeros(()), trace.leaves[trace.dynamic[k]]).dtype for k in trace.wrt]
    rows = np.cumsum([0, *(view.size for view in program.outputs)])
    columns = np.cumsum([0, *(view.size for view in inputs)])
    blocks = []
    for k, which in enumerate(trace.results[: trace.own]):
        first, last = (rows[which], rows[which + 1]) if isinstance(which, int) else (0, 0)
        size = math.prod(trace.result_shape(k))
        row = []
        for number, dtype in enumerate(dtypes):
            block = matrix[first:last, columns[number] : columns[number + 1]].astype(dtype)
            if last - first != size:
                block.resize(size, block.shape[1])  # a result that is a constant
            row.append(block)
        blocks.append(row)
    return blocks


def _split(vector, views):
    """A vector in parts of the shapes of views."""
    parts = np.split(vector, np.cumsum([view.size for view in views])[:-1]) if views else []
    return [part.reshape(view.shape) for part, view in zip(parts, views, strict=True)]


def _joined(arrays):
    return np.concatenate([np.ravel(a) for a in arrays]) if arrays else np.zeros(0)


def _unit(views, number, index):
    """Arrays of zeros in the shapes of views, with a one in one place."""
    arrays = [np.zeros(view.shape) for view in views]
    arrays[number][index] = 1.0
    return arrays


def _jacobian_blocks(point, mode):
    """For each result leaf a list with, for each differentiated input, the block of shape out.shape + in.shape."""
    trace, program = point.trace, point.trace.program
    inputs = [program.inputs[k] for k in trace.wrt]
    results = trace.results[: trace.own]
    shapes = [trace.result_shape(k) for k in range(trace.own)]
    dtypes = [like_argument(np.zeros(()), trace.leaves[trace.dynamic[k]]).dtype for k in trace.wrt]
    blocks = [[np.zeros(shape + view.shape, dtype) for view, dtype in zip(inputs, dtypes, strict=True)] for shape in shapes]
    rows = sum(math.prod(s) for s, which in zip(shapes, results, strict=True) if isinstance(which, int))
    columns = sum(view.size for view in inputs)
    if mode == "forward" or (mode is None and columns < rows):
        for number, view in enumerate(inputs):
            for index in np.ndindex(view.shape):
                tangents = point.push(_unit(inputs, number, index))
                for which, row in zip(results, blocks, strict=True):
                    if isinstance(which, int):
                        row[number][(..., *index)] = tangents[which]
    else:
        for which, row in zip(results, blocks, strict=True):
            for index in np.ndindex(program.outputs[which].shape) if isinstance(which, int) else ():
                for block, adjoint in zip(row, point.pull(_unit(program.outputs, which, index)), strict=True):
                    block[index] = adjoint
    return blocks


def _nested_jacobian(f, numbers, args, kwargs, has_aux):
    stretch, results, structure, aux = recorded_call(f, args, kwargs, wanted_leaves(args, kwargs, numbers), has_aux)
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
    return blocks, structure, results, aux


@typing.overload
def hessian(f: Callable[Concatenate[np.ndarray[Any, Any], P], Scalar], argnums: Literal[0] = 0, mode: None = None,
            replay: bool = True) -> Callable[Concatenate[np.ndarray[Any, Any], P], np.ndarray[Any, Any]]: ...
@typing.overload
def hessian(f: Callable[P, Scalar], argnums: int | str = 0, mode: Literal["sparse"] | None = None, replay: bool = True,
            ) -> Callable[P, Any]: ...
@typing.overload
def hessian(f: Callable[P, tuple[Scalar, Y]], argnums: int | str = 0, mode: Literal["sparse"] | None = None,
            replay: bool = True, *, has_aux: Literal[True]) -> Callable[P, tuple[Any, Y]]: ...
@typing.overload
def hessian(f: Jitted, argnums: int | str = 0, mode: None = None, replay: bool = True, has_aux: bool = False,
            ) -> Callable[..., Any]: ...
def hessian(f, argnums=0, mode=None, replay=True, has_aux=False):
    """Make the function that computes the matrix of second derivatives of a scalar function.

    Parameters
    ----------
    f : callable
        NumPy code with one scalar result.
    argnums : int or str
        Which argument to differentiate with respect to, by its position or name: one array or number.
    mode : None or "sparse"
        Dense, one tangent-over-reverse sweep a column; or by the sweeps that its pattern needs (a star colouring), as
        `jacobian` does.
    replay, has_aux : bool
        As for `tape.value_and_grad`.

    Returns
    -------
    callable
        With the arguments of `f`; returns an array of shape ``in.shape + in.shape``, with "sparse" a `scipy.sparse.csr_array`
        of shape ``(in.size, in.size)``. With `has_aux` it is ``(hessian, aux)``.

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
    >>> tape.hessian(lambda x: np.sum((x[1:] - x[:-1]) ** 2), mode="sparse")(np.zeros(1000)).nnz
    2998
    """
    if mode not in (None, "sparse"):
        raise NotDifferentiable(f"tape.hessian: expected mode None or 'sparse', got {mode!r}")
    single_argument(argnums, "tape.hessian")
    if jitted.is_jitted(f):
        _refuse_sparse(mode, "tape.hessian", "a jitted function", "function.py_func")
        return jitted.jitted_hessian(f, argnums, has_aux)
    product, selection = HessianProduct(f, argnums, replay, has_aux), Selection(f, argnums)

    @made_function("hessian", f, argnums=argnums, mode=mode, replay=replay, has_aux=has_aux)
    def hessian_of(*given, **named):
        args, kwargs, (number,) = selection.of(given, named)
        shape = _shape_of_point(taken(given, {**kwargs, **named}, number), taken(args, kwargs, number), number)
        if current_recorder() is not None:
            _refuse_sparse(mode, "tape.hessian", "a function that is being recorded", "mode=None")
            return jacobian(grad(f, argnums, has_aux=has_aux), argnums, has_aux=has_aux)(*given, **named)

        def ask(point):
            aux = point.value[1] if has_aux else None
            return point.trace, _sparse_hessian(point, shape) if mode == "sparse" else _dense_hessian(point, shape), aux

        trace, result, aux = product.at(args, kwargs, (number,), ask)
        elements = _elements(result)
        _verify("hessian", trace, args, kwargs, (elements,) if elements.size or mode == "sparse" else ())
        result = result if shape or mode == "sparse" else result[()]
        return (result, aux) if has_aux else result

    return hessian_of


def _shape_of_point(x, opened, number):
    """The shape of the argument of a Hessian, which is one array, with labels or without, or a number."""
    leaves, _ = leaves_of(opened)
    if isinstance(x, (tuple, list, dict)) or len(leaves) != 1 or len(leaves_of(x)[0]) != 1 or leaves_of(x)[0][0] is not x:
        raise NotDifferentiable(f"tape.hessian: expected an array or a number as argument {number}, got "
                                f"{type(x).__name__}; put its parts into one array, or use tape.hvp")
    return np.shape(leaves[0])


def _dense_hessian(point, shape):
    """A column a product."""
    point.trace.check_scalar("tape.hvp")
    result = np.zeros(shape + shape)
    for number, index in enumerate(np.ndindex(shape)):
        direction = np.zeros(shape)
        direction[index] = 1.0
        column = point.multiply([direction])[0]
        if not number:
            result = result.astype(column.dtype, copy=False)
        result[(..., *index)] = column
    return result


def _sparse_hessian(point, shape):
    trace = point.trace
    trace.check_scalar("tape.hvp")
    known = trace.sparsity.get("hessian")
    if known is None:
        argument = trace.program.inputs[trace.wrt[0]]
        known = trace.sparsity["hessian"] = SparseHessian(hessian_pattern(trace.program, argument))
    dtype = like_argument(np.zeros(()), trace.leaves[trace.dynamic[trace.wrt[0]]]).dtype
    return known.matrix(lambda vector: np.ravel(point.multiply([vector.reshape(shape)])[0])).astype(dtype)


def _verify(kind, trace, args, kwargs, found):
    """Look at a matrix, whose rows or columns have not been looked at one by one."""
    leaves = leaves_of((args, kwargs))[0]
    verify(kind, trace, [leaves[k] for k in trace.dynamic], (), found)
