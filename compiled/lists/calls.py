"""Calls as instructions: one instruction runs a Python function between two segments of a sweep.

The instruction's operand is a pack, the leaves of the arguments one after the other, and so is its output. Its block says how
many cells each has, and which of the list's `bodies` is its `Call`.

What is here: the words of the block, and how a call is run. What is not: which functions are called, and their derivatives
(`tape.rules.calls`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from compiled.table.views import View, contiguous


class CallWords(NamedTuple):
    """The words of a call's block: cells of its operand and of its output, and the number of its body."""

    operand: int
    output: int
    body: int

    @classmethod
    def of(cls, words) -> CallWords:
        """Read the words of a block (its `owned` left out)."""
        return cls(*(int(word) for word in words[:3]))

    def __str__(self):
        return f"body {self.body}"


class Call:
    """What a call instruction runs.

    Parameters
    ----------
    name : str
        For people.
    function : callable
        Takes a list of arrays, which it may keep or change, and returns one.
    inputs, outputs : sequence of tuple of int
        Shapes of the arguments and of the results.
    active : sequence of bool
        For each argument, whether it depends on what is differentiated.
    rule : object
        What derivatives are made from; None where there are none.
    description : optional
        What JSON can hold of the function, for files; None for functions that only the program at work knows.
    """

    def __init__(self, name: str, function: Callable, inputs, outputs, active, rule: Any, description: Any = None):
        self.name, self.function, self.rule, self.description = name, function, rule, description
        self.inputs, self.outputs, self.active = tuple(inputs), tuple(outputs), tuple(active)

    @property
    def sizes(self) -> tuple[int, int]:
        """Cells of the operand and of the output."""
        return sum(map(math.prod, self.inputs)), sum(map(math.prod, self.outputs))

    def text(self) -> str:
        """What is called, in one line."""
        shapes = " ".join(map(str, self.inputs)), " ".join(map(str, self.outputs))
        return f"{self.name}: {shapes[0]} -> {shapes[1]}"

    def operands(self, cell: int) -> list[View]:
        """Views of the arguments, in a pack that begins at a cell."""
        return _leaves(cell, self.inputs)

    def results(self, cell: int) -> list[View]:
        """Views of the results, in a pack that begins at a cell."""
        return _leaves(cell, self.outputs)

    def run(self, operand: np.ndarray, output: np.ndarray) -> None:
        """Run the call on packs.

        Raises
        ------
        ValueError
            When the function returns other shapes than when it was recorded; and whatever it raises.
        """
        results = self.function([view.of(operand).copy() for view in self.operands(0)])
        shapes = [np.shape(result) for result in results]
        if shapes != list(self.outputs):
            raise ValueError(f"{self.name}: expected results of shapes {list(self.outputs)}, as when it was recorded, got "
                             f"{shapes}")
        for view, result in zip(self.results(0), results, strict=True):
            view.of(output)[...] = result


def _leaves(cell, shapes):
    views = []
    for shape in shapes:
        views.append(View(cell, shape, contiguous(shape)))
        cell += math.prod(shape)
    return views
