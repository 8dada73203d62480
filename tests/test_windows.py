"""Convolution, pooling, batch normalisation and lookups of rows, against their definitions, in every engine."""

import itertools
import math

import numpy as np
import pytest
from test_engines import compare_engines

import tape
from compiled.errors import InvalidTape
from compiled.table.layout import OPERAND, SPACE

ROUNDING = 1e-12


def pairs(padding, axes):
    """(before, after) of each axis, for numbers."""
    return [(p, p) if np.ndim(p) == 0 else p for p in (padding if np.ndim(padding) else (padding,) * axes)]


def conv_by_definition(x, w, stride=1, padding=0, dilation=1, groups=1):
    """The sum of the docstring, term by term."""
    axes = x.ndim - 2
    stride, dilation = (np.broadcast_to(a, axes) for a in (stride, dilation))
    x = np.pad(x, [(0, 0), (0, 0), *pairs(padding, axes)])
    kernel, each = w.shape[2:], len(w) // groups
    places = [(n - (k - 1) * d - 1) // s + 1 for n, k, d, s in zip(x.shape[2:], kernel, dilation, stride, strict=True)]
    out = np.zeros((len(x), len(w), *places))
    for p in np.ndindex(*places):
        for k in np.ndindex(*kernel):
            at = tuple(p[a] * stride[a] + k[a] * dilation[a] for a in range(axes))
            for o in range(len(w)):
                own = slice(o // each * w.shape[1], (o // each + 1) * w.shape[1])
                out[(slice(None), o, *p)] += x[(slice(None), own, *at)] @ w[(o, slice(None), *k)]
    return out


CONVOLUTIONS = {
    "one axis": ((2, 3, 7), (4, 3, 3), {}),
    "two axes": ((2, 3, 6, 5), (4, 3, 3, 2), {}),
    "three axes": ((2, 2, 4, 3, 4), (3, 2, 2, 1, 3), {"padding": ((0, 1), (1, 1), (2, 0))}),
    "padding": ((2, 3, 5, 4), (2, 3, 3, 3), {"padding": 1}),
    "padding of each axis": ((2, 1, 5, 9), (2, 1, 3, 3), {"padding": (0, 2)}),
    "runs of places": ((3, 2, 4, 12), (5, 2, 2, 3), {"padding": 1}),
    "stride": ((2, 3, 8, 7), (2, 3, 3, 2), {"stride": (2, 3), "padding": 1}),
    "dilation": ((1, 2, 7, 8), (3, 2, 2, 3), {"dilation": (3, 2)}),
    "strided places of one channel": ((2, 1, 3, 12), (2, 1, 2, 2), {"stride": 2, "dilation": (1, 2)}),
    "groups": ((2, 6, 5, 4), (4, 3, 2, 2), {"groups": 2}),
    "depthwise": ((2, 3, 5, 4), (6, 1, 3, 2), {"groups": 3, "padding": 1}),
    "one element": ((2, 3, 4, 4), (5, 3, 1, 1), {}),
    "the whole": ((2, 3, 4, 5), (5, 3, 4, 5), {}),
}


def given(name, dtype=np.float64):
    shape, kernel, options = CONVOLUTIONS[name]
    random = np.random.default_rng(len(name))
    return random.standard_normal(shape).astype(dtype), random.standard_normal(kernel).astype(dtype), options


def loss_of(options):
    return lambda x, w: np.sum(np.sin(tape.conv(x, w, **options)))


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolution_is_what_its_definition_says(name):
    """Of plain and of recorded arrays, by machine code, of batches of batches, and of eager variables."""
    x, w, options = given(name)
    expected = conv_by_definition(x, w, **options)

    def function(x, w):
        return tape.conv(x, w, **options)

    np.testing.assert_allclose(function(x, w), expected, rtol=ROUNDING, atol=ROUNDING)
    np.testing.assert_allclose(tape.vjp(function, x, w)[0], expected, rtol=ROUNDING, atol=ROUNDING)
    np.testing.assert_allclose(tape.compile(function, x, w).value(x, w), expected, rtol=ROUNDING, atol=ROUNDING)
    many = tape.batch(function, in_axes=(0, None))(np.stack([x, 2.0 * x, -x]), w)
    np.testing.assert_allclose(many, np.stack([expected, 2.0 * expected, -expected]), rtol=ROUNDING, atol=ROUNDING)
    variable = tape.variable(w, requires_grad=True)
    result = function(x, variable)
    np.testing.assert_array_equal(result.data, function(x, w))
    np.sum(np.sin(result)).backward()
    np.testing.assert_allclose(variable.grad, tape.grad(loss_of(options), 1)(x, w), rtol=ROUNDING, atol=ROUNDING)


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_derivatives_of_convolutions(name):
    """First and second ones, forward and backward, against differences; by machine code as by the sweeps."""
    x, w, options = given(name)
    loss = loss_of(options)
    tape.check_grads(loss, (x, w))
    gradients = tape.grad(loss, (0, 1))(x, w)
    for got, expected in zip(tape.compile(loss, x, w, argnums=(0, 1)).value_and_grad(x, w)[1], gradients, strict=True):
        np.testing.assert_allclose(got, expected, rtol=ROUNDING, atol=ROUNDING)


@pytest.mark.parametrize("name", ["two axes", "runs of places", "groups", "depthwise"])
def test_third_derivatives(name):
    """Hessian-vector products of directional derivatives, whose own gradient is compared with differences."""
    x, w, options = given(name)
    loss = loss_of(options)
    along = np.cos(np.arange(w.size)).reshape(w.shape)
    tape.check_grads(lambda w: np.sum(tape.hvp(lambda w: loss(x, w))(w, along) * along), (w,), order=1)


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_single_precision(name):
    """Results and gradients are of float32, and near those of float64."""
    x, w, options = given(name, np.float32)
    assert tape.conv(x, w, **options).dtype == np.float32
    value, gradients = tape.value_and_grad(loss_of(options), (0, 1))(x, w)
    exact, expected = tape.value_and_grad(loss_of(options), (0, 1))(x.astype(float), w.astype(float))
    assert value == pytest.approx(exact, rel=1e-4, abs=1e-4)
    for got, one in zip(gradients, expected, strict=True):
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, one, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("n", [7, 8])
@pytest.mark.parametrize(("size", "stride", "dilation"), list(itertools.product([1, 2, 3], [1, 2, 3], [1, 2])))
def test_same_padding(n, size, stride, dilation):
    """As many places as steps fit into the axis; the odd zero stands at the end."""
    random = np.random.default_rng(0)
    x, w = random.standard_normal((1, 2, n)), random.standard_normal((3, 2, size))
    got = tape.conv(x, w, stride, "same", dilation)
    assert got.shape[-1] == math.ceil(n / stride)
    total = max((got.shape[-1] - 1) * stride + (size - 1) * dilation + 1 - n, 0)
    expected = conv_by_definition(x, w, stride, [(total // 2, total - total // 2)], dilation)
    np.testing.assert_allclose(got, expected, rtol=ROUNDING, atol=ROUNDING)


def test_a_batch_of_none():
    w = np.ones((2, 3, 2, 2))
    value, gradient = tape.value_and_grad(lambda x, w: np.sum(tape.conv(x, w)), 1)(np.ones((0, 3, 4, 4)), w)
    assert value == 0.0
    np.testing.assert_array_equal(gradient, np.zeros_like(w))


def test_views_in_any_order():
    """Transposed and reversed arrays, and integers, which NumPy convolves exactly."""
    random = np.random.default_rng(3)
    x, w = random.standard_normal((6, 5, 3, 2)), random.standard_normal((2, 2, 3, 4))
    expected = conv_by_definition(x.T[:, :, ::-1], w.T[..., ::-1].copy())
    got = tape.vjp(lambda x, w: tape.conv(np.transpose(x)[:, :, ::-1], np.transpose(w)[..., ::-1]), x, w)[0]
    np.testing.assert_allclose(got, expected, rtol=ROUNDING)
    whole = random.integers(-3, 4, (2, 3, 5, 4))
    ones = np.arange(24).reshape(4, 3, 2, 1)
    result = tape.conv(whole, ones)
    assert result.dtype == whole.dtype
    np.testing.assert_array_equal(result, conv_by_definition(whole, ones))
    mixed = tape.jvp(lambda s: np.sum(s * tape.conv(whole, ones)), (2.0,), (1.0,))
    assert mixed == (2.0 * result.sum(), result.sum())


@pytest.mark.parametrize(("arguments", "message"), [
    (((2, 3), (4, 3)), r"tape.conv: expected an array of shape \(N, C, \*spatial\).*got the shape \(2, 3\)"),
    (((2, 3, 4, 4), (4, 3, 3)), r"expected kernels of shape \(O, C / groups, \*kernel\) with 2 spatial axes.*\(4, 3, 3\)"),
    (((2, 3, 4), (4, 2, 3)), r"expected kernels of 3 channels"),
    (((2, 4, 4), (4, 2, 3), {"groups": 3}), "expected groups that divide the 4 channels of x and the 4 of the result, got 3"),
    (((2, 3, 4), (4, 3, 5)), "expected spatial axes at least as long as the windows"),
    (((2, 3, 4), (4, 3, 3), {"stride": 0}), "expected stride as a positive integer, or 1 of them, got 0"),
    (((2, 3, 4), (4, 3, 3), {"dilation": (1, 2)}), r"expected dilation as a positive integer, or 1 of them, got \(1, 2\)"),
    (((2, 3, 4), (4, 3, 3), {"stride": 1.5}), "expected stride as a positive integer"),
    (((2, 3, 4), (4, 3, 3), {"padding": "full"}), "expected padding 'valid', 'same', or numbers, got 'full'"),
    (((2, 3, 4), (4, 3, 3), {"padding": -1}), "expected padding as 'valid', 'same', a number from 0 on"),
    (((2, 3, 4), (4, 3, 3), {"padding": 0.5}), "expected padding as 'valid', 'same', a number from 0 on"),
    (((2, 3, 4), (4, 3, 3), {"padding": ((1, 1), (0, 0))}), "expected padding as 'valid', 'same', a number from 0 on"),
])
def test_arguments_that_do_not_fit(arguments, message):
    shape, kernel, *options = arguments
    with pytest.raises(ValueError, match=message):
        tape.conv(np.ones(shape), np.ones(kernel), **(options[0] if options else {}))


# ---------------------------------------------------------------------- the row


def test_the_row_against_the_reference_interpreter():
    """Each sweep, for each of the three tensors as output: a gradient's list has the other two."""
    for name in ("two axes", "stride", "strided places of one channel"):
        x, w, options = given(name)
        record = tape.record(lambda x, w, options=options: np.sum(tape.conv(x, w, **options) ** 2), x, w)
        program = record.build_grad(record.inputs)._program
        targets = {int(program.geometry[program.code[i, SPACE] + 2]) for i in program.instructions("window_product")}
        assert targets == {0, 1, 2}
        compare_engines(program, np.random.default_rng(0))


def test_tiles(monkeypatch):
    """Kernels of more elements than a tile has columns, and places for several tiles, in both precisions."""
    random = np.random.default_rng(5)
    for dtype, x_shape, w_shape in ((np.float64, (3, 90, 9, 9), (5, 90, 3, 3)), (np.float32, (2, 1, 300, 300), (3, 1, 2, 2))):
        x, w = random.standard_normal(x_shape).astype(dtype), random.standard_normal(w_shape).astype(dtype)
        y = tape.conv(x, w)                                       # by NumPy
        seed = random.standard_normal(y.shape).astype(dtype)
        value, pull = tape.vjp(tape.conv, x, w)
        scale = 1e-10 if dtype is np.float64 else 2e-3
        np.testing.assert_allclose(value, y, rtol=scale, atol=scale * np.abs(y).max())
        along = [random.standard_normal(a.shape).astype(dtype) for a in (x, w)]
        expected = sum(float(np.vdot(seed, part)) for part in (tape.conv(along[0], w), tape.conv(x, along[1])))
        got = sum(float(np.vdot(a, b)) for a, b in zip(pull(seed), along, strict=True))
        assert got == pytest.approx(expected, rel=scale, abs=scale * y.size**0.5)


def test_a_list_holds_no_array_of_windows():
    x, w = np.ones((4, 8, 10, 10)), np.ones((8, 8, 5, 5))
    program = tape.record(lambda x, w: np.sum(tape.conv(x, w, padding=2)), x, w)._program
    windows = x.size * w[0, 0].size
    assert program.values.size < windows / 3


def test_malformed_words_are_refused():
    x, w, options = given("two axes")
    record = tape.record(lambda x, w: np.sum(tape.conv(x, w, **options)), x, w)
    for number, word in ((0, 3), (1, 0), (2, 1), (3, 2), (4, -1), (7, 1000), (11, 0), (15, 100), (19, 7)):
        program = record._program
        (i,) = program.instructions("window_product")
        at = program.code[i, SPACE] + 2 + number
        program.geometry.setflags(write=True)
        before, program.geometry[at] = program.geometry[at], word
        with pytest.raises(InvalidTape, match="window_product"):
            program.check()
        program.geometry[at] = before
    program.check()


def test_sparse_jacobians():
    x, w, _ = given("one axis")
    for argnum in (0, 1):
        dense = tape.jacobian(tape.conv, argnum)(x, w)
        sparse = tape.jacobian(tape.conv, argnum, mode="sparse")(x, w)
        np.testing.assert_allclose(sparse.toarray(), dense.reshape(sparse.shape), rtol=ROUNDING, atol=ROUNDING)
    assert sparse.nnz < dense.size


def test_in_the_body_of_a_loop():
    """A scan of convolutions, whose derivative is a loop of them."""
    x, w, _ = given("padding")
    w = np.concatenate([w, w[:1]])

    def scanned(x, w):
        last, _ = tape.scan(lambda c, _: (np.tanh(tape.conv(c, w, padding=1)), None), x, length=3)
        return np.sum(last)

    def unrolled(x, w):
        for _ in range(3):
            x = np.tanh(tape.conv(x, w, padding=1))
        return np.sum(x)

    for got, expected in zip(tape.grad(scanned, (0, 1))(x, w), tape.grad(unrolled, (0, 1))(x, w), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-12)


def test_files(tmp_path):
    x, w, options = given("stride")
    record = tape.record(loss_of(options), x, w)
    record.save(tmp_path / "list.tape")
    again = tape.load(tmp_path / "list.tape")
    assert again.forward(x, w) == record.forward(x, w)


# ---------------------------------------------------------------------- pooling


def pooled_by_definition(reduce, x, size, stride=None, padding=0, filling=0.0):
    axes = x.ndim - 2
    size = np.broadcast_to(size, axes)
    stride = size if stride is None else np.broadcast_to(stride, axes)
    x = np.pad(x, [(0, 0), (0, 0), *pairs(padding, axes)], constant_values=filling)
    places = [(n - k) // s + 1 for n, k, s in zip(x.shape[2:], size, stride, strict=True)]
    out = np.zeros((*x.shape[:2], *places))
    for p in np.ndindex(*places):
        window = tuple(slice(i * s, i * s + k) for i, s, k in zip(p, stride, size, strict=True))
        out[(..., *p)] = reduce(x[(..., *window)], axis=tuple(range(2, axes + 2)))
    return out


POOLS = {
    "side by side": ((2, 3, 6, 4), {"size": 2}),
    "of an axis": ((2, 3, 7), {"size": 3}),
    "that overlap": ((2, 3, 7, 6), {"size": (3, 2), "stride": (2, 1), "padding": 1}),
    "of three axes": ((1, 2, 4, 4, 5), {"size": 2, "stride": (2, 2, 1)}),
}


@pytest.mark.parametrize(("pool", "reduce", "filling"), [(tape.max_pool, np.max, -np.inf), (tape.avg_pool, np.mean, 0.0)])
@pytest.mark.parametrize("name", POOLS)
def test_pooling(name, pool, reduce, filling):
    """Values against the definition in every engine, derivatives against differences."""
    shape, options = POOLS[name]
    x = np.random.default_rng(len(name)).permutation(math.prod(shape)).reshape(shape) / 10.0
    expected = pooled_by_definition(reduce, x, **options, filling=filling)

    def function(x):
        return pool(x, **options)

    for got in (function(x), tape.vjp(function, x)[0], tape.compile(function, x).value(x),
                tape.batch(function)(np.stack([x, x]))[1], function(tape.variable(x)).data):
        np.testing.assert_allclose(got, expected, rtol=ROUNDING)

    def loss(x):
        return np.sum(np.sin(function(x)))

    tape.check_grads(loss, (x,))
    gradient = tape.grad(loss)(x)
    np.testing.assert_allclose(tape.compile(loss, x).value_and_grad(x)[1], gradient, rtol=ROUNDING, atol=ROUNDING)
    variable = tape.variable(x, requires_grad=True)
    np.sum(np.sin(function(variable))).backward()
    np.testing.assert_allclose(variable.grad, gradient, rtol=ROUNDING, atol=ROUNDING)


@pytest.mark.parametrize("engine", ["0", "always"])
def test_ties_share_and_nan_wins(engine, monkeypatch):
    """For channels side by side in memory, more of them than are counted together, and of one channel."""
    monkeypatch.setenv("TAPE_NATIVE", engine)
    for channels in (1, 3, 70):
        x = np.zeros((1, channels, 4, 2))
        x[0, :, 0, 0], x[0, :, 0, 1], x[0, 0, 2, 1] = 1.0, 1.0, np.nan
        seed = np.arange(1.0, 2 * channels + 1).reshape(1, channels, 2, 1)
        value, pull = tape.vjp(lambda x: tape.max_pool(x, 2), x)
        (gradient,) = pull(seed) if isinstance(pull(seed), tuple) else (pull(seed),)
        assert np.isnan(value[0, 0, 1, 0])
        np.testing.assert_array_equal(gradient[0, :, 0], np.repeat(seed[0, :, 0] / 2.0, 2, axis=1))
        np.testing.assert_array_equal(gradient[0, :, 1], 0.0)
        assert np.isnan(gradient[0, 0, 2:]).all()
        np.testing.assert_array_equal(gradient[0, 1:, 2:], np.broadcast_to(seed[0, 1:, 1, :, None] / 4.0, (channels - 1, 2, 2)))
        tangent = tape.jvp(lambda x: tape.max_pool(x, 2), (x,), (np.ones_like(x),))[1]
        np.testing.assert_allclose(tangent[0, 1:], 1.0)


@pytest.mark.parametrize("pool", [tape.max_pool, tape.avg_pool])
@pytest.mark.parametrize(("shape", "options", "message"), [
    ((2, 3), {"size": 2}, r"expected an array of shape \(N, C, \*spatial\)"),
    ((2, 3, 4), {"size": (2, 2)}, r"expected size as a positive integer, or 1 of them, got \(2, 2\)"),
    ((2, 3, 4), {"size": 5}, "expected spatial axes at least as long as the windows"),
    ((2, 3, 4), {"size": 2, "stride": 0}, "expected stride as a positive integer"),
    ((2, 3, 4), {"size": 2, "padding": 2}, "expected a padding that leaves no window without an element"),
])
def test_pooling_arguments_that_do_not_fit(pool, shape, options, message):
    with pytest.raises(ValueError, match=message):
        pool(np.ones(shape), **options)


# ---------------------------------------------------------------------- batch normalisation


@pytest.mark.parametrize(("shape", "axes"), [((4, 3), None), ((4, 3, 5, 2), None), ((4, 3, 5), (0, 1)), ((3, 4), -1)])
def test_batch_normalisation(shape, axes):
    """Values, statistics and derivatives; by those of the batch and by given ones."""
    random = np.random.default_rng(1)
    x = random.standard_normal(shape)
    over = (0, *range(2, len(shape))) if axes is None else axes
    mean, variance = x.mean(over), x.var(over)
    scale, shift = random.standard_normal((2, *mean.shape))

    def expected(x, mean, variance):
        spread = [np.expand_dims(a, over) for a in (mean, variance, scale, shift)]
        return (x - spread[0]) / np.sqrt(spread[1] + 1e-3) * spread[2] + spread[3]

    for function in (tape.batch_norm, lambda *args: tape.vjp(lambda *a: tape.batch_norm(*a, axes, 1e-3), *args[:3])[0]):
        y, statistics = function(x, scale, shift, axes, 1e-3)
        np.testing.assert_allclose(y, expected(x, mean, variance), rtol=1e-10, atol=1e-12)
        for got, one in zip(statistics, (mean, variance), strict=True):
            np.testing.assert_allclose(got, one, rtol=1e-12, atol=1e-14)
    y, used = tape.batch_norm(2.0 * x, scale, shift, axes, 1e-3, (mean, variance))
    np.testing.assert_allclose(y, expected(2.0 * x, mean, variance), rtol=1e-10, atol=1e-12)
    np.testing.assert_array_equal(used, (mean, variance))

    def loss(x, scale, shift):
        y, (mean, variance) = tape.batch_norm(x, scale, shift, axes)
        return np.sum(np.sin(y)) + np.sum(mean * variance)

    tape.check_grads(loss, (x, scale, shift))

    def by_given(x, mean, variance):
        return np.sum(np.sin(tape.batch_norm(x, scale, shift, axes, 1e-3, (mean, variance))[0]))

    tape.check_grads(by_given, (x, mean, variance))
    variables = [tape.variable(a, requires_grad=True) for a in (x, scale, shift)]
    loss(*variables).backward()
    for variable, gradient in zip(variables, tape.grad(loss, (0, 1, 2))(x, scale, shift), strict=True):
        np.testing.assert_allclose(variable.grad, gradient, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("x", "scale", "options", "message"), [
    (np.ones(3), np.ones(3), {}, r"expected an array of shape \(N, C, \*spatial\), or axes, got the shape \(3,\)"),
    (np.ones((2, 3)), np.ones(2), {}, r"expected scale of shape \(3,\).*got \(2,\)"),
    (np.ones((2, 3)), np.ones(3), {"axes": 2}, r"expected axes of an array of shape \(2, 3\), each once, got 2"),
    (np.ones((2, 3)), np.ones(3), {"eps": 0.0}, "expected a positive eps, got 0.0"),
    (np.ones((0, 3)), np.ones(3), {}, r"expected elements along the axes \(0,\)"),
    (np.ones((2, 3)), np.ones(3), {"statistics": (np.ones(2), np.ones(3))}, r"expected statistics of shape \(3,\)"),
])
def test_normalisations_that_do_not_fit(x, scale, options, message):
    with pytest.raises(ValueError, match=message):
        tape.batch_norm(x, scale, np.zeros(3), **options)


# ---------------------------------------------------------------------- lookups of rows


INDICES = {
    "rows": np.array([[0, 2, 2], [6, -1, 0]]),
    "rows, all of the rest": (np.array([0, 2, 2]), Ellipsis),
    "rows of rows": (np.array([0, 3, 3]), np.array([1, 1, 2])),
    "after a slice": (slice(1, 6, 2), np.array([[0, 2], [2, 1]])),
    "before a slice": (np.array([5, 5, 0]), slice(1, 3)),
    "apart": (np.array([[0], [2]]), slice(None), np.array([1, 1, 3])),
    "with a new axis": (np.array([0, 2, 2]), None),
    "a mask": np.arange(7) % 3 == 0,
    "none": np.zeros((2, 0), int),
    "one": np.array(3),
}


@pytest.mark.parametrize("name", INDICES)
def test_lookups(name):
    """Values, and first and second derivatives, of rows read and of rows written, in every engine."""
    table, index = np.random.default_rng(2).standard_normal((7, 3, 4)), INDICES[name]

    def read(table):
        return np.sum(np.sin(table[index]) * table[index] ** 2)

    def written(table):
        result = 2.0 * table
        result[index] = np.sin(table[index]) * 3.0
        return np.sum(result**2) + np.sum(result[index])

    for function in (read, written):
        tape.check_grads(function, (table,))
        gradient = tape.grad(function)(table)
        value, found = tape.compile(function, table).value_and_grad(table)
        assert value == pytest.approx(function(table), rel=ROUNDING)
        np.testing.assert_allclose(found, gradient, rtol=ROUNDING, atol=ROUNDING)
    np.testing.assert_array_equal(tape.vjp(lambda x: x[index], table)[0], table[index])


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_lookup_by_an_argument_asks_for_a_position_a_row(dtype):
    """Repeated rows add up; other indices need no other list; one out of bounds is refused."""
    table = np.random.default_rng(4).standard_normal((9, 5)).astype(dtype)
    ids, seed = np.array([[0, 8, 8], [3, -9, 8]]), np.arange(30.0).reshape(2, 3, 5).astype(dtype)
    record = tape.record(lambda table, ids: table[ids], table, ids)
    program = record._program
    assert program.values.dtype == dtype
    assert not program.instructions("guard")
    (i,) = program.instructions("gather")
    assert program.slot_view(int(program.slot_of(program.code[i, OPERAND + 1]))).size == ids.size
    both = tape.value_and_grad(lambda table, ids: np.sum(table[ids] * seed))
    for indices in (ids, ids[::-1], np.zeros_like(ids)):
        expected = np.zeros_like(table)
        np.add.at(expected, indices, seed)
        value, gradient = both(table, indices)
        assert value == pytest.approx(float(np.sum(table[indices] * seed)), rel=1e-6)
        np.testing.assert_allclose(gradient, expected, rtol=1e-6)
    with pytest.raises(IndexError, match="out of bounds"):
        both(table, ids + 1)


def test_rows_of_views_and_in_lanes():
    """Rows that are no neighbours are read cell by cell; samples beside each other look up rows of their own."""
    table = np.random.default_rng(6).standard_normal((4, 7))
    ids = np.array([[0, 2, 2], [6, 1, 0]])

    def loss(table, ids):
        return np.sum(np.sin(table.T[ids]))

    tape.check_grads(lambda table: loss(table, ids), (table,))
    got = tape.batch(loss, in_axes=(None, 0))(table, ids)
    np.testing.assert_allclose(got, [loss(table, one) for one in ids], rtol=ROUNDING)
    rows = tape.batch(lambda table, ids: np.sum(np.sin(table[ids])), in_axes=(None, 0))(table, ids % 4)
    np.testing.assert_allclose(rows, [np.sum(np.sin(table[one])) for one in ids % 4], rtol=ROUNDING)
