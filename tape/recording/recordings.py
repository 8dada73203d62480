"""Recording one call of a function: from its arguments to a list, with the values of this call in place.

What is not here: the instructions (`recorder.py`), keeping lists and running them again (`traces.py`).
"""

from __future__ import annotations

import numpy as np

from compiled.table.views import has_distinct_cells
from tape.errors import NotDifferentiable
from tape.recording.argument_memory import changes_inputs, memory_of, shared_leaves
from tape.recording.arguments import HELD, apart, argument_of, describe, differentiated_leaves, result_leaves
from tape.recording.arrays import RecordedArray, stop_gradient
from tape.recording.containers import classes_in, leaves_of, opened, with_leaves
from tape.recording.freshness import State
from tape.recording.integers import bounds_of_argument, is_integral
from tape.recording.random_states import global_random_state
from tape.recording.recorder import Promote, Recorder
from tape.recording.trace import Trace, Workspace


class Recording:
    """A call that is recorded.

    Parameters
    ----------
    function : callable
        NumPy code.
    args, kwargs
        Its arguments.
    argnums : tuple of int and str
        Which positional and keyword arguments are differentiated.
    checks_integers : bool
        See `traces.Traces`.
    has_aux : bool
        Whether the function returns a pair, of which the second part is no result but goes along.

    Attributes
    ----------
    state : State
        What the function reads beside its arguments, as of now: it may be other variables than at an earlier call.
    """

    def __init__(self, function, args, kwargs, argnums, checks_integers: bool, has_aux: bool = False):
        self.function, self.checks_integers, self.has_aux = function, checks_integers, has_aux
        self.leaves, self.structure = leaves_of((args, kwargs))
        self.described = [describe(leaf) for leaf in self.leaves]
        self.differentiated = differentiated_leaves(args, kwargs, argnums, self.leaves, self.described)
        self.state = State(function, {*map(type, objects_of(self.leaves)), *classes_in(self.structure)})

    def traced(self) -> tuple[Trace, Workspace]:
        """Record the call; the list's state is None where what the function reads changes while it is called."""
        objects = objects_of(self.leaves)
        before = self.state.snapshot(objects), global_random_state()
        trace, workspace = self._as_given()
        # A function that changes what it reads (a counter, a random generator) is recorded at each call.
        unchanged = before[0].holds(objects) and before[1] == global_random_state()
        trace.state = before[0] if unchanged else None
        return trace, workspace

    def _as_given(self):
        """Record the function, its arguments sharing memory where the function changes them and they do."""
        trace, workspace = self._promoted()
        if not changes_inputs(trace.program):
            return trace, workspace
        memory = memory_of(self.leaves)
        if memory.overlaps:
            trace, workspace = self._promoted(shared_leaves(memory, self.differentiated))
        trace.memory = memory
        return trace, workspace

    def _promoted(self, shared=()):
        """Record the function in the precision of its arguments, or in double precision where it meets that."""
        # Python floats are weak, as in NumPy: they do not make a float32 list float64.
        # Integers where floats are meant count as float64.
        arrays = [d.dtype if d.dtype.kind == "f" else np.float64 for k, d in enumerate(self.described)
                  if d.kind != "static" and not isinstance(d.dtype, type) and (d.dtype.kind == "f" or k in self.differentiated)]
        try:
            return self._recorded(np.result_type(*arrays) if arrays else np.dtype(np.float64), shared)
        except Promote:
            return self._recorded(np.dtype(np.float64), shared)

    def _recorded(self, dtype, shared):
        """Record the function; `shared` are pairs of leaves that are one memory, of which the first stands for both."""
        recorder = Recorder(dtype)
        inputs, fields = self._inputs(recorder)
        for one, other in shared:
            if isinstance(inputs[other], RecordedArray):  # not so integers that cells do not hold
                inputs[other].view = inputs[one].view
        with recorder.recording():
            args, kwargs = with_leaves(self.structure, inputs)
            try:
                results, structure, own = self._results(self.function(*args, **kwargs))
            except (TypeError, ValueError) as error:
                raise _reason(error) from None
        outputs, which, dtypes = _outputs(recorder, results)
        trace = Trace(program=recorder.program(outputs), leaves=self.described, results=which, result_dtypes=dtypes,
                      own=own, has_aux=self.has_aux, structure=structure, outcomes=tuple(recorder.outcomes), **fields)
        # What nobody has asked for yet is computed when somebody does: a derivative in native code computes it anyway.
        return trace, Workspace(trace.program, trace.wrt, recorder.memory.values, recorder.executed)

    def _results(self, returned):
        """Leaves and structure of what the function returned, and how many are no aux, from which nothing flows back."""
        if not self.has_aux:
            leaves, structure = result_leaves(returned)
            return leaves, structure, len(leaves)
        result, aux = apart(returned)
        leaves, structure = leaves_of((opened(result), opened(stop_gradient(aux))))
        return leaves, structure, len(result_leaves(result)[0])

    def _inputs(self, recorder):
        """What the function is called with, leaf by leaf, and what the list has to say of it."""
        inputs, dynamic, wrt, bounds, fixed = [], [], [], {}, {}
        for k, (leaf, description) in enumerate(zip(self.leaves, self.described, strict=True)):
            is_differentiated = k in self.differentiated
            if description.kind == "static":
                inputs.append(leaf)
                continue
            if not is_differentiated and is_integral(leaf):
                bounds[k] = bounds_of_argument(leaf, recorder.dtype, self.checks_integers)
                if bounds[k] is None:
                    del bounds[k]
                    fixed[k] = leaf.copy() if isinstance(leaf, np.ndarray) else leaf
                    inputs.append(leaf)
                    continue
            if is_differentiated:
                wrt.append(len(dynamic))
            dynamic.append(k)
            array = np.asarray(leaf)
            if is_differentiated and array.dtype.kind in "iu":
                array = array.astype(np.float64)  # integers where floats are meant
            view = recorder.input(array, is_differentiated, bounds.get(k))
            inputs.append(argument_of(recorder, view, array.dtype, description))
            inputs[-1].writeable = description.kind != "array" or bool(leaf.flags.writeable)
        bounds = _narrowed(bounds, self.described)
        return inputs, {"dynamic": dynamic, "wrt": wrt, "bounds": bounds, "fixed": fixed}


def _outputs(recorder, results):
    """The list's outputs, and for each leaf of the result its number among them, or the constant it is, and its dtype."""
    outputs, which, dtypes = [], [], []
    for leaf in results:
        if isinstance(leaf, RecordedArray):
            if leaf.recorder is not recorder:
                raise NotDifferentiable("the function returned a recorded array of another recording")
            which.append(len(outputs))
            # Adjoints are added element by element, so no two elements of a result may share a cell.
            outputs.append(leaf.view if has_distinct_cells(leaf.view) else recorder.copied(leaf.view))
            dtypes.append(leaf.dtype)
        else:
            which.append((leaf,))
            dtypes.append(np.asarray(leaf).dtype)
    return outputs, which, dtypes


def objects_of(leaves):
    """The leaves that are neither numbers nor arrays of numbers that cells hold."""
    return [leaf for leaf in leaves if not isinstance(leaf, (float, int, np.generic, str, type(None)))
            and not (isinstance(leaf, np.ndarray) and leaf.dtype.char in HELD)]


def _narrowed(bounds, described):
    """The bounds that are to be looked at: narrow integers are within theirs whatever their values are."""
    return {k: interval for k, interval in bounds.items() if described[k].dtype is int or described[k].dtype.itemsize > 2}


def _reason(error: Exception) -> Exception:
    """The NotDifferentiable that NumPy turned into an error of its own, or the error."""
    reason = error
    while reason is not None:
        if isinstance(reason, NotDifferentiable):
            return reason
        reason = reason.__cause__ or reason.__context__
    return error
