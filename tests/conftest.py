"""What the tests of the compiled floor share: writing a list by hand, and running it with the sweeps or with the reference.

What is not here: fixtures of the upper floor.
"""

import numpy as np
import pytest

from compiled.active.workspace import BUSY, HEADERS
from compiled.lists import reference
from compiled.lists.program import Program
from compiled.sweeps import building, engine
from compiled.sweeps.engine import ENGINE
from compiled.table.views import View
from tape.recording.recorder import Recorder
from tape.rules.indexing import located

engine.PATIENCE = 0.0
"""In the tests a sweep's kernel is compiled when it is first wanted, as which tier runs a list depends on whether it is there;
what is done without kernels is tested in processes of its own (`test_first_minutes.py`)."""


def pytest_sessionstart(session):
    """Compile all kernels once for the processes of pytest-xdist, which would else each compile them."""
    if getattr(session.config.option, "numprocesses", None):
        for _ in building.build():
            pass


class Writer(Recorder):
    """A recorder to which tests say instruction by instruction what to write."""

    def array(self, values, active=True) -> View:
        """A new input slot that holds `values`."""
        return self.input(np.asarray(values), active)

    def apply(self, name, *operands) -> View:
        """Write elementwise instruction `name` on views that broadcast; returns its new output."""
        shape = np.broadcast_shapes(*(view.shape for view in operands))
        out = self.new_slot(shape)
        self.elementwise(name, list(operands), shape, out)
        return out

    def seen(self, view, function) -> View:
        """The view that a NumPy function which does not copy makes of another view."""
        buffer = self.memory.values
        return located(function(view.of(buffer)), view.of(buffer), buffer, view)

    def finished(self, *outputs) -> Program:
        """The program as written so far, with the values that are in its inputs now."""
        program = self.program(list(outputs))
        for view in program.inputs:
            view.of(program.values)[...] = view.of(self.memory.values)
        return program


class Sweeps:
    """The four sweeps of an engine over one program, on fresh buffers that the results hand out.

    Parameters
    ----------
    program : Program
        With the values of its inputs in place.
    engine : Engine, optional
        The compiled sweeps; None for the reference interpreter.
    """

    def __init__(self, program, engine=ENGINE):
        self.program, self.engine = program, engine

    def buffers(self, *seeds):
        """A new value buffer, and one buffer for each of `seeds`: pairs of view and array, all else zero."""
        made = [self.program.values.copy()]
        for pairs in seeds:
            made.append(np.zeros_like(self.program.values))
            for view, array in pairs:
                view.of(made[-1])[...] += array
        return made

    def forward(self):
        """Values."""
        return self.tangent([])[0] if self.engine is None else self._forward()

    def _forward(self):
        (values,) = self.buffers()
        assert self.engine.forward(self.program.code, self.program.geometry, values, 0, len(self.program.code)) == -1
        return values

    def tangent(self, tangents):
        """Values and tangents."""
        values, along = self.buffers(tangents)
        if self.engine is None:
            reference.forward(self.program, values, along)
        else:
            assert self.engine.tangent(self.program.code, self.program.geometry, values, along) == -1
        return values, along

    def reverse(self, adjoints, keep=False):
        """Values as the sweep leaves them, and adjoints."""
        values = self.forward()
        _, back = self.buffers(adjoints)
        if self.engine is None:
            reference.reverse(self.program, values, back, keep, np.zeros_like(values), np.zeros_like(values))
        else:
            self.engine.reverse(self.program.code, self.program.geometry, values, back, keep)
        return values, back

    def tangent_reverse(self, tangents, adjoints):
        """Values and tangents as the sweep leaves them, adjoints and their tangents."""
        values, along = self.tangent(tangents)
        _, back, both = self.buffers(adjoints, [])
        if self.engine is None:
            reference.reverse(self.program, values, back, False, along, both)
        else:
            self.engine.tangent_reverse(self.program.code, self.program.geometry, values, along, back, both)
        return values, along, back, both


@pytest.fixture
def sweeps():
    """The class `Sweeps`."""
    return Sweeps


@pytest.fixture
def writer():
    """The class `Writer`."""
    return Writer


@pytest.fixture(autouse=True)
def workspaces_come_back():
    """Fail a test after which a call of a jitted derivative still has its workspace."""
    before = HEADERS[1:, BUSY].copy()
    yield
    kept = np.flatnonzero(HEADERS[1:, BUSY] > before)
    assert not kept.size, f"workspaces {kept + 1} are still at work"
