"""What a recorded list depends on besides its arguments: the variables its function reads.

A list holds the values that closed-over and global variables had when it was recorded. Before a replay they are looked at
again; when one has changed, the function is recorded anew, and what it reads is found anew. Followed are closures, globals,
defaults, bound objects, arguments that are no numbers, and the Python functions reached through them, rules of operations
included; in them numbers, strings, arrays (by content), functions (by identity), containers, and the attributes of objects.
Code that makes random generators, or reads an iterator, is never replayed.
"""

from __future__ import annotations

import collections
import functools
import inspect
import os
import types
import weakref
from collections.abc import Callable

import numpy as np
from numba.core.dispatcher import Dispatcher

from tape.recording.made import MadeFunction
from tape.recording.ownership import file_of, file_of_module, is_installed, is_library
from tape.recording.snapshots import FUNCTIONS, IMMUTABLE, OPAQUE, NeverEqual, Snapshot, attributes_of, is_method_in_c, part_of

_MAKES_RANDOM = frozenset({"default_rng", "RandomState", "SeedSequence", "SystemRandom", "urandom", "token_bytes", "PCG64",
                           "MT19937", "Philox", "SFC64", "Random"})
"""Names whose use makes random numbers that no variable holds."""

ALL_ATTRIBUTES = frozenset({"getattr", "vars", "__dict__", "__getattribute__", "attrgetter", "asdict", "astuple", "fields",
                            "dir", "tree_flatten", "tree_leaves", "tree_map"})
"""Names whose use reads attributes that the code does not name."""

MOST_OTHERS = 2
"""How many calls deep the code of installed packages is followed, but for that which the function itself is from."""

MOST_VISITED = 2_000
"""Objects inside one variable among which functions are looked for."""


class State:
    """The variables a function reads, and what they hold.

    Parameters
    ----------
    function : callable
        The function that is recorded.
    kinds : iterable of type
        Classes of arguments, whose methods it may call.
    """

    def __init__(self, function: Callable, kinds=()):
        self._cells: list[Callable] = []
        self._seen: set[int] = set()
        self._names: set[str] = set()
        self._others, code = 0, getattr(inspect.unwrap(function), "__code__", None)
        self._home = os.path.dirname(code.co_filename) if code is not None else ""
        known = -1
        while known < len(self._names):  # what is followed by its name may be code that names more
            known = len(self._names)
            self._cells.clear()
            self._seen.clear()
            self._read_function(function)
            for kind in kinds:
                self._read_class(kind)

    def snapshot(self, arguments=()) -> Snapshot:
        """What the variables, and arguments that are no numbers, hold now."""
        return Snapshot(self._cells, self.names, arguments)

    @property
    def names(self) -> frozenset | None:
        """Names of the attributes that the code may read; None for all, where it finds them by other means."""
        return None if self._names & ALL_ATTRIBUTES else frozenset(self._names)

    def _read_function(self, function):
        if id(function) in self._seen:
            return
        self._seen.add(id(function))
        if isinstance(function, functools.partial):
            self._read_function(function.func)
            for value in (*function.args, *function.keywords.values()):
                self._read_value(lambda value=value: value, ())
            return
        if inspect.ismethod(function):
            owner = function.__self__
            self._read_value(lambda: owner, (function.__name__,))
            self._read_function(function.__func__)
            return
        if not isinstance(function, types.FunctionType):
            for name in ("rule", "tangent_rule"):  # of an operation
                rule = getattr(function, name, None)
                if isinstance(rule, types.FunctionType):
                    self._cells.append(functools.partial(getattr, function, name, None))
                    self._read_function(rule)
            wrapped = getattr(function, "py_func", None) if isinstance(function, Dispatcher) else inspect.getattr_static(
                function, "__wrapped__", None)
            if wrapped is not None:
                self._read_function(wrapped)
            elif not isinstance(function, OPAQUE):
                self._read_value(lambda: function, ("__call__",))
            return
        self._read_code(function)

    def _read_code(self, function):
        """Watch what the code of a function names."""
        names, file = _names(function.__code__), function.__code__.co_filename
        others = is_installed(file) and os.path.dirname(file) != self._home
        if others and self._others == MOST_OTHERS:
            return
        self._others += others
        self._read_names(function, names)
        self._others -= others

    def _read_names(self, function, names):
        if function.__dict__:
            self._cells.append(lambda: function.__dict__)
        for cell in function.__closure__ or ():
            self._read_value(functools.partial(_cell_contents, cell), names)
        if is_library(function.__code__.co_filename):
            return
        self._names.update(names)
        if _MAKES_RANDOM.intersection(names):
            self._cells.append(NeverEqual)
        for part in ("__code__", "__defaults__", "__kwdefaults__"):  # which tools that reload a module replace in place
            if getattr(function, part):
                self._cells.append(functools.partial(part_of, weakref.ref(function), part))
        for value in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
            self._read_value(lambda value=value: value, names)
        for name in names:
            if name in function.__globals__:
                self._read_value(functools.partial(function.__globals__.get, name), names)

    def _read_value(self, read, names):
        """Watch a variable; `names` are the attributes that the code around it may use of it."""
        value = read()
        if isinstance(value, types.ModuleType):
            if not is_library(file_of_module(value.__name__, value)) and id(value) not in self._seen:
                self._seen.add(id(value))
                for attribute in names:
                    if attribute in vars(value):
                        self._read_value(functools.partial(vars(value).get, attribute), names)
            return
        if isinstance(value, type):
            self._read_class(value)
            return
        if is_method_in_c(value):
            self._cells.append(read)
            return
        if isinstance(value, OPAQUE):
            return
        if isinstance(value, (*FUNCTIONS, functools.partial, Dispatcher)):
            # The variable may be bound to another function later.
            self._cells.append(read)
            self._read_function(value)
            return
        self._cells.append(read)
        self._read_inside(value)

    def _read_inside(self, value):
        """Follow the functions, and the methods of objects, that a value holds, however deep."""
        ahead, visited = [value], set()
        while ahead and len(visited) < MOST_VISITED:
            value = ahead.pop()
            if isinstance(value, (*IMMUTABLE, np.ndarray)) or id(value) in visited:
                continue
            visited.add(id(value))
            if isinstance(value, (types.FunctionType, MadeFunction)) or hasattr(type(value), "bprop"):
                self._read_function(value)
            elif isinstance(value, OPAQUE):
                continue
            elif isinstance(value, (list, tuple, set, frozenset, collections.deque)):
                ahead.extend(value)
            elif isinstance(value, (dict, types.MappingProxyType)):
                ahead.extend(value.values())
            else:
                self._read_class(type(value))
                ahead.extend(attributes_of(value, self.names).values())

    def _read_class(self, kind):
        """Watch the class attributes that the code may use of an object, and follow the methods it may call."""
        if id(kind) in self._seen:
            return
        self._seen.add(id(kind))
        for name, attribute in _members(kind):
            if isinstance(attribute, (property, functools.cached_property, staticmethod, classmethod)):
                attribute = getattr(attribute, "fget", None) or getattr(attribute, "func", None) or attribute.__func__
            is_method = isinstance(attribute, types.FunctionType)
            if name not in self._names and not (is_method and name.startswith("__")):
                continue  # what begins so may be called by syntax: __call__, __getitem__, __add__
            if is_method or isinstance(attribute, (*IMMUTABLE, np.ndarray, list, tuple, dict)):
                self._cells.append(functools.partial(getattr, kind, name, None))
            elif not isinstance(attribute, OPAQUE) and name in self._names:
                keeps = hasattr(type(attribute), "__get__")  # a descriptor, which answers something else than itself
                read = functools.partial(getattr, kind, name, None)
                self._cells.append((lambda attribute=attribute: attribute) if keeps else read)
                self._read_inside(attribute)
            if is_method:
                self._read_function(attribute)
        if type(kind) is not type:
            self._read_class(type(kind))


def _members(kind) -> list[tuple]:
    """Names and attributes of a class and its bases, as far as they are the user's."""
    return [pair for one in kind.__mro__ if not is_library(file_of(one)) for pair in vars(one).items()]


def _cell_contents(cell):
    try:
        return cell.cell_contents
    except ValueError:
        return None


def _names(code) -> list[str]:
    """Global names and attributes that a code object and the functions inside it use."""
    return [name for part in _codes(code) for name in part.co_names]


def _codes(code):
    """A code object and those of the functions defined inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)
