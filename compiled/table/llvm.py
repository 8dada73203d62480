"""The LLVM reader of rules: a number whose operators emit instructions.

What is not here: loops over cells (`planes.py`) and what runs an instruction (`steps.py`).
"""

from __future__ import annotations

from llvmlite import ir
from numba.core import cgutils

from compiled.functions import elementary, special, zeta
from compiled.functions.emitter import F64, intrinsic, splat, type_name, with_width
from compiled.table.numbers import Number

I64 = ir.IntType(64)
I32 = ir.IntType(32)


class LLVMValue(Number):
    """A number that is an LLVM value; applying an instruction to it emits code at the builder's position.

    The value is a float, a double, or a vector of either; plain numbers are the same in every lane.

    With `inline`, elementary functions are spelled out in place, as a loop that is to be vectorised needs them; without,
    they are calls, which compile faster. What is spelled out for a vector may end in another block; for a scalar it does not,
    as a branch would keep LLVM from vectorising the loop.
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
        values = [x.value if isinstance(x, LLVMValue) else splat(kind, float(x)) for x in operands]
        emit, _, argument = row.llvm.partition(":")
        if emit == "elementary" and not self.inline:
            emit = "called"
        return LLVMValue(self.builder, _EMITTERS[emit](self.builder, argument, values), self.table, self.inline)

    def in_double(self, function, operands):
        kind = self.value.type
        if not _is_single(kind) or not all(isinstance(x, LLVMValue) or not isinstance(x, Number) for x in operands):
            return function(*operands)
        wide = with_width(F64, self.value)
        result = function(*(self._like(self.builder.fpext(x.value, wide)) if isinstance(x, LLVMValue) else x for x in operands))
        return self._like(self.builder.fptrunc(result.value, kind))

    def _like(self, value):
        return LLVMValue(self.builder, value, self.table, self.inline)


def _is_vector(value):
    return isinstance(value.type, ir.VectorType)


def _is_single(kind):
    return isinstance(getattr(kind, "element", kind), ir.FloatType)


def _intrinsic(builder, name, values):
    return intrinsic(builder, name, values)


def _libm(builder, name, values):
    """A function of C's library; of vectors lane by lane."""
    if _is_vector(values[0]):
        return _lane_by_lane(builder, lambda lanes: _libm(builder, name, lanes), values)
    name += "f" if _is_single(values[0].type) else ""
    return builder.call(cgutils.get_or_insert_function(builder.module, _signature(values), name), values)


def _lane_by_lane(builder, function, values):
    result = ir.Constant(values[0].type, ir.Undefined)
    for i in range(values[0].type.count):
        position = ir.Constant(I32, i)
        lanes = [builder.extract_element(v, position) for v in values]
        result = builder.insert_element(result, function(lanes), position)
    return result


def _elementary(builder, name, values):
    return elementary.emit(builder, name, values, straight=not _is_vector(values[0]))


def _called(builder, name, values):
    """An elementary function as a call of one copy of its code for the values' type."""
    kind = values[0].type
    simple = elementary.simple(builder, name, values)
    if simple is not None:
        return simple

    def emit(body, arguments):
        body.ret(elementary.emit(body, name, arguments, straight=False))

    kinds = [v.type for v in values]
    function = internal_function(builder.module, f"tape.{name}.{type_name(kind)}", kinds, emit, inline=False, result=kind)
    return builder.call(function, values)


def _special(builder, name, values):
    """A function of SciPy's, of doubles: of vectors lane by lane, of float32 in double precision."""
    return _in_double(builder, lambda lanes: special.call(builder, name, lanes), values)


def _zeta(builder, _, values):
    """A call of one copy of the code for doubles."""
    def emit(body, arguments):
        zeta.body(body, *arguments, power=lambda b, x, y: _called(b, "pow", [x, y]))

    function = internal_function(builder.module, "tape.zeta", [F64, F64], emit, inline=False, result=F64)
    return _in_double(builder, lambda lanes: builder.call(function, lanes), values)


def _in_double(builder, function, values):
    if _is_vector(values[0]):
        return _lane_by_lane(builder, lambda lanes: _in_double(builder, function, lanes), values)
    if not _is_single(values[0].type):
        return function(values)
    return builder.fptrunc(function([builder.fpext(x, F64) for x in values]), values[0].type)


def _signature(values):
    return ir.FunctionType(values[0].type, [v.type for v in values])


def _compare(builder, predicate, values):
    compare = builder.fcmp_unordered if predicate == "!=" else builder.fcmp_ordered
    return builder.uitofp(compare(predicate, *values), values[0].type)


def _select(builder, _, values):
    condition, x, y = values
    return builder.select(builder.fcmp_unordered("!=", condition, splat(condition.type, 0.0)), x, y)


def _uniform(builder, _, values):
    """`instructions.uniform_bits` in 64-bit integer arithmetic."""

    kind = values[0].type
    words = with_width(I64, values[0])

    def word(x):
        return splat(words, x)

    def mix(z):
        z = builder.add(z, word(0x9E3779B97F4A7C15))
        z = builder.mul(builder.xor(z, builder.lshr(z, word(30))), word(0xBF58476D1CE4E5B9))
        z = builder.mul(builder.xor(z, builder.lshr(z, word(27))), word(0x94D049BB133111EB))
        return builder.xor(z, builder.lshr(z, word(31)))

    seed, index = (builder.fptosi(v, words) for v in values)
    bits = 24 if _is_single(kind) else 53
    mixed = builder.lshr(mix(builder.xor(mix(seed), index)), word(64 - bits))
    return builder.fmul(builder.uitofp(mixed, kind), splat(kind, 2.0**-bits))


_EMITTERS = {
    "fadd": lambda b, _, v: b.fadd(*v),
    "fsub": lambda b, _, v: b.fsub(*v),
    "fmul": lambda b, _, v: b.fmul(*v),
    "fdiv": lambda b, _, v: b.fdiv(*v),
    "fneg": lambda b, _, v: b.fneg(*v),
    "called": _called,
    "elementary": _elementary,
    "intrinsic": _intrinsic,
    "libm": _libm,
    "compare": _compare,
    "select": _select,
    "special": _special,
    "uniform": _uniform,
    "zeta": _zeta,
}

VECTORISED = ("elementary", "fadd", "fsub", "fmul", "fdiv", "fneg", "compare", "select", "uniform",
              "intrinsic:sqrt", "intrinsic:fabs", "intrinsic:floor", "intrinsic:ceil", "intrinsic:trunc", "intrinsic:rint")
"""What LLVM turns into vector instructions; a loop with anything else stays scalar."""


def is_vectorised(row) -> bool:
    """Whether LLVM turns loops over this primitive row into vector instructions."""
    return row.llvm.startswith(VECTORISED)


def is_branching(row) -> bool:
    """Whether this primitive row is faster on vectors, where it may have a branch, than in a loop that LLVM vectorises."""
    emit, _, name = row.llvm.partition(":")
    return emit == "elementary" and name in elementary.BRANCHING


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
