"""What is compiled and when: nothing at import, nothing for new functions, shapes or data, and never is a stale kernel loaded.

Each test of a first compilation runs in a process of its own, with a cache directory of its own.
"""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
from numba.core import event

import tape
from compiled.table.instructions import TABLE, Table, f

ROOT = pathlib.Path(tape.__file__).parent.parent

COUNTED = """
import json, sys
from numba.core import event
compiled = []
class Counter(event.Listener):
    def on_start(self, event):
        compiled.append(str(event.data["dispatcher"]))
    def on_end(self, event):
        pass
event.register("numba:compile", Counter())
"""
"""Beginning of a program that notes every compilation."""

SMALL_SWEEP = COUNTED + """
import numpy as np
from compiled.sweeps.engine import Engine
from compiled.table.instructions import TABLE, Table
from compiled.table.structural.rows import STRUCTURAL_ROWS
few = Table([TABLE[name] for name in ("zero", "copy", "accumulate", "assign", "add", "mul", "sin")] + list(STRUCTURAL_ROWS[:3]))
if sys.argv[1] == "other":
    few = few.extended(TABLE["neg"])
forward = Engine(few).forward
code, geometry = np.zeros((0, 8), np.int32), np.zeros(1, np.int64)
assert forward(code, geometry, np.zeros(3), 0, 0) == -1
hits, misses = (sum(counts.values()) for counts in (forward.stats.cache_hits, forward.stats.cache_misses))
print(json.dumps({"hits": hits, "misses": misses, "compiled": len(compiled)}))
"""
"""Program that compiles a forward sweep over a few rows, or loads it, and says which."""


def output_of(program, *arguments, cache=None):
    """What a program prints as JSON, run in a process of its own."""
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    if cache is not None:
        variables["NUMBA_CACHE_DIR"] = str(cache)
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


class Compilations(event.Listener):
    """Notes what Numba compiles."""

    def __init__(self):
        self.names = []

    def on_start(self, event):
        """Called where a compilation starts."""
        self.names.append(str(event.data["dispatcher"]))

    def on_end(self, event):
        """Called where it ends."""


def test_import_compiles_nothing(tmp_path):
    """Neither `import tape` nor recording's modules; and no kernel is loaded from disk."""
    program = COUNTED + """
import tape
from compiled.sweeps.engine import BUFFERS, ENGINE
print(json.dumps([len(compiled), sorted(set(BUFFERS) & set(vars(ENGINE)))]))
"""
    count, made = output_of(program, cache=tmp_path)
    assert count == 0
    assert made == []
    assert not list(tmp_path.iterdir())


def test_a_second_process_finds_the_kernels(tmp_path):
    """And for another table it does not."""
    first = output_of(SMALL_SWEEP, "same", cache=tmp_path)
    assert first["hits"] == 0
    assert first["misses"] == 1
    assert first["compiled"] > 0
    assert output_of(SMALL_SWEEP, "same", cache=tmp_path) == {"hits": 1, "misses": 0, "compiled": 0}
    assert output_of(SMALL_SWEEP, "other", cache=tmp_path)["misses"] == 1
    assert output_of(SMALL_SWEEP, "other", cache=tmp_path)["hits"] == 1
    assert output_of(SMALL_SWEEP, "same", cache=tmp_path)["hits"] == 1, "one table's kernels replaced the other's"


def test_the_digest_is_that_of_every_process():
    """It holds no address and no order of a hash."""
    program = "import json; from compiled.table.instructions import TABLE; print(json.dumps(TABLE.digest()))"
    assert {output_of(program), output_of(program), TABLE.digest()} == {TABLE.digest()}


def test_the_digest_changes_with_every_part_of_a_rule():
    """Names, order, constants, operations, captured values, and how a row is emitted."""

    def scaled(factor):
        return lambda x, o: factor * f.cos(x)

    sin = TABLE["sin"]
    changed = [
        {"name": "sine"}, {"value": lambda x: f.sin(x)}, {"partials": (None,)}, {"llvm": "libm:sin"}, {"accumulates": True},
        {"overwrites": True}, {"partials": (lambda x, o: 1.001 * f.cos(x),)}, {"partials": (lambda x, o: 1.002 * f.cos(x),)},
        {"partials": (lambda x, o: f.sin(x),)}, {"partials": (scaled(2.0),)}, {"partials": (scaled(3.0),)},
        {"partials": (lambda x, o: f.cos(x) + o,)}, {"partials": (lambda x, o: o + f.cos(x),)},
    ]
    tables = [Table([dataclasses.replace(sin, **change)]) for change in changed]
    tables += [Table([sin]), Table([sin, TABLE["cos"]]), Table([TABLE["cos"], sin])]
    assert len({table.digest() for table in tables}) == len(tables)


def test_nothing_is_compiled_after_the_first_gradient():
    """Not for new functions, new shapes, new data, or new forms of arrays."""
    tape.grad(lambda x: np.sum(np.sin(x)))(np.ones(3))
    functions = [
        lambda x: np.sum(x * x),
        lambda x: np.sum(np.exp(x[::-1]) @ x.T) if x.ndim > 1 else np.max(x),
        lambda x: np.sum(np.where(x > 0, x, 0) ** 2),
        lambda x: np.sum(x.ravel()[np.array([0, 0])]),
        lambda x: np.prod(np.tanh(x)),
    ]
    listener = Compilations()
    with event.install_listener("numba:compile", listener):
        for function in functions:
            gradient = tape.grad(function)
            for shape in ((2,), (5,), (3, 4), (70, 3)):
                for x in (np.ones(shape), np.full(shape, -0.5), np.asfortranarray(np.ones(shape)), np.ones(shape)[::-1]):
                    assert gradient(x).shape == shape
    assert listener.names == []
