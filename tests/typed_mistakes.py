"""Mistakes that a type checker finds before the program is run: one in each line that ends in `# mistake`.

`tests/test_types.py` reads this file; it is not run.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

import tape

Array = NDArray[np.float64]


def loss(x: Array, scale: float) -> np.float64:
    """A scalar function."""
    return np.sum(scale * x**2)


def named(x: Array) -> str:
    """A function that gives no number."""
    return str(x)


gradient = tape.grad(loss)
gradient(np.ones(2), "large")  # mistake
gradient("numbers", 1.0)  # mistake
gradient(np.ones(2), size=1.0)  # mistake
number: str = gradient(np.ones(2), 1.0)  # mistake
tape.grad(named)  # mistake
tape.grad(loss, argnums=1.5)  # mistake
tape.jacobian(loss, mode="spares")  # mistake
value, slope, more = tape.value_and_grad(loss)(np.ones(2), 1.0)  # mistake
tape.jvp(loss, (np.ones(2), 1.0), ("north", 1.0))  # mistake
tape.vjp(loss, np.ones(2), "large")  # mistake
tape.record(loss, np.ones(2))  # mistake
tape.compile(loss, np.ones(2), 1.0, lanes="all")  # mistake
tape.batch(loss, threads="many")  # mistake
tape.gradient(loss)  # mistake
