"""`import tape` itself: names load when they are used, and the three places that say which there are agree."""

import ast
import inspect
import subprocess
import sys

import pytest

import tape

HEAVY = ("scipy.special", "scipy.sparse", "matplotlib", "compiled.active.statements", "tape.draw", "tape.tapes")


def test_importing_takes_nothing_along():
    """A gradient of NumPy code loads neither SciPy's parts, nor drawing, nor what differentiates jitted functions."""
    program = f"""
import sys, numpy as np, tape
light = [m for m in sys.modules if m.startswith(("tape.", "compiled"))]
tape.grad(lambda x: np.sum(np.exp(x) * x))(np.ones((3, 3)))
print(light, [m for m in {HEAVY} if m in sys.modules])
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] []"


def test_the_places_of_names_agree():
    """What type checkers read, `__all__`, and what is loaded at run time."""
    tree = ast.parse(inspect.getsource(tape))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.name: node.module for node in block.body for alias in node.names}
    assert seen.pop("scipy") == seen.pop("dask") == "tape"
    assert seen == {name: f"tape.{module}" for name, module in tape._MODULE_OF.items()}
    assert sorted(tape.__all__) == sorted(["__version__", "dask", "scipy", *seen])
    for name in tape.__all__:
        assert getattr(tape, name) is not None
    assert set(tape.__all__) <= set(dir(tape))


def test_a_name_that_is_not_there():
    with pytest.raises(AttributeError, match="module 'tape' has no attribute 'gradient'"):
        tape.gradient  # noqa: B018


def test_numba_may_be_the_first_to_ask():
    """A jitted function that names `tape.vjp`, which nobody has loaded when Numba types it."""
    program = """
import numpy as np, tape
from numba import njit

@njit
def square(x):
    return x * x

@njit
def twice(x):
    value, pull = tape.vjp(square, x)
    return pull(1.0)[0]

print(twice(3.0))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "6.0", done.stderr
