"""What the rows' own `extents` are worked out with: spans of views, and a reader of blocks that stops at malformed ones."""

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


class Reader:
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


def neighbours(count):
    """The span of `count` neighbouring cells."""
    return (0, count - 1) if count else None
