"""LLVM IR to machine code in memory, with a cache of object code on disk.

What is here: the target machine, the optimiser's pipeline, loading. What is not: the IR (`emit.py`, `wrappers.py`).
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import os
import pathlib
import tempfile

import llvmlite.binding as llvm
import numpy as np
from numba.core.registry import cpu_target
from numba.misc.appdirs import AppDirs

from compiled.cache import is_private, package_digest, warn_uncached
from compiled.numba_loading import load_numba

MOST_FILES = 2000
"""Object files kept on disk; the oldest go first."""

PYTHON_SYMBOLS = ("PyComplex_FromDoubles", "PyFloat_FromDouble", "PyLong_FromLongLong", "PyEval_SaveThread",
                  "PyEval_RestoreThread")

MAGIC = b"wengert1"

BLAS = b"numba_xx"
"""What the names under which Numba registers BLAS begin with (see `table.structural.blas`)."""


def target_machine(portable: bool = False, cpu: str = "native") -> llvm.TargetMachine:
    """Return the machine of this process; with `portable` one whose objects can be linked into a library.

    `cpu` is "native", or "generic" for any processor of the architecture.
    """
    target = llvm.Target.from_triple(llvm.get_process_triple())
    native = cpu == "native"
    return target.create_target_machine(cpu=llvm.get_host_cpu_name() if native else "",
                                        features=llvm.get_host_cpu_features().flatten() if native else "", opt=3,
                                        reloc="pic" if portable else "default",
                                        codemodel="default" if portable else "jitdefault", jit=not portable)


@functools.cache
def _add_symbols() -> None:
    for name in PYTHON_SYMBOLS:
        llvm.add_symbol(name, ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p).value)
    for name, thing in (("tape_ndarray", np.ndarray), ("tape_f8", np.dtype(np.float64)), ("tape_f4", np.dtype(np.float32)),
                        ("tape_float64", np.float64), ("tape_float", float)):
        llvm.add_symbol(name, id(thing))


@functools.cache
def _add_blas() -> None:
    """Have Numba register BLAS, which loads all that it compiles with, for half a second."""
    load_numba()
    cpu_target.target_context  # noqa: B018  which does it


def vector_bits() -> int:
    """Width of the processor's vector registers."""
    features = llvm.get_host_cpu_features()
    if features.get("avx512f"):
        return 512
    return 256 if features.get("avx") else 128


def optimised(module_text: str, machine, vectorise: bool, unroll: bool) -> llvm.ModuleRef:
    """Parse and verify IR, and run LLVM's pipeline over it; see `compiled`."""
    module = llvm.parse_assembly(module_text)
    module.verify()
    options = llvm.create_pipeline_tuning_options(speed_level=3 if vectorise else 1)
    options.loop_vectorization = options.slp_vectorization = vectorise
    options.loop_unrolling = unroll
    llvm.create_pass_builder(machine, options).getModulePassManager().run(module, llvm.create_pass_builder(machine, options))
    return module


class Loaded:
    """Machine code in memory, for as long as this object lives."""

    def __init__(self, object_code: bytes):
        _add_symbols()
        if BLAS in object_code:
            _add_blas()
        backing = llvm.parse_assembly("")
        self._engine = llvm.create_mcjit_compiler(backing, target_machine())  # the engine takes the machine for its own
        self._object = llvm.ObjectFileRef.from_data(object_code)
        self._engine.add_object_file(self._object)
        self._engine.finalize_object()

    def address(self, name: str) -> int:
        """Address of a function or variable."""
        found = self._engine.get_function_address(name)
        return found or self._engine.get_global_value_address(name)


def compiled(text_of, key: str, vectorise: bool, unroll: bool) -> Loaded:
    """Return the machine code of a module, from the cache on disk if it is there.

    Parameters
    ----------
    text_of : callable
        Gives the IR; called when the cache does not have it.
    key : str
        Names all that the code depends on, apart from versions and processor.
    vectorise : bool
        Whether the optimiser should look for loops to vectorise.
    unroll : bool
        Whether it may unroll loops. Of many loops over whole arrays it makes tens of thousands of instructions, hardly faster,
        and spends seconds on them.
    """
    path = _cache_file(f"{key}{vectorise}{unroll}")
    code = _read(path)
    if code is None:
        machine = target_machine()
        code = machine.emit_object(optimised(text_of(), machine, vectorise, unroll))
        _write(path, code)
    return Loaded(code)


# ---------------------------------------------------------------------- the cache on disk


def cache_directory() -> pathlib.Path:
    """Where object code is kept: `TAPE_CACHE_DIR`, `NUMBA_CACHE_DIR` (absolute paths), or the user's cache directory."""
    for variable in ("TAPE_CACHE_DIR", "NUMBA_CACHE_DIR"):
        if os.path.isabs(os.environ.get(variable, "")):
            return pathlib.Path(os.environ[variable]) / "tape"
    return pathlib.Path(AppDirs("tape", False).user_cache_dir) / "native"


@functools.cache
def versions() -> bytes:
    """Hash of all that machine code depends on beside its IR: the sources that emit it, versions, and the processor."""
    digest = hashlib.sha256(package_digest().encode())
    digest.update(repr((llvm.get_process_triple(), llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten())).encode())
    return digest.digest()


def _cache_file(key: str) -> pathlib.Path:
    return cache_directory() / (hashlib.sha256(versions() + key.encode()).hexdigest() + ".o")


def _read(path) -> bytes | None:
    """The object code in a file, or None unless it is whole and nobody else can have put it there."""
    try:
        if not is_private(path.parent):
            warn_uncached(f"others can write to {path.parent}")
            return None
        content = path.read_bytes() if is_private(path) else b""
    except OSError:
        return None
    head, code = content[:40], content[40:]
    return code if head == MAGIC + hashlib.sha256(code).digest() else None


def _write(path, code: bytes) -> None:
    """Keep object code on disk where that is possible; other processes see the whole file or none."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not is_private(path.parent):
            return
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as stream:
            try:
                stream.write(MAGIC + hashlib.sha256(code).digest() + code)
                stream.close()
                os.replace(stream.name, path)
            except OSError:
                stream.close()
                os.unlink(stream.name)
                raise
    except OSError as error:
        warn_uncached(str(error))
    else:
        _remove_oldest(path.parent)


def _remove_oldest(folder) -> None:
    """Keep `MOST_FILES` files, though other processes may be doing so as well."""
    with contextlib.suppress(OSError):
        files = [file for file in os.scandir(folder) if file.name.endswith(".o")]
        ages: list[tuple] = []
        for file in files if len(files) > MOST_FILES else ():
            with contextlib.suppress(FileNotFoundError):
                ages.append((file.stat().st_mtime, file.path))
        for _, path in sorted(ages)[: max(0, len(ages) - MOST_FILES)]:
            pathlib.Path(path).unlink(missing_ok=True)
