"""The instruction set: one row an instruction, from which sweeps, native code, checks and derivatives are made.

`instructions.py` has the elementwise rows with their values, partials, kinks, domains and exact forms, `structural/` a file for
each row on whole arrays. A rule is written once and read with other numbers each time: floats and duals (`numbers.py`), LLVM
values (`llvm.py`), whole arrays (`numpy_reader.py`). `layout.py` says how an instruction stands in memory, `views.py` what an
operand is. It imports `functions` only; everything else may import it.
"""
