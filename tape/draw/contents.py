"""What there is to draw of a list: its variables with their roles, values and gradients, and who reads whom.

A list is that of a tape, or the body of one of its loops, which has no values to show: they differ from step to step.
What is not here: how they are put together (`folding.py`) and drawn (`graph.py`).
"""

from __future__ import annotations

import inspect
import math
from typing import NamedTuple

import numpy as np

from compiled.lists.listing import body_of, covers
from compiled.lists.loops import Loop
from compiled.sweeps.engine import ENGINE
from compiled.table.layout import FLAGS, OUTPUT

ACTIVE = 7
"""Bits of the FLAGS column: some operand depends on what is differentiated."""

MOST_SHOWN = 3
"""Elements of an array that is shown element by element."""


class DrawnVariable:
    """Something that the list computes or is given: the cells of a slot until they are assigned to after they were read.

    Attributes
    ----------
    slot : int
        Its number in the text form.
    role : str
        "parameter" (an argument that is differentiated), "input" (any other argument), "constant", "operation" or "loop"; in
        the body of a loop "carry" (what a step hands on to the next).
    shape : tuple of int
        Of the slot.
    name : str
        Of an argument, as the function calls it; of a result, where the list has several; else "".
    result, guards : bool
        Whether it is a result; whether a branch of Python code depended on it.
    steps : list of int
        The instructions that compute it.
    reads : dict of int to None
        Numbers of the variables that these read, in order.
    active : bool
        Whether there is a gradient: whether it depends on what is differentiated.
    last : bool
        Whether its cells hold it after the forward sweep: nothing is assigned to them any more.
    value, gradient : Summary or None
        After the last sweeps; None where the list does not keep it.
    """

    def __init__(self, slot, shape, role, name="", active=False):
        self.slot, self.shape, self.role, self.name, self.active = slot, shape, role, name, active
        self.result = self.guards = False
        self.steps: list[int] = []
        self.reads: dict[int, None] = {}
        self.last = True
        self.value = self.gradient = None


class Summary:
    """An array in a few characters.

    Attributes
    ----------
    shape : tuple of int
        Of the array.
    magnitude : float
        Its Euclidean norm: the absolute value of a number.
    elements : str
        The number, or all elements of a small vector; "" for larger arrays.
    """

    __slots__ = ("elements", "magnitude", "shape")

    def __init__(self, array: np.ndarray):
        self.shape = array.shape
        self.magnitude = abs(float(array)) if array.ndim == 0 else norm(array)
        self.elements = ""
        if array.ndim == 0:
            self.elements = f"{float(array):.4g}"
        elif array.ndim == 1 and array.size <= MOST_SHOWN:
            self.elements = f"[{', '.join(f'{x:.3g}' for x in array.tolist())}]"


def norm(array: np.ndarray) -> float:
    """Euclidean norm of all elements, without overflow or underflow on the way.

    Examples
    --------
    >>> import numpy as np
    >>> from tape.draw.contents import norm
    >>> norm(np.array([3e300, -4e300]))
    5e+300
    """
    largest = float(np.max(np.abs(array), initial=0.0))
    if largest == 0.0 or not math.isfinite(largest):
        return largest
    return largest * float(np.linalg.norm(np.asarray(array, np.float64).ravel() / largest))


class DrawnInput(NamedTuple):
    """An argument of a list: its role and name, and whether it is differentiated; see `DrawnVariable`."""

    role: str
    name: str
    active: bool = False


class DrawnList:
    """A list to be drawn.

    Attributes
    ----------
    program, graph : Program, tape.tapes.graph.Graph
        The list.
    inputs : list of DrawnInput
        Of each of its arguments.
    results : list of (int, str)
        Its results: a number among the outputs, and a name.
    carried : int
        So many of the first inputs are, in the next step, what the first outputs are.
    """

    def __init__(self, program, graph, inputs, results, carried=0):
        self.program, self.graph, self.inputs, self.results, self.carried = program, graph, inputs, results, carried

    @classmethod
    def of(cls, tape) -> DrawnList:
        """The list of a tape."""
        trace, names = tape._trace, argument_names(tape)
        inputs = [DrawnInput("parameter" if k in trace.wrt else "input", name, k in trace.wrt) for k, name in enumerate(names)]
        paths = [accessor.codify("result") for accessor in trace.structure.accessors()]
        results = [(which, path if len(paths) > 1 else "") for path, which in zip(paths, trace.results, strict=True)
                   if isinstance(which, int)]
        return cls(tape._program, tape._graph, inputs, results)

    def body(self, step) -> DrawnList | None:
        """The list that a step repeats; None where it is no loop."""
        if step.row.name != "loop":
            return None
        loop = Loop.of(step.space.words)
        program = self.program.bodies[loop.body]
        kinds = (("carry", "carry", loop.carry), ("input", "captured", loop.constants), ("input", "x", loop.x),
                 ("input", "state", loop.s))
        inputs = [DrawnInput(role, name) for role, name, count in kinds for name in _numbered(name, count)]
        y = len(program.outputs) - loop.carry - loop.sums - loop.ends
        once = loop.length == 1  # a branch, a checkpoint: there is no next step
        names = [*(_numbered("result", loop.carry) if once else [f"next {name}" for name in _numbered("carry", loop.carry)]),
                 *_numbered("sum", loop.sums), *_numbered("y", y), *["goes on"] * loop.ends]
        return DrawnList(program, self.graph.body(loop.body), inputs, list(enumerate(names)), 0 if once else loop.carry)


def _numbered(name, count) -> list[str]:
    return [name] if count == 1 else [f"{name}[{k}]" for k in range(count)]


def variables_of(drawn: DrawnList) -> list[DrawnVariable]:
    """The variables of a list, arguments first, then each before those that read it; without numbers yet."""
    program, graph = drawn.program, drawn.graph
    listing = graph.listing
    variables: list[DrawnVariable] = []
    current: dict[int, int] = {}
    read: set[int] = set()

    def add(slot, *described):
        current[slot] = len(variables)
        variables.append(DrawnVariable(slot, program.slots[slot][1] if slot >= 0 else (), *described))
        return variables[-1]

    def reading(slots):
        for slot in slots:
            if slot not in current and slot >= 0:  # constants, and cells that nothing writes
                add(slot, "constant")
        found = [current[slot] for slot in slots if slot >= 0]
        read.update(found)
        return found

    for slot, described in zip(listing.inputs, drawn.inputs, strict=True):
        add(slot, *described)
    flags = program.code[:, FLAGS].tolist()
    for number, step in enumerate(listing.steps):
        if step.out is None:
            for k in [current[name] for name in step.reads() if name in current]:
                variables[k].guards = True
                read.add(k)
            continue
        slot = step.out.slot
        if graph.variable_of(slot) != slot:
            continue  # saved for the reverse sweep
        operands = [name for name in step.reads() if graph.variable_of(name) == name]
        sources = reading(operands)
        before = current.get(slot)
        if before is None or variables[before].role not in ("operation", "loop") or before in read:
            variable = add(slot, "operation")
            if before is not None:
                variables[before].last = False
                if step.row.accumulates or not covers(listing, step):  # the rest stays
                    variable.reads[before] = None
                    variable.active = variables[before].active
        else:
            variable = variables[before]
        if step.row.name == "loop":
            variable.role = "loop"
        variable.steps.append(number)
        variable.reads.update(dict.fromkeys(sources))
        variable.active |= flags[number] & ACTIVE != 0
    slots = [result.ref.slot for result in listing.outputs]
    for slot in slots:
        if slot not in current:
            add(slot, "constant")
    _mark_results(drawn, variables, [current[slot] for slot in slots])
    return _in_order(variables)


def _in_order(variables) -> list[DrawnVariable]:
    """Sorted by their last instruction, so that each stands before those that read it; a constant before its first reader."""
    at = [float("inf") if v.role == "constant" else max(v.steps, default=-1) for v in variables]
    for k, variable in enumerate(variables):
        for u in variable.reads:
            if variables[u].role == "constant":
                at[u] = min(at[u], at[k] - 0.5)
    order = sorted(range(len(variables)), key=at.__getitem__)
    number = {k: i for i, k in enumerate(order)}
    for variable in variables:
        variable.reads = dict.fromkeys(number[u] for u in variable.reads)
    return [variables[k] for k in order]


def _mark_results(drawn, variables, outputs):
    """Mark the variables that are results, by the numbers of those that are outputs, and let a carry read what follows it."""
    for which, name in drawn.results:
        k = outputs[which]
        if which < drawn.carried:
            if k == which:
                continue  # handed on as it is
            if not variables[k].steps:  # a node of its own, as another argument is no result of the step
                variables.append(DrawnVariable(variables[k].slot, variables[k].shape, "operation"))
                variables[-1].reads[k] = None
                k = len(variables) - 1
            variables[which].reads[k] = None
        variable = variables[k]
        if name and name not in variable.name.split(" = "):
            variable.name = f"{variable.name} = {name}" if variable.name else name
        variable.result = True


def argument_names(tape) -> list[str]:
    """What the inputs of a tape are called in the function: `x`, `weights[0]`."""
    own, names = tape._names, []
    for k in tape._trace.dynamic:
        accessor = tape._structure.accessors()[k]
        keyword, number = accessor.path[:2]
        name = number if keyword else own[number] if number < len(own) else f"argument {number}"
        names.append(accessor[2:].codify(name))
    return names


def parameter_names(f, count: int) -> tuple[str, ...]:
    """The names of a function's first `count` positional arguments; none where they cannot be known."""
    try:
        parameters = inspect.signature(getattr(f, "py_func", f)).parameters.values()
    except (TypeError, ValueError):
        return ()
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)][:count]
    rest = next((p.name for p in parameters if p.kind is p.VAR_POSITIONAL), None)
    if rest is not None:
        names += [f"{rest}[{k}]" for k in range(count - len(names))]
    return tuple(names)


def loop_text(drawn: DrawnList, variable: DrawnVariable) -> str:
    """Steps of a loop and size of its body, in words."""
    loop = Loop.of(loop_step(drawn, variable).space.words)
    size = len(drawn.program.bodies[loop.body].code)
    most = "up to " if loop.ends or loop.counted else ""
    return f"{most}{loop.length} step{'s' * (loop.length != 1)} of {size} instruction{'s' * (size != 1)}"


def loop_step(drawn: DrawnList, variable: DrawnVariable):
    """The loop that computes a variable of that role."""
    return next(step for step in map(drawn.graph.listing.steps.__getitem__, variable.steps) if step.row.name == "loop")


def step_name(drawn: DrawnList, step) -> str:
    """The name of a step's instruction; of a call that of the function."""
    return drawn.program.bodies[body_of(step)].name if step.row.name == "call" else step.row.name


# ---------------------------------------------------------------------- numbers


def fill_in_constants(drawn: DrawnList, variables: list[DrawnVariable]) -> None:
    """Set the values of the constants, which is all that is known of a body."""
    for variable in variables:
        if variable.role == "constant" and variable.slot >= 0:
            variable.value = Summary(drawn.program.slot_view(variable.slot).of(drawn.program.values))


@np.errstate(all="ignore")
def fill_in(tape, variables: list[DrawnVariable], gradients: bool) -> None:
    """Set the values, and the gradients if wanted, of all variables, as they were when the last sweeps came by.

    Where cells hold several variables, one after the other, the values and adjoints that the buffers end with are those of one:
    the sweep is run once more on copies, down to each of them.
    """
    program, workspace = tape._program, tape._workspace
    gradients = gradients and bool(tape._dynamic_outputs())
    if gradients and tape._seeded is None:
        tape.reverse()
    if tape._rewound:
        tape._swept()
    values, adjoints = workspace.values, workspace.adjoints if gradients else None
    assigned = set(program.slot_of(program.code[program.overwriting(), OUTPUT]).tolist())
    for variable in variables:
        if variable.slot not in assigned:
            _read(variable, program, values, adjoints)
        elif variable.last:
            _read(variable, program, values, None)
    if assigned and not program.has_bodies:
        _read_on_the_way(tape, [v for v in variables if v.slot in assigned], gradients)


def _read_on_the_way(tape, variables, gradients) -> None:
    program, values = tape._program, tape._workspace.values.copy()
    adjoints = np.zeros_like(values)
    for which, seed in tape._seeded or ():
        program.outputs[which].of(adjoints)[...] += seed
    stop = len(program.code)
    for variable in sorted(variables, key=lambda v: -max(v.steps, default=-1)):
        start = max(variable.steps, default=-1) + 1
        ENGINE.reverse(program.code[start:stop], program.geometry, values, adjoints, True)
        stop = start
        _read(variable, program, values, adjoints if gradients else None)


def _read(variable, program, values, adjoints) -> None:
    view = program.slot_view(variable.slot)
    variable.value = Summary(view.of(values))
    if variable.active and adjoints is not None:
        variable.gradient = Summary(view.of(adjoints))
