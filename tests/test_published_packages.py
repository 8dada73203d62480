"""Derivatives of the jitted functions of two published packages of engineering formulas, at the numbers of their docstrings.

Skipped where the packages (extra `published`) are not installed. A function is "right", "refused" (an error of ours says why),
"uncallable" (Numba, or the formula at these numbers, cannot compute it), or "rough" (its differences do not converge, so that
they cannot judge); anything else fails. All by default take hours of compiling, so a few of each package run, the rest if slow.
"""

import collections
import doctest
import functools
import importlib
import inspect
import math
import warnings

import numpy as np
import pytest
from numba.core.dispatcher import Dispatcher

import tape

PACKAGES = ("fluids", "chemicals")
STEP = 32
"""Of how many functions one is tried by default."""


def example_calls(name, text):
    """Arguments (lists of floats and whole numbers) of the calls of a function in its docstring."""
    found = []
    for example in doctest.DocTestParser().get_examples(text or ""):
        source = example.source.strip()
        if source.startswith(name + "(") and source.endswith(")"):
            try:
                call = eval(f"(lambda *a, **k: (a, k)){source[len(name):]}", {"np": np, "__builtins__": {}})
            except Exception:  # an argument that an earlier line of the example made
                continue
            found.append(call)
    return found


@functools.cache
def functions(package):
    """[(name, jitted function, arguments)] of those with an example of numbers only."""
    pytest.importorskip(package)
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")
        patch.setenv("NUMBA_FUNCTION_CACHE_SIZE", "0")  # how these packages are told not to keep code on disk
        jitted = importlib.import_module(f"{package}.numba")
    found = []
    for name in sorted(dir(jitted)):
        function = getattr(jitted, name)
        if not isinstance(function, Dispatcher):
            continue
        signature = inspect.signature(function.py_func)
        for args, kws in example_calls(name, function.py_func.__doc__):
            try:
                bound = signature.bind(*args, **kws)
            except TypeError:
                continue
            bound.apply_defaults()
            values = bound.args
            if any(type(x) is float for x in values) and all(type(x) in (float, int, bool, str, type(None)) for x in values):
                found.append((name, function, values))
                break
    if not found:
        pytest.skip(f"{package}.numba shows no jitted functions here")
    return found


def quotient(f, args, k):
    """(derivative by differences extrapolated three times, how far the last two extrapolations are apart)."""
    step = 1e-3 * max(abs(args[k]), 1e-3)

    def difference(h):
        up, down = (f(*args[:k], args[k] + s, *args[k + 1:]) for s in (h, -h))
        return (up - down) / (2 * h)

    rows = [[difference(step / 2**i)] for i in range(4)]
    for i in range(1, 4):
        for j in range(i):
            rows[i].append(rows[i][j] + (rows[i][j] - rows[i - 1][j]) / (4 ** (j + 1) - 1))
    return rows[3][3], abs(rows[3][3] - rows[2][2])


def is_one_sided(f, args, k, slope):
    """Whether the formula has a kink here (differences give the mean of two slopes) and `slope` is one of the two."""
    step = 1e-6 * max(abs(args[k]), 1e-3)
    value, up, down = f(*args), *(f(*args[:k], args[k] + s, *args[k + 1:]) for s in (step, -step))
    right, left = (up - value) / step, (value - down) / step
    size = max(abs(right), abs(left))
    return abs(right - left) > 0.01 * size and min(abs(slope - right), abs(slope - left)) <= 1e-4 * size


def outcome(f, args):
    """What became of a function: a word, and for "wrong" what it is about."""
    try:
        value = f(*args)
        if type(value) is not float or not math.isfinite(value):
            return "uncallable", "no finite float"
    except Exception as error:
        return "uncallable", str(error)[:200]
    numbers = tuple(k for k, x in enumerate(args) if type(x) is float)
    try:
        got, gradient = tape.value_and_grad(f, numbers)(*args)
    except tape.TapeError as error:
        return "refused", str(error)[:200]
    # Fast-math code computes what it computes to a few rounding errors; see the README.
    exact = not f.targetoptions.get("fastmath")
    if not (got == value if exact else math.isclose(got, value, rel_tol=1e-11)):
        return "wrong", f"value {got}, expected {value}"
    rough = False
    for k, slope in zip(numbers, gradient, strict=True):
        try:
            expected, spread = quotient(f, args, k)
        except Exception:
            rough = True
            continue
        size = abs(value) / max(abs(args[k]), 1e-3)
        if not spread <= 1e-4 * max(abs(expected), 1e-4 * size):
            rough = True
        elif is_one_sided(f, args, k, slope):
            continue
        elif not abs(slope - expected) <= 10 * spread + 1e-6 * abs(expected) + 1e-9 * size:
            return "wrong", f"argument {k}: {slope}, expected {expected} within {spread}"
    return ("rough" if rough else "right"), ""


def sweep(package, chosen):
    """Outcomes of the chosen functions, counted; wrong ones fail."""
    counts, wrong = collections.Counter(), []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the packages, and of what compiles slowly
        for name, f, args in functions(package)[chosen]:
            word, why = outcome(f, args)
            counts[word] += 1
            if word == "wrong":
                wrong.append(f"{package}.{name}{args}: {why}")
    assert not wrong, "\n".join(wrong)
    return counts


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
