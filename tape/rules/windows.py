"""What networks do with windows of arrays: convolution and pooling, of one to three spatial axes.

A window is a view: an array padded once is read at all places without a copy. A convolution is then one product of matrices,
of the windows laid side by side with the kernels. So derivatives of every order follow from copies, sums and products, and
the row of a list that holds the windows is the memory that a convolution takes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from compiled.table.views import View
from tape.recording.arrays import RecordedArray, plain
from tape.recording.dispatch import taken_over
from tape.rules.contractions import as_recorded

MOST_AXES = 3
"""Spatial axes that a convolution or a pooling may have."""

EachAxis = int | Sequence[int]
"""One number for all spatial axes, or one for each."""

Padding = str | int | Sequence[int] | Sequence[tuple[int, int]]
"""What stands around the elements: a name, a number, one for each axis, or (before, after) for each axis."""


def conv(x: Any, w: Any, stride: EachAxis = 1, padding: Padding = 0, dilation: EachAxis = 1, groups: int = 1) -> Any:
    """Convolution of a batch with kernels over one to three spatial axes, channels first, as torch has it.

    Parameters
    ----------
    x : array, shape (N, C, *spatial)
        A batch, plain or recorded.
    w : array, shape (O, C / groups, *kernel)
        A kernel for each of the O channels of the result.
    stride : int or sequence of int
        From one place of the kernel to the next one, along all axes or along each.
    padding : int, sequence of int, sequence of (int, int), "valid" or "same"
        Zeros before and after each spatial axis. "valid" is none; with "same" an axis of length n has ceil(n / stride) places.
    dilation : int or sequence of int
        From one element of the kernel to the next one.
    groups : int
        Channels of x and of the result in as many groups, each of which sees its own alone; C for a depthwise convolution.

    Returns
    -------
    array, shape (N, O, *places)
        ``out[n, o, p] = sum over c and k of x[n, c, p * stride + k * dilation - padding] * w[o, c, k]``: the kernel is not
        mirrored (`tape.scipy.signal.convolve` mirrors it). Its axes lie in memory with the channels last.

    Raises
    ------
    ValueError
        For shapes that do not fit each other, and for numbers out of range.

    Notes
    -----
    A list holds the windows side by side: N * C * size of kernel * number of places cells, as many again while a gradient is
    computed. `tape.checkpoint` of a layer computes them anew instead of holding them.

    Source: Chellapilla, Puri and Simard, "High performance convolutional neural networks for document processing", 2006, for
    the convolution as a product of matrices.

    Examples
    --------
    >>> import numpy as np, tape
    >>> image = np.arange(16.0).reshape(1, 1, 4, 4)
    >>> edges = np.array([[1.0, -1.0]]).reshape(1, 1, 1, 2)
    >>> tape.conv(image, edges, padding="same").shape
    (1, 1, 4, 4)
    >>> tape.grad(lambda w: np.sum(tape.conv(image, w)))(edges)
    array([[[[84., 96.]]]])
    """
    other = taken_over((x, w))
    if other is not None:
        return other(conv, (x, w), {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups})
    x, w = plain(x), plain(w)
    shape = np.shape(w)
    stride, dilation = _conv_arguments(np.shape(x), shape, stride, dilation, groups)
    widths = _widths("tape.conv", padding, np.shape(x)[2:], shape[2:], stride, dilation)
    windows = _windows("tape.conv", _padded(_channels_last(x), widths, 0.0), shape[2:], stride, dilation)
    # windows: (N, *places, C, *kernel)
    if groups == 1:
        return _channels_first(_product(windows, w))
    if shape[1] == 1:
        return _channels_first(_depthwise(windows, w))
    parts = zip(np.split(windows, groups, axis=len(shape) - 1), np.split(w, groups), strict=True)
    return _channels_first(np.concatenate([_product(*part) for part in parts], axis=-1))


def _product(windows, w):
    """The places' channels, last, as a product of matrices: windows side by side, one a row, times kernels, one a column."""
    axes, places, kernel = np.ndim(w) - 2, np.shape(windows)[: np.ndim(w) - 1], np.shape(w)[2:]
    channels, outputs = np.shape(w)[1], np.shape(w)[0]
    first, then = list(range(axes + 1)), list(range(axes + 2, 2 * axes + 2))
    size = channels * math.prod(kernel)
    # Rows of windows are copied in runs: along the last axis of the kernel and the channels, or along places.
    if channels * kernel[-1] >= places[-1]:
        rows = np.reshape(np.transpose(windows, [*first, *then, axes + 1]), (math.prod(places), size))
        kernels = np.reshape(np.transpose(w, [*range(2, axes + 2), 1, 0]), (size, outputs))
    else:
        rows = np.transpose(np.reshape(np.transpose(windows, [axes + 1, *then, *first]), (size, math.prod(places))))
        kernels = np.transpose(np.reshape(w, (outputs, size)))
    return np.reshape(rows @ kernels, (*places, outputs))


def _depthwise(windows, w):
    """The places' channels, last, where each channel has kernels of its own: sums of products, without BLAS."""
    axes, places, kernel = np.ndim(w) - 2, np.shape(windows)[: np.ndim(w) - 1], np.shape(w)[2:]
    channels = np.shape(windows)[axes + 1]
    each = np.shape(w)[0] // channels
    windows = np.transpose(windows, [*range(axes + 2, 2 * axes + 2), *range(axes + 2)])[..., None]
    kernels = np.reshape(np.transpose(w, [*range(2, axes + 2), 0, 1]), (*kernel, *(1,) * (axes + 1), channels, each))
    return np.reshape(_sum_of_products(windows, kernels, axes), (*places, channels * each))


def _sum_of_products(a, b, axes):
    """The sum, over the first axes, of the products of two arrays that are broadcast together."""
    shape = np.broadcast_shapes(np.shape(a), np.shape(b))
    if not any(isinstance(array, RecordedArray) for array in (a, b)):
        return sum((a[k] * b[k] for k in np.ndindex(shape[:axes])), np.zeros(shape[axes:], np.result_type(a, b)))
    recorder = (a if isinstance(a, RecordedArray) else b).recorder
    a, b = as_recorded(recorder, a), as_recorded(recorder, b)
    out = recorder.zeros(shape[axes:])
    whole = View(out.cell, shape, (0,) * axes + out.strides)
    recorder.elementwise("accumulate_product", [a.view, b.view], shape, whole)
    return RecordedArray(recorder, out, np.result_type(a.dtype, b.dtype))


def max_pool(x: Any, size: EachAxis, stride: EachAxis | None = None, padding: Padding = 0) -> Any:
    """The largest element of each window, of one to three spatial axes, channels first, as torch has it.

    Parameters
    ----------
    x : array, shape (N, C, *spatial)
        A batch, plain or recorded.
    size : int or sequence of int
        Of the window, along all spatial axes or along each.
    stride : int or sequence of int, optional
        From one window to the next one; by default they lie side by side. What is left over at the end is in no window.
    padding : int, sequence of int, sequence of (int, int), "valid" or "same"
        As for `tape.conv`; less than a window. It is never the largest.

    Returns
    -------
    array, shape (N, C, *windows)

    Raises
    ------
    ValueError
        For shapes that do not fit each other, and for numbers out of range.

    Notes
    -----
    Elements of a window that tie share the adjoint equally, as for `numpy.max`. A NaN in a window is its largest element.

    Examples
    --------
    >>> import numpy as np, tape
    >>> x = np.array([[[1.0, 3.0, 2.0, 0.0]]])
    >>> tape.max_pool(x, 2)
    array([[[3., 2.]]])
    >>> tape.grad(lambda x: np.sum(tape.max_pool(x, 2)))(x)
    array([[[0., 1., 1., 0.]]])
    """
    other = taken_over((x,))
    if other is not None:
        return other(max_pool, (x, size), {"stride": stride, "padding": padding})
    windows, axes = _pooled("tape.max_pool", plain(x), size, stride, padding, -math.inf)
    return _channels_first(np.max(windows, axis=axes))


def avg_pool(x: Any, size: EachAxis, stride: EachAxis | None = None, padding: Padding = 0) -> Any:
    """The mean of each window, of one to three spatial axes, channels first, as torch has it.

    Parameters
    ----------
    x, size, stride, padding
        As for `tape.max_pool`. Zeros of the padding count.

    Returns
    -------
    array, shape (N, C, *windows)

    Raises
    ------
    ValueError
        For shapes that do not fit each other, and for numbers out of range.

    Examples
    --------
    >>> import numpy as np, tape
    >>> tape.avg_pool(np.array([[[1.0, 3.0, 2.0, 0.0]]]), 2)
    array([[[2., 1.]]])
    """
    other = taken_over((x,))
    if other is not None:
        return other(avg_pool, (x, size), {"stride": stride, "padding": padding})
    windows, axes = _pooled("tape.avg_pool", plain(x), size, stride, padding, 0.0)
    return _channels_first(np.mean(windows, axis=axes))


def _pooled(name, x, size, stride, padding, filling):
    """The windows of x, channels last, and the axes of a window."""
    spatial = _spatial(name, np.shape(x))
    size = _each(name, "size", size, len(spatial))
    stride = size if stride is None else _each(name, "stride", stride, len(spatial))
    widths = _widths(name, padding, spatial, size, stride, (1,) * len(spatial))
    if any(max(pair) >= n for pair, n in zip(widths, size, strict=True)):
        raise ValueError(f"{name}: expected a padding that leaves no window without an element, less than its size {size}, got "
                         f"{widths}")
    windows = _windows(name, _padded(_channels_last(x), widths, filling), size, stride, (1,) * len(spatial))
    return windows, tuple(range(len(spatial) + 2, 2 * len(spatial) + 2))


# ---------------------------------------------------------------------- windows


def _channels_last(x):
    return np.moveaxis(x, 1, -1)


def _channels_first(x):
    return np.moveaxis(x, -1, 1)


def _padded(x, widths, filling):
    """x, of shape (N, *spatial, C), with `filling` around its spatial axes; its axes in that order in memory."""
    if any(map(any, widths)):
        return np.pad(x, [(0, 0), *widths, (0, 0)], constant_values=filling)
    return x


def _windows(name, x, size, stride, dilation):
    """All windows of x, of shape (N, *spatial, C), as a view of shape (N, *places, C, *size)."""
    reach = [(n - 1) * step + 1 for n, step in zip(size, dilation, strict=True)]
    spatial = np.shape(x)[1:-1]
    if any(n < m for n, m in zip(spatial, reach, strict=True)):
        raise ValueError(f"{name}: expected spatial axes at least as long as the windows, which reach over {tuple(reach)}, got "
                         f"{spatial} with the padding")
    windows = np.lib.stride_tricks.sliding_window_view(x, reach, axis=tuple(range(1, len(size) + 1)))
    places = tuple(slice(None, None, step) for step in stride)
    return windows[(slice(None), *places, slice(None), *(slice(None, None, step) for step in dilation))]


# ---------------------------------------------------------------------- arguments


def _spatial(name, shape):
    """The spatial axes of a batch."""
    if not 3 <= len(shape) <= MOST_AXES + 2:
        raise ValueError(f"{name}: expected an array of shape (N, C, *spatial) with 1 to {MOST_AXES} spatial axes, got the shape "
                         f"{shape}; x[None] is a batch of one")
    return shape[2:]


def _conv_arguments(shape, kernel, stride, dilation, groups):
    """stride and dilation, for each axis."""
    axes = len(_spatial("tape.conv", shape))
    if len(kernel) != len(shape) or 0 in kernel:
        raise ValueError(f"tape.conv: expected kernels of shape (O, C / groups, *kernel) with {axes} spatial axes, as x of shape "
                         f"{shape} has, got the shape {kernel}")
    if isinstance(groups, bool) or not isinstance(groups, int) or groups < 1 or shape[1] % groups or kernel[0] % groups:
        raise ValueError(f"tape.conv: expected groups that divide the {shape[1]} channels of x and the {kernel[0]} of the result, "
                         f"got {groups!r}")
    if kernel[1] != shape[1] // groups:
        raise ValueError(f"tape.conv: expected kernels of {shape[1] // groups} channels, as x of shape {shape} has in "
                         f"{groups} group{'s' * (groups > 1)}, got the shape {kernel}")
    return _each("tape.conv", "stride", stride, axes), _each("tape.conv", "dilation", dilation, axes)


def _each(name, what, given, axes) -> tuple[int, ...]:
    """One positive number for each axis."""
    found = (given,) * axes if isinstance(given, (int, np.integer)) else given
    try:
        found = tuple(int(n) for n in found if n == int(n))
    except (TypeError, ValueError):
        found = ()
    if len(found) != axes or min(found) < 1:
        raise ValueError(f"{name}: expected {what} as a positive integer, or {axes} of them, got {given!r:.80}")
    return found


def _widths(name, padding, spatial, size, stride, dilation) -> list[tuple[int, int]]:
    """(before, after) of each spatial axis."""
    if isinstance(padding, str):
        if padding not in ("valid", "same"):
            raise ValueError(f"{name}: expected padding 'valid', 'same', or numbers, got {padding!r}")
        axes = zip(spatial, size, stride, dilation, strict=True)
        return [_same(*axis) if padding == "same" else (0, 0) for axis in axes]
    try:
        found = np.broadcast_to(padding, (len(spatial),)) if np.ndim(padding) < 2 else np.asarray(padding)
        pairs = [(int(low), int(high)) for low, high in (found if found.ndim == 2 else zip(found, found, strict=True))]
        fits = np.array_equal(pairs, found if found.ndim == 2 else np.stack([found, found], -1)) and len(pairs) == len(spatial)
    except (TypeError, ValueError):
        fits = False
    if not fits or min(map(min, pairs)) < 0:
        raise ValueError(f"{name}: expected padding as 'valid', 'same', a number from 0 on, {len(spatial)} of them, or as many "
                         f"pairs (before, after), got {padding!r:.80}")
    return pairs


def _same(n, size, stride, dilation):
    """The padding with which an axis of length n has ceil(n / stride) places; the odd one stands at the end, as in torch."""
    total = max((-(-n // stride) - 1) * stride + (size - 1) * dilation + 1 - n, 0)
    return total // 2, total - total // 2
