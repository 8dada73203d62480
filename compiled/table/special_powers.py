"""Powers with a known exponent that are computed without `pow`."""

from __future__ import annotations

MOST_MULTIPLIED = 16
"""Integer exponents up to this size are multiplications."""

EQUAL_POWERS = {1.0: "copy", 2.0: "square", -1.0: "reciprocal"}
"""Exponent → the row of one operand that computes the same power, of every operand."""

SPECIAL_POWERS = {**EQUAL_POWERS, 0.5: "sqrt"}
"""Those that NumPy takes another function for, too: the root of minus infinity and of -0 is not their power."""


def by_squaring(x, n: int, square, multiply):
    """x to the power n > 0, with the operations of whoever asks."""
    if n == 1:
        return x
    half = square(by_squaring(x, n // 2, square, multiply))
    return multiply(half, x) if n % 2 else half
