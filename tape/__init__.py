"""Automatic differentiation for people who compute with NumPy and Numba.

>>> import numpy as np, tape
>>> tape.grad(lambda x: np.sum(np.sin(x) * x))(np.array([0.0, 1.0])).round(4)
array([0.    , 1.3818])
"""

import importlib
import typing

from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target

if typing.TYPE_CHECKING:  # for type checkers; what is imported when stands below
    from tape import dask, scipy
    from tape.control.loops import cond, fori, while_loop
    from tape.control.operations import JittedOperation, checkpoint, operation, scan
    from tape.derivatives.checking import check_grads
    from tape.derivatives.fitting import curve_fit_jac
    from tape.derivatives.gradients import grad, value_and_grad
    from tape.derivatives.jacobians import hessian, jacobian
    from tape.derivatives.nopython import jvp, vjp
    from tape.derivatives.products import hessian_operator, hvp, linearize
    from tape.draw import draw_gradients, gradient_norms
    from tape.eager.variables import EagerVariable, no_grad, variable
    from tape.errors import (
        CapacityError,
        GuardFailed,
        InvalidTape,
        NotDifferentiable,
        TapeError,
        UndefinedGradient,
        UndefinedGradientWarning,
        WorkspaceCapacityError,
    )
    from tape.jitted.derivatives import workspace_limit
    from tape.native.batch import batch
    from tape.native.compiled import Compiled, compile
    from tape.recording.arrays import RecordedArray, stop_gradient
    from tape.recording.recorder import memory_limit
    from tape.reports.profile import Profile
    from tape.reports.report import Report
    from tape.reports.strictness import strict
    from tape.rules.batch_norm import batch_norm
    from tape.rules.calls import TracedOperation
    from tape.rules.dropout import dropout
    from tape.rules.functions import relu, sigmoid, softplus
    from tape.rules.ravelling import ravel
    from tape.rules.reductions import logsumexp
    from tape.rules.windows import avg_pool, conv, max_pool
    from tape.tapes.graph import Operation
    from tape.tapes.record import load, record
    from tape.tapes.tape import Tape

__version__ = "0.1.0"  # the one place: setup.cfg reads it here

_PLACES = {
    "control.loops": "cond fori while_loop",
    "control.operations": "JittedOperation checkpoint operation scan",
    "derivatives.checking": "check_grads",
    "derivatives.fitting": "curve_fit_jac",
    "derivatives.gradients": "grad value_and_grad",
    "derivatives.jacobians": "hessian jacobian",
    "derivatives.nopython": "jvp vjp",
    "derivatives.products": "hessian_operator hvp linearize",
    "draw": "draw_gradients gradient_norms",
    "eager.variables": "EagerVariable no_grad variable",
    "errors": "CapacityError GuardFailed InvalidTape NotDifferentiable TapeError UndefinedGradient UndefinedGradientWarning "
              "WorkspaceCapacityError",
    "jitted.derivatives": "workspace_limit",
    "native.batch": "batch",
    "native.compiled": "Compiled compile",
    "recording.arrays": "RecordedArray stop_gradient",
    "recording.recorder": "memory_limit",
    "reports.profile": "Profile",
    "reports.report": "Report",
    "reports.strictness": "strict",
    "rules.batch_norm": "batch_norm",
    "rules.calls": "TracedOperation",
    "rules.dropout": "dropout",
    "rules.functions": "relu sigmoid softplus",
    "rules.ravelling": "ravel",
    "rules.reductions": "logsumexp",
    "rules.windows": "avg_pool conv max_pool",
    "tapes.graph": "Operation",
    "tapes.record": "load record",
    "tapes.tape": "Tape",
}
"""The modules that the public names are in. Each loads when a name of it is first used: `import tape` alone takes no time."""

_MODULE_OF = {name: module for module, names in _PLACES.items() for name in names.split()}

__all__ = [
    "CapacityError", "Compiled", "EagerVariable", "GuardFailed", "InvalidTape", "JittedOperation", "NotDifferentiable",
    "Operation", "Profile", "RecordedArray", "Report", "Tape", "TapeError", "TracedOperation", "UndefinedGradient",
    "UndefinedGradientWarning", "WorkspaceCapacityError", "__version__", "avg_pool", "batch", "batch_norm", "check_grads",
    "checkpoint", "compile", "cond", "conv", "curve_fit_jac", "dask", "draw_gradients", "dropout", "fori", "grad",
    "gradient_norms", "hessian", "hessian_operator", "hvp", "jacobian", "jvp", "linearize", "load", "logsumexp", "max_pool",
    "memory_limit", "no_grad", "operation", "ravel", "record", "relu", "scan", "scipy", "sigmoid", "softplus", "stop_gradient",
    "strict", "value_and_grad", "variable", "vjp", "while_loop", "workspace_limit",
]


if not typing.TYPE_CHECKING:  # for type checkers there are no other names than those above

    def __getattr__(name):
        if name in ("dask", "scipy"):
            return importlib.import_module(f"{__name__}.{name}")
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = found = getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
        if global_compiler_lock.is_locked():  # Numba asks, which has looked at what is registered before it came here
            cpu_target.typing_context.refresh()
        return found


def __dir__() -> list[str]:
    """The public names, without the rooms of the house that importing them brings along."""
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
