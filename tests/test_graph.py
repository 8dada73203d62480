"""The textbook's view of a list: operations, inputs, consumers, pruning; its build_grad written over these."""

import numpy as np
import pytest

import tape

CLOSE = {"rtol": 1e-12, "atol": 1e-12}


def build_grad(v, graph, grad_table, ancestors):
    """The textbook's recursion (Goodfellow et al., algorithm 6.6), inside the graph of the output's ancestors."""
    if v.number in grad_table:
        return grad_table[v.number]
    total = np.zeros(v.view.shape)
    for c in graph.get_consumers(v):
        if c.number in ancestors:
            op = graph.get_operation(c)
            adjoint = build_grad(c, graph, grad_table, ancestors)
            total = total + op.bprop(graph.get_inputs(c), v, adjoint)
    grad_table[v.number] = total
    return total


def textbook_gradients(t):
    """Gradients of the (scalar) result with respect to every input."""
    ancestors, ahead = set(), [t.results]
    while ahead:
        v = ahead.pop()
        if v.number not in ancestors:
            ancestors.add(v.number)
            ahead.extend(t.get_inputs(v))
    grad_table = {t.results.number: np.ones(t.results.view.shape)}
    return [build_grad(v, t, grad_table, ancestors) for v in t.inputs], grad_table


@pytest.fixture
def network():
    random = np.random.default_rng(5)
    x, labels = random.standard_normal((6, 4)), random.integers(0, 3, 6)

    def objective(w1, w2, b):
        h = np.maximum(0.0, x @ w1 + b)
        scores = h @ w2
        cross_entropy = np.sum(tape.logsumexp(scores, axis=1) - scores[np.arange(6), labels])
        return cross_entropy + 0.01 * (np.sum(w1**2) + np.sum(w2**2))

    return objective, (random.standard_normal((4, 5)), random.standard_normal((5, 3)), random.standard_normal(5))


def test_the_textbooks_recursion_gives_the_gradients_of_a_network(network):
    objective, args = network
    t = tape.record(objective, *args)
    gradients, table = textbook_gradients(t)
    for mine, wanted in zip(gradients, tape.grad(objective, (0, 1, 2))(*args), strict=True):
        np.testing.assert_allclose(mine, wanted, **CLOSE)
    t.reverse()
    for number, adjoint in table.items():
        np.testing.assert_allclose(t.grad_table[number], adjoint, **CLOSE)


def assigned(x):
    z = np.zeros_like(x)
    z[:2] = x[1:] * 2.0
    z[2] = np.sin(x[0])
    return np.sum(z * x) + z[1]


FUNCTIONS = {
    "assignment": assigned,
    "positions": lambda x: np.sum(x[np.array([0, 2, 2])] * x),
    "extreme": lambda x: np.max(x) * x[0],
    "joined": lambda x: np.sum(np.concatenate([x, x[:2] ** 2]) ** 3),
    "stopped": lambda x: np.sum(x * tape.stop_gradient(x)),
    "loop": lambda x: np.sum(tape.fori(0, 3, lambda i, y: y * x + 0.1, x)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_recursion_on_all_kinds_of_instructions(name):
    x = np.array([0.5, -1.0, 1.5])
    t = tape.record(FUNCTIONS[name], x)
    (gradient,), _ = textbook_gradients(t)
    np.testing.assert_allclose(gradient, tape.grad(FUNCTIONS[name])(x), **CLOSE)


def test_an_operation_says_what_it_is_and_computes():
    t = tape.record(lambda x, y: np.sum(x * y), np.array([1.0, 2.0]), np.array([3.0, 4.0]))
    (product,) = t.get_consumers(t.inputs[0])
    operation = t.get_operation(product)
    assert (operation.name, operation.row.name) == ("mul", "mul")
    assert operation.line.rpartition(":")[0] == __file__
    assert repr(operation).startswith(f"{product} = mul %0, %1  # ")
    np.testing.assert_array_equal(operation.f([2.0, 3.0], [5.0, 7.0]), [10.0, 21.0])
    np.testing.assert_array_equal(operation.bprop(([2.0, 3.0], [5.0, 7.0]), t.inputs[1], [1.0, 10.0]), [2.0, 30.0])
    np.testing.assert_array_equal(operation.bprop(t.get_inputs(product), t.inputs[1], [1.0, 10.0]), [1.0, 20.0])
    total = t.get_operation(t.results)
    assert total.name == "accumulate"
    assert total.f([1.0, 2.0]) == 3.0
    assert t.get_operation(t.inputs[0]) is None
    assert t.get_inputs(t.inputs[0]) == []
    assert t.edges == 3


def test_variables_are_named_by_slot_number_or_recorded_array():
    kept = {}

    def f(x):
        kept["y"] = y = np.sin(x)
        return y * y

    t = tape.record(f, 2.0)
    assert [v.number for v in t.get_inputs(kept["y"])] == [0]
    assert [v.number for v in t.get_consumers(0)] == [t._number_of(kept["y"])]
    with pytest.raises(KeyError, match="expected a variable of this tape"):
        t.get_inputs(99)


def test_an_operation_refuses_what_it_does_not_read():
    t = tape.record(lambda x, y: np.sin(x) + y, 2.0, 3.0)
    operation = t.get_operation(t.results)
    with pytest.raises(KeyError, match="not an input of"):
        operation.bprop((1.0, 1.0), t.inputs[0], 1.0)
    with pytest.raises(ValueError, match="expected 2 values, got 1"):
        operation.f(1.0)


def test_cells_that_are_several_variables_are_refused():
    def f(x):
        z = x * 2.0
        y = np.sin(z)
        z[0] = y[1]
        return np.sum(z * y)

    t = tape.record(f, np.array([1.0, 2.0]))
    with pytest.raises(tape.NotDifferentiable, match="assigned to after it was read"):
        textbook_gradients(t)


def test_consumers_and_inputs_say_the_same(network):
    objective, args = network
    t = tape.record(objective, *args)
    pairs = {(v.number, c.number) for v in map(t._numbered, range(len(t.grad_table))) for c in t.get_consumers(v)}
    others = {(i.number, v.number) for v in map(t._numbered, range(len(t.grad_table))) for i in t.get_inputs(v)}
    assert pairs == others
    assert len(pairs) == t.edges


def test_what_lies_between_targets_and_output(network):
    objective, args = network
    t = tape.record(objective, *args)
    w2 = t.inputs[1]
    between = t.prune(w2, of=t.results)
    assert len(between) < len(t)
    assert not any(between.get_operation(c).name == "relu" for c in between.get_consumers(0))
    other = np.cos(args[1])
    np.testing.assert_allclose(between.forward(other), objective(args[0], other, args[2]), **CLOSE)
    between.reverse()
    np.testing.assert_allclose(between.gradients[0], tape.grad(objective, 1)(args[0], other, args[2]), **CLOSE)
    whole = t.prune(t.inputs, of=t.results)
    np.testing.assert_allclose(whole.forward(*args), objective(*args), **CLOSE)
    whole.reverse()
    np.testing.assert_allclose(whole.gradients[0], tape.grad(objective)(*args), **CLOSE)


def test_pruning_from_a_variable_inside_and_back_at_the_recorded_values():
    kept = {}

    def f(x, y):
        kept["h"] = h = np.sin(x) * y
        return np.exp(h) + y, np.cos(x)

    t = tape.record(f, 0.5, 2.0)
    between = t.prune(kept["h"], of=t.results[0])
    between.reverse()
    np.testing.assert_allclose(between.gradients[0], np.exp(2.0 * np.sin(0.5)), **CLOSE)
    assert between.forward(0.0) == 3.0
    assert float(t.prune(t.inputs[0], of=t.inputs[1]).forward(1.0)) == 2.0


def test_pruning_keeps_assignments_in_order():
    t = tape.record(lambda x, y: assigned(x * y), np.array([0.5, -1.0, 1.5]), np.array([1.0, 2.0, 3.0]))
    x, y = np.array([0.1, 0.2, 0.3]), np.array([1.0, 2.0, 3.0])
    np.testing.assert_allclose(t.prune(t.inputs[0], of=t.results).forward(x), assigned(x * y), **CLOSE)
