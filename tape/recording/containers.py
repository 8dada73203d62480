"""Nested containers, taken apart into leaves and put together again.

The containers are optree's: tuples, lists, dicts, named tuples, and what is registered there for everybody. Instances of
dataclasses and of attrs classes are containers of their fields; optree is told of such a class when the first one is met.

What is not here: what a leaf is to a list (`arguments.py`).
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np
import optree

from compiled.forking import Lock

LEAF = optree.tree_structure(0)
"""The structure of what is no container."""

NAMESPACE = "tape"
"""Where optree keeps the classes that are registered here; what users register for everybody is found as well."""

LEAF_TYPES: set[type] = {float, int, bool, str, np.ndarray, np.float64, np.float32, np.int64, np.bool_}
"""Types of leaves that no class is looked for in; recorded arrays and eager variables enter themselves."""

_classes: set[type] = set()
"""Classes whose instances are containers of their fields."""

_lock = Lock()

OPENED: dict[type, Any] = {}
"""Type of an array with labels → what makes a container of one, with its numbers as the only leaf."""

LABELLED: dict[str, Any] = {}
"""Name of a package → what enters its types in `OPENED`, once one of them is met."""


class Labelled:
    """An array with labels as a container of its numbers, which is such an array again when it is put together.

    Parameters
    ----------
    data : array
        The numbers, plain or recorded.
    labels : object
        What `labelled` makes an array with labels of numbers; compares equal to equal labels.
    """

    def __init__(self, data, labels):
        self.data, self.labels = data, labels


optree.register_pytree_node(Labelled, lambda x: ((x.data,), x.labels, ("data",)), lambda labels, data: labels.labelled(*data),
                            namespace=NAMESPACE)


def leaves_of(tree) -> tuple[list, Any]:
    """Return the leaves of nested containers, and their structure."""
    leaves, structure = optree.tree_flatten(tree, namespace=NAMESPACE)
    while not LEAF_TYPES.issuperset(map(type, leaves)) and _has_new_classes(leaves):
        leaves, structure = optree.tree_flatten(tree, namespace=NAMESPACE)
    return leaves, structure


def with_leaves(structure, leaves):
    """Put leaves back into a structure."""
    return optree.tree_unflatten(structure, leaves)


def _has_new_classes(leaves) -> bool:
    """Whether some leaves are instances of classes with fields, of which optree knows from now on."""
    kinds = {type(leaf) for leaf in leaves if field_names(type(leaf)) is not None}
    with _lock:
        for kind in kinds - _classes:
            optree.register_pytree_node(kind, _fields_of, functools.partial(_instance, kind), namespace=NAMESPACE)
            _classes.add(kind)
    return bool(kinds)


def field_names(kind: type) -> tuple[str, ...] | None:
    """Names of the fields of a dataclass or an attrs class; None for any other class."""
    if hasattr(kind, "__dataclass_fields__"):
        return tuple(field.name for field in dataclasses.fields(kind))
    attributes = getattr(kind, "__attrs_attrs__", None)
    return tuple(attribute.name for attribute in attributes) if isinstance(attributes, tuple) else None


def _fields_of(instance):
    """Children, metadata and names of an instance; a field that nobody has set is none of them."""
    names = tuple(name for name in field_names(type(instance)) if hasattr(instance, name))
    return tuple(getattr(instance, name) for name in names), names, names


def _instance(kind, names, children):
    """An instance with these fields: a copy of one that was made before, so nothing is checked or computed anew."""
    instance = object.__new__(kind)
    for name, child in zip(names, children, strict=True):
        object.__setattr__(instance, name, child)
    return instance


@functools.lru_cache(maxsize=4096)
def classes_in(structure) -> frozenset:
    """The classes whose instances a structure has."""
    own = {structure.type} if structure.type in _classes else set()
    return frozenset(own.union(*map(classes_in, structure.children())))


def is_field(tree, structure, count: int) -> list[bool]:
    """For each leaf of a tree whether it is in a field of an instance of a class."""
    if not _classes or not classes_in(structure):
        return [False] * count
    parts, _ = optree.tree_flatten(tree, is_leaf=lambda node: type(node) in _classes, namespace=NAMESPACE)
    return [type(part) in _classes for part in parts for _ in leaves_of(part)[0]]


@functools.lru_cache(maxsize=4096)
def _has_dicts(structure) -> bool:
    """Whether a structure has dicts of more than one key."""
    return (structure.num_children > 1 and issubclass(structure.type, dict)) or any(map(_has_dicts, structure.children()))


def orders(tree, structure) -> tuple:
    """The orders of the keys of dicts in a structure, which do not count for whether structures are equal."""
    return _orders(tree) if _has_dicts(structure) else ()


def _orders(tree) -> tuple:
    if isinstance(tree, dict):
        return tuple(tree), *map(_orders, tree.values())
    if type(tree) in _classes:
        tree = _fields_of(tree)[0]
    return tuple(map(_orders, tree)) if isinstance(tree, (list, tuple)) else ()


def opened(tree):
    """The tree with containers in the place of arrays with labels, which make such arrays again of what is put into them."""
    if type(tree) in LEAF_TYPES or (type(tree) is dict and LEAF_TYPES.issuperset(map(type, tree.values()))):
        return tree  # the commonest cases
    leaves, structure = leaves_of(tree)
    if LEAF_TYPES.issuperset(map(type, leaves)):
        return tree
    makers = [opener(type(leaf)) for leaf in leaves]
    if not any(makers):
        return tree
    return with_leaves(structure, [make(leaf) if make else leaf for make, leaf in zip(makers, leaves, strict=True)])


def opener(kind):
    """What makes a container of an array of this type; None for types without labels."""
    enter = LABELLED.get(kind.__module__.partition(".")[0])
    if enter is not None and kind not in OPENED:
        enter()
    return OPENED.get(kind)
