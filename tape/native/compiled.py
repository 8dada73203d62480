"""Native functions of traced and jitted code: `tape.compile`, and what it returns.

What is here: calling machine code from Python, with the function's own arguments. What is not: which lists are made into
machine code (`running.derived`), machine code (`compiled.native`), when a list is compiled by itself (`running.tiers`).
"""

from __future__ import annotations

import os
import pathlib
import typing
from collections.abc import Callable
from typing import Any, Generic

import numpy as np
from numba.core.registry import CPUDispatcher

from compiled.forking import cached_property
from compiled.lists.listing import Listing
from compiled.native.export import export
from compiled.native.function import NativeFunction, content_key
from compiled.table.layout import GUARD_FAILED
from tape import jitted
from tape.errors import GuardFailed, NotDifferentiable
from tape.native.batch import CompiledLanes, compile_lanes
from tape.recording.arguments import Selection, as_floats, checked_leaves, is_same, like_argument, require_scalar
from tape.recording.containers import leaves_of, opened, with_leaves
from tape.recording.freshness import State
from tape.recording.made import Made, MadeAttribute, Making, PullbackFunction
from tape.recording.recorder import current_recorder
from tape.recording.recordings import objects_of
from tape.recording.signatures import Jitted, Y
from tape.recording.traces import Traces
from tape.reports.profile import Profile
from tape.reports.strictness import strictness, verify
from tape.reports.timing import median_seconds, ones, profile_at
from tape.running.c_names import c_name, leaf_names
from tape.running.derived import Lists
from tape.running.executables import Stopped, converted, run


class CompiledCall(MadeAttribute):
    """A native function as Python calls it, with the function's own arguments.

    Attributes
    ----------
    native : compiled.native.function.NativeFunction
        The machine code.
    address : int
        Of the function for C.
    ctypes : ctypes function
        The same, callable.
    low_level_callable : scipy.LowLevelCallable
        For SciPy.
    declaration : str
        In C.
    """

    def __init__(self, native: NativeFunction, owner: Compiled):
        self.native, self.owner = native, owner
        self._attribute = owner, native.name.removeprefix(f"{owner._native.name}_")
        self._call, self._dtype = native.call, native.dtype

    @property
    def declaration(self) -> str:
        """The declaration in C."""
        return self.native.signature.c(self.native.name) + ";"

    @property
    def address(self) -> int:
        """Of the function for C; it holds as long as this object lives."""
        return self.native.address

    @property
    def ctypes(self):
        """The function for C as ctypes calls it."""
        return self.native.ctypes

    @property
    def low_level_callable(self):
        """The function as SciPy's compiled code calls it."""
        return self.native.low_level_callable

    def results(self, leaves):
        """Run the function on leaves; returns new arrays (or a number, for a first result of no axes)."""
        try:
            results, finite = run(self.native, leaves)
        except Stopped as stopped:
            if stopped.code == GUARD_FAILED:
                raise GuardFailed("a branch of Python code is decided otherwise than when it was compiled; compile for these "
                                  "arguments") from None
            raise self.owner.fault(leaves) from None
        if not finite or strictness() is not None:
            self.verified(leaves, results)
        return results

    def verified(self, leaves, results):
        """Tell of derivatives that are not finite, see `strictness.verify`."""
        trace, kind = self.owner._trace, self.native.name.removeprefix(f"{self.owner._native.name}_")
        if kind != "value":
            first = self.native.derivatives
            inputs, extra = leaves[: len(trace.dynamic)], leaves[len(trace.dynamic) :]
            verify(kind, trace, inputs, extra, results[first:], results[:first])


MOST_BRANCHES = 32
"""Branches of Python code that a compiled function keeps."""


class Compiled(Made, Generic[Y]):
    """A function compiled for arguments of certain shapes and dtypes; made by `tape.compile`.

    Its functions are compiled when they are first used. They take the arguments of the function; shapes and dtypes are those of
    the examples. What the function reads beside them is frozen as it was then; `changed` tells whether it still is so. Where a
    branch of Python code is decided otherwise, the call from Python compiles that branch as well;
    from jitted code it raises `tape.GuardFailed`, and in C every result is NaN.

    Attributes
    ----------
    njit : namespace
        The same functions for jitted code: ``value(*args, *out)``, ``value_and_grad(*args, *grad_out)``,
        ``jvp(*args, *tangents, *out)``, ``vjp(*args, *seeds, *out)``. Arguments are floats and C-contiguous arrays; a scalar
        first result is returned, every other result is written to an array that is passed. Results must not overlap
        arguments.

    Examples
    --------
    >>> import numba, numpy as np, tape
    >>> c = tape.compile(lambda x: np.sum(x**2), np.ones(2))
    >>> float(c.value(np.array([3.0, 4.0]))), c.value.declaration
    (25.0, 'double ..._value(const double *x);')
    >>> gradient, value_and_grad = np.empty(2), c.njit.value_and_grad
    >>> numba.njit(lambda x, gradient: value_and_grad(x, gradient))(np.array([3.0, 4.0]), gradient), gradient
    (25.0, array([6., 8.]))
    """

    def __init__(self, function, args, argnums=0, has_aux=False, trace=None):
        self._making = Making("compile", function, tuple(args), {"argnums": argnums, "has_aux": has_aux})
        self._function, self._argnums, self._has_aux = function, argnums, has_aux
        self._numbers = Selection(function, argnums).positions(len(args))
        args = self._opened(args)
        self._read, self._has_come = None, trace is not None  # from another process, with its list
        if trace is None:
            trace, self._read = self._recorded(args)
            trace.program.check()
        self._trace = trace
        self._leaves, self._structure = leaves_of(tuple(args))
        self._objects = [] if jitted.is_jitted(function) else objects_of(self._leaves)
        floats = {trace.dynamic[k] for k in trace.wrt}
        self._whole = {k: _kind(trace.leaves[k]) for k in trace.dynamic if _kind(trace.leaves[k]) != "f" and k not in floats}
        bare = [len(leaves) == 1 and leaves[0] is argument for argument, leaves in ((a, leaves_of(a)[0]) for a in args)]
        self._plain = all(bare) and len(trace.dynamic) == len(args) and not self._whole and not trace.whole
        self._native = Lists(trace, c_name(function), leaf_names(function, args))
        self._branches: list[Compiled] = []
        self._arrangement = self._arranged(args)
        self._single = not isinstance(argnums, tuple) and bare[self._numbers[0]]
        self.njit = _Jitted(self)

    def _recorded(self, args):
        """The list of the function at these arguments, and what else it read."""
        if jitted.is_jitted(self._function):
            args = tuple(as_floats(x) if n in self._numbers else x for n, x in enumerate(args))
            trace, _ = jitted.recorded_trace(self._function, args, self._numbers, self._has_aux)
            return trace, State(self._function).snapshot()
        traces = Traces(self._function, checks_integers=False, has_aux=self._has_aux)
        trace, _ = traces.run(tuple(args), {}, self._numbers)
        return trace, trace.state

    # ------------------------------------------------------------------ the functions

    @cached_property
    def value(self) -> _Value[Y]:
        """``value(*args)``: the function's result."""
        return _Value(self._native.value, self)

    @cached_property
    def value_and_grad(self) -> _ValueAndGrad[Y]:
        """``value_and_grad(*args)``: as of `tape.value_and_grad`."""
        trace = self._trace
        require_scalar(trace.result_dtypes[: trace.own], [trace.result_shape(k) for k in range(trace.own)], "tape.compile")
        return _ValueAndGrad(self._native.value_and_grad, self)

    @cached_property
    def jvp(self) -> _Jvp[Y]:
        """``jvp(primals, tangents)``: the value and its derivative along a direction, as of `tape.jvp`."""
        return _Jvp(self._native.jvp, self)

    @cached_property
    def vjp(self) -> _Vjp[Y]:
        """``vjp(*primals)``: the value and the function that pulls adjoints back, as of `tape.vjp`."""
        return _Vjp(self._native.vjp, self)

    # ------------------------------------------------------------------ for C and SciPy

    @property
    def address(self) -> int:
        """Address of the value's function for C; its declaration is ``value.declaration``."""
        return self.value.address

    @property
    def ctypes(self):
        """The value's function as ctypes calls it."""
        return self.value.ctypes

    @property
    def low_level_callable(self):
        """The value as a `scipy.LowLevelCallable`: of one number, of several, or of one array with one axis."""
        return self.value.low_level_callable

    def export(self, directory: str | os.PathLike[str], cpu: str = "native") -> pathlib.Path:
        """Write a C header and a shared library with the value and, of scalar functions, value and gradient.

        Parameters
        ----------
        directory : str or path-like
            Where to; made if it is not there.
        cpu : str
            "native" for this machine's processor, "generic" for any of its architecture.

        Returns
        -------
        pathlib.Path
            Of the header, ``<function>.h``; the library beside it is ``lib<function>.so`` (``.dylib``, ``.dll``).

        Raises
        ------
        FileNotFoundError
            When there is no C compiler to link with (cc, gcc or clang).
        TapeError
            When special functions are computed by SciPy's code, which C does not have; it names them.
        """
        calls = [self.value]
        trace = self._trace
        if len(trace.results) == 1 and trace.result_shape(0) == () and isinstance(trace.results[0], int):
            calls.append(self.value_and_grad)
        return export(pathlib.Path(directory), self._native.name, [call.native for call in calls], cpu)

    def _said(self):
        arguments = ", ".join(str(leaf.shape) for leaf in self._trace.leaves if leaf.kind != "static")
        return f"{super()._said()}, for arguments of shapes {arguments}, what else it reads frozen"

    def __reduce__(self):
        return _compiled_again, (self._portable("function"), self._making.arguments, self._argnums, self._has_aux, self._trace,
                                 self._branches)

    def changed(self) -> bool:
        """Whether something that the function reads beside its arguments is no longer what it was when it was compiled.

        What cannot be watched (files, clocks, context variables) is not seen; a function that changed what it reads, or drew
        random numbers, while it was compiled has always changed.

        Examples
        --------
        >>> import tape
        >>> scale = {"a": 2.0}
        >>> c = tape.compile(lambda x: scale["a"] * x, 1.0)
        >>> c.changed()
        False
        >>> scale["a"] = 3.0
        >>> c.changed(), float(c.value(1.0))
        (True, 2.0)
        """
        if self._has_come:  # what was read there cannot be looked at here: what is recorded now can
            return _content(self._recorded(self._making.arguments)[0]) != _content(self._trace)
        return self._read is None or not self._read.holds(self._objects)

    def profile(self, *args: Any, repeat: int = 5) -> Profile:
        """Estimate what each line of the function's source costs in the machine code.

        Machine code has no lines: what several of them compute is fused into one loop over the elements. So the machine code is
        timed as a whole, and its time is divided as the sweeps divide theirs, which run the same list line by line. A line
        whose work the compiler merged with another's, or left out, is told too dear, and others too cheap. `Tape.profile`
        measures lines as they are, on the sweeps.

        Parameters
        ----------
        *args : arrays, floats, or nested containers of them
            Like the examples; those by default.
        repeat : int
            How often everything is measured; medians are told.

        Returns
        -------
        Profile
            `forward` is the time of the value, `back` what value and gradient (of functions that are not scalar, value and
            pullback with a seed of ones) take longer.

        Raises
        ------
        tape.GuardFailed
            When a branch of Python code is decided otherwise at these arguments than when it was compiled; compile for them.
        ValueError
            Unless `repeat` is an integer of at least 1.

        Examples
        --------
        >>> import numpy as np, tape
        >>> c = tape.compile(lambda x: np.sum(np.sin(x) ** 2), np.ones(1000))
        >>> profile = c.profile()
        >>> len(profile.rows), "estimated" in profile.measured
        (1, True)
        """
        trace, leaves = self._trace, self.leaves(args or tuple(self._making.arguments))
        by_sweeps = profile_at(trace, leaves, repeat)
        scalar = trace.is_scalar or (len(trace.results) == 1 and trace.result_shape(0) == ())
        both = self._native.value_and_grad if scalar else self._native.vjp
        given = leaves if scalar else [*leaves, *(seed for _, seed in ones(trace))]
        forward = median_seconds(lambda: run(self._native.value, leaves), repeat)
        back = max(median_seconds(lambda: run(both, given), repeat) - forward, 0.0) if by_sweeps.back is not None else None
        return by_sweeps.scaled(forward, back, "run as machine code, its lines estimated by the sweeps' shares")

    def report(self) -> str:
        """What was compiled: for each function its list, loops and memory."""
        lines = [f"{self._native.name}: {len(self._trace.program.code)} instructions recorded"]
        for name in ("value", "value_and_grad", "jvp", "vjp"):
            native = self._native.__dict__.get(name)
            if native is not None:
                lines.append(f"  {name}: {len(native.listing.steps)} instructions after simplification, native")
        return "\n".join(lines)

    # ------------------------------------------------------------------ arguments

    def leaves(self, args):
        """The leaves that are arguments of the list."""
        if self._plain and len(args) == len(self._leaves):
            return args
        leaves, structure = leaves_of(self._opened(args))
        if structure != self._structure:
            raise ValueError(f"the arguments: expected the structure {self._structure}, got {structure}")
        for k, leaf in enumerate(self._trace.leaves):
            if leaf.kind == "static" and not is_same(leaves[k], leaf.dtype):
                raise ValueError(f"argument leaf {k}: compiled for {leaf.dtype!r:.60}, got {leaves[k]!r:.60}")
        for k, value in self._trace.fixed.items():
            if not np.array_equal(leaves[k], value):
                raise ValueError(f"argument leaf {k}: compiled for {value!r:.60}, as cells do not hold such integers, got "
                                 f"{leaves[k]!r:.60}; compile again")
        for k, kind in self._whole.items():
            if (got := np.asarray(leaves[k]).dtype).kind not in ("b" if kind == "b" else "iub"):
                expected = "booleans" if kind == "b" else "integers"
                raise NotDifferentiable(f"argument leaf {k}: compiled for {expected}, got {got}; compile again for others")
        return self._trace.inputs_of(leaves)

    def gradients(self, arrays):
        """Derivatives with respect to the differentiated arguments, in their structure; the arrays are the caller's to keep."""
        leaves = self._trace.like_arguments(arrays)
        if self._single:
            return leaves[0]
        parts = [with_leaves(structure, [leaf if k is None else leaves[k] for k, leaf in zip(places, own, strict=True)])
                 for places, own, structure in self._arrangement]
        return tuple(parts) if isinstance(self._argnums, tuple) else parts[0]

    def _arranged(self, args):
        """For each differentiated argument the places of its leaves among the gradients (None: it has no gradient, but goes
        along), the leaves of the example, and its structure."""
        trace = self._trace
        places = {trace.dynamic[k]: n for n, k in enumerate(trace.wrt)}
        counts = [len(leaves_of(argument)[0]) for argument in args]
        found = []
        for number in self._numbers:
            first = sum(counts[:number])
            own = range(first, first + counts[number])
            found.append(([places.get(k) for k in own], [self._leaves[k] for k in own], leaves_of(args[number])[1]))
        return found

    def _opened(self, args) -> tuple:
        """The arguments, with containers in the place of differentiated arrays with labels."""
        return tuple(opened(x) if n in self._numbers and x.__class__ is not np.ndarray else x for n, x in enumerate(args))

    def fault(self, leaves) -> Exception:
        """What is wrong with arguments for which machine code stopped: the sweeps say where an index is out of bounds."""
        every = [leaf.dtype for leaf in self._trace.leaves]
        for k, leaf in zip(self._trace.dynamic, leaves, strict=False):  # tangents or seeds may follow
            every[k] = leaf
        try:
            self._trace.explain(self._trace.workspace(), every)
        except Exception as error:
            return error
        raise AssertionError("machine code stopped where the sweeps do not")

    def other_branch(self, args, name):
        """The function `name` of the compiled branch that these arguments take."""
        for branch in self._branches:
            try:
                return getattr(branch, name)(*args)
            except GuardFailed:
                continue
        branch = Compiled(self._function, self._like_examples(args if name != "jvp" else args[0]), self._argnums, self._has_aux)
        self._branches = [branch, *self._branches[: MOST_BRANCHES - 1]]
        return getattr(branch, name)(*args)

    def _like_examples(self, args):
        """The arguments in the dtypes of the examples."""
        leaves = [leaf.dtype for leaf in self._trace.leaves]
        slots = self._native.value.signature.inputs
        for k, leaf, slot in zip(self._trace.dynamic, self.leaves(args), slots, strict=True):
            described = self._trace.leaves[k]
            array = converted(leaf, slot.shape, slot.name, self._trace.program.values.dtype)
            leaves[k] = described.dtype(array) if isinstance(described.dtype, type) else like_argument(array, described)
        return with_leaves(self._structure, leaves)


def _compiled_again(function, args, argnums, has_aux, trace, branches) -> Compiled:
    made = Compiled(function, args, argnums, has_aux, trace)
    made._branches = list(branches)
    return made


def _content(trace):
    """What tells lists apart by what they compute, and constant results."""
    constants = [(k, np.asarray(w[0]).dtype.str, np.shape(w[0]), np.asarray(w[0]).tobytes())
                 for k, w in enumerate(trace.results) if not isinstance(w, int)]
    return content_key(Listing.of(trace.program)), trace.outcomes, constants


class _Value(CompiledCall, Generic[Y]):
    """``value(*args)``."""

    def __call__(self, *args: Any) -> Y:
        try:
            results = self.results(self.owner.leaves(args))
        except GuardFailed:
            return self.owner.other_branch(args, "value")
        return self.owner._trace.assembled(results)


class _ValueAndGrad(CompiledCall, Generic[Y]):
    """``value_and_grad(*args)``."""

    def __init__(self, native, owner):
        super().__init__(native, owner)
        trace = owner._trace
        self._leaf = trace.leaves[trace.dynamic[trace.wrt[0]]]
        # One array of the list's dtype and one number: nothing to convert.
        self._simple = (owner._plain and not trace.has_aux and len(native.signature.pointers()) == 1
                        and not isinstance(owner._argnums, tuple)
                        and self._leaf.kind == "array" and self._leaf.dtype == self._dtype
                        and trace.result_dtypes[0] == self._dtype and native.signature.returns_number)
        self._shape, self._number = self._leaf.shape, self._dtype.type

    def __call__(self, *args: Any) -> tuple[Y, Any]:
        if self._simple:
            gradient = np.empty(self._shape, self._dtype)
            value = self._call(*args, gradient)
            if value.__class__ is float and strictness() is None:
                return self._number(value), gradient
        try:
            results = self.results(self.owner.leaves(args))
        except GuardFailed:
            return self.owner.other_branch(args, "value_and_grad")
        trace = self.owner._trace
        count = len(trace.program.outputs)
        return trace.assembled(results[:count]), self.owner.gradients(results[count:])


class _Jvp(CompiledCall, Generic[Y]):
    """``jvp(primals, tangents)``."""

    def __call__(self, primals: tuple[Any, ...] | list[Any], tangents: tuple[Any, ...] | list[Any]) -> tuple[Y, Y]:
        owner = self.owner
        numbers, given = sorted(set(owner._numbers)), []
        for n in numbers:
            wanted = [k is not None for k in owner._arrangement[owner._numbers.index(n)][0]]
            leaves = leaves_of(opened(tangents[owner._numbers.index(n)]))[0]
            given += [leaf for leaf, w in zip(leaves, wanted, strict=True) if w]
        try:
            results = self.results([*owner.leaves(tuple(primals)), *given])
        except GuardFailed:
            return owner.other_branch((primals, tangents), "jvp")
        trace = owner._trace
        count = len(trace.program.outputs)
        value, tangent = trace.assembled(results[:count]), trace.assembled(results[count:], tangents=True)
        return (value[0], tangent[0], value[1]) if trace.has_aux else (value, tangent)


class _Vjp(CompiledCall, Generic[Y]):
    """``vjp(*primals)``."""

    def __call__(self, *primals: Any) -> tuple[Y, Callable[[Y], Any]]:
        owner = self.owner
        saved = [np.array(leaf) if isinstance(leaf, np.ndarray) else leaf for leaf in owner.leaves(primals)]
        try:
            value = owner._trace.assembled(owner.value.results(saved))
        except GuardFailed:
            return owner.other_branch(primals, "vjp")

        value = (value[0], value[1]) if owner._has_aux else (value,)
        return value[0], PullbackFunction.of(owner._function, self.pulled, saved), *value[1:]

    def pulled(self, saved, seed):
        """Pull adjoints of the results back to the arguments, which were saved."""
        trace = self.owner._trace
        structure = trace.structure.child(0) if trace.has_aux else trace.structure
        seeds = checked_leaves(opened(seed), structure, [None] * trace.own)  # their shapes as all arguments'
        results = self.results([*saved, *trace.of_outputs(seeds)])
        return self.owner.gradients(results[len(trace.program.outputs) :])


class _JittedCall(MadeAttribute, CPUDispatcher):
    """A native function as jitted code calls it."""

    def __init__(self, native, owner, name):
        self._attribute = owner, name
        super().__init__(native.py_func, targetoptions=native.targetoptions)


class _Jitted(MadeAttribute):
    """The functions of a `Compiled` for jitted code, each made when it is first used."""

    def __init__(self, owner):
        self._owner, self._attribute = owner, (owner, "njit")

    def __getattr__(self, name):
        if name not in ("value", "value_and_grad", "jvp", "vjp"):
            raise AttributeError(f"expected value, value_and_grad, jvp or vjp, got {name}")
        native = getattr(self._owner, name).native.jitted
        function = _JittedCall(native, self, name)
        setattr(self, name, function)
        return function


@typing.overload
def compile(f: Jitted, *example_args: Any, argnums: int | str | tuple[int | str, ...] = 0, lanes: None = None,
            has_aux: bool = False) -> Compiled[Any]: ...
@typing.overload
def compile(f: Callable[..., Y], *example_args: Any, argnums: int | str | tuple[int | str, ...] = 0, lanes: None = None,
            has_aux: bool = False) -> Compiled[Y]: ...
@typing.overload
def compile(f: Callable[..., Any], *example_args: Any, argnums: int | str | tuple[int | str, ...] = 0, lanes: int,
            has_aux: bool = False) -> CompiledLanes: ...
def compile(f, *example_args, argnums=0, lanes=None, has_aux=False):
    """Compile a function, and its derivatives, to machine code for arguments like the examples.

    Parameters
    ----------
    f : callable
        NumPy code or a jitted function.
    *example_args : arrays, floats, or nested containers of them
        Their shapes and dtypes are what is compiled for; their values only choose the branches of Python code.
    argnums : int, str, or tuple of them
        Which arguments to differentiate with respect to, by position or name.
    lanes : int, optional
        Compile for a leading sample axis, so many samples at once (see `tape.batch`); arguments and results then have one more
        axis than the examples.
    has_aux : bool
        As for `tape.value_and_grad`: the value is then the pair ``(value, aux)``, `jvp` and `vjp` give the aux third.

    Returns
    -------
    Compiled
        With ``value``, ``value_and_grad``, ``jvp``, ``vjp``, each also for jitted code (``njit``), C (``address``,
        ``ctypes``, ``export``) and SciPy (``low_level_callable``).

    Raises
    ------
    NotDifferentiable
        As `tape.value_and_grad`.

    Notes
    -----
    The machine code is kept in the user's cache directory (`TAPE_CACHE_DIR` chooses another), by the content of the list.

    Examples
    --------
    >>> import numpy as np, tape
    >>> c = tape.compile(lambda x: np.sum(x**2), np.ones(3))
    >>> c.value_and_grad(np.array([1.0, 2.0, 3.0]))
    (np.float64(14.0), array([2., 4., 6.]))
    """
    if current_recorder() is not None:
        raise NotDifferentiable("tape.compile: a function that is being recorded cannot compile; compile outside")
    if not example_args:
        raise NotDifferentiable("tape.compile: expected example arguments after the function")
    if lanes is not None:
        return compile_lanes(f, example_args, argnums, lanes, has_aux)
    return Compiled(f, example_args, argnums, has_aux)


def _kind(leaf) -> str:
    """Kind of an argument's dtype: "f", "i", "u" or "b"."""
    return np.dtype(leaf.dtype).kind
