"""Many machines, on Dask: batches over Dask arrays, sums of gradients over shards of data, and loops that minimise them.

The data stay where they are: parameters travel to the workers, values and gradients travel back, added up in a tree of fixed
order. Dask moves tasks to data, and computes again what was lost with a worker. What is not here: the derivatives themselves,
which each worker records and compiles as one process does.

Needs the extra `dask`; nothing of Dask is loaded before it is used.
"""

from __future__ import annotations

import hashlib
import inspect
import math
import sys
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from compiled.forking import Lock
from tape.derivatives.gradients import value_and_grad as _value_and_grad
from tape.errors import NotDifferentiable
from tape.native.batch import ELSEWHERE
from tape.recording.arguments import leaves_of, with_leaves
from tape.recording.made import said_of
from tape.running.tiers import pinned

__all__ = ["ShardedLoss", "minimize", "sgd", "value_and_grad"]

FAN_IN = 8
"""How many sums of shards one task adds up."""

MOST_FUNCTIONS = 32
"""Functions that a worker keeps, with their lists and machine code."""


def _dask():
    try:
        import dask
        import dask.array
        import dask.highlevelgraph
        import distributed  # noqa: F401  what sends functions by cloudpickle
    except ImportError as error:
        raise ImportError(f"tape.dask needs Dask, which is the extra dask: pip install 'wengert[dask]' ({error})") from error
    return dask


# ---------------------------------------------------------------------- values and gradients


def value_and_grad(loss: Callable[..., Any], *data: Any) -> ShardedLoss:
    """Make the function that sums values and gradients of a loss over the shards of data.

    Parameters
    ----------
    loss : callable
        ``loss(params, *shard)`` gives one float: the sum over the samples of a shard (not the mean). NumPy code or a jitted
        function. It is sent to the workers with what it closes over; functions of modules go by their names.
    *data
        What comes after the parameters: Dask arrays of equally many rows, or containers of them. A shard is a block of rows,
        whatever the chunks (those of the first array hold for all, other axes are made whole). Whatever else stands
        there (numbers, NumPy arrays) is given to every shard as it is. Or one list of `dask.delayed` objects, each the tuple
        of the arguments of one shard.

    Returns
    -------
    ShardedLoss
        Called with the parameters (an array, a number, or nested containers) it returns ``(value, gradient)``, as
        `tape.value_and_grad` of the loss of all data does.

    Raises
    ------
    ImportError
        Without Dask.
    ValueError
        For data without a Dask array, of different numbers of rows, or of chunks whose sizes are not known.
    NotDifferentiable
        When called, as `tape.value_and_grad`.

    Notes
    -----
    The data are computed once and kept on the workers. Numbers are added in a tree whose form depends on the
    number of shards alone: they do not depend on the workers, their number or the order in which they finish, and are those
    of one process (``dask.config.set(scheduler="synchronous")``) to the last bit, on equal processors and with equally many
    threads of BLAS.

    Examples
    --------
    >>> import dask.array, numpy as np, tape
    >>> x = dask.array.arange(6.0, chunks=2)
    >>> f = tape.dask.value_and_grad(lambda w, x: np.sum((w * x - 2.0) ** 2), x)
    >>> f
    <tape.dask.value_and_grad of <lambda> at ...:1, 3 shards>
    >>> f(1.0)
    (np.float64(19.0), np.float64(50.0))
    """
    return ShardedLoss(loss, data)


class ShardedLoss:
    """The sum of a loss over shards; made by `tape.dask.value_and_grad`.

    Attributes
    ----------
    shards : int
        How many there are.
    evaluations : int
        How often values and gradients were computed.
    """

    def __init__(self, loss, data):
        if not callable(loss):
            raise NotDifferentiable(f"tape.dask: expected a function as the loss, got {type(loss).__name__} ({loss!r:.60})")
        self._loss, self._made = loss, _value_and_grad(loss)
        self._shards = _Shards(data)
        self.evaluations = 0

    @property
    def shards(self) -> int:
        """How many there are."""
        return len(self._shards.blocks)

    def __repr__(self):
        return f"<tape.dask.value_and_grad of {said_of(self._loss)}, {self.shards} shards>"

    def __call__(self, params: Any) -> tuple[Any, Any]:
        value, gradient, _ = self.over(params, range(self.shards))
        return value, gradient

    def over(self, params: Any, shards: Sequence[int]) -> tuple[Any, Any, int]:
        """Value and gradient over some of the shards, by their numbers, and how many samples these have.

        Parameters
        ----------
        params
            As for a call.
        shards : sequence of int
            Their order is that in which they are added.
        """
        dask = _dask()
        from dask.delayed import Delayed  # as `dask.delayed` is a function

        leaves, structure = leaves_of(params)
        name = f"value-and-grad-{uuid.uuid4().hex}"
        tasks = {f"{name}-function": _Sent(self._made), f"{name}-params": _Leaves(leaves, structure)}
        parts = [(name, n) for n in range(len(shards))]
        for part, k in zip(parts, shards, strict=True):
            blocks = self._shards.blocks[k]
            tasks.update(self._shards.kept(blocks))
            tasks[part] = (_evaluated, f"{name}-function", f"{name}-params", self._shards.rest, list(blocks))
        key = _tree(tasks, name, parts)
        with dask.config.set({"distributed.admin.large-graph-warning-threshold": f"{_bytes_of(leaves) + 2**24}B"}):
            (total,) = dask.compute(Delayed(key, tasks))
        self.evaluations += 1
        return total.value, with_leaves(structure, total.leaves), total.count


def _bytes_of(leaves) -> int:
    return sum(np.asarray(leaf).nbytes for leaf in leaves)


def _tree(tasks: dict, name: str, parts: list):
    """Add the tasks that add up parts, in an order that depends on their number alone; returns the key of the sum."""
    level = 0
    while len(parts) > 1:
        sums = [(f"{name}-sum-{level}", n) for n in range(math.ceil(len(parts) / FAN_IN))]
        for n, key in enumerate(sums):
            tasks[key] = (_added, parts[n * FAN_IN : (n + 1) * FAN_IN])
        parts, level = sums, level + 1
    return parts[0]


class _Leaves:
    """Nested containers on their way; of arguments some leaves, by their places, are blocks, which are filled in."""

    def __init__(self, leaves, structure, places=()):
        self.leaves, self.structure, self.places = leaves, structure, places

    def filled(self, blocks=()):
        """The containers."""
        leaves = [_plain(leaf) for leaf in self.leaves]
        for k, block in zip(self.places, blocks, strict=True):
            leaves[k] = _plain(block)
        return with_leaves(self.structure, leaves)


class _Part:
    """Value and leaves of the gradient over some samples, and how many these are."""

    def __init__(self, value, leaves, count):
        self.value, self.leaves, self.count = value, leaves, count


def _added(parts) -> _Part:
    first, *others = parts
    value, leaves, count = first.value, list(first.leaves), first.count
    for part in others:
        value, count = value + part.value, count + part.count
        leaves = [a + b for a, b in zip(leaves, part.leaves, strict=True)]
    return _Part(value, leaves, count)


def _evaluated(function, params, rest, shard) -> _Part:
    """One shard: what a worker does. Without `rest`, it is the tuple of the arguments, or the only one."""
    if rest is None:
        args = tuple(shard[0]) if isinstance(shard[0], (tuple, list)) else (shard[0],)
        leaves, structure = leaves_of(args)
        args, rows = _Leaves(leaves, structure).filled(), [x for x in leaves if np.ndim(x)]
    else:
        args, rows = rest.filled(shard), shard
    with pinned("always"):  # whether a list is run by machine code may not depend on how long it has been run
        value, gradient = function.function(params.filled(), *args)
    return _Part(value, leaves_of(gradient)[0], len(rows[0]) if rows else 1)


def _plain(x):
    """An array with NumPy's own dtype, which native code takes without copying; out of a pickle it is another, equal one."""
    return x.view(np.dtype(x.dtype.str)) if isinstance(x, np.ndarray) and x.dtype.kind in "fiub" else x


# ---------------------------------------------------------------------- functions on workers


_functions: OrderedDict[bytes, Any] = OrderedDict()
_lock = Lock()


class _Sent:
    """A function on its way to workers, each of which keeps it by its content, with what it has recorded and compiled."""

    def __init__(self, function):
        self.function = function

    def __reduce__(self):
        from distributed.protocol.pickle import dumps  # which falls back to cloudpickle

        code = dumps(self.function)
        return _received, (hashlib.sha256(code).digest(), code)


def _received(key, code):
    with _lock:
        sent = _functions.pop(key, None)
        if sent is None:
            from distributed.protocol.pickle import loads  # which is loaded where this is called

            sent = _Sent(loads(code))
        _functions[key] = sent
        while len(_functions) > MOST_FUNCTIONS:
            _functions.popitem(last=False)
    return sent


# ---------------------------------------------------------------------- shards


class _Shards:
    """Data in shards, which are computed once and stay where they are as long as this lives.

    Attributes
    ----------
    blocks : list of tuple
        For each shard the keys of its blocks.
    rest : str or None
        Key of what all shards have in common; None where a shard is one object.
    """

    def __init__(self, data):
        dask = _dask()
        if len(data) == 1 and isinstance(data[0], list) and data[0] and all(_is_delayed(one) for one in data[0]):
            kept, self.rest = dask.persist(*data[0]), None
            self.blocks = [(one.key,) for one in kept]
        else:
            rest, arrays = _taken_apart(tuple(data))
            rest, *blocks = kept = dask.persist(dask.delayed(rest, pure=False, traverse=False), *aligned(arrays))
            self.rest, self.blocks = rest.key, _rows_of(blocks)
        self._tasks = {key: task for one in kept for key, task in dict(one.__dask_graph__()).items()}

    def kept(self, keys) -> dict:
        """What stands for these blocks, and for what all have in common, in a graph."""
        return {key: self._tasks[key] for key in (*keys, self.rest) if key is not None}


def _taken_apart(data):
    """Nested containers without their Dask arrays, and these."""
    leaves, structure = leaves_of(data)
    places = [k for k, leaf in enumerate(leaves) if is_dask_array(leaf)]
    if not places:
        raise ValueError("tape.dask: expected Dask arrays, or a list of dask.delayed objects, as the data, got "
                         f"{', '.join(type(leaf).__name__ for leaf in leaves) or 'nothing'}")
    rest = [None if k in places else leaf for k, leaf in enumerate(leaves)]
    return _Leaves(rest, structure, places), [leaves[k] for k in places]


def _rows_of(arrays) -> list[tuple]:
    """The keys of the blocks of each stretch of rows, of arrays whose other axes are whole."""
    return [tuple((x.name, n, *(0,) * (x.ndim - 1)) for x in arrays) for n in range(len(arrays[0].chunks[0]))]


def aligned(arrays) -> list:
    """Dask arrays in blocks of whole rows, the same ones for all.

    Raises
    ------
    ValueError
        For arrays without an axis, of different numbers of rows, or of unknown sizes.
    """
    for x in arrays:
        if not x.ndim:
            raise ValueError("tape.dask: expected Dask arrays with a leading axis of samples, got one without axes")
        if any(np.isnan(n) for n in x.shape):
            raise ValueError(f"tape.dask: the chunks of a Dask array have unknown sizes (shape {x.shape}); "
                             "x.compute_chunk_sizes() finds them")
        if x.shape[0] != arrays[0].shape[0]:
            raise ValueError(f"tape.dask: expected Dask arrays of {arrays[0].shape[0]} rows, as the first has, got "
                             f"{x.shape[0]} (shape {x.shape})")
    return [x.rechunk({0: arrays[0].chunks[0], **dict.fromkeys(range(1, x.ndim), -1)}) for x in arrays]


def is_dask_array(x) -> bool:
    """Whether something is a Dask array; nothing of Dask is loaded for that."""
    array = sys.modules.get("dask.array")
    return array is not None and isinstance(x, array.Array)


def _is_delayed(x) -> bool:
    delayed = sys.modules.get("dask.delayed")
    return delayed is not None and isinstance(x, delayed.Delayed)


# ---------------------------------------------------------------------- batches


def _has_arrays(args) -> bool:
    return "dask.array" in sys.modules and any(map(is_dask_array, leaves_of(args)[0]))


def _batched(function, axes, summed, args, kwargs):
    """`tape.batch` over Dask arrays: Dask arrays, of which nothing is computed yet."""
    dask = _dask()
    _check_axes(axes, args, kwargs)
    rest, arrays = _taken_apart((args, kwargs))
    arrays = aligned(arrays)
    own_args, own_kwargs = rest.filled([np.empty((0, *x.shape[1:]), x.dtype) for x in arrays])
    examples, result = leaves_of(function(*own_args, **own_kwargs))  # of no samples: records, and computes nothing
    name = f"batch-{uuid.uuid4().hex}"
    tasks = {f"{name}-function": _Sent(function), f"{name}-rest": rest}
    parts = [(name, n) for n in range(len(arrays[0].chunks[0]))]
    for part, blocks in zip(parts, _rows_of(arrays), strict=True):
        tasks[part] = (_run_block, f"{name}-function", f"{name}-rest", list(blocks))
    rows = ()
    if summed:
        parts = [_tree(tasks, name, parts)]
    else:
        rows = (arrays[0].chunks[0],)
    graph = dask.highlevelgraph.HighLevelGraph.from_collections(name, tasks, dependencies=arrays)
    return with_leaves(result, [_of_leaf(dask, graph, name, k, parts, rows, np.asarray(x)) for k, x in enumerate(examples)])


def _of_leaf(dask, graph, name, number, parts, rows, example):
    """Leaf `number` of what tasks give, as a Dask array: with an axis of `rows`, or from one task."""
    own, chunks = f"batch-{number}-{name.removeprefix('batch-')}", rows + tuple((n,) for n in example.shape[len(rows) :])
    zeros = (0,) * (len(chunks) - len(rows))
    tasks = {(own, *((n,) if rows else ()), *zeros): (_leaf, part, number) for n, part in enumerate(parts)}
    layers, dependencies = {**graph.layers, own: tasks}, {**graph.dependencies, own: {name}}
    return dask.array.Array(dask.highlevelgraph.HighLevelGraph(layers, dependencies), own, chunks, dtype=example.dtype)


def _leaf(part, number):
    return np.asarray(part.leaves[number])


def _run_block(function, rest, blocks) -> _Part:
    args, kwargs = rest.filled(blocks)
    with pinned("always"):
        return _Part(0, leaves_of(function.function(*args, **kwargs))[0], len(blocks[0]))


def _check_axes(axes, args, kwargs):
    """Every Dask array has a sample axis, and all that has one is a Dask array."""
    if any(map(is_dask_array, leaves_of(kwargs)[0])):
        raise ValueError("tape.batch: a Dask array as a keyword argument, which is the same for all samples; compute() it")
    for number, argument in enumerate(args):
        axis = axes[number] if isinstance(axes, tuple) else axes
        for leaf in leaves_of(argument)[0]:
            if axis is None and is_dask_array(leaf):
                raise ValueError(f"tape.batch: argument {number} is a Dask array and, by in_axes, the same for all samples: "
                                 "compute() it, or give it a sample axis")
            if axis == 0 and isinstance(leaf, np.ndarray):
                raise ValueError(f"tape.batch: argument {number} is a NumPy array with a sample axis, beside Dask arrays: "
                                 "expected a Dask array (dask.array.from_array), or in_axes=None for it")


ELSEWHERE.append((_has_arrays, _batched))


# ---------------------------------------------------------------------- minimising


def minimize(fun: Callable[..., Any], x0: Any, args: tuple[Any, ...] = (), method: str = "L-BFGS-B", bounds: Any = None,
             constraints: Any = (), tol: float | None = None, callback: Callable[..., Any] | None = None,
             options: dict[str, Any] | None = None, verbose: int = 0) -> Any:
    """Minimise the sum of a loss over the shards of data, as `scipy.optimize.minimize` does.

    Parameters
    ----------
    fun : callable
        ``fun(params, *shard)``: the loss, as for `tape.dask.value_and_grad`; or what that returned, without `args`.
    x0 : array, float, or nested containers of them
        Parameters to begin with.
    args : tuple
        The data: Dask arrays, or one list of `dask.delayed` objects.
    method, bounds, constraints, tol, options
        As of `scipy.optimize.minimize`, for methods that use a gradient; bounds and constraints are of the flat vector of all
        parameters.
    callback : callable, optional
        Called after each iteration with the parameters, in their containers; or, if its one parameter is called
        `intermediate_result`, with that by keyword, as SciPy does.
    verbose : int
        Prints a line at each `verbose`-th iteration; 0 prints nothing.

    Returns
    -------
    scipy.optimize.OptimizeResult
        With `x` and `jac` in the containers of `x0`. After Ctrl-C it holds the best parameters so far, `success` is False and
        the message says so.

    Examples
    --------
    >>> import dask.array, numpy as np, tape
    >>> x = dask.array.linspace(0.0, 1.0, 100, chunks=25)
    >>> def loss(p, x):
    ...     return np.sum((p["a"] * x + p["b"] - 3.0 * x + 1.0) ** 2)
    >>> best = tape.dask.minimize(loss, {"a": 0.0, "b": 0.0}, (x,))
    >>> round(best.x["a"], 4), round(best.x["b"], 4), best.success
    (3.0, -1.0, True)
    """
    from scipy import optimize  # takes 0.2 s to import

    function = _sharded(fun, args)
    reached = _Reached(function, x0, callback, verbose)
    try:
        found = optimize.minimize(reached.evaluate, reached.start, jac=True, method=method, bounds=bounds,
                                  constraints=constraints, tol=tol, callback=reached.tell, options=options)
    except KeyboardInterrupt:
        found = reached.so_far()
    gradient = found.get("grad", found.get("jac"))  # for trust-constr, `jac` are those of the constraints
    found.x, found.jac = reached.in_containers(found.x), reached.in_containers(gradient)
    return found


def _sharded(fun, args) -> ShardedLoss:
    if not isinstance(fun, ShardedLoss):
        return value_and_grad(fun, *(args if isinstance(args, tuple) else (args,)))
    if args:
        raise ValueError("tape.dask: the function has its data already: expected args=()")
    return fun


class _Vector:
    """Parameters in nested containers, as one vector and back."""

    def __init__(self, x0):
        self.leaves, self.structure = leaves_of(x0)
        for leaf in self.leaves:
            if np.asarray(leaf).dtype.kind != "f":
                raise NotDifferentiable(f"tape.dask: expected parameters of floats, got {np.asarray(leaf).dtype} "
                                        f"({leaf!r:.60})")
        self.sizes = np.cumsum([np.size(leaf) for leaf in self.leaves])

    def flat(self, tree):
        """One vector of float64."""
        leaves = [np.ravel(np.asarray(leaf, float)) for leaf in leaves_of(tree)[0]]
        return np.concatenate(leaves) if leaves else np.zeros(0)

    def tree(self, vector):
        """The containers, with the shapes and dtypes of the first parameters."""
        parts = np.split(np.asarray(vector, float), self.sizes[:-1])
        return with_leaves(self.structure, [_like(part, leaf) for part, leaf in zip(parts, self.leaves, strict=True)])


def _like(part, leaf):
    if isinstance(leaf, np.ndarray):
        return part.reshape(leaf.shape).astype(leaf.dtype)
    return type(leaf)(part[0])


class _Reached:
    """What a loop has reached: the best parameters so far, and who is told of it."""

    def __init__(self, function, x0, callback, verbose):
        self.function, self.callback, self.verbose = function, callback, verbose
        self.vector = _Vector(x0)
        self.start, self.begin = self.vector.flat(x0), time.monotonic()
        self.best = self.last = None
        self.iterations, self.evaluations = 0, 0
        self._wants_result = callback is not None and list(inspect.signature(callback).parameters) == ["intermediate_result"]

    def in_containers(self, vector):
        """A vector like the parameters; None stays None."""
        return None if vector is None else self.vector.tree(vector)

    def evaluate(self, vector):
        """Value and gradient, as SciPy asks for them."""
        value, gradient = self.function(self.vector.tree(vector))
        self.evaluations += 1
        value, gradient = float(value), self.vector.flat(gradient)
        self.last = np.array(vector), value, gradient
        if self.best is None or not value > self.best[1]:
            self.best = self.last
        return value, gradient

    def tell(self, x, *_):
        """After an iteration; SciPy hands over the parameters."""
        self.iterations += 1
        value, gradient = (self.last if np.array_equal(self.last[0], x) else self.best)[1:]
        self.say(f"iteration {self.iterations}: value {value:.8g}, largest element of the gradient "
                 f"{np.max(np.abs(gradient), initial=0.0):.3g}, {self.evaluations} evaluations")
        self.call_back(self.vector.tree(x), value)

    def say(self, text):
        """Print a line, with the time."""
        if self.verbose and self.iterations % self.verbose == 0:
            print(f"{text}, {time.monotonic() - self.begin:.1f} s", flush=True)

    def call_back(self, params, value):
        """Call the user's callback."""
        from scipy.optimize import OptimizeResult  # takes 0.2 s to import

        if self._wants_result:
            self.callback(intermediate_result=OptimizeResult(x=params, fun=value, nit=self.iterations))
        elif self.callback is not None:
            self.callback(params)

    def so_far(self):
        """The result of a loop that was stopped."""
        from scipy.optimize import OptimizeResult  # takes 0.2 s to import

        x, value, gradient = self.best or (self.start, np.nan, None)
        return OptimizeResult(x=x, fun=value, jac=gradient, nit=self.iterations, nfev=self.evaluations, njev=self.evaluations,
                              success=False, status=STOPPED, message="stopped by Ctrl-C; x is the best so far")


STOPPED = 99
"""Status of a result after Ctrl-C."""


def sgd(fun: Callable[..., Any], x0: Any, args: tuple[Any, ...] = (), step: float | Callable[[int], float] = 0.01,
        momentum: float = 0.0, epochs: int = 10, shards: int = 1, seed: int = 0, callback: Callable[..., Any] | None = None,
        verbose: int = 0) -> Any:
    """Descend along gradients of the mean loss over a few shards at a time.

    Parameters
    ----------
    fun, x0, args, callback, verbose
        As for `tape.dask.minimize`; an iteration is an epoch.
    step : float or callable
        Length of a step; or what gives it for the number of the step, from 0 on.
    momentum : float
        How much of the last step is added to the next one.
    epochs : int
        How often every shard is gone through.
    shards : int
        How many shards a step sums over, which run at the same time: as many as there are workers keeps them all busy.
    seed : int
        Of the order of the shards, which is drawn anew in each epoch.

    Returns
    -------
    scipy.optimize.OptimizeResult
        With `x` in the containers of `x0`, `fun` (the mean loss of the samples of the last epoch, each at the parameters
        of its step), `nit` (epochs) and `nfev` (steps). After Ctrl-C `x` are the parameters after the last whole step.

    Notes
    -----
    The numbers depend on the data's chunks, on `shards` and on `seed`, not on the workers.

    Examples
    --------
    >>> import dask.array, numpy as np, tape
    >>> x = dask.array.linspace(0.0, 1.0, 100, chunks=10)
    >>> best = tape.dask.sgd(lambda w, x: np.sum((w - 2.0) ** 2 * x), 0.0, (x,), step=0.5, epochs=5)
    >>> round(best.x, 3), best.nit, best.nfev
    (2.0, 5, 50)
    """
    from scipy.optimize import OptimizeResult  # takes 0.2 s to import

    if shards < 1 or epochs < 0:
        raise ValueError(f"tape.dask.sgd: expected shards >= 1 and epochs >= 0, got {shards} and {epochs}")
    function = _sharded(fun, args)
    reached, random = _Reached(function, x0, callback, verbose), np.random.default_rng(seed)
    state = _Descent(reached, step, momentum)
    success, message = True, f"{epochs} epochs"
    try:
        for _ in range(epochs):
            state.epoch(random.permutation(function.shards), shards)
    except StopIteration:
        message = "the callback raised StopIteration"
    except KeyboardInterrupt:
        success, message = False, "stopped by Ctrl-C; x is what the last whole step reached"
    return OptimizeResult(x=reached.in_containers(state.x), fun=state.mean, nit=reached.iterations, nfev=state.steps,
                          njev=state.steps, success=success, status=0 if success else STOPPED, message=message)


class _Descent:
    """The state of stochastic gradient descent."""

    def __init__(self, reached, step, momentum):
        self.reached, self.step, self.momentum = reached, step if callable(step) else lambda _: step, momentum
        self.x, self.velocity, self.steps, self.mean = reached.start, np.zeros_like(reached.start), 0, np.nan

    def epoch(self, order, shards):
        """Go through the shards in an order, some at a time."""
        total, count = 0.0, 0
        for first in range(0, len(order), shards):
            value, samples = self._descended(order[first : first + shards])
            total, count = total + value, count + samples
        reached = self.reached
        self.mean, reached.iterations = total / max(count, 1), reached.iterations + 1
        reached.say(f"epoch {reached.iterations}: mean loss {self.mean:.8g}, {self.steps} steps")
        reached.call_back(reached.vector.tree(self.x), self.mean)

    def _descended(self, chosen):
        vector = self.reached.vector
        value, gradient, count = self.reached.function.over(vector.tree(self.x), chosen)
        velocity = self.momentum * self.velocity - self.step(self.steps) * vector.flat(gradient) / max(count, 1)
        # Together at the end, so that Ctrl-C in between leaves the step before.
        self.x, self.velocity, self.steps = self.x + velocity, velocity, self.steps + 1
        return float(value), count
