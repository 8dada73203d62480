"""Names that C takes: of functions, of their arguments and results."""

from __future__ import annotations

import inspect
import re

from tape.recording.containers import leaves_of

RESERVED_WORDS = (
    "alignas alignof and and_eq asm auto bitand bitor bool break case catch char class compl const "
    "constexpr const_cast continue decltype default delete do double dynamic_cast else enum explicit "
    "export extern false float for friend goto if inline int long mutable namespace new noexcept not "
    "not_eq nullptr operator or or_eq private protected public register reinterpret_cast restrict return "
    "short signed sizeof static static_assert static_cast struct switch template this thread_local throw "
    "true try typedef typeid typename typeof union unsigned using virtual void volatile wchar_t while xor "
    "xor_eq "
)
"""Words that are no names in C or C++."""


def c_name(function) -> str:
    """A name that C takes."""
    name = getattr(function, "__name__", type(function).__name__)
    name = re.sub(r"\W", "_", name, flags=re.ASCII).strip("_") or "f"
    return name if not name[0].isdigit() else f"f_{name}"


def leaf_names(function, args) -> list[str]:
    """Names in C of the leaves of the arguments."""
    try:
        names = list(inspect.signature(getattr(function, "py_func", function)).parameters)
    except (TypeError, ValueError):
        names = []
    names += [f"x{k}" for k in range(len(names), len(args))]
    result = []
    for name, argument in zip(names, args, strict=False):
        count = len(leaves_of(argument)[0])
        name = re.sub(r"\W", "_", name, flags=re.ASCII)
        result += [name if count == 1 else f"{name}_{k}" for k in range(count)]
    return result


def distinct_names(names) -> list[str]:
    """The names, changed where C reserves them or they stand there already."""
    reserved, result = RESERVED_WORDS.split(), []
    for name in names:
        while name in reserved or name in result:
            name += "_"
        result.append(name)
    return result
