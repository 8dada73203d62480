"""Reports, strictness and warnings: what is said of kinks, undefined derivatives and NaN, and that it is said where it is so.

The kinks that the table's rows state by rule are checked against differences from either side, row by row.
"""

import itertools
import math
import re
import sys
import threading
import warnings

import numba
import numpy as np
import pytest

import tape
from compiled.table.instructions import ROWS, TABLE, undefined
from tape.jitted.derivatives import JittedDerivative
from tape.recording.arrays import record as written
from tape.reports import inspection

GRID = {1: (-2.0, -1.5, -1.0, -0.5, 0.0, 0.3, 0.5, 1.0, 1.5, 2.0), 2: (-2.0, -1.0, -0.5, 0.0, 0.3, 0.5, 1.0, 2.0),
        3: (-1.0, 0.0, 0.3, 1.0, 2.0)}
WITHOUT_A_RULE = {
    "adjoint_product": "its convention is that of all rows: a factor of zero contributes nothing",
    "logaddexp": "its conventions are for infinite operands alone",
    "where": "what is not taken is no kink",
}
"""Rows that state in words something that is neither a bend, a jump nor a derivative that is not finite; and why."""


def here() -> str:
    """The line that calls, as reports write it."""
    frame = sys._getframe(1)
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def points(row):
    return [tuple(map(np.float64, point)) for point in itertools.product(GRID[row.arity], repeat=row.arity)]


def computed(row, point):
    with np.errstate(all="ignore"):
        return float(TABLE.apply(row.name, *point))


def partials(row, point, out):
    with np.errstate(all="ignore"):
        return [float(p(*point, np.float64(out))) if p not in (None, undefined) else 0.0 for p in row.partials]


def says_kink(row, k, point, out) -> bool:
    return bool(row.at_kink and row.at_kink[k] is not None and row.at_kink[k](*point, np.float64(out)) != 0.0)


def is_convention(row, k, point, out, partial, h=1e-6):
    """Whether the value jumps, or the partial is not the difference to either side; None where one side has no value."""
    sides = []
    for sign in (1.0, -1.0):
        moved = list(point)
        moved[k] = np.float64(point[k] + sign * h)
        sides.append(computed(row, moved))
    if any(map(math.isnan, sides)):
        return None
    if max(abs(side - out) for side in sides) > 1e-3:
        return True
    right, left = (sides[0] - out) / h, (out - sides[1]) / h
    return max(abs(right - partial), abs(left - partial)) > 1e-3 * (1.0 + abs(right) + abs(left))


def met(row, wanted):
    """The first point of the grid at which a row has a kink ("kink") or a partial that is not finite ("undefined")."""
    for point in points(row):
        out = computed(row, point)
        found = partials(row, point, out)
        is_undefined = not np.isfinite(found).all()
        if wanted == "undefined" and is_undefined:
            return point
        if wanted == "kink" and not is_undefined and any(says_kink(row, k, point, out) for k in range(row.arity)):
            return point
    return None


SMOOTH_OR_NOT = [row for row in ROWS if row.arity and row.kind != "bool" and row.name not in ("uniform", "root_of_squares")]


@pytest.mark.parametrize("row", SMOOTH_OR_NOT, ids=lambda row: row.name)
def test_a_row_has_a_kink_exactly_where_its_rule_says_so(row):
    """By differences from either side, along each operand, wherever value and partials are finite."""
    for point in points(row):
        out = computed(row, point)
        found = partials(row, point, out)
        if not np.isfinite([out, *found]).all():
            continue
        for k in range(row.arity):
            if row.partials[k] in (None, undefined) and not (row.at_kink and row.at_kink[k]):
                continue
            expected = is_convention(row, k, point, out, found[k])
            assert expected is None or says_kink(row, k, point, out) == expected, f"{row.name}{point} along operand {k}"


@pytest.mark.parametrize("row", [row for row in TABLE.rows if row.kinks], ids=lambda row: row.name)
def test_what_a_row_says_of_its_kinks_in_words_it_says_by_rule(row):
    """By `at_kink`, or by a partial that is not finite; a row is declared above where it is neither."""
    refuses = not row.structural and undefined in row.partials  # operands through which no derivative is recorded at all
    by_rule = bool(row.at_kink) or refuses or met(row, "undefined") is not None
    assert by_rule != (row.name in WITHOUT_A_RULE)


SPECIAL = [(row, wanted) for row in ROWS if row.kinks and undefined not in row.partials for wanted in ("kink", "undefined")
           if met(row, wanted)]


@pytest.mark.parametrize("size", [None, 3])
@pytest.mark.parametrize(("row", "wanted"), SPECIAL, ids=[f"{row.name}-{wanted}" for row, wanted in SPECIAL])
def test_a_report_names_operation_operands_and_line(row, wanted, size):
    """Of every row that has kinks or undefined derivatives, as a number and as the last element of an array."""
    point = met(row, wanted)
    ordinary = [0.5 * (low + high) for low, high in row.domain]
    operands = point if size is None else [np.array([y, y, x]) for x, y in zip(point, ordinary, strict=True)]
    with np.errstate(all="ignore"):
        t, line = tape.record(lambda *args: written(row.name, args), *operands), here()
    place = {place.operation: place for place in (t.report().kinks if wanted == "kink" else t.report().undefined)}[row.name]
    assert (place.operands, place.line) == (tuple(point), line)
    assert (place.count, place.total) == ((1, 1) if size is None else (1, 3))
    assert f"{row.name}(" in str(t.report())


# ---------------------------------------------------------------------- what a report tells


def test_size_guards_and_operations():
    def f(x):
        if x > 1.0:
            x = x * x
        return x + 1.0

    report = tape.record(f, 3.0).report()
    assert report.operations == {"gt": 1, "ne": 1, "guard": 1, "mul": 1, "add": 1}
    assert (report.instructions, report.loops, len(report.guards)) == (5, 0, 1)
    assert report.guards[0].startswith(__file__)
    assert report.cells >= report.slots >= 6
    assert report.bytes > 8 * report.cells
    assert (report.kinks, report.undefined, report.first_nonfinite, report.first_nonfinite_adjoint) == ((), (), None, None)


def test_extremes_that_tie_over_an_axis():
    report = tape.record(lambda x: np.sum(np.max(x, axis=1)), np.array([[1.0, 1.0], [1.0, 2.0]])).report()
    (place,) = report.kinks
    assert (place.operation, place.count, place.total, place.result) == ("amax", 1, 2, 1.0)


def test_what_no_adjoint_reaches_is_not_met():
    """A branch that is not taken, a square of a kink, an argument that is not differentiated."""
    x = np.array([0.0, 1.0])
    assert tape.record(lambda x: np.sum(np.where(x > 0.0, 0.0, np.log(x))), x).report().undefined != ()
    assert tape.record(lambda x: np.sum(np.where(x > 0.0, np.log(x), 0.0)), x).report().undefined == ()
    assert tape.record(lambda x: np.sum(np.abs(x) ** 2), x).report().kinks == ()
    assert tape.record(lambda x: np.floor(2.0) + np.floor(tape.stop_gradient(x)) + x, 2.0).report().kinks == ()


def test_the_seed_decides_what_is_met():
    t = tape.record(lambda x: (np.sqrt(x), x), 0.0)
    assert len(t.report().undefined) == 1
    t.reverse((0.0, 1.0))
    assert t.report().undefined == ()


def test_values_are_those_before_they_were_overwritten():
    """An array that is assigned to, and an argument that is."""
    def f(x):
        y = np.sqrt(x)
        x[1] = 4.0
        return np.sum(y) + np.sum(np.sqrt(x))

    t = tape.record(f, np.array([1.0, 0.0]))
    for _ in range(2):
        (place,) = t.report().undefined
        assert (place.operands, place.count, place.total) == ((0.0,), 1, 2)
        with pytest.warns(tape.UndefinedGradientWarning):
            t.reverse()


def test_first_value_that_is_not_finite():
    def f(x):
        y = np.log(x - 5.0)
        return np.exp(1000.0 * y) + x

    place = tape.record(f, 3.0).report().first_nonfinite
    assert (place.operation, place.operands) == ("log", (-2.0,))
    assert math.isnan(place.result)
    assert tape.record(lambda x: x + math.nan, 3.0).report().first_nonfinite is None  # it was not made here


def test_first_adjoint_that_is_not_finite():
    """Partials that are finite, and whose product is not."""
    place = tape.record(lambda x: 1e200 * (1e200 * x), 1e-300).report().first_nonfinite_adjoint
    assert (place.operation, place.operands) == ("mul", (1e200, 1e-300))
    place = tape.record(lambda x: 1e200 * np.sum(x @ np.full((2, 2), 1e200)), np.full((2, 2), 1e-300)).report()
    assert place.first_nonfinite_adjoint.operation == "matmul"


def scanned(x):
    def step(c, t):
        c = abs(c - t)
        return c + 0.5 * x, np.sqrt(c)

    c, ys = tape.scan(step, x, np.arange(5.0))
    return c + np.sum(ys)


def test_bodies_of_loops_are_looked_at_step_by_step():
    report = tape.record(scanned, 1.0).report()
    assert report.loops == 1
    assert report.kinks == ()
    report = tape.record(scanned, 2.0).report()  # |2 - 0| + 1 = 3, |3 - 1| + 1 = 3, |3 - 2| + 1 = 2, |2 - 3| + 1 = 2
    assert report.kinks == ()
    report = tape.record(scanned, 0.0).report()
    (kink,), (undefined,) = report.kinks, report.undefined
    assert (kink.operation, undefined.operation) == ("abs", "sqrt")
    assert "of the loop at " + __file__ in undefined.step


def test_first_nan_in_a_loop_names_the_step():
    def f(x):
        return tape.fori(0, 5, lambda i, c: np.log(c), x)

    place = tape.record(f, 10.0).report().first_nonfinite
    assert (place.operation, place.step.split()[:2]) == ("log", ["step", "3"])


def lstm_like(x):
    def step(state, u):
        h, c = state
        c = np.tanh(u) * c + np.sin(h)
        h = tape.fori(0, 3, lambda i, v: 0.9 * np.cos(v) + 0.1 * c, h)
        return (h, c), h * c

    (h, _), ys = tape.scan(step, (x, x * x), np.outer(np.arange(1.0, 5.0), np.ones(3)) * 0.1)
    return np.sum(h) + np.sum(ys**2)


def stopped(x):
    return np.sum(tape.while_loop(lambda v: np.sum(v) < 20.0, lambda v: v * 1.3 + x, x))


def assigned(x):
    y = x * 2.0
    y[0] = np.sin(y[1])
    y[0] = y[0] * y[2]
    return np.sum(y * y)


@pytest.mark.parametrize("f", [lstm_like, stopped, assigned], ids=lambda f: f.__name__)
def test_the_walk_computes_the_adjoints_of_the_sweeps(f):
    """Through loops in loops, loops that end by themselves, and assignments: what it tells of them is what they are."""
    x = np.array([0.3, 0.7, 1.1])
    t = tape.record(f, x)
    walk, program = inspection._Walk(), t._program
    values, adjoints = t._initial_values(), np.zeros(len(program.values))
    assert walk.up(program, values)
    program.outputs[0].of(adjoints)[...] = 1.0
    walk.down(program, values, adjoints, np.zeros(len(values), bool))
    np.testing.assert_allclose(program.inputs[0].of(adjoints), tape.grad(f)(x), rtol=1e-12)


# ---------------------------------------------------------------------- strict, and warnings


def root(x):
    return np.sum(np.sqrt(x))


def power(x):
    return np.sum(x**1.5)


def folded(x):
    return np.sum(np.abs(x))


@numba.njit
def jitted_root(x):
    return np.sum(np.sqrt(x))


@numba.njit
def jitted_folded(x):
    return np.sum(np.abs(x))


def backward(f, x):
    x = tape.variable(x, requires_grad=True)
    f(x).backward()


def reversed_tape(f, x):
    tape.record(f, x).reverse()


DERIVATIVES = {
    "grad": lambda f, x: tape.grad(f)(x),
    "value_and_grad": lambda f, x: tape.value_and_grad(f)(x),
    "vjp": lambda f, x: tape.vjp(f, x)[1](1.0),
    "jvp": lambda f, x: tape.jvp(f, (x,), (np.ones_like(x),)),
    "jacobian": lambda f, x: tape.jacobian(f)(x),
    "compiled": lambda f, x: tape.compile(f, x).value_and_grad(x),
    "compiled_jvp": lambda f, x: tape.compile(f, x).jvp((x,), (np.ones_like(x),)),
    "compiled_vjp": lambda f, x: tape.compile(f, x).vjp(x)[1](1.0),
    "eager": backward,
    "reverse": reversed_tape,
}
SECOND = {"hvp": lambda f, x: tape.hvp(f)(x, np.ones_like(x)), "hessian": lambda f, x: tape.hessian(f)(x)}
JITTED = ("grad", "jvp")
X = np.array([4.0, 0.0])


@pytest.mark.parametrize("native", ["1", "0", "always"])
@pytest.mark.parametrize("name", [*DERIVATIVES, *SECOND])
def test_undefined_derivatives_raise_in_strict_and_warn_outside(name, native, monkeypatch):
    monkeypatch.setenv("TAPE_NATIVE", native)
    call, f, text = (SECOND[name], power, r"pow\(0, 0.5\)") if name in SECOND else (DERIVATIVES[name], root, r"sqrt\(0\)")
    for _ in range(2):
        with warnings.catch_warnings(record=True) as given:
            warnings.simplefilter("always")
            call(f, X)
        assert [w.category for w in given] == [tape.UndefinedGradientWarning]
        assert given[0].filename == __file__
        with tape.strict(), pytest.raises(tape.UndefinedGradient, match=text) as error:
            call(f, X)
        assert str(error.value) == str(given[0].message)
        assert f"{__file__}:" in str(error.value)
    with tape.strict(), warnings.catch_warnings(record=True) as given:
        call(f, X + 1.0)
    assert given == []


@pytest.mark.parametrize("name", DERIVATIVES)
def test_kinks_raise_where_that_is_asked_for(name):
    call = DERIVATIVES[name]
    with tape.strict():
        call(folded, X)
    with tape.strict(kinks=True), pytest.raises(tape.UndefinedGradient, match=r"convention here: abs\(0\) at .*the partial"):
        call(folded, X)
    with tape.strict(kinks=True):
        call(folded, X + 1.0)


@pytest.mark.parametrize("name", JITTED)
def test_jitted_functions_in_strict(name):
    call = DERIVATIVES[name]
    call(jitted_root, X)  # no warning: their calls are not looked at
    with tape.strict(), pytest.raises(tape.UndefinedGradient, match=r"sqrt\(0\) at " + re.escape(__file__)):
        call(jitted_root, X)
    with tape.strict(kinks=True), pytest.raises(tape.UndefinedGradient, match=r"abs\(0\) at " + re.escape(__file__)):
        call(jitted_folded, X)
    with tape.strict(kinks=True):
        call(jitted_folded, X + 1.0)
    assert "__call__" not in vars(JittedDerivative)
    call(jitted_root, X)


def test_a_jitted_function_that_cannot_be_recorded_raises_with_less_detail(monkeypatch):
    def refuse(*args):
        raise tape.NotDifferentiable("no list of this function")

    monkeypatch.setattr("tape.jitted.lists.recorded_trace", refuse)
    with tape.strict(), pytest.raises(tape.UndefinedGradient, match="result of jitted_root_grad_0 is not finite"):
        tape.grad(jitted_root)(X)


def test_loops_in_strict_name_the_step():
    def rooted(x):
        return np.sum(tape.scan(lambda c, t: (c + 0.5 * x + 1.0, np.sqrt(c)), x, np.arange(5.0))[1])

    with tape.strict(), pytest.raises(tape.UndefinedGradient, match=r"sqrt\(0\) at .*, in step 0 of the loop at "):
        tape.grad(rooted)(0.0)
    with pytest.warns(tape.UndefinedGradientWarning, match="in step 0 of the loop at "):
        tape.grad(rooted)(0.0)


def test_a_batch_is_strict_sample_by_sample():
    with tape.strict(), pytest.raises(tape.UndefinedGradient, match=r"sqrt\(0\)"):
        tape.batch(tape.grad(np.sqrt))(np.array([1.0, 0.0]))


def test_values_that_are_not_finite_raise_in_strict():
    """The derivative of log at -2 is NaN, as its value is."""
    t = tape.record(np.log, 2.0)
    with pytest.warns(tape.UndefinedGradientWarning, match=r"log\(-2\)"):
        assert math.isnan(tape.grad(np.log)(-2.0))
    for call in (tape.value_and_grad(np.log), tape.compile(np.log, 2.0).value_and_grad, t.forward):
        with tape.strict(), pytest.raises(tape.UndefinedGradient, match=r"log\(-2\) at .*nan"):
            call(-2.0)
    assert math.isnan(t.forward(-2.0))


@pytest.mark.parametrize("name", [*DERIVATIVES, *SECOND])
def test_what_was_not_finite_before_is_no_warning(name):
    """NaN in arguments, and in what the function reads."""
    call = {**DERIVATIVES, **SECOND}[name]
    call(power, np.array([1.0, np.nan]))
    call(lambda x: np.sum(np.array([1.0, np.nan]) * x**2), X)
    with tape.strict(), pytest.raises(tape.UndefinedGradient, match="an argument, seed or tangent holds NaN"):
        call(power, np.array([1.0, np.nan]))
    with tape.strict(), pytest.raises(tape.UndefinedGradient, match="holds NaN"):
        call(lambda x: np.sum(np.array([1.0, np.nan]) * x**2), X)


def test_strict_holds_for_its_thread_and_block_alone():
    inside, seen = threading.Event(), []

    def elsewhere():
        inside.wait()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            seen.extend([tape.grad(root)(X)[1], tape.grad(jitted_root)(X)[1]])

    thread = threading.Thread(target=elsewhere)
    thread.start()
    with tape.strict():
        inside.set()
        thread.join()
        with pytest.raises(tape.UndefinedGradient):
            tape.grad(jitted_root)(X)
    assert np.isinf(seen).tolist() == [True, True]
    assert np.isinf(tape.grad(jitted_root)(X)[1])


def test_a_report_of_other_branches_is_refused():
    t = tape.record(lambda x: x if x > 0.0 else -x, 1.0)
    with pytest.raises(tape.GuardFailed):
        t.forward(-1.0)
    with pytest.raises(tape.GuardFailed, match="record again"):
        t.report()


# ---------------------------------------------------------------------- zero times infinity


@pytest.mark.parametrize("native", ["0", "always"])
@pytest.mark.parametrize(("f", "x", "place"), [
    (lambda x: np.log1p(np.exp(x)), 800.0, r"exp\(800\)"),
    (lambda x: np.sum(np.log(np.sum(np.exp(x)))), np.array([1.0, 900.0]), r"exp\(900\) .*1 of 2 elements"),
    (lambda x: np.log1p(np.expm1(np.square(x))), 30.0, r"expm1\(900\)"),
])
def test_a_derivative_that_is_lost_in_an_infinity_is_said(f, x, place, native, monkeypatch):
    monkeypatch.setenv("TAPE_NATIVE", native)
    with pytest.warns(tape.UndefinedGradientWarning, match="may lack what goes through " + place):
        tape.grad(f)(x)


@pytest.mark.parametrize("native", ["0", "always"])
@pytest.mark.parametrize(("f", "x", "slope"), [
    (lambda x: x**2, 1e200, 2e200),  # the value overflows, the derivative does not
    (lambda x: np.where(x > 0, x, np.inf) * 2.0, -1.0, 0.0),  # an infinity of the user's own
    (lambda x: 1.0 / (1.0 + np.exp(x)), 800.0, 0.0),  # the value is right, and so is the derivative
])
def test_infinities_that_lose_nothing_are_not_said(f, x, slope, native, monkeypatch):
    monkeypatch.setenv("TAPE_NATIVE", native)
    assert tape.grad(f)(x) == slope


@pytest.mark.parametrize(("f", "x", "place"), [
    (lambda x: np.log1p(np.exp(x)), 800.0, r"exp\(800\)"),
    (lambda x: np.sum(np.log(np.sum(np.exp(x)))), np.array([1.0, 900.0]), r"exp\(900\) .*1 of 2 elements"),
])
def test_a_compiled_function_says_it_too(f, x, place):
    c = tape.compile(f, x)
    with pytest.warns(tape.UndefinedGradientWarning, match="may lack what goes through " + place):
        assert np.all(c.value_and_grad(x)[1] == 0.0)
    with pytest.warns(tape.UndefinedGradientWarning, match="may lack what goes through|not finite|not defined"):
        c.jvp((x,), (np.ones_like(x),))


def test_compiled_functions_are_silent_where_nothing_is_lost():
    assert tape.compile(lambda x: x**2, 1.0).value_and_grad(1e200)[1] == 2e200
    assert tape.compile(lambda x: 1.0 / (1.0 + np.exp(x)), 1.0).value_and_grad(800.0)[1] == 0.0
