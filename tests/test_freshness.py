"""Replays: a function whose surroundings changed gives what it would give now; one whose surroundings did not is replayed."""

import array
import collections
import contextvars
import dataclasses
import enum
import functools
import itertools
import random
import types

import numpy as np
import pytest
from counting import Counter

import tape


class Box:
    """Attributes."""

    def __init__(self, **attributes):
        self.__dict__.update(attributes)


class Slots:
    __slots__ = ("inner", "w")

    def __init__(self, w):
        self.w = w


@dataclasses.dataclass(slots=True)
class Settings:
    w: float = 2.0


class Scaled:
    def __init__(self, w):
        self.w = w

    @property
    def twice(self):
        return 2.0 * self.w

    def __call__(self, x):
        return x * self.w

    def method(self, x):
        return self(x)


GLOBAL = {"w": 2.0}


def reads_a_global(x):
    return x * GLOBAL["w"]


def variable():
    w = 2.0

    def change():
        nonlocal w
        w = 5.0

    return lambda x: x * w, change


def held(thing, read, change):
    return lambda x: x * read(thing), lambda: change(thing)


def with_default():
    def f(x, w=[2.0]):  # noqa: B006
        return x * w[0]

    return f, lambda: f.__defaults__[0].__setitem__(0, 5.0)


def function_attribute():
    def f(x):
        return x * f.w

    f.w = 2.0
    return f, lambda: setattr(f, "w", 5.0)


def class_attribute():
    class Config:
        w = 2.0

    return lambda x: Config.w * x, lambda: setattr(Config, "w", 5.0)


def class_attribute_of_an_object():
    class Config:
        w = 2.0

    config = Config()
    return lambda x: config.w * x, lambda: setattr(Config, "w", 5.0)


def method_of_a_class():
    class Model:
        def method(self, x):
            return 2.0 * x

    model = Model()
    return lambda x: model.method(x), lambda: setattr(Model, "method", lambda self, x: 5.0 * x)


def function_in_a_list():
    box = {"w": 2.0}

    def layer(x):
        return x * box["w"]

    layers = [layer]
    return lambda x: layers[0](x), lambda: box.update(w=5.0)


def function_rebound():
    box = Box(h=lambda x: 2.0 * x)
    return lambda x: box.h(x), lambda: setattr(box, "h", lambda x: 5.0 * x)


def layers_of_a_network():
    layers = [Scaled(np.array(1.0)), Scaled(np.array(2.0))]
    net = Box(layers=layers)

    def f(x):
        for layer in net.layers:
            x = layer(x)
        return x

    return f, lambda: layers[1].w.__setitem__(..., 5.0)


def layers_added():
    layers = [Scaled(2.0)]

    def f(x):
        for layer in layers:
            x = layer(x)
        return x

    return f, lambda: layers.append(Scaled(2.5))


def bound_method():
    model = Scaled(2.0)
    return model.method, lambda: setattr(model, "w", 5.0)


def partial_of_a_function():
    w = np.array([2.0])
    return functools.partial(lambda w, x: x * w[0], w), lambda: w.__setitem__(0, 5.0)


def wrapped_function():
    inner, change = variable()
    return functools.wraps(inner)(lambda x: inner(x)), change


def cycle():
    a = Box(w=2.0)
    a.self = a
    return lambda x: x * a.self.self.w, lambda: setattr(a, "w", 5.0)


def far_away():
    inner = Box(w=2.0)
    outer = functools.reduce(lambda box, _: Box(inner=[{"inner": box}]), range(12), inner)

    def f(x):
        box = outer
        while hasattr(box, "inner"):
            box = box.inner[0]["inner"]
        return x * box.w

    return f, lambda: setattr(inner, "w", 5.0)


def rule_of_an_operation():
    box = [2.0]
    op = tape.operation(lambda x: x * box[0])
    op.bprop(lambda g, out, x: g * box[0])
    return lambda x: op(x), lambda: box.__setitem__(0, 5.0)


def module():
    settings = types.ModuleType("settings")
    settings.__file__ = __file__
    settings.w = 2.0
    return lambda x: x * settings.w, lambda: setattr(settings, "w", 5.0)


def global_of_a_module():
    GLOBAL["w"] = 2.0
    return reads_a_global, lambda: GLOBAL.update(w=5.0)


def module_without_a_file():
    settings = types.ModuleType("settings")
    settings.w = 2.0
    return lambda x: x * settings.w, lambda: setattr(settings, "w", 5.0)


def class_of_a_session():
    """As one of a notebook, whose module has no file."""
    kind = type("Kind", (), {"w": 2.0, "__module__": "no_such_file"})
    item = kind()
    return lambda x: x * item.w, lambda: setattr(kind, "w", 5.0)


def code_replaced():
    """As tools do that reload a module."""
    def f(x):
        return 2.0 * x

    def new(x):
        return 5.0 * x

    return lambda x: f(x), lambda: setattr(f, "__code__", new.__code__)


def defaults_replaced():
    def f(x, w=2.0):
        return x * w

    return lambda x: f(x), lambda: setattr(f, "__defaults__", (5.0,))


def keyword_default():
    def f(x, *, w=2.0):
        return x * w

    return lambda x: f(x), lambda: f.__kwdefaults__.update(w=5.0)


def of_a_dict(view):
    own = {"w": 2.0}
    seen = view(own)
    return lambda x: x * (seen["w"] if hasattr(seen, "keys") else max(seen)), lambda: own.update(w=5.0)


class Items(list):
    """A list with attributes."""


class Table(dict):
    """A dict with attributes."""


def attributed(container):
    container.w = 2.0
    return held(container, lambda a: a.w, lambda a: setattr(a, "w", 5.0))


def member_of_an_enumeration():
    kind = enum.Enum("Kind", {"FIRST": [2.0]})
    return lambda x: x * kind.FIRST.value[0], lambda: kind.FIRST.value.__setitem__(0, 5.0)


def attribute_of_a_metaclass():
    meta = type("Meta", (type,), {"w": 2.0})
    kind = meta("Kind", (), {})
    return lambda x: x * kind.w, lambda: setattr(meta, "w", 5.0)


class Inner:
    """A descriptor."""

    def __get__(self, instance, owner):
        return instance.inner_w


class Outer:
    described = Inner()


def descriptor():
    outer = Outer()
    outer.inner_w = 2.0
    return lambda x: x * outer.described, lambda: setattr(outer, "inner_w", 5.0)


def set_item(key, value):
    return lambda thing: thing.__setitem__(key, value)


CHANGES = {
    "variable": variable, "default": with_default, "function attribute": function_attribute, "class attribute": class_attribute,
    "class attribute of an object": class_attribute_of_an_object, "method of a class": method_of_a_class,
    "function in a list": function_in_a_list, "function rebound": function_rebound, "layers": layers_of_a_network,
    "layers added": layers_added, "bound method": bound_method, "partial": partial_of_a_function, "wrapped": wrapped_function,
    "cycle": cycle, "far away": far_away, "rule": rule_of_an_operation, "module": module, "global": global_of_a_module,
    "module without a file": module_without_a_file, "class of a session": class_of_a_session, "code replaced": code_replaced,
    "defaults replaced": defaults_replaced, "keyword default": keyword_default,
    "chain of dicts": lambda: held(collections.ChainMap({}, {"w": 2.0}), lambda a: a["w"], lambda a: a.maps[1].update(w=5.0)),
    "user dict": lambda: held(collections.UserDict(w=2.0), lambda a: a["w"], set_item("w", 5.0)),
    "user list": lambda: held(collections.UserList([2.0]), lambda a: a[0], set_item(0, 5.0)),
    "proxy of a dict": lambda: of_a_dict(types.MappingProxyType), "values of a dict": lambda: of_a_dict(dict.values),
    "attribute of a list": lambda: attributed(Items([1.0])), "attribute of a dict": lambda: attributed(Table(a=1.0)),
    "array of objects": lambda: held(np.array([2.0, None]), lambda a: a[0], set_item(0, 5.0)),
    "list in an array": lambda: held(np.array([[2.0], None], dtype=object), lambda a: a[0][0],
                                     lambda a: a[0].__setitem__(0, 5.0)),
    "enumeration": member_of_an_enumeration, "metaclass": attribute_of_a_metaclass, "descriptor": descriptor,
    "list": lambda: held([2.0], lambda a: a[0], set_item(0, 5.0)),
    "tuple of lists": lambda: held(([2.0],), lambda a: a[0][0], lambda a: a[0].__setitem__(0, 5.0)),
    "dict": lambda: held({"w": 2.0}, lambda a: a["w"], set_item("w", 5.0)),
    "order of a dict": lambda: held({"a": 2.0, "b": 5.0}, lambda a: next(iter(list(a.values()))),
                                    lambda a: a.__setitem__("a", a.pop("a"))),
    "deque": lambda: held(collections.deque([2.0]), lambda a: a[0], set_item(0, 5.0)),
    "ordered dict": lambda: held(collections.OrderedDict(w=2.0), lambda a: a["w"], set_item("w", 5.0)),
    "default dict": lambda: held(collections.defaultdict(float, w=2.0), lambda a: a["w"], set_item("w", 5.0)),
    "set": lambda: held({2.0}, lambda a: max(a), lambda a: a.add(5.0)),
    "array": lambda: held(np.array([2.0]), lambda a: a[0], set_item(0, 5.0)),
    "array of Python's": lambda: held(array.array("d", [2.0]), lambda a: a[0], set_item(0, 5.0)),
    "bytes": lambda: held(bytearray([2]), lambda a: float(a[0]), set_item(0, 5)),
    "large array": lambda: held(np.full(10_000, 2.0), lambda a: a[-1], set_item(-1, 5.0)),
    "attribute": lambda: held(Box(w=2.0), lambda a: a.w, lambda a: setattr(a, "w", 5.0)),
    "namespace": lambda: held(types.SimpleNamespace(w=2.0), lambda a: a.w, lambda a: setattr(a, "w", 5.0)),
    "slots": lambda: held(Slots(2.0), lambda a: a.w, lambda a: setattr(a, "w", 5.0)),
    "dataclass": lambda: held(Settings(), lambda a: a.w, lambda a: setattr(a, "w", 5.0)),
    "property": lambda: held(Scaled(1.0), lambda a: a.twice, lambda a: setattr(a, "w", 2.5)),
    "attribute by name": lambda: held(Box(w=2.0), lambda a: getattr(a, "".join("w")), lambda a: setattr(a, "w", 5.0)),
}
"""Name → what makes a function with the slope 2, and what changes its surroundings so that the slope is 5."""


@pytest.mark.parametrize("native", ["0", "always"])
@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_seen(name, native, monkeypatch):
    monkeypatch.setenv("TAPE_NATIVE", native)
    f, change = CHANGES[name]()
    calls = [tape.grad(f), lambda x: tape.value_and_grad(f)(x)[0], lambda x: tape.jvp(f, (x,), (1.0,))[1],
             lambda x: tape.vjp(f, x)[1](1.0)[0], tape.jacobian(f)]
    assert [float(call(1.0)) for call in calls] == [2.0] * 5
    change()
    assert [float(call(1.0)) for call in calls] == [5.0] * 5


def test_what_a_rebound_function_reads():
    box = Box(h=lambda x: x * box.a, a=2.0, b=2.0)
    g = tape.grad(lambda x: box.h(x))
    g(1.0)
    box.h = lambda x: x * box.b
    assert g(1.0) == 2.0
    box.b = 7.0
    assert g(1.0) == 7.0


def test_a_function_where_a_freed_one_was():
    box = Box(h=None)
    g, make = tape.grad(lambda x: box.h(x)), lambda w: lambda x: x * w
    for w in (2.0, 3.0, 4.0, 5.0):
        box.h = None
        box.h = make(w)
        assert g(1.0) == w


@pytest.mark.parametrize("name", ["generator", "state", "python", "made", "numpy", "gaussian", "global"])
def test_random_numbers_are_drawn_at_each_call(name):
    generator, state, python = np.random.default_rng(0), np.random.RandomState(0), random.Random(0)
    draw = {"generator": generator.random, "state": state.rand, "python": python.random, "numpy": lambda: np.random.rand(),
            "made": lambda: np.random.default_rng().random(), "gaussian": lambda: np.random.randn(),
            "global": lambda: random.random()}[name]
    g = tape.grad(lambda x: x * draw())
    assert len({float(g(1.0)) for _ in range(6)}) == 6


def test_arguments_that_are_objects():
    box, function = Box(w=2.0), lambda x: x * box.w
    generator = np.random.default_rng(0)
    by_object, by_function, by_generator = (tape.grad(f) for f in (
        lambda x, box: x * box.w, lambda x, h: h(x), lambda x, generator: x * generator.random()))
    assert by_object(1.0, box) == by_function(1.0, function) == 2.0
    assert by_generator(1.0, generator) != by_generator(1.0, generator)
    box.w = 5.0
    assert by_object(1.0, box) == 5.0


def test_iterators():
    numbers = itertools.count(1)
    g = tape.grad(lambda x: x * next(numbers))
    assert [g(1.0) for _ in range(3)] == [1.0, 2.0, 3.0]


def test_the_order_of_keys_is_part_of_an_argument():
    def f(numbers):
        first, second = numbers.values()
        return 5.0 * first + second**2

    g = tape.grad(f)
    assert g({"a": 1.0, "b": 2.0}) == {"a": 5.0, "b": 4.0}
    assert g({"b": 1.0, "a": 2.0}) == {"b": 5.0, "a": 4.0}


UNCHANGED = {
    "box": Box(w=2.0, inner=[Box(w=np.ones(3))]), "slots": Slots(2.0), "dict": {"a": [1.0], "b": {"c": 2.0}},
    "arrays": [np.ones(3), np.arange(3)], "function": np.sin, "nan": float("nan"),
    "layers": [Scaled(k + 1.0) for k in range(50)],
}


@pytest.mark.parametrize("name", UNCHANGED)
def test_what_does_not_change_is_recorded_once(name):
    counter, thing = Counter(), UNCHANGED[name]

    def f(x, given=None):
        counter.note()
        return np.sum(x * x) if thing is not None else x

    g = tape.grad(f)
    for _ in range(4):
        g(np.ones(3))
    assert counter.runs == 1
    if name != "nan":  # as an argument
        for _ in range(3):
            g(np.ones(3), thing)
        assert counter.runs <= 2


@pytest.mark.parametrize("count", [1, 4, 5, 9])
def test_each_of_some_arrays_is_looked_at(count):
    """Few are compared one by one, more of them in machine code; the last byte counts, and so does a shape."""
    arrays = [np.full((2, 3), k + 1.0) for k in range(count)]
    counter = Counter()

    def f(x):
        counter.note()
        return x * sum(float(array.shape[0]) * array.sum() for array in arrays)

    g = tape.grad(f)
    for k in range(count):
        before = counter.runs
        arrays[k][-1, -1] += 0.5
        assert g(1.0) == sum(array.shape[0] * array.sum() for array in arrays)
        assert (g(2.0), counter.runs) == (g(1.0), before + 1)
    arrays[-1].resize((3, 2), refcheck=False)
    assert g(1.0) == sum(array.shape[0] * array.sum() for array in arrays)


def test_without_replays_a_function_is_recorded_at_each_call():
    hidden = contextvars.ContextVar("hidden", default=2.0)

    def f(x):
        return np.sum(x * x) * hidden.get()

    x = np.ones(2)
    calls = [make(f, replay=False) for make in (tape.grad, tape.jacobian)]
    product, hessian = tape.hvp(f, replay=False), tape.hessian(f, replay=False)
    for w in (2.0, 5.0):
        hidden.set(w)
        for call in (*calls, lambda x: product(x, x), lambda x: np.diag(hessian(x))):
            np.testing.assert_array_equal(call(x), [2 * w, 2 * w])


def test_a_compiled_function_tells_whether_what_it_froze_has_changed():
    box = Box(w=2.0)
    c = tape.compile(lambda x: box.w * x, 1.0)
    assert not c.changed()
    assert "frozen" in repr(c)
    box.w = 5.0
    assert c.changed()
    assert c.value(1.0) == 2.0


@pytest.mark.parametrize("derivative", [tape.grad, tape.hessian, tape.hvp, tape.batch, tape.checkpoint])
@pytest.mark.parametrize("hold", [lambda f: f, lambda f: [f], lambda f: {"f": f}])
def test_what_a_derivative_that_is_held_reads_is_looked_at(derivative, hold):
    scale = {"now": 1.0}
    held = hold(derivative(lambda x: scale["now"] * np.sum(x**3)))
    is_product = derivative is tape.hvp

    def outer(x):
        f = held if callable(held) else held[0] if isinstance(held, list) else held["f"]
        return np.sum(f(x, np.ones(2)) if is_product else f(x[None]) if derivative is tape.batch else f(x))

    gradient, x = tape.grad(outer), np.array([1.0, 2.0])
    before = gradient(x)
    scale["now"] = 2.0
    assert np.array_equal(gradient(x), 2.0 * before)
