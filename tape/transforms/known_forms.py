"""Known forms: a few steps of a list that are better computed otherwise.

What is here: the logarithm of a sum of exponentials. What is not: identities of single steps (`simplify.py`).
"""

from __future__ import annotations

import math

from compiled.lists.listing import POINT, Block, Listing, Ref, Space, Step, covers
from compiled.native.schedule import refined
from compiled.table.layout import OUT
from compiled.table.views import contiguous


def stable_logsumexp(listing: Listing) -> Listing:
    """Rewrite log(sum(exp(x))) as m + log(sum(exp(x - m))), m the largest x of each sum, so that nothing overflows.

    Only where exponentials and sum are used for nothing else; m is a constant to derivatives, which stay a softmax.
    """
    uses = _Uses(listing)
    before, instead = {}, {}
    result = listing.with_steps([])
    for number, step in enumerate(listing.steps):
        found = _Form.of(listing, uses, number) if step.row.name == "log" else None
        if found is not None:
            found.rewrite(result, before, instead)
    if not instead:
        return listing
    for number, step in enumerate(listing.steps):
        result.steps += before.get(number, [])
        result.steps += instead.get(number, [step])
    return result


class _Uses:
    """Which steps write and read each slot, by number; results of the list are read by step -1."""

    def __init__(self, listing):
        self.writers: dict[int, list[int]] = {}
        self.readers: dict[int, list[int]] = {}
        for number, step in enumerate(listing.steps):
            for slot in step.writes():
                self.writers.setdefault(slot, []).append(number)
            for slot in {ref.slot for ref in step.operands}:
                self.readers.setdefault(slot, []).append(number)
        for result in listing.outputs:
            self.readers.setdefault(result.ref.slot, []).append(-1)
        self.fixed = set(listing.inputs) | set(listing.constants)

    def only(self, slot, reader) -> list[int]:
        """The writers of a slot that no step but `reader` reads."""
        return self.writers.get(slot, []) if self.readers.get(slot) == [reader] and slot not in self.fixed else []


def _in_order(space: Space, view: int) -> Space:
    """The same space without axes of one element, the others in the order of the cells of one of its views."""
    axes = sorted((axis for axis, n in enumerate(space.shape) if n != 1), key=lambda axis: -space.strides[view][axis])
    return Space(tuple(space.shape[axis] for axis in axes), tuple(tuple(s[axis] for axis in axes) for s in space.strides))


def _each(size, *steps) -> Space:
    """The space of an elementwise step on whole slots (1) and single numbers (0)."""
    return Space((size,), tuple((s,) for s in (*steps, *(0,) * (3 - len(steps)), 1))) if size > 1 else POINT


class _Form:
    """One log(sum(exp(x))): the numbers of its steps, and the sum's space.

    Attributes
    ----------
    shape : tuple of int
        Of what is summed.
    source, terms, sums : tuple of int
        Strides over it of the exponents, the exponentials and their sums.
    """

    def __init__(self, steps, exp, log, shape, strides):
        self.steps, self.exp, self.log, self.shape = steps, exp, log, shape
        self.source, self.terms, self.sums = strides

    @classmethod
    def of(cls, listing, uses, log):
        """The form that ends with step `log`, or None."""
        steps = listing.steps
        total = steps[log].operands[0]
        writers = uses.only(total.slot, log)
        if [steps[k].row.name for k in writers] != ["zero", "accumulate"] or writers[1] > log:
            return None
        zero, add = (steps[k] for k in writers)
        producers = uses.only(add.operands[0].slot, writers[1])
        if len(producers) != 1 or steps[producers[0]].row.name != "exp":
            return None
        exp, space = steps[producers[0]], _in_order(add.space, 0)
        strides = refined(_in_order(exp.space, OUT), space.shape)
        fits = (strides is not None and covers(listing, exp) and covers(listing, zero) and strides[OUT] == space.strides[0]
                and add.operands[0].offset == add.out.offset == 0 and 0 not in space.shape)
        found = cls(steps, producers[0], log, space.shape, (strides[0], strides[OUT], space.strides[OUT])) if fits else None
        return found if found and found._reduces(listing, total.slot) else None

    def _axes(self):
        """The axes that are kept, in the order of the sums' cells, and those that are summed."""
        axes = range(len(self.shape))
        kept = sorted((axis for axis in axes if self.sums[axis]), key=lambda axis: -self.sums[axis])
        return kept, [axis for axis in axes if not self.sums[axis]]

    def _reduces(self, listing, slot) -> bool:
        """Whether each cell of the sums has terms of its own, more than one."""
        kept, summed = self._axes()
        lengths = tuple(self.shape[axis] for axis in kept)
        in_order = tuple(self.sums[axis] for axis in kept) == contiguous(lengths)
        return bool(summed) and in_order and math.prod(lengths) == listing.size(slot)

    def rewrite(self, listing, before, instead):
        """Put steps before that of the exponential, and others in its place and in that of the logarithm."""
        exp, total = self.steps[self.exp], self.steps[self.log].operands[0]
        size, first = listing.size(total.slot), before.setdefault(self.exp, [])

        def written(name, space, *operands, shape=listing.shapes[total.slot]):
            out = Ref(listing.new_slot(shape), 0)
            first.append(Step(listing.table[name], operands, out, space, self.steps[self.log].line))
            return out

        highest = written("stop", _each(size, 1), written("amax", self._block(size), exp.operands[0]))
        finite = written("lt", _each(size, 1, 0), written("abs", _each(size, 1), highest), Ref(listing.constant(math.inf), 0))
        highest = written("where", _each(size, 1, 1, 0), finite, highest, Ref(listing.constant(0.0), 0))
        blank = (0,) * len(self.shape)
        shifted = written("sub", Space(self.shape, (self.source, self.sums, blank, self.terms)), exp.operands[0], highest,
                          shape=listing.shapes[exp.out.slot])
        dense = Space(self.shape, (self.terms, blank, blank, self.terms))
        instead[self.exp] = [Step(exp.row, (shifted,), exp.out, dense, exp.line)]
        self._logarithm(listing, highest, instead)

    def _block(self, size):
        kept, summed = self._axes()
        shape, strides = ([view[axis] for axis in (*kept, *summed)] for view in (self.shape, self.source))
        return Block(size, (1, len(kept), len(summed), *shape, *strides))

    def _logarithm(self, listing, highest, instead):
        """The logarithm to a slot of its own, and the sum with m where it was."""
        log = self.steps[self.log]
        shape, strides = log.space
        own, blank = contiguous(shape), (0,) * len(shape)
        part = Ref(listing.new_slot(shape), 0)
        where = Ref(highest.slot, log.operands[0].offset)
        instead[self.log] = [
            Step(log.row, log.operands, part, Space(shape, (strides[0], blank, blank, own)), log.line),
            Step(listing.table["add"], (part, where), log.out, Space(shape, (own, strides[0], blank, strides[OUT])), log.line)]
