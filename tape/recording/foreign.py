"""Numbers in objects of other packages: pandas' series, frames and indices, xarray's arrays, SciPy's sparse matrices.

They are no arguments of a list, but go along, or are closed over: their numbers are constants, which are looked at again before
a replay. None of the packages is imported here; an object's class says which one it is from.

What is not here: such objects whose numbers are recorded (`tape.rules.labelled`).
"""

from __future__ import annotations

PACKAGES = ("pandas", "xarray")
"""Packages whose arrays have labels."""


def package_of(x) -> str:
    """The package that an object's class is from."""
    return type(x).__module__.partition(".")[0]


def is_sparse(x) -> bool:
    """Whether this is one of SciPy's sparse matrices or arrays."""
    return type(x).__module__.startswith("scipy.sparse") and hasattr(x, "tocoo")


def has_products_by_star(x) -> bool:
    """Whether this is one of SciPy's sparse matrices, whose ``*`` is the product of matrices, as their arrays' is not."""
    return is_sparse(x) and any(kind.__name__ == "spmatrix" for kind in type(x).__mro__)


def numbers_of(x):
    """The array that an array with labels holds (of xarray's it may be recorded); None for anything else."""
    package = package_of(x)
    if package == "pandas" and hasattr(x, "to_numpy"):
        return x.to_numpy()
    return x.data if package == "xarray" and hasattr(x, "dims") and hasattr(x, "data") else None


def contents_of(x) -> dict | None:
    """All that an object with labels holds, by names; None for anything else."""
    package = package_of(x)
    if package == "pandas" and hasattr(x, "to_numpy"):
        if hasattr(x, "columns"):
            columns = {k: x.iloc[:, k].to_numpy() for k in range(x.shape[1])}
            return {"columns": x.columns.to_numpy(), "index": x.index.to_numpy(), **columns}
        index = getattr(x, "index", None)  # of an index this is a method
        return {"values": x.to_numpy(), "name": getattr(x, "name", None), "index": getattr(index, "to_numpy", dict)()}
    if package == "xarray" and hasattr(x, "dims"):
        variables = getattr(x, "variables", None)  # of a dataset
        held = variables if variables is not None else {"data": x, **getattr(x, "coords", {})}
        return {"name": getattr(x, "name", None), "dims": tuple(x.dims), "attrs": dict(x.attrs),
                **{f"{name} {one.dims}": one.data for name, one in held.items()}}
    return None
