"""scan, fori, while_loop and cond of traced code: against the same loops in Python, by the sweeps and by native code."""


import numpy as np
import pytest
from counting import Counter

import tape

random = np.random.default_rng(3)
X = random.normal(size=(6, 3))
H, S = random.normal(size=3), 0.7
W, V = random.normal(size=(3, 3)), random.normal(size=(4, 3))


@pytest.fixture(params=["0", "1"], ids=["sweeps", "native"], autouse=True)
def way(request, monkeypatch):
    """How lists with loops are run."""
    monkeypatch.setenv("TAPE_NATIVE", request.param)
    return request.param


def scanned(step, carry, xs=None, length=None, checkpoints=None):
    """`tape.scan` written out in Python."""
    rows = []
    leaves = None if xs is None else tape.recording.arguments.leaves_of(xs)
    for k in range(len(leaves[0][0]) if length is None else length):
        x = None if xs is None else tape.recording.arguments.with_leaves(leaves[1], [leaf[k] for leaf in leaves[0]])
        carry, y = step(carry, x)
        rows.append(tape.recording.arguments.leaves_of(y))
    stacks = [np.stack(column) for column in zip(*(row for row, _ in rows), strict=True)]
    return carry, tape.recording.arguments.with_leaves(rows[0][1], stacks)


def repeated(lower, upper, body, carry):
    """`tape.fori` written out."""
    for i in range(lower, upper):
        carry = body(i, carry)
    return carry


def recurrent(scan, fori):
    def f(w, xs, h):
        def step(h, x):
            h = np.tanh(w @ h + x)
            return h, np.sum(h)

        h, ys = scan(step, h, xs)
        return np.sum(h**2) + np.sum(ys**2)

    return f, (W, X, H)


def with_weights_of_x(scan, fori):
    def f(w, v, xs, h):
        h, _ = scan(lambda h, x: (np.tanh(w @ h + v[:3] @ x), None), h, xs)
        return np.sum(h)

    return f, (W, V, X, H)


def batches(scan, fori):
    def f(w, v, xs, h):
        def step(h, x):
            h = np.sin(x @ v.T[:, :3] + h @ w)
            return h, h

        h, ys = scan(step, h, xs)
        return np.sum(h**2) + np.sum(ys[2] * ys[3])

    return f, (W, V, random.normal(size=(5, 2, 3)), random.normal(size=(2, 3)))


def nested_containers(scan, fori):
    def f(p, xs):
        def step(c, x):
            a = c["a"] * np.cos(x[0]) + p["k"]
            return {"a": a, "b": c["b"] + a * x[1]}, (a, {"s": a * c["b"]})

        c, (y, z) = scan(step, {"a": p["start"], "b": np.zeros(3)}, (xs[:, 0], xs))
        return np.sum(c["b"]) + y[-1] * z["s"][2, 1] + c["a"]

    return f, ({"k": 0.3, "start": 1.1}, X)


def in_place(scan, fori):
    def f(u):
        def step(u, _):
            v = np.copy(u)
            v[1:-1] += 0.3 * (u[2:] - 2 * u[1:-1] + u[:-2])
            v[0] = v[1] * v[1]
            return v, v[2]

        u, ys = scan(step, u, None, 7)
        return np.sum(u * u) + ys[3]

    return f, (random.normal(size=8),)


def counted(scan, fori):
    return lambda x: fori(2, 6, lambda i, y: np.sin(y * i) * x + y, 1.0), (0.8,)


def loops_in_loops(scan, fori):
    def f(x):
        def body(i, y):
            return fori(0, 3, lambda j, z: z * np.cos(x) + 0.1 * j * y, y)

        return np.sum(fori(0, 4, body, x * 2.0))

    return f, (H,)


def gathers(scan, fori):
    def f(x, order):
        return scan(lambda c, k: (c + x[k] * c, x[k] ** 2), 1.0, order)[0]

    return f, (H, np.array([2, 0, 1, 1]))


def one_of_several(scan, fori):
    def f(x):
        (a, b), _ = scan(lambda c, _: ((c[1], c[0] + c[1] * x), None), (x, 1.0), None, 9)
        return a * b

    return f, (0.9,)


PROGRAMS = [recurrent, with_weights_of_x, batches, nested_containers, in_place, counted, loops_in_loops, gathers,
            one_of_several]


def of_floats(args):
    return tuple(k for k, a in enumerate(args) if not (isinstance(a, np.ndarray) and a.dtype.kind == "i"))


def assert_same(a, b, rtol=1e-10):
    a, b = tape.recording.arguments.leaves_of(a), tape.recording.arguments.leaves_of(b)
    assert a[1] == b[1]
    for x, y in zip(a[0], b[0], strict=True):
        np.testing.assert_allclose(x, y, rtol=rtol, atol=1e-11)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.__name__)
def test_first_order_derivatives_are_those_of_the_loop_written_out(program):
    (f, args), (g, _) = program(tape.scan, tape.fori), program(scanned, repeated)
    numbers = of_floats(args)
    np.testing.assert_allclose(f(*args), g(*args))
    both = tape.value_and_grad(f, numbers)
    expected = tape.value_and_grad(g, numbers)(*args)
    for _ in range(2):
        assert_same(both(*args), expected)
    if len(numbers) == len(args):
        assert_same(tape.jvp(f, args, args), tape.jvp(g, args, args))
        assert_same(tape.vjp(f, *args)[1](2.0), tape.vjp(g, *args)[1](2.0))


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.__name__)
def test_second_order_derivatives_are_those_of_the_loop_written_out(program):
    (f, args), (g, _) = program(tape.scan, tape.fori), program(scanned, repeated)
    assert_same(tape.hvp(f)(*args, args[0]), tape.hvp(g)(*args, args[0]))

    def of_gradient(function):
        gradient = tape.grad(function)
        return lambda *a: sum(np.sum(np.sin(x)) for x in tape.recording.arguments.leaves_of(gradient(*a))[0])

    assert_same(tape.grad(of_gradient(f))(*args), tape.grad(of_gradient(g))(*args))


def test_third_order():
    f = lambda x: tape.fori(0, 4, lambda i, y: np.sin(y) * x, x)
    g = lambda x: repeated(0, 4, lambda i, y: np.sin(y) * x, x)
    for _ in range(3):
        f, g = tape.grad(f), tape.grad(g)
    np.testing.assert_allclose(f(0.7), g(0.7), rtol=1e-10)


def test_jacobian_and_hessian():
    f = lambda x: tape.fori(0, 4, lambda i, y: np.sin(y) * x + i, x)
    g = lambda x: repeated(0, 4, lambda i, y: np.sin(y) * x + i, x)
    for mode in (None, "forward", "reverse"):
        np.testing.assert_allclose(tape.jacobian(f, 0, mode)(H), tape.jacobian(g, 0, mode)(H), atol=1e-13)
    np.testing.assert_allclose(tape.hessian(lambda x: np.sum(f(x) ** 2))(H), tape.hessian(lambda x: np.sum(g(x) ** 2))(H),
                               atol=1e-12)


@pytest.mark.parametrize("checkpoints", [1, 2, 3, 5])
def test_checkpoints_change_nothing(checkpoints):
    f, args = recurrent(lambda *a: tape.scan(*a, checkpoints=checkpoints), tape.fori)
    g, _ = recurrent(scanned, repeated)
    assert_same(tape.value_and_grad(f, (0, 1, 2))(*args), tape.value_and_grad(g, (0, 1, 2))(*args))


def test_a_list_with_loops_as_a_tape(way):
    t = tape.record(lambda x: tape.fori(0, 3, lambda i, y: y * x, 1.0), 2.0)
    assert float(t.forward(3.0)) == 27.0
    t.check()
    assert "loop" in str(t)
    assert float(t.build_grad(t.inputs[0]).forward(3.0)) == 27.0
    assert float(t.simplify().forward(2.0)) == 8.0


# ---------------------------------------------------------------------- while_loop


def root(a):
    return tape.while_loop(lambda x: abs(x * x - a) > 1e-13 * a, lambda x: 0.5 * (x + a / x), a)


def test_a_while_loop_and_its_derivatives():
    for a in (9.0, 2.0, 1e-4, 1e9):
        np.testing.assert_allclose(tape.value_and_grad(root)(a), (a**0.5, 0.5 / a**0.5), rtol=1e-6)
    np.testing.assert_allclose(tape.grad(tape.grad(root))(2.0), -0.25 * 2**-1.5, rtol=1e-6)
    np.testing.assert_allclose(tape.jvp(root, (2.0,), (1.0,))[1], 0.5 / 2**0.5, rtol=1e-6)


def test_a_while_loop_that_needs_more_room_than_before():
    def f(x, n):
        return tape.while_loop(lambda c: c[1] < n, lambda c: (c[0] * x, c[1] + 1.0), (1.0, 0.0))[0]

    gradient = tape.value_and_grad(f)
    for n in (3.0, 0.0, 200.0, 5.0, 1000.0):
        value, slope = gradient(1.001, n)
        np.testing.assert_allclose([value, slope], [1.001**n, n * 1.001 ** (n - 1)], rtol=1e-9)


def test_a_while_loop_inside_a_loop():
    def f(x, n):
        inner = lambda y: tape.while_loop(lambda c: c[1] < n, lambda c: (c[0] * np.cos(x), c[1] + 1.0), (y, 0.0))[0]
        return tape.fori(0, 3, lambda i, y: inner(y) + x, x)

    def g(x, n):
        y = x
        for _ in range(3):
            for _ in range(int(n)):
                y = y * np.cos(x)
            y = y + x
        return y

    np.testing.assert_allclose(tape.grad(f)(0.3, 4.0), tape.grad(g)(0.3, 4.0), rtol=1e-12)
    assert np.isnan(tape.value_and_grad(f)(0.3, 5000.0)[0])  # there is no room for so many steps, and nobody is told otherwise


# ---------------------------------------------------------------------- cond


def test_a_branch_is_part_of_the_list():
    counter = Counter()

    def f(x):
        counter.note()
        return tape.cond(x > 0, lambda x: np.sqrt(x), lambda x: x * x, x)

    gradient = tape.grad(f)
    for x in (4.0, -3.0, 1.0):
        assert gradient(x) == (0.5 / x**0.5 if x > 0 else 2 * x)
    assert counter.runs == 1


def test_the_branch_that_is_not_taken_is_not_run():
    f = lambda x: tape.cond(x > 0, lambda x: np.log(x), lambda x: x * 2, x)
    assert tape.grad(f)(-1.0) == 2.0
    assert tape.grad(f)(4.0) == 0.25
    assert tape.grad(tape.grad(f))(-1.0) == 0.0
    assert tape.grad(tape.grad(f))(4.0) == -0.0625


def test_branches_inside_loops_and_containers():
    def f(x, cond):
        def step(c, k):
            out = cond(c["a"] > k, lambda c: {"a": c["a"] * 0.5, "b": c["b"] + c["a"] * x},
                       lambda c: {"a": c["a"] + x, "b": c["b"] * 1.1}, c)
            return out, None

        return step

    def written_out(p, yes, no, *args):
        return yes(*args) if p else no(*args)

    def of(cond, scan):
        def g(x):
            c, _ = scan(f(x, cond), {"a": x * 3.0, "b": np.ones(2)}, np.arange(5.0) * 0.3)
            return np.sum(c["b"]) + c["a"]

        return g

    g, h = of(tape.cond, tape.scan), of(written_out, scanned)
    np.testing.assert_allclose(tape.value_and_grad(g)(0.8), tape.value_and_grad(h)(0.8), rtol=1e-12)


def test_plain_predicates_and_plain_values_are_run_by_python():
    assert tape.cond(True, lambda x: x, lambda x: -x, 2.0) == 2.0
    assert tape.fori(0, 3, lambda i, y: y + i, 0) == 3
    assert tape.while_loop(lambda x: x < 10, lambda x: x * 2, 1) == 16
    last, ys = tape.scan(lambda c, x: (c + x, c * x), 0.0, np.arange(4.0))
    assert last == 6.0
    assert ys.tolist() == [0.0, 0.0, 2.0, 9.0]


# ---------------------------------------------------------------------- errors


def test_errors_say_what_was_expected():
    with pytest.raises(tape.NotDifferentiable, match=r"shape \(3,\), as before the loop, got \(2,\)"):
        tape.grad(lambda x: np.sum(tape.fori(0, 3, lambda i, y: y[:2], x)))(H)
    with pytest.raises(tape.NotDifferentiable, match=r"return \(carry, y\)"):
        tape.grad(lambda x: tape.scan(lambda c, x: c, x, None, 3)[0])(1.0)
    with pytest.raises(ValueError, match="expected 4 rows"):
        tape.grad(lambda x: np.sum(tape.scan(lambda c, x: (c, x), x, X, 4)[1]))(1.0)
    with pytest.raises(tape.NotDifferentiable, match="same structure and shapes"):
        tape.grad(lambda x: np.sum(tape.cond(x[0] > 0, lambda x: x, lambda x: x[:2], x)))(H)
    with pytest.raises(tape.NotDifferentiable, match=r"test_loops.py:\d+: a Python branch"):
        tape.grad(lambda x: tape.fori(0, 3, lambda i, y: y * x if y > 1 else y, x))(1.0)
    with pytest.raises(tape.NotDifferentiable, match="changes an array of the code around it"):
        tape.grad(changes_its_surroundings)(H)


def changes_its_surroundings(x):
    y = x * 1.0

    def body(i, z):
        y[0] = z
        return z * 2.0

    return tape.fori(0, 3, body, x[0]) + np.sum(y)


def test_a_tape_with_loops_is_saved_and_loaded(tmp_path):
    f, args = recurrent(tape.scan, tape.fori)
    t = tape.record(f, *args)
    t.save(tmp_path / "loops.npz")
    loaded = tape.load(tmp_path / "loops.npz")
    assert loaded.forward(*args) == t.forward(*args)
    loaded.reverse()
    assert_same(loaded.gradients, tape.grad(f, (0, 1, 2))(*args))


def test_grad_table_of_a_tape_with_loops():
    t = tape.record(lambda x: 2.0 * tape.fori(0, 3, lambda i, y: y * x, 1.0), 2.0)
    t.reverse(0.5)
    assert float(t.gradients[0]) == 12.0
    assert float(t.grad_table[t.inputs[0]]) == 12.0
    assert t.report().loops == 1


def test_a_tampered_loop_is_refused():
    t = tape.record(lambda x: np.sum(tape.fori(0, 3, lambda i, y: y * x, x)), H)
    program = t._program
    number = np.flatnonzero(program.code[:, 0] == program.table.opcode["loop"])[0]
    first = program.code[number, 1] + 2
    for word in range(program.geometry[first] + 1):
        kept = program.geometry[first + word]
        for value in {-1, 7, 1000} - {kept}:
            program.geometry[first + word] = value
            with pytest.raises(tape.InvalidTape, match="loop"):
                t.check()
        program.geometry[first + word] = kept
    t.check()


def test_an_index_out_of_bounds_inside_a_loop_names_the_line():
    def f(x, order):
        return tape.scan(lambda c, k: (c + x[k], None), 0.0, order)[0]

    gradient = tape.grad(f)
    np.testing.assert_array_equal(gradient(H, np.array([0, 2])), [1.0, 0.0, 1.0])
    for function in (gradient, lambda *a: tape.hvp(f)(*a, H)):
        with pytest.raises(IndexError, match=r"out of bounds(.|\n)*test_loops.py"):
            function(H, np.array([0, 3]))


def test_checkpoints_of_numpy_code():
    def layer(w, x):
        return {"x": np.tanh(x @ w), "size": np.sum(x * x)}

    def network(layer):
        def f(w, x):
            for _ in range(3):
                out = layer(w, x)
                x = out["x"]
            return np.sum(x) + out["size"]

        return f

    f, g = network(tape.checkpoint(layer)), network(layer)
    np.testing.assert_allclose(f(W, X), g(W, X))
    assert_same(tape.value_and_grad(f, (0, 1))(W, X), tape.value_and_grad(g, (0, 1))(W, X))
    assert_same(tape.hvp(f)(W, X, W), tape.hvp(g)(W, X, W))
    with pytest.raises(tape.NotDifferentiable, match="expected a function"):
        tape.checkpoint(3)


def test_the_adjoint_of_a_loop_reads_adjoints_of_its_states_only_where_those_are_read():
    from compiled.lists.loops import Loop

    def packs(program):
        """Sizes of the x of the loops in a function's gradient."""
        native = tape.compile(program, H).value_and_grad.native
        return [Loop.of(step.space.words).sizes[1] for step in native.listing.steps if step.row.name == "loop"]

    last = lambda x: np.sum(tape.scan(lambda c, _: (np.sin(c) * c, None), x, None, 5)[0] ** 2)
    all_of_them = lambda x: np.sum(tape.scan(lambda c, _: (np.sin(c) * c, c), x, None, 5)[1] ** 2)
    assert packs(last) == [0, 0]
    assert packs(all_of_them) == [0, 5 * H.size]


def test_one_number_for_all_elements_of_a_carry():
    f = lambda x: np.sum(tape.scan(lambda c, _: (np.full(3, 2.0), np.sum(c * x)), x, None, 4)[1])
    g = lambda x: np.sum(scanned(lambda c, _: (np.full(3, 2.0), np.sum(c * x)), x, None, 4)[1])
    assert_same(tape.value_and_grad(f)(H), tape.value_and_grad(g)(H))
    assert_same(tape.hvp(f)(H, H), tape.hvp(g)(H, H))
