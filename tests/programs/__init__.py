"""Jitted programs written the way Numba users write them, as test data by field."""
