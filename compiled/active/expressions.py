"""Expressions of jitted code as one call each: typed node by node as Numba types them, written as one statement.

A user's statement such as ``a = x * sin(y) + z`` reaches type inference as the call of one `Expression` with the leaves x, y
and z. Over `Active` numbers its code computes the values, then the partials of the root for each leaf, by the chain rule
backward through the tree at compile time, and writes one linear statement to the list. A leaf that stands twice in the tree
is one pair. With arrays among the leaves the same is done for each element, in one loop for the whole expression.
"""

from __future__ import annotations

import dataclasses
import operator

from numba.core import cgutils, errors, types
from numba.core.typing import signature
from numba.np import arrayobj

from compiled.active import recording
from compiled.active.emitter import Emitter
from compiled.active.functions import FLOOR_DIVIDE, FUNCTIONS, IN_PLACE, PLAIN, ROUNDING, SAME
from compiled.active.numbers import ActiveNumber, Emission, apply, level_of, partials_of, primal_of
from compiled.active.types import Active, Differential, Recorded, bottom, depth, differential_of, is_number, join, with_bottom
from compiled.active.workspace import MOST_ROWS, push_block
from compiled.table.instructions import TABLE, f
from compiled.table.llvm import LLVMValue
from compiled.table.numbers import is_constant, plus, product
from compiled.table.special_powers import MOST_MULTIPLIED, by_squaring


class Node:
    """A function applied to nodes, or leaf number `leaf`.

    A leaf may be known to be the number `constant`, or to come from `outside`, before the loop that the expression is in.
    """

    __slots__ = ("children", "constant", "function", "leaf", "outside")

    def __init__(self, function, children=(), leaf=None, constant=None, outside=False):
        self.function, self.children, self.leaf = function, tuple(children), leaf
        self.constant, self.outside = constant, outside

    def __repr__(self):
        if self.function is None:
            return f"#{self.leaf}"
        return f"{getattr(self.function, '__name__', self.function)}({', '.join(map(repr, self.children))})"


def leaf(number: int, constant=None, outside=False) -> Node:
    """Leaf `number` of an expression."""
    return Node(None, leaf=number, constant=constant, outside=outside)


def row_of(function, node):
    """The row of a function; that of powers with a known exponent has the partial of just that power."""
    name = FUNCTIONS.get(function)
    if name == FLOOR_DIVIDE:
        return dataclasses.replace(TABLE["div"], name=FLOOR_DIVIDE, partials=(None, None))
    row = TABLE[name] if name is not None else None
    if name != "pow" or len(node.children) != 2 or node.children[1].constant is None:
        return row
    n = node.children[1].constant
    if n == 0.5:
        return dataclasses.replace(row, partials=(lambda x, y, o: 0.5 / o, None))
    if n == int(n) and 0 <= n <= MOST_MULTIPLIED:
        return dataclasses.replace(row, partials=(lambda x, y, o: _power(x, int(n) - 1) * float(n), None), kinks="")
    return dataclasses.replace(row, partials=(lambda x, y, o: f.pow(x, float(n) - 1.0) * float(n), None))


def _power(x, n: int):
    """x to the power n >= -1 by multiplication; for n = -1, whose factor is 0, anything."""
    return 1.0 if n <= 0 else by_squaring(x, n, lambda half: half * half, operator.mul)


class _Typed:
    """A node with its types: `kind`, that of its elements; `call`, the signature of Numba's function on the values."""

    __slots__ = ("call", "children", "function", "kind", "leaf", "outside", "row")

    def __init__(self, function, children, number, kind, call=None, row=None, outside=False):
        self.function, self.children, self.leaf, self.outside = function, children, number, outside
        self.kind, self.call, self.row = kind, call, row


class Expression(Emitter):
    """Elementwise functions over the leaves of a call.

    Parameters
    ----------
    *roots : Node
        What the call returns; a tuple where there are several, of single numbers then. Nodes may be shared.
    in_place : bool
        Whether the call is an augmented assignment, which changes leaf 0 where that is an array.
    line : int
        Number of the user's line.
    reached : dict of int to Differential, optional
        Leaves that may turn out to carry derivatives when type inference knows more, and the type that they have then.
    """

    def __init__(self, *roots: Node, in_place: bool = False, line: int = 0, reached=None):
        self.roots, self.root, self.in_place, self.line = roots, roots[0], in_place, line
        self.reached = reached or {}

    def __repr__(self):
        return f"expression {', '.join(map(repr, self.roots))}"

    # ------------------------------------------------------------------ types

    def signature(self, typingctx, args):
        """See `Emitter`."""
        given, args = args, self._promoted(args)
        found = self._signature(typingctx, args)
        return None if found is None else signature(found.return_type, *given)

    def _promoted(self, args):
        """With an array among the leaves, reached numbers as they will be: the type of an array cannot change any more."""
        arrays = [kind for kind in args if isinstance(kind, types.Array)]
        if not arrays or not all(map(_is_elementwise, args)):
            return args
        numbers = types.Float
        if not any(isinstance(kind.dtype, types.Integer) for kind in arrays) and not self._raises_to_leaf():
            numbers = types.Float, types.Integer  # a name may be an integer first: beside floats, it computes as a float
        return tuple(join(self.reached[k], types.unliteral(kind)) if k in self.reached and isinstance(kind, numbers) else kind
                     for k, kind in enumerate(args))

    def _raises_to_leaf(self) -> bool:
        """Whether a reached leaf is an exponent: powers with integers have a kernel of their own."""
        def search(node):
            is_power = FUNCTIONS.get(node.function) == "pow"
            return (is_power and node.children[1].leaf in self.reached) or any(map(search, node.children))

        return any(map(search, self.roots))

    def _signature(self, typingctx, args):
        if not all(map(_is_elementwise, args)) or not any(map(differential_of, args)):
            kinds = [self._generic(typingctx, root, args, {}) for root in self.roots]
            return None if None in kinds else signature(_packed(kinds), *args)
        nodes = self._typed_roots(typingctx, args)
        if nodes is None:
            return None
        typed = nodes[0]
        arrays = [kind for kind in args if isinstance(kind, types.Array)]
        if not arrays:
            return signature(_packed([node.kind for node in nodes]), *args)
        if self.in_place and isinstance(args[0], types.Array):
            if not typingctx.can_convert(typed.kind, args[0].dtype):
                raise errors.TypingError(refusal(args[0].dtype))
            return signature(args[0], *args)
        dtype = typed.kind if isinstance(typed.kind, Differential) else self._plain_dtype(typingctx, args)
        return signature(types.Array(dtype, max(a.ndim for a in arrays), "C"), *args)

    def _plain_dtype(self, typingctx, args):
        """Type of the elements of an array without derivatives, as Numba has it: the sum of two masks is one."""
        plain = [kind.copy(dtype=bottom(kind.dtype)) if isinstance(kind, types.Array) and isinstance(kind.dtype, Differential)
                 else bottom(kind) if isinstance(kind, Differential) else kind for kind in args]
        return self._generic(typingctx, self.root, plain, {}).dtype

    def _typed_roots(self, typingctx, args):
        made = {}
        elements = [_element(kind) for kind in args]
        nodes = [self._typed(typingctx, root, elements, made) for root in self.roots]
        return None if None in nodes else nodes

    def _generic(self, typingctx, node, args, calls):
        """Type of a node as Numba itself types it; `calls` maps nodes to signatures."""
        if node.function is None:
            return args[node.leaf]
        if node in calls:
            return calls[node].return_type
        kinds = [self._generic(typingctx, child, args, calls) for child in node.children]
        if None in kinds:
            return None
        sig = typingctx.resolve_function_type(node.function, tuple(kinds), {})
        if sig is None:
            return None
        calls[node] = sig
        return sig.return_type

    def _typed(self, typingctx, node, kinds, made):
        if node not in made:
            made[node] = self._newly_typed(typingctx, node, kinds, made)
        return made[node]

    def _newly_typed(self, typingctx, node, kinds, made):
        if node.function is None:
            return _Typed(None, (), node.leaf, kinds[node.leaf], outside=node.outside)
        children = [self._typed(typingctx, child, kinds, made) for child in node.children]
        if None in children:
            return None
        plain = [bottom(c.kind) if isinstance(c.kind, Differential) else c.kind for c in children]
        function = IN_PLACE.get(node.function, node.function)
        call = _resolve(typingctx, function, plain)
        if call is None:
            return None
        kind, row = call.return_type, row_of(function, node)
        above = [c.kind for c in children if isinstance(c.kind, Differential)]
        if above and function not in PLAIN and not isinstance(kind, types.Float):
            raise errors.TypingError(f"{function}: expected a float result, got {kind}")
        if above and function not in PLAIN:
            joined = above[0]
            for other in above[1:]:
                joined = join(joined, other)
            if joined is None:
                raise errors.TypingError(f"{node!r}: numbers of different derivatives meet: {above}")
            if function in ROUNDING and isinstance(_innermost(joined), Recorded):
                raise errors.TypingError(f"tape: lists of jitted functions are of float64; they cannot hold {node!r}")
            kind = with_bottom(joined, kind)
        return _Typed(function, children, None, kind, call, row)

    # ------------------------------------------------------------------ code

    def emit(self, context, builder, signature, args):
        """See `Emitter`."""
        typingctx = context.typing_context
        promoted = self._promoted(signature.args)
        args = [context.cast(builder, v, a, b) for v, a, b in zip(args, signature.args, promoted, strict=True)]
        signature = signature.replace(args=promoted)
        if not all(map(_is_elementwise, signature.args)) or not any(map(differential_of, signature.args)):
            return self._emit_generic(context, builder, signature, args)
        nodes = self._typed_roots(typingctx, signature.args)
        if not any(isinstance(kind, types.Array) for kind in signature.args):
            values = _emit_elements(context, builder, nodes, signature.args, args, self.line)
            return values[0] if len(values) == 1 else context.make_tuple(builder, signature.return_type, values)
        return self._emit_loop(context, builder, nodes[0], signature, args)

    def _emit_generic(self, context, builder, signature, args):
        calls, fresh = {}, {}
        for root in self.roots:
            self._generic(context.typing_context, root, signature.args, calls)

        def value(node):
            if node.function is None:
                return signature.args[node.leaf], args[node.leaf]
            if node not in fresh:
                found, sig = [value(child) for child in node.children], calls[node]
                cast = _cast_arguments(context, builder, found, sig)
                function = context.typing_context.resolve_value_type(node.function)
                fresh[node] = sig.return_type, context.get_function(function, sig)(builder, cast)
            return fresh[node]

        values = [value(root)[1] for root in self.roots]
        for node, (kind, v) in fresh.items():
            if node not in self.roots:
                context.nrt.decref(builder, kind, v)
        return values[0] if len(values) == 1 else context.make_tuple(builder, signature.return_type, values)

    def _emit_loop(self, context, builder, typed, signature, args):
        kinds = signature.args
        views = {k: _View(context, builder, kind, value) for k, (kind, value) in enumerate(zip(kinds, args, strict=True))
                 if isinstance(kind, types.Array)}
        shape = _broadcast(context, builder, list(views.values()))
        out_kind = signature.return_type
        if self.in_place and 0 in views:
            out, result = views[0], args[0]
            _require_shape(context, builder, views[0], shape)
            context.nrt.incref(builder, out_kind, result)
        else:
            array = arrayobj._empty_nd_impl(context, builder, out_kind, shape)
            result = array._getvalue()
            out = _View(context, builder, out_kind, result)
        elements = [_element(kind) for kind in kinds]
        with cgutils.loop_nest(builder, shape, intp=shape[0].type) as indices:
            values = [views[k].load(indices) if k in views else value for k, value in enumerate(args)]
            (value,) = _emit_elements(context, builder, [typed], elements, values, self.line)
            out.store(indices, context.cast(builder, value, typed.kind, out_kind.dtype))
        return result


def _packed(kinds):
    return kinds[0] if len(kinds) == 1 else types.Tuple(kinds)


def _is_elementwise(kind) -> bool:
    kind = _element(kind)
    return isinstance(kind, Differential) or is_number(types.unliteral(kind))


def _element(kind):
    return kind.dtype if isinstance(kind, types.Array) else kind


def _resolve(typingctx, function, kinds):
    """Signature of Numba's function on plain numbers."""
    if function in SAME:
        return signature(types.float64, types.float64)
    if function in ROUNDING:
        return signature(types.float32, *kinds)
    if function is bool:
        return signature(types.boolean, *kinds)
    return typingctx.resolve_function_type(function, tuple(kinds), {})


def refusal(kind) -> str:
    """Why a differentiated number cannot go where plain ones of type `kind` are kept."""
    return (f"tape: a number that is being differentiated cannot be kept among plain ones of type {kind}; create the array "
            "inside the function, or with np.zeros_like / np.empty_like of a differentiated one, or differentiate with "
            "respect to the argument it comes from too")


def _emit_elements(context, builder, nodes, kinds, values, line):
    """Code of an expression of single numbers; returns the values of the typed `nodes`."""
    emission = Emission(context, builder, line)
    level = max((depth(k) for k in kinds), default=0)
    tops = [k for k in kinds if depth(k) == level]
    evaluation = (_Statements if isinstance(tops[0], Active) else _Evaluation)(emission, kinds, values, level)
    return evaluation.results(nodes)


class _Evaluation:
    """An expression over given leaves, operation by operation."""

    def __init__(self, emission, kinds, values, level):
        self.emission, self.kinds, self.values, self.level = emission, kinds, values, level
        self.numbers = {}

    def results(self, nodes):
        """The Numba values of the roots."""
        return [self.emission.value(node.kind, self.number(node)) if isinstance(node.kind, Differential) else self.raw(node)
                for node in nodes]

    def number(self, node):
        """The number at a node."""
        if id(node) not in self.numbers:
            self.numbers[id(node)] = self._number(node)
        return self.numbers[id(node)]

    def _number(self, node):
        emission = self.emission
        if node.function is None:
            return emission.number(self.kinds[node.leaf], self.values[node.leaf])
        if not isinstance(node.kind, Differential):
            return emission.number(node.kind, self.raw(node))
        operands = [self.number(child) for child in node.children]
        if node.function in SAME:
            return operands[0]
        value = LLVMValue(emission.builder, self._call(node), TABLE)
        return self._applied(node, operands, value)

    def _applied(self, node, operands, value):
        recorded = isinstance(node.kind, Differential) and isinstance(_innermost(node.kind), Recorded)
        if node.row.name == FLOOR_DIVIDE and recorded:
            return apply(TABLE["floor"], [apply(TABLE["div"], operands)], value)
        return apply(node.row, operands, value)

    def raw(self, node):
        """Numba's value at a node, without derivatives."""
        if node.function is None:
            kind, value = self.kinds[node.leaf], self.values[node.leaf]
            if not isinstance(kind, Differential):
                return value
            return _bottom_value(self.emission, self.number(node), bottom(kind))
        if isinstance(node.kind, Differential):
            return _bottom_value(self.emission, self.number(node), bottom(node.kind))
        key = -id(node)
        if key not in self.numbers:
            result = self._call(node)
            self.numbers[key] = result
            recorded = [c for c in node.children if isinstance(c.kind, Differential)]
            if recorded and isinstance(_innermost(recorded[0].kind), Recorded):
                operands = [self.number(c) for c in node.children]
                recording.push_decision(self.emission, node.function, operands, node.kind, result, self.emission.line)
        return self.numbers[key]

    def _call(self, node):
        """Numba's own function on the values."""
        context, builder = self.emission.context, self.emission.builder
        kinds = [bottom(child.kind) if isinstance(child.kind, Differential) else child.kind for child in node.children]
        raws = _cast_arguments(context, builder, [(k, self.raw(c)) for k, c in zip(kinds, node.children, strict=True)],
                               node.call)
        if node.function in SAME:
            return raws[0]
        if node.function in ROUNDING:
            return context.cast(builder, raws[0], node.call.args[0], node.call.return_type)
        if node.function is bool:
            return context.is_true(builder, node.call.args[0], raws[0])
        function = context.typing_context.resolve_value_type(node.function)
        return context.get_function(function, node.call)(builder, raws)


def _cast_arguments(context, builder, values, call):
    """The values, (kind, value) each, as a signature wants them; functions of any number of arguments want one tuple."""
    wanted = call.args
    if len(wanted) == 1 and isinstance(wanted[0], (types.StarArgTuple, types.StarArgUniTuple)):
        parts = [context.cast(builder, v, kind, part) for (kind, v), part in zip(values, wanted[0].types, strict=True)]
        return [context.make_tuple(builder, wanted[0], parts)]
    return [context.cast(builder, v, kind, part) for (kind, v), part in zip(values, wanted, strict=True)]


def _innermost(kind):
    while isinstance(kind.base, Differential):
        kind = kind.base
    return kind


def _bottom_value(emission, number, float_type):
    while level_of(number):
        number = number.primal
    return emission.value(float_type, number)


class _Statements(_Evaluation):
    """An expression of `Active` numbers: values first, then statements.

    A root gets a statement of its own; so may a node that several others use. Whether it does is decided by what the list
    then holds: seeing through a node is right where it does not make more pairs (cross-country elimination by the rule of
    Markowitz, here on the sets of cells themselves).
    """

    MOST_CELLS = 32
    """Cells up to which a statement may grow by seeing through others."""

    def __init__(self, emission, kinds, values, level):
        super().__init__(emission, kinds, values, level)
        self.edges, self.order, self.leaves, self.users = {}, [], {}, {}
        self.outside = set()

    def _applied(self, node, operands, value):
        row = node.row
        if max(map(level_of, operands)) < self.level:
            return apply(row, operands, value)
        inner = [primal_of(x, self.level) for x in operands]
        value = apply(row, inner, value)
        pairs = partials_of(self.emission, row, operands, inner, value, self.level)
        # No statement yet, so no cell: the partials wait until it is known who needs them.
        number = ActiveNumber(self.emission, node.kind, value, None)
        self.edges[number] = pairs
        for child, _ in pairs:
            self.users[child] = self.users.get(child, 0) + 1
        self.order.append(number)
        return number

    def _number(self, node):
        if node.function is None and node.leaf in self.leaves:
            return self.leaves[node.leaf]
        number = super()._number(node)
        if node.function is None:
            self.leaves[node.leaf] = number
            if node.outside:
                self.outside.add(number)
        return number

    def results(self, nodes):
        """The Numba values of the roots."""
        numbers = [self.number(node) if isinstance(node.kind, Differential) else self.raw(node) for node in nodes]
        roots = {x for x in numbers if isinstance(x, ActiveNumber) and x in self.edges}
        cells = self._stated(roots)
        for number in cells:
            if number.cell is None:
                self._state([x for x in cells if cells[x] == cells[number] and x.cell is None][:MOST_ROWS])
        return [self.emission.value(node.kind, x) if isinstance(node.kind, Differential) else x
                for node, x in zip(nodes, numbers, strict=True)]

    def _state(self, numbers) -> None:
        """Give numbers that depend on the same cells statements: one block of the list, where they are several."""
        pairs = [self._accumulated(number) for number in numbers]
        if len(numbers) > 1 and numbers[0].kind.base == types.float64 and len({len(p) for p in pairs}) == 1:
            words = [child.cell for child in pairs[0]]
            rows = [[self.emission.value(types.float64, p[child]) for child in pairs[0]] for p in pairs]
            cells = push_block(self.emission.context, self.emission.builder, words, rows)
        else:
            cells = [number.stated(number.primal, [(child.cell, bar) for child, bar in p.items()],
                                   bool(p) and next(reversed(p)) in self.outside).cell
                     for number, p in zip(numbers, pairs, strict=True)]
        for number, cell in zip(numbers, cells, strict=True):
            number.cell = cell

    def _stated(self, roots) -> dict:
        """The numbers that get statements, in order, and the numbers whose cells stand in them."""
        needed = set(roots)
        for number in reversed(self.order):
            if number in needed:
                needed.update(child for child, _ in self.edges[number] if child in self.edges)
        stated = [x for x in self.order if x in needed and (x in roots or self.users.get(x, 0) > 1)]
        cells = self._cells(stated)
        # One by one need not find the way to seeing through all of them, so that is tried last.
        for hidden in [*([x] for x in stated if x not in roots), [x for x in stated if x not in roots]]:
            seen_through = self._cells([x for x in cells if x not in hidden])
            smaller = sum(map(len, seen_through.values())) <= sum(map(len, cells.values()))
            if smaller and max(map(len, seen_through.values()), default=0) <= self.MOST_CELLS:
                cells = seen_through
        return cells

    def _cells(self, stated) -> dict:
        """For each number that has a statement, those whose cells stand in it."""
        reached, closed = {}, set(stated)
        for number in self.order:
            reached[number] = frozenset().union(*(
                reached[child] if child in self.edges and child not in closed else {child} for child, _ in self.edges[number]))
        return {number: reached[number] for number in stated}

    def _accumulated(self, root):
        """Partials of a number for those whose cells stand in its statement: the chain rule from it down."""
        bars, pairs = {root: 1.0}, {}
        for number in reversed(self.order):
            bar = bars.pop(number, 0.0)
            if is_constant(bar, 0.0):
                continue
            for child, partial in self.edges[number]:
                into = pairs if child.cell is not None else bars
                into[child] = plus(into.get(child, 0.0), product(TABLE, bar, partial))
        # What comes from outside a loop stands last, where the sweep keeps its adjoint at hand.
        ordered = sorted(pairs, key=lambda child: child in self.outside)
        return {child: pairs[child] for child in ordered if not is_constant(pairs[child], 0.0)}


class _View:
    """An array leaf, element by element."""

    def __init__(self, context, builder, kind, value):
        self.context, self.builder, self.kind = context, builder, kind
        array = context.make_array(kind)(context, builder, value)
        self.data, self.array = array.data, array
        self.shape = cgutils.unpack_tuple(builder, array.shape, kind.ndim)
        self.strides = cgutils.unpack_tuple(builder, array.strides, kind.ndim)

    def _pointer(self, indices):
        builder = self.builder
        own = indices[len(indices) - self.kind.ndim :]
        zero = own[0].type(0) if own else None
        own = [builder.select(builder.icmp_unsigned("==", n, n.type(1)), zero, i) for i, n in zip(own, self.shape, strict=True)]
        return cgutils.get_item_pointer2(self.context, builder, self.data, self.shape, self.strides, self.kind.layout, own,
                                         wraparound=False)

    def load(self, indices):
        """The element at the loop's indices, broadcast."""
        model = self.context.data_model_manager[self.kind.dtype]
        return model.load_from_data_pointer(self.builder, self._pointer(indices))

    def store(self, indices, value):
        """Set the element at the loop's indices."""
        stored = self.context.get_value_as_data(self.builder, self.kind.dtype, value)
        self.builder.store(stored, self._pointer(indices))


def _broadcast(context, builder, views):
    """Shape that the views broadcast to; raises ValueError when run where they do not."""
    ndim = max(view.kind.ndim for view in views)
    shape = [context.get_constant(types.intp, 1)] * ndim
    one = context.get_constant(types.intp, 1)
    for view in views:
        for axis, n in enumerate(view.shape, ndim - view.kind.ndim):
            shape[axis] = builder.select(builder.icmp_unsigned("==", shape[axis], one), n, shape[axis])
    if len(views) > 1:
        for view in views:
            _require_shape(context, builder, view, shape, one)
    return shape


def _require_shape(context, builder, view, shape, also=None):
    own = shape[len(shape) - view.kind.ndim :]
    if len(own) != len(shape) and also is None:
        raise errors.TypingError("an augmented assignment cannot give an array more axes")
    for n, wanted in zip(view.shape, own, strict=True):
        fits = builder.icmp_unsigned("==", n, wanted)
        if also is not None:
            fits = builder.or_(fits, builder.icmp_unsigned("==", n, also))
        with builder.if_then(builder.not_(fits), likely=False):
            message = "operands could not be broadcast together: their shapes differ"
            context.call_conv.return_user_exc(builder, ValueError, (message,))

