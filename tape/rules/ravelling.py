"""Nested containers as one vector, as solvers want their parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tape.errors import NotDifferentiable
from tape.recording.arguments import parts_of
from tape.recording.arrays import RecordedArray
from tape.recording.containers import opened, with_leaves


def ravel(tree: Any) -> tuple[Any, Callable[[Any], Any]]:
    """Put all numbers of nested containers into one vector, and return the function that takes it apart again.

    Parameters
    ----------
    tree : arrays, numbers, or nested containers of them
        Parameters, plain or recorded. Integers are taken as float64; None, and fields of dataclasses that are no floats, go
        along as they are.

    Returns
    -------
    vector : ndarray(float, shape (n,))
        In the dtype that NumPy gives for the leaves together; a new array.
    unravel : callable
        ``unravel(vector)``: the containers with new arrays of the leaves' shapes and dtypes. It takes plain and recorded
        vectors.

    Raises
    ------
    NotDifferentiable
        For leaves that are no numbers.
    ValueError
        From `unravel`, for a vector of another shape.

    Examples
    --------
    >>> import numpy as np, tape
    >>> vector, unravel = tape.ravel({"w": np.eye(2), "b": 0.5})
    >>> vector
    array([0.5, 1. , 0. , 0. , 1. ])
    >>> tape.grad(lambda v: np.sum(unravel(v)["w"]) * unravel(v)["b"])(vector)
    array([2. , 0.5, 0.5, 0.5, 0.5])
    """
    leaves, structure, wanted = parts_of(opened(tree))
    numbers = [_floats(leaf) for leaf, w in zip(leaves, wanted, strict=True) if w]
    shapes, dtypes = [x.shape for x in numbers], [x.dtype for x in numbers]
    whole = np.result_type(*dtypes) if dtypes else np.dtype(float)
    ends = np.cumsum([0, *(x.size for x in numbers)])
    vector = np.concatenate([np.ravel(x).astype(whole) for x in numbers]) if numbers else np.zeros(0)

    def unravel(vector):
        if np.shape(vector) != (ends[-1],):
            raise ValueError(f"unravel: expected a vector of shape ({ends[-1]},), got shape {np.shape(vector)}")
        vector = vector if isinstance(vector, RecordedArray) else np.asarray(vector)
        parts = (np.reshape(vector[first:end], shape).astype(dtype)
                 for first, end, shape, dtype in zip(ends[:-1], ends[1:], shapes, dtypes, strict=True))
        return with_leaves(structure, [_scalar(next(parts)) if w else leaf for leaf, w in zip(leaves, wanted, strict=True)])

    return vector, unravel


def _floats(leaf):
    """A leaf as an array of floats."""
    array = leaf if isinstance(leaf, RecordedArray) else np.asarray(leaf)
    if array.dtype.kind not in "fiu" or array.dtype.char == "e":
        raise NotDifferentiable(f"tape.ravel: expected numbers, got {type(leaf).__name__} ({leaf!r:.60}); leave it out")
    return array if array.dtype.kind == "f" else array.astype(float)


def _scalar(x):
    return x[()] if x.shape == () else x
