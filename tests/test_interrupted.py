"""An exception while something compiles for the first time is that exception, and the next call works.

Each program runs in a process of its own.
"""

import os
import pathlib
import subprocess
import sys

import pytest

import tape

ROOT = pathlib.Path(tape.__file__).parent.parent

HEAD = """
import os, signal, sys
import numba, numpy as np, tape
from numba.core.caching import NullCache

class Interruption(BaseException if sys.argv[2] == "base" else ZeroDivisionError if sys.argv[2] == "zero" else KeyError):
    pass

def sweeps():
    from compiled.sweeps.engine import Engine, sweep_of
    from compiled.table.instructions import TABLE, Table
    from compiled.table.structural.rows import STRUCTURAL_ROWS
    few = [TABLE[name] for name in ("zero", "copy", "accumulate", "assign", "add", "mul", "sin")]
    engine = Engine(Table(few + list(STRUCTURAL_ROWS[:3])))
    def run():
        forward = sweep_of(engine.table, "forward")
        forward._cache = NullCache()
        engine.compile("forward")
        assert forward(np.zeros((0, 8), np.int32), np.zeros(1, np.int64), np.zeros(3), 0, 0) == -1
    return run

def jitted():
    gradient = tape.grad(numba.njit(lambda x, y: np.sum(np.sin(x) * x) + y))
    def run():
        assert np.allclose(gradient(np.ones(3), 2.0), np.sin(1) + np.cos(1))
    return run

def native():
    gradient = tape.grad(lambda x: np.sum(np.sin(x) * x))
    def run():
        assert np.allclose(gradient(np.ones(3)), np.sin(1) + np.cos(1))
    return run

made = {"sweeps": sweeps, "jitted": jitted, "native": native}[sys.argv[1]]

def check(run):
    try:
        run()
    except Interruption:
        pass
    else:
        raise AssertionError("the exception was lost")
    sys.setprofile(None)
    run()
    made()()
"""

IN_NUMBA = HEAD + """
# A signal while Numba loads what it compiles with, on the first call in the process.
from numba.core.cpu import CPUContext
load = CPUContext.load_additional_registries

def loading(self):
    CPUContext.load_additional_registries = load
    os.kill(os.getpid(), signal.SIGUSR1)
    load(self)

def handler(number, frame):
    raise Interruption

signal.signal(signal.SIGUSR1, handler)
CPUContext.load_additional_registries = loading
check(made())
"""

IN_OURS = HEAD + """
# As if a function of the project's had raised, at several moments of a first compilation.
root = os.path.dirname(os.path.dirname(tape.__file__))
count, stop = 0, None

def profile(frame, what, argument):
    global count
    if what == "call" and frame.f_code.co_filename.startswith(root):
        count += 1
        if count == stop:
            raise Interruption(frame.f_code.co_qualname if sys.version_info >= (3, 11) else "")

for _ in range(2):  # the second time what all share is there
    run, count = made(), 0
    sys.setprofile(profile)
    run()
    sys.setprofile(None)
total = count
for share in np.linspace(0.0, 0.999, int(sys.argv[3])):
    run = made()
    count, stop = 0, 1 + int(share * total * 0.9)
    sys.setprofile(profile)
    check(run)
"""


def run(program, *arguments, **variables):
    """Run a program in a process of its own; it must end well."""
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT), **variables}, capture_output=True, text=True,
                          check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="signals of POSIX")
@pytest.mark.parametrize("kind", ["sweeps", "jitted", "native"])
def test_a_signal_while_numba_loads(kind):
    """Numba would be left without half of what it knows for the rest of the process."""
    run(IN_NUMBA, kind, "base", TAPE_NATIVE="always", TAPE_CACHE_DIR=os.devnull)


@pytest.mark.parametrize(("kind", "error"), [("sweeps", "zero"), ("jitted", "base"), ("native", "key")])
def test_an_exception_while_something_compiles(kind, error):
    """Of whatever kind it is, wherever it comes from."""
    run(IN_OURS, kind, error, "2" if kind != "native" else "8", TAPE_NATIVE="always", TAPE_CACHE_DIR=os.devnull)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sweeps", "jitted", "native"])
@pytest.mark.parametrize("error", ["base", "zero", "key"])
def test_an_exception_at_many_moments(kind, error):
    """As before."""
    run(IN_OURS, kind, error, "30" if kind != "native" else "200", TAPE_NATIVE="always", TAPE_CACHE_DIR=os.devnull)
