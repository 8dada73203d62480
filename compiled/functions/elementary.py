"""Elementary functions as LLVM code, so that LLVM can turn loops over them into vector instructions.

Everything is computed in double precision, for float32 as well, with multiply-adds where the processor has them. No branch
and no call where the code is to be straight: plain IR, on every architecture. Subnormals, infinities, NaN and signed zeros
come out right; the errors stated are the largest that `tests/test_elementary.py` finds against mpmath.

What is here: the functions by name, and how one is emitted for scalars and vectors. What is not: the functions
(`exponentials.py`, `powers.py`, `trigonometry.py`, `error_function.py`, which name their sources) and what they are written
with (`emitter.py`).
"""

from __future__ import annotations

from llvmlite import ir

from compiled.functions import error_function, exponentials, powers, remainder, trigonometry
from compiled.functions.emitter import F64, FunctionEmitter, with_width

FUNCTIONS = {
    "exp": exponentials.exp, "expm1": exponentials.expm1, "exp2": exponentials.exp2, "log": exponentials.log,
    "log1p": exponentials.log1p, "log2": exponentials.log2, "log10": exponentials.log10, "sinh": exponentials.sinh,
    "cosh": exponentials.cosh, "tanh": exponentials.tanh, "sech2": exponentials.sech2,
    "exp_product": exponentials.exp_product, "pow": powers.power, "cbrt": powers.cbrt, "hypot": powers.hypot,
    "sin": trigonometry.sin, "cos": trigonometry.cos, "tan": trigonometry.tan, "arcsin": trigonometry.asin,
    "arccos": trigonometry.acos, "arctan": trigonometry.atan, "arctan2": trigonometry.arctan2, "erf": error_function.erf,
    "erfc": error_function.erfc, "ndtr": error_function.ndtr,
    "fmod": remainder.fmod, "arcsinh": exponentials.asinh, "arccosh": exponentials.acosh, "arctanh": exponentials.atanh,
}

BRANCHING = ("sin", "cos", "tan", "fmod")
"""Functions with a branch around what is seldom needed: they take two or three times as long when they are straight, or, as
`fmod`, never are."""


def emit(builder, name: str, values, straight=True):
    """Emit the function `name` of values of one type at the builder's position, and return its value.

    They are floats, doubles, or vectors of either. Without `straight` there may be a branch around what is seldom needed
    (then the builder ends in another block); the result is the same.
    """
    kind = values[0].type
    single = isinstance(getattr(kind, "element", kind), ir.FloatType)
    spared = simple(builder, name, values)
    if spared is not None:
        return spared
    if single:
        values = [builder.fpext(x, with_width(F64, x)) for x in values]
    result = FUNCTIONS[name](FunctionEmitter(builder, getattr(kind, "count", None), straight), *values)
    return builder.fptrunc(result, kind) if single else result


def simple(builder, name: str, values):
    """What needs no elementary function for a known operand: powers of exponent 1, 2, -1 or 1/2. None for anything else."""
    return powers.simple_power(builder, values) if name == "pow" else None
