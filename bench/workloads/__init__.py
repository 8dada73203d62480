"""The workloads: every `WORKLOADS` list of the modules in this folder."""

import importlib
import pkgutil

from bench.groups import GROUPS
from bench.workload import Workload


def all_workloads() -> list[Workload]:
    """Return the workloads of all modules here, by groups, in each in the order of the modules' names."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    found = [workload for name in names for workload in importlib.import_module(f"{__name__}.{name}").WORKLOADS]
    return sorted(found, key=lambda workload: GROUPS.index(workload.group))
