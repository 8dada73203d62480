"""What a recorded list depends on besides its arguments: the variables its function reads.

A list holds the values that closed-over and global variables had when it was recorded. Before a replay they are looked at
again; when one has changed, the function is recorded anew. Followed are closures, globals, defaults, bound objects, and
the Python functions reached through them; in them numbers, strings, arrays (by content), containers, and the attributes of
objects.
"""

from __future__ import annotations

import functools
import inspect
import pathlib
import sysconfig
import types
from collections.abc import Callable

import numpy as np

import compiled

DEPTH = 4
"""How deep containers and attributes are followed."""

_LIBRARIES = (*(sysconfig.get_path(name) for name in ("stdlib", "platlib", "purelib")),
              *(str(pathlib.Path(file).parent) for file in (compiled.__file__, np.__file__, __file__)))

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

    def snapshot(self, keep: bool = False) -> list:
        """Return what the variables hold now, in a form that compares equal as long as nothing changes.

        With `keep` arrays are copied, so that the snapshot stays what it is when they are changed in place.
        """
        return [_content(read(), DEPTH, keep) for read in self._cells]

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
            wrapped = getattr(function, "__wrapped__", None) or getattr(function, "py_func", None)
            if wrapped is not None:
                self._read_function(wrapped)
            elif not isinstance(function, _OPAQUE):
                self._read_value(lambda: function, ("__call__",))
            return
        names = _names(function.__code__)
        for cell in function.__closure__ or ():
            self._read_value(functools.partial(_cell_contents, cell), names)
        if _is_library(function.__code__.co_filename):
            return
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
        if isinstance(value, _OPAQUE):
            return
        if isinstance(value, (types.FunctionType, types.MethodType, functools.partial)) or hasattr(value, "py_func"):
            # The variable may be bound to another function later.
            self._cells.append(lambda: id(read()))
            self._read_function(value)
            return
        self._cells.append(read)
        self._read_class(type(value), names)

    def _read_class(self, kind, names):
        """Watch the class attributes that the code may use of an object, and follow the methods it may call."""
        for name in names:
            attribute = getattr(kind, name, None)
            if isinstance(attribute, types.FunctionType):
                if id(attribute) not in self._seen:
                    self._read_function(attribute)
                    self._read_class(kind, _names(attribute.__code__))
            elif isinstance(attribute, (*_IMMUTABLE, np.ndarray, list, tuple, dict)) and attribute is not None:
                self._cells.append(functools.partial(getattr, kind, name, None))


def _is_library(file: str | None) -> bool:
    """Whether code in this file is installed, or this project's own: its globals are not expected to change."""
    return file is None or file.startswith(_LIBRARIES)


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


def _content(value, depth, keep):
    """Something that compares equal exactly when `value` holds the same."""
    if isinstance(value, (float, np.floating)):
        return type(value), float(value).hex()
    if isinstance(value, _IMMUTABLE):
        return type(value), value
    if isinstance(value, np.ndarray):
        return _Array(value, keep) if value.dtype != object else id(value)
    if isinstance(value, np.random.Generator):
        return repr(value.bit_generator.state)
    if depth == 0 or isinstance(value, _OPAQUE):
        return id(value)
    if isinstance(value, (list, tuple, set, frozenset)):
        return type(value), [_content(item, depth - 1, keep) for item in value]
    if isinstance(value, dict):
        return [(id(key) if not isinstance(key, _IMMUTABLE) else key, _content(item, depth - 1, keep))
                for key, item in value.items()]
    attributes = getattr(value, "__dict__", None)
    if attributes and not isinstance(value, types.FunctionType):
        return id(value), _content(attributes, depth - 1, keep)
    return id(value)


def global_random_state():
    """Something that changes when NumPy's global random generator is used."""
    state = np.random.get_state(legacy=False)
    return state["state"]["key"].tobytes() if "key" in state.get("state", {}) else repr(state), state["state"].get("pos")
