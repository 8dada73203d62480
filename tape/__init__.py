"""Automatic differentiation for people who compute with NumPy and Numba.

>>> import numpy as np, tape
>>> tape.grad(lambda x: np.sum(np.sin(x) * x))(np.array([0.0, 1.0])).round(4)
array([0.    , 1.3818])
"""

from tape import scipy
from tape.control.loops import cond, fori, while_loop
from tape.control.operations import JittedOperation, checkpoint, operation, scan
from tape.derivatives.checking import check_grads
from tape.derivatives.fitting import curve_fit_jac
from tape.derivatives.gradients import grad, value_and_grad
from tape.derivatives.jacobians import hessian, jacobian
from tape.derivatives.products import hessian_operator, hvp, jvp, linearize, vjp
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
from tape.reports.report import Report
from tape.reports.strictness import strict
from tape.rules import (  # noqa: F401 (they register what they record)
    arrays,
    assembling,
    counting,
    cumulative,
    elementwise,
    labelled,
    linear_algebra,
    making,
    nan_reductions,
    polynomials,
    quantiles,
    reductions,
    sorting,
    sparse_matrices,
    ufuncs,
    writing,
)
from tape.rules.calls import TracedOperation
from tape.rules.dropout import dropout
from tape.rules.functions import relu, sigmoid, softplus
from tape.rules.ravelling import ravel
from tape.rules.reductions import logsumexp
from tape.tapes.graph import Operation
from tape.tapes.record import load, record
from tape.tapes.tape import Tape

__version__ = "0.1.0"  # the one place: setup.cfg reads it here

__all__ = [
    "CapacityError", "Compiled", "EagerVariable", "GuardFailed", "InvalidTape", "JittedOperation", "NotDifferentiable",
    "Operation", "RecordedArray", "Report", "Tape", "TapeError", "TracedOperation", "UndefinedGradient",
    "UndefinedGradientWarning", "WorkspaceCapacityError", "__version__", "batch", "check_grads", "checkpoint", "compile",
    "cond", "curve_fit_jac", "draw_gradients", "dropout", "fori", "grad", "gradient_norms", "hessian", "hessian_operator",
    "hvp", "jacobian", "jvp", "linearize", "load", "logsumexp", "memory_limit", "no_grad", "operation", "ravel", "record",
    "relu", "scan", "scipy", "sigmoid", "softplus", "stop_gradient", "strict", "value_and_grad", "variable", "vjp",
    "while_loop", "workspace_limit",
]


def __dir__() -> list[str]:
    """The public names, without the rooms of the house that importing them brings along."""
    return [name for name in globals() if name in __all__ or name.startswith("__")]
