"""Every sweep against the reference interpreter, on random programs over all instructions and all kinds of views.

What is not here: whether a row's formulas are right (`test_instructions.py`) and tampered programs (`test_program.py`).
"""

import dataclasses

import numpy as np
import pytest
from conftest import Sweeps, Writer

from compiled.errors import InvalidTape
from compiled.native.interpreter import Interpreter
from compiled.sweeps.engine import ENGINE, Engine
from compiled.table.instructions import TABLE, Row, Table, f, undefined
from compiled.table.layout import FLAGS, INDEX_ERROR, OPCODE, OPERAND, OUTPUT, STATUS_BITS
from compiled.table.structural.rows import STRUCTURAL_ROWS
from compiled.table.views import View
from tape.recording import arrays as tracing
from tape.recording.recorder import broadcast_strides

ROUNDING = {np.float64: 1e-10, np.float32: 2e-3}
"""Relative to the largest of a buffer: sums are added in another order, elementary functions differ by some ulp, and some
thirty instructions in a row pass both on."""

INNER_PRODUCT = 1e-10
"""jvp and vjp use the same partials, so that only rounding is between them."""

DIFFERENCE_STEP, DIFFERENCE = 1e-5, 2e-5
"""Central differences of a gradient: truncation and cancellation leave five digits."""

ACTIVE = 7
"""The flags that say which operands are active."""

LENGTH = 30
"""Operations of a random program."""

SEEDS = [pytest.param(seed, marks=() if seed < 40 else pytest.mark.slow) for seed in range(600)]

ELEMENTWISE = [row for row in TABLE.rows if not row.structural and row.arity and not row.accumulates and not row.overwrites
               and undefined not in row.partials]

SLICES = (
    lambda x: x[::-1],
    lambda x: x[..., ::-1],
    lambda x: x[1:],
    lambda x: x[..., ::2],
    lambda x: x.T,
    lambda x: x[..., :1],
    lambda x: np.broadcast_to(x, (2, *x.shape)),
    lambda x: np.broadcast_to(x[:1], x.shape),
    lambda x: np.diagonal(x) if x.ndim > 1 else x,
    lambda x: np.lib.stride_tricks.sliding_window_view(x, 2, axis=-1),
    lambda x: x[0, ...],
    lambda x: x[..., None],
)


class RandomProgram:
    """A program of random operations on random views; every row gets operands in its domain.

    Parameters
    ----------
    seed : int
        Of the random numbers.
    dtype : type
        Of the list.
    length : int
        How many operations.
    rows : list of Row
        The elementwise ones among them.
    """

    def __init__(self, seed, dtype=np.float64, length=LENGTH, rows=ELEMENTWISE):
        self.rows = rows
        self.random = np.random.default_rng(seed)
        self.writer = Writer(dtype)
        self.slots = []
        for shape, active in (((4, 3), True), ((5,), True), ((), True), ((2, 3, 3), False), ((3,), False)):
            self.slots.append(self.writer.array(self.random.uniform(-2.0, 2.0, shape).astype(dtype), active))
        others = ["accumulate", "gather", "scatter_add", "scatter_assign", "assign", "matmul", "amax", "guard"]
        kinds = ["elementwise"] * len(others) + others
        with self.writer.recording():
            for _ in range(length):
                getattr(self, "_" + self.random.choice(kinds))()
        self.program = self.writer.finished(*self.slots)

    # ------------------------------------------------------------------ operands

    def view(self, most=60) -> View:
        """Some view of some slot, of at least one and not too many elements."""
        view = self.slots[self.random.integers(len(self.slots))]
        for _ in range(self.random.integers(4)):
            function = SLICES[self.random.integers(len(SLICES))]
            try:
                smaller = self.writer.seen(view, function)
            except (IndexError, ValueError):
                continue
            if smaller is not None and 0 < smaller.size <= most and len(smaller.shape) < 5:
                view = smaller
        return view

    def within(self, view, low, high) -> View:
        """`view`, or what a smooth function makes of it, with all values between low and high."""
        values = self.writer.value(view)
        if np.all((low < values) & (values < high)):
            return view
        constant = self.writer.constant
        squashed = self.writer.apply("sigmoid", view)
        return self.writer.apply("add", self.writer.apply("mul", squashed, constant(high - low)), constant(low))

    def moderate(self) -> View:
        """A view with values that products keep moderate."""
        return self.within(self.view(), -3.0, 3.0)

    def fitting(self, shape) -> View:
        """A view that broadcasts with `shape`."""
        view = self.view()
        try:
            np.broadcast_shapes(view.shape, shape)
        except ValueError:
            return self.writer.seen(view, lambda x: x[(0,) * x.ndim + (...,)])
        return view

    def distinct(self) -> View:
        """A view of a slot of its own, in which every element has its own cell."""
        view = self.writer.copied(self.view())
        self.slots.append(view)
        return self.writer.seen(view, SLICES[self.random.integers(5)]) if view.shape else view

    # ------------------------------------------------------------------ operations

    def _elementwise(self):
        row = self.rows[self.random.integers(len(self.rows))]
        if row.name == "uniform":
            return self._uniform()
        operands = [self.view()]
        for _ in range(row.arity - 1):
            shape = np.broadcast_shapes(*(view.shape for view in operands))
            operands.append(self.fitting(shape))
        operands = [self.within(view, *row.domain[k]) for k, view in enumerate(operands)]
        if np.prod(np.broadcast_shapes(*(view.shape for view in operands))) < 100:
            self.slots.append(self.writer.apply(row.name, *operands))

    def _uniform(self):
        seed, index = self.writer.constant(7), self.writer.constant(np.arange(3.0))
        self.slots.append(self.writer.apply("uniform", seed, index))

    def _accumulate(self):
        operand = self.moderate()
        axes = self.random.integers(2, size=len(operand.shape)).astype(bool)
        out = self.writer.zeros(tuple(1 if axis else n for n, axis in zip(operand.shape, axes, strict=True)))
        if self.random.integers(2):
            self.writer.elementwise("accumulate", [operand], operand.shape, out)
        else:
            self.writer.elementwise("accumulate_product", [operand, self.moderate_like(operand)], operand.shape, out)
        self.slots.append(out)

    def moderate_like(self, view) -> View:
        """Another operand of the shape of `view`: itself, or itself turned round."""
        return self.writer.seen(view, lambda x: x[::-1]) if view.shape and self.random.integers(2) else view

    def positions(self, reach, count) -> View:
        """Constant positions, some of them equal."""
        return self.writer.constant(self.random.integers(*reach, size=count).astype(float))

    def _gather(self):
        base = self.distinct()
        size = self.slots[-1].size
        low = self.slots[-1].cell - base.cell
        positions = self.positions((low, low + size), 4)
        out = self.writer.new_slot((4,))
        self.writer.structural("gather", [base, positions], out, (4, low, low + size, 1), 4)
        self.slots.append(out)

    def _scatter_add(self):
        source, out = self.writer.copied(self.moderate()), self.writer.zeros((3,))
        positions = self.positions((0, 3), source.size)
        self.writer.structural("scatter_add", [source, positions], out, (source.size, 0, 3, 1), 0)
        self.slots.append(out)

    def _scatter_assign(self):
        source = self.writer.copied(self.view())
        target = self.writer.copied(self.view())
        self.writer.scatter_assign(target, source, self.positions((0, target.size), source.size), (0, target.size))
        self.slots.append(target)

    def _assign(self):
        target = self.distinct()
        source = self.fitting(target.shape)
        if np.broadcast_shapes(source.shape, target.shape) == target.shape:
            strides = broadcast_strides(source, target.shape)
            self.writer.assign(target, View(source.cell, target.shape, strides))

    def _matmul(self):
        batch, m, k, n = self.random.integers(1, 4, size=4).tolist()
        a = self.matrix((batch, m, k))
        b = self.matrix((k, n) if self.random.integers(2) else (batch, k, n))
        recorded = [tracing.RecordedArray(self.writer, view, self.writer.dtype) for view in (a, b)]
        with self.writer.recording():
            self.slots.append((recorded[0] @ recorded[1]).view)

    def matrix(self, shape) -> View:
        """A slot of this shape, or the transposed view of one."""
        source = self.writer.copied(self.moderate())
        cells = self.writer.constant(self.random.integers(source.size, size=np.prod(shape)).astype(float))
        turned = (*shape[:-2], shape[-1], shape[-2]) if self.random.integers(2) else shape
        out = self.writer.new_slot(turned)
        self.writer.structural("gather", [source, cells], out, (out.size, 0, source.size, 1), out.size)
        return out if turned is shape else self.writer.seen(out, lambda x: x.swapaxes(-1, -2))

    def _amax(self):
        view = self.view()
        if view.shape:
            axis = int(self.random.integers(len(view.shape)))
            recorded = tracing.RecordedArray(self.writer, view, self.writer.dtype)
            self.slots.append((np.max if self.random.integers(2) else np.min)(recorded, axis=axis).view)

    def _guard(self):
        self.writer.guard(self.writer.apply("floor", self.view()))


def seeds_of(program, dtype, random):
    """A random direction of the active inputs, and random adjoints of all slots that depend on one."""
    tangents = [(view, random.standard_normal(view.shape).astype(dtype)) for view in program.inputs[:3]]
    active = program.code[:, FLAGS] & ACTIVE != 0
    dependent = set(program.slot_of(program.code[active, OUTPUT]).tolist())
    adjoints = [(program.slot_view(k), random.standard_normal(program.slots[k][1]).astype(dtype)) for k in sorted(dependent)]
    return tangents, adjoints


def differs(got, expected, tolerance):
    """Cells in which two buffers differ."""
    scale = max(1.0, np.max(np.abs(expected[np.isfinite(expected)]), initial=0.0))
    wrong = ~np.isclose(got, expected, rtol=tolerance, atol=tolerance * scale, equal_nan=True)
    return np.flatnonzero(wrong)


def assert_same(program, what, got, expected):
    """Demand that two buffers agree; the message names the operation that wrote the first cell that does not."""
    cells = differs(got, expected, ROUNDING[program.values.dtype.type])
    found = f": {got[cells[:1]]}, expected {expected[cells[:1]]}"
    assert_explained(program, what + found, cells)


def assert_explained(program, what, cells):
    """Demand that there are no wrong cells; the message names what wrote the first."""
    if cells.size:
        slot = int(program.slot_of(cells[0]))
        writers = [program.instruction_text(i) for i in np.flatnonzero(program.slot_of(program.code[:, OUTPUT]) == slot)]
        raise AssertionError(f"{what}; cell {cells[0]} of %{slot}, written by: {'; '.join(writers) or 'nothing'}")


def compare_engines(program, random, engine=ENGINE):
    """Compare every sweep with the reference interpreter."""
    dtype = program.values.dtype.type
    fast, slow = Sweeps(program, engine), Sweeps(program, None)
    tangents, adjoints = seeds_of(program, dtype, random)
    assert_same(program, "forward", fast.forward(), slow.forward())
    for what, got, expected in zip(("values", "tangents"), fast.tangent(tangents), slow.tangent(tangents), strict=True):
        assert_same(program, f"tangent sweep, {what}", got, expected)
    for keep in (True, False):
        results = zip(("values", "adjoints"), fast.reverse(adjoints, keep), slow.reverse(adjoints, keep), strict=True)
        for what, got, expected in results:
            assert_same(program, f"reverse sweep with keep={keep}, {what}", got, expected)
    names = "values", "tangents", "adjoints", "adjoint tangents"
    results = zip(names, fast.tangent_reverse(tangents, adjoints), slow.tangent_reverse(tangents, adjoints), strict=True)
    for what, got, expected in results:
        assert_same(program, f"tangent over reverse, {what}", got, expected)


# ---------------------------------------------------------------------- random programs


@pytest.mark.parametrize("seed", SEEDS)
def test_sweeps_equal_the_reference(seed):
    """Forward, reverse, tangent, and tangent over reverse."""
    compare_engines(RandomProgram(seed).program, np.random.default_rng(seed))


@pytest.mark.parametrize("seed", SEEDS[:10] + SEEDS[40:200])
def test_sweeps_equal_the_reference_in_single_precision(seed):
    """The same with lists of float32."""
    compare_engines(RandomProgram(seed, np.float32).program, np.random.default_rng(seed))


@pytest.mark.parametrize("seed", SEEDS[:6] + SEEDS[40:70])
def test_the_interpreter_equals_the_reference(seed):
    """What stands in for the sweeps where there are no kernels, in both precisions."""
    for dtype in (np.float64, np.float32):
        compare_engines(RandomProgram(seed, dtype).program, np.random.default_rng(seed), Interpreter(TABLE))


@pytest.mark.parametrize("seed", SEEDS)
def test_adjoints_are_zero_after_a_sweep_that_cleans_up(seed):
    """All but those of the inputs, which the sweep with keep=True finds too."""
    program = RandomProgram(seed).program
    _, adjoints = seeds_of(program, np.float64, np.random.default_rng(seed))
    kept, clean = (Sweeps(program).reverse(adjoints, keep)[1] for keep in (True, False))
    for view in program.inputs:
        np.testing.assert_array_equal(view.of(clean), view.of(kept))
        view.of(clean)[...] = 0.0
    assert not clean.any()


@pytest.mark.parametrize("seed", SEEDS)
def test_jvp_and_vjp_are_adjoint(seed):
    """jvp . w = v . vjp for the same program, whatever kinks it sits on."""
    program = RandomProgram(seed).program
    tangents, adjoints = seeds_of(program, np.float64, np.random.default_rng(seed))
    last = [adjoint for adjoint in adjoints if adjoint[0].cell not in overwritten(program)]
    pushed, pulled = Sweeps(program).tangent(tangents)[1], Sweeps(program).reverse(last)[1]
    left = [float(np.sum(view.of(pushed) * w)) for view, w in last]
    right = [float(np.sum(v * view.of(pulled))) for view, v in tangents]
    assert abs(sum(left) - sum(right)) <= INNER_PRODUCT * max(1.0, sum(map(abs, left + right)))


def overwritten(program):
    """First cells of the slots that keep what an assignment overwrote: their adjoints are the sweep's own."""
    rows = [program.table.rows[opcode].name for opcode in program.code[:, OPCODE]]
    return {int(line[OPERAND + 2]) for line, name in zip(program.code, rows, strict=True) if name == "scatter_assign"}


def moved(program, tangents, step):
    """The program with its inputs moved along the tangents."""
    copy = dataclasses.replace(program, values=program.values.copy())
    for view, tangent in tangents:
        view.of(copy.values)[...] += step * tangent
    return copy


def quotient(program, tangents, function):
    """Central differences of what `function` makes of the moved program."""
    high, low = (function(moved(program, tangents, step)) for step in (DIFFERENCE_STEP, -DIFFERENCE_STEP))
    return (high - low) / (2 * DIFFERENCE_STEP)


def compare_with_differences(program, random, engine=ENGINE):
    """Compare tangents of all cells, and adjoint tangents of the inputs, with differences of values and of gradients."""
    tangents, adjoints = seeds_of(program, np.float64, random)
    expected = quotient(program, tangents, lambda moved: Sweeps(moved, engine).forward())
    cells = differs(Sweeps(program, engine).tangent(tangents)[1], expected, DIFFERENCE)
    assert_explained(program, "the tangent differs from the difference quotient of values", cells)

    def gradient(program):
        back = Sweeps(program, engine).reverse(adjoints)[1]
        return np.concatenate([view.of(back).ravel() for view in program.inputs])

    expected = quotient(program, tangents, gradient)
    *_, both = Sweeps(program, engine).tangent_reverse(tangents, adjoints)
    got = np.concatenate([view.of(both).ravel() for view in program.inputs])
    assert differs(got, expected, DIFFERENCE).size == 0, "the adjoint tangent differs from the difference quotient of gradients"


@pytest.mark.parametrize("seed", SEEDS)
def test_tangents_equal_differences(seed):
    """Of values, and of gradients; without `stop`, whose derivative is another on purpose."""
    rows = [row for row in ELEMENTWISE if row.name != "stop"]
    compare_with_differences(RandomProgram(seed, length=12, rows=rows).program, np.random.default_rng(seed))


# ---------------------------------------------------------------------- conventions of the sweeps


def test_assignments_to_inactive_cells_are_undone():
    """y = x * z, then z is overwritten: the partial of y is what z held before, though no derivative flows to z."""
    writer = Writer(np.float64)
    x, z = writer.array([3.0, 4.0]), writer.copied(writer.constant(np.array([2.0, 2.0])))
    y = writer.apply("mul", x, z)
    writer.assign(z, writer.constant(np.array([5.0, 5.0])))
    program = writer.finished(y)
    _, adjoints = Sweeps(program).reverse([(y, 1.0)])
    np.testing.assert_array_equal(x.of(adjoints), [2.0, 2.0])


@pytest.mark.parametrize("name", ["gather", "scatter_add", "amax", "matmul", "mul"])
def test_inactive_operands_get_no_adjoint(name):
    """Even where the output has one, because something active was written to it later."""
    writer = Writer(np.float64)
    x, constant = writer.array(np.ones((2, 2))), writer.array(np.full((2, 2), 3.0), active=False)
    positions = writer.constant(np.arange(4.0))
    recorded = tracing.RecordedArray(writer, constant, np.dtype(float))
    if name == "gather":
        out = writer.new_slot((4,))
        writer.structural("gather", [constant, positions], out, (4, 0, 4, 1), 4)
    elif name == "scatter_add":
        out = writer.zeros((4,))
        writer.structural("scatter_add", [constant, positions], out, (4, 0, 4, 1), 0)
    elif name == "mul":
        out = writer.apply("mul", constant, constant)
    else:
        with writer.recording():
            out = (np.max(recorded, axis=0) if name == "amax" else recorded @ recorded).view
    first = View(out.cell, (1,), (1,))
    writer.assign(first, View(x.cell, (1,), (1,)))
    _, adjoints = Sweeps(writer.finished(out)).reverse([(out, 1.0)])
    assert x.of(adjoints)[0, 0] == 1.0
    assert not constant.of(adjoints).any()


def test_an_adjoint_of_zero_contributes_nothing():
    """Not even through an infinite partial; in all of the sweeps."""
    writer = Writer(np.float64)
    x = writer.array([0.0, 4.0])
    y = writer.apply("sqrt", x)
    program = writer.finished(y)
    seed, tangent = np.array([0.0, 1.0]), np.array([0.0, 1.0])
    assert x.of(Sweeps(program).reverse([(y, seed)])[1]).tolist() == [0.0, 0.25]
    assert y.of(Sweeps(program).tangent([(x, tangent)])[1]).tolist() == [0.0, 0.25]
    both = Sweeps(program).tangent_reverse([(x, tangent)], [(y, seed)])[3]
    assert x.of(both).tolist() == [0.0, -0.25 / 8]


def test_a_sweep_reports_where_it_stopped():
    """Status: the instruction's number above `STATUS_BITS`, and the reason; a program that stops raises nothing itself."""
    writer = Writer(np.float64)
    base, positions = writer.array(np.arange(3.0)), writer.array(np.array([0.0, 1.0]), active=False)
    out = writer.new_slot((2,))
    writer.structural("gather", [base, positions], out, (2, 0, 3, 1), 2)
    program = writer.finished(out)
    for stored in (3.0, -1.0, np.nan, np.inf, -np.inf, 1e300):
        positions.of(program.values)[1] = stored
        values, tangents = program.values.copy(), np.zeros_like(program.values)
        assert ENGINE.forward(program.code, program.geometry, values, 0, 1) == 0 << STATUS_BITS | INDEX_ERROR
        assert ENGINE.tangent(program.code, program.geometry, values, tangents) == 0 << STATUS_BITS | INDEX_ERROR


# ---------------------------------------------------------------------- the checkers check; a row is one edit

FEW = Table([TABLE[name] for name in ("zero", "copy", "accumulate", "accumulate_product", "assign", "add", "sub", "mul", "div",
                                      "neg", "adjoint_product", "abs", "sin", "cos", "where", "eq", "ne", "lt", "sign")]
            + list(STRUCTURAL_ROWS))
"""As few rows as the tests below need, so that their engines compile fast."""


def small_program(table, name):
    """A list of the instructions of `table`: products and sums around an instruction `name`."""
    writer = Writer(np.float64, table)
    x = writer.array(np.linspace(0.3, 1.2, 12).reshape(3, 4))
    writer.array(np.zeros(()))
    scalar = writer.array(0.7)
    y = writer.apply("mul", x, writer.apply(name, scalar))
    z = writer.apply(name, writer.seen(y, lambda v: v.T[::-1]))
    total = writer.zeros(())
    writer.elementwise("accumulate", [z], z.shape, total)
    return writer.finished(total)


def test_a_wrong_partial_is_noticed():
    """A partial that is wrong by 0.1 % fails both comparisons, and they name the operation."""
    wrong = dataclasses.replace(TABLE["sin"], partials=(lambda x, o: 1.001 * f.cos(x),))
    corrupted = Engine(Table([wrong if row.name == "sin" else row for row in FEW.rows]))
    program = small_program(FEW, "sin")
    with pytest.raises(AssertionError, match="= sin "):
        compare_engines(program, np.random.default_rng(0), corrupted)
    with pytest.raises(AssertionError, match="= sin "):
        compare_with_differences(program, np.random.default_rng(0), corrupted)


def test_a_new_row_is_one_edit():
    """All sweeps, text, and check of a row that is added at run time."""
    row = Row("softsign", 1, lambda x: x / (1.0 + f.abs(x)), (lambda x, o: f.div(1.0, (1.0 + f.abs(x)) * (1.0 + f.abs(x))),))
    table = FEW.extended(row)
    engine = Engine(table)
    program = small_program(table, "softsign")
    program.check()
    assert "= softsign %2" in program.text()
    assert table.digest() != FEW.digest()
    compare_engines(program, np.random.default_rng(0), engine)
    compare_with_differences(program, np.random.default_rng(0), engine)
    program.code[program.code[:, OPCODE] == table.opcode["softsign"], OUTPUT] = len(program.values)
    with pytest.raises(InvalidTape, match="softsign"):
        program.check()
