"""The architecture as the imports have it: wings, the arrows between them, and what must not be.

Run as ``python -m bench.architecture``: writes the picture and the table of ``docs/design.md``. What holds is stated once, in
`ORDER`: a module may import what stands in its own wing or in one before it. `tests/test_architecture.py` holds it to that.
"""

from __future__ import annotations

import ast
import pathlib
import re
from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

ROOT = pathlib.Path(__file__).parent.parent

ORDER = (
    "compiled.base", "compiled.functions", "compiled.table", "compiled.lists", "compiled.sweeps", "compiled.active",
    "compiled.native",
    "tape.errors", "tape.recording", "tape.transforms", "tape.jitted", "tape.rules", "tape.reports", "tape.running",
    "tape.scipy", "tape.eager", "tape.derivatives", "tape.control", "tape.native", "tape.draw", "tape.tapes", "tape.face",
)
"""The wings from the bottom up. The base is what stands beside the wings of `compiled`, the face what is beside `tape`'s."""

PAGE = ROOT / "docs" / "design.md"
PICTURE = ROOT / "docs" / "architecture.svg"


class Import(NamedTuple):
    """One module that another one imports.

    Attributes
    ----------
    importer, imported : str
        Dotted names.
    line : int
        Where it stands in the importer's file.
    inside : bool
        Whether it stands in a function.
    reason : str
        The comment on its line.
    """

    importer: str
    imported: str
    line: int
    inside: bool
    reason: str


def modules(root: pathlib.Path, packages=("compiled", "tape")) -> dict[str, pathlib.Path]:
    """The modules of some packages by their dotted names."""
    files = [path for package in packages for path in sorted((root / package).rglob("*.py"))]
    return {".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path for path in files}


def imports(files: dict[str, pathlib.Path]) -> list[Import]:
    """Every import of one of the modules by another one."""
    return [found for name, path in files.items() for found in _imports(name, path, files)]


def _imports(name, path, files) -> Iterator[Import]:
    text = path.read_text(encoding="utf-8")
    lines, tree = text.splitlines(), ast.parse(text)
    functions = [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))]
    inside = {id(node) for function in functions for node in ast.walk(function)}
    for node in ast.walk(tree):
        if not isinstance(node, (ast.Import, ast.ImportFrom)):
            continue
        reason = lines[node.lineno - 1].partition("#")[2].strip()
        for imported in sorted(set(_named(node, files)) - {name}):
            yield Import(name, imported, node.lineno, id(node) in inside, reason)


def _named(node, files):
    """The modules that a statement names; a package only where a name is its own."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names if alias.name in files]
    full = {alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return [full[name] if full[name] in files else node.module for name in full if full[name] in files or node.module in files]


def wing(module: str, order=ORDER) -> str:
    """The wing that a module stands in."""
    package, _, rest = module.partition(".")
    own = f"{package}.{rest.partition('.')[0]}"
    return own if own in order else f"{package}.{'base' if package == 'compiled' else 'face'}"


def circles(arrows: dict[str, set[str]]) -> list[list[str]]:
    """Groups of names of which each leads to each other one (Tarjan's strongly connected components)."""
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name):
        number[name] = low[name] = len(number)
        stack.append(name)
        for other in sorted(arrows.get(name, ())):
            if other not in number:
                visit(other)
            if other in stack:
                low[name] = min(low[name], low[other])
        if low[name] == number[name]:
            group = stack[stack.index(name):]
            del stack[stack.index(name):]
            if len(group) > 1:
                found.append(sorted(group))

    for name in sorted(arrows):
        if name not in number:
            visit(name)
    return found


def faults(found: list[Import], order=ORDER) -> list[str]:
    """What must not be, in words: circles, imports upward, imports inside functions without a reason."""
    told = []
    for one in found:
        where = f"{one.importer}, line {one.line}, imports {one.imported}"
        below, above = wing(one.importer, order), wing(one.imported, order)
        if order.index(below) < order.index(above):
            told.append(f"{where}: {below} stands below {above}")
        if one.inside and not one.reason:
            told.append(f"{where} inside a function, without a comment that says why")
    arrows = defaultdict(set)
    for one in found:
        arrows[one.importer].add(one.imported)
    return told + [f"a circle: {', '.join(group)}" for group in circles(arrows)]


# ---------------------------------------------------------------------- the page


def arrows_between_wings(found: list[Import], order=ORDER) -> dict[str, dict[str, int]]:
    """For each wing the wings that it imports from, and by how many imports."""
    counts: dict[str, dict[str, int]] = {name: {} for name in order}
    for one in found:
        upper, lower = wing(one.importer, order), wing(one.imported, order)
        if upper != lower:
            counts[upper][lower] = counts[upper].get(lower, 0) + 1
    return counts


def table(counts: dict[str, dict[str, int]], files: dict[str, pathlib.Path]) -> str:
    """The wings from the top down as a table in Markdown."""
    sizes: dict[str, list[int]] = defaultdict(list)
    for name, path in files.items():
        sizes[wing(name)].append(len(path.read_text(encoding="utf-8").splitlines()))
    rows = ["| wing | files | lines, to the hundred | imports from |", "| --- | --- | --- | --- |"]
    for name in reversed(list(counts)):
        below = ", ".join(f"`{other}`" for other in counts if other in counts[name])
        rows.append(f"| `{name}` | {len(sizes[name])} | {round(sum(sizes[name]), -2)} | {below or '-'} |")
    return "\n".join(rows) + "\n"


def picture(counts: dict[str, dict[str, int]]) -> str:
    """The wings as boxes, one above the other, and their arrows as arcs down the right side, as SVG."""
    height, width, left = 30, 190, 10
    place = {name: (len(counts) - 1 - k) * height + 20 for k, name in enumerate(counts)}
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 {len(counts) * height + 20}" '
             'font-family="sans-serif" font-size="13">']
    for name, others in counts.items():
        for other, count in others.items():
            start, end = place[name] + 4, place[other] - 4
            bow = left + width + 14 * (abs(end - start) / height) ** 1.05 + 12
            parts.append(f'<path d="M{left + width} {start} C{bow:.0f} {start} {bow:.0f} {end} {left + width} {end}" '
                         f'fill="none" stroke="#345" stroke-opacity="0.45" stroke-width="{0.6 + 0.35 * count ** 0.5:.2f}"/>')
    for name in counts:
        colour = "#e7eef7" if name.startswith("tape") else "#f6ecdd"
        parts.append(f'<rect x="{left}" y="{place[name] - 11}" width="{width}" height="22" rx="4" fill="{colour}" '
                     'stroke="#567"/>')
        parts.append(f'<text x="{left + 8}" y="{place[name] + 4}">{name}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def with_table(page: str, made: str) -> str:
    """The page with the table in its place."""
    return re.sub(r"(<!-- wings -->\n).*?(?=<!-- end -->)", lambda match: match.group(1) + made, page, flags=re.DOTALL)


def main() -> None:
    """Write the picture and the table."""
    files = modules(ROOT)
    counts = arrows_between_wings(imports(files))
    PICTURE.write_text(picture(counts), encoding="utf-8")
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8"), table(counts, files)), encoding="utf-8")


if __name__ == "__main__":
    main()
