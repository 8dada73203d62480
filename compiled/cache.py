"""Kernels that are jitted once and cached on disk, under a key that cannot go stale.

Numba's own key is the bytecode of one function. A sweep also depends on the instruction table and on every file that
emits code, so the key here holds a hash of both, and the versions of Numba and llvmlite.
"""

import functools
import hashlib
import pathlib

import llvmlite
import numba
from numba import njit
from numba.core.caching import FunctionCache

from compiled.numba_loading import load_numba


@functools.cache
def package_digest() -> str:
    """Hexadecimal hash of this package's source and of the versions of Numba and llvmlite."""
    digest = hashlib.sha256(f"{numba.__version__} {llvmlite.__version__}".encode())
    for path in sorted(pathlib.Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


class _KernelCache(FunctionCache):
    """Numba's cache on disk, with `digest` in place of the hash of the function's closure."""

    def __init__(self, function, digest):
        super().__init__(function)
        self._digest = digest

    def _index_key(self, signature, codegen):
        code = hashlib.sha256(self._py_func.__code__.co_code).hexdigest()
        return signature, codegen.magic_tuple(), code, self._digest


def kernel(table):
    """Decorator: jit a sweep over `table`, without the GIL, cached on disk.

    Parameters
    ----------
    table : instructions.Table
        The instruction set that the sweep's intrinsics were made from.
    """

    def decorate(function):
        dispatcher = njit(nogil=True, _nrt=False, error_model="numpy")(function)
        return cached(dispatcher, package_digest() + table.digest())

    return decorate


def cached(dispatcher, digest: str):
    """Keep what a jitted function is compiled to on disk, under `digest` of all that it depends on; returns the function."""
    load_numba()
    dispatcher._cache = _KernelCache(dispatcher.py_func, digest)
    return dispatcher
