"""What NumPy's and SciPy's functions are on recorded arrays, by families of functions.

Each file enters its rules in the tables of `recording.dispatch` when it is loaded, and this package loads them all; nobody
calls them by name but other rules. Rules are written in NumPy on recorded arrays, down to rows of the instruction table;
`calls.py` is for operations that are Python functions with rules of their own. Imports `recording`, `transforms` and `jitted`.
"""

from tape.rules import (  # noqa: F401 (they register what they record)
    arrays,
    assembling,
    counting,
    cumulative,
    elementwise,
    labelled,
    linear_algebra,
    making,
    nan_reductions,
    polynomials,
    quantiles,
    reductions,
    sorting,
    sparse_matrices,
    ufuncs,
    writing,
)
