"""Compiling the kernels of all sweeps beforehand, in as many processes as there are processors."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import time
from collections.abc import Iterator
from typing import NamedTuple

from compiled.sweeps.engine import BUFFERS, engine_of
from compiled.table.instructions import TABLE

DTYPES = ("float64", "float32")


class Built(NamedTuple):
    """A kernel that is compiled: the sweep's name, its dtype, the seconds it took, and the folder that it is kept in."""

    name: str
    dtype: str
    seconds: float
    place: str


def build(dtypes=DTYPES, sweeps=tuple(BUFFERS)) -> Iterator[Built]:
    """Compile what is not on disk yet, side by side; one after the other as they are done."""
    wanted = [(name, dtype) for dtype in dtypes for name in sweeps if not engine_of(TABLE, dtype).is_kept(name)]
    if not wanted:
        return
    with concurrent.futures.ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn")) as pool:
        for done in concurrent.futures.as_completed([pool.submit(_built, *one) for one in wanted]):
            yield done.result()


def _built(name, dtype) -> Built:
    begin = time.perf_counter()
    sweep = engine_of(TABLE, dtype).compile(name)
    return Built(name, dtype, time.perf_counter() - begin, sweep.stats.cache_path or "")
