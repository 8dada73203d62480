"""One room that runs lists: a function at a point, and which engine answers for it.

`linearised.py` is that point, with value, gradient, pull, push and multiply; `derived.py` makes the lists of derivatives,
`executables.py` runs them and reads their status, `tiers.py` says when machine code pays. All verbs of `derivatives`, eager
variables and tapes ask here. Imports `recording`, `transforms`, `reports`.
"""
