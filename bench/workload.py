"""What a workload is: a function, its arguments, the same mathematics for each peer.

A new workload is one `Workload` in one file of `bench/workloads/`; nothing else names it. How its gradients are verified
stands in `verification.py`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field

import tape
from bench.groups import RECORDED, Group
from bench.table import duration


@dataclass
class Case:
    """A workload at given data.

    Attributes
    ----------
    function : callable
        With one scalar result: what we differentiate. NumPy code, or a jitted function that nobody has called yet, so that its
        first call compiles it.
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
    derivative : callable, optional
        `derivative()` returns what computes our value and gradient from the arguments of `function`, where that is code which
        calls derivatives; `tape.value_and_grad` of the function by default.
    calls : int
        How many calls the function stands for: times are divided by it.
    step : float, optional
        Of the differences that the gradient is compared with, where the usual one would cross a kink.
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
    derivative: Callable | None = None
    calls: int = 1
    step: float | None = None
    peers: dict[str, Callable] = field(default_factory=dict)

    def primal(self):
        """Evaluate the function without derivatives."""
        return (self.plain or self.function)(*self.args)

    def ours(self) -> Callable:
        """Return the callable that computes our value and gradient."""
        both = self.derivative() if self.derivative else tape.value_and_grad(self.function, self.argnums)
        return functools.partial(both, *self.args)


@dataclass(frozen=True)
class Limit:
    """How long something may take: `times` as long as the primal, and `seconds` more.

    Examples
    --------
    >>> str(Limit(5.0, 20e-9)), str(Limit(0.0, 1.5e-6)), Limit(8.0, 0.5).of(0.25)
    ('5 x + 20 ns', '1.5 us', 2.5)
    """

    times: float
    seconds: float = 0.0

    def of(self, primal: float) -> float:
        """Return the seconds allowed where the primal takes `primal` seconds."""
        return self.times * primal + self.seconds

    def __str__(self):
        return " + ".join([*([f"{self.times:g} x"] if self.times else []), *([duration(self.seconds)] if self.seconds else [])])


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
    group : Group
        Which tables it is a row of.
    limit : Limit, optional
        On the time of our value and gradient.
    """

    name: str
    title: str
    make: Callable[[bool], Case]
    group: Group = RECORDED
    limit: Limit | None = None
