"""Functions of NumPy on arrays of numbers that carry derivatives: reductions, products, linear algebra.

Each stands in the place of NumPy's when a prepared function calls it (`statements.REPLACEMENTS`). What is cheap to spell out
is a jitted function over elements; what is a call of BLAS or LAPACK is one `Operation` with its rule. Values are Numba's own.
What is not here: elementwise functions (`expressions.py`); copies, views and shapes, which Numba's arrays do by themselves.
"""

from __future__ import annotations

import operator

import numpy as np
from llvmlite import ir
from numba import njit
from numba.core import cgutils, types
from numba.core.typing import signature
from numba.core.typing.npydecl import parse_dtype
from numba.np import arrayobj

from compiled.active.arguments import Walk, in_heap
from compiled.active.emitter import Emitter
from compiled.active.expressions import _broadcast, _View
from compiled.active.numbers import Emission, apply
from compiled.active.operations import Operation
from compiled.active.preparation import twin
from compiled.active.statements import METHODS, REPLACEMENTS, register
from compiled.active.types import I8, I32, Active, Differential, bottom, constant, is_number, join, proxy, with_bottom
from compiled.active.workspace import CELLS, COUNTS, LONG, PAIRS, STATEMENTS, Workspace
from compiled.table.instructions import TABLE


class Sum(Emitter):
    """The sum of all elements, one after the other; of `Active` numbers one statement, however many there are.

    Parameters
    ----------
    wide : bool
        Whether the sum is kept in double precision, whatever the elements are.
    """

    def __init__(self, wide=False):
        self.wide = wide

    def __repr__(self):
        return f"sum {'wide' if self.wide else ''}"

    def signature(self, typingctx, args):
        """See `Emitter`."""
        (kind,) = args
        if not isinstance(kind, types.Array):
            return None
        dtype = types.int64 if isinstance(kind.dtype, (types.Integer, types.Boolean)) else kind.dtype
        return signature(with_bottom(dtype, types.float64) if self.wide else dtype, kind)

    def emit(self, context, builder, signature, args):
        """See `Emitter`."""
        kind, out = signature.args[0], signature.return_type
        view = _View(context, builder, kind, args[0])
        emission = Emission(context, builder)
        if not isinstance(out, Differential):
            return self._plain(context, builder, view, out)
        below = out.base if isinstance(out, Active) else out
        zero = emission.value(below, emission.number(types.float64, ir.Constant(ir.DoubleType(), 0.0)))
        total = cgutils.alloca_once_value(builder, zero)
        words = cgutils.alloca_once_value(builder, constant(0))
        with cgutils.loop_nest(builder, view.shape, intp=constant(0).type) as indices:
            element = emission.number(kind.dtype, view.load(indices))
            if isinstance(out, Active):
                builder.store(builder.or_(builder.load(words), element.cell), words)
                element = element.primal
            element = emission.double(element) if self.wide else element
            sum_ = apply(TABLE["add"], [emission.number(below, builder.load(total)), element])
            builder.store(emission.value(below, sum_), total)
        if not isinstance(out, Active):
            return builder.load(total)
        struct = proxy(context, builder, out)
        struct.value = builder.load(total)
        base = with_bottom(out.base, types.float64)
        struct.cell = self._statement(context, builder, emission, view, base, builder.load(words))
        return struct._getvalue()

    @staticmethod
    def _plain(context, builder, view, out):
        total = cgutils.alloca_once_value(builder, context.get_constant(out, 0))
        add = context.get_function(operator.add, signature(out, out, out))
        with cgutils.loop_nest(builder, view.shape, intp=constant(0).type) as indices:
            element = context.cast(builder, view.load(indices), view.kind.dtype, out)
            builder.store(add(builder, [builder.load(total), element]), total)
        return builder.load(total)

    @staticmethod
    def _statement(context, builder, emission, view, base, combined):
        """One long statement with the partial 1 for each element."""
        result = cgutils.alloca_once_value(builder, constant(0))
        with builder.if_then(builder.icmp_unsigned("!=", combined, constant(0))):
            workspace = Workspace.of_word(context, builder, combined)
            count = view.array.nitems
            with builder.if_then(workspace.reserve(builder.add(count, constant(1)), base)):
                pairs, statement = workspace.load(PAIRS), workspace.load(STATEMENTS)
                cells, partials = workspace.pointer(CELLS, I32), workspace.partials(base)
                one = context.get_value_as_data(builder, base, emission.value(base, 1.0))
                cursor = cgutils.alloca_once_value(builder, pairs)
                with cgutils.loop_nest(builder, view.shape, intp=constant(0).type) as indices:
                    at = builder.load(cursor)
                    word = emission.number(view.kind.dtype, view.load(indices)).cell
                    builder.store(builder.trunc(word, I32), builder.gep(cells, [at]))
                    builder.store(one, builder.gep(partials, [at]), align=8)
                    builder.store(builder.add(at, constant(1)), cursor)
                end = builder.load(cursor)
                builder.store(builder.trunc(count, I32), builder.gep(cells, [end]))
                builder.store(ir.Constant(I8, LONG), builder.gep(workspace.pointer(COUNTS, I8), [statement]))
                workspace.store(PAIRS, builder.add(end, constant(1)))
                workspace.store(STATEMENTS, builder.add(statement, constant(1)))
                builder.store(builder.or_(workspace.tag(), statement), result)
        return builder.load(result)


class Where(Emitter):
    """Choice by a condition, element by element: no statement, the number chosen is handed on."""

    def __repr__(self):
        return "where"

    def signature(self, typingctx, args):
        """See `Emitter`."""
        if len(args) != 3:
            return typingctx.resolve_function_type(np.where, args, {})
        elements = [types.unliteral(k.dtype if isinstance(k, types.Array) else k) for k in args]
        if not all(is_number(k) or isinstance(k, Differential) for k in elements):
            return None
        if not any(isinstance(k, Differential) for k in elements[1:]):
            return typingctx.resolve_function_type(np.where, args, {})
        made = join(elements[1], elements[2])
        arrays = [k.ndim for k in args if isinstance(k, types.Array)]
        return signature(types.Array(made, max(arrays), "C") if arrays else made, *args)

    def emit(self, context, builder, signature, args):
        """See `Emitter`."""
        out = signature.return_type
        element = out.dtype if isinstance(out, types.Array) else out
        if not isinstance(element, Differential):
            function = context.typing_context.resolve_value_type(np.where)
            return context.get_function(function, signature)(builder, args)
        kinds = [k.dtype if isinstance(k, types.Array) else k for k in signature.args]

        def chosen(values):
            condition = context.is_true(builder, types.unliteral(kinds[0]), values[0])
            x, y = (context.cast(builder, v, k, element) for v, k in zip(values[1:], kinds[1:], strict=True))
            return builder.select(condition, x, y)

        if not isinstance(out, types.Array):
            return chosen(args)
        views = {k: _View(context, builder, kind, value) for k, (kind, value) in
                 enumerate(zip(signature.args, args, strict=True)) if isinstance(kind, types.Array)}
        shape = _broadcast(context, builder, list(views.values()))
        array = arrayobj._empty_nd_impl(context, builder, out, shape)
        target = _View(context, builder, out, array._getvalue())
        with cgutils.loop_nest(builder, shape, intp=constant(0).type) as indices:
            target.store(indices, chosen([views[k].load(indices) if k in views else v for k, v in enumerate(args)]))
        return array._getvalue()


class Filled(Emitter):
    """A new array of numbers that are listed, as `np.array` makes of nested lists.

    Parameters
    ----------
    shape : tuple of int
        Of the array; a call has its elements as arguments, in C order.
    kind : Differential
        Type of its numbers, whatever type inference knows of the elements so far.
    """

    def __init__(self, shape, kind):
        self.shape, self.kind = shape, kind

    def __repr__(self):
        return f"array of {self.shape}"

    def signature(self, typingctx, args):
        """See `Emitter`."""
        dtype = typingctx.unify_types(*(types.unliteral(kind) for kind in args))
        if not isinstance(dtype, Differential) and not is_number(dtype):
            return None
        if not isinstance(dtype, Differential):
            dtype = with_bottom(self.kind, dtype if isinstance(dtype, types.Float) else types.float64)
        return signature(types.Array(dtype, len(self.shape), "C"), *args)

    def emit(self, context, builder, signature, args):
        """See `Emitter`."""
        kind = signature.return_type
        array = arrayobj._empty_nd_impl(context, builder, kind, [constant(n) for n in self.shape])
        for k, (given, value) in enumerate(zip(signature.args, args, strict=True)):
            stored = context.get_value_as_data(builder, kind.dtype, context.cast(builder, value, given, kind.dtype))
            builder.store(stored, builder.gep(array.data, [constant(k)]))
        return array._getvalue()


class Lifted(Emitter):
    """A plain number, or a copy of an array of them, as what carries derivatives; anything else as it is.

    Parameters
    ----------
    kind : Differential
        Type of the numbers.
    arrays : bool
        Whether arrays are copied so, or left as they are.
    """

    def __init__(self, kind, arrays=True):
        self.kind, self.arrays = kind, arrays

    def __repr__(self):
        return f"lifted to {self.kind}"

    def signature(self, typingctx, args):
        """See `Emitter`."""
        (given,) = args
        plain = types.unliteral(given)
        if isinstance(plain, types.Float):
            return signature(with_bottom(self.kind, plain), given)
        if self.arrays and isinstance(plain, types.Array) and isinstance(plain.dtype, types.Float):
            return signature(types.Array(with_bottom(self.kind, plain.dtype), plain.ndim, "C"), given)
        return signature(given, given)

    def emit(self, context, builder, signature, args):
        """See `Emitter`."""
        given, made = signature.args[0], signature.return_type
        if made == given:
            context.nrt.incref(builder, given, args[0])
            return args[0]
        if not isinstance(made, types.Array):
            return context.cast(builder, args[0], given, made)

        def element(kind, value, wanted, *_):
            return context.cast(builder, value, kind, wanted)

        return Walk(context, builder).make(given, args[0], made, element, in_heap(context, builder))


class AsType(Emitter):
    """`a.astype(dtype)`: numbers that carry derivatives keep them where the dtype is a float."""

    def __repr__(self):
        return "astype"

    def signature(self, typingctx, args):
        """See `Emitter`."""
        array, dtype = args[0], parse_dtype(args[1])
        if not isinstance(array, types.Array) or dtype is None:
            return None
        made = with_bottom(array.dtype, dtype) if isinstance(dtype, types.Float) and isinstance(
            array.dtype, Differential) else dtype
        return signature(types.Array(made, array.ndim, "C"), *args)

    def emit(self, context, builder, signature, args):
        """See `Emitter`."""
        emission = Emission(context, builder)

        def element(kind, value, made, *_):
            if isinstance(kind, Differential) and not isinstance(made, Differential):
                number = emission.number(kind, value)
                while isinstance(kind, Differential):
                    number, kind = number.primal, kind.base
                value = emission.value(kind, number)
            return context.cast(builder, value, kind, made)

        return Walk(context, builder).make(signature.args[0], args[0], signature.return_type, element,
                                           in_heap(context, builder))


class Start(Emitter):
    """The number that a reduction of an array starts with, of the type of its elements."""

    def __init__(self, value):
        self.value = value

    def __repr__(self):
        return f"start {self.value}"

    def signature(self, typingctx, args):
        """See `Emitter`."""
        (kind,) = args
        if not isinstance(kind, types.Array):
            return None
        return signature(kind.dtype if isinstance(kind.dtype, (types.Float, Differential)) else types.int64, kind)

    def emit(self, context, builder, signature, args):
        """See `Emitter`."""
        kind = signature.return_type
        if isinstance(kind, types.Integer):
            return context.get_constant(kind, int(self.value))
        return Emission(context, builder).value(kind, self.value)


class Rounded(Emitter):
    """A number in the precision that Numba's own `function` has for an array: called with the array and the number."""

    def __init__(self, function):
        self.function = function

    def __repr__(self):
        return f"rounded as {self.function.__name__}"

    def signature(self, typingctx, args):
        """See `Emitter`."""
        array, number = args
        if not isinstance(array, types.Array):
            return None
        dtype = bottom(array.dtype) if isinstance(array.dtype, Differential) else array.dtype
        plain = typingctx.resolve_function_type(self.function, (array.copy(dtype=dtype),), {})
        return signature(with_bottom(number, bottom(plain.return_type)), *args)

    def emit(self, context, builder, signature, args):
        """See `Emitter`."""
        return context.cast(builder, args[1], signature.args[1], signature.return_type)


class AsElement(Emitter):
    """A number in the precision of an array's elements, anything but a number as it is: called with the array and it."""

    def __repr__(self):
        return "as element"

    def signature(self, typingctx, args):
        """See `Emitter`."""
        array, given = args[0], types.unliteral(args[1])
        floats = isinstance(array, types.Array) and isinstance(array.dtype, (types.Float, Differential))
        if floats and (is_number(given) or isinstance(given, Differential)):
            kind = given if isinstance(given, Differential) else types.float64
            return signature(with_bottom(kind, bottom(array.dtype)), *args)
        return signature(given, *args)

    def emit(self, context, builder, signature, args):
        """See `Emitter`."""
        made = context.cast(builder, args[1], signature.args[1], signature.return_type)
        context.nrt.incref(builder, signature.return_type, made)
        return made


class Doubled(Emitter):
    """An array in double precision, as adjoints and tangents are; one that is so already is handed on."""

    def __repr__(self):
        return "doubled"

    def signature(self, typingctx, args):
        """See `Emitter`."""
        (kind,) = args
        if bottom(kind.dtype) == types.float64:
            return signature(kind, kind)
        return signature(types.Array(with_bottom(kind.dtype, types.float64), kind.ndim, "C"), kind)

    def emit(self, context, builder, signature, args):
        """See `Emitter`."""
        kind, made = signature.args[0], signature.return_type
        if kind == made:
            context.nrt.incref(builder, kind, args[0])
            return args[0]

        def element(kind, value, wanted, *_):
            return context.cast(builder, value, kind, wanted)

        return Walk(context, builder).make(kind, args[0], made, element, in_heap(context, builder))


_as_element, _doubled = AsElement(), Doubled()
_total = Sum()
_wide_total = Sum(wide=True)
_zero, _one = Start(0.0), Start(1.0)
_as_mean = Rounded(np.mean)
_choice = Where()


# -------------------------------------------------------------------------------------------------- reductions


@njit
def sum_(a, axis=None):
    if axis is None:
        return _total(a)
    out = _first(a, axis).copy()
    for i in range(1, a.shape[axis]):
        out += _slice(a, axis, i)
    return out


@njit
def _first(a, axis):
    return _slice(a, axis, 0)


@njit
def _slice(a, axis, i):
    return _moved(a, axis)[i]


@njit
def _moved(a, axis):
    """The array with `axis` first."""
    if a.ndim == 1:
        return a
    if a.ndim == 2:
        return a.T if axis == 1 or axis == -1 else a.T.T
    if axis == 0 or axis == -a.ndim:
        return a.transpose((0, 1, 2))
    if axis == 1 or axis == -2:
        return a.transpose((1, 0, 2))
    return a.transpose((2, 0, 1))


@njit
def mean(a, axis=None):
    if axis is None:
        return _as_mean(a, _total(a) / a.size)
    return sum_(a, axis) / a.shape[axis]


@njit
def var(a):
    middle = mean(a)
    total = _wide_total((a - middle) * (a - middle))
    return total / a.size


@njit
def std(a):
    spread = var(a)
    # Of equal elements the subgradient 0.
    return spread * 0.0 if spread == 0.0 else spread ** 0.5


@njit
def prod(a):
    total = _one(a)
    for x in a.flat:
        total = total * x
    return total


@njit
def _shared(a, best, ties):
    """`best` itself, to the last bit; its adjoint goes in equal parts to the elements that are equal to it."""
    apart = best - best
    for x in a.flat:
        if x == best:
            apart = apart + (best - x)
    return best - apart / ties


@njit
def amax(a):
    if a.size == 0:
        raise ValueError("zero-size array to reduction operation not possible")
    best, ties = a.flat[0], 0
    for x in a.flat:
        if np.isnan(x):
            return x
        if x > best:
            best, ties = x, 1
        elif x == best:
            ties += 1
    return _shared(a, best, ties) if ties > 1 and np.isfinite(best) else best


@njit
def amin(a):
    if a.size == 0:
        raise ValueError("zero-size array to reduction operation not possible")
    best, ties = a.flat[0], 0
    for x in a.flat:
        if np.isnan(x):
            return x
        if x < best:
            best, ties = x, 1
        elif x == best:
            ties += 1
    return _shared(a, best, ties) if ties > 1 and np.isfinite(best) else best


@njit
def cumsum(a):
    out = np.empty_like(a).ravel()
    total = _zero(a)
    for k, x in enumerate(a.flat):
        total = total + x
        out[k] = total
    return out


@njit
def cumprod(a):
    out = np.empty_like(a).ravel()
    total = _one(a)
    for k, x in enumerate(a.flat):
        total = total * x
        out[k] = total
    return out


@njit
def clip(a, low, high):
    low, high = _as_element(a, low), _as_element(a, high)
    # By choices, as at a bound the number takes the whole adjoint; the values are those of min(max(a, low), high).
    if low is None:
        return _choice(a > high, high, a)
    if high is None:
        return _choice(a < low, low, a)
    raised = _choice(a < low, low, a)
    return _choice(raised > high, high, raised)


@njit
def median(a):
    """The element in the middle, or half of the sum of the two there.

    Of NaN Numba gives a value that depends on the order of the elements: there is none to agree with, so it is refused.
    """
    if a.size == 0:
        return _zero(a) + np.nan
    for x in a.flat:
        if np.isnan(x):
            raise ValueError("numpy.median of NaN in jitted code has no defined value")
    flat, half = a.ravel(), a.size // 2
    order = np.argsort(flat, kind="mergesort")
    if flat.size % 2:
        return flat[order[half]]
    return (flat[order[half - 1]] + flat[order[half]]) / 2


@njit
def _between(x, xp, fp):
    """Linear interpolation at one point, constant outside.

    At a knot the slope is that of the piece to its right, at the last knot that of the piece to its left.
    """
    low, high = 0, xp.shape[0] - 1
    if high == 0 or x < xp[low]:
        return fp[low]
    if x > xp[high]:
        return fp[high]
    if x == xp[high]:
        last = (fp[high] - fp[high - 1]) / (xp[high] - xp[high - 1])
        return last * (x - xp[high]) + fp[high]
    while high - low > 1:
        middle = (low + high) // 2
        if xp[middle] <= x:
            low = middle
        else:
            high = middle
    slope = (fp[low + 1] - fp[low]) / (xp[low + 1] - xp[low])
    return slope * (x - xp[low]) + fp[low]


class Interpolation(Emitter):
    """`np.interp` of one number or of an array of them."""

    def __repr__(self):
        return "interp"

    def _function(self, args):
        return _between if not isinstance(args[0], types.Array) else _each_between

    def signature(self, typingctx, args):
        """See `Emitter`."""
        return types.Dispatcher(twin(self._function(args))).get_call_type(typingctx, args, {})

    def emit(self, context, builder, signature, args):
        """See `Emitter`."""
        function = types.Dispatcher(twin(self._function(signature.args)))
        return context.get_function(function, signature)(builder, args)


@njit
def _each_between(x, xp, fp):
    out = x * fp[0]
    for i in range(x.shape[0]):
        out[i] = _between(x[i], xp, fp)
    return out


# -------------------------------------------------------------------------------------------------- products


def _make_matmul(function):
    """An operation for `np.dot` or `@` with its rules, for vectors and matrices."""

    @njit
    def value(a, b):
        return function(a, b)

    @njit
    def to_first(g, out, a, b):
        if a.ndim == 1 and b.ndim == 1:
            return g * _doubled(b)
        if a.ndim == 2 and b.ndim == 1:
            return np.outer(g, _doubled(b))
        if a.ndim == 1:
            return _matmul(_doubled(b), g)
        return _matmul(g, _doubled(np.ascontiguousarray(b.T)))

    @njit
    def to_second(g, out, a, b):
        if a.ndim == 1 and b.ndim == 1:
            return g * _doubled(a)
        if a.ndim == 2 and b.ndim == 1:
            return _matmul(_doubled(np.ascontiguousarray(a.T)), g)
        if a.ndim == 1:
            return np.outer(_doubled(a), g)
        return _matmul(_doubled(np.ascontiguousarray(a.T)), g)

    @njit
    def tangent(t, out, a, b):
        return _matmul(t[0], _doubled(b)) + _matmul(_doubled(a), t[1])

    return Operation(value, (to_first, to_second), tangent, _matmul_body, name="matmul")


@njit
def _matmul(a, b):
    return a @ b


@njit
def _vector(a, b):
    total = a[0] * b[0]
    for i in range(1, a.shape[0]):
        total = total + a[i] * b[i]
    return total


@njit
def _matmul_body(a, b):
    if a.ndim == 1 and b.ndim == 1:
        return _vector(a, b)
    if a.ndim == 2 and b.ndim == 1:
        out = np.empty(a.shape[0])
        for i in range(a.shape[0]):
            out[i] = _vector(a[i], b)
        return out
    if a.ndim == 1:
        out = np.empty(b.shape[1])
        for j in range(b.shape[1]):
            out[j] = _vector(a, b[:, j])
        return out
    out = np.empty((a.shape[0], b.shape[1]))
    for i in range(a.shape[0]):
        for j in range(b.shape[1]):
            out[i, j] = _vector(a[i], b[:, j])
    return out


matmul = _make_matmul(njit(lambda a, b: a @ b))
dot = _make_matmul(njit(lambda a, b: np.dot(a, b)))


@njit
def outer(a, b):
    x, y = a.ravel(), b.ravel()
    return x.reshape((x.size, 1)) * y


@njit
def cross(a, b):
    out = a * _zero(b)  # of the precision of both
    if a.ndim == 1:
        out[0] = a[1] * b[2] - a[2] * b[1]
        out[1] = a[2] * b[0] - a[0] * b[2]
        out[2] = a[0] * b[1] - a[1] * b[0]
        return out
    for i in range(a.shape[0]):
        out[i, 0] = a[i, 1] * b[i, 2] - a[i, 2] * b[i, 1]
        out[i, 1] = a[i, 2] * b[i, 0] - a[i, 0] * b[i, 2]
        out[i, 2] = a[i, 0] * b[i, 1] - a[i, 1] * b[i, 0]
    return out


@njit
def trace(a):
    total = 0.0
    for i in range(min(a.shape)):
        total = total + a[i, i]
    return total


# -------------------------------------------------------------------------------------------------- linear algebra


@njit
def _norm(x):
    return np.linalg.norm(x)


@njit
def _norm_rule(g, out, x):
    # At the origin the subgradient 0.
    return np.zeros_like(x) + g * 0.0 if out == 0.0 else x * (g / out)


@njit
def _norm_tangent(t, out, x):
    return 0.0 * out if out == 0.0 else _total(t[0] * x) / out


@njit
def _norm_body(x):
    total = 0.0
    for v in x.flat:
        total = total + v * v
    return total ** 0.5


norm = Operation(_norm, _norm_rule, _norm_tangent, _norm_body, name="norm")


@njit
def _solve(a, b):
    return np.linalg.solve(a, b)


@njit
def _solve_rule(g, out, a, b):
    back = np.linalg.solve(np.ascontiguousarray(a.T), g)
    if b.ndim == 1:
        return -np.outer(back, out), back
    return -(back @ np.ascontiguousarray(out.T)), back


@njit
def _solve_tangent(t, out, a, b):
    return np.linalg.solve(a, t[1] - t[0] @ out)


@njit
def _solve_body(a, b):
    """Gaussian elimination with row pivoting."""
    n = a.shape[0]
    m = a + 0.0
    x = b + 0.0 * a[0, 0]  # of the kind of both
    for k in range(n):
        p = k
        for i in range(k + 1, n):
            if abs(m[i, k]) > abs(m[p, k]):
                p = i
        for j in range(n):
            m[k, j], m[p, j] = m[p, j], m[k, j]
        if b.ndim == 1:
            x[k], x[p] = x[p], x[k]
        else:
            for j in range(b.shape[1]):
                x[k, j], x[p, j] = x[p, j], x[k, j]
        for i in range(k + 1, n):
            factor = m[i, k] / m[k, k]
            for j in range(k, n):
                m[i, j] -= factor * m[k, j]
            x[i] -= factor * x[k]
    for k in range(n - 1, -1, -1):
        for j in range(k + 1, n):
            x[k] -= m[k, j] * x[j]
        x[k] /= m[k, k]
    return x


solve = Operation(_solve, _solve_rule, _solve_tangent, _solve_body, name="solve")


@njit
def _inv(a):
    return np.linalg.inv(a)


@njit
def _inv_rule(g, out, a):
    back = np.ascontiguousarray(out.T)
    return -(back @ g @ back)


@njit
def _inv_tangent(t, out, a):
    return -(out @ t[0] @ out)


inv = Operation(_inv, _inv_rule, _inv_tangent, name="inv")


@njit
def _det(a):
    return np.linalg.det(a)


@njit
def _det_rule(g, out, a):
    return np.ascontiguousarray(np.linalg.inv(a).T) * (g * out)


@njit
def _det_tangent(t, out, a):
    return _total(np.ascontiguousarray(np.linalg.inv(a).T) * t[0]) * out


det = Operation(_det, _det_rule, _det_tangent, name="det")


REPLACEMENTS.update({
    np.sum: sum_, np.mean: mean, np.prod: prod, np.max: amax, np.min: amin, np.amax: amax, np.amin: amin, np.var: var,
    np.std: std, np.cumsum: cumsum, np.cumprod: cumprod, np.dot: dot, operator.matmul: matmul, operator.imatmul: matmul,
    np.outer: outer, np.cross: cross, np.trace: trace, np.where: _choice, np.clip: clip,
    np.median: median,
    np.interp: Interpolation(), np.linalg.norm: norm, np.linalg.solve: solve, np.linalg.inv: inv, np.linalg.det: det,
})
METHODS.update({"astype": AsType(), "sum": sum_, "mean": mean, "prod": prod, "max": amax, "min": amin, "var": var,
                "std": std, "cumsum": cumsum,
                "cumprod": cumprod, "dot": dot})
register("array", Filled)
register("lift", Lifted)
