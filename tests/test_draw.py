"""Pictures: what stands in them is what the list holds, nothing overlaps, and files and errors are as promised."""

import collections
import math
import re
import sys
from xml.etree import ElementTree

import numba
import numpy as np
import pytest

import tape
from bench import graphs
from tape.draw.folding import MOST_LINES
from tape.draw.graph import GRADIENT, LOOKS, RESULT, VALUE
from tape.draw.layers import layered

SVG = "{http://www.w3.org/2000/svg}"
SHOWN = {"rtol": 6e-4, "atol": 0.0}
"""Numbers stand in pictures with four digits; the norms of folded nodes and the elements of small vectors with three."""
FOLDED = {"rtol": 6e-3, "atol": 0.0}


# ---------------------------------------------------------------------- lists to draw


def product():
    return tape.record(lambda x, y, z: (x + y) * z, -2.0, 5.0, -4.0)


def neuron():
    weights, x = np.array([2.0, -3.0, -3.0]), np.array([-1.0, -2.0])
    return tape.record(lambda w, x: 1.0 / (1.0 + np.exp(-(w[0] * x[0] + w[1] * x[1] + w[2]))), weights, x)


def network(dtype=np.float64):
    random = np.random.default_rng(1)
    x, labels = random.standard_normal((8, 4)).astype(dtype), random.integers(0, 3, 8)
    layers = [(random.standard_normal((4, 6)).astype(dtype), np.zeros(6, dtype)),
              (random.standard_normal((6, 3)).astype(dtype), np.zeros(3, dtype))]

    def loss(layers, labels):
        (w1, b1), (w2, b2) = layers
        scores = np.tanh(x @ w1 + b1) @ w2 + b2
        return np.sum(tape.logsumexp(scores, axis=1) - scores[np.arange(8), labels])

    return tape.record(loss, layers, labels)


def several_results():
    def f(x):
        r = np.sqrt(np.sum(x * x)) if x[0] > 0 else x[1]
        return {"r": r, "unit": x / r, "same": x}

    return tape.record(f, np.array([3.0, 4.0, 0.0, 1.0]))


def loop():
    def energy(k):
        def step(state, _):
            x, v = state
            v = v - 0.1 * k * x
            return (x + 0.1 * v, v), None

        (x, v), _ = tape.scan(step, (1.0, 0.0), np.arange(7))
        return 0.5 * v**2 + 0.5 * k * x**2

    return tape.record(energy, 2.0)


@numba.njit
def _jitted(k):
    x, v = 1.0, 0.0
    for _ in range(5):
        v -= 0.1 * k * x
        if x > 0.9:
            v -= 0.01
        x += 0.1 * v
    return x * v


def jitted():
    return tape.record(_jitted, 2.0)


def calls():
    @tape.operation
    def cube(x):
        return np.array([float(v) ** 3 for v in x])

    @cube.bprop
    def _(grad, out, x):
        return 3.0 * grad * x**2

    a, b = np.array([[2.0, 1.0], [0.0, 3.0]]), np.array([1.0, 2.0])
    return tape.record(lambda a, b: np.sum(cube(np.linalg.solve(a, b))), a, b)


TAPES = {f.__name__: f for f in (product, neuron, network, several_results, loop, jitted, calls)}
TAPES["float32"] = lambda: network(np.float32)
UNFOLDED = pytest.mark.parametrize("name", TAPES)


def assigned():
    def f(x):
        y = np.zeros_like(x)
        y[0] = x[0] * 2
        y[1] = y[0] * x[1]
        x[0] = 7.0 * x[1]
        return np.sum(y * y) + x[0]

    return tape.record(f, np.array([1.0, 2.0, 3.0]))


# ---------------------------------------------------------------------- reading pictures


def groups(picture, kind, in_body=False):
    """The elements of an SVG whose class begins with `kind`, outside or inside of the bodies of loops."""
    found = [g for g in ElementTree.fromstring(picture.svg).iter(f"{SVG}g") if g.get("class").split()[0] == kind]
    return [g for g in found if ("in-body" in g.get("class").split()) == in_body]


def numbers(text):
    """The numbers in a text."""
    return [float(x) for x in re.findall(r"-?(?:\d[\d.]*(?:e[+-]\d+)?|inf|nan)", text)]


def check_shown(text, array):
    """Compare the number, elements or norm in a node with the array it stands for."""
    array = np.asarray(array, np.float64)
    if text.startswith("|"):
        np.testing.assert_allclose(numbers(text), [np.linalg.norm(array)], **SHOWN)
    else:
        np.testing.assert_allclose(numbers(text), array.ravel(), **(SHOWN if array.ndim == 0 else FOLDED))


def by_title(picture):
    """The nodes of a picture by their titles."""
    return {node.title: node for node in picture.nodes}


# ---------------------------------------------------------------------- what the nodes say


@UNFOLDED
def test_every_variable_has_one_node_with_its_value_and_gradient(name):
    t = TAPES[name]()
    picture = t.draw(fold=False)
    t.reverse()
    drawn = [slot for node in picture.nodes for slot in node.slots]
    computed = [slot for slot in range(len(t.grad_table)) if t.get_operation(slot) is not None]
    read = {v.number for slot in computed for v in t.get_inputs(slot)}
    assert len(drawn) == len(set(drawn))
    assert set(drawn) == {t._graph.variable_of(slot) for slot in computed} | read | set(t._graph.listing.inputs)
    values = t.values
    for node in picture.nodes:
        (slot,) = node.slots
        check_shown(node.value, t._program.slot_view(slot).of(np.array(values)))
        if node.gradient:
            check_shown(node.gradient, t.grad_table[slot])
        else:  # nothing there depends on what is differentiated
            assert node.role in ("input", "constant", "operation")
            assert not np.any(t.grad_table[slot])
    edges = {(picture.nodes[u].slots[0], picture.nodes[v].slots[0]) for u, v in picture.edges}
    assert edges == {(v.number, slot) for slot in computed for v in t.get_inputs(slot)}
    assert len(picture.edges) == t.edges


def test_the_textbooks_graph():
    picture = product().draw()
    assert {node.title: (node.value, node.gradient) for node in picture.nodes} == {
        "x": ("-2", "∂ -4"), "y": ("5", "∂ -4"), "z": ("-4", "∂ 3"), "+": ("3", "∂ -4"), "×": ("-12", "∂ 1")}


def test_an_array_that_is_assigned_to_after_it_was_read_is_a_node_more():
    picture = assigned().draw()
    shown = [(node.value, node.gradient) for node in picture.nodes if node.title in ("x", "assign")]
    # By hand: y0 = 2 x0, y1 = y0 x1, result y0^2 + y1^2 + 7 x1 at x = (1, 2, 3).
    assert shown == [("[1, 2, 3]", "∂ [40, 23, 0]"), ("[2, 0, 0]", "∂ [20, 0, 0]"), ("[2, 4, 0]", "∂ [4, 8, 0]"),
                     ("[14, 2, 3]", "∂ [1, 0, 0]")]
    assert all(u < v for u, v in picture.edges)
    titles = [picture.nodes[u].title for u, v in picture.edges if picture.nodes[v].title == "assign"]
    assert sorted(titles) == ["assign", "x", "×", "×", "×"]  # what an assignment leaves stays


def test_an_argument_that_is_assigned_to_is_still_a_node():
    def f(x, y):
        x[0] = y
        return np.sum(x * x)

    nodes = tape.record(f, np.array([1.0, 2.0]), 3.0).draw().nodes
    assert [(node.title, node.value, node.gradient) for node in nodes[:3]] == [
        ("x", "[1, 2]", "∂ [0, 4]"), ("y", "3", "∂ 6"), ("assign", "[3, 2]", "∂ [6, 4]")]


def test_an_array_is_differentiated_although_a_constant_was_assigned_to_a_part():
    def f(x):
        y = 2.0 * x
        s = y[1] + 0.0
        y[0] = 5.0
        return np.sum(y * y) + s

    nodes = by_title(tape.record(f, np.array([1.0, 2.0])).draw())
    assert (nodes["×"].value, nodes["assign"].value, nodes["assign"].gradient) == ("[25, 16]", "[5, 4]", "∂ [10, 8]")
    assert nodes["x"].gradient == "∂ [0, 18]"


def test_pictures_are_of_the_last_sweeps():
    t = product()
    first = t.draw()
    assert by_title(first)["×"].value == "-12"
    assert t.forward(1.0, 2.0, 3.0) == 9.0
    shown = [(node.value, node.gradient) for node in t.draw().nodes]
    assert shown == [("1", "∂ 3"), ("2", "∂ 3"), ("3", "∂ 3"), ("3", "∂ 3"), ("9", "∂ 1")]
    t.reverse(seed=-2.0)
    assert by_title(t.draw())["x"].gradient == "∂ -6"
    assert by_title(first)["×"].value == "-12"


@pytest.mark.parametrize("make", [assigned, loop])
def test_seeds_are_those_of_the_last_reverse(make):
    t = make()
    once = [numbers(node.gradient) for node in t.draw().nodes]
    t.reverse(seed=-4.0)
    for node, before in zip(t.draw().nodes, once, strict=True):
        sign = 1.0 if node.gradient.startswith("|") else -1.0
        np.testing.assert_allclose(numbers(node.gradient), 4.0 * sign * np.array(before), rtol=1e-2)
    (gradient,) = t.gradients
    check_shown(t.draw().nodes[0].gradient, gradient)


def test_a_list_whose_guard_failed_has_no_picture():
    t = several_results()
    with pytest.raises(tape.GuardFailed):
        t.forward(np.array([-3.0, 4.0, 0.0, 1.0]))
    with pytest.raises(tape.GuardFailed):
        t.draw()
    t.forward(np.array([6.0, 8.0, 0.0, 0.0]))
    assert by_title(t.draw())["sqrt"].value == "10"


def test_a_loaded_list_is_drawn_at_its_inputs(tmp_path):
    tape.record(lambda x, y: np.cos(x) + y, 1.0, 2.0).save(tmp_path / "list.npz")
    t = tape.load(tmp_path / "list.npz")
    assert [node.value for node in t.draw().nodes] == ["0", "0", "1", "1"]
    t.forward(0.0, 2.0)
    assert [node.title for node in t.draw().nodes] == ["argument 0", "argument 1", "cos", "+"]
    assert [node.value for node in t.draw().nodes] == ["0", "2", "1", "3"]


@pytest.mark.parametrize("x", [math.nan, math.inf, -math.inf, 1e-300, 0.0])
def test_special_numbers(x):
    assert tape.record(lambda x: np.abs(x), x).draw().nodes[0].value == f"{x:.4g}"
    node = tape.record(lambda x: np.sum(x), np.full(4, x)).draw().nodes[0]
    assert node.value == f"|x| = {2 * abs(x):.4g}"


def test_values_and_gradients_can_be_left_out():
    t = neuron()
    assert all(not node.value for node in t.draw(values=False).nodes if node.role != "constant")
    assert all(not node.gradient for node in t.draw(gradients=False).nodes)
    assert GRADIENT not in t.draw(gradients=False).svg


def test_a_list_without_derivative_has_no_gradients():
    picture = tape.record(lambda x, k: (2.0, k + 1), 3.0, 4).draw()
    assert [node.role for node in picture.nodes].count("operation") <= 1
    assert not any(node.gradient for node in picture.nodes if node.role != "parameter")
    assert len(tape.record(lambda x: 2.0, 3.0).draw().nodes) == 1
    assert not tape.record(lambda: 2.0).draw().nodes


def test_arguments_have_the_names_of_the_function():
    def f(weights, *rest, scale):
        return np.sum(weights["w"] * rest[0]) * scale[1]

    titles = [node.title for node in tape.record(f, {"w": np.ones(4)}, 2.0, scale=(0.0, 3.0)).draw().nodes]
    assert titles[:1] == ["weights['w']"]
    assert {"rest[0]", "scale[0]", "scale[1]"} <= set(titles)
    assert tape.record(np.sin, 1.0).draw().nodes[0].title in ("x", "argument 0")
    assert jitted().draw(fold=False).nodes[0].title == "k"
    t = product()
    assert [node.title for node in t.build_grad().draw().nodes[:3]] == ["x", "y", "z = result[0] = result[1]"]
    assert t.build_jvp().draw().nodes[0].title == "argument 0"


def test_several_results_are_named():
    picture = several_results().draw()
    named = {re.search(r"result\['(\w+)'\]", f"{node.title} {node.note}").group(1) for node in picture.nodes if node.result}
    assert named == {"r", "unit", "same"}
    assert any("guard" in node.note for node in picture.nodes)


# ---------------------------------------------------------------------- what they look like


@UNFOLDED
@pytest.mark.parametrize("fold", [False, True])
def test_the_svg_is_well_formed_and_roles_have_their_colours(name, fold):
    picture = TAPES[name]().draw(fold=fold)
    drawn = groups(picture, "node")
    assert str(picture) == picture.svg == picture._repr_svg_()
    assert len(groups(picture, "edge")) == len(picture.edges)
    assert len(drawn) == len(picture.nodes)
    for element, node in zip(drawn, picture.nodes, strict=True):
        outlines, look = element.findall(f"{SVG}path"), LOOKS[node.role]
        assert {"node", node.role} <= set(element.get("class").split())
        assert (outlines[-1].get("fill"), outlines[-1].get("stroke")) == (look.fill, look.stroke)
        assert (outlines[0].get("stroke") == RESULT) == node.result == ("result" in element.get("class"))
        texts = {text.text: text.get("fill") for text in element.findall(f"{SVG}text")}
        assert texts.get(node.value, VALUE) == VALUE
        assert texts.get(node.gradient, GRADIENT) == GRADIENT
    (legend,) = groups(picture, "legend")
    said = [text.text for text in legend.findall(f"{SVG}text")]
    assert {look.label for role, look in LOOKS.items() if role in {node.role for node in picture.nodes}} <= set(said)


def test_calls_have_the_name_of_their_function():
    picture = calls().draw()
    assert {"solve", "cube"} <= {node.title for node in picture.nodes}
    assert any("solve, cube" in node.note for node in calls().draw(fold=True).nodes)


def test_roles():
    t = network()
    roles = collections.Counter(node.role for node in t.draw().nodes)
    assert roles["parameter"] == 4
    assert roles["input"] == 1
    assert roles["constant"] >= 1
    assert [node.role for node in loop().draw().nodes].count("loop") == 1
    (node,) = [node for node in loop().draw().nodes if node.role == "loop"]
    assert re.search(r"7 steps of 5 instructions", node.note)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("most_width", [0.0, 1e9])
def test_nothing_overlaps(seed, most_width):
    random = np.random.default_rng(seed)
    count = int(random.integers(2, 40))
    sizes = [(float(w), float(h)) for w, h in random.uniform(20, 200, (count, 2))]
    pairs = random.integers(0, count, (2 * count, 2))
    edges = list(dict.fromkeys((int(u), int(v)) for u, v in pairs if u != v and (u < v or seed % 2)))
    layout = layered(sizes, edges, most_width)
    assert layout.downwards == (most_width == 0.0)
    half, centres = np.array(sizes) / 2, np.array(layout.centres)
    apart = np.abs(centres[:, None] - centres[None]) - half[:, None] - half[None]
    assert np.all(apart.max(axis=2)[~np.eye(count, dtype=bool)] > 1.0)
    assert np.all(centres - half > -1e-6)
    assert np.all(centres + half < np.array([layout.width, layout.height]) + 1e-6)
    for route in layout.routes:
        assert "C" in [name for name, *_ in route.line]
        points = np.array(list(along(route.line)))
        inside = np.all(np.abs(points[:, None] - centres[None]) < half[None] - 1e-6, axis=2)
        assert not inside.any()


def along(commands):
    """Points of a line, close to each other."""
    here = None
    for name, *p in commands:
        corners = np.array([p]).reshape(-1, 2)
        for s in np.linspace(0.0, 1.0, 20):
            if name == "L":
                yield (1 - s) * here + s * corners[0]
            elif name == "C":
                a, b, c = corners
                yield (1 - s) ** 3 * here + 3 * s * (1 - s) ** 2 * a + 3 * s**2 * (1 - s) * b + s**3 * c
        here = corners[-1]


def corners(element):
    """All x and all y in the outlines of a group."""
    data = " ".join(path.get("d") for path in element.findall(f"{SVG}path"))
    lengths = [float(x) for x in re.findall(r"-?\d+(?:\.\d+)?", data)]
    return lengths[::2], lengths[1::2]


@UNFOLDED
def test_everything_is_inside_the_picture_and_texts_inside_their_nodes(name):
    picture = TAPES[name]().draw()
    root = ElementTree.fromstring(picture.svg)
    width, height = (float(root.get(side)) for side in ("width", "height"))
    for in_body in (False, True):
        boxes = [corners(node) for node in groups(picture, "node", in_body)]
        for xs, ys in map(corners, groups(picture, "edge", in_body)):
            for x, y in zip(xs, ys, strict=True):
                assert not any(min(a) + 0.2 < x < max(a) - 0.2 and min(b) + 0.2 < y < max(b) - 0.2 for a, b in boxes)
    for element in root.iter(f"{SVG}g"):
        xs, ys = corners(element)
        assert min(xs) >= 0
        assert max(xs) <= width
        assert min(ys) >= 0
        assert max(ys) <= height
        for text in element.findall(f"{SVG}text"):
            start = float(text.get("x"))
            assert min(xs) <= start
            assert start + 0.605 * float(text.get("font-size")) * len(text.text) <= max(xs) + 0.2
            assert min(ys) < float(text.get("y")) < max(ys)


# ---------------------------------------------------------------------- bodies of loops


def body_of(picture):
    """The body of the one loop of a picture, and its nodes by the first word of what they say."""
    (body,) = [node.body for node in picture.nodes if node.body is not None]
    return body, {(node.title or node.value): k for k, node in enumerate(body.nodes)}


def test_a_loop_has_its_body_inside():
    def step(carry, x):
        h, n = carry
        h = np.tanh(h * 0.5 + x)
        return (h, n + 1.0), h * h

    def f(h, xs):
        (h, n), ys = tape.scan(step, (h, 0.0), xs)
        return np.sum(ys) + h[0] + n

    picture = tape.record(f, np.ones(2), np.ones((5, 2))).draw()
    body, k = body_of(picture)
    assert {"carry[0]", "carry[1]", "x", "0.5", "tanh"} <= set(k)
    back = {(body.nodes[u].note, body.nodes[v].title) for u, v in body.edges if u > v}
    went = {(note.rpartition(" next ")[2], title) for note, title in back}
    assert went == {(name, name) for name in ("carry[0]", "carry[1]")}
    products = [v for u, v in body.edges if u == k["0.5"]]
    assert [body.nodes[v].title for v in products] == ["×"]
    assert (k["carry[0]"], products[0]) in body.edges
    assert any(node.note.endswith(" y") and node.result for node in body.nodes)
    assert all(not node.gradient for node in body.nodes)

    (loop,) = [g for g in groups(picture, "node") if "with-body" in g.get("class")]
    xs, ys = corners(loop)
    inside = groups(picture, "node", in_body=True)
    assert len(inside) == len(body.nodes)
    for element in [*inside, *groups(picture, "edge", in_body=True)]:
        a, b = corners(element)
        assert min(xs) < min(a) < max(a) < max(xs)
        assert min(ys) < min(b) < max(b) < max(ys)
    assert "subgraph cluster_n" in picture.dot
    said = [text.text for text in groups(picture, "legend")[0].findall(f"{SVG}text")]
    assert {"carried value", "to the next pass"} <= set(said)


def test_carried_values_that_change_places():
    fibonacci = tape.record(lambda a, b: tape.fori(0, 5, lambda i, c: (c[1], c[0] + c[1]), (a, b))[0], 1.0, 2.0).draw()
    body, k = body_of(fibonacci)
    back = {(body.nodes[u].title, body.nodes[v].title) for u, v in body.edges if u > v}
    assert back == {("next carry[0]", "carry[0]"), ("+", "carry[1]")}
    assert (k["carry[1]"], k["next carry[0]"]) in body.edges


def test_a_value_that_is_carried_on_as_it_is_has_no_edge():
    picture = tape.record(lambda x: tape.fori(0, 3, lambda i, c: (c[0], c[1] * c[0]), (x, x))[1], 2.0).draw()
    body, k = body_of(picture)
    assert [v for u, v in body.edges if u > v] == [k["carry[1]"]]


def test_bodies_in_bodies_branches_and_checkpoints():
    def inner(x):
        return tape.fori(0, 3, lambda i, c: np.sin(c) * x, x)

    outer = tape.record(lambda x: tape.fori(0, 4, lambda i, c: inner(c), x), 0.5).draw()
    body, _ = body_of(outer)
    (within,) = [node.body for node in body.nodes if node.body is not None]
    assert "sin" in {node.title for node in within.nodes}
    branch = tape.record(lambda x: tape.cond(x > 0.0, np.sin, np.cos, x), 1.0).draw()
    titles = [{node.title for node in node.body.nodes} for node in branch.nodes if node.body is not None]
    assert ["sin" in titles[0], "cos" in titles[1]] == [True, True]
    assert not any(u > v for node in branch.nodes if node.body is not None for u, v in node.body.edges)
    _, k = body_of(tape.record(tape.checkpoint(lambda x: np.exp(x) * 2.0), 1.0).draw())
    assert {"exp", "×"} <= set(k)


def test_long_bodies_are_folded():
    def step(c, _):
        for _ in range(100):
            c = np.sin(c)
        return c, None

    t = tape.record(lambda x: tape.scan(step, x, np.arange(3.0))[0], 0.5)
    assert len(body_of(t.draw())[0].nodes) < 10
    assert len(body_of(t.draw(fold=False))[0].nodes) > 100


def test_pictures_shrink_to_the_page():
    for picture in (loop().draw(), tape.draw_gradients([("0", 1.0)])):
        root = ElementTree.fromstring(picture.svg)
        assert root.get("viewBox").split()[2:] == [root.get("width"), root.get("height")]
        assert "max-width: 100%" in root.get("style")
        assert "height: auto" in root.get("style")


# ---------------------------------------------------------------------- folding


def test_a_line_of_code_is_one_node_with_what_others_read_of_it():
    code = "def f(w, x):\n h = x\n for _ in range(20):\n  z = w * h\n  h = np.tanh(z) + 0.1\n return h * h\n"
    namespace = {"np": np}
    exec(compile(code, "some/folder/deep.py", "exec"), namespace)
    t = tape.record(namespace["f"], 1.5, 0.2)
    assert len(t.draw(fold=False).nodes) == 64
    picture = t.draw()
    nodes = by_title(picture)
    assert list(nodes) == ["w", "x", "deep.py:4", "deep.py:5", "deep.py:6"]
    assert nodes["deep.py:4"].note == "mul ×20"
    assert nodes["deep.py:5"].note == "tanh, add ×40"
    assert nodes["deep.py:6"].result
    assert picture.edges.count((3, 2)) == 1  # to the next pass
    assert "to the next pass" in picture.svg
    h, steps = [0.2], []
    for _ in range(20):
        steps.append(1.5 * h[-1])
        h.append(np.tanh(steps[-1]) + 0.1)
    np.testing.assert_allclose(numbers(nodes["deep.py:4"].value), [min(steps), max(steps)], **FOLDED)
    np.testing.assert_allclose(numbers(nodes["deep.py:5"].value), [min(h[1:]), max(h[1:])], **FOLDED)
    adjoints = [abs(t.grad_table[slot]) for slot in nodes["deep.py:4"].slots]
    np.testing.assert_allclose(numbers(nodes["deep.py:4"].gradient), [min(adjoints), max(adjoints)], **FOLDED)
    slots = [slot for node in picture.nodes for slot in node.slots]
    assert len(slots) == len(set(slots)) == 64


def test_many_leaves_of_an_argument_are_one_node():
    weights = [np.full((3, 3), 0.1 * k) for k in range(1, 21)]
    t = tape.record(lambda weights: sum(np.sum(w * w) for w in weights), weights)
    node = by_title(t.draw(fold=True))["weights"]
    assert len(node.slots) == 20
    np.testing.assert_allclose(numbers(node.value), [0.3, 6.0], **FOLDED)
    np.testing.assert_allclose(numbers(node.gradient), [0.6, 12.0], **FOLDED)


@pytest.mark.parametrize("lines", [2, 2_000])
def test_long_lists_make_small_pictures(lines):
    each = 4_000 // lines
    body = "".join(f" for _ in range({each}):\n  x = np.sin(x) * y\n" for _ in range(lines))
    namespace = {"np": np}
    exec(compile(f"def f(x, y):\n{body} return x\n", "long.py", "exec"), namespace)
    t = tape.record(namespace["f"], 1.0, 1.01)
    assert len(t) == 8_000
    picture = t.draw()
    assert min(lines, MOST_LINES / 2) <= len(picture.nodes) <= min(lines, MOST_LINES) + 3
    assert sum(len(node.slots) for node in picture.nodes) == 8_002
    assert len(picture.svg) < 100_000
    assert ElementTree.fromstring(picture.svg) is not None


# ---------------------------------------------------------------------- files and texts


@pytest.mark.parametrize("name", ["<a&b>\"'.py", "$x_1$ 漢字.py", "\x01\udcff\u202e.py", "C:\\folder\\" + "long" * 40 + ".py"])
def test_names_are_escaped(name, tmp_path):
    namespace = {"np": np}
    exec(compile("def f(x):\n return np.sin(np.exp(x))\n", name, "exec"), namespace)
    picture = tape.record(namespace["f"], 1.0).draw(fold=True)
    shown = [text.text for text in groups(picture, "node")[1].findall(f"{SVG}text")]
    assert len(shown[0]) <= 40
    if len(name) < 20 and name.isprintable():
        assert shown[0] == f"{name}:2"
    assert picture.dot.count("<b>") == 2
    picture.save(tmp_path / "picture.svg")
    picture.save(tmp_path / "picture.png")
    assert (tmp_path / "picture.svg").read_text(encoding="utf-8") == picture.svg


@pytest.mark.parametrize("suffix", [".svg", ".SVG", ".png"])
def test_files(suffix, tmp_path):
    path = tmp_path / f"picture{suffix}"
    picture = product().draw(path)
    if suffix == ".png":
        data = path.read_bytes()
        width, height = (int.from_bytes(data[k : k + 4], "big") for k in (16, 20))
        assert data[:8] == b"\x89PNG\r\n\x1a\n"
        assert (width, height) == pytest.approx((2 * picture._width, 2 * picture._height), abs=2)
    else:
        assert path.read_text(encoding="utf-8") == str(picture)


def test_a_tall_picture_has_fewer_pixels(tmp_path):
    tape.draw.Picture(10.0, 160_000.0, []).save(tmp_path / "tall.png")
    assert int.from_bytes((tmp_path / "tall.png").read_bytes()[20:24], "big") == 32_000


@pytest.mark.parametrize("name", ["picture.gif", "picture", ".svg"])
def test_another_suffix_is_refused_before_anything_runs(name, tmp_path):
    t = product()
    t._program = None
    with pytest.raises(ValueError, match=r"expected a file name that ends in \.svg or \.png"):
        t.draw(tmp_path / name)
    with pytest.raises(ValueError, match=r"expected a file name that ends in \.svg or \.png"):
        tape.draw_gradients([("0", 1.0)], tmp_path / name)


@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_a_path_that_cannot_be_written(suffix, tmp_path):
    with pytest.raises(FileNotFoundError, match="cannot write the picture"):
        product().draw(tmp_path / "missing" / f"picture{suffix}")
    (tmp_path / f"folder{suffix}").mkdir()
    with pytest.raises(OSError, match="cannot write the picture"):
        product().draw(tmp_path / f"folder{suffix}")


def test_a_png_without_matplotlib(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"wengert\[plot\]"):
        product().draw(tmp_path / "picture.png")
    product().draw(tmp_path / "picture.svg")


def test_text_for_graphviz():
    picture = assigned().draw(fold=True)
    dot = picture.dot
    assert dot.startswith("digraph {")
    assert len(re.findall(r"^  n\d+ \[label=<.*>, shape=\w+, .*\];$", dot, flags=re.MULTILINE)) == len(picture.nodes)
    assert [(int(u), int(v)) for u, v in re.findall(r"^  n(\d+) -> n(\d+)", dot, flags=re.MULTILINE)] == picture.edges


# ---------------------------------------------------------------------- norms by layer


Layer = collections.namedtuple("Layer", "w b")


@pytest.mark.parametrize("container", [list, tuple, lambda layers: {f"layer {k}": layer for k, layer in enumerate(layers)}])
def test_norms_are_those_of_the_gradient(container):
    random = np.random.default_rng(2)
    x = random.standard_normal(5)
    params = container([Layer(random.standard_normal((5, 5)), random.standard_normal(5)) for _ in range(3)])

    def loss(params, x):
        h = x
        for layer in params.values() if isinstance(params, dict) else params:
            h = np.tanh(layer.w @ h + layer.b)
        return np.sum(h)

    gradient = tape.grad(loss)(params, x)
    names = list(gradient) if isinstance(gradient, dict) else ["0", "1", "2"]
    layers = gradient.values() if isinstance(gradient, dict) else gradient
    found = tape.gradient_norms(loss, params, x)
    assert [name for name, _ in found] == names
    np.testing.assert_allclose([n for _, n in found], [np.sqrt(np.sum(g.w**2) + np.sum(g.b**2)) for g in layers], rtol=1e-12)


def test_norms_of_other_parameters():
    assert tape.gradient_norms(lambda p: p[0] * p[1], np.array([3.0, 4.0])) == [("0", 5.0)]
    assert tape.gradient_norms(lambda p: 3.0 * p.w + 4e300 * p.b[0], Layer(1.0, np.ones(2))) == [("w", 3.0), ("b", 4e300)]
    with pytest.raises(tape.NotDifferentiable):
        tape.gradient_norms(lambda p: p, np.ones(2))


def test_the_picture_of_norms(tmp_path):
    layers = [(str(k), 10.0**-k) for k in range(30)]
    others = [("0", 0.0), ("1", math.inf), ("2", math.nan), ("3", 2.0)]
    picture = tape.draw_gradients({"a": layers, "b & c": others}, tmp_path / "n.svg")
    assert (tmp_path / "n.svg").read_text(encoding="utf-8") == picture.svg
    first, second = groups(picture, "network")
    assert [len(line.findall(f"{SVG}path")) for line in (first, second)] == [31, 5]
    assert [path.get("fill") == "#ffffff" for path in second.findall(f"{SVG}path")[1:]] == [True, True, True, False]
    heights = [float(re.match(r"M[\d.]+ ([\d.]+)", path.get("d")).group(1)) for path in first.findall(f"{SVG}path")[1:]]
    np.testing.assert_allclose(np.diff(heights), np.diff(heights)[0], atol=0.11)  # a straight line downwards
    assert np.diff(heights)[0] > 0
    names = [text.text for text in groups(picture, "names")[0].findall(f"{SVG}text")]
    assert sorted(names) == ["a", "b & c"]


@pytest.mark.parametrize("nothing", [{}, [], {"net": []}])
def test_a_picture_of_no_norms_is_refused(nothing):
    with pytest.raises(ValueError, match="expected norms by layer"):
        tape.draw_gradients(nothing)


# ---------------------------------------------------------------------- the guide


def test_the_pictures_of_the_guide_are_those_its_code_makes(tmp_path):
    graphs.write(tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == sorted(path.name for path in graphs.FOLDER.glob("*.svg"))
    for name in names:
        made, kept = (structure((folder / name).read_text(encoding="utf-8")) for folder in (tmp_path, graphs.FOLDER))
        assert made == kept, f"{name}: run python -m bench.graphs"
        assert (graphs.FOLDER / name).stat().st_size < 60_000
        assert f"(pictures/{name})" in graphs.PAGE.read_text(encoding="utf-8")


def structure(svg):
    """Elements, classes, colours and texts, without numbers, whose last digits differ from machine to machine."""
    return [(element.tag, element.get("class"), element.get("fill"), re.sub(r"-?\d[\d.]*(e[+-]\d+)?", "0", element.text or ""))
            for element in ElementTree.fromstring(svg).iter()]
