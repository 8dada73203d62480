"""What CONTRIBUTING.md shows is so: its Python blocks run in order, in one namespace."""

import re

from bench.architecture import ROOT
from tape.recording.dispatch import UFUNCS

PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_python_blocks_run(capsys):
    rules, namespace = dict(UFUNCS), {}
    for text in re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL):
        exec(compile(text, "CONTRIBUTING.md", "exec"), namespace)
    assert capsys.readouterr().out == ""
    assert rules == UFUNCS  # the example takes back what it adds


def test_each_kind_of_change_has_an_example():
    for change in ("Add a row", "Add a rule", "Add a pass", "Add an engine"):
        (section,) = re.findall(rf"\n## {change}\n(.*?)(?=\n## |\Z)", PAGE, flags=re.DOTALL)
        blocks = re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)
        assert any("assert" in block for block in blocks), change


def test_the_part_of_the_tests_is_there():
    (command,) = re.findall(r"<!-- part -->\n```sh\n(.*?)\n```", PAGE)
    files = re.findall(r"tests/\w+\.py", command)
    assert files
    assert all((ROOT / name).exists() for name in files)
