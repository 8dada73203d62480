"""The workloads: every `WORKLOADS` list of the modules in this folder."""

import importlib
import pkgutil

from bench.workload import Workload


def all_workloads() -> list[Workload]:
    """Return the workloads of all modules here, in the order of the modules' names."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return [workload for name in names for workload in importlib.import_module(f"{__name__}.{name}").WORKLOADS]
