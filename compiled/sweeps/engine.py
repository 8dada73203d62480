"""The sweeps of an instruction set, made at first use; and the statuses they return, in words."""

from __future__ import annotations

import functools

from compiled.forking import cached_property
from compiled.sweeps.forward import make_forward
from compiled.sweeps.reverse import make_reverse
from compiled.sweeps.tangent import make_tangent
from compiled.sweeps.tangent_reverse import make_tangent_reverse
from compiled.table.instructions import TABLE


class Engine:
    """The four sweeps over one instruction set; each compiles, or loads from the cache on disk, at its first call.

    Parameters
    ----------
    table : instructions.Table
        The instruction set.
    """

    def __init__(self, table=TABLE):
        self.table = table

    @cached_property
    def forward(self):
        """See `forward.make_forward`."""
        return make_forward(self.table)

    @cached_property
    def reverse(self):
        """See `reverse.make_reverse`."""
        return make_reverse(self.table)

    @cached_property
    def tangent(self):
        """See `tangent.make_tangent`."""
        return make_tangent(self.table)

    @cached_property
    def tangent_reverse(self):
        """See `tangent_reverse.make_tangent_reverse`."""
        return make_tangent_reverse(self.table)


ENGINE = Engine()
"""The sweeps over `instructions.TABLE`."""


@functools.cache
def engine_of(table) -> Engine:
    """The sweeps over a table, made once."""
    return ENGINE if table is TABLE else Engine(table)
