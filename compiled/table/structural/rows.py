"""The structural rows, in the order of their opcodes (see `row.py` for what a row says)."""

from compiled.table.structural.amax import AMAX
from compiled.table.structural.control import CALLED, LOOP
from compiled.table.structural.guard import GUARD
from compiled.table.structural.indexed import GATHER, SCATTER_ADD, SCATTER_ASSIGN
from compiled.table.structural.matmul import MATMUL
from compiled.table.structural.windows import WINDOW_PRODUCT

STRUCTURAL_ROWS = (GATHER, SCATTER_ADD, SCATTER_ASSIGN, MATMUL, AMAX, LOOP, CALLED, GUARD, WINDOW_PRODUCT)
