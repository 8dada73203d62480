"""The picture of a computational graph, as textbooks draw it.

What is here: how nodes, edges and legend look, and the DOT text. What is not: what they say (`contents.py`, `folding.py`)
and where they stand (`layers.py`).
"""

from __future__ import annotations

from tape.draw.contents import DrawnList, fill_in, variables_of
from tape.draw.folding import Node, nodes_of
from tape.draw.layers import Layout, layered
from tape.reports.canvas import Group, Outline, Picture, Text, box, check_suffix, escaped, text_width

VALUE, GRADIENT = "#116329", "#b91c28"
INK, NOTE, LINE, BACK = "#1f2328", "#59636e", "#7d8590", "#9a6700"
"""Of titles; of notes; of edges and the legend, readable on white and on black; of edges that go back."""

TITLE_SIZE, TEXT_SIZE, LEADING = 13.0, 12.0, 16.0
MARGIN, PADDING, MOST_WIDTH = 12.0, 9.0, 960.0
"""Pixels; a picture that would be wider from left to right goes downwards."""

LEGEND_WIDTH = 680.0
"""Pixels that the legend may take below a narrower graph."""

RIM = 4.0
"""Pixels between an outline and a second one."""

BODY = 14.0
"""Pixels between the outline of a loop and its body."""

SWATCH = 22.0
"""Width of a sample in the legend."""

MOST_CHARACTERS, MOST_BESIDE = 40, 24
"""Of a line in a node; of title and note side by side."""


class Style:
    """How nodes of a role look: colours, whether the outline is dashed, radius of the corners, and their shape in DOT."""

    def __init__(self, label, fill, stroke, dashed=False, radius=0.0, dot="box"):
        self.label, self.fill, self.stroke, self.dashed, self.radius, self.dot = label, fill, stroke, dashed, radius, dot


LOOKS = {
    "parameter": Style("parameter", "#ddf4ff", "#0969da"),
    "input": Style("other input", "#f6f8fa", "#0969da", dashed=True),
    "constant": Style("constant", "#eaeef2", "#eaeef2"),
    "operation": Style("operation", "#fffdf0", "#59636e", radius=16.0, dot="ellipse"),
    "loop": Style("loop", "#fbefff", "#8250df", radius=16.0, dot="box3d"),
    "carry": Style("carried value", "#fff8c5", "#9a6700"),
}
RESULT = "#bc4c00"
"""Of the second outline that results have."""


class GraphPicture(Picture):
    """The picture of a tape's graph at the time when it was drawn.

    Attributes
    ----------
    svg : str
        As an SVG.
    dot : str
        In the language of Graphviz, for its layouts: ``graphviz.Source(picture.dot)``.
    nodes : list of Node
        In the order of the list: see `tape.draw.folding.Node`.
    edges : list of (int, int)
        From node to node, by number.
    """

    def __init__(self, nodes: list[Node], edges: list[tuple[int, int]]):
        self.nodes, self.edges = nodes, edges
        self.dot = _dot(nodes, edges)
        graph = _Graph(nodes, edges, MOST_WIDTH - 2 * MARGIN)
        layout = graph.layout
        legend, legend_width, legend_height = _legend(graph.all_nodes(), graph.goes_back(), max(layout.width, LEGEND_WIDTH))
        width, top = max(layout.width, legend_width), layout.height + 2 * MARGIN
        groups = graph.groups(MARGIN + (width - layout.width) / 2, MARGIN)
        groups.append(_shifted(legend, MARGIN + (width - legend_width) / 2, top))
        super().__init__(width + 2 * MARGIN, top + legend_height + MARGIN, groups)


class _Graph:
    """Nodes with their places, the bodies of loops inside theirs."""

    def __init__(self, nodes, edges, most_width):
        self.nodes = nodes
        self.lines = [_card_lines(node) for node in nodes]
        self.inner = [_Graph(*node.body, most_width - 2 * (BODY + RIM)) if node.body else None for node in nodes]
        self.sizes = [_card_size(*card) for card in zip(self.lines, nodes, self.inner, strict=True)]
        self.layout: Layout = layered(self.sizes, edges, most_width)

    def groups(self, left, top) -> list[Group]:
        """The outlines and texts, edges first, with the upper left corner there."""
        groups = [_edge(route, left, top) for route in self.layout.routes]
        for node, lines, size, inner, (x, y) in zip(self.nodes, self.lines, self.sizes, self.inner, self.layout.centres,
                                                    strict=True):
            groups.append(_card(node, lines, size, inner, x + left, y + top))
            if inner is not None:
                bottom = y + top + size[1] / 2 - _rim(node) - BODY
                own = inner.groups(x + left - inner.layout.width / 2, bottom - inner.layout.height)
                groups += [group._replace(kind=f"{group.kind} in-body") for group in own]
        return groups

    def all_nodes(self) -> list[Node]:
        """Those of the bodies too."""
        return self.nodes + [node for inner in self.inner if inner is not None for node in inner.all_nodes()]

    def goes_back(self) -> bool:
        """Whether some edge leads to the next pass."""
        return any(route.back for route in self.layout.routes) or any(g.goes_back() for g in self.inner if g is not None)


def draw(tape, path=None, values: bool = True, gradients: bool = True, fold: bool | None = None) -> GraphPicture:
    """Draw the computational graph of a tape, with the values and gradients of the last sweeps.

    A node is a variable with the operation that computes it, an edge leads from it to those that read it. Numbers are written
    out, larger arrays given by their shape and their Euclidean norm. An array that is assigned to after it was read is a node
    more. A loop (and what is a loop of one step in the list: a branch of `tape.cond`, a checkpoint) is a box with its body in
    it, where dashed edges lead to the values that a step carries to the next. Sweeps that were not run at the arguments of
    the last `forward` are run.

    Parameters
    ----------
    tape : Tape
        What to draw.
    path : str or path-like, optional
        A file to write, an SVG or a PNG by its suffix (a PNG needs matplotlib: the extra `plot`).
    values, gradients : bool
        Whether nodes show the value (green); the adjoint (red, after "∂"), where they depend on what is differentiated.
    fold : bool, optional
        Whether all that one line of the user's code computes is one node, with the least and the greatest norm of what others
        read of it; numbers that stand in the line, and many leaves of an argument, are folded too. By default where there
        would be more than 50 nodes.

    Returns
    -------
    GraphPicture
        Shows itself in notebooks; `str` gives the SVG, `dot` the text for Graphviz.

    Raises
    ------
    ValueError
        For a path of another suffix.
    ImportError
        For a PNG, when matplotlib is not installed.
    OSError
        When the file cannot be written.
    tape.GuardFailed
        When the last `forward` failed so: there is nothing to show.

    Notes
    -----
    Source of the style: Goodfellow, Bengio, Courville, "Deep learning", MIT Press 2016, section 6.5.1.

    Examples
    --------
    >>> import tape
    >>> picture = tape.record(lambda x: x * x, 3.0).draw()
    >>> picture.nodes, picture.edges
    ([Node(parameter: x, 3, ∂ 6), Node(operation: ×, %1, 9, ∂ 1)], [(0, 1)])
    """
    if path is not None:
        check_suffix(path)
    drawn = DrawnList.of(tape)
    variables = variables_of(drawn)
    fill_in(tape, variables, gradients)
    nodes, edges = nodes_of(drawn, variables, fold)
    for node in nodes:
        if not values and node.role != "constant":
            node.value = ""
    picture = GraphPicture(nodes, edges)
    if path is not None:
        picture.save(path)
    return picture


# ---------------------------------------------------------------------- nodes


def _card_lines(node: Node) -> list[list[tuple]]:
    """The lines of a node, each a list of (text, colour, size, bold)."""
    title = [(_short(node.title), INK, TITLE_SIZE, True)] if node.title else []
    note = [(_short(node.note), NOTE, TEXT_SIZE - 1, False)] if node.note else []
    lines = [title + note] if len(node.title) + len(node.note) <= MOST_BESIDE else [title, note]
    lines.append([(_short(node.value), VALUE, TEXT_SIZE, False)] if node.value else [])
    lines.append([(_short(node.gradient), GRADIENT, TEXT_SIZE, False)] if node.gradient else [])
    return [line for line in lines if line]


def _short(text: str) -> str:
    text = "".join(c if c.isprintable() else "\ufffd" for c in text)
    return text if len(text) <= MOST_CHARACTERS else text[: MOST_CHARACTERS // 2 - 1] + "…" + text[-MOST_CHARACTERS // 2 :]


def _line_width(line) -> float:
    return sum(text_width(text, size) for text, _, size, _ in line) + 6.0 * (len(line) - 1)


def _card_size(lines, node, inner) -> tuple[float, float]:
    widest = max([24.0, *(_line_width(line) for line in lines)])
    width = widest + 2 * PADDING + (8.0 if LOOKS[node.role].radius else 0.0)
    height = max(1, len(lines)) * LEADING + 1.2 * PADDING
    if inner is not None:
        width, height = max(width, inner.layout.width + 2 * BODY), height + inner.layout.height + BODY
    return width + 2 * _rim(node), height + 2 * _rim(node)


def _rim(node) -> float:
    """What second outlines need around the first."""
    return RIM if node.result or node.role == "loop" else 0.0


def _card(node, lines, size, inner, x, y) -> Group:
    width, height = (length - 2 * _rim(node) for length in size)
    items = _frame(node.role, node.result, x - width / 2, y - height / 2, width, height)
    baseline = y - height / 2 + 0.6 * PADDING + 0.78 * LEADING
    for line in lines:
        start = x - _line_width(line) / 2
        for text, colour, text_size, bold in line:
            items.append(Text(start, baseline, text, colour, text_size, bold))
            start += text_width(text, text_size) + 6.0
        baseline += LEADING
    return Group(f"node {node.role}{' result' * node.result}{' with-body' * (inner is not None)}", node.tip, items)


def _frame(role, result, x, y, width, height) -> list:
    look = LOOKS[role]
    radius = min(look.radius, height / 2)
    frame = [Outline(box(x, y, width, height, radius), look.fill, look.stroke, 1.4, look.dashed)]
    if role == "loop":  # a second sheet behind the first
        frame.insert(0, Outline(box(x + RIM, y + RIM, width, height, radius), look.fill, look.stroke, 1.4))
    if result:
        outer = box(x - RIM, y - RIM, width + 2 * RIM, height + 2 * RIM, radius + RIM if radius else 0.0)
        frame.insert(0, Outline(outer, "#ffffff", RESULT, 2.0))
    return frame


def _edge(route, left, top) -> Group:
    colour = BACK if route.back else LINE
    line, head = (_moved(commands, left, top) for commands in (route.line, route.head))
    return Group("edge back" if route.back else "edge", "", [Outline(line, stroke=colour, width=1.3, dashed=route.back),
                                                            Outline(head, fill=colour)])


def _shifted(group, dx, dy) -> Group:
    return group._replace(items=[item._replace(x=item.x + dx, y=item.y + dy) if isinstance(item, Text) else
                                 item._replace(commands=_moved(item.commands, dx, dy)) for item in group.items])


def _moved(commands, dx, dy) -> tuple:
    return tuple((name, *(x + (dy if k % 2 else dx) for k, x in enumerate(numbers))) for name, *numbers in commands)


def _legend(nodes, goes_back, most_width) -> tuple[Group, float, float]:
    """The legend, of what is in the picture alone, as a group whose upper left corner is (0, 0); its width and height."""
    looks = [(role, False, look.label) for role, look in LOOKS.items() if any(node.role == role for node in nodes)]
    looks += [("operation", True, "result")] * any(node.result for node in nodes)
    entries = [(SWATCH + 13.0, _frame(role, result, 4.0, -10.0, SWATCH, 12.0), label, INK) for role, result, label in looks]
    entries += [(0.0, [], "value", VALUE)] * any(node.value for node in nodes)
    entries += [(0.0, [], "∂ gradient", GRADIENT)] * any(node.gradient for node in nodes)
    if goes_back:
        entries.append((SWATCH + 13.0, [Outline((("M", 0.0, -4.0), ("L", SWATCH + 4, -4.0)), stroke=BACK, dashed=True)],
                        "to the next pass", INK))
    if not entries:
        return Group("legend", "", []), 0.0, 0.0
    items, x, y, widest = [], PADDING, LEADING, 0.0
    for indent, outlines, label, colour in entries:
        width = indent + text_width(label, TEXT_SIZE - 1)
        if x > PADDING and x + width + PADDING > most_width:
            x, y = PADDING, y + 1.25 * LEADING
        items += [outline._replace(commands=_moved(outline.commands, x, y)) for outline in outlines]
        items.append(Text(x + indent, y, label, colour, TEXT_SIZE - 1))
        widest = max(widest, x + width + PADDING)
        x += width + 18.0
    width, height = widest, y + 0.6 * LEADING
    return Group("legend", "", [Outline(box(0.0, 0.0, width, height, 4.0), "#ffffff", "#d1d9e0"), *items]), width, height


# ---------------------------------------------------------------------- DOT


def _dot(nodes, edges) -> str:
    head = ["digraph {", '  rankdir="LR"; node [fontname="monospace", style="filled"];']
    return "\n".join([*head, *_dot_lines(nodes, edges, "n"), "}", ""])


def _dot_lines(nodes, edges, prefix) -> list[str]:
    """Nodes and edges; the body of a loop stands with its node in a cluster."""
    lines = []
    for k, node in enumerate(nodes):
        look = LOOKS[node.role]
        lines_of = [("<b>{}</b>", INK, node.title), ("{}", NOTE, node.note), ("{}", VALUE, node.value),
                    ("{}", GRADIENT, node.gradient)]
        label = "<br/>".join(f'<font color="{colour}">{style.format(escaped(_short(text)))}</font>'
                             for style, colour, text in lines_of if text)
        style = ', style="filled,dashed"' if look.dashed else ""
        outline = f'color="{RESULT}", peripheries=2' if node.result else f'color="{look.stroke}"'
        card = (f'  {prefix}{k} [label=<{label or " "}>, shape={look.dot}, fillcolor="{look.fill}", {outline}{style}];')
        if node.body is None:
            lines.append(card)
        else:
            inner = _dot_lines(*node.body, f"{prefix}{k}_")
            lines += [f"  subgraph cluster_{prefix}{k} {{", *(f"  {line}" for line in [card, *inner]), "  }"]
    return lines + [f"  {prefix}{u} -> {prefix}{v}{' [style=dashed]' if u > v else ''};" for u, v in edges]
