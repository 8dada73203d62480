"""Tables: aligned text for terminals, HTML for notebooks, which takes its colours from the page."""

from __future__ import annotations

from tape.reports.canvas import escaped

LONG = 60
"""Characters of a cell of HTML from which on it may be broken into lines."""


def text_table(header, rows, left=()) -> str:
    """Columns side by side; numbers to the right, the columns whose numbers are in `left` to the left.

    Examples
    --------
    >>> from tape.reports.tables import text_table
    >>> print(text_table(("line", "calls"), [("first:3", "12"), ("first:10", "7")], left=(0,)))
    line         calls
    first:3      12
    first:10      7
    """
    columns = list(zip(header, *rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    lines = []
    for row in (header, *rows):
        cells = [cell.ljust(width) if k in left else cell.rjust(width)
                 for k, (cell, width) in enumerate(zip(row, widths, strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def html_table(caption: str, header, rows, left=()) -> str:
    """The same as an HTML table with a caption above; everything is escaped.

    Examples
    --------
    >>> from tape.reports.tables import html_table
    >>> "&lt;b&gt;" in html_table("", ("x",), [("<b>",)])
    True
    """
    def cells(row, tag):
        return "".join(f'<{tag} style="text-align: {"left" if k in left else "right"}; padding: 0 0.5em; white-space: '
                       f'{"nowrap" if len(cell) < LONG else "normal"}">{escaped(cell)}</{tag}>' for k, cell in enumerate(row))

    head = f"<thead><tr>{cells(header, 'th')}</tr></thead>" if any(header) else ""
    body = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows)
    # A table that is wider than the notebook's cell gets a bar to move it, as what pandas shows.
    return (f'<div style="max-width: 100%; overflow-x: auto"><div>{escaped(caption)}</div><table>{head}<tbody>{body}</tbody>'
            "</table></div>")
