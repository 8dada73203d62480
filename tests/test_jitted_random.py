"""Random jitted programs with options drawn: the plain function's values bit for bit, and derivatives by several ways.

Cells that `np.empty` leaves unwritten hold garbage (`MALLOC_PERTURB_`), so the programs run in a process of their own:
`python tests/test_jitted_random.py FIRST LAST` runs the seeds from FIRST to before LAST.
"""

import os
import subprocess
import sys
import time
import traceback

import numpy as np
import pytest
from jitted_random import Drawn
from numba import njit
from test_jitted_programs import direction_like, leaves, product

import tape

ARGNUMS = (0, 1, 2, 3)


def close(got, expected, relative):
    """Agreement relative to the largest component of all."""
    got, expected = leaves(got), leaves(expected)
    scale = max(1.0, *(float(np.max(np.abs(leaf))) for leaf in expected))
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=relative, atol=relative * scale)


def differences(drawn, f, directions):
    """The slope of `f` by central differences, or None where a kink or a jump is near."""
    steps = [(np.asarray(f(*drawn.given(h, directions))) - np.asarray(f(*drawn.given(-h, directions)))) / (2 * h)
             for h in (2e-5, 1e-5)]
    agree = np.all(np.abs(steps[0] - steps[1]) <= 1e-5 * (1.0 + np.max(np.abs(steps[0]))))
    return (4 * steps[1] - steps[0]) / 3 if agree else None


def check_first_order(drawn):
    """Value and gradient by the reverse sweep, against forward, the list of the plain function, and differences."""
    f = drawn.jitted
    expected = f(*drawn.given())
    value, gradient = tape.value_and_grad(f, ARGNUMS)(*drawn.given())
    if drawn.fast:
        np.testing.assert_allclose(value, expected, rtol=1e-11, atol=1e-11)
    else:
        assert value == expected
    if drawn.single or drawn.overlaps:  # the list says little or nothing of those
        close(tape.jacobian(f, ARGNUMS, mode="forward")(*drawn.given()), gradient, 1e-4 if drawn.single else 1e-10)
    if not drawn.overlaps:
        listed, slopes = tape.value_and_grad(drawn.plain, ARGNUMS)(*drawn.given())
        np.testing.assert_allclose(listed, value, rtol=1e-4 if drawn.single else 1e-10, atol=1e-4 if drawn.single else 1e-10)
        close(slopes, gradient, 1e-3 if drawn.single else 1e-9)
    if not drawn.single:
        directions = direction_like(drawn.args[:4], np.random.default_rng(5))
        slope = differences(drawn, f, directions)
        if slope is not None:
            close(product(gradient, directions), slope, 1e-6)
    return gradient


def check_second_order(drawn, gradient):
    """The product of the Hessian with a direction, against differences of the gradient."""
    direction = direction_like(drawn.args[:1], np.random.default_rng(6))
    vector = direction[0].astype(drawn.args[0].dtype)
    got = tape.hvp(drawn.jitted)(*drawn.given(), vector)
    if not drawn.overlaps:
        close(got, tape.hvp(drawn.plain)(*drawn.given(), vector), 1e-2 if drawn.single else 1e-8)
    if not drawn.single:
        slope = differences(drawn, tape.grad(drawn.jitted), (*direction, np.zeros((3, 4)), 0.0, 0.0))
        if slope is not None:
            close(got, slope, 1e-5)


def check_forward(drawn, gradient):
    """The gradient column by column."""
    close(tape.jacobian(drawn.jitted, ARGNUMS, mode="forward")(*drawn.given()), gradient, 1e-4 if drawn.single else 1e-10)


def check_along(drawn, gradient):
    """The tangent along a direction, against the gradient."""
    directions = direction_like(drawn.args[:4], np.random.default_rng(7))
    directions = (directions[0].astype(drawn.args[0].dtype), *directions[1:])
    f, n = drawn.jitted, drawn.args[4]
    called = njit(lambda a, m, x, y: f(a, m, x, y, n))  # all primals of jvp are differentiated, and an index cannot be
    close(tape.jvp(called, drawn.given()[:4], directions)[1], product(gradient, directions), 1e-3 if drawn.single else 1e-9)


def check_batch(drawn, gradient):
    """Samples in a batch, against one by one."""
    random = np.random.default_rng(8)
    samples = [drawn.args[:4], *(tuple(random.normal(size=np.shape(x)).astype(np.asarray(x).dtype) for x in drawn.args[:4])
                                 for _ in range(2))]
    stacked = [np.stack([np.asarray(sample[k]) for sample in samples]) for k in ARGNUMS]
    function = tape.value_and_grad(drawn.jitted, ARGNUMS)
    values, gradients = tape.batch(function, in_axes=(0, 0, 0, 0, None))(*stacked, drawn.args[4])
    for k, sample in enumerate(samples):
        value, gradient = function(*(np.array(x) if np.ndim(x) else float(x) for x in sample), drawn.args[4])
        np.testing.assert_array_equal(values[k], value)
        close(tuple(g[k] for g in gradients), gradient, 1e-5 if drawn.single else 1e-12)


def check_list(drawn, gradient):
    """The list of a jitted function (of float64), swept back."""
    if drawn.single:
        return
    t = tape.record(drawn.jitted, *drawn.given())
    t.reverse()
    close(tuple(t.gradients[:4]), gradient, 1e-3 if drawn.single else 1e-9)


OTHERS = (check_second_order, check_forward, None, check_along, check_list, check_forward, None, check_batch, check_forward,
          None, check_along, None)
"""What else is checked of a seed, in turn: each compiles the program once more, which takes all the time."""


def check(seed):
    drawn = Drawn(seed)
    try:
        gradient = check_first_order(drawn)
        other = OTHERS[seed % len(OTHERS)]
        if other is not None:
            other(drawn, gradient)
    except Exception as error:
        raise AssertionError(f"seed {seed}: {error}\n{drawn.source}") from error


def run(seeds):
    """Check seeds; print what disagrees. Returns the number of those."""
    wrong, start = 0, time.perf_counter()
    for count, seed in enumerate(seeds, 1):
        try:
            check(seed)
        except AssertionError as error:
            wrong += 1
            traceback.print_exception(error.__cause__, limit=-2, chain=False)
            print(error, file=sys.stderr, flush=True)
        print(f"{seed}: {count} programs, {wrong} wrong, {time.perf_counter() - start:.0f} s", flush=True)
    return wrong


@pytest.mark.parametrize("seeds", [range(3), *(pytest.param(range(k, k + 100), marks=pytest.mark.slow)
                                               for k in range(0, 2000, 100))], ids=lambda seeds: f"{seeds[0]} to {seeds[-1]}")
def test_random_programs_with_options(seeds):
    done = subprocess.run([sys.executable, "-W", "error", __file__, str(seeds[0]), str(seeds[-1] + 1)], capture_output=True,
                          text=True, env={**os.environ, "MALLOC_PERTURB_": "165"})
    assert done.returncode == 0, done.stdout[-300:] + done.stderr[-20_000:]


if __name__ == "__main__":
    sys.exit(min(run(range(int(sys.argv[1]), int(sys.argv[2]))), 1))
