"""The groups of workloads: the one place that names them. A workload says which it belongs to; `--only` takes their names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench import table


@dataclass(frozen=True)
class Group:
    """Workloads that are compared in the same tables.

    Attributes
    ----------
    name : str
        For `--only`.
    title : str
        What stands above the tables.
    tables : callable
        `tables(rows)` returns the cells of the tables, line by line, for what `contest.measure` (`race.measure`
        of native code, `functions.measure` of NumPy's functions) found.
    default : bool
        Whether its rows run when nothing is chosen.
    """

    name: str
    title: str
    tables: Callable[[list[dict]], list[list[list[str]]]]
    default: bool = True

    def printed(self, rows: list[dict]) -> str:
        """Return the tables and the footnotes."""
        notes = [f"{row['name']}: {problem}" for row in rows for problem in row["problems"].values()]
        notes += [f"{row['title']}: {row['note']}" for row in rows if row.get("note")]
        tables = ["\n".join(table.aligned(lines)) for lines in self.tables(rows)]
        return "\n\n".join([self.title, *tables, *(["\n".join(notes)] if notes else [])])


RECORDED = Group("recorded", "NumPy code, recorded once; in brackets, how many times ours", table.recorded)
NJIT = Group("njit", "Jitted functions; ratios are to the jitted primal, limits are on tape's value and gradient", table.jitted)
NATIVE = Group("native", "Native code (tape.compile and what moves to it by itself); one line for each limit", table.native,
               default=False)
NUMPY = Group("numpy", "NumPy's functions at 10^5 elements; in brackets, how many times NumPy's own call:\n"
              "at most 2 forward, 3 backward.\n"
              "native: compiled, from plain arrays to new ones; backward is what value and adjoints cost more than the value.\n"
              "sweeps: the two sweeps over the list alone. eager: the call on variables that want a gradient",
              table.functions, default=False)

GROUPS = (RECORDED, NJIT, NATIVE, NUMPY)
"""All of them, in the order of printing."""
