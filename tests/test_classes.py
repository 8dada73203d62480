"""Instances of dataclasses, attrs classes, and classes that optree knows, as arguments and results."""

import dataclasses
from typing import Any, NamedTuple

import numpy as np
import optree
import pytest

import tape


@dataclasses.dataclass
class Layer:
    """Two arrays, a name and a size."""

    weights: np.ndarray
    bias: np.ndarray
    name: str = "layer"
    size: int = 2


@dataclasses.dataclass(frozen=True)
class Network:
    """Other instances, a number and what is fixed."""

    first: Layer
    rest: list
    scale: float
    activation: Any = np.tanh
    enabled: bool = True

    def __call__(self, x):
        for layer in (self.first, *self.rest):
            x = self.activation(layer.weights @ x + layer.bias)
        return self.scale * x if self.enabled else x


@dataclasses.dataclass(frozen=True, slots=True)
class Slotted:
    """Fields in slots, one of them computed."""

    x: np.ndarray
    y: float
    total: float = dataclasses.field(init=False)

    def __post_init__(self):
        if not isinstance(self.y, float):
            raise TypeError("checks are not made anew")
        object.__setattr__(self, "total", 0.0)


def network():
    """A network with two layers."""
    rng = np.random.default_rng(1)
    layers = [Layer(rng.normal(size=(2, 2)), rng.normal(size=2), name) for name in ("a", "b")]
    return Network(layers[0], layers[1:], 1.5)


X = np.array([0.4, -0.3])


def loss(net, x):
    """A scalar of a network."""
    return np.sum(net(x) ** 2)


def moved(net, direction, step):
    """The network with every float moved."""
    layers = [Layer(one.weights + step * d.weights, one.bias + step * d.bias)
              for one, d in zip((net.first, *net.rest), (direction.first, *direction.rest), strict=True)]
    return Network(layers[0], layers[1:], net.scale + step * direction.scale)


def along(gradient, direction):
    """The sum of products of all floats."""
    total = gradient.scale * direction.scale
    for g, d in zip((gradient.first, *gradient.rest), (direction.first, *direction.rest), strict=True):
        total += np.sum(g.weights * d.weights) + np.sum(g.bias * d.bias)
    return total


@pytest.mark.parametrize("engine", ["0", "always"])
def test_gradients_are_instances(engine, monkeypatch):
    monkeypatch.setenv("TAPE_NATIVE", engine)
    net, direction = network(), moved(network(), network(), -0.5)
    value, gradient = tape.value_and_grad(loss)(net, X)
    assert np.isclose(value, loss(net, X))
    assert type(gradient) is Network
    assert type(gradient.first) is Layer
    assert (gradient.first.name, gradient.rest[0].name, gradient.first.size, gradient.enabled) == ("a", "b", 2, True)
    assert gradient.activation is np.tanh
    slope = (loss(moved(net, direction, 1e-6), X) - loss(moved(net, direction, -1e-6), X)) / 2e-6
    assert np.isclose(along(gradient, direction), slope)
    assert np.isclose(tape.jvp(loss, (net, X), (dataclasses.replace(direction, first=direction.first), 0.0 * X))[1], slope)
    pulled, of_x = tape.vjp(loss, net, X)[1](1.0)
    assert np.isclose(along(pulled, direction), slope)
    np.testing.assert_allclose(of_x, tape.grad(loss, 1)(net, X))
    product = tape.hvp(loss)(net, X, direction)
    up, down = (tape.grad(loss)(moved(net, direction, h), X) for h in (1e-6, -1e-6))
    np.testing.assert_allclose(product.first.weights, (up.first.weights - down.first.weights) / 2e-6, rtol=1e-5, atol=1e-7)
    compiled = tape.compile(loss, net, X)
    np.testing.assert_allclose(compiled.value_and_grad(net, X)[1].first.weights, gradient.first.weights)
    assert compiled.value_and_grad(net, X)[1].first.name == "a"


def test_replays_tell_classes_fields_and_what_is_fixed():
    f = tape.grad(loss)
    net = network()
    expected = f(net, X)
    again = f(moved(net, net, 0.0), X)  # other names
    np.testing.assert_allclose(again.first.bias, expected.first.bias)
    assert f(dataclasses.replace(net, enabled=False), X).scale == 0.0
    assert f(dataclasses.replace(net, enabled=True), X).scale != 0.0
    sines = f(dataclasses.replace(net, activation=np.sin), X)
    assert not np.allclose(sines.first.bias, expected.first.bias)


def test_instances_that_are_not_differentiated():
    net = network()
    np.testing.assert_allclose(tape.grad(loss, "x")(net, X), tape.jacobian(lambda x: loss(net, x))(X))
    gradients = tape.batch(tape.grad(loss, 1), in_axes=(None, 0))(net, np.stack([X, 2 * X]))
    np.testing.assert_allclose(gradients[1], tape.grad(loss, 1)(net, 2 * X))


def test_slots_and_checks_of_classes():
    one = Slotted(np.array([1.0, 2.0]), 3.0)
    gradient = tape.grad(lambda s: np.sum(s.x**2) * s.y + s.total)(one)
    assert type(gradient) is Slotted
    assert gradient.x.tolist() == [6.0, 12.0]
    assert (gradient.y, gradient.total) == (5.0, 1.0)


def test_instances_as_results():
    def doubled(layer):
        return dataclasses.replace(layer, weights=2.0 * layer.weights)

    @dataclasses.dataclass
    class Pair:
        """Two results."""

        one: Any
        two: Any

    pair, tangent = tape.jvp(lambda x: Pair(x**2, np.sum(x)), (X,), (np.ones(2),))
    np.testing.assert_allclose(pair.one, X**2)
    np.testing.assert_allclose(tangent.one, 2.0 * X)
    assert tangent.two == 2.0
    blocks = tape.jacobian(lambda x: Pair(x**2, np.sum(x)))(X)
    np.testing.assert_allclose(blocks.one, np.diag(2.0 * X))
    _, aux = tape.grad(lambda layer: (np.sum(layer.weights), doubled(layer)), has_aux=True)(network().first)
    assert type(aux) is Layer
    assert aux.name == "a"
    np.testing.assert_allclose(aux.weights, 2.0 * network().first.weights)


def test_instances_in_recordings_and_loops():
    @dataclasses.dataclass
    class State:
        """What a loop carries."""

        q: Any
        p: Any

    def energy(q0):
        end = tape.fori(0, 50, lambda i, s: State(s.q + 0.1 * s.p, s.p - 0.1 * (s.q + 0.1 * s.p)), State(q0, 0.5 * q0))
        return end.q**2 + end.p**2

    h = 1e-6
    assert np.isclose(tape.grad(energy)(1.3), (energy(1.3 + h) - energy(1.3 - h)) / (2 * h))
    inner = tape.grad(lambda x: np.sum(tape.grad(loss)(network(), x).first.bias))(X)
    up, down = (np.sum(tape.grad(loss)(network(), X + d).first.bias) for d in np.array([[h, 0.0], [-h, 0.0]]))
    assert np.isclose(inner[0], (up - down) / (2 * h))


def test_instances_without_floats():
    @dataclasses.dataclass
    class Empty:
        """Nothing to differentiate."""

        name: str = "x"

    with pytest.raises(tape.NotDifferentiable, match="argument 0: expected floats in the fields of Empty, got none"):
        tape.grad(lambda e: 1.0)(Empty())


def test_ravelled_instances():
    vector, unravel = tape.ravel(network())
    assert vector.shape == (13,)
    assert unravel(vector).rest[0].name == "b"
    gradient = tape.grad(lambda v: loss(unravel(v), X))(vector)
    np.testing.assert_allclose(gradient, tape.ravel(tape.grad(loss)(network(), X))[0])


def test_orders_of_dicts_in_fields_are_told_apart():
    @dataclasses.dataclass
    class Holder:
        """A dict."""

        parts: dict

    def first(holder):
        return next(iter(holder.parts.values()))

    f = tape.grad(first)
    assert f(Holder({"a": 1.0, "b": 2.0})).parts == {"a": 1.0, "b": 0.0}
    assert f(Holder({"b": 1.0, "a": 2.0})).parts == {"b": 1.0, "a": 0.0}


def test_checks_of_gradients_with_instances():
    tape.check_grads(lambda layer: np.sum(np.sin(layer.weights) * layer.bias), (network().first,))


def test_attrs_classes():
    attrs = pytest.importorskip("attrs")

    @attrs.define(frozen=True)
    class Spring:
        """Of attrs."""

        k: float
        rest: np.ndarray
        name: str = "spring"

    gradient = tape.grad(lambda s, x: 0.5 * s.k * np.sum((x - s.rest) ** 2))(Spring(2.0, np.ones(2)), X)
    assert type(gradient) is Spring
    assert gradient.name == "spring"
    np.testing.assert_allclose(gradient.rest, -2.0 * (X - 1.0))
    assert np.isclose(gradient.k, 0.5 * np.sum((X - 1.0) ** 2))


class Complex:
    """A class that its user registers with optree, for everybody."""

    def __init__(self, re, im, unit="V"):
        self.re, self.im, self.unit = re, im, unit


optree.register_pytree_node(Complex, lambda z: ((z.re, z.im), z.unit), lambda unit, parts: Complex(*parts, unit),
                            namespace=getattr(optree.registry, "__GLOBAL_NAMESPACE"))


def test_classes_that_optree_knows():
    def absolute(z):
        assert z.unit == "V"
        return np.sum(z.re**2 + z.im**2)

    gradient = tape.grad(absolute)(Complex(X, 2.0 * X))
    assert type(gradient) is Complex
    assert gradient.unit == "V"
    np.testing.assert_allclose(gradient.im, 4.0 * X)


def test_named_tuples_stay_what_they_are():
    class Point(NamedTuple):
        """Two numbers."""

        x: float
        y: float

    assert tape.grad(lambda p: p.x * p.y)(Point(2.0, 3.0)) == Point(3.0, 2.0)


FACTOR = 2.0


def test_what_methods_of_arguments_read_is_seen(monkeypatch):
    class Plain:
        """An object that is no container."""

        def times(self, x):
            return FACTOR * x

    @dataclasses.dataclass
    class Fields:
        """An instance that is one."""

        gain: float = 1.0

        def times(self, x):
            return FACTOR * self.gain * x

    for one in (Plain(), Fields()):
        f = tape.grad(lambda one, x: one.times(x), "x")
        assert f(one, 1.0) == f(one, 5.0) == 2.0
        with monkeypatch.context() as changed:
            changed.setattr(f"{__name__}.FACTOR", 3.0)
            assert f(one, 1.0) == 3.0
        assert f(one, 1.0) == 2.0
        with monkeypatch.context() as changed:
            changed.setattr(type(one), "times", lambda self, x: 7.0 * x)
            assert f(one, 1.0) == 7.0
