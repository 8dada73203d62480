"""Counting how often a function runs, without that being a variable which its recorded lists depend on."""

from contextvars import ContextVar


class Counter:
    """Counts in a context variable, which is not looked at; what a number, a list or an iterator holds would be."""

    def __init__(self):
        self._runs = ContextVar("runs")
        self._runs.set([0])

    def note(self):
        """Count a run (in the thread that made the counter)."""
        self._runs.get()[0] += 1

    @property
    def runs(self):
        """How often `note` was called."""
        return self._runs.get()[0]
