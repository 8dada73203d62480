"""Finding the user's own line: the innermost frame that is neither this project's nor NumPy's or SciPy's; and its name.

Cells of notebooks are files that exist for IPython alone, with names that say nothing: they are named as their prompts are.
"""

import importlib.util
import os
import re
import sys

import numpy as np
import optree
import scipy

import compiled
from tape.recording.foreign import PACKAGES


def folder_of(module) -> str:
    """The folder of a module's package, or of the package itself, with a separator at its end: no other path begins so."""
    package = sys.modules[module.__name__.partition(".")[0]]
    return os.path.join(os.path.dirname(package.__file__), "")


THIS = sys.modules[__name__]
def folders_of(packages) -> list[str]:
    """The folders of those packages that are installed, which are not loaded for that."""
    found = map(importlib.util.find_spec, packages)
    return [os.path.join(folder, "") for spec in found if spec is not None for folder in spec.submodule_search_locations or ()]


_SCIPY = folder_of(scipy)
_LABELS = tuple(folders_of(PACKAGES))
_SPARSE = os.path.join(_SCIPY, "sparse", "")
_INTERNAL = (*map(folder_of, (THIS, compiled, np, optree, scipy)), *_LABELS)
_is_internal: dict[str, bool] = {}


def user_line() -> tuple[str, int]:
    """Return (file, line) of the user's code that called into the project; of a cell `file_name` of it."""
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if not _internal(name):
            return file_name(name), frame.f_lineno
        frame = frame.f_back
    return "<unknown>", 0


def asked_by_sparse() -> str | None:
    """The name of the method of a sparse matrix of SciPy's that calls the function that asks this; None for other callers."""
    code = sys._getframe(2).f_code
    return code.co_name if code.co_filename.startswith(_SPARSE) else None


def file_name(name: str) -> str:
    """What a file of the user's is called: itself; a cell of a notebook as its prompt, "In [3]".

    Where a cell was run several times unchanged, the number is that of the last time.

    Examples
    --------
    >>> from tape.recording.lines import file_name
    >>> file_name("model"), file_name("<ipython-input-3-0f1e2d3c4b5a>")
    ('model', 'In [3]')
    """
    is_cell = _is_cell.get(name)
    if is_cell is None:
        is_cell = _is_cell[name] = _CELL.search(name) is not None
    return _cell_name(name) if is_cell else name


def line_names(lines) -> list[str]:
    """Lines, pairs of file and number, as they are told to users; in a notebook "In [3]:12".

    No two are alike: two cells of one number (what runs silently has that of the next cell) keep their files' names.
    """
    names: dict[str, None] = {}
    for name, line in lines:
        said = f"{file_name(name)}:{line}"
        names[said if said not in names else f"{name}:{line}"] = None
    return list(names)


_CELL = re.compile(r"^<ipython-input-(\d+)-|[\\/]ipykernel_\d+[\\/]\d+\.py$")
"""Names of IPython for the code of a cell: in a terminal with the number in it, in a notebook with a hash of the code."""

_is_cell: dict[str, bool] = {}


def _cell_name(name: str) -> str:
    number = _CELL.search(name).group(1)
    if number is None:
        described = None
        if "IPython" in sys.modules:  # which is there where such files are, unless the code came from another process
            shell = sys.modules["IPython"].get_ipython()
            for path in (name, os.path.abspath(name)) if shell is not None else ():  # Numba tells of relative ones
                described = described or shell.compile.format_code_name(path)
        number = re.search(r"\d+", described[1]) if described else None
        if number is None:
            return name
        number = number.group()
    return f"In [{number}]"


def with_cell_names(text: str) -> str:
    """A message of Numba's, with the names of cells: 'File "...", line 5' becomes 'File "In [3]", line 5'."""
    return re.sub(r'(?<=File ")[^"\n]+|(?<= at )[^\n]+(?= \(\d+\))', lambda found: file_name(found.group()), text)


def asked_by_user() -> bool:
    """Whether what calls the function that asks this is the user's code, and not a library that looks for the real type."""
    frame = sys._getframe(2)
    while frame is not None and frame.f_globals.get("__name__") == "abc":  # of isinstance(x, numbers.Real)
        frame = frame.f_back
    if frame is None:
        return False
    return frame.f_code is np.isscalar.__code__ or frame.f_globals.get("__name__", "").partition(".")[0] not in _LIBRARIES


_LIBRARIES = {"tape", "compiled", "numpy", "scipy", "optree", "numba", "functools", "copyreg", "weakref", *PACKAGES}
"""Packages that ask for the type of an object to treat it rightly."""


def called_by(package: str) -> str | None:
    """The function of "scipy", or of "labels" (pandas and xarray), that the user called, if this was called from one."""
    frame, found = sys._getframe(1), None
    while frame is not None and frame.f_code.co_filename.startswith(_INTERNAL):
        own = frame.f_code.co_filename.startswith(_SCIPY if package == "scipy" else _LABELS)
        if own and not frame.f_code.co_name.startswith("__array"):
            found = frame.f_code.co_name
        frame = frame.f_back
    return found


def _internal(name: str) -> bool:
    """Whether a file is this project's or NumPy's."""
    internal = _is_internal.get(name)
    if internal is None:
        internal = _is_internal[name] = name.startswith(_INTERNAL) or name.startswith("<__array_function__")
    return internal


def user_stacklevel() -> int:
    """The `stacklevel` at which a warning given by the caller names the user's line."""
    frame, level = sys._getframe(1), 1
    while frame is not None and _internal(frame.f_code.co_filename):
        frame, level = frame.f_back, level + 1
    return level
