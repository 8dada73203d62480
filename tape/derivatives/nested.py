"""Derivatives inside a function that is being recorded: the call, on fresh inputs, as a stretch of the list at work."""

from __future__ import annotations

import numpy as np

from tape.recording.arguments import apart, arranged, describe, differentiated_leaves, require_scalar, result_leaves
from tape.recording.arrays import RecordedArray, plain
from tape.recording.containers import leaves_of, with_leaves
from tape.recording.recorder import current_recorder
from tape.transforms.differentiate import Stretch, pull_back


def recorded_call(f, args, kwargs, wanted, has_aux=False):
    """Call `f` inside the current recording on fresh copies of the leaves in `wanted`.

    Returns the stretch of list that the call wrote, its results' leaves and their structure, and the aux if it `has_aux`.
    """
    recorder = current_recorder()
    leaves, structure = leaves_of((args, kwargs))
    fresh = []
    for k in sorted(wanted):
        leaf = plain(leaves[k])
        view = leaf.view if isinstance(leaf, RecordedArray) else recorder.constant(np.asarray(leaf))
        fresh.append(recorder.copied(view))
        recorder.mark_active(fresh[-1])
        dtype = leaf.dtype if isinstance(leaf, (RecordedArray, np.ndarray, np.generic)) else recorder.dtype
        leaves[k] = RecordedArray(recorder, fresh[-1], dtype if dtype.kind == "f" else recorder.dtype)
    start = recorder.memory.length
    args, kwargs = with_leaves(structure, leaves)  # of which some copy what they are given
    result, aux = apart(f(*args, **kwargs)) if has_aux else (f(*args, **kwargs), None)
    results, result_structure = result_leaves(result)
    return Stretch(recorder, start, recorder.memory.length, fresh), results, result_structure, aux


def wanted_leaves(args, kwargs, numbers):
    """Numbers of the leaves that are differentiated."""
    leaves, _ = leaves_of((args, kwargs))
    described = [describe(np.zeros((), x.dtype) if isinstance(x, RecordedArray) else x) for x in leaves]
    return differentiated_leaves(args, kwargs, numbers, leaves, described)


def nested_value_and_grad(selection, args, kwargs, has_aux):
    """`tape.value_and_grad` inside a recording."""
    args, kwargs, numbers = selection.of(args, kwargs)
    stretch, results, structure, aux = recorded_call(selection.function, args, kwargs, wanted_leaves(args, kwargs, numbers),
                                                     has_aux)
    require_scalar([x.dtype if hasattr(x, "dtype") else np.asarray(x).dtype for x in results],
                   [np.shape(x) for x in results], "tape.grad")
    outputs = [x.view for x in results if isinstance(x, RecordedArray)]
    gradients = pull_back(stretch, outputs, [1.0] * len(outputs))
    value = with_leaves(structure, results)
    return (value, aux) if has_aux else value, arranged(gradients, args, numbers, selection.argnums, kwargs)
