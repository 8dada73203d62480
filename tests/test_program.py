"""A list is checked before it is run: what the recorder writes passes, tampered lists and files raise InvalidTape or do no harm.

What is not here: what the sweeps compute (`test_engines.py`).
"""

import itertools
import json
import math
import os
import pathlib
import pickle
import signal
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from conftest import Writer
from test_engines import RandomProgram

import tape
from compiled.check import check
from compiled.engine import ENGINE
from compiled.errors import InvalidTape
from compiled.file import FORMAT, load
from compiled.instructions import TABLE
from compiled.layout import FIELDS, FLAGS, SPACE
from compiled.memory import View
from compiled.program import Program, iteration_space

MUTATIONS, MANY_MUTATIONS = 6000, 100_000
"""Mutated lists in the test, and in the slow one."""

CANARY, PADDING = 12345.678, 4096
"""What stands before and behind each buffer, and in how many cells."""

MOST_WORK = 10**5
"""Points of one instruction. A list may say that a kernel runs for years (a broadcast sum has any length); that is no harm to
memory, but no test."""

SECONDS = 20
"""For one mutation: more means that a kernel hangs."""


# ---------------------------------------------------------------------- tampering


def bases():
    """Lists that hold every instruction in every form."""
    writer = Writer(np.float64)
    x = writer.array([0.5, 1.5, 2.5])
    for j in range(3):
        y = writer.apply("sin", View(x.cell + j, (), ()))
        writer.apply("mul", y, View(x.cell, (), ()))
    return [writer.finished(y), *(RandomProgram(seed, length=12).program for seed in range(12))]


def copied(program):
    """A copy that can be tampered with."""
    return Program(program.code.copy(), program.geometry.copy(), program.values.copy(), list(program.slots), list(program.inputs),
                   list(program.constants), list(program.outputs), list(program.lines))


WORDS = (0, 1, -1, 2, 3, 7, 8, 63, 64, 65, 2**31 - 1, -(2**31), 2**31, 2**32, 2**62, -(2**62), 2**63 - 1, -(2**63))


def other_word(random, word, least, most):
    """Something else than `word`, near it or extreme, between least and most."""
    kind = random.integers(3)
    if kind == 0:
        new = word + int(random.integers(-5, 6))
    elif kind == 1:
        new = WORDS[random.integers(len(WORDS))]
    else:
        new = int(random.integers(-10, 200))
    return min(max(new, least), most)


def mutate_code(random, program):
    """Change one or two fields of one instruction."""
    i = random.integers(len(program.code))
    for column in random.choice(FIELDS, random.integers(1, 3), replace=False):
        program.code[i, column] = other_word(random, int(program.code[i, column]), -(2**31), 2**31 - 1)


def mutate_geometry(random, program):
    """Change one or two words of the blocks."""
    for at in random.integers(len(program.geometry), size=random.integers(1, 3)) if len(program.geometry) else ():
        program.geometry[at] = other_word(random, int(program.geometry[at]), -(2**63), 2**63 - 1)


def mutate_swap(random, program):
    """Exchange two instructions, or copy a field of one to another."""
    i, j = random.integers(len(program.code), size=2)
    if random.integers(2):
        program.code[[i, j]] = program.code[[j, i]]
    else:
        to, of = random.integers(SPACE, FLAGS, size=2)
        program.code[i, to] = program.code[j, to if random.integers(3) else of]


def mutate_slots(random, program):
    """Change first cell or shape of a slot, or leave one out."""
    k = random.integers(len(program.slots))
    cell, shape = program.slots[k]
    kind = random.integers(3)
    if kind == 0:
        program.slots[k] = other_word(random, cell, -(2**63), 2**63 - 1), shape
    elif kind == 1:
        program.slots[k] = cell, tuple(other_word(random, n, -(2**40), 2**40) for n in (*shape, 1))[: random.integers(5)]
    else:
        del program.slots[k]


def mutate_views(random, program):
    """Change an input or an output."""
    views = program.inputs if random.integers(2) else program.outputs
    k = random.integers(len(views))
    cell, shape, strides = views[k]
    changed = [other_word(random, cell, -(2**40), 2**40), *(other_word(random, n, -(2**40), 2**40) for n in (*shape, *strides))]
    keep = random.integers(2, size=len(changed))
    cell, *rest = (old if kept else new for old, new, kept in zip((cell, *shape, *strides), changed, keep, strict=True))
    views[k] = View(cell, tuple(rest[: len(shape)]), tuple(rest[len(shape) :]))


def mutate_lists(random, program):
    """Change the constants, the lines, or the length of the value buffer."""
    kind = random.integers(3)
    if kind == 0:
        program.constants.append(other_word(random, 0, -(2**63), 2**63 - 1))
    elif kind == 1:
        program.lines = program.lines[: random.integers(len(program.lines))]
    else:
        program.values = program.values[: random.integers(len(program.values))]


MUTATORS = [mutate_code] * 4 + [mutate_geometry] * 4 + [mutate_swap] * 8 + [mutate_slots, mutate_views, mutate_lists]


def mutated(seed, programs):
    """A tampered list, the same for the same seed; None where tampering is noticed when it is put together."""
    random = np.random.default_rng(seed)
    program = copied(programs[random.integers(len(programs))])
    for _ in range(random.integers(1, 4) // 2 + 1):
        MUTATORS[random.integers(len(MUTATORS))](random, program)
    try:
        return copied(program)
    except OverflowError:  # a slot that no array of int64 can hold
        return None


def work(program):
    """Most points of one instruction."""
    most = 0
    for line in program.code:
        row, space = TABLE.rows[line[0]], line[1]
        words = program.geometry[space + 2 : space + 200].tolist()
        if row.name == "matmul":
            most = max(most, math.prod(words[1:4]) * math.prod(words[10 : 10 + words[0]]))
        elif row.name == "amax":
            most = max(most, math.prod(words[3 : 3 + words[1] + words[2]]))
        elif not row.structural:
            most = max(most, math.prod(iteration_space(line, program.geometry)[0]))
    return most


def guarded(values):
    """A copy of a buffer between canaries: the buffer, and all of it."""
    whole = np.full(len(values) + 2 * PADDING, CANARY, values.dtype)
    whole[PADDING:-PADDING] = values
    return whole[PADDING:-PADDING], whole


def run(program):
    """Run all sweeps, demanding that they touch nothing but their buffers and leave the list as it is."""
    code, geometry = program.code.copy(), program.geometry.copy()
    for keep in (True, False, None):
        buffers = [guarded(program.values), *(guarded(np.ones_like(program.values)) for _ in range(3))]
        values, tangents, adjoints, both = (inside for inside, _ in buffers)
        if keep is None:
            if ENGINE.tangent(code, geometry, values, tangents) == -1:
                ENGINE.tangent_reverse(code, geometry, values, tangents, adjoints, both)
        elif ENGINE.forward(code, geometry, values, 0, len(code)) == -1:
            ENGINE.reverse(code, geometry, values, adjoints, keep)
        for _, whole in buffers:
            assert (whole[:PADDING] == values.dtype.type(CANARY)).all(), "cells before the buffer were written"
            assert (whole[-PADDING:] == values.dtype.type(CANARY)).all(), "cells behind the buffer were written"
    np.testing.assert_array_equal(code, program.code)
    np.testing.assert_array_equal(geometry, program.geometry)


def fuzz(first, last):
    """Tamper, check, and run what passes; the number of each mutation is printed before, for when the process dies."""
    programs = bases()
    for program in programs:
        run(program)
    passed = 0
    for seed in range(first, last):
        print(f"mutation {seed}", flush=True)
        if hasattr(signal, "alarm"):
            signal.alarm(SECONDS)
        program = mutated(seed, programs)
        if program is not None and accepted(program) and work(program) <= MOST_WORK:
            program.text()
            run(program)
            passed += 1
    print(f"{passed} passed the check", flush=True)


def accepted(program):
    """Whether the check accepts a list; anything but InvalidTape is an error."""
    try:
        check(program)
    except InvalidTape:
        return False
    return True
