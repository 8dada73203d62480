"""Whose code is whose: the user's, an installed package's, the interpreter's, a library's that is known, or this project's.

A file belongs to the folder that it lies in; a class and a module to the file that they are from.
"""

from __future__ import annotations

import functools
import os
import sys
import sysconfig

import llvmlite
import numba
import numpy as np
import optree
import scipy

import compiled
from tape.recording.foreign import PACKAGES
from tape.recording.lines import THIS, folder_of, folders_of


def _real(path):
    return os.path.join(os.path.realpath(path), "")


_INSTALLED = tuple(_real(sysconfig.get_path(name)) for name in ("platlib", "purelib"))
_STANDARD = _real(sysconfig.get_path("stdlib"))
MACHINERY = tuple(_real(folder_of(module)) for module in (THIS, compiled, numba, llvmlite, optree))
"""Where objects are from whose insides are no business of the user's function."""

_LIBRARIES = (*MACHINERY, *(_real(folder_of(module)) for module in (np, scipy)), *map(_real, folders_of(PACKAGES)))


@functools.lru_cache(maxsize=4096)
def file_of(kind):
    """The file that a class is from; see `file_of_module`."""
    return file_of_module(kind.__module__, sys.modules.get(kind.__module__))


@functools.lru_cache(maxsize=4096)
def file_of_module(name, module) -> str | None:
    """The file of a module; a name in brackets where it has none but is not the interpreter's: a notebook, a session."""
    file = getattr(module, "__file__", None)
    return f"<{name}>" if file is None and name not in sys.builtin_module_names else file


@functools.lru_cache(maxsize=4096)
def is_installed(file: str) -> bool:
    """Whether code in this file is from an installed package."""
    return os.path.realpath(file).startswith(_INSTALLED)


@functools.lru_cache(maxsize=4096)
def is_library(file: str | None) -> bool:
    """Whether code in this file is the interpreter's, a library's that we know, or our own: its globals do not change."""
    if file is None:
        return True
    file = os.path.realpath(file)
    return file.startswith(_LIBRARIES) or (file.startswith(_STANDARD) and not file.startswith(_INSTALLED))
