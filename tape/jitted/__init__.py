"""Functions that Numba has jitted: their derivatives, and their lists as tapes.

`derivatives.py` makes jitted functions of `compiled.active`'s derivatives, this file asks whether a function is jitted, and
`lists.py` makes a recorded list of one. Imports `recording`; nothing of traced functions.

Both load when something of them is first used through this package (say `jitted_grad`): that takes a fifth of a second,
which those who differentiate NumPy code do not wait for.
"""

import importlib

from numba.core.dispatcher import Dispatcher


def is_jitted(function) -> bool:
    """Whether a function is one of Numba's, or an operation made of one."""
    return isinstance(function, Dispatcher) or getattr(type(function), "is_jitted_operation", False)


def __getattr__(name):
    if not name.startswith("_"):
        for room in ("derivatives", "lists"):
            module = importlib.import_module(f"{__name__}.{room}")
            if name in vars(module):
                return vars(module)[name]
    raise AttributeError(f"module {__name__} has no attribute {name}")
