"""A profile by source line: what each line of the user's code costs, as text, table and picture.

What is not here: how it is measured (`timing.py`).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import NamedTuple

from tape.reports.canvas import Group, Outline, Picture, Text, box, check_suffix, text_width
from tape.reports.tables import html_table, text_table

INK, NOTE, GRID, FORWARD, BACK = "#1f2328", "#59636e", "#d1d9e0", "#0969da", "#bc4c00"
MOST_BARS, MOST_CHARACTERS = 30, 40
"""Lines that a picture shows, and characters of the name of one."""

BAR_WIDTH, BAR_HEIGHT, LEADING, MARGIN, TEXT_SIZE = 360.0, 14.0, 22.0, 14.0, 12.0

HEADER = ("line", "instructions", "cells", "bytes", "forward", "back", "both", "share")


class ProfileRow(NamedTuple):
    """What a line costs in one sweep forward and one back.

    Attributes
    ----------
    line : str
        "file:line"; in a notebook "In [3]:5".
    instructions : int
        Instructions that the forward sweep runs for it; those in the body of a loop count at every step.
    cells, bytes : int
        Numbers in the variables that the line is the first to write, and their memory; the adjoints take as much again.
    forward, back : float
        Seconds; `back` is None where nothing is differentiated.
    """

    line: str
    instructions: int
    cells: int
    bytes: int
    forward: float
    back: float | None

    @property
    def seconds(self) -> float:
        """Forward and back together."""
        return self.forward + (self.back or 0.0)


class Profile:
    """Costs by source line; `str` gives a table, a notebook shows one, `draw` makes a picture.

    Attributes
    ----------
    rows : tuple of ProfileRow
        A row a line, the most expensive first.
    forward, back : float
        Seconds of the whole sweeps, measured in one piece; `back` is None where nothing is differentiated. The rows' seconds
        are measured one by one (see `Tape.profile`) or estimated (`Compiled.profile`), and add up to about as much.
    repeat : int
        How often everything was measured; seconds are medians.
    measured : str
        What was measured, in words.

    Examples
    --------
    >>> import numpy as np, tape
    >>> profile = tape.record(lambda x: np.sum(np.sin(x) * x), np.ones(10_000)).profile()
    >>> [(row.instructions, row.cells, row.bytes) for row in profile.rows]
    [(4, 20001, 160008)]
    >>> profile.rows[0].forward > 0.0, profile.rows[0].back > 0.0
    (True, True)
    """

    def __init__(self, rows: Iterable[ProfileRow], forward: float, back: float | None, repeat: int, measured: str):
        self.rows = tuple(sorted(rows, key=lambda row: -row.seconds))
        self.forward, self.back, self.repeat, self.measured = forward, back, repeat, measured

    def scaled(self, forward: float, back: float | None, measured: str) -> Profile:
        """The same shares of other times."""
        up = forward / (sum(row.forward for row in self.rows) or 1.0)
        down = (back or 0.0) / (sum(row.back or 0.0 for row in self.rows) or 1.0)
        rows = [row._replace(forward=up * row.forward, back=down * row.back if row.back is not None else None)
                for row in self.rows]
        return Profile(rows, forward, back, self.repeat, measured)

    def __repr__(self):
        return f"<tape.Profile: {len(self.rows)} lines, {duration(self.forward + (self.back or 0.0))}>"

    def __str__(self):
        return f"{self._caption()}\n{text_table(HEADER, self._texts(), left=(0,))}"

    def _repr_html_(self):
        return html_table(self._caption(), HEADER, self._texts(), left=(0,))

    def _caption(self) -> str:
        back = f", back {duration(self.back)}" if self.back is not None else ""
        return f"forward {duration(self.forward)}{back}: {self.measured}, medians of {self.repeat}"

    def _texts(self) -> list[tuple[str, ...]]:
        total = sum(row.seconds for row in self.rows) or 1.0
        return [(row.line, str(row.instructions), str(row.cells), str(row.bytes), duration(row.forward),
                 duration(row.back) if row.back is not None else "", duration(row.seconds), f"{row.seconds / total:.1%}")
                for row in self.rows]

    def draw(self, path: str | os.PathLike[str] | None = None) -> Picture:
        """Draw a bar a line: the forward sweep in blue, the reverse sweep in orange.

        Parameters
        ----------
        path : str or path-like, optional
            A file to write, an SVG or a PNG by its suffix.

        Returns
        -------
        Picture
            Shows itself in notebooks. Of more than 30 lines the rest is one bar.

        Raises
        ------
        ValueError
            For a path of another suffix.
        ImportError
            For a PNG, when matplotlib is not installed.
        OSError
            When the file cannot be written.

        Examples
        --------
        >>> import tape
        >>> picture = tape.record(lambda x: x * x, 3.0).profile().draw()
        >>> picture.svg.count('class="line"')
        1
        """
        if path is not None:
            check_suffix(path)
        picture = _drawn(_bars(self.rows), self.back is not None)
        if path is not None:
            picture.save(path)
        return picture


def duration(seconds: float) -> str:
    """Seconds in a unit that suits them.

    Examples
    --------
    >>> from tape.reports.profile import duration
    >>> duration(0.00123), duration(2.5), duration(4.2e-8), duration(0.0)
    ('1.23 ms', '2.5 s', '42 ns', '0 ns')
    """
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= 0.9995 * size:
            return f"{seconds / size:.3g} {unit}" if seconds < 999.5 * size else f"{seconds / size:.0f} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def _bars(rows) -> list[tuple[str, float, float]]:
    """Name, seconds forward and seconds back of each bar."""
    bars = [(_short(row.line), row.forward, row.back or 0.0) for row in rows[:MOST_BARS]]
    if rest := rows[MOST_BARS:]:
        bars.append((f"{len(rest)} more lines", sum(r.forward for r in rest), sum(r.back or 0.0 for r in rest)))
    return bars


def _short(line: str) -> str:
    """A line without the folder of its file; the middle of a long name left out."""
    line = line.replace("\\", "/").rpartition("/")[2]
    line = "".join(c if c.isprintable() else "\ufffd" for c in line)
    return line if len(line) <= MOST_CHARACTERS else line[: MOST_CHARACTERS // 2 - 1] + "…" + line[-MOST_CHARACTERS // 2 :]


def _drawn(bars, has_back) -> Picture:
    left = 2 * MARGIN + max([text_width(name, TEXT_SIZE) for name, _, _ in bars], default=0.0)
    longest = max([forward + back for _, forward, back in bars], default=0.0) or 1.0
    width = left + BAR_WIDTH + text_width("9999 ms", TEXT_SIZE) + 2 * MARGIN
    height = 2 * MARGIN + LEADING * (len(bars) + 1)
    groups = [Group("frame", "", [Outline(box(0.5, 0.5, width - 1.0, height - 1.0, 6.0), "#ffffff", GRID)])]
    for k, (name, forward, back) in enumerate(bars):
        top = MARGIN + LEADING * k
        items = [Text(left - MARGIN / 2, top + 11.0, name, INK, TEXT_SIZE, anchor="end")]
        at = left
        for seconds, colour in ((forward, FORWARD), (back, BACK)):
            length = BAR_WIDTH * seconds / longest
            if length:
                items.append(Outline(box(at, top, length, BAR_HEIGHT), colour))
            at += length
        items.append(Text(at + 6.0, top + 11.0, duration(forward + back), NOTE, TEXT_SIZE))
        groups.append(Group("line", f"{name}: forward {duration(forward)}, back {duration(back)}", items))
    groups.append(_legend(left, MARGIN + LEADING * len(bars) + 8.0, has_back))
    return Picture(width, height, groups)


def _legend(x, y, has_back) -> Group:
    items = []
    for name, colour in (("forward", FORWARD), *[("back", BACK)] * has_back):
        items.append(Outline(box(x, y, 12.0, 12.0), colour))
        items.append(Text(x + 18.0, y + 10.5, name, INK, TEXT_SIZE))
        x += 36.0 + text_width(name, TEXT_SIZE)
    return Group("legend", "", items)
