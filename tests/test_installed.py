"""What is installed: two packages, typed, with their pages, under one version; and that a gradient runs from there."""

import importlib.metadata
import os
import pathlib
import pickle
import re
import shutil
import subprocess
import sys
import venv
import zipfile

import pytest

import compiled.errors
import tape
import tape.errors
from tape.__main__ import main, pages

ROOT = pathlib.Path(__file__).parent.parent

JITTED = """
import numpy as np, tape
from numba import njit
print(tape.__file__)
print(tape.grad(njit(lambda x: x[0] ** 2 + x[1] ** 2))(np.array([1.0, 2.0])))
"""
"""Needs no kernels, which compile anew where the code stands elsewhere: that takes up to a minute."""

TRACED = """
import numpy as np, tape
print(tape.__file__)
print(tape.grad(lambda x: np.sum(x**2))(np.array([1.0, 2.0])))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of the project as it stands, built from a copy so that nothing built before gets into it."""
    folder = tmp_path_factory.mktemp("wheel")
    ignored = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT, folder / "copy", ignore=ignored)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder, folder / "copy"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no wheel can be built here: {done.stderr[-300:]}")
    (made,) = folder.glob("*.whl")
    return made


def test_a_wheel_holds_two_packages_that_are_typed_and_their_pages(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (metadata,) = (archive.read(name).decode() for name in names if name.endswith(".dist-info/METADATA"))
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"tape", "compiled"}
    assert {"tape/py.typed", "compiled/py.typed", "tape/SUPPORTED.md"} <= names
    assert {path.name for path in pages().values()} <= {name.split("/")[-1] for name in names if name.startswith("tape/docs/")}
    assert f"\nVersion: {tape.__version__}\n" in metadata
    code = {path.relative_to(ROOT).as_posix() for package in ("tape", "compiled") for path in (ROOT / package).rglob("*.py")}
    assert code <= names


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A function that runs Python with the wheel's packages and without the project's folder; returns what it printed."""
    target = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", target, wheel]
    subprocess.run(command, check=True, capture_output=True)

    def run(*arguments):
        environment = {**os.environ, "PYTHONPATH": str(target)}
        done = subprocess.run([sys.executable, *arguments], cwd=target.parent, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert str(target) in done.stdout
        return done.stdout

    return run


@pytest.mark.parametrize("program", [JITTED, pytest.param(TRACED, marks=pytest.mark.slow)])
def test_a_gradient_runs_from_an_installed_wheel(installed, program):
    assert installed("-c", program).splitlines()[-1] == "[2. 4.]"


def test_the_pages_of_an_installed_wheel_are_listed(installed):
    assert set(pages()) <= set(installed("-m", "tape", "docs").split())


def test_uninstalling_leaves_nothing(wheel, tmp_path):
    """Of the files that were installed; what was compiled beside them since is the cache's, see the page on limits."""
    venv.create(tmp_path / "venv", with_pip=False)
    (python,) = [path for path in (tmp_path / "venv").glob("*/python*") if path.stem == "python"]
    pip = [sys.executable, "-m", "pip", "--python", python]
    apart = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}  # where the project may be as it is

    def files():
        return {path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file() or path.is_dir()}

    before = files()
    subprocess.run([*pip, "install", "-q", "--no-deps", "--no-index", wheel], check=True, capture_output=True, env=apart)
    assert any(path.name == "tape" for path in files() - before)
    subprocess.run([*pip, "uninstall", "-q", "-y", "wengert"], check=True, capture_output=True, env=apart)
    assert files() == before


def test_the_version_stands_in_one_place():
    assert re.fullmatch(r"\d+\.\d+\.\d+", tape.__version__)
    assert "version = attr: tape.__version__\n" in (ROOT / "setup.cfg").read_text(encoding="utf-8")
    texts = {name: (ROOT / name).read_text(encoding="utf-8") for name in ("setup.cfg", "setup.py", "README.md")}
    assert not [name for name, text in texts.items() if tape.__version__ in text]
    try:
        installed = importlib.metadata.version("wengert")
    except importlib.metadata.PackageNotFoundError:
        return
    assert installed == tape.__version__


def test_errors_are_called_what_users_call_them():
    for module in (tape.errors, compiled.errors):
        for name, kind in vars(module).items():
            if isinstance(kind, type) and issubclass(kind, (tape.TapeError, Warning)):
                assert (kind.__module__, kind.__name__) == ("tape", name)
                assert getattr(tape, name) is kind
                assert pickle.loads(pickle.dumps(kind)) is kind


def test_dir_shows_the_public_names():
    shown = {name for name in dir(tape) if not name.startswith("__")}
    assert shown == {name for name in tape.__all__ if not name.startswith("__")}
    assert "grad" in shown
    assert "recording" not in shown


def test_pages_are_printed(capsys):
    main(["docs"])
    listed = capsys.readouterr().out
    for name, path in pages().items():
        assert name in listed
        main(["docs", name])
        assert capsys.readouterr().out == path.read_text(encoding="utf-8")
    with pytest.raises(SystemExit):
        main(["docs", "nothing"])
    assert "expected one of the pages" in capsys.readouterr().err
    main(["supported"])
    assert "numpy.absolute" in capsys.readouterr().out
