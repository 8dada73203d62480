"""Random numbers without a variable: the global generators of NumPy and of Python, and what says that one was used."""

from __future__ import annotations

import ctypes
import random

import numpy as np


def global_random_state():
    """Something that changes when NumPy's global random generator, or Python's, is used."""
    return _numpys_state(), random.getstate()


_without_gaussian: list = [None, None]
"""NumPy's global generator as it was seen last without a second Gaussian kept: its memory, and the generator."""

_MERSENNE_TWISTER = 624 * 4 + 4
"""Bytes of its state: the key, and the position in it."""


def _numpys_state():
    """Asking for the state takes 70 us, so it is asked only where the memory of the generator, or who it is, is new.

    A second Gaussian is not in that memory; but where there was none, none appears without new random bits.
    """
    generator = np.random.get_bit_generator()
    memory = None
    if type(generator) is np.random.MT19937:
        memory = ctypes.string_at(generator.ctypes.state_address, _MERSENNE_TWISTER)
        if _without_gaussian == [memory, generator]:
            return memory
    state = random_state(np.random.get_state(legacy=False))
    if memory is not None and memory.startswith(state[0]) and not state[2]:
        _without_gaussian[:] = memory, generator
        return memory
    return state


def random_state(state):
    """The state of a generator of NumPy's, its second Gaussian included, as something that compares equal or not."""
    inner = state.get("state", {})
    if "key" not in inner:
        return repr(state)
    return inner["key"].tobytes(), inner.get("pos"), state.get("has_gauss"), state.get("gauss")
