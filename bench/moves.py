"""How far a call walks through the house: calls of its functions, files they are from, and moves between files.

Run as ``python -m bench.moves``. A move is a step from a file of this project to another one, by a call or by coming back from
it: a call of a function that lives elsewhere costs two moves, however long it stays. What NumPy, Numba and the user's function
do in between belongs to the file that called them; where machine code is entered through Numba, its function is a step like any
other. Coming in from outside is no move. What compiling and loading take in a process once (the sweeps, tables of dtypes) is
over before anything is counted.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

import compiled
import tape
from compiled.sweeps import engine

FOLDERS = tuple(os.path.join(os.path.dirname(package.__file__), "") for package in (tape, compiled))
"""Where the files are whose functions are counted."""


class Walk(NamedTuple):
    """What a call took.

    Attributes
    ----------
    calls : int
        Calls of functions of this project.
    rooms : int
        Files that these are from.
    moves : int
        Steps from file to file.
    ways : Counter
        Calls from one file to another: (file, file, function) to how often.
    """

    calls: int
    rooms: int
    moves: int
    ways: Counter

    def __str__(self):
        return f"{self.calls:6d} calls, {self.rooms:3d} rooms, {self.moves:6d} moves"


def walk(call: Callable[[], object]) -> Walk:
    """Follow a call of a function without arguments.

    Examples
    --------
    >>> from bench.moves import walk
    >>> from compiled.table.views import View
    >>> walk(lambda: View(0, (2, 3), (3, 1)).size)[:3]
    (1, 1, 0)
    """
    entered: list[str] = []
    rooms: set[str] = set()
    ways: Counter = Counter()
    calls = moves = 0
    last = None

    def follow(frame, event, argument):
        nonlocal calls, moves, last
        file = frame.f_code.co_filename
        if not file.startswith(FOLDERS):
            return
        if event == "call":
            if entered and entered[-1] != file:
                ways[entered[-1], file, frame.f_code.co_name] += 1
            calls += 1
            rooms.add(file)
            entered.append(file)
        elif event == "return" and entered:
            entered.pop()
        else:
            return
        now = entered[-1] if entered else last
        moves += last is not None and now != last
        last = now

    before = sys.getprofile()
    sys.setprofile(follow)
    try:
        call()
    finally:
        sys.setprofile(before)
    return Walk(calls, len(rooms), moves, ways)


def rosenbrock() -> Callable:
    """A new function, of which nothing is recorded."""
    def function(x):
        return np.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)

    return function


def scanned() -> Callable:
    """A new function with a loop that is recorded as a loop."""
    def step(state, u):
        return state + 0.1 * (u - state**3), state

    def function(x):
        last, states = tape.scan(step, x[0], x[1:])
        return last + np.sum(states**2)

    return function


@contextmanager
def native(chosen: str):
    """Say inside the `with` block which lists are run by native code, as the environment variable `TAPE_NATIVE` does."""
    before = os.environ.get("TAPE_NATIVE")
    os.environ["TAPE_NATIVE"] = chosen
    try:
        yield
    finally:
        del os.environ["TAPE_NATIVE"]
        if before is not None:
            os.environ["TAPE_NATIVE"] = before


def walks() -> dict[str, Walk]:
    """Follow the calls that users make most, in the order in which they are printed."""
    x, found = np.linspace(0.5, 1.5, 10), {}
    with native("1"):
        for _ in range(2):  # the first time loads what a process loads once
            gradient = tape.grad(rosenbrock())
            found["traced gradient, first call"] = walk(lambda call=gradient: call(x))
            found["traced gradient, warm call"] = walk(lambda call=gradient: call(x))
    with native("always"):
        for _ in range(2):
            gradient = tape.grad(rosenbrock())
            gradient(x)
            found["traced gradient, warm call by native code"] = walk(lambda call=gradient: call(x))
        for _ in range(2):
            function, made = rosenbrock(), []
            found["tape.compile"] = walk(lambda f=function, made=made: made.append(tape.compile(f, x)))
            found["tape.compile, first value_and_grad"] = walk(lambda made=made: made[0].value_and_grad(x))
    with native("1"):
        for _ in range(2):
            gradient = tape.grad(scanned())
            found["gradient of a traced scan, first call"] = walk(lambda call=gradient: call(x))
    return found


def main() -> None:
    """Print the walks; with ``--ways``, also from where to where the calls of each go."""
    engine.PATIENCE = 0.0  # walks are those of a machine that has the kernels
    for name, found in walks().items():
        print(f"{name:42s} {found}")
        if "--ways" in sys.argv:
            for (one, other, function), count in found.ways.most_common():
                print(f"{count:8d}  {os.path.basename(one)} to {os.path.basename(other)}: {function}")


if __name__ == "__main__":
    main()
