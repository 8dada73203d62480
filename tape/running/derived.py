"""The lists that compute a function's value and its derivatives.

What is here: from a trace to the list of each derivative, simplified and with the bodies of its loops as native code wants
them. What is not: differentiation and simplification (`transforms`), what runs the lists (`executables.py`).
"""

from __future__ import annotations

import math

from compiled.forking import cached_property
from compiled.lists.listing import Listing, body_of, with_body
from compiled.lists.loops import Loop, Packs
from compiled.native.function import NativeFunction
from compiled.native.loops import LoopBody
from tape.recording.trace import Trace
from tape.running.c_names import distinct_names
from tape.transforms.build import with_gradients, with_tangents
from tape.transforms.roll import LEAST_STEPS, rolled
from tape.transforms.simplify import FORWARD_ONLY, cells_read, result_of, simplified, zeros_that_are_read


class Lists:
    """The lists of one trace that compute values and derivatives, each made and compiled when it is first wanted.

    Parameters
    ----------
    trace : Trace
        Of the function.
    name : str
        Of the functions in C.
    names : list of str
        Of the arguments' leaves in C.
    make : callable
        What makes an executable of a list: `NativeFunction`, or one that is made with the same arguments.
    watched : bool
        Whether `value_and_grad` and `vjp` have one more result, of `transforms.build.with_gradients`.
    """

    def __init__(self, trace: Trace, name: str, names: list[str] | None = None, make=None, watched: bool = False):
        self.trace, self.name, self.make, self.watched = trace, name, make or NativeFunction, watched
        self.program = trace.program
        if self.make is NativeFunction and len(trace.program.code) >= LEAST_STEPS:
            self.program = rolled(Listing.of(trace.program)).program()
        self.inputs = [names[k] if names else f"x{k}" for k in trace.dynamic]
        self.wrt = [self.inputs[k] for k in trace.wrt]
        self.views = [self.program.inputs[k] for k in trace.wrt]  # those that `wrt` names
        self.outputs = [f"out{k}" if len(trace.program.outputs) > 1 else "out" for k in range(len(trace.program.outputs))]

    @cached_property
    def value(self) -> NativeFunction:
        """Arguments to results."""
        program = self.program
        return self._native(program, program.outputs, self.inputs, self.outputs, "value")

    @cached_property
    def value_and_grad(self) -> NativeFunction:
        """Arguments to results and the gradients of the differentiated arguments."""
        program = self.program
        longer, adjoints = with_gradients(program, self.trace.own_outputs[:1], self.views, seeded=False, watched=self.watched)
        return self._native(longer, [*longer.outputs, *adjoints], self.inputs,
                            [*self.outputs, *(f"grad_{n}" for n in self.wrt), *self._seen], "value_and_grad")

    @cached_property
    def vjp(self) -> NativeFunction:
        """Arguments and adjoints of the results, to results and adjoints of the arguments."""
        program = self.program
        which = list(range(len(program.outputs)))
        longer, adjoints = with_gradients(program, which, self.views, seeded=True, watched=self.watched)
        return self._native(longer, [*longer.outputs, *adjoints], [*self.inputs, *(f"seed_{n}" for n in self.outputs)],
                            [*self.outputs, *(f"adjoint_{n}" for n in self.wrt), *self._seen], "vjp")

    @cached_property
    def jvp(self) -> NativeFunction:
        """Arguments and tangents, to results and their tangents."""
        program = self.program
        which = list(range(len(program.outputs)))
        longer, tangents = with_tangents(program, which, self.views)
        return self._native(longer, [*longer.outputs, *tangents], [*self.inputs, *(f"tangent_{n}" for n in self.wrt)],
                            [*self.outputs, *(f"tangent_{n}" for n in self.outputs)], "jvp")

    @property
    def _seen(self):
        return ["seen"] if self.watched else []

    def _native(self, program, outputs, inputs, names, suffix):
        every = distinct_names([*inputs, *names])
        inputs, names = every[: len(inputs)], every[len(inputs) :]
        listing = Listing.of(program)
        listing.outputs = [result_of(program, view) for view in outputs]
        prepared = native_listing(listing) if self.make is NativeFunction else simplified(listing)
        derivatives = {"value": len(names), "hvp": 0}.get(suffix, len(self.outputs))
        return self.make(prepared, inputs, names, f"{self.name}_{suffix}", derivatives)

    @cached_property
    def hvp(self) -> NativeFunction:
        """Arguments and tangents, to the tangents of the gradients."""
        program = self.program
        first, adjoints = with_gradients(program, self.trace.own_outputs[:1], self.views, seeded=False)
        first.outputs = adjoints
        longer, tangents = with_tangents(first, list(range(len(adjoints))), [first.inputs[k] for k in self.trace.wrt])
        return self._native(longer, tangents, [*self.inputs, *(f"tangent_{n}" for n in self.wrt)],
                            [f"product_{n}" for n in self.wrt], "hvp")


def native_listing(listing: Listing) -> Listing:
    """A list, simplified for forward runs, with its bodies as native code runs them."""
    listing = simplified(listing, (*FORWARD_ONLY, zeros_that_are_read))
    bodies = []
    for step in listing.steps:
        number = body_of(step)
        if number is not None:
            is_loop = step.row.name == "loop"
            body = _loop_body(listing, step, Loop.of(step.space.words)) if is_loop else listing.bodies[number]
            step.space = with_body(step, len(bodies))
            bodies.append(body)
    listing.bodies = tuple(bodies)
    return listing


def _loop_body(listing, step, loop) -> LoopBody:
    """The body of a loop step, without what the rest of the list does not read."""
    program = listing.bodies[loop.body]
    packs = Packs.of(loop, program)
    read = [(low - step.out.offset, high - step.out.offset) for low, high in cells_read(listing, step.out.slot)]

    def is_read(place):
        first, shape = place
        return any(low < first + math.prod(shape) and first <= high for low, high in read)

    first_y = loop.carry + loop.sums
    wanted = [*range(loop.carry)]
    wanted += [loop.carry + k for k, place in enumerate(packs.sums) if is_read(place)]
    wanted += [first_y + k for k, place in enumerate(packs.y) if is_read(place)]
    wanted += [len(program.outputs) - 1] if loop.ends else []
    rows = any(is_read((cell, (math.prod(shape) - math.prod(shape[1:]),))) if not loop.backward else
               is_read((cell + math.prod(shape[1:]), (math.prod(shape) - math.prod(shape[1:]),))) for cell, shape in packs.rows)
    body = Listing.of(program)
    body.outputs = [body.outputs[k] for k in wanted]
    return LoopBody(native_listing(body), tuple(wanted), rows, tuple(v.shape for v in program.inputs),
                    tuple(v.shape for v in program.outputs))
