"""A list in one file: arrays and a header of JSON in NumPy's npz format; nothing in it is code, and reading it runs none."""

from __future__ import annotations

import json
import math

import numpy as np

from compiled.errors import InvalidTape
from compiled.lists.calls import Call
from compiled.lists.memory import MOST_CELLS
from compiled.lists.program import Program, live_flags
from compiled.table.instructions import TABLE
from compiled.table.layout import FIELDS, FLAGS, OPCODE
from compiled.table.views import View

FORMAT = 2
"""Version of the file format."""


def save(program: Program, path, extra: dict) -> None:
    """Write the list and `extra` (what JSON can hold) to the file of that name; nothing in it is code."""
    arrays: dict[str, np.ndarray] = {}
    header = {"format": FORMAT, **_parts(program, "", arrays), "extra": extra}
    with open(path, "wb") as stream:  # given a path, NumPy would add an ending
        np.savez(stream, header=np.frombuffer(json.dumps(header).encode(), np.uint8), **arrays)


def _parts(program, prefix, arrays) -> dict:
    """What a header says of a program and of its bodies; puts their arrays under names with a prefix."""
    if isinstance(program, Call):
        if program.description is None:
            raise InvalidTape(f"the list calls {program.name}, a function of yours, which a file cannot hold; record it anew "
                              "in place of loading it")
        return {"call": program.description, "inputs": program.inputs, "outputs": program.outputs, "active": program.active}
    cells = [program.slot_view(number).of(program.values).ravel() for number in program.constants]
    arrays[prefix + "code"], arrays[prefix + "geometry"] = program.code, program.geometry
    arrays[prefix + "constants"] = np.concatenate([*cells, program.values[:0]])
    rows = [program.table.rows[k].name for k in range(len(program.table))]
    return {"rows": rows, "slots": program.slots, "inputs": program.inputs, "constants": program.constants,
            "outputs": program.outputs, "lines": program.lines, "cells": len(program.values),
            "bodies": [_parts(body, f"{prefix}body{k}.", arrays) for k, body in enumerate(program.bodies)]}


def load(path, call=None) -> tuple[Program, dict]:
    """Read a list and its `extra`; raises InvalidTape unless the file is whole and the list well formed.

    `call` makes the `Call` of a description, its arguments' and results' shapes, and their activity; it raises for what it does
    not know, and without it no call is known.
    """
    with open(path, "rb") as stream:
        try:
            with np.load(stream, allow_pickle=False) as arrays:
                header = json.loads(arrays["header"].tobytes())
                arrays = {name: arrays[name] for name in arrays.files}
        except Exception as error:  # whatever a damaged archive makes the readers of zip, npy and JSON raise
            raise InvalidTape(f"{path}: expected a file written by Tape.save, got one that cannot be read: {error!r}") from None
    try:
        if header["format"] != FORMAT:
            raise InvalidTape(f"expected format {FORMAT}, got {header['format']}; write the file again with this version")
        return _from_parts(header, "", arrays, call), header["extra"]
    except InvalidTape as error:
        raise InvalidTape(f"{path}: {error}") from None
    except Exception as error:  # a header of any JSON at all
        raise InvalidTape(f"{path}: its header does not describe a list: {error!r}") from None


MOST_NESTED = 16
"""Loops in loops that a file may describe."""


def _from_parts(header, prefix, arrays, call, depth=0):
    """The program that a header describes, with its bodies; checked."""
    if depth > MOST_NESTED:
        raise InvalidTape(f"loops are nested more than {MOST_NESTED} deep")
    if "call" in header:
        if call is None:
            raise InvalidTape(f"it calls {header['call']!r:.60}, which is not known here")
        shapes = [[tuple(int(n) for n in shape) for shape in header[name]] for name in ("inputs", "outputs")]
        return call(header["call"], *shapes, [bool(a) for a in header["active"]])
    bodies = tuple(_from_parts(body, f"{prefix}body{k}.", arrays, call, depth + 1) for k, body in enumerate(header["bodies"]))
    code, geometry, constants = (arrays[prefix + name] for name in ("code", "geometry", "constants"))
    unknown = [name for name in header["rows"] if name not in TABLE.opcode]
    if unknown:
        raise InvalidTape(f"it uses the operation {unknown[0]!r}, which this version does not have")
    if code.ndim != 2 or code.shape[1] != FIELDS or code.dtype != np.int32:
        raise InvalidTape(f"the code array: expected int32 of shape (n, {FIELDS}), got {code.dtype} of shape {code.shape}")
    bad = np.flatnonzero((code[:, OPCODE] < 0) | (code[:, OPCODE] >= len(header["rows"])))
    if bad.size:
        raise InvalidTape(f"instruction {bad[0]}: unknown opcode {code[bad[0], OPCODE]}")
    code[:, OPCODE] = np.array([TABLE.opcode[name] for name in header["rows"]], np.int32)[code[:, OPCODE]]
    slots = [(int(cell), tuple(int(n) for n in shape)) for cell, shape in header["slots"]]
    sizes = [max(math.prod(shape), 1) for _, shape in slots]
    needed = max((cell + size for (cell, _), size in zip(slots, sizes, strict=True)), default=1)
    cells = int(header["cells"])
    least = min((cell for cell, _ in slots), default=1)
    if not needed <= cells <= needed + 64 or cells > MOST_CELLS or min(sizes, default=0) < 0 or least < 1:
        raise InvalidTape(f"its slots need {needed} cells, its header says {cells}")
    numbers = [int(k) for k in header["constants"]]
    if constants.ndim != 1 or len(constants) != sum(math.prod(slots[k][1]) for k in numbers):
        raise InvalidTape("its constants do not fill their slots")
    program = Program(np.ascontiguousarray(code), np.ascontiguousarray(geometry), np.zeros(cells, constants.dtype), slots,
                  [_view(v) for v in header["inputs"]], numbers, [_view(v) for v in header["outputs"]],
                  [str(line) for line in header["lines"]], bodies=bodies)
    program.check()
    program.code[:, FLAGS] = live_flags(program)
    at = 0
    for number in numbers:
        view = program.slot_view(number)
        view.of(program.values)[...] = constants[at : at + view.size].reshape(view.shape)
        at += view.size
    return program


def _view(parts) -> View:
    cell, shape, strides = parts
    return View(int(cell), tuple(int(n) for n in shape), tuple(int(s) for s in strides))
