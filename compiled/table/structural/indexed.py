"""gather, scatter_add, scatter_assign: cells at positions that are data.

gather           out[j] = base[positions[j]]      operands: base, positions
scatter_add      out[positions[j]] += source[j]   operands: source, positions
scatter_assign   out[positions[j]] = source[j]    operands: source, positions, what was overwritten; of equal positions the last
                                                  one wins

Their words are [count, low, high, run]: `count` positions of runs of neighbouring cells; p means the run from cell base + p
(out + p) on, of `run` cells, and must have low <= p < high. Rows of a table are runs; single elements are runs of 1.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir

from compiled.table.layout import FLAGS, INDEX_ERROR, OK, OPERAND, OUTPUT
from compiled.table.llvm import I64
from compiled.table.structural.cells import Cells
from compiled.table.structural.extents import Reader, neighbours
from compiled.table.structural.row import StructuralRow, block_of, row_kernel
from compiled.table.views import View, contiguous

POSITIONS = 1
"""The operand that holds them."""


def _length(words):
    return 4


def _extents_of(indexed, direct):
    """Make the function for views that positions point into, and views of `count` runs."""

    def extents(block):
        reader = Reader(block)
        (count,) = reader.dims(1)
        low, high = reader.take(2)
        (run,) = reader.dims(1)
        if max(-low, high + run, count * run) >= 2**31 or run < 1:
            raise ValueError("positions that no list has cells for")
        result = [None] * 4
        for view in indexed:
            result[view] = (low, high + run - 2) if count and low < high else None
        for view in direct:
            result[view] = neighbours(count * run)
        result[POSITIONS] = neighbours(count)
        return result

    return extents


# ---------------------------------------------------------------------- kernels


@row_kernel
def _position(values, cell, low, high):
    """The position stored in `cell`, or `high` when it is not a number in [low, high).

    Reverse kernels ask again: a tampered list may have changed the positions since. (Indices that Numba knows to be
    unsigned it does not count from the end, which costs as much as the check.)
    """
    stored = values[np.uintp(cell)]
    return np.int64(stored) if low <= stored < high else high


@row_kernel
def _add_at(code, i, geometry, values, buffer, indexed, direct):
    """Add the cells from `direct` on, one after the other, to those at the positions, which count from `indexed`."""
    g, _, positions, _, _ = block_of(code, i)
    low, high, run = geometry[g + 1], geometry[g + 2], geometry[g + 3]
    for j in range(geometry[g]):
        p = _position(values, positions + j, low, high)
        if p == high:
            return INDEX_ERROR
        for r in range(run):
            buffer[np.uintp(indexed + p + r)] += buffer[np.uintp(direct + j * run + r)]
    return OK


# ---------------------------------------------------------------------- gather: out[j] = base[positions[j]]


@row_kernel
def _gather(code, i, geometry, values, buffer):
    g, base, positions, _, out = block_of(code, i)
    low, high, run = geometry[g + 1], geometry[g + 2], geometry[g + 3]
    for j in range(geometry[g]):
        p = _position(values, positions + j, low, high)
        if p == high:
            return INDEX_ERROR
        for r in range(run):
            buffer[np.uintp(out + j * run + r)] = buffer[np.uintp(base + p + r)]
    return OK


@row_kernel
def _gather_forward(code, i, geometry, values):
    return _gather(code, i, geometry, values, values)


@row_kernel
def _gather_reverse(code, i, geometry, values, adjoints):
    _, base, _, _, out = block_of(code, i)
    return _add_at(code, i, geometry, values, adjoints, base, out) if code[i, FLAGS] & 1 else OK


@row_kernel
def _gather_tangent_reverse(code, i, geometry, values, tangents, adjoints, adjoint_tangents):
    _gather_reverse(code, i, geometry, values, adjoints)
    return _gather_reverse(code, i, geometry, values, adjoint_tangents)


# ---------------------------------------------------------------------- scatter_add: out[positions[j]] += operand[j]


@row_kernel
def _scatter(code, i, geometry, values, buffer):
    _, source, _, _, out = block_of(code, i)
    return _add_at(code, i, geometry, values, buffer, out, source)


@row_kernel
def _scatter_forward(code, i, geometry, values):
    return _scatter(code, i, geometry, values, values)


@row_kernel
def _scatter_reverse(code, i, geometry, values, adjoints):
    g, source, positions, _, out = block_of(code, i)
    if not code[i, FLAGS] & 1:
        return OK
    run = geometry[g + 3]
    for j in range(geometry[g]):
        p = _position(values, positions + j, geometry[g + 1], geometry[g + 2])
        if p == geometry[g + 2]:
            return INDEX_ERROR
        for r in range(run):
            adjoints[np.uintp(source + j * run + r)] += adjoints[np.uintp(out + p + r)]
    return OK


@row_kernel
def _scatter_tangent_reverse(code, i, geometry, values, tangents, adjoints, adjoint_tangents):
    _scatter_reverse(code, i, geometry, values, adjoints)
    return _scatter_reverse(code, i, geometry, values, adjoint_tangents)


# ---------------------------------------------------------------------- scatter_assign: out[positions[j]] = operand[j]


@row_kernel
def _put(code, i, geometry, values, buffer):
    """Operand 2 keeps what is overwritten, one position after another: of equal positions the last one wins."""
    g, source, positions, saved, out = block_of(code, i)
    low, high, run = geometry[g + 1], geometry[g + 2], geometry[g + 3]
    for j in range(geometry[g]):
        p = _position(values, positions + j, low, high)
        if p == high:
            return INDEX_ERROR
        for r in range(run):
            cell = np.uintp(out + p + r)
            buffer[np.uintp(saved + j * run + r)] = buffer[cell]
            buffer[cell] = buffer[np.uintp(source + j * run + r)]
    return OK


@row_kernel
def _put_forward(code, i, geometry, values):
    return _put(code, i, geometry, values, values)


@row_kernel
def _unput(code, i, geometry, values, buffer):
    g, _, positions, saved, out = block_of(code, i)
    for j in range(geometry[g] - 1, -1, -1):
        p = _position(values, positions + j, geometry[g + 1], geometry[g + 2])
        if p != geometry[g + 2]:
            for r in range(geometry[g + 3] - 1, -1, -1):
                buffer[np.uintp(out + p + r)] = buffer[np.uintp(saved + j * geometry[g + 3] + r)]


@row_kernel
def _take_adjoint(code, i, geometry, values, adjoints):
    g, source, positions, saved, out = block_of(code, i)
    active, run = code[i, FLAGS] & 1, geometry[g + 3]
    for j in range(geometry[g] - 1, -1, -1):
        p = _position(values, positions + j, geometry[g + 1], geometry[g + 2])
        if p == geometry[g + 2]:
            continue
        for r in range(run):
            cell, kept = np.uintp(out + p + r), np.uintp(saved + j * run + r)
            if active:
                adjoints[np.uintp(source + j * run + r)] += adjoints[cell]
            # What was overwritten lives on in the saved cells, which a nested derivative may have read.
            adjoints[cell] = adjoints[kept]
            adjoints[kept] = 0.0


@row_kernel
def _put_reverse(code, i, geometry, values, adjoints):
    _take_adjoint(code, i, geometry, values, adjoints)
    _unput(code, i, geometry, values, values)
    return OK


@row_kernel
def _put_tangent_reverse(code, i, geometry, values, tangents, adjoints, adjoint_tangents):
    _take_adjoint(code, i, geometry, values, adjoints)
    _take_adjoint(code, i, geometry, values, adjoint_tangents)
    _unput(code, i, geometry, values, tangents)
    _unput(code, i, geometry, values, values)
    return OK


# ---------------------------------------------------------------------- native code


def _each_position(piece, step, body):
    """For each lane and each cell of the runs at the positions (operand 1), in range: `body(number, position, lane)`."""
    count, low, high, run = step.space.words[:4]
    builder, positions = piece.builder, Cells(piece, step.operands[1])
    number = piece.emitter.number
    if not count:
        return

    def one(indices):
        lane, j = indices
        stored = positions.load(j, lane)
        inside = builder.and_(builder.fcmp_ordered(">=", stored, ir.Constant(number, low)),
                              builder.fcmp_ordered("<", stored, ir.Constant(number, high)))
        with builder.if_else(inside, likely=True) as (good, bad):
            with good:
                position, first = builder.fptosi(stored, I64), builder.mul(j, ir.Constant(I64, run))
                piece.nest((run,), lambda more: body(builder.add(first, more[0]), builder.add(position, more[0]), lane))
            with bad:
                builder.store(ir.Constant(I64, INDEX_ERROR), piece.status)

    piece.nest((piece.emitter.lanes, count), one)


def _emit_gather(piece, step):
    base, out = Cells(piece, step.operands[0]), Cells(piece, step.out)
    _each_position(piece, step, lambda j, position, lane: out.store(j, lane, base.load(position, lane)))


def _emit_scatter_add(piece, step):
    source, out = Cells(piece, step.operands[0]), Cells(piece, step.out)

    def add(j, position, lane):
        out.store(position, lane, piece.builder.fadd(out.load(position, lane), source.load(j, lane)))

    _each_position(piece, step, add)


def _emit_scatter_assign(piece, step):
    source, saved, out = (Cells(piece, ref) for ref in (step.operands[0], step.operands[2], step.out))

    def put(j, position, lane):
        saved.store(j, lane, out.load(position, lane))
        out.store(position, lane, source.load(j, lane))

    _each_position(piece, step, put)


# ---------------------------------------------------------------------- sparse patterns


def _sizes(words):
    """How many cells are moved, and the lowest and highest that may be, the highest itself left out."""
    count, low, high, run = (int(w) for w in words[:4])
    return count * run, low, high + run - 1


def _of_each_cell(positions, words):
    """The positions of cells, given those of runs."""
    return (np.asarray(positions)[:, None] + np.arange(int(words[3]))).ravel()


def _constant_positions(found, words, operands):
    """The positions of cells, or None where they are not constants."""
    positions = found.constants(operands[1], int(words[0]))
    return None if positions is None else _of_each_cell(positions, words)


def _gather_dependencies(found, words, operands, out):
    count, low, high = _sizes(words)
    positions = _constant_positions(found, words, operands)
    if positions is None:
        rows = found.together([(operands[0] + low, operands[0] + high)], count)
    else:
        rows = found.of(operands[0] + positions)
    found.put(out + np.arange(count), rows, False)


def _scatter_add_dependencies(found, words, operands, out):
    count, low, high = _sizes(words)
    positions, source = _constant_positions(found, words, operands), operands[0] + np.arange(count)
    if positions is None:
        reach = np.arange(low, high)
        found.put(out + reach, found.together([(operands[0], operands[0] + count)], len(reach)), True)
    else:
        rows = found.of(source)
        if rows is not None:
            found.put(out + positions, rows, True)


def _scatter_assign_dependencies(found, words, operands, out):
    count, low, high = _sizes(words)
    positions = _constant_positions(found, words, operands)
    if positions is None:
        saved = found.together([(out + low, out + high)], count)
        _scatter_add_dependencies(found, words, operands, out)
    else:
        saved = found.of(out + positions)
        found.put(out + positions, found.of(operands[0] + np.arange(count)), False)
    found.put(operands[2] + np.arange(count), saved, False)


# ---------------------------------------------------------------------- derivatives


def _in_order(stretch, column, i) -> View:
    """The cells, one after the other, of an operand or of the output that is not indexed: as runs, or as positions."""
    count, run = (int(stretch.words(i)[k]) for k in (0, 3))
    cell = stretch.cell(column, i)
    return View(cell, (count,), (1,)) if column == OPERAND + POSITIONS else View(cell, (count, run), (run, 1))


def _first(stretch, column, i) -> View:
    """The cell from which the positions count."""
    return View(stretch.cell(column, i), (), ())


def _positions(stretch, i):
    return stretch.array(_in_order(stretch, OPERAND + POSITIONS, i))


def _words(stretch, i) -> tuple[int, ...]:
    return tuple(int(w) for w in stretch.words(i)[:4])


def _gathered(stretch, i, base: View):
    """The runs of `base` at the positions of instruction i, recorded."""
    count, _, _, run = words = _words(stretch, i)
    out = stretch.recorder.new_slot((count, run))
    stretch.recorder.structural("gather", [base, _in_order(stretch, OPERAND + POSITIONS, i)], out, words, count * run)
    return stretch.array(out)


def _add_scattered(stretch, i, source: View, target: View):
    """Record that the runs of `source` are added to `target` at the positions of instruction i."""
    positions = _in_order(stretch, OPERAND + POSITIONS, i)
    stretch.recorder.structural("scatter_add", [source, positions], target, _words(stretch, i), 0)


def _record_put(stretch, i, values, positions, target: View | None = None):
    """Record that `target`, by default the output of scatter_assign i, is overwritten; returns what was there."""
    low, high = (int(w) for w in stretch.words(i)[1:3])
    source, where = (x.view if x.view.strides == contiguous(x.shape) else stretch.recorder.copied(x.view)
                     for x in (values, positions))
    stretch.recorder.scatter_assign(target or _first(stretch, OUTPUT, i), source, where, (low, high))
    return stretch.kept_by_last(source.shape, 2)


def _has_distinct_positions(stretch, i) -> bool:
    """Whether the positions of instruction i are constants, and no two cells of their runs one."""
    positions = stretch.constant(_in_order(stretch, OPERAND + POSITIONS, i))
    if positions is None:
        return False
    if i not in stretch.notes:
        cells = _of_each_cell(positions, stretch.words(i))
        stretch.notes[i] = len(np.unique(cells)) == len(cells)
    return stretch.notes[i]


def _backward(stretch, i) -> slice:
    """The order in which what scatter_assign i overwrote is put back: the last of equal positions first."""
    return slice(None, None, 1 if _has_distinct_positions(stretch, i) else -1)


def _pull_gather(stretch, i):
    if stretch.is_active(0, i):
        adjoint = stretch.buddy(_in_order(stretch, OUTPUT, i))
        _add_scattered(stretch, i, adjoint, stretch.buddy(_first(stretch, OPERAND, i)))


def _push_gather(stretch, i):
    base = stretch.buddy(_first(stretch, OPERAND, i))
    out = stretch.array(stretch.buddy(_in_order(stretch, OUTPUT, i)))
    out[...] = _gathered(stretch, i, base)


def _pull_scatter_add(stretch, i):
    if stretch.is_active(0, i):
        adjoint = stretch.buddy(_first(stretch, OUTPUT, i))
        stretch.add(stretch.buddy(_in_order(stretch, OPERAND, i)), _gathered(stretch, i, adjoint))


def _push_scatter_add(stretch, i):
    if stretch.is_active(0, i):
        tangent = stretch.buddy(_in_order(stretch, OPERAND, i))
        _add_scattered(stretch, i, tangent, stretch.buddy(_first(stretch, OUTPUT, i)))


def _pull_scatter_assign(stretch, i):
    target = stretch.buddy(_first(stretch, OUTPUT, i))
    adjoint = _gathered(stretch, i, target)
    if stretch.is_active(0, i) and _has_distinct_positions(stretch, i):
        stretch.add(stretch.buddy(_in_order(stretch, OPERAND, i)), adjoint)
    elif stretch.is_active(0, i):
        # Of equal positions only the last one wrote: number the writers, write the numbers, see which are left.
        slot_cell, shape = stretch.recorder.memory.slots[stretch.recorder.slot_number(stretch.cell(OUTPUT, i))]
        marks = stretch.recorder.zeros(shape)
        first = View(marks.cell + stretch.cell(OUTPUT, i) - slot_cell, (), ())
        count, _, _, run = _words(stretch, i)
        numbers = stretch.array(stretch.recorder.constant(np.arange(count * run).reshape(count, run)))
        _record_put(stretch, i, numbers, _positions(stretch, i), first)
        last = _gathered(stretch, i, first) == numbers
        stretch.add(stretch.buddy(_in_order(stretch, OPERAND, i)), np.where(last, adjoint, 0.0))
    # What was overwritten lives on in the saved cells; the first of equal positions saved what stood there before.
    saved = stretch.array(stretch.buddy(_in_order(stretch, OPERAND + 2, i)))
    back = _backward(stretch, i)
    _record_put(stretch, i, saved[back], _positions(stretch, i)[back], target)


def _push_scatter_assign(stretch, i):
    tangent = stretch.array(stretch.buddy(_in_order(stretch, OPERAND, i)))
    overwritten = _record_put(stretch, i, tangent, _positions(stretch, i), stretch.buddy(_first(stretch, OUTPUT, i)))
    # The tangents that were overwritten are those of the saved cells, which a derivative inside the stretch reads.
    stretch.array(stretch.buddy(_in_order(stretch, OPERAND + 2, i)))[...] = stretch.array(overwritten)


def _undo_scatter_assign(stretch, i):
    saved, back = stretch.array(_in_order(stretch, OPERAND + 2, i)), _backward(stretch, i)
    return _record_put(stretch, i, saved[back], _positions(stretch, i)[back])


def _redo_scatter_assign(stretch, i, kept):
    _record_put(stretch, i, stretch.array(kept)[_backward(stretch, i)], _positions(stretch, i))


# ---------------------------------------------------------------------- reference, and the rows


def _points(words, cells, values):
    """For each cell of the runs its number and its position."""
    return enumerate(_of_each_cell(values[cells[1] : cells[1] + words[0]].astype(int), words).tolist())


def _gather_reference(table, words, cells, active, values):
    base, _, _, out = cells
    for j, p in _points(words, cells, values):
        yield table["copy"], active, [(base + p, out + j)]


def _scatter_add_reference(table, words, cells, active, values):
    source, _, _, out = cells
    for j, p in _points(words, cells, values):
        yield table["accumulate"], active, [(source + j, out + p)]


def _scatter_assign_reference(table, words, cells, active, values):
    source, _, saved, out = cells
    for j, p in _points(words, cells, values):
        yield table["copy"], 1, [(out + p, saved + j)]
        yield table["assign"], active, [(source + j, saved + j, out + p)]


def _bounds(size, moved, *_):
    """Positions, and what was kept, are not in the result."""
    return moved


def _bounds_of_sum(size, moved, *_):
    return moved and (moved[0] * size, moved[1] * size)


GATHER = StructuralRow(
    "gather", 2, _gather_forward, _gather_reverse, _gather, _gather_tangent_reverse, length=_length,
    extents=_extents_of((0,), (1, 3)), differentiable=(True, False), emit=_emit_gather, dependencies=_gather_dependencies,
    pull=_pull_gather, push=_push_gather, reference=_gather_reference, bounds=_bounds)

SCATTER_ADD = StructuralRow(
    "scatter_add", 2, _scatter_forward, _scatter_reverse, _scatter, _scatter_tangent_reverse, length=_length,
    extents=_extents_of((3,), (0, 1)), differentiable=(True, False), emit=_emit_scatter_add,
    dependencies=_scatter_add_dependencies, pull=_pull_scatter_add, push=_push_scatter_add, reference=_scatter_add_reference,
    bounds=_bounds_of_sum, accumulates=True)

SCATTER_ASSIGN = StructuralRow(
    "scatter_assign", 3, _put_forward, _put_reverse, _put, _put_tangent_reverse, length=_length,
    extents=_extents_of((3,), (0, 1, 2)), differentiable=(True, False, False), emit=_emit_scatter_assign,
    dependencies=_scatter_assign_dependencies, pull=_pull_scatter_assign, push=_push_scatter_assign,
    reference=_scatter_assign_reference, bounds=_bounds, overwrites=True, undo=_undo_scatter_assign, redo=_redo_scatter_assign,
    scratch=2)
