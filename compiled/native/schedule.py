"""Which steps of a list run in one loop, in which order, and which results never need memory.

A unit is a stretch of straight code over single cells, a loop nest over one iteration space, or a structural step. Steps are
taken in their order; each joins the first unit that what it depends on allows.
"""

from __future__ import annotations

import dataclasses

from compiled.lists.listing import Block, Listing, Space
from compiled.table.layout import OUT

LOOK_BACK = 24
"""Units that are looked at for a place."""

MOST_MEMBERS = 80
"""Steps in one loop: more only spill registers."""

MOST_CLEARED = 1 << 15
"""Cells that are cleared long before they are added to; more would leave the cache in between."""

STRAIGHT, LOOP, STRUCTURAL = "straight", "loop", "structural"


@dataclasses.dataclass(eq=False)
class Unit:
    """Steps that are emitted together.

    Attributes
    ----------
    kind : str
        STRAIGHT, LOOP or STRUCTURAL.
    shape : tuple of int
        The iteration space of a loop nest, the innermost axis last.
    members : list of (Step, strides)
        The steps, with the strides of their four views over `shape`.
    """

    kind: str
    shape: tuple[int, ...] = ()
    members: list = dataclasses.field(default_factory=list)

    def refine(self, shape) -> None:
        """Express all members over a shape that splits axes of the present one."""
        self.members = [(step, refined(Space(self.shape, strides), shape)) for step, strides in self.members]
        self.shape = shape


def refined(space: Space, shape):
    """The strides of a space over a shape that splits some of its axes, or None where the shape does not."""
    if space.shape == shape:
        return space.strides
    columns = [[] for _ in space.strides]
    at = 0
    for axis, n in enumerate(space.shape):
        parts, product = [], 1
        while product < n and at < len(shape):
            parts.append(shape[at])
            product *= shape[at]
            at += 1
        if product != n:
            return None
        for view, strides in enumerate(space.strides):
            step = strides[axis] * n
            for part in parts:
                step //= part
                columns[view].append(step)
    return tuple(tuple(c) for c in columns) if at == len(shape) else None


@dataclasses.dataclass
class _Uses:
    """Which units used a slot: set it last, read it since, added to it since (additions may change places)."""

    write: int = -1
    view: tuple | None = None  # of the last write, when it was one element each
    reads: list = dataclasses.field(default_factory=list)  # (unit, view) since the last write
    sums: list = dataclasses.field(default_factory=list)  # the same

    def last_read(self):
        """The last unit that reads."""
        return max((unit for unit, _ in self.reads), default=-1)

    def last_write(self):
        """The last unit that sets or adds."""
        return max([self.write, *(unit for unit, _ in self.sums)])


class _Scheduler:
    def __init__(self, listing: Listing):
        self.listing, self.uses = listing, {}
        self.first: list[Unit] = []  # cells that others add to are cleared before all else
        self.units = [Unit(STRAIGHT)]

    def run(self) -> list[Unit]:
        for step in self.listing.steps:
            if isinstance(step.space, Block):
                self._structural(step)
            elif self._is_cleared_first(step):
                self._clear(step)
            elif not step.space.shape:
                self._place(step, STRAIGHT)
            elif 0 not in step.space.shape:
                self._place(step, LOOP)
        return [*self.first, *self.units]

    def _is_cleared_first(self, step):
        slot = step.out.slot
        return step.row.name == "zero" and slot not in self.uses and self.listing.size(slot) <= MOST_CLEARED

    def _clear(self, step):
        if step.space.shape and 0 in step.space.shape:
            return
        kind = LOOP if step.space.shape else STRAIGHT
        self.first.append(Unit(kind, step.space.shape, [(step, step.space.strides)]))
        self._uses_of(step.out.slot)

    def _structural(self, step):
        number = len(self.units)
        self.units.append(Unit(STRUCTURAL, (), [(step, ())]))
        for ref in step.operands:
            self._note_read(ref.slot, number, None)
        for slot in step.writes():
            self._note_write(slot, number, None, False)

    def _uses_of(self, slot) -> _Uses:
        if slot not in self.uses:
            self.uses[slot] = _Uses()
        return self.uses[slot]

    def _note_read(self, slot, unit, view):
        self._uses_of(slot).reads.append((unit, view))

    def _note_write(self, slot, unit, view, adds):
        uses = self._uses_of(slot)
        if adds:
            uses.sums.append((unit, view))
        else:
            uses.write, uses.view, uses.reads, uses.sums = unit, view, [], []

    # ------------------------------------------------------------------ a place for a step

    def _place(self, step, kind):
        low = self._earliest(step)
        number = self._found(step, kind, low)
        if number is None:
            number = len(self.units)
            self.units.append(Unit(kind, step.space.shape))
        unit = self.units[number]
        strides = refined(step.space, unit.shape)
        unit.members.append((step, strides))
        for k, ref in enumerate(step.operands):
            self._note_read(ref.slot, number, (ref.offset, unit.shape, strides[k]))
        view = step.out.offset, unit.shape, strides[OUT]
        self._note_write(step.out.slot, number, view, step.row.accumulates and kind == LOOP)

    def _earliest(self, step) -> int:
        """The first unit that may run the step, if it is of its kind and the views agree there."""
        low = 0
        for ref in step.operands:
            low = max(low, self._uses_of(ref.slot).last_write())
        uses = self._uses_of(step.out.slot)
        own = uses.write if step.row.accumulates and step.space.shape else uses.last_write()
        return max(low, own, uses.last_read())

    def _found(self, step, kind, low):
        recent = max(low, len(self.units) - LOOK_BACK, 0)
        for number in ([0] if low == 0 and recent else []) + list(range(recent, len(self.units))):
            unit = self.units[number]
            if unit.kind != kind or (len(unit.members) >= MOST_MEMBERS and kind == LOOP):
                continue
            if kind == STRAIGHT:
                return number
            strides = refined(step.space, unit.shape)
            if strides is None:
                finer = refined(Space(unit.shape, ()), step.space.shape)
                if finer is None:
                    continue
                shape, strides = step.space.shape, step.space.strides
            else:
                shape = unit.shape
            if self._agrees(step, strides, shape, number):
                if shape != unit.shape:
                    self._refine(number, shape)
                return number
        return None

    def _refine(self, number, shape):
        unit = self.units[number]
        old = unit.shape
        unit.refine(shape)

        def moved(view):
            if view is None or view[1] != old:
                return view
            return view[0], shape, refined(Space(old, (view[2],)), shape)[0]

        for slot in {ref.slot for step, _ in unit.members for ref in (*step.operands, step.out)}:
            uses = self.uses[slot]
            if uses.write == number:
                uses.view = moved(uses.view)
            uses.reads = [(u, moved(view) if u == number else view) for u, view in uses.reads]
            uses.sums = [(u, moved(view) if u == number else view) for u, view in uses.sums]

    def _agrees(self, step, strides, shape, number) -> bool:
        """Whether the step may run in the loop `number`, given what of it other steps there touch."""
        for k, ref in enumerate(step.operands):
            uses = self._uses_of(ref.slot)
            writes = [view for unit, view in uses.sums if unit == number] + ([uses.view] if uses.write == number else [])
            mine = ref.offset, strides[k], shape
            if writes and not (_injective(shape, strides[k]) and all(self._same(view, *mine) for view in writes)):
                return False
        uses = self._uses_of(step.out.slot)
        mine = step.out.offset, strides[OUT], shape
        injective = _injective(shape, strides[OUT])
        adds = [view for unit, view in uses.sums if unit == number]
        others = [view for unit, view in uses.reads if unit == number] + ([uses.view] if uses.write == number else [])
        if others and not injective:
            return False
        return all(self._same(view, *mine) for view in (*adds, *others))

    def _same(self, view, offset, strides, shape) -> bool:
        if view is None or view[0] != offset:
            return False
        own = view[2] if view[1] == shape else (refined(Space(view[1], (view[2],)), shape) or (None,))[0]
        return own == strides


def _injective(shape, strides) -> bool:
    return all(s != 0 or n == 1 for s, n in zip(strides, shape, strict=True))


def schedule(listing: Listing) -> list[Unit]:
    """Order the steps of a list into units."""
    return _Scheduler(listing).run()


def inner_slots(units: list[Unit], outside: set[int]) -> set[int]:
    """Slots that exist in one loop alone, element by element, so that a register holds each element.

    `outside` are slots that are looked at elsewhere: arguments, constants, results.
    """
    views: dict[int, set] = {}
    for number, unit in enumerate(units):
        for step, strides in unit.members:
            if unit.kind != LOOP:
                for ref in (*step.operands, *((step.out,) if step.out is not None else ())):
                    views.setdefault(ref.slot, set()).add((number, None))
                continue
            for k, ref in enumerate(step.operands):
                views.setdefault(ref.slot, set()).add((number, ref.offset, strides[k]))
            injective = _injective(unit.shape, strides[OUT])
            views.setdefault(step.out.slot, set()).add((number, step.out.offset, strides[OUT] if injective else None))
    found = set()
    for slot, where in views.items():
        if slot not in outside and len(where) == 1:
            (view,) = where
            if len(view) == 3 and view[2] is not None:
                found.add(slot)
    return found
