"""The memory of a list while it is written: preallocated arrays that grow by doubling and lose nothing.

What is here: cells, slots, views, instructions, shared geometry blocks, and the limit on their size.
What is not: which instruction is written (`tape.recording.recorder`) and the finished list (`program.py`).
"""

from __future__ import annotations

import math

import numpy as np

from compiled.errors import CapacityError
from compiled.table.layout import FIELDS, OPERANDS, OUT
from compiled.table.views import View, broadcast_strides, contiguous

MOST_CELLS = 2**31 - 1
"""Cells are numbered by 32-bit integers."""

LINE_CELLS = 8
"""Array slots start at multiples of this many cells, a cache line of float64."""


SHORT_ROW = 8
"""Rows shorter than this are not worth a loop of their own."""


def elementwise_block(shape, strides) -> tuple[int, ...] | None:
    """The geometry block of an elementwise instruction, with as few axes as its views allow.

    Parameters
    ----------
    shape : tuple of int
        The iteration space.
    strides : list of four tuples of int
        Of operands 0, 1, 2 and of the output, over the iteration space.

    Returns
    -------
    tuple of int or None
        See `layout.py`; None where the space is a single point.
    """
    axes = [(n, *(s[d] for s in strides)) for d, n in enumerate(shape) if n != 1]
    if not axes:
        return None
    # The innermost axis takes the smallest steps (of those with equal ones it is the longest), unless it is so short that
    # starting its loop costs more than running it.
    axes.sort(key=lambda axis: (-sum(abs(s) for s in axis[1:]), axis[0], -abs(axis[1 + OUT])))
    axes = _merged(axes)
    longest = max(axes)
    if axes[-1][0] < SHORT_ROW and longest[0] >= 4 * axes[-1][0]:
        axes.remove(longest)
        axes = [*_merged(axes), longest]
    return (len(axes), *(word for column in zip(*axes, strict=True) for word in column))


def _merged(axes):
    """Axes (length and steps of each view), those made one that follow each other in memory in all views."""
    merged = axes[:1]
    for axis in axes[1:]:
        before = merged[-1]
        if all(b == s * axis[0] for b, s in zip(before[1:], axis[1:], strict=True)):
            merged[-1] = (before[0] * axis[0], *axis[1:])
        else:
            merged.append(axis)
    return merged


class ListMemory:
    """A list being written.

    Parameters
    ----------
    dtype : numpy.dtype
        float64 or float32, of all cells.
    limit : int, optional
        Bytes that code, geometry and values together may take.

    Attributes
    ----------
    code, geometry, values : numpy.ndarray
        Preallocated; only the first `length` rows, `words` words and `cells` cells are in use. Cell 0 belongs to no slot.
    slots : list of (int, tuple of int)
        First cell and shape of each slot.
    """

    def __init__(self, dtype, limit: int | None = None):
        self.code = np.zeros((64, FIELDS), np.int32)
        self.geometry = np.zeros(256, np.int64)
        self.values = np.zeros(1024, dtype)
        self.length, self.words, self.cells = 0, 0, 1
        self.slots: list[tuple[int, tuple[int, ...]]] = []
        self.limit = limit
        self._blocks: dict[tuple[int, ...], int] = {}

    @property
    def dtype(self) -> np.dtype:
        """Of the cells."""
        return self.values.dtype

    def allocate(self, shape: tuple[int, ...]) -> View:
        """Return a new slot, as the contiguous view of all its cells."""
        size = max(math.prod(shape), 1)  # an empty slot has a cell too, so that every slot has a place of its own
        if size >= LINE_CELLS:
            self.cells += -self.cells % LINE_CELLS
        cell = self.cells
        if cell + size > MOST_CELLS:
            raise CapacityError(f"a list numbers its cells by 32-bit integers: expected at most {MOST_CELLS} cells, got "
                                f"{cell + size}; record a smaller part of the computation")
        self.values = self._grown(self.values, cell + size)
        self.cells = cell + size
        self.slots.append((cell, shape))
        return View(cell, shape, contiguous(shape))

    def block(self, words: tuple[int, ...] | None) -> int:
        """Return where a block of these words stands in the geometry, -1 (layout.SCALAR) for None."""
        if words is None:
            return -1
        start = self._blocks.get(words)
        if start is None:
            start = self._blocks[words] = self.words
            self.geometry = self._grown(self.geometry, start + len(words))
            self.geometry[start : start + len(words)] = words
            self.words += len(words)
        return start

    def append_elementwise(self, opcode: int, shape, operands: list[View], out: View, flags: int, line: int) -> None:
        """Write an elementwise instruction over the iteration space `shape`, to which the views are broadcast."""
        words = None
        if math.prod(shape) != 1:
            strides = [view.strides if view.shape == shape else broadcast_strides(view, shape) for view in (*operands, out)]
            unused = [(0,) * len(shape)] * (OPERANDS - len(operands))
            words = elementwise_block(shape, [*strides[:-1], *unused, strides[-1]])
        self.append(opcode, words, out.cell, tuple(view.cell for view in operands), flags, line)

    def append(self, opcode: int, words: tuple[int, ...] | None, output: int, operands: tuple[int, ...], flags: int,
               line: int) -> int:
        """Write an instruction with the words of its block, None for one on single cells; returns its number."""
        number, space = self.length, self.block(words)
        if number == len(self.code):
            self.code = self._grown(self.code, number + 1)
        padding = (0,) * (OPERANDS - len(operands))
        self.code[number] = (opcode, space, output, *operands, *padding, flags, line)
        self.length += 1
        return number

    def _grown(self, array, needed):
        """`array`, or a copy of at least `needed` entries, twice as long."""
        if needed <= len(array):
            return array
        length = max(needed, 2 * len(array))
        if self.limit is not None:
            entry = array.nbytes // len(array)
            others = self.code.nbytes + self.geometry.nbytes + self.values.nbytes - array.nbytes
            length = min(length, (self.limit - others) // entry)
            if length < needed:
                raise CapacityError(f"the list needs {others + needed * entry} bytes, but tape.memory_limit allows "
                                    f"{self.limit}; raise the limit, or record a smaller part of the computation")
        larger = np.zeros((length, *array.shape[1:]), array.dtype)
        larger[: len(array)] = array
        return larger
