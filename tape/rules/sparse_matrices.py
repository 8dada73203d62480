"""Products of recorded arrays with sparse matrices of SciPy's, which are constants.

A product gathers what the stored elements multiply, and adds the products up where they belong: it never makes the matrix
dense, and runs wherever lists run. What is not here: matrices of which the elements are recorded.
"""

from __future__ import annotations

import numpy as np

from tape.recording.arrays import RecordedArray
from tape.recording.dispatch import records
from tape.rules.writing import sums_at


def checked_shapes(matrix, x) -> None:
    """Raise the ValueError for shapes that do not fit ``matrix @ x``, as SciPy."""
    if len(x.shape) not in (1, 2) or x.shape[0] != matrix.shape[-1]:
        raise ValueError(f"matmul: a sparse matrix of shape {matrix.shape} and an array of shape {x.shape}: expected one or "
                         f"two axes of which the first is of length {matrix.shape[-1]}")


def elements_of(matrix):
    """The stored elements of a sparse matrix, their rows and columns, and the number of rows; a vector is one row."""
    elements = matrix.tocoo()
    rows = elements.coords[0] if matrix.ndim == 2 else np.zeros(elements.nnz, int)
    return elements.data, rows, elements.coords[-1], matrix.shape[0] if matrix.ndim == 2 else 1


def product_of_elements(elements, rows, columns, count, x):
    """``matrix @ x``, of the elements of the matrix and an array of one or two axes, plain or recorded."""
    terms = (elements if len(x.shape) == 1 else elements[:, None]) * x[columns]
    if not isinstance(terms, RecordedArray):
        total = np.zeros((count, *x.shape[1:]), terms.dtype)
        np.add.at(total, rows, terms)
        return total
    if x.ndim == 1:
        return sums_at(terms, rows, count)
    positions = rows[:, None] * x.shape[1] + np.arange(x.shape[1])
    return np.reshape(sums_at(terms, positions, count * x.shape[1]), (count, x.shape[1]))


@records("sparse")
def product(matrix, x) -> RecordedArray:
    """``matrix @ x`` of a constant sparse matrix and an array of one or two axes.

    Raises
    ------
    ValueError
        For shapes that do not fit.
    """
    checked_shapes(matrix, x)
    total = product_of_elements(*elements_of(matrix), x)
    return total if matrix.ndim == 2 else total[0]


@records("by sparse")
def product_from_left(x, matrix) -> RecordedArray:
    """``x @ matrix`` of a constant sparse matrix: the transposed product."""
    return product(matrix.T, x.T).T
