"""Automatic differentiation for people who compute with NumPy and Numba.

>>> import numpy as np, tape
>>> tape.grad(lambda x: np.sum(np.sin(x) * x))(np.array([0.0, 1.0])).round(4)
array([0.    , 1.3818])
"""

from tape import scipy
from tape.batch import batch
from tape.calls import TracedOperation
from tape.checking import check_grads
from tape.control import dropout
from tape.draw import draw_gradients, gradient_norms
from tape.eager import EagerVariable, no_grad, variable
from tape.errors import (
    CapacityError,
    GuardFailed,
    InvalidTape,
    NotDifferentiable,
    TapeError,
    UndefinedGradient,
    UndefinedGradientWarning,
)
from tape.functions import relu, sigmoid, softplus
from tape.gradients import grad, stop_gradient, value_and_grad
from tape.graph import Operation
from tape.jacobians import hessian, jacobian
from tape.jitted import workspace_limit
from tape.loops import cond, fori, while_loop
from tape.native import Compiled, compile
from tape.operations import JittedOperation, checkpoint, operation, scan
from tape.products import hessian_operator, hvp, jvp, vjp
from tape.recorder import memory_limit
from tape.report import Report
from tape.rules import (  # noqa: F401 (they register what they record)
    arrays,
    assembling,
    counting,
    cumulative,
    elementwise,
    linear_algebra,
    making,
    nan_reductions,
    polynomials,
    quantiles,
    reductions,
    sorting,
    ufuncs,
    writing,
)
from tape.rules.reductions import logsumexp
from tape.strictness import strict
from tape.tape import Tape, load, record
from tape.tracing import RecordedArray

__all__ = [
    "CapacityError", "Compiled", "EagerVariable", "GuardFailed", "InvalidTape", "JittedOperation", "NotDifferentiable",
    "Operation", "RecordedArray", "Report", "Tape", "TapeError", "TracedOperation", "UndefinedGradient",
    "UndefinedGradientWarning", "batch", "check_grads", "checkpoint", "compile", "cond", "draw_gradients", "dropout", "fori",
    "grad", "gradient_norms", "hessian", "hessian_operator", "hvp", "jacobian", "jvp", "load", "logsumexp", "memory_limit",
    "no_grad", "operation", "record", "relu", "scan", "scipy", "sigmoid", "softplus", "stop_gradient", "strict",
    "value_and_grad", "variable", "vjp", "while_loop", "workspace_limit",
]
