"""Control flow and operations with rules: scan, fori, while_loop, cond, checkpoint, operation.

`loops.py` records loops and branches as one instruction each, `operations.py` gives jitted functions rules of the user's,
checkpoints and scans. Imports `derivatives`, as a rule may be a derivative.
"""
