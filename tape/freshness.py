"""What a recorded list depends on besides its arguments: the variables its function reads.

A list holds the values that closed-over and global variables had when it was recorded. Before a replay they are looked at
again; when one has changed, the function is recorded anew. Followed are closures, globals, defaults, bound objects, and
the Python functions reached through them; in them numbers, strings, arrays (by content), containers, and the attributes of
objects.
"""

from __future__ import annotations

import functools
import inspect
import types
import zlib
from collections.abc import Callable

import numpy as np

DEPTH = 4
"""How deep containers and attributes are followed."""

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
        self._cells: list[tuple[Callable, str]] = []
        self._seen: set[int] = set()
        self._read_function(function)

    def snapshot(self) -> list:
        """Return what the variables hold now, in a form that compares equal as long as nothing changes."""
        return [_content(read(), DEPTH) for read, _ in self._cells]

    def names(self) -> list[str]:
        """Names of the variables, in the order of `snapshot`."""
        return [name for _, name in self._cells]

    def _read_function(self, function):
        if id(function) in self._seen:
            return
        self._seen.add(id(function))
        if isinstance(function, functools.partial):
            self._read_function(function.func)
            for value in (*function.args, *function.keywords.values()):
                self._read_value(lambda value=value: value, "argument of functools.partial")
            return
        if inspect.ismethod(function):
            owner = function.__self__
            self._cells.append((lambda: owner, "self"))
            self._read_function(function.__func__)
            return
        if not isinstance(function, types.FunctionType):
            wrapped = getattr(function, "__wrapped__", None) or getattr(function, "py_func", None)
            if wrapped is not None:
                self._read_function(wrapped)
            elif not isinstance(function, _OPAQUE):
                self._cells.append((lambda: function, type(function).__name__))
                call = getattr(type(function), "__call__", None)
                if isinstance(call, types.FunctionType):
                    self._read_function(call)
            return
        if function.__module__ is not None and function.__module__.split(".")[0] in ("numpy", "scipy", "tape", "compiled"):
            self._read_closure(function)
            return
        self._read_closure(function)
        for value in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
            self._read_value(lambda value=value: value, "default argument")
        for code in _codes(function.__code__):
            for name in code.co_names:
                if name in function.__globals__:
                    self._read_value(functools.partial(function.__globals__.get, name), name)

    def _read_closure(self, function):
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            self._read_value(functools.partial(_cell_contents, cell), name)

    def _read_value(self, read, name):
        value = read()
        if isinstance(value, _OPAQUE):
            return
        if isinstance(value, (types.FunctionType, types.MethodType, functools.partial)) or hasattr(value, "py_func"):
            # The variable may be bound to another function later.
            self._cells.append((lambda: id(read()), name))
            self._read_function(value)
            return
        self._cells.append((read, name))


def _cell_contents(cell):
    try:
        return cell.cell_contents
    except ValueError:
        return None


def _codes(code):
    """A code object and those of the functions defined inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


def _content(value, depth):
    """Something that compares equal exactly when `value` holds the same."""
    if isinstance(value, float):
        return value.hex()
    if isinstance(value, _IMMUTABLE):
        return type(value), value
    if isinstance(value, np.ndarray):
        if value.dtype == object:
            return id(value)
        data = value if value.flags.c_contiguous else np.ascontiguousarray(value)
        content = data.tobytes() if data.nbytes <= 256 else zlib.crc32(data.view(np.uint8).reshape(-1))
        return value.shape, value.dtype.str, content
    if isinstance(value, np.random.Generator):
        return repr(value.bit_generator.state)
    if depth == 0 or isinstance(value, _OPAQUE):
        return id(value)
    if isinstance(value, (list, tuple, set, frozenset)):
        return type(value), [_content(item, depth - 1) for item in value]
    if isinstance(value, dict):
        return [(id(key) if not isinstance(key, _IMMUTABLE) else key, _content(item, depth - 1)) for key, item in value.items()]
    attributes = getattr(value, "__dict__", None)
    if attributes and not isinstance(value, types.FunctionType):
        return id(value), _content(attributes, depth - 1)
    return id(value)


def global_random_state():
    """Something that changes when NumPy's global random generator is used."""
    state = np.random.get_state(legacy=False)
    return state["state"]["key"].tobytes() if "key" in state.get("state", {}) else repr(state), state["state"].get("pos")
