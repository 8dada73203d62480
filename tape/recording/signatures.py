"""The types that the signatures of public functions are written in, for those who check their programs with a type checker.

What is here: names for what a function that is differentiated takes and gives. Nothing here does anything at run time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, Protocol, TypeAlias, TypeVar

import numpy as np

P = ParamSpec("P")
"""The arguments of a function, or those after the first."""

X = TypeVar("X")
"""The argument that is differentiated: an array, a number, or nested containers of them. Its gradient is of the same type."""

Y = TypeVar("Y")
"""A result."""

Y_co = TypeVar("Y_co", covariant=True)

Function = TypeVar("Function", bound=Callable[..., Any])

Scalar: TypeAlias = "float | np.floating[Any] | np.ndarray[Any, Any]"
"""What a scalar function gives, as far as types tell: ``x @ x`` is an array to a type checker."""

ScalarResult = TypeVar("ScalarResult", bound=Scalar)


class Jitted(Protocol):
    """A function under ``@njit`` without options, as Numba's stubs have it: a decorator, so its arguments are not known."""

    def __call__(self, function: Callable[..., Any], /) -> Any:
        """What the stubs say; the function itself takes its own arguments."""


class Reporting(Protocol[P, Y_co]):
    """A gradient of a function: called with its arguments, and able to say what was recorded and which tier runs it."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Y_co:
        """Call it."""

    def report(self) -> str:
        """Say what was recorded."""

    def profile(self, *args: Any, repeat: int = 5, **kwargs: Any) -> Any:
        """Measure what each line costs at these arguments; a `tape.Profile`."""


class WithRules(Protocol[P, Y_co]):
    """An operation: called as the function it was made of, and given rules of its own."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Y_co:
        """Call it."""

    def bprop(self, rule: Function) -> Function:
        """Take the rule for adjoints; see `tape.operation`."""

    def jvp(self, rule: Function) -> Function:
        """Take the rule for tangents; see `tape.operation`."""
