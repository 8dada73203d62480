"""From a function to machine code: lists of 500, 10,000 and 100,000 instructions, with nothing on disk."""

import contextlib
import functools
import math
import os
import tempfile

import numpy as np

import tape
from bench.groups import NATIVE
from bench.peers import with_jax_anew
from bench.race import Bound, Race
from bench.workload import Workload

STEP = 0.01
INSTRUCTIONS = 5
"""Of a step."""

LINEAR = 1.5
"""How much an instruction of the longest list may cost, in those of a list a tenth as long."""


def regular(steps):
    """The kinds of the steps: all the same, which the compiler can roll back into a loop."""
    return [0] * steps


def irregular(steps):
    """Kinds without a pattern: every instruction stays."""
    return np.random.default_rng(0).integers(0, 3, steps).tolist()


def chain(np, kinds, q, p):
    """Steps of a bent oscillator, five instructions each."""
    for kind in kinds:
        if kind == 0:
            q = q + STEP * np.sin(p)
            p = p - STEP * q
        elif kind == 1:
            q = q + STEP * p
            p = p - STEP * np.sin(q)
        else:
            p = p - STEP * q * p
            q = q + STEP * p
    return q * p


def _gradient(kinds, q, p):
    """By the tangents of both, marched along."""
    by_q, by_p = np.eye(2)
    for kind in kinds:
        if kind == 0:
            by_q, q = by_q + STEP * math.cos(p) * by_p, q + STEP * math.sin(p)
            by_p, p = by_p - STEP * by_q, p - STEP * q
        elif kind == 1:
            by_q, q = by_q + STEP * by_p, q + STEP * p
            by_p, p = by_p - STEP * math.cos(q) * by_q, p - STEP * math.sin(q)
        else:
            by_p, p = by_p - STEP * (q * by_p + p * by_q), p - STEP * q * p
            by_q, q = by_q + STEP * by_p, q + STEP * p
    return tuple(p * by_q + q * by_p)


@contextlib.contextmanager
def nothing_on_disk():
    """A cache of machine code that is empty, and goes away."""
    before = os.environ.get("TAPE_CACHE_DIR")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TAPE_CACHE_DIR"] = folder
        try:
            yield
        finally:
            del os.environ["TAPE_CACHE_DIR"]
            if before is not None:
                os.environ["TAPE_CACHE_DIR"] = before


def _value(function, *args):
    """Record, compile and call; the value."""
    with nothing_on_disk():
        return tape.compile(function, *args).value(*args)


def _value_and_gradient(function, *args):
    """Record, compile and call; value and gradient."""
    with nothing_on_disk():
        return tape.compile(function, *args, argnums=(0, 1)).value_and_grad(*args)


def _race(kinds, *, gradient, **options):
    args, function = (1.0, 0.5), functools.partial(chain, np, kinds)
    run = functools.partial(_value_and_gradient if gradient else _value, function)
    return Race(function, args, (0, 1), plain=functools.partial(chain, math, kinds), exact=functools.partial(_gradient, kinds),
                derivative=lambda: run, answer=tuple if gradient else (lambda value: (value, None)), **options)


def _jax_value_anew(kinds, args):
    """As of `with_jax_anew`, without the gradient."""

    def prepare():
        from bench.peers import jax

        module = jax()
        return lambda: module.jit(functools.partial(chain, module.numpy, kinds))(*args).block_until_ready()

    return prepare


def _make_short(gradient):
    def make(quick):
        kinds, args = irregular(20 if quick else 100), (1.0, 0.5)
        peer = (with_jax_anew(lambda np, q, p: chain(np, kinds, q, p), args, (0, 1)) if gradient
                else _jax_value_anew(kinds, args))
        return _race(kinds, gradient=gradient, bounds=(Bound(seconds=0.15), Bound("jax", faster=1.0)), peers={"jax": peer})

    return make


def _make_long(kinds_of):
    def make(quick):
        kinds = kinds_of((400 if quick else 100_000) // INSTRUCTIONS)
        short = kinds[: len(kinds) // 10]
        return _race(kinds, gradient=False, once=True, calls=len(kinds) * INSTRUCTIONS,
                     free={"a tenth as long": functools.partial(_value, functools.partial(chain, np, short), 1.0, 0.5)},
                     shares={"a tenth as long": len(short) * INSTRUCTIONS}, bounds=(Bound("a tenth as long", times=LINEAR),))

    return make


WORKLOADS = [
    Workload("native-compile-value", "compiling 500 instructions", _make_short(False), NATIVE),
    Workload("native-compile-gradient", "compiling 500 instructions and their gradient", _make_short(True), NATIVE),
    Workload("native-compile-long", "compiling 100,000 instructions, for each", _make_long(irregular), NATIVE),
    Workload("native-compile-regular", "the same of equal steps, for each", _make_long(regular), NATIVE),
]
