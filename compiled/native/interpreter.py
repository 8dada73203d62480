"""The sweeps where there is no kernel of them yet: elementwise instructions by NumPy, others each as a small program.

A sweep's kernel has all rows of the table, and compiles for 10 to 15 seconds. This computes the same of a few instructions at
once, at some ten microseconds an instruction and more; the last digits of a sum, or of a function like exp, may be others. What
an instruction does is read from the same walks as the kernels. What is not here: when it is used (`sweeps.engine`).
"""

from __future__ import annotations

import functools

import numpy as np
from numba import njit

from compiled.announcing import announced
from compiled.lists.listing import POINT, Block, Listing, Ref, Result, Space, Step
from compiled.lists.program import iteration_space
from compiled.native.function import NativeFunction
from compiled.numba_loading import load_numba
from compiled.sweeps import forward as forward_sweep
from compiled.sweeps import reverse as reverse_sweep
from compiled.sweeps import tangent as tangent_sweep
from compiled.sweeps import tangent_reverse as tangent_reverse_sweep
from compiled.sweeps.engine import Engine
from compiled.table.layout import (
    ACCUMULATES,
    CALL,
    FLAGS,
    LIVE,
    OK,
    OPCODE,
    OPERAND,
    OUT,
    OUTPUT,
    SPACE,
    STATUS_BITS,
)
from compiled.table.numpy_reader import Array
from compiled.table.views import View, has_distinct_cells


class Interpreter:
    """The four sweeps over a table, with the arguments that the kernels have."""

    def __init__(self, table):
        self.table = table

    def forward(self, code, geometry, values, start, stop) -> int:
        """See `sweeps.forward.make_forward`."""
        for i in range(start, stop):
            status = self._forward(code[i], geometry, values)
            if status != OK:
                return i << STATUS_BITS | status
        return -1

    def reverse(self, code, geometry, values, adjoints, keep) -> None:
        """See `sweeps.reverse.make_reverse`."""
        for i in reversed(range(len(code))):
            if code[i, FLAGS] & LIVE:
                self._run("reverse", reverse_sweep.walk, code[i], geometry, (values, adjoints))
                if not keep:
                    self._clear(code[i], geometry, adjoints)

    def tangent(self, code, geometry, values, tangents) -> int:
        """See `sweeps.tangent.make_tangent`."""
        for i in range(len(code)):
            status = self._forward(code[i], geometry, values)
            if status != OK:
                return i << STATUS_BITS | status
            self._run("tangent", tangent_sweep.walk, code[i], geometry, (values, tangents))
        return -1

    def tangent_reverse(self, code, geometry, values, tangents, adjoints, adjoint_tangents) -> None:
        """See `sweeps.tangent_reverse.make_tangent_reverse`."""
        for i in reversed(range(len(code))):
            if code[i, FLAGS] & LIVE:
                buffers = (values, tangents, adjoints, adjoint_tangents)
                self._run("tangent_reverse", tangent_reverse_sweep.walk, code[i], geometry, buffers)
                self._clear(code[i], geometry, adjoints)
                self._clear(code[i], geometry, adjoint_tangents)

    def _forward(self, instruction, geometry, values) -> int:
        row = self.table.rows[instruction[OPCODE]]
        if not row.structural:
            self._run("forward", forward_sweep.walk, instruction, geometry, (values,))
            return OK
        if row.name in ("loop", "call"):
            return CALL
        return _run_native(self.table, row, instruction, geometry, values)

    def _run(self, name, walk, instruction, geometry, buffers):
        """One instruction in one sweep."""
        row = self.table.rows[instruction[OPCODE]]
        if row.structural:
            kernel = getattr(row, name)
            if kernel is not None:
                _callable(kernel, row.name)(instruction[np.newaxis], 0, geometry, *buffers)
            return
        shape, strides = iteration_space(instruction, geometry)
        cells = (*instruction[OPERAND : OPERAND + OUT].tolist(), int(instruction[OUTPUT]))
        views = [View(cell, shape, steps) for cell, steps in zip(cells, strides, strict=True)]

        def load(buffer, operand):
            return Array(views[operand].of(buffers[buffer]), self.table)

        for update in walk(self.table, row):
            if update.active is None or instruction[FLAGS] & (1 << update.active):
                buffer, operand = update.target
                with np.errstate(all="ignore"):
                    _store(views[operand], buffers[buffer], update.body(load), update.add)

    def _clear(self, instruction, geometry, buffer):
        """Set an output's adjoint to zero once it has been handed on, but where others have added to the same cells."""
        if instruction[FLAGS] & ACCUMULATES:
            return
        shape, strides = iteration_space(instruction, geometry)
        if shape is None:
            first = int(instruction[OUTPUT])
            buffer[first : first + int(geometry[instruction[SPACE] + 1])] = 0.0
        else:
            View(int(instruction[OUTPUT]), shape, strides[OUT]).of(buffer)[...] = 0.0


Engine.interpreter = Interpreter


def _store(view, buffer, result, add):
    """Set the cells of a view, or add to them, each as often as the view has it."""
    result = result.value if isinstance(result, Array) else buffer.dtype.type(result)
    if not add:
        view.of(buffer)[...] = result
        return
    shape, strides = view.shape, view.strides
    summed = tuple(axis for axis, (n, step) in enumerate(zip(shape, strides, strict=True)) if not step and n > 1)
    if summed:
        kept = [axis for axis in range(len(shape)) if axis not in summed]
        view = View(view.cell, tuple(shape[axis] for axis in kept), tuple(strides[axis] for axis in kept))
        result = np.sum(np.broadcast_to(result, shape), axis=summed, dtype=np.float64)
    if has_distinct_cells(view):
        view.of(buffer)[...] += result
    else:
        np.add.at(buffer, view.of(np.arange(len(buffer))), result)


@functools.cache
def _callable(kernel, name):
    """A structural row's kernel as Python can call it."""

    def call(code, i, geometry, *buffers):
        return kernel(code, i, geometry, *buffers)

    load_numba()
    jitted = njit(nogil=True)(call)

    def compiling_aloud(*args):
        if jitted.signatures:
            return jitted(*args)
        with announced(f"the sweeps' {name}"):
            return jitted(*args)

    return compiling_aloud


# ---------------------------------------------------------------------- structural rows, forward


def _run_native(table, row, instruction, geometry, values) -> int:
    space = int(instruction[SPACE])
    words = geometry[space + 2 :]
    words = tuple(words[: row.length(words)].tolist())
    function, reads, writes = _native(table, row.name, int(geometry[space + 1]), words, values.dtype)
    cells = [*instruction[OPERAND : OPERAND + OUT].tolist(), int(instruction[OUTPUT])]
    status, results = function.results([values[cells[k] + low : cells[k] + high + 1] for k, low, high in reads])
    for (k, low, high), result in zip(writes, results, strict=True):
        values[cells[k] + low : cells[k] + high + 1] = result
    return status


@functools.lru_cache(maxsize=512)
def _native(table, name, owned, words, dtype):
    """Machine code of one instruction, and which cells it reads and writes.

    Returns
    -------
    function : NativeFunction
        From the cells that are read to those that are written, as new arrays.
    reads, writes : list of (int, int, int)
        Each the number of an operand, or OUT, and the first and last cell from the one that the instruction names.
    """
    row = table.by_name[name]
    extents = row.extents(words)
    used = [k for k in (*range(row.arity), *([OUT] if row.output else [])) if extents[k] is not None]
    written = [k for k in used if k in (OUT, row.scratch)]
    places = [(k, *extents[k]) for k in used]
    sizes = {k: high - low + 1 for k, low, high in places}
    inputs = {k: slot for slot, k in enumerate(used)}
    changed = {k: len(used) + slot for slot, k in enumerate(written)}
    nothing = len(used) + len(written)  # the slot of operands that the instruction does not touch
    refs = {k: Ref(changed.get(k, inputs[k]), -low) for k, low, _ in places}
    steps = [Step(table["copy"], (Ref(inputs[k], 0),), Ref(changed[k], 0), _line(sizes[k]), 0) for k in written]
    operands = tuple(refs.get(k, Ref(nothing, 0)) for k in range(row.arity))
    steps.append(Step(row, operands, refs.get(OUT), Block(owned, words), 0))
    shapes = [(sizes[k],) for k in (*used, *written)] + [()]
    outputs = [Result(Ref(changed[k], 0), (sizes[k],), (1,)) for k in written]
    listing = Listing(dtype, table, shapes, {nothing: np.zeros((), dtype)}, list(inputs.values()), set(), outputs, [], steps)
    function = NativeFunction(listing, [f"cells{k}" for k in used], [f"written{k}" for k in written], f"one_{name}")
    return function, places, [place for place in places if place[0] in written]


def _line(size) -> Space:
    """The space of a copy of so many neighbours."""
    return Space((size,), ((1,), (0,), (0,), (1,))) if size > 1 else POINT
