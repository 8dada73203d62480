"""The functions around a native core: with a signature for C, for SciPy, and for Python's own calling convention.

The core takes pointers alone: one for each argument, one for each result, and returns a status. What is not here: the core
(`emit.py`), memory for results (`function.py`).
"""

from __future__ import annotations

import math
from typing import NamedTuple

from llvmlite import ir
from numba.core import cgutils

from compiled.table.llvm import I32, I64

I8 = ir.IntType(8)
OBJECT = I8.as_pointer()
HEAD = object.__basicsize__
"""Bytes of a Python object's head; its type stands in the last word of it."""

ARRAY_FLAGS = 0x1 | 0x100
"""C-contiguous and aligned."""

NOT_TAKEN, NOT_FINITE = -1, -2
"""Statuses of a call whose arguments are not plain (contiguous arrays of the list's dtype and floats), and of one that has
run, but whose derivatives hold an infinity or a NaN."""


class Slot(NamedTuple):
    """An argument or a result: a number where the shape is ()."""

    name: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


class Signature(NamedTuple):
    """What a native function takes and gives."""

    number: str  # "double" or "float"
    inputs: tuple[Slot, ...]
    outputs: tuple[Slot, ...]

    @classmethod
    def of(cls, listing, inputs, outputs) -> Signature:
        """Of a list, with names for arguments and results."""
        return cls("double" if listing.dtype.itemsize == 8 else "float",
                   tuple(Slot(n, listing.shapes[s]) for n, s in zip(inputs, listing.inputs, strict=True)),
                   tuple(Slot(n, r.shape) for n, r in zip(outputs, listing.outputs, strict=True)))

    @property
    def kind(self) -> ir.Type:
        """The numbers' type in LLVM."""
        return ir.DoubleType() if self.number == "double" else ir.FloatType()

    @property
    def returns_number(self) -> bool:
        """Whether the C function returns its first result."""
        return bool(self.outputs) and self.outputs[0].shape == ()

    def pointers(self) -> tuple[Slot, ...]:
        """The results that C passes pointers for."""
        return self.outputs[1:] if self.returns_number else self.outputs

    def c(self, name: str) -> str:
        """The declaration in C."""
        arguments = [f"{self.number} {s.name}" if s.shape == () else f"const {self.number} *{s.name}" for s in self.inputs]
        arguments += [f"{self.number} *{s.name}" for s in self.pointers()]
        return f"{self.number if self.returns_number else 'void'} {name}({', '.join(arguments) or 'void'})"

    def scipy(self) -> str | None:
        """The signature under which SciPy's integrators and optimisers take the function, None where they do not."""
        if not self.returns_number or len(self.outputs) > 1 or self.number != "double" or not self.inputs:
            return None
        if all(s.shape == () for s in self.inputs):
            return "double (double)" if len(self.inputs) == 1 else "double (int, double *)"
        return "double (int, double *)" if len(self.inputs) == 1 and len(self.inputs[0].shape) == 1 else None


def emit_c(module, core, signature: Signature, name: str) -> None:
    """The function for C: numbers by value, arrays by pointer; where a guard fails, every result is NaN."""
    number = signature.kind
    types = [number if s.shape == () else number.as_pointer() for s in signature.inputs]
    types += [number.as_pointer()] * len(signature.pointers())
    result = number if signature.returns_number else ir.VoidType()
    function = ir.Function(module, ir.FunctionType(result, types), name)
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    arguments = []
    for slot, argument in zip(signature.inputs, function.args, strict=False):
        arguments.append(cgutils.alloca_once_value(builder, argument) if slot.shape == () else argument)
    _finish(builder, core, signature, arguments, list(function.args[len(signature.inputs) :]), number)


def _finish(builder, core, signature, arguments, pointers, number):
    """Call the core and return."""
    first = [cgutils.alloca_once(builder, number)] if signature.returns_number else []
    status = builder.call(core, [*arguments, *first, *pointers])
    with builder.if_then(builder.icmp_signed("!=", status, ir.Constant(I64, 0)), likely=False):
        for slot, pointer in zip(signature.outputs, [*first, *pointers], strict=True):
            with cgutils.for_range(builder, ir.Constant(I64, slot.size)) as loop:
                builder.store(ir.Constant(number, math.nan), builder.gep(pointer, [loop.index]))
    builder.ret(builder.load(first[0])) if first else builder.ret_void()


def emit_scipy(module, core, signature: Signature, name: str) -> None:
    """The function for SciPy's integrators and optimisers, where they take it."""
    taken = signature.scipy()
    if taken is None:
        return
    if taken == "double (double)":
        emit_c(module, core, signature, name)
        return
    number, numbers = signature.kind, signature.inputs[0].shape == ()
    function = ir.Function(module, ir.FunctionType(number, [I32, number.as_pointer()]), name)
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    count, cells = function.args
    expected = len(signature.inputs) if numbers else signature.inputs[0].size
    with builder.if_then(builder.icmp_signed("!=", count, ir.Constant(I32, expected)), likely=False):
        builder.ret(ir.Constant(number, math.nan))
    arguments = [builder.gep(cells, [ir.Constant(I64, k)]) for k in range(expected)] if numbers else [cells]
    _finish(builder, core, signature, arguments, [], number)


# ---------------------------------------------------------------------- Python's calling convention


def emit_python(module, core, signature: Signature, name: str, release: bool, derivatives: int) -> None:
    """The function behind a builtin of Python: takes arguments and arrays for results.

    Returns the first result as a float where it is a number (no array is passed for it) and the status, an int, where the
    status is not 0 or there is no such number. Arrays have the list's dtype and shape and are contiguous, numbers are floats
    or arrays of no axes; anything else is refused (status -1), for the caller to convert. With `release` the core runs
    without the GIL. Where a result from number `derivatives` on is not finite, the status is NOT_FINITE; of a function whose
    first result is a number it is told by a complex number instead, whose real part is that result, and likewise where that
    number is not finite itself: derivatives may be lost in its infinity.
    """
    function = ir.Function(module, ir.FunctionType(OBJECT, [OBJECT, OBJECT.as_pointer(), I64]), name)
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    refuse = function.append_basic_block("refuse")
    reader = _Reader(builder, refuse, signature)
    slots = (*signature.inputs, *signature.pointers())
    number = reader.number
    reader.require(builder.icmp_signed("==", function.args[2], ir.Constant(I64, len(slots))))
    pointers = []
    for k, slot in enumerate(slots):
        item = builder.load(builder.gep(function.args[1], [ir.Constant(I64, k)]))
        pointers.append(reader.cells(item, slot))
    first = [cgutils.alloca_once(builder, number)] if signature.returns_number else []
    count = len(signature.inputs)
    thread = _call(builder, "PyEval_SaveThread", OBJECT, []) if release else None
    status = builder.call(core, [*pointers[:count], *first, *pointers[count:]])
    results = list(zip([*first, *pointers[count:]], signature.outputs, strict=True))
    results = (results[:1] if first and 0 < derivatives < len(results) else []) + results[derivatives:]
    unbounded = _holds_no_number(builder, results, number)
    if not first:
        told = builder.and_(unbounded, builder.icmp_signed("==", status, ir.Constant(I64, 0)))
        status = builder.select(told, ir.Constant(I64, NOT_FINITE), status)
    if release:
        _call(builder, "PyEval_RestoreThread", ir.VoidType(), [thread])
    if first:
        with builder.if_then(builder.icmp_signed("==", status, ir.Constant(I64, 0)), likely=True):
            value = builder.load(first[0])
            value = value if signature.number == "double" else builder.fpext(value, ir.DoubleType())
            with builder.if_then(unbounded, likely=False):
                builder.ret(_call(builder, "PyComplex_FromDoubles", OBJECT, [value, ir.Constant(ir.DoubleType(), 1.0)]))
            builder.ret(_call(builder, "PyFloat_FromDouble", OBJECT, [value]))
    builder.ret(_call(builder, "PyLong_FromLongLong", OBJECT, [status]))
    builder.position_at_end(refuse)
    builder.ret(_call(builder, "PyLong_FromLongLong", OBJECT, [ir.Constant(I64, NOT_TAKEN)]))


def _holds_no_number(builder, results, number):
    """Whether any of the cells behind pointers is an infinity or a NaN.

    Their exponent's bits are all ones, so that one more carries over into the sign's place.
    """
    word, bits = (I64, 52) if isinstance(number, ir.DoubleType) else (I32, 23)
    exponent, one = ir.Constant(word, 2 ** (word.width - 1) - 2**bits), ir.Constant(word, 2**bits)
    found = cgutils.alloca_once_value(builder, ir.Constant(word, 0))
    for pointer, slot in results:
        words = builder.bitcast(pointer, word.as_pointer())
        with cgutils.for_range(builder, ir.Constant(I64, slot.size)) as loop:
            carried = builder.add(builder.and_(builder.load(builder.gep(words, [loop.index])), exponent), one)
            builder.store(builder.or_(builder.load(found), carried), found)
    return builder.icmp_signed("<", builder.load(found), ir.Constant(word, 0))


def _call(builder, name, result, arguments):
    kind = ir.FunctionType(result, [a.type for a in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)


class _Reader:
    """Reads the cells of Python objects, by the layout that NumPy and Python promise to extensions."""

    def __init__(self, builder, refuse, signature: Signature):
        self.builder, self.refuse, self.number = builder, refuse, signature.kind
        self.dtype = "tape_f8" if signature.number == "double" else "tape_f4"

    def require(self, condition):
        """Go on only where the condition holds."""
        following = self.builder.append_basic_block("held")
        self.builder.cbranch(condition, following, self.refuse)
        self.builder.position_at_end(following)

    def field(self, item, offset, kind):
        """A field of a C struct."""
        pointer = self.builder.gep(item, [ir.Constant(I64, offset)])
        return self.builder.load(self.builder.bitcast(pointer, kind.as_pointer()))

    def symbol(self, name):
        """The address of an object of this process."""
        module = self.builder.module
        if name in module.globals:
            return module.globals[name]
        variable = ir.GlobalVariable(module, I8, name)
        variable.linkage = "external"
        return variable

    def same(self, pointer, name):
        return self.builder.icmp_unsigned("==", self.builder.ptrtoint(pointer, I64),
                                          self.builder.ptrtoint(self.symbol(name), I64))

    def cells(self, item, slot: Slot):
        """Pointer to the numbers of an object."""
        builder = self.builder
        kind = self.field(item, HEAD - 8, OBJECT)
        if slot.shape == () and isinstance(self.number, ir.DoubleType):
            is_float = builder.or_(self.same(kind, "tape_float"), self.same(kind, "tape_float64"))
            before = builder.block
            array, done = builder.append_basic_block("array"), builder.append_basic_block("number")
            own = builder.bitcast(builder.gep(item, [ir.Constant(I64, HEAD)]), self.number.as_pointer())
            builder.cbranch(is_float, done, array)
            builder.position_at_end(array)
            data = self.array(item, kind, slot)
            after = builder.block
            builder.branch(done)
            builder.position_at_end(done)
            pointer = builder.phi(self.number.as_pointer())
            pointer.add_incoming(own, before)
            pointer.add_incoming(data, after)
            return pointer
        return self.array(item, kind, slot)

    def array(self, item, kind, slot):
        """Pointer to the numbers of an array that must be as the slot says."""
        builder = self.builder
        self.require(self.same(kind, "tape_ndarray"))
        self.require(self.same(self.field(item, HEAD + 40, OBJECT), self.dtype))
        self.require(builder.icmp_signed("==", self.field(item, HEAD + 8, I32), ir.Constant(I32, len(slot.shape))))
        flags = builder.and_(self.field(item, HEAD + 48, I32), ir.Constant(I32, ARRAY_FLAGS))
        self.require(builder.icmp_unsigned("==", flags, ir.Constant(I32, ARRAY_FLAGS)))
        lengths = self.field(item, HEAD + 16, I64.as_pointer())
        for axis, n in enumerate(slot.shape):
            length = builder.load(builder.gep(lengths, [ir.Constant(I64, axis)]))
            self.require(builder.icmp_signed("==", length, ir.Constant(I64, n)))
        return builder.bitcast(self.field(item, HEAD, OBJECT), self.number.as_pointer())
