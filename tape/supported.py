"""The table of NumPy's and SciPy's functions: which are differentiated, and the convention taken at kinks.

`python -m tape.supported` prints it, from the rules and rows themselves.
"""

from __future__ import annotations

import types

import numpy as np
import scipy.special

from compiled.instructions import TABLE
from tape.rules import has_rule

MODULES = (("numpy", np), ("numpy.linalg", np.linalg), ("scipy.special", scipy.special))


def table() -> list[tuple[str, bool, str]]:
    """Return what every public function is for recorded arrays.

    Returns
    -------
    list of (str, bool, str)
        Full name, whether there is a rule, and the convention at kinks where its instruction states one.

    Examples
    --------
    >>> from tape.supported import table
    >>> entries = {name: (supported, kinks) for name, supported, kinks in table()}
    >>> entries["numpy.absolute"]
    (True, 'x = 0: the partial is 0')
    >>> entries["numpy.cumsum"], entries["numpy.polyfit"]
    ((True, ''), (False, ''))
    """
    entries = []
    for module_name, module in MODULES:
        for name in sorted(dir(module)):
            function = getattr(module, name)
            if not name.startswith("_") and _is_function(module_name, function):
                entries.append((f"{module_name}.{name}", *_supported(function)))
    return entries


def _is_function(module_name, function) -> bool:
    """Whether it computes with arrays: a ufunc, or for NumPy a function that hands over to other arrays."""
    if isinstance(function, np.ufunc):
        return module_name != "scipy.special" or function.__name__ not in dir(np)
    if module_name == "scipy.special":
        return isinstance(function, types.FunctionType)
    return hasattr(function, "_implementation")


def _supported(function) -> tuple[bool, str]:
    if isinstance(function, np.ufunc):
        row = TABLE.ufuncs.get(function.__name__)
        return has_rule(function), TABLE[row].kinks if row else ""
    return has_rule(function), _kinks_of_function(function)


def _kinks_of_function(function) -> str:
    """Of functions that are one instruction, the convention of its row; of others the rule's own text says it."""
    extremes = {np.max: "amax", np.min: "amax", np.nanmax: "amax", np.nanmin: "amax", np.std: "root_of_squares",
                np.linalg.norm: "root_of_squares", np.clip: "clip", np.where: "where"}
    return TABLE[extremes[function]].kinks if function in extremes else ""


def main() -> None:
    """Print the table, one function a line."""
    entries = table()
    width = max(len(name) for name, _, _ in entries)
    for name, supported, kinks in entries:
        print(f"{name:{width}}  {'yes' if supported else ' - '}  {kinks}".rstrip())
    print(f"\n{sum(supported for _, supported, _ in entries)} of {len(entries)} functions are supported")


if __name__ == "__main__":
    main()
