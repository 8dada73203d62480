"""Loops as instructions: one instruction runs a list of its own, the body, for a number of steps.

A body is a program whose inputs are, in this order, leaves of the carry, of constants, of x and of s; its outputs are leaves of
the next carry, of sums and of y (and, where the loop may end early, whether it goes on). The instruction's operands are packs:

operand 0     the carry before the first step, the constants, and, where `counted`, the number of steps to run
operand 1     the x of all steps, leaf after leaf, each in the order of the steps
operand 2     the s of all steps, in the same order (states that another loop kept)
output        the carry after the last step, the sums over all steps, the y of all steps, and, where the loop may end early, how
              many steps it has run; all leaf after leaf

A loop that `keeps` has for each leaf of the carry one row more than steps: the carry before step k is row k, and that after the
last step the row after; a `backward` loop takes its steps from the last to the first, and its rows are those of the states
between the same two steps. Packs of s have one row more than steps, too.

What is here: the block's words and the packs' layout, and running a loop step by step. What is not: machine code
(`native.loops`), derivatives (`tape.transforms.differentiate`).
"""

from __future__ import annotations

import math
from typing import NamedTuple

from compiled.lists.calls import CallWords
from compiled.table.layout import CALL, OPCODE, OPERAND, OUTPUT, SPACE, STATUS_BITS, instruction_and_code

FIXED_WORDS = 16


class Loop(NamedTuple):
    """The words of a loop's block after their number.

    Attributes
    ----------
    sizes : tuple of four int
        Of the operands' packs and of the output's, in cells.
    body, length : int
        Number of the body; most steps.
    backward, counted, ends, keeps : int
        Flags.
    carry, constants, x, s, sums : int
        How many leaves there are; what is left of the body's outputs is y.
    spared : int
        How many of the last y are products of matrices that the loop's adjoint need not compute again.
    active : tuple of int
        For each leaf of the constants, of x and of s, whether it depends on what is differentiated.
    """

    sizes: tuple[int, int, int, int]
    body: int
    length: int
    backward: int
    counted: int
    ends: int
    keeps: int
    carry: int
    constants: int
    x: int
    s: int
    sums: int
    spared: int
    active: tuple[int, ...]

    @property
    def before(self) -> int:
        """The row of the state before step k is k + this; in s, which a loop of the other direction kept, k + 1 - this."""
        return self.backward

    def __str__(self):
        flags = [name for name in ("backward", "counted", "ends", "keeps") if getattr(self, name)]
        return f"body {self.body}, {self.length} steps{', ' if flags else ''}{', '.join(flags)}"

    @classmethod
    def of(cls, words) -> Loop:
        """Read the words of a block (its `owned` left out)."""
        count, *rest = (int(w) for w in words[: 1 + int(words[0])])
        return cls(tuple(rest[:4]), *rest[4:FIXED_WORDS], tuple(rest[FIXED_WORDS:count]))

    def words(self) -> tuple[int, ...]:
        """The words of the block."""
        words = (*self.sizes, *self[1:-1], *self.active)
        return (len(words), *words)


class Packs:
    """Where each leaf is in a loop's packs: lists of (first cell, shape), stacks with the steps in front.

    Attributes
    ----------
    carry, constants, x, s : list
        In operands 0, 0, 1 and 2.
    count : int or None
        Cell of operand 0 with the number of steps.
    rows : list
        In the output: the states that the loop keeps, one row more than steps; empty where it keeps none.
    last, sums, y : list
        In the output.
    ran : int or None
        Cell of the output with the number of steps run.
    """

    def __init__(self, loop: Loop, inputs, outputs):
        """`inputs` and `outputs` are the shapes of the body's leaves."""
        carry, constants, x, s = _split(inputs, (loop.carry, loop.constants, loop.x, loop.s))
        n = loop.length
        first = _Pack()
        self.carry, self.constants = first.leaves(carry), first.leaves(constants)
        self.count = first.take(1) if loop.counted else None
        second, third, out = _Pack(), _Pack(), _Pack()
        self.x, self.s = second.leaves(x, n), third.leaves(s, n + 1)
        self.rows = out.leaves(carry, n + 1) if loop.keeps else []
        if loop.keeps:
            sizes = [math.prod(shape) for shape in carry]
            skipped = 0 if loop.backward else n
            self.last = [(cell + skipped * size, tuple(shape))
                         for (cell, _), shape, size in zip(self.rows, carry, sizes, strict=True)]
        else:
            self.last = out.leaves(carry)
        self.sums = out.leaves(outputs[loop.carry : loop.carry + loop.sums])
        self.y = out.leaves(outputs[loop.carry + loop.sums : len(outputs) - loop.ends], n)
        self.ran = out.take(1) if loop.ends else None
        self.sizes = (first.size, second.size, third.size, out.size)

    @classmethod
    def of(cls, loop: Loop, body) -> Packs:
        """For a body that is a program."""
        return cls(loop, [view.shape for view in body.inputs], [view.shape for view in body.outputs])


class _Pack:
    def __init__(self):
        self.size = 0

    def take(self, size):
        self.size += size
        return self.size - size

    def leaves(self, shapes, steps=None):
        front = () if steps is None else (steps,)
        return [(self.take(math.prod((*front, *shape))), (*front, *shape)) for shape in shapes]


def _split(items, counts):
    at, parts = 0, []
    for count in counts:
        parts.append(list(items[at : at + count]))
        at += count
    return parts


def forward(engine, program, values, start: int, stop: int) -> int:
    """Run the forward sweep of instructions start to stop, with loops and calls; returns the status of `forward.make_forward`.

    Parameters
    ----------
    engine : engine.Engine
        The sweeps.
    program : Program or ListMemory with `bodies`
        The list.
    values : ndarray
        The value buffer.
    """
    while True:
        status = engine.forward(program.code, program.geometry, values, start, stop)
        if status < 0:
            return status
        number, code = instruction_and_code(status)
        if code != CALL:
            return status
        status = _run(engine, program, values, number)
        if status >= 0:
            return (number << STATUS_BITS) | instruction_and_code(status)[1]
        start = number + 1


def _run(engine, program, values, number) -> int:
    """Run a call, or a loop step by step: instruction `number`."""
    code = program.code[number]
    words = program.geometry[code[SPACE] + 2 :]
    cells = [*code[OPERAND : OPERAND + 3].tolist(), int(code[OUTPUT])]
    if program.table.rows[code[OPCODE]].name == "call":
        call = CallWords.of(words)
        operand, output = values[cells[0] : cells[0] + call.operand], values[cells[3] : cells[3] + call.output]
        program.bodies[call.body].run(operand, output)
        return -1
    loop = Loop.of(words)
    parts = [values[cell : cell + size] for cell, size in zip(cells, loop.sizes, strict=True)]
    return run_loop(engine, program.bodies[loop.body], loop, *parts)


class LoopRun:
    """A loop instruction on its packs, to be run step by step.

    Attributes
    ----------
    work : ndarray
        The body's value buffer.
    inputs, outputs : list of ndarray
        The leaves in it.
    state : list of ndarray
        The carry before the first step.
    steps : range
        The steps in the order in which they are run, unless the loop ends early.
    """

    def __init__(self, body, loop: Loop, first, xs, ss):
        self.body, self.loop, self.packs = body, loop, Packs.of(loop, body)
        self.work = body.values.copy()
        self.inputs = [view.of(self.work) for view in body.inputs]
        self.outputs = [view.of(self.work) for view in body.outputs]
        self._xs, self._ss = xs, ss
        for cell, place in zip(self.split(self.inputs)[1], self.packs.constants, strict=True):
            cell[...] = leaf(first, place)
        self.state = [leaf(first, place).copy() for place in self.packs.carry]
        count = min(int(first[self.packs.count]), loop.length) if loop.counted else loop.length
        self.steps = range(count - 1, -1, -1) if loop.backward else range(count)

    def load(self, k: int, state) -> None:
        """Put the arguments of step k, with the carry `state`, into the body's buffer."""
        loop, packs = self.loop, self.packs
        carry, _, x, s = self.split(self.inputs)
        for cell, value in zip(carry, state, strict=True):
            cell[...] = value
        for cell, place in zip(x, packs.x, strict=True):
            cell[...] = leaf(self._xs, place)[k]
        for cell, place in zip(s, packs.s, strict=True):
            cell[...] = leaf(self._ss, place)[k + 1 - loop.before]

    def run(self, engine, k: int, state) -> int:
        """Run the body for step k from the carry `state`; returns the status of the sweep."""
        self.load(k, state)
        return forward(engine, self.body, self.work, 0, len(self.body.code))

    def ended(self) -> bool:
        """Whether the step that was run said that the loop is over, so that its results do not count."""
        return bool(self.loop.ends and not self.outputs[-1])

    def next_state(self) -> list:
        """The carry after the step that was run."""
        return [result.copy() for result in self.outputs[: self.loop.carry]]

    def split(self, leaves):
        """The body's inputs as carry, constants, x and s."""
        return _split(leaves, (self.loop.carry, self.loop.constants, self.loop.x, self.loop.s))


def run_loop(engine, body, loop: Loop, first, xs, ss, out) -> int:
    """Run a loop on its packs; returns -1, or the status of the sweep that stopped."""
    run = LoopRun(body, loop, first, xs, ss)
    packs, state = run.packs, run.state
    sums, ys, rows = ([leaf(out, place) for place in places] for places in (packs.sums, packs.y, packs.rows))
    for array in (*sums, *ys, *rows):
        array[...] = 0.0
    ran = 0
    for k in run.steps:
        for kept, value in zip(rows, state, strict=False):
            kept[k + loop.before] = value
        status = run.run(engine, k, state)
        if status >= 0:
            return status
        if run.ended():
            break
        state = run.next_state()
        for total, result in zip(sums, run.outputs[loop.carry :], strict=False):
            total += result
        for stack, result in zip(ys, run.outputs[loop.carry + loop.sums :], strict=False):
            stack[k] = result
        ran += 1
    for place, value in zip(packs.last, state, strict=True):
        leaf(out, place)[...] = value
    if packs.ran is not None:
        out[packs.ran] = ran
    return -1


def leaf(pack, place):
    """A leaf of a pack, as an array that shares its memory."""
    first, shape = place
    return pack[first : first + math.prod(shape)].reshape(shape)
