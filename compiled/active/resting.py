"""Workspaces at rest: what they hold beyond the limit is freed at once, whichever thread made them grow."""

from __future__ import annotations

import functools

from llvmlite import ir
from numba import njit
from numba.core import cgutils, types
from numba.extending import intrinsic

from compiled.active.types import constant
from compiled.active.workspace import BUSY, MOST, WORDS, Workspace, block, give_back, release
from compiled.cache import cached, package_digest

LARGEST_PAIR = 8 + 4 + 1
"""Bytes of a pair of a cell and a float64, its count included; those that carry tangents are larger, and keep less."""


@intrinsic
def _free_resting(typingctx):
    """Take each workspace that nobody has, free what is too large, and hand it back."""

    def emit(context, builder, signature, args):
        start = block(builder)
        with cgutils.for_range(builder, constant(MOST - 1)) as loop:
            offset = builder.mul(builder.add(loop.index, constant(1)), constant(8 * WORDS))
            workspace = Workspace(context, builder, builder.gep(start, [offset]))
            outcome = builder.cmpxchg(workspace.field(BUSY), constant(0), constant(1), "acquire", "monotonic")
            with builder.if_then(builder.extract_value(outcome, 1)):
                give_back(workspace, LARGEST_PAIR)
                release(workspace)
        return ir.Constant(ir.IntType(64), 0)

    return types.int64(), emit


@functools.cache
def _freeing():
    def free():
        return _free_resting()

    return cached(njit(nogil=True)(free), package_digest())


def free_resting() -> None:
    """Free the buffers of all workspaces at rest that are larger than the limit."""
    _freeing()()
