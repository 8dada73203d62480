"""Matrix products: matmul, dot, tensordot, inner, outer and einsum as products of matrices with batches."""

from __future__ import annotations

import math

import numpy as np

from compiled.table.views import View, broadcast_strides
from tape.errors import NotDifferentiable
from tape.recording.arrays import RecordedArray, plain, record
from tape.recording.integers import settled


def as_recorded(recorder, x) -> RecordedArray:
    """An operand as a recorded array; plain ones become constants."""
    x = plain(x)
    if isinstance(x, RecordedArray):
        return x
    x = np.asarray(x)
    return RecordedArray(recorder, recorder.constant(x), recorder.fitting(x.dtype) if x.ndim else x.dtype)


def matmul(a, b) -> RecordedArray:
    """`numpy.matmul`, as one instruction on BLAS."""
    recorder = (a if isinstance(a, RecordedArray) else b).recorder
    a, b = as_recorded(recorder, a), as_recorded(recorder, b)
    if a.ndim == 0 or b.ndim == 0:
        raise ValueError("matmul: an operand does not have enough dimensions (it is 0-d); use *")
    if a.shape[-1] != b.shape[max(b.ndim - 2, 0)]:
        raise ValueError(f"matmul: mismatch in its core dimension: shapes {a.shape} and {b.shape}")
    if a.ndim == 1 and b.ndim == 1:
        return _as_numpy(_vector_product(a, b), a, b)
    left = a if a.ndim > 1 else a[None, :]
    right = b if b.ndim > 1 else b[:, None]
    dtype = np.result_type(a.dtype, b.dtype)
    out = _as_numpy(RecordedArray(recorder, _product(recorder, left.view, right.view), dtype), left, right)
    if a.ndim == 1:
        out = out[..., 0, :]
    return out if b.ndim > 1 else out[..., 0]


def _as_numpy(result, a, b):
    """A product of matrices of integers or booleans with NumPy's values: integers wrap, booleans are or-ed."""
    if result.dtype.kind == "b":
        return record("ne", (RecordedArray(result.recorder, result.view, result.recorder.dtype), 0.0))
    if result.dtype.kind == "f":
        return result
    largest = [max(map(abs, interval)) if interval else None for interval in map(result.recorder.interval, (a.view, b.view))]
    if None not in largest:
        bound = largest[0] * largest[1] * a.shape[-1]
        result.recorder.set_interval(result.view, (-bound, bound))
    return settled(result, np.matmul, (a, b))


def _vector_product(a, b) -> RecordedArray:
    recorder = a.recorder
    out = recorder.zeros(())
    recorder.elementwise("accumulate_product", [a.view, b.view], a.shape, out)
    return RecordedArray(recorder, out, np.result_type(a.dtype, b.dtype))


def sum_of_products(a, b, axes=1):
    """The sum, over the first axes, of the products of arrays that are broadcast together: one instruction, without BLAS."""
    shape = np.broadcast_shapes(np.shape(a), np.shape(b))
    recorded = [array for array in (a, b) if isinstance(array, RecordedArray)]
    if not recorded:
        a, b = np.broadcast_to(a, shape), np.broadcast_to(b, shape)
        return sum((a[k] * b[k] for k in np.ndindex(shape[:axes])), np.zeros(shape[axes:], np.result_type(a, b)))
    recorder = recorded[0].recorder
    a, b = as_recorded(recorder, a), as_recorded(recorder, b)
    out = recorder.zeros(shape[axes:])
    whole = View(out.cell, shape, (0,) * axes + out.strides)
    recorder.elementwise("accumulate_product", [a.view, b.view], shape, whole)
    return RecordedArray(recorder, out, np.result_type(a.dtype, b.dtype))


def _product(recorder, a: View, b: View) -> View:
    """Record out = a b over the broadcast batch axes."""
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    (m, k), n = a.shape[-2:], b.shape[-1]
    out = recorder.new_slot((*batch, m, n))
    a, b = _for_blas(recorder, a), _for_blas(recorder, b)
    strides = [broadcast_strides(View(v.cell, v.shape[:-2], v.strides[:-2]), batch) for v in (a, b, out)]
    steps = [word for v in (a, b, out) for word in _steps(v)]
    words = (len(batch), m, k, n, *steps, *batch, *(word for s in strides for word in s))
    recorder.structural("matmul", [a, b], out, words, out.size)
    return out


def _steps(view: View) -> tuple[int, int]:
    """Row and column step of a matrix as BLAS takes them; an axis of length 1 has the step that suits."""
    rows, columns = view.shape[-2:]
    row, column = view.strides[-2:]
    if columns == 1 and rows == 1:
        return 1, 1
    if columns <= 1:
        return max(row, 1), 1
    if rows <= 1:
        return (max(columns, 1), 1) if column == 1 else (1, column)
    return row, column


def _for_blas(recorder, view: View) -> View:
    """The view, or a copy where BLAS cannot step through it."""
    rows, columns = view.shape[-2:]
    row, column = _steps(view)
    fits = (column == 1 and row >= max(columns, 1)) or (row == 1 and column >= max(rows, 1))
    return view if fits and view.size and min(view.strides) >= 0 else recorder.copied(view)


def dot(a, b):
    """`numpy.dot`."""
    if np.ndim(a) == 0 or np.ndim(b) == 0:
        return np.multiply(a, b)
    if np.ndim(b) == 1 or (np.ndim(a) <= 2 and np.ndim(b) == 2):
        return np.matmul(a, b)
    return tensordot(a, b, ([-1], [np.ndim(b) - 2]))


def inner(a, b):
    """`numpy.inner`."""
    if np.ndim(a) == 0 or np.ndim(b) == 0:
        return np.multiply(a, b)
    return tensordot(a, b, ([-1], [-1]))


def outer(a, b, out=None):
    """`numpy.outer`."""
    a, b = (np.ravel(plain(x)) for x in (a, b))
    return a[:, None] * b[None, :]


def tensordot(a, b, axes=2):
    """`numpy.tensordot`: one matrix product."""
    recorder = (a if isinstance(a, RecordedArray) else b).recorder
    a, b = as_recorded(recorder, a), as_recorded(recorder, b)
    if isinstance(axes, (int, np.integer)):
        axes = (list(range(a.ndim - axes, a.ndim)), list(range(axes)))
    over_a, over_b = ([int(x) % array.ndim for x in np.atleast_1d(ax)] for ax, array in zip(axes, (a, b), strict=True))
    if [a.shape[x] for x in over_a] != [b.shape[x] for x in over_b]:
        raise ValueError(f"tensordot: shapes {a.shape} and {b.shape} do not match over axes {over_a} and {over_b}")
    free_a = [x for x in range(a.ndim) if x not in over_a]
    free_b = [x for x in range(b.ndim) if x not in over_b]
    shape_a, shape_b = [a.shape[x] for x in free_a], [b.shape[x] for x in free_b]
    k = math.prod(a.shape[x] for x in over_a)
    left = np.reshape(np.transpose(a, free_a + over_a), (math.prod(shape_a), k))
    right = np.reshape(np.transpose(b, over_b + free_b), (k, math.prod(shape_b)))
    return np.reshape(matmul(left, right), (*shape_a, *shape_b))


def einsum(*operands, out=None, optimize="greedy", **kwargs):
    """`numpy.einsum`, contracted pair by pair as batched matrix products."""
    subscripts, *arrays = operands if isinstance(operands[0], str) else _with_letters(operands)
    if kwargs:
        raise NotDifferentiable(f"numpy.einsum with {', '.join(kwargs)}: expected subscripts and arrays; nearest: astype")
    recorder = next(x for x in arrays if isinstance(x, RecordedArray)).recorder
    arrays = [as_recorded(recorder, x) for x in arrays]
    inputs, output = _parsed(subscripts, arrays)
    terms = [_diagonal(array, labels) for array, labels in zip(arrays, inputs, strict=True)]
    path = [tuple(range(len(terms)))] if len(terms) < 3 else _path(terms, output)
    for pair in path:
        chosen = [terms[i] for i in pair]
        terms = [t for i, t in enumerate(terms) if i not in pair]
        needed = set(output).union(*(labels for _, labels in terms))
        terms.append(_contracted(chosen, needed))
    (array, labels), = terms
    array, labels = _summed(array, labels, set(output))
    return np.transpose(array, [labels.index(x) for x in output]) if output else array


def _with_letters(operands):
    """Subscripts as a string where they were given as lists of numbers, and the arrays."""
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

    def text(labels):
        return "".join("..." if label is Ellipsis else letters[label] for label in labels)

    inputs = ",".join(text(labels) for labels in operands[1 : len(operands) // 2 * 2 : 2])
    output = "->" + text(operands[-1]) if len(operands) % 2 else ""
    return inputs + output, *operands[: len(operands) // 2 * 2 : 2]


def _path(terms, output):
    """The order of pairwise contractions that NumPy's greedy search proposes."""
    shapes = [np.broadcast_to(0.0, array.shape) for array, _ in terms]
    text = ",".join(labels for _, labels in terms) + "->" + output
    return [tuple(step) for step in np.einsum_path(text, *shapes, optimize="greedy")[0][1:]]


def _parsed(subscripts, arrays):
    """Labels of each operand and of the output, with the ellipsis spelled out."""
    subscripts = subscripts.replace(" ", "")
    left, arrow, output = subscripts.partition("->")
    inputs = left.split(",")
    if len(inputs) != len(arrays):
        raise ValueError(f"einsum: {len(inputs)} subscripts for {len(arrays)} operands")
    spare = [c for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz" if c not in subscripts]
    dots = [a.ndim - len(s.replace("...", "")) if "..." in s else 0 for s, a in zip(inputs, arrays, strict=True)]
    longest = "".join(spare[: max(dots)])
    inputs = [s.replace("...", longest[len(longest) - d :]) for s, d in zip(inputs, dots, strict=True)]
    for labels, array in zip(inputs, arrays, strict=True):
        if len(labels) != array.ndim:
            raise ValueError(f"einsum: subscript {labels!r} does not fit an operand of shape {array.shape}")
    if not arrow:
        text = "".join(inputs)
        output = longest + "".join(sorted(c for c in set(text) if text.count(c) == 1 and c not in longest))
    output = output.replace("...", longest)
    if len(set(output)) < len(output) or not set(output) <= set("".join(inputs)):
        raise ValueError(f"einsum: the output {output!r} must name labels of the operands {inputs}, each once")
    return inputs, output


def _diagonal(array, labels):
    """Take diagonals until no label stands twice in one operand."""
    while len(set(labels)) < len(labels):
        double = next(c for c in labels if labels.count(c) > 1)
        i, j = [k for k, c in enumerate(labels) if c == double][:2]
        array = np.diagonal(array, axis1=i, axis2=j)
        labels = "".join(c for k, c in enumerate(labels) if k not in (i, j)) + double
    return array, labels


def _summed(array, labels, needed):
    """Sum over the axes whose label nobody needs."""
    axes = tuple(k for k, c in enumerate(labels) if c not in needed)
    return (np.sum(array, axis=axes), "".join(c for c in labels if c in needed)) if axes else (array, labels)


def _contracted(terms, needed):
    """Contract some terms, two at a time, keeping the labels in `needed`."""
    array, labels = terms[0]
    for k, (other, other_labels) in enumerate(terms[1:], 1):
        later = needed.union(*(others for _, others in terms[k + 1 :]))
        array, labels = _pair(array, labels, other, other_labels, later)
    return array, labels


def _pair(a, a_labels, b, b_labels, needed):
    """Contract two terms: labels in both that are still needed are the batch, the others in both are summed over."""
    a, a_labels = _summed(a, a_labels, needed | set(b_labels))
    b, b_labels = _summed(b, b_labels, needed | set(a_labels))
    batch = [c for c in a_labels if c in b_labels and c in needed]
    over = [c for c in a_labels if c in b_labels and c not in needed]
    left = [c for c in a_labels if c not in b_labels]
    right = [c for c in b_labels if c not in a_labels]
    sizes = dict(zip(a_labels, a.shape, strict=True))
    for c, n in zip(b_labels, b.shape, strict=True):
        if sizes.setdefault(c, n) != n:
            if 1 not in (sizes[c], n):
                raise ValueError(f"einsum: label {c!r} has the lengths {sizes[c]} and {n}")
            sizes[c] = max(sizes[c], n)
    a = np.broadcast_to(a, tuple(sizes[c] for c in a_labels))
    b = np.broadcast_to(b, tuple(sizes[c] for c in b_labels))

    def shaped(array, labels, *groups):
        array = np.transpose(array, [labels.index(c) for group in groups for c in group])
        return array, [math.prod(sizes[c] for c in group) for group in groups]

    if not over:
        x, _ = shaped(a, a_labels, batch, left)
        y, _ = shaped(b, b_labels, batch, right)
        x = np.reshape(x, x.shape + (1,) * len(right))
        y = np.reshape(y, y.shape[: len(batch)] + (1,) * len(left) + y.shape[len(batch) :])
        return x * y, "".join(batch + left + right)
    a, (_, m, k) = shaped(a, a_labels, batch, left, over)
    b, (_, _, n) = shaped(b, b_labels, batch, over, right)
    shape = [sizes[c] for c in batch]
    product = matmul(np.reshape(a, (*shape, m, k)), np.reshape(b, (*shape, k, n)))
    return np.reshape(product, [sizes[c] for c in batch + left + right]), "".join(batch + left + right)
