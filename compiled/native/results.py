"""Memory for large results: used again when the arrays that lay there are gone.

The first touch of fresh memory costs far more than the arithmetic of a small function, and the allocator hands large blocks
back to the system as soon as they are freed. What is here: arrays whose memory goes back to a pool. What is not: small arrays.
"""

from __future__ import annotations

import math

import numpy as np

from compiled.forking import Lock

LEAST_BYTES = 1 << 16
"""Smaller arrays are NumPy's own."""

MOST_IDLE_BYTES = 1 << 27
"""Memory that the pool keeps at most."""


class _Pool:
    """Blocks that nobody uses, by their size."""

    def __init__(self):
        self.blocks: dict[int, list[np.ndarray]] = {}
        self.idle = 0
        self.lock = Lock()  # re-entrant: a collection inside may give a block back

    def take(self, nbytes) -> np.ndarray:
        with self.lock:
            blocks = self.blocks.get(nbytes)
            if blocks:
                self.idle -= nbytes
                return blocks.pop()
        return np.empty(nbytes, np.uint8)

    def give(self, block):
        with self.lock:
            if block.nbytes > MOST_IDLE_BYTES:
                return
            if self.idle + block.nbytes > MOST_IDLE_BYTES:
                self.blocks.clear()
                self.idle = 0
            self.blocks.setdefault(block.nbytes, []).append(block)
            self.idle += block.nbytes


_pool = _Pool()


class _Lent:
    """A block that an array lies in; it goes back to the pool when neither the array nor a view of it is left."""

    def __init__(self, block, shape, dtype):
        self.block = block
        self.__array_interface__ = {"shape": shape, "typestr": dtype.str, "data": (block.ctypes.data, False), "version": 3}

    def __del__(self, give=_pool.give):
        give(self.block)


def empty(shape, dtype) -> np.ndarray:
    """An array whose contents are not set, as of `numpy.empty`."""
    nbytes = math.prod(shape) * dtype.itemsize
    if nbytes < LEAST_BYTES:
        return np.empty(shape, dtype)
    return np.asarray(_Lent(_pool.take(nbytes), shape, dtype))
