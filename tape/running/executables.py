"""What runs the list of a derivative, and what comes of it.

An executable has `results(leaves)`, which returns a status and arrays, as `compiled.native.function.NativeFunction` has; `run`
is the one place that reads the status. What is not here: which list it is (`derived.py`), which executable is made of it, and
when (`tiers.py`).
"""

from __future__ import annotations

import numpy as np

from compiled.lists import loops
from compiled.lists.listing import Listing
from compiled.native.wrappers import NOT_FINITE, NOT_TAKEN, Signature
from compiled.sweeps.engine import engine_of
from compiled.table.layout import instruction_and_code
from tape.errors import NotDifferentiable
from tape.recording.recorder import check_integers
from tape.reports.strictness import is_finite


class SweptFunction:
    """A list run by the sweeps, in the place of a `NativeFunction`."""

    def __init__(self, listing: Listing, inputs, outputs, name: str, derivatives: int):
        self.program, self.name, self.dtype = listing.program(), name, listing.dtype
        self.derivatives = derivatives
        self.signature = Signature.of(listing, inputs, outputs)

    def results(self, leaves):
        """As `NativeFunction.results`."""
        program = self.program
        values = program.values.copy()
        for view, leaf in zip(program.inputs, leaves, strict=True):
            if np.shape(leaf) != view.shape:
                return NOT_TAKEN, []
            view.of(values)[...] = leaf
        status = loops.forward(engine_of(program.table, self.dtype), program, values, 0, len(program.code))
        if status >= 0:
            return instruction_and_code(status)[1], []
        results = [view.of(values).copy()[()] if not view.shape else view.of(values).copy() for view in program.outputs]
        return 0 if is_finite(results[self.derivatives :]) else NOT_FINITE, results


class Stopped(Exception):
    """A list is not the function's at these arguments: a guard saw something else, or an index is out of bounds.

    Attributes
    ----------
    code : int
        Why, see `compiled.table.layout`.
    """

    def __init__(self, code: int):
        super().__init__(code)
        self.code = code


def run(function, leaves) -> tuple[list, bool]:
    """Run an executable on leaves, which are converted when it does not take them as they are.

    Returns
    -------
    results, finite
        New arrays (or a number, for a first result of no axes), and whether all derivatives among them are finite.

    Raises
    ------
    Stopped
        Where the list stopped before its end.
    """
    status, results = function.results(leaves)
    if status == NOT_TAKEN:
        slots = function.signature.inputs
        status, results = function.results([converted(leaf, slot.shape, slot.name, function.dtype)
                                            for leaf, slot in zip(leaves, slots, strict=True)])
    if status == 0:
        return results, True
    if status == NOT_FINITE:
        return results, False
    raise Stopped(instruction_and_code(status)[1])


def converted(leaf, shape, name, dtype) -> np.ndarray:
    """An argument as native code takes it: itself where it is that already, else a copy."""
    if leaf.__class__ is np.ndarray and leaf.dtype is dtype and leaf.shape == shape and leaf.ndim:
        flags = leaf.flags
        if flags.c_contiguous and flags.aligned:
            return leaf
    if np.shape(leaf) != shape:
        raise ValueError(f"argument {name}: compiled for shape {shape}, got {np.shape(leaf)}; compile again for other shapes")
    array = np.asarray(leaf)
    if array.dtype.kind not in "fiub":
        raise NotDifferentiable(f"argument {name}: expected numbers, got {array.dtype}")
    check_integers(array, dtype)
    result = np.empty(shape, dtype)  # a copy: an array may be out of line, or of a dtype that is equal but not the same
    result[...] = array
    return result
