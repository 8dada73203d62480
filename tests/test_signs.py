"""Signs to other rooms lead somewhere: what docstrings, comments and pages call a file or a module exists.

A file may be told by its path (from the root, from a package, from where the sign stands) or by its name alone, where that is
one in the same folder or the only one of that name. A dotted name is told from `tape`, `compiled` or `bench`, from a wing, or
from a module in the same folder or of a unique name; what follows the module is a name that the module has.
"""

import ast
import io
import re
import tokenize
from collections import defaultdict

import pytest

from bench.architecture import ORDER, ROOT, modules

PACKAGES = ("compiled", "tape", "bench", "tests")
FILES = modules(ROOT, PACKAGES)
PAGES = [ROOT / "CONTRIBUTING.md", ROOT / "docs" / "design.md"]
ENDINGS = (".py", ".md", ".svg", ".cfg", ".toml", ".sh")
BY_NAME = defaultdict(list)
for _path in FILES.values():
    BY_NAME[_path.name].append(_path)


def told(path):
    """(line, text) of each comment and docstring of a source, or of a whole page."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        yield 1, text
        return
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.lineno, node.value.value


def is_file(name, path) -> bool:
    """Whether a sign in `path` to a file leads to one."""
    if name.endswith("__init__.py"):
        return True
    if "/" not in name:
        return (path.parent / name).exists() or len(BY_NAME[name]) == 1
    return any((start / name).exists() for start in (ROOT, ROOT / "tape", ROOT / "compiled", path.parent))


def names(module) -> set[str]:
    """What a module has at its top level, and modules in it."""
    found = {other.removeprefix(f"{module}.").partition(".")[0] for other in FILES if other.startswith(f"{module}.")}
    for node in ast.walk(ast.parse(FILES[module].read_text(encoding="utf-8"))):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            found |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
    return found


def is_name(name, path) -> bool:
    """Whether a sign in `path` to a module, or to something in one, leads there; True where it is no such sign."""
    first, _, rest = name.partition(".")
    if name in ORDER or first == "scipy":  # the wing below the face is called as what it stands in for
        return True
    here = ".".join(path.relative_to(ROOT).parent.parts)
    starts = [start for start in (first, f"{here}.{first}", f"tape.{first}", f"compiled.{first}") if start in FILES]
    if not starts and len(BY_NAME[f"{first}.py"]) == 1:
        starts = [module for module, file in FILES.items() if file == BY_NAME[f"{first}.py"][0]]
    return not starts or any(_leads(start, rest) for start in starts)


def _leads(module, rest):
    first, _, further = rest.partition(".")
    if not first:
        return True
    if f"{module}.{first}" in FILES and _leads(f"{module}.{first}", further):
        return True
    return f"{module}.{first}" not in FILES and first in names(module)


def faults(path) -> list[str]:
    """Signs that lead nowhere."""
    found = []
    for line, text in told(path):
        files = re.findall(r"(?<![\w/.~<{])[\w/]+\.py\b(?!\.)", text)
        dotted = [name for name in re.findall(r"(?<!`)`([a-z_]\w*(?:\.\w+)+)`(?!`)", text) if not name.endswith(ENDINGS)]
        wrong = [name for name in files if not is_file(name, path)] + [name for name in dotted if not is_name(name, path)]
        found += [f"{path.relative_to(ROOT)}, line {line} or below: {name}" for name in wrong]
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_signs_in_sources_lead_somewhere(package):
    found = [fault for name, path in FILES.items() if name.partition(".")[0] == package and path.name != "test_signs.py"
             for fault in faults(path)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_signs_on_pages_lead_somewhere(page):
    assert faults(page) == []
    for link in re.findall(r"\]\(([^)#:]+)(?:#[\w-]+)?\)", page.read_text(encoding="utf-8")):
        assert (page.parent / link).exists(), link


@pytest.mark.parametrize(("sign", "leads"), [
    ("tape.recording.arrays", True), ("recording.arrays", True), ("dispatch.TABLE_OF_NOTHING", False), ("tape.tracing", False),
    ("tape.grad", True), ("compiled.arrays", False), ("native.compiled", True), ("somebody.else", True),
])
def test_dotted_signs(sign, leads):
    assert is_name(sign, ROOT / "tape" / "errors.py") == leads


@pytest.mark.parametrize(("sign", "leads"), [
    ("recorder.py", True), ("arrays.py", False), ("recording/arrays.py", True), ("compiled/lists/file.py", True),
    ("tape/tracing.py", False), ("errors.py", True),
])
def test_signs_to_files(sign, leads):
    assert is_file(sign, ROOT / "tape" / "errors.py") == leads
