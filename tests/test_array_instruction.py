"""An array instruction is one row: it is added here at run time, and every engine and every derivative knows it.

`SEGMENT_SQUARES` is the example of a row (see `compiled/table/structural/row.py` for its fields): nothing else is edited.
"""

import dataclasses

import numpy as np
import pytest
from conftest import Sweeps, Writer
from llvmlite import ir
from test_engines import FEW, compare_engines, compare_with_differences

from compiled.errors import InvalidTape
from compiled.lists.listing import Listing
from compiled.native.function import NativeFunction
from compiled.native.lanes import has_lanes
from compiled.native.threads import LanesFunction
from compiled.sweeps.engine import Engine
from compiled.table.instructions import TABLE
from compiled.table.layout import FLAGS, OK, OPERAND, OUTPUT, SPACE
from compiled.table.llvm import I64
from compiled.table.structural.cells import Cells
from compiled.table.structural.extents import Reader, neighbours
from compiled.table.structural.row import Rule, StructuralRow, block_of, row_kernel
from compiled.table.views import View
from tape.derivatives.sparsity import hessian_pattern, jacobian_pattern
from tape.transforms.build import with_gradients, with_tangents
from tape.transforms.simplify import FORWARD_ONLY, simplified

# ---------------------------------------------------------------------- the row
# segment_squares: out[s] = sum over j of x[s, j]**2, of contiguous x. Its words are [segments, length].


@row_kernel
def _forward(code, i, geometry, values):
    g, x, _, _, out = block_of(code, i)
    for s in range(geometry[g]):
        values[out + s] = 0.0
        for k in range(s * geometry[g + 1], (s + 1) * geometry[g + 1]):
            values[out + s] += values[x + k] * values[x + k]
    return OK


@row_kernel
def _add_products(code, i, geometry, values, adjoints, target):
    """target(x) += 2 x adjoint(out), of values and adjoints or of their tangents."""
    g, x, _, _, out = block_of(code, i)
    for k in range(geometry[g] * geometry[g + 1] if code[i, FLAGS] & 1 else 0):
        target[x + k] += 2.0 * values[x + k] * adjoints[out + k // geometry[g + 1]]
    return OK


@row_kernel
def _reverse(code, i, geometry, values, adjoints):
    return _add_products(code, i, geometry, values, adjoints, adjoints)


@row_kernel
def _tangent(code, i, geometry, values, tangents):
    g, x, _, _, out = block_of(code, i)
    for s in range(geometry[g]):
        tangents[out + s] = 0.0
        for k in range(s * geometry[g + 1], (s + 1) * geometry[g + 1]):
            tangents[out + s] += 2.0 * values[x + k] * tangents[x + k]
    return OK


@row_kernel
def _tangent_reverse(code, i, geometry, values, tangents, adjoints, adjoint_tangents):
    _add_products(code, i, geometry, tangents, adjoints, adjoint_tangents)
    _add_products(code, i, geometry, values, adjoint_tangents, adjoint_tangents)
    return _reverse(code, i, geometry, values, adjoints)


def _extents(words):
    segments, length = Reader(words).dims(2)
    return [neighbours(segments * length), None, None, neighbours(segments)]


def _emit(piece, step):
    (segments, length), builder = step.space.words, piece.builder
    x, out = Cells(piece, step.operands[0]), Cells(piece, step.out)

    def segment(indices):
        lane, s = indices
        out.store(s, lane, ir.Constant(piece.emitter.number, 0.0))

        def add(more):
            value = x.load(builder.add(builder.mul(s, ir.Constant(I64, length)), more[0]), lane)
            out.store(s, lane, builder.fadd(out.load(s, lane), builder.fmul(value, value)))

        piece.nest((length,), add)

    piece.nest((piece.emitter.lanes, segments), segment)


def _dependencies(found, words, operands, out):
    segments, length = words[:2].tolist()
    found.put(out + np.repeat(np.arange(segments), length), found.of(operands[0] + np.arange(segments * length)), False)


def _views(stretch, i):
    segments, length = stretch.words(i)[:2].tolist()
    return View(stretch.cell(OPERAND, i), (segments, length), (length, 1)), View(stretch.cell(OUTPUT, i), (segments,), (1,))


def _pull(stretch, i):
    x, out = _views(stretch, i)
    stretch.add(stretch.buddy(x), 2.0 * stretch.array(x) * stretch.array(stretch.buddy(out))[:, None])


def _push(stretch, i):
    x, out = _views(stretch, i)
    stretch.array(stretch.buddy(out))[...] = np.sum(2.0 * stretch.array(x) * stretch.array(stretch.buddy(x)), axis=1)


def _reference(table, words, cells, active, values):
    segments, length = words[:2]
    square = Rule(lambda *x: sum(v * v for v in x), [lambda *x, k=k: 2.0 * x[k] for k in range(length)])
    for s in range(segments):
        yield square, -(active & 1), [(*range(cells[0] + s * length, cells[0] + (s + 1) * length), cells[3] + s)]


SEGMENT_SQUARES = StructuralRow(
    "segment_squares", 1, _forward, _reverse, _tangent, _tangent_reverse, length=lambda words: 2, extents=_extents,
    differentiable=(True,), emit=_emit, dependencies=_dependencies, pull=_pull, push=_push, reference=_reference, kind="float")

# ---------------------------------------------------------------------- what knows it

SEGMENTS, LENGTH = 3, 4
X = np.linspace(-1.0, 1.4, SEGMENTS * LENGTH).reshape(SEGMENTS, LENGTH)
ROUNDING = 1e-13


def written(table):
    """A list of the squares of the segments' sums of squares, and before them their total."""
    writer = Writer(np.float64, table)
    x, out = writer.array(X), writer.new_slot((SEGMENTS,))
    writer.structural("segment_squares", [x], out, (SEGMENTS, LENGTH), SEGMENTS)
    fourth, total = writer.apply("mul", out, out), writer.zeros(())
    writer.elementwise("accumulate", [fourth], fourth.shape, total)
    return writer.finished(total, fourth)


def function(x):
    """The second result, of x or of many."""
    return np.sum(x * x, axis=-1) ** 2


GRADIENT = 4.0 * np.sum(X * X, axis=-1, keepdims=True) * X
"""Of the first result."""

BLOCKS = np.kron(np.eye(SEGMENTS), np.ones((LENGTH, LENGTH)))
"""Which elements of X are of one segment."""

HESSIAN = 4.0 * np.diag(np.repeat(np.sum(X * X, axis=-1), LENGTH)) + 8.0 * BLOCKS * np.outer(X, X)


@pytest.fixture
def program():
    """The list over the whole table."""
    return written(TABLE.extended(SEGMENT_SQUARES))


def run(program, outputs, *arguments):
    """What native code finds in these views of a list."""
    program.outputs = list(outputs)
    names = [f"a{k}" for k in range(len(program.inputs))], [f"r{k}" for k in range(len(outputs))]
    native = NativeFunction(simplified(Listing.of(program), FORWARD_ONLY), *names, "segments")
    status, found = native.results(arguments)
    assert status == 0
    return found


def test_the_sweeps_the_check_and_the_text():
    """Each sweep against the reference interpreter and against differences; a block that is malformed is refused."""
    table = FEW.extended(SEGMENT_SQUARES)
    program, engine = written(table), Engine(table)
    program.check()
    assert "= segment_squares %0" in program.text()
    compare_engines(program, np.random.default_rng(0), engine)
    compare_with_differences(program, np.random.default_rng(0), engine)
    np.testing.assert_allclose(program.outputs[1].of(Sweeps(program, engine).forward()), function(X), rtol=ROUNDING)
    program.geometry[program.code[0, SPACE] + 3] = LENGTH + 1
    with pytest.raises(InvalidTape, match=r"segment_squares.*: operand 0 reaches outside its slot"):
        program.check()


def test_a_list_taken_apart_and_put_together(program):
    """Of the geometry the row's own words are taken along, and no more."""
    listing = Listing.of(program)
    assert listing.steps[0].space.words == (SEGMENTS, LENGTH)
    again = listing.program()
    again.check()
    assert again.text() == program.text()


def test_native_code(program):
    """Values."""
    total, fourth = run(program, program.outputs, X)
    np.testing.assert_allclose(fourth, function(X), rtol=ROUNDING)
    assert total == pytest.approx(np.sum(function(X)), rel=ROUNDING)


@pytest.mark.parametrize("lanes", [2, 4])
def test_lanes(program, lanes):
    """Samples side by side, the last of them in a block that is not full."""
    listing = simplified(Listing.of(program), FORWARD_ONLY)
    assert has_lanes(listing)
    samples = np.random.default_rng(1).standard_normal((2 * lanes + 1, SEGMENTS, LENGTH))
    status, (_, found) = LanesFunction(listing, (True,), False, lanes)([samples], len(samples), 1)
    assert not status
    np.testing.assert_allclose(found, function(samples), rtol=ROUNDING)
    assert not has_lanes(Listing.of(written(TABLE.extended(dataclasses.replace(SEGMENT_SQUARES, lanes=False)))))


def test_sparse_patterns(program):
    """Jacobian: each result is of its segment; Hessian: a block a segment."""
    (x,) = program.inputs
    np.testing.assert_array_equal(hessian_pattern(program, x).toarray(), BLOCKS != 0.0)
    program.outputs = program.outputs[1:]
    np.testing.assert_array_equal(jacobian_pattern(program, [x]).toarray(), BLOCKS[::LENGTH] != 0.0)


def test_derivatives_as_lists(program):
    """Tangents, adjoints, and the tangents of adjoints, by native code."""
    (x,) = program.inputs
    along = np.cos(np.arange(X.size)).reshape(X.shape)
    longer, tangents = with_tangents(program, [0], [x])
    (found,) = run(longer, tangents, X, along)
    assert found == pytest.approx(np.sum(GRADIENT * along), rel=ROUNDING)
    longer, adjoints = with_gradients(program, [0], [x], seeded=False)
    longer.outputs = adjoints
    second, tangents = with_tangents(longer, [0], [x])
    twice, products = with_gradients(longer, [0], [x], seeded=True)
    for found in (run(second, tangents, X, along), run(twice, products, X, along)):
        np.testing.assert_allclose(found[0].ravel(), HESSIAN @ along.ravel(), rtol=ROUNDING, atol=ROUNDING)
    np.testing.assert_allclose(run(longer, adjoints, X)[0], GRADIENT, rtol=ROUNDING)


def test_what_tells_rows_apart():
    """Another kernel, or other code, is another row: what was compiled for one is not loaded for the other."""
    for other in (dataclasses.replace(SEGMENT_SQUARES, forward=_tangent), dataclasses.replace(SEGMENT_SQUARES, emit=_extents)):
        assert TABLE.extended(other).digest() != TABLE.extended(SEGMENT_SQUARES).digest()
    with pytest.raises(TypeError, match="length"):
        StructuralRow("no_length", 1, _forward, None, None, None, extents=_extents, differentiable=(True,), emit=_emit,
                      dependencies=_dependencies)
