"""The LLVM reader of rules: a number whose operators emit instructions.

What is not here: loops over cells (`planes.py`) and what runs an instruction (`steps.py`).
"""

from __future__ import annotations

from llvmlite import ir
from numba.core import cgutils

from compiled import elementary
from compiled.numbers import Number

I64 = ir.IntType(64)
I32 = ir.IntType(32)


class LLVMValue(Number):
    """A number that is an LLVM value; applying an instruction to it emits code at the builder's position.

    With `inline`, elementary functions are spelled out in place, as a loop that is to be vectorised needs them; without,
    they are calls, which compile faster.
    """

    __slots__ = ("builder", "inline", "table", "value")

    def __init__(self, builder, value, table, inline=False):
        self.builder, self.value, self.table, self.inline = builder, value, table, inline

    def apply(self, name, operands):
        row = self.table[name]
        for x in operands:
            if isinstance(x, Number) and not isinstance(x, LLVMValue):
                return x.apply(name, operands)  # a number over LLVM values
        if row.llvm is None:
            return row.value(*operands)
        kind = self.value.type
        values = [x.value if isinstance(x, LLVMValue) else ir.Constant(kind, float(x)) for x in operands]
        emit, _, argument = row.llvm.partition(":")
        if emit == "elementary" and not self.inline:
            emit = "called"
        return LLVMValue(self.builder, _EMITTERS[emit](self.builder, argument, values), self.table, self.inline)


def _intrinsic(builder, name, values):
    return builder.call(builder.module.declare_intrinsic(f"llvm.{name}", [values[0].type], _signature(values)), values)


def _libm(builder, name, values):
    name += "f" if isinstance(values[0].type, ir.FloatType) else ""
    return builder.call(cgutils.get_or_insert_function(builder.module, _signature(values), name), values)


def _called(builder, name, values):
    """An elementary function as a call of one copy of its code."""
    kind = values[0].type

    def emit(body, arguments):
        body.ret(elementary.emit(body, name, arguments))

    function = internal_function(builder.module, f"tape.{name}.{kind}", [kind], emit, inline=False, result=kind)
    return builder.call(function, values)


def _signature(values):
    return ir.FunctionType(values[0].type, [v.type for v in values])


def _compare(builder, predicate, values):
    compare = builder.fcmp_unordered if predicate == "!=" else builder.fcmp_ordered
    return builder.uitofp(compare(predicate, *values), values[0].type)


def _select(builder, _, values):
    condition, x, y = values
    return builder.select(builder.fcmp_unordered("!=", condition, ir.Constant(condition.type, 0.0)), x, y)


def _uniform(builder, _, values):
    """`instructions.uniform_bits` in 64-bit integer arithmetic."""

    def word(x):
        return ir.Constant(I64, x)

    def mix(z):
        z = builder.add(z, word(0x9E3779B97F4A7C15))
        z = builder.mul(builder.xor(z, builder.lshr(z, word(30))), word(0xBF58476D1CE4E5B9))
        z = builder.mul(builder.xor(z, builder.lshr(z, word(27))), word(0x94D049BB133111EB))
        return builder.xor(z, builder.lshr(z, word(31)))

    kind = values[0].type
    seed, index = (builder.fptosi(v, I64) for v in values)
    bits = 24 if isinstance(kind, ir.FloatType) else 53
    mixed = builder.lshr(mix(builder.xor(mix(seed), index)), word(64 - bits))
    return builder.fmul(builder.uitofp(mixed, kind), ir.Constant(kind, 2.0**-bits))


_EMITTERS = {
    "fadd": lambda b, _, v: b.fadd(*v),
    "fsub": lambda b, _, v: b.fsub(*v),
    "fmul": lambda b, _, v: b.fmul(*v),
    "fdiv": lambda b, _, v: b.fdiv(*v),
    "fneg": lambda b, _, v: b.fneg(*v),
    "called": _called,
    "elementary": elementary.emit,
    "intrinsic": _intrinsic,
    "libm": _libm,
    "compare": _compare,
    "select": _select,
    "uniform": _uniform,
}

VECTORISED = ("elementary", "fadd", "fsub", "fmul", "fdiv", "fneg", "compare", "select", "uniform",
              "intrinsic:sqrt", "intrinsic:fabs", "intrinsic:floor", "intrinsic:ceil")
"""What LLVM turns into vector instructions; a loop with anything else stays scalar."""


def is_vectorised(row) -> bool:
    """Whether LLVM turns loops over this primitive row into vector instructions."""
    return row.llvm.startswith(VECTORISED)


def internal_function(module, name, argument_types, emit_body, inline, result=None):
    """Return the module's internal function `name`; at first use `emit_body(builder, arguments)` writes it."""
    if name in module.globals:
        return module.globals[name]
    function = ir.Function(module, ir.FunctionType(result or ir.VoidType(), argument_types), name)
    function.linkage = "internal"
    function.attributes.add("nounwind")
    function.attributes.add("alwaysinline" if inline else "noinline")
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    emit_body(builder, list(function.args))
    if not builder.block.is_terminated:
        builder.ret_void()
    return function
