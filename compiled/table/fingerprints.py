"""What makes rows of the table tell apart: the content of their functions."""

from __future__ import annotations

from typing import Any


def code_content(rule) -> Any:
    """What a rule's bytecode says, without addresses: nested tuples of bytes, names and constants."""
    code = getattr(rule, "__code__", rule)
    if not hasattr(code, "co_code"):
        return repr(code) if isinstance(code, (int, float, str, tuple, type(None))) else getattr(rule, "__name__", "")
    cells = [code_content(cell.cell_contents) for cell in getattr(rule, "__closure__", None) or ()]
    return code.co_code, code.co_names, [code_content(constant) for constant in code.co_consts], cells
