"""The hash of all that derivatives of jitted functions depend on besides the function: this package's source and versions."""

import functools
import hashlib
import pathlib

import llvmlite
import numba


@functools.cache
def digest() -> str:
    """Hexadecimal hash of the package's source and of the versions of Numba and llvmlite."""
    found = hashlib.sha256(f"{numba.__version__} {llvmlite.__version__}".encode())
    for path in sorted(pathlib.Path(__file__).parents[1].rglob("*.py")):
        found.update(path.read_bytes())
    return found.hexdigest()
