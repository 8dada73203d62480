"""Jacobians in the form in which SciPy's `curve_fit` asks for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tape import jitted
from tape.derivatives.jacobians import jacobian
from tape.errors import NotDifferentiable


def curve_fit_jac(model: Callable[..., Any]) -> Callable[..., np.ndarray[Any, Any]]:
    """Make the Jacobian of a model for ``scipy.optimize.curve_fit(model, x, y, jac=...)``.

    Parameters
    ----------
    model : callable
        ``model(x, *parameters)``, NumPy code or a jitted function, of data and of numbers; returns an array with one axis.

    Returns
    -------
    callable
        ``jac(x, *parameters)``: ndarray(float, shape (len(model), number of parameters)). Parameters may be integers, which are
        taken as floats.

    Raises
    ------
    NotDifferentiable
        When called: as `tape.jacobian`, without parameters, or if the model's result has not one axis.

    Examples
    --------
    >>> import numpy as np, tape
    >>> from scipy.optimize import curve_fit
    >>> decay = lambda t, a, rate: a * np.exp(-rate * t)
    >>> t = np.linspace(0.0, 2.0, 20)
    >>> best, covariance = curve_fit(decay, t, decay(t, 3.0, 1.5), p0=[1, 1], jac=tape.curve_fit_jac(decay))
    >>> best.round(6)
    array([3. , 1.5])
    """
    if jitted.is_jitted(model):
        return lambda x, *parameters: _checked(model, [
            jacobian(model, k)(x, *map(float, parameters)) for k in range(1, len(parameters) + 1)])

    def of_vector(x, parameters):
        return model(x, *parameters)

    by_vector = jacobian(of_vector, argnums=1)

    def jac(x, *parameters):
        matrix = by_vector(x, np.array(parameters, float)) if parameters else np.zeros(0)
        return _checked(model, np.moveaxis(matrix, -1, 0))

    return jac


def _checked(model, columns):
    """The matrix of these columns."""
    name = getattr(model, "__name__", type(model).__name__)
    if not len(columns):
        raise NotDifferentiable(f"tape.curve_fit_jac: expected parameters after x, got none for {name}")
    if columns[0].ndim != 1:
        raise NotDifferentiable(f"tape.curve_fit_jac: expected {name} to return an array with one axis, got one of shape "
                                f"{columns[0].shape}")
    return np.stack(columns, axis=1)
