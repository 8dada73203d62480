"""Matrix products on the BLAS that SciPy brings, on strided parts of a cell buffer, in accumulating form.

`gemm` and `gemv` are declared to LLVM by the names under which Numba links SciPy's BLAS, so that kernels that call them
can be cached on disk. They hold no GIL.
"""

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

I8 = ir.IntType(8)
NORMAL, TRANSPOSED = ord("n"), ord("t")


class _Arguments:
    """Lowers the arguments of a BLAS call: characters, pointers into arrays, pointers to constants."""

    def __init__(self, context, builder, signature, args):
        self.context, self.builder, self.signature, self.args = context, builder, signature, args

    def character(self, number):
        return self.builder.trunc(self.args[number], I8)

    def cells(self, array, offset):
        """Pointer to cell `args[offset]` of the array `args[array]`."""
        struct = self.context.make_array(self.signature.args[array])(self.context, self.builder, self.args[array])
        return self.builder.bitcast(self.builder.gep(struct.data, [self.args[offset]]), cgutils.voidptr_t)

    def scalar(self, number, array):
        """Pointer to the number `args[number]` in the precision of the array `args[array]`."""
        value = self.args[number]
        if self.signature.args[array].dtype is types.float32:
            value = self.builder.fptrunc(value, ir.FloatType())
        return self.builder.bitcast(cgutils.alloca_once_value(self.builder, value), cgutils.voidptr_t)

    def call(self, name, array, arguments):
        kind = ord("s" if self.signature.args[array].dtype is types.float32 else "d")
        arguments = [ir.Constant(I8, kind), *arguments]
        function_type = ir.FunctionType(ir.IntType(32), [a.type for a in arguments])
        self.builder.call(cgutils.get_or_insert_function(self.builder.module, function_type, name), arguments)
        return self.context.get_dummy_value()


@intrinsic
def _gemm(typingctx, ta, tb, m, n, k, alpha, a, a0, lda, b, b0, ldb, beta, c, c0, ldc):
    """c = alpha op(a) op(b) + beta c, column-major, as BLAS has it."""

    def emit(context, builder, signature, args):
        x = _Arguments(context, builder, signature, args)
        return x.call("numba_xxgemm", 6, [
            x.character(0), x.character(1), args[2], args[3], args[4], x.scalar(5, 6), x.cells(6, 7), args[8],
            x.cells(9, 10), args[11], x.scalar(12, 6), x.cells(13, 14), args[15]])

    i = types.intp
    return types.void(i, i, i, i, i, types.float64, a, i, i, b, i, i, types.float64, c, i, i), emit


@intrinsic
def _gemv(typingctx, trans, m, n, alpha, a, a0, lda, x, x0, beta, y, y0):
    """y = alpha op(a) x + beta y, column-major, unit steps, as BLAS has it."""

    def emit(context, builder, signature, args):
        z = _Arguments(context, builder, signature, args)
        return z.call("numba_xxgemv", 4, [
            z.character(0), args[1], args[2], z.scalar(3, 4), z.cells(4, 5), args[6], z.cells(7, 8), z.scalar(9, 4),
            z.cells(10, 11)])

    i = types.intp
    return types.void(i, i, i, types.float64, a, i, i, x, i, types.float64, y, i), emit


@njit(nogil=True, _nrt=False, no_cpython_wrapper=True, no_cfunc_wrapper=True)
def matrix_product(m, k, n, a, a0, a_row, a_col, b, b0, b_row, b_col, c, c0, c_row, c_col, beta):
    """Set c to a b + beta c, for an m x k and a k x n matrix in cell buffers.

    Each matrix is given by buffer, first cell, row step and column step; one of its two steps must be 1 and the other
    at least the length of the rows (columns) it steps over, or 1 where there is but one.
    """
    if m == 0 or n == 0:
        return
    if c_col != 1:  # transposed: c' = b' a'
        a, b, a0, b0, m, n = b, a, b0, a0, n, m
        a_row, a_col, b_row, b_col = b_col, b_row, a_col, a_row
        c_row, c_col = c_col, c_row
    if k == 0:
        for i in range(m):
            for j in range(n):
                c[c0 + i * c_row + j] *= beta
        return
    # The step over an axis of length 1 means nothing, but BLAS wants it to be as long as the other axis.
    if a_col == 1:
        a_step, a_kind = max(a_row, k), NORMAL
    else:
        a_step, a_kind = max(a_col, m), TRANSPOSED
    if b_col == 1:
        b_step, b_kind = max(b_row, n), NORMAL
    else:
        b_step, b_kind = max(b_col, k), TRANSPOSED
    if m == 1 and a_col == 1:  # row times matrix: c' = b' a'
        if b_kind == NORMAL:
            _gemv(NORMAL, n, k, 1.0, b, b0, b_step, a, a0, beta, c, c0)
        else:
            _gemv(TRANSPOSED, k, n, 1.0, b, b0, b_step, a, a0, beta, c, c0)
    elif n == 1 and c_row == 1 and b_row == 1:  # matrix times column
        if a_kind == NORMAL:
            _gemv(TRANSPOSED, k, m, 1.0, a, a0, a_step, b, b0, beta, c, c0)
        else:
            _gemv(NORMAL, m, k, 1.0, a, a0, a_step, b, b0, beta, c, c0)
    else:
        _gemm(b_kind, a_kind, n, m, k, 1.0, b, b0, b_step, a, a0, a_step, beta, c, c0, max(c_row, n))
