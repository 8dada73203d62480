"""The table of NumPy's and SciPy's functions: which are differentiated, how they are called, and the convention at kinks.

`python -m tape.supported` prints it, from the rules and rows themselves; with `--markdown` as it stands in `SUPPORTED.md`.
"""

from __future__ import annotations

import argparse
import re
import types
from typing import NamedTuple

import numpy as np
import scipy.linalg
import scipy.signal
import scipy.special

import tape.rules  # the table is made of them
import tape.scipy
from compiled.table.instructions import TABLE
from tape.recording.dispatch import FUNCTIONS, has_rule

MODULES = {"numpy": np, "numpy.linalg": np.linalg, "scipy.linalg": scipy.linalg, "scipy.signal": scipy.signal,
           "scipy.special": scipy.special}
"""Where functions are looked for, by the names under which users import them."""

ROWS = {np.max: "amax", np.min: "amax", np.clip: "clip"}
"""Functions that are no ufuncs, but whose convention at kinks is that of one instruction."""


class Entry(NamedTuple):
    """A function of NumPy's or SciPy's.

    Attributes
    ----------
    name : str
        Its full name.
    call : str
        What is called in code that is differentiated: the function itself or one of `tape.scipy`; empty where there is none.
    note : str
        Its convention at kinks, or what is particular to it.
    """

    name: str
    call: str
    note: str


def table() -> list[Entry]:
    """Return what every public function is for recorded arrays.

    Examples
    --------
    >>> from tape.supported import table
    >>> entries = {entry.name: entry for entry in table()}
    >>> entries["numpy.absolute"].note, entries["numpy.linalg.pinv"].note
    ('x = 0: the partial is 0', 'the rank is taken as constant')
    >>> entries["scipy.linalg.expm"].call, entries["numpy.roots"].call
    ('tape.scipy.linalg.expm', '')
    """
    entries = []
    for module_name, module in MODULES.items():
        for name in sorted(dir(module)):
            function = getattr(module, name)
            if not name.startswith("_") and _is_function(module_name, function):
                entries.append(_entry(module_name, name, function))
    return entries


def _is_function(module_name, function) -> bool:
    """Whether it computes with arrays: a ufunc, or for NumPy a function that hands over to other arrays."""
    if isinstance(function, np.ufunc):
        return module_name != "scipy.special" or function.__name__ not in dir(np)
    if module_name.startswith("scipy"):
        return isinstance(function, types.FunctionType)
    return hasattr(function, "_implementation")


def _entry(module_name, name, function) -> Entry:
    full = f"{module_name}.{name}"
    row = TABLE.ufuncs.get(function.__name__) or TABLE.ufuncs.get(f"_{function.__name__}") or ROWS.get(function)
    note = TABLE[row].kinks if row else _note(FUNCTIONS.get(function))
    own = getattr(getattr(tape.scipy, module_name.removeprefix("scipy."), None), "__all__", ())
    if has_rule(function) or f"_{name}" in TABLE.ufuncs:  # some of SciPy's are Python functions around ufuncs
        return Entry(full, full, note)
    if module_name.startswith("scipy") and name in own:
        return Entry(full, f"tape.{full}", "")
    return Entry(full, "", "")


def _note(rule) -> str:
    """What the first sentence of a rule's documentation says after the function's name."""
    sentence = (getattr(rule, "__doc__", None) or "").split("\n\n")[0]
    found = re.match(r"`[\w.]+`[,;:]? ?(.*?)\.?$", " ".join(sentence.split()))
    return found.group(1) if found else ""


def markdown() -> str:
    """The table in Markdown."""
    lines = ["# NumPy's and SciPy's functions", "",
             "Made by `python -m tape.supported --markdown` from the rules and the instruction table, with "
             f"numpy {_minor(np)} and scipy {_minor(scipy)}. Functions without an entry in the second column are not "
             "differentiated; called on recorded arrays, they raise `tape.NotDifferentiable` and name an alternative.", "",
             "| function | called as | convention at kinks, and what is particular |", "|---|---|---|"]
    lines += [f"| {entry.name} | {entry.call} | {entry.note.replace('|', chr(92) + '|')} |" for entry in table()]
    return "\n".join([*lines, ""])


def _minor(module) -> str:
    return ".".join(module.__version__.split(".")[:2])


def show() -> None:
    """Print the table as text."""
    entries = table()
    width = max(len(entry.name) for entry in entries)
    for name, call, note in entries:
        how = {"": "-", name: "yes"}.get(call, call)
        print(f"{name:{width}}  {how:6}  {note}".rstrip())
    print(f"\n{sum(bool(entry.call) for entry in entries)} of {len(entries)} functions are supported")


def main() -> None:
    """Print the table, as text or in Markdown."""
    parser = argparse.ArgumentParser(prog="python -m tape.supported", description=__doc__.split("\n")[0])
    parser.add_argument("--markdown", action="store_true", help="as a table in Markdown, for SUPPORTED.md")
    if parser.parse_args().markdown:
        print(markdown(), end="")
    else:
        show()


if __name__ == "__main__":
    main()
