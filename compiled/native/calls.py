"""Calls of Python functions from native code: through one C function, which finds the call by its table and its number there.

What is here: that function, the tables, and the code that calls it. What is not: what is called (`compiled.lists.calls`).
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import threading
import weakref

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba.core import cgutils

from compiled.lists.calls import Call, CallWords
from compiled.table.layout import CALL_FAILED, OK
from compiled.table.llvm import I64

SYMBOL = "tape_call_python"
"""The C function's name in the process."""

TABLE_VARIABLE = "tape_table"
"""A module's variable with the number of its table."""

_numbers = itertools.count(1)
_tables: weakref.WeakValueDictionary[int, CallTable] = weakref.WeakValueDictionary()
_of_thread = threading.local()


def calls_of(listing) -> list[Call]:
    """The calls of a list for native code and of the bodies of its loops, in the order of their numbers in its table."""
    found: list[Call] = []
    for body in listing.bodies:
        found += [body] if isinstance(body, Call) else calls_of(body.listing)
    return list(dict.fromkeys(found))


class CallTable:
    """The calls of one module; native code names it by a number.

    Parameters
    ----------
    calls : list of Call
        By their numbers.
    dtype : numpy.dtype
        Of the cells.
    """

    def __init__(self, calls: list[Call], dtype):
        self.number = next(_numbers)
        self._calls, self._dtype = calls, np.dtype(dtype)
        if calls:
            _tables[self.number] = self
            _register()

    def attach(self, loaded) -> None:
        """Write the number into a module that was loaded; without calls it has no variable for it."""
        if not self._calls:
            return
        ctypes.c_int64.from_address(loaded.address(TABLE_VARIABLE)).value = self.number

    def run(self, number, operand, output) -> None:
        """Run a call on the packs at these addresses."""
        call = self._calls[number]
        call.run(*(self._pack(address, size) for address, size in zip((operand, output), call.sizes, strict=True)))

    def _pack(self, address, size):
        memory = (ctypes.c_char * (size * self._dtype.itemsize)).from_address(address)
        return np.frombuffer(memory, self._dtype)


def raise_pending() -> None:
    """Raise what a function raised that native code called in this thread."""
    error = _of_thread.__dict__.pop("error", None)
    raise error if error is not None else RuntimeError("a Python function that native code called has raised in another thread")


def _call_python(table, number, operand, output):
    try:
        _tables[table].run(number, operand, output)
        return OK
    except BaseException as error:  # Ctrl-C too: whoever called the native code raises it
        _of_thread.error = error
        return CALL_FAILED


@functools.cache
def _register() -> None:
    """Let LLVM find the C function."""
    address = ctypes.cast(_c_function(), ctypes.c_void_p).value
    llvm.add_symbol(SYMBOL, address)


@functools.cache
def _c_function():
    return ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p)(_call_python)


def declare_table(module) -> None:
    """The variable that `CallTable.attach` sets."""
    variable = ir.GlobalVariable(module, I64, TABLE_VARIABLE)
    variable.initializer = ir.Constant(I64, 0)


def emit_call(piece, step, operand, output) -> None:
    """Call the function of a call step on packs, unless something has failed before."""
    builder = piece.builder
    body = piece.listing.bodies[CallWords.of(step.space.words).body]
    number = next(k for k, call in enumerate(piece.emitter.calls) if call is body)
    with builder.if_then(builder.icmp_signed("==", builder.load(piece.status), ir.Constant(I64, OK))):
        table = builder.load(builder.module.globals[TABLE_VARIABLE])
        pointers = [builder.bitcast(pointer, cgutils.voidptr_t) for pointer in (operand, output)]
        arguments = [table, ir.Constant(I64, number), *pointers]
        kind = ir.FunctionType(I64, [a.type for a in arguments])
        status = builder.call(cgutils.get_or_insert_function(builder.module, kind, SYMBOL), arguments)
        builder.store(status, piece.status)
