"""Functions under SciPy's names, for recorded arrays, where SciPy's own are no ufuncs and cannot hand over to us.

`linalg`, `signal` and `special` are public modules, and hold what `scipy` has under these names. Plain arrays go to SciPy's own
functions. Imports `recording` and `rules`.
"""

from tape.scipy import linalg, signal, special

__all__ = ["linalg", "signal", "special"]
