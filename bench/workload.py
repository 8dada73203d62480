"""What a workload is: a function, its arguments, the same mathematics for each peer.

A new workload is one `Workload` in one file of `bench/workloads/`; nothing else names it. How its gradients are verified
stands in `verification.py`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field

import tape


@dataclass
class Case:
    """A workload at given data.

    Attributes
    ----------
    function : callable
        NumPy code with one scalar result: what we differentiate.
    args : tuple
        Its arguments.
    argnums : tuple of int
        Those that are differentiated.
    plain : callable, optional
        The same function in NumPy alone; needed where `function` calls functions of `tape`, which are no measure of NumPy.
    jitted : callable, optional
        The same function for Numba, where NumPy's own overhead hides what the arithmetic costs.
    exact : callable, optional
        With the arguments of `function`: the gradient derived by hand, in nested containers as `tape` returns it.
    peers : dict of str to callable
        For each peer a function `prepare()`, which returns a callable without arguments that computes value and gradient and
        returns the gradient, as a list of arrays in the order of `argnums` (containers flattened by sorted key).
    """

    function: Callable
    args: tuple
    argnums: tuple[int, ...] = (0,)
    plain: Callable | None = None
    jitted: Callable | None = None
    exact: Callable | None = None
    peers: dict[str, Callable] = field(default_factory=dict)

    def primal(self):
        """Evaluate the function with plain NumPy."""
        return (self.plain or self.function)(*self.args)

    def ours(self) -> Callable:
        """Return the callable that computes our value and gradient."""
        return functools.partial(tape.value_and_grad(self.function, self.argnums), *self.args)


@dataclass(frozen=True)
class Workload:
    """A row of the table.

    Attributes
    ----------
    name : str
        For `--only`.
    title : str
        For the table.
    make : callable
        `make(quick)` returns the `Case`; `quick` asks for a small one.
    """

    name: str
    title: str
    make: Callable[[bool], Case]
