"""A child that is forked while other threads record or compile works; each program runs in a process of its own."""

import os
import pathlib
import subprocess
import sys

import pytest

import tape

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")

ROOT = pathlib.Path(tape.__file__).parent.parent

FORKING = """
import itertools, os, signal, sys, threading, time, warnings
import numba, numpy as np, tape
warnings.simplefilter("ignore", DeprecationWarning)  # Python's own, of forks beside threads

numbers = itertools.count()

def record():
    n = next(numbers)
    return tape.grad(lambda x: np.sum(np.sin(x * float(n)) * np.exp(-x * x)) + n)(np.linspace(0, 1, 5))

def jitted():
    n = next(numbers)
    return tape.grad(numba.njit(lambda x: np.sin(x * n) * x))(1.0)

def compiled():
    n = next(numbers)
    return tape.compile(lambda x: np.sum(np.cos(x * n)), np.ones(3)).value_and_grad(np.ones(3))

def batch():
    n = next(numbers)
    return tape.batch(tape.grad(lambda x: np.sum(np.cos(x * n))))(np.ones((300_000, 3)))

def strict():
    with tape.strict():
        x = np.zeros(100_000)  # from the pool of large results
        return tape.grad(lambda x: np.sum(x * x))(x)

works = {"record": record, "jitted": jitted, "compiled": compiled, "batch": batch, "strict": strict}
work = works[sys.argv[1]]
known = tape.grad(lambda x: np.sum(x**3))
expected = known(np.ones(4))
work()

def loop():
    while True:
        work()

for _ in range(2):
    threading.Thread(target=loop, daemon=True).start()
for k in range(int(sys.argv[2])):
    time.sleep(0.003 * (k % 7) + 0.01)
    child = os.fork()
    if not child:
        signal.alarm(60)  # ends it where it hangs
        try:
            assert np.array_equal(known(np.ones(4)), expected)
            numbers = itertools.count(1_000_000 + 1000 * k)
            for name in ("record", "compiled", "strict", sys.argv[1]):
                works[name]()
        except BaseException as error:
            print(repr(error), flush=True)
            os._exit(1)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if status:
        print("child", k, "ended with", status, flush=True)
        os._exit(1)
os._exit(0)
"""


def run(program, *arguments, **variables):
    """Run a program in a process of its own; it must end well."""
    variables = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("work", ["record", "jitted", "compiled", "batch", "strict"])
def test_a_child_works_whatever_other_threads_did(work, tmp_path):
    """Recording, compiling in every way, and running in threads: no lock of theirs is needed in the child, or it is free."""
    run(FORKING, work, "3", TAPE_NATIVE="always", TAPE_CACHE_DIR=str(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("work", ["record", "jitted", "compiled", "batch", "strict"])
def test_many_children_work(work, tmp_path):
    """As before, at more moments."""
    run(FORKING, work, "60", TAPE_NATIVE="always", TAPE_CACHE_DIR=str(tmp_path))


THREADED = """
import os, signal
import numpy as np, tape
gradients = tape.batch(tape.grad(lambda x: np.sum(np.cos(x))), threads=2)
x = np.ones((600_000, 3))
expected = gradients(x)
child = os.fork()
if not child:
    signal.alarm(60)
    os._exit(not np.array_equal(gradients(x), expected))
assert os.waitpid(child, 0)[1] == 0
assert np.array_equal(gradients(x), expected)
"""


@pytest.mark.parametrize("layer", ["default", "workqueue"])
def test_a_child_batches_after_its_parent_did_so_in_threads(layer):
    """OpenMP of GNU would end the child that enters it."""
    run(THREADED, NUMBA_THREADING_LAYER=layer, NUMBA_NUM_THREADS="2")
