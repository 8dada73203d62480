"""Where compiled code is kept: without a place everything works, with one warning; others' code is not loaded.

Each program runs in a process of its own, as a user without rights where the tests are root's.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import numba
import pytest
from test_cache import SMALL_SWEEP

import tape

pytestmark = pytest.mark.skipif(os.name != "posix", reason="users and rights of POSIX")

ROOT = pathlib.Path(tape.__file__).parent.parent
NOBODY = 65534

EVERYTHING = """
import numpy as np, numba, tape

def f(x):
    return np.sum(np.sin(x) * x)

x, expected = np.ones(3), np.full(3, np.sin(1) + np.cos(1))
assert np.allclose(tape.grad(f)(x), expected)
assert np.allclose(tape.grad(numba.njit(f))(x), expected)
assert np.allclose(tape.compile(f, x).value_and_grad(x)[1], expected)
assert np.allclose(tape.batch(tape.grad(f))(np.ones((100, 3))), expected)
"""


def run(program, *arguments, user=None, python=sys.executable, **variables):
    """Run a program with no variables but these; returns what it prints, and its errors."""
    command = [python, "-c", program, *arguments]
    rights = {} if user is None else {"user": user, "group": user, "extra_groups": []}
    done = subprocess.run(command, env={"PATH": os.defpath, "OPENBLAS_NUM_THREADS": "1", **variables}, capture_output=True,
                          text=True, check=False, cwd="/", **rights)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


@pytest.fixture
def place():
    """A folder that every user can read, with the packages; nobody can write there but its owner."""
    folder = pathlib.Path(tempfile.mkdtemp())
    for package in ("tape", "compiled"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    yield folder
    for path in (folder, *folder.rglob("*")):
        if path.is_dir():
            path.chmod(0o755)
    shutil.rmtree(folder)


def python_of(user, variables):
    """A Python of this version that a user can run, as this one may be in a closed folder; None where there is none."""
    version = "python{}.{}".format(*sys.version_info)
    for python in (sys.executable, shutil.which(version, path=os.defpath)):
        try:
            run("import numba, llvmlite, scipy, optree", user=user, python=python, **variables)
            return python
        except (AssertionError, OSError, TypeError):
            continue
    return None


@pytest.mark.parametrize("variables", [
    {}, pytest.param({"HOME": "/nonexistent", "TAPE_CACHE_DIR": "/proc", "TAPE_NATIVE": "always"}, marks=pytest.mark.slow),
])
def test_without_any_place(place, variables):
    """As a user who can write nowhere: HOME, the packages' own folders and TAPE_CACHE_DIR are closed."""
    user = NOBODY if os.geteuid() == 0 else None
    home = {} if user is not None else {"HOME": "/nonexistent"}  # of one with a home the password file tells it
    installed = pathlib.Path(numba.__file__).parent.parent
    variables = {"PYTHONPATH": f"{place}{os.pathsep}{installed}", **home, **variables}
    python = python_of(user, variables)
    if python is None:
        pytest.skip("a user without rights cannot run this version of Python")
    _, errors = run(EVERYTHING, user=user, python=python, **variables)
    assert errors.count("Warning") == 1, errors
    assert "compiled code is not kept on disk" in errors
    assert "Traceback" not in errors


def sweep(cache, **variables):
    """Cache hits of a small sweep in a process of its own, and its errors but for the line that says that it compiles."""
    variables = {"PYTHONPATH": str(ROOT), "NUMBA_CACHE_DIR": str(cache), "HOME": "/nonexistent", **variables}
    output, errors = run(SMALL_SWEEP, "same", **variables)
    errors = "".join(line for line in errors.splitlines(keepends=True) if not line.startswith("tape: compiling"))
    return '"hits": 1' in output, errors


def test_code_in_a_folder_where_others_write_is_not_loaded(tmp_path):
    """Kernels, which Numba's cache holds; it would read whatever is there."""
    assert sweep(tmp_path) == (False, "")
    assert sweep(tmp_path) == (True, "")
    (folder,) = (path for path in tmp_path.iterdir() if path.name.startswith("sweeps"))
    folder.chmod(0o777)
    hit, errors = sweep(tmp_path)
    assert not hit
    assert errors.count("Warning") == 1
    assert f"others can write to {folder}" in errors
    folder.chmod(0o755)
    assert sweep(tmp_path) == (True, "")
    for file in folder.glob("*.nbc"):
        file.chmod(0o666)
    hit, errors = sweep(tmp_path)
    assert not hit
    assert errors.count("Warning") == 1


@pytest.mark.skipif(os.name == "posix" and os.geteuid() != 0, reason="only root can give files away")
def test_code_of_another_owner_is_not_loaded(tmp_path):
    """Neither a folder's nor a file's."""
    assert sweep(tmp_path) == (False, "")
    (folder,) = (path for path in tmp_path.iterdir() if path.name.startswith("sweeps"))
    for path in (folder, *folder.glob("*.nbi")):
        os.chown(path, NOBODY, NOBODY)
        hit, errors = sweep(tmp_path)
        assert not hit
        assert errors.count("Warning") == 1
        os.chown(path, 0, 0)
    assert sweep(tmp_path) == (True, "")


def test_a_damaged_file_is_written_anew(tmp_path):
    """Not whole, or with something else in it."""
    assert sweep(tmp_path) == (False, "")
    (folder,) = (path for path in tmp_path.iterdir() if path.name.startswith("sweeps"))
    for pattern, content in (("*.nbi", b"nonsense"), ("*.nbc", b"")):
        for file in folder.glob(pattern):
            file.write_bytes(content)
        assert sweep(tmp_path) == (False, "")
        assert sweep(tmp_path) == (True, "")
