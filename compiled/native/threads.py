"""Machine code for many samples, over the threads of Numba's threading layer.

What is here: `LanesFunction`, which compiles a list for lanes and runs it over samples, and the kernel that does so in threads.
What is not: the code (`lanes.py`).

The samples are cut into blocks without regard to the threads wherever that could be seen in the results, so these are the
same for any number of threads.
"""

from __future__ import annotations

import ctypes
import functools
import math
import os

import numba
import numpy as np
from llvmlite import ir
from numba import njit, prange
from numba.core import types
from numba.extending import intrinsic
from numba.np.ufunc import parallel

from compiled.cache import cached
from compiled.forking import Lock
from compiled.lists.listing import Listing
from compiled.native import machine
from compiled.native.function import content_key, work_of
from compiled.native.lanes import LanesEmitter
from compiled.native.results import empty
from compiled.native.schedule import schedule
from compiled.table.llvm import I64

LITTLE_WORK = 1_000_000
"""Elements computed, over all samples, up to which one thread is faster than several."""

BLOCKS_PER_THREAD = 4

ALIGNED = 64
"""Blocks begin at multiples of so many samples."""

PARTIAL_BYTES = 1 << 24
"""Memory for the sums of blocks, from which follows how many blocks there are: at least `FEWEST_SUMS`, at most `MOST_SUMS`."""

FEWEST_SUMS, MOST_SUMS = 64, 1024


class LanesFunction:
    """Machine code of the list of one sample, for many samples.

    Parameters
    ----------
    listing : Listing
        Simplified, for forward runs alone.
    mapped : tuple of bool
        Which arguments have a sample axis.
    summed : bool
        Whether results are summed over the samples.
    lanes : int
        Samples at once.
    """

    def __init__(self, listing: Listing, mapped: tuple[bool, ...], summed: bool, lanes: int):
        self.listing, self.mapped, self.summed, self.lanes = listing, mapped, summed, lanes
        self.dtype = listing.dtype
        self.shapes = [result.shape for result in listing.outputs]
        key = f"lanes {lanes} {mapped} {summed} {content_key(listing).hex()}"
        self.loaded = machine.compiled(self._text, key, vectorise=False, unroll=False)
        self.address = self.loaded.address("lanes")
        self._call = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * 4)(self.address)  # releases the GIL
        self.work = max(work_of(schedule(listing)), 1)

    def _text(self):
        module = ir.Module("lanes")
        LanesEmitter(module, self.listing, "lanes", self.lanes, self.mapped, self.summed).function()
        return str(module)

    def __call__(self, arguments, count: int, threads: int):
        """Run the samples.

        Parameters
        ----------
        arguments : list of ndarray
            Contiguous, of the list's dtype; those that are mapped have a leading axis of `count` samples.
        count : int
            Number of samples, at least 1.
        threads : int
            How many to use at most.

        Returns
        -------
        status : int
            0 where all is well, else that of a guard or an index in some sample; the results are void then.
        results : list of ndarray
            With a leading axis of samples, or their sums.
        """
        threads = threads if count * self.work > LITTLE_WORK else 1
        block = self._summed_block(count) if self.summed else self._block(count, threads)
        blocks = -(-count // block)
        results = [empty((blocks if self.summed else count, *shape), self.dtype) for shape in self.shapes]
        pointers = np.array([a.ctypes.data for a in (*arguments, *results)], np.intp)
        statuses = np.zeros(blocks, np.int64)
        if threads == 1 or blocks == 1 or not _run_in_threads(threads, self.address, count, block, pointers, statuses):
            self._run(count, block, pointers, statuses)
        if self.summed:
            results = [np.add.reduce(r, axis=0, dtype=np.float64).astype(self.dtype) for r in results]
        return int(statuses.max()), results

    def _run(self, count, block, pointers, statuses):
        table = pointers.ctypes.data
        for b in range(len(statuses)):
            statuses[b] = self._call(b * block, min((b + 1) * block, count), b, table)
            if statuses[b]:
                return

    def _block(self, count, threads):
        """Samples of one call."""
        return _rounded_up(count, threads * BLOCKS_PER_THREAD) if threads > 1 else count

    def _summed_block(self, count):
        """Samples that are summed in lanes: no matter how many threads there are."""
        row = sum(max(math.prod(shape), 1) for shape in self.shapes) * self.dtype.itemsize
        return _rounded_up(count, min(max(PARTIAL_BYTES // max(row, 1), FEWEST_SUMS), MOST_SUMS))


def _rounded_up(count, blocks):
    return max(-(-count // (blocks * ALIGNED)), 1) * ALIGNED


def most_threads() -> int:
    """How many threads Numba may use."""
    return numba.config.NUMBA_NUM_THREADS


_one_at_a_time = Lock()
"""Not every threading layer can be entered twice, and there would be no processor left."""

_may_thread = [True]
"""Whether this process may use the threads: GNU's OpenMP ends a child whose parent had launched them."""


def _in_child():
    if parallel._is_initialized and numba.threading_layer() == "omp":
        _may_thread[0] = False


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)


def _run_in_threads(threads, address, count, block, pointers, statuses) -> bool:
    """Run all blocks; False, and nothing done, while another thread's call has the processors."""
    if not _may_thread[0] or not _one_at_a_time.acquire(blocking=False):
        return False
    try:
        before = numba.get_num_threads()
        numba.set_num_threads(min(threads, most_threads()))
        try:
            _kernel()(address, count, block, pointers.ctypes.data, statuses)
        finally:
            numba.set_num_threads(before)
    finally:
        _one_at_a_time.release()
    return True


@intrinsic
def _call_block(typingctx, address, start, stop, block, pointers):
    """Call machine code for one block; returns its status."""

    def emit(context, builder, signature, args):
        address, *rest = args
        kind = ir.FunctionType(I64, [I64] * 4)
        return builder.call(builder.inttoptr(address, kind.as_pointer()), rest)

    return types.int64(*[types.int64] * 5), emit


@functools.cache
def _kernel():
    """One kernel for all functions, compiled when threads are first used, and cached on disk."""

    def run_blocks(address, count, block, pointers, statuses):
        for b in prange(len(statuses)):
            statuses[b] = _call_block(address, b * block, min((b + 1) * block, count), b, pointers)

    return cached(njit(parallel=True, nogil=True)(run_blocks), machine.versions().hex())
