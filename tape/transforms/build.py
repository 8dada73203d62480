"""Symbol to symbol: lists that compute derivatives of a list, written by the table's own rules on a copy of it.

What is here: programs to programs. What is not: how instructions are differentiated (`differentiate.py`), simplification
(`simplify.py`).
"""

from __future__ import annotations

import numpy as np

from compiled.lists.program import Program
from compiled.table.layout import FIELDS, FLAGS, OPERAND, OPERANDS, OUTPUT
from compiled.table.views import View
from tape.recording.arrays import RecordedArray
from tape.recording.recorder import Recorder
from tape.transforms.differentiate import Stretch, pull_back, push_forward


def resumed(program: Program) -> Recorder:
    """A recorder at the end of a copy of a program."""
    recorder = Recorder(program.values.dtype, program.table)
    memory = recorder.memory
    memory.code = np.concatenate([program.code, np.zeros((64, FIELDS), np.int32)])
    memory.geometry = np.concatenate([program.geometry, np.zeros(256, np.int64)])
    memory.values = np.concatenate([program.values, np.zeros(1024, program.values.dtype)])
    memory.length, memory.words, memory.cells = len(program.code), len(program.geometry), len(program.values)
    memory.slots = list(program.slots)
    recorder.active = _active_slots(program)
    recorder.bodies = list(program.bodies)
    recorder.is_finished, recorder.without_values = True, 1
    recorder.inputs, recorder.constants = list(program.inputs), list(program.constants)
    for text in program.lines:
        name, _, line = text.rpartition(":")
        recorder.lines.setdefault((name, int(line) if line.isdigit() else 0), len(recorder.lines))
    return recorder


def _active_slots(program) -> list[bool]:
    """Which slots depend on an input that is differentiated, by the flags of the instructions."""
    code, active = program.code, np.zeros(len(program.slots) + 1, bool)
    for k in range(OPERANDS):
        active[program.slot_of(code[code[:, FLAGS] & (1 << k) != 0, OPERAND + k])] = True
    active[program.slot_of(code[code[:, FLAGS] & 7 != 0, OUTPUT])] = True
    return active[:-1].tolist()


def with_gradients(program: Program, outputs: list[int], wrt: list[View], seeded: bool,
                   watched: bool = False) -> tuple[Program, list[View]]:
    """A program that goes on to compute the adjoints of some slots.

    Parameters
    ----------
    program : Program
        The list.
    outputs : list of int
        Which of its outputs are differentiated, all with the seed one unless `seeded`.
    wrt : list of View
        Whole slots.
    seeded : bool
        Whether the seeds are further arguments, after those of the program.
    watched : bool
        Whether there is one more view after those of the adjoints: of a number that is 0, or NaN where an adjoint that is not
        finite met a partial of exactly 0, through which nothing goes.

    Returns
    -------
    program, views
        The longer list, whose outputs are still those of the first; and where the adjoints are.
    """
    recorder = resumed(program)
    with recorder.recording():
        stretch = Stretch(recorder, 0, recorder.memory.length, wrt)
        seeds = []
        for k in outputs:
            shape = program.outputs[k].shape
            one = recorder.input(np.zeros(shape), True) if seeded else recorder.constant(np.ones(shape) if shape else 1.0)
            seeds.append(RecordedArray(recorder, one, recorder.dtype))
        stretch.watched = watched
        adjoints = pull_back(stretch, [program.outputs[k] for k in outputs], seeds)
        if watched:
            seen = stretch.witness
            adjoints.append(seen if isinstance(seen, RecordedArray) else
                            RecordedArray(recorder, recorder.constant(0.0), recorder.dtype))
    return recorder.program(list(program.outputs)), [a.view for a in adjoints]


def with_tangents(program: Program, outputs: list[int], wrt: list[View]) -> tuple[Program, list[View]]:
    """A program with the tangents of `wrt` as further arguments, that computes those of some outputs; see `with_gradients`."""
    recorder = resumed(program)
    with recorder.recording():
        stretch = Stretch(recorder, 0, recorder.memory.length, wrt)
        tangents = [RecordedArray(recorder, recorder.input(np.zeros(view.shape), True), recorder.dtype) for view in wrt]
        pushed = push_forward(stretch, [program.outputs[k] for k in outputs], tangents)
    return recorder.program(list(program.outputs)), [t.view for t in pushed]
