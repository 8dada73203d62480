"""Tapes: a recorded list as users hold it, look at it, change its arguments, and keep it in a file.

`record.py` makes tapes of functions and reads them from files, `tape.py` is the Tape with its sweeps and tables, `graph.py` the
textbook's view of it (variables, operations, who uses what), `saving.py` what a file says beside the list. The top wing below
the face: it may import every other one.
"""
