"""`scipy.signal` functions of plain and recorded arrays: convolve, correlate, of any number of axes."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["convolve", "correlate"]


def convolve(in1: Any, in2: Any, mode: str = "full") -> Any:
    """Convolution over all axes: as SciPy's, except that it is always computed directly.

    Notes
    -----
    Memory of the product of both sizes is needed.

    Examples
    --------
    >>> import numpy as np, tape
    >>> tape.scipy.signal.convolve(np.array([1.0, 2.0, 3.0]), np.array([1.0, -1.0]))
    array([ 1.,  1.,  1., -3.])
    """
    shapes = np.shape(in1), np.shape(in2)
    if len(shapes[0]) != len(shapes[1]):
        raise ValueError(f"tape.scipy.signal.convolve: expected as many axes of both arrays, got the shapes {shapes}")
    if mode not in ("full", "valid", "same"):
        raise ValueError(f"tape.scipy.signal.convolve: expected mode 'full', 'valid' or 'same', got {mode!r}")
    if not shapes[0]:
        return in1 * in2
    if mode == "valid":
        larger = [n >= m for n, m in zip(*shapes, strict=True)]
        if not all(larger):
            in1, in2 = in2, in1
            if any(n > m for n, m in zip(*shapes, strict=True)):
                raise ValueError("tape.scipy.signal.convolve: for mode 'valid' one array must be at least as large as the "
                                 f"other along every axis, got the shapes {shapes}")
    else:
        in1 = np.pad(in1, [(m - 1, m - 1) for m in shapes[1]])
    ndim = np.ndim(in1)
    windows = np.lib.stride_tricks.sliding_window_view(in1, np.shape(in2))
    result = np.tensordot(windows, np.flip(in2), (range(ndim, 2 * ndim), range(ndim)))
    if mode == "same":
        starts = [(m - 1) // 2 for m in shapes[1]]
        result = result[tuple(slice(start, start + n) for start, n in zip(starts, shapes[0], strict=True))]
    return result


def correlate(in1: Any, in2: Any, mode: str = "full") -> Any:
    """Cross-correlation over all axes: as SciPy's, except that it is always computed directly.

    Examples
    --------
    >>> import numpy as np, tape
    >>> tape.scipy.signal.correlate(np.array([1.0, 2.0, 3.0]), np.array([1.0, -1.0]), mode="valid")
    array([-1., -1.])
    """
    return convolve(in1, np.flip(in2), mode)
