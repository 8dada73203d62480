"""Outlines and text, and how they become an SVG or a PNG.

What is here: the two things pictures are made of, their writers, and `Picture`. What is not: what is drawn (`profile.py`, and
the wing `tape.draw`).
"""

from __future__ import annotations

import html
import os
import pathlib
import re
import unicodedata
import warnings
from typing import NamedTuple

FONT = "DejaVu Sans Mono, Menlo, Consolas, Liberation Mono, monospace"
ADVANCE = 0.605
"""Width of a character of these fonts, as a multiple of their size; equal widths make room for text without measuring it."""

PNG_DPI = 192
"""Twice the pixels of a plain screen."""

MOST_PIXELS = 32_000
"""Of a side of a PNG."""

POINTS = 72 / 96
"""Points in a pixel of CSS, which all lengths here are."""


class Outline(NamedTuple):
    """A line or area: commands ("M", x, y), ("L", x, y), ("C", x1, y1, x2, y2, x, y) and ("Z",)."""

    commands: tuple
    fill: str = "none"
    stroke: str = "none"
    width: float = 1.0
    dashed: bool = False


class Text(NamedTuple):
    """A line of text on its baseline; `anchor` is "start", "middle" or "end"."""

    x: float
    y: float
    text: str
    colour: str
    size: float = 12.0
    bold: bool = False
    anchor: str = "start"


class Group(NamedTuple):
    """What belongs together: its SVG class, the text that is shown when the mouse rests on it, and its outlines and texts."""

    kind: str
    tip: str
    items: list


def text_width(text: str, size: float) -> float:
    """Width of a text in pixels."""
    return ADVANCE * size * sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def box(x, y, width, height, radius=0.0) -> tuple:
    """Commands of a rectangle with round corners; (x, y) is its upper left corner."""
    right, bottom, r, k = x + width, y + height, radius, 0.4477 * radius  # k: where a cubic looks like a quarter of a circle
    if not radius:
        return ("M", x, y), ("L", right, y), ("L", right, bottom), ("L", x, bottom), ("Z",)
    return (("M", x + r, y), ("L", right - r, y), ("C", right - k, y, right, y + k, right, y + r),
            ("L", right, bottom - r), ("C", right, bottom - k, right - k, bottom, right - r, bottom),
            ("L", x + r, bottom), ("C", x + k, bottom, x, bottom - k, x, bottom - r),
            ("L", x, y + r), ("C", x, y + k, x + k, y, x + r, y), ("Z",))


class Picture:
    """A picture that shows itself in notebooks; `str(picture)` is its SVG.

    Attributes
    ----------
    svg : str
        The text of an SVG file; its background is transparent, and it is readable on light and dark pages.
    """

    def __init__(self, width: float, height: float, groups: list[Group]):
        self._width, self._height, self._groups = width, height, groups
        self.svg = _svg(width, height, groups)

    def __str__(self):
        return self.svg

    def __repr__(self):
        return f"{type(self).__name__}({self._width:.0f} x {self._height:.0f} pixels)"

    def _repr_svg_(self):
        return self.svg

    def save(self, path) -> None:
        """Write the picture to a file.

        Parameters
        ----------
        path : str or path-like
            Of an SVG or PNG, by its suffix.

        Raises
        ------
        ValueError
            For another suffix.
        ImportError
            For a PNG, when matplotlib is not installed.
        OSError
            When the file cannot be written.
        """
        check_suffix(path)
        path = pathlib.Path(path)
        try:
            if path.suffix.lower() == ".svg":
                path.write_text(self.svg, encoding="utf-8")
            else:
                _write_png(path, self._width, self._height, self._groups)
        except OSError as error:
            raise type(error)(error.errno, f"cannot write the picture: {error.strerror}", str(path)) from None


def check_suffix(path) -> None:
    """Raise ValueError unless the path names an SVG or a PNG."""
    suffix = pathlib.Path(os.fspath(path)).suffix
    if suffix.lower() not in (".svg", ".png"):
        raise ValueError(f"{os.fspath(path)}: expected a file name that ends in .svg or .png, got the suffix {suffix!r}")


# ---------------------------------------------------------------------- SVG

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def escaped(text: str) -> str:
    """Text as it stands in XML; characters that XML does not have become U+FFFD."""
    return html.escape(_NOT_XML.sub("\ufffd", text))


def _svg(width, height, groups) -> str:
    size = f'width="{_length(width)}" height="{_length(height)}" viewBox="0 0 {_length(width)} {_length(height)}"'
    # Where the page (a notebook's cell) is narrower than the picture, it shrinks.
    size += ' style="max-width: 100%; height: auto"'
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="{FONT}">']
    for group in groups:
        lines.append(f'<g class="{group.kind}">')
        if group.tip:
            lines.append(f"<title>{escaped(group.tip)}</title>")
        lines.extend(_svg_text(item) if isinstance(item, Text) else _svg_outline(item) for item in group.items)
        lines.append("</g>")
    return "\n".join([*lines, "</svg>", ""])


def _svg_outline(outline: Outline) -> str:
    data = "".join(name + " ".join(_length(x) for x in numbers) for name, *numbers in outline.commands)
    stroke = f' stroke="{outline.stroke}" stroke-width="{_length(outline.width)}"' if outline.stroke != "none" else ""
    dashes = ' stroke-dasharray="5 3"' if outline.dashed else ""
    return f'<path d="{data}" fill="{outline.fill}"{stroke}{dashes}/>'


def _svg_text(text: Text) -> str:
    place = f'x="{_length(text.x)}" y="{_length(text.y)}" font-size="{_length(text.size)}" fill="{text.colour}"'
    style = (' font-weight="bold"' if text.bold else "") + (f' text-anchor="{text.anchor}"' if text.anchor != "start" else "")
    return f'<text {place}{style}>{escaped(text.text)}</text>'


def _length(x: float) -> str:
    """A length to a tenth of a pixel."""
    text = f"{x:.1f}".removesuffix(".0")
    return "0" if text == "-0" else text


# ---------------------------------------------------------------------- PNG


def _write_png(path, width, height, groups) -> None:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(f"a PNG needs matplotlib, which cannot be imported ({error}): pip install \"wengert[plot]\", or "
                          "write an SVG, which needs nothing") from None
    figure = Figure(figsize=(width / 96, height / 96), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.axis("off")
    for group in groups:
        for item in group.items:
            axes.add_artist(_artist(item))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # of a font that lacks a character of a file's name
        figure.savefig(path, dpi=min(PNG_DPI, 96 * MOST_PIXELS / max(width, height)), format="png")


def _artist(item):
    from matplotlib import patches, text
    from matplotlib.path import Path

    if isinstance(item, Text):
        horizontal = {"start": "left", "middle": "center", "end": "right"}[item.anchor]
        return text.Text(item.x, item.y, item.text, color=item.colour, fontsize=item.size * POINTS, family="DejaVu Sans Mono",
                         weight="bold" if item.bold else "normal", ha=horizontal, va="baseline", parse_math=False)
    codes = {"M": [Path.MOVETO], "L": [Path.LINETO], "C": [Path.CURVE4] * 3, "Z": [Path.CLOSEPOLY]}
    points, kinds = [], []
    for name, *numbers in item.commands:
        points.extend(zip(numbers[::2], numbers[1::2], strict=True) if numbers else [(0.0, 0.0)])
        kinds.extend(codes[name])
    return patches.PathPatch(Path(points, kinds), facecolor=item.fill, edgecolor=item.stroke, linewidth=item.width * POINTS,
                             linestyle=(0, (5, 3)) if item.dashed else "solid", capstyle="butt")
