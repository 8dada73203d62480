"""Operations of traced code with rules of their own: each use is one call instruction of the list.

The function runs on plain arrays, between two segments of the sweep, so it may be any Python. Its rules are recorded when a
derivative is built, and so can be differentiated again; a rule that cannot be recorded (plain Python, or jitted) is a call as
well, and then there is no second derivative through it. From a rule for adjoints follows the one for tangents, and the other
way round, as each is the other's transpose.

What is here: recording a call, and its derivatives. What is not: the decorator (`tape.control.operations`), how calls are run
(`compiled.lists.calls`), the operations that come with the project (`tape.rules.lapack`).
"""

from __future__ import annotations

import functools
import inspect

import numpy as np

from compiled.lists.calls import Call, CallWords
from compiled.table.layout import OPERAND, OUTPUT
from tape.errors import NotDifferentiable
from tape.recording.arrays import RecordedArray, recorder_of
from tape.recording.containers import leaves_of, with_leaves
from tape.recording.dispatch import taken_over
from tape.recording.made import RULES, Made, Making
from tape.recording.recorder import Promote, current_recorder, plain_ground
from tape.transforms.differentiate import FORWARD, REVERSE, Stretch, pull_back


class TracedOperation(Made):
    """A function with rules of its own, called like the function; made by `tape.operation`.

    Until it has a rule it is its function, and recorded as that.

    Examples
    --------
    >>> import numpy as np, tape
    >>> @tape.operation
    ... def norm(x):
    ...     return np.sqrt(sum(float(v) ** 2 for v in x))
    >>> @norm.bprop
    ... def _(grad, out, x):
    ...     return grad * x / out
    >>> tape.grad(lambda x: 2.0 * norm(x))(np.array([3.0, 4.0]))
    array([1.2, 1.6])
    """

    _carries = RULES

    def __init__(self, function):
        functools.update_wrapper(self, function)
        self._making = Making("operation", function, (), {})
        self.function, self.rule, self.tangent_rule = function, None, None
        self.name = getattr(function, "__name__", type(function).__name__)

    def bprop(self, rule):
        """Decorator: ``rule(grad, out, *args)`` returns the adjoint of each argument (a tuple if there are several).

        `grad` and `out` have the structure of the function's result, an adjoint that of its argument. The adjoint of what is no
        float may be anything, and None is zero.
        """
        self.rule = rule
        return rule

    def jvp(self, rule):
        """Decorator: ``rule(tangents, out, *args)`` returns the tangent of the result; `tangents` is a tuple like `args`."""
        self.tangent_rule = rule
        return rule

    def __call__(self, *args, **kwargs):
        leaves = leaves_of((args, kwargs))[0]
        other = taken_over(leaves)
        if other is not None:
            return other(self, args, kwargs)
        has_rule = self.rule is not None or self.tangent_rule is not None
        if not has_rule:
            return self.function(*args, **kwargs)
        if not any(isinstance(leaf, RecordedArray) for leaf in leaves):
            return self.called(*args, **kwargs)
        if kwargs:
            bound = inspect.signature(self.function).bind(*args, **kwargs)
            args, kwargs = bound.args, bound.kwargs
        return recorded(self, args, kwargs)

    def called(self, *args, **kwargs):
        """Call the function, which is nobody's recording."""
        with plain_ground():
            return self.function(*args, **kwargs)

    def shapes(self, *args, **kwargs):
        """Shapes of the results' leaves, where they are known without calling the function; None where they are not."""
        return

    def description(self, use):
        """What JSON can hold of a use, for files; None, as a file cannot hold a function of the user's."""
        return

    is_own = False
    """Whether the operation comes with the project: nothing of it needs converting or checking; its rules change nothing."""


def recorded(operation: TracedOperation, args, kwargs):
    """Record a call of an operation; returns its result, of recorded arrays."""
    leaves, structure = leaves_of((args, kwargs))
    recorder = recorder_of(leaves)
    if any(isinstance(leaf, RecordedArray) for leaf in leaves_of(kwargs)[0]):
        raise NotDifferentiable(f"{operation.name}: a recorded array as a keyword-only argument; make it a positional one")
    arrays = [leaf for leaf in leaves if isinstance(leaf, RecordedArray)]
    use = Use(operation, structure, leaves)
    shapes = operation.shapes(*args, **kwargs)
    if shapes is None:
        shapes = use.found_shapes(arrays)
    else:
        use.set_results(len(shapes), recorder.dtype)
    views = recorder.call(use.call(shapes, [recorder.is_active(x.view) for x in arrays]), [x.view for x in arrays])
    results = [RecordedArray(recorder, view, dtype) for view, dtype in zip(views, use.result_dtypes, strict=True)]
    return with_leaves(use.result_structure, results)


class Use:
    """One use of an operation: what of its arguments is recorded, and what stays as it is.

    Attributes
    ----------
    leaves : list
        Of ``(args, kwargs)``; None for those that are recorded.
    dynamic : list of int
        Numbers of those that are recorded.
    dtypes : list of numpy.dtype
        Of those.
    result_structure, result_dtypes
        Of what the function returns.
    """

    def __init__(self, operation, structure, leaves):
        self.operation, self.structure = operation, structure
        self.dynamic = [k for k, leaf in enumerate(leaves) if isinstance(leaf, RecordedArray)]
        self.dtypes, self.input_shapes = [leaves[k].dtype for k in self.dynamic], [leaves[k].shape for k in self.dynamic]
        self.leaves = [None if isinstance(x, RecordedArray) else x.copy() if isinstance(x, np.ndarray) else x for x in leaves]

    def call(self, shapes, active) -> Call:
        """What the call instruction runs."""
        run = self.run_on_matrices if self.operation.is_own else self.run
        return Call(self.operation.name, run, self.input_shapes, shapes, active, self, self.operation.description(self))

    def set_results(self, count, dtype):
        """Say that the function returns an array, or a tuple of `count` of them."""
        self.result_structure = leaves_of((0,) * count if count > 1 else 0)[1]
        self.result_dtypes = [dtype] * count

    def arguments(self, arrays):
        """The function's (args, kwargs) with these arrays in the place of what is recorded."""
        leaves = list(self.leaves)
        for k, array in zip(self.dynamic, arrays, strict=True):
            leaves[k] = array
        return with_leaves(self.structure, leaves)

    def plain(self, arrays):
        """As `arguments`, of arrays of cells, which are given the arguments' dtypes."""
        return self.arguments([a.astype(dtype)[()] for a, dtype in zip(arrays, self.dtypes, strict=True)])

    def run(self, arrays) -> list:
        """The function of arrays of cells, as a call runs it."""
        args, kwargs = self.plain(arrays)
        results, structure = leaves_of(self.operation.called(*args, **kwargs))
        if structure != self.result_structure:
            raise ValueError(f"{self.operation.name}: expected a result of structure {self.result_structure}, as when it was "
                             f"recorded, got {structure}")
        return results

    def run_on_matrices(self, arrays) -> list:
        """As `run`, of an operation that comes with the project: there is nothing to convert or to check."""
        result = self.operation.function(*self.arguments(arrays)[0])
        return list(result) if isinstance(result, tuple) else [result]

    def found_shapes(self, arrays) -> list:
        """Shapes of the results: those of a call, on ones where there are no values yet."""
        recorder, name = current_recorder(), self.operation.name
        try:
            if recorder.without_values:
                values = [np.ones(x.shape) for x in arrays]
            else:
                values = [recorder.value(x.view).copy() for x in arrays]
            args, kwargs = self.plain(values)
            results, self.result_structure = leaves_of(self.operation.called(*args, **kwargs))
        except Exception as error:
            if not recorder.without_values:
                raise
            raise NotDifferentiable(f"{name}: inside a loop or a rule the shapes of its results are found by a call with ones "
                                    f"for arguments, which raised {error!r}") from error
        self.result_dtypes = []
        for result in results:
            kind = np.asarray(result).dtype
            if kind.kind not in "fiub":
                raise NotDifferentiable(f"{name}: expected it to return numbers, got {type(result).__name__} ({result!r:.60})")
            self.result_dtypes.append(recorder.dtype if kind.kind == "f" else kind)
        return [np.shape(result) for result in results]

    # ------------------------------------------------------------------ derivatives

    def pulled_back(self, arrays, outs, adjoints) -> list:
        """Record the adjoints of the arguments, given those of the results; None where one is zero."""
        if self.operation.rule is not None:
            return self._by_rule(self.operation.rule, "bprop", self._adjoints, arrays, outs, adjoints, self.input_shapes)
        tangents = self._shapes_of(arrays)
        return _transposed(lambda t: self.pushed_forward(arrays, outs, t), tangents, adjoints)

    def pushed_forward(self, arrays, outs, tangents) -> list:
        """Record the tangents of the results, given those of the arguments; None where one is zero."""
        if self.operation.tangent_rule is not None:
            return self._by_rule(self.operation.tangent_rule, "jvp", self._tangents, arrays, outs, tangents,
                                 self._shapes_of(outs))
        return _transposed(lambda g: self.pulled_back(arrays, outs, g), self._shapes_of(outs), tangents)

    @staticmethod
    def _shapes_of(arrays):
        return [x.shape for x in arrays]

    def _by_rule(self, rule, kind, gathered, arrays, outs, flows, shapes) -> list:
        """Record what a rule says; where that is no NumPy code, a call of it."""
        recorder, start = current_recorder(), current_recorder().memory.length
        given = arrays, outs, flows
        if not hasattr(rule, "py_func"):
            try:
                with recorder.blindly():
                    if not self.operation.is_own:  # a rule of the user's may change its arguments in place
                        given = [[x.copy() for x in group] for group in given]
                    return gathered(rule, *given, self.arguments)
            except Promote:
                raise
            except Exception:
                recorder.memory.length = start  # if something is wrong with the rule, calling it says so
        run = functools.partial(self._run_rule, rule, gathered, (len(arrays), len(arrays) + len(outs)), shapes)
        everything = [*arrays, *outs, *flows]
        call = Call(f"{self.operation.name}.{kind}", run, self._shapes_of(everything), shapes,
                    [recorder.is_active(x.view) for x in everything], None)
        return [RecordedArray(recorder, view, recorder.dtype) for view in recorder.call(call, [x.view for x in everything])]

    def _run_rule(self, rule, gathered, counts, shapes, values) -> list:
        """A rule of arrays of cells, as a call runs it."""
        scalars = [x[()] for x in values]
        parts = values[: counts[0]], scalars[counts[0] : counts[1]], scalars[counts[1] :]
        with plain_ground():
            found = gathered(rule, *parts, self.plain)
        return [np.zeros(shape) if x is None else x for x, shape in zip(found, shapes, strict=True)]

    def _adjoints(self, rule, arrays, outs, adjoints, arguments) -> list:
        """The adjoints of what is recorded of the arguments, by a rule."""
        args, kwargs = arguments(arrays)
        out, grad = (with_leaves(self.result_structure, list(x)) for x in (outs, adjoints))
        answer = rule(grad, out, *args, **kwargs)
        parts = answer if len(args) > 1 or (isinstance(answer, tuple) and not isinstance(args[0], tuple)) else (answer,)
        if not isinstance(parts, (tuple, list)) or len(parts) != len(args):
            raise NotDifferentiable(f"{self.operation.name}: expected its rule to return the adjoints of its {len(args)} "
                                    f"arguments, got {type(answer).__name__} ({answer!r:.60})")
        found, number = [], 0
        places = dict.fromkeys(self.dynamic)
        for k, (part, argument) in enumerate(zip(parts, args, strict=True)):
            own, structure = leaves_of(argument)
            wanted = [j for j in range(len(own)) if number + j in places]
            number += len(own)
            if not wanted:
                continue
            leaves = self._leaves_like(part, structure, len(own), f"the adjoint of argument {k}")
            found += [leaves[j] for j in wanted]
        return [self._checked(x, shape) for x, shape in zip(found, self.input_shapes, strict=True)]

    def _tangents(self, rule, arrays, outs, tangents, arguments) -> list:
        """The tangents of the results, by a rule."""
        args, kwargs = arguments(arrays)
        leaves = [0.0] * len(self.leaves)
        for k, tangent in zip(self.dynamic, tangents, strict=True):
            leaves[k] = tangent
        flows = with_leaves(self.structure, leaves)[0]
        out = with_leaves(self.result_structure, list(outs))
        answer = rule(flows, out, *args, **kwargs)
        leaves = self._leaves_like(answer, self.result_structure, len(outs), "the tangent of its result")
        return [self._checked(x, np.shape(out)) for x, out in zip(leaves, outs, strict=True)]

    def _leaves_like(self, part, structure, count, what):
        """The leaves of what a rule returned for something of a structure; None for all of them is zero."""
        if part is None:
            return [None] * count
        leaves, got = leaves_of(part)
        if got != structure:
            raise NotDifferentiable(f"{self.operation.name}: {what}: expected the structure {structure}, got {got}")
        return leaves

    def _checked(self, x, shape):
        """A derivative that a rule returned, None for zero."""
        if x is None or (np.shape(x) == () and not isinstance(x, RecordedArray) and x == 0):
            return None
        if np.shape(x) != tuple(shape):
            raise NotDifferentiable(f"{self.operation.name}: its rule returned a derivative of shape {np.shape(x)}; expected "
                                    f"{tuple(shape)}")
        return x


def _transposed(linear, shapes, flows) -> list:
    """Record the transpose of a linear map, applied to `flows`; `linear` is recorded on arrays of these shapes for that."""
    recorder = current_recorder()
    start = recorder.memory.length
    inputs = [recorder.zeros(shape) for shape in shapes]
    for view in inputs:
        recorder.mark_active(view)
    results = linear([RecordedArray(recorder, view, recorder.dtype) for view in inputs])
    stretch = Stretch(recorder, start, recorder.memory.length, inputs)
    pairs = [(x.view, flow) for x, flow in zip(results, flows, strict=True) if isinstance(x, RecordedArray)]
    return pull_back(stretch, [view for view, _ in pairs], [flow for _, flow in pairs])


def _parts(stretch, i):
    """The call of instruction i, and views of its arguments and results."""
    call = stretch.recorder.bodies[CallWords.of(stretch.words(i)).body]
    if call.rule is None:
        raise NotDifferentiable(f"{call.name}: a rule that is plain Python, or jitted, has no derivative, so there is no "
                                "second one here; write the rule with NumPy's functions of its arguments")
    return call, call.operands(stretch.cell(OPERAND, i)), call.results(stretch.cell(OUTPUT, i))


def _reverse_call(stretch, i):
    call, operands, results = _parts(stretch, i)
    adjoints = [stretch.array(stretch.buddy(view)) for view in results]
    found = call.rule.pulled_back([stretch.array(v) for v in operands], [stretch.array(v) for v in results], adjoints)
    for view, active, adjoint in zip(operands, call.active, found, strict=True):
        if active and adjoint is not None:
            stretch.add(stretch.buddy(view), adjoint)


def _forward_call(stretch, i):
    call, operands, results = _parts(stretch, i)
    tangents = [stretch.array(stretch.buddy(view)) for view in operands]
    found = call.rule.pushed_forward([stretch.array(v) for v in operands], [stretch.array(v) for v in results], tangents)
    for view, tangent in zip(results, found, strict=True):
        if tangent is not None:
            stretch.array(stretch.buddy(view))[...] = tangent


REVERSE["call"] = _reverse_call
FORWARD["call"] = _forward_call
