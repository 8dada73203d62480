"""Cells by number, as native code of structural instructions reads and writes them, in lanes too."""

from __future__ import annotations

from llvmlite import ir

from compiled.table.llvm import I64


class Cells:
    """The cells from a reference on, as numbers: in lanes a cell is as many neighbours."""

    def __init__(self, piece, ref):
        self.piece, self.ref = piece, ref
        array = piece.listing.constants.get(ref.slot)
        self.number = float(array.reshape(-1)[0]) if array is not None and array.size == 1 else None
        if self.number is None:
            base, narrow = piece.base(ref.slot)
            self.pointer = piece.builder.gep(base, [ir.Constant(I64, ref.offset)])
            self.lanes = 1 if narrow else piece.emitter.lanes
            if self.lanes > 1:
                self.pointer = piece.builder.bitcast(self.pointer, piece.emitter.number.as_pointer())

    def address(self, index, lane):
        builder = self.piece.builder
        if self.lanes > 1:
            index = builder.add(builder.mul(index, ir.Constant(I64, self.lanes)), lane)
        return builder.gep(self.pointer, [index])

    def load(self, index, lane):
        if self.number is not None:
            return ir.Constant(self.piece.emitter.number, self.number)
        return self.piece.builder.load(self.address(index, lane))

    def store(self, index, lane, value):
        self.piece.builder.store(value, self.address(index, lane))
