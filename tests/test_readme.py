"""The README's Python blocks run as written, in order, and print what stands below them; its C program is built and run."""

import pathlib
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

import tape

README = pathlib.Path(__file__).parent.parent / "README.md"


def blocks() -> list[tuple[str, str]]:
    """Language and text of each fenced block."""
    return re.findall(r"```(\w*)\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)


def marked(part) -> str:
    """Text of the fenced block after the comment `part`."""
    (found,) = re.findall(rf"<!-- {part} -->\n```\w*\n(.+?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    return found


def has_compiler() -> bool:
    """Whether C programs can be built as the README does."""
    return shutil.which("cc") is not None and sys.platform != "win32"


def test_python_blocks_run_and_print_what_the_readme_shows(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace, printed = {}, 0
    found = blocks()
    for (language, text), (_, following) in zip(found, [*found[1:], ("", "")], strict=True):
        if language != "python" or (text == marked("export") and not has_compiler()):
            continue
        exec(compile(text, "example.py", "exec"), namespace)
        output = capsys.readouterr().out
        if output:
            # The list's text names the file and line of the example.
            assert re.sub(r"example.py:\d+", "example.py:1", output).strip() == following.strip()
            printed += 1
    assert printed


@pytest.mark.skipif(not has_compiler(), reason="no C compiler called cc on this machine")
def test_the_c_program_is_built_and_prints_what_the_readme_shows(tmp_path):
    def potential(q, k):
        return 0.5 * k * np.sum((q[1:] - q[:-1]) ** 2) + np.sum(np.cos(q))

    tape.compile(potential, np.zeros(4), 2.0).export(tmp_path / "made")
    (tmp_path / "main.c").write_text(marked("program"))
    done = subprocess.run(marked("build"), shell=True, cwd=tmp_path, check=True, capture_output=True, text=True)
    texts = [text for _, text in blocks()]
    assert done.stdout == texts[texts.index(marked("build")) + 1]
    numbers = [float(x) for x in re.findall(r"-?\d+\.\d+", done.stdout)]
    value, gradient = tape.value_and_grad(potential)(np.array([0.0, 1.0, 2.0, 4.0]), 2.0)
    np.testing.assert_allclose(numbers, [value, *gradient], atol=1e-6)


def test_the_two_commands_stand_where_tools_look_for_them():
    for part in ("run", "test"):
        assert marked(part)
