"""What an argument that carries derivatives can reach in a jitted function: variables, arrays, lists.

What is not here: what is done to what is reached (`statements.py`).
"""

from __future__ import annotations

import dis
import operator
import types as python_types

import numpy as np
from numba.core import ir, types
from numba.core.dispatcher import Dispatcher

from compiled.active.functions import ELEMENTWISE, PLAIN
from compiled.active.types import Differential, differential_of

PLAIN_ATTRIBUTES = {"shape", "size", "ndim", "strides", "itemsize", "nbytes"}
"""Attributes of arrays that carry no derivative."""

PLAIN_CALLS = {len, range, np.ndim, np.shape, np.size, np.argmax, np.argmin, np.argsort, isinstance, print, type, str} | PLAIN
"""Functions whose result carries no derivative."""

MAKING = {np.arange, np.linspace, np.array, np.copy, np.where, np.zeros_like, np.ones_like, np.full_like, np.empty_like,
          np.concatenate, np.cumsum, np.dot, np.outer, np.clip, np.eye, np.identity, np.diag, np.roll, np.repeat, np.vstack,
          np.hstack, np.stack, np.sort, np.diff, np.sum, *ELEMENTWISE}
"""Functions whose result is an array of its own memory (or no array)."""

CREATIONS = {np.zeros: 1, np.empty: 1, np.ones: 1, np.full: 2}
"""Functions that create arrays, and the position of their dtype."""


def resolved(definitions, variable):
    """The Python object that a variable is known to be, or None."""
    found = definitions.get(variable.name, ())
    if len(found) != 1:
        return None
    value = found[0]
    if isinstance(value, (ir.Global, ir.FreeVar)):
        return value.value
    if isinstance(value, ir.Var):
        return resolved(definitions, value)
    if isinstance(value, ir.Expr) and value.op == "getattr":
        owner = resolved(definitions, value.value)
        if isinstance(owner, (python_types.ModuleType, type)):
            return getattr(owner, value.attr, None)
    return None


def is_kind_of(value, kinds) -> bool:
    """Whether a Python object is one of `kinds`, and can be looked up at all."""
    try:
        return value is not None and value in kinds
    except TypeError:
        return False


class Reach:
    """Names of the variables that may hold numbers with derivatives."""

    def __init__(self, function, definitions, kinds):
        self.definitions, self.kinds = definitions, kinds
        self.names, self.arrays, self.lifted = set(), set(), set()
        statements = [s for block in function.blocks.values() for s in block.body]
        before = None
        while (len(self.names), len(self.arrays)) != before:
            before = len(self.names), len(self.arrays)
            for statement in statements:
                self._follow(statement)
                if isinstance(statement, ir.Assign) and self._may_be_array(statement.value):
                    self.arrays.add(statement.target.name)

    def __contains__(self, variable) -> bool:
        return variable.name in self.names

    def _follow(self, statement):
        if isinstance(statement, ir.Assign):
            if self._reaches(statement.value):
                self.names.add(statement.target.name)
                self._follow_meeting(statement.value)
            if isinstance(statement.value, ir.Expr):
                self._follow_stores(statement.value)
        elif isinstance(statement, (ir.SetItem, ir.StaticSetItem)) and statement.value in self:
            self._mark_storage(statement.target, always=True)

    def _follow_meeting(self, value):
        """Where versions of a variable meet, and one of them may hold such numbers, arrays have to be of one type."""
        if not isinstance(value, ir.Expr) or value.op != "phi":
            return
        for variable in value.incoming_values:
            if isinstance(variable, ir.Var) and variable not in self and variable.name in self.arrays:
                found = self.definitions.get(variable.name, ())
                if not self._mark_storage(variable) and len(found) == 1 and not (
                        isinstance(found[0], ir.Expr) and found[0].op == "phi"):
                    self.lifted.add(variable.name)
                    self.names.add(variable.name)

    def _reaches(self, value) -> bool:
        if isinstance(value, ir.Arg):
            return differential_of(self.kinds[value.index]) is not None
        if isinstance(value, ir.Var):
            return value in self
        if not isinstance(value, ir.Expr):
            return False
        if value.op in ("binop", "inplace_binop"):
            return value.fn not in PLAIN and (value.lhs in self or value.rhs in self)
        if value.op == "unary":
            return value.fn not in PLAIN and value.value in self
        if value.op == "getattr":
            return value.value in self and value.attr not in PLAIN_ATTRIBUTES
        if value.op == "call":
            return not is_kind_of(resolved(self.definitions, value.func), PLAIN_CALLS) and any(
                variable in self for variable in value.list_vars())
        return any(variable in self for variable in value.list_vars())

    def _may_be_array(self, value) -> bool:
        """Whether a value may be anything but a single number."""
        if isinstance(value, ir.Arg):
            kind = types.unliteral(self.kinds[value.index])
            return not isinstance(kind, (Differential, types.Number, types.Boolean))
        if isinstance(value, (ir.Global, ir.FreeVar, ir.Const)):
            return not isinstance(value.value, (int, float, bool))
        if isinstance(value, ir.Var):
            return value.name in self.arrays
        if not isinstance(value, ir.Expr):
            return True
        operation = function_of(value, self.definitions)
        if operation is not None:
            return any(x.name in self.arrays for x in operation[1])
        if value.op in ("binop", "unary", "inplace_binop", "phi"):
            return any(x.name in self.arrays for x in value.list_vars())
        if value.op == "call":
            return not is_kind_of(resolved(self.definitions, value.func), {len, int, float, bool, abs})
        if value.op == "getitem":
            return not self._takes_one(value)
        if value.op == "static_getitem":
            return not self._takes_one(value)
        return value.op != "pair_first" or not self._is_range(value.value)

    def _takes_one(self, value) -> bool:
        """Whether an index picks a single number out of an array or a shape."""
        ndim = self._ndim(value.value)
        if ndim is None:
            return False
        index = value.index
        if (value.op == "static_getitem" and index is None) or isinstance(getattr(value, "index", None), int):
            return ndim == 1
        if value.op == "static_getitem":
            index = value.index_var
        found = self._single(index)
        if isinstance(found, ir.Expr) and found.op == "build_tuple":
            return len(found.items) == ndim and all(x.name not in self.arrays and self._is_whole(x) for x in found.items)
        return ndim == 1 and index.name not in self.arrays and self._is_whole(index)

    def _is_whole(self, variable) -> bool:
        """Whether a variable surely is a plain number."""
        return variable.name not in self.arrays and variable.name not in self.names

    def _ndim(self, variable, seen=()):
        """Number of axes of an array that is an argument or made in the function; 1 for shapes; None if unknown."""
        found = self.definitions.get(variable.name, ())
        if variable.name in seen or not found:
            return None
        seen = (*seen, variable.name)
        each = {self._ndim_of(value, seen) for value in found} - {"again"}
        return each.pop() if len(each) == 1 else None

    def _ndim_of(self, value, seen):
        if isinstance(value, ir.Arg):
            kind = self.kinds[value.index]
            return kind.ndim if isinstance(kind, types.Array) else None
        if isinstance(value, ir.Var):
            return "again" if value.name in seen else self._ndim(value, seen)
        if not isinstance(value, ir.Expr):
            return None
        if value.op == "phi":
            each = {"again" if v.name in seen else self._ndim(v, seen) for v in value.incoming_values
                    if isinstance(v, ir.Var)} - {"again"}
            return each.pop() if len(each) == 1 else None
        if value.op == "getattr" and value.attr == "shape":
            return 1
        if value.op == "call":
            return self._ndim_of_call(value, seen)
        return None

    def _ndim_of_call(self, value, seen):
        function = resolved(self.definitions, value.func)
        if is_kind_of(function, CREATIONS) and value.args:
            shape = self._single(value.args[0])
            if isinstance(shape, ir.Expr) and shape.op == "build_tuple":
                return len(shape.items)
            return 1 if self._is_whole(value.args[0]) else None
        if is_kind_of(function, {np.empty_like, np.zeros_like, np.ones_like, np.copy}) and value.args:
            return self._ndim(value.args[0], seen)
        method = self._single(value.func)
        if function is None and isinstance(method, ir.Expr) and method.op == "getattr" and method.attr == "copy":
            return self._ndim(method.value, seen)
        return None

    def _is_range(self, variable) -> bool:
        """Whether a variable is what an iteration over a range gives."""
        found = self.definitions.get(variable.name, ())
        return bool(found) and all(self._gives_range(value) for value in found)

    def _gives_range(self, value) -> bool:
        if isinstance(value, ir.Var):
            return self._is_range(value)
        if isinstance(value, ir.Expr) and value.op in ("iternext", "getiter"):
            return self._is_range(value.value)
        return isinstance(value, ir.Expr) and value.op == "call" and resolved(self.definitions, value.func) is range

    def _follow_stores(self, value):
        """Where a call or an augmented assignment may put such numbers into an array."""
        if value.op == "inplace_binop" and value.rhs in self:
            self._mark_storage(value.lhs)
        if value.op == "call" and any(x in self for x in [*value.args, *(v for _, v in value.kws)]):
            method = self._single(value.func)
            if isinstance(method, ir.Expr) and method.op == "getattr" and resolved(self.definitions, value.func) is None:
                self._mark_storage(method.value)
            elif isinstance(resolved(self.definitions, value.func), Dispatcher):
                for variable in value.args:
                    if not self._is_list(variable) or may_write(resolved(self.definitions, value.func)):
                        self._mark_storage(variable)

    def _is_list(self, variable) -> bool:
        """Whether a variable is a list that this function has written out."""
        value = self._single(variable)
        if isinstance(value, ir.Var):
            return self._is_list(value)
        return isinstance(value, ir.Expr) and (value.op == "build_list" or any(map(self._is_list, repeated(value))))

    def _single(self, variable):
        found = self.definitions.get(variable.name, ())
        return found[0] if len(found) == 1 else None

    def _mark_storage(self, variable, always=False, seen=()):
        """Mark the array behind a variable, through views of it, if this function has created it."""
        if variable.name in seen:
            return False
        seen = (*seen, variable.name)
        found = always
        for value in self.definitions.get(variable.name, ()):
            if isinstance(value, ir.Var):
                found |= self._mark_storage(value, seen=seen)
            elif isinstance(value, ir.Expr):
                found |= self._mark_behind(value, seen)
                if self._makes(value) and self._single(variable) is value:
                    # An array of plain numbers so far, of which nobody else has the memory: a copy takes its place.
                    self.lifted.add(variable.name)
                    found = True
        if found:
            self.names.add(variable.name)
        return found

    def _makes(self, value) -> bool:
        """Whether a value, if it is an array, is in memory of its own."""
        if value.op in ("binop", "unary"):
            return True
        if value.op != "call":
            return False
        method = self._single(value.func)
        if resolved(self.definitions, value.func) is None and isinstance(method, ir.Expr) and method.op == "getattr":
            return method.attr in ("copy", "astype")
        return is_kind_of(resolved(self.definitions, value.func), MAKING)

    def _mark_behind(self, value, seen) -> bool:
        if value.op in ("getitem", "static_getitem", "getattr", "exhaust_iter"):
            return self._mark_storage(value.value, seen=seen)
        if value.op == "inplace_binop":
            return self._mark_storage(value.lhs, seen=seen)
        if value.op in ("phi", "build_tuple", "build_list"):
            variables = value.incoming_values if value.op == "phi" else value.items
            marked = [self._mark_storage(v, seen=seen) for v in variables if isinstance(v, ir.Var)]
            return any(marked) or (value.op == "build_list" and not any(self._is_integer(v) for v in variables))
        if repeated(value):
            return self._mark_storage(value.lhs, seen=seen) or self._mark_storage(value.rhs, seen=seen)
        if value.op == "call":
            if is_kind_of(resolved(self.definitions, value.func), CREATIONS):
                return True
            method = self._single(value.func)
            if isinstance(method, ir.Expr) and method.op == "getattr" and resolved(self.definitions, value.func) is None:
                return self._mark_storage(method.value, seen=seen)
        return False


    def _is_integer(self, variable) -> bool:
        value = self._single(variable)
        return isinstance(value, ir.Const) and isinstance(value.value, int)


def repeated(value) -> list:
    """What may be a list that is repeated, as in `[0.0] * 3`: operands of a product."""
    return [value.lhs, value.rhs] if value.op == "binop" and value.fn is operator.mul else []


def may_write(function, seen=()) -> bool:
    """Whether a jitted function, or one that it calls, may put something into an argument."""
    if function in seen:
        return False
    body = function.py_func
    for instruction in dis.get_instructions(body):
        name = instruction.argval
        if instruction.opname in ("STORE_SUBSCR", "STORE_SLICE") or name in ("append", "extend", "insert"):
            return True
        called = body.__globals__.get(name) if isinstance(name, str) else None
        if isinstance(called, Dispatcher) and may_write(called, (*seen, function)):
            return True
    return bool(body.__closure__)


def function_of(value, definitions):
    """(function, operands) of an expression that is an elementwise operation, or None."""
    if not isinstance(value, ir.Expr):
        return None
    if value.op in ("binop", "inplace_binop") and value.fn in ELEMENTWISE:
        return value.fn, [value.lhs, value.rhs]
    if value.op == "unary" and value.fn in ELEMENTWISE:
        return value.fn, [value.value]
    if value.op == "call" and not value.kws and value.vararg is None:
        function = resolved(definitions, value.func)
        if not is_kind_of(function, ELEMENTWISE):
            return None
        if function in (min, max) and len(value.args) < 2:
            return None
        if isinstance(function, np.ufunc) and len(value.args) != function.nin:
            return None
        if function is round and len(value.args) != 1:
            return None
        return function, list(value.args)
    return None
