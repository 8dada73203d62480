"""Batch normalisation: by the statistics of a batch in training, by given ones after it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tape.recording.arrays import plain
from tape.recording.dispatch import taken_over


def batch_norm(x: Any, scale: Any, shift: Any, axes: int | Sequence[int] | None = None, eps: float = 1e-5,
               statistics: tuple[Any, Any] | None = None) -> tuple[Any, tuple[Any, Any]]:
    """Normalise over a batch, and scale and shift what comes out.

    Parameters
    ----------
    x : array
        A batch, plain or recorded, by default of shape (N, C, places ...).
    scale, shift : array
        For each channel, in the shape of `x` without `axes`, which is (C,) by default.
    axes : int or sequence of int, optional
        Over which mean and variance are taken; by default all but axis 1.
    eps : float
        Is added to the variance.
    statistics : (mean, variance), optional
        What to normalise by, each in the shape of `scale`: running averages, when the network is used. By default those of
        the batch, through which derivatives flow.

    Returns
    -------
    y : array
        ``(x - mean) / sqrt(variance + eps) * scale + shift``, in the shape of `x`.
    statistics : (mean, variance)
        Those that were used, in the shape of `scale`; the variance is divided by the number of elements. Running averages of
        them are the caller's to keep (torch keeps the variance times n / (n - 1)).

    Raises
    ------
    ValueError
        For axes that `x` does not have, without an element to take the mean of, for shapes that do not fit, and for an eps
        that is not positive.

    Notes
    -----
    Source: Ioffe and Szegedy, "Batch normalization: accelerating deep network training by reducing internal covariate shift",
    ICML 2015.

    Examples
    --------
    >>> import numpy as np, tape
    >>> x = np.array([[1.0, 10.0], [3.0, 30.0]])
    >>> y, (mean, variance) = tape.batch_norm(x, np.ones(2), np.zeros(2))
    >>> y.round(3), mean, variance
    (array([[-1., -1.],
           [ 1.,  1.]]), array([ 2., 20.]), array([  1., 100.]))
    >>> tape.batch_norm(x[:1], np.ones(2), np.zeros(2), statistics=(mean, variance))[0].round(3)
    array([[-1., -1.]])
    """
    given = statistics if statistics is not None else ()
    other = taken_over((x, scale, shift, *given))
    if other is not None:
        return other(batch_norm, (x, scale, shift), {"axes": axes, "eps": eps, "statistics": statistics})
    x, scale, shift = plain(x), plain(scale), plain(shift)
    axes = _axes(axes, np.shape(x))
    if not eps > 0:
        raise ValueError(f"tape.batch_norm: expected a positive eps, got {eps!r:.80}")
    kept = tuple(1 if k in axes else n for k, n in enumerate(np.shape(x)))
    if statistics is None:
        mean = np.mean(x, axis=axes, keepdims=True)
        centered = x - mean
        variance = np.mean(np.square(centered), axis=axes, keepdims=True)
    else:
        mean, variance = (_spread("statistics", plain(array), axes, kept) for array in statistics)
        centered = x - mean
    factor = _spread("scale", scale, axes, kept) / np.sqrt(variance + eps)
    y = centered * factor + _spread("shift", shift, axes, kept)
    shape = tuple(n for k, n in enumerate(np.shape(x)) if k not in axes)
    return y, (np.reshape(mean, shape), np.reshape(variance, shape))


def _axes(axes, shape) -> tuple[int, ...]:
    """Normalised axes over which the statistics are taken."""
    if axes is None:
        if len(shape) < 2:
            raise ValueError(f"tape.batch_norm: expected an array of shape (N, C, *spatial), or axes, got the shape {shape}")
        axes = (0, *range(2, len(shape)))
    try:
        axes = np.lib.array_utils.normalize_axis_tuple(axes, len(shape))
    except (TypeError, ValueError) as error:
        raise ValueError(f"tape.batch_norm: expected axes of an array of shape {shape}, each once, got {axes!r:.80}") from error
    if math.prod(shape[k] for k in axes) == 0:
        raise ValueError(f"tape.batch_norm: expected elements along the axes {axes}, got the shape {shape}")
    return axes


def _spread(name, array, axes, kept):
    """One number a channel, as an array that is broadcast over a batch."""
    expected = tuple(n for k, n in enumerate(kept) if k not in axes)
    if np.shape(array) != expected:
        raise ValueError(f"tape.batch_norm: expected {name} of shape {expected}, as the array has without the axes {axes}, got "
                         f"{np.shape(array)}")
    return np.reshape(array, kept)
