"""Lists are checked before they run: what the recorder writes passes, what was tampered with is rejected or does no harm.

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
from compiled.errors import InvalidTape
from compiled.lists.check import check
from compiled.lists.file import FORMAT, load
from compiled.lists.program import Program, iteration_space
from compiled.sweeps.engine import ENGINE
from compiled.table.instructions import TABLE
from compiled.table.layout import FIELDS, FLAGS, SPACE
from compiled.table.views import View

MUTATIONS, MANY_MUTATIONS = 3000, 100_000
"""Mutated lists in the test, and in the slow one."""

CANARY, PADDING = 12345.678, 4096
"""What stands before and behind each buffer, and in how many cells."""

MOST_WORK = 10**5
"""Points of one instruction. A list may say that a kernel runs for years (a broadcast sum has any length); that is no harm to
memory, but no test."""

SECONDS = 20
"""For one mutation: more means that a kernel hangs."""


# ---------------------------------------------------------------------- tampering


def every_form():
    """A short list with a scalar, an array, a sum, and each structural instruction."""
    writer = Writer(np.float64)
    x, plane = writer.array([0.5, 1.5, 2.5]), writer.array(np.arange(6.0).reshape(2, 3))
    positions = writer.constant(np.array([2.0, 0.0]))
    y = writer.apply("sin", View(x.cell + 1, (), ()))
    z = writer.apply("mul", y, plane)
    total = writer.zeros(())
    writer.elementwise("accumulate", [z], z.shape, total)
    picked = writer.new_slot((2,))
    writer.structural("gather", [x, positions], picked, (2, 0, 3, 1), 2)
    added = writer.zeros((3,))
    writer.structural("scatter_add", [picked, positions], added, (2, 0, 3, 1), 0)
    target = writer.copied(x)
    writer.scatter_assign(target, picked, positions, (0, 3))
    writer.assign(View(target.cell, (2,), (1,)), picked)
    product = writer.new_slot((2, 2))
    writer.structural("matmul", [plane, z], product, (0, 2, 3, 2, 3, 1, 1, 3, 2, 1), 4)
    highest = writer.new_slot((2,))
    writer.structural("amax", [z], highest, (1, 1, 1, 2, 3, 3, 1), 2)
    writer.guard(writer.apply("lt", picked, View(x.cell, (2,), (1,))))
    return writer.finished(total, added, target, product, highest)


def bases():
    """Lists that hold every instruction in every form."""
    return [every_form(), *(RandomProgram(seed, length=12).program for seed in range(12))]


def copied(program):
    """A copy that can be tampered with."""
    arrays = program.code.copy(), program.geometry.copy(), program.values.copy()
    lists = program.slots, program.inputs, program.constants, program.outputs, program.lines
    return Program(*arrays, *map(list, lists))


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
        program.lines = program.lines[: random.integers(len(program.lines) + 1)]
    else:
        program.values = program.values[: random.integers(len(program.values) + 1)]


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
    for view in (*program.inputs, *program.outputs):
        view.of(program.values)
    program.text()
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
    tampered = ((seed, mutated(seed, programs)) for seed in range(first, last))
    for name, program in itertools.chain(systematic(programs[0]) if first == 0 else (), tampered):
        print(f"mutation {name}", flush=True)
        if hasattr(signal, "alarm"):
            signal.alarm(SECONDS)
        if program is not None and accepted(program) and work(program) <= MOST_WORK:
            run(program)
            passed += 1
    print(f"{passed} passed the check", flush=True)


def systematic(program):
    """Every field of every instruction, and every word of the blocks, replaced by each special word."""
    for column in range(FIELDS):
        for i in range(len(program.code)):
            for word in (w for w in WORDS if -(2**31) <= w < 2**31):
                changed = copied(program)
                changed.code[i, column] = word
                yield f"code[{i}, {column}] = {word}", copied(changed)
    for at in range(len(program.geometry)):
        for word in WORDS:
            changed = copied(program)
            changed.geometry[at] = word
            yield f"geometry[{at}] = {word}", copied(changed)


def accepted(program):
    """Whether the check accepts a list; anything but InvalidTape is an error."""
    try:
        check(program)
    except InvalidTape:
        return False
    return True


# ---------------------------------------------------------------------- the tests of lists


@pytest.mark.parametrize("seed", range(25))
def test_recorded_lists_pass(seed):
    """Whatever the recorder writes."""
    check(RandomProgram(seed).program)
    check(RandomProgram(seed, np.float32).program)
    check(every_form())


def in_a_process(first, last):
    """Run mutations in a process of their own, for a kernel that leaves its buffers may take the process along."""
    here = pathlib.Path(__file__).parent
    paths = os.pathsep.join([str(here), str(pathlib.Path(tape.__file__).parent.parent)])
    program = f"import test_program; test_program.fuzz({first}, {last})"
    return subprocess.run([sys.executable, "-W", "error", "-X", "faulthandler", "-c", program], capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": paths}, cwd=here, check=False)


@pytest.mark.parametrize(("first", "last"), [(0, MUTATIONS), pytest.param(MUTATIONS, MANY_MUTATIONS, marks=pytest.mark.slow)])
def test_tampered_lists_are_rejected_or_harmless(first, last):
    """Each field of the code, each word of the geometry, slots, flags, views, constants and lines."""
    done = in_a_process(first, last)
    last_lines = done.stdout.splitlines()[-1:]
    assert done.returncode == 0, f"{last_lines}, return code {done.returncode}: {done.stderr[-2000:]}"
    passed = int(last_lines[0].split()[0])
    assert passed > 0, "no mutation passed the check, so that nothing was tested"


def changed(**fields):
    """The list of every form with some attributes replaced."""
    program = every_form()
    for name, function in fields.items():
        setattr(program, name, function(getattr(program, name)))
    return program


def with_cell(i, column, word):
    """The list of every form with one field replaced."""
    program = every_form()
    program.code[i, column] = word
    return program


MISUSES = {
    "expected int32": lambda: changed(code=lambda code: code.astype(np.int64)),
    "expected one axis of int64": lambda: changed(geometry=lambda words: words.astype(np.int32)),
    "expected one axis of float64 or float32": lambda: changed(values=lambda cells: cells.astype(int)),
    "expected disjoint ranges": lambda: changed(values=lambda cells: cells[:-30]),
    r"output 0: cell .* is not inside one slot": lambda: changed(outputs=lambda views: [View(10**6, (), ()), *views[1:]]),
    "input 0: expected a whole slot": lambda: changed(inputs=lambda views: [View(views[0].cell, (2,), (1,)), *views[1:]]),
    "expected numbers of slots": lambda: changed(constants=lambda numbers: [*numbers, 10**6]),
    "a line stands twice": lambda: changed(lines=lambda lines: [*lines, lines[0]]),
    "instruction 0: expected an opcode from 0": lambda: with_cell(0, 0, len(TABLE)),
    r"instruction 0 \(sin.*\): no geometry block at": lambda: with_cell(0, 1, 10**6),
    r"instruction 0 \(sin.*\): output reaches outside its slot": lambda: with_cell(0, 2, 10**6),
    r"instruction 0 \(sin.*\): output is an input or a constant": lambda: with_cell(0, 2, every_form().inputs[1].cell),
    r"instruction 10 \(assign.*\): output and an operand are of": lambda: with_cell(10, 3, int(every_form().code[10, 2])),
    r"instruction 0 \(sin.*\): operand 0 is read before it is written": lambda: with_cell(0, 3, int(every_form().code[1, 2])),
    r"instruction 0 \(sin.*\): flags 8 do not fit": lambda: with_cell(0, 6, 8),
    r"instruction 0 \(sin\): no source line": lambda: with_cell(0, 7, 10**6),
    "an operand that the operation does not have": lambda: with_cell(0, 5, 1),
}


@pytest.mark.parametrize("message", MISUSES)
def test_the_check_names_what_is_wrong(message):
    """Instruction, operation, operand."""
    with pytest.raises(InvalidTape, match=message):
        check(MISUSES[message]())


HUGE = [(2, 2**63 - 1), (2, -(2**63)), (2**62, 2**62), (2**63 - 1, 2**63 - 1), (3, 2**62)]


@pytest.mark.parametrize(("length", "stride"), HUGE)
def test_views_beyond_64_bits_are_rejected(length, stride):
    """Their reach neither overflows the check's arithmetic nor wraps round to look small."""
    writer = Writer(np.float64)
    x = writer.array(np.ones(20))
    program = writer.finished(writer.apply("sin", x))
    program.geometry[1], program.geometry[2] = length, stride
    with pytest.raises(InvalidTape):
        check(program)


@pytest.mark.parametrize("shape", [(-1,), (-1, -1), (2, -3)])
def test_negative_lengths_are_rejected(shape):
    """In slots and in outputs."""
    program = every_form()
    number = program.constants[0]
    program.slots[number] = program.slots[number][0], shape
    with pytest.raises(InvalidTape):
        check(copied(program))
    program = every_form()
    program.outputs[0] = View(program.outputs[0].cell, shape, (0,) * len(shape))
    with pytest.raises(InvalidTape):
        check(program)


def overwritten_positions(how):
    """A list that picks by positions which later hold a number that is far too large."""
    writer = Writer(np.float64)
    x, far = writer.array(np.ones(3)), writer.constant(np.full(2, 1000.0))
    positions = writer.copied(writer.constant(np.array([0.0, 1.0])))
    out = writer.new_slot((2,))
    writer.structural("gather", [x, positions], out, (2, 0, 3, 1), 2)
    if how == "copied over":
        writer.elementwise("copy", [far], (2,), positions)
    elif how == "restored wrongly":
        writer.elementwise("assign", [far, far], (2,), positions)
    else:
        zeros = writer.constant(np.zeros(2))
        writer.structural("scatter_assign", [far, zeros, positions], writer.copied(far), (2, 0, 2, 1), 0)
    return writer.finished(out)


@pytest.mark.parametrize("how", ["copied over", "restored wrongly", "kept in the positions"])
def test_positions_that_change_before_the_reverse_sweep_do_no_harm(how):
    """The check rejects such a list, or the reverse kernels test the positions again."""
    program = overwritten_positions(how)
    if accepted(program):
        run(program)


# ---------------------------------------------------------------------- one file


def computed(x, scale):
    """A function with views, constants, positions, products and a branch."""
    y = np.sin(x[::-1]) * scale
    y[1:] = y[:-1] ** 2
    return {"sum": np.sum(y @ np.ones((3, 2))), "picked": y[np.array([0, 2])] if scale > 0 else y}


X = np.array([0.1, 0.2, 0.3])


@pytest.fixture
def saved(tmp_path):
    """The file of a recorded function."""
    path = tmp_path / "list.npz"
    tape.record(computed, X, 2.0).save(path)
    return path


def without_lines(recorded):
    """The text without the places where it was recorded."""
    return [line.split("#")[0] for line in str(recorded).splitlines()]


def test_a_loaded_list_computes_what_was_saved(saved):
    """Values and gradients at another point, and the text."""
    original, again = tape.record(computed, X, 2.0), tape.load(saved)
    assert without_lines(again) == without_lines(original)
    for one, other in zip(original.forward(X + 0.5, 3.0).values(), again.forward(X + 0.5, 3.0).values(), strict=True):
        np.testing.assert_array_equal(one, other)
    for each in (original, again):
        each.reverse({"sum": 1.0, "picked": np.array([1.0, 2.0])})
    for one, other in zip(original.gradients, again.gradients, strict=True):
        np.testing.assert_array_equal(one, other)


def loads(path):
    """Whether a file can be loaded; anything but InvalidTape is an error, and so is a message that does not name the file."""
    try:
        tape.load(path)
    except InvalidTape as error:
        named = str(path) in str(error)
        if not named:
            raise AssertionError("the message does not name the file") from error
        return False
    return True


def test_truncated_files_are_rejected(saved):
    """At every length, in steps."""
    content = saved.read_bytes()
    for length in [*range(0, len(content), max(1, len(content) // 200)), len(content) - 1]:
        saved.write_bytes(content[:length])
        assert not loads(saved), f"{length} of {len(content)} bytes"


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_flipped_bits_are_rejected_or_harmless(saved, seed):
    """The zip file's own sums notice most; the rest is for the check."""
    content = saved.read_bytes()
    random = np.random.default_rng(seed)
    for at in random.integers(len(content), size=400 if seed == 0 else 8000):
        damaged = bytearray(content)
        damaged[at] ^= 1 << random.integers(8)
        saved.write_bytes(damaged)
        if loads(saved):
            program, _ = load(saved)
            run(program)


def parts_of(path):
    """The header and the arrays of a file."""
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    return json.loads(arrays.pop("header").tobytes()), arrays


def write(path, header, arrays, **others):
    """Write a file of these parts."""
    text = json.dumps(header).encode()
    np.savez(path, header=np.frombuffer(text, np.uint8), **{**arrays, **others})


def replaced(header, *keys_and_value):
    """The header with the value at a path of keys replaced."""
    *keys, last, value = keys_and_value
    inner = header
    for key in keys:
        inner = inner[key]
    inner[last] = value


STRANGE = (None, -1, 10**30, 1.5, "x", [], {}, [[]], [None], [[1, [-1], [1]]], [[0, [3], [1]]], True)


def test_headers_with_strange_values_are_rejected_or_harmless(saved):
    """Every entry of the header replaced by what it should not be."""
    header, arrays = parts_of(saved)
    for key, value in itertools.product([("extra", name) for name in header["extra"]] + [(name,) for name in header], STRANGE):
        damaged = json.loads(json.dumps(header))
        replaced(damaged, *key, value)
        write(saved, damaged, arrays)
        if loads(saved):
            run(load(saved)[0])


def test_missing_parts_are_rejected(saved):
    """Header entries and arrays."""
    header, arrays = parts_of(saved)
    for name in header:
        write(saved, {k: v for k, v in header.items() if k != name}, arrays)
        assert not loads(saved), name
    for name in arrays:
        write(saved, header, {k: v for k, v in arrays.items() if k != name})
        assert not loads(saved), name


ARRAYS = (np.zeros(0), np.zeros((3, 3)), np.zeros((2, 8), np.int32), np.array("text"), np.zeros(3, complex), np.full(5, np.nan),
          np.zeros((0, 8), np.int32), np.array(5), np.full((40, 8), 2**31 - 1, np.int32))


def test_strange_arrays_are_rejected_or_harmless(saved):
    """Every array replaced by one of another shape or dtype."""
    header, arrays = parts_of(saved)
    for name, array in itertools.product(arrays, ARRAYS):
        write(saved, header, arrays, **{name: array})
        if loads(saved):
            run(load(saved)[0])


@pytest.mark.parametrize(("key", "value", "message"), [("format", FORMAT + 1, "format"), ("rows", ["sine"], "'sine'")])
def test_other_versions_are_rejected(saved, key, value, message):
    """A file of another format, or with operations that are not in the table, says so."""
    header, arrays = parts_of(saved)
    header[key] = value if key == "format" else value + header["rows"][1:]
    write(saved, header, arrays)
    with pytest.raises(InvalidTape, match=message):
        tape.load(saved)


class Bomb:
    """Pickled, it makes a directory when it is loaded."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("name", ["header", "code", "geometry", "constants"])
def test_pickles_are_rejected_and_not_run(saved, tmp_path, name):
    """In any of the arrays of the file, or as the file itself."""
    header, arrays = parts_of(saved)
    arrays = {"header": np.frombuffer(json.dumps(header).encode(), np.uint8), **arrays}
    arrays[name] = np.array([Bomb(tmp_path / "ran")], object)
    np.savez(saved, **arrays)
    assert not loads(saved)
    saved.write_bytes(pickle.dumps(Bomb(tmp_path / "ran")))
    assert not loads(saved)
    with zipfile.ZipFile(saved, "w") as file:
        file.writestr(f"{name}.npy", pickle.dumps(Bomb(tmp_path / "ran")))
    assert not loads(saved)
    assert not (tmp_path / "ran").exists()


def test_other_files_are_rejected(tmp_path):
    """Text, nothing, a directory, an array."""
    path = tmp_path / "file.npz"
    for content in (b"", b"text", b"PK\x03\x04", b"\x93NUMPY\x01\x00"):
        path.write_bytes(content)
        assert not loads(path)
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    assert not loads(path)
    with pytest.raises(FileNotFoundError):
        tape.load(tmp_path / "none.npz")
