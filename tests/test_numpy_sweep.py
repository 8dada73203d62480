"""Functions at random shapes, axes, layouts and precisions: what NumPy computes, tape computes, and differentiates.

A draw has 0 to 3 axes of length 0 to 4, an axis that may be None, negative or a tuple, a layout that may not be contiguous.
Where NumPy refuses a draw that has elements, so must tape. Continuous integration runs a few draws of each function, the marker
`slow` many.
"""

import functools
import warnings

import numpy as np
import pytest
from test_numpy_functions import assert_agrees, assert_same, leaves

import tape


class Draw:
    """Random choices of one case."""

    def __init__(self, *seed):
        self.random = np.random.default_rng(seed)
        self.dtype = self.random.choice([np.float64, np.float64, np.float32])

    def one(self, *options):
        return options[self.random.integers(len(options))]

    def shape(self, least=0, most=3):
        lengths = [0, 1, 2, 3, 4] if self.random.random() < 0.3 else [1, 2, 3, 4]
        return tuple(int(n) for n in self.random.choice(lengths, self.random.integers(least, most + 1)))

    def array(self, shape):
        """Distinct numbers far from each other and from kinks, in some layout."""
        size = int(np.prod(shape))
        values = self.random.permutation(np.linspace(0.21, 1.93, size + 2)[1:-1]).reshape(shape).astype(self.dtype)
        layout = self.one("C", "C", "F", "strided", "reversed")
        if layout == "F":
            return np.asfortranarray(values)
        if layout == "strided" and shape:
            return np.repeat(values, 2, axis=-1)[..., ::2]
        return values[..., ::-1] if layout == "reversed" and shape else values

    def axis(self, ndim, none=True, several=False):
        options = [*range(-ndim, ndim)]
        if several and ndim > 1 and self.random.random() < 0.4:
            count = int(self.random.integers(0, ndim + 1))
            return tuple(int(k) - (ndim if self.random.random() < 0.5 else 0) for k in self.random.permutation(ndim)[:count])
        if none and (not options or self.random.random() < 0.25):
            return None
        return self.one(*options) if options else 0


def reduction(function, several=True):
    """Over None, an axis or several, with and without keepdims."""

    def make(d):
        shape = d.shape()
        settings = {"axis": d.axis(len(shape), several=several), "keepdims": d.one(True, False)}
        return functools.partial(function, **settings), [d.array(shape)]

    return make


def along(function, none=True, **options):
    """Along one axis, perhaps with more settings."""

    def make(d):
        shape = d.shape()
        settings = {name: d.one(*values) for name, values in options.items()}
        return functools.partial(function, axis=d.axis(len(shape), none), **settings), [d.array(shape)]

    return make


def of_one(function, *arguments, least=0, most=3):
    """Of one array and one of the other arguments."""

    def make(d):
        more = d.one(*arguments) if arguments else ()
        return lambda x: function(x, *more), [d.array(d.shape(least, most))]

    return make


def of_two(function, shapes):
    """Of two arrays whose shapes a draw gives."""
    return lambda d: (function, [d.array(shape) for shape in shapes(d)])


def broadcasting(d):
    """Two shapes that broadcast."""
    shape = d.shape()
    other = tuple(1 if d.random.random() < 0.3 else n for n in shape)[d.random.integers(0, len(shape) + 1) :]
    return d.one((shape, other), (other, shape))


def products(d):
    """Shapes of two matrices or vectors, with batches that broadcast, that matmul takes."""
    k, (rows, batch) = d.one(0, 1, 3), (d.shape(0, 1), d.shape(0, 1))
    left = d.one((*batch, *rows, k) if rows else (k,), (2, k))
    return left, d.one((k,), (k, 2), (*d.one((), batch, (1,)), k, 3))


def joined(function):
    """Of two arrays alike, along an axis."""

    def make(d):
        shape = d.shape(1)
        axis = d.axis(len(shape), none=False)
        return lambda x, y: function([x, y, x], axis=axis), [d.array(shape), d.array(shape)]

    return make


FUNCTIONS = {
    **{f.__name__: reduction(f) for f in (
        np.sum, np.mean, np.prod, np.max, np.min, np.var, np.std, np.ptp, np.nansum, np.nanmean, np.nanprod, np.nanmax,
        np.nanmin, np.nanvar, np.nanstd, np.median, np.nanmedian, np.average, np.all, np.any, np.count_nonzero,
        tape.logsumexp)},
    **{f.__name__: reduction(f, several=False) for f in (np.argmax, np.argmin, np.nanargmax)},
    "quantile": reduction(functools.partial(np.quantile, q=[0.1, 0.62])),
    "norm": reduction(np.linalg.norm),
    **{f.__name__: along(f) for f in (np.cumsum, np.cumprod, np.sort, np.argsort, np.flip)},
    "diff": along(np.diff, none=False, n=(0, 1, 2), prepend=(np._NoValue, 0.5)),
    "roll": along(np.roll, shift=(0, 1, -5)),
    "repeat": along(np.repeat, repeats=(0, 1, 2)),
    "take": along(np.take, indices=([0], [[0, -1]], 0, []), mode=("raise", "wrap", "clip")),
    "delete": along(np.delete, obj=(0, [0, -1], slice(None, None, 2))),
    "insert": along(np.insert, obj=(0, [0, -1], slice(None, None, 2)), values=(0.5,)),
    "append": along(lambda x, axis: np.append(x, x, axis=axis)),
    "gradient": along(np.gradient, edge_order=(1, 2)),
    "unwrap": along(lambda x, axis: np.unwrap(6.1 * x, axis=axis), none=False),
    "trapezoid": along(np.trapezoid, none=False, dx=(1.0, 0.3)),
    "expand_dims": along(np.expand_dims, none=False),
    "squeeze": along(np.squeeze),
    "swapaxes": of_one(np.swapaxes, (0, 1), (-1, 0), (1, 2)),
    "moveaxis": of_one(np.moveaxis, (0, -1), (-1, 0), ((0, 1), (1, 0))),
    "transpose": of_one(np.transpose, (), ((1, 0),), ((2, 0, 1),)),
    "ravel": of_one(np.ravel, (), ("F",)),
    "reshape": of_one(np.reshape, (-1,), ((-1, 1),), ((1, -1), "F"), ((2, -1),)),
    "tile": of_one(np.tile, (2,), ((2, 1),), ((0,),), ((1, 2, 1),)),
    "pad": of_one(np.pad, (1,), ((2, 0),), (2, "edge"), (1, "reflect"), (3, "wrap"), ((1, 2), "symmetric"), (1, "mean")),
    "atleast_1d": of_one(np.atleast_1d),
    "atleast_2d": of_one(np.atleast_2d),
    "atleast_3d": of_one(np.atleast_3d),
    "trace": of_one(np.trace, (), (1,), (-1, 0, -1)),
    "diagonal": of_one(np.diagonal, (), (1,), (-1, 0, -1)),
    "diag": of_one(np.diag, (), (1,), (-2,)),
    "tril": of_one(np.tril, (), (1,), (-1,)),
    "triu": of_one(np.triu, (), (1,), (-1,)),
    "rot90": of_one(np.rot90, (), (2,), (-1, (0, -1))),
    "broadcast_to": of_one(lambda x, shape: np.broadcast_to(x, shape) * 1.0, ((3,),), ((2, 3),), ((2, 3, 4),), ((0, 1),)),
    "clip": of_one(np.clip, (0.5, 1.5), (None, 1.0), (1.0, None), (1.5, 0.5)),
    "round": of_one(lambda x, n: np.round(0.4 * x + 0.6, n), (0,), (-1,)),
    "nan_to_num": of_one(np.nan_to_num),
    "array_split": of_one(np.array_split, (2,), (3, -1), ([1, 2],)),
    "linspace": of_two(lambda a, b: np.linspace(a, b, 4), broadcasting),
    "where": of_two(lambda x, y: np.where(np.arange(x.size).reshape(x.shape) % 3 > 0, x, y), broadcasting),
    "add": of_two(np.add, broadcasting),
    "power": of_two(np.power, broadcasting),
    "arctan2": of_two(np.arctan2, broadcasting),
    "logaddexp2": of_two(lambda x, y: np.logaddexp2(x, y), broadcasting),
    "multiply.outer": of_two(lambda x, y: np.multiply.outer(x, y), lambda d: (d.shape(0, 2), d.shape(0, 2))),
    "kron": of_two(np.kron, lambda d: (d.shape(0, 2), d.shape(0, 2))),
    "outer": of_two(np.outer, lambda d: (d.shape(0, 2), d.shape(0, 2))),
    "matmul": of_two(np.matmul, products),
    "dot": of_two(np.dot, products),
    "inner": of_two(np.inner, lambda d: (s := d.shape(0, 2), (*d.shape(0, 1), *s[-1:]))),
    "convolve": of_two(lambda x, y: np.convolve(x, y), lambda d: (d.shape(1, 1), d.shape(1, 1))),
    "interp": of_two(lambda x, y: np.interp(x, [0.3, 0.9, 1.7], y), lambda d: (d.shape(), (3,))),
    "histogram": of_two(lambda x, w: np.histogram(x, [0.2, 0.93, 1.94], weights=w)[0], lambda d: (s := d.shape(), s)),
    "concatenate": joined(np.concatenate),
    "stack": joined(np.stack),
    "vstack": joined(lambda arrays, axis: np.vstack(arrays)),
    "column_stack": joined(lambda arrays, axis: np.column_stack(arrays)),
    "dstack": joined(lambda arrays, axis: np.dstack(arrays)),
    "block": joined(lambda arrays, axis: np.block(arrays)),
}


def check(name, seed):
    f, arrays = FUNCTIONS[name](Draw(seed, *name.encode()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        try:
            expected = f(*arrays)
        except Exception:
            if not all(x.size for x in arrays):
                return
            with pytest.raises(Exception):  # noqa: B017, PT011 (NumPy's own error, or one that says more)
                tape.record(f, *arrays)
            return
        if all(np.isfinite(x).all() for x in leaves(expected)):
            assert_agrees(f, *arrays)
        else:  # of no elements
            assert_same(tape.record(f, *arrays).forward(*arrays), expected, arrays[0].dtype == np.float32)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", FUNCTIONS)
def test_random_draw(name, seed):
    check(name, seed)


@pytest.mark.slow
@pytest.mark.parametrize("name", FUNCTIONS)
def test_many_random_draws(name):
    for seed in range(2, 80):
        check(name, seed)
