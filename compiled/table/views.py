"""Views: some cells of a buffer seen as an array, with strides that count cells."""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import numpy as np


class View(NamedTuple):
    """Some cells of a buffer seen as an array; strides count cells."""

    cell: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    def of(self, buffer: np.ndarray) -> np.ndarray:
        """Return the view of `buffer` as an array that shares its memory."""
        item = buffer.itemsize
        steps = tuple(s * item for s in self.strides)
        return np.ndarray(self.shape, buffer.dtype, buffer, self.cell * item, steps)


@functools.lru_cache(maxsize=4096)
def contiguous(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides, in cells, of a C-contiguous array; asked for each slot, of few shapes."""
    strides, step = [], 1
    for n in reversed(shape):
        strides.append(step)
        step *= max(n, 1)
    return tuple(reversed(strides))


def broadcast_strides(view: View, shape) -> tuple[int, ...]:
    """Strides of `view` broadcast to `shape`: 0 along the axes that it lacks or that have length 1."""
    if view.shape == shape:
        return view.strides
    extra = len(shape) - len(view.shape)
    return (0,) * extra + tuple(0 if n == 1 else s for n, s in zip(view.shape, view.strides, strict=True))


def has_distinct_cells(view: View) -> bool:
    """Whether the view's strides show that no two of its elements are one cell."""
    reach = 0
    for step, n in sorted((abs(s), n) for s, n in zip(view.strides, view.shape, strict=True) if n > 1):
        if step <= reach:
            return False
        reach += step * (n - 1)
    return True


def visited(first, shape, strides) -> list[int]:
    """The cells of a view, in row-major order."""
    return [first + sum(i * s for i, s in zip(index, strides, strict=True)) for index in np.ndindex(*shape)]
