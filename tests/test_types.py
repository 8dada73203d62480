"""The types of the public functions: a program as users write it passes, mistakes are found, and the program runs."""

import inspect
import pathlib
import re
import subprocess
import sys

import pytest
import typed_example

import tape

HERE = pathlib.Path(__file__).parent
EXAMPLE, MISTAKES = HERE / "typed_example.py", HERE / "typed_mistakes.py"


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """The lines of each file in which a strict type checker finds an error."""
    pytest.importorskip("mypy")
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", tmp_path_factory.mktemp("mypy"), EXAMPLE, MISTAKES]
    done = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True)
    errors = re.findall(r"(\w+)\.py:(\d+): error", done.stdout)
    assert errors, f"{done.stdout} {done.stderr}"
    return {path: {int(line) for name, line in errors if name == path.stem} for path in (EXAMPLE, MISTAKES)}


def test_a_program_of_users_has_no_type_errors(found):
    assert found[EXAMPLE] == set()


def test_every_mistake_is_found_and_nothing_else(found):
    lines = MISTAKES.read_text(encoding="utf-8").splitlines()
    assert found[MISTAKES] == {number for number, line in enumerate(lines, 1) if line.endswith("  # mistake")}


def test_the_program_runs():
    for function in (typed_example.gradients, typed_example.matrices, typed_example.lists_and_native_code, typed_example.eager,
                     typed_example.jitted):
        function()


def test_every_public_function_says_what_it_takes_and_gives():
    overloaded = {"checkpoint", "compile", "grad", "hessian", "hvp", "jacobian", "jvp", "operation", "record", "scan",
                  "value_and_grad", "vjp"}
    for name in set(tape.__all__) - overloaded:
        function = getattr(tape, name)
        if inspect.isfunction(function):
            signature = inspect.signature(function)
            hints = [parameter.annotation for parameter in signature.parameters.values()]
            assert inspect.Signature.empty not in [*hints, signature.return_annotation], name
