"""The guide's pictures of lists, made by the guide's own code: `python -m bench.graphs` writes them anew."""

from __future__ import annotations

import os
import pathlib
import re

ROOT = pathlib.Path(__file__).parent.parent
PAGE = ROOT / "docs" / "guide.md"
FOLDER = ROOT / "docs" / "pictures"


def write(folder: pathlib.Path) -> None:
    """Run the code block after `<!-- pictures -->` in a folder, where it writes its files."""
    text = PAGE.read_text(encoding="utf-8")
    (code,) = re.findall(r"<!-- pictures -->\n```python\n(.+?)```", text, flags=re.DOTALL)
    before = pathlib.Path.cwd()
    os.chdir(folder)
    try:
        exec(compile(code, "example.py", "exec"), {})
    finally:
        os.chdir(before)


if __name__ == "__main__":
    write(FOLDER)
