"""What a figure depends on: the machine, the versions, one thread; and how long a new process takes to be ready."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import subprocess
import sys
import tempfile

from bench import peers

PACKAGES = ("numba", "numpy", "scipy", *peers.NAMES)

_READY = """
import time
start = time.perf_counter()
import tape
imported = time.perf_counter()
tape.grad(lambda x: x * x)(1.0)
print(imported - start, time.perf_counter() - imported)
"""


def environment() -> dict:
    """Return date, machine, versions and thread counts."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "date": datetime.date.today().isoformat(), "python": platform.python_version(), "system": platform.system(),
        "machine": platform.machine(), "processor": _processor(), "processors": os.cpu_count(), "threads": 1,
        "versions": versions,
    }


def _processor() -> str:
    """Name of the processor, where the system tells."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def startup() -> dict[str, float]:
    """Measure new processes: one that finds nothing of ours on disk, and one that finds what the first has left there.

    Returns
    -------
    dict of str to float
        Seconds: "import" of `import tape`, "cold" and "warm" of the first gradient, which compiles its list or loads it.

    Raises
    ------
    RuntimeError
        When such a process fails; with what it said.
    """
    with tempfile.TemporaryDirectory() as folder:
        _, cold = _ready(folder)
        imported, warm = _ready(folder)
    return {"import": imported, "cold": cold, "warm": warm}


def _ready(cache: str) -> list[float]:
    environment = {**os.environ, "NUMBA_CACHE_DIR": cache, "TAPE_CACHE_DIR": cache}
    done = subprocess.run([sys.executable, "-c", _READY], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"a new process that computes a gradient failed: {done.stderr.strip()}")
    return [float(word) for word in done.stdout.split()]
