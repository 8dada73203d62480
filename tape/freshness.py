"""What a recorded list depends on besides its arguments: the variables its function reads.

A list holds the values that closed-over and global variables had when it was recorded. Before a replay they are looked at
again; when one has changed, the function is recorded anew, and what it reads is found anew. Followed are closures, globals,
defaults, bound objects, arguments that are no numbers, and the Python functions reached through them, rules of operations
included; in them numbers, strings, arrays (by content), functions (by identity), containers, and the attributes of objects.
Code that makes random generators, or reads an iterator, is never replayed.
"""

from __future__ import annotations

import array
import collections
import functools
import inspect
import os
import random
import sys
import sysconfig
import types
from collections.abc import Callable

import llvmlite
import numba
import numpy as np
import optree
import scipy
from numba.core.dispatcher import Dispatcher

import compiled

DEPTH = 150
"""How deep containers and attributes are followed; each is visited once."""

MOST_VISITED = 2_000
"""Objects inside one variable among which functions are looked for."""


def _folder(file):
    return os.path.join(os.path.dirname(os.path.realpath(file)), "")


_INSTALLED = tuple(os.path.join(os.path.realpath(sysconfig.get_path(name)), "") for name in ("platlib", "purelib"))
_STANDARD = os.path.join(os.path.realpath(sysconfig.get_path("stdlib")), "")
_LIBRARIES = tuple(_folder(file) for file in (
    __file__, *(module.__file__ for module in (compiled, np, scipy, numba, llvmlite, optree))))
_MACHINERY = (*(_folder(module.__file__) for module in (compiled, numba, llvmlite, optree)), _folder(__file__))
"""Where objects are from whose insides are no business of the user's function."""

_MAKES_RANDOM = frozenset({"default_rng", "RandomState", "SeedSequence", "SystemRandom", "urandom", "token_bytes", "PCG64",
                           "MT19937", "Philox", "SFC64", "Random"})
"""Names whose use makes random numbers that no variable holds."""

_IMMUTABLE = (int, float, complex, str, bytes, bool, type(None), np.generic)
_OPAQUE = (type, types.ModuleType, types.BuiltinFunctionType, np.ufunc)


class State:
    """The variables a function reads, and what they hold.

    Parameters
    ----------
    function : callable
        The function that is recorded.
    """

    def __init__(self, function: Callable):
        self._cells: list[Callable] = []
        self._seen: set[int] = set()
        self._read_function(function)

    def snapshot(self, arguments=(), keep: bool = False) -> list:
        """Return what the variables, and arguments that are no numbers, hold now, in a form that compares equal as long as
        nothing changes.

        With `keep` arrays are copied, so that the snapshot stays what it is when they are changed in place.
        """
        seen: dict = {}
        return [*(_content(read(), DEPTH, keep, seen) for read in self._cells),
                *(_content(value, DEPTH, keep, seen) for value in arguments)]

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
            elif not isinstance(function, _OPAQUE):
                self._read_value(lambda: function, ("__call__",))
            return
        names = _names(function.__code__)
        if function.__dict__:
            self._cells.append(lambda: dict(function.__dict__))
        for cell in function.__closure__ or ():
            self._read_value(functools.partial(_cell_contents, cell), names)
        if _is_library(function.__code__.co_filename):
            return
        if _MAKES_RANDOM.intersection(names):
            self._cells.append(_NeverEqual)
        for value in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
            self._read_value(lambda value=value: value, names)
        for name in names:
            if name in function.__globals__:
                self._read_value(functools.partial(function.__globals__.get, name), names)

    def _read_value(self, read, names):
        """Watch a variable; `names` are the attributes that the code around it may use of it."""
        value = read()
        if isinstance(value, types.ModuleType):
            if not _is_library(getattr(value, "__file__", None)) and id(value) not in self._seen:
                self._seen.add(id(value))
                for attribute in names:
                    if attribute in vars(value):
                        self._read_value(functools.partial(vars(value).get, attribute), names)
            return
        if isinstance(value, type):
            self._read_class(value, names)
            return
        if _is_method_in_c(value):
            self._cells.append(read)
            return
        if isinstance(value, _OPAQUE):
            return
        if isinstance(value, (types.FunctionType, types.MethodType, functools.partial, Dispatcher)):
            # The variable may be bound to another function later.
            self._cells.append(read)
            self._read_function(value)
            return
        self._cells.append(read)
        self._read_inside(value, names)

    def _read_inside(self, value, names):
        """Follow the functions, and the methods of objects, that a value holds, however deep."""
        ahead, visited = [value], set()
        while ahead and len(visited) < MOST_VISITED:
            value = ahead.pop()
            if isinstance(value, (*_IMMUTABLE, np.ndarray)) or id(value) in visited:
                continue
            visited.add(id(value))
            if isinstance(value, types.FunctionType) or hasattr(type(value), "bprop"):
                self._read_function(value)
            elif isinstance(value, _OPAQUE):
                continue
            elif isinstance(value, (list, tuple, set, frozenset, collections.deque)):
                ahead.extend(value)
            elif isinstance(value, dict):
                ahead.extend(value.values())
            else:
                self._read_class(type(value), names)
                ahead.extend(_attributes(value).values())

    def _read_class(self, kind, names):
        """Watch the class attributes that the code may use of an object, and follow the methods it may call."""
        for name in names:
            attribute = getattr(kind, name, None)
            if isinstance(attribute, types.FunctionType):
                self._cells.append(functools.partial(getattr, kind, name, None))
                if id(attribute) not in self._seen:
                    self._read_function(attribute)
                    self._read_class(kind, _names(attribute.__code__))
            elif isinstance(attribute, (*_IMMUTABLE, np.ndarray, list, tuple, dict)) and attribute is not None:
                self._cells.append(functools.partial(getattr, kind, name, None))


def _is_library(file: str | None) -> bool:
    """Whether code in this file is installed, or this project's own: its globals are not expected to change."""
    if file is None:
        return True
    file = os.path.realpath(file)
    return file.startswith(_LIBRARIES) or (file.startswith(_STANDARD) and not file.startswith(_INSTALLED))


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


class _Array:
    """An array that is compared by its bytes, so that NaN equals NaN and -0.0 differs from 0.0."""

    __slots__ = ("array",)
    __hash__ = None

    def __init__(self, array: np.ndarray, keep: bool):
        self.array = array.copy() if keep else np.ascontiguousarray(array)

    def __eq__(self, other):
        if not isinstance(other, _Array):
            return False
        a, b = self.array, other.array
        if a.shape != b.shape or a.dtype != b.dtype:
            return False
        if a.nbytes <= SMALL_ARRAY:
            return a.tobytes() == b.tobytes()
        word = np.uint64 if a.nbytes % 8 == 0 else np.uint8
        return bool((a.reshape(-1).view(word) == b.reshape(-1).view(word)).all())


SMALL_ARRAY = 4096
"""Bytes up to which Python's own comparison is the faster one."""


def _is_method_in_c(value) -> bool:
    """Whether this is a method, written in C, of an object: `generator.random`, `list.pop`."""
    return isinstance(value, types.BuiltinMethodType) and not isinstance(value.__self__, (types.ModuleType, type, type(None)))


class _NeverEqual:
    """What is looked at anew each time: what a look would change, and what nothing holds."""

    __hash__ = None

    def __eq__(self, other):
        return False


def _content(value, depth, keep, seen):
    """Something that compares equal exactly when `value` holds the same; `seen` are the objects visited before, by their id."""
    if isinstance(value, (float, np.floating)):
        return type(value), float(value).hex()
    if isinstance(value, _IMMUTABLE):
        return type(value), value
    if isinstance(value, np.ndarray):
        return _Array(value, keep) if value.dtype != object else id(value)
    if isinstance(value, (types.FunctionType, types.MethodType)):
        # The function itself, which lives on in the snapshot: another one may lie where a freed one was.
        return value
    if isinstance(value, _NeverEqual) or hasattr(type(value), "__next__"):
        return _NeverEqual()
    if isinstance(value, (bytearray, array.array, memoryview)):
        return type(value), bytes(value)
    if isinstance(value, np.random.Generator):
        return repr(value.bit_generator.state)
    if isinstance(value, np.random.RandomState):
        return _random_state(value.get_state(legacy=False))
    if isinstance(value, random.Random):
        return value.getstate()
    if _is_method_in_c(value):
        return value.__name__, _content(value.__self__, depth, keep, seen)
    if depth == 0 or isinstance(value, _OPAQUE):
        return id(value)
    if id(value) in seen:
        return seen[id(value)][0]
    seen[id(value)] = f"visit {len(seen)}", value  # which is kept alive, so that its number stays its own
    inside = functools.partial(_content, depth=depth - 1, keep=keep, seen=seen)
    if isinstance(value, (list, tuple, set, frozenset, collections.deque)):
        return type(value), [inside(item) for item in value]
    if isinstance(value, dict):
        return [(id(key) if not isinstance(key, _IMMUTABLE) else key, inside(item)) for key, item in value.items()]
    attributes = _attributes(value)
    return (type(value), inside(attributes)) if attributes else id(value)


def _attributes(value) -> dict:
    """What an object keeps in its dict and in slots; nothing of what belongs to the machinery."""
    if (_file_of(type(value)) or "").startswith(_MACHINERY):
        return {}
    own = getattr(value, "__dict__", None)
    slots = [name for kind in type(value).__mro__ for name in _slots(kind) if hasattr(value, name)]
    return {**{name: getattr(value, name) for name in slots}, **(own if isinstance(own, dict) else {})}


def _slots(kind):
    """Names of the attributes that a class of the user's keeps in slots."""
    slots = kind.__dict__.get("__slots__", ())
    names = (slots,) if isinstance(slots, str) else slots
    return [name for name in names if name not in ("__dict__", "__weakref__")] if not _is_library(_file_of(kind)) else []


@functools.lru_cache(maxsize=4096)
def _file_of(kind):
    return getattr(sys.modules.get(kind.__module__), "__file__", None)


def global_random_state():
    """Something that changes when NumPy's global random generator, or Python's, is used."""
    return _random_state(np.random.get_state(legacy=False)), random.getstate()


def _random_state(state):
    """The state of a generator of NumPy's, its second Gaussian included, as something that compares equal or not."""
    inner = state.get("state", {})
    if "key" not in inner:
        return repr(state)
    return inner["key"].tobytes(), inner.get("pos"), state.get("has_gauss"), state.get("gauss")
