"""The kernels that walk a list: forward, reverse, tangent, and tangent over reverse.

The four files of these names hold a loop each; `steps.py` makes one instruction a block of a switch from the table's rows,
`planes.py` and `sweep.py` run it over the cells of an array, and `engine.py` makes the kernels at their first use and keeps
them on disk. `colouring.py` says which columns of a sparse matrix one sweep computes together. Imports `table` and `lists`.
"""
