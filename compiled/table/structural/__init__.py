"""Instructions on whole arrays: a file for each, or for the few that share kernels, with all that any room knows of them.

`row.py` says what such a row holds, `rows.py` lists them in the order of their opcodes; `indexed.py`, `matmul.py`, `amax.py`,
`guard.py` and `control.py` are the rows. `blas.py`, `extremes.py`, `cells.py` and `extents.py` are what they share. Imports
the table's layout and views; what native code and derivatives need of a row is handed to its functions.
"""
