"""The textbook's view of a list: its variables, the operations that compute them, and who uses what.

What is here: `Graph`, made of a list taken apart, and `Operation`. What is not: the methods users call (`tape.py`), the sweeps.
Source: Goodfellow, Bengio, Courville, "Deep learning", MIT Press 2016, section 6.5.
"""

from __future__ import annotations

import numpy as np

from compiled.lists.listing import Listing, Ref, Result
from compiled.table.views import contiguous
from tape.errors import NotDifferentiable
from tape.transforms.simplify import dead_code


class Graph:
    """Who writes and who reads each slot of a list.

    A variable is a slot. All instructions that write it (an initial zero and what is added to it, the pieces of a
    concatenation, assignments) are one operation; its inputs are the slots that these read, each once, in the order of the
    reading. What an assignment saves for the reverse sweep is no variable, and a guard is no operation.

    Parameters
    ----------
    listing : Listing
        The list.

    Attributes
    ----------
    writers : dict of int to list of Step
        The steps that compute each variable, in order; no entry for inputs and constants.
    inputs, consumers : dict of int to list of int
        Variables by number.
    reused : set of int
        Slots that were read and written to again after: the cells hold several variables, one after the other.
    """

    def __init__(self, listing: Listing):
        self.listing = listing
        self._owners = _saving_slots(listing)
        self.writers: dict[int, list] = {}
        self.inputs: dict[int, list[int]] = {}
        self.consumers: dict[int, list[int]] = {}
        self.reused: set[int] = set()
        given, seen = {*listing.inputs, *listing.constants}, set()
        for step in listing.steps:
            if step.out is None:
                seen.update(step.reads())
                continue
            slot = self.variable_of(step.out.slot)
            self.writers.setdefault(slot, []).append(step)
            read = [name for name in step.reads() if name != slot and name not in self._owners]
            known = self.inputs.setdefault(slot, [])
            known.extend(name for name in dict.fromkeys(read) if name not in known)
            if slot in seen or slot in given:
                self.reused.add(slot)
            seen.update(read)
        for slot, inputs in self.inputs.items():
            for name in inputs:
                self.consumers.setdefault(name, []).append(slot)

    def variable_of(self, slot: int) -> int:
        """The slot itself; for one in which an assignment saves what it overwrites, the slot that is assigned."""
        return self._owners.get(slot, slot)

    def body(self, number: int) -> Graph:
        """The graph of the body of a loop."""
        return Graph(Listing.of(self.listing.bodies[number]))

    @property
    def edges(self) -> int:
        """How many pairs there are of an operation and one of its inputs."""
        return sum(len(inputs) for inputs in self.inputs.values())

    def check_single(self, slot: int) -> None:
        """Raise NotDifferentiable when the cells of a slot are several variables, one after the other."""
        if slot in self.reused:
            raise NotDifferentiable(f"%{slot} is assigned to after it was read, so that it is several variables of the graph; "
                                    "use build_grad, or make a new array in place of the assignment")

    def operation_listing(self, slot: int) -> Listing:
        """The steps that compute a variable, as a list of its inputs."""
        used = dict.fromkeys(ref.slot for step in self.writers[slot] for ref in step.operands)
        return _cut(self.listing, self.writers[slot], self.inputs[slot], [_whole(self.listing, slot)], used)

    # ------------------------------------------------------------------ between targets and outputs

    def between(self, targets: list[int], outputs: list[Result], values) -> Listing:
        """The list of the outputs as a function of the targets; what does not descend from those is constant.

        Parameters
        ----------
        targets : list of int
            The variables that become inputs.
        outputs : list of Result
            What is computed.
        values : callable
            ``values(slot)``: contents of the variables that become constants.
        """
        steps, kept = self._descending(targets)
        read = dict.fromkeys(name for step in steps for name in (ref.slot for ref in step.operands) if name not in kept)
        read.update(dict.fromkeys(result.ref.slot for result in outputs if result.ref.slot not in kept))
        longer = _cut(self.listing, steps, targets, outputs, {})
        longer.constants = {slot: values(slot) for slot in read}
        return dead_code(longer)

    def _descending(self, targets):
        """The steps that descend from the targets, and the slots that these write or are."""
        kept = set(targets)
        wanted = {slot for slot in self.reused if slot in self.writers}  # cells that no constant can stand for
        for step in self.listing.steps:
            if step.out is not None and self.variable_of(step.out.slot) not in targets:
                slot = self.variable_of(step.out.slot)
                if slot in wanted or not kept.isdisjoint(step.reads()):
                    kept.add(slot)
        kept.update(saved for saved, slot in self._owners.items() if slot in kept)
        steps = [step for step in self.listing.steps if self._is_kept(step, kept, targets)]
        return steps, kept

    def _is_kept(self, step, kept, targets):
        if step.out is None:
            return not kept.isdisjoint(step.reads())
        slot = self.variable_of(step.out.slot)
        return slot in kept and slot not in targets


def _saving_slots(listing) -> dict[int, int]:
    """The slots that hold what assignments overwrote, if nothing else reads them, with the slots that are assigned."""
    saving = {}
    for step in listing.steps:
        if step.row.name == "assign":
            saving[step.operands[1].slot] = step.out.slot
        elif step.row.structural and step.row.scratch is not None:
            saving[step.operands[step.row.scratch].slot] = step.out.slot
    for step in listing.steps:
        for name in step.reads():
            saving.pop(name, None)
    for result in listing.outputs:
        saving.pop(result.ref.slot, None)
    return saving


def _whole(listing, slot) -> Result:
    shape = listing.shapes[slot]
    return Result(Ref(slot, 0), shape, contiguous(shape))


def _cut(listing, steps, inputs, outputs, used) -> Listing:
    """Some steps of a list as one of the given inputs, which are all differentiated."""
    constants = {slot: array for slot, array in listing.constants.items() if slot in used and slot not in inputs}
    return Listing(listing.dtype, listing.table, list(listing.shapes), constants, list(inputs), set(inputs), list(outputs),
                   listing.lines, steps, listing.bodies)


class Operation:
    """What computes one variable of a tape, as the textbook has it; `Tape.get_operation` makes it.

    Attributes
    ----------
    name : str
        Of the instruction, as in the text form; where several write the variable, the different ones joined with "+".
    row : Row or StructuralRow
        The instruction's row in the table, which says its rule, its kinks and the source of its formula; of the last one.
    line : str
        "file:line" of the user's code.
    output : Variable
        What it computes.
    inputs : list of Variable
        What it reads, each variable once.

    Examples
    --------
    >>> import tape
    >>> t = tape.record(lambda x, y: x * y, 2.0, 5.0)
    >>> operation = t.get_operation(t.results)
    >>> operation.name, float(operation.f(3.0, 4.0)), float(operation.bprop((3.0, 4.0), t.inputs[0], 1.0))
    ('mul', 12.0, 4.0)
    """

    def __init__(self, tape, graph: Graph, slot: int):
        steps = graph.writers[slot]
        names = list(dict.fromkeys(step.row.name for step in steps))
        self.name = "+".join([name for name in names if name != "zero"] or names)
        self.row = steps[-1].row
        self.line = graph.listing.lines[steps[-1].line] if graph.listing.lines else ""
        self._tape, self._graph, self._slot, self._own = tape, graph, slot, None
        self.output = tape._numbered(slot)
        self.inputs = [tape._numbered(name) for name in graph.inputs[slot]]

    def __repr__(self):
        where = f"  # {self.line}" if self.line else ""
        return f"{self.output} = {self.name} {', '.join(f'%{v.number}' for v in self.inputs)}{where}"

    def f(self, *values):
        """Compute the operation.

        Parameters
        ----------
        *values : arrays or floats
            One for each of `inputs`, in its shape.

        Returns
        -------
        ndarray or NumPy scalar
            The variable's value, by the same rule as in the sweep.

        Raises
        ------
        ValueError
            For values of another number or shape.
        """
        return self._list().forward(*self._checked(values))

    def bprop(self, inputs, variable, adjoint):
        """The part of the adjoint of one input that comes through this operation.

        Parameters
        ----------
        inputs : sequence of Variable, arrays or floats
            The values of `inputs`; a Variable stands for its value on the tape now.
        variable : Variable, slot number or recorded array
            Which of `inputs`.
        adjoint : array or float
            Of the operation's output, in its shape.

        Returns
        -------
        ndarray
            ``sum over i of (d f_i / d variable) adjoint_i``, of the variable's shape. A variable that is read at several
            places gets the sum over these.

        Raises
        ------
        KeyError
            When the operation does not read the variable.
        NotDifferentiable
            When the variable's cells are assigned to after they were read (see `Tape.get_operation`).
        """
        numbers = [v.number for v in self.inputs]
        number = self._tape._number_of(variable)
        if number not in numbers:
            raise KeyError(f"%{number}: not an input of {self!r}")
        self._graph.check_single(number)
        own = self._list()
        own.forward(*self._checked(inputs))
        own.reverse(np.asarray(adjoint))
        return np.asarray(own.gradients[numbers.index(number)])

    def _list(self):
        if self._own is None:
            self._own = self._tape._of_variables(self._graph.operation_listing(self._slot), tuple(self.inputs))
        return self._own

    def _checked(self, values):
        if len(values) != len(self.inputs):
            raise ValueError(f"{self!r}: expected {len(self.inputs)} values, got {len(values)}")
        return [self._tape._value_of(v) if hasattr(v, "view") else np.asarray(v) for v in values]
