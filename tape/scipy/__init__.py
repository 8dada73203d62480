"""Functions under SciPy's names, for recorded arrays, where SciPy's own are no ufuncs and cannot hand over to us."""

from tape.scipy import signal, special

__all__ = ["signal", "special"]
