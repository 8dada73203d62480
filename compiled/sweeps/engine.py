"""The sweeps of an instruction set: kernels that are compiled once on a machine, and whether they are there.

A kernel has all rows of the table, and compiles for 10 to 30 seconds. So nobody should meet that without need: `Engine.has`
says whether a sweep's kernel is in this process or on disk, and who can do without it asks first. Until it is there an
interpreter stands in for it, which registers itself (`compiled.native.interpreter`).

Environment: `TAPE_NATIVE=0` says that everything is to be run by the sweeps, whatever their kernels cost.
"""

from __future__ import annotations

import functools
import os
import time

import numpy as np
from numba.core import types

from compiled.announcing import announced
from compiled.cache import is_kept
from compiled.numba_loading import load_numba
from compiled.sweeps.forward import make_forward
from compiled.sweeps.reverse import make_reverse
from compiled.sweeps.tangent import make_tangent
from compiled.sweeps.tangent_reverse import make_tangent_reverse
from compiled.table.instructions import TABLE

BUFFERS = {"forward": 1, "reverse": 2, "tangent": 2, "tangent_reverse": 4}
"""The sweeps, and how many buffers each walks over."""

PATIENCE = 15.0
"""Seconds spent on doing without a kernel from which on it is compiled: about what that takes."""

INTERPRETED = 5.0
"""A second of the interpreter counts for so many, as the kernel would have done its work in no time."""

_MAKERS = {"forward": make_forward, "reverse": make_reverse, "tangent": make_tangent, "tangent_reverse": make_tangent_reverse}

mode = functools.partial(os.environ.get, "TAPE_NATIVE", "1")
"""What `TAPE_NATIVE` says: "0", "1" or "always"."""


@functools.cache
def sweep_of(table, name: str):
    """The sweep `name` over a table, to be compiled, or loaded from disk, at its first call."""
    return _MAKERS[name](table)


class Engine:
    """The four sweeps over one instruction set, for lists of one dtype.

    Parameters
    ----------
    table : instructions.Table
        The instruction set.
    dtype : dtype
        Of the buffers.

    Attributes
    ----------
    forward, reverse, tangent, tangent_reverse
        See `forward.make_forward` and the others; the interpreter's, where there is no kernel yet.
    spent : dict of str to float
        For each sweep the seconds spent on doing without its kernel.
    """

    interpreter: type | None = None
    """Of a table makes what has the sweeps as methods; registers itself."""

    def __init__(self, table=TABLE, dtype=np.float64):
        self.table, self.dtype = table, np.dtype(dtype)
        self.spent = dict.fromkeys(BUFFERS, 0.0)
        self._missing: set[str] = set()

    def has(self, name: str) -> bool:
        """Whether sweep `name` can be used now: its kernel is there, or it is time to make it."""
        if name in vars(self) or mode() == "0" or self.spent[name] >= PATIENCE:
            return True
        if name in self._missing:
            return False
        found = self.is_kept(name)
        if not found:
            self._missing.add(name)
        return found

    def is_kept(self, name: str) -> bool:
        """Whether the kernel of sweep `name` is in this process or on disk."""
        sweep, wanted = sweep_of(self.table, name), self.signature(name)
        return wanted in sweep.overloads or is_kept(sweep, wanted)

    def miss(self, names, seconds: float) -> None:
        """Note that so many seconds have gone into doing without some sweeps."""
        for name in names:
            self.spent[name] += seconds

    def compile(self, name: str):
        """Make sweep `name` usable: compiled, or loaded from disk; returns it."""
        sweep, wanted = sweep_of(self.table, name), self.signature(name)
        if wanted not in sweep.overloads:
            load_numba()
            sweep.compile(wanted)
        return sweep

    def signature(self, name: str) -> tuple:
        """The types that Numba sees in calls of sweep `name`."""
        number = types.float32 if self.dtype == np.float32 else types.float64
        extra = {"forward": (types.int64, types.int64), "reverse": (types.boolean,)}.get(name, ())
        return (types.Array(types.int32, 2, "C"), types.Array(types.int64, 1, "C"),
                *[types.Array(number, 1, "C")] * BUFFERS[name], *extra)

    def __getattr__(self, name):
        # Reached only until the attribute is there.
        if name not in BUFFERS:
            raise AttributeError(name)
        if self.interpreter is None or self.has(name):
            if self.is_kept(name):
                return vars(self).setdefault(name, self.compile(name))
            with announced(f"the {name.replace('_', ' over ')} sweep for {self.dtype}, once on this machine (python -m tape "
                           "build compiles all of them beforehand)"):
                return vars(self).setdefault(name, self.compile(name))

        def interpreted(*args):
            begin = time.perf_counter()
            status = getattr(self.interpreter(self.table), name)(*args)
            self.spent[name] += INTERPRETED * (time.perf_counter() - begin)
            return status

        return interpreted


def engine_of(table, dtype=np.float64) -> Engine:
    """The sweeps over a table for lists of a dtype, made once."""
    return _engine_of(table, np.dtype(dtype))


_engine_of = functools.cache(Engine)


ENGINE = engine_of(TABLE)
"""The sweeps over `instructions.TABLE` in double precision."""
