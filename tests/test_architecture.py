"""The house: which module may import which, and that the design page shows it as it is.

What is here: the rules of `bench.architecture`, over the project and over a small tree that breaks each of them.
"""

import ast
import importlib
import re
import sys
from collections import defaultdict

import pytest

from bench.architecture import (
    ORDER,
    PAGE,
    PICTURE,
    ROOT,
    arrows_between_wings,
    faults,
    imports,
    modules,
    picture,
    table,
    wing,
)

FILES = modules(ROOT)
IMPORTS = imports(FILES)


def test_doors_lead_one_way():
    assert faults(IMPORTS) == []


def test_compiled_knows_nothing_of_tape():
    assert [one for one in IMPORTS if one.importer.startswith("compiled") and one.imported.startswith("tape")] == []


def test_every_wing_says_what_lives_there():
    for name in ORDER:
        if name not in ("compiled.base", "tape.errors", "tape.face"):
            text = FILES[name].read_text(encoding="utf-8")
            docstring = re.match(r'"""(.*?)"""', text, flags=re.DOTALL).group(1)
            assert 3 <= len(docstring.strip().splitlines()) <= 9, name


def test_a_module_is_not_hidden_by_what_bears_its_name():
    for name in FILES:
        package, _, own = name.rpartition(".")
        if package and name != "tape.__main__":
            module = importlib.import_module(name)
            assert getattr(sys.modules[package], own) is module, name


@pytest.mark.parametrize("floor", ["compiled", "tape"])
def test_a_name_of_a_class_means_one_thing_on_a_floor(floor):
    places = defaultdict(list)
    for name, path in FILES.items():
        if name.partition(".")[0] == floor:
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    places[node.name].append(name)
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


def test_the_design_page_shows_the_wings_as_they_are():
    counts = arrows_between_wings(IMPORTS)
    made = table(counts, FILES)
    sizes = re.compile(r"\| \d+ \| \d+ \|")  # that a file grows by a line need not be drawn anew
    assert sizes.sub("", made) in sizes.sub("", PAGE.read_text(encoding="utf-8"))
    assert re.sub(r'stroke-width="[\d.]+"', "", picture(counts)) == re.sub(
        r'stroke-width="[\d.]+"', "", PICTURE.read_text(encoding="utf-8"))


@pytest.mark.parametrize(("files", "fault"), [
    ({"compiled/table/a.py": "from compiled.native.b import x", "compiled/native/b.py": ""}, "stands below"),
    ({"compiled/lists/a.py": "import tape.errors", "tape/errors.py": ""}, "stands below"),
    ({"tape/rules/a.py": "from tape.rules import b", "tape/rules/b.py": "from tape.rules.a import y"}, "a circle"),
    ({"tape/rules/a.py": "def f():\n    from tape.rules import b", "tape/rules/b.py": ""}, "without a comment"),
])
def test_each_fault_is_seen(tmp_path, files, fault):
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.with_name("__init__.py").touch()
    assert [fault in told for told in faults(imports(modules(tmp_path)))] == [True]


def test_a_reason_allows_an_import_inside_a_function(tmp_path):
    (tmp_path / "tape").mkdir()
    (tmp_path / "tape" / "a.py").write_text("def f():\n    import tape.b  # which is slow to load\n")
    (tmp_path / "tape" / "b.py").touch()
    assert faults(imports(modules(tmp_path))) == []


def test_wings_of_modules():
    assert [wing(name) for name in ("compiled.cache", "compiled.native.lanes", "tape", "tape.rules", "tape.errors")] == [
        "compiled.base", "compiled.native", "tape.face", "tape.rules", "tape.errors"]
