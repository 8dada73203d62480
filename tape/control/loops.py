"""Loops and branches of traced code as instructions: scan, fori, while_loop, cond.

A body is recorded once, on the list at work, and cut out of it as a list of its own; what it uses of the variables around it
becomes an argument of the loop. What is not here: how a loop is run (`compiled.lists.loops`), its derivatives
(`transforms.differentiate`), loops of jitted functions (`operations.py`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from compiled.lists.listing import Listing
from compiled.lists.loops import Loop, Packs
from compiled.lists.program import Program
from compiled.table.structural.matmul import Matrices
from compiled.table.views import View
from tape.errors import NotDifferentiable
from tape.recording.arrays import RecordedArray, plain
from tape.recording.containers import leaves_of, with_leaves
from tape.recording.made import made_function
from tape.recording.recorder import Recorder, current_recorder
from tape.recording.signatures import X, Y
from tape.transforms.simplify import ALL, simplified
from tape.transforms.stacked_products import is_whole_product, products


class Body:
    """A recorded body: a program, the views outside that it reads, and the structure of what it returned."""

    def __init__(self, program: Program, captured: list[View], structure, dtypes):
        self.program, self.captured, self.structure, self.dtypes = program, captured, structure, dtypes


def recorded_body(function, arguments: list, what: str, check=None) -> Body:
    """Record `function` on fresh copies of the leaves of its arguments, and cut it out of the list.

    Parameters
    ----------
    function : callable
        Of the arguments.
    arguments : list
        Nested containers of recorded arrays, as the body sees them at the first step.
    what : str
        Who asks, for messages.
    check : callable, optional
        Is given the leaves of the result and their structure before the body is cut out; returns what they are to be.
    """
    recorder = current_recorder()
    start, slots = recorder.memory.length, len(recorder.memory.slots)
    fresh, built = [], []
    for argument in arguments:
        leaves, structure = leaves_of(argument)
        own = [RecordedArray(recorder, recorder.new_slot(leaf.shape, True), leaf.dtype) for leaf in leaves]
        fresh += own
        built.append(with_leaves(structure, own))
    # Constants of the body are its own: those known outside stand in slots that it would capture.
    known = recorder._scalars, recorder._arrays
    recorder._scalars, recorder._arrays = {}, {}
    try:
        with recorder.blindly():
            results, structure = leaves_of(function(*built))
            if check:
                results, structure = check(results, structure)
            results = [as_recorded(x, what) for x in results]
    finally:
        recorder._scalars, recorder._arrays = known
    program, captured = _cut(recorder, start, slots, [x.view for x in fresh], [x.view for x in results])
    return Body(program, captured, structure, [x.dtype for x in results])


def as_recorded(x, what) -> RecordedArray:
    """A leaf as a recorded array."""
    x = plain(x)
    if isinstance(x, RecordedArray):
        return x
    recorder = current_recorder()
    array = np.asarray(x)
    dtype = recorder.dtype if isinstance(x, float) or array.dtype.kind == "f" else array.dtype
    return RecordedArray(recorder, recorder.constant(array if array.ndim else array[()]), dtype)


def _cut(recorder, start, slots, inputs, outputs):
    """Take the instructions from `start` on out of the list; returns them as a program, and the views they read outside."""
    whole = recorder.program(list(outputs))
    listing = Listing.of(whole)
    own = [recorder.slot_number(view.cell) for view in inputs]
    steps = listing.steps[start:]
    used = {slot for step in steps for slot in step.reads()} | {r.ref.slot for r in listing.outputs}
    written = {slot for step in steps for slot in step.writes()}
    held = set(listing.constants)
    outside = sorted(slot for slot in used if slot < slots and slot not in held)
    changed = [slot for slot in written if slot < slots]
    if changed:
        raise NotDifferentiable("the body of a loop changes an array of the code around it in place; make it part of the carry")
    captured = [whole.slot_view(slot) for slot in outside]
    part = listing.with_steps(steps)
    part.inputs, part.active = [*own, *outside], {*own, *outside}
    part.constants = {slot: array for slot, array in listing.constants.items() if slot in used}
    recorder.memory.length = start
    return simplified(part, ALL).program(), captured


MOST_SPARED = 1 << 23
"""Cells that a loop keeps of products at most."""


def _run(body: Body, carry, xs, length, ends=False, count=None, spare=True):
    """Record a loop over a recorded body, its states kept; returns the views of what it computes."""
    recorder = current_recorder()
    spared = [view for view in products(body.program) if spare and view.size * length <= MOST_SPARED]
    outputs = body.program.outputs
    at = len(outputs) - int(ends)
    program = dataclasses.replace(body.program, outputs=[*outputs[:at], *spared, *outputs[at:]])
    number = len(recorder.bodies)
    recorder.bodies.append(program)
    active = [int(recorder.is_active(view)) for view in (*body.captured, *xs)]
    loop = Loop((0, 0, 0, 0), number, length, backward=0, counted=int(count is not None), ends=int(ends), keeps=1,
                carry=len(carry), constants=len(body.captured), x=len(xs), s=0, sums=0, spared=len(spared),
                active=tuple(active))
    packs = Packs.of(loop, program)
    first = [*carry, *body.captured, *([count] if count is not None else [])]
    return recorder.loop(loop._replace(sizes=packs.sizes), packs, first, xs, None)


def _array(view, dtype) -> RecordedArray:
    return RecordedArray(current_recorder(), view, dtype)


def _same_carry(before, leaves, structure, carry_structure, what):
    """Check that the leaves of a new carry are as those of the old."""
    if structure != carry_structure:
        raise NotDifferentiable(f"{what}: expected the body to return a carry of structure {carry_structure}, got {structure}")
    for k, (new, old) in enumerate(zip(leaves, before, strict=True)):
        if np.shape(new) != old.shape:
            raise NotDifferentiable(f"{what}: leaf {k} of the carry: expected shape {old.shape}, as before the loop, got "
                                    f"{np.shape(new)}")


def _carry_leaves(carry, what):
    leaves, structure = leaves_of(carry)
    leaves = [as_recorded(x, what) for x in leaves]
    recorder = current_recorder()
    # Integers may become floats in the body; all cells are floats anyway.
    return [x if x.dtype.kind == "f" else RecordedArray(recorder, x.view, recorder.dtype) for x in leaves], structure


# ---------------------------------------------------------------------- scan


def traced_scan(step, carry, xs, length, checkpoints):
    """`tape.scan` of a traced step, inside a recording."""
    if checkpoints is not None and length > checkpoints:
        return _segmented(step, carry, xs, length, checkpoints)
    leaves, structure = _carry_leaves(carry, "tape.scan")
    x_leaves, x_structure = leaves_of(xs)
    stacks = [as_recorded(x, "tape.scan") for x in x_leaves]
    for k, stack in enumerate(stacks):
        if not stack.shape or stack.shape[0] != length:
            raise ValueError(f"tape.scan: leaf {k} of xs: expected {length} rows, got shape {stack.shape}")
    parts = []

    def check(results, got):
        return _checked_step(results, got, leaves, structure, parts)

    first_x = with_leaves(x_structure, [RecordedArray(s.recorder, View(s.view.cell, s.shape[1:], s.view.strides[1:]), s.dtype)
                                        for s in stacks])
    body = recorded_body(lambda c, x: _pair(step(c, x)), [with_leaves(structure, leaves), first_x], "tape.scan", check)
    if not length:  # the step was recorded for the shapes of y alone
        (y_structure,) = parts
        shapes = [view.shape for view in body.program.outputs[len(leaves) :]]
        rows = [as_recorded(np.zeros((0, *shape), dtype), "tape.scan")
                for shape, dtype in zip(shapes, body.dtypes[len(leaves) :], strict=True)]
        return with_leaves(structure, leaves), with_leaves(y_structure, rows)
    body, stacks = hoisted(_with_xs_last(body, len(leaves), len(stacks)), len(leaves), stacks)
    views = _run(body, [x.view for x in leaves], [s.view for s in stacks], length)
    recorder = current_recorder()
    last = [_array(view, recorder.dtype) for view in views["last"]]
    dtypes = body.dtypes[len(leaves) :]
    ys = [_array(view, dtype) for view, dtype in zip(views["y"], dtypes, strict=False)]
    (y_structure,) = parts
    return with_leaves(structure, last), with_leaves(y_structure, ys)


def _pair(result):
    if not isinstance(result, tuple) or len(result) != 2:
        raise NotDifferentiable(f"tape.scan: expected the step to return (carry, y), got {type(result).__name__} "
                                f"({result!r:.60})")
    return result


def _checked_step(results, got, before, structure, parts):
    carry, y = with_leaves(got, results)
    leaves, own = leaves_of(carry)
    _same_carry(before, leaves, own, structure, "tape.scan")
    y_leaves, y_structure = leaves_of(y)
    parts.append(y_structure)
    return [*leaves, *y_leaves], got


def _with_xs_last(body: Body, carry, xs) -> Body:
    """Order the program's inputs as carry, captured, x: they were recorded as carry, x, captured."""
    inputs = body.program.inputs
    body.program.inputs = [*inputs[:carry], *inputs[carry + xs :], *inputs[carry : carry + xs]]
    return body


def hoisted(body: Body, carry: int, stacks: list):
    """Products of a constant with an x, of all steps at once before the loop; returns the body and the stacks without them."""
    listing = Listing.of(body.program)
    first_x = carry + len(body.captured)
    constants = dict(zip(listing.inputs[carry:first_x], body.captured, strict=True))
    xs = dict(zip(listing.inputs[first_x:], stacks, strict=True))
    new, kept = [], []
    for step in listing.steps:
        stack = _product_of_all(listing, step, constants, xs)
        if stack is None:
            kept.append(step)
        else:
            new.append((step.out.slot, stack))
    if not new:
        return body, stacks
    used = {slot for step in kept for slot in step.reads()} | {r.ref.slot for r in listing.outputs}
    left = [(slot, stack) for slot, stack in xs.items() if slot in used] + new
    listing.steps = kept
    listing.inputs = [*listing.inputs[:first_x], *(slot for slot, _ in left)]
    listing.active = set(listing.inputs)
    return Body(listing.program(), body.captured, body.structure, body.dtypes), [stack for _, stack in left]


def _product_of_all(listing, step, constants, xs):
    """The stack of what a matmul step gives in all steps of the loop, or None where it depends on more than x."""
    if step.row.name != "matmul" or not is_whole_product(listing, step):
        return None
    (a, b), matrices = step.operands, Matrices(step.space.words)
    m, k, n = matrices.sizes
    (a_row, a_col), (b_row, b_col), _ = matrices.steps
    shape = listing.shapes[step.out.slot]
    if a.slot in xs and b.slot in constants and a.offset == 0 and (a_row, a_col) == (k, 1) and listing.size(a.slot) == m * k:
        matrix = _part(constants[b.slot], b.offset, (k, n), (b_row, b_col))
        rows = np.reshape(xs[a.slot], (-1, k))
    elif b.slot in xs and a.slot in constants and b.offset == 0 and n == 1 and listing.size(b.slot) == k:
        matrix = _part(constants[a.slot], a.offset, (k, m), (a_col, a_row))
        rows = np.reshape(xs[b.slot], (-1, k))
    else:
        return None
    return np.reshape(np.matmul(rows, matrix), (-1, *shape))


def _part(view, offset, shape, strides) -> RecordedArray:
    recorder = current_recorder()
    return RecordedArray(recorder, View(view.cell + offset, shape, strides), recorder.dtype)


def _segmented(step, carry, xs, length, checkpoints):
    """A scan over segments of a scan: the reverse sweep keeps the state before each, and computes one anew at a time."""
    size = -(-length // checkpoints)
    whole, rest = divmod(length, size)
    leaves, structure = leaves_of(xs)
    stacks = [as_recorded(x, "tape.scan") for x in leaves]
    cut = [np.reshape(s[: whole * size], (whole, size, *s.shape[1:])) for s in stacks]

    def segment(carry, x):
        return traced_scan(step, carry, with_leaves(structure, leaves_of(x)[0]) if stacks else None, size, None)

    carry, ys = traced_scan(segment, carry, with_leaves(structure, cut) if stacks else None, whole, None)
    y_leaves, y_structure = leaves_of(ys)
    y_leaves = [np.reshape(y, (whole * size, *y.shape[2:])) for y in y_leaves]
    if rest:
        tail = with_leaves(structure, [s[whole * size :] for s in stacks]) if stacks else None
        carry, more = traced_scan(step, carry, tail, rest, None)
        y_leaves = [np.concatenate([a, b]) for a, b in zip(y_leaves, leaves_of(more)[0], strict=True)]
    return carry, with_leaves(y_structure, y_leaves)


def eager_scan(step, carry, xs, length):
    """`tape.scan` of plain values: a Python loop."""
    leaves, structure = leaves_of(xs)
    rows = []
    for k in range(length):
        carry, y = _pair(step(carry, with_leaves(structure, [x[k] for x in leaves]) if leaves else None))
        rows.append(leaves_of(y))
    if not rows:
        return carry, _no_rows(step, carry, xs)
    stacked = [np.stack(column) for column in zip(*(row for row, _ in rows), strict=True)]
    return carry, with_leaves(rows[0][1], stacked)


def _no_rows(step, carry, xs):
    """The y of a scan of no steps: what the step would give, with no rows; the step is recorded, not run."""
    recorder = Recorder(np.float64)
    with recorder.recording():
        leaves, structure = leaves_of(traced_scan(step, carry, xs, 0, None)[1])
    return with_leaves(structure, [np.zeros(leaf.shape, leaf.dtype) for leaf in leaves])


# ---------------------------------------------------------------------- fori, while_loop, cond


def fori(lower: int, upper: int, body: Callable[[Any, X], X], carry: X) -> X:
    """Run ``carry = body(i, carry)`` for i from `lower` to `upper` - 1.

    In code that is recorded this is one instruction, whose derivatives are loops as well; else a Python loop.

    Parameters
    ----------
    lower, upper : int
        Plain integers.
    body : callable
        NumPy code; the new carry has the structure and shapes of the old. What it uses of the variables around it is
        differentiated too.
    carry : arrays, floats, or nested containers of them
        The state before the first step.

    Returns
    -------
    same as carry
        The state after the last step.

    Raises
    ------
    NotDifferentiable
        When the carry changes its structure or shapes, or the body branches in Python on a recorded value.

    Examples
    --------
    >>> import tape
    >>> power = lambda x: tape.fori(0, 5, lambda i, y: y * x, 1.0)
    >>> float(tape.grad(power)(2.0))
    80.0
    """
    lower, upper = int(lower), int(upper)
    if current_recorder() is None or upper <= lower:
        for i in range(lower, upper):
            carry = body(i, carry)
        return carry
    return traced_scan(lambda c, i: (body(i, c), None), carry, np.arange(lower, upper), upper - lower, None)[0]


FIRST_STEPS = 64
"""Steps that a recorded while loop has room for at first."""

INNER_STEPS = 1024
"""Steps that a while loop inside another loop's body has room for; with more, its result is NaN."""


def while_loop(cond: Callable[[X], Any], body: Callable[[X], X], carry: X) -> X:
    """Run ``carry = body(carry)`` as long as ``cond(carry)`` holds.

    In code that is recorded this is one instruction, whose derivative runs the same steps backwards. Its states have
    room for some number of steps; a call that needs more is recorded anew with more room.

    Parameters
    ----------
    cond : callable
        NumPy code with one boolean (or number) as the result.
    body : callable
        NumPy code; the new carry has the structure and shapes of the old.
    carry : arrays, floats, or nested containers of them
        The state before the first step.

    Returns
    -------
    same as carry
        The first state for which the condition does not hold.

    Raises
    ------
    NotDifferentiable
        When the carry changes its structure or shapes, or the body branches in Python on a recorded value.

    Examples
    --------
    >>> import tape
    >>> def root(a):  # Newton's iteration for the square root
    ...     return tape.while_loop(lambda x: abs(x * x - a) > 1e-12, lambda x: 0.5 * (x + a / x), a)
    >>> round(float(tape.grad(root)(9.0)), 6)
    0.166667
    """
    if current_recorder() is None:
        while cond(carry):
            carry = body(carry)
        return carry
    leaves, structure = _carry_leaves(carry, "tape.while_loop")

    def step(c):
        return body(c), cond(c)

    def check(results, got):
        new, go_on = with_leaves(got, results)
        own, own_structure = leaves_of(new)
        _same_carry(leaves, own, own_structure, structure, "tape.while_loop")
        if np.shape(go_on) != ():
            raise NotDifferentiable(f"tape.while_loop: expected a condition of shape (), got {np.shape(go_on)}")
        return [*own, go_on if isinstance(go_on, RecordedArray) else float(go_on)], got

    recorded = recorded_body(step, [with_leaves(structure, leaves)], "tape.while_loop", check)
    recorder = current_recorder()
    room = INNER_STEPS if recorder.without_values else FIRST_STEPS
    while True:
        begin = recorder.memory.length
        views = _run(recorded, [x.view for x in leaves], [], room, ends=True)
        ran = _array(views["ran"][0], recorder.dtype)
        fits = ran < room
        if recorder.without_values or recorder.value(fits.view):
            break
        recorder.memory.length = recorder.executed = begin
        recorder.bodies.pop()
        room *= 4
    last = [_array(view, recorder.dtype) for view in views["last"]]
    if recorder.without_values:
        last = [np.where(fits, x, np.nan) for x in last]
    else:
        recorder.guard(fits.view)
    return with_leaves(structure, last)


def cond(pred: Any, true_fn: Callable[..., Y], false_fn: Callable[..., Y], *args: Any) -> Y:
    """Return ``true_fn(*args)`` where `pred` holds, else ``false_fn(*args)``; only one of them is run.

    In code that is recorded the branch is part of the list, so that one list serves both outcomes. (`numpy.where`
    computes both sides, element by element.)

    Parameters
    ----------
    pred : bool or number of shape ()
        Plain or recorded.
    true_fn, false_fn : callable
        NumPy code; their results have the same structure and shapes.
    *args : arrays, floats, or nested containers of them
        Arguments of both.

    Returns
    -------
    same as the functions' result

    Raises
    ------
    NotDifferentiable
        When the two results differ in structure or shapes.

    Examples
    --------
    >>> import numpy as np, tape
    >>> f = lambda x: tape.cond(x > 0, lambda x: np.sqrt(x), lambda x: -x, x)
    >>> float(tape.grad(f)(4.0)), float(tape.grad(f)(-4.0))
    (0.25, -1.0)
    """
    if not isinstance(pred, RecordedArray):
        return true_fn(*args) if pred else false_fn(*args)
    if pred.shape != ():
        raise NotDifferentiable(f"tape.cond: expected a predicate of shape (), got {pred.shape}; use np.where element "
                                "by element")
    holds = RecordedArray(pred.recorder, (pred != 0).view, pred.recorder.dtype)
    results, structures = [], []
    for function, count in ((true_fn, holds), (false_fn, 1.0 - holds)):
        leaves, structure = _branch(function, args, count)
        results.append(leaves)
        structures.append(structure)
    shapes = [[x.shape for x in leaves] for leaves in results]
    if structures[0] != structures[1] or shapes[0] != shapes[1]:
        raise NotDifferentiable(f"tape.cond: expected two results of the same structure and shapes, got {structures[0]} "
                                f"{shapes[0]} and {structures[1]} {shapes[1]}")
    chosen = [np.where(holds, a, b) for a, b in zip(*results, strict=True)]
    return with_leaves(structures[0], chosen)


def checkpointed(function):
    """`tape.checkpoint` of a traced function: a loop of one step, of which a list keeps the arguments and the results."""

    @made_function("checkpoint", function, signature=lambda signature: signature)
    def checkpoint(*args):
        if current_recorder() is None:
            return function(*args)
        leaves, structure = _branch(function, args, None)
        return with_leaves(structure, leaves)

    return checkpoint


def _branch(function, args, count):
    """Record a function as a loop of `count` steps, none or one; returns its results' leaves and their structure."""
    recorder = current_recorder()
    arrays, structure = leaves_of(args)
    arguments = [as_recorded(x, "tape.cond") for x in arrays]
    # The results are a carry that starts as zero; the arguments are captured.
    probe = recorded_body(lambda: function(*with_leaves(structure, arguments)), [], "tape.cond")
    shapes = [view.shape for view in probe.program.outputs]
    start = [RecordedArray(recorder, recorder.zeros(shape), recorder.dtype) for shape in shapes]
    body = recorded_body(lambda *carry: function(*with_leaves(structure, arguments)), start, "tape.cond")
    views = _run(body, [x.view for x in start], [], 1, count=count.view if count is not None else None, spare=count is not None)
    return [_array(view, dtype) for view, dtype in zip(views["last"], body.dtypes, strict=True)], body.structure
