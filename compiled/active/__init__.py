"""Numbers that carry derivatives through `@njit` code: three Numba types, their operations, and the lists they write.

`types.py` says what they are, `numbers.py` what an operation does to them, `functions.py` which operations there are,
`workspace.py` where the list of an `Active` number stands in memory, `reverse.py` how it is swept. A user's function is made
ready by `reach.py`, `statements.py` and `preparation.py`; `arguments.py`, `derivatives.py` and `jacobians.py` call it;
`arrays.py` has NumPy's functions. Imports `table`; what knows of users' objects is `tape.jitted`.
"""
