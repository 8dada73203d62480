"""What an operation does to numbers that carry derivatives: the instruction table's rules, read at compile time.

A number over a base applies an instruction in two steps: the base computes the value, the number takes the row's partials,
computed by the base too, and makes of them tangents (`Dual`), a statement (`Active`) or an instruction (`Recorded`). So any
nesting of derivatives comes out of the same few lines. At the bottom stand LLVM values, and the value proper of a user's
operation is what Numba itself makes of it, bit for bit.
"""

from __future__ import annotations

from llvmlite import ir
from numba.core import types

from compiled.active import recording
from compiled.active.types import Active, Dual, Recorded, constant, depth, proxy, with_bottom
from compiled.active.workspace import MOST_PAIRS, push_statement
from compiled.table.instructions import TABLE
from compiled.table.llvm import LLVMValue
from compiled.table.numbers import Number, is_constant, plus, product

F64 = ir.DoubleType()


class Emission:
    """Where code is being written.

    Parameters
    ----------
    context : numba target context
    builder : llvmlite IRBuilder
    line : int
        Number of the user's line (`recording.LINES`).
    """

    def __init__(self, context, builder, line=0):
        self.context, self.builder, self.line = context, builder, line

    def number(self, kind, value) -> Number:
        """The number that a Numba value of type `kind` is."""
        kind = types.unliteral(kind)
        if isinstance(kind, (Active, Recorded)):
            struct = proxy(self.context, self.builder, kind, value)
            made = ActiveNumber if isinstance(kind, Active) else RecordedNumber
            return made(self, kind, self.number(kind.base, struct.value), struct.cell)
        if isinstance(kind, Dual):
            struct = proxy(self.context, self.builder, kind, value)
            tangents = [self.number(kind.base, getattr(struct, f"tangent{k}")) for k in range(kind.width)]
            return DualNumber(self, kind, self.number(kind.base, struct.value), tangents)
        if not isinstance(kind, types.Float):
            value = self.context.cast(self.builder, value, kind, types.float64)
        return LLVMValue(self.builder, value, TABLE)

    def value(self, kind, number):
        """The Numba value of type `kind` that a number is; numbers of less depth are constants."""
        if isinstance(kind, (Active, Recorded)):
            struct = proxy(self.context, self.builder, kind)
            same = isinstance(number, DifferentialNumber) and depth(number.kind) == depth(kind)
            struct.value = self.value(kind.base, number.primal if same else number)
            struct.cell = number.cell if same else constant(0)
            return struct._getvalue()
        if isinstance(kind, Dual):
            struct = proxy(self.context, self.builder, kind)
            same = isinstance(number, DifferentialNumber) and depth(number.kind) == depth(kind)
            struct.value = self.value(kind.base, number.primal if same else number)
            for k in range(kind.width):
                setattr(struct, f"tangent{k}", self.value(kind.base, number.tangents[k] if same else 0.0))
            return struct._getvalue()
        wanted = self.context.get_value_type(kind)
        if is_constant(number):
            return ir.Constant(wanted, float(number))
        if number.value.type == wanted:
            return number.value
        widen = isinstance(wanted, ir.DoubleType)
        return (self.builder.fpext if widen else self.builder.fptrunc)(number.value, wanted)

    def double(self, number):
        """The number in double precision, as rules compute with it."""
        if is_constant(number):
            return number
        if isinstance(number, DifferentialNumber):
            return number.over(self.double(number.primal))
        if number.value.type == F64:
            return number
        return LLVMValue(self.builder, self.builder.fpext(number.value, F64), TABLE)


def primal_of(number, level: int):
    """The number below nesting level `level`."""
    return number.primal if level_of(number) == level else number


def level_of(number) -> int:
    """Nesting depth of a number."""
    return number.level if isinstance(number, DifferentialNumber) else 0


def apply(row, operands, value=None):
    """Apply an instruction to numbers.

    Parameters
    ----------
    row : instructions.Row
    operands : sequence of Number or float
    value : LLVMValue, optional
        The value at the bottom, where Numba has computed it; else the table's rule does.
    """
    level = max(map(level_of, operands))
    if level == 0:
        return TABLE.apply(row.name, *operands) if value is None else value
    top = next(x for x in operands if level_of(x) == level)
    inner = [primal_of(x, level) for x in operands]
    return top.combined(row, operands, inner, apply(row, inner, value))


def partials_of(emission, row, operands, inner, value, level):
    """Pairs (operand, partial) of the operands at nesting level `level`."""
    return [(operands[k], partial) for k, partial in numbered_partials_of(emission, row, operands, inner, value, level)]


def numbered_partials_of(emission, row, operands, inner, value, level):
    """Pairs (number of an operand, partial) of the operands at nesting level `level`."""
    inner, value = [emission.double(x) for x in inner], emission.double(value)
    pairs = []
    for k, (x, partial) in enumerate(zip(operands, row.partials, strict=True)):
        if partial is not None and level_of(x) == level:
            p = partial(*inner, value)
            if not is_constant(p, 0.0):
                pairs.append((k, p))
    return pairs


class DifferentialNumber(Number):
    """A number over a base; `kind` is its Numba type."""

    __slots__ = ("emission", "kind", "level", "primal")

    def __init__(self, emission, kind, primal):
        self.emission, self.kind, self.primal, self.level = emission, kind, primal, depth(kind)

    def apply(self, name, operands):
        return apply(TABLE[name], operands)

    def over(self, primal):
        """The same number with its value in double precision."""
        raise NotImplementedError


class DualNumber(DifferentialNumber):
    """A value and tangents."""

    __slots__ = ("tangents",)

    def __init__(self, emission, kind, primal, tangents):
        super().__init__(emission, kind, primal)
        self.tangents = tangents

    def over(self, primal):
        return DualNumber(self.emission, with_bottom(self.kind, types.float64), primal,
                          [self.emission.double(t) for t in self.tangents])

    def combined(self, row, operands, inner, value):
        """The result of an instruction: its value is known, its tangents follow from the partials."""
        pairs = numbered_partials_of(self.emission, row, operands, inner, value, self.level)
        tangents = []
        for direction in range(self.kind.width):
            tangent = 0.0
            for k, partial in pairs:
                flow = self.emission.double(operands[k].tangents[direction])
                tangent = plus(tangent, product(TABLE, flow, partial))
            tangents.append(tangent)
        return DualNumber(self.emission, self.kind, value, tangents)


class ActiveNumber(DifferentialNumber):
    """A value and the word of its cell."""

    __slots__ = ("cell",)

    def __init__(self, emission, kind, primal, cell):
        super().__init__(emission, kind, primal)
        self.cell = cell

    def over(self, primal):
        return ActiveNumber(self.emission, with_bottom(self.kind, types.float64), primal, self.cell)

    def combined(self, row, operands, inner, value):
        """The result of an instruction that is a statement of its own."""
        pairs = partials_of(self.emission, row, operands, inner, value, self.level)
        return self.stated(value, [(x.cell, partial) for x, partial in pairs])

    def stated(self, value, pairs, held=False):
        """The number `value` whose derivative for each pair's cell is the pair's partial, as a statement of the list."""
        if not pairs:
            return ActiveNumber(self.emission, self.kind, value, constant(0))
        emission = self.emission
        while len(pairs) > MOST_PAIRS:
            part = self.stated(value, pairs[:MOST_PAIRS])
            pairs = [(part.cell, 1.0), *pairs[MOST_PAIRS:]]
        kind = with_bottom(self.kind.base, types.float64)
        stored = [emission.context.get_value_as_data(emission.builder, kind, emission.value(kind, p)) for _, p in pairs]
        cell = push_statement(emission.context, emission.builder, kind, [word for word, _ in pairs], stored, held)
        return ActiveNumber(emission, self.kind, value, cell)


class RecordedNumber(DifferentialNumber):
    """A value and the word of its cell in a list of table instructions."""

    __slots__ = ("cell",)

    def __init__(self, emission, kind, primal, cell):
        super().__init__(emission, kind, primal)
        self.cell = cell

    def over(self, primal):
        return RecordedNumber(self.emission, with_bottom(self.kind, types.float64), primal, self.cell)

    def combined(self, row, operands, inner, value):
        """The result of an instruction that is written to the list."""
        cell = recording.push_instruction(self.emission, row, operands, inner, value, self.emission.line)
        return RecordedNumber(self.emission, self.kind, value, cell)
