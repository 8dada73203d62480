"""What the kernels of structural instructions may touch, worked out from their geometry blocks (see `structural.py`).

Each function takes the words of a block after `owned` and returns, for the three operands and the output, the lowest and the
highest cell relative to the first, or None where a view has no cells. It raises ValueError when the block is malformed.
"""

from __future__ import annotations

import math

MOST_STEPS = 2**40
"""Elements an iteration space may have; more would take half an hour, and no list needs them."""


def span(shape, strides):
    """Lowest and highest cell of a view, relative to its first, or None for an empty one.

    Raises
    ------
    ValueError
        For negative lengths, and for views too large to be in any list.
    """
    if min(shape, default=0) < 0:
        raise ValueError(f"a length of its shape {tuple(shape)} is negative")
    if 0 in shape:
        return None
    reach = [(n - 1) * s for n, s in zip(shape, strides, strict=True)]
    low, high = sum(min(r, 0) for r in reach), sum(max(r, 0) for r in reach)
    if math.prod(shape) > MOST_STEPS or max(-low, high) >= 2**31:
        raise ValueError(f"its shape {tuple(shape)} is too large")
    return low, high


class _Reader:
    """Reads a block word by word."""

    def __init__(self, block):
        self.words, self.at = [int(w) for w in block], 0

    def dims(self, n):
        """Return n words that are lengths."""
        words = self.take(n)
        if min(words, default=0) < 0 or max(words, default=0) > MOST_STEPS:
            raise ValueError("a negative or huge length")
        return words

    def take(self, n):
        if not 0 <= n <= 64 or self.at + n > len(self.words):
            raise ValueError("it ends too early")
        self.at += n
        return self.words[self.at - n : self.at]


def _cells(count):
    return (0, count - 1) if count else None


def indexed_extents(indexed, direct):
    """Make the function for blocks [count, low, high]: views that positions point into, and views of `count` cells."""

    def extents(block):
        reader = _Reader(block)
        (count,) = reader.dims(1)
        low, high = reader.take(2)
        if max(-low, high, count) >= 2**31:
            raise ValueError("positions that no list has cells for")
        result = [None] * 4
        for view in indexed:
            result[view] = (low, high - 1) if count and low < high else None
        for view in direct:
            result[view] = _cells(count)
        return result

    return extents


def matmul_extents(block):
    """Extents of a matmul."""
    reader = _Reader(block)
    ndim, m, k, n = reader.dims(4)
    a, b, out = reader.take(2), reader.take(2), reader.take(2)
    for (row, column), rows, columns in ((a, m, k), (b, k, n), (out, m, n)):
        if not ((column == 1 and row >= columns) or (row == 1 and column >= rows)):
            raise ValueError("steps of a matrix that BLAS cannot take")
    shape = reader.dims(ndim)
    batch = [reader.take(ndim) for _ in range(3)]
    views = zip((a, b, out), ((m, k), (k, n), (m, n)), batch, strict=True)
    spans = [span(shape + list(matrix), strides + steps) for steps, matrix, strides in views]
    return [spans[0], spans[1], None, spans[2]]


def amax_extents(block):
    """Extents of an amax."""
    reader = _Reader(block)
    (sign,) = reader.take(1)
    kept, reduced = reader.dims(2)
    shape, reduced_shape = reader.dims(kept), reader.dims(reduced)
    if abs(sign) != 1 or reduced < 1 or 0 in reduced_shape:
        raise ValueError("an extreme of no elements, or of no sign")
    operand = span(shape + reduced_shape, reader.take(kept + reduced))
    return [operand, None, None, _cells(math.prod(shape))]


def guard_extents(block):
    """Extents of a guard."""
    (count,) = _Reader(block).dims(1)
    return [_cells(count), _cells(count), None, None]


def loop_extents(block):
    """Extents of a loop: the sizes of its operands and of its output stand first in its block."""
    reader = _Reader(block)
    reader.take(1)
    return [_cells(size) for size in reader.dims(4)]


def call_extents(block):
    """Extents of a call: the sizes of its operand and of its output."""
    operand, output = _Reader(block).dims(2)
    return [_cells(operand), None, None, _cells(output)]
