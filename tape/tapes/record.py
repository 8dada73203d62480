"""Where tapes come from: recording a function, and reading a file."""

from __future__ import annotations

import os
import typing
from collections.abc import Callable
from typing import Any

from tape import jitted
from tape.draw.contents import parameter_names
from tape.errors import NotDifferentiable
from tape.recording.arguments import is_float, parts_of
from tape.recording.containers import leaves_of, opened
from tape.recording.made import said_of
from tape.recording.signatures import Jitted, P
from tape.recording.traces import Traces
from tape.tapes import saving
from tape.tapes.tape import Tape


@typing.overload
def record(f: Callable[P, Any], *args: P.args, **kwargs: P.kwargs) -> Tape: ...
@typing.overload
def record(f: Jitted, *args: Any, **kwargs: Any) -> Tape: ...
def record(f, *args, **kwargs):
    """Record the Wengert list of a function at these arguments.

    Parameters
    ----------
    f : callable
        NumPy code of floats, arrays and nested containers of them.
    *args, **kwargs
        Its arguments; every float among them can be differentiated.

    Returns
    -------
    Tape
        With the values of this call in place.

    Raises
    ------
    NotDifferentiable
        When `f` uses a function without a rule.

    Examples
    --------
    >>> import tape
    >>> print(tape.record(lambda x: x * x + 1.0, 3.0))
    list of 2 instructions, 5 cells of float64
    %0 = input ()
    %2 = constant 1.0
    %1 = mul %0 %0  # ...
    %3 = add %1 %2  # ...
    return %3
    """
    args, kwargs = opened((args, kwargs))
    structure = leaves_of((args, kwargs))[1]
    if jitted.is_jitted(f):
        if kwargs:
            raise NotDifferentiable("tape.record of a jitted function: expected positional arguments")
        trace, workspace = jitted.recorded_trace(f, args, _float_arguments(args))
    else:
        trace, workspace = Traces(f).run(args, kwargs, _float_arguments(args))
    trace.program.check()
    recorded = Tape(trace, structure, workspace)
    recorded._names, recorded._said = parameter_names(f, len(args)), f"tape.record of {said_of(f)}"
    return recorded


def _float_arguments(args) -> tuple[int, ...]:
    """Numbers of the arguments that are made of floats alone."""
    numbers = []
    for number, argument in enumerate(args):
        leaves, _, wanted = parts_of(argument)
        if any(wanted) and all(is_float(x) for x, w in zip(leaves, wanted, strict=True) if w):
            numbers.append(number)
    return tuple(numbers)


def load(path: str | os.PathLike[str]) -> Tape:
    """Read a list that `Tape.save` wrote; nothing in the file is run.

    Parameters
    ----------
    path : str or path-like
        Name of the file.

    Returns
    -------
    Tape
        Its constants are in place, its inputs are zero: call `forward` first.

    Raises
    ------
    tape.InvalidTape
        When the file is truncated or was tampered with; the message names file, instruction, operation and operand.
    FileNotFoundError
        When there is no such file.

    Examples
    --------
    >>> import os, tempfile, tape
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     path = os.path.join(directory, "cube.npz")
    ...     tape.record(lambda x: x**3, 2.0).save(path)
    ...     t = tape.load(path)
    >>> float(t.forward(3.0))
    27.0
    """
    return Tape(*saving.load(path))
