"""`python -m tape`: the pages of the documentation, which are installed with the code.

`python -m tape docs` says which pages there are, `python -m tape docs NAME` prints one, and `python -m tape supported` prints
how each function of NumPy and SciPy is called and what it does at kinks.
"""

from __future__ import annotations

import argparse
import pathlib

from tape import __version__, supported

HERE = pathlib.Path(__file__).parent


def pages() -> dict[str, pathlib.Path]:
    """The pages by name: in the package where it was built into a wheel, in the project's folder where it stands there."""
    inside = HERE / "docs"
    folder = inside if inside.is_dir() else HERE.parent / "docs"
    return {path.stem: path for path in sorted(folder.iterdir()) if path.suffix in (".md", ".txt")}


def title(path: pathlib.Path) -> str:
    """The first line of a page, without the marks of a heading."""
    with path.open(encoding="utf-8") as file:
        return file.readline().strip("# \n")


def main(arguments=None) -> None:
    """Print a page, or the names of all."""
    parser = argparse.ArgumentParser(prog="python -m tape", description="Read the documentation of tape.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True)
    docs = commands.add_parser("docs", help="the pages of the documentation, or one of them")
    docs.add_argument("name", nargs="?", help="a page to print; without it their names are printed")
    commands.add_parser("supported", help="NumPy's and SciPy's functions: how each is called, its convention at kinks")
    asked = parser.parse_args(arguments)
    if asked.command == "supported":
        supported.show()
        return
    found = pages()
    if asked.name is None:
        width = max(map(len, found))
        for name, path in found.items():
            print(f"{name:{width}}  {title(path)}\n{'':{width}}  {path}")
    elif asked.name in found:
        print(found[asked.name].read_text(encoding="utf-8"), end="")
    else:
        parser.error(f"expected one of the pages {', '.join(found)}, got {asked.name}")


if __name__ == "__main__":
    main()
