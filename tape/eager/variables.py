"""Eager use, as in the PyTorch tutorial: variables that remember how they were computed, and `backward`.

What is here: the variable and `no_grad`. What is not: how gradients are computed (`replay.py`).
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import operator
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np

import tape.rules  # noqa: F401  it is asked below which functions have rules
from tape.eager.replay import EagerOperation, EagerResult, Given, gradients_of
from tape.eager.shared_memory import SharedMemory
from tape.errors import NotDifferentiable
from tape.recording.argument_memory import same_cells
from tape.recording.arguments import as_floats, check_differentiable, check_held, describe
from tape.recording.arrays import PRODUCTS, RecordedArray
from tape.recording.containers import LEAF_TYPES, leaves_of, with_leaves
from tape.recording.dispatch import TAKEN_OVER, has_rule, no_rule
from tape.recording.foreign import is_sparse
from tape.recording.lines import asked_by_sparse, user_line
from tape.recording.methods import add_methods
from tape.recording.recorder import refuse_subclass
from tape.rules.sparse_matrices import checked_shapes, elements_of, product_of_elements

_remembers: contextvars.ContextVar[bool] = contextvars.ContextVar("remembers", default=True)


@contextlib.contextmanager
def no_grad() -> Iterator[None]:
    """Compute with eager variables without remembering how, inside the `with` block (of this thread).

    Examples
    --------
    >>> import tape
    >>> w = tape.variable(2.0, requires_grad=True)
    >>> with tape.no_grad():
    ...     y = w * w
    ...     w -= 0.5
    >>> y.requires_grad, w.item()
    (False, 1.5)
    """
    token = _remembers.set(False)
    try:
        yield
    finally:
        _remembers.reset(token)


def variable(value: Any, requires_grad: bool = False) -> EagerVariable:
    """Make an eager variable: an array whose computations are remembered, so that `backward` gives gradients.

    Parameters
    ----------
    value : array_like
        Its value, which is copied.
    requires_grad : bool
        Whether `backward` leaves a gradient in it; integers become floats then.

    Returns
    -------
    EagerVariable
        Behaves as a NumPy array; NumPy's functions and operators of it give further variables.

    Raises
    ------
    NotDifferentiable
        For values that are no numbers, and with `requires_grad` for booleans.

    Examples
    --------
    >>> import tape
    >>> w = tape.variable(1.0, requires_grad=True)
    >>> for x, y in [(1.0, 2.0), (2.0, 4.0), (3.0, 6.0)] * 20:
    ...     loss = (x * w - y) ** 2
    ...     loss.backward()
    ...     w.data -= 0.05 * w.grad
    ...     w.zero_grad()
    >>> round(w.item(), 6)
    2.0
    """
    if isinstance(value, EagerVariable):
        value = value.data
    refuse_subclass(value)
    array = np.array(value)
    if requires_grad:
        array = np.asarray(as_floats(array))
    check_held(array, "the value of a tape.variable")
    if requires_grad:
        check_differentiable(array, describe(array), "tape.variable with requires_grad")
    return EagerVariable(array, requires_grad)


def _variable_again(data, requires_grad, grad) -> EagerVariable:
    """A variable that the user made, with an array of its own, and its gradient so far."""
    made = EagerVariable(data, requires_grad)
    made.grad = None if grad is None else np.array(grad)
    return made


class EagerVariable(np.lib.mixins.NDArrayOperatorsMixin):
    """An array that remembers how it was computed; made by `tape.variable` and by NumPy's functions of such variables.

    Values are computed by NumPy at once. Results that are not floats (comparisons, positions) are plain arrays.

    Attributes
    ----------
    data : ndarray
        The value. What is done with it is not remembered: ``w.data -= 0.01 * w.grad`` is a step of a descent.
    grad : ndarray or None
        Sum of the gradients of all calls of `backward` since `zero_grad`, for variables that the user made.
    requires_grad : bool
        Whether gradients flow to it.

    Examples
    --------
    >>> import numpy as np, tape
    >>> w = tape.variable(np.array([1.0, 2.0]), requires_grad=True)
    >>> loss = np.sum(w**2)
    >>> type(loss) is type(w) is tape.EagerVariable
    True
    >>> loss.backward()
    >>> w.data -= 0.5 * w.grad
    >>> w.data
    array([0., 0.])
    """

    __slots__ = ("__weakref__", "_data", "_given", "_sharing", "_source", "grad", "requires_grad")
    __hash__ = object.__hash__
    grad: Any
    requires_grad: bool

    def __init__(self, data: np.ndarray, requires_grad: bool = False, source: EagerResult | None = None):
        self._data, self.requires_grad, self._source = data, requires_grad, source
        self.grad, self._given = None, None
        self._sharing = None  # of a view a `SharedMemory`, of the array that it is a view of a weak reference to that

    @property
    def data(self) -> np.ndarray[Any, Any]:
        """The value, as the array itself."""
        return self._data

    @data.setter
    def data(self, value: Any) -> None:
        value = np.asarray(value.data if isinstance(value, EagerVariable) else value)
        if value.shape != self.shape:
            raise ValueError(f"data of an eager variable: expected shape {self.shape}, got {value.shape}")
        if self._shared() is None:
            self._data = value.astype(self.dtype, copy=False)
        else:
            self._written(value)

    # ------------------------------------------------------------------ gradients

    def backward(self, seed: Any = None) -> None:
        """Add the gradient of this variable to the `grad` of all variables it was computed from that require one.

        May be called again, of this variable or of others computed from the same ones; gradients add up until `zero_grad`.

        Parameters
        ----------
        seed : array or float, optional
            Adjoint of this variable, in its shape; one for a variable of one element.

        Raises
        ------
        NotDifferentiable
            When the variable does not depend on one that requires a gradient.
        ValueError
            Without a seed for a variable of several elements, and for a seed of another shape.

        Examples
        --------
        >>> import numpy as np, tape
        >>> x = tape.variable([1.0, 2.0], requires_grad=True)
        >>> np.sin(x).backward(np.array([1.0, 10.0]))
        >>> (x**2).sum().backward()
        >>> x.grad - np.cos(x.data) * [1.0, 10.0]
        array([2., 4.])
        """
        if not self.requires_grad:
            raise NotDifferentiable("backward of a variable that depends on none with requires_grad=True, or that was computed "
                                    "under tape.no_grad, or detached")
        seed = self._checked_seed(seed)
        pairs = [(self, seed)] if self._source is None else gradients_of(self._source, seed)
        for leaf, gradient in pairs:
            leaf.grad = np.array(gradient, leaf.dtype) if leaf.grad is None else np.asarray(leaf.grad + gradient)

    def _checked_seed(self, seed):
        if seed is None:
            if self.size != 1:
                raise ValueError(f"backward of a variable of shape {self.shape}: expected a seed of that shape, as in "
                                 "y.backward(seed), or a variable of one element, as in y.sum().backward()")
            return np.ones(self.shape)
        seed = np.asarray(seed.data if isinstance(seed, EagerVariable) else seed)
        if seed.shape != self.shape:
            raise ValueError(f"the seed: expected shape {self.shape}, got {seed.shape}")
        return seed

    def zero_grad(self) -> None:
        """Set the gradient to zero (None stays None)."""
        if self.grad is not None:
            self.grad = np.zeros_like(self.grad)

    def detach(self) -> EagerVariable:
        """The same data (not a copy) as a constant: no gradient flows through it."""
        return EagerVariable(self._data)

    def __reduce__(self):
        if self._source is not None:
            raise NotDifferentiable("an eager variable that remembers how it was computed cannot be pickled: pickle what it "
                                    "was computed from, or detach() it")
        return _variable_again, (np.array(self._data), self.requires_grad, self.grad)

    def __copy__(self):
        return np.copy(self) if self._source is not None else _variable_again(*self.__reduce__()[1])

    def __deepcopy__(self, memo):
        return memo.setdefault(id(self), self.__copy__())

    # ------------------------------------------------------------------ what it looks like

    shape = property(lambda self: self._data.shape, doc="As of an ndarray.")
    ndim = property(lambda self: self._data.ndim, doc="As of an ndarray.")
    size = property(lambda self: self._data.size, doc="As of an ndarray.")
    dtype = property(lambda self: self._data.dtype, doc="As of an ndarray.")
    T = property(lambda self: np.transpose(self), doc="As of an ndarray.")

    def item(self, *index: int) -> Any:
        """The element as a Python number."""
        return self._data.item(*index)

    def __repr__(self):
        return f"variable({self._data!r}{', requires_grad=True' if self.requires_grad else ''})"

    def __format__(self, form):
        return format(self.item() if self.size == 1 else self._data, form)

    def __len__(self):
        return len(self._data)

    def __iter__(self):
        if not self.shape:
            raise TypeError("iteration over a 0-d array")
        return (self[i] for i in range(self.shape[0]))

    def __bool__(self):
        return bool(self._data)

    def __float__(self):
        self._refuse("float()")
        return float(self._data)

    def __array__(self, dtype=None, copy=None):
        asking = asked_by_sparse()
        if asking in PRODUCTS:
            return PRODUCTS[asking]
        self._refuse("a plain array of it")
        return np.array(self._data, dtype) if copy else np.asarray(self._data, dtype)

    def _refuse(self, what):
        if self.requires_grad:
            raise NotDifferentiable(f"{what} would cut the gradient of an eager variable: use NumPy's functions in place of "
                                    "math's, or say item(), data or detach() where a constant is meant")

    def __matmul__(self, other):
        return _sparse_product(other.T, self.T).T if is_sparse(other) else np.matmul(self, other)

    def __rmatmul__(self, other):
        return _sparse_product(other, self) if is_sparse(other) else np.matmul(other, self)

    # ------------------------------------------------------------------ NumPy's protocols

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **kwargs):
        if method == "at" and isinstance(inputs[0], EagerVariable):
            inputs[0]._taking(computed(_writing(ufunc.at), inputs, kwargs))
            return None
        if method in ("at", "reduceat", "accumulate"):
            raise NotDifferentiable(f"numpy.{ufunc.__name__}.{method}: not supported on eager variables; nearest: numpy.cumsum")
        result = computed(ufunc if method == "__call__" else getattr(ufunc, method), inputs, kwargs)
        if out is None:
            return result
        if not isinstance(out[0], EagerVariable):
            raise NotDifferentiable(f"numpy.{ufunc.__name__} into a plain array, which cannot remember: leave out=, or write "
                                    "a = a + x for a += x")
        return out[0]._taking(result)

    def __array_function__(self, function, types, args, kwargs):
        if function in _WRITERS:
            if not args or not isinstance(args[0], EagerVariable):
                raise NotDifferentiable(f"numpy.{function.__name__}: expected an eager variable as first argument to write to; "
                                        "a plain array cannot remember")
            args[0]._taking(computed(_writing(function), args, kwargs))
            return None
        if kwargs.get("out") is not None:
            raise NotDifferentiable(f"numpy.{function.__name__} with out=: not supported on eager variables; leave it out")
        return computed(function, args, kwargs)

    def __getitem__(self, index):
        return computed(operator.getitem, (self, index), {})

    def __setitem__(self, index, value):
        if self._holds_already(index, value):
            return
        self._taking(computed(_with_item, (self, index, value), {}))

    def _holds_already(self, index, value) -> bool:
        """Whether a value is the view of these very elements, as in x[1:] += y, where the view has been written to before."""
        if value.__class__ is not EagerVariable or value._sharing is None or value._shared() is not self._shared():
            return False
        return _is_basic(index) and same_cells(self._data[index], value._data)

    def _taking(self, result):
        """Become `result`, in place; what was computed from this variable before does not change."""
        value = result.data if isinstance(result, EagerVariable) else np.asarray(result)
        if not np.can_cast(value.dtype, self.dtype, "same_kind") or value.shape != self.shape:
            raise TypeError(f"cannot put {value.dtype} of shape {value.shape} into a variable of {self.dtype} and shape "
                            f"{self.shape} in place; use x = x + y")
        if self._source is None and self.requires_grad and _remembers.get():
            raise NotDifferentiable("a variable with requires_grad=True, assigned to in place: its gradient would be lost; "
                                    "write w = w - x, or w.data -= x, or do it under tape.no_grad()")
        if not self._data.flags.writeable:
            raise ValueError("{}:{}: assignment destination is read-only: a view that NumPy gives for reading, as "
                             "np.broadcast_to does; copy it first".format(*user_line()))
        self._written(result)
        return self

    def _shared(self) -> SharedMemory | None:
        """Who shares memory with this variable; None where nobody does."""
        sharing = self._sharing
        return sharing() if sharing.__class__ is weakref.ref else sharing

    def _written(self, result):
        """Become `result`, and with this variable the others that share its memory."""
        shared = self._shared()
        remembered = getattr(result, "requires_grad", False)
        if shared is not None and (remembered or shared.root._source is not None):
            self._tell_others(shared, result)
        self._data[...] = result.data if isinstance(result, EagerVariable) else result
        if self._source is not None or remembered:
            self._comes_from(result)

    def _tell_others(self, shared, result):
        """Note how the array and its other views are computed from now on, of which this variable becomes `result`."""
        root, views = shared.root, shared.views()
        if root._source is None and root.requires_grad:
            raise NotDifferentiable("a view of a variable with requires_grad=True, assigned to in place: its gradient would be "
                                    "lost; write w = w - x, or w.data -= x, or do it under tape.no_grad()")
        if root is self:
            whole = result
        else:
            index, positions = next(place for view, *place in views if view is self)
            whole = computed(*((_with_positions, (root, positions, result)) if index is None else
                               (_with_item, (root, index, result))), {})
            root._comes_from(whole)
        for view, index, positions in views:
            if view is not self:
                view._comes_from(computed(*((_at_positions, (whole, positions)) if index is None else
                                            (operator.getitem, (whole, index))), {}))

    def _comes_from(self, result):
        """Hold how a result was computed; its values are in the memory already, or are about to be."""
        self._source, self.requires_grad = getattr(result, "_source", None), getattr(result, "requires_grad", False)

    def copy(self, order="C"):
        """As `numpy.ndarray.copy`, whose order is not that of `numpy.copy`."""
        return computed(_copied, (self,), {}) if order == "C" else np.copy(self, order)

    def sort(self, axis=-1, kind=None):
        """Sort in place, as `numpy.ndarray.sort`."""
        self._taking(np.sort(self, axis=axis, kind=kind))

    def _as_leaf(self):
        """How a node holds this variable: by what computed it, or with its value of now."""
        if self._source is not None:
            return self._source
        if self._given is None or not np.array_equal(self._given.value, self._data):
            self._given = Given(self._data, self if self.requires_grad else None)
        return self._given


def _sparse_product(matrix, x):
    """A product with a sparse matrix, of which the elements of now are remembered."""
    checked_shapes(matrix, x)
    elements, rows, columns, count = elements_of(matrix)
    total = computed(product_of_elements, (np.array(elements), np.array(rows), np.array(columns), count, x), {})
    return total if matrix.ndim == 2 else total[0]


def _copied(array):
    return np.copy(array, "C")


def _with_item(array, index, value):
    """A copy of an array, with some elements replaced."""
    result = np.copy(array)
    result[index] = value
    return result


@functools.cache
def _writing(function):
    """A function that writes into its first argument, as one that returns what this becomes."""

    def written(array, *args, **kwargs):
        result = np.copy(array)
        function(result, *args, **kwargs)
        return result

    return written


def _with_positions(array, positions, value):
    """A copy of an array, with the elements at some positions (in C order) replaced."""
    result = np.ravel(np.copy(array))
    result[positions] = value
    return np.reshape(result, np.shape(array))


def _at_positions(array, positions):
    """The elements of an array at some positions, counted in C order."""
    return np.ravel(array)[positions]


def computed(function, args, kwargs):
    """Call a function on the values of eager variables, and remember the call; floats of its result are variables."""
    if not kwargs and _LEAVES.issuperset(map(type, args)):  # the commonest call has no containers to look into
        leaves, structure = args, _flat(len(args))
        values = [leaf._data if leaf.__class__ is EagerVariable else leaf for leaf in leaves]
        result = function(*values)
    else:
        leaves, structure = leaves_of((args, kwargs))
        if any(isinstance(leaf, RecordedArray) for leaf in leaves):
            raise NotDifferentiable("an eager variable in a function that is being recorded: pass it as an argument, by its "
                                    "data")
        args, kwargs = with_leaves(structure, [leaf._data if isinstance(leaf, EagerVariable) else leaf for leaf in leaves])
        result = function(*args, **kwargs)
    if result.__class__ in _ARRAYS:
        if result.dtype.kind != "f":
            return result
        return _variable(result, 0, _node(function, leaves, structure), function, args, leaves)
    results, result_structure = leaves_of(result)
    floats = [getattr(x, "dtype", None) is not None and x.dtype.kind == "f" for x in results]
    node = _node(function, leaves, structure) if any(floats) else None
    return with_leaves(result_structure, [_variable(x, k, node, function, args, leaves) if is_float else x
                                          for k, (x, is_float) in enumerate(zip(results, floats, strict=True))])


def _node(function, leaves, structure):
    """What remembers a call, or None where nothing that it takes is differentiated."""
    if not (_remembers.get() and any(leaf.__class__ is EagerVariable and leaf.requires_grad for leaf in leaves)):
        return None
    _check_rule(function)
    return EagerOperation(function, [_held(leaf) for leaf in leaves], structure)


def _variable(x, number, node, function, args, leaves):
    """A result of a call as a variable, which shares the memory of its argument where it is a view."""
    made = EagerVariable(np.asarray(x), node is not None, None if node is None else EagerResult(node, number))
    if getattr(x, "base", None) is not None:
        _note_sharing(made, leaves, args[1] if function is operator.getitem and _is_basic(args[1]) else None)
    return made


_WRITERS = {np.copyto, np.put, np.putmask, np.place, np.fill_diagonal, np.put_along_axis}
"""NumPy's functions that write into their first argument."""


def _is_basic(index) -> bool:
    """Whether an index is made of slices and whole numbers."""
    return all(one.__class__ in (slice, int) for one in (index if index.__class__ is tuple else (index,)))


def _note_sharing(result, leaves, index=None):
    """Note that a result is a view of one of the variables it was computed from, taken by `index` if it is not None."""
    for leaf in leaves:
        if leaf.__class__ is EagerVariable and leaf.size and np.may_share_memory(leaf._data, result._data):
            shared = leaf._shared()
            if shared is None:
                shared = SharedMemory(leaf)
                leaf._sharing = weakref.ref(shared)
            result._sharing = shared
            shared.join(result, index if shared.root is leaf else None)
            return


_ARRAYS = {np.ndarray, np.float64, np.float32}
_LEAVES = {EagerVariable, np.ndarray, np.float64, np.float32, float, int, bool, slice}
"""The commonest types of arguments and results that are no containers."""



@functools.cache
def _flat(count):
    """The structure of the arguments of a call with so many leaves."""
    return leaves_of(((0,) * count, {}))[1]


def _held(leaf):
    """What a node keeps of an argument."""
    if isinstance(leaf, EagerVariable):
        return leaf._as_leaf()
    if isinstance(leaf, np.ndarray) or (isinstance(leaf, np.generic) and leaf.dtype.kind == "f"):
        check_held(leaf, "an operand of an eager variable")
        return Given(leaf)
    return leaf


def _check_rule(function) -> None:
    """Raise NotDifferentiable, where the function is called, for one that has no rule."""
    is_numpy = isinstance(function, np.ufunc) or (getattr(function, "__module__", "") or "").startswith("numpy")
    if is_numpy and not has_rule(function):
        raise no_rule(f"numpy.{function.__name__}")


EagerVariable.mT = property(lambda self: np.matrix_transpose(self), doc="As of an ndarray.")

LEAF_TYPES.add(EagerVariable)

add_methods(EagerVariable, ("sum", "mean", "prod", "max", "min", "var", "std", "ravel", "swapaxes", "squeeze", "dot", "take",
                            "clip", "all", "any", "argmax", "argmin", "diagonal", "trace", "repeat", "cumsum", "cumprod"))

TAKEN_OVER[EagerVariable] = computed
