"""The memory that eager variables share: an array and the views of it.

What is here: who shares, and which elements. What is not: how a write reaches the others (`variables.py`).
"""

from __future__ import annotations

import weakref

import numpy as np


class SharedMemory:
    """An array and its views, which hold this; the array refers to it weakly, so that it ends with the last view.

    Attributes
    ----------
    root : EagerVariable
        The array that the others are views of.
    """

    __slots__ = ("__weakref__", "_full", "_views", "root")

    def __init__(self, root):
        self.root = root
        self._views: list[tuple] = []
        self._full = 8  # how many of them there may be before dead ones are looked for

    def join(self, view, index=None) -> None:
        """Add a view of the array, or of a view of it; `index` is that by which it was taken from the array itself."""
        if len(self._views) >= self._full:
            self._views = [one for one in self._views if one[0]() is not None]
            self._full = max(8, 2 * len(self._views))
        self._views.append((weakref.ref(view), index))

    def views(self) -> list[tuple]:
        """Views that are alive, each with its index, or else None and the positions of its elements in the array."""
        alive = [(reference(), index) for reference, index in self._views]
        return [(view, index, positions_in(view.data, self.root.data) if index is None else None)
                for view, index in alive if view is not None]


def positions_in(view: np.ndarray, array: np.ndarray) -> np.ndarray:
    """Positions, counted in C order, of a view's elements in the array that it is a view of.

    Examples
    --------
    >>> import numpy as np
    >>> a = np.zeros((2, 3))
    >>> positions_in(a.T[::-1, 0], a)
    array([2, 1, 0])
    """
    places = _addresses(view)
    if array.flags.c_contiguous:
        return (places - array.__array_interface__["data"][0]) // array.itemsize
    all_places = _addresses(array).reshape(-1)
    order = np.argsort(all_places, kind="stable")
    return order[np.searchsorted(all_places[order], places)]


def _addresses(array):
    """Where each element lies."""
    places = np.full(array.shape, array.__array_interface__["data"][0])
    for axis, (n, stride) in enumerate(zip(array.shape, array.strides, strict=True)):
        places += (np.arange(n) * stride).reshape((n,) + (1,) * (array.ndim - axis - 1))
    return places
