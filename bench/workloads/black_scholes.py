"""Prices of 1,000 call options by Black and Scholes, one after the other; the gradient for spot prices and volatilities."""

import math

import numpy as np
from numba import njit
from scipy.stats import norm

from bench.groups import NJIT
from bench.peers import with_jax
from bench.workload import Case, Limit, Workload

RATE = 0.03


def price(spot, strike, expiry, volatility):
    """Sum of the prices."""
    total = 0.0
    for k in range(len(spot)):
        deviation = volatility[k] * math.sqrt(expiry[k])
        upper = math.log(spot[k] / strike[k]) / deviation + RATE * expiry[k] / deviation + 0.5 * deviation
        lower = upper - deviation
        discounted = strike[k] * math.exp(-RATE * expiry[k])
        total += 0.5 * spot[k] * (1.0 + math.erf(upper / math.sqrt(2.0)))
        total -= 0.5 * discounted * (1.0 + math.erf(lower / math.sqrt(2.0)))
    return total


def _gradient(spot, strike, expiry, volatility):
    """Delta and vega."""
    deviation = volatility * np.sqrt(expiry)
    upper = (np.log(spot / strike) + RATE * expiry) / deviation + 0.5 * deviation
    return norm.cdf(upper), spot * norm.pdf(upper) * np.sqrt(expiry)


def _jax(np, spot, strike, expiry, volatility):
    from bench.peers import jax

    erf = jax().scipy.special.erf
    deviation = volatility * np.sqrt(expiry)
    upper = (np.log(spot / strike) + RATE * expiry) / deviation + 0.5 * deviation
    first = 0.5 * spot * (1.0 + erf(upper / math.sqrt(2.0)))
    second = 0.5 * strike * np.exp(-RATE * expiry) * (1.0 + erf((upper - deviation) / math.sqrt(2.0)))
    return np.sum(first - second)


def _make(quick):
    count = 50 if quick else 1_000
    random = np.random.default_rng(0)
    args = tuple(random.uniform(low, high, count) for low, high in ((80, 120), (80, 120), (0.2, 2.0), (0.1, 0.4)))
    return Case(njit(price), args, (0, 3), exact=_gradient, peers={"jax": with_jax(_jax, args, (0, 3))})


WORKLOADS = [Workload("black-scholes", "Black-Scholes, 1,000 options", _make, NJIT, Limit(3.0))]
