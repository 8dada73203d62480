"""NumPy's functions as methods of array-like classes: what recorded arrays and eager variables have in common with ndarrays."""

from __future__ import annotations

import numpy as np

from tape.recording import array_api


def add_methods(kind: type, names) -> None:
    """Give a class the ndarray methods that are NumPy functions of the same names, and those that every array has."""
    for name in names:
        setattr(kind, name, _method(name))
    kind.reshape, kind.transpose = _reshape, _transpose
    kind.__array_namespace__, kind.to_device = array_api.array_namespace, array_api.to_device
    kind.device = property(array_api.device)
    array_api.OURS.add(kind)


def _method(name):
    function = getattr(np, name)

    def method(self, *args, **kwargs):
        return function(self, *args, **kwargs)

    method.__name__, method.__doc__ = name, f"`numpy.{name}` of this array."
    return method


def _reshape(self, *shape, order="C"):
    """`numpy.reshape` of this array."""
    return np.reshape(self, shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape, order=order)


def _transpose(self, *axes):
    """`numpy.transpose` of this array."""
    return np.transpose(self, axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes or None)
