"""How a user's jitted function is prepared for numbers that carry derivatives: passes over Numba's IR before type inference.

The function that they make of it is its twin. What is not here: what is done to its statements (`statements.py`).
"""

from __future__ import annotations

import weakref

from numba.core import types
from numba.core.compiler import CompilerBase, DefaultPassBuilder, run_frontend
from numba.core.compiler_machinery import FunctionPass, register_pass
from numba.core.dispatcher import Dispatcher
from numba.core.ir_utils import build_definitions, merge_adjacent_blocks
from numba.core.registry import CPUDispatcher
from numba.core.untyped_passes import DeadBranchPrune, InlineInlinables, ReconstructSSA

from compiled.active.reach import Reach, resolved
from compiled.active.statements import Rewriter, unpack_tuples
from compiled.active.types import depth, differential_of, with_bottom

_twins: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()
KEPT_OPTIONS = ("error_model", "boundscheck")
"""Options of the user's function that its twin has too.

Not `fastmath`: Numba gives its flags to every instruction of a module, so to our kernels, whose corrections of rounding errors
they allow LLVM to drop, and to partials, which compare with NaN and infinity.
"""


def options_of(dispatcher) -> dict:
    """The options that decide what a jitted function computes, and that its twin has too."""
    return {name: dispatcher.targetoptions.get(name) for name in KEPT_OPTIONS}


def twin(dispatcher):
    """The jitted function compiled by the passes of this file."""
    if getattr(dispatcher, "is_twin", False):
        return dispatcher
    found = _twins.get(dispatcher)
    if found is None:
        options = {k: v for k, v in options_of(dispatcher).items() if v is not None}
        # Nobody calls a twin from Python.
        options |= {"nopython": True, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
        found = CPUDispatcher(dispatcher.py_func, locals=dict(dispatcher.locals), targetoptions=options,
                              pipeline_class=DifferentialCompiler)
        found.is_twin, found.original = True, dispatcher
        _twins[dispatcher] = found
    return found


def original_of(dispatcher):
    """The user's function that a dispatcher is, or is the twin of."""
    return dispatcher.original if getattr(dispatcher, "is_twin", False) else dispatcher


class DifferentialCompiler(CompilerBase):
    """Numba's pipeline, with the pass of this file before type inference."""

    def define_pipelines(self):
        manager = DefaultPassBuilder.define_nopython_pipeline(self.state)
        manager.add_pass_after(InlineSmallFunctions, InlineInlinables)
        manager.add_pass_after(PrepareStatements, ReconstructSSA)
        # Numba prunes once more here, by conditions that look like its own: what our pass leaves of them does not.
        manager.add_pass_after(DeadBranchPrune, ReconstructSSA)
        manager.finalize()
        return [manager]


@register_pass(mutates_CFG=True, analysis_only=False)
class InlineSmallFunctions(InlineInlinables):
    """Inlines jitted functions without loops and branches, so that their operations join the caller's statements."""

    _name = "tape_inline_small_functions"

    MOST_STATEMENTS = 100
    """Of Numba's IR; a line of arithmetic has about ten."""

    def run_pass(self, state):
        if not any(map(differential_of, state.args)):
            return False
        state.func_ir._definitions = build_definitions(state.func_ir.blocks)
        ssa = state.flags.enable_ssa
        try:
            super().run_pass(state)
            merge_adjacent_blocks(state.func_ir.blocks)
            return True
        finally:
            state.flags.enable_ssa = ssa  # inlining switches it off

    @staticmethod
    def _computes_as(function, flags) -> bool:
        """Whether a function would be compiled with the options that hold here, as one that has none inherits them."""
        return all(value in (None, getattr(flags, name)) for name, value in options_of(function).items())

    def _do_work(self, state, work_list, block, i, expr, inline_worker):
        if expr.vararg is not None:
            return False
        function = resolved(state.func_ir._definitions, expr.func)
        if not isinstance(function, Dispatcher) or function.locals or not self._computes_as(function, state.flags):
            return False
        body = run_frontend(function.py_func)
        if len(body.blocks) != 1 or len(next(iter(body.blocks.values())).body) > self.MOST_STATEMENTS:
            return False
        _, _, _, blocks = inline_worker.inline_function(state.func_ir, block, i, function.py_func)
        work_list.extend(blocks)
        state.func_ir._definitions = build_definitions(state.func_ir.blocks)
        return True


@register_pass(mutates_CFG=False, analysis_only=False)
class PrepareStatements(FunctionPass):
    """The pass."""

    _name = "tape_prepare_statements"

    def __init__(self):
        FunctionPass.__init__(self)

    def run_pass(self, state):
        kinds = [d for d in map(differential_of, state.args) if d is not None]
        if not kinds:
            return False
        function = state.func_ir
        unpack_tuples(function)
        definitions = build_definitions(function.blocks)
        reach = Reach(function, definitions, state.args)
        kind = max(kinds, key=depth)
        Rewriter(function, definitions, reach, kind, set(state.locals), twin).run()
        state.locals = {name: with_bottom(kind, declared) if name in reach.names and isinstance(declared, types.Float)
                        else declared for name, declared in state.locals.items()}
        function._definitions = build_definitions(function.blocks)
        return True
