"""The errors and warnings of the public interface."""

from compiled.errors import CapacityError, GuardFailed, InvalidTape, TapeError, WorkspaceCapacityError

__all__ = ["CapacityError", "GuardFailed", "InvalidTape", "NotDifferentiable", "TapeError", "UndefinedGradient",
           "UndefinedGradientWarning", "WorkspaceCapacityError"]


class NotDifferentiable(TapeError, TypeError):
    """No derivative can be taken through this; the message names the function and an alternative."""

    __module__ = "tape"


class UndefinedGradient(TapeError, ArithmeticError):
    """The derivative is not defined at the point, inside `tape.strict`; the message names operation, operands and line."""

    __module__ = "tape"


class UndefinedGradientWarning(RuntimeWarning):
    """The derivative is not defined at the point; what is returned is infinite or NaN. See `tape.strict`."""

    __module__ = "tape"
