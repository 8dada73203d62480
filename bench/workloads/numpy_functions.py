"""NumPy's functions of arrays at 10^5 elements (matrices of 316 x 316), one row each."""

import numpy as np

from bench.functions import Call
from bench.groups import NUMPY
from bench.workload import Workload

SIZE, QUICK_SIZE = 100_000, 900


class _Data:
    """Arguments: of a length, or square matrices of about as many elements; away from kinks, so that differences are exact."""

    def __init__(self, quick):
        self.n = QUICK_SIZE if quick else SIZE
        self.side = int(self.n**0.5)
        self.random = np.random.default_rng(0)

    def positive(self, shape=None):
        """Numbers from 0.5 to 1.5."""
        return self.random.uniform(0.5, 1.5, shape or self.n)

    def signed(self, shape=None):
        """The same with either sign."""
        return self.positive(shape) * self.random.choice([-1.0, 1.0], shape or self.n)

    def apart(self, count=None):
        """Numbers of 0 to 1 in random order, no two closer than a few steps of the differences."""
        count = count or self.n
        return self.random.permutation(count) / count

    def near_one(self, shape=None):
        """Numbers whose product stays near one."""
        return 1.0 + 1e-3 * self.signed(shape)

    @property
    def matrix(self):
        """The shape of a square matrix."""
        return self.side, self.side

    def matrix_apart(self):
        """`apart` as a matrix."""
        return self.apart(self.side**2).reshape(self.matrix)

    def between_knots(self, knots):
        """Numbers in the middle of the pieces between the knots k / (knots - 1)."""
        return (self.random.integers(0, knots - 1, self.n) + self.random.uniform(0.2, 0.8, self.n)) / (knots - 1)

    def halves(self):
        """Two arrays of half the length."""
        return self.positive(self.n // 2), self.positive(self.n // 2)


def _pair(d):
    return d.positive(), d.positive()


def _one(d):
    return (d.positive(),)


def _signed(d):
    return (d.signed(),)


def _apart(d):
    return (d.apart(),)


def _two_apart(d):
    return d.apart(), d.apart() + 0.5 / d.n


def _matrix(d):
    return (d.signed(d.matrix),)


def _matrices(d):
    return d.signed(d.matrix), d.signed(d.matrix)


def _matrix_apart(d):
    return (d.matrix_apart(),)


def _short(d):
    return d.positive(d.side), d.positive(d.side)


def _flipped(x):
    return np.flip(x).copy()


def _doubled_inside(x):
    y = x.copy()
    y[10:-10] *= 2.0
    return y


def _thirds(n):
    """Two numbers between those of `apart`."""
    return (n // 3 + 0.5) / n, (2 * (n // 3) + 0.5) / n


def _selected(x):
    low, high = _thirds(x.shape[0])
    return np.select([x < low, x > high], [x, x * x], 1.0)


def _clipped(x):
    return np.clip(x, *_thirds(x.shape[0]))


_KNOTS = np.linspace(0.0, 1.0, 1001)
_HEIGHTS = np.sin(3.0 * _KNOTS)

FUNCTIONS = {
    "add": (np.add, _pair), "multiply": (np.multiply, _pair), "divide": (np.divide, _pair), "power": (np.power, _pair),
    "x ** 3": (lambda x: x**3, _one), "square": (np.square, _one), "sqrt": (np.sqrt, _one), "abs": (np.abs, _signed),
    "exp": (np.exp, _one), "expm1": (np.expm1, _one), "log": (np.log, _one), "log1p": (np.log1p, _one),
    "logaddexp": (np.logaddexp, _pair), "sin": (np.sin, _one), "tanh": (np.tanh, _signed), "arctan": (np.arctan, _one),
    "arctan2": (np.arctan2, _pair), "hypot": (np.hypot, _pair),
    "maximum": (np.maximum, _two_apart), "where": (lambda x, y: np.where(x > y, x, y), _two_apart), "clip": (_clipped, _apart),
    "select": (_selected, _apart),
    "sum": (np.sum, _one), "sum, axis 0": (lambda x: np.sum(x, axis=0), _matrix),
    "sum, axis 1": (lambda x: np.sum(x, axis=1), _matrix), "mean, axis 0": (lambda x: np.mean(x, axis=0), _matrix),
    "var": (np.var, _one), "std, axis 1": (lambda x: np.std(x, axis=1), _matrix),
    "max": (np.max, _apart), "max, axis 0": (lambda x: np.max(x, axis=0), _matrix_apart),
    "min, axis 1": (lambda x: np.min(x, axis=1), _matrix_apart),
    "prod": (np.prod, lambda d: (d.near_one(),)),
    "prod, axis 1": (lambda x: np.prod(x, axis=1), lambda d: (d.near_one(d.matrix),)),
    "logaddexp.reduce, axis 1": (lambda x: np.logaddexp.reduce(x, axis=1), _matrix), "linalg.norm": (np.linalg.norm, _signed),
    "nansum": (np.nansum, _signed), "nanmean, axis 1": (lambda x: np.nanmean(x, axis=1), _matrix),
    "nanmax": (np.nanmax, _apart),
    "average with weights": (lambda x, w: np.average(x, weights=w), _pair), "median": (np.median, _apart),
    "cumsum": (np.cumsum, _signed), "cumprod": (np.cumprod, lambda d: (d.near_one(),)),
    "sort": (np.sort, _apart), "sort, rows": (np.sort, _matrix_apart), "x[argsort(x)]": (lambda x: x[np.argsort(x)], _apart),
    "partition(x, k)[k]": (lambda x: np.partition(x, x.shape[0] // 2)[x.shape[0] // 2], _apart),
    "concatenate": (lambda x, y: np.concatenate([x, y]), lambda d: d.halves()),
    "stack, axis 1": (lambda x, y: np.stack([x, y], axis=1), lambda d: d.halves()),
    "split, joined": (lambda x: np.concatenate(np.split(x, 10)[::-1]), _one),
    "tile": (lambda x: np.tile(x, 10), lambda d: (d.positive(d.n // 10),)),
    "repeat": (lambda x: np.repeat(x, 10), lambda d: (d.positive(d.n // 10),)), "roll": (lambda x: np.roll(x, 17), _one),
    "flip, copied": (_flipped, _one), "transpose, copied": (lambda x: np.transpose(x).copy(), _matrix),
    "pad": (lambda x: np.pad(x, 1), _matrix), "pad, reflect": (lambda x: np.pad(x, 100, mode="reflect"), _one),
    "meshgrid": (lambda x, y: np.meshgrid(x, y)[0], _short), "x[10:-10] *= 2": (_doubled_inside, _one),
    "diff": (np.diff, _one), "gradient": (np.gradient, _one),
    "interp, 1,001 knots": (lambda x: np.interp(x, _KNOTS, _HEIGHTS), lambda d: (d.between_knots(len(_KNOTS)),)),
    "convolve with 16": (np.convolve, lambda d: (d.positive(), d.positive(16))),
    "kron": (np.kron, lambda d: (d.signed((10, 10)), d.signed((d.side // 10, d.side // 10)))),
    "cross": (np.cross, lambda d: (d.signed((d.n // 3, 3)), d.signed((d.n // 3, 3)))),
    "outer": (np.outer, _short), "dot": (np.dot, _pair),
    "matrix @ vector": (np.matmul, lambda d: (d.signed(d.matrix), d.positive(d.side))),
    "matmul": (np.matmul, _matrices), "tensordot": (lambda x, y: np.tensordot(x, y, 1), _matrices),
    "einsum ij,jk->ik": (lambda x, y: np.einsum("ij,jk->ik", x, y, optimize=True), _matrices),
    "einsum ij,ij->i": (lambda x, y: np.einsum("ij,ij->i", x, y), _matrices),
    "tril": (np.tril, _matrix), "trace": (np.trace, _matrix), "diagonal, copied": (lambda x: np.diagonal(x).copy(), _matrix),
}
"""Title → function of arrays, and what makes its arguments."""

DENSE = "its gradient has 10^5 elements, all but 316 of them zero, and filling them takes longer than NumPy's reading of 316"
NOTES = {"trace": DENSE, "diagonal, copied": DENSE}


def _indexed(d):
    """Functions of positions, which are constants."""
    anywhere, order = d.random.integers(0, d.n, d.n), d.random.permutation(d.n)
    mask = d.random.uniform(size=d.n) > 0.5

    def scattered(x):
        y = np.zeros_like(x)
        y[order] = x
        return y

    return {"take": lambda x: np.take(x, anywhere), "x[positions]": lambda x: x[order], "x[mask]": lambda x: x[mask],
            "y[positions] = x": scattered}


INDEXED = ("take", "x[positions]", "x[mask]", "y[positions] = x")


def _make(title):
    def make(quick):
        data = _Data(quick)
        if title in INDEXED:
            return Call(_indexed(data)[title], _one(data))
        function, arguments = FUNCTIONS[title]
        return Call(function, arguments(data), NOTES.get(title, ""))

    return make


def _name(title):
    """For `--only`."""
    title = title.replace("**", "power").replace("@", "times").replace("*=", "times")
    return "numpy-" + "-".join("".join(c if c.isalnum() else " " for c in title).lower().split())


WORKLOADS = [Workload(_name(title), title, _make(title), NUMPY) for title in (*FUNCTIONS, *INDEXED)]
