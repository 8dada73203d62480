"""Numbers that carry derivatives through `@njit` code: three Numba types, their operations, and the lists they write.

`types.py` says what they are, `numbers.py` what an operation does to them, `functions.py` which operations there are,
`workspace.py` where the list of an `Active` number stands in memory, `reverse.py` how it is swept, `statements.py` how a
user's function is prepared, `arguments.py` and `derivatives.py` how a derivative is called.
"""
