"""Products of recorded arrays with sparse matrices of SciPy's, which are constants.

A product gathers what the stored elements multiply, and adds the products up where they belong: it never makes the matrix
dense, and runs wherever lists run. What is not here: matrices of which the elements are recorded.
"""

from __future__ import annotations

import numpy as np

from tape.recording.arrays import RecordedArray
from tape.recording.dispatch import records
from tape.rules.writing import sums_at


@records("sparse")
def product(matrix, x) -> RecordedArray:
    """``matrix @ x`` of a constant sparse matrix and an array of one or two axes.

    Raises
    ------
    ValueError
        For shapes that do not fit, as SciPy.
    """
    if not isinstance(x, RecordedArray):
        return matrix @ x
    if x.ndim not in (1, 2) or x.shape[0] != matrix.shape[-1]:
        raise ValueError(f"matmul: a sparse matrix of shape {matrix.shape} and an array of shape {x.shape}: expected one or "
                         f"two axes of which the first is of length {matrix.shape[-1]}")
    elements = matrix.tocoo()
    columns, rows = elements.coords[-1], elements.coords[0] if matrix.ndim == 2 else np.zeros(elements.nnz, int)
    terms, count = x[columns], matrix.shape[0] if matrix.ndim == 2 else 1
    if x.ndim == 1:
        total = sums_at(elements.data * terms, rows, count)
    else:
        positions = rows[:, None] * x.shape[1] + np.arange(x.shape[1])
        total = np.reshape(sums_at(elements.data[:, None] * terms, positions, count * x.shape[1]), (count, x.shape[1]))
    return total if matrix.ndim == 2 else total[0]


@records("by sparse")
def product_from_left(x, matrix) -> RecordedArray:
    """``x @ matrix`` of a constant sparse matrix: the transposed product."""
    if not isinstance(x, RecordedArray):
        return x @ matrix
    return product(matrix.T, x.T).T
