"""Functions under SciPy's names, for recorded arrays, where SciPy's own are no ufuncs and cannot hand over to us."""

from tape.scipy import linalg, signal, special

__all__ = ["linalg", "signal", "special"]
