"""The recorded lists of one function, and which of them a call runs.

A list is kept for each structure, shape and dtype of the arguments, and for each outcome of the Python branches on the way.
The cache is bounded, safe to use from several threads, and trusts nothing that may have changed (`freshness.py`).

What is not here: the lists themselves (`trace.py`), and how a call is recorded (`recordings.py`).
"""

from __future__ import annotations

import itertools
import weakref
from typing import Any

import numpy as np

from compiled.forking import Lock
from tape.errors import NotDifferentiable
from tape.recording.argument_memory import memory_of
from tape.recording.arguments import HELD, describe
from tape.recording.containers import leaves_of, orders
from tape.recording.freshness import State
from tape.recording.recorder import failed_guard
from tape.recording.recordings import Recording, objects_of
from tape.recording.trace import Trace, Workspace

MOST_TRACES = 256
"""Lists kept for one function."""

_lock = Lock()
"""Around the moments in which lists of functions are kept; one for all, as a child process has to find it free."""


class Traces:
    """The lists of one function.

    Parameters
    ----------
    function : callable
        NumPy code.
    checks_integers : bool
        Whether bounds of integer arguments are looked at before each call; else the list itself has a guard wherever its
        results could be beyond what cells hold.
    replay : bool
        Whether lists are kept for further calls.
    has_aux : bool
        Whether the function returns a pair, of which the second part is no result but goes along.
    """

    def __init__(self, function, checks_integers=True, replay=True, has_aux=False):
        if not callable(function):
            raise NotDifferentiable(f"expected a function, got {type(function).__name__} ({function!r:.60})")
        try:
            # The registry of traces must not keep the function alive.
            self._function = weakref.ref(function)
        except TypeError:
            self._function = lambda: function
        self._groups: dict[Any, list[Trace]] = {}
        self._checks_integers, self._replay_calls, self._has_aux = checks_integers, replay, has_aux
        self._clock = itertools.count()
        self._states: State | None = None

    def run(self, args: tuple, kwargs: dict, argnums: tuple[int, ...]) -> tuple[Trace, Workspace]:
        """Run the function forward on plain arguments, recording it where no list fits.

        Returns
        -------
        trace, workspace
            The list that ran, and the buffers it ran in, values in place; hand the workspace back with `trace.idle.append`.
        """
        trace, workspace = self.run_found(*self.find(args, kwargs, argnums), args, kwargs, argnums)
        trace.finish(workspace)
        return trace, workspace

    def start(self, args, kwargs, argnums, derivative):
        """`find` and, unless a list that was found has machine code for the derivative, `run`.

        Returns
        -------
        key, leaves, traces, trace, workspace
            What `find` found; and the list that ran and its buffers, None where machine code is to be tried first.
        """
        key, leaves, traces = self.find(args, kwargs, argnums)
        for trace in traces:
            if derivative in trace.native:
                return key, leaves, traces, None, None
        return key, leaves, traces, *self.run_found(key, leaves, traces, args, kwargs, argnums)

    def find(self, args, kwargs, argnums):
        """Return the key of a call, its leaves, and the lists that were recorded for it and are not stale."""
        key, leaves = None if kwargs else _plain_key(args, argnums), args
        if key is None or (key not in self._groups and not _are_held(args)):
            leaves, structure = leaves_of((args, kwargs))
            own = structure, orders((args, kwargs), structure)
            key = self._key(own, [describe(leaf) for leaf in leaves], argnums)
        traces = self._groups.get(key)
        if traces:
            return key, leaves, self._fresh(traces, leaves, () if leaves is args else objects_of(leaves))
        return key, leaves, ()

    @staticmethod
    def _fresh(traces, leaves, objects):
        """The lists for these arguments that are not stale; those of equal snapshots have the same one, which is asked once."""
        fresh, asked, holds = [], None, False
        for trace in traces:
            if trace.state is not asked:
                asked, holds = trace.state, trace.state.holds(objects)
            admitted = holds and (not trace.has_bounds or trace.admits(leaves))
            if admitted and (trace.memory is None or trace.memory == memory_of(leaves)):
                fresh.append(trace)
        return fresh

    def run_found(self, key, leaves, traces, args, kwargs, argnums):
        """`run`, given what `find` found."""
        traces = [t for t in traces if not t.program.has_bodies]
        if traces:
            found = self._replay(traces, leaves)
            if found is not None:
                return found
        recording = Recording(self._function(), args, kwargs, argnums, self._checks_integers, self._has_aux)
        self._states = recording.state
        trace, workspace = recording.traced()
        if trace.state is not None and self._replay_calls:
            self._keep(key, trace)
        return trace, workspace

    def __iter__(self):
        """The lists that are kept."""
        return (trace for group in list(self._groups.values()) for trace in group)

    def _key(self, structure, described, argnums):
        key = (argnums, structure, tuple(described))
        try:
            hash(key)
        except (TypeError, ValueError):  # ValueError is of memoryviews
            static = tuple(id(d.dtype) if d.kind == "static" else d for d in described)
            key = (argnums, structure, static)
        return key

    @property
    def state(self) -> State:
        """What the function read when it was last recorded."""
        if self._states is None:
            self._states = State(self._function())
        return self._states

    def _replay(self, traces, leaves):
        """Run the trace whose guards all hold; None where there is none."""
        known: tuple[bytes, ...] = ()
        for _ in range(len(traces)):
            trace = next((t for t in traces if t.outcomes[: len(known)] == known), None)
            if trace is None:
                return None
            workspace, status = trace.run(leaves)
            if status < 0:
                trace.used = next(self._clock)
                return trace, workspace
            known = trace.outcome_at(workspace, failed_guard(status, trace.program))
            trace.idle.append(workspace)
        return None

    def _keep(self, key, trace):
        with _lock:
            trace.used = next(self._clock)
            group = [t for t in self._groups.get(key, []) if t.state == trace.state]
            for other in group:
                trace.state = other.state
            self._groups[key] = [trace, *group]
            everything = [(t.used, k, t) for k, group in self._groups.items() for t in group]
            if len(everything) > MOST_TRACES:
                _, oldest_key, oldest = min(everything, key=lambda entry: entry[0])
                kept = [t for t in self._groups[oldest_key] if t is not oldest]
                if kept:
                    self._groups[oldest_key] = kept
                else:
                    del self._groups[oldest_key]


def _are_held(args) -> bool:
    """Whether cells hold all arrays among plain arguments; others are looked at as objects are."""
    return all(argument.dtype.char in HELD for argument in args if type(argument) is np.ndarray)


def _plain_key(args, argnums):
    """Key of a call whose arguments are arrays and floats, without a look into containers; None for any other."""
    key = [argnums]
    for argument in args:
        kind = type(argument)
        if kind is np.ndarray:
            key.append(argument.shape)
            key.append(argument.dtype)
        elif kind is float:
            key.append(kind)
        else:
            return None
    return tuple(key)


_known: dict[bool, weakref.WeakKeyDictionary[Any, Traces]] = {
    has_aux: weakref.WeakKeyDictionary() for has_aux in (False, True)}


def traces_of(function, replay=True, has_aux=False) -> Traces:
    """The lists of `function`, shared by all derivatives of it, for as long as it lives; unless `replay`, none is kept."""
    has_aux = bool(has_aux)
    own = Traces(function, replay=replay, has_aux=has_aux)
    if not replay:
        return own
    try:
        with _lock:
            return _known[has_aux].setdefault(function, own)
    except TypeError:  # not hashable, or it cannot be referred to weakly
        return own
