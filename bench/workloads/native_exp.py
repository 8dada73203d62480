"""An exponential inside a fused loop, beside the exponential alone."""

import numpy as np

import tape
from bench.groups import NATIVE
from bench.race import Bound, Race
from bench.workload import Workload


def _shifted(x, y):
    return np.exp(x) + y


def _summed(x, y):
    return np.sum(np.exp(x) * y)


def _make(function):
    def make(quick):
        random = np.random.default_rng(0)
        args = (random.uniform(-10.0, 10.0, 64 if quick else 4096), random.uniform(0.5, 1.5, 64 if quick else 4096))
        compiled = tape.compile(function, *args)
        return Race(function, args, exact=lambda x, y: (np.exp(x),), derivative=lambda: compiled.value,
                    answer=lambda value: (value, None), free={"np.exp": lambda: np.exp(args[0])},
                    values={"NumPy": lambda: function(*args)}, bounds=(Bound("np.exp", times=1.0),))

    return make


WORKLOADS = [Workload("native-exp", "exp(x) + y, 4,096 numbers", _make(_shifted), NATIVE),
             Workload("native-exp-sum", "sum of exp(x) y, 4,096 numbers", _make(_summed), NATIVE)]
