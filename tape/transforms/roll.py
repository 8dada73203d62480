"""Repeats rolled back into loops: what a Python loop wrote step by step becomes one instruction.

What is here: finding a stretch of a list that repeats itself, and writing it as a loop (see `compiled.lists.loops`). Compile
times then grow with the pattern, not with how often it is repeated. What is not: loops that the user's code names
(`tape.control.loops`).
"""

from __future__ import annotations

import math
from collections import Counter
from typing import NamedTuple

import numpy as np

from compiled.lists.listing import POINT, Block, Listing, Ref, Result, Space, Step
from compiled.lists.loops import Loop, Packs
from compiled.table.views import contiguous

LEAST_STEPS = 1000
"""Stretches of fewer steps stay as they are: straight code runs faster and compiles fast enough."""

LEAST_REPEATS = 8
MOST_PERIOD = 4000


class Origin(NamedTuple):
    """Where an operand comes from, as the pattern sees it: kind "own", "before", "fixed" or "varies"."""

    kind: str
    step: int
    offset: int


def rolled(listing: Listing) -> Listing:
    """Turn the longest repeats of a list into loops, until there are no more worth it."""
    at = 0
    while True:
        found = _stretch(listing, at)
        if found is None:
            return listing
        start, period, repeats = found
        pattern = _Pattern(listing, start, period, repeats)
        at = start + period * repeats
        if pattern.fits():
            listing = pattern.listing_with_loop()
            at = 0


# ---------------------------------------------------------------------- finding repeats


def _signatures(listing) -> np.ndarray:
    """A number for each step, equal for steps of one row over one space."""
    numbers: dict = {}
    keys = []
    for step in listing.steps:
        out = listing.shapes[step.out.slot] if step.out is not None else None
        keys.append(numbers.setdefault((step.row.name, step.space, out), len(numbers)))
    return np.array(keys, np.int64)


def _stretch(listing, first):
    """The longest stretch from step `first` on that repeats itself: (start, period, repeats), or None."""
    signs = _signatures(listing)[first:]
    best = None
    for period in _periods(signs):
        same = signs[period:] == signs[:-period]
        edges = np.flatnonzero(np.diff(np.concatenate([[False], same, [False]])))
        if not len(edges):
            continue
        starts, stops = edges[::2], edges[1::2]
        k = int(np.argmax(stops - starts))
        repeats = int(stops[k] - starts[k]) // period + 1
        length = repeats * period
        if repeats >= LEAST_REPEATS and length >= LEAST_STEPS and (best is None or length > 1.05 * best[0]):
            best = length, first + int(starts[k]), period, repeats
    return best[1:] if best else None


def _periods(signs):
    """Distances between equal steps that occur often, the short ones first."""
    if len(signs) < LEAST_STEPS:
        return []
    counts: Counter = Counter()
    order = np.argsort(signs, kind="stable")
    gaps = np.diff(order)[np.diff(signs[order]) == 0]
    for reach in (gaps, *_sums_of_gaps(order, signs)):
        values, times = np.unique(reach, return_counts=True)
        for value, count in zip(values.tolist(), times.tolist(), strict=True):
            if 0 < value <= MOST_PERIOD:
                counts[value] += count
    return sorted(period for period, _ in counts.most_common(64))


def _sums_of_gaps(order, signs):
    """Distances to the second, third, ... next equal step: a pattern may have a step several times."""
    for several in (2, 3, 4, 6, 8, 12, 16, 24, 32):
        if several < len(order):
            ahead = order[several:] - order[:-several]
            yield ahead[signs[order[several:]] == signs[order[:-several]]]


# ---------------------------------------------------------------------- one stretch


class _Pattern:
    """A stretch of `repeats` times `period` steps, and how the repeats depend on each other."""

    def __init__(self, listing, start, period, repeats):
        self.listing, self.start, self.period, self.repeats = listing, start, period, repeats
        self.steps = listing.steps[start : start + period * repeats]
        self.owner: dict[int, tuple[int, int]] = {}  # slot: (repeat, step of the pattern) of its first writer

    def fits(self) -> bool:
        """Whether all repeats are the same loop."""
        for number, step in enumerate(self.steps):
            repeat, j = divmod(number, self.period)
            if step.row.overwrites or step.out is None or (step.row.structural and step.row.scratch is not None):
                return False
            known = self.owner.setdefault(step.out.slot, (repeat, j))
            if known[0] != repeat:
                return False  # several repeats add to one slot
        if self._touched_elsewhere():
            return False
        self.places = [[None] * len(step.operands) for step in self.steps[: self.period]]
        self.initial: dict[int, int] = {}
        self.varying: dict[tuple[int, int], list[Ref]] = {}
        return self._classify()

    def _touched_elsewhere(self):
        """Whether steps outside write what the stretch writes, or the stretch reads what is written later."""
        before = {slot for step in self.listing.steps[: self.start] for slot in step.writes()}
        after = {slot for step in self.listing.steps[self.start + len(self.steps) :] for slot in step.writes()}
        held = set(self.listing.inputs) | set(self.listing.constants)
        return not set(self.owner).isdisjoint(before | after | held)

    def _classify(self):
        for j in range(self.period):
            for k in range(len(self.steps[j].operands)):
                refs = [self.steps[t * self.period + j].operands[k] for t in range(self.repeats)]
                place = self._place(refs, j, k)
                if place is None:
                    return False
                self.places[j][k] = place
        return True

    def _place(self, refs, j, k):
        """Where operand k of step j of the pattern comes from, given its refs in all repeats."""
        second = self.owner.get(refs[1].slot)
        if second is None:
            if all(ref == refs[0] for ref in refs):
                return Origin("fixed", -1, 0)
            return self._varying(refs, j, k)
        back = 1 - second[0]
        if back not in (0, 1):
            return None
        for t in range(back, self.repeats):
            if self.owner.get(refs[t].slot) != (t - back, second[1]) or refs[t].offset != refs[1].offset:
                return None
        if back == 0:
            return Origin("own", second[1], refs[1].offset)
        first, of_carry = refs[0], self.listing.size(refs[1].slot)
        if first.slot in self.owner:
            return None
        if of_carry > 1 and (first.offset != refs[1].offset or self.listing.size(first.slot) != of_carry):
            return None
        known = self.initial.setdefault(second[1], first if of_carry == 1 else Ref(first.slot, 0))
        if known != (first if of_carry == 1 else Ref(first.slot, 0)):
            return None
        return Origin("before", second[1], refs[1].offset)

    def _varying(self, refs, j, k):
        """An operand that is another number in each repeat: constants, or neighbours in an array."""
        if self.steps[j].space is not POINT or any(ref.slot in self.owner for ref in refs):
            return None
        constants = all(self.listing.size(ref.slot) == 1 and ref.slot in self.listing.constants for ref in refs)
        step = refs[1].offset - refs[0].offset
        strided = all(ref.slot == refs[0].slot and ref.offset == refs[0].offset + t * step for t, ref in enumerate(refs))
        if not constants and not strided:
            return None
        self.varying[j, k] = refs
        return Origin("varies", -1, 0)

    # ------------------------------------------------------------------ the loop

    def listing_with_loop(self) -> Listing:
        """The list with the stretch as one loop."""
        new = self.listing.with_steps(list(self.listing.steps[: self.start]))
        self.new, self.active = new, _active_slots(self.listing)
        template = self.steps[self.period : 2 * self.period]
        carried = sorted({place.step for places in self.places for place in places if place.kind == "before"})
        kept = sorted({j for _, j in self._used_after()})
        body, fixed = self._body(template, carried, kept)
        stacks = [self._stack(refs) for refs in self.varying.values()]
        active = [int(slot in self.active) for slot in fixed] + [int(any(r.slot in self.active for r in refs))
                                                                 for refs in self.varying.values()]
        loop = Loop((0, 0, 0, 0), len(new.bodies), self.repeats, backward=0, counted=0, ends=0, keeps=1, carry=len(carried),
                    constants=len(fixed), x=len(stacks), s=0, sums=0, spared=0, active=tuple(active))
        new.bodies = (*new.bodies, body)
        packs = Packs.of(loop, body)
        loop = loop._replace(sizes=packs.sizes)
        out = new.new_slot((packs.sizes[3],))
        first = [(self.initial[j], self.listing.shapes[template[j].out.slot]) for j in carried]
        first += [(Ref(slot, 0), self.listing.shapes[slot]) for slot in fixed]
        operands = (self._packed(first, packs.sizes[0]), self._packed_stacks(stacks, packs.sizes[1]), self._packed([], 0))
        block = Block(packs.sizes[3], loop.words())
        new.steps.append(Step(new.table["loop"], operands, Ref(out, 0), block, self.steps[0].line))
        return self._with_rest(new, out, packs, kept)

    def _used_after(self):
        """(repeat, step) of the results of the stretch that later steps or the list's results read."""
        used = {ref.slot for ref, _, _ in self.listing.outputs}
        for step in self.listing.steps[self.start + len(self.steps) :]:
            used.update(ref.slot for ref in step.operands)
        return {self.owner[slot] for slot in used if slot in self.owner}

    def _body(self, template, carried, kept):
        """The pattern as a program, and the slots around it that it reads."""
        listing = self.listing.with_steps([])
        shape_of = {j: self.listing.shapes[template[j].out.slot] for j in range(self.period)}
        carry = {j: listing.new_slot(shape_of[j]) for j in carried}
        varying = {key: listing.new_slot(()) for key in self.varying}
        fixed: list[int] = []
        for j, step in enumerate(template):
            operands = []
            for k, (ref, place) in enumerate(zip(step.operands, self.places[j], strict=True)):
                if place.kind == "before":
                    ref = Ref(carry[place.step], ref.offset)
                elif place.kind == "varies":
                    ref = Ref(varying[j, k], 0)
                elif place.kind == "fixed" and ref.slot not in listing.constants and ref.slot not in fixed:
                    fixed.append(ref.slot)
                operands.append(ref)
            listing.steps.append(Step(step.row, tuple(operands), step.out, step.space, step.line))
        listing.inputs = [*carry.values(), *fixed, *varying.values()]
        listing.active = set(listing.inputs)
        results = [template[j].out.slot for j in (*carried, *kept)]
        listing.outputs = [Result(Ref(slot, 0), listing.shapes[slot], contiguous(listing.shapes[slot])) for slot in results]
        return listing.program(), fixed

    def _stack(self, refs):
        """The numbers of all repeats: a constant slot, or the first ref and the step between two."""
        if all(self.listing.size(ref.slot) == 1 and ref.slot in self.listing.constants for ref in refs):
            slot = self.new.new_slot((len(refs),))
            self.new.constants[slot] = np.array([float(self.listing.constants[ref.slot].reshape(-1)[0]) for ref in refs],
                                                self.listing.dtype)
            return Ref(slot, 0), 1
        return refs[0], refs[1].offset - refs[0].offset

    def _packed(self, parts, size):
        """A new slot with copies of whole slots, or of single cells."""
        slot, at = self.new.new_slot((size,)), 0
        for ref, shape in parts:
            count = math.prod(shape)
            space = Space((count,), ((1,), (0,), (0,), (1,))) if count > 1 else POINT
            if count:
                self._copy(ref, Ref(slot, at), space)
            at += count
        return self._filled(slot, size)

    def _packed_stacks(self, stacks, size):
        slot = self.new.new_slot((size,))
        for k, (ref, step) in enumerate(stacks):
            self._copy(ref, Ref(slot, k * self.repeats), Space((self.repeats,), ((step,), (0,), (0,), (1,))))
        return self._filled(slot, size)

    def _copy(self, source, target, space):
        self.new.steps.append(Step(self.new.table["copy"], (source,), target, space, self.steps[0].line))

    def _filled(self, slot, size):
        if not size:
            self.new.steps.append(Step(self.new.table["zero"], (), Ref(slot, 0), POINT, self.steps[0].line))
        return Ref(slot, 0)

    def _with_rest(self, new, out, packs, kept):
        """Add the steps after the stretch, which read its results from the loop's."""
        rows = {j: (packs.y[k][0], math.prod(packs.y[k][1][1:])) for k, j in enumerate(kept)}

        def moved(ref):
            if ref is None or ref.slot not in self.owner:
                return ref
            repeat, j = self.owner[ref.slot]
            first, size = rows[j]
            return Ref(out, first + repeat * size + ref.offset)

        for step in self.listing.steps[self.start + len(self.steps) :]:
            new.steps.append(Step(step.row, tuple(map(moved, step.operands)), step.out, step.space, step.line))
        new.outputs = [Result(moved(ref), shape, strides) for ref, shape, strides in self.listing.outputs]
        return new


def _active_slots(listing) -> set[int]:
    """Slots that depend on an input that is differentiated."""
    active = set(listing.active)
    for step in listing.steps:
        row = step.row
        differentiable = row.differentiable if row.structural else [p is not None for p in row.partials]
        reads = zip(differentiable, step.operands, strict=False)
        if step.out is not None and any(d and ref.slot in active for d, ref in reads):
            active.add(step.out.slot)
    return active
