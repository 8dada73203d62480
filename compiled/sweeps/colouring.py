"""Colourings: which columns of a sparse matrix one sweep can compute together.

Source: Curtis, Powell, Reid, J. Inst. Math. Appl. 13, 1974; Gebremedhin, Manne, Pothen, SIAM Review 47, 2005 (algorithms 3.1
and 4.1).
"""

from __future__ import annotations

import functools

import numpy as np
from numba import njit

from compiled.cache import cached, package_digest


@functools.cache
def _kernel(function):
    """The function, jitted when it is first wanted and cached on disk."""
    return cached(njit(nogil=True)(function), package_digest())


def columns(pattern) -> np.ndarray:
    """Colour columns so that no two of one colour have an element in the same row.

    Parameters
    ----------
    pattern : scipy.sparse array, shape (m, n)
        Of its elements only the places count.

    Returns
    -------
    ndarray(int64, shape (n,))
        Colours from 0 on; few, but not always as few as there could be.
    """
    rows, by_column = pattern.tocsr(), pattern.tocsc()
    return _kernel(_columns)(*_whole(by_column), *_whole(rows), _order(by_column))


def symmetric(pattern) -> np.ndarray:
    """Colour the columns of a symmetric matrix so that each element, or the one opposite, stands alone in its row and colour.

    A star colouring of the graph: neighbours differ, and so do three of any four vertices of a path. Parameters and result are
    as of `columns`; the diagonal counts as full.
    """
    matrix = pattern.tocsc()
    return _kernel(_symmetric)(*_whole(matrix), _order(matrix))


def _whole(matrix):
    """Starts and indices in one kind of integers, so that a kernel is compiled once."""
    return matrix.indptr.astype(np.int64), matrix.indices.astype(np.int64)


def _order(by_column) -> np.ndarray:
    """Columns with many elements first."""
    return np.argsort(-np.diff(by_column.indptr), kind="stable")


def _columns(starts, rows, row_starts, row_columns, order):
    n = len(order)
    colours, forbidden = np.full(n, -1), np.full(n + 1, -1)
    for j in order:
        for a in range(starts[j], starts[j + 1]):
            i = rows[a]
            for b in range(row_starts[i], row_starts[i + 1]):
                if colours[row_columns[b]] >= 0:
                    forbidden[colours[row_columns[b]]] = j
        colour = 0
        while forbidden[colour] == j:
            colour += 1
        colours[j] = colour
    return colours


def _symmetric(starts, neighbours, order):
    n = len(order)
    colours, forbidden = np.full(n, -1), np.full(n + 1, -1)
    for v in order:
        for a in range(starts[v], starts[v + 1]):
            w = neighbours[a]
            if w == v:
                continue
            if colours[w] >= 0:
                forbidden[colours[w]] = v
            for b in range(starts[w], starts[w + 1]):
                x = neighbours[b]
                if x in (v, w) or colours[x] < 0:
                    continue
                if colours[w] < 0:
                    forbidden[colours[x]] = v
                    continue
                for c in range(starts[x], starts[x + 1]):
                    y = neighbours[c]
                    if y not in (w, x) and colours[y] == colours[w]:
                        forbidden[colours[x]] = v
                        break
        colour = 0
        while forbidden[colour] == v:
            colour += 1
        colours[v] = colour
    return colours
