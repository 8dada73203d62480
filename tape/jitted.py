"""Derivatives of `@njit` functions: jitted functions themselves, callable from Python and in nopython mode.

`way_of` is the one place that decides how a jitted function is differentiated. What is not here: how the derivatives
compute (`compiled.active`).
"""

from __future__ import annotations

import hashlib
import inspect
import re

from numba.core import errors
from numba.core.caching import FunctionCache, NullCache
from numba.core.dispatcher import Dispatcher
from numba.core.registry import CPUDispatcher

from compiled.active.derivatives import Gradient
from compiled.active.digest import digest
from tape.arguments import argument_numbers
from tape.errors import NotDifferentiable


def is_jitted(function) -> bool:
    """Whether a function is one of Numba's."""
    return isinstance(function, Dispatcher)


class Derivative(CPUDispatcher):
    """A jitted function that is a derivative of another; in nopython mode it is called like any jitted function."""

    is_derivative = True

    def _compile_for_args(self, *args, **kws):
        try:
            return super()._compile_for_args(*args, **kws)
        except errors.TypingError as error:
            raise NotDifferentiable(_explained(error, self.__name__)) from error


class _DerivativeCache(FunctionCache):
    """Numba's cache on disk, in the files of the user's function, under a key with what the derivative depends on."""

    def __init__(self, function, label):
        super().__init__(function)
        self._label = label

    def _index_key(self, signature, codegen):
        return (*super()._index_key(signature, codegen), self._label, digest())


def jitted_value_and_grad(function, argnums) -> Derivative:
    """See `tape.value_and_grad`."""
    numbers = _numbers(function, argnums, "tape.value_and_grad")
    gradients = ", ".join(f"r[{k}]" for k in range(1, len(numbers) + 1))
    gradients = f"({gradients},)" if isinstance(argnums, tuple) else gradients
    return derivative(function, f"value_and_grad_{argnums}", Gradient(function, numbers, "tape.value_and_grad"),
                      f"(r[0], {gradients})")


def jitted_grad(function, argnums) -> Derivative:
    """See `tape.grad`."""
    numbers = _numbers(function, argnums, "tape.grad")
    gradients = ", ".join(f"r[{k}]" for k in range(1, len(numbers) + 1))
    return derivative(function, f"grad_{argnums}", Gradient(function, numbers, "tape.grad"),
                      f"({gradients},)" if isinstance(argnums, tuple) else gradients)


def _numbers(function, argnums, name) -> tuple[int, ...]:
    numbers = argument_numbers(argnums)
    parameters = inspect.signature(function.py_func).parameters
    if max(numbers) >= len(parameters):
        raise NotDifferentiable(f"{name}: expected numbers of the {len(parameters)} arguments of {function.__name__}, counted "
                                f"from 0, got {argnums}")
    return numbers


def derivative(function, name: str, make, result: str, extra: tuple[str, ...] = ()) -> Derivative:
    """Make the jitted function that calls an emitter with the arguments of `function`.

    Parameters
    ----------
    function : Dispatcher
        The user's jitted function.
    name : str
        What kind of derivative it is, for names and the key on disk.
    make : compiled.active.emitter.Emitter
        What is called.
    result : str
        Expression of the result `r` of that call.
    extra : tuple of str
        Further parameters, after those of the function.
    """
    parameters = list(inspect.signature(function.py_func).parameters.values())
    if any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters):
        raise NotDifferentiable(f"{name}: {function.__name__} takes any number of arguments (*{parameters[-1].name}); expected "
                                "a jitted function with named ones")
    defaults = {f"_{p.name}_default": p.default for p in parameters if p.default is not p.empty}
    head = [p.name if p.default is p.empty else f"{p.name}=_{p.name}_default" for p in parameters]
    if extra:
        head = [p.name for p in parameters] + list(extra)
    names = [p.name for p in parameters] + list(extra)
    label = re.sub(r"\W", "_", f"{function.__name__}_{name}")
    source = f"def {label}({', '.join(head)}):\n    r = _emitter({', '.join(names)})\n    return {result}\n"
    space = {"_emitter": make, **defaults, "__name__": function.py_func.__module__}
    exec(compile(source, f"<tape.{name} of {function.__name__}>", "exec"), space)
    body = space[label]
    body.__doc__ = f"Derivative {name} of {function.__name__}."
    made = Derivative(body, targetoptions={"nopython": True, "nogil": True})
    made.__name__ = body.__name__
    if not isinstance(function._cache, NullCache):
        made._cache = _DerivativeCache(_original(function), hashlib.sha256(f"{label} {make!r} {source}".encode()).hexdigest())
    made.original = function
    return made


def _original(function):
    """The user's own Python function, through derivatives of derivatives."""
    while getattr(function, "is_derivative", False):
        function = function.original
    return function.py_func


def _explained(error, name: str) -> str:
    """The part of Numba's message that helps: ours if there is one, and the user's lines."""
    text = str(error)
    ours = re.findall(r"(?<![<\w])tape[.\w]*: [^\n]*", text)
    lines = re.findall(r'File "[^"]*", line \d+:?\n[^\n]*\n*(?:[^\n]*\n)*?[^\n]*\^', text)
    where = "\n".join(dict.fromkeys(x for x in lines if "<tape." not in x))
    if ours:
        return f"{ours[-1]}\n{where}"
    return f"{name}: no derivative of this function could be compiled.\n{text}"
