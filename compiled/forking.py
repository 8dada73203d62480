"""What a child that is forked while other threads are at work needs: locks that are free.

A child has one thread, the one that forked. What other threads held is held for ever there. So a fork waits until nobody
compiles (Numba's lock and LLVM's, which guard state that must not be cut in half); locks of this project guard moments, and are
made anew in the child. Properties that are computed once take no lock at all.
"""

from __future__ import annotations

import functools
import os
import threading

from llvmlite.binding import ffi
from numba.core.compiler_lock import global_compiler_lock


class cached_property(functools.cached_property):  # noqa: N801  named as the one it stands for
    """`functools.cached_property` as it is from Python 3.12 on: without a lock that is held while the property is computed.

    Threads that meet may each compute it; all get the one that was there first.
    """

    def __get__(self, instance, owner=None):
        if instance is None:
            return self
        made = self.func(instance)
        return instance.__dict__.setdefault(self.attrname, made)


class Lock:
    """A re-entrant lock of the process, which is free in a forked child."""

    def __init__(self):
        self._renew()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._renew)

    def _renew(self):
        self._lock = threading.RLock()

    def acquire(self, blocking=True) -> bool:
        """Take it; returns whether it was taken."""
        return self._lock.acquire(blocking)

    def release(self) -> None:
        """Let it go."""
        self._lock.release()

    def __enter__(self):
        self._lock.acquire()

    def __exit__(self, *_):
        self._lock.release()


def _wait_for_compilers():
    # In the order in which a thread that compiles takes them.
    global_compiler_lock.acquire()
    ffi.lib._lock.__enter__()


def _let_compilers_go():
    ffi.lib._lock.__exit__()
    global_compiler_lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_wait_for_compilers, after_in_parent=_let_compilers_go, after_in_child=_let_compilers_go)
