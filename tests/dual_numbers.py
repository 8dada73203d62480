"""Derivatives of jitted functions by dual numbers in Python: slow, independent of what is tested, and exact at every branch.

A judge that differences are not: of solvers that stop at a tolerance, of kinks (the branch that is taken is the one that the
jitted function takes), of large and small arguments. `derivatives` runs the Python bodies of a jitted function and of all that
it calls, on numbers that carry their derivatives along all arguments. What dual numbers know no rule for raises.
"""

import builtins
import cmath
import math
import types
import typing

import numpy as np
from numba.core.dispatcher import Dispatcher
from scipy import special

ROOT = 2 / math.sqrt(math.pi)
RULES = {
    "exp": lambda x, m: m.exp(x),
    "expm1": lambda x, m: m.exp(x),
    "log": lambda x, m: 1 / x,
    "log10": lambda x, m: 1 / (x * math.log(10)),
    "log2": lambda x, m: 1 / (x * math.log(2)),
    "log1p": lambda x, m: 1 / (1 + x),
    "sqrt": lambda x, m: 0.5 / m.sqrt(x),
    "cbrt": lambda x, m: 1 / (3 * math.cbrt(x) ** 2),
    "sin": lambda x, m: m.cos(x),
    "cos": lambda x, m: -m.sin(x),
    "tan": lambda x, m: 1 / m.cos(x) ** 2,
    "sinh": lambda x, m: m.cosh(x),
    "cosh": lambda x, m: m.sinh(x),
    "tanh": lambda x, m: 1 / m.cosh(x) ** 2,
    "asin": lambda x, m: 1 / m.sqrt(1 - x * x),
    "acos": lambda x, m: -1 / m.sqrt(1 - x * x),
    "atan": lambda x, m: 1 / (1 + x * x),
    "asinh": lambda x, m: 1 / m.sqrt(1 + x * x),
    "acosh": lambda x, m: 1 / m.sqrt(x * x - 1),
    "atanh": lambda x, m: 1 / (1 - x * x),
    "fabs": lambda x, m: math.copysign(1.0, x),
    "erf": lambda x, m: ROOT * math.exp(-x * x),
    "erfc": lambda x, m: -ROOT * math.exp(-x * x),
    "gamma": lambda x, m: math.gamma(x) * special.digamma(x),
    "lgamma": lambda x, m: special.digamma(x),
    "radians": lambda x, m: math.pi / 180,
    "degrees": lambda x, m: 180 / math.pi,
}
"""Derivatives of functions of one number, by their names in `math`; m is `math` or, for complex numbers, `cmath`."""

OTHER_NAMES = {"arcsin": "asin", "arccos": "acos", "arctan": "atan", "arcsinh": "asinh", "arccosh": "acosh", "arctanh": "atanh",
               "deg2rad": "radians", "rad2deg": "degrees", "loggamma": "lgamma", "gammaln": "lgamma"}
"""Names of NumPy and SciPy for functions of `math`."""

SPECIAL = {
    "expi": lambda x: math.exp(x) / x, "i0": special.i1, "i1": lambda x: special.i0(x) - special.i1(x) / x,
    "k0": lambda x: -special.k1(x), "k1": lambda x: -special.k0(x) - special.k1(x) / x,
    "ellipe": lambda m: (special.ellipe(m) - special.ellipk(m)) / (2 * m),
    "ellipk": lambda m: (special.ellipe(m) / (1 - m) - special.ellipk(m)) / (2 * m),
}
"""Derivatives of functions of one number of SciPy."""


class Unknown(Exception):
    """Dual numbers have no rule for this."""


class Dual:
    """A number, its derivatives along each of the arguments, and the comparisons of equals that it took part in."""

    ties: typing.ClassVar = []
    """Comparisons of equal values whose derivatives differ, where there may be a kink, in the last run of `derivatives`."""

    def __init__(self, value, slope):
        self.value, self.slope = value, slope

    def __repr__(self):
        return f"Dual({self.value})"

    def __add__(self, other):
        a, b = self, dual(other)
        return other if b is None else Dual(a.value + b.value, a.slope + b.slope)

    def __sub__(self, other):
        b = dual(other)
        return NotImplemented if b is None else Dual(self.value - b.value, self.slope - b.slope)

    def __mul__(self, other):
        b = dual(other)
        return NotImplemented if b is None else Dual(self.value * b.value, self.slope * b.value + self.value * b.slope)

    def __truediv__(self, other):
        b = dual(other)
        if b is None:
            return NotImplemented
        ratio = self.value / b.value
        return Dual(ratio, (self.slope - ratio * b.slope) / b.value)

    def __floordiv__(self, other):
        return value_of(self) // value_of(other)

    def __rfloordiv__(self, other):
        return value_of(other) // value_of(self)

    def __mod__(self, other):
        b = dual(other)
        return Dual(self.value % b.value, self.slope - b.slope * (self.value // b.value))

    def __rmod__(self, other):
        return dual(other) % self

    def __pow__(self, other, modulus=None):
        b = dual(other)
        if b is None:
            return NotImplemented
        power = self.value ** b.value
        slope = 0.0 * self.slope
        if b.value != 0 and np.any(self.slope):
            slope = b.value * self.value ** (b.value - 1) * self.slope
        if np.any(b.slope) and power != 0:
            slope = slope + power * (cmath if isinstance(self.value, complex) else math).log(self.value) * b.slope
        return Dual(power, slope)

    def __radd__(self, other):
        return dual_or_unknown(other) + self

    def __rsub__(self, other):
        return dual_or_unknown(other) - self

    def __rmul__(self, other):
        return dual_or_unknown(other) * self

    def __rtruediv__(self, other):
        return dual_or_unknown(other) / self

    def __rpow__(self, other):
        return dual_or_unknown(other) ** self

    def __neg__(self):
        return Dual(-self.value, -self.slope)

    def __pos__(self):
        return self

    def __abs__(self):
        if isinstance(self.value, complex):
            size = abs(self.value)
            return Dual(size, (self.value.conjugate() * self.slope).real / size)
        self._compare(0.0)
        return -self if self.value < 0 else self if self.value > 0 else Dual(abs(self.value), 0.0 * self.slope)

    def _compare(self, other):
        b = dual(other)
        if b is None:
            return other
        if self.value == b.value and not np.array_equal(self.slope, b.slope):
            Dual.ties.append(self.value)
        return b.value

    def __lt__(self, other):
        return self.value < self._compare(other)

    def __le__(self, other):
        return self.value <= self._compare(other)

    def __gt__(self, other):
        return self.value > self._compare(other)

    def __ge__(self, other):
        return self.value >= self._compare(other)

    def __eq__(self, other):
        return self.value == self._compare(other)

    def __ne__(self, other):
        return self.value != self._compare(other)

    def __hash__(self):
        return hash(self.value)

    def __bool__(self):
        return bool(self.value)

    def __int__(self):
        return self._whole(int(self.value))

    def _whole(self, value):
        if self.value == value:
            Dual.ties.append(self.value)  # a step
        return value

    __trunc__ = __int__

    def __floor__(self):
        return self._whole(math.floor(self.value))

    def __ceil__(self):
        return self._whole(math.ceil(self.value))

    def __round__(self, digits=None):
        return round(self.value, digits)

    def __float__(self):
        raise Unknown("a dual number as a plain one")

    def __complex__(self):
        raise Unknown("a dual number as a plain one")

    @property
    def real(self):
        return Dual(self.value.real, np.real(self.slope))

    @property
    def imag(self):
        return Dual(self.value.imag, np.imag(self.slope)) if isinstance(self.value, complex) else 0.0

    def conjugate(self):
        return Dual(self.value.conjugate(), np.conjugate(self.slope))

    def __getattr__(self, name):  # NumPy's functions of arrays of objects call methods of the objects
        if OTHER_NAMES.get(name, name) in RULES or name in ("floor", "ceil", "rint", "trunc"):
            return lambda *rest: function_of(name, None)(self, *rest)
        raise AttributeError(name)


def dual(x):
    """A number as a dual number, or None for what is none."""
    if isinstance(x, Dual):
        return x
    return Dual(x, 0.0) if isinstance(x, (int, float, complex, np.number, np.bool_)) else None


def dual_or_unknown(x):
    made = dual(x)
    if made is None:
        raise Unknown(f"an operation of a dual number and {type(x).__name__}")
    return made


def value_of(x):
    return x.value if isinstance(x, Dual) else x


def has_duals(x):
    """Whether there are dual numbers in arguments."""
    if isinstance(x, np.ndarray):
        return x.dtype == object
    return isinstance(x, Dual) or (isinstance(x, (tuple, list)) and any(map(has_duals, x)))


def function_of(name, plain):
    """A function of numbers, for dual ones too, by its name; `plain` is what computes plain numbers."""
    short = OTHER_NAMES.get(name, name)

    def with_duals(*args, **kws):
        if not any(map(has_duals, args)):
            return plain(*args, **kws)
        x = args[0]
        if isinstance(x, (np.ndarray, list)):
            if len(args) == 1:
                x = np.asarray(x, dtype=object)
                out = np.empty(x.shape, dtype=object)
                for place in np.ndindex(x.shape):
                    out[place] = with_duals(x[place])
                return out
            raise Unknown(name)
        if short in ("floor", "ceil", "trunc", "rint", "round"):
            return getattr(x, {"trunc": "__int__", "rint": "__round__"}.get(short, f"__{short}__"))()
        if short in ("isnan", "isinf", "isfinite"):
            return getattr(math, short)(x.value)
        if short == "log" and len(args) == 2:
            return with_duals(args[0]) / with_duals(args[1])
        if short in ("pow", "power", "float_power"):
            return args[0] ** args[1]
        if short in ("atan2", "arctan2"):
            y, x = map(dual, args)
            return Dual(math.atan2(y.value, x.value), (x.value * y.slope - y.value * x.slope) / (x.value**2 + y.value**2))
        if short == "hypot":
            return function_of("sqrt", math.sqrt)(args[0] * args[0] + args[1] * args[1])
        if short in ("copysign",):
            return abs(x) * math.copysign(1.0, value_of(args[1]))
        if short in SPECIAL and len(args) == 1:
            return Dual(getattr(special, short)(x.value), SPECIAL[short](x.value) * x.slope)
        if short not in RULES or len(args) != 1:
            raise Unknown(name)
        library = cmath if isinstance(x.value, complex) or getattr(plain, "__module__", "") == "cmath" else math
        if short == "sqrt" and library is math and x.value == 0 and not np.any(x.slope):
            return Dual(0.0, 0.0 * x.slope)
        return Dual(getattr(library, short)(x.value), RULES[short](x.value, library) * x.slope)

    return with_duals


def extreme(plain):
    """`min` or `max` that shares the derivative half and half between two numbers that tie, as docs/reference.md has it."""

    def with_duals(*args, **kws):
        if not has_duals(args):
            return plain(*args, **kws)
        best, *others = args if len(args) > 1 else np.ravel(args[0])
        for other in others:
            a, b = dual(best), dual(other)
            if a == b:
                best = Dual(a.value, 0.5 * (a.slope + b.slope))
            elif plain(a.value, b.value) == b.value:
                best = other
        return best

    return with_duals


class _FloatType(type):
    def __instancecheck__(cls, x):
        return isinstance(x, (float, Dual))


class Float(metaclass=_FloatType):
    """`float` that keeps dual numbers."""

    def __new__(cls, x=0.0):
        return x if isinstance(x, Dual) else float(x)


class Arrays(types.SimpleNamespace):
    """NumPy whose new arrays of floats can hold dual numbers."""

    float64 = Float

    def __getattr__(self, name):
        found = getattr(np, name)
        if isinstance(found, np.ufunc) and name not in ("add", "subtract", "multiply", "divide", "maximum", "minimum"):
            return function_of(name, found)
        if name in ("round", "around", "interp"):
            return function_of(name, found)
        return found

    @staticmethod
    def _kind(dtype):
        return object if dtype in (None, float, Float, np.float64, "float64") else dtype

    def zeros(self, shape, dtype=None):
        return self.full(shape, 0 if dtype in (int, bool) else 0.0, dtype)

    def ones(self, shape, dtype=None):
        return self.full(shape, 1.0, dtype)

    empty = zeros

    def full(self, shape, value, dtype=None):
        made = np.empty(shape, self._kind(dtype))
        made[...] = value
        return made

    def zeros_like(self, x, dtype=None):
        return self.zeros(np.shape(x), dtype)

    empty_like = zeros_like

    def ones_like(self, x, dtype=None):
        return self.ones(np.shape(x), dtype)

    def full_like(self, x, value, dtype=None):
        return self.full(np.shape(x), value, dtype)

    def array(self, x, dtype=None, copy=True):
        return np.array(x, dtype=object if has_duals(x) or np.asarray(x).dtype == float else dtype)

    def asarray(self, x, dtype=None):
        return x if isinstance(x, np.ndarray) else self.array(x, dtype)

    ascontiguousarray = asarray

    @property
    def linalg(self):
        return types.SimpleNamespace(solve=solve)


def solve(a, b):
    """The solution of linear equations of dual numbers."""
    if not (has_duals(a) or has_duals(b)):
        return np.linalg.solve(a, b)
    value = np.vectorize(value_of, otypes=[float])
    a, b = np.asarray(a, dtype=object), np.asarray(b, dtype=object)
    x = np.linalg.solve(value(a), value(b))
    residual = b - a @ x  # of value (nearly) zero: what it has of derivatives is what they are
    slopes = np.vectorize(lambda r: r.slope if isinstance(r, Dual) else 0.0, otypes=[object])(residual)
    change = np.linalg.inv(value(a)) @ slopes
    return np.array([Dual(v, s) for v, s in zip(x.ravel(), change.ravel(), strict=True)], dtype=object).reshape(x.shape)


class Bodies:
    """Python bodies of jitted functions, in copies of their globals that know dual numbers; each once."""

    def __init__(self):
        self._functions, self._spaces, self._arrays = {}, {}, Arrays()

    def of(self, function):
        """The Python function of a jitted one, for dual numbers."""
        body = function.py_func if isinstance(function, Dispatcher) else function
        if body not in self._functions:
            closure = body.__closure__ and tuple(types.CellType(self._known(None, c.cell_contents)) for c in body.__closure__)
            made = types.FunctionType(body.__code__, self._space(body.__globals__), body.__name__, body.__defaults__, closure)
            made.__kwdefaults__ = body.__kwdefaults__
            self._functions[body] = made
        return self._functions[body]

    def _space(self, space):
        if id(space) not in self._spaces:
            self._spaces[id(space)] = made = _Space(self, space)
            made["__builtins__"] = builtins
            self._spaces[id(space), "kept"] = space
        return self._spaces[id(space)]

    def _known(self, name, x):
        """What stands for the global `x` where numbers are dual."""
        if isinstance(x, Dispatcher):
            return self.of(x)
        if x is np:
            return self._arrays
        if x is math or x is cmath or x is special:
            return types.SimpleNamespace(**{n: self._known(n, f) for n, f in vars(x).items()})
        if isinstance(x, np.ufunc) or getattr(x, "__module__", None) in ("math", "cmath"):
            return function_of(getattr(x, "__name__", name), x)
        if x is float:
            return Float
        if x is min or x is max:
            return extreme(x)
        if x is np.sum:
            return lambda x: builtins.sum(np.asarray(x, dtype=object).ravel()) if has_duals(x) else np.sum(x)
        return x


PLAIN = {"float": float, "min": min, "max": max}
"""Built-in functions that know no dual numbers."""


class _Space(dict):
    """Globals that are looked up, and made to know dual numbers, as they are needed."""

    def __init__(self, bodies, space):
        super().__init__()
        self._bodies, self._of = bodies, space

    def __missing__(self, name):
        found = PLAIN[name] if name in PLAIN and name not in self._of else self._of[name]
        self[name] = made = self._bodies._known(name, found)
        return made


BODIES = Bodies()


def derivatives(function, args, numbers):
    """(value, gradient along arguments `numbers` as flat lists, whether equals were compared) of a jitted function.

    `args` are floats, arrays and what is no number; the function gives a float.
    """
    total = sum(np.size(args[k]) for k in numbers)
    given, at = list(args), 0
    for k in numbers:
        if isinstance(args[k], np.ndarray):
            given[k] = made = np.empty(args[k].shape, dtype=object)
            for place in np.ndindex(made.shape):
                made[place] = Dual(float(args[k][place]), _unit(total, at))
                at += 1
        else:
            given[k] = Dual(args[k], _unit(total, at))
            at += 1
    Dual.ties = []
    with np.errstate(all="ignore"):
        result = dual_or_unknown(BODIES.of(function)(*given))
    return result.value, np.zeros(total) + result.slope, bool(Dual.ties)


def _unit(total, at):
    made = np.zeros(total)
    made[at] = 1.0
    return made
