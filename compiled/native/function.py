"""A list as a native function: compiled once, called from Python, from jitted code and from C.

What is here: `NativeFunction`, which puts core and wrappers into one module, and the emitter by which jitted code calls it.
What is not: which list it is (`tape.running.derived`).
"""

from __future__ import annotations

import ctypes
import hashlib
import math
import pickle

import numpy as np
from llvmlite import ir
from numba import njit
from numba.core import cgutils, types

from compiled.active.emitter import Emitter
from compiled.errors import GuardFailed
from compiled.forking import cached_property
from compiled.lists.calls import Call
from compiled.lists.listing import Listing
from compiled.native import machine
from compiled.native.calls import CallTable, calls_of, declare_table, raise_pending
from compiled.native.emit import ListEmitter
from compiled.native.schedule import LOOP, STRAIGHT
from compiled.native.wrappers import NOT_FINITE, Signature, emit_c, emit_python, emit_scipy
from compiled.table.layout import CALL_FAILED, GUARD_FAILED
from compiled.table.llvm import I64

LONG_WORK = 20_000
"""Elements computed from which on a call from Python releases the GIL."""


def content_key(listing: Listing) -> bytes:
    """Bytes that tell lists apart by what they compute."""
    steps = [(s.row.name, s.operands, s.out, s.space) for s in listing.steps]
    constants = [(slot, a.shape, a.tobytes()) for slot, a in sorted(listing.constants.items())]
    bodies = [b.text() if isinstance(b, Call) else (content_key(b.listing), b.wanted, b.rows) for b in listing.bodies]
    parts = (bodies, steps, constants, listing.shapes, listing.inputs, listing.outputs, listing.dtype.str,
             listing.table.digest())
    return hashlib.sha256(pickle.dumps(parts, protocol=5)).digest()


def build_module(listing: Listing, signature: Signature, name: str, python: bool = True, blas: bool = True,
                 derivatives=None) -> ir.Module:
    """The IR of a function and its wrappers."""
    module = ir.Module(name)
    calls = calls_of(listing)
    if calls:
        declare_table(module)
    emitter = ListEmitter(module, listing, f"{name}.core", blas=blas, calls=calls)
    core = emitter.function()
    emit_c(module, core, signature, name)
    emit_scipy(module, core, signature, f"{name}_scipy")
    if python:
        _export_core(module, core, f"{name}_core")
        derivatives = len(signature.outputs) if derivatives is None else derivatives
        emit_python(module, core, signature, f"{name}_python", work_of(emitter.units) > LONG_WORK, derivatives)
    return module


def _export_core(module, core, name):
    """The core under a name that jitted code can be linked to."""
    function = ir.Function(module, core.function_type, name)
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    builder.ret(builder.call(core, list(function.args)))


MOST_UNROLLED, SHORT = 24, 64
"""Loops that are unrolled at most, unless all have fewer iterations than this."""


def _loops(listing) -> list[int]:
    """Iterations of each step that is a loop over cells; those in the bodies of loops included."""
    own = [abs(step.space.words[0]) if step.row.structural else math.prod(step.space.shape) for step in listing.steps
           if step.row.structural or step.space.shape]
    return own + [n for body in listing.bodies if not isinstance(body, Call) for n in _loops(body.listing)]


def work_of(units) -> int:
    """How many elements a call computes, roughly."""
    total = 0
    for unit in units:
        if unit.kind == LOOP:
            total += int(np.prod(unit.shape)) * len(unit.members)
        elif unit.kind == STRAIGHT:
            total += len(unit.members)
        else:
            total += 10 * max((abs(w) for w in unit.members[0][0].space.words), default=1)
    return total


class NativeFunction:
    """Machine code of a list.

    Parameters
    ----------
    listing : Listing
        Simplified, for forward runs alone.
    inputs, outputs : sequence of str
        Names in C.
    name : str
        Of the function in C.
    derivatives : int, optional
        Number of the first output that is a derivative, none by default: calls from Python say where one is not finite.

    Attributes
    ----------
    call : builtin
        See `wrappers.emit_python`.
    """

    def __init__(self, listing: Listing, inputs, outputs, name: str, derivatives: int | None = None):
        self.listing, self.name, self.derivatives = listing, name, derivatives
        self.signature = Signature.of(listing, inputs, outputs)
        self._table = CallTable(calls_of(listing), listing.dtype)
        key = f"{name}{self.signature}{derivatives}{content_key(listing).hex()}"
        self.loaded = machine.compiled(self._text, key, bool(_loops(listing)), self.unrolls())
        self._table.attach(self.loaded)
        self.call = _builtin(self, self.loaded.address(f"{name}_python"))
        self.dtype = listing.dtype

    def results(self, leaves) -> tuple[int, list]:
        """Run on plain leaves; returns a status (0, or see `wrappers`) and the results, a number or arrays."""
        arrays = [np.empty(slot.shape, self.dtype) for slot in self.signature.pointers()]
        answer = self.call(*leaves, *arrays)
        if type(answer) is float:
            return 0, [self.dtype.type(answer), *arrays]
        if type(answer) is complex:
            return NOT_FINITE, [self.dtype.type(answer.real), *arrays]
        if answer == CALL_FAILED:
            raise_pending()
        return answer, arrays

    def unrolls(self) -> bool:
        """Whether loops are to be unrolled: where they are few, or short."""
        sizes = _loops(self.listing)
        return 0 < len(sizes) <= MOST_UNROLLED or max(sizes, default=SHORT) < SHORT

    def _text(self) -> str:
        return str(build_module(self.listing, self.signature, self.name, derivatives=self.derivatives))

    @property
    def address(self) -> int:
        """Of the function for C."""
        return self.loaded.address(self.name)

    @cached_property
    def ctypes(self):
        """The function for C, as ctypes calls it."""
        number = ctypes.c_double if self.signature.number == "double" else ctypes.c_float
        pointer = ctypes.POINTER(number)
        arguments = [number if s.shape == () else pointer for s in self.signature.inputs]
        arguments += [pointer] * len(self.signature.pointers())
        function = ctypes.CFUNCTYPE(number if self.signature.returns_number else None, *arguments)(self.address)
        function.owner = self  # the code lives as long as the function
        return function

    @cached_property
    def low_level_callable(self):
        """The function as SciPy's compiled code calls it."""
        from scipy import LowLevelCallable

        scipy = self.signature.scipy()
        if scipy is None:
            raise TypeError("SciPy takes functions of numbers, or of one array with one axis, with one number as the result; "
                            f"this one is {self.signature.c(self.name)}")
        address = self.loaded.address(f"{self.name}_scipy")
        kind = (ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double) if scipy == "double (double)"
                else ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_int, ctypes.POINTER(ctypes.c_double)))
        function = kind(address)
        function.owner = self
        return LowLevelCallable(function, signature=scipy)

    @cached_property
    def jitted(self):
        """The function for jitted code: arguments, then arrays for the results that C takes pointers for."""
        call = NativeCall(self)

        def native(*args):
            return call(*args)

        native.__name__ = native.__qualname__ = self.name
        return njit(nogil=True)(native)


class NativeCall(Emitter):
    """A native function as jitted code calls it."""

    def __init__(self, function: NativeFunction):
        self.function = function

    def __repr__(self):
        return f"{self.function.name} at {self.function.address}"

    def signature(self, typingctx, args):
        signature = self.function.signature
        expected = (*signature.inputs, *signature.pointers())
        number = types.float64 if signature.number == "double" else types.float32
        if len(args) != len(expected):
            raise_typing(f"{signature.c(self.function.name)}: expected {len(expected)} arguments, got {len(args)}")
        wanted = []
        for k, (slot, given) in enumerate(zip(expected, args, strict=True)):
            if slot.shape == () and k < len(signature.inputs):
                if not isinstance(given, types.Number):
                    raise_typing(f"{self.function.name}: argument {slot.name}: expected a number, got {given}")
                wanted.append(number)
                continue
            ndim = max(len(slot.shape), 1) if k >= len(signature.inputs) else len(slot.shape)
            if not isinstance(given, types.Array) or given.dtype != number or given.layout != "C" or given.ndim != ndim:
                raise_typing(f"{self.function.name}: argument {slot.name}: expected a C-contiguous array of {number} with "
                             f"{ndim} axes, got {given}; np.ascontiguousarray makes one")
            if k >= len(signature.inputs) and not given.mutable:
                raise_typing(f"{self.function.name}: argument {slot.name}: expected an array for results, got a read-only one")
            wanted.append(given)
        return (number if signature.returns_number else types.none)(*wanted)

    def emit(self, context, builder, signature, args):
        _named_in_code.append(self.function)
        own = self.function.signature
        number = own.kind
        pointers = []
        for slot, kind, value in zip((*own.inputs, *own.pointers()), signature.args, args, strict=True):
            pointers.append(self._pointer(context, builder, slot, kind, value, number))
        count = len(own.inputs)
        first = [cgutils.alloca_once(builder, number)] if own.returns_number else []
        arguments = [*pointers[:count], *first, *pointers[count:]]
        kind = ir.FunctionType(I64, [a.type for a in arguments])
        address = context.add_dynamic_addr(builder, self.function.loaded.address(f"{self.function.name}_core"),
                                           info=self.function.name)
        status = builder.call(builder.bitcast(address, kind.as_pointer()), arguments)
        with builder.if_then(builder.icmp_signed("!=", status, ir.Constant(I64, 0)), likely=False):
            guard = builder.icmp_signed("==", status, ir.Constant(I64, GUARD_FAILED))
            with builder.if_then(guard):
                context.call_conv.return_user_exc(builder, *_guard_failed(self.function.name))
            with builder.if_then(builder.icmp_signed("==", status, ir.Constant(I64, CALL_FAILED))):
                context.call_conv.return_user_exc(builder, RuntimeError, (f"{self.function.name}: a Python function that it "
                                                                          "calls has raised; call it from Python to see what",))
            context.call_conv.return_user_exc(builder, IndexError, (f"{self.function.name}: an index is out of bounds",))
        return builder.load(first[0]) if first else context.get_dummy_value()

    def _pointer(self, context, builder, slot, kind, value, number):
        if not isinstance(kind, types.Array):
            return cgutils.alloca_once_value(builder, value)
        array = context.make_array(kind)(context, builder, value)
        shape = slot.shape or (1,)
        for n, length in zip(shape, cgutils.unpack_tuple(builder, array.shape), strict=True):
            with builder.if_then(builder.icmp_signed("!=", length, ir.Constant(I64, n)), likely=False):
                message = f"{self.function.name}: argument {slot.name}: expected an array of shape {shape}"
                context.call_conv.return_user_exc(builder, ValueError, (message,))
        return builder.bitcast(array.data, number.as_pointer())


_named_in_code: list[NativeFunction] = []
"""Functions whose addresses stand in jitted code; they live as long as the process."""


def _guard_failed(name):
    return GuardFailed, (f"{name}: a branch is decided otherwise than in the compiled list; compile for these arguments",)


def raise_typing(message):
    """Raise what Numba reports as the user's error, with the user's line."""
    from numba.core.errors import TypingError

    raise TypingError(message)


# ---------------------------------------------------------------------- builtins


class _MethodDef(ctypes.Structure):
    _fields_ = (("name", ctypes.c_char_p), ("function", ctypes.c_void_p), ("flags", ctypes.c_int), ("doc", ctypes.c_char_p))


METH_FASTCALL = 0x80


def _builtin(owner, address):
    """A builtin function of Python around machine code with the signature of METH_FASTCALL; it keeps `owner` alive."""
    definition = _MethodDef(owner.name.encode(), address, METH_FASTCALL, None)
    make = ctypes.pythonapi.PyCFunction_NewEx
    make.restype, make.argtypes = ctypes.py_object, (ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p)
    return make(ctypes.addressof(definition), (owner.loaded, owner._table, definition), None)
