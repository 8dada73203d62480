"""Which elements of a Jacobian or Hessian can be other than zero, and its computation with few sweeps.

What is here: the dependencies of a list's results, element by element, worked out on the list itself without its values; and
sparse matrices from products with sums of unit vectors. What is not: the colourings (`compiled.sweeps.colouring`), the sweeps
(`jacobians.py`).
"""

from __future__ import annotations

import numpy as np

from compiled.lists.listing import Listing
from compiled.lists.program import Program
from compiled.sweeps import colouring
from compiled.table.layout import OPERAND, OUT, OUTPUT, SPACE
from compiled.table.views import View
from tape.transforms.build import with_gradients
from tape.transforms.simplify import ALL, result_of, simplified


def jacobian_pattern(program: Program, inputs: list[View]):
    """The places of elements of the Jacobian that can be other than zero.

    Returns
    -------
    scipy.sparse.csr_array of bool, shape (m, n)
        One row for each element of the results, one column for each element of the inputs, each in the order of the lists.
    """
    return _pattern(program, program.outputs, [program.inputs.index(view) for view in inputs])


def hessian_pattern(program: Program, argument: View):
    """As `jacobian_pattern`, of the gradient of the first result; symmetric, the diagonal included."""
    import scipy.sparse

    longer, adjoints = with_gradients(program, [0], [argument], seeded=False)
    pattern = _pattern(longer, adjoints, [program.inputs.index(argument)])
    return ((pattern + pattern.T) + scipy.sparse.eye_array(argument.size, dtype=bool, format="csr")).tocsr()


def _pattern(program, outputs, numbers):
    """Dependencies of some views on the inputs of these numbers."""
    import scipy.sparse

    listing = Listing.of(program)
    listing.outputs = [result_of(program, view) for view in outputs]
    program = simplified(listing, ALL).program()
    found = _Dependencies(program, [program.inputs[k] for k in numbers])
    for i in range(len(program.code)):
        found.take(i)
    rows = [found.of(found.cells(view)) for view in program.outputs]
    blocks = [found.nothing(view.size) if r is None else r for r, view in zip(rows, program.outputs, strict=True)]
    return scipy.sparse.vstack([*blocks, found.nothing(0)], format="csr")


class _Dependencies:
    """For each slot that depends on the inputs, a matrix with a row for each cell and a column for each element of them."""

    def __init__(self, program, inputs):
        import scipy.sparse

        self.sparse, self.program = scipy.sparse, program
        self.count = sum(view.size for view in inputs)
        self.slots = {}
        first = 0
        for view in inputs:
            unit = scipy.sparse.eye_array(view.size, self.count, k=first, dtype=bool, format="csr")
            self.slots[int(program.slot_of(view.cell))] = unit
            first += view.size

    def nothing(self, rows):
        """A matrix without elements."""
        return self.sparse.csr_array((rows, self.count), dtype=bool)

    @staticmethod
    def cells(view) -> np.ndarray:
        """The cells of a view, in the order of its elements."""
        cells = np.array(view.cell)
        for n, step in zip(view.shape, view.strides, strict=True):
            cells = cells[..., None] + np.arange(n) * step
        return cells.ravel()

    def of(self, cells):
        """Rows of cells, all of one slot; None where there is no dependency."""
        slot = int(self.program.slot_of(cells[0])) if len(cells) else -1
        matrix = self.slots.get(slot)
        return None if matrix is None else matrix[cells - self.program.starts[slot]]

    def put(self, cells, rows, adds: bool):
        """Set (or add to) the rows of cells, which may be one cell several times."""
        if not len(cells):
            return
        slot = int(self.program.slot_of(cells[0]))
        own, size = cells - self.program.starts[slot], int(self.program.sizes[slot])
        old = self.slots.get(slot)
        if old is not None and not adds:
            kept = np.ones(size, bool)
            kept[own] = False
            old = self.sparse.diags_array(kept, dtype=bool).tocsr() @ old
        if rows is not None:
            places = self.sparse.csr_array((np.ones(len(own), bool), (own, np.arange(len(own)))), shape=(size, len(own)))
            new = places @ rows
            old = new if old is None else old + new
        if old is not None:
            self.slots[slot] = old

    # ------------------------------------------------------------------ instructions

    def take(self, i):
        """Follow instruction i."""
        program, code = self.program, self.program.code[i]
        row = program.table.rows[code[0]]
        if row.structural:
            words = program.geometry[code[SPACE] + 2 :]
            row.dependencies(self, words, code[OPERAND : OPERAND + OUT].astype(np.int64), int(code[OUTPUT]))
            return
        shape, strides = program.iteration(i)
        rows = None
        for k, partial in enumerate(row.partials):
            if partial is not None:
                own = self.of(self.cells(View(int(code[OPERAND + k]), shape, strides[k])))
                rows = own if rows is None else rows if own is None else rows + own
        self.put(self.cells(View(int(code[OUTPUT]), shape, strides[OUT] if shape else ())), rows, row.accumulates)

    # ------------------------------------------------------------------ for the rows' own `dependencies`

    def together(self, ranges, count):
        """`count` rows, each with all that cells of these ranges depend on; None where there is no dependency."""
        found = [r for r in (self.of(np.arange(low, high)) for low, high in ranges if high > low) if r is not None]
        if not found:
            return None
        anything = self.sparse.vstack(found).sum(axis=0) != 0
        row = self.sparse.csr_array(np.atleast_2d(anything))
        return self.sparse.csr_array(np.ones((count, 1), bool)) @ row

    def put_all(self, ranges, out, size):
        """`size` cells from `out` on depend on everything that cells of these ranges depend on."""
        self.put(out + np.arange(size), self.together(list(ranges), size), False)

    def constants(self, operand, count):
        """`count` integers from cell `operand` on, or None where they are not constants."""
        slot = int(self.program.slot_of(operand))
        return self.program.values[operand : operand + count].astype(np.int64) if slot in self.program.constants else None


# ---------------------------------------------------------------------- matrices from few products


class SparseJacobian:
    """The Jacobians of a list, by the sweeps that its pattern needs.

    Parameters
    ----------
    pattern : scipy.sparse.csr_array of bool
        See `jacobian_pattern`.
    """

    def __init__(self, pattern):
        self.pattern = pattern.tocoo()
        by_columns, by_rows = colouring.columns(pattern), colouring.columns(pattern.T)
        self.forward = by_columns.max(initial=-1) <= by_rows.max(initial=-1)
        self.colours = by_columns if self.forward else by_rows

    def matrix(self, push, pull):
        """The matrix: `push` multiplies it with a vector, `pull` its transpose."""
        own, other = (self.pattern.col, self.pattern.row) if self.forward else (self.pattern.row, self.pattern.col)
        return _assembled(self.pattern, _products(self.colours, push if self.forward else pull), other, self.colours[own])


class SparseHessian:
    """The Hessians of a list; see `SparseJacobian`."""

    def __init__(self, pattern):
        self.pattern = pattern.tocoo()
        self.colours = colouring.symmetric(pattern)
        row, column = self.pattern.row, self.pattern.col
        alone = self.colours.max(initial=-1) + 1
        key = row.astype(np.int64) * alone + self.colours[column]
        _, place, count = np.unique(key, return_inverse=True, return_counts=True)
        # An element is read in its row where it is alone there in its colour, else the one opposite is.
        direct = count[place] == 1
        self._rows, self._colours = np.where(direct, row, column), self.colours[np.where(direct, column, row)]

    def matrix(self, multiply):
        """The matrix: `multiply` multiplies it with a vector."""
        return _assembled(self.pattern, _products(self.colours, multiply), self._rows, self._colours)


def _products(colours, multiply):
    """A column for each colour: the product with the sum of its unit vectors."""
    columns = [multiply((colours == colour).astype(np.float64)) for colour in range(colours.max(initial=-1) + 1)]
    return np.stack(columns, axis=1) if columns else np.zeros((0, 0))


def _assembled(pattern, products, rows, colours):
    import scipy.sparse

    values = products[rows, colours] if len(rows) else np.zeros(0)
    return scipy.sparse.csr_array((values, (pattern.row, pattern.col)), shape=pattern.shape)
