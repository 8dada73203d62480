"""The statements of a jitted function, rewritten for numbers that carry derivatives.

- Elementwise operations are gathered into `Expression` calls, one a statement;
- arrays that the function creates and fills with such numbers get their type;
- functions and methods of NumPy are exchanged for ours (`REPLACEMENTS`);
- jitted functions that are called are exchanged for their twins.

All that such numbers do not reach (`reach.py`) stays as the user wrote it. What is not here: what the calls do.
"""

from __future__ import annotations

import collections
import operator

import numpy as np
from numba.core import ir, types
from numba.core.dispatcher import Dispatcher
from numba.core.imputils import lower_constant
from numba.core.ir_utils import build_definitions, mk_unique_var
from numba.extending import typeof_impl

from compiled.active.expressions import Expression, Node, leaf
from compiled.active.reach import CREATIONS, function_of, is_kind_of, resolved
from compiled.active.recording import line_number
from compiled.active.types import Differential, with_bottom

REPLACEMENTS: dict = {}
"""Functions of NumPy, and ours in their place; `arrays.py` fills it."""

METHODS: dict = {}
"""Methods of arrays, and our functions in their place."""

_made: dict = {}


def register(what: str, make) -> None:
    """Register what makes an emitter: "array" of a shape and a number's type, for `np.array` of nested lists; "lift" of a
    number's type, for arrays of plain numbers that have to become arrays of those.
    """
    _made[what] = make


MOST_DEPTH, MOST_WAITING = 48, 120
"""Operations one upon the other, and altogether, that wait to be written together: what is gained by more is little, and the
time to compile grows with the square."""

PURE = ("binop", "unary", "getattr", "getitem", "static_getitem", "cast", "build_tuple", "exhaust_iter", "phi")
"""Expressions that change nothing, so that an operation may be computed after them instead of before."""


def unpack_tuples(function) -> None:
    """Where a tuple is made to be unpacked, as at the return of an inlined function, let the names be the items' own."""
    definitions = build_definitions(function.blocks)
    assignments = [s for block in function.blocks.values() for s in block.find_insts(ir.Assign)]
    versions = collections.Counter({s.target.name: s.target.unversioned_name for s in assignments}.values())

    def items_of(variable):
        found = definitions.get(variable.name, ())
        value = found[0] if len(found) == 1 else None
        if isinstance(value, ir.Var):
            return items_of(value)
        if isinstance(value, ir.Expr) and value.op in ("exhaust_iter", "cast"):
            return items_of(value.value)
        return value.items if isinstance(value, ir.Expr) and value.op == "build_tuple" else None

    for block in function.blocks.values():
        for k, statement in enumerate(block.body):
            value = statement.value if isinstance(statement, ir.Assign) else None
            if isinstance(value, ir.Expr) and value.op == "static_getitem" and isinstance(value.index, int):
                items = items_of(value.value)
                if items is not None and -len(items) <= value.index < len(items) and all(
                        len(definitions.get(x.name, ())) == 1 and versions[x.unversioned_name] == 1 for x in items):
                    block.body[k] = ir.Assign(items[value.index], statement.target, statement.loc)
    _drop_unused(function, definitions)


def _drop_unused(function, definitions) -> None:
    """Drop tuples, and other names of them, that nobody uses any more."""
    dropped = True
    while dropped:
        dropped = False
        used = {v.name for block in function.blocks.values() for s in block.body
                for v in (s.value.list_vars() if isinstance(s, ir.Assign) and hasattr(s.value, "list_vars") else
                          [s.value] if isinstance(s, ir.Assign) and isinstance(s.value, ir.Var) else
                          [] if isinstance(s, ir.Assign) else s.list_vars())}
        for block in function.blocks.values():
            kept = [s for s in block.body if not (
                isinstance(s, ir.Assign) and s.target.name not in used and (
                    isinstance(s.value, ir.Var)
                    or (isinstance(s.value, ir.Expr) and s.value.op in ("build_tuple", "exhaust_iter", "cast"))))]
            dropped |= len(kept) != len(block.body)
            block.body = kept


class Rewriter:
    """Rewrites the blocks of one function.

    Parameters
    ----------
    function : numba FunctionIR
    definitions : dict
        Name of a variable → what it is assigned.
    reach : Reach
    kind : Differential
        Type of the numbers that carry derivatives.
    declared : set of str
        Names whose types the user declares.
    twin : callable
        Gives the function that takes the place of a jitted one.
    """

    def __init__(self, function, definitions, reach, kind, declared, twin):
        self.function, self.definitions, self.reach, self.kind, self.twin = function, definitions, reach, kind, twin
        self.declared = declared  # names whose types the user declares: what they are assigned is converted
        self.uses = {}
        self.homes = {s.target.name: block for block in function.blocks.values() for s in block.find_insts(ir.Assign)}
        for block in function.blocks.values():
            for statement in block.body:
                for variable in statement.list_vars():
                    self.uses[variable.name] = self.uses.get(variable.name, 0) + 1
        for name in definitions:
            self.uses[name] = self.uses.get(name, 0) - len(definitions[name])  # an assignment lists its target too

    def run(self) -> None:
        """Rewrite every block."""
        for block in self.function.blocks.values():
            block.body = _Statements(self, block).rewritten()

    def prepared(self, function):
        """A function that takes numbers with derivatives: of a jitted one its twin."""
        return self.twin(function) if isinstance(function, Dispatcher) else function


class _Statements:
    """The statements of one block, rewritten one after the other.

    An operation waits until somebody other than an operation needs its result; what waits is written together. Operations
    on single numbers may wait for any length of time; those that may read an array do not wait past something that may
    change it, and only where they have one user.
    """

    def __init__(self, rewriter, block):
        self.rewriter, self.block = rewriter, block
        self.definitions, self.reach = rewriter.definitions, rewriter.reach
        self.waiting: dict[str, _Waiting] = {}
        self.body: list = []
        self.loads: dict = {}

    def rewritten(self) -> list:
        """The new body."""
        for statement in self.block.body:
            if isinstance(statement, ir.Assign):
                self._assign(statement)
                continue
            if statement.is_terminator:
                self._write(list(self.waiting))
            elif not isinstance(statement, ir.Del):
                self._barrier()
                self._settle(statement.list_vars())
            self.body.append(statement)
        return self.body

    def _assign(self, statement):
        value = statement.value
        operation = function_of(value, self.definitions)
        if operation is not None and any(x in self.reach or self._is_waiting_mask(x) for x in operation[1]):
            self._operation(statement, *operation)
            return
        if isinstance(value, ir.Expr):
            if value.op not in PURE:
                self._barrier()
            self._settle(value.list_vars())
            statement = ir.Assign(self._exchanged(value, statement.loc), statement.target, statement.loc)
            if value.op == "getitem" and statement.target.name not in self.rewriter.declared:
                self.loads[statement.target.name] = "getitem", value.value.name, self._key(value.index)
        elif (isinstance(value, ir.Var) and value.name in self.waiting and self.waiting[value.name].scalar
              and statement.target.name not in self.rewriter.declared):
            # Another name for what waits.
            self.waiting[statement.target.name] = _Waiting(statement, None, [value], True, self.waiting[value.name].depth)
            if len(self.definitions.get(statement.target.name, ())) != 1:
                self._write([statement.target.name])
            return
        elif isinstance(value, ir.Var):
            self._settle([value])
        elif isinstance(value, (ir.Global, ir.FreeVar)) and isinstance(value.value, Dispatcher) and not self._is_only_called(
                statement.target):
            made = ir.Global(f"{value.name}", self.rewriter.twin(value.value), statement.loc)
            statement = ir.Assign(made, statement.target, statement.loc)
        self._write(self._readers_of_variable(statement.target))
        self.body.append(statement)
        if statement.target.name in self.reach.lifted:
            self._lift(statement)

    def _readers_of_variable(self, variable) -> list:
        return [n for n, w in self.waiting.items() if any(
            x.unversioned_name == variable.unversioned_name and x.name != variable.name for x in w.operands)]

    def _lift(self, statement):
        """Let an array of plain numbers that meets one of numbers with derivatives be one too."""
        plain = ir.Var(self.block.scope, mk_unique_var("$tape_plain"), statement.loc)
        self.body[-1] = ir.Assign(statement.value, plain, statement.loc)
        lift = self._global(_made["lift"](self.rewriter.kind), statement.loc)
        call = ir.Expr.call(lift, [plain], (), statement.loc)
        self.body.append(ir.Assign(call, statement.target, statement.loc))

    # ------------------------------------------------------------------ expressions

    def _operation(self, statement, function, operands):
        name = statement.target.name
        scalar = name not in self.reach.arrays
        in_place = statement.value.op == "inplace_binop" and not scalar
        if in_place:
            # The right side is computed before the array is changed, which it may be a view of.
            self._settle(operands)
            self._barrier()
        deepest = max((self.waiting[x.name].depth for x in operands if x.name in self.waiting), default=0)
        if deepest >= MOST_DEPTH:
            self._settle(operands)
            deepest = 0
        if len(self.waiting) >= MOST_WAITING:
            self._write(list(self.waiting))
        self.waiting[name] = _Waiting(statement, function, operands, scalar, deepest + 1)
        once = len(self.definitions.get(name, ())) == 1 and name not in self.rewriter.declared
        if in_place or not once or not (scalar or self.rewriter.uses.get(name, 0) == 1):
            self._write([name], in_place)
        elif not scalar and statement.target not in self.reach and not statement.target.is_temp:
            self._write([name])

    def _is_waiting_mask(self, variable) -> bool:
        """Whether a variable is an array without derivatives that waits, as comparisons do.

        Numba computes what is said of such arrays in one expression element by element, where True + True is 2; in arrays
        that have a name it is True.
        """
        found = self.waiting.get(variable.name)
        return found is not None and not found.scalar and variable not in self.reach

    def _settle(self, variables):
        """Write what is needed of what waits."""
        self._write([v.name for v in variables if v.name in self.waiting])

    def _barrier(self):
        """Write what must not wait any longer, because something may change an array now."""
        self._write([name for name, w in self.waiting.items() if not w.scalar])
        self.loads = {}

    def _cone(self, names) -> set:
        """The waiting operations that `names` are made of, themselves included."""
        found, todo = set(), list(names)
        while todo:
            name = todo.pop()
            if name in self.waiting and name not in found:
                found.add(name)
                todo += [v.name for v in self.waiting[name].operands]
        return found

    def _write(self, names, in_place=False):
        """Write operations and what they are made of."""
        for name in [n for n in self.waiting if n in names and not self.waiting[n].scalar]:
            if name in self.waiting and not self._has_user(name, names):
                self._write([n for n in self._readers_of([name]) if n != name])
                # What single numbers an array's expression is made of are statements before the loop.
                self._write([n for n in self._cone([name]) if self.waiting[n].scalar])
                if name in self.waiting:
                    self._write_roots(self._cone([name]), [name], in_place)
        cone = self._cone(names)
        roots = self._roots_of(cone)
        while any(n not in cone and self.waiting[n].scalar for n in self._readers_of(roots)):
            cone = self._cone([*cone, *(n for n in self._readers_of(roots) if self.waiting[n].scalar)])
            roots = self._roots_of(cone)
        others = [n for n in self._readers_of(roots) if n not in cone]
        if others:
            self._write(others)
            cone = {n for n in cone if n in self.waiting}
            roots = self._roots_of(cone)
        if cone:
            self._write_roots(cone, roots, in_place)

    def _roots_of(self, cone) -> list:
        """Those of a set of waiting operations whose results somebody outside it needs."""
        inside = {}
        for name in cone:
            for operand in self.waiting[name].operands:
                inside[operand.name] = inside.get(operand.name, 0) + 1
        return [n for n in self.waiting if n in cone and (self.rewriter.uses.get(n, 0) > inside.get(n, 0)
                                                          or not inside.get(n, 0))]

    def _readers_of(self, names) -> list:
        """What waits and reads another version of a variable that is about to be assigned.

        Numba will let versions that meet in a loop share their place, so the reading has to come before the assignment, as
        in the user's code.
        """
        assigned = {}
        for name in names:
            target = self.waiting[name].statement.target
            assigned.setdefault(target.unversioned_name, set()).add(target.name)
        return [n for n, w in self.waiting.items() if n not in names and any(
            x.name not in assigned.get(x.unversioned_name, {x.name}) for x in w.operands)]

    def _has_user(self, name, names) -> bool:
        return any(other != name and name in self._cone([other]) for other in names)

    def _write_roots(self, cone, roots, in_place):
        leaves, numbers, nodes = [], {}, {}

        def node_of(variable):
            if variable.name in cone:
                if variable.name not in nodes:
                    waiting = self.waiting[variable.name]
                    nodes[variable.name] = folded(waiting.function, [node_of(x) for x in waiting.operands])
                return nodes[variable.name]
            name = self._original(variable)
            key = self.loads.get(name, name)
            if key not in numbers:
                numbers[key] = leaf(len(leaves), self._constant(variable), self._is_outside(variable))
                leaves.append(variable)
            return numbers[key]

        statements = [self.waiting[name].statement for name in roots]
        nodes_of_roots = [node_of(s.target) for s in statements]
        reached = {k: self.rewriter.kind for k, variable in enumerate(leaves) if variable in self.reach}
        expression = Expression(*nodes_of_roots, in_place=in_place, line=line_number(statements[-1].loc), reached=reached)
        for name in cone:
            del self.waiting[name]
        loc = statements[-1].loc
        call = ir.Expr.call(self._global(expression, loc), leaves, (), loc)
        if len(statements) == 1:
            self.body.append(ir.Assign(call, statements[0].target, loc))
            return
        packed = ir.Var(self.block.scope, mk_unique_var("$tape_values"), loc)
        self.body.append(ir.Assign(call, packed, loc))
        for k, statement in enumerate(statements):
            item, target = ir.Expr.static_getitem(packed, k, None, loc), statement.target
            if target.name in self.rewriter.declared:  # which an assignment converts to, and an item of a tuple does not
                target = ir.Var(self.block.scope, mk_unique_var("$tape_value"), loc)
            self.body.append(ir.Assign(item, target, statement.loc))
            if target is not statement.target:
                self.body.append(ir.Assign(target, statement.target, statement.loc))

    def _is_outside(self, variable) -> bool:
        """Whether a variable has its one value from another block."""
        found = self.definitions.get(variable.name, ())
        if len(found) != 1 or (isinstance(found[0], ir.Expr) and found[0].op == "phi"):
            return False
        if isinstance(found[0], ir.Var):
            return self._is_outside(found[0])
        return self.rewriter.homes.get(variable.name) is not self.block

    def _constant(self, variable):
        """The number that a variable is known to be, or None."""
        if variable.name in self.rewriter.declared:
            return None
        found = self.definitions.get(variable.name, ())
        value = found[0] if len(found) == 1 else None
        if isinstance(value, (ir.Const, ir.Global, ir.FreeVar)) and type(value.value) in (int, float):
            return value.value
        if isinstance(value, ir.Expr) and value.op == "unary" and value.fn is operator.neg:
            constant = self._constant(value.value)
            return None if constant is None else -constant
        return self._constant(value) if isinstance(value, ir.Var) else None

    def _original(self, variable) -> str:
        """The first name of what has several, and the same type under all."""
        found = self.definitions.get(variable.name, ())
        if variable.name in self.rewriter.declared:
            return variable.name
        if len(found) == 1 and isinstance(found[0], ir.Var) and len(self.definitions.get(found[0].name, ())) == 1:
            return self._original(found[0])
        return variable.name

    def _key(self, variable):
        """What an index is: equal keys, equal values."""
        found = self.definitions.get(variable.name, ())
        value = found[0] if len(found) == 1 else None
        if isinstance(value, ir.Const):
            return "const", value.value
        if isinstance(value, ir.Expr) and value.op == "binop":
            return value.fn, self._key(value.lhs), self._key(value.rhs)
        if isinstance(value, ir.Expr) and value.op == "build_tuple":
            return tuple(self._key(x) for x in value.items)
        if isinstance(value, ir.Var):
            return self._key(value)
        return variable.name

    # ------------------------------------------------------------------ calls

    def _global(self, value, loc):
        name = getattr(value, "__name__", type(value).__name__)
        variable = ir.Var(self.block.scope, mk_unique_var(f"$tape_{name}"), loc)
        self.body.append(ir.Assign(ir.Global(name, value, loc), variable, loc))
        return variable

    def _is_only_called(self, variable) -> bool:
        """Whether a variable is used as nothing but a function to call."""
        for block in self.rewriter.function.blocks.values():
            for statement in block.body:
                value = getattr(statement, "value", None)
                if isinstance(value, ir.Expr) and value.op == "call" and value.func.name == variable.name:
                    others = [*value.args, *(v for _, v in value.kws)]
                    if any(x.name == variable.name for x in others):
                        return False
                elif any(x.name == variable.name for x in statement.list_vars()) and not (
                        isinstance(statement, ir.Assign) and statement.target.name == variable.name):
                    return False
        return True

    def _exchanged(self, value, loc):
        """The expression, with our functions in place of NumPy's and the user's."""
        if value.op == "call":
            return self._call(value, loc)
        if value.op == "build_list":
            return self._list(value, loc)
        if value.op == "binop" and value.fn in REPLACEMENTS and (value.lhs in self.reach or value.rhs in self.reach):
            function = self.rewriter.prepared(REPLACEMENTS[value.fn])
            return ir.Expr.call(self._global(function, loc), [value.lhs, value.rhs], (), loc)
        return value

    def _call(self, value, loc):
        function = resolved(self.definitions, value.func)
        arguments = [*value.args, *(v for _, v in value.kws)] + ([value.vararg] if value.vararg is not None else [])
        reached = any(x in self.reach for x in arguments)
        if function is None:
            return self._method(value, loc)
        if is_kind_of(function, CREATIONS):
            return self._creation(value, function, loc)
        if not reached:
            return value
        if function is np.array and len(value.args) == 1:
            return self._array(value, loc)
        if function is np.empty_like:
            return ir.Expr.call(self._global(np.zeros_like, loc), value.args, value.kws, loc, value.vararg)
        if is_kind_of(function, REPLACEMENTS):
            args, prepared = [self._reached_number(x, loc) for x in value.args], self.rewriter.prepared(REPLACEMENTS[function])
            return ir.Expr.call(self._global(prepared, loc), args, value.kws, loc, value.vararg)
        if isinstance(function, Dispatcher):
            return ir.Expr.call(self._global(self.rewriter.twin(function), loc), value.args, value.kws, loc, value.vararg)
        return value

    def _reached_number(self, variable, loc):
        """A number as it will be when type inference knows more: an array that is made with it cannot change its type."""
        if variable not in self.reach or variable.name in self.reach.arrays:
            return variable
        lift = self._global(_made["lift"](self.rewriter.kind, arrays=False), loc)
        lifted = ir.Var(self.block.scope, mk_unique_var("$tape_number"), loc)
        self.body.append(ir.Assign(ir.Expr.call(lift, [variable], (), loc), lifted, loc))
        return lifted

    def _array(self, value, loc):
        """`np.array` of a list of numbers or of lists of them: a call with all of them."""
        def listed(variable):
            found = self.definitions.get(variable.name, ())
            made = found[0] if len(found) == 1 else None
            if isinstance(made, ir.Var):
                return listed(made)
            return made.items if isinstance(made, ir.Expr) and made.op in ("build_list", "build_tuple") else None

        items, shape = [value.args[0]], []
        while items and listed(items[0]) is not None:
            rows = [listed(item) for item in items]
            if None in rows or len({len(row) for row in rows}) != 1:
                return value
            shape.append(len(rows[0]))
            items = [item for row in rows for item in row]
        if not shape or not items:
            return value
        return ir.Expr.call(self._global(_made["array"](tuple(shape), self.rewriter.kind), loc), items, (), loc)

    def _list(self, value, loc):
        """A list that is to hold such numbers holds them from the start."""
        if self._target_of(value) not in self.reach.names:
            return value
        return ir.Expr.build_list([self._lifted(item, loc) for item in value.items], loc)

    def _lifted(self, variable, loc):
        """The number as one with derivatives, if it is a plain one."""
        if variable in self.reach:
            return variable
        made = ir.Var(self.block.scope, mk_unique_var("$tape_lifted"), loc)
        call = ir.Expr.call(self._global(_made["lift"](self.rewriter.kind), loc), [variable], (), loc)
        self.body.append(ir.Assign(call, made, loc))
        return made

    def _method(self, value, loc):
        found = self.definitions.get(value.func.name, ())
        method = found[0] if len(found) == 1 else None
        if isinstance(method, ir.Expr) and method.op == "getattr" and method.value in self.reach and method.attr in (
                "append", "insert"):
            return ir.Expr.call(value.func, [*value.args[:-1], self._lifted(value.args[-1], loc)], value.kws, loc, value.vararg)
        if isinstance(method, ir.Expr) and method.op == "getattr" and method.value in self.reach and method.attr in METHODS:
            function = self._global(self.rewriter.prepared(METHODS[method.attr]), loc)
            return ir.Expr.call(function, [method.value, *value.args], value.kws, loc, value.vararg)
        return value

    def _target_of(self, value):
        """Name of what an expression is assigned to."""
        return next((name for name, found in self.definitions.items() if any(v is value for v in found)), None)

    def _creation(self, value, function, loc):
        """Give an array that is to hold such numbers their type."""
        if self._target_of(value) not in self.reach.names:
            return value
        position, keywords = CREATIONS[function], dict(value.kws)
        given = value.args[position] if len(value.args) > position else keywords.get("dtype")
        if given is not None and resolved(self.definitions, given) not in (float, np.float64, np.float32, None):
            return value
        single = given is not None and resolved(self.definitions, given) is np.float32
        dtype = self._global(DType(with_bottom(self.rewriter.kind, types.float32 if single else types.float64)), loc)
        args = list(value.args[:position])
        kws = [(k, v) for k, v in value.kws if k != "dtype"]
        # A cell that nobody writes must not name a place in a list.
        called = self._global(np.zeros, loc) if function is np.empty else value.func
        if len(args) == position:
            return ir.Expr.call(called, [*args, dtype], kws, loc, value.vararg)
        return ir.Expr.call(called, args, [*kws, ("dtype", dtype)], loc, value.vararg)


class _Waiting:
    """An operation that has not been written yet; its function is None where it is another name for its operand."""

    __slots__ = ("depth", "function", "operands", "scalar", "statement")

    def __init__(self, statement, function, operands, scalar, depth):
        self.statement, self.function, self.operands, self.scalar, self.depth = statement, function, operands, scalar, depth


def folded(function, children):
    """Node of a function of any number of operands; min and max are taken two by two, as Numba does."""
    if function is None:
        return children[0]
    if function in (min, max) and len(children) > 2:
        return Node(function, (folded(function, children[:-1]), children[-1]))
    return Node(function, children)


class DType:
    """The dtype of arrays of numbers that carry derivatives, as a global of a prepared function."""

    __name__ = "dtype"

    def __init__(self, kind: Differential):
        self.kind = kind


@typeof_impl.register(DType)
def _typeof_dtype(value, c):
    return types.DType(value.kind)


@lower_constant(types.DType)
def _dtype_constant(context, builder, kind, value):
    return context.get_dummy_value()
