"""A native function as a C header and a shared library, linked by the system's C compiler."""

from __future__ import annotations

import pathlib
import shutil
import subprocess
import sys
import tempfile

from compiled.errors import TapeError
from compiled.functions import special
from compiled.native import machine
from compiled.native.calls import calls_of
from compiled.native.function import build_module

SUFFIX = {"win32": ".dll", "darwin": ".dylib"}.get(sys.platform, ".so")


def export(directory: pathlib.Path, name: str, functions, cpu: str) -> pathlib.Path:
    """Write ``<name>.h`` and the library; returns the header's path.

    Raises
    ------
    TapeError
        Where a function computes special functions that only SciPy has, or calls Python.
    """
    calls = [call.name for function in functions for call in calls_of(function.listing)]
    if calls:
        raise TapeError(f"export: the compiled list calls {calls[0]}, a Python function, which a library for C does not have")
    compiler = next((found for found in map(shutil.which, ("cc", "gcc", "clang")) if found), None)
    if compiler is None:
        raise FileNotFoundError("export: expected a C compiler to link the library with, found none of cc, gcc, clang")
    directory.mkdir(parents=True, exist_ok=True)
    target = machine.target_machine(portable=True, cpu=cpu)
    with tempfile.TemporaryDirectory() as scratch:
        objects = []
        for k, function in enumerate(functions):
            module = build_module(function.listing, function.signature, function.name, python=False, blas=False)
            missing = special.link_to_c(module)
            if missing:
                raise TapeError(f"export: {function.name} computes {', '.join(missing)} by SciPy's code, which C does not "
                                f"have; special functions that can be exported: {', '.join(special.IN_C)}, erf, erfc, ndtr")
            path = pathlib.Path(scratch) / f"{k}.o"
            path.write_bytes(target.emit_object(machine.optimised(str(module), target, True, function.unrolls())))
            objects.append(str(path))
        library = directory / f"lib{name}{SUFFIX}"
        libraries = [] if sys.platform == "win32" else ["-lm"]
        done = subprocess.run([compiler, "-shared", "-o", str(library), *objects, *libraries], capture_output=True, text=True)
        if done.returncode:
            raise OSError(f"export: {compiler} could not link {library}: {done.stderr.strip()[:500]}")
    header = directory / f"{name}.h"
    header.write_text(_header(name, functions), encoding="utf-8")
    return header


def _header(name, functions) -> str:
    guard = f"{name.upper()}_H"
    lines = [f"#ifndef {guard}", f"#define {guard}", "", "#ifdef __cplusplus", 'extern "C" {', "#endif", ""]
    for function in functions:
        signature = function.signature
        for slot in (*signature.inputs, *signature.pointers()):
            if slot.shape:
                lines.append(f"/* {slot.name}: {' x '.join(map(str, slot.shape))} numbers, row by row */")
        lines.append("/* Results must not overlap arguments; they are NaN where a recorded branch is taken otherwise. */")
        lines += [signature.c(function.name) + ";", ""]
    return "\n".join([*lines, "#ifdef __cplusplus", "}", "#endif", "", f"#endif /* {guard} */", ""])
