"""Kernels that are jitted once and cached on disk, under a key that cannot go stale.

Numba's own key is the bytecode of one function. A sweep also depends on the instruction table and on every file that
emits code, so the key here holds a hash of both, and the versions of Numba and llvmlite.

Where nothing can be kept on disk, or others could have put it there, everything is compiled anew in each process, and one
warning says so.
"""

import contextlib
import functools
import glob
import hashlib
import os
import pathlib
import warnings

import llvmlite
import numba
from numba import njit
from numba.core.caching import FunctionCache
from numba.core.registry import cpu_target

from compiled.numba_loading import load_numba


@functools.cache
def package_digest() -> str:
    """Hexadecimal hash of this package's source, wings included, and of the versions of Numba and llvmlite."""
    digest = hashlib.sha256(f"{numba.__version__} {llvmlite.__version__}".encode())
    for path in sorted(pathlib.Path(__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


# ---------------------------------------------------------------------- places


def is_private(path) -> bool:
    """Whether a file or folder is the user's own, and nobody else can write to it; where there are no owners, it is."""
    if os.name != "posix":
        return True
    status = os.stat(path)
    return status.st_uid == os.geteuid() and not status.st_mode & 0o022


def _is_trusted(path: str, source: str) -> bool:
    """Whether nobody else can have put code into a file or folder; below that of the source, nobody who cannot change it."""
    if not os.path.isabs(path):
        return False
    beside = os.path.dirname(os.path.abspath(source))
    if os.name == "posix" and path.startswith(beside + os.sep):
        own, theirs = os.stat(path), os.stat(beside)
        return own.st_uid in (os.geteuid(), theirs.st_uid) and not own.st_mode & ~theirs.st_mode & 0o022
    return is_private(path)


_told: list[str] = []
"""What was said of places."""


def warn_uncached(reason: str) -> None:
    """Say, once in a process, that compiled code is not kept on disk."""
    if not _told:
        _told.append(reason)
        warnings.warn(f"compiled code is not kept on disk, but compiled anew in each process: {reason}; set NUMBA_CACHE_DIR "
                      "(or TAPE_CACHE_DIR) to a folder of your own that nobody else can write to", RuntimeWarning, stacklevel=2)


class PlacedCache(FunctionCache):
    """Numba's cache on disk, where there is a place for it that can be trusted; without one, nothing is loaded or kept."""

    def __init__(self, function):
        super().__init__(function)
        self._names = self._cache_file._data_name_pattern
        files = glob.glob(glob.escape(self._cache_file._index_path.removesuffix(".nbi")) + ".*")
        foreign = [path for path in (self.cache_path, *files) if not _is_trusted(path, function.__code__.co_filename)]
        if foreign:
            self._give_up(f"others can write to {foreign[0]}, or it is not an absolute path")

    def _give_up(self, reason):
        self.disable()
        warn_uncached(reason)

    def _load_overload(self, signature, target_context):
        try:
            return super()._load_overload(signature, target_context)
        except Exception:  # whatever a damaged file makes the reader of pickles raise
            with contextlib.suppress(OSError):
                self.flush()
            return None

    def _save_overload(self, signature, data):
        # Named by its key: two processes that save at one time must not take the same file for different code.
        key = hashlib.sha256(repr(self._index_key(signature, data.codegen)).encode()).hexdigest()[:16]
        self._cache_file._data_name_pattern = self._names.replace("{number", key + ".{number")
        try:
            super()._save_overload(signature, data)
        except OSError as error:
            self._give_up(str(error))


class _KernelCache(PlacedCache):
    """With `digest` in place of the hash of the function's closure."""

    def __init__(self, function, digest):
        super().__init__(function)
        self._digest = digest

    def has(self, signature) -> bool:
        """Whether the index of what is kept has an entry for these types."""
        try:
            key = self._index_key(signature, cpu_target.target_context.codegen())
            return self._enabled and key in self._cache_file._load_index()
        except Exception:  # whatever a damaged file makes the reader of pickles raise
            return False

    def _index_key(self, signature, codegen):
        code = hashlib.sha256(self._py_func.__code__.co_code).hexdigest()
        return signature, codegen.magic_tuple(), code, self._digest


# ---------------------------------------------------------------------- kernels


def kernel(table):
    """Decorator: jit a sweep over `table`, without the GIL, cached on disk.

    Parameters
    ----------
    table : instructions.Table
        The instruction set that the sweep's intrinsics were made from.
    """

    def decorate(function):
        dispatcher = njit(nogil=True, _nrt=False, error_model="numpy")(function)
        return _cached(dispatcher, package_digest() + table.digest())

    return decorate


def cached(dispatcher, digest: str):
    """Keep what a jitted function is compiled to on disk, under `digest` of all that it depends on; returns the function."""
    load_numba()
    return _cached(dispatcher, digest)


def _cached(dispatcher, digest):
    place(dispatcher, lambda: _KernelCache(dispatcher.py_func, digest))
    return dispatcher


def is_kept(dispatcher, signature: tuple) -> bool:
    """Whether what a kernel is compiled to for the types of its arguments is on disk."""
    return isinstance(dispatcher._cache, _KernelCache) and dispatcher._cache.has(signature)


def place(dispatcher, make) -> None:
    """Give a jitted function the cache on disk that `make` makes, where there is a place for one."""
    try:
        dispatcher._cache = make()
    except (RuntimeError, OSError) as error:  # Numba's, where there is no folder that can be written to
        warn_uncached(str(error))
