"""Recomputing instead of storing: checkpoints of functions, and loops that keep some of their states.

A checkpointed function is an operation whose rule runs the function again, on a list of its own. A scan is an operation
whose rule goes back through the loop in units of steps: from the nearest state that was kept it computes forward to the unit,
keeping states on the way where binomial checkpointing says, and differentiates the unit.

Source: Griewank & Walther, "Algorithm 799: revolve", ACM TOMS 26 (2000); the binomials are those of their proposition 1.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numba.core import cgutils, errors, types
from numba.core.typing import signature
from numba.np import arrayobj

from compiled.active.arguments import Counter, Walk, element_count, in_heap, rebuilt
from compiled.active.derivatives import Pullback, base_kind
from compiled.active.emitter import Emitter, EmitterType
from compiled.active.expressions import _View
from compiled.active.numbers import Emission
from compiled.active.operations import Operation, _is_numeric
from compiled.active.preparation import original_of, twin
from compiled.active.types import constant, differential_of
from compiled.active.workspace import POINTER

UNIT_FLOATS = 4096
"""Floats of state whose steps are differentiated together: their list stays in the processor's cache."""

KEPT_BYTES = 64_000_000
"""States that a scan keeps where it is not told how many."""


class Recomputed(Emitter):
    """The rule of a checkpointed function: called with adjoint, result and arguments, it records anew and sweeps back."""

    def __init__(self, function):
        self.function = function

    def __repr__(self):
        return f"recomputed {self.function.__name__}"

    def _pullback(self, args):
        numbers = tuple(k for k, kind in enumerate(args) if _is_numeric(kind))
        return numbers, Pullback(self.function, numbers, "tape.checkpoint")

    def signature(self, typingctx, args):
        """See `Emitter`."""
        adjoint, _, *args = args
        numbers, pullback = self._pullback(args)
        found = pullback.signature(typingctx, (*args, adjoint)).return_type.types[1:]
        each = dict(zip(numbers, found, strict=True))
        kinds = [each.get(k, types.int64) for k in range(len(args))]
        return signature(types.Tuple(kinds), *(adjoint, _, *args))

    def emit(self, context, builder, signature, args):
        """See `Emitter`."""
        adjoint, _, *kinds = signature.args
        numbers, pullback = self._pullback(kinds)
        call = pullback.signature(context.typing_context, (*kinds, adjoint))
        result = pullback.emit(context, builder, call, [*args[2:], args[0]])
        context.nrt.decref(builder, call.return_type.types[0], builder.extract_value(result, 0))
        parts = [builder.extract_value(result, 1 + numbers.index(k)) if k in numbers else constant(0)
                 for k in range(len(kinds))]
        return context.make_tuple(builder, signature.return_type, parts)


def checkpointed(function) -> Operation:
    """The operation that stores the arguments of a jitted function instead of its list."""
    return Operation(function, Recomputed(function), body=function, name=f"checkpoint_{function.__name__}")


# -------------------------------------------------------------------------------------------------- binomial checkpointing


@njit
def binomial_reach(states: int, repeats: int) -> int:
    """Steps that can be reversed with `states` states kept and no step computed more than `repeats` times: C(s + r, s)."""
    reach = 1
    for k in range(1, repeats + 1):
        reach = reach * (states + k) // k
        if reach > 1 << 60:
            return 1 << 60
    return reach


@njit
def next_state(steps: int, states: int) -> int:
    """How many steps from a kept state the next one is kept, to reverse `steps` steps with `states` states (it included)."""
    if steps <= states:
        return 1
    repeats = 0
    while binomial_reach(states, repeats) < steps:
        repeats += 1
    # The part after the new state is reversed with one state less, the part before it with one repeat less; neither may be
    # so short that the other takes a repeat more.
    least = max(binomial_reach(states, repeats - 2) if repeats > 1 else 1, steps - binomial_reach(states - 1, repeats))
    return max(1, min(least, binomial_reach(states, repeats - 1)))


@njit
def steps_computed(steps: int, states: int) -> int:
    """Steps that a scan's reverse computes without recording them, beyond the one recording of each."""
    positions = np.zeros(max(states, 1), np.int64)
    top, computed, unit = 0, 0, steps - 1
    while unit >= 0:
        at = positions[top]
        while at < unit:
            free = states - 1 - top
            following = at + next_state(unit + 1 - at, free + 1) if free > 0 else unit
            computed += following - at
            at = following
            if free > 0:
                top += 1
                positions[top] = at
        if positions[top] == unit:
            top -= 1
        unit -= 1
    return computed


# -------------------------------------------------------------------------------------------------- states in a buffer


class StateBuffer(Emitter):
    """A new array of `rows` rows with room for a state each: called with a state and `rows`."""

    def __repr__(self):
        return "state buffer"

    def signature(self, typingctx, args):
        """See `Emitter`."""
        return signature(types.Array(base_kind(args[:1]), 2, "C"), args[0], types.int64)

    def emit(self, context, builder, signature, args):
        """See `Emitter`."""
        columns = element_count(context, builder, signature.args[0], args[0])
        return arrayobj._empty_nd_impl(context, builder, signature.return_type, [args[1], columns])._getvalue()


class _StateAccess(Emitter):
    def _address(self, context, builder, kinds, args):
        view = _View(context, builder, kinds[1], args[1])
        return builder.gep(view.data, [builder.mul(args[2], view.shape[1])])


class StoreState(_StateAccess):
    """Write a state into a row: called with state, buffer, row."""

    def __repr__(self):
        return "store state"

    def signature(self, typingctx, args):
        """See `Emitter`."""
        return signature(types.none, args[0], args[1], types.int64)

    def emit(self, context, builder, signature, args):
        """See `Emitter`."""
        data, position = self._address(context, builder, signature.args, args), Counter(builder, constant(0))
        emission, dtype = Emission(context, builder), signature.args[1].dtype

        def element(kind, value, *_):
            stored = emission.value(dtype, emission.number(kind, value))
            builder.store(context.get_value_as_data(builder, dtype, stored), builder.gep(data, [position.next()]))

        Walk(context, builder).visit(signature.args[0], args[0], element)
        return context.get_dummy_value()


class LoadState(_StateAccess):
    """A new state from a row: called with a state of the same shapes, buffer, row."""

    def __repr__(self):
        return "load state"

    def signature(self, typingctx, args):
        """See `Emitter`."""
        return signature(args[0], args[0], args[1], types.int64)

    def emit(self, context, builder, signature, args):
        """See `Emitter`."""
        data, position = self._address(context, builder, signature.args, args), Counter(builder, constant(0))
        emission, dtype = Emission(context, builder), signature.args[1].dtype
        model = context.data_model_manager[dtype]

        def element(kind, value, made, *_):
            loaded = model.load_from_data_pointer(builder, builder.gep(data, [position.next()]))
            return emission.value(made, emission.number(dtype, loaded))

        walk, heap = Walk(context, builder), in_heap(context, builder)
        return walk.make(signature.args[0], args[0], signature.return_type, element, heap)


class CopyState(Emitter):
    """A new state with the same numbers, its arrays C-contiguous."""

    def __repr__(self):
        return "copy state"

    def signature(self, typingctx, args):
        """See `Emitter`."""
        return signature(_contiguous(types.unliteral(args[0])), types.unliteral(args[0]))

    def emit(self, context, builder, signature, args):
        """See `Emitter`."""
        def element(kind, value, made, *_):
            return context.cast(builder, value, kind, made)

        walk, heap = Walk(context, builder), in_heap(context, builder)
        return walk.make(signature.args[0], args[0], signature.return_type, element, heap)


def _contiguous(kind):
    if isinstance(kind, types.BaseTuple):
        return rebuilt(kind, [_contiguous(part) for part in kind.types])
    return types.Array(kind.dtype, kind.ndim, "C") if isinstance(kind, types.Array) else kind


class FloatCount(Emitter):
    """Number of floats in a state."""

    def __repr__(self):
        return "float count"

    def signature(self, typingctx, args):
        """See `Emitter`."""
        return signature(types.int64, *args)

    def emit(self, context, builder, signature, args):
        """See `Emitter`."""
        return element_count(context, builder, signature.args[0], args[0])


class InputAdjoints(Emitter):
    """A new array, all zero, for the adjoints of the inputs: called with inputs and state."""

    def __repr__(self):
        return "input adjoints"

    def signature(self, typingctx, args):
        """See `Emitter`."""
        return signature(types.Array(base_kind(args), args[0].ndim, "C"), *args)

    def emit(self, context, builder, signature, args):
        """See `Emitter`."""
        shape = _View(context, builder, signature.args[0], args[0]).shape
        array = arrayobj._empty_nd_impl(context, builder, signature.return_type, shape)
        size = builder.mul(array.nitems, array.itemsize)
        cgutils.memset(builder, builder.bitcast(array.data, POINTER), size, 0)
        return array._getvalue()


_adjoints = InputAdjoints()
_buffer, _store, _load, _copy, _floats = StateBuffer(), StoreState(), LoadState(), CopyState(), FloatCount()


# -------------------------------------------------------------------------------------------------- scans


class Scan(Emitter):
    """A loop of a jitted step: called with state, inputs (or None), length, and number of states to keep (0: by itself).

    Parameters
    ----------
    step : Dispatcher
        ``step(state, x)`` returns ``(state, y)``; y may be None.
    """

    def __init__(self, step):
        self.step = step
        self.variants = {}

    def __repr__(self):
        return f"scan of {self.step.__name__}"

    def _variant(self, typingctx, args):
        """(operation, whether there are inputs, whether there are results)."""
        state, inputs = types.unliteral(args[0]), types.unliteral(args[1])
        with_inputs = not isinstance(inputs, (types.NoneType, types.Omitted))
        if with_inputs and not isinstance(inputs, types.Array):
            raise errors.TypingError(f"tape.scan: expected the inputs as one array (a row a step) or None, got {inputs}")
        one = types.none if not with_inputs else inputs.dtype if inputs.ndim == 1 else types.Array(
            inputs.dtype, inputs.ndim - 1, inputs.layout if inputs.layout == "C" else "A")
        kinds = (_contiguous(state), one)
        step = self.step if differential_of(types.Tuple(kinds)) is None else twin(self.step)
        made = types.Dispatcher(step).get_call_type(typingctx, kinds, {}).return_type
        if not isinstance(made, types.BaseTuple) or len(made) != 2:
            raise errors.TypingError(f"tape.scan: expected a step that returns (state, result), got {made}")
        result = made.types[1]
        rank = None if isinstance(result, types.NoneType) else getattr(result, "ndim", 0)
        key = with_inputs, rank
        if key not in self.variants:
            self.variants[key] = _scan_operation(self.step, with_inputs, rank)
        return self.variants[key], with_inputs, rank is not None

    def _arguments(self, args, with_inputs):
        return args[0], args[1] if with_inputs else types.int64, types.int64, types.int64

    def signature(self, typingctx, args):
        """See `Emitter`."""
        operation, with_inputs, with_results = self._variant(typingctx, args)
        call = operation.signature(typingctx, self._arguments(args, with_inputs))
        result = call.return_type if with_results else types.Tuple([call.return_type, types.none])
        return signature(result, *args)

    def emit(self, context, builder, signature, args):
        """See `Emitter`."""
        typingctx = context.typing_context
        operation, with_inputs, with_results = self._variant(typingctx, signature.args)
        call = operation.signature(typingctx, self._arguments(signature.args, with_inputs))
        values = list(args)
        if not with_inputs:
            values[1] = constant(0)
        numbers = zip(values[2:], signature.args[2:], strict=True)
        values[2:] = [context.cast(builder, v, kind, types.int64) for v, kind in numbers]
        values[:2] = [context.cast(builder, v, a, b) if a != b and not (k == 1 and not with_inputs) else v
                      for k, (v, a, b) in enumerate(zip(values[:2], signature.args[:2], call.args[:2], strict=True))]
        result = context.get_function(EmitterType(operation), call)(builder, values)
        if with_results:
            return result
        return context.make_tuple(builder, signature.return_type, [result, context.get_dummy_value()])


def _scan_operation(step, with_inputs, rank) -> Operation:
    run = _runner(step, with_inputs, rank)
    differentiate = Recomputed(run)

    @njit
    def value(state, inputs, length, kept):
        return run(state, inputs, length)

    @njit
    def rule(adjoint, out, state, inputs, length, kept):
        floats = max(_floats(state), 1)
        unit = max(1, min(length, UNIT_FLOATS // floats))
        units = (length + unit - 1) // unit
        states = max(1, min(units, kept if kept > 0 else KEPT_BYTES // (8 * floats)))
        buffer = _buffer(state, states)
        positions = np.zeros(states, np.int64)
        _store(state, buffer, 0)
        back = _copy(_last(adjoint))
        collected = _zeros(inputs, state)
        top, current = 0, units - 1
        while current >= 0:
            now = _load(state, buffer, top)
            at = positions[top]
            while at < current:
                free = states - 1 - top
                following = at + next_state(current + 1 - at, free + 1) if free > 0 else current
                now = _last_of(run(now, _part(inputs, at * unit, following * unit), (following - at) * unit))
                at = following
                if free > 0:
                    top += 1
                    positions[top] = at
                    _store(now, buffer, top)
            start = current * unit
            stop = min(start + unit, length)
            found = differentiate(_seed(back, adjoint, start, stop), 0, now, _part(inputs, start, stop), stop - start)
            back = found[0]
            _place(collected, found[1], start, stop)
            if positions[top] == current:
                top -= 1
            current -= 1
        return back, collected, 0, 0

    if rank is None:
        @njit
        def _last(adjoint):
            return adjoint

        @njit
        def _last_of(result):
            return result

        @njit
        def _seed(back, adjoint, start, stop):
            return back
    else:
        @njit
        def _last(adjoint):
            return adjoint[0]

        @njit
        def _last_of(result):
            return result[0]

        @njit
        def _seed(back, adjoint, start, stop):
            return back, adjoint[1][start:stop]

    if with_inputs:
        @njit
        def _part(inputs, start, stop):
            return inputs[start:stop]

        @njit
        def _zeros(inputs, state):
            return _adjoints(inputs, state)

        @njit
        def _place(collected, found, start, stop):
            collected[start:stop] = found
    else:
        @njit
        def _part(inputs, start, stop):
            return 0

        @njit
        def _zeros(inputs, state):
            return 0

        @njit
        def _place(collected, found, start, stop):
            pass

    return Operation(value, rule, body=value, name=f"scan_{step.__name__}")


def _runner(step, with_inputs, rank):
    """The jitted loop over `length` steps."""
    step = original_of(step)
    if with_inputs:
        @njit
        def one(inputs, i):
            return inputs[i]
    else:
        @njit
        def one(inputs, i):
            return None

    if rank is None:
        @njit
        def run(state, inputs, length):
            state = _copy(state)
            for i in range(length):
                state, _ = step(state, one(inputs, i))
            return state
    else:
        @njit
        def run(state, inputs, length):
            state = _copy(state)
            results = _rows_of(step(_copy(state), one(inputs, 0))[1], length)
            for i in range(length):
                state, y = step(state, one(inputs, i))
                results[i] = y
            return state, results

    return run


class ResultRows(Emitter):
    """A new array with a row for each step's result: called with a result and the number of steps."""

    def __repr__(self):
        return "result rows"

    def signature(self, typingctx, args):
        """See `Emitter`."""
        kind = types.unliteral(args[0])
        dtype = kind.dtype if isinstance(kind, types.Array) else kind
        return signature(types.Array(dtype, 1 + getattr(kind, "ndim", 0), "C"), kind, types.int64)

    def emit(self, context, builder, signature, args):
        """See `Emitter`."""
        kind = signature.args[0]
        shape = _View(context, builder, kind, args[0]).shape if isinstance(kind, types.Array) else []
        return arrayobj._empty_nd_impl(context, builder, signature.return_type, [args[1], *shape])._getvalue()


_rows_of = ResultRows()
