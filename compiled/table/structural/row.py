"""What a row of a structural instruction is, and what the kernels of such rows share."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array

from compiled.table.fingerprints import code_content
from compiled.table.layout import OPERAND, OUTPUT, SPACE


@dataclasses.dataclass(frozen=True)
class StructuralRow:
    """One structural instruction: all that any room knows of it.

    An instruction's own words stand in its geometry block after the words STRUCTURAL and `owned` (how many cells from OUTPUT
    on the instruction sets; 0 where it adds to cells or overwrites them). What follows calls them `words`.

    Parameters
    ----------
    name, arity, kind, numpy, kinks, source
        As in `instructions.Row`.
    forward, reverse, tangent, tangent_reverse : jitted function or None
        For the sweeps: kernels of (code, i, geometry, buffers...) that return a status (see `layout.py`), over the buffers
        (values), (values, adjoints), (values, tangents) and (values, tangents, adjoints, adjoint tangents); None where the
        walk has nothing to do. Decorated with `row_kernel`.
    length : callable
        `length(words)`: how many words the instruction's own are; `words` may have more behind them.
    extents : callable
        `extents(words)` returns for the three operands and the output the (low, high) of the cells, relative to the
        first, that the kernels may touch, or None where a view is not used. Raises ValueError when the words are malformed.
    differentiable : tuple of bool
        For each operand, whether a derivative flows to it.
    emit : callable
        For native code: `emit(piece, step)` emits LLVM code that does what `forward` does; see `native.emit.Piece`.
    lanes : bool
        Whether that code is right where each cell is a vector of samples too.
    dependencies : callable
        For sparse patterns: `dependencies(found, words, operands, out)` puts what the cells of the output, whose first is
        `out`, depend on; see `tape.derivatives.sparsity`.
    pull, push : callable or None
        For derivatives that are lists: `pull(stretch, i)` records what instruction i adds to the adjoints of its operands,
        `push(stretch, i)` the tangents of its output; see `tape.transforms.differentiate.Stretch`. None where there is no
        output, and where those register a rule who run the instruction.
    reference : callable or None
        For the reference interpreter: `reference(table, words, cells, active, values)` yields the instruction as elementwise
        ones: a row of the table or a `Rule`, which operands are active (bits), and the points, each the cells of its operands
        and of its output. `cells` are the first cells of the three operands and of the output.
    bounds : callable or None
        `bounds(size, *intervals)`: (low, high) of integers in the output, or of what is added to it, of those of the operands
        (each may be None) and of the size of operand 0; None if unknown.
    output : bool
        Whether there is one.
    accumulates, overwrites : bool
        As in `instructions.Row`.
    undo, redo : callable or None
        Where the row overwrites: `undo(stretch, i)` records an assignment that puts back what was there, and returns what that
        has overwritten, which `redo(stretch, i, kept)` puts there again.
    scratch : int, optional
        Number of the operand whose cells the kernels write for themselves.
    at_kink : callable or None
        `at_kink(words, operand, out, values)`, of the first cells and the buffer: for each output whether the derivative is a
        convention.
    """

    name: str
    arity: int
    forward: Callable
    reverse: Callable | None
    tangent: Callable | None
    tangent_reverse: Callable | None
    length: Callable
    extents: Callable
    differentiable: tuple[bool, ...]
    emit: Callable
    dependencies: Callable
    pull: Callable | None = None
    push: Callable | None = None
    reference: Callable | None = None
    bounds: Callable | None = None
    lanes: bool = True
    kind: str = "same"
    kinks: str = ""
    source: str = "elementary calculus"
    numpy: tuple[str, ...] = ()

    output: bool = True
    accumulates: bool = False
    overwrites: bool = False
    undo: Callable | None = None
    redo: Callable | None = None
    scratch: int | None = None
    at_kink: Callable | None = None

    structural = True

    def fingerprint(self) -> bytes:
        """Bytes that change when the row does; what its functions call is hashed with the package (see `cache.py`)."""
        facts = [getattr(self, field.name) for field in dataclasses.fields(self)]
        return repr([code_content(fact) for fact in facts]).encode()


class Rule(NamedTuple):
    """What the reference interpreter reads of an elementwise row, for points that no row of the table says."""

    value: Callable
    partials: tuple[Callable | None, ...]
    accumulates: bool = False
    overwrites: bool = False


def row_kernel(function):
    """Jit a kernel, or what kernels call."""
    return njit(nogil=True, error_model="numpy", _nrt=False, no_cpython_wrapper=True, no_cfunc_wrapper=True)(function)


@row_kernel
def block_of(code, i):
    """Where the words of instruction i's own begin in its block, and its first cells."""
    return code[i, SPACE] + 2, code[i, OPERAND], code[i, OPERAND + 1], code[i, OPERAND + 2], code[i, OUTPUT]


@row_kernel
def offset_of(flat, geometry, shape, strides, ndim):
    """Cell offset of element number `flat` (row-major) of a view."""
    offset = 0
    for d in range(ndim - 1, -1, -1):
        quotient = flat // geometry[shape + d]
        offset += (flat - quotient * geometry[shape + d]) * geometry[strides + d]
        flat = quotient
    return offset


@row_kernel
def size_of(geometry, shape, ndim):
    size = 1
    for d in range(ndim):
        size *= geometry[shape + d]
    return size


@intrinsic
def stack_cells(typingctx, buffer, count):
    """`stack_cells(buffer, count)`: a few cells like the buffer's, on the stack of the kernel; `count` is a constant."""
    if not isinstance(count, types.IntegerLiteral):
        return None
    array_type, length = types.Array(buffer.dtype, 1, "C"), count.literal_value

    def emit(context, builder, signature, args):
        kind = context.get_data_type(buffer.dtype)
        cells = cgutils.alloca_once(builder, ir.ArrayType(kind, length))
        size = context.get_abi_sizeof(kind)
        array = context.make_array(array_type)(context, builder)
        populate_array(array, data=builder.bitcast(cells, kind.as_pointer()), shape=[context.get_constant(types.intp, length)],
                       strides=[context.get_constant(types.intp, size)], itemsize=context.get_constant(types.intp, size),
                       meminfo=None)
        return array._getvalue()

    return array_type(buffer, types.literal(length)), emit
