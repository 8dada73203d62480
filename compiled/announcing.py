"""What takes long says so: one line on standard error when something compiles for more than two seconds."""

from __future__ import annotations

import contextlib
import sys
import threading

LONG = 2.0
"""Seconds after which a line is written."""


@contextlib.contextmanager
def announced(what: str):
    """Say on standard error that `what` is being compiled, if what stands in the `with` block takes longer than `LONG`."""
    timer = threading.Timer(LONG, _say, (what,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _say(what):
    stream = sys.stderr
    if stream is not None:  # as in programs without a console
        print(f"tape: compiling {what}", file=stream, flush=True)
