"""Arguments and results: nested containers of arrays, taken apart into leaves and put together again.

The containers are optree's: tuples, lists, dicts, named tuples, and whatever else is registered there.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import optree

from tape.errors import NotDifferentiable
from tape.tracing import RecordedArray


def leaves_of(tree) -> tuple[list, Any]:
    """Return the leaves of nested containers, and their structure."""
    return optree.tree_flatten(tree)


def with_leaves(structure, leaves):
    """Put leaves back into a structure."""
    return optree.tree_unflatten(structure, leaves)


class Leaf(NamedTuple):
    """How an argument's leaf enters a list: `kind` is "array", "scalar" (Python or NumPy number) or "static"."""

    kind: str
    shape: tuple[int, ...]
    dtype: Any


_SCALARS = {float: np.dtype(np.float64), int: np.dtype(np.int64)}


def describe(leaf) -> Leaf:
    """Return how a leaf enters a list; anything that is no number is static: part of the key, by its value.

    Raises
    ------
    NotDifferentiable
        For arrays of other dtypes than floats, integers and booleans.
    """
    kind = type(leaf)
    if kind in _SCALARS:
        return Leaf("scalar", (), kind)
    if isinstance(leaf, (np.ndarray, np.generic)):
        if leaf.dtype.kind not in "fiub" or leaf.dtype.kind == "f" and leaf.dtype.itemsize not in (4, 8):
            raise NotDifferentiable(f"an argument of dtype {leaf.dtype}: expected float64, float32, integers or booleans; "
                                    "convert it with astype(np.float64)")
        return Leaf("array" if isinstance(leaf, np.ndarray) else "scalar", leaf.shape, leaf.dtype)
    return Leaf("static", (), leaf)


def like_argument(array: np.ndarray, leaf: Leaf):
    """A derivative in the shape and dtype of its argument; a NumPy scalar for a number."""
    dtype = np.float64 if isinstance(leaf.dtype, type) else leaf.dtype
    array = array.astype(dtype, order="C", copy=True)
    return array if leaf.kind == "array" else array[()]


def check_differentiable(leaf, described: Leaf, path: str) -> None:
    """Raise NotDifferentiable unless a derivative can be taken with respect to this leaf."""
    dtype = described.dtype
    if described.kind != "static" and (dtype in (float, int) or getattr(dtype, "kind", "") == "f"):
        return
    got = f"an array of {dtype}" if described.kind != "static" else f"{type(leaf).__name__} ({leaf!r:.60})"
    raise NotDifferentiable(f"{path}: expected floats to differentiate with respect to, got {got}; convert it with "
                            "astype(np.float64), or leave it out of argnums")


def result_leaves(result) -> tuple[list, Any]:
    """Leaves of what a function returned; each a RecordedArray or a plain number or array.

    Raises
    ------
    NotDifferentiable
        For leaves that are no numbers.
    """
    leaves, structure = leaves_of(result)
    for leaf in leaves:
        if not isinstance(leaf, (RecordedArray, float, int, np.ndarray, np.generic)):
            raise NotDifferentiable(f"the function returned {type(leaf).__name__} ({leaf!r:.60}): expected numbers and arrays, "
                                    "or tuples, lists and dicts of them")
    return leaves, structure
