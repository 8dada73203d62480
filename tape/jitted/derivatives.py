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
from numba.core import errors, types
from numba.core.caching import NullCache
from numba.core.registry import CPUDispatcher
from numba.extending import overload, typeof_impl

from compiled.active.derivatives import Gradient, Pullback, Pushforward
from compiled.active.jacobians import ForwardJacobian, Jacobian, ReverseJacobian
from compiled.active.operations import Operation
from compiled.active.preparation import options_of
from compiled.active.resting import free_resting
from compiled.active.workspace import limit_workspaces
from compiled.cache import PlacedCache, package_digest, place
from compiled.numba_loading import load_numba
from tape.errors import NotDifferentiable
from tape.recording.arguments import apart, argument_numbers
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
            # For integers where floats are meant it compiles for floats, which numbers become on the way in.
            return super()._compile_for_args(*(self._as_float(k, x) for k, x in enumerate(args)), **kws)
        except errors.TypingError as error:
            raise NotDifferentiable(_explained(error, self.__name__)) from error


    def _as_float(self, k, x):
        """Argument k, as a float where it is an integer that is differentiated, or that goes along with one that is."""
        floats = k in self.emitter.argnums or k >= self.count
        if floats and isinstance(x, np.ndarray) and x.dtype.kind in "iu":
            raise NotDifferentiable(f"{self.__name__}: argument {k} cannot be differentiated: expected an array of floats, got "
                                    f"one of {x.dtype}; convert it with astype(np.float64)")
        return float(x) if floats and isinstance(x, (int, np.integer)) and not isinstance(x, bool) else x


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


def jitted_value_and_grad(function, argnums, has_aux=False) -> JittedDerivative:
    """See `tape.value_and_grad`."""
    made = Making("value_and_grad", function, (), {"argnums": argnums, "has_aux": has_aux})
    function, aux = _parts(way_of(function), has_aux)
    numbers = _numbers(function, argnums, "tape.value_and_grad")
    value = "(r[0], {aux})" if has_aux else "r[0]"
    return remembered(function, ("value_and_grad", argnums, has_aux), lambda: derivative(
        made, function, f"value_and_grad_{argnums}", Gradient(function, numbers, "tape.value_and_grad"),
        f"({value}, {_arranged(numbers, argnums)})", aux=aux))


def jitted_grad(function, argnums, has_aux=False) -> JittedDerivative:
    """See `tape.grad`."""
    made = Making("grad", function, (), {"argnums": argnums, "has_aux": has_aux})
    function, aux = _parts(way_of(function), has_aux)
    numbers = _numbers(function, argnums, "tape.grad")
    result = _with_aux(_arranged(numbers, argnums), has_aux)
    return remembered(function, ("grad", argnums, has_aux), lambda: derivative(
        made, function, f"grad_{argnums}", Gradient(function, numbers, "tape.grad"), result, aux=aux))


def jitted_jacobian(function, argnums, mode, has_aux=False) -> JittedDerivative:
    """See `tape.jacobian`."""
    made = Making("jacobian", function, (), {"argnums": argnums, "mode": mode, "has_aux": has_aux})
    function, aux = _parts(way_of(function), has_aux)
    numbers = _numbers(function, argnums, "tape.jacobian")
    way = {"forward": ForwardJacobian, "reverse": ReverseJacobian, None: Jacobian}[mode]

    def make():
        emitter = way(function, numbers, "tape.jacobian")
        emitter.single = not isinstance(argnums, tuple)
        return derivative(made, function, f"jacobian_{argnums}_{mode}", emitter, _with_aux("r", has_aux), aux=aux)

    return remembered(function, ("jacobian", argnums, mode, has_aux), make)


def jitted_hessian(function, argnums, has_aux=False) -> JittedDerivative:
    """See `tape.hessian`."""
    made = Making("hessian", function, (), {"argnums": argnums, "has_aux": has_aux})
    function, aux = _parts(way_of(function), has_aux)
    number, gradient = _numbers(function, argnums, "tape.hessian"), jitted_grad(function, argnums)
    return remembered(function, ("hessian", argnums, has_aux), lambda: derivative(
        made, function, f"hessian_{argnums}", ForwardJacobian(gradient, number, "tape.hessian"), _with_aux("r", has_aux),
        aux=aux))


def jitted_hvp(function, argnums, has_aux=False) -> JittedDerivative:
    """See `tape.hvp`."""
    made = Making("hvp", function, (), {"argnums": argnums, "has_aux": has_aux})
    function, aux = _parts(way_of(function), has_aux)
    number, gradient = _numbers(function, argnums, "tape.hvp"), jitted_grad(function, argnums)
    return remembered(function, ("hvp", argnums, has_aux), lambda: derivative(
        made, function, f"hvp_{argnums}", Pushforward(gradient, number, "tape.hvp"), _with_aux("r[1]", has_aux), extra=("v",),
        aux=aux))


def _with_aux(result, has_aux) -> str:
    return f"({result}, {{aux}})" if has_aux else result


def _parts(function, has_aux):
    """The jitted function itself and None, or those of the two parts of a pair that it returns."""
    if not has_aux:
        return function, None
    return remembered(function, "parts", lambda: (_part(function, 0), _part(function, 1)))


def _part(function, number):
    """The jitted function of one part of a function's result, of arguments that stay as they are."""
    parameters = list(inspect.signature(function.py_func).parameters.values())
    defaults = {f"_{p.name}_default": p.default for p in parameters if p.default is not p.empty}
    head = ", ".join(p.name if p.default is p.empty else f"{p.name}=_{p.name}_default" for p in parameters)
    names = ", ".join(p.name for p in parameters)
    space = {"_function": function, **defaults, "__name__": function.py_func.__module__}
    name = re.sub(r"\W", "_", f"{function.__name__}_part_{number}")
    source = f"def {name}({head}):\n    return _function({names})[{number}]\n"
    exec(compile(source, f"<tape.has_aux of {function.__name__}>", "exec"), space)
    return njit(space[name])


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


def jitted_jvp(function, primals, tangents, has_aux=False):
    """See `tape.jvp`."""
    if not has_aux:
        return pushforward(function, len(primals))(*primals, *tangents)
    _, aux = jitted_value(function, primals, True)
    return *pushforward(_parts(way_of(function), True)[0], len(primals))(*primals, *tangents), aux


def jitted_vjp(function, primals, has_aux=False):
    """See `tape.vjp`: the value, and the function that records anew and sweeps back at each call."""
    kept, back = copied_arguments(primals), pullback(_parts(way_of(function), has_aux)[0], len(primals))
    value, *aux = jitted_value(function, primals, has_aux)
    return value, PullbackFunction.of(function, back, *kept), *aux


def jitted_value(function, primals, has_aux=False) -> tuple:
    """The value, and the aux if it `has_aux`, of arguments that stay as they are."""
    result = function(*copied_arguments(primals))
    return apart(result) if has_aux else (result,)


def copied_arguments(primals) -> tuple:
    """Arguments that nobody else holds."""
    return tuple(_copied(x) for x in primals)


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
    """Numbers of the differentiated arguments; `argnums` may name them."""
    names = list(inspect.signature(function.py_func).parameters)
    numbers = tuple(names.index(n) if n in names else n for n in argument_numbers(argnums))
    if any(isinstance(n, str) or n >= len(names) for n in numbers):
        raise NotDifferentiable(f"{name}: expected numbers of the {len(names)} arguments of {function.__name__}, counted "
                                f"from 0, or names among {', '.join(names)}, got {argnums!r}")
    return numbers


def derivative(making: Making, function, name: str, make, result: str, extra: tuple[str, ...] = (), count=None,
               aux=None) -> JittedDerivative:
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
        Expression of the result `r` of that call; ``{aux}`` stands for the aux.
    extra : tuple of str
        Further parameters, after those of the function.
    count : int, optional
        How many of the function's parameters there are; all of them by default.
    aux : Dispatcher, optional
        The jitted function that gives the aux at the same arguments.
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
    first = ""
    if aux is not None:  # before the derivative, as its function may change its arguments in place
        fresh = ", ".join(f"_fresh({p.name})" for p in parameters)
        first, result = f"    a = _aux({fresh})\n", result.format(aux="a")
    source = f"def {label}({', '.join(head)}):\n{first}    r = _emitter({', '.join(names)})\n    return {result}\n"
    space = {"_emitter": make, "_aux": aux, "_fresh": _fresh, **defaults, "__name__": function.py_func.__module__}
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


def _fresh(x):
    """An argument that nobody else holds, in nopython mode."""
    return _copied(x)


@overload(_fresh)
def _fresh_in_nopython(x):
    if isinstance(x, types.Array):
        return lambda x: x.copy()
    if isinstance(x, types.BaseTuple):
        parts = ", ".join(f"_fresh(x[{k}])" for k in range(len(x)))
        made = f"_kind({parts})" if isinstance(x, types.BaseNamedTuple) else f"({parts},)" if len(x) else "()"
        return eval(f"lambda x: {made}", {"_fresh": _fresh, "_kind": getattr(x, "instance_class", None)})
    return lambda x: x


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
