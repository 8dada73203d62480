"""What public functions return, as objects that know the call that made them.

By that they say what they are (`repr`, `inspect.signature`), and are pickled and copied: as the name of the public function,
the user's function and the options; where a pickle lands the call is made again. Recorded lists and compiled code stay behind.

A decorated function of a module bears the name that the plain function is known by, so `pickle` would not find the plain one.
It goes under its place inside the decorated one (``module.name._carried.function``), and where it lands it leads to the
decorated function of the module there. A pickler that sends code (cloudpickle) sends it where it cannot be imported.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import os
import pickle
import sys
import types
from collections.abc import Callable
from operator import attrgetter
from typing import Any, NamedTuple

from numba.core.caching import NullCache
from numba.core.dispatcher import Dispatcher

from compiled.forking import cached_property
from tape.recording.lines import file_name

SAID = ("argnums", "in_axes")
"""Options that `repr` shows even where they are the default."""


RULES = ("function", "rule", "tangent_rule")
"""What a pickle of an operation holds."""


class Making(NamedTuple):
    """The call that made an object.

    Attributes
    ----------
    maker : str or callable
        Name of the public function; or a function of a module here, where that is none.
    function : callable
        Its first argument.
    arguments : tuple
        Its other positional arguments.
    options : dict
        Its keyword arguments.
    """

    maker: str | Callable[..., Any]
    function: Any
    arguments: tuple
    options: dict


class Made:
    """Base of objects that public functions return: what they say of themselves, and how they are pickled."""

    _making: Making
    _carries = ("function",)
    """What a pickle has to hold: attributes of `_making`, or of the object itself, set there again where it lands."""

    def __repr__(self):
        return f"<{self._said()}>"

    def _said(self) -> str:
        maker, function, _, options = self._making
        defaults = _defaults(maker)
        shown = [f", {name}={value!r}" for name, value in options.items() if name in SAID or value != defaults[name]]
        return f"tape.{getattr(maker, '__name__', maker)} of {said_of(function)}{''.join(shown)}"

    def __reduce__(self):
        maker, function, arguments, options = self._making
        parts = {name: self._portable(name) for name in self._carries}
        return _made_again, (maker, arguments, options, parts, place_of(self), _keeps_code(function))

    def _portable(self, name):
        """Part `name`, as a pickle holds it."""
        return self._carried.portable(name, place_of(self))

    @cached_property
    def _carried(self) -> Carried:
        return Carried(self)

    def _part(self, name):
        return self._making.function if name == "function" else getattr(self, name)

    def _take(self, parts: dict) -> None:
        """Be given again what was set after the call."""
        for name, part in parts.items():
            setattr(self, name, part)


class MadeFunction(Made):
    """A function that a public function of the package returned.

    Calls go straight to the function inside; like any function it is bound where it is looked up in an instance.
    """

    __slots__ = ("__call__",)
    report: Callable[[], str]

    def __init__(self, call, making: Making, signature=None):
        self.__call__, self._making, self._signature = call, making, signature
        wrap(self, making.function)

    def __get__(self, instance, owner=None):
        return self if instance is None else types.MethodType(self, instance)

    @property
    def __signature__(self):
        return signature_of(self._making.function, self._signature)


def made_function(maker: str, function, *arguments, signature=None, **options):
    """Decorator: the function that ``tape.<maker>(function, *arguments, **options)`` returns; `signature` changes that."""
    return lambda call: MadeFunction(call, Making(maker, function, arguments, options), signature)


class MadeAttribute:
    """An attribute of an object that was made, which is pickled as that."""

    _attribute: tuple[Any, str]

    def _said(self):
        return f"{self._attribute[1]} of {self._attribute[0]!r}"

    def __repr__(self):
        return f"<{self._said()}>"

    def __reduce__(self):
        return getattr, self._attribute


class MadeMethod(MadeAttribute, MadeFunction):
    """A function that is an attribute of an object that was made."""

    __slots__ = ()

    def __init__(self, call, owner, name):
        self._attribute = owner, name
        super().__init__(call, owner._making)


def made_method(owner, name):
    """Decorator: attribute `name` of an object that was made."""
    return lambda call: MadeMethod(call, owner, name)


class PullbackFunction(functools.partial):
    """What `vjp` returns beside the value: pulls adjoints of the result back to the arguments."""

    @classmethod
    def of(cls, function, pull, *arguments):
        """The pullback of a function that calls ``pull(*arguments, seed)``."""
        made = cls(pull, *arguments)
        made.said = said_of(function)
        return made

    def __repr__(self):
        return f"<pullback of tape.vjp of {self.said}>"


def wrap(made, function) -> None:
    """As `functools.update_wrapper`; the docstring begins with what it is."""
    functools.update_wrapper(made, function, updated=())
    made.__doc__ = docstring(made, function)


def docstring(made, function) -> str:
    """What an object is, before what the docstring of its function says."""
    return "\n\n".join(filter(None, [f"{made._said()}.", getattr(function, "__doc__", None)]))


def signature_of(function, change=None) -> inspect.Signature:
    """Signature of what was made of a function: that of the function, what it returns left out; `change` makes another of it.

    Raises
    ------
    AttributeError
        For functions of which none is known.
    """
    try:
        known = inspect.signature(function)
    except (TypeError, ValueError):
        raise AttributeError("__signature__") from None
    return (change or without_result)(known)


def without_result(signature):
    """A derivative returns something else than its function."""
    return signature.replace(return_annotation=inspect.Signature.empty)


@functools.cache
def _defaults(maker) -> dict:
    return {name: parameter.default for name, parameter in inspect.signature(_called(maker)).parameters.items()}


def _called(maker) -> Callable[..., Any]:
    return maker if callable(maker) else getattr(sys.modules["tape"], maker)  # which is loaded before anything can be made


def said_of(function) -> str:
    """What a user calls a function, and where it stands."""
    if isinstance(function, Made):
        return function._said()
    name = getattr(function, "__name__", None) or type(function).__name__
    code = getattr(inspect.unwrap(function), "__code__", None)
    return f"{name} at {os.path.basename(file_name(code.co_filename))}:{code.co_firstlineno}" if code is not None else name


# ---------------------------------------------------------------------- pickles


class Carried:
    """What an object carries into a pickle: its plain functions, as copies named by where in the object they are."""

    def __init__(self, made):
        self._made, self._copies = made, {}

    def __getattr__(self, name):
        made, copies = self.__dict__["_made"], self.__dict__["_copies"]
        if name not in made._carries:
            raise AttributeError(f"expected one of {made._carries}, got {name}")
        function = made._part(name)
        if name not in copies or copies[name][0] is not function:
            copies[name] = function, _copy_of(function)
        copy = copies[name][1]
        copy.__qualname__ = f"{place_of(made)[1]}._carried.{name}"
        return copy

    def __reduce__(self):
        raise pickle.PicklingError("a decorated function is pickled by protocol 4 or later")

    def portable(self, name, place):
        """Part `name`, as a pickle holds it."""
        part = self._made._part(name)
        if isinstance(part, Dispatcher) and not isinstance(part, Made):
            return _portable_jitted(part, place and (place[0], f"{place[1]}.{_path_of(name)}"))
        if place is None or not isinstance(part, types.FunctionType) or _found(part.__module__, part.__qualname__) is part:
            return part
        return getattr(self, name)


def _path_of(name) -> str:
    return "_making.function" if name == "function" else name


def _copy_of(function):
    copy = types.FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__,
                              function.__closure__)
    copy.__kwdefaults__ = function.__kwdefaults__
    functools.update_wrapper(copy, function)
    vars(copy).pop("__wrapped__")  # the function again
    return copy


def _portable_jitted(function, place):
    """A jitted function of a module by its name, so that it has its cache on disk where it lands; others as Numba has it."""
    own = (function.py_func.__module__, function.py_func.__qualname__)
    for module, path in filter(None, (own, place)):
        if _is_imported_where_it_lands(module) and _found(module, path) is function:
            return _NamedJitted(module, path, function)
    return function


def _is_imported_where_it_lands(module) -> bool:
    """Whether a pickle may name what is in a module: not of scripts, nor where cloudpickle was told to send the code."""
    sent = getattr(sys.modules.get("cloudpickle"), "list_registry_pickle_by_value", set)()
    return module not in (None, "__main__") and not any(module == name or module.startswith(f"{name}.") for name in sent)


class _NamedJitted:
    """A jitted function in a pickle.

    With a number that no other process has: Numba's keys of files on disk hold the pickles of what code closes over, and this
    one does not hold the function's code.
    """

    def __init__(self, module, path, function):
        self.function, self._reduced = function, (_imported, (module, path, str(function._uuid)))

    def __reduce__(self):
        return self._reduced


def _imported(module, path, number):
    return attrgetter(path)(importlib.import_module(module))


def _found(module, path):
    """What stands under a name in a module that is there; None where nothing does."""
    try:
        return attrgetter(path)(sys.modules[module])
    except (KeyError, AttributeError, TypeError):
        return None


def place_of(made) -> tuple[str, str] | None:
    """Module and path under which an object is found in another process; None where the module's name is not its own."""
    function = made
    while isinstance(function, Made):
        function = function._making.function
    function = function.py_func if isinstance(function, Dispatcher) else function
    module, path = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    outer = _found(module, path)
    while isinstance(outer, Made):
        if outer is made:
            return module, path
        outer, path = outer._making.function, f"{path}._making.function"
    return None


def _keeps_code(function) -> bool:
    return isinstance(function, Dispatcher) and not isinstance(function._cache, NullCache)


def _made_again(maker, arguments, options, parts, place, keeps_code):
    """What `Made.__reduce__` says is called where a pickle lands."""
    # A shallow copy hands in what a pickle would have turned into what it names.
    parts = {name: part.function if isinstance(part, _NamedJitted) else part for name, part in parts.items()}
    function = parts.pop("function")
    is_plain = isinstance(function, types.FunctionType)
    there = place and _found(*place)
    if isinstance(there, Made) and function is (there._carried.function if is_plain else there._making.function):
        return there
    if place and is_plain:
        function.__qualname__ = place[1].partition("._making")[0]
    # Numba reads code from disk for functions of modules that are here alone, and throws away what it cannot read.
    if keeps_code and isinstance(function._cache, NullCache) and function.py_func.__module__ in sys.modules:
        with contextlib.suppress(RuntimeError):  # Numba's, where the file of the function is not here
            function.enable_caching()
    made = _called(maker)(function, *arguments, **options)
    if parts:
        made._take(parts)
    return made
