"""Arguments that share memory: what a function that changes them in place does depends on it.

What is here: how arrays among the arguments overlap, and whether a list changes its inputs. What is not: the lists themselves
(`traces.py`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from compiled.lists.program import Program
from compiled.table.layout import OPCODE, OUTPUT
from tape.errors import NotDifferentiable


class ArgumentMemory(NamedTuple):
    """How the leaves of a call's arguments lie in memory.

    Attributes
    ----------
    overlaps : tuple of (int, int, bool)
        Pairs of leaves that share memory, and whether they are the same cells in the same order.
    read_only : tuple of int
        Leaves that are read-only arrays.
    """

    overlaps: tuple[tuple[int, int, bool], ...]
    read_only: tuple[int, ...]


def memory_of(leaves) -> ArgumentMemory:
    """How arrays among the leaves share memory."""
    arrays = [(k, leaf) for k, leaf in enumerate(leaves) if isinstance(leaf, np.ndarray)]
    overlaps = []
    for n, (k, array) in enumerate(arrays):
        for j, other in arrays[:n]:
            if np.may_share_memory(array, other) and np.shares_memory(array, other):
                overlaps.append((j, k, same_cells(array, other)))
    return ArgumentMemory(tuple(overlaps), tuple(k for k, array in arrays if not array.flags.writeable))


def same_cells(array, other) -> bool:
    """Whether two arrays are the same cells in the same order."""
    return (array is other or (array.__array_interface__["data"] == other.__array_interface__["data"]
                               and (array.shape, array.strides, array.dtype) == (other.shape, other.strides, other.dtype)))


def changes_inputs(program: Program) -> bool:
    """Whether the list overwrites cells of its arguments."""
    if not program.overwrites:
        return False
    writers = [opcode for opcode, row in enumerate(program.table.rows) if row.overwrites]
    written = program.code[np.isin(program.code[:, OPCODE], writers), OUTPUT]
    inputs = [int(program.slot_of(view.cell)) for view in program.inputs]
    return bool(len(written)) and bool(np.isin(program.slot_of(written), inputs).any())


def shared_leaves(memory: ArgumentMemory, differentiated) -> list[tuple[int, int]]:
    """Pairs (one, other): leaf `other` is the memory of leaf `one`, which is differentiated if any of its group is.

    Raises
    ------
    NotDifferentiable
        For arrays that overlap in part.
    """
    groups: dict[int, list[int]] = {}
    for one, other, same in memory.overlaps:
        if not same:
            raise NotDifferentiable(f"leaves {one} and {other} of the arguments overlap in memory, and the function changes "
                                    "them in place: expected the same array twice or arrays of their own; pass a copy of one")
        if not any(other in group for group in groups.values()):
            groups.setdefault(one, [one]).append(other)
    pairs = []
    for group in groups.values():
        first = next((k for k in group if k in differentiated), group[0])
        pairs += [(first, k) for k in group if k != first]
    return pairs
