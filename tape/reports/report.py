"""What is told of a list and of its last run: `Tape.report`.

What is here: the report, its text and its table. What is not: how the facts are found (`inspection.py`).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from compiled.lists.program import Program
from compiled.table.layout import OPCODE
from tape.reports.inspection import Findings, Place, line_of
from tape.reports.tables import html_table

MOST_SHOWN = 10
"""Places of a kind that the text of a report shows."""


@dataclass(frozen=True)
class Report:
    """What a list is, and what its last run met; `str` gives it as text.

    Attributes
    ----------
    instructions, cells, slots, bytes : int
        Size of the list: instructions, numbers in its value buffer, variables, and bytes of instructions and values together.
    operations : dict of str to int
        How often each instruction occurs.
    guards : tuple of str
        The file:line of each branch of Python code that the list is for.
    loops : int
        Instructions that are loops.
    kinks : tuple of Place
        Where the derivative is a convention: the value has a bend or a jump there. Comparisons are not among them.
    undefined : tuple of Place
        Where the derivative is infinite or does not exist, and an adjoint that is not zero met it.
    first_nonfinite : Place or None
        The first instruction that made a NaN or an infinity out of finite operands.
    first_nonfinite_adjoint : Place or None
        The first instruction of the reverse sweep that made an adjoint that is not finite out of a finite one.

    Examples
    --------
    >>> import tape
    >>> report = tape.record(lambda x: abs(x) + 1.0, 0.0).report()
    >>> report.instructions, [(place.operation, place.operands) for place in report.kinks], report.undefined
    (2, [('abs', (0.0,))], ())
    """

    instructions: int
    cells: int
    slots: int
    bytes: int
    operations: dict[str, int]
    guards: tuple[str, ...]
    loops: int
    kinks: tuple[Place, ...] = ()
    undefined: tuple[Place, ...] = ()
    first_nonfinite: Place | None = None
    first_nonfinite_adjoint: Place | None = None

    @classmethod
    def of(cls, program: Program, findings: Findings) -> Report:
        """Of a list and what was found in it."""
        names = [program.table.rows[opcode].name for opcode in program.code[:, OPCODE]]
        guards = tuple(line_of(program, i) for i, name in enumerate(names) if name == "guard")
        size = program.code.nbytes + program.geometry.nbytes + program.values.nbytes
        return cls(len(names), len(program.values), len(program.slots), size, dict(Counter(names)), guards,
                   names.count("loop"), tuple(findings.kinks.values()), tuple(findings.undefined.values()),
                   findings.first_nonfinite, findings.first_nonfinite_adjoint)

    def _repr_html_(self):
        """The same as a table, for notebooks."""
        counts = ", ".join(f"{count} {name}" for name, count in sorted(self.operations.items()))
        rows = [("instructions", f"{self.instructions} ({counts})"), ("slots", str(self.slots)), ("cells", str(self.cells)),
                ("bytes", str(self.bytes)), ("loops", str(self.loops))]
        rows += _shown("guard", self.guards)
        rows += _shown("undefined", [undefined_text(place) for place in self.undefined])
        rows += _shown("kink", [kink_text(place) for place in self.kinks])
        if self.first_nonfinite is not None:
            rows.append(("first value that is not finite", value_text(self.first_nonfinite)))
        if self.first_nonfinite_adjoint is not None:
            rows.append(("first adjoint that is not finite", adjoint_text(self.first_nonfinite_adjoint)))
        return html_table("", ("", ""), rows, left=(0, 1))

    def __str__(self):
        counts = ", ".join(f"{count} {name}" for name, count in sorted(self.operations.items()))
        lines = [f"{self.instructions} instructions ({counts}), {self.slots} slots, {self.cells} cells, {self.bytes} bytes",
                 f"{len(self.guards)} guards, {self.loops} loops"]
        lines += _listed("guard at", self.guards)
        lines += _listed("undefined:", [undefined_text(place) for place in self.undefined])
        lines += _listed("kink:", [kink_text(place) for place in self.kinks])
        if self.first_nonfinite is not None:
            lines.append(f"  first value that is not finite: {value_text(self.first_nonfinite)}")
        if self.first_nonfinite_adjoint is not None:
            lines.append(f"  first adjoint that is not finite: {adjoint_text(self.first_nonfinite_adjoint)}")
        return "\n".join(lines)


def undefined_text(place: Place) -> str:
    """An undefined derivative in words."""
    return f"{place} has the derivative {place.derivative:.6g}"


def kink_text(place: Place) -> str:
    """A kink in words, with the convention that was taken."""
    convention = f"; {place.kinks}" if place.kinks else ""
    return f"{place}{convention}"


def value_text(place: Place) -> str:
    """Where a value that is not finite arose, in words."""
    return f"{place} = {place.result:.6g}"


def adjoint_text(place: Place) -> str:
    """Where an adjoint that is not finite arose, in words."""
    return f"{place}" if place.derivative != place.derivative else undefined_text(place)


def _shown(what, items) -> list[tuple[str, str]]:
    """Rows of a table as the lines of `_listed`."""
    return [(what, str(item)) for item in items[:MOST_SHOWN]] + (
        [(what, f"{len(items) - MOST_SHOWN} more")] if len(items) > MOST_SHOWN else [])


def _listed(what, items) -> list[str]:
    """A line an item, and how many are not shown."""
    lines = [f"  {what} {item}" for item in items[:MOST_SHOWN]]
    return lines + ([f"  {what} {len(items) - MOST_SHOWN} more"] if len(items) > MOST_SHOWN else [])
