"""Native functions of traced and jitted code: `tape.compile`, and what it returns.

What is here: which lists are made into machine code, and calling it from Python. What is not: machine code (`compiled.native`).
"""

from __future__ import annotations

import functools
import inspect
import math
import pathlib
import re
import types

import numpy as np

from compiled import loops
from compiled.engine import ENGINE
from compiled.layout import GUARD_FAILED, STATUS_BITS
from compiled.listing import Block, Listing
from compiled.loops import Loop, Packs
from compiled.native.export import export
from compiled.native.function import NativeFunction
from compiled.native.loops import LoopBody
from compiled.native.wrappers import NOT_TAKEN, Signature
from tape.arguments import argument_numbers, check_argument_numbers, leaves_of, like_argument, require_scalar, with_leaves
from tape.errors import GuardFailed, NotDifferentiable
from tape.jitted import is_jitted
from tape.jitted_tape import recorded_trace
from tape.recorder import check_integers, current_recorder, raise_status
from tape.traces import Trace, Traces
from tape.transforms.build import with_gradients, with_tangents
from tape.transforms.roll import LEAST_STEPS, rolled
from tape.transforms.simplify import FORWARD_ONLY, cells_read, result_of, simplified, zeros_that_are_read


class SweptFunction:
    """A list run by the sweeps, in the place of a `NativeFunction`."""

    def __init__(self, listing: Listing, inputs, outputs, name: str):
        self.program, self.name, self.dtype = listing.program(), name, listing.dtype
        self.signature = Signature.of(listing, inputs, outputs)

    def results(self, leaves):
        """As `NativeFunction.results`."""
        program = self.program
        values = program.values.copy()
        for view, leaf in zip(program.inputs, leaves, strict=True):
            if np.shape(leaf) != view.shape:
                return NOT_TAKEN, []
            view.of(values)[...] = leaf
        status = loops.forward(ENGINE, program, values, 0, len(program.code))
        if status >= 0:
            return status & ((1 << STATUS_BITS) - 1), []
        return 0, [view.of(values).copy()[()] if not view.shape else view.of(values).copy() for view in program.outputs]


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
        What makes a function of a list.
    """

    def __init__(self, trace: Trace, name: str, names: list[str] | None = None, make=None):
        self.trace, self.name, self.make = trace, name, make or NativeFunction
        self.program = trace.program
        if self.make is NativeFunction and len(trace.program.code) >= LEAST_STEPS:
            self.program = rolled(Listing.of(trace.program)).program()
        self.inputs = [names[k] if names else f"x{k}" for k in trace.dynamic]
        self.wrt = [self.inputs[k] for k in trace.wrt]
        self.outputs = [f"out{k}" if len(trace.program.outputs) > 1 else "out" for k in range(len(trace.program.outputs))]

    @functools.cached_property
    def value(self) -> NativeFunction:
        """Arguments to results."""
        program = self.program
        return self._native(program, program.outputs, self.inputs, self.outputs, "value")

    @functools.cached_property
    def value_and_grad(self) -> NativeFunction:
        """Arguments to results and the gradients of the differentiated arguments."""
        program = self.program
        views = [program.inputs[k] for k in self.trace.wrt]
        longer, adjoints = with_gradients(program, list(range(len(program.outputs)))[:1], views, seeded=False)
        return self._native(longer, [*longer.outputs, *adjoints], self.inputs,
                            [*self.outputs, *(f"grad_{n}" for n in self.wrt)], "value_and_grad")

    @functools.cached_property
    def vjp(self) -> NativeFunction:
        """Arguments and adjoints of the results, to results and adjoints of the arguments."""
        program = self.program
        views = [program.inputs[k] for k in self.trace.wrt]
        which = list(range(len(program.outputs)))
        longer, adjoints = with_gradients(program, which, views, seeded=True)
        return self._native(longer, [*longer.outputs, *adjoints], [*self.inputs, *(f"seed_{n}" for n in self.outputs)],
                            [*self.outputs, *(f"adjoint_{n}" for n in self.wrt)], "vjp")

    @functools.cached_property
    def jvp(self) -> NativeFunction:
        """Arguments and tangents, to results and their tangents."""
        program = self.program
        views = [program.inputs[k] for k in self.trace.wrt]
        which = list(range(len(program.outputs)))
        longer, tangents = with_tangents(program, which, views)
        return self._native(longer, [*longer.outputs, *tangents], [*self.inputs, *(f"tangent_{n}" for n in self.wrt)],
                            [*self.outputs, *(f"tangent_{n}" for n in self.outputs)], "jvp")

    def _native(self, program, outputs, inputs, names, suffix):
        every = _distinct([*inputs, *names])
        inputs, names = every[: len(inputs)], every[len(inputs) :]
        listing = Listing.of(program)
        listing.outputs = [result_of(program, view) for view in outputs]
        prepared = native_listing(listing) if self.make is NativeFunction else simplified(listing)
        return self.make(prepared, inputs, names, f"{self.name}_{suffix}")

    @functools.cached_property
    def hvp(self) -> NativeFunction:
        """Arguments and tangents, to the tangents of the gradients."""
        program = self.program
        views = [program.inputs[k] for k in self.trace.wrt]
        first, adjoints = with_gradients(program, list(range(len(program.outputs)))[:1], views, seeded=False)
        first.outputs = adjoints
        longer, tangents = with_tangents(first, list(range(len(adjoints))), [first.inputs[k] for k in self.trace.wrt])
        return self._native(longer, tangents, [*self.inputs, *(f"tangent_{n}" for n in self.wrt)],
                            [f"product_{n}" for n in self.wrt], "hvp")

    def run(self, name, leaves, extra):
        """Run a list on all leaves of the arguments and on `extra`; None where it does not hold for them."""
        function = getattr(self, name)
        leaves = [*(leaves[k] for k in self.trace.dynamic), *extra]
        status, results = function.results(leaves)
        if status == NOT_TAKEN:
            slots = function.signature.inputs
            status, results = function.results([converted(leaf, slot.shape, slot.name, function.dtype)
                                                for leaf, slot in zip(leaves, slots, strict=True)])
        return None if status else results


def native_listing(listing: Listing) -> Listing:
    """A list, simplified for forward runs, with the bodies of its loops as native code runs them."""
    listing = simplified(listing, (*FORWARD_ONLY, zeros_that_are_read))
    bodies = []
    for step in listing.steps:
        if step.row.name == "loop":
            loop = Loop.of(step.space.words)
            step.space = Block(step.space.owned, loop._replace(body=len(bodies)).words())
            bodies.append(_loop_body(listing, step, loop))
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


class Call:
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
        status, results = self.native.results(leaves)
        if status == NOT_TAKEN:
            status, results = self.native.results([converted(leaf, slot.shape, slot.name, self._dtype) for leaf, slot in zip(
                leaves, self.native.signature.inputs, strict=True)])
        if status & ((1 << STATUS_BITS) - 1) == GUARD_FAILED:
            raise GuardFailed("a branch of Python code is decided otherwise than when it was compiled; compile for these "
                              "arguments")
        if status:
            self.owner.replay(leaves)
        return results


def converted(leaf, shape, name, dtype) -> np.ndarray:
    """An argument as native code takes it: itself where it is that already, else a copy."""
    if leaf.__class__ is np.ndarray and leaf.dtype is dtype and leaf.shape == shape and leaf.ndim:
        flags = leaf.flags
        if flags.c_contiguous and flags.aligned:
            return leaf
    if np.shape(leaf) != shape:
        raise ValueError(f"argument {name}: compiled for shape {shape}, got {np.shape(leaf)}; compile again for other shapes")
    array = np.asarray(leaf)
    if array.dtype.kind not in "fiub":
        raise NotDifferentiable(f"argument {name}: expected numbers, got {array.dtype}")
    check_integers(array, dtype)
    result = np.empty(shape, dtype)  # a copy: an array may be out of line, or of a dtype that is equal but not the same
    result[...] = array
    return result


def as_derivative(array, leaf):
    """An array that nobody else holds, in the dtype of its argument; a NumPy scalar for a number."""
    if leaf.kind == "array" and array.dtype == leaf.dtype:
        return array
    return like_argument(np.asarray(array), leaf)


MOST_BRANCHES = 32
"""Branches of Python code that a compiled function keeps."""


class Compiled:
    """A function compiled for arguments of certain shapes and dtypes; made by `tape.compile`.

    Its functions are compiled when they are first used. They take the arguments of the function; shapes and dtypes are those of
    the examples. Where a branch of Python code is decided otherwise, the call from Python compiles that branch as well;
    from jitted code it raises `tape.GuardFailed`, and in C every result is NaN.

    Attributes
    ----------
    njit : namespace
        The same functions for jitted code: ``value(*args, *out)``, ``value_and_grad(*args, *grad_out)``,
        ``jvp(*args, *tangents, *out)``, ``vjp(*args, *seeds, *out)``. Arguments are floats and C-contiguous arrays; a scalar
        first result is returned, every other result is written to an array that is passed. Results must not overlap
        arguments.
    """

    def __init__(self, function, args, argnums=0):
        self._function, self._argnums = function, argnums
        self._numbers = argument_numbers(argnums)
        check_argument_numbers(self._numbers, args)
        if is_jitted(function):
            trace, _ = recorded_trace(function, args, self._numbers)
        else:
            trace, _ = Traces(function).run(tuple(args), {}, self._numbers)
        trace.program.check()
        self._trace = trace
        self._leaves, self._structure = leaves_of(tuple(args))
        self._whole = {k: _kind(trace.leaves[k]) for k in trace.dynamic if _kind(trace.leaves[k]) != "f"}
        self._plain = (all(not isinstance(a, (tuple, list, dict)) for a in args) and len(trace.dynamic) == len(args)
                       and not self._whole)
        self._native = Lists(trace, _c_name(function), _leaf_names(function, args))
        self._branches: list[Compiled] = []
        self._wanted = [trace.leaves[trace.dynamic[k]] for k in trace.wrt]
        self._arrangement = self._arranged()
        self._single = not isinstance(argnums, tuple) and not isinstance(args[argnums], (tuple, list, dict))
        self.njit = types.SimpleNamespace()
        self.njit = _Jitted(self)

    # ------------------------------------------------------------------ the functions

    @functools.cached_property
    def value(self):
        """``value(*args)``: the function's result."""
        return _Value(self._native.value, self)

    @functools.cached_property
    def value_and_grad(self):
        """``value_and_grad(*args)``: as of `tape.value_and_grad`."""
        trace = self._trace
        require_scalar(trace.result_dtypes, [trace.result_shape(k) for k in range(len(trace.results))], "tape.compile")
        return _ValueAndGrad(self._native.value_and_grad, self)

    @functools.cached_property
    def jvp(self):
        """``jvp(primals, tangents)``: the value and its derivative along a direction, as of `tape.jvp`."""
        return _Jvp(self._native.jvp, self)

    @functools.cached_property
    def vjp(self):
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

    def export(self, directory, cpu: str = "native") -> pathlib.Path:
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
        """
        calls = [self.value]
        trace = self._trace
        if len(trace.results) == 1 and trace.result_shape(0) == () and isinstance(trace.results[0], int):
            calls.append(self.value_and_grad)
        return export(pathlib.Path(directory), self._native.name, [call.native for call in calls], cpu)

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
        leaves, structure = leaves_of(tuple(args))
        if structure != self._structure:
            raise ValueError(f"the arguments: expected the structure {self._structure}, got {structure}")
        for k, leaf in enumerate(self._trace.leaves):
            if leaf.kind == "static" and leaves[k] != leaf.dtype:
                raise ValueError(f"argument leaf {k}: compiled for {leaf.dtype!r:.60}, got {leaves[k]!r:.60}")
        for k, kind in self._whole.items():
            if (got := np.asarray(leaves[k]).dtype).kind not in ("b" if kind == "b" else "iub"):
                expected = "booleans" if kind == "b" else "integers"
                raise NotDifferentiable(f"argument leaf {k}: compiled for {expected}, got {got}; compile again for others")
        return [leaves[k] for k in self._trace.dynamic]

    def result(self, arrays):
        """The function's result, of the arrays of its leaves."""
        trace = self._trace
        leaves = []
        for which, dtype in zip(trace.results, trace.result_dtypes, strict=True):
            if isinstance(which, int):
                array = arrays[which] if arrays[which].dtype == dtype else arrays[which].astype(dtype)
                leaves.append(array if array.ndim else array[()])
            else:
                leaves.append(which[0])
        return with_leaves(trace.structure, leaves)

    def gradients(self, arrays):
        """Derivatives with respect to the differentiated arguments, in their structure; the arrays are the caller's to keep."""
        leaves = [as_derivative(a, leaf) for a, leaf in zip(arrays, self._wanted, strict=True)]
        if self._single:
            return leaves[0]
        parts = [with_leaves(structure, [leaves[k] for k in places]) for places, structure in self._arrangement]
        return tuple(parts) if isinstance(self._argnums, tuple) else parts[0]

    def _arranged(self):
        """For each differentiated argument the places of its leaves among the gradients, and its structure."""
        trace = self._trace
        places = {trace.dynamic[k]: n for n, k in enumerate(trace.wrt)}
        args = with_leaves(self._structure, list(range(len(self._leaves))))
        taken = [leaves_of(args[number]) for number in self._numbers]
        return [([places[k] for k in own], structure) for own, structure in taken]

    def replay(self, leaves):
        """Run the sweeps, which say where an index is out of bounds."""
        trace = self._trace
        workspace = trace.workspace()
        every = [leaf.dtype for leaf in trace.leaves]
        for k, leaf in zip(trace.dynamic, leaves, strict=False):
            every[k] = leaf
        trace.load(workspace, every)
        raise_status(trace.forward(workspace), trace.program)

    def other_branch(self, args, name):
        """The function `name` of the compiled branch that these arguments take."""
        for branch in self._branches:
            try:
                return getattr(branch, name)(*args)
            except GuardFailed:
                continue
        branch = Compiled(self._function, self._like_examples(args if name != "jvp" else args[0]), self._argnums)
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


class _Value(Call):
    """``value(*args)``."""

    def __call__(self, *args):
        try:
            results = self.results(self.owner.leaves(args))
        except GuardFailed:
            return self.owner.other_branch(args, "value")
        return self.owner.result(results)


class _ValueAndGrad(Call):
    """``value_and_grad(*args)``."""

    def __init__(self, native, owner):
        super().__init__(native, owner)
        trace = owner._trace
        self._leaf = trace.leaves[trace.dynamic[trace.wrt[0]]]
        # One array of the list's dtype and one number: nothing to convert.
        self._simple = (owner._plain and len(native.signature.pointers()) == 1 and not isinstance(owner._argnums, tuple)
                        and self._leaf.kind == "array" and self._leaf.dtype == self._dtype
                        and trace.result_dtypes[0] == self._dtype and native.signature.returns_number)
        self._shape, self._number = self._leaf.shape, self._dtype.type

    def __call__(self, *args):
        if self._simple:
            gradient = np.empty(self._shape, self._dtype)
            value = self._call(*args, gradient)
            if value.__class__ is float:
                return self._number(value), gradient
        try:
            results = self.results(self.owner.leaves(args))
        except GuardFailed:
            return self.owner.other_branch(args, "value_and_grad")
        count = len(self.owner._trace.program.outputs)
        return self.owner.result(results[:count]), self.owner.gradients(results[count:])


class _Jvp(Call):
    """``jvp(primals, tangents)``."""

    def __call__(self, primals, tangents):
        owner = self.owner
        given = [leaf for n in sorted(set(owner._numbers)) for leaf in leaves_of(tangents[owner._numbers.index(n)])[0]]
        try:
            results = self.results([*owner.leaves(tuple(primals)), *given])
        except GuardFailed:
            return owner.other_branch((primals, tangents), "jvp")
        count = len(owner._trace.program.outputs)
        return owner.result(results[:count]), _tangent(owner, results[count:])


def _tangent(owner, arrays):
    trace = owner._trace
    leaves = [arrays[w] if isinstance(w, int) else np.zeros_like(w[0]) for w in trace.results]
    return with_leaves(trace.structure, [leaf if np.ndim(leaf) else leaf[()] for leaf in leaves])


class _Vjp(Call):
    """``vjp(*primals)``."""

    def __call__(self, *primals):
        owner = self.owner
        saved = [np.array(leaf) if isinstance(leaf, np.ndarray) else leaf for leaf in owner.leaves(primals)]
        try:
            value = owner.result(owner.value.results(saved))
        except GuardFailed:
            return owner.other_branch(primals, "vjp")

        def pullback(seed):
            seeds, structure = leaves_of(seed)
            if structure != owner._trace.structure:
                raise ValueError(f"the seed: expected the structure of the result, {owner._trace.structure}, got {structure}")
            dynamic = [s for s, w in zip(seeds, owner._trace.results, strict=True) if isinstance(w, int)]
            results = self.results([*saved, *dynamic])
            return owner.gradients(results[len(owner._trace.program.outputs) :])

        return value, pullback


class _Jitted:
    """The functions of a `Compiled` for jitted code, each made when it is first used."""

    def __init__(self, owner):
        self._owner = owner

    def __getattr__(self, name):
        if name not in ("value", "value_and_grad", "jvp", "vjp"):
            raise AttributeError(f"expected value, value_and_grad, jvp or vjp, got {name}")
        function = getattr(self._owner, name).native.jitted
        setattr(self, name, function)
        return function


def compile(f, *example_args, argnums=0, lanes=None):
    """Compile a function, and its derivatives, to machine code for arguments like the examples.

    Parameters
    ----------
    f : callable
        NumPy code or a jitted function.
    *example_args : arrays, floats, or nested containers of them
        Their shapes and dtypes are what is compiled for; their values only choose the branches of Python code.
    argnums : int or tuple of int
        Which arguments to differentiate with respect to.
    lanes : int, optional
        Compile for a leading sample axis, so many samples at once (see `tape.batch`); arguments and results then have one more
        axis than the examples.

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
        from tape.batch import compile_lanes

        return compile_lanes(f, example_args, argnums, lanes)
    return Compiled(f, example_args, argnums)


def _kind(leaf) -> str:
    """Kind of an argument's dtype: "f", "i", "u" or "b"."""
    return np.dtype(leaf.dtype).kind


def _c_name(function) -> str:
    """A name that C takes."""
    name = getattr(function, "__name__", type(function).__name__)
    name = re.sub(r"\W", "_", name, flags=re.ASCII).strip("_") or "f"
    return name if not name[0].isdigit() else f"f_{name}"


def _leaf_names(function, args) -> list[str]:
    """Names in C of the leaves of the arguments."""
    try:
        names = list(inspect.signature(getattr(function, "py_func", function)).parameters)
    except (TypeError, ValueError):
        names = []
    names += [f"x{k}" for k in range(len(names), len(args))]
    result = []
    for name, argument in zip(names, args, strict=False):
        count = len(leaves_of(argument)[0])
        name = re.sub(r"\W", "_", name, flags=re.ASCII)
        result += [name if count == 1 else f"{name}_{k}" for k in range(count)]
    return result


RESERVED_WORDS = (
    "alignas alignof and and_eq asm auto bitand bitor bool break case catch char class compl const "
    "constexpr const_cast continue decltype default delete do double dynamic_cast else enum explicit "
    "export extern false float for friend goto if inline int long mutable namespace new noexcept not "
    "not_eq nullptr operator or or_eq private protected public register reinterpret_cast restrict return "
    "short signed sizeof static static_assert static_cast struct switch template this thread_local throw "
    "true try typedef typeid typename typeof union unsigned using virtual void volatile wchar_t while xor "
    "xor_eq "
)
"""Words that are no names in C or C++."""


def _distinct(names) -> list[str]:
    """The names, changed where C reserves them or they stand there already."""
    reserved, result = RESERVED_WORDS.split(), []
    for name in names:
        while name in reserved or name in result:
            name += "_"
        result.append(name)
    return result
