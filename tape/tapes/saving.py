"""The file of a tape: what it says of arguments and results, beside the list.

What is not here: the list itself and its arrays (`compiled/lists/file.py`).
"""

from __future__ import annotations

import numpy as np

from compiled.lists import file
from tape.errors import InvalidTape, NotDifferentiable
from tape.recording.arguments import Leaf
from tape.recording.containers import leaves_of, with_leaves
from tape.recording.trace import Trace
from tape.rules.lapack import described_call


def save(trace: Trace, structure, path) -> None:
    """Write a trace and the structure of its arguments to one file; see `tape.Tape.save`."""
    extra = {
        "arguments": _described(with_leaves(structure, list(range(len(trace.leaves))))),
        "leaves": [_saved_leaf(leaf) for leaf in trace.leaves],
        "dynamic": trace.dynamic,
        "wrt": trace.wrt,
        "structure": _described(with_leaves(trace.structure, list(range(len(trace.results))))),
        "results": [w if isinstance(w, int) else [np.asarray(w[0]).tolist()] for w in trace.results],
        "dtypes": [np.dtype(d).str for d in trace.result_dtypes],
        "guards": trace.guards,
        "outcomes": [o.hex() for o in trace.outcomes],
    }
    file.save(trace.program, path, extra)


def load(path):
    """The trace that `save` wrote, and the structure of its arguments; see `tape.load`."""
    program, extra = file.load(path, described_call)
    try:
        return _read(program, extra)
    except InvalidTape as error:
        raise InvalidTape(f"{path}: {error}") from None
    except Exception as error:  # a header of any JSON at all
        raise InvalidTape(f"{path}: its header does not describe arguments and results: {error!r}") from None


def _read(program, extra):
    """The trace and the structure of its arguments, checked against the list."""
    structure = leaves_of(_built(extra["arguments"]))[1]
    result_structure = leaves_of(_built(extra["structure"]))[1]
    leaves = [_loaded_leaf(leaf) for leaf in extra["leaves"]]
    dynamic = [int(k) for k in extra["dynamic"]]
    shapes = [leaves[k].shape for k in dynamic]
    fits = [view.shape for view in program.inputs] == shapes and len(set(dynamic)) == len(dynamic)
    if not fits or structure.num_leaves != len(leaves):
        raise InvalidTape("the arguments in the header do not fit the inputs of the list")
    results = [int(w) if isinstance(w, int) else (np.asarray(w[0])[()],) for w in extra["results"]]
    fits = all(not isinstance(w, int) or 0 <= w < len(program.outputs) for w in results)
    if not fits or result_structure.num_leaves != len(results):
        raise InvalidTape("the results in the header do not fit the outputs of the list")
    dtypes = [np.dtype(d) for d in extra["dtypes"]]
    if len(dtypes) != len(results) or any(d.kind not in "fiub" for d in dtypes):
        raise InvalidTape("the dtypes in the header do not fit the results")
    wrt = [int(k) for k in extra["wrt"]]
    if not all(0 <= k < len(dynamic) for k in wrt):
        raise InvalidTape("the header differentiates an input that the list does not have")
    trace = Trace(program=program, leaves=leaves, dynamic=dynamic, wrt=wrt, results=results, result_dtypes=dtypes,
                  structure=result_structure, outcomes=tuple(bytes.fromhex(o) for o in extra["outcomes"]))
    return trace, structure


_CONTAINERS = {"tuple": tuple, "list": list}


def _described(tree):
    """Nested containers of numbers as JSON: ["tuple", ...], ["list", ...], {"dict": ...} or the number."""
    if isinstance(tree, bool) or tree is None:
        raise NotDifferentiable(f"a tape with {tree!r} among its arguments cannot be saved")
    if isinstance(tree, int):
        return tree
    if type(tree) in (tuple, list):
        return [type(tree).__name__, *(_described(x) for x in tree)]
    if isinstance(tree, dict) and all(isinstance(k, str) for k in tree):
        return {"dict": {k: _described(v) for k, v in tree.items()}}
    raise NotDifferentiable(f"a tape with a {type(tree).__name__} among its arguments or results cannot be saved: expected "
                            "tuples, lists and dicts with names as keys")


def _built(description):
    if isinstance(description, int):
        return description
    if isinstance(description, dict):
        return {k: _built(v) for k, v in description["dict"].items()}
    kind, *items = description
    return _CONTAINERS[kind](_built(x) for x in items)


def _saved_leaf(leaf: Leaf):
    if leaf.kind == "static" and not isinstance(leaf.dtype, (bool, str, type(None))):
        raise NotDifferentiable(f"a tape with the argument {leaf.dtype!r:.60} cannot be saved: expected numbers and arrays")
    dtype = leaf.dtype if leaf.kind == "static" else leaf.dtype.__name__ if isinstance(leaf.dtype, type) else leaf.dtype.str
    return [leaf.kind, list(leaf.shape), dtype]


def _loaded_leaf(parts) -> Leaf:
    kind, shape, dtype = parts
    if kind == "static":
        return Leaf(kind, (), dtype)
    if kind not in ("array", "scalar"):
        raise InvalidTape(f"an argument of the unknown kind {kind!r}")
    return Leaf(kind, tuple(int(n) for n in shape), {"float": float, "int": int}.get(dtype) or np.dtype(dtype))
