"""What networks do with windows of arrays: convolution and pooling, of one to three spatial axes.

A window is a view: an array padded once is read at all places without a copy. A convolution is a product of matrices, of the
windows laid side by side with the kernels (`compiled.table.structural.windows`); pooling is a reduction of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from compiled.table.structural.windows import AXES, WindowWords, Y, record_product
from compiled.table.views import View
from tape.recording.arrays import RecordedArray, plain
from tape.recording.dispatch import taken_over
from tape.rules.contractions import as_recorded, sum_of_products

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
    x : array, shape (N, C, places ...)
        A batch, plain or recorded.
    w : array, shape (O, C / groups, kernel ...)
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
    array, shape (N, O, places ...)
        ``out[n, o, p] = sum over c and k of x[n, c, p * stride + k * dilation - padding] * w[o, c, k]``: the kernel is not
        mirrored (`tape.scipy.signal.convolve` mirrors it). Its axes lie in memory with the channels last.

    Raises
    ------
    ValueError
        For shapes that do not fit each other, and for numbers out of range.

    Notes
    -----
    Of recorded arrays it is one instruction (`window_product`), which makes no array of all windows: a list holds x with its
    padding, and the result. Its derivatives are instructions of the same row.

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
    x = _padded(x, widths, 0.0, _runs_along_channels(np.shape(x), shape, stride, widths))
    windows = _windows("tape.conv", x, shape[2:], stride, dilation)
    axes = len(shape) - 2
    windows = np.transpose(windows, [*range(axes + 1), *range(axes + 2, 2 * axes + 2), axes + 1])  # N, places, kernel, C
    kernels = np.transpose(w, [*range(2, axes + 2), 1, 0])  # kernel, C / groups, O
    if shape[1] == 1 and groups > 1:
        return _channels_first(_depthwise(windows, kernels))
    if any(isinstance(array, RecordedArray) for array in (x, w)) and np.result_type(x, w).kind == "f":
        return _channels_first(_recorded_products(windows, kernels, groups))
    parts = zip(np.split(windows, groups, axis=-1), np.split(kernels, groups, axis=-1), strict=True)
    return _channels_first(np.concatenate([_product(*part) for part in parts], axis=-1))


def _runs_along_channels(shape, kernel, stride, widths):
    """Whether the last axis of a kernel and the channels are a longer run of cells, where these come last, than places are."""
    places = (shape[-1] + sum(widths[-1]) - kernel[-1]) // stride[-1] + 1
    return kernel[1] * kernel[-1] >= places


def _recorded_products(windows, kernels, groups):
    """The places' channels, last, for windows (N, *places, *kernel, C) and kernels (*kernel, C / groups, O)."""
    recorder = (windows if isinstance(windows, RecordedArray) else kernels).recorder
    windows, kernels = as_recorded(recorder, windows), as_recorded(recorder, kernels)
    axes, channels, outputs = kernels.ndim - 2, kernels.shape[-2], kernels.shape[-1]
    places = windows.shape[: axes + 1]
    out = recorder.zeros((*places, outputs))
    each = outputs // groups
    for group in range(groups if windows.size and outputs else 0):
        x = windows[..., group * channels : (group + 1) * channels].view
        b = kernels[..., group * each : (group + 1) * each].copy().view
        (place_shape, place_steps), (kernel_shape, kernel_steps) = (
            _joined(x.shape[part], x.strides[part]) for part in (slice(axes + 1), slice(axes + 1, None)))
        runs = int(_run(place_shape, place_steps) > _run(kernel_shape, kernel_steps))
        words = WindowWords(Y, each, outputs, runs, place_shape, kernel_shape, place_steps, kernel_steps)
        record_product(recorder, words, (x, b, View(out.cell + group * each, (*places, each), out.strides)))
    return RecordedArray(recorder, out, np.result_type(windows.dtype, kernels.dtype))


def _joined(shape, strides):
    """Shape and strides with as many axes as a window product has, those joined that follow each other in memory."""
    joined = []
    for n, step in zip(shape, strides, strict=True):
        if joined and joined[-1][1] == n * step:
            joined[-1] = (joined[-1][0] * n, step)
        elif n > 1:
            joined.append((n, step))
    missing = [(1, 0)] * (AXES - len(joined))
    return tuple(tuple(part) for part in zip(*missing, *joined, strict=True))


def _run(shape, strides):
    """What runs along the last axis are worth: cells that are no neighbours are moved one by one."""
    return shape[-1] if strides[-1] == 1 else shape[-1] / 4


def _product(windows, kernels):
    """As `_recorded_products`, of one group, for any numbers: windows side by side, one a row, times kernels, one a column."""
    axes = np.ndim(kernels) - 2
    places, size = np.shape(windows)[: axes + 1], math.prod(np.shape(kernels)[:-1])
    rows = np.reshape(windows, (math.prod(places), size))
    return np.reshape(rows @ np.reshape(kernels, (size, -1)), (*places, np.shape(kernels)[-1]))


def _depthwise(windows, kernels):
    """As `_recorded_products`, where each channel has kernels of its own: sums of products, without BLAS."""
    axes, channels = np.ndim(kernels) - 2, np.shape(windows)[-1]
    places, kernel = np.shape(windows)[: axes + 1], np.shape(kernels)[:axes]
    windows = np.moveaxis(windows, range(axes + 1, 2 * axes + 1), range(axes))[..., None]
    kernels = np.reshape(kernels, (*kernel, *(1,) * (axes + 1), channels, -1))
    return np.reshape(sum_of_products(windows, kernels, axes), (*places, -1))


def max_pool(x: Any, size: EachAxis, stride: EachAxis | None = None, padding: Padding = 0) -> Any:
    """The largest element of each window, of one to three spatial axes, channels first, as torch has it.

    Parameters
    ----------
    x : array, shape (N, C, places ...)
        A batch, plain or recorded.
    size : int or sequence of int
        Of the window, along all spatial axes or along each.
    stride : int or sequence of int, optional
        From one window to the next one; by default they lie side by side. What is left over at the end is in no window.
    padding : int, sequence of int, sequence of (int, int), "valid" or "same"
        As for `tape.conv`; less than a window. It is never the largest.

    Returns
    -------
    array, shape (N, C, windows ...)

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
    array, shape (N, C, windows ...)

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
    windows = _windows(name, _padded(x, widths, filling, True), size, stride, (1,) * len(spatial))
    return windows, tuple(range(len(spatial) + 2, 2 * len(spatial) + 2))


# ---------------------------------------------------------------------- windows


def _channels_last(x):
    return np.moveaxis(x, 1, -1)


def _channels_first(x):
    return np.moveaxis(x, -1, 1)


def _padded(x, widths, filling, channels_last):
    """x with `filling` around its spatial axes, of shape (N, *spatial, C), in memory too where its channels are to be last."""
    if not channels_last:
        return _channels_last(np.pad(x, [(0, 0), (0, 0), *widths], constant_values=filling) if any(map(any, widths)) else x)
    x = _channels_last(x)
    if any(map(any, widths)):
        return np.pad(x, [(0, 0), *widths, (0, 0)], constant_values=filling)
    neighbours = x.view.strides[-1] == 1 if isinstance(x, RecordedArray) else x.strides[-1] == x.itemsize
    return x if neighbours or np.shape(x)[-1] == 1 else x.copy()


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
        raise ValueError(f"{name}: expected an array of shape (N, C, *spatial) with 1 to {MOST_AXES} spatial axes, got the "
                         f"shape {shape}; x[None] is a batch of one")
    return shape[2:]


def _conv_arguments(shape, kernel, stride, dilation, groups):
    """stride and dilation, for each axis."""
    axes = len(_spatial("tape.conv", shape))
    if len(kernel) != len(shape) or 0 in kernel:
        raise ValueError(f"tape.conv: expected kernels of shape (O, C / groups, *kernel) with {axes} spatial axes, as x of "
                         f"shape {shape} has, got the shape {kernel}")
    if isinstance(groups, bool) or not isinstance(groups, int) or groups < 1 or shape[1] % groups or kernel[0] % groups:
        raise ValueError(f"tape.conv: expected groups that divide the {shape[1]} channels of x and the {kernel[0]} of the "
                         f"result, got {groups!r}")
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
