"""Whether many pieces of memory hold the same as others, asked in one call.

A call of C's `memcmp` from Python costs more than what it compares where pieces are small.
"""

from __future__ import annotations

import ctypes
import functools
import os

import numpy as np
from llvmlite import ir
from numba.core import cgutils

from compiled.native import machine
from compiled.table.llvm import I64

FEW = 4
"""Up to so many pieces are compared one by one: machine code for more need not be loaded."""


def _found_memcmp():
    try:
        function = (ctypes.cdll.msvcrt if os.name == "nt" else ctypes.CDLL(None)).memcmp
    except (AttributeError, OSError):
        return None
    function.argtypes = ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t
    return function


memcmp = _found_memcmp()
"""C's function; None where it is not found by its name."""


class Pieces:
    """Pairs of pieces of memory, of which the caller sees to it that they stay where they are.

    Parameters
    ----------
    pieces : list of (int, int, int)
        Addresses of two pieces, and the number of bytes of each.
    """

    def __init__(self, pieces):
        self._pieces = pieces
        if len(pieces) > FEW:
            self._table = np.array(pieces, np.int64)
            self._call = functools.partial(_differ(), self._table.ctypes.data, len(pieces))
        else:
            self._call = self._one_by_one

    def are_equal(self) -> bool:
        """Whether each piece holds what its partner holds."""
        return not self._call()

    def _one_by_one(self):
        return any(memcmp(*piece) for piece in self._pieces)


@functools.cache
def _differ():
    """The machine code, as a function of the address of a table of pieces and their number; 1 if any two differ."""
    code = machine.compiled(lambda: str(_module()), "comparison", vectorise=False, unroll=False)
    kind = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p)
    function, address = kind(code.address("tape_differ")), ctypes.cast(memcmp, ctypes.c_void_p).value
    function.code = code  # which lives as long as what calls it

    def differ(table, count):
        return function(table, count, address)

    return differ


def _module():
    module, integer = ir.Module(), ir.IntType(32)
    pointer = cgutils.voidptr_t
    compare = ir.FunctionType(integer, [pointer, pointer, I64])
    function = ir.Function(module, ir.FunctionType(I64, [I64.as_pointer(), I64, compare.as_pointer()]), "tape_differ")
    table, count, given = function.args
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    with cgutils.for_range(builder, count) as loop:
        row = builder.mul(loop.index, I64(3))
        first, second, size = (builder.load(builder.gep(table, [builder.add(row, I64(k))])) for k in range(3))
        found = builder.call(given, [builder.inttoptr(first, pointer), builder.inttoptr(second, pointer), size])
        with builder.if_then(builder.icmp_signed("!=", found, integer(0)), likely=False):
            builder.ret(I64(1))
    builder.ret(I64(0))
    return module
