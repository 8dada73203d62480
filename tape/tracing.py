"""Recording: arrays that write a list while ordinary NumPy code runs on them.

What is here: the `Recorder`, which turns an operation into instructions, and the `RecordedArray`, which stands for some
cells of the list. Values are computed when somebody needs them (a guard, a comparison of Python's, the end).
What is not: which NumPy function is which list (`numpy_rules.py`, `contractions.py`), indexing (`indexing.py`).
"""

from __future__ import annotations

import contextlib
import contextvars
import math
from collections.abc import Iterator

import numpy as np

from compiled.engine import ENGINE
from compiled.instructions import TABLE, Number
from compiled.layout import ACCUMULATES, FLAGS, GUARD_FAILED, INDEX_ERROR, OUTPUT, STATUS_BITS
from compiled.memory import ListMemory, View, contiguous, elementwise_block
from compiled.program import Program, live_flags
from tape.errors import NotDifferentiable
from tape.lines import user_line

_recorder: contextvars.ContextVar[Recorder | None] = contextvars.ContextVar("recorder", default=None)
_limit: contextvars.ContextVar[int | None] = contextvars.ContextVar("limit", default=None)


def current_recorder() -> Recorder | None:
    """Return the recorder at work in this thread, if any."""
    return _recorder.get()


@contextlib.contextmanager
def memory_limit(nbytes: int | None) -> Iterator[None]:
    """Limit the memory of each list recorded inside the `with` block.

    Parameters
    ----------
    nbytes : int or None
        Bytes that a list's instructions and values may take together; None for no limit.

    Raises
    ------
    tape.CapacityError
        Inside the block, when a recording needs more. The message says how much.

    Examples
    --------
    >>> import numpy as np, tape
    >>> with tape.memory_limit(10_000):
    ...     tape.grad(lambda x: np.sum(x * x))(np.ones(100_000))
    Traceback (most recent call last):
        ...
    tape.CapacityError: the list needs ... bytes, but tape.memory_limit allows 10000; raise the limit, or record a smaller part of the computation
    """
    token = _limit.set(nbytes)
    try:
        yield
    finally:
        _limit.reset(token)


class Promote(Exception):
    """A float64 operand met a float32 list: the recording starts again in float64, as NumPy would compute."""


class Recorder:
    """Writes one list.

    Parameters
    ----------
    dtype : numpy.dtype
        float64 or float32, of the list.
    """

    def __init__(self, dtype):
        self.memory = ListMemory(np.dtype(dtype), _limit.get())
        self.active: list[bool] = []
        self.inputs: list[View] = []
        self.constants: list[int] = []
        self.outcomes: list[bytes] = []
        self.guards: list[int] = []
        self.lines: dict[tuple[str, int], int] = {}
        self._executed = 0
        self._scalars: dict[tuple[float, float], View] = {}
        self._arrays: dict[int, tuple[np.ndarray, View]] = {}
        self._slot_numbers: dict[int, int] = {}

    @property
    def dtype(self) -> np.dtype:
        """Of the list's cells."""
        return self.memory.dtype

    @contextlib.contextmanager
    def recording(self):
        """Make this the recorder at work in this thread."""
        token = _recorder.set(self)
        try:
            yield self
        finally:
            _recorder.reset(token)

    # ------------------------------------------------------------------ slots

    def new_slot(self, shape, active=False) -> View:
        """Allocate a slot and return the view of all of it."""
        view = self.memory.allocate(shape)
        self._slot_numbers[view.cell] = len(self.active)
        self.active.append(active)
        return view

    def slot_number(self, cell: int) -> int:
        """Number of the slot that holds `cell`."""
        number = self._slot_numbers.get(cell)
        if number is None:
            low, high = 0, len(self.memory.slots)
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if self.memory.slots[middle][0] <= cell else (low, middle)
            number = self._slot_numbers[cell] = low
        return number

    def is_active(self, view: View) -> bool:
        """Whether the cells depend on an input that is differentiated."""
        return self.active[self.slot_number(view.cell)]

    def input(self, array: np.ndarray, active: bool) -> RecordedArray:
        """Allocate an input slot that holds `array` now."""
        view = self.new_slot(array.shape, active)
        self._fill(view, array)
        self.inputs.append(view)
        return RecordedArray(self, view, array.dtype)

    def constant(self, value) -> View:
        """Return the view of a constant; equal constants share cells."""
        if isinstance(value, (float, int)) or np.ndim(value) == 0:
            number = float(value)
            key = number, math.copysign(1.0, number)  # 0.0 and -0.0 are different constants
            view = self._scalars.get(key)
            if view is None:
                view = self._scalars[key] = self._new_constant(np.asarray(value))
            return view
        known = self._arrays.get(id(value))
        if known is not None and np.array_equal(known[1].of(self.memory.values), value):
            return known[1]
        view = self._new_constant(value)
        self._arrays[id(value)] = value, view
        return view

    def _new_constant(self, array) -> View:
        self.constants.append(len(self.active))
        view = self.new_slot(array.shape)
        self._fill(view, array)
        return view

    def _fill(self, view: View, array: np.ndarray):
        check_integers(array, self.dtype)
        with np.errstate(over="ignore"):
            view.of(self.memory.values)[...] = array

    # ------------------------------------------------------------------ instructions

    def elementwise(self, name: str, operands: list[View], shape, out: View) -> None:
        """Write one elementwise instruction over the iteration space `shape`; views are broadcast to it."""
        row = TABLE[name]
        block = None
        if math.prod(shape) != 1:
            strides = [broadcast_strides(view, shape) for view in operands]
            strides += [(0,) * len(shape)] * (3 - len(strides))
            block = elementwise_block(shape, [*strides, broadcast_strides(out, shape)])
        flags = 0
        for k, partial in enumerate(row.partials):
            if partial is not None and self.is_active(operands[k]):
                flags |= 1 << k
        if row.accumulates:
            flags |= ACCUMULATES
        self._append(name, self.memory.block(block), out, operands, flags)

    def structural(self, name: str, operands: list[View], out: View | None, words: tuple[int, ...], owned: int) -> None:
        """Write one structural instruction with the words of its own block."""
        row = TABLE[name]
        flags = sum(1 << k for k, d in enumerate(row.differentiable) if d and self.is_active(operands[k]))
        if name == "scatter_add":
            flags |= ACCUMULATES
        self._append(name, self.memory.block((-1, owned, *words)), out, operands, flags)

    def _append(self, name, space, out, operands, flags):
        cell = out.cell if out is not None else 0
        if flags & 7:
            self.active[self.slot_number(cell)] = True
        line = self.lines.setdefault(user_line(), len(self.lines))
        self.memory.append(TABLE.opcode[name], space, cell, tuple(view.cell for view in operands), flags, line)

    def copied(self, view: View) -> View:
        """Return a contiguous copy of the cells."""
        out = self.new_slot(view.shape)
        self.elementwise("copy", [view], view.shape, out)
        return out

    def zeros(self, shape) -> View:
        """Return a new slot that is zero at the start of each replay, for others to add to or to assign."""
        out = self.new_slot(shape)
        self.elementwise("zero", [], shape, out)
        return out

    def assign(self, target: View, source: View) -> None:
        """Overwrite `target` with `source` (of the same shape), keeping what it held for the reverse sweep."""
        if self.slot_number(source.cell) == self.slot_number(target.cell):
            source = self.copied(source)
        saved = self.copied(target)
        self.elementwise("assign", [source, saved], target.shape, target)

    def scatter_assign(self, target: View, source: View, positions: View, reach: tuple[int, int]) -> None:
        """Overwrite the cells `positions` after the first of `target` with `source`, keeping what they held.

        Source and positions are contiguous; each position lies in `reach`, low <= position < high.
        """
        saved = self.new_slot(source.shape, self.is_active(target))
        self.structural("scatter_assign", [source, positions, saved], View(target.cell, (), ()), (source.size, *reach), 0)

    def guard(self, view: View) -> np.ndarray:
        """Return the cells' values now, and record that a replay must find the same ones."""
        if view.strides != contiguous(view.shape):
            view = self.copied(view)
        values = self.value(view).copy()
        self.guards.append(self.memory.length)
        self.outcomes.append(values.tobytes())
        self.structural("guard", [view, self.constant(values)], None, (view.size,), 0)
        self._executed = self.memory.length
        return values

    # ------------------------------------------------------------------ values

    def value(self, view: View) -> np.ndarray:
        """Run what was recorded so far, and return the cells as an array that shares the buffer."""
        memory = self.memory
        if self._executed < memory.length:
            status = ENGINE.forward(memory.code, memory.geometry, memory.values, self._executed, memory.length)
            if status >= 0:
                raise_status(status, self.program([]))
            self._executed = memory.length
        return view.of(memory.values)

    def program(self, outputs: list[View]) -> Program:
        """Return the list as recorded so far, as a program; constants keep their cells, all else is zero."""
        memory = self.memory
        code = memory.code[: memory.length].copy()
        values = np.zeros(memory.cells, memory.dtype)
        for number in self.constants:
            cell, shape = memory.slots[number]
            size = math.prod(shape)
            values[cell : cell + size] = memory.values[cell : cell + size]
        lines = [f"{name}:{line}" for name, line in self.lines]
        program = Program(code, memory.geometry[: memory.words].copy(), values, list(memory.slots), list(self.inputs),
                          list(self.constants), outputs, lines)
        if len(code):
            code[:, FLAGS] = live_flags(code, program.slot_of(code[:, OUTPUT]))
        return program


def check_integers(array: np.ndarray, dtype) -> None:
    """Raise OverflowError unless the integers of `array` are exact in a list of `dtype`."""
    if array.dtype.kind in "iu" and array.size:
        exact = 2 ** (np.finfo(dtype).nmant + 1)
        largest = max(int(array.max()), -int(array.min()))
        if largest > exact:
            raise OverflowError(f"integers of a {dtype} list are exact up to {exact}, got {largest}; "
                                f"{'use float64 arguments' if dtype == np.float32 else 'reduce them first'}")


def raise_status(status: int, program: Program) -> None:
    """Raise what the status of a sweep that stopped says, naming the instruction and the user's line."""
    number, code = status >> STATUS_BITS, status & ((1 << STATUS_BITS) - 1)
    text = program.instruction_text(number)
    if code == INDEX_ERROR:
        raise IndexError(f"an index is out of bounds for its array, in instruction {number}: {text}")
    assert code == GUARD_FAILED
    raise AssertionError(f"a guard failed while recording: {text}")


def broadcast_strides(view: View, shape) -> tuple[int, ...]:
    """Strides of `view` broadcast to `shape`: 0 along the axes that it lacks or that have length 1."""
    if view.shape == shape:
        return view.strides
    extra = len(shape) - len(view.shape)
    return (0,) * extra + tuple(0 if n == 1 else s for n, s in zip(view.shape, view.strides, strict=True))


def broadcast_shape(shapes) -> tuple[int, ...]:
    """The shape that `shapes` broadcast to."""
    first, *others = shapes
    for other in others:
        if other != first and other != ():
            return np.broadcast_shapes(*shapes)
    return first if first != () or not others else max(shapes, key=len)


_result_dtypes: dict = {}


def result_dtype(name: str, operands) -> np.dtype:
    """dtype that NumPy gives for this instruction on these operands (Python scalars are weak)."""
    key = (name, *(x.dtype if isinstance(x, (RecordedArray, np.ndarray, np.generic)) else type(x) for x in operands))
    dtype = _result_dtypes.get(key)
    if dtype is None:
        kind = TABLE[name].kind
        if kind == "bool":
            dtype = np.dtype(bool)
        else:
            if name == "where":
                operands = operands[1:]
            weak = [x if isinstance(x, (bool, int, float)) and not isinstance(x, np.generic) else x.dtype for x in operands]
            dtype = np.result_type(*weak) if weak else np.dtype(float)
            if kind == "float" and dtype.kind in "iub":
                dtype = np.dtype(float)
        if dtype.kind not in "fiub" or dtype.kind == "f" and dtype.itemsize not in (4, 8):
            raise NotDifferentiable(f"{name}: expected float64, float32, integers or booleans, got {dtype}; convert with astype")
        _result_dtypes[key] = dtype
    return dtype


def record(name: str, operands, out: View | None = None) -> RecordedArray:
    """Record elementwise instruction `name` on arrays and numbers, of which at least one is recorded."""
    recorder = _recorder_of(operands)
    operands = [plain(x) for x in operands]
    dtype = result_dtype(name, operands)
    if dtype == np.float64 and recorder.dtype == np.float32:
        raise Promote
    views = [x.view if isinstance(x, RecordedArray) else recorder.constant(x) for x in operands]
    shape = broadcast_shape([view.shape for view in views])
    if out is None:
        out = recorder.new_slot(shape)
    recorder.elementwise(name, views, shape, out)
    return RecordedArray(recorder, out, dtype)


def _recorder_of(operands) -> Recorder:
    recorder = None
    for x in operands:
        if isinstance(x, RecordedArray):
            recorder = x.recorder
            if recorder is not _recorder.get():
                raise NotDifferentiable(
                    "a recorded array was used outside the recording that made it (it was kept in a variable of an outer "
                    "scope); return it from the function instead")
    return recorder


def plain(x):
    """An operand as RecordedArray, Python number or numeric ndarray; raises for anything else."""
    if isinstance(x, (RecordedArray, float, int, np.ndarray, np.generic)):
        if isinstance(x, (np.ndarray, np.generic)) and x.dtype.kind not in "fiub":
            if x.dtype == object and any(isinstance(item, RecordedArray) for item in np.ravel(x)):
                raise NotDifferentiable("an object array of recorded values: expected numbers; build it with np.stack or "
                                        "np.concatenate, or with np.array(..., like=x) where x is recorded")
            raise NotDifferentiable(f"an operand of dtype {x.dtype}: expected floats, integers or booleans")
        return x
    if isinstance(x, (list, tuple)):
        if any(isinstance(item, (RecordedArray, list, tuple)) for item in x):
            from tape.numpy_rules import stacked

            return stacked(x)
        return plain(np.asarray(x))
    raise NotDifferentiable(f"an operand of type {type(x).__name__}: expected an array or a number, got {x!r:.80}")


class RecordedArray(Number):
    """An array that records what is done with it; behaves as a NumPy array does.

    Made by the functions that differentiate or record. Indexing, transposing and reshaping give views that alias as
    NumPy's do. A Python `if` or `while` on a recorded value is a guard: its outcome is part of the list, and when another
    call would decide otherwise, the function is recorded anew for that branch.
    """

    __slots__ = ("dtype", "recorder", "view")
    __hash__ = None

    def __init__(self, recorder: Recorder, view: View, dtype):
        self.recorder, self.view, self.dtype = recorder, view, dtype

    apply = staticmethod(lambda name, operands: record(name, operands))

    # ------------------------------------------------------------------ what it looks like

    @property
    def shape(self) -> tuple[int, ...]:
        """As of an ndarray."""
        return self.view.shape

    @property
    def ndim(self) -> int:
        """As of an ndarray."""
        return len(self.view.shape)

    @property
    def size(self) -> int:
        """As of an ndarray."""
        return self.view.size

    @property
    def T(self) -> RecordedArray:
        """As of an ndarray."""
        return np.transpose(self)

    @property
    def flat(self):
        """Iterate over the elements."""
        return iter(np.ravel(self))

    def numpy(self) -> np.ndarray:
        """The values now, as a plain array; the derivative does not see what is done with it."""
        return self.recorder.value(self.view).astype(self.dtype)

    def __repr__(self):
        return f"RecordedArray({self.numpy()!r})"

    def __len__(self):
        if not self.shape:
            raise TypeError("len() of unsized object")
        return self.shape[0]

    def __iter__(self):
        if not self.shape:
            raise TypeError("iteration over a 0-d array")
        return (self[i] for i in range(self.shape[0]))

    # ------------------------------------------------------------------ leaving the list

    def __bool__(self):
        if self.size != 1:
            raise ValueError("The truth value of an array with more than one element is ambiguous. Use np.any or np.all")
        return bool(self.recorder.guard(_point(record("ne", (self, 0)).view)))

    def __int__(self):
        if self.size != 1:
            raise TypeError("only arrays of one element can be converted to Python integers")
        whole = self if self.dtype.kind in "iub" else record("where", (record("lt", (self, 0)), np.ceil(self), np.floor(self)))
        return int(self.recorder.guard(_point(whole.view)))

    def __index__(self):
        if self.dtype.kind not in "iu":
            raise TypeError("only integer recorded arrays can be used as an index")
        return int(self)

    def __float__(self):
        raise NotDifferentiable(
            f"{_here()}: float() of a recorded value would cut its derivative; leave it out, use NumPy's functions in place "
            "of math's, make arrays for results with np.zeros_like(x) or np.zeros(shape, like=x), or say "
            "tape.stop_gradient(x) where a constant is meant")

    def __array__(self, dtype=None, copy=None):
        raise NotDifferentiable(
            f"{_here()}: a recorded array cannot become a plain one, that would cut its derivative; build arrays with "
            "np.stack, np.concatenate or np.array(..., like=x), and make arrays for results with np.zeros_like(x) or "
            "np.zeros(shape, like=x)")

    def item(self, *index):
        """The element, still recorded."""
        return self[index] if index else np.reshape(self, ())

    # ------------------------------------------------------------------ NumPy's protocols

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        from tape.numpy_rules import call_ufunc

        return call_ufunc(ufunc, method, inputs, kwargs)

    def __array_function__(self, function, types, args, kwargs):
        from tape.numpy_rules import call_function

        return call_function(function, args, kwargs)

    # ------------------------------------------------------------------ operators that the table does not name

    def __pos__(self):
        return self

    def __abs__(self):
        return record("abs", (self,))

    def __pow__(self, other):
        return np.power(self, other)

    def __rpow__(self, other):
        return np.power(other, self)

    def __matmul__(self, other):
        return np.matmul(self, other)

    def __rmatmul__(self, other):
        return np.matmul(other, self)

    def __floordiv__(self, other):
        return np.floor_divide(self, other)

    def __rfloordiv__(self, other):
        return np.floor_divide(other, self)

    def __mod__(self, other):
        return np.mod(self, other)

    def __rmod__(self, other):
        return np.mod(other, self)

    def __invert__(self):
        return np.invert(self)

    def __and__(self, other):
        return np.bitwise_and(self, other)

    __rand__ = __and__

    def __or__(self, other):
        return np.bitwise_or(self, other)

    __ror__ = __or__

    def __xor__(self, other):
        return np.bitwise_xor(self, other)

    __rxor__ = __xor__

    def __lt__(self, other):
        return record("lt", (self, other))

    def __le__(self, other):
        return record("le", (self, other))

    def __gt__(self, other):
        return record("gt", (self, other))

    def __ge__(self, other):
        return record("ge", (self, other))

    def __eq__(self, other):
        return record("eq", (self, other)) if other is not None else False

    def __ne__(self, other):
        return record("ne", (self, other)) if other is not None else True

    # ------------------------------------------------------------------ indexing and assignment

    def __getitem__(self, index):
        from tape.indexing import get

        return get(self, index)

    def __setitem__(self, index, value):
        from tape.indexing import put

        put(self, index, value)

    def _in_place(self, result):
        """Put `result` into these cells; a scalar, like NumPy's, is replaced instead."""
        if not self.shape:
            return result
        if not np.can_cast(result.dtype, self.dtype, "same_kind"):
            raise TypeError(f"cannot put {result.dtype} into an array of {self.dtype} in place; use x = x + y")
        self[...] = result
        return self

    def __iadd__(self, other):
        return self._in_place(self + other)

    def __isub__(self, other):
        return self._in_place(self - other)

    def __imul__(self, other):
        return self._in_place(self * other)

    def __itruediv__(self, other):
        return self._in_place(self / other)

    def __ipow__(self, other):
        return self._in_place(self**other)


def _point(view: View) -> View:
    """A view of one element without axes."""
    return View(view.cell, (), ())


def _here() -> str:
    return "{}:{}".format(*user_line())


def _method(name):
    """An ndarray method that is the NumPy function of the same name."""
    function = getattr(np, name)

    def method(self, *args, **kwargs):
        return function(self, *args, **kwargs)

    method.__name__, method.__doc__ = name, f"`numpy.{name}` of this array."
    return method


for _name in ("sum", "mean", "prod", "max", "min", "var", "std", "ravel", "swapaxes", "squeeze", "dot", "take", "clip",
              "all", "any", "argmax", "argmin", "diagonal", "trace", "repeat", "cumsum", "cumprod"):
    setattr(RecordedArray, _name, _method(_name))


def _reshape(self, *shape, order="C"):
    """`numpy.reshape` of this array."""
    return np.reshape(self, shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape, order=order)


def _transpose(self, *axes):
    """`numpy.transpose` of this array."""
    return np.transpose(self, axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes or None)


def _copy(self, order="C"):
    """A copy that shares no cells."""
    return RecordedArray(self.recorder, self.recorder.copied(self.view), self.dtype)


def _flatten(self, order="C"):
    """A copy with one axis."""
    return np.ravel(self.copy(), order=order)


def _astype(self, dtype, **_):
    """A copy in another dtype; floats of a list share one precision, so a float64 list cannot round to float32."""
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return record("ne", (self, 0))
    if dtype.kind in "iu":
        whole = self if self.dtype.kind in "iub" else record("where", (record("lt", (self, 0)), np.ceil(self), np.floor(self)))
        return RecordedArray(self.recorder, self.recorder.copied(whole.view), dtype)
    if dtype == np.float64 and self.recorder.dtype == np.float32:
        raise Promote
    if dtype not in (np.float64, np.float32):
        raise NotDifferentiable(f"astype({dtype}): expected float64, float32, an integer type or bool")
    return RecordedArray(self.recorder, self.recorder.copied(self.view), dtype)


RecordedArray.reshape, RecordedArray.transpose, RecordedArray.copy = _reshape, _transpose, _copy
RecordedArray.flatten, RecordedArray.astype = _flatten, _astype
