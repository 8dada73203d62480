"""A slow walk over a list that notes where derivatives are conventions or undefined, and where a NaN or infinity arose.

What is here: what is found, and the walk: values up, adjoints down by the sweeps themselves, and between them a look at the
instructions by the table's own rules, read by NumPy (`compiled.table.numpy_reader`). What is not: when one looks
(`strictness.py`) and how it is told (`report.py`).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace

import numpy as np

from compiled.lists import loops
from compiled.lists.calls import Call, CallWords
from compiled.lists.loops import Loop, LoopRun, leaf
from compiled.lists.program import Program
from compiled.sweeps.engine import ENGINE
from compiled.table.layout import FLAGS, LINE, OPCODE, OPERAND, OUT, OUTPUT, SCALAR, SPACE
from compiled.table.numpy_reader import evaluated
from compiled.table.views import View
from tape.recording.recorder import Recorder
from tape.transforms.build import with_gradients


@dataclass(frozen=True)
class Place:
    """An instruction at which something was found.

    Attributes
    ----------
    operation : str
        Name of the instruction.
    operands : tuple of float
        Of the first element concerned; of an extreme over an array the tied value; none of other structural instructions.
    result : float
        Value of that element.
    derivative : float
        What was taken (or met) as the derivative there; NaN where there is none to tell.
    line : str
        The user's file:line.
    count, total : int
        How many of the instruction's elements are concerned; over all instructions of that operation on that line.
    kinks : str
        What the instruction's row says of its special points.
    step : str
        "step 3 of the loop at file:line" for the body of a loop.
    """

    operation: str
    operands: tuple[float, ...]
    result: float
    derivative: float
    line: str
    count: int
    total: int
    kinks: str = ""
    step: str = ""

    def __str__(self):
        operands = ", ".join(f"{x:.6g}" for x in self.operands)
        call = f"{self.operation}({operands})" if operands else self.operation
        many = f" ({self.count} of {self.total} elements)" if self.total > 1 else ""
        step = f", in {self.step}" if self.step else ""
        return f"{call} at {self.line}{step}{many}"


class Findings:
    """What a walk found.

    Attributes
    ----------
    kinks, undefined : dict
        `Place` by operation and line.
    lost : dict
        Those where an adjoint of zero met an infinite partial of a value that is not finite: nothing was let through.
    dropped : dict
        Those where an adjoint (a tangent) that is not finite met a partial of zero: nothing was let through either. Rows that
        choose among operands are not among them, as nothing is lost through what is not chosen.
    first_nonfinite, first_nonfinite_adjoint : Place or None
        Where a value (an adjoint or tangent) that is not finite first came out of finite ones.
    """

    def __init__(self):
        self.kinks: dict[tuple[str, str], Place] = {}
        self.undefined: dict[tuple[str, str], Place] = {}
        self.lost: dict[tuple[str, str], Place] = {}
        self.dropped: dict[tuple[str, str], Place] = {}
        self.first_nonfinite: Place | None = None
        self.first_nonfinite_adjoint: Place | None = None

    @staticmethod
    def note(places, place):
        """Add a place to those of its operation and line."""
        key = place.operation, place.line
        known = places.get(key)
        if known is not None:
            place = replace(known, count=known.count + place.count, total=known.total + place.total)
        places[key] = place


def inspect(program: Program, values: np.ndarray, seeds, wrt) -> Findings | None:
    """Run a list up and, from the adjoints of its outputs, down, and look at every instruction.

    Parameters
    ----------
    program : Program
        The list.
    values : ndarray
        A value buffer of its own with the arguments in place; modified in place.
    seeds : list of (View, array)
        Adjoints.
    wrt : list of View
        What is differentiated.

    Returns
    -------
    Findings or None
        None where the list does not hold for these arguments: a guard or an index fails.
    """
    walk = _Walk()
    if not walk.up(program, values):
        return None
    adjoints = np.zeros_like(values)
    for view, seed in seeds:
        view.of(adjoints)[...] += seed
    walk.down(program, values, adjoints, _marked(program, wrt))
    return walk.found


def inspect_forward(program: Program, values: np.ndarray, tangents, wrt) -> Findings | None:
    """As `inspect`, with tangents of the views `wrt` that go up; of a list without loops."""
    walk = _Walk()
    start = values.copy()
    if not walk.up(program, values):
        return None
    values[...] = start
    moving = np.zeros_like(values)
    for view, tangent in zip(wrt, tangents, strict=True):
        view.of(moving)[...] = tangent
    depends = _dependent(program, _marked(program, wrt))
    for start, stop in _stretches(program):
        ENGINE.tangent(program.code[start:stop], program.geometry, values, moving)
        walk.look(program, range(start, stop), values, moving, depends, forward=True)
    return walk.found


def drops(program: Program, values: np.ndarray, adjoints: np.ndarray) -> bool:
    """Whether an adjoint that is not finite met a partial of zero, in a sweep back that has left all adjoints.

    Of a list that overwrites cells, whose values are not all there any more: whether there is such an adjoint.
    """
    if np.isfinite(np.vdot(adjoints, adjoints)):
        return False
    cells = np.flatnonzero(~np.isfinite(adjoints))
    if not len(cells) or program.overwrites or program.has_bodies:
        return len(cells) > 0
    walk, nobody = _Walk(), np.zeros(len(values), bool)
    for i in np.flatnonzero(np.isin(program.slot_of(program.code[:, OUTPUT]), program.slot_of(cells))):
        if _is_elementwise(program, i):
            walk.look(program, range(i, i + 1), values, adjoints, nobody)
    return bool(walk.found.dropped)


class _Walk:
    """One walk; `step` says in which step of which loop it is."""

    def __init__(self):
        self.found, self.step = Findings(), ""

    # ------------------------------------------------------------------ values

    def up(self, program, values) -> bool:
        """Run the list; where it gives something that is not finite, once more by the instruction to see where that begins."""
        start = values.copy()
        if loops.forward(ENGINE, program, values, 0, len(program.code)) >= 0:
            return False
        if not np.isfinite(values).all() and self.found.first_nonfinite is None:
            self._find_first(program, start)
        return True

    def _find_first(self, program, values):
        for i in range(len(program.code)):
            *operands, out = _elements(program, i, values)
            finite = [np.isfinite(x).all() for x in operands]
            before = np.isfinite(out).all()  # what others added to the same cells
            loops.forward(ENGINE, program, values, i, i + 1)
            if all(finite) and before and not np.isfinite(out).all():
                self._found_first(program, i, operands, out, values)
                return

    def _found_first(self, program, i, operands, out, values):
        if _name(program, i) == "loop":
            self._find_first_in_loop(program, i, values)
        if self.found.first_nonfinite is None:
            at = int(np.flatnonzero(~np.isfinite(out.ravel()))[0])
            shown = operands if _is_elementwise(program, i) else []
            count = int(np.count_nonzero(~np.isfinite(out)))
            self.found.first_nonfinite = self._place(program, i, shown, out, math.nan, at, count)

    def _find_first_in_loop(self, program, i, values):
        run, _ = _loop_run(program, i, values)
        state = run.state
        for k in run.steps:
            before = self._enter(program, i, k)
            run.load(k, state)
            start = run.work.copy()
            run.run(ENGINE, k, state)
            wrong = not np.isfinite(run.work).all()
            if wrong:
                self._find_first(run.body, start)
            self.step = before
            if wrong or run.ended():
                return
            state = run.next_state()

    # ------------------------------------------------------------------ adjoints

    def down(self, program, values, adjoints, marked):
        """Walk the list down, stretch by stretch, so that overwritten values are back where an instruction is looked at."""
        depends = _dependent(program, marked)
        for start, stop in reversed(_stretches(program)):
            if _name(program, start) == "loop":
                self._down_loop(program, start, values, adjoints, depends)
                continue
            if _name(program, start) == "call":
                self._down_call(program, start, values, adjoints)
                continue
            ENGINE.reverse(program.code[start:stop], program.geometry, values, adjoints, True)
            self.look(program, range(start, stop), values, adjoints, depends)

    def _down_loop(self, program, i, values, adjoints, depends):
        """Walk a loop down step by step."""
        run, cells = _loop_run(program, i, values)
        loop, packs = run.loop, run.packs
        states, state = [], run.state
        for k in run.steps:
            run.run(ENGINE, k, state)
            if run.ended():
                break
            states.append((k, state))
            state = run.next_state()
        first, xs, ss, out = (adjoints[cell : cell + size] for cell, size in zip(cells, loop.sizes, strict=True))
        marked = self._marked_inputs(program, run, cells, depends)
        carried = [leaf(out, place).copy() for place in packs.last]
        after = [[leaf(out, place) for place in places] for places in (packs.sums, packs.y, packs.rows)]
        for k, state in reversed(states):
            run.run(ENGINE, k, state)
            inner = np.zeros_like(run.work)
            seeds = [*carried, *after[0], *(y[k] for y in after[1])]
            for view, seed in zip(run.body.outputs, seeds, strict=False):
                view.of(inner)[...] += seed
            before = self._enter(program, i, k)
            self.down(run.body, run.work, inner, marked)
            self.step = before
            carry, constants, x, s = run.split([view.of(inner) for view in run.body.inputs])
            carried = [adjoint.copy() for adjoint in carry]
            for adjoint, row in zip(carried, after[2], strict=False):
                adjoint += row[k + loop.before]
            _add(constants, [leaf(first, place) for place in packs.constants])
            _add(x, [leaf(xs, place)[k] for place in packs.x])
            _add(s, [leaf(ss, place)[k + 1 - loop.before] for place in packs.s])
        _add(carried, [leaf(first, place) for place in packs.carry])

    def _down_call(self, program, i, values, adjoints):
        """Add the adjoints of a call's arguments, by its rules."""
        code = program.code[i]
        call = _call(program, i)
        recorder = Recorder(values.dtype)
        inputs = [recorder.input(view.of(values), True) for view in call.operands(int(code[OPERAND]))]
        small = recorder.program(recorder.call(call, inputs))
        seeds = [view.of(adjoints) for view in call.results(int(code[OUTPUT]))]
        longer, views = with_gradients(small, list(range(len(seeds))), small.inputs, seeded=True)
        work = longer.values.copy()
        given = [view.of(values) for view in call.operands(int(code[OPERAND]))]
        for view, value in zip(longer.inputs, [*given, *seeds], strict=True):
            view.of(work)[...] = value
        loops.forward(ENGINE, longer, work, 0, len(longer.code))
        found = [view.of(work) for view in views]
        if all(np.isfinite(x).all() for x in seeds) and not all(np.isfinite(x).all() for x in found):
            place = self._place(program, i, [], values[code[OUTPUT]], math.nan, 0, 1, 1)
            self._noted(i, place, False, True, True)
            self.found.first_nonfinite_adjoint = self.found.first_nonfinite_adjoint or place
        _add(found, [view.of(adjoints) for view in call.operands(int(code[OPERAND]))])

    def _enter(self, program, i, k) -> str:
        """Say that the walk is in step k of a loop; returns where it was."""
        before = self.step
        self.step = f"step {k} of the loop at {line_of(program, i)}" + (f", in {before}" if before else "")
        return before

    @staticmethod
    def _marked_inputs(program, run, cells, depends) -> np.ndarray:
        """Which cells of the body's arguments depend on what is differentiated, in one step or another."""
        first, xs, ss = (depends[cell : cell + size] for cell, size in zip(cells[:3], run.loop.sizes[:3], strict=True))
        packs = run.packs
        marks = [leaf(first, place) for place in (*packs.carry, *packs.constants)]
        marks += [leaf(pack, place).any(axis=0) for pack, places in ((xs, packs.x), (ss, packs.s)) for place in places]
        while True:
            marked = np.zeros(len(run.work), bool)
            for view, mark in zip(run.body.inputs, marks, strict=True):
                view.of(marked)[...] = mark
            known = marked.sum()
            outcome = _dependent(run.body, marked)
            for k in range(run.loop.carry):
                marks[k] = marks[k] | run.body.outputs[k].of(outcome)
                run.body.inputs[k].of(marked)[...] = marks[k]
            if marked.sum() == known:
                return marked

    # ------------------------------------------------------------------ a look at instructions

    def look(self, program, numbers, values, weights, depends, forward=False):
        """Judge instructions whose operands' values and result's adjoints (operands' tangents) are in the buffers."""
        nonfinite, structural = [], []
        own = program.code[numbers.start : numbers.stop]
        scalar = own[:, SPACE] == SCALAR
        for opcode in np.unique(own[scalar, OPCODE]):
            which = numbers.start + np.flatnonzero(scalar & (own[:, OPCODE] == opcode))
            nonfinite += self._look_at_scalars(program, which, values, weights, depends, forward)
        for i in numbers.start + np.flatnonzero(~scalar):
            if _is_elementwise(program, i):
                nonfinite += self._look_at_array(program, int(i), values, weights, depends, forward)
            else:
                structural += self._look_at_structural(program, int(i), values, weights)
        # A structural one is not looked at element by element: another reader of its operands may have made their adjoints so.
        nonfinite = nonfinite or structural
        if nonfinite and self.found.first_nonfinite_adjoint is None:
            self.found.first_nonfinite_adjoint = (min if forward else max)(nonfinite, key=lambda pair: pair[0])[1]

    def _look_at_scalars(self, program, which, values, weights, depends, forward):
        """All scalar instructions of one opcode at once."""
        code, row = program.code[which], program.table.rows[program.code[which[0], OPCODE]]
        cells = [code[:, OPERAND + k] for k in range(row.arity)] + [code[:, OUTPUT]]
        active = [code[:, FLAGS] >> k & 1 == 1 for k in range(row.arity)]
        buffers = [[buffer[c] for c in cells] for buffer in (values, weights, depends)]
        kink, undefined, overflow, lost, dropped, partial = _judged(program.table, row, *buffers, active, forward)
        found = []
        for places, mask, derivative in ((self.found.lost, lost, math.inf), (self.found.dropped, dropped, 0.0)):
            for n in np.flatnonzero(mask):
                shown = [values[c[n]] for c in cells]
                self.found.note(places, self._place(program, which[n], shown[:-1], shown[-1], derivative, 0, 1))
        for n in np.flatnonzero(kink | undefined | overflow):
            shown = [values[c[n]] for c in cells]
            place = self._place(program, which[n], shown[:-1], shown[-1], partial[n], 0, 1)
            found += self._noted(which[n], place, kink[n], undefined[n], undefined[n] | overflow[n])
        return found

    def _look_at_array(self, program, i, values, weights, depends, forward):
        row = program.table.rows[program.code[i, OPCODE]]
        masks = _elements(program, i, values), _elements(program, i, weights), _elements(program, i, depends)
        active = [np.bool_(program.code[i, FLAGS] >> k & 1) for k in range(row.arity)]
        kink, undefined, overflow, lost, dropped, partial = _judged(program.table, row, *masks, active, forward)
        found = []
        for mask, which in ((kink, "kink"), (undefined, "undefined"), (overflow, "overflow"), (lost, "lost"),
                            (dropped, "dropped")):
            if mask.any():
                at = int(np.flatnonzero(mask.ravel())[0])
                place = self._place(program, i, masks[0][:-1], masks[0][-1], partial.ravel()[at], at, int(mask.sum()))
                if which in ("lost", "dropped"):
                    self.found.note(getattr(self.found, which), place)
                else:
                    found += self._noted(i, place, which == "kink", which == "undefined", which != "kink")
        return found

    def _look_at_structural(self, program, i, values, weights):
        row, code = program.table.rows[program.code[i, OPCODE]], program.code[i]
        operand, out = int(code[OPERAND]), int(code[OUTPUT])
        if row.at_kink is not None and code[FLAGS] & 7:
            ties = row.at_kink(program.geometry[code[SPACE] + 2 :], operand, out, values)
            ties &= weights[out : out + len(ties)] != 0.0
            if ties.any():
                at = int(np.flatnonzero(ties)[0])
                extreme = values[out + at]
                self._noted(i, self._place(program, i, [extreme, extreme], extreme, math.nan, 0, int(ties.sum()), len(ties)),
                            True, False, False)
        *read, made = _elements(program, i, weights)
        known = all(np.isfinite(x).all() for x in (made, *_elements(program, i, values)))
        if code[FLAGS] & 7 and known and not all(np.isfinite(x).all() for x in read):
            return [(i, self._place(program, i, [], values[out], math.nan, 0, 1, 1))]
        return []

    def _noted(self, i, place, kink, undefined, nonfinite):
        """Note a place; returns it with its number where it makes finite adjoints something else."""
        if kink:
            self.found.note(self.found.kinks, place)
        if undefined:
            self.found.note(self.found.undefined, place)
        return [(int(i), place)] if nonfinite else []

    def _place(self, program, i, operands, out, partial, at, count, total=None):
        row = program.table.rows[program.code[i, OPCODE]]
        element = [float(np.ravel(x)[at]) for x in operands]
        return Place(operation_name(program, i), tuple(element), float(np.ravel(out)[at]), float(partial), line_of(program, i),
                     count, np.size(out) if total is None else total, row.kinks, self.step)


def _judged(table, row, values, weights, depends, active, forward):
    """Of elements of one instruction: which are at a kink, undefined, overflow, lost or dropped; and the derivatives.

    A derivative is met where an adjoint (a tangent) that is not zero goes through it. It is lost where the value is not finite
    and the adjoint zero, as that may be the adjoint of an infinity: the logarithm's of one is 1 / infinity. What is not finite
    is dropped where the partial is zero, unless the row says by it that it has taken another operand.
    """
    shape = np.shape(values[-1])
    kink, undefined, overflow = np.zeros(shape, bool), np.zeros(shape, bool), np.zeros(shape, bool)
    lost, dropped, derivative = np.zeros(shape, bool), np.zeros(shape, bool), np.full(shape, np.nan)
    finite = np.logical_and.reduce([np.isfinite(x) for x in values[:-1]]) if row.arity else False
    for k in range(row.arity):
        bend = row.at_kink[k] if row.at_kink else None
        if row.partials[k] is None:
            met = depends[k] & finite
            if bend is not None and met.any():
                at = met & (evaluated(bend, table, *values) != 0.0)
                kink, derivative = kink | at, np.where(at & np.isnan(derivative), 0.0, derivative)
            continue
        weight = weights[k if forward else -1]
        infinite = active[k] & ~np.isfinite(weight) if k not in row.selects else np.bool_(False)
        if infinite.any():
            dropped |= infinite & (evaluated(row.partials[k], table, *values) == 0.0)
        met = active[k] & (weight != 0.0) & finite
        vanished = active[k] & (weight == 0.0) & finite & ~np.isfinite(values[-1])
        if not forward and vanished.any():
            lost |= vanished & ~np.isfinite(evaluated(row.partials[k], table, *values))
        if not met.any():
            continue
        partial = evaluated(row.partials[k], table, *values)
        with np.errstate(all="ignore"):
            share = weight * partial
        bad = met & ~np.isfinite(partial)
        at = met & (evaluated(bend, table, *values) != 0.0) if bend is not None else np.zeros(shape, bool)
        derivative = np.where((at | bad) & (np.isnan(derivative) | bad), partial, derivative)
        kink, undefined = kink | at, undefined | bad
        overflow |= met & ~bad & np.isfinite(weight) & ~np.isfinite(share)
    return kink & ~undefined, undefined, overflow & ~undefined, lost, dropped, derivative


# ---------------------------------------------------------------------- parts of a list


def _name(program, i) -> str:
    return program.table.rows[program.code[i, OPCODE]].name


def operation_name(program, i) -> str:
    """Name of an instruction; of a call, what is called."""
    name = _name(program, i)
    return _call(program, i).name if name == "call" else name


def _call(program, i) -> Call:
    """What a call instruction runs."""
    return program.bodies[CallWords.of(program.geometry[program.code[i, SPACE] + 2 :]).body]


def line_of(program, i) -> str:
    """The user's file:line of an instruction."""
    return program.lines[program.code[i, LINE]] if program.lines else "<unknown>:0"


def _is_elementwise(program, i) -> bool:
    return not program.table.rows[program.code[i, OPCODE]].structural


def _elements(program, i, buffer) -> list[np.ndarray]:
    """Operands and result of an instruction, element by element; of a structural one what it may read and what it sets."""
    code, arity = program.code[i], program.table.rows[program.code[i, OPCODE]].arity
    shape, strides = program.iteration(i)
    if shape is None:
        read = [program.slot_view(int(program.slot_of(code[OPERAND + k]))).of(buffer) for k in range(arity)]
        return [*read, program.slot_view(max(int(program.slot_of(code[OUTPUT])), 0)).of(buffer)]
    views = [View(int(code[OPERAND + k]), shape, strides[k]) for k in range(arity)]
    return [view.of(buffer) for view in (*views, View(int(code[OUTPUT]), shape, strides[OUT]))]


def _stretches(program) -> list[tuple[int, int]]:
    """Parts of the list within which no cell is overwritten; what overwrites, loops and calls stand alone."""
    others = [program.table.opcode[name] for name in ("loop", "call")]
    alone = program.overwriting() | np.isin(program.code[:, OPCODE], others)
    edges = sorted({0, len(program.code), *np.flatnonzero(alone).tolist(), *(np.flatnonzero(alone) + 1).tolist()})
    return list(itertools.pairwise(edges))


def _marked(program, views) -> np.ndarray:
    marked = np.zeros(len(program.values), bool)
    for view in views:
        view.of(marked)[...] = True
    return marked


def _dependent(program, marked) -> np.ndarray:
    """Which cells depend on the marked ones, through whatever instruction but `stop`."""
    marked = marked.copy()
    if not _has_jumps(program):
        return marked  # nobody asks
    for i in range(len(program.code)):
        if _name(program, i) == "stop" or not program.table.rows[program.code[i, OPCODE]].output:
            continue
        *operands, out = _elements(program, i, marked)
        for x in operands:
            if _is_elementwise(program, i):
                out[x] = True  # what stands in `out` stays: several elements may be one cell
            elif x.any():
                out[...] = True
    return marked


def _has_jumps(program) -> bool:
    """Whether the list has rows with a kink along an operand through which no derivative flows."""
    rows = [program.table.rows[opcode] for opcode in np.unique(program.code[:, OPCODE])]
    own = any(row.at_kink and not row.structural and None in row.partials for row in rows)
    return own or any(_has_jumps(body) for body in program.bodies if not isinstance(body, Call))


def _loop_run(program, i, values):
    """The loop of an instruction, ready to run, and the first cells of its packs."""
    code = program.code[i]
    loop = Loop.of(program.geometry[code[SPACE] + 2 :])
    cells = [*code[OPERAND : OPERAND + 3].tolist(), int(code[OUTPUT])]
    parts = [values[cell : cell + size] for cell, size in zip(cells[:3], loop.sizes, strict=False)]
    return LoopRun(program.bodies[loop.body], loop, *parts), cells


def _add(adjoints, cells):
    for adjoint, cell in zip(adjoints, cells, strict=True):
        cell += adjoint
