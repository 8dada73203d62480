"""A Wengert list: while it is written, when it is finished, taken apart to be rewritten, checked, in a file.

`memory.py` grows while it is written, `program.py` is the finished list that kernels walk, `listing.py` its steps for passes;
`check.py` makes a list safe to run, `file.py` writes and reads it, `loops.py` and `calls.py` are the instructions with a body
or a Python function, and `reference.py` is a page of plain Python that says what running a list means. Imports `table`.
"""
