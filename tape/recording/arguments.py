"""Arguments and results: what their leaves are to a list, and which arguments are differentiated.

What is not here: the containers that the leaves are in (`containers.py`).
"""

from __future__ import annotations

import inspect
import itertools
from typing import Any, NamedTuple

import numpy as np

from tape.errors import NotDifferentiable
from tape.recording.arrays import RecordedArray
from tape.recording.containers import LEAF, is_field, leaves_of, opened, with_leaves
from tape.recording.recorder import refuse_subclass


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
    """Return how a leaf enters a list.

    What cells cannot hold is static: part of the key, by its value. That is anything that is no number, and arrays of other
    dtypes than float64, float32, integers and booleans.
    """
    kind = type(leaf)
    if kind in _SCALARS:
        return Leaf("scalar", (), kind)
    if isinstance(leaf, (np.ndarray, np.generic)):
        refuse_subclass(leaf)
        if leaf.dtype.char in HELD:
            return Leaf("array" if isinstance(leaf, np.ndarray) else "scalar", leaf.shape, leaf.dtype)
    return Leaf("static", (), leaf)


def check_held(leaf, path: str) -> None:
    """Raise NotDifferentiable unless cells hold the numbers of this array."""
    if leaf.dtype.char not in HELD:
        raise NotDifferentiable(f"{path} is of dtype {leaf.dtype}: expected float64, float32, integers or booleans; convert it "
                                "with astype(np.float64)")


HELD = frozenset("fd?" + np.typecodes["AllInteger"])
"""Characters of the dtypes whose numbers cells hold."""


def is_same(leaf, known) -> bool:
    """Whether a static leaf is what is known of it, or equal to that."""
    return leaf is known or (type(leaf) is type(known) and np.shape(leaf) == np.shape(known) and bool(np.all(leaf == known)))


def argument_of(recorder, view, dtype, described: Leaf) -> RecordedArray:
    """What stands in a recording for an argument's leaf: it remembers whether that is a number of Python's own."""
    if described.dtype is float or described.dtype is int:
        is_float = dtype.kind == "f"
        return RecordedArray(recorder, view, recorder.dtype if is_float else dtype, float if is_float else int)
    return RecordedArray(recorder, view, dtype, np.ndarray if described.kind == "array" and not view.shape else None)


def as_floats(tree):
    """Integers where floats are meant, as floats."""
    leaves, structure = leaves_of(tree)
    return with_leaves(structure, [np.asarray(leaf, float)[()] if _is_whole(leaf) else leaf for leaf in leaves])


def _is_whole(leaf) -> bool:
    kind = type(leaf) if type(leaf) is int else getattr(leaf, "dtype", None)
    return kind is int or getattr(kind, "kind", "") in ("i", "u")


def like_argument(array: np.ndarray, leaf: Leaf, copy: bool = True):
    """A derivative in the shape and dtype of its argument, float64 for integers; a NumPy scalar for a number."""
    dtype = np.float64 if isinstance(leaf.dtype, type) or leaf.dtype.kind in "iu" else leaf.dtype
    array = array.astype(dtype, order="C", copy=copy)
    return array if leaf.kind == "array" else array[()]


def check_differentiable(leaf, described: Leaf, path: str) -> None:
    """Raise NotDifferentiable unless a derivative can be taken with respect to this leaf: floats, and integers as floats."""
    dtype = described.dtype
    if described.kind != "static" and (dtype is float or dtype is int or getattr(dtype, "kind", "") in ("f", "i", "u")):
        return
    kind = leaf.dtype if isinstance(leaf, (np.ndarray, np.generic)) else None
    if kind is not None and kind.char not in HELD:
        raise NotDifferentiable(f"{path} is of dtype {kind}: expected float64, float32, or integers, which are differentiated "
                                "as float64; convert it with astype(np.float64), or leave it out of argnums")
    got = f"an array of {kind}" if kind is not None else f"{type(leaf).__name__} ({leaf!r:.60})"
    raise NotDifferentiable(f"{path}: expected floats to differentiate with respect to (float64, float32, or integers, which "
                            f"are taken as float64), got {got}; convert it with astype(np.float64), or leave it out of argnums")


def result_leaves(result) -> tuple[list, Any]:
    """Leaves of what a function returned; each a RecordedArray or a plain number or array, in fields of classes anything.

    Raises
    ------
    NotDifferentiable
        For leaves that are no numbers.
    """
    if type(result) in LEAVES:
        return [result], LEAF
    result = opened(result)
    leaves, structure = leaves_of(result)
    for leaf, field in zip(leaves, is_field(result, structure, len(leaves)), strict=True):
        if not is_number(leaf) and not field:
            raise NotDifferentiable(f"the function returned {type(leaf).__name__} ({leaf!r:.60}): expected numbers and arrays, "
                                    "or tuples, lists and dicts of them")
    return leaves, structure


def is_number(leaf) -> bool:
    """Whether this is a number or an array, plain or recorded."""
    return isinstance(leaf, (RecordedArray, float, int, np.ndarray, np.generic))


def apart(result) -> tuple[Any, Any]:
    """The result and the aux of a function that was said to return both.

    Raises
    ------
    NotDifferentiable
        For a function that returns anything but a pair, and for an aux that is not made of numbers, arrays and text.
    """
    if not isinstance(result, tuple) or len(result) != 2:
        got = f"a tuple of {len(result)}" if isinstance(result, tuple) else type(result).__name__
        raise NotDifferentiable(f"has_aux=True: expected the function to return a pair (result, aux), got {got}")
    for leaf in leaves_of(opened(result[1]))[0]:
        if not isinstance(leaf, AUX) or (isinstance(leaf, np.ndarray) and leaf.dtype == object):
            raise NotDifferentiable(f"has_aux=True: expected an aux of numbers, arrays and text in containers, got "
                                    f"{type(leaf).__name__} ({leaf!r:.60}) in it")
    return result


AUX = (RecordedArray, float, int, complex, str, bytes, np.ndarray, np.generic)
"""What an aux may be made of: it is kept with the list, where nothing else would be plain."""


def argument_numbers(argnums) -> tuple:
    """The numbers and names of arguments that `argnums` holds."""
    numbers = argnums if isinstance(argnums, tuple) else (argnums,)
    if not numbers or not all(isinstance(n, str) or (isinstance(n, (int, np.integer)) and n >= 0) for n in numbers):
        raise NotDifferentiable("argnums: expected the number of a positional argument, counted from 0, the name of an "
                                f"argument, or a tuple of them, got {argnums!r}")
    return numbers


def check_argument_numbers(numbers, args):
    """Raise NotDifferentiable unless there are positional arguments of all these numbers."""
    most = max((n for n in numbers if not isinstance(n, str)), default=-1)
    if most >= len(args):
        raise NotDifferentiable(f"argnums: expected positional argument {most}, got {len(args)} positional arguments")


LEAVES = (np.ndarray, float, np.float64, RecordedArray)
"""The commonest types of arguments that are no containers."""


class Selection:
    """Which arguments of a function are differentiated.

    Parameters
    ----------
    function : callable
        The function.
    argnums : int, str, or tuple of them
        Numbers of positional arguments, and names of arguments.

    Attributes
    ----------
    numbers : tuple of int and str
        Those.
    """

    def __init__(self, function, argnums):
        self.function, self.argnums, self.numbers = function, argnums, argument_numbers(argnums)
        self._parameters = None

    def of(self, args: tuple, kwargs: dict):
        """The arguments of a call, as they are differentiated.

        Returns
        -------
        args, kwargs, numbers
            The arguments, with containers in the place of differentiated arrays with labels; and which of them are
            differentiated: numbers of positional arguments, and names of keyword arguments.

        Raises
        ------
        NotDifferentiable
            Where there is no such argument.
        """
        numbers = self.numbers
        if any(isinstance(n, str) or n >= len(args) for n in numbers):
            found = [self._found(n, args, kwargs) for n in numbers]
            numbers = tuple(number for number, _ in found)
            kwargs = {**kwargs, **{number: value for number, value in found if isinstance(number, str)}}
        found = {n: opened(taken(args, kwargs, n)) for n in numbers}
        if any(x is not taken(args, kwargs, n) for n, x in found.items()):
            args = tuple(found.get(k, x) for k, x in enumerate(args))
            kwargs = {name: found.get(name, x) for name, x in kwargs.items()}
        return args, kwargs, numbers

    def positions(self, count: int) -> tuple[int, ...]:
        """Numbers of the differentiated ones among `count` positional arguments."""
        numbers = self.of((0.0,) * count, {})[2] if any(isinstance(n, str) for n in self.numbers) else self.numbers
        check_argument_numbers(numbers, range(count))
        if any(isinstance(n, str) for n in numbers):
            raise NotDifferentiable(f"argnums: expected positional arguments here, got {self.argnums!r}")
        return numbers

    def _found(self, number, args, kwargs):
        """An argument's number, or its name where it is a keyword argument, and what it is."""
        if number in kwargs:
            return number, kwargs[number]
        parameters = self.parameters
        if not isinstance(number, str):
            if number < len(args):
                return number, args[number]
            positional = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD or p.kind is p.POSITIONAL_ONLY]
            name = positional[number] if number < len(positional) else None
            if name not in kwargs:
                raise NotDifferentiable(f"argnums: expected positional argument {number}, got {len(args)} positional arguments")
            return name, kwargs[name]
        for k, parameter in enumerate(parameters):
            if parameter.name == number and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                if k < len(args) and parameter.kind is not parameter.KEYWORD_ONLY:
                    return k, args[k]
                if parameter.default is not parameter.empty and parameter.kind is not parameter.POSITIONAL_ONLY:
                    return number, parameter.default
        names = ", ".join(p.name for p in parameters)
        raise NotDifferentiable(f"argnums: expected the name of an argument of this call, got {number!r}; "
                                f"{getattr(self.function, '__name__', 'the function')} takes ({names})")

    @property
    def parameters(self) -> list[inspect.Parameter]:
        """Of the function; none where they are not known."""
        if self._parameters is None:
            try:
                self._parameters = list(inspect.signature(getattr(self.function, "py_func", self.function)).parameters.values())
            except (TypeError, ValueError):
                self._parameters = []
        return self._parameters


def in_order(numbers) -> list:
    """Numbers and names of differentiated arguments in the order in which their leaves are in a call."""
    return sorted(set(numbers), key=lambda n: (isinstance(n, str), n))


def taken(args, kwargs, number):
    """An argument, by its number or name."""
    return kwargs[number] if isinstance(number, str) else args[number]


def parts_of(argument) -> tuple[list, Any, list[bool]]:
    """Leaves and structure of a differentiated argument, and which leaves are differentiated.

    Those are all, but in fields of instances of classes only floats: whatever else is there goes along as it is.
    """
    if type(argument) in LEAVES:
        return [argument], LEAF, [True]
    leaves, structure = leaves_of(argument)
    inside = is_field(argument, structure, len(leaves))
    if True not in inside:
        return leaves, structure, [True] * len(leaves)
    return leaves, structure, [not field or is_float(leaf) for field, leaf in zip(inside, leaves, strict=True)]


def is_float(leaf) -> bool:
    """Whether a leaf is a float or an array of floats."""
    return isinstance(leaf, float) or (isinstance(leaf, (np.ndarray, np.generic, RecordedArray)) and leaf.dtype.kind == "f")


def arranged(leaves, args, numbers, argnums, kwargs=None):
    """Put the leaves of derivatives into the structure of the differentiated arguments."""
    if len(numbers) == 1:
        tree = _arranged(iter(leaves), taken(args, kwargs, numbers[0]))
        return (tree,) if isinstance(argnums, tuple) else tree
    leaves, trees = iter(leaves), {}
    for number in in_order(numbers):
        trees[number] = _arranged(leaves, taken(args, kwargs, number))
    return tuple(trees[n] for n in numbers)


def _arranged(leaves, argument):
    """The next leaves, in the structure of an argument."""
    if type(argument) in LEAVES:
        return next(leaves)
    own, structure, wanted = parts_of(argument)
    if False not in wanted:
        return with_leaves(structure, itertools.islice(leaves, len(own)))
    return with_leaves(structure, [next(leaves) if w else leaf for w, leaf in zip(wanted, own, strict=True)])


def single_argument(argnums, what):
    """`argnums` that may be one argument alone."""
    if isinstance(argnums, tuple):
        raise NotDifferentiable(f"{what}: expected the number or the name of one argument, got {argnums!r}")
    return argument_numbers(argnums)[0]


def differentiated_leaves(args, kwargs, argnums, leaves, described) -> set[int]:
    """Numbers of the leaves with respect to which derivatives are taken; raises NotDifferentiable unless all are floats."""
    check_argument_numbers(argnums, args)
    found, at = set(), 0
    for number, argument in [*enumerate(args), *sorted(kwargs.items())]:
        own, _, wanted = parts_of(argument) if number in argnums else (leaves_of(argument)[0], None, ())
        path = f"argument {number}"
        if wanted and not any(wanted):
            raise NotDifferentiable(f"{path}: expected floats in the fields of {type(argument).__name__}, got none")
        for k, is_wanted in enumerate(wanted, at):
            if is_wanted:
                check_differentiable(leaves[k], described[k], path)
                found.add(k)
        at += len(own)
    return found


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
