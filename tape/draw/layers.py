"""Places for the nodes of a graph, layer by layer, and lines between them that cross no node.

Source: Sugiyama, Tagawa, Toda, "Methods for visual understanding of hierarchical system structures", IEEE Trans. SMC 11, 1981:
layers by longest paths, orders by barycentres; then places in each layer by least squares under the distances to be kept.
What is not here: what nodes look like (`graph.py`).
"""

from __future__ import annotations

import bisect
import itertools
from typing import NamedTuple

GAP_ALONG, GAP_ACROSS, GAP_LINE = 52.0, 18.0, 12.0
"""Pixels between layers, between the nodes of a layer, and between a node and a line that passes."""

PORT = 14.0
"""Pixels between the ends of lines at one node, where it has the room."""

ARROW = 7.0
PULL = (1.0, 2.0, 8.0)
"""How hard neighbours pull at each other: two nodes, a node and a bend, two bends, so that long lines are straight.

Source: Gansner, Koutsofios, North, Vo, "A technique for drawing directed graphs", IEEE Trans. Software Eng. 19, 1993.
"""

SWEEPS = 24
"""Sweeps over the layers that reorder them, and as many that move their nodes."""


class Route(NamedTuple):
    """A line: its commands (see `tape.reports.canvas.Outline`), those of its head, and whether it goes back to an earlier one.

    A way that edges from one node have in common is in the line of the first of them alone.
    """

    line: tuple
    head: tuple
    back: bool


class Layout(NamedTuple):
    """Sizes of the whole, the centre of each node, and the line of each edge."""

    width: float
    height: float
    centres: list[tuple[float, float]]
    routes: list[Route]
    downwards: bool


def layered(sizes, edges, most_width: float) -> Layout:
    """Place nodes so that edges go from left to right, or downwards where that would be too wide.

    Parameters
    ----------
    sizes : list of (float, float)
        Width and height of each node.
    edges : list of (int, int)
        From node to node, no two alike, none from a node to itself. One to a node of a lower number goes back.
    most_width : float
        What is too wide, in pixels.
    """
    layers = _layers(len(sizes), edges)
    segments = _Segments(layers, edges)
    orders = _orders(segments)
    for downwards in (False, True):
        layout = _layout(sizes, segments, orders, downwards)
        if layout.width <= most_width:
            break
    return layout


def _layers(count, edges) -> list[int]:
    """The layer of each node: one more than the last of its inputs; of a node without inputs, one less than its first user."""
    layer, inputs, users = [0] * count, [[] for _ in range(count)], [[] for _ in range(count)]
    for u, v in edges:
        inputs[max(u, v)].append(min(u, v))
        users[min(u, v)].append(max(u, v))
    for v in range(count):
        layer[v] = max((layer[u] + 1 for u in inputs[v]), default=0)
    for u in range(count):
        if users[u] and not inputs[u]:
            layer[u] = min(layer[v] for v in users[u]) - 1
    return layer


class _Segments:
    """The graph with a bend wherever an edge passes a layer, so that all of it goes from one layer to the next.

    Attributes
    ----------
    layer : list of int
        Of each node and, after them, of each bend.
    paths : list of list of int
        For each edge the nodes and bends from its lower to its higher layer. Edges from one node share bends.
    backwards : list of bool
        For each edge whether it goes from the higher to the lower.
    before, after : list of list of int
        Neighbours in the layer before and after.
    """

    def __init__(self, layers, edges):
        self.count, self.layer = len(layers), list(layers)
        self.paths, self.backwards, bends, links = [], [u > v for u, v in edges], {}, {}
        for u, v in edges:
            low, high, back = min(u, v), max(u, v), u > v
            path = [low]
            for at in range(layers[low] + 1, layers[high]):
                if (low, back, at) not in bends:
                    bends[low, back, at] = len(self.layer)
                    self.layer.append(at)
                path.append(bends[low, back, at])
            path.append(high)
            self.paths.append(path)
            links.update(dict.fromkeys(itertools.pairwise(path)))
        self.before, self.after = [[] for _ in self.layer], [[] for _ in self.layer]
        for a, b in links:
            self.before[b].append(a)
            self.after[a].append(b)


# ---------------------------------------------------------------------- orders


def _orders(segments) -> list[list[int]]:
    """The nodes and bends of each layer, in an order with few crossings."""
    orders: list[list[int]] = [[] for _ in range(max(segments.layer, default=-1) + 1)]
    for item, layer in enumerate(segments.layer):
        orders[layer].append(item)
    place = [0.0] * len(segments.layer)
    for order in orders:
        _number(order, place)
    best, fewest = [list(order) for order in orders], _crossings(orders, segments, place)
    for sweep in range(SWEEPS):
        forth = sweep % 2 == 0
        neighbours = segments.before if forth else segments.after
        for order in orders if forth else reversed(orders):
            order.sort(key=lambda item: _mean([place[k] for k in neighbours[item]], place[item]))
            _number(order, place)
        crossings = _crossings(orders, segments, place)
        if crossings < fewest:
            best, fewest = [list(order) for order in orders], crossings
    return best


def _number(order, place):
    for k, item in enumerate(order):
        place[item] = k - 0.5 * len(order)


def _mean(numbers, otherwise):
    return sum(numbers) / len(numbers) if numbers else otherwise


def _crossings(orders, segments, place) -> int:
    """How many pairs of lines between neighbouring layers cross."""
    crossings = 0
    for order in orders:
        ends: list[float] = []
        for item in order:
            mine = sorted(place[k] for k in segments.after[item])
            crossings += sum(len(ends) - bisect.bisect_right(ends, end) for end in mine)
            for end in mine:
                bisect.insort(ends, end)
    return crossings


# ---------------------------------------------------------------------- places


def _layout(sizes, segments, orders, downwards) -> Layout:
    """Places and lines; in here `along` is the direction of the edges, `across` that of the layers."""
    along = [height if downwards else width for width, height in sizes]
    across = [width if downwards else height for width, height in sizes]
    places = _places(across, segments, orders)
    starts, ends, at = [], [], 0.0
    for order in orders:
        starts.append(at)
        at += max([along[k] for k in order if k < segments.count], default=0.0)
        ends.append(at)
        at += GAP_ALONG
    low = min((places[k] - across[k] / 2 for k in range(segments.count)), default=0.0)
    low = min([low, *places[segments.count :]])
    places = [place - low for place in places]
    high = max([0.0, *(places[k] + across[k] / 2 for k in range(segments.count)), *places[segments.count :]])
    middles = [(starts[layer] + ends[layer]) / 2 for layer in segments.layer]
    ports = _ports(across, segments, places)

    def turned(commands):
        if not downwards:
            return tuple(commands)
        return tuple((name, *(x for k in range(0, len(p), 2) for x in (p[k + 1], p[k]))) for name, *p in commands)

    routes, drawn = [], set()
    for number, path in enumerate(segments.paths):
        u, v = path[0], path[-1]
        leaving, arriving, back = ports[number]
        first, last = middles[u] + along[u] / 2, middles[v] - along[v] / 2
        start, end = (first + ARROW, last) if back else (first, last - ARROW)
        line = [("M", start, leaving), ("L", max(start, ends[segments.layer[u]]), leaving)]
        here = leaving
        for before, item in itertools.pairwise(path):
            layer = segments.layer[item]
            if (before, item, back) in drawn:  # by another edge from the same node
                here = places[item]
                line = [("M", ends[layer], here)]
                continue
            drawn.add((before, item, back))
            there = places[item] if item >= segments.count else arriving
            begin, stop = max(ends[layer - 1], start), min(starts[layer], end) if item == v else starts[layer]
            middle = (begin + stop) / 2
            line.append(("C", middle, here, middle, there, stop, there))
            line.append(("L", end if item == v else ends[layer], there))
            here = there
        tip, base, at = (first, start, leaving) if back else (last, end, arriving)
        head = [("M", tip, at), ("L", base, at - ARROW / 2), ("L", base, at + ARROW / 2), ("Z",)]
        routes.append(Route(turned(line), turned(head), back))
    length = ends[-1] if ends else 0.0
    centres = [(places[k], middles[k]) if downwards else (middles[k], places[k]) for k in range(segments.count)]
    return Layout(*((high, length) if downwards else (length, high)), centres, routes, downwards)


def _places(across, segments, orders) -> list[float]:
    """The place of each node and bend across the layers: near its neighbours, with the distances kept."""
    count = segments.count
    half = [size / 2 for size in across] + [0.0] * (len(segments.layer) - count)
    distances = []
    for order in orders:
        distances.append([half[a] + half[b] + (GAP_ACROSS if a < count and b < count else GAP_LINE)
                          for a, b in itertools.pairwise(order)])
    places = [0.0] * len(segments.layer)
    for order, apart in zip(orders, distances, strict=True):
        _fit(order, apart, places, [0.0] * len(order), [1.0] * len(order))
    rows = list(zip(orders, distances, strict=True))
    for sweep in range(SWEEPS):
        for order, apart in reversed(rows) if sweep % 2 else rows:
            wanted, weights = [], []
            for item in order:
                near = [(places[k], PULL[(item >= count) + (k >= count)])
                        for side in (segments.before, segments.after) for k in side[item]]
                pull = sum(weight for _, weight in near)
                wanted.append(sum(place * weight for place, weight in near) / pull if near else places[item])
                weights.append(pull + 0.1)
            _fit(order, apart, places, wanted, weights)
    return places


def _fit(order, apart, places, wanted, weights) -> None:
    """Move the items of a layer as near to where they are wanted as the distances allow, by weighted least squares.

    Less the distances before them, places must not decrease: pool adjacent violators (Ayer et al., Ann. Math. Stat. 26, 1955).
    """
    offset, offsets, pools = 0.0, [], []
    for k, (target, weight) in enumerate(zip(wanted, weights, strict=True)):
        offset += apart[k - 1] if k else 0.0
        offsets.append(offset)
        pools.append([target - offset, weight, 1])
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            place, mass, number = pools.pop()
            before = pools[-1]
            before[0] = (before[0] * before[1] + place * mass) / (before[1] + mass)
            before[1] += mass
            before[2] += number
    fitted = [place for place, _, number in pools for _ in range(number)]
    for item, place, offset in zip(order, fitted, offsets, strict=True):
        places[item] = place + offset


def _ports(across, segments, places) -> list[tuple[float, float, bool]]:
    """For each edge where it leaves its node of the lower layer, where it meets the other, and whether it goes back."""
    arriving: dict[int, list[tuple[float, int]]] = {}
    for number, path in enumerate(segments.paths):
        arriving.setdefault(path[-1], []).append((places[path[-2]], number))
    meets = {}
    for node, lines in arriving.items():
        apart = min(PORT, 0.7 * across[node] / len(lines))
        for k, (_, number) in enumerate(sorted(lines)):
            meets[number] = places[node] + apart * (k - (len(lines) - 1) / 2)
    ports = []
    for number, path in enumerate(segments.paths):
        back = segments.backwards[number]
        ports.append((places[path[0]] + (min(PORT, across[path[0]] / 4) if back else 0.0), meets[number], back))
    return ports
