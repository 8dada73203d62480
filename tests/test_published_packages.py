"""Derivatives of the jitted functions of two published packages of engineering formulas, at the numbers of their docstrings.

Skipped where the packages (extra `published`) are not installed. What is called, and with what, is in `published`; the judge is
`dual_numbers`, and where those know no rule, differences. The outcome of a call is

- "right";
- "kink": right, and the slopes on the two sides differ (or the value jumps); at a comparison of equals either side's slope is
  right, elsewhere only that of the branch that was taken;
- "rough": dual numbers cannot run it and its differences do not converge, so that nothing judges it;
- "refused": an error of ours says why;
- "uncallable": Numba, or the formula at these numbers, cannot compute it, or its result has no floats;

and anything else is "wrong" and fails. All take hours of compiling, so a few of each package run by default, the rest if slow.
"""

import collections
import copy
import functools
import math
import warnings

import dual_numbers
import numpy as np
import pytest
from numba import njit
from published import TooLong, floats_of, jitted_functions, recorded_calls, scalar, time_limit

import tape

PACKAGES = ("fluids", "chemicals")
STEP = 64
"""Of how many functions one is tried by default."""

CELLS = 6
"""Along how many of the numbers in arrays differences judge."""


@functools.cache
def functions(package):
    """[(name, jitted function, [arguments of a call, ...])] of those of which calls are known; all calls of the same types."""
    for name in PACKAGES:
        pytest.importorskip(name)
    calls, found = recorded_calls(PACKAGES), []
    for key, function in sorted(jitted_functions(package).items()):
        several = [args for args in calls.get(key, ()) if floats_of(args)]
        if several:
            found.append((".".join(key), function, [args for args in several if kinds(args) == kinds(several[0])]))
    return found


def kinds(args):
    """What decides for which types a call compiles."""
    return [(x.dtype, x.ndim) if isinstance(x, np.ndarray) else kinds(x) if isinstance(x, tuple) else type(x) for x in args]


class Along:
    """A function of the change of one number of its arguments."""

    def __init__(self, f, args, k, place):
        self._f, self._args, self._k, self._place = f, args, k, place
        self.start = float(args[k][place]) if isinstance(args[k], np.ndarray) else args[k]

    def __call__(self, change):
        args = copy.deepcopy(list(self._args))
        if isinstance(args[self._k], np.ndarray):
            args[self._k][self._place] += change
        else:
            args[self._k] += change
        return self._f(*args)

    def quotient(self, step):
        """(derivative by differences extrapolated three times, how far the last two extrapolations are apart)."""
        step *= max(abs(self.start), 1e-3)
        rows = [[(self(step / 2**i) - self(-step / 2**i)) / (2 * step / 2**i)] for i in range(4)]
        for i in range(1, 4):
            for j in range(i):
                rows[i].append(rows[i][j] + (rows[i][j] - rows[i - 1][j]) / (4 ** (j + 1) - 1))
        return rows[3][3], abs(rows[3][3] - rows[2][2])

    def best_quotient(self):
        """The quotient, of several steps, whose extrapolations are nearest."""
        made = []
        for step in (1e-1, 1e-2, 1e-3, 1e-4):
            try:
                made.append(self.quotient(step))
            except Exception:  # the numbers on one side are outside the formula
                continue
        made = [(slope, spread) for slope, spread in made if math.isfinite(spread)]
        return min(made, key=lambda pair: pair[1], default=(math.nan, math.inf))

    def sides(self):
        """Slopes on the right and on the left, by steps so small that only kinks make them differ."""
        step = 1e-6 * max(abs(self.start), 1e-3)
        value = self(0.0)
        return (self(step) - value) / step, (value - self(-step)) / step

    def has_kink(self):
        """Whether the slopes on the two sides differ by more than rounding and curvature make them."""
        try:
            right, left = self.sides()
        except Exception:  # the end of what the formula covers
            return False
        return abs(right - left) > 0.01 * max(abs(right), abs(left))


def numbers_in(args, numbers):
    """[(argument, place in it)] of all numbers in the order of the flat gradient."""
    return [(k, place) for k in numbers for place in (np.ndindex(args[k].shape) if isinstance(args[k], np.ndarray) else [()])]


def near(a, b, relative, absolute):
    return (a == b) or abs(a - b) <= relative * abs(b) + absolute or (math.isnan(a) and math.isnan(b))


def outcome(f, args):
    """What became of a call: a word, and what is to be said of it."""
    numbers = floats_of(args)
    try:
        value = f(*copy.deepcopy(args))
        if type(value) is not float or not math.isfinite(value):
            return "uncallable", f"the value is {value}"
    except Exception as error:
        return "uncallable", f"{type(error).__name__}: {error}"[:300]
    try:
        got, gradient = tape.value_and_grad(f, numbers)(*copy.deepcopy(args))
    except tape.TapeError as error:
        return "refused", str(error)[:600]
    slopes = np.concatenate([np.ravel(part) for part in gradient])
    places = numbers_in(args, numbers)
    if len(slopes) != len(places):
        return "wrong", f"{len(slopes)} derivatives, expected {len(places)}"
    try:
        with time_limit(20):
            expected, exact, ties = dual_numbers.derivatives(f, copy.deepcopy(args), numbers)
        judged = near(expected, got, 1e-7, 0.0)
        why = "" if judged else f"by dual numbers {expected}, not {got}"
    except (Exception, TooLong) as error:
        judged, ties, why = False, False, f"{type(error).__name__}: {error}"[:200]
    # Fast-math code computes what it computes to a few rounding errors of its arguments; see docs/limits.md.
    allowed = 1e-10 * abs(value) + 1e-12 * sum(abs(d * Along(f, args, *at).start) for d, at in zip(slopes, places, strict=True))
    if not abs(got - value) <= allowed:
        if judged:
            return "uncallable", f"its flags make it {value}, without them it is {got}"
        return "wrong", f"value {got}, expected {value} {why}"
    if not judged:
        exact = np.full(len(places), math.nan)
    words = collections.Counter()
    for cell, (slope, (k, place)) in enumerate(zip(slopes, places, strict=True)):
        along = Along(f, args, k, place)
        size = abs(value) / max(abs(along.start), 1e-3)
        if judged and near(slope, exact[cell], 1e-8, 1e-11 * size):
            words["kink" if cell < CELLS and along.has_kink() else "right"] += 1
            continue
        if not judged and cell >= CELLS:
            continue
        slope_there, spread = along.best_quotient()
        if spread <= 1e-4 * max(abs(slope_there), 1e-4 * size) and near(slope, slope_there, 1e-6, 10 * spread + 1e-9 * size):
            words["right"] += 1
        elif judged and ties and any(near(slope, side, 1e-4, 1e-7 * size) for side in along.sides()):
            words["kink"] += 1
        elif not judged and (not spread <= 1e-4 * max(abs(slope_there), 1e-4 * size) or along.has_kink()):
            words["rough"] += 1
        else:
            return "wrong", (f"argument {k}{place or ''}: {slope}, expected {exact[cell]} by dual numbers {why}, "
                             f"{slope_there} within {spread} by differences")
    word = "rough" if words["rough"] else "kink" if words["kink"] else "right"
    return word, why


def outcomes(function, calls):
    """[(word, what is to be said)] of the calls of a function."""
    try:
        result = function(*copy.deepcopy(calls[0]))
    except Exception as error:
        return [("uncallable", f"{type(error).__name__}: {error}"[:300])] * len(calls)
    f = scalar(function, result)
    if f is None:
        return [("uncallable", f"the result is {type(result).__name__}")] * len(calls)
    return [outcome(f, args) for args in calls]


def sweep(package, chosen):
    """Outcomes of the calls of the chosen functions, counted; wrong ones fail."""
    counts, wrong = collections.Counter(), []
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # of the packages, and of what compiles slowly
        for name, f, calls in functions(package)[chosen]:
            for args, (word, why) in zip(calls, outcomes(f, calls), strict=True):
                counts[word] += 1
                if word == "wrong":
                    wrong.append(f"{name}{args}: {why}")
    assert not wrong, "\n".join(wrong)
    return counts


@njit
def _solved(x, table):
    root = 1.0
    while abs(root * root - x) > 1e-3:
        root = 0.5 * (root + x / root)
    return min(root, 2.0) * table[1] + (0.0 if x < 3.0 else x)


def test_the_judge():
    table = np.array([1.0, 2.0])
    for x in (1.7, 3.0, 3.5, 5.0):
        value, slopes, ties = dual_numbers.derivatives(_solved, (x, table), (0, 1))
        got, (slope, of_table) = tape.value_and_grad(_solved, (0, 1))(x, table)
        assert got == value
        np.testing.assert_allclose([slope, *of_table], slopes, rtol=1e-14)
        assert ties == (x == 3.0)
        assert outcome(_solved, (x, table)) == ("kink" if x == 3.0 else "right", "")


def test_the_judge_finds_wrong_gradients(monkeypatch):
    right = tape.value_and_grad(_solved, (0, 1))

    def slightly_wrong(*args):
        value, (slope, of_table) = right(*args)
        return value, (slope * (1 + 1e-5), of_table)

    monkeypatch.setattr(tape, "value_and_grad", lambda *_: slightly_wrong)
    assert outcome(_solved, (1.7, np.array([1.0, 2.0])))[0] == "wrong"


@pytest.mark.parametrize("package", PACKAGES)
def test_some_published_functions(package):
    counts = sweep(package, slice(None, None, STEP))
    assert counts["right"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("start", range(1, STEP))
@pytest.mark.parametrize("package", PACKAGES)
def test_published_functions(package, start):
    counts = sweep(package, slice(start, None, STEP))
    print(package, start, dict(counts))
