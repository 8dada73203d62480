"""The one door upward: who records needs the rules, which enter themselves in the tables of `dispatch.py` when they are loaded."""

from __future__ import annotations

import functools
import importlib


@functools.cache
def load_rules() -> None:
    """Load the rules, unless they are; by name, as nothing here is to know them."""
    importlib.import_module("tape.rules")
