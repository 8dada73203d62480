"""Array instructions: what moves, multiplies or reduces cells and cannot be said cell by cell.

A row (`row.StructuralRow`) is all that is known of one such instruction: the layout of its words, kernels for the sweeps, LLVM
code, sparse pattern, derivative as a list, and meaning point by point. Sweeps, native code, lanes, patterns, derivatives, the
check and the reference interpreter read its fields; none of them knows its name. To add one, write a file here with a row, and
put the row into `rows.STRUCTURAL_ROWS`: `tests/test_array_instruction.py` is such a row, with the tests that it has to pass.
"""
