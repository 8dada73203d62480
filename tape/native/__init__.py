"""Functions as machine code for users: compiled for one sample or for many, called from Python, SciPy and C.

`compiled.py` is `tape.compile` and what it returns, `batch.py` is `tape.batch`. How code is made is the business of
`compiled.native`. Imports `derivatives` and below.
"""
