"""Short names for the instructions that elementary functions are made of, for doubles and vectors of doubles alike.

What is here: the shapes, arithmetic, error-free products and sums, tables, and the branch around what is seldom needed.
What is not: the functions (`exponentials.py`, `powers.py`, `trigonometry.py`, `error_function.py`).
"""

from __future__ import annotations

import functools
import math

from llvmlite import binding, ir
from numba.core import cgutils, config
from numba.core.codegen import get_host_cpu_features

F64, I64, I32, I1 = ir.DoubleType(), ir.IntType(64), ir.IntType(32), ir.IntType(1)

ROUNDING = 1.5 * 2.0**52
"""Adding this to a number below 2**51 leaves its nearest whole number in the low bits."""

UPPER_HALF = -(1 << 27)
"""The bits of a double without the 27 lowest: what is left has 26 significant bits."""


def with_width(kind, value):
    """`kind` as the element of a vector as wide as the type of `value`, or itself for a scalar."""
    return ir.VectorType(kind, value.type.count) if isinstance(value.type, ir.VectorType) else kind


def splat(kind, x):
    """The constant x of a scalar type, or of a vector type in every lane."""
    return ir.Constant(kind, [x] * kind.count if isinstance(kind, ir.VectorType) else x)


def type_name(kind) -> str:
    """A type as the names of LLVM's intrinsics spell it: f64, v4f32."""
    if isinstance(kind, ir.VectorType):
        return f"v{kind.count}{type_name(kind.element)}"
    if isinstance(kind, ir.IntType):
        return f"i{kind.width}"
    return {ir.FloatType: "f32", ir.DoubleType: "f64"}[type(kind)]


def intrinsic(builder, name, values):
    """Call LLVM's intrinsic of values that are all of the result's type."""
    signature = ir.FunctionType(values[0].type, [v.type for v in values])
    function = cgutils.get_or_insert_function(builder.module, signature, f"llvm.{name}.{type_name(values[0].type)}")
    return builder.call(function, values)


@functools.cache
def has_fused_multiply_add() -> bool:
    """Whether the processor that Numba compiles for has an instruction for x y + z with one rounding."""
    architecture = binding.get_process_triple().split("-")[0]
    features = get_host_cpu_features() if config.CPU_FEATURES is None else config.CPU_FEATURES
    return "+fma" in features.split(",") if architecture in ("x86_64", "i386", "i686") else True


class FunctionEmitter:
    """Instructions at the builder's position, on doubles or on vectors of `width` doubles.

    With `straight`, the code has no branch, as loops need that LLVM is to turn into vector instructions.
    """

    def __init__(self, builder, width=None, straight=True):
        self.builder, self.width, self.straight = builder, width, straight
        self.number_type, self.word_type = (ir.VectorType(t, width) if width else t for t in (F64, I64))

    def number(self, x):
        return splat(self.number_type, float(x))

    def word(self, x):
        return splat(self.word_type, x)

    def add(self, x, y):
        return self.builder.fadd(x, y)

    def sub(self, x, y):
        return self.builder.fsub(x, y)

    def mul(self, x, y):
        return self.builder.fmul(x, y)

    def div(self, x, y):
        return self.builder.fdiv(x, y)

    def neg(self, x):
        return self.builder.fneg(x)

    def scale(self, x, factor):
        """x times a plain number."""
        return self.mul(x, self.number(factor))

    def muladd(self, x, y, z):
        """x y + z, fused where the processor can."""
        return intrinsic(self.builder, "fmuladd", [x, y, z])

    def abs(self, x):
        return intrinsic(self.builder, "fabs", [x])

    def sqrt(self, x):
        return intrinsic(self.builder, "sqrt", [x])

    def floor(self, x):
        return intrinsic(self.builder, "floor", [x])

    def trunc(self, x):
        return intrinsic(self.builder, "trunc", [x])

    def copysign(self, x, y):
        return intrinsic(self.builder, "copysign", [x, y])

    def less(self, x, y):
        return self.builder.fcmp_ordered("<", x, y)

    def equal(self, x, y):
        return self.builder.fcmp_ordered("==", x, y)

    def unordered(self, x, y):
        """Whether either is NaN."""
        return self.builder.fcmp_unordered("uno", x, y)

    def is_ordinary(self, magnitude):
        """Whether a number without its sign is neither zero nor infinite nor NaN."""
        return self.both(self.less(self.number(0.0), magnitude), self.less(magnitude, self.number(math.inf)))

    def both(self, x, y):
        return self.builder.and_(x, y)

    def either(self, x, y):
        return self.builder.or_(x, y)

    def where(self, condition, x, y):
        return self.builder.select(condition, x, y)

    def bits(self, x):
        return self.builder.bitcast(x, self.word_type)

    def float(self, word):
        return self.builder.bitcast(word, self.number_type)

    def polynomial(self, x, coefficients):
        """Horner's rule; coefficients from the constant one up."""
        result = self.number(coefficients[-1])
        for c in reversed(coefficients[:-1]):
            result = self.muladd(result, x, self.number(c))
        return result

    def clamp(self, x, low, high):
        """x in [low, high]; NaN stays."""
        x = self.where(self.less(x, self.number(low)), self.number(low), x)
        return self.where(self.less(self.number(high), x), self.number(high), x)

    def whole(self, n):
        """A double whose low bits hold the integer n as a double: the inverse of adding ROUNDING."""
        return self.sub(self.float(self.builder.add(n, self.bits(self.number(ROUNDING)))), self.number(ROUNDING))

    def rounded(self, shifted):
        """Return (n, n as an integer word) of a number to which ROUNDING was added."""
        return self.sub(shifted, self.number(ROUNDING)), self.builder.sub(self.bits(shifted), self.bits(self.number(ROUNDING)))

    # ------------------------------------------------------------------ numbers in two parts

    def quick_sum(self, x, y):
        """x + y as (sum, what rounding lost), for |x| >= |y| or x = 0 (Dekker, 1971)."""
        total = self.add(x, y)
        return total, self.sub(y, self.sub(total, x))

    def exact_sum(self, x, y):
        """x + y as (sum, what rounding lost) (Knuth, 1969)."""
        total = self.add(x, y)
        back = self.sub(total, x)
        return total, self.add(self.sub(x, self.sub(total, back)), self.sub(y, back))

    def exact_product(self, x, y):
        """x y as (product, what rounding lost), after Dekker; the latter is NaN where the product overflows."""
        product = self.mul(x, y)
        if has_fused_multiply_add():
            return product, intrinsic(self.builder, "fma", [x, y, self.neg(product)])
        (a, b), (c, d) = self._halves(x), self._halves(y)
        lost = self.add(self.sub(self.mul(a, c), product), self.mul(a, d))
        return product, self.add(self.add(lost, self.mul(b, c)), self.mul(b, d))

    def _halves(self, x):
        """x as a sum of two numbers of 26 bits."""
        rounded = self.builder.add(self.bits(x), self.word(1 << 26))
        upper = self.float(self.builder.and_(rounded, self.word(UPPER_HALF)))
        return upper, self.sub(x, upper)

    def residual(self, x, y, z):
        """z - x y, where x y is close to z, without rounding error where a double holds the result."""
        if has_fused_multiply_add():
            return intrinsic(self.builder, "fma", [self.neg(x), y, z])
        product, lost = self.exact_product(x, y)
        return self.sub(self.sub(z, product), lost)

    # ------------------------------------------------------------------ what is seldom needed

    def replaced(self, condition, values, name, replacement, *arguments):
        """`values` with those of `replacement(emitter, *arguments)` in the lanes where `condition` holds.

        A branch around the call of one copy of the replacement's code, unless the code is to be straight.
        """
        if self.straight:
            return [self.where(condition, x, y) for x, y in zip(replacement(self, *arguments), values, strict=True)]
        start = self.builder.block
        with self.builder.if_then(self._any(condition), likely=False):
            function = self._out_of_line(name, replacement, [v.type for v in values], len(arguments))
            packed = self.builder.call(function, arguments)
            chosen = [self.where(condition, self.builder.extract_value(packed, i), v) for i, v in enumerate(values)]
            end = self.builder.block
        return [self._joined(x, end, y, start) for x, y in zip(chosen, values, strict=True)]

    def _joined(self, x, end, y, start):
        phi = self.builder.phi(x.type)
        phi.add_incoming(x, end)
        phi.add_incoming(y, start)
        return phi

    def _any(self, condition):
        if not self.width:
            return condition
        mask = self.builder.bitcast(condition, ir.IntType(self.width))
        return self.builder.icmp_unsigned("!=", mask, ir.Constant(mask.type, 0))

    def _out_of_line(self, name, replacement, results, count):
        name, module = f"tape.{name}.{type_name(self.number_type)}", self.builder.module
        if name in module.globals:
            return module.globals[name]
        function = ir.Function(module, ir.FunctionType(ir.LiteralStructType(results), [self.number_type] * count), name)
        function.linkage = "internal"
        for attribute in ("nounwind", "noinline", "cold"):
            function.attributes.add(attribute)
        builder = ir.IRBuilder(function.append_basic_block("entry"))
        packed = ir.Constant(function.function_type.return_type, ir.Undefined)
        for i, value in enumerate(replacement(FunctionEmitter(builder, self.width), *function.args)):
            packed = builder.insert_value(packed, value, i)
        builder.ret(packed)
        return function

    def lane_by_lane(self, function, *arguments):
        """`function(builder, *numbers)` of each lane."""
        if not self.width:
            return function(self.builder, *arguments)
        result = ir.Constant(self.number_type, ir.Undefined)
        for i in range(self.width):
            lane = ir.Constant(I32, i)
            numbers = [self.builder.extract_element(x, lane) for x in arguments]
            result = self.builder.insert_element(result, function(self.builder, *numbers), lane)
        return result

    def lookup(self, name, rows, index):
        """The row of the table `rows` that each lane's `index` points at, as one number a column."""
        flat = [x for row in rows for x in row]
        table = self._table(name, flat)
        start = self.builder.mul(index, self.word(len(rows[0])))
        lanes = [self.builder.extract_element(start, ir.Constant(I32, i)) for i in range(self.width)] if self.width else [start]
        return [self._gathered(table, [self.builder.add(lane, ir.Constant(I64, column)) for lane in lanes])
                for column in range(len(rows[0]))]

    def _table(self, name, numbers):
        name, module = f"tape.{name}", self.builder.module
        if name in module.globals:
            return module.globals[name]
        kind = ir.ArrayType(F64, len(numbers))
        table = ir.GlobalVariable(module, kind, name)
        table.linkage, table.global_constant = "internal", True
        table.initializer = ir.Constant(kind, numbers)
        return table

    def _gathered(self, table, positions):
        loaded = [self.builder.load(self.builder.gep(table, [ir.Constant(I64, 0), p], inbounds=True)) for p in positions]
        if not self.width:
            return loaded[0]
        result = ir.Constant(self.number_type, ir.Undefined)
        for i, x in enumerate(loaded):
            result = self.builder.insert_element(result, x, ir.Constant(I32, i))
        return result
