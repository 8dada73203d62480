"""Functions of one sample over many: `tape.batch`.

What is here: which arguments have a sample axis, the list that is compiled, and what is done where the list does not hold for a
sample. What is not: machine code for lanes and threads (`compiled.native`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from compiled.forking import cached_property
from compiled.lists.listing import Listing
from compiled.native.lanes import has_lanes, lanes_of, most_lanes
from compiled.native.threads import LanesFunction, most_threads
from tape import jitted
from tape.derivatives.gradients import value_and_grad
from tape.errors import NotDifferentiable
from tape.recording.arguments import Selection, check_held, describe, result_leaves
from tape.recording.arrays import RecordedArray
from tape.recording.containers import leaves_of, with_leaves
from tape.recording.made import Made, Making, made_function, made_method
from tape.recording.recorder import check_integers, current_recorder
from tape.recording.trace import Trace
from tape.recording.traces import traces_of
from tape.reports.strictness import strictness
from tape.running.derived import native_listing
from tape.transforms.simplify import result_of

RECOVERED = 256
"""Where a branch is decided otherwise for some sample, the samples that are run one by one with it."""

ELSEWHERE: list[tuple[Callable[[Any], bool], Callable[..., Any]]] = []
"""Who runs a batch over arrays that are elsewhere: whether arguments have such arrays, and what is called in its place."""

MOST_JITTED = 64
"""Lists kept for one jitted function."""


def batch(f: Callable[..., Any], in_axes: int | tuple[int | None, ...] | None = 0, threads: int | None = None,
          sum: bool = False) -> Callable[..., Any]:
    """Make the function that runs a function of one sample over a leading axis of samples.

    Parameters
    ----------
    f : callable
        NumPy code or a jitted function, of one sample; also a derivative such as ``tape.value_and_grad(g)``,
        ``tape.jacobian(g)``.
    in_axes : 0, None, or a tuple of them, one for each positional argument
        0 where the argument has a leading sample axis (every leaf of it, where it is a container), None where it is the same
        for all samples. Arguments that are no numbers, and keyword arguments, are always the same for all samples.
    threads : int, optional
        How many threads to use at most; all that Numba may use by default. Little work is done by one.
    sum : bool
        Whether to return the sums over the samples, without storing each sample's results.

    Returns
    -------
    callable
        With the arguments of `f`; its result has the structure of that of `f`, each leaf with a leading sample axis (none with
        `sum`). The numbers do not depend on the number of threads. The GIL is released.

    Raises
    ------
    ValueError
        When called, if the sample axes differ in length, or an argument that should have one has none.
    NotDifferentiable
        As the function itself, recorded for one sample.

    Notes
    -----
    The function is recorded for one sample, and compiled for as many samples at once as vector registers hold. A Python
    branch is compiled as the first sample takes it: where other samples take another way, `f` is called for each of the
    samples around, which is right but slow; ``np.where`` has no such cost. `f` is also called sample by sample where it
    changes what it reads (as random generators do) or uses what does not run in lanes (loops whose number of steps
    depends on the arguments).

    Inside a function that is being recorded, the samples are recorded one after the other.

    Examples
    --------
    >>> import numpy as np, tape
    >>> loss = lambda w, x, y: (np.sum(w * x) - y) ** 2
    >>> x, y = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), np.array([1.0, 2.0, 3.0])
    >>> tape.batch(tape.grad(loss), in_axes=(None, 0, 0))(np.ones(2), x, y)
    array([[ 4.,  8.],
           [30., 40.],
           [80., 96.]])
    >>> tape.batch(tape.grad(loss), in_axes=(None, 0, 0), sum=True)(np.ones(2), x, y)
    array([114., 144.])
    """
    return _batched(f, in_axes, threads, sum, None)


def _batched(f, in_axes, threads, summed, lanes):
    run = _Batch(f, in_axes, threads, summed, lanes)

    @made_function("batch", f, in_axes=in_axes, threads=threads, sum=summed)
    def over_samples(*args, **kwargs):
        for has, run_there in ELSEWHERE:
            if has((args, kwargs)):
                return run_there(over_samples, run.axes, summed, args, kwargs)
        return run(args, kwargs)

    return over_samples


class _Samples(NamedTuple):
    """The arguments of one call: leaves, with which of them have a sample axis."""

    leaves: list
    structure: Any
    mapped: tuple[bool, ...]
    count: int

    def one(self, s):
        """Arguments and keyword arguments of sample s."""
        return with_leaves(self.structure, [x[s] if m else x for x, m in zip(self.leaves, self.mapped, strict=True)])

    def example(self):
        """Those of the first sample, or of one that might be."""
        if self.count:
            return self.one(0)
        leaves = [_stand_in(x) if m else x for x, m in zip(self.leaves, self.mapped, strict=True)]
        return with_leaves(self.structure, leaves)

    def part(self, first, stop):
        """The samples from `first` to `stop`."""
        leaves = [x[first:stop] if m else x for x, m in zip(self.leaves, self.mapped, strict=True)]
        return self._replace(leaves=leaves, count=stop - first)


def _stand_in(array):
    """A sample where there is none: ones, or zeros where they could be positions."""
    return np.full(array.shape[1:], array.dtype.kind == "f", array.dtype)[()]


class _Batch:
    """A function over samples, and the lists that were compiled for it."""

    def __init__(self, f, in_axes, threads, summed, lanes):
        if not callable(f):
            raise NotDifferentiable(f"tape.batch: expected a function, got {type(f).__name__} ({f!r:.60})")
        if threads is not None and (not isinstance(threads, (int, np.integer)) or threads < 1):
            raise ValueError(f"tape.batch: threads: expected a number from 1 on, or None, got {threads!r}")
        self.f, self.axes, self.summed, self.lanes = f, _checked_axes(in_axes), summed, lanes
        self.threads = min(threads, most_threads()) if threads else most_threads()
        self.jitted: dict[Any, Trace | None] = {}

    def __call__(self, args, kwargs):
        samples = self._samples(args, kwargs)
        if current_recorder() is not None:
            return self._recorded(samples)
        trace = self._trace(samples)
        # Inside tape.strict sample by sample, as derivatives in lanes are not looked at.
        native = self._native(trace, samples) if trace is not None and strictness() is None else None
        if native is None or not trace.admits(samples.leaves):
            return self._one_by_one(samples)
        if not samples.count:
            return with_leaves(trace.structure, self._arranged(trace, [np.zeros(self._shape(s, 0), native.dtype)
                                                                       for s in native.shapes], 0))
        inputs = [_cells(samples.leaves[k], native.dtype) for k in trace.dynamic]
        status, results = native(inputs, samples.count, self.threads)
        if status:
            return self._recovered(trace, native, samples)
        return with_leaves(trace.structure, self._arranged(trace, results, samples.count))

    # ------------------------------------------------------------------ arguments

    def _samples(self, args, kwargs) -> _Samples:
        axes = self.axes
        if isinstance(axes, tuple) and len(axes) != len(args):
            raise ValueError(f"tape.batch: in_axes has {len(axes)} entries, expected one for each of the {len(args)} "
                             "positional arguments")
        leaves, structure = leaves_of((args, kwargs))
        mapped, paths = [], []
        for number, argument in enumerate(args):
            axis = axes[number] if isinstance(axes, tuple) else axes
            own = leaves_of(argument)[0]
            for leaf in own:
                if axis == 0 and isinstance(leaf, np.ndarray):
                    check_held(leaf, f"argument {number} with a sample axis")
            mapped += [axis == 0 and not _is_static(leaf) for leaf in own]
            paths += [f"argument {number}" + (f", leaf {k}" if len(own) > 1 else "") for k in range(len(own))]
        mapped += [False] * (len(leaves) - len(mapped))
        return _Samples(leaves, structure, tuple(mapped), _count(leaves, mapped, paths))

    # ------------------------------------------------------------------ lists

    def _trace(self, samples):
        """The list of one sample; None where there is none that other samples could use."""
        args, kwargs = samples.example()
        with np.errstate(all="ignore" if not samples.count else None):
            if jitted.is_jitted(self.f):
                return self._jitted_trace(samples, args, kwargs)
            traces = traces_of(self.f)
            key, leaves, found = traces.find(args, kwargs, ())
            if found:
                return max(found, key=lambda trace: trace.used)
            trace, workspace = traces.run_found(key, leaves, found, args, kwargs, ())
        trace.idle.append(workspace)
        return trace if trace.state is not None else None

    def _jitted_trace(self, samples, args, kwargs):
        """The list of a jitted function, in which all arguments but floats are built in."""
        numbers = tuple(n for n, argument in enumerate(args) if _is_float(argument))
        built_in = [n not in numbers for n, argument in enumerate(args) for _ in leaves_of(argument)[0]]
        if kwargs or not numbers or any(m and b for m, b in zip(samples.mapped, built_in, strict=True)):
            return None
        key = tuple(_identity(leaf) if b else describe(leaf) for leaf, b in zip(leaves_of(args)[0], built_in, strict=True))
        key = (samples.structure, key)
        with contextlib.suppress(KeyError):
            return self.jitted[key]
        try:
            trace, _ = jitted.recorded_trace(self.f, args, numbers)
            trace.program.check()
        except NotDifferentiable:
            trace = None  # what a list cannot hold, as single precision, goes sample by sample
        if len(self.jitted) >= MOST_JITTED:
            self.jitted.clear()
        self.jitted[key] = trace
        return trace

    def _native(self, trace, samples):
        """The machine code of a list; None where it has steps that do not run in lanes."""
        mapped = tuple(samples.mapped[k] for k in trace.dynamic)
        kept = trace.runners.setdefault("lanes", {})
        key = mapped, bool(self.summed), self.lanes
        if key not in kept:
            listing = Listing.of(trace.program)
            listing.outputs = [result_of(trace.program, view) for view in trace.program.outputs]
            listing = native_listing(listing)
            kept[key] = LanesFunction(listing, *key[:2], self.lanes or lanes_of(listing)) if has_lanes(listing) else None
        return kept[key]

    # ------------------------------------------------------------------ results

    def _shape(self, shape, count):
        return shape if self.summed else (count, *shape)

    def _arranged(self, trace, results, count):
        """The leaves of the result."""
        leaves = []
        for which, dtype in zip(trace.results, trace.result_dtypes, strict=True):
            if isinstance(which, int):
                array = results[which].astype(_summed_dtype(dtype) if self.summed else dtype, copy=False)
            elif self.summed:
                array = np.multiply(which[0], count, dtype=_summed_dtype(dtype))
            else:
                array = np.empty((count, *np.shape(which[0])), dtype)
                array[...] = which[0]
            leaves.append(array if np.ndim(array) else array[()])
        return leaves

    # ------------------------------------------------------------------ sample by sample

    def _one_by_one(self, samples):
        """Call the function for each sample."""
        collected = _Collected(self.summed, samples.count)
        for s in range(samples.count):
            args, kwargs = samples.one(s)
            collected.put(s, self.f(*args, **kwargs))
        if not samples.count:
            args, kwargs = samples.example()
            with np.errstate(all="ignore"):
                collected.start(self.f(*args, **kwargs))
        return collected.result()

    def _recovered(self, trace, native, samples):
        """Run again in short stretches; sample by sample those that the list does not hold for."""
        collected = _Collected(self.summed, samples.count)
        for first in range(0, samples.count, RECOVERED):
            part = samples.part(first, min(first + RECOVERED, samples.count))
            status, results = native([_cells(part.leaves[k], native.dtype) for k in trace.dynamic], part.count, 1)
            if not status:
                collected.put_many(first, part.count, self._arranged(trace, results, part.count), trace.structure)
                continue
            for s in range(part.count):
                args, kwargs = part.one(s)
                collected.put(first + s, self.f(*args, **kwargs))
        return collected.result()

    def _recorded(self, samples):
        """Inside a recording: one sample after the other."""
        if not samples.count:
            raise ValueError("tape.batch: inside a function that is being recorded there must be at least one sample, got none")
        columns, structure = [], None
        for s in range(samples.count):
            args, kwargs = samples.one(s)
            leaves, structure = result_leaves(self.f(*args, **kwargs))
            columns.append(leaves)
        stacked = [np.stack(leaves) for leaves in zip(*columns, strict=True)]
        return with_leaves(structure, [np.sum(x, axis=0) if self.summed else x for x in stacked])


class _Collected:
    """Results of samples, put together."""

    def __init__(self, summed, count):
        self.summed, self.count, self.structure, self.arrays = summed, count, None, None

    def start(self, result):
        """Make the arrays that hold results like this one; returns its leaves."""
        leaves, structure = leaves_of(result)
        if self.structure is None:
            self._make([np.asarray(leaf) for leaf in leaves], structure, 0)
        return leaves, structure

    def _make(self, leaves, structure, extra):
        self.structure = structure
        if self.summed:
            self.arrays = [np.zeros(leaf.shape, _summed_dtype(leaf.dtype)) for leaf in leaves]
        else:
            self.arrays = [np.empty((self.count, *leaf.shape[extra:]), leaf.dtype) for leaf in leaves]

    def put(self, s, result):
        """The result of sample s."""
        leaves, structure = self.start(result)
        self._check(s, structure, [np.shape(leaf) for leaf in leaves])
        for array, leaf in zip(self.arrays, leaves, strict=True):
            if self.summed:
                array[...] += leaf
            else:
                array[s] = leaf

    def put_many(self, first, count, leaves, structure):
        """The results of `count` samples from `first` on, or their sums."""
        leaves = [np.asarray(leaf) for leaf in leaves]
        extra = 0 if self.summed else 1
        if self.structure is None:
            self._make(leaves, structure, extra)
        self._check(first, structure, [leaf.shape[extra:] for leaf in leaves])
        for array, leaf in zip(self.arrays, leaves, strict=True):
            if self.summed:
                array[...] += leaf
            else:
                array[first : first + count] = leaf

    def _check(self, s, structure, shapes):
        expected = [a.shape[0 if self.summed else 1 :] for a in self.arrays]
        if structure != self.structure or shapes != expected:
            raise ValueError(f"tape.batch: expected results of one structure and shape, got {structure} with shapes {shapes} "
                             f"for sample {s}, and {self.structure} with {expected} for samples before")

    def result(self):
        """The whole."""
        return with_leaves(self.structure, [a if a.ndim else a[()] for a in self.arrays])


def _checked_axes(in_axes):
    entries = tuple(in_axes) if isinstance(in_axes, (tuple, list)) else (in_axes,)
    for axis in entries:
        if axis is not None and (isinstance(axis, bool) or not isinstance(axis, (int, np.integer)) or axis != 0):
            raise ValueError("tape.batch: in_axes: expected 0 (a leading sample axis) or None (none), or a tuple with one of "
                             f"them for each argument, got {in_axes!r}; np.moveaxis brings another axis to the front")
    return entries if isinstance(in_axes, (tuple, list)) else in_axes


def _count(leaves, mapped, paths) -> int:
    """The number of samples."""
    found = None
    for k, is_mapped in enumerate(mapped):
        if not is_mapped:
            continue
        shape = np.shape(leaves[k])
        if not shape:
            raise ValueError(f"tape.batch: {paths[k]}: expected an array with a leading sample axis, got {leaves[k]!r:.60}, "
                             "which has none; in_axes=None says that an argument is the same for all samples")
        if found is None:
            found = shape[0], paths[k]
        elif shape[0] != found[0]:
            raise ValueError(f"tape.batch: {paths[k]}: expected {found[0]} samples, as {found[1]} has, got {shape[0]} (shape "
                             f"{shape})")
    if found is None:
        raise ValueError("tape.batch: expected at least one argument with a sample axis, got none: every entry of in_axes is "
                         "None, or no argument is an array")
    return found[0]


def _is_static(leaf) -> bool:
    """Whether an argument is no number, and so part of the function."""
    return not isinstance(leaf, RecordedArray) and describe(leaf).kind == "static"


def _is_float(argument) -> bool:
    """Whether every leaf of an argument is a float."""
    leaves = leaves_of(argument)[0]
    kinds = [describe(leaf).dtype for leaf in leaves if not _is_static(leaf)]
    return bool(leaves) and len(kinds) == len(leaves) and all(k is float or (k is not int and k.kind == "f") for k in kinds)


def _identity(leaf):
    """What tells leaves that are built into a list apart."""
    if isinstance(leaf, (np.ndarray, np.generic)):
        return leaf.shape, leaf.dtype, leaf.tobytes()
    return type(leaf), leaf


def _cells(leaf, dtype):
    """An argument as native code reads it."""
    array = np.asarray(leaf)
    check_integers(array, dtype)
    return np.ascontiguousarray(array, dtype)


def _summed_dtype(dtype):
    return np.dtype(np.int64) if np.dtype(dtype).kind == "b" else np.dtype(dtype)


# ---------------------------------------------------------------------- tape.compile with lanes


class CompiledLanes(Made):
    """A function compiled for samples like the examples; made by ``tape.compile(..., lanes=W)``.

    Attributes
    ----------
    value : callable
        The function over a leading axis of samples.
    value_and_grad : callable
        Values and gradients, each with that axis.
    """

    def __init__(self, f, example_args, argnums, lanes, has_aux):
        Selection(f, argnums).positions(len(example_args))
        self._making = Making("compile", f, tuple(example_args), {"argnums": argnums, "lanes": lanes, "has_aux": has_aux})
        self._described = self._leaves(example_args, 0)

    @staticmethod
    def _leaves(args, extra):
        leaves, structure = leaves_of(tuple(args))
        return structure, [leaf if _is_static(leaf) else (np.shape(leaf)[extra:], np.asarray(leaf).dtype) for leaf in leaves]

    @cached_property
    def value(self) -> Callable[..., Any]:
        """The function over samples."""
        return self._checked("value", self._making.function)

    @cached_property
    def value_and_grad(self) -> Callable[..., Any]:
        """Values and gradients over samples."""
        options = self._making.options
        function = value_and_grad(self._making.function, options["argnums"], has_aux=options["has_aux"])
        return self._checked("value_and_grad", function)

    def _checked(self, name, f):
        function = _batched(f, 0, None, False, self._making.options["lanes"])

        @made_method(self, name)
        def over_samples(*args):
            got = self._leaves(args, 1)
            if got != self._described:
                raise ValueError(f"tape.compile: compiled for samples of shapes and dtypes {self._described[1]}, got {got[1]} "
                                 "after the sample axis; compile again for others")
            return function(*args)

        return over_samples


def compile_lanes(f, example_args, argnums, lanes, has_aux=False) -> CompiledLanes:
    """See `tape.compile`.

    Raises
    ------
    ValueError
        When `lanes` is no power of two, or too many.
    """
    kinds = [x.dtype for x in map(np.asarray, leaves_of(example_args)[0]) if x.dtype.kind == "f"]
    most = most_lanes(np.result_type(np.float32, *kinds))
    if lanes not in [2**k for k in range(1, 6) if 2**k <= most]:
        raise ValueError(f"tape.compile: lanes: expected a power of two from 2 to {most} for these arguments, got {lanes!r}")
    return CompiledLanes(f, example_args, argnums, lanes, has_aux)
