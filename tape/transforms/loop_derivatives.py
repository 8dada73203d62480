"""Derivatives of loops: each is a loop again, whose body is made from the first one's by `differentiate.py`.

What is here: the reverse and the forward rule of the instruction `loop`. What is not: recording loops (`tape.control.loops`),
their layout and how they are run (`compiled.lists.loops`).
"""

from __future__ import annotations

import numpy as np

from compiled.lists.listing import Listing, Ref, Result
from compiled.lists.loops import Loop, Packs
from compiled.table.layout import OPERAND, OUTPUT
from compiled.table.views import View, contiguous
from tape.recording.arrays import RecordedArray
from tape.transforms.build import resumed
from tape.transforms.differentiate import FORWARD, REVERSE, Stretch, pull_back, push_forward
from tape.transforms.simplify import ALL, dead_code, simplified
from tape.transforms.stacked_products import summed_product


class _LoopParts:
    """A loop instruction of a stretch, taken apart."""

    def __init__(self, stretch, i):
        recorder = stretch.recorder
        self.loop = Loop.of(stretch.words(i))
        self.body = recorder.bodies[self.loop.body]
        self.packs = Packs.of(self.loop, self.body)
        self.cells = [stretch.cell(OPERAND + k, i) for k in range(3)] + [stretch.cell(OUTPUT, i)]
        loop = self.loop
        counts = (loop.carry, loop.constants, loop.x, loop.s)
        starts = np.cumsum((0, *counts))
        self.inputs = [self.body.inputs[starts[k] : starts[k + 1]] for k in range(4)]
        outputs = self.body.outputs
        self.outputs = [outputs[: loop.carry], outputs[loop.carry : loop.carry + loop.sums],
                        outputs[loop.carry + loop.sums : len(outputs) - loop.ends]]
        active = list(loop.active) or [1] * (loop.constants + loop.x + loop.s)
        first, second = loop.constants, loop.constants + loop.x
        self.active = [active[:first], active[first:second], active[second:]]

    def views(self, operand, places):
        """Views of the leaves at `places` of pack `operand` (3 for the output)."""
        return [View(self.cells[operand] + cell, shape, contiguous(shape)) for cell, shape in places]

    def s_views(self):
        """Views of s, a row a step."""
        views = self.views(2, self.packs.s)
        row, n = 1 - self.loop.before, self.loop.length
        return [View(v.cell + row * v.strides[0], (n, *v.shape[1:]), v.strides) for v in views]

    def count(self):
        """The view of the number of steps, if that is known only at run time."""
        if self.packs.ran is not None:
            return [View(self.cells[3] + self.packs.ran, (), ())]
        return [View(self.cells[0] + self.packs.count, (), ())] if self.packs.count is not None else []


def _reverse_loop(stretch, i):
    """The adjoint of a loop is a loop over the same steps in the other order, on the states that the first one kept.

    Sums over all steps of products of matrices are one product after the loop; products that the loop kept are not computed
    again.
    """
    recorder, parts = stretch.recorder, _LoopParts(stretch, i)
    loop, packs = parts.loop, parts.packs
    if not loop.keeps:
        raise AssertionError("a loop that is differentiated keeps its states")
    ys, rows = parts.views(3, packs.y), parts.views(3, packs.rows)
    seeded = [k for k, view in enumerate(ys) if stretch.is_read(i, view)]
    with_states = _states_are_read(stretch, i, loop, rows)
    adjoint = _BodyAdjoint(parts, seeded, with_states)
    number = len(recorder.bodies)
    recorder.bodies.append(adjoint.program)
    first = [*(stretch.buddy(view) for view in parts.views(3, packs.last)), *parts.views(0, packs.constants),
             *(stretch.buddy(view) for view in parts.views(3, packs.sums)), *parts.count()]
    xs = [*parts.views(1, packs.x), *parts.s_views(), *ys[len(ys) - loop.spared :], *(stretch.buddy(ys[k]) for k in seeded),
          *(stretch.buddy(_steps_of(view, loop)) for view in (rows if with_states else ()))]
    ss = View(rows[0].cell, (sum(view.size for view in rows),), (1,)) if rows else None
    reverse = Loop((0, 0, 0, 0), number, loop.length, 1 - loop.backward, int(bool(parts.count())), 0, 1, loop.carry,
                   loop.constants + loop.sums, len(xs), loop.carry, len(adjoint.sums), 0, ())
    packs_of = Packs.of(reverse, adjoint.program)
    views = recorder.loop(reverse._replace(sizes=packs_of.sizes), packs_of, first, xs, ss)
    for place, view in zip(parts.views(0, packs.carry), views["last"], strict=True):
        stretch.add(stretch.buddy(place), stretch.array(view))
    constants = parts.views(0, packs.constants)
    for k, view in zip(adjoint.sums, views["sums"], strict=True):
        stretch.add(stretch.buddy(constants[k]), stretch.array(view))
    stacks = [(parts.views(1, packs.x)[k], 1) for k, a in enumerate(parts.active[1]) if a]
    stacks += [(parts.s_views()[k], 2) for k, a in enumerate(parts.active[2]) if a]
    for (place, operand), view in zip(stacks, views["y"], strict=False):
        if stretch.is_active(operand, i):
            stretch.add(stretch.buddy(place), stretch.array(view))
    factors = dict(zip(adjoint.factors, views["y"][len(stacks) :], strict=True))
    for k, sum_of in adjoint.products:
        stretch.add(stretch.buddy(constants[k]), _summed(stretch, sum_of, factors, constants[k].shape))


def _states_are_read(stretch, i, loop, rows) -> bool:
    """Whether states that loop i kept are read besides the last, whose adjoint is the carry of the reverse loop.

    They are read step by step, or all together: as the s of another loop, or in a copy of all that the loop gave.
    """
    return any(stretch.is_read(i, _steps_of(view, loop)) for view in rows)


def _summed(stretch, sum_of, factors, shape):
    """The sum over all steps of a product, from the stacks of its factors."""
    m, k, n = sum_of.sizes
    matrices = []
    for side, (slot, offset, steps) in enumerate(zip(sum_of.slots, sum_of.offsets, sum_of.steps, strict=True)):
        stack = factors[slot]
        total = stack.shape[0] * k
        along = stack.strides[0] if k == 1 else steps[1 - side]
        sizes, strides = ((m, total), (steps[0], along)) if side == 0 else ((total, n), (along, steps[1]))
        matrices.append(stretch.array(View(stack.cell + offset, sizes, strides)))
    return np.reshape(np.matmul(*matrices), shape)


def _steps_of(rows: View, loop: Loop) -> View:
    """Of rows that a loop kept, those of the states before its steps."""
    step = rows.strides[0]
    return View(rows.cell + loop.before * step, (loop.length, *rows.shape[1:]), rows.strides)


class _BodyAdjoint:
    """The body of a loop's adjoint.

    Its inputs are the adjoints of the carry; the constants and the adjoints of the sums; x, s, the products that the loop kept,
    and the adjoints of those y that are `seeded` (and of the states that the loop kept); and the carry. Its outputs are
    the adjoints of the carry; of the active constants; of the active x and s; and factors of products.

    Attributes
    ----------
    program : Program
        The body.
    sums : list of int
        Numbers of the constants whose adjoints are sums.
    products : list of (int, Product)
        Numbers of the constants whose adjoints are products of stacked factors.
    factors : list of int
        Slots of the factors, in the order of their outputs.
    """

    def __init__(self, parts, seeded, with_states):
        loop = parts.loop
        carry, constants, x, s = parts.inputs
        ys = parts.outputs[2]
        recorder = resumed(parts.body)
        active = [k for k, a in enumerate(parts.active[0]) if a]
        with recorder.recording():
            wanted = [*carry, *(constants[k] for k in active),
                      *(v for v, a in zip((*x, *s), (*parts.active[1], *parts.active[2]), strict=True) if a)]
            stretch = Stretch(recorder, 0, recorder.memory.length, wanted)
            groups = [parts.outputs[0], parts.outputs[1], [ys[k] for k in seeded]]
            seeds = [[_seed(recorder, view) for view in group] for group in groups]
            adjoints = pull_back(stretch, [v for group in groups for v in group], [v for group in seeds for v in group])
            if with_states:
                kept = [_seed(recorder, view) for view in carry]
                seeds[2] += kept
                adjoints[: len(carry)] = [a + b for a, b in zip(adjoints, kept, strict=False)]
        program = recorder.program([a.view for a in adjoints])
        on_carry, on_sums, on_y = ([seed.view for seed in group] for group in seeds)
        spared = ys[len(ys) - loop.spared :]
        program.inputs = [*on_carry, *constants, *on_sums, *x, *s, *spared, *on_y, *carry]
        listing = Listing.of(program)
        given = {int(program.slot_of(view.cell)) for view in spared}
        listing.steps = [step for step in listing.steps if step.out is None or step.out.slot not in given]
        listing = simplified(listing, ALL)
        self._take_products(listing, loop.carry, active)
        self.program = simplified(listing, (dead_code,)).program()

    def _take_products(self, listing, carry, active):
        """Let the factors be outputs, in the place of products that are only summed."""
        outputs = listing.outputs
        self.sums, self.products, self.factors, sums = [], [], [], []
        for k, result in zip(active, outputs[carry:], strict=False):
            product = summed_product(listing, result)
            if product is None:
                self.sums.append(k)
                sums.append(result)
            else:
                self.products.append((k, product))
                self.factors += [slot for slot in product.slots if slot not in self.factors]
        factors = [Result(Ref(slot, 0), listing.shapes[slot], contiguous(listing.shapes[slot])) for slot in self.factors]
        listing.outputs = [*outputs[:carry], *sums, *outputs[carry + len(active) :], *factors]


def _seed(recorder, view):
    """A further argument of the list: the adjoint of a view."""
    return RecordedArray(recorder, recorder.input(np.zeros(view.shape), True), recorder.dtype)


def _forward_loop(stretch, i):
    """The tangent of a loop is a loop over states with their tangents."""
    recorder, parts = stretch.recorder, _LoopParts(stretch, i)
    loop, packs = parts.loop, parts.packs
    number = len(recorder.bodies)
    recorder.bodies.append(_body_tangent(parts))
    own = [parts.views(0, packs.carry), parts.views(0, packs.constants), parts.views(1, packs.x), parts.s_views()]
    flows = [[stretch.buddy(view) for view in group] for group in own]
    tangent = Loop((0, 0, 0, 0), number, loop.length, loop.backward, int(bool(parts.count())), 0, 1, 2 * loop.carry,
                   2 * loop.constants, 2 * (loop.x + loop.s), 0, 2 * loop.sums, 0, ())
    packs_of = Packs.of(tangent, recorder.bodies[number])
    first = [*own[0], *flows[0], *own[1], *flows[1], *parts.count()]
    xs = [*own[2], *own[3], *flows[2], *flows[3]]
    views = recorder.loop(tangent._replace(sizes=packs_of.sizes), packs_of, first, xs, None)
    for places, name, count in ((packs.rows or packs.last, "rows" if packs.rows else "last", loop.carry),
                                (packs.sums, "sums", loop.sums), (packs.y, "y", len(packs.y))):
        for place, view in zip(parts.views(3, places), views[name][count:], strict=True):
            stretch.array(stretch.buddy(place))[...] = stretch.array(view)


def _body_tangent(parts):
    """The body of a loop's tangent: each group of inputs and outputs is followed by its tangents."""
    recorder = resumed(parts.body)
    groups = [parts.inputs[0], parts.inputs[1], [*parts.inputs[2], *parts.inputs[3]]]
    with recorder.recording():
        stretch = Stretch(recorder, 0, recorder.memory.length, [view for group in groups for view in group])
        flows = [[RecordedArray(recorder, recorder.input(np.zeros(view.shape), True), recorder.dtype) for view in group]
                 for group in groups]
        outputs = [view for group in parts.outputs for view in group]
        pushed = [t.view for t in push_forward(stretch, outputs, [flow for group in flows for flow in group])]
    counts = np.cumsum([0, *(len(group) for group in parts.outputs)])
    arranged = [view for k, group in enumerate(parts.outputs) for view in (*group, *pushed[counts[k] : counts[k + 1]])]
    program = recorder.program(arranged)
    program.inputs = [view for group, flow in zip(groups, flows, strict=True) for view in (*group, *(f.view for f in flow))]
    return simplified(Listing.of(program), ALL).program()


REVERSE["loop"] = _reverse_loop
FORWARD["loop"] = _forward_loop
