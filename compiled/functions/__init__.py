"""Elementary and special functions as LLVM code, written once for doubles and for vectors of them.

The lowest wing: it imports nothing of the project. `elementary.py` is the list of what there is, `emitter.py` the words it is
written in; the others hold a family of functions each, with the source of their coefficients, and `special.py` reaches for
SciPy's kernels where there is no code of ours. Readers of the table come here by a row's `llvm`.
"""
