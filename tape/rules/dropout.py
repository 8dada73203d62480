"""Dropout: a random mask drawn anew at each replay."""

from __future__ import annotations

from typing import Any

import numpy as np

from tape.errors import NotDifferentiable
from tape.recording.arrays import RecordedArray, evaluated, record
from tape.recording.dispatch import taken_over
from tape.recording.recorder import current_recorder
from tape.recording.signatures import X


def dropout(x: X, rate: float, seed: Any) -> X:
    """Set a random part of the elements to zero and scale the others up, so that the expected value stays.

    Parameters
    ----------
    x : array
        Plain or recorded.
    rate : float
        Probability with which an element is dropped, 0 <= rate < 1.
    seed : int
        Chooses the mask; pass it as an argument of the differentiated function, and each call draws the mask anew without
        being recorded anew.

    Returns
    -------
    array
        ``x * mask / (1 - rate)``, with a mask that depends on nothing but `seed` and the element's position.

    Raises
    ------
    ValueError
        For a rate outside [0, 1).
    NotDifferentiable
        For a seed that is no integer.

    Notes
    -----
    The random numbers are counter-based (SplitMix64 of seed and position): the same on every machine, in every order, in
    every thread.

    Source: Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", JMLR 15, 2014, in the
    inverted form that leaves the network unchanged when it is not training.

    Examples
    --------
    >>> import numpy as np, tape
    >>> kept = tape.dropout(np.ones(1000), 0.25, seed=1)
    >>> sorted(set(kept.tolist())), bool(0.7 < (kept > 0).mean() < 0.8)
    ([0.0, 1.3333333333333333], True)
    """
    if not isinstance(rate, RecordedArray) and not 0 <= rate < 1:
        raise ValueError(f"tape.dropout: expected a rate in [0, 1), got {rate}")
    integer = isinstance(seed, (int, np.integer)) or getattr(seed, "dtype", np.dtype(float)).kind in "iu"
    if not integer or isinstance(seed, bool):
        raise NotDifferentiable(f"tape.dropout: expected an integer seed, got {seed!r:.60}")
    other = taken_over((x,))
    if other is not None:
        return other(dropout, (x, rate, np.asarray(seed)), {})  # an array, so that another seed needs no other list
    if current_recorder() is None:
        return evaluated(lambda recorded: dropout(recorded, rate, seed), np.asarray(x))
    recorder = current_recorder()
    # Seed and positions are integers, but count as numbers of the list's precision, lest NumPy's rules ask for float64.
    positions = recorder.constant(np.arange(np.size(x)).reshape(np.shape(x)))
    number = seed.view if isinstance(seed, RecordedArray) else recorder.constant(int(seed))
    uniform = record("uniform", [RecordedArray(recorder, view, recorder.dtype) for view in (number, positions)])
    keep = RecordedArray(recorder, record("ge", (uniform, rate)).view, recorder.dtype)
    scale = record("div", (keep, 1.0 - rate))
    return x * scale
