"""Finding the user's own line: the innermost frame that is neither this project's nor NumPy's."""

import pathlib
import sys

import numpy as np
import optree

import compiled

_INTERNAL = tuple(str(pathlib.Path(module).parent) for module in (__file__, compiled.__file__, np.__file__, optree.__file__))
_is_internal: dict[str, bool] = {}


def user_line() -> tuple[str, int]:
    """Return (file, line) of the user's code that called into the project."""
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if not _internal(name):
            return name, frame.f_lineno
        frame = frame.f_back
    return "<unknown>", 0


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
