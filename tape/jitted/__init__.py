"""Functions that Numba has jitted: their derivatives, and their lists as tapes.

`derivatives.py` makes jitted functions of `compiled.active`'s derivatives and asks, in one place, whether a function is jitted;
`lists.py` makes a recorded list of one. Imports `recording`; nothing of traced functions.
"""
