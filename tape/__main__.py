"""`python -m tape`: the pages of the documentation, which are installed with the code, and the kernels of the sweeps.

`python -m tape docs` says which pages there are, `python -m tape docs NAME` prints one, and `python -m tape supported` prints
how each function of NumPy and SciPy is called and what it does at kinks. `python -m tape build` compiles the kernels
beforehand, for images of machines.
"""

from __future__ import annotations

import argparse
import pathlib

from compiled.sweeps import building
from compiled.sweeps.engine import BUFFERS
from tape import __version__, supported

HERE = pathlib.Path(__file__).parent


def pages() -> dict[str, pathlib.Path]:
    """The pages by name: in the package where it was built into a wheel, in the project's folder where it stands there."""
    inside = HERE / "docs"
    found = inside.rglob("*.md") if inside.is_dir() else [*(HERE.parent / "docs").rglob("*.md"), HERE.parent / "CHANGELOG.md"]
    return {path.stem.lower(): path for path in sorted(found)}


def title(path: pathlib.Path) -> str:
    """The first line of a page, without the marks of a heading."""
    with path.open(encoding="utf-8") as file:
        return file.readline().strip("# \n")


def build(dtypes) -> None:
    """Compile the kernels of all sweeps, and say where they are kept."""
    count = 0
    for done in building.build(dtypes):
        count += 1
        print(f"{done.name:16} {done.dtype}  {done.seconds:5.1f} s  {done.place or 'not kept on disk'}", flush=True)
    print(f"{count} of {len(BUFFERS) * len(dtypes)} kernels compiled; the others were there")


def main(arguments=None) -> None:
    """Print a page, or the names of all; or compile."""
    parser = argparse.ArgumentParser(prog="python -m tape", description="The documentation of tape, and its kernels.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True)
    docs = commands.add_parser("docs", help="the pages of the documentation, or one of them")
    docs.add_argument("name", nargs="?", help="a page to print; without it their names are printed")
    commands.add_parser("supported", help="NumPy's and SciPy's functions: how each is called, its convention at kinks")
    make = commands.add_parser("build", help="compile the kernels of the sweeps beforehand, for images of machines")
    make.add_argument("--dtype", choices=building.DTYPES, action="append", help="only this one; may be given twice")
    asked = parser.parse_args(arguments)
    if asked.command == "supported":
        supported.show()
        return
    if asked.command == "build":
        build(tuple(asked.dtype or building.DTYPES))
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
