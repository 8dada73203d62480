"""Norms of gradients by layer: the numbers, and a picture that shows where they vanish or explode."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from tape.derivatives.gradients import grad
from tape.draw.contents import norm
from tape.recording.containers import leaves_of
from tape.reports.canvas import Group, Outline, Picture, Text, box, check_suffix, text_width

INK, GRID = "#1f2328", "#d1d9e0"
COLOURS = ("#0969da", "#bc4c00", "#1a7f37", "#8250df", "#bf3989", "#59636e")
PLOT_WIDTH, PLOT_HEIGHT, LEFT, TOP, BOTTOM, TEXT_SIZE = 520.0, 240.0, 78.0, 18.0, 46.0, 12.0
MOST_TICKS = 8
MARK = 3.0
"""Radius of a layer's mark."""


def gradient_norms(f: Callable[..., Any], params: Any, *args: Any, **kwargs: Any) -> list[tuple[str, float]]:
    """The Euclidean norm of the gradient for each layer of a network.

    Parameters
    ----------
    f : callable
        ``f(params, *args, **kwargs)`` is a float.
    params : list, tuple or dict
        An item for each layer, itself an array or nested containers of arrays.
    *args, **kwargs
        More arguments, not differentiated.

    Returns
    -------
    list of (str, float)
        Number or key of each item of `params`, and the norm of the gradient with respect to everything in it.

    Raises
    ------
    NotDifferentiable
        When `f` is not scalar; see `tape.grad`.

    Examples
    --------
    >>> import numpy as np, tape
    >>> tape.gradient_norms(lambda p: np.sum(p["a"] ** 2) + 3.0 * p["b"], {"a": np.array([3.0, 4.0]), "b": 1.0})
    [('a', 10.0), ('b', 3.0)]
    """
    gradient = grad(f)(params, *args, **kwargs)
    if isinstance(gradient, dict):
        layers = gradient.items()
    elif isinstance(gradient, (list, tuple)):
        layers = zip(getattr(gradient, "_fields", range(len(gradient))), gradient, strict=True)
    else:
        layers = [(0, gradient)]
    return [(str(name), norm(np.array([norm(leaf) for leaf in leaves_of(layer)[0]]))) for name, layer in layers]


def draw_gradients(norms: Any, path: str | os.PathLike[str] | None = None) -> Picture:
    """Draw norms of gradients by layer on a logarithmic scale: a line that falls towards the first layer vanishes.

    Parameters
    ----------
    norms : dict of str to list of (str, float)
        For each network what `gradient_norms` gave; a list alone is one network.
    path : str or path-like, optional
        A file to write, an SVG or a PNG by its suffix.

    Returns
    -------
    Picture
        Shows itself in notebooks; `str` gives the SVG. A norm of zero is a hollow mark on the lower edge, one that is not
        finite on the upper edge.

    Raises
    ------
    ValueError
        For a path of another suffix, or when there is no norm to draw.
    ImportError
        For a PNG, when matplotlib is not installed.
    OSError
        When the file cannot be written.

    Examples
    --------
    >>> import tape
    >>> tape.draw_gradients({"net": [("0", 1e-3), ("1", 0.5)]})
    Picture(636 x 304 pixels)
    """
    if path is not None:
        check_suffix(path)
    networks = norms if isinstance(norms, dict) else {"": norms}
    if not any(networks.values()):
        raise ValueError(f"expected norms by layer as gradient_norms gives them, got {norms!r:.60}")
    axes = _Axes([layers for layers in networks.values() if layers])
    width = LEFT + PLOT_WIDTH + 16.0 + max(text_width(name, TEXT_SIZE) for name in networks)
    groups = [axes.frame(width)]
    colours = {name: COLOURS[k % len(COLOURS)] for k, name in enumerate(networks)}
    groups += [axes.line(name, layers, colours[name]) for name, layers in networks.items() if layers]
    groups.append(axes.names({name: layers for name, layers in networks.items() if layers}, colours))
    picture = Picture(width, TOP + PLOT_HEIGHT + BOTTOM, groups)
    if path is not None:
        picture.save(path)
    return picture


class _Axes:
    """Layers from left to right, powers of ten upwards."""

    def __init__(self, networks):
        every = [x for layers in networks for _, x in layers]
        numbers = [x for x in every if 0.0 < x < math.inf] or [1.0]
        self.low = math.floor(math.log10(min(numbers))) - (0.0 in every)
        self.high = max(math.ceil(math.log10(max(numbers))), self.low + 1) + (not all(map(math.isfinite, every)))
        self.longest = max(networks, key=len)

    def across(self, k) -> float:
        return LEFT + PLOT_WIDTH * (k + 0.5) / len(self.longest)

    def up(self, x) -> float:
        """Height of a norm; what has no logarithm is on an edge."""
        exponent = self.low if x == 0.0 else math.log10(x) if 0.0 < x < math.inf else self.high
        return TOP + PLOT_HEIGHT * (self.high - exponent) / (self.high - self.low)

    def frame(self, width) -> Group:
        items = [Outline(box(0.5, 0.5, width - 1.0, TOP + PLOT_HEIGHT + BOTTOM - 1.0, 6.0), "#ffffff", GRID)]
        step = -(-(self.high - self.low) // MOST_TICKS)
        for exponent in range(-(-self.low // step) * step, self.high + 1, step):
            y = self.up(10.0**exponent)
            items.append(Outline((("M", LEFT, y), ("L", LEFT + PLOT_WIDTH, y)), stroke=GRID))
            items.append(Text(LEFT - 8.0, y + 4.0, f"1e{exponent}" if exponent else "1", INK, TEXT_SIZE, anchor="end"))
        widest = max(text_width(name, TEXT_SIZE) for name, _ in self.longest) + 10.0
        every = max(1, math.ceil(widest * len(self.longest) / PLOT_WIDTH))
        bottom = TOP + PLOT_HEIGHT
        for k, (name, _) in enumerate(self.longest):
            if k % every == 0:
                items.append(Text(self.across(k), bottom + 18.0, name, INK, TEXT_SIZE, anchor="middle"))
        items.append(Text(LEFT + PLOT_WIDTH / 2, bottom + 36.0, "layer", INK, TEXT_SIZE, anchor="middle"))
        items.append(Text(10.0, TOP - 4.0 + 16.0, "|∂|", INK, TEXT_SIZE, bold=True))
        return Group("axes", "", items)

    def line(self, name, layers, colour) -> Group:
        places = [(self.across(k), self.up(x)) for k, (_, x) in enumerate(layers)]
        commands = tuple(("L" if k else "M", x, y) for k, (x, y) in enumerate(places))
        items = [Outline(commands, stroke=colour, width=2.0)]
        for (x, y), (_, number) in zip(places, layers, strict=True):
            fill = colour if 0.0 < number < math.inf else "#ffffff"
            items.append(Outline(box(x - MARK, y - MARK, 2 * MARK, 2 * MARK, MARK), fill, colour, 1.5))
        return Group("network", f"{name}: " + ", ".join(f"{layer} {x:.3g}" for layer, x in layers), items)

    def names(self, networks, colours) -> Group:
        """The names of the networks at the ends of their lines, one below the other."""
        items, lowest = [], -math.inf
        for y, name in sorted((self.up(layers[-1][1]), name) for name, layers in networks.items()):
            lowest = max(y + 4.0, lowest + 15.0)
            items.append(Text(self.across(len(self.longest) - 1) + 12.0, lowest, name, colours[name], TEXT_SIZE, True))
        return Group("names", "", items)
