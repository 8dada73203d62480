"""Numba's tables of what it can compile, loaded in one piece.

Numba loads them when it first compiles, for a quarter of a second, and an exception in between (Ctrl-C, from whatever handler
of a signal) leaves it without the rest: nothing compiles any more in the process, and the errors speak of unknown attributes.
"""

from __future__ import annotations

import functools
import threading

from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target


def load_numba() -> None:
    """Have Numba load what it compiles with, unless it has; to be called before the first compilation.

    Handlers of signals run in the main thread, so another one does it: what they raise ends the waiting here, not the loading.
    """
    if not global_compiler_lock.is_locked():  # else this thread compiles, so it is loaded
        _loading().join()


@functools.cache
def _loading() -> threading.Thread:
    thread = threading.Thread(target=_load, name="tape loads numba", daemon=True)
    thread.start()
    return thread


def _load():
    with global_compiler_lock:  # a fork waits for it
        cpu_target.typing_context.refresh()
        cpu_target.target_context.refresh()
