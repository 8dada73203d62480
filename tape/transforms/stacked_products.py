"""Matrix products in the bodies of loops: which of them can be done for all steps at once."""

from __future__ import annotations

import math
from typing import NamedTuple

from compiled.lists.listing import Listing, Step
from compiled.lists.program import Program
from compiled.table.structural.matmul import Matrices
from compiled.table.views import View, contiguous


def is_whole_product(listing: Listing, step: Step) -> bool:
    """Whether a matmul step, without batch axes, is all that its output's slot ever holds, row by row."""
    matrices, slot = Matrices(step.space.words), step.out.slot
    m, _, n = matrices.sizes
    in_order = matrices.steps[2] == (n, 1) or n == 1 or m == 1
    writers = sum(slot in other.writes() for other in listing.steps)
    return not matrices.batch and step.out.offset == 0 and listing.size(slot) == m * n and in_order and writers == 1


def products(program: Program) -> list[View]:
    """Views of the slots that hold whole products."""
    listing = Listing.of(program)
    found = {step.out.slot for step in listing.steps if step.row.name == "matmul" and is_whole_product(listing, step)}
    results = {int(program.slot_of(view.cell)) for view in program.outputs}
    return [program.slot_view(slot) for slot in sorted(found - results)]


class Product(NamedTuple):
    """A sum over all steps of matrix products: for each factor its slot in the body, its place there and its steps.

    Attributes
    ----------
    sizes : tuple of int
        m, k, n: of an m x k and a k x n matrix.
    slots, offsets : tuple of two int
        Of the factors.
    steps : tuple of two pairs of int
        From row to row and from column to column.
    """

    sizes: tuple[int, int, int]
    slots: tuple[int, int]
    offsets: tuple[int, int]
    steps: tuple[tuple[int, int], tuple[int, int]]


def summed_product(listing: Listing, result) -> Product | None:
    """The product that a body's result is, if the sum of it over all steps is one product of stacked factors."""
    writers = [step for step in listing.steps if result.ref.slot in step.writes()]
    readers = [step for step in listing.steps if result.ref.slot in step.reads()]
    if len(writers) != 1 or readers or writers[0].row.name != "matmul" or not is_whole_product(listing, writers[0]):
        return None
    whole = result.ref.offset == 0 and math.prod(result.shape) == listing.size(result.ref.slot)
    if not whole or result.strides != contiguous(result.shape):
        return None
    (step,) = writers
    matrices = Matrices(step.space.words)
    m, k, n = matrices.sizes
    a_steps, b_steps, _ = matrices.steps
    a, b = step.operands
    # Stacked along the axis that is summed over, the factors must still be matrices with one step for that axis.
    if k > 1 and (a_steps[1] * k != listing.size(a.slot) or b_steps[0] * k != listing.size(b.slot)):
        return None
    if 1 not in (a_steps[0], a_steps[1] if k > 1 else 0) or (n > 1 and b_steps[1] != 1):
        return None
    return Product((m, k, n), (a.slot, b.slot), (a.offset, b.offset), (a_steps, b_steps))
