"""A notebook that is run: what its cells show, by what names they are called, and how a browser draws it.

The browser is a Chromium on the path, or the one that TAPE_CHROMIUM names; its test is skipped where there is none. So are all
of them without the extra `notebook`.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

import tape
from tape.recording.lines import file_name, line_names, with_cell_names

CELLS = (
    "import numba, numpy as np, tape",

    "def loss(w, x):\n"
    "    h = np.tanh(w @ x)\n"
    "    return np.sum(np.sqrt(np.abs(h)))\n"
    "t = tape.record(loss, np.zeros((3, 2)), np.ones(2))\n"
    "t.reverse()\n"
    "print(t)",

    "t",

    "t.report()",

    "t.draw()",

    "def step(c, x):\n"
    "    y = np.sin(c) * x\n"
    "    return y + 1.0, y * y\n"
    "s = tape.record(lambda c: np.sum(tape.scan(step, c, np.arange(6.0))[1]), 0.5)\n"
    "s.draw(fold=True)",

    "profile = s.profile()\n"
    "print(profile)\n"
    "profile",

    "profile.draw()",

    "tape.draw_gradients({'a network': [(str(k), 10.0 ** -k) for k in range(12)]})",

    "t.build_grad().draw()",

    "tape.grad(loss)",

    "@numba.njit\n"
    "def f(x):\n"
    "    y = np.sin(x)\n"
    "    return y * y\n"
    "print(tape.record(f, 2.0))",

    "tape.grad(lambda x: float(x) * 2.0)(1.0)",

    "tape.grad(numba.njit(lambda x: x.real_part))(1.0)",
)
STYLE = ("<style>pre { white-space: pre-wrap } .out { border-left: 3px solid #8888; padding-left: 8px; margin: 8px } "
         "body { font-family: sans-serif }</style>")


@pytest.fixture(scope="module")
def outputs():
    """For each cell the text that it printed, and what it shows by MIME type; an error is text."""
    nbformat = pytest.importorskip("nbformat", reason="the extra notebook is not installed")
    nbclient = pytest.importorskip("nbclient", reason="the extra notebook is not installed")
    pytest.importorskip("ipykernel", reason="the extra notebook is not installed")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code) for code in CELLS])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python", "language": "python"}
    folder = str(pathlib.Path(tape.__file__).parent.parent)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([folder, os.environ.get("PYTHONPATH", "")])}
    nbclient.NotebookClient(notebook, timeout=300, allow_errors=True).execute(env=environment)
    found = []
    for cell in notebook.cells:
        text, shown = "", {}
        for output in cell.outputs:
            if output.output_type == "stream":
                text += output.text
            elif output.output_type == "error":
                text += f"{output.ename}: {output.evalue}"
            else:
                shown.update(output.data)
        found.append((text, shown))
    return found


def shown_by(outputs, code):
    """What the first cell that begins so printed and shows."""
    return next(output for cell, output in zip(CELLS, outputs, strict=True) if cell.startswith(code))


def test_lines_are_named_as_their_cells_are(outputs):
    text, _ = shown_by(outputs, "def loss")
    assert re.findall(r"matmul .*# (.*)", text) == ["In [2]:2"]
    assert set(re.findall(r"# (.*)", text)) == {"In [2]:2", "In [2]:3"}
    assert "In [2]:3" in shown_by(outputs, "t.report")[1]["text/html"]
    assert set(re.findall(r"# (.*)", shown_by(outputs, "@numba")[0])) <= {"In [12]:3", "In [12]:4"}
    assert {"In [6]:2", "In [6]:3"} <= set(re.findall(r"In \[\d+\]:\d+", shown_by(outputs, "profile =")[0]))
    assert "In [6]:2" in shown_by(outputs, "def step")[1]["image/svg+xml"]
    assert "loss at In [2]:1" in shown_by(outputs, "tape.grad(loss)")[1]["text/plain"]
    for text, shown in outputs:
        assert not re.search(r"ipykernel_\d+[\\/]\d+", text + "".join(map(str, shown.values())))


def test_errors_name_the_cell(outputs):
    assert shown_by(outputs, "tape.grad(lambda x: float")[0].startswith("NotDifferentiable: In [13]:1: float()")
    text = shown_by(outputs, "tape.grad(numba.njit")[0]
    assert 'File "In [14]", line 1' in text
    assert "at In [14] (1)" in text


def test_cells_show_tables_and_pictures(outputs):
    for k in (CELLS.index("t"), CELLS.index("t.report()"), 6):
        html, text = (outputs[k][1][kind] for kind in ("text/html", "text/plain"))
        assert "<table" in html
        assert "<table" not in text
    for code in ("t.draw", "def step", "profile.draw", "tape.draw_gradients", "t.build_grad"):
        assert 'style="max-width: 100%; height: auto"' in shown_by(outputs, code)[1]["image/svg+xml"]


# ---------------------------------------------------------------------- in a browser


def browser() -> str | None:
    """The Chromium that there is."""
    named = os.environ.get("TAPE_CHROMIUM")
    return named or next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def run_browser(profile, *options):
    """Run a headless Chromium with a new profile; returns what it writes."""
    flags = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
             "--disable-background-networking", "--disable-component-update", "--disable-sync", f"--user-data-dir={profile}")
    done = subprocess.run([browser(), *flags, *options], capture_output=True, encoding="utf-8", timeout=120, check=True)
    return done.stdout


def page(outputs, dark=False) -> str:
    """The outputs as a page; its title says how wide the window, pictures and tables are, once it is laid out."""
    parts = []
    for text, shown in outputs:
        parts.append(f"<pre>{text.replace('&', '&amp;').replace('<', '&lt;')}</pre>" if text else "")
        parts.append(shown.get("image/svg+xml") or shown.get("text/html") or "")
    colours = "<style>body { background: #111; color: #ddd }</style>" if dark else ""
    script = """<script>
        const sizes = [...document.querySelectorAll("svg")].map(e => {
            const r = e.getBoundingClientRect(); return [r.left, r.right, r.width, r.height, e.viewBox.baseVal.width,
                                                        e.viewBox.baseVal.height]; });
        const tables = [...document.querySelectorAll("div > table")].map(e => e.parentElement.getBoundingClientRect().right);
        document.title = JSON.stringify({window: document.documentElement.clientWidth, sizes, tables});
    </script>"""
    body = "".join(f'<div class="out">{part}</div>' for part in parts if part)
    return f'<!DOCTYPE html><meta charset="utf-8">{STYLE}{colours}<body>{body}{script}</body>'


@pytest.mark.skipif(browser() is None, reason="there is no Chromium")
@pytest.mark.parametrize(("width", "dark"), [(1200, False), (500, True)])
def test_a_browser_draws_everything_inside_of_the_window(outputs, tmp_path, width, dark):
    pytest.importorskip("matplotlib")
    from matplotlib.image import imread

    (tmp_path / "page.html").write_text(page(outputs, dark), encoding="utf-8")
    address = (tmp_path / "page.html").as_uri()
    dom = run_browser(tmp_path / "profile", f"--window-size={width},900", "--dump-dom", address)
    found = json.loads(re.search("<title>(.*?)</title>", dom).group(1).replace("&amp;", "&"))
    assert len(found["sizes"]) == 5
    assert len(found["tables"]) == 3
    assert found["window"] <= width
    for left, right, wide, high, whole_width, whole_height in found["sizes"]:
        assert 0 <= left < right <= found["window"]
        assert wide <= whole_width + 1.0  # a small picture is not blown up
        assert high / wide == pytest.approx(whole_height / whole_width, rel=0.02)
    assert all(right <= found["window"] for right in found["tables"])
    if width == 500:
        assert any(size[2] < 0.9 * size[4] for size in found["sizes"])  # the window is what made them small

    image_file = tmp_path / "page.png"
    run_browser(tmp_path / "profile2", f"--window-size={width},5000", f"--screenshot={image_file}", address)
    if kept := os.environ.get("TAPE_SCREENSHOTS"):
        shutil.copy(image_file, pathlib.Path(kept) / f"notebook_{width}.png")
    image = imread(image_file)[..., :3]
    background = image[2, -2]
    drawn = (abs(image - background).max(axis=-1) > 0.1).any(axis=1)
    assert drawn.mean() > 0.3  # rows of pixels that are not empty
    assert len({tuple(pixel) for pixel in image[::7, ::7].reshape(-1, 3).round(1).tolist()}) > 8


# ---------------------------------------------------------------------- names of files


def test_names_of_files():
    assert file_name("/home/me/model.py") == "/home/me/model.py"
    assert file_name("<ipython-input-12-0123456789ab>") == "In [12]"
    assert file_name("<string>") == "<string>"
    unknown = "/tmp/ipykernel_123/456.py"  # of another process
    assert file_name(unknown) == unknown
    assert file_name("/home/me/ipykernel_123/model.py") == "/home/me/ipykernel_123/model.py"
    assert with_cell_names('File "<ipython-input-2-aa>", line 3:\n  x') == 'File "In [2]", line 3:\n  x'


def test_two_cells_of_one_number_stay_apart():
    lines = [("<ipython-input-2-aa>", 1), ("<ipython-input-2-bb>", 1), ("model.py", 1)]
    assert line_names(lines) == ["In [2]:1", "<ipython-input-2-bb>:1", "model.py:1"]


def test_a_cell_is_asked_for_its_number_every_time(monkeypatch):
    class Shell:
        number = 3

        @property
        def compile(self):
            return self

        def format_code_name(self, name):
            return ("Cell", f"In[{self.number}]") if name.endswith("789.py") else None

    class IPython:
        get_ipython = Shell

    monkeypatch.setitem(sys.modules, "IPython", IPython)
    assert file_name("/tmp/ipykernel_123/789.py") == "In [3]"
    monkeypatch.setattr(Shell, "number", 8)
    assert file_name("/tmp/ipykernel_123/789.py") == "In [8]"
    assert file_name(r"C:\Temp\ipykernel_123\789.py") == "In [8]"
    monkeypatch.setattr(IPython, "get_ipython", lambda: None)
    assert file_name("/tmp/ipykernel_123/789.py") == "/tmp/ipykernel_123/789.py"


def test_derivatives_are_of_the_lines_that_they_differentiate():
    import numpy as np

    code = "def f(x):\n    y = np.sin(x)\n    return np.sum(y * y)\n"
    scope = {"np": np}
    exec(compile(code, "<ipython-input-5-cafe>", "exec"), scope)
    t = tape.record(scope["f"], np.ones(3))
    for made in (t.build_grad(), t.build_jvp(), t.build_grad().build_grad()):
        assert set(re.findall(r"# (.*)", str(made))) == {"In [5]:2", "In [5]:3"}
