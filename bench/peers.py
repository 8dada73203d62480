"""The peers, as far as they are installed: each set to one thread, double precision, value and gradient in one call."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import time
from collections.abc import Callable

import numpy as np

NAMES = ("jax", "torch", "autograd", "casadi")


def load() -> tuple[dict[str, float], dict[str, str]]:
    """Import the peers that are installed, so that their imports do not count as their first calls.

    Returns
    -------
    seconds : dict of str to float
        Of the import, for each peer that can be used.
    problems : dict of str to str
        Why a peer that is installed cannot be imported.
    """
    found, problems = {}, {}
    for name in NAMES:
        if importlib.util.find_spec(name) is None:
            continue
        start = time.perf_counter()
        try:
            importlib.import_module(name)
            if name in _PREPARED:
                _PREPARED[name]()
        except Exception as error:  # a broken installation of a peer is a footnote, whatever it is
            problems[name] = reason(error)
        else:
            found[name] = time.perf_counter() - start
    return found, problems


def reason(error: Exception) -> str:
    """What went wrong, in one line of a footnote."""
    first = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {first}"[:200]


@functools.cache
def jax():
    """Return jax, in double precision."""
    module = importlib.import_module("jax")
    module.config.update("jax_enable_x64", True)
    # Dispatching from a second thread would be a second thread.
    module.config.update("jax_cpu_enable_async_dispatch", False)
    return module


@functools.cache
def torch():
    """Return torch, in double precision on one thread."""
    module = importlib.import_module("torch")
    module.set_num_threads(1)
    module.set_default_dtype(module.float64)
    return module


_PREPARED = {"jax": jax, "torch": torch}
"""What an import comprises besides the import."""


def with_jax(function: Callable, args: tuple, argnums=(0,)) -> Callable:
    """Return `prepare` for a function of jax.numpy (its first argument): jitted value_and_grad, arrays on the device."""

    def prepare():
        module = jax()
        compiled = module.jit(module.value_and_grad(functools.partial(function, module.numpy), argnums))
        placed = module.tree_util.tree_map(module.numpy.asarray, args)

        def run():
            value, gradient = compiled(*placed)
            value.block_until_ready()
            return module.block_until_ready(gradient)

        return run

    return prepare


def with_jax_between_arrays(function: Callable, args: tuple, argnums=(0,)) -> Callable:
    """As `with_jax`, called with NumPy's arrays and giving NumPy's arrays."""

    def prepare():
        module = jax()
        compiled = module.jit(module.value_and_grad(functools.partial(function, module.numpy), argnums))

        def run():
            value, gradient = compiled(*args)
            value.block_until_ready()
            return [np.asarray(g) for g in gradient]

        return run

    return prepare


def with_jax_anew(function: Callable, args: tuple, argnums=(0,)) -> Callable:
    """As `with_jax`, tracing and compiling in every call."""
    return lambda: lambda: with_jax(function, args, argnums)()()


def with_autograd(function: Callable, args: tuple, argnums=(0,)) -> Callable:
    """Return `prepare` for a function of autograd.numpy (its first argument)."""

    def prepare():
        autograd = importlib.import_module("autograd")
        namespace = importlib.import_module("autograd.numpy")
        both = autograd.value_and_grad(functools.partial(function, namespace), argnums)
        return lambda: both(*args)[1]

    return prepare


def with_torch(function: Callable, args: tuple, argnums=(0,), compiled: bool = False) -> Callable:
    """Return `prepare` for a function of tensors (torch is its first argument), run eagerly unless `compiled`."""

    def prepare():
        module = torch()
        called = functools.partial(function, module)
        if compiled:
            called = module.compile(called)

        def tensor(x, wanted):
            if isinstance(x, dict):
                return {key: tensor(value, wanted) for key, value in sorted(x.items())}
            array = module.tensor(np.asarray(x))
            return array.requires_grad_() if wanted else array

        placed = [tensor(x, k in argnums) for k, x in enumerate(args)]
        wanted = [leaf for k in argnums for leaf in (placed[k].values() if isinstance(placed[k], dict) else [placed[k]])]

        def run():
            gradients = module.autograd.grad(called(*placed), wanted)
            return [g.numpy() for g in gradients]

        return run

    return prepare


def with_casadi(expression: Callable, size: int, args: tuple) -> Callable:
    """Return `prepare` for a casadi expression of one vector: `expression(casadi, x)`; value and gradient in one function."""

    def prepare():
        casadi = importlib.import_module("casadi")
        x = casadi.SX.sym("x", size)
        value = expression(casadi, x)
        function = casadi.Function("f", [x], [value, casadi.gradient(value, x)])
        point = casadi.DM(args[0])

        def run():
            return [np.asarray(function(point)[1]).ravel()]

        return run

    return prepare
