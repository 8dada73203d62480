"""Jitted functions of published packages with the arguments of real calls: what runs when the examples of docstrings run."""

import contextlib
import copy
import doctest
import functools
import importlib
import inspect
import io
import signal
import sys
import types
import warnings

import numpy as np
import pytest
from numba import njit
from numba.core.dispatcher import Dispatcher

CALLS = 8
"""Of how many calls of a function the arguments are kept."""

SECONDS = 5
"""How long the examples of one docstring may run."""


class TooLong(BaseException):
    """The examples of a docstring run too long."""


@contextlib.contextmanager
def time_limit(seconds):
    """Leave the block by TooLong after so many seconds."""
    def leave(*_):
        raise TooLong

    before = signal.signal(signal.SIGALRM, leave)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def jitted_functions(package):
    """{(module, name): jitted function} of a package, whose Python function is `name` of `module`."""
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")
        patch.setenv("NUMBA_FUNCTION_CACHE_SIZE", "0")  # how these packages are told not to keep code on disk
        jitted = importlib.import_module(f"{package}.numba")
        getattr(jitted, "anything", None)  # `chemicals.numba` makes its functions when it is first asked for one
    found = {}
    for name in dir(jitted):
        function = getattr(jitted, name)
        if isinstance(function, Dispatcher) and function.py_func.__module__.split(".")[0] == package:
            found[function.py_func.__module__, function.py_func.__name__] = function
    return found


def as_jitted(x):
    """An argument of a Python call as the jitted function takes it: lists of numbers as arrays. ValueError for what is none."""
    if type(x) in (float, int, bool, str, type(None)):
        return x
    if isinstance(x, (np.floating, np.integer)):
        return x.item()
    if type(x) in (list, np.ndarray):
        array = np.array(x)
        if array.dtype.kind in "if" and array.size:
            return array
    if type(x) is tuple:
        return tuple(as_jitted(part) for part in x)
    raise ValueError


@functools.cache
def recorded_calls(packages):
    """{(module, name): [arguments]} of the functions of packages, of all calls when the examples of their docstrings run."""
    found = {}
    functions = {key: f for package in packages for key, f in jitted_functions(package).items()}
    python = {}
    for module, name in functions:
        with contextlib.suppress(Exception):
            function = getattr(importlib.import_module(module), name)
            if isinstance(function, types.FunctionType):
                python[function] = (module, name)
    recorders = {function: _recorder(function, found.setdefault(key, [])) for function, key in python.items()}
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        for name, module in list(sys.modules.items()):
            if name.split(".")[0] in packages and not name.endswith(".numba"):
                for attribute, x in list(vars(module).items()):
                    if isinstance(x, types.FunctionType) and x in recorders:
                        patch.setitem(vars(module), attribute, recorders[x])
        for function, (module, _) in sorted(python.items(), key=lambda item: item[1]):
            _run_examples(function, [sys.modules[p] for p in packages] + [sys.modules[module]])
    return found


def _recorder(function, calls):
    """The function, that appends the arguments of its calls to `calls`."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def recording(*args, **kws):
        if len(calls) < CALLS:
            with contextlib.suppress(TypeError, ValueError):
                bound = signature.bind(*args, **kws)
                bound.apply_defaults()
                made = tuple(as_jitted(copy.deepcopy(x)) for x in bound.args)
                if not bound.kwargs and not any(repr(made) == repr(other) for other in calls):
                    calls.append(made)
        return function(*args, **kws)

    return recording


def _run_examples(function, modules):
    space = {"np": np, "numpy": np}
    for module in modules:
        space.update({name: x for name, x in vars(module).items() if not name.startswith("__")})
        space[module.__name__.split(".")[0]] = sys.modules[module.__name__.split(".")[0]]
    with contextlib.suppress(TooLong), time_limit(SECONDS), contextlib.redirect_stdout(io.StringIO()):
        for example in doctest.DocTestParser().get_examples(function.__doc__ or ""):
            with contextlib.suppress(Exception):
                exec(compile(example.source, "<example>", "single"), space)


def floats_of(args):
    """Numbers of the arguments that are floats or arrays of floats."""
    return tuple(k for k, x in enumerate(args) if type(x) is float or (isinstance(x, np.ndarray) and x.dtype == float))


@njit
def weighed(values):
    """A float of all the numbers of a list or an array of one dimension."""
    total = 0.0
    for k in range(len(values)):
        total += values[k] * (1.0 - 0.5 * (k % 3) + 0.01 * k)
    return total


def parts_of(result, name="r"):
    """Expressions of floats that make up a result, in Python."""
    if type(result) is float:
        return [name]
    if isinstance(result, np.ndarray) and result.dtype == float and result.size:
        return [f"weighed({name})" if result.ndim == 1 else f"weighed({name}.ravel())"]
    if type(result) is list and result and all(type(x) is float for x in result):
        return [f"weighed({name})"]
    if type(result) is tuple:
        return [part for k, x in enumerate(result) for part in parts_of(x, f"{name}[{k}]")]
    return []


def scalar(function, result):
    """The jitted function of the same arguments that gives one float of all those of the results; None if there are none."""
    if type(result) is float:
        return function
    parts = parts_of(result)
    if not parts:
        return None
    names = ", ".join(inspect.signature(function.py_func).parameters)
    total = " + ".join(f"{1 - 0.3 * k} * {part}" for k, part in enumerate(parts[:12]))
    space = {"function": function, "weighed": weighed}
    exec(f"def scalar({names}):\n    r = function({names})\n    return {total}\n", space)
    return njit(space["scalar"])
