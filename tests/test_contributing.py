"""The Python blocks of CONTRIBUTING.md run in order; what they register is taken out again."""

import pathlib
import re

from tape.recording.dispatch import FUNCTIONS

PAGE = pathlib.Path(__file__).parent.parent / "CONTRIBUTING.md"


def test_the_examples_run(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    kept = FUNCTIONS.copy()
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(blocks) == len(re.findall(r"^## An? ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)) == 4
    namespace = {}
    try:
        for text in blocks:
            exec(compile(text, "contributing.py", "exec"), namespace)
    finally:
        FUNCTIONS.clear()
        FUNCTIONS.update(kept)


def test_files_and_links_that_are_named_are_there():
    text = PAGE.read_text(encoding="utf-8")
    named = re.findall(r"\]\(([^)]+)\)", text) + re.findall(r"(?:tests|tape|compiled|docs)/[\w/]*\.\w+", text)
    assert named
    assert [name for name in named if not (PAGE.parent / name).exists()] == []
