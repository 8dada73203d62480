"""List to list: what is not needed goes, what is computed twice is computed once, what is known is folded.

Each pass takes a `Listing` and returns another with the same results. `simplified` runs those asked for in their order.
What is not here: differentiation (`differentiate.py`).

Only identities that hold in floating point for every operand, NaN and infinities included, are used; the sign of a zero sum
may change (0 + -0).
"""

from __future__ import annotations

import math

from compiled.lists.listing import POINT, Block, Listing, Ref, Result, Space, Step, covers
from compiled.sweeps.engine import engine_of
from compiled.table.layout import OUT
from compiled.table.special_powers import EQUAL_POWERS
from compiled.table.structural.extents import span
from compiled.table.views import View, contiguous, has_distinct_cells
from tape.transforms.known_forms import stable_logsumexp


def dead_code(listing: Listing) -> Listing:
    """Drop steps on which no result and no guard depends."""
    live = {result.ref.slot for result in listing.outputs}
    kept = []
    for step in reversed(listing.steps):
        if step.out is None or not live.isdisjoint(step.writes()):
            kept.append(step)
            live.update(step.reads())
            if step.row.name == "assign":
                live.add(step.operands[1].slot)
    return listing.with_steps(kept[::-1])


def without_saving(listing: Listing) -> Listing:
    """Point what assignments save at their own operand, for lists that are only run forward."""
    steps = []
    for s in listing.steps:
        if s.row.name == "assign":
            first, _, *rest = s.space.strides
            s = Step(s.row, s.operands[:1] * 2, s.out, Space(s.space.shape, (first, first, *rest)), s.line)
        steps.append(s)
    return listing.with_steps(steps)


def without_stops(listing: Listing) -> Listing:
    """Turn what is a constant to derivatives into copies, for lists that are only run forward."""
    rows = {"stop": listing.table["copy"]}
    steps = [Step(rows.get(s.row.name, s.row), s.operands, s.out, s.space, s.line) for s in listing.steps]
    return listing.with_steps(steps)


def own_arguments(listing: Listing) -> Listing:
    """Copy arguments and constants that are assigned to, so that the caller's arrays stay as they are."""
    written = {slot for step in listing.steps for slot in step.writes()}
    result = listing.with_steps([])
    names = {slot: result.new_slot(listing.shapes[slot]) for slot in (*listing.inputs, *listing.constants) if slot in written}
    if not names:
        return listing

    def renamed(ref):
        return Ref(names.get(ref.slot, ref.slot), ref.offset) if ref is not None else None

    for slot, copy in names.items():
        space = Space((listing.size(slot),), ((1,), (0,), (0,), (1,)))
        result.steps.append(Step(listing.table["copy"], (Ref(slot, 0),), Ref(copy, 0), space, 0))
    for s in listing.steps:
        result.steps.append(Step(s.row, tuple(map(renamed, s.operands)), renamed(s.out), s.space, s.line))
    result.outputs = [Result(renamed(r.ref), r.shape, r.strides) for r in listing.outputs]
    return result


FOLDED_CELLS = 64
"""A constant of more cells than this is folded only where it is no larger than what it is computed from."""


def fold_constants(listing: Listing) -> Listing:
    """Compute what depends on constants alone."""
    wanted, folded = [], set()
    writers: dict[int, int] = {}
    unfinished: set[int] = set()  # read before their last write
    for step in listing.steps:
        for slot in step.writes():
            writers[slot] = writers.get(slot, 0) + 1
    count = dict.fromkeys(writers, 0)
    for step in listing.steps:
        unfinished.update(slot for slot in step.reads() if count.get(slot, 0) < writers.get(slot, 0))
        for slot in step.writes():
            count[slot] += 1
    count = dict.fromkeys(writers, 0)
    known = set(listing.constants) - set(writers)
    for step in listing.steps:
        if step.out is None:
            continue
        slot = step.out.slot
        size = max((listing.size(ref.slot) for ref in step.operands), default=0)
        small = listing.size(slot) <= max(FOLDED_CELLS, size) or step.row.accumulates
        computed = step.row.name not in ("zero", "loop", "call") and not step.row.overwrites
        if step.row.name == "zero":
            foldable = listing.size(slot) <= FOLDED_CELLS
        else:
            foldable = small and computed and all(read in known for read in step.reads())
        if foldable:
            count[slot] += 1
            wanted.append(step)
        if count[slot] == writers[slot] and slot not in unfinished:
            known.add(slot)
            folded.add(slot)
    folded -= set(listing.constants) | set(listing.inputs)
    if not folded:
        return listing
    wanted = [step for step in wanted if step.out.slot in folded]
    outputs = [Result(Ref(slot, 0), (listing.size(slot),), (1,)) for slot in sorted(folded)]
    program = Listing(listing.dtype, listing.table, listing.shapes, listing.constants, [], set(), outputs, listing.lines,
                      wanted).program()
    values = program.values.copy()
    if engine_of(listing.table, listing.dtype).forward(program.code, program.geometry, values, 0, len(program.code)) >= 0:
        return listing  # an index out of bounds: let the call say so
    result = listing.with_steps([step for step in listing.steps if step.out is None or step.out.slot not in folded])
    for slot, view in zip(sorted(folded), program.outputs, strict=True):
        result.constants[slot] = view.of(values)[: math.prod(listing.shapes[slot])].reshape(listing.shapes[slot]).copy()
    return result


_WORDS = {8: "u8", 4: "u4"}
"""Numbers that are compared as bits."""


class _Alias:
    """A slot that holds what other cells hold: over `shape`, its cells `own` are those of `source` with `strides`."""

    __slots__ = ("own", "shape", "source", "strides")

    def __init__(self, shape, own, source, strides):
        self.shape, self.own, self.source, self.strides = shape, own, source, strides

    def read(self, offset, shape, strides):
        """Where the view (offset, shape, strides) of the slot is in the source: (ref, strides), or None."""
        if not any(self.strides):
            return self.source, (0,) * len(shape)
        if self.own == self.strides:
            return Ref(self.source.slot, self.source.offset + offset), strides
        if offset == 0 and shape == self.shape and strides == self.own:
            return self.source, self.strides
        return None


class _Rewriter:
    """One walk up a list that renames results so that each whole result is a slot of its own."""

    def __init__(self, listing: Listing, share: bool):
        self.old, self.new, self.share = listing, listing.with_steps([]), share
        self.last: dict[int, int] = {}
        self.in_place = _written_in_place(listing, self.last)
        self.versions = dict.fromkeys(self.in_place, 0)
        self.aliases: dict[int, _Alias] = {}
        self.zeros: dict[int, Step] = {}
        self.known: dict = {}
        self.now = self.line = 0
        for slot, array in listing.constants.items():
            if array.ndim and array.size and slot not in self.in_place and (array.view(_WORDS[array.itemsize]) == array.view(
                    _WORDS[array.itemsize]).flat[0]).all():
                self.aliases[slot] = _Alias((array.size,), (1,), Ref(self.new.constant(float(array.flat[0])), 0), (0,))

    def run(self) -> Listing:
        for i, step in enumerate(self.old.steps):
            self.now = i
            if step.row.structural:
                self._structural(step)
            else:
                self._elementwise(step)
        self.now = len(self.old.steps)
        outputs = []
        for ref, shape, strides in self.old.outputs:
            self._settle(ref.slot)
            where = self._read(ref, shape, strides)
            outputs.append(Result(where[0], shape, where[1]))
        self.new.outputs = outputs
        return self.new

    # ------------------------------------------------------------------ reading

    def _read(self, ref: Ref, shape, strides):
        """Where a view of an old slot is in the new list: (ref, strides)."""
        alias = self.aliases.get(ref.slot)
        if alias is None:
            return ref, strides
        return alias.read(ref.offset, shape, strides) or self._materialised(ref.slot, alias).read(ref.offset, shape, strides)

    def _materialised(self, slot, alias):
        """Copy what the slot holds to cells of its own; returns where it is then."""
        if slot in self.old.constants:
            self.aliases[slot] = self._whole(slot)
            return self.aliases[slot]
        copy = self.new.new_slot(self.old.shapes[slot])
        blank = (0,) * len(alias.shape)
        space = Space(alias.shape, (alias.strides, blank, blank, alias.own))
        self.new.steps.append(Step(self.new.table["copy"], (alias.source,), Ref(copy, 0), space, self.line))
        self.aliases[slot] = self._whole(copy)
        return self.aliases[slot]

    def _whole(self, slot):
        """The alias of all cells of a slot, in their order."""
        size = self.new.size(slot)
        return _Alias((size,), (1,), Ref(slot, 0), (1,))

    def _settle(self, slot):
        """Write the zeros of a slot that nothing has been added to yet."""
        if slot in self.zeros:
            self.new.steps.append(self.zeros.pop(slot))

    def _number(self, ref, strides):
        """The value of a constant number, or None."""
        array = self.new.constants.get(ref.slot)
        return float(array) if array is not None and array.ndim == 0 and ref.slot not in self.in_place else None

    # ------------------------------------------------------------------ steps

    def _structural(self, step):
        self.line = step.line
        operands = tuple(self._direct(ref) for ref in step.operands)
        for slot in step.writes():
            self._settle(slot)
        slot = step.out.slot if step.out is not None else None
        shared = self.share and slot is not None and step.row.scratch is None and slot not in self.in_place
        key = (step.row.name, step.space, tuple((ref, self.versions.get(ref.slot)) for ref in operands))
        if shared and self._is_known(key, slot):
            self.aliases[slot] = self._whole(self.known[key])
            return
        self.new.steps.append(Step(step.row, operands, step.out, step.space, step.line))
        for written in step.writes():
            self.versions[written] = self.versions.get(written, 0) + 1
        if shared:
            self.known[key] = slot

    def _direct(self, ref):
        """An operand that is read by other strides than a space's: where its cells lie in their order."""
        self._settle(ref.slot)
        alias = self.aliases.get(ref.slot)
        if alias is None:
            return ref
        if alias.own != alias.strides:
            alias = self._materialised(ref.slot, alias)
        return Ref(alias.source.slot, alias.source.offset + ref.offset)

    def _is_known(self, key, slot) -> bool:
        """Whether an equal result, of a slot of the same size, is there already."""
        known = self.known.get(key)
        return known is not None and self.new.size(known) == self.new.size(slot)

    def _elementwise(self, step):
        row, slot, shape, out = step.row, step.out.slot, step.space.shape, step.space.strides[OUT]
        self.line = step.line
        whole = covers(self.old, step)
        if row.name == "zero":
            if whole:
                self.zeros[slot] = step
            else:
                self._settle(slot)
                self.new.steps.append(step)
            return
        views = []
        for k, ref in enumerate(step.operands):
            self._settle(ref.slot)
            views.append(self._read(ref, shape, step.space.strides[k]))
        if slot in self.in_place or not whole:
            if row.accumulates and whole and self.zeros.pop(slot, None):  # nothing is there yet: set, do not add
                row = self.new.table["mul" if row.name == "accumulate_product" else "copy"]
            self._settle(slot)
            self._emit(row, views, step.out, shape, out)
            self.versions[slot] = self.versions.get(slot, 0) + 1
            return
        target = slot
        if row.accumulates:
            target = self.new.new_slot(self.new.shapes[slot])
            row, views = self._accumulated(row, slot, shape, views, out)
        value = self._computed(row, views, target, shape, out)
        if value.source.slot != slot:
            self.aliases[slot] = value

    def _accumulated(self, row, slot, shape, views, out):
        """The row and operands that compute what the slot holds after it was added to."""
        table, empty = self.new.table, self.zeros.pop(slot, None)
        if row.name == "accumulate_product":
            if empty:
                return table["mul"], views
            product = self._computed(table["mul"], views, self.new.new_slot(self.new.shapes[slot]), shape, out)
            views = [product.read(0, shape, out)]
        if empty:
            return table["copy"], views
        return table["add"], [self._read(Ref(slot, 0), shape, out), views[0]]

    def _computed(self, row, views, slot, shape, out):
        """Where the row of these views is: known already, simpler, or in `slot`, by a new step."""
        row, views = self._simpler(row, views, shape)
        if row.name == "copy" and self._is_stable(views[0][0].slot):
            return _Alias(shape, out, *views[0])
        names = [(ref, strides, self.versions.get(ref.slot)) for ref, strides in views]
        key = (row.name, shape, out, tuple(sorted(names, key=repr) if row.name in ("add", "mul") else names))
        if self.share and self._is_known(key, slot):
            return self._whole(self.known[key])
        self._emit(row, views, Ref(slot, 0), shape, out)
        self.known[key] = slot
        return self._whole(slot)

    def _is_stable(self, slot):
        """Whether no later step writes the slot."""
        return slot not in self.in_place or self.last.get(slot, -1) < self.now

    def _emit(self, row, views, out, shape, strides):
        blank = (0,) * len(shape)
        space = Space(shape, (*(s for _, s in views), *(blank,) * (3 - len(views)), strides)) if shape else POINT
        self.new.steps.append(Step(row, tuple(ref for ref, _ in views), out, space, self.line))

    # ------------------------------------------------------------------ identities

    def _number(self, ref):
        """The value of a constant number, or None."""
        array = self.new.constants.get(ref.slot)
        return float(array) if array is not None and array.ndim == 0 and ref.slot not in self.in_place else None

    def _simpler(self, row, views, shape):
        """An equal row of fewer or cheaper operations; repeated until there is none."""
        while row.name in _IDENTITIES:
            found = _IDENTITIES[row.name]([self._number(ref) for ref, _ in views])
            if found is None:
                break
            name, which = found
            row = self.new.table[name]
            views = [views[w] if isinstance(w, int) else (Ref(self.new.constant(w), 0), (0,) * len(shape)) for w in which]
        return row, views


def _written_in_place(listing, last) -> set[int]:
    """Slots that hold more than whole results: parts of them are written, or they are arguments or constants.

    Fills `last` with the number of the last step that writes each slot.
    """
    held, found, structural = set(listing.inputs) | set(listing.constants), set(), set()
    for i, step in enumerate(listing.steps):
        for slot in step.writes():
            again = slot in last
            last[slot] = i
            if step.row.structural:
                structural.add(slot)
            elif step.row.overwrites or not covers(listing, step):
                found.add(slot)
            if slot in held or (again and slot in structural):
                found.add(slot)
    return found


def _mul(numbers):
    x, y = numbers
    if x == 1.0 or y == 1.0:
        return "copy", (1 if x == 1.0 else 0,)
    if x == -1.0 or y == -1.0:
        return "neg", (1 if x == -1.0 else 0,)
    return None


def _adjoint_product(numbers):
    g, p = numbers
    if g == 0.0 or p == 0.0:
        return "copy", (0.0,)
    if any(x is not None and math.isfinite(x) for x in (g, p)):
        return "mul", (0, 1)
    return None


def _div(numbers):
    y = numbers[1]
    if y is not None and math.isfinite(y) and y != 0.0 and abs(math.frexp(y)[0]) == 0.5 and 1e-300 < abs(y) < 1e300:
        return ("copy", (0,)) if y == 1.0 else ("mul", (0, 1.0 / y))
    return None


def _pow(numbers):
    row = EQUAL_POWERS.get(numbers[1])
    return None if row is None else _IDENTITIES[row](numbers) if row in _IDENTITIES else (row, (0,))


def _where(numbers):
    return None if numbers[0] is None or math.isnan(numbers[0]) else ("copy", (1 if numbers[0] else 2,))


def _is_minus_zero(x):
    return x == 0.0 and x is not None and math.copysign(1.0, x) < 0


_IDENTITIES = {
    "mul": _mul,
    "div": _div,
    "pow": _pow,
    "where": _where,
    "adjoint_product": _adjoint_product,
    "square": lambda n: ("mul", (0, 0)),
    "sub": lambda n: ("copy", (0,)) if n[1] == 0.0 and not _is_minus_zero(n[1]) else None,
    "add": lambda n: ("copy", (1,)) if _is_minus_zero(n[0]) else ("copy", (0,)) if _is_minus_zero(n[1]) else None,
}
"""For a row, given the values of those operands that are known numbers: an equal row, and which operands it takes."""


def share(listing: Listing) -> Listing:
    """Compute equal expressions once; forward copies; use cheaper equal operations."""
    return _Rewriter(listing, share=True).run()


def forward_copies(listing: Listing) -> Listing:
    """As `share`, but without looking for equal expressions."""
    return _Rewriter(listing, share=False).run()


def cells_read(listing: Listing, slot: int) -> list[tuple[int, int]]:
    """Ranges (first, last) of the cells of a slot that steps read or add to, or that are results."""
    views = [(r.ref.offset, r.shape, r.strides) for r in listing.outputs if r.ref.slot == slot]
    found = []
    for step in listing.steps:
        refs = [(k, ref) for k, ref in enumerate(step.operands) if ref.slot == slot]
        if step.row.accumulates and step.out.slot == slot:
            refs.append((OUT, step.out))
        for k, ref in refs:
            if isinstance(step.space, Block):
                reach = step.row.extents(step.space.words)[k]
                if reach is not None:
                    found.append((ref.offset + reach[0], ref.offset + reach[1]))
            else:
                views.append((ref.offset, step.space.shape, step.space.strides[k]))
    for offset, shape, strides in views:
        reach = span(shape, strides)
        if reach is not None:
            found.append((offset + reach[0], offset + reach[1]))
    return found


LARGE = 1024
"""Cells from which on it pays to look which of them need to be cleared."""


def zeros_that_are_read(listing: Listing) -> Listing:
    """Clear of a large slot only what is read or added to."""
    steps = []
    for step in listing.steps:
        if step.row.name != "zero" or listing.size(step.out.slot) < LARGE or not covers(listing, step):
            steps.append(step)
            continue
        for low, high in _merged(cells_read(listing, step.out.slot)):
            space = Space((high - low + 1,), ((0,), (0,), (0,), (1,)))
            steps.append(Step(step.row, (), Ref(step.out.slot, low), space if high > low else POINT, step.line))
    return listing.with_steps(steps)


def _merged(ranges):
    """Ranges that overlap or touch, as one."""
    result = []
    for low, high in sorted(ranges):
        if result and low <= result[-1][1] + 1:
            result[-1] = result[-1][0], max(high, result[-1][1])
        else:
            result.append((low, high))
    return result


def distinct_results(listing: Listing) -> Listing:
    """Copy results of which two elements share a cell, as adjoints are added to each element."""
    steps, outputs = list(listing.steps), []
    result = listing.with_steps(steps)
    for ref, shape, strides in listing.outputs:
        if not has_distinct_cells(View(ref.offset, shape, strides)):
            slot, own, blank = result.new_slot(shape), contiguous(shape), (0,) * len(shape)
            steps.append(Step(listing.table["copy"], (ref,), Ref(slot, 0), Space(shape, (strides, blank, blank, own)), 0))
            ref, strides = Ref(slot, 0), own
        outputs.append(Result(ref, shape, strides))
    result.outputs = outputs
    return result


ALL = (dead_code, fold_constants, share, dead_code, stable_logsumexp, distinct_results)
"""The passes of `Tape.simplify`."""

FORWARD_ONLY = (own_arguments, without_saving, without_stops, dead_code, fold_constants, share, dead_code)
"""The passes for a list that is only run forward."""


def simplified(listing: Listing, passes=ALL) -> Listing:
    """Run passes, in order."""
    for one in passes:
        listing = one(listing)
    return listing


def result_of(program, view: View) -> Result:
    """A view of a program's cells as a result of its listing."""
    slot = int(program.slot_of(view.cell))
    return Result(Ref(slot, view.cell - int(program.starts[slot])), view.shape, view.strides)
