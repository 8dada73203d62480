"""The nodes of a picture: a variable each, or all that a line of the user's code computes in one.

What is here: which variables share a node, what it says, the edges between nodes, and the same of the body of a loop. What is
not: the variables (`contents.py`).
"""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np

from tape.draw.contents import (
    DrawnList,
    DrawnVariable,
    Summary,
    fill_in_constants,
    loop_step,
    loop_text,
    step_name,
    variables_of,
)

MOST_UNFOLDED = 50
"""A picture of more variables is folded unless it is told not to."""

MOST_LINES = 60
"""Of more lines, neighbouring ones share a node."""

MOST_ALIKE = 8
"""More leaves of one argument, or more constants that one line reads, share a node in a folded picture."""

MOST_NAMES = 4
"""Different instructions that a folded node names."""

SYMBOLS = {"add": "+", "sub": "−", "mul": "×", "div": "÷", "matmul": "@", "accumulate": "Σ", "accumulate_product": "Σ×"}
"""Instructions that have a sign."""


class Node:
    """A node of the picture.

    Attributes
    ----------
    role : str
        "parameter", "input", "constant", "operation", "loop" or "carry"; see `contents.DrawnVariable`.
    result : bool
        Whether results of the tape are among its variables.
    title, note : str
        Its first line, and what stands beside or below it.
    value, gradient : str
        A number, the elements of a small vector, or the Euclidean norm; of several variables the least and the greatest norm.
        "" where there is none, or none was wanted.
    tip : str
        What a browser shows when the mouse rests on it.
    slots : tuple of int
        The variables it stands for, by their numbers in the text form.
    body : Nodes or None
        Of a loop, what it repeats, as nodes and edges; an edge that goes back leads to a carried value of the next step. None
        where several loops share the node.
    """

    def __init__(self, role, result, title, note, value, gradient, tip, slots, body=None):
        self.role, self.result, self.title, self.note = role, result, title, note
        self.value, self.gradient, self.tip, self.slots, self.body = value, gradient, tip, slots, body

    def __repr__(self):
        texts = (self.title, self.note, self.value, self.gradient)
        return f"Node({self.role}: {', '.join(text for text in texts if text)})"


class Nodes(NamedTuple):
    """Nodes in the order of the list, and edges from node to node, by number."""

    nodes: list[Node]
    edges: list[tuple[int, int]]


def nodes_of(drawn: DrawnList, variables: list[DrawnVariable], fold: bool | None) -> Nodes:
    """The nodes and edges of the picture of some variables, in the order of the list."""
    chosen = fold
    if fold is None:
        fold = len(variables) > MOST_UNFOLDED
    lines = drawn.graph.listing.lines
    keys = _folded(drawn, variables) if fold else list(range(len(variables)))
    members: dict = {}
    for k, key in enumerate(keys):
        members.setdefault(key, []).append(k)
    members = {key: members[key] for key in _in_order(keys, members, variables)}
    number = {key: i for i, key in enumerate(members)}
    edges = dict.fromkeys((number[keys[u]], number[keys[v]]) for v, variable in enumerate(variables) for u in variable.reads)
    outside = {u for v, variable in enumerate(variables) for u in variable.reads if keys[u] != keys[v]}
    nodes = []
    for key, own in members.items():
        if len(own) == 1:
            nodes.append(_single(drawn, variables[own[0]], lines, fold))
            if variables[own[0]].role == "loop":
                nodes[-1].body = _body(drawn.body(loop_step(drawn, variables[own[0]])), chosen)
        else:
            seen = [variables[k] for k in own if k in outside or variables[k].result or variables[k].guards]
            nodes.append(_several(drawn, key, [variables[k] for k in own], seen, lines))
    return Nodes(nodes, [(u, v) for u, v in edges if u != v])


def _body(drawn, fold) -> Nodes:
    variables = variables_of(drawn)
    fill_in_constants(drawn, variables)
    return nodes_of(drawn, variables, fold)


def _in_order(keys, members, variables) -> list:
    """The nodes by their first variable, constants before their first reader."""
    at = {key: float(i) for i, key in enumerate(members)}
    first = dict.fromkeys(members, float("inf"))
    for v, variable in enumerate(variables):
        for u in variable.reads:
            first[keys[u]] = min(first[keys[u]], at[keys[v]] - 0.5)
    constant = {key for key, own in members.items() if all(variables[k].role == "constant" for k in own)}
    return sorted(members, key=lambda key: min(at[key], first[key]) if key in constant else at[key])


# ---------------------------------------------------------------------- what goes together


def _folded(drawn, variables) -> list:
    """For each variable the key of its node: equal for those that share one."""
    steps = drawn.graph.listing.steps
    keys: list = [("line", steps[v.steps[-1]].line, v.role) if v.steps else None for v in variables]
    coarse = _coarser([key for key in keys if key is not None])
    keys = [coarse[key] if key is not None else None for key in keys]
    readers: list[dict] = [{} for _ in variables]
    for v, variable in enumerate(variables):
        for u in variable.reads:
            readers[u][keys[v]] = None
    alike: dict = {}
    for k, variable in enumerate(variables):
        if variable.role == "constant":
            users = list(readers[k])
            if variable.value is not None and variable.shape == () and len(users) == 1 and users[0] is not None:
                keys[k] = users[0]  # a number that stands in the line
                continue
            keys[k] = ("constants", users[0] if users else None)
        elif keys[k] is None:
            keys[k] = (variable.role, re.split(r"[\[.]", variable.name, maxsplit=1)[0])
        else:
            continue
        alike.setdefault(keys[k], []).append(k)
    for members in alike.values():
        if len(members) <= MOST_ALIKE:
            for k in members:
                keys[k] = ("one", k)
    return keys


def _coarser(keys) -> dict:
    """Lines as keys of nodes; neighbours share one where there are too many."""
    distinct = list(dict.fromkeys(keys))
    size = -(-len(distinct) // MOST_LINES)
    if size <= 1:
        return {key: key for key in distinct}
    return {key: ("lines", i // size, key[2]) for i, key in enumerate(distinct)}


# ---------------------------------------------------------------------- what nodes say


def _single(drawn, variable, lines, folded) -> Node:
    steps = [drawn.graph.listing.steps[k] for k in variable.steps]
    shape = str(variable.shape) if variable.shape else ""
    title, notes = variable.name, [f"%{variable.slot}", shape]
    tip = [f"%{variable.slot}: {variable.role}"]
    if variable.role == "loop":
        title, notes = "loop", [f"%{variable.slot}", loop_text(drawn, variable)]
    elif steps:
        names = _names(drawn, steps)
        title = " + ".join(SYMBOLS.get(name, name) for name in names[:MOST_NAMES])
        tip = [f"%{variable.slot} = {' + '.join(names)}"]
        if variable.name:
            notes.append(variable.name)
    elif variable.role == "constant":
        title, notes = "", [shape]
    else:
        notes = [shape]
    where = list(dict.fromkeys(_basename(lines[step.line]) for step in steps)) if lines else []
    if folded and where:
        title, notes = where[-1], [title, *notes[1:]]
    if variable.guards:
        notes.append("guard")
    tip += where[:MOST_NAMES]
    value, gradient = _text(variable.value, "x"), _text(variable.gradient, "∂")
    if gradient and not gradient.startswith("|"):
        gradient = f"∂ {gradient}"
    note = " ".join(note for note in notes if note)
    return Node(variable.role, variable.result, title, note, value, gradient, "\n".join(tip), (variable.slot,))


def _names(drawn, steps) -> list[str]:
    """The different names of some steps; a zero that others add to is none."""
    names = list(dict.fromkeys(step_name(drawn, step) for step in steps))
    return [name for name in names if name != "zero"] or names


def _text(summary: Summary | None, letter: str) -> str:
    if summary is None:
        return ""
    return summary.elements or f"|{letter}| = {summary.magnitude:.4g}"


def _several(drawn, key, variables, seen, lines) -> Node:
    """The node of several variables, of which others see some."""
    seen = seen or variables
    steps = [drawn.graph.listing.steps[k] for variable in variables for k in variable.steps]
    role = next((v.role for v in variables if v.steps), variables[0].role)
    if steps:
        names = _names(drawn, steps)
        if role == "loop":
            names = [loop_text(drawn, variables[0]), *(["…"] if len(variables) > 1 else [])]
        more = ", …" if len(names) > MOST_NAMES else ""
        title = _lines_text([lines[k] for k in dict.fromkeys(step.line for step in steps)]) if lines else "operations"
        note = f"{', '.join(names[:MOST_NAMES])}{more} ×{len(steps)}{' guard' * any(v.guards for v in variables)}"
        tip = f"{title}: {len(steps)} instructions, {', '.join(names)}"
    else:
        title = f"{len(variables)} constants" if role == "constant" else key[1]
        note = "" if role == "constant" else f"{len(variables)} arrays"
        tip = f"{title} {note}: %{variables[0].slot} to %{variables[-1].slot}"
    if len(seen) == 1:
        note += f" {seen[0].shape}" if seen[0].shape else ""
        value, gradient = _text(seen[0].value, "x"), _text(seen[0].gradient, "∂")
        gradient = f"∂ {gradient}" if gradient and not gradient.startswith("|") else gradient
    else:
        value = _range([v.value for v in seen], "x")
        gradient = _range([v.gradient for v in seen if v.active], "∂")
    result = any(v.result for v in variables)
    return Node(role, result, title, note.strip(), value, gradient, tip, tuple(v.slot for v in variables))


def _range(summaries, letter) -> str:
    """The least and the greatest norm."""
    known = [summary.magnitude for summary in summaries if summary is not None]
    if not known:
        return ""
    low, high = f"{np.min(known):.3g}", f"{np.max(known):.3g}"  # NaN where one is
    return f"|{letter}| = {low}" if low == high else f"|{letter}| {low} … {high}"


def _basename(line: str) -> str:
    return re.split(r"[\\/]", line)[-1]


def _lines_text(lines) -> str:
    """One line as "file:12", several as "file:12-40", those of several files with the first and the last."""
    lines = list(dict.fromkeys(_basename(line) for line in lines))
    if len(lines) == 1:
        return lines[0]
    places = [line.rpartition(":") for line in lines]
    if len({name for name, _, _ in places}) == 1 and all(number.isdigit() for _, _, number in places):
        numbers = [int(number) for _, _, number in places]
        return f"{places[0][0]}:{min(numbers)}-{max(numbers)}"
    return f"{lines[0]} … {lines[-1]}"
