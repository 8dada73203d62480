"""How one instruction stands in memory: the columns of the code array and the blocks of the geometry array.

An instruction is a row of eight 32-bit integers (half a cache line). Its operands and its output are *cells*: positions
in the value buffer (and, the same, in the adjoint buffer). An instruction whose views are single cells needs no more
(SPACE is SCALAR). Any other points with SPACE at a block of the geometry array:

elementwise   [ndim, shape[ndim], strides[ndim] of operand 0, of 1, of 2, of the output]
structural    [STRUCTURAL, owned, what the row's kernels read (see `structural/`)]

Blocks hold no cells, only shapes and strides, so that instructions of the same form share one.
"""

OPERANDS = 3
"""Operands an instruction can have."""

OUT = OPERANDS
"""Number of the output among an instruction's four views; operands are 0, 1, 2."""

OPCODE, SPACE, OUTPUT, OPERAND, FLAGS, LINE, FIELDS = 0, 1, 2, 3, 6, 7, 8
"""Columns of the code array (operands are columns 3, 4 and 5), and their number."""

SCALAR = -1
"""Value of SPACE for an instruction of single cells."""

STRUCTURAL = -1
"""First word of a structural block, where an elementwise one has its ndim."""

ACCUMULATES, LIVE = 8, 16
"""Flags. 1, 2, 4: operand k is active (depends on an input that is differentiated). ACCUMULATES: the instruction adds to
its output, so it does not own the output's adjoint. LIVE: a reverse sweep has something to do here, because some writer
of the output's slot has an active operand."""

BLOCK = 1024
"""Cells of a row that one call runs: operands, partials and adjoints of a block stay in the first-level cache."""

SUMMED_BLOCK = 16 * BLOCK
"""The same of float32 instructions with an operand that is broadcast along the row, or a result that is summed along it."""

OK, INDEX_ERROR, GUARD_FAILED, CALL, CALL_FAILED = 0, 1, 2, 3, 4
"""Status codes of kernels. CALL: whoever runs the sweep is to run this instruction, and go on after it (see `lists.loops`);
CALL_FAILED: a Python function that native code called has raised (see `native.calls`)."""

STATUS_BITS = 8
"""A sweep returns -1, or the failing instruction's number shifted by these bits, plus the status code."""


def instruction_and_code(status: int) -> tuple[int, int]:
    """The number of the instruction at which a sweep stopped, and why: the two parts of a status that is not -1."""
    return status >> STATUS_BITS, status & ((1 << STATUS_BITS) - 1)
