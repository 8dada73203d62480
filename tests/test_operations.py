"""Operations with rules of the user's in traced code: recorded rules, plain Python, several outputs, jitted bodies, errors."""

import math

import numba
import numpy as np
import pytest

import tape

X = np.array([0.3, -1.0, 2.0])


@tape.operation
def softplus(x):
    return np.log1p(np.exp(x))


@softplus.bprop
def _(grad, out, x):
    return grad / (1 + np.exp(-x))


def plain_softplus(x):
    return np.log1p(np.exp(x))


@tape.operation
def weighted(x, y, power):
    """Two results of three arguments, one of which is no float."""
    return x * y**power, float(np.sum(x))


@weighted.bprop
def _(grad, out, x, y, power):
    first, second = grad
    return first * y**power + second, first * power * x * y ** (power - 1), None


def test_a_rule_in_numpy_has_derivatives_of_every_order():
    def f(x):
        return np.sum(softplus(x) * x)

    def reference(x):
        return np.sum(plain_softplus(x) * x)

    np.testing.assert_allclose(tape.grad(f)(X), tape.grad(reference)(X))
    np.testing.assert_allclose(tape.hessian(f)(X), tape.hessian(reference)(X), atol=1e-15)
    np.testing.assert_allclose(tape.hvp(f)(X, X), tape.hvp(reference)(X, X))
    np.testing.assert_allclose(tape.jvp(f, (X,), (X,)), tape.jvp(reference, (X,), (X,)))
    third = tape.grad(tape.grad(tape.grad(softplus)))(0.7)
    np.testing.assert_allclose(third, tape.grad(tape.grad(tape.grad(plain_softplus)))(0.7), rtol=1e-12)
    tape.check_grads(f, (X,))


def test_the_rule_is_used_and_not_the_body():
    @tape.operation
    def clipped(x):
        return np.minimum(x, 1.0)

    @clipped.bprop
    def _(grad, out, x):
        return 10.0 * grad

    assert tape.grad(clipped)(3.0) == 10.0
    assert tape.jvp(clipped, (3.0,), (1.0,)) == (1.0, 10.0)


def test_several_results_and_arguments_that_are_no_floats():
    def f(x):
        first, second = weighted(x, x, 3)
        return np.sum(np.sin(first)) * second

    assert f(X) == pytest.approx(tape.record(f, X).forward(X))
    tape.check_grads(f, (X,))
    np.testing.assert_allclose(tape.grad(f)(X), tape.grad(lambda x: np.sum(np.sin(x**4)) * np.sum(x))(X))


def test_the_same_variable_twice_is_two_arguments():
    @tape.operation
    def product(x, y):
        return x * y

    @product.bprop
    def _(grad, out, x, y):
        return 2.0 * grad, 5.0 * grad

    assert tape.grad(lambda x: product(x, x))(3.0) == 7.0


def test_nested_arguments_and_results():
    @tape.operation
    def layer(params, x):
        w, b = params["w"], params["b"]
        return {"z": w @ x + b, "n": len(x)}

    @layer.bprop
    def _(grad, out, params, x):
        g = grad["z"]
        return {"w": np.outer(g, x), "b": g}, params["w"].T @ g

    params = {"w": np.arange(6.0).reshape(2, 3), "b": np.ones(2)}
    tape.check_grads(lambda p, x: layer(p, x)["z"] ** 2, (params, X))


def test_bodies_and_rules_in_plain_python_have_first_derivatives():
    seen = []

    @tape.operation
    def python(x):
        assert type(x) is np.ndarray
        seen.append(x)
        return np.array([math.exp(v) for v in x])

    @python.bprop
    def _(grad, out, x):
        return np.array([float(g) * math.exp(v) for g, v in zip(grad, x, strict=True)])

    f = tape.value_and_grad(lambda x: np.sum(python(np.sin(x)) * x))
    for _ in range(3):
        value, gradient = f(X)
    np.testing.assert_allclose(value, np.sum(np.exp(np.sin(X)) * X))
    np.testing.assert_allclose(gradient, np.exp(np.sin(X)) * (1 + X * np.cos(X)))
    assert seen
    with pytest.raises(tape.NotDifferentiable, match=r"python\.bprop.*no second"):
        tape.hessian(lambda x: np.sum(python(x)))(X)


def test_a_rule_that_branches_is_called_at_each_use():
    @tape.operation
    def branched(x):
        return abs(x)

    @branched.bprop
    def _(grad, out, x):
        return grad if x > 0 else -3.0 * grad

    f = tape.grad(lambda x: branched(x) * 1.0)
    assert [f(x) for x in (2.0, -2.0, 5.0, -1.0)] == [1.0, -3.0, 1.0, -3.0]


def test_forward_rules_and_their_transpose():
    @tape.operation
    def cube(x):
        return x**3

    @cube.jvp
    def _(tangents, out, x):
        (t,) = tangents
        return 3.0 * x**2 * t

    tape.check_grads(lambda x: np.sum(cube(x) * x), (X,))
    assert tape.grad(cube)(2.0) == 12.0


def test_forward_rules_in_plain_python():
    @tape.operation
    def sine(x):
        return math.sin(x)

    sine.bprop(lambda grad, out, x: grad * math.cos(x))
    with pytest.raises(tape.NotDifferentiable, match="no second"):
        tape.jvp(lambda x: sine(x) * x, (1.0,), (1.0,))
    sine.jvp(lambda tangents, out, x: math.cos(x) * tangents[0])
    np.testing.assert_allclose(tape.jvp(lambda x: sine(x) * x, (1.0,), (1.0,)), (math.sin(1), math.sin(1) + math.cos(1)))


def test_rules_may_change_their_arguments_in_place():
    @tape.operation
    def scaled(x):
        return 2.0 * x

    @scaled.bprop
    def _(grad, out, x):
        grad *= 2.0
        x *= 0.0
        return grad + x

    np.testing.assert_allclose(tape.grad(lambda x: np.sum(scaled(x) * x))(X), 4 * X)


def test_jitted_operations_are_called_from_traced_code():
    @tape.operation
    @numba.njit
    def total(x, n):
        s = 0.0
        for i in range(n):
            s += x[i] ** 3
        return s

    @total.bprop
    def _(grad, out, x, n):
        adjoint = np.zeros_like(x)
        adjoint[:n] = 3.0 * grad * x[:n] ** 2
        return adjoint, 0

    expected = 6 * np.sin(X) ** 2 * np.cos(X) * [1.0, 1.0, 0.0]
    np.testing.assert_allclose(tape.grad(lambda x: total(np.sin(x), 2) * 2.0)(X), expected)

    @tape.operation
    @numba.njit
    def without_rule(x):
        s = 0.0
        for v in x:
            s += v * v
        return s

    np.testing.assert_allclose(tape.grad(lambda x: without_rule(np.exp(x)))(X), 2 * np.exp(2 * X))


def test_in_loops_batches_compiled_and_eager():
    def looped(x):
        return np.sum(tape.scan(lambda c, _: (0.5 * softplus(c), None), x, None, 5)[0])

    def reference(x):
        for _ in range(5):
            x = 0.5 * plain_softplus(x)
        return np.sum(x)

    tape.check_grads(looped, (X,))
    np.testing.assert_allclose(tape.grad(looped)(X), tape.grad(reference)(X), rtol=1e-12)
    np.testing.assert_allclose(tape.batch(tape.grad(softplus))(X), tape.batch(tape.grad(plain_softplus))(X), rtol=1e-12)
    compiled = tape.compile(lambda x: np.sum(softplus(x)), X)
    np.testing.assert_allclose(compiled.value_and_grad(X)[1], 1 / (1 + np.exp(-X)))
    v = tape.variable(X, requires_grad=True)
    (softplus(v) * v).sum().backward()
    np.testing.assert_allclose(v.grad, tape.grad(lambda x: np.sum(plain_softplus(x) * x))(X))


def test_the_list_says_what_is_called():
    t = tape.record(lambda x: np.sum(softplus(x)), X)
    assert "call" in str(t)
    assert "softplus: (3,) -> (3,)" in str(t)
    np.testing.assert_allclose(t.forward(2 * X), np.sum(softplus(2 * X)))
    t.reverse()
    np.testing.assert_allclose(t.gradients[0], 1 / (1 + np.exp(-2 * X)))
    t.check()
    assert t.build_grad().forward(X).shape == (3,)


def test_float32_lists_keep_their_precision():
    x = X.astype(np.float32)
    gradient = tape.grad(lambda x: np.sum(softplus(x)))(x)
    assert gradient.dtype == np.float32
    np.testing.assert_allclose(gradient, 1 / (1 + np.exp(-X)), rtol=1e-6)

    @tape.operation
    def doubled(x):
        assert x.dtype == np.float32
        return x * np.float64(2.0)

    doubled.bprop(lambda grad, out, x: grad * np.full(3, 2.0))
    assert tape.grad(lambda x: np.sum(doubled(x)))(x).dtype == np.float32


def test_without_a_rule_the_body_is_recorded():
    @tape.operation
    def square(x):
        return x * x

    assert tape.grad(square)(3.0) == 6.0
    assert "call" not in str(tape.record(square, 3.0))


@pytest.mark.parametrize(("rule", "message"), [
    (lambda grad, out, x, y: grad, "adjoints of its 2 arguments"),
    (lambda grad, out, x, y: (grad[:1], grad), r"shape \(1,\)"),
    (lambda grad, out, x, y: ((grad, grad), grad), "structure"),
])
def test_rules_that_return_something_else(rule, message):
    @tape.operation
    def added(x, y):
        return x + y

    added.bprop(rule)
    with pytest.raises(tape.NotDifferentiable, match=rf"added.*{message}"):
        tape.grad(lambda x: np.sum(added(x, x)))(X)


def test_errors_of_bodies_and_rules_are_the_users():
    @tape.operation
    def failing(x):
        if np.sum(x) > 100.0:
            raise OverflowError("too much")
        return 2.0 * x

    @failing.bprop
    def _(grad, out, x):
        return 2.0 * undefined_name  # noqa: F821

    with pytest.raises(NameError, match="undefined_name"):
        tape.grad(lambda x: np.sum(failing(x)))(X)
    failing.bprop(lambda grad, out, x: 2.0 * grad)
    f = tape.grad(lambda x: np.sum(failing(x)))
    np.testing.assert_array_equal(f(X), [2.0, 2.0, 2.0])
    with pytest.raises(OverflowError, match="too much"):
        f(100 * np.abs(X))
    compiled = tape.compile(lambda x: np.sum(failing(x)), X)
    with pytest.raises(OverflowError, match="too much"):
        compiled.value_and_grad(100 * np.abs(X))
    np.testing.assert_array_equal(compiled.value_and_grad(X)[1], [2.0, 2.0, 2.0])


def test_results_of_other_shapes_or_kinds_are_refused():
    @tape.operation
    def filtered(x):
        return x[x > 0]

    filtered.bprop(lambda grad, out, x: np.ones(3))
    f = tape.grad(lambda x: np.sum(filtered(x)))
    f(X)
    with pytest.raises(ValueError, match=r"filtered: expected results of shapes \[\(2,\)\]"):
        f(np.abs(X))

    @tape.operation
    def named(x):
        return "text"

    named.bprop(lambda grad, out, x: grad)
    with pytest.raises(tape.NotDifferentiable, match="named: expected it to return numbers"):
        tape.grad(lambda x: named(x))(1.0)


def test_a_list_with_an_operation_of_the_users_is_not_saved(tmp_path):
    with pytest.raises(tape.InvalidTape, match="calls softplus"):
        tape.record(softplus, 1.0).save(tmp_path / "list.npz")


def test_what_is_no_function_is_refused():
    with pytest.raises(tape.NotDifferentiable, match="expected a function"):
        tape.operation(3)


# ---------------------------------------------------------------------- bodies and rules are plain ground


@pytest.mark.parametrize("native", ["0", "always"])
def test_bodies_and_rules_differentiate_on_their_own(native, monkeypatch):
    monkeypatch.setenv("TAPE_NATIVE", native)

    def slope(a):
        return np.asarray(tape.grad(lambda x: np.sum((x - a) ** 2))(np.zeros(2)))

    @tape.operation
    def square(a):
        return slope(a) ** 2 / 4

    @square.bprop
    def _(g, out, a):
        return -g * np.array([float(v) for v in slope(np.array([float(v) for v in a]))])

    def f(a):
        return np.sum(square(a) * square(np.full(2, 3.0)))  # with arguments that are recorded, and with plain ones

    np.testing.assert_allclose(tape.grad(f)(np.array([1.0, -2.0])), [18.0, -36.0])
