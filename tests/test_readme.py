"""The Python blocks of the README and of the pages in docs/ run as written, in order, and print what stands below them.

The guide's C program is built and run, and the pages refer to what is there.
"""

import importlib.util
import pathlib
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

import tape

ROOT = pathlib.Path(__file__).parent.parent
README, GUIDE, TRAINING = ROOT / "README.md", ROOT / "docs" / "guide.md", ROOT / "docs" / "training.md"
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page) -> list[tuple[str, str]]:
    """Language and text of each fenced block."""
    return re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def marked(page, part) -> str:
    """Text of the fenced block after the comment `part`."""
    (found,) = re.findall(rf"<!-- {part} -->\n```\w*\n(.+?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return found


def has_compiler() -> bool:
    """Whether C programs can be built as the guide does."""
    return shutil.which("cc") is not None and sys.platform != "win32"


def left_out() -> list[tuple]:
    """Page and text of the blocks that need what is not on this machine."""
    blocks = [(GUIDE, marked(GUIDE, "export"))] if not has_compiler() else []
    return [*blocks, (TRAINING, marked(TRAINING, "optax"))] if importlib.util.find_spec("optax") is None else blocks


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_python_blocks_run_and_print_what_the_page_shows(page, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if page.stem == "dask":
        pytest.importorskip("distributed")
    namespace = {}
    found = blocks(page)
    for (language, text), (_, following) in zip(found, [*found, ("", "")][1:], strict=True):
        if language != "python" or (page, text) in left_out():
            continue
        exec(compile(text, "example.py", "exec"), namespace)
        output = capsys.readouterr().out
        if output:
            # The list's text names the file and line of the example.
            assert re.sub(r"example.py:\d+", "example.py:1", output).strip() == following.strip()


def test_pages_have_examples_that_print():
    for page in (GUIDE, ROOT / "docs" / "reference.md"):
        assert any(language == "python" and "print(" in text for language, text in blocks(page))


@pytest.mark.skipif(not has_compiler(), reason="no C compiler called cc on this machine")
def test_the_c_program_is_built_and_prints_what_the_guide_shows(tmp_path):
    def potential(q, k):
        return 0.5 * k * np.sum((q[1:] - q[:-1]) ** 2) + np.sum(np.cos(q))

    tape.compile(potential, np.zeros(4), 2.0).export(tmp_path / "made")
    (tmp_path / "main.c").write_text(marked(GUIDE, "program"))
    done = subprocess.run(marked(GUIDE, "build"), shell=True, cwd=tmp_path, check=True, capture_output=True, text=True)
    texts = [text for _, text in blocks(GUIDE)]
    assert done.stdout == texts[texts.index(marked(GUIDE, "build")) + 1]
    numbers = [float(x) for x in re.findall(r"-?\d+\.\d+", done.stdout)]
    value, gradient = tape.value_and_grad(potential)(np.array([0.0, 1.0, 2.0, 4.0]), 2.0)
    np.testing.assert_allclose(numbers, [value, *gradient], atol=1e-6)


def test_the_two_commands_stand_where_tools_look_for_them():
    for part in ("run", "test"):
        assert marked(README, part)


LINK = re.compile(r"\]\(([^)\s]+)\)")
"""The target of a link or a picture."""


def test_the_readme_has_no_links_that_an_index_page_would_break():
    assert all(target.startswith("https://") for target in LINK.findall(README.read_text(encoding="utf-8")))


@pytest.mark.parametrize("page", PAGES[1:], ids=lambda page: page.stem)
def test_links_between_pages_hold_wherever_the_folder_is(page):
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        file = (page.parent / target.split("#")[0]).resolve()
        assert target.startswith(("https://", "#")) or (file.is_file() and ROOT / "docs" in file.parents), target


def test_the_readme_names_pages_and_calls_that_are_there():
    text = README.read_text(encoding="utf-8")
    names = re.findall(r"^- `(\w+)`: ", text, flags=re.MULTILINE)
    assert {"guide", "reference", "performance", "limits"} <= set(names)
    assert set(names) <= {page.stem for page in PAGES}
    (table,) = re.findall(r"\| to \| call \|\n(.+?)\n\n", text, flags=re.DOTALL)
    for row in table.splitlines()[1:]:
        called = re.findall(r"`(\w+)`", row.split("|")[2])
        assert called
        assert all(hasattr(tape, name) or hasattr(tape.Tape, name) or hasattr(tape.EagerVariable, name) or name == "Tape"
                   for name in called)
