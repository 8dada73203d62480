"""Measuring a list line by line, in its own sweeps.

A sweep is run stretch by stretch, where a stretch is what follows each other in the list of one line, and the clock is read
around some of the stretches: so each runs on the values and adjoints that it meets. Stretches of the same instructions on the
same shapes cost the same, so a few of each kind are measured. What is shorter than the clock can tell is repeated in one call,
and the time of an empty call is taken off.

What is here: seconds by line. What is not: what is told of them (`profile.py`), lists that run as machine code.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter, defaultdict
from typing import Any, NamedTuple

import numpy as np

from compiled.lists import loops
from compiled.lists.listing import Listing
from compiled.lists.loops import Loop, LoopRun
from compiled.lists.program import Program
from compiled.table.layout import FLAGS, LINE, OPCODE, OPERAND, OUTPUT, SPACE
from tape.errors import GuardFailed
from tape.recording.recorder import failed_guard
from tape.recording.trace import Trace
from tape.recording.traces import Traces
from tape.reports.profile import Profile, ProfileRow
from tape.transforms.build import with_gradients

SAMPLES = 5
"""Stretches of a kind that are measured, spread over the list."""

SHORT = 3e-5
"""Seconds below which a stretch is repeated in one call, so that the call and the clock weigh little."""

MOST_TILED = 2000
"""Instructions that such a call runs at most."""


class Line(NamedTuple):
    """What is known of a line before anything is measured; see `ProfileRow`."""

    instructions: int
    cells: int


def profile(trace: Trace, values: np.ndarray, seeds, repeat: int) -> Profile:
    """Measure a list by line.

    Parameters
    ----------
    trace : Trace
        The list.
    values : ndarray
        The value buffer before the forward sweep, arguments in place; not modified.
    seeds : list of (int, ndarray)
        Of the reverse sweep: numbers of outputs, and their adjoints; empty where nothing is differentiated.
    repeat : int
        How often each time is measured, of which the median is taken.
    """
    if not isinstance(repeat, int) or repeat < 1:
        raise ValueError(f"profile: expected a number of repetitions of at least 1, got {repeat!r}")
    program, engine = trace.program, trace.engine
    measure = _measure_with_loops if program.has_bodies else _measure_sweeps
    forward, back, totals = measure(engine, program, values, seeds, repeat, trace.wrt)
    rows, lines = [], _lines(program)
    for line in dict.fromkeys([*lines, *back]):
        known = lines.get(line, Line(0, 0))
        rows.append(ProfileRow(line, known.instructions, known.cells, known.cells * values.itemsize, forward.get(line, 0.0),
                               back.get(line, 0.0) if seeds else None))
    kernel = "by the sweeps" if engine.has("forward") else "by the interpreter, as the sweeps are not compiled yet"
    return Profile(rows, totals[0], totals[1] if seeds else None, repeat, f"run {kernel}")


def profile_at(trace: Trace, leaves, repeat: int) -> Profile:
    """`profile` at arguments, those of the list's inputs, with seeds of ones."""
    values = trace.program.values.copy()
    for view, leaf in zip(trace.program.inputs, leaves, strict=True):
        view.of(values)[...] = leaf
    return profile(trace, values, ones(trace) if trace.wrt else [], repeat)


def ones(trace: Trace) -> list[tuple[int, np.ndarray]]:
    """A seed of ones for each output of a list."""
    return [(k, np.ones(view.shape)) for k, view in enumerate(trace.program.outputs)]


def profile_call(traces: Traces, numbers: tuple[int, ...], *args, repeat: int = 5, **kwargs) -> Profile:
    """Measure what each line costs in the list of a function, differentiated by arguments `numbers`; see `Tape.profile`."""
    key, leaves, found = traces.find(args, kwargs, numbers)
    trace, workspace = traces.run_found(key, leaves, found, args, kwargs, numbers)
    trace.idle.append(workspace)
    return profile_at(trace, [leaves[k] for k in trace.dynamic], repeat)


def _measure_sweeps(engine, program, initial, seeds, repeat, wrt):
    """Seconds by line forward and back, and of the whole sweeps, of a list that both sweeps run."""
    up = _Forward(engine, program)
    down = _Reverse(engine, program)
    forward, back, totals = up.stretches(), down.stretches(), []
    for k in range(repeat + 1):
        values, adjoints = initial.copy(), np.zeros_like(initial)
        begin = time.perf_counter()
        up.run(values, 0, len(program.code))
        middle = time.perf_counter()
        _seed(program, seeds, adjoints)
        start = time.perf_counter()
        if seeds:
            down.run(values, adjoints, 0, len(program.code))
        totals.append((middle - begin, time.perf_counter() - start))
        values, adjoints = initial.copy(), np.zeros_like(initial)
        forward.walk(values, probing=k == 0)
        if seeds:
            _seed(program, seeds, adjoints)
            back.walk(values, adjoints, probing=k == 0)
    return forward.by_line(), back.by_line() if seeds else {}, np.median(totals[1:], axis=0).tolist()


def _seed(program, seeds, adjoints):
    for which, seed in seeds:
        program.outputs[which].of(adjoints)[...] += seed


def _measure_with_loops(engine, program, initial, seeds, repeat, wrt):
    """The same of a list with loops or calls, which the reverse sweep does not go into: another list computes its gradient."""
    if not seeds:
        forward, total = _measure_forward(engine, program, initial, 0, repeat)
        return forward, {}, (total, 0.0)
    longer, _ = with_gradients(program, [which for which, _ in seeds], [program.inputs[k] for k in wrt], seeded=True)
    values = longer.values.copy()
    given = [view.of(initial) for view in program.inputs] + [seed for _, seed in seeds]
    for view, value in zip(longer.inputs, given, strict=True):
        view.of(values)[...] = value
    forward, total = _measure_forward(engine, program, initial, 0, repeat)
    back, rest = _measure_forward(engine, longer, values, len(program.code), repeat)
    return forward, back, (total, rest)


def _measure_forward(engine, program, initial, start, repeat):
    """Seconds by line of the forward sweep from instruction `start` on, and of all of that."""
    up = _Forward(engine, program)
    stretches, totals = up.stretches(start), []
    for k in range(repeat + 1):
        values = initial.copy()
        up.run(values, 0, start)
        begin = time.perf_counter()
        up.run(values, start, len(program.code))
        totals.append(time.perf_counter() - begin)
        values = initial.copy()
        up.run(values, 0, start)
        stretches.walk(values, probing=k == 0)
    seconds = stretches.by_line(lambda number: _shares(engine, program, values, number))
    return seconds, float(np.median(totals[1:]))


def _shares(engine, program, values, number) -> dict[str, float]:
    """How the time of a loop, instruction `number` of a list that was run, divides among the lines of its body."""
    code = program.code[number]
    own = _name(program, int(code[LINE]))
    if program.table.rows[code[OPCODE]].name != "loop":
        return {own: 1.0}
    loop = Loop.of(program.geometry[code[SPACE] + 2 :])
    packs = [values[cell : cell + size] for cell, size in zip(code[OPERAND : OPERAND + 3].tolist(), loop.sizes, strict=False)]
    run = LoopRun(program.bodies[loop.body], loop, *packs)
    if not run.steps:
        return {own: 1.0}  # a branch that was not taken
    run.load(run.steps[0], run.state)
    seconds, _ = _measure_forward(engine, run.body, run.work, 0, SAMPLES)
    total = sum(seconds.values())
    return {line: part / total for line, part in seconds.items()} if total else {own: 1.0}


def median_seconds(function, repeat: int) -> float:
    """What a call takes, of which as many are made as the clock needs."""
    function()
    begin = time.perf_counter()
    function()
    times, measured = max(1, int(10 * SHORT / max(time.perf_counter() - begin, 1e-9))), []
    for _ in range(repeat):
        begin = time.perf_counter()
        for _ in range(times):
            function()
        measured.append((time.perf_counter() - begin) / times)
    return float(np.median(measured))


# ---------------------------------------------------------------------- stretches


class _Forward:
    """The forward sweep over parts of a list."""

    def __init__(self, engine, program):
        self.engine, self.program = engine, program

    def stretches(self, start=0) -> _Stretches:
        """The list from an instruction on, to be measured."""
        return _Stretches(self.program, start, self, downwards=False)

    def run(self, values, start, stop) -> None:
        """Run instructions start to stop."""
        status = loops.forward(self.engine, self.program, values, start, stop)
        if status >= 0:
            text = self.program.instruction_text(failed_guard(status, self.program))
            raise GuardFailed(f"a branch of Python code is decided otherwise than when it was recorded: {text}; profile what "
                              "was recorded at these arguments")

    def tiled(self, code, values) -> float:
        """Seconds of running some instructions."""
        begin = time.perf_counter()
        self.engine.forward(code, self.program.geometry, values, 0, len(code))
        return time.perf_counter() - begin


class _Reverse:
    """The reverse sweep over parts of a list."""

    def __init__(self, engine, program):
        self.engine, self.program = engine, program

    def stretches(self) -> _Stretches:
        """The whole list, to be measured."""
        return _Stretches(self.program, 0, self, downwards=True)

    def run(self, values, adjoints, start, stop) -> None:
        """Run instructions start to stop, from the last to the first."""
        self.engine.reverse(self.program.code[start:stop], self.program.geometry, values, adjoints, True)

    def tiled(self, code, values, adjoints) -> float:
        """Seconds of running some instructions."""
        begin = time.perf_counter()
        self.engine.reverse(code, self.program.geometry, values, adjoints, True)
        return time.perf_counter() - begin


class _Stretches:
    """The stretches of a list, with the seconds that were measured for some.

    Parameters
    ----------
    program : Program
        The list.
    first : int
        The instruction with which they begin.
    sweep : _Forward or _Reverse
        What runs them.
    downwards : bool
        Whether the last one is the first to run.
    """

    def __init__(self, program: Program, first: int, sweep, downwards: bool):
        self.program, self.first, self.sweep, self.downwards = program, first, sweep, downwards
        lines = program.code[first:, LINE]
        alone = np.isin(program.code[first:, OPCODE], [program.table.opcode[name] for name in ("loop", "call")])
        cuts = (np.diff(lines) != 0) | alone[1:] | alone[:-1] if len(lines) else np.zeros(0, bool)
        edges = [first, *(first + 1 + np.flatnonzero(cuts)).tolist(), len(program.code)]
        self.bounds = [(a, b) for a, b in itertools.pairwise(edges) if b > a]
        self.kinds = _kinds(program, self.bounds)
        self.sampled = _sampled(self.kinds)
        self.tiles: dict[int, tuple[np.ndarray, int]] = {}
        self.seconds: dict[int, list[float]] = defaultdict(list)

    def walk(self, *buffers, probing: bool) -> None:
        """Run all stretches in order, and measure those that are sampled; or, at first, find out which to repeat."""
        code, at = self.program.code, len(self.program.code) if self.downwards else self.first
        empty = float(np.median([self.sweep.tiled(code[:0], *buffers) for _ in range(21)]))
        for k in reversed(self.sampled) if self.downwards else self.sampled:
            start, stop = self.bounds[k]
            if self.downwards and stop < at:
                self.sweep.run(*buffers, stop, at)
            elif not self.downwards and at < start:
                self.sweep.run(*buffers, at, start)
            (self._probe if probing else self._measure)(k, empty, buffers)
            at = start if self.downwards else stop
        if self.downwards and at:
            self.sweep.run(*buffers, 0, at)
        elif not self.downwards and at < len(code):
            self.sweep.run(*buffers, at, len(code))

    def _probe(self, k, empty, buffers):
        """Run a stretch, and see whether it is too short for the clock."""
        start, stop = self.bounds[k]
        code, size = self.program.code[start:stop], stop - start
        if self._can_be_repeated(k):
            kept, some = self._kept(k, buffers), max(1, 64 // size)
            taken = self._tiled(np.tile(code, (some, 1)), empty, buffers, kept) / some
            if taken < SHORT:
                times = max(1, min(int(SHORT / max(taken, 1e-9)) + 1, MOST_TILED // size))
                self.tiles[k] = np.tile(code, (times, 1)), times
        self.sweep.run(*buffers, start, stop)

    def _measure(self, k, empty, buffers):
        """Run a stretch, and note what it takes."""
        if k in self.tiles:
            code, times = self.tiles[k]
            self.seconds[k].append(self._tiled(code, empty, buffers, self._kept(k, buffers)) / times)
            self.sweep.run(*buffers, *self.bounds[k])
        else:
            self.seconds[k].append(self._timed(k, empty, buffers))

    def _tiled(self, code, empty, buffers, kept) -> float:
        """Seconds of instructions, of which the second time counts, as the first may wait for memory; cells are put back."""
        taken = min(self.sweep.tiled(code, *buffers) for _ in range(2))
        for buffer, cells, numbers in kept:
            buffer[cells] = numbers
        return max(taken - empty, 0.0)

    def _timed(self, k, empty, buffers) -> float:
        begin = time.perf_counter()
        self.sweep.run(*buffers, *self.bounds[k])
        return max(time.perf_counter() - begin - empty, 0.0)

    def _can_be_repeated(self, k) -> bool:
        """Whether a second run does what the first did: not where a guard would see what was added to twice."""
        names = {self.program.table.rows[opcode].name for opcode in self.program.code[slice(*self.bounds[k]), OPCODE]}
        return not names & {"guard", "loop", "call"}

    def _kept(self, k, buffers):
        """What the cells hold that a stretch writes, to be put back: outputs, and what assignments save."""
        code, program = self.program.code[slice(*self.bounds[k])], self.program
        slots = np.unique(program.slot_of(code[:, OUTPUT : OPERAND + 3] if self.downwards else code[:, OUTPUT : OPERAND + 2]))
        ranges = [slice(int(program.starts[s]), int(program.starts[s] + program.sizes[s])) for s in slots.tolist() if s >= 0]
        return [(buffer, cells, buffer[cells].copy()) for buffer in buffers for cells in ranges]

    def by_line(self, shares=None) -> dict[str, float]:
        """Seconds of each line; `shares(number)` divides those of a loop or a call among lines."""
        of_kind: dict[Any, list[float]] = defaultdict(list)
        for k, seconds in self.seconds.items():
            of_kind[self.kinds[k]].append(float(np.median(seconds)))
        lines: dict[str, float] = defaultdict(float)
        for (kind, count), (start, _) in _first_of_each(self.kinds, self.bounds):
            total = count * float(np.mean(of_kind[kind]))
            parts = shares(start) if shares is not None and kind[0] == "alone" else None
            for line, share in (parts or {_name(self.program, kind[-1]): 1.0}).items():
                lines[line] += share * total
        return dict(lines)


def _kinds(program, bounds) -> list[tuple]:
    """For each stretch what tells its cost: instructions, shapes and line. A loop or a call is of a kind of its own."""
    listing, flags = Listing.of(program), program.code[:, FLAGS].tolist()
    numbers: dict[Any, int] = {}
    of_step = [numbers.setdefault((step.row.name, step.space, flag), len(numbers))
               for step, flag in zip(listing.steps, flags, strict=True)]
    kinds: list[tuple] = []
    for start, stop in bounds:
        step = listing.steps[start]
        if step.row.name in ("loop", "call"):
            kinds.append(("alone", start, step.line))
        else:
            kinds.append(("same", tuple(of_step[start:stop]), step.line))
    return kinds


def _sampled(kinds) -> list[int]:
    """Numbers of the stretches that are measured, in order."""
    members = defaultdict(list)
    for k, kind in enumerate(kinds):
        members[kind].append(k)
    return sorted({own[i] for own in members.values()
                   for i in np.linspace(0, len(own) - 1, min(SAMPLES, len(own))).astype(int).tolist()})


def _first_of_each(kinds, bounds):
    """The kinds with how often they occur, and the bounds of a stretch of each."""
    where = dict(zip(reversed(kinds), reversed(bounds), strict=True))
    return [(item, where[item[0]]) for item in Counter(kinds).items()]


# ---------------------------------------------------------------------- what is counted


def _lines(program, steps: int = 1) -> dict[str, Line]:
    """Instructions and cells by line, the bodies of loops included, of a list that is run so often."""
    found: dict[str, Line] = {}
    first_writer: dict[int, str] = {}
    for code, slot in zip(program.code, program.slot_of(program.code[:, OUTPUT]).tolist(), strict=True):
        line, row = _name(program, int(code[LINE])), program.table.rows[code[OPCODE]]
        found[line] = _sum(found.get(line), Line(steps, 0))
        if row.output:
            first_writer.setdefault(slot, line)
        if row.name == "loop":
            loop = Loop.of(program.geometry[code[SPACE] + 2 :])
            for name, inner in _lines(program.bodies[loop.body], steps * loop.length).items():
                found[name] = _sum(found.get(name), inner)
    for slot, line in first_writer.items():
        found[line] = _sum(found[line], Line(0, int(program.sizes[slot])))
    return found


def _sum(a: Line | None, b: Line) -> Line:
    return b if a is None else Line(a.instructions + b.instructions, a.cells + b.cells)


def _name(program, line: int) -> str:
    return program.lines[line] if program.lines else "<unknown>"
