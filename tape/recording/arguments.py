"""Arguments and results: nested containers of arrays, taken apart into leaves and put together again.

The containers are optree's: tuples, lists, dicts, named tuples, and whatever else is registered there.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import optree

from tape.errors import NotDifferentiable
from tape.recording.arrays import RecordedArray
from tape.recording.recorder import refuse_subclass


def leaves_of(tree) -> tuple[list, Any]:
    """Return the leaves of nested containers, and their structure."""
    return optree.tree_flatten(tree)


def with_leaves(structure, leaves):
    """Put leaves back into a structure."""
    return optree.tree_unflatten(structure, leaves)


def checked_leaves(given, structure, shapes, what: str = "the seed", whose: str = "the result", leaf: str = "result",
                   numbers: bool = False) -> list:
    """Leaves of seeds or tangents, checked against the structure and the shapes of what they belong to.

    Parameters
    ----------
    given : nested containers
        The seeds or tangents.
    structure : optree structure
        That they should have.
    shapes : sequence of tuple of int or None
        That their leaves should have; None for leaves of any shape.
    what, whose, leaf : str
        What is checked, what it is to be like, and what a leaf of that is called.
    numbers : bool
        Whether numbers stand for arrays of them.

    Raises
    ------
    ValueError
        For another structure, or another shape.
    """
    leaves, got = leaves_of(given)
    if got != structure:
        raise ValueError(f"{what}: expected the structure of {whose}, {structure}, got {got}")
    for k, (one, shape) in enumerate(zip(leaves, shapes, strict=True)):
        if shape is not None and np.shape(one) != shape and not (numbers and np.shape(one) == ()):
            raise ValueError(f"{what}: expected shape {shape} for {leaf} {k}, got {np.shape(one)}")
    return leaves


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
        refuse_subclass(leaf)
        if leaf.dtype.kind not in "fiub" or (leaf.dtype.kind == "f" and leaf.dtype.itemsize not in (4, 8)):
            raise NotDifferentiable(f"an argument of dtype {leaf.dtype}: expected float64, float32, integers or booleans; "
                                    "convert it with astype(np.float64)")
        return Leaf("array" if isinstance(leaf, np.ndarray) else "scalar", leaf.shape, leaf.dtype)
    return Leaf("static", (), leaf)


def argument_of(recorder, view, dtype, described: Leaf) -> RecordedArray:
    """What stands in a recording for an argument's leaf: it remembers whether that is a number of Python's own."""
    if described.dtype is float or described.dtype is int:
        is_float = dtype.kind == "f"
        return RecordedArray(recorder, view, recorder.dtype if is_float else dtype, float if is_float else int)
    return RecordedArray(recorder, view, dtype, np.ndarray if described.kind == "array" and not view.shape else None)


def like_argument(array: np.ndarray, leaf: Leaf, copy: bool = True):
    """A derivative in the shape and dtype of its argument; a NumPy scalar for a number."""
    dtype = np.float64 if isinstance(leaf.dtype, type) else leaf.dtype
    array = array.astype(dtype, order="C", copy=copy)
    return array if leaf.kind == "array" else array[()]


def check_differentiable(leaf, described: Leaf, path: str) -> None:
    """Raise NotDifferentiable unless a derivative can be taken with respect to this leaf."""
    dtype = described.dtype
    if described.kind != "static" and (dtype is float or dtype is int or getattr(dtype, "kind", "") == "f"):
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


def argument_numbers(argnums) -> tuple[int, ...]:
    numbers = argnums if isinstance(argnums, tuple) else (argnums,)
    if not numbers or not all(isinstance(n, (int, np.integer)) and n >= 0 for n in numbers):
        raise NotDifferentiable("argnums: expected the number of a positional argument, counted from 0, or a tuple of them, "
                                f"got {argnums!r}")
    return numbers


def check_argument_numbers(numbers, args):
    if max(numbers, default=-1) >= len(args):
        raise NotDifferentiable(f"argnums: expected positional argument {max(numbers)}, got {len(args)} positional arguments")


LEAVES = (np.ndarray, float, np.float64, RecordedArray)
"""The commonest types of arguments that are no containers."""


def arranged(leaves, args, numbers, argnums):
    """Put the leaves of derivatives into the structure of the differentiated arguments."""
    in_order = len(numbers) == 1 or numbers == tuple(sorted(set(numbers)))
    if in_order and all(args[number].__class__ in LEAVES for number in numbers):
        return tuple(leaves) if argnums.__class__ is tuple else leaves[0]
    leaves = iter(leaves)
    trees = {}
    for number in sorted(set(numbers)):
        own, structure = leaves_of(args[number])
        trees[number] = with_leaves(structure, [next(leaves) for _ in own])
    return tuple(trees[n] for n in numbers) if isinstance(argnums, tuple) else trees[numbers[0]]


def single_argument(argnums, what):
    if isinstance(argnums, tuple):
        raise NotDifferentiable(f"{what}: expected the number of one argument, got {argnums!r}")
    return argument_numbers(argnums)[0]


def differentiated_leaves(args, argnums, leaves, described) -> set[int]:
    """Numbers of the leaves with respect to which derivatives are taken; raises NotDifferentiable unless all are floats."""
    check_argument_numbers(argnums, args)
    wanted, at = set(), 0
    for number, argument in enumerate(args):
        count = len(leaves_of(argument)[0])
        if number in argnums:
            for k in range(at, at + count):
                check_differentiable(leaves[k], described[k], f"argument {number}")
                wanted.add(k)
        at += count
    return wanted


def require_scalar(dtypes, shapes, what: str) -> None:
    """Raise NotDifferentiable unless there is one result, a float of shape ()."""
    if len(shapes) != 1:
        raise NotDifferentiable(f"{what}: expected a function with one scalar result, got {len(shapes)} results; use "
                                "tape.jacobian or tape.vjp, or pick one of them")
    if shapes[0] != ():
        raise NotDifferentiable(f"{what}: expected a function with a scalar result, got a result of shape {shapes[0]}; use "
                                "tape.jacobian or tape.vjp, or reduce it with np.sum")
    if np.dtype(dtypes[0]).kind != "f":
        raise NotDifferentiable(f"{what}: expected a float result, got {dtypes[0]}, which has no derivative; return floats")
