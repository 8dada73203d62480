"""Derivatives of `@njit` functions: jitted functions themselves, callable from Python and in nopython mode.

`way_of` is the one place that decides how a jitted function is differentiated. What is not here: how the derivatives
compute (`compiled.active`).
"""

from __future__ import annotations

import hashlib
import inspect
import re

import numpy as np
from numba import njit
from numba.core import errors
from numba.core.caching import NullCache
from numba.core.registry import CPUDispatcher
from numba.extending import typeof_impl

from compiled.active.derivatives import Gradient, Pullback, Pushforward
from compiled.active.jacobians import ForwardJacobian, Jacobian, ReverseJacobian
from compiled.active.operations import Operation
from compiled.active.preparation import options_of
from compiled.active.resting import free_resting
from compiled.active.workspace import limit_workspaces
from compiled.cache import PlacedCache, package_digest, place
from compiled.numba_loading import load_numba
from tape.errors import NotDifferentiable
from tape.recording.arguments import argument_numbers
from tape.recording.arrays import RecordedArray
from tape.recording.lines import with_cell_names
from tape.recording.made import Made, Making, PullbackFunction, docstring


def way_of(function):
    """The jitted function that is differentiated by running it on numbers that carry derivatives.

    The one place that decides how a jitted function is differentiated: recording and dual numbers, for all of them so far.
    """
    return function.caller if isinstance(function, Operation) else function


def jitted_caller(operation, function):
    """The jitted function that calls an operation."""
    names = ", ".join(inspect.signature(function.py_func).parameters)
    space = {"_operation": operation}
    exec(f"def {function.__name__}({names}):\n    return _operation({names})\n", space)
    return njit(space[function.__name__])


class JittedDerivative(Made, CPUDispatcher):
    """A jitted function that is a derivative of another; in nopython mode it is called like any jitted function."""

    is_derivative = True

    def __init__(self, body, making: Making):
        self._making = making
        super().__init__(body, targetoptions={"nopython": True, "nogil": True})
        self.__name__, self.__doc__ = body.__name__, docstring(self, making.function)

    def _said(self):
        return f"{super()._said()}, jitted"

    def _compile_for_args(self, *args, **kws):
        load_numba()
        try:
            return super()._compile_for_args(*args, **kws)
        except errors.TypingError as error:
            raise NotDifferentiable(_explained(error, self.__name__)) from error


class _DerivativeCache(PlacedCache):
    """Numba's cache on disk, in the files of the user's function, under a key with what the derivative depends on."""

    def __init__(self, function, label):
        super().__init__(function)
        self._label = label

    def _index_key(self, signature, codegen):
        return (*super()._index_key(signature, codegen), self._label, package_digest())


def remembered(function, key, make):
    """The derivative of a function under `key`, made once, so that it is compiled once."""
    kept = function.__dict__.setdefault("_tape_derivatives", {})
    if key not in kept:
        kept[key] = make()
    return kept[key]


def workspace_limit(nbytes: int | None) -> None:
    """Limit the memory of each list that a derivative of a jitted function writes, in the whole process.

    What lists have that are not at work, and is more than that, is freed.

    Parameters
    ----------
    nbytes : int or None
        Bytes; None for no limit. (Lists of traced functions have `tape.memory_limit`.)

    Raises
    ------
    tape.WorkspaceCapacityError
        Not here, but in a derivative whose list needs more.

    Examples
    --------
    >>> import numba, tape
    >>> @numba.njit
    ... def decay(x):
    ...     for _ in range(100_000):
    ...         x = 0.9999 * x
    ...     return x
    >>> tape.workspace_limit(1_000_000)
    >>> tape.grad(decay)(1.0)
    Traceback (most recent call last):
        ...
    tape.WorkspaceCapacityError: the list needs 13... bytes, more than tape.workspace_limit allows or than there are; raise ...
    >>> tape.workspace_limit(None)
    """
    limit_workspaces(nbytes)
    if nbytes is not None:
        free_resting()


def jitted_value_and_grad(function, argnums) -> JittedDerivative:
    """See `tape.value_and_grad`."""
    made, function = Making("value_and_grad", function, (), {"argnums": argnums}), way_of(function)
    numbers = _numbers(function, argnums, "tape.value_and_grad")
    return remembered(function, ("value_and_grad", argnums), lambda: derivative(
        made, function, f"value_and_grad_{argnums}", Gradient(function, numbers, "tape.value_and_grad"),
        f"(r[0], {_arranged(numbers, argnums)})"))


def jitted_grad(function, argnums) -> JittedDerivative:
    """See `tape.grad`."""
    made, function = Making("grad", function, (), {"argnums": argnums}), way_of(function)
    numbers = _numbers(function, argnums, "tape.grad")
    return remembered(function, ("grad", argnums), lambda: derivative(
        made, function, f"grad_{argnums}", Gradient(function, numbers, "tape.grad"), _arranged(numbers, argnums)))


def jitted_jacobian(function, argnums, mode) -> JittedDerivative:
    """See `tape.jacobian`."""
    made, function = Making("jacobian", function, (), {"argnums": argnums, "mode": mode}), way_of(function)
    numbers = _numbers(function, argnums, "tape.jacobian")
    way = {"forward": ForwardJacobian, "reverse": ReverseJacobian, None: Jacobian}[mode]

    def make():
        emitter = way(function, numbers, "tape.jacobian")
        emitter.single = not isinstance(argnums, tuple)
        return derivative(made, function, f"jacobian_{argnums}_{mode}", emitter, "r")

    return remembered(function, ("jacobian", argnums, mode), make)


def jitted_hessian(function, number) -> JittedDerivative:
    """See `tape.hessian`."""
    made, gradient = Making("hessian", function, (), {"argnums": number}), jitted_grad(function, number)
    return remembered(function, ("hessian", number), lambda: derivative(
        made, function, f"hessian_{number}", ForwardJacobian(gradient, (number,), "tape.hessian"), "r"))


def jitted_hvp(function, number) -> JittedDerivative:
    """See `tape.hvp`."""
    made, gradient = Making("hvp", function, (), {"argnums": number}), jitted_grad(function, number)
    return remembered(function, ("hvp", number), lambda: derivative(
        made, function, f"hvp_{number}", Pushforward(gradient, (number,), "tape.hvp"), "r[1]", extra=("v",)))


def pushforward(function, count: int) -> JittedDerivative:
    """The jitted function of `count` primals and as many tangents that gives value and tangent."""
    made, function, numbers = Making(pushforward, function, (count,), {}), way_of(function), tuple(range(count))
    return remembered(function, ("jvp", count), lambda: derivative(
        made, function, f"jvp_{count}", Pushforward(function, numbers, "tape.jvp"), "(r[0], r[1])",
        extra=tuple(f"t{k}" for k in numbers), count=count))


def pullback(function, count: int) -> JittedDerivative:
    """The jitted function of `count` primals and a seed that gives the adjoints of the primals."""
    made, function, numbers = Making(pullback, function, (count,), {}), way_of(function), tuple(range(count))
    return remembered(function, ("vjp", count), lambda: derivative(
        made, function, f"vjp_{count}", Pullback(function, numbers, "tape.vjp"), _arranged(numbers, numbers), extra=("seed",),
        count=count))


def _arranged(numbers, argnums) -> str:
    """The gradients in a result (value, gradient, ...), as the caller wants them."""
    gradients = ", ".join(f"r[{k}]" for k in range(1, len(numbers) + 1))
    return f"({gradients},)" if isinstance(argnums, tuple) else gradients


def jitted_jvp(function, primals, tangents):
    """See `tape.jvp`."""
    return pushforward(function, len(primals))(*primals, *tangents)


def jitted_vjp(function, primals):
    """See `tape.vjp`: the value, and the function that records anew and sweeps back at each call."""
    kept = tuple(_copied(x) for x in primals)
    back = pullback(function, len(primals))
    return function(*(_copied(x) for x in primals)), PullbackFunction.of(function, back, *kept)


def along(function, mode, args, directions):
    """The jitted function of the same arguments that gives the tangent along (pulls back the adjoint) `directions`."""
    names = [f"a{k}" for k in range(len(args))]
    constants = {f"_d{k}": d for k, d in enumerate(directions)}
    made = (pushforward if mode == "forward" else pullback)(function, len(args))
    result = "r[1]" if mode == "forward" else "r"
    space = {"_derivative": made, **constants}
    exec(f"def along({', '.join(names)}):\n    r = _derivative({', '.join([*names, *constants])})\n    return {result}", space)
    return njit(space["along"])


def _copied(x):
    if isinstance(x, tuple):
        parts = [_copied(part) for part in x]
        return type(x)(*parts) if hasattr(x, "_fields") else tuple(parts)
    return np.array(x) if isinstance(x, np.ndarray) else x


def _numbers(function, argnums, name) -> tuple[int, ...]:
    numbers = argument_numbers(argnums)
    parameters = inspect.signature(function.py_func).parameters
    if max(numbers) >= len(parameters):
        raise NotDifferentiable(f"{name}: expected numbers of the {len(parameters)} arguments of {function.__name__}, counted "
                                f"from 0, got {argnums}")
    return numbers


def derivative(making: Making, function, name: str, make, result: str, extra: tuple[str, ...] = (),
               count=None) -> JittedDerivative:
    """Make the jitted function that calls an emitter with the arguments of `function`.

    Parameters
    ----------
    making : Making
        The call of the user's that makes it.
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
    count : int, optional
        How many of the function's parameters there are; all of them by default.
    """
    parameters = list(inspect.signature(function.py_func).parameters.values())[:count]
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
    made = JittedDerivative(body, making)
    if not isinstance(function._cache, NullCache):
        key = f"{label} {make!r} {source} {_computes(function)}"
        place(made, lambda: _DerivativeCache(_original(function), hashlib.sha256(key.encode()).hexdigest()))
    made.original, made.emitter, made.count = function, make, len(parameters)
    return made


def _computes(function) -> str:
    """What the user's decorator says of how the function computes; Numba's key of files on disk has nothing of it."""
    while getattr(function, "is_derivative", False):
        function = function.original
    declared = sorted((name, str(kind)) for name, kind in function.locals.items())
    return f"{sorted((k, str(v)) for k, v in options_of(function).items())} {declared}"


def _original(function):
    """The user's own Python function, through derivatives of derivatives."""
    while getattr(function, "is_derivative", False):
        function = function.original
    return function.py_func


def _explained(error, name: str) -> str:
    """The part of Numba's message that helps: ours if there is one, and the user's lines."""
    text = with_cell_names(str(error))
    ours = re.findall(r"(?<![<\w])tape[.\w]*: [^\n]*", text)
    lines = re.findall(r'File "[^"]*", line \d+:?\n[^\n]*\n*(?:[^\n]*\n)*?[^\n]*\^', text)
    where = "\n".join(dict.fromkeys(x for x in lines if "<tape." not in x))
    if ours:
        return f"{ours[-1]}\n{where}"
    refused = re.findall(r"No implementation of function Function\(<(?:class|function|ufunc) '?([\w.]+)", text)
    if refused and where:
        return (f"{name}: {refused[-1]} of these arguments has no derivative in jitted code (or Numba does not know it): write "
                f"it with functions that have one, or differentiate the Python function, .py_func\n{where}")
    return f"{name}: no derivative of this function could be compiled.\n{text}"


@typeof_impl.register(RecordedArray)
def _typeof_recorded(value, c):
    raise NotDifferentiable("a jitted function was called with a recorded array, inside a function that tape records: "
                            "differentiate the jitted function itself, make it an operation with tape.operation(function), or "
                            "call its Python body, function.py_func")
