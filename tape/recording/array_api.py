"""What the array API standard asks of arrays, for recorded arrays and eager variables: NumPy's functions, which hand over.

`asarray` alone does not hand over: NumPy makes plain arrays of what it is given. Here it takes our arrays as they are.
"""

from __future__ import annotations

import functools
import sys
from typing import Any

import numpy as np

_PLAIN = np.empty(0)
"""An array of NumPy's own, which says what is asked of it."""


class Namespace:
    """The namespace of our arrays: NumPy's but for `asarray`, equal to that of plain arrays, so that both may be mixed.

    Parameters
    ----------
    module : module
        NumPy, or what `array_api_compat` has in its place.
    """

    def __init__(self, module):
        self._module, self.__name__ = module, module.__name__  # by which namespaces may be told apart as well

    def __getattr__(self, name) -> Any:
        return getattr(np, name) if hasattr(np, name) else getattr(self._module, name)

    def __dir__(self):
        return sorted({*dir(np), *dir(self._module)})

    def __eq__(self, other):
        return other is self._module or (isinstance(other, Namespace) and other._module is self._module)

    def __hash__(self):
        return hash(self._module)

    def __repr__(self):
        return f"<namespace of recorded arrays, as {self._module.__name__}>"

    def asarray(self, obj, /, *, dtype=None, device=None, copy=None, **options):
        """As `numpy.asarray`; of our arrays they themselves, or copies."""
        if isinstance(obj, (list, tuple)) and any(is_ours(x) for x in obj):
            obj = np.stack([self.asarray(x) for x in obj])
        if not is_ours(obj):
            return np.asarray(obj, dtype=dtype, device=device, copy=copy, **options)
        obj.to_device(device or obj.device)
        if dtype is not None and np.dtype(dtype) != obj.dtype:
            return obj.astype(dtype)
        return obj.copy() if copy else obj


def is_ours(x) -> bool:
    """Whether this is an array of a kind that has this namespace."""
    return issubclass(type(x), tuple(OURS))


OURS: set[type] = set()
"""The kinds of arrays that have it."""


@functools.cache
def _namespace(module) -> Namespace:
    return Namespace(module)


def array_namespace(self, *, api_version=None) -> Namespace:
    """The functions of the array API standard for this array."""
    _PLAIN.__array_namespace__(api_version=api_version)  # refuses versions that NumPy does not have
    return _namespace(sys.modules.get("array_api_compat.numpy", np))


def device(self) -> str:
    """As of an ndarray: "cpu"."""
    return getattr(_PLAIN, "device", "cpu")


def to_device(self, device, /, *, stream=None):
    """As of an ndarray: the array itself."""
    if device != "cpu" or stream is not None:
        raise ValueError(f"expected the device 'cpu' and no stream, got {device!r} and {stream!r}")
    return self
