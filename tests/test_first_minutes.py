"""A machine that never saw the library: empty caches, no kernels, nothing installed but the packages it needs."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

LONG = 20.0
"""Seconds for a process that takes one and a half on an idle machine; kernels would take longer than this."""

PROGRAM = """
import json, sys, time, warnings
import numpy as np, numba
begin = time.perf_counter()
import tape

def rosenbrock(x):
    return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)

def branching(x):
    total = 0.0
    for number in x:
        total = total + (np.sin(number) if number > 0.5 else number * number)
    return total

def network(w, x):
    return np.sum(np.tanh(x @ w).max(axis=1) ** 2)

def decided(w):
    hidden = np.ones((3, 4)) @ w
    return np.sum(hidden) if hidden.sum() > 0 else np.prod(hidden)

x, w = np.linspace(-1.0, 1.0, 10), np.cos(np.arange(12.0)).reshape(4, 3)
warnings.simplefilter("ignore")

def eager():
    v = tape.variable(x, requires_grad=True)
    ((v * 2 - 1) ** 2).sum().backward()
    return v.grad

def textbook():
    t = tape.record(rosenbrock, x)
    t.reverse()
    return t.grad_table[t.inputs[0]]

DERIVATIVES = {
    "gradient": lambda: tape.grad(rosenbrock)(x),
    "hvp": lambda: tape.hvp(rosenbrock)(x, x),
    "float32": lambda: tape.grad(rosenbrock)(x.astype(np.float32)),
    "branches": lambda: tape.grad(branching)(x),
    "network": lambda: tape.grad(network)(w, np.ones((5, 4))),
    "decided": lambda: tape.grad(decided)(w),
    "jacobian": lambda: tape.jacobian(lambda x: np.exp(x[1:] * x[:-1]))(x),
    "hessian": lambda: tape.hessian(rosenbrock)(x),
    "vjp": lambda: tape.vjp(rosenbrock, x)[1](2.0)[0],
    "jvp": lambda: tape.jvp(rosenbrock, (x,), (x,))[1],
    "eager": eager,
    "textbook": textbook,
    "nan": lambda: tape.grad(lambda x: np.sum(np.sqrt(x) + np.sort(x)))(x),
    "scan": lambda: tape.grad(lambda x: tape.scan(lambda c, _: (c * np.sin(x[0]) + x[1], c), x[2], length=20)[0])(x),
    "batch": lambda: tape.batch(tape.grad(rosenbrock))(np.stack([x, -x])),
    "in place": lambda: tape.grad(lambda x: in_place(x))(x),
    "report": lambda: [len(str(tape.record(rosenbrock, x).report())) > 0],
}

def in_place(x):
    y = np.zeros_like(x)
    y[::2] = x[::2] ** 2
    y[1:] += x[:-1]
    return np.sum(y * y)

found = {}
for name in sys.argv[1:] or DERIVATIVES:
    found[name] = np.asarray(DERIVATIVES[name](), float).tolist()
seconds = time.perf_counter() - begin
from compiled.sweeps.engine import BUFFERS, engine_of, sweep_of
from compiled.table.instructions import TABLE
compiled = [name for name in BUFFERS if sweep_of(TABLE, name).overloads]
print(json.dumps([found, seconds, compiled]))
"""


def run(cache, *names, **environment):
    """What a new process finds, with the caches in a folder; (results, seconds, compiled kernels) and standard error."""
    away = {"TAPE_CACHE_DIR", "TAPE_NATIVE", "NUMBA_CACHE_DIR"}
    environment = {**{k: v for k, v in os.environ.items() if k not in away}, "NUMBA_CACHE_DIR": str(cache), **environment}
    command = [sys.executable, "-W", "error", "-c", PROGRAM, *names]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return *json.loads(done.stdout), done.stderr


@pytest.fixture(scope="module")
def here():
    """The same in this process, by the sweeps."""
    space = {"__name__": "here"}
    program = PROGRAM.replace("sys.argv[1:] or ", "")
    shown = []
    space["print"] = shown.append
    native = os.environ.get("TAPE_NATIVE")
    os.environ["TAPE_NATIVE"] = "0"
    try:
        exec(program, space)
    finally:
        os.environ.pop("TAPE_NATIVE")
        if native is not None:
            os.environ["TAPE_NATIVE"] = native
    return json.loads(shown[0])[0]


def test_everything_works_at_once(tmp_path, here):
    """Values are those of the sweeps, no kernel is compiled, nothing is said; a second process finds the machine code."""
    found, seconds, compiled, said = run(tmp_path)
    assert compiled == []
    assert said == ""
    assert seconds < LONG
    for name, value in here.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5 if name == "float32" else 1e-12, atol=1e-12, err_msg=name)
    again, _, compiled, said = run(tmp_path)
    assert (again, compiled, said) == (found, [], "")


def test_who_wants_the_sweeps_is_told_what_takes_long(tmp_path):
    """`TAPE_NATIVE=0` compiles their kernels, and says so once."""
    _, _, compiled, said = run(tmp_path, "gradient", TAPE_NATIVE="0")
    assert compiled == ["forward", "reverse"]
    assert said.count("tape: compiling") == 2
    assert "python -m tape build" in said
