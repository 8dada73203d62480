"""The figures in print: Markdown tables. What is measured, and how, is in `contest.py` and `timing.py`."""

from __future__ import annotations

import statistics

from bench import peers


def header(env: dict) -> str:
    """Return the lines above the tables."""
    versions = ", ".join(f"{name} {version}" for name, version in env["versions"].items() if version)
    machine = f"Python {env['python']}, {env['system']} {env['machine']}, {env['processor']}"
    return (f"{env['date']}, {machine}, {env['processors']} cores, one thread each\n{versions}\n"
            "Medians of one run, side by side, float64, gradients verified first")


def start(seconds: dict, imports: dict, compiler: dict) -> str:
    """Return the lines on how long a new process takes: ours cold and warm and Numba's compiler, where measured, and the
    peers' imports."""
    lines = []
    if seconds:
        lines.append(f"A new process: import tape {duration(seconds['import'])}, first gradient {duration(seconds['cold'])}, "
                     f"or {duration(seconds['warm'])} where its machine code is on disk")
    if compiler:
        lines.append(f"The first jitted function in this process: {duration(compiler['primal'])} to compile, its gradient "
                     f"{duration(compiler['derivative'])}; not in the figures of the later ones")
    if imports:
        lines.append("Imports: " + ", ".join(f"{name} {duration(s)}" for name, s in imports.items()))
    return "\n".join(lines)


def recorded(rows: list[dict]) -> list[list[list[str]]]:
    """Return the tables of functions that are recorded: what each call costs, and what is paid once."""
    return [_each_call(rows), _once(rows)]


def jitted(rows: list[dict]) -> list[list[list[str]]]:
    """Return the tables of jitted functions: what each call costs, and what compiling costs."""
    return [_each_jitted_call(rows), _compiling(rows)]


def native(rows: list[dict]) -> list[list[list[str]]]:
    """Return the table of native code: a line for each limit and for each contestant without one."""
    lines = [["workload", "tape", "beside", "its time", "ratio", "limit", ""]]
    for row in rows:
        seconds, title = row["seconds"], row["title"]
        if not seconds:
            lines.append([title, *["-"] * 5, "not measured"])
        ours = duration(seconds["tape"]) if seconds else "-"
        for bound in row["bounds"]:
            verdict = {True: "met", False: "NOT MET", None: "no figure"}[bound["met"]]
            than = bound["than"]
            lines.append([title, ours, than or "-", _found(seconds, than), bound["ratio"], bound["text"], verdict])
        limited = {"tape", *(bound["than"] for bound in row["bounds"])}
        lines += [[title, ours, name, duration(theirs), f"{seconds['tape'] / theirs:.2f} x", "-", ""]
                  for name, theirs in seconds.items() if name not in limited]
    return [lines]


FUNCTION_COLUMNS = ("native forward", "native backward", "sweeps forward", "sweeps backward", "eager")


def functions(rows: list[dict]) -> list[list[list[str]]]:
    """Return the tables of NumPy's functions: each one's times, and how many of them keep the limits."""
    lines = [["function", "NumPy", *FUNCTION_COLUMNS]]
    for row in rows:
        ours = [_beside_numpy(row, name) for name in FUNCTION_COLUMNS]
        lines.append([row["title"], duration(row["seconds"]["numpy"]), *ours])
    kept = [sum(name not in row["over"] for row in rows) for name in FUNCTION_COLUMNS]
    within = ["within the limit", *(f"{count} of {len(rows)}" for count in kept)]
    ratios = [[row["seconds"][name] / row["seconds"]["numpy"] for row in rows] for name in FUNCTION_COLUMNS]
    median = ["median ratio", *(f"{statistics.median(each):.2f}" for each in ratios)]
    return [lines, [["", *FUNCTION_COLUMNS], within, median]]


def _beside_numpy(row, name) -> str:
    seconds, over = row["seconds"], ", OVER" if name in row["over"] else ""
    return f"{duration(seconds[name])} ({seconds[name] / seconds['numpy']:.2f}{over})"


def _each_call(rows) -> list[list[str]]:
    names = _peers(rows, "seconds")
    lines = [["workload", "NumPy primal", "Numba primal", "tape value+gradient", "ratio to NumPy", *names]]
    for row in rows:
        seconds = row["seconds"]
        ours = seconds["tape"]
        lines.append([row["title"], duration(seconds["primal"]), _found(seconds, "jitted"), duration(ours),
                      f"{ours / seconds['primal']:.1f}",
                      *(f"{duration(seconds[n])} ({seconds[n] / ours:.1f})" if n in seconds else "-" for n in names)])
    return lines


def _once(rows) -> list[list[str]]:
    names = _peers(rows, "prepare")
    lines = [["paid once", "instructions", "tape forward", "tape record", *(f"{n} first call" for n in ["tape", *names])]]
    for row in rows:
        lines.append([row["title"], str(row["instructions"]), duration(row["seconds"]["forward"]), duration(row["record"]),
                      duration(row["first"]), *(_found(row["prepare"], n) for n in names)])
    return lines


def _each_jitted_call(rows) -> list[list[str]]:
    names = _peers(rows, "seconds")
    lines = [["workload", "jitted primal", "tape value+gradient", "ratio", "limit",
              *(cell for n in names for cell in (n, f"{n} ratio"))]]
    for row in rows:
        seconds = row["seconds"]
        primal = seconds["primal"]
        lines.append([row["title"], duration(primal), *_limited(seconds["tape"], primal, row["limit"])])
        for n in names:
            lines[-1] += [duration(seconds[n]), f"{seconds[n] / primal:.1f}"] if n in seconds else ["-", "-"]
    return lines


def _compiling(rows) -> list[list[str]]:
    names = _peers(rows, "prepare")
    lines = [["paid once", "primal compiles", "value+gradient compiles", "ratio", "limit", *(f"{n} first call" for n in names)]]
    for row in rows:
        lines.append([row["title"], duration(row["compile"]), *_limited(row["first"], row["compile"], row["compile limit"]),
                      *(_found(row["prepare"], n) for n in names)])
    return lines


def _limited(seconds, primal, limit) -> list[str]:
    """A time, its ratio to the primal's and what limits it."""
    over = " (OVER)" if limit and seconds > limit["seconds"] else ""
    return [duration(seconds), f"{seconds / primal:.1f}", f"{limit['text']}{over}" if limit else "-"]


def _peers(rows, key) -> list[str]:
    """Those that have a figure in some row."""
    return [n for n in peers.NAMES if any(n in row[key] for row in rows)]


def _found(seconds, name) -> str:
    return duration(seconds[name]) if name in seconds else "-"


def aligned(lines: list[list[str]]) -> list[str]:
    """Return the lines of a Markdown table; the first are its headings."""
    lines = [lines[0], ["---"] * len(lines[0]), *lines[1:]]
    widths = [max(len(line[k]) for line in lines) for k in range(len(lines[0]))]
    return ["| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines]


def duration(seconds: float) -> str:
    """Return a time in the unit that suits it.

    Examples
    --------
    >>> duration(4.2e-6), duration(0.0315), duration(2.0)
    ('4.2 us', '31.5 ms', '2.0 s')
    """
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds * 1e9:.0f} ns"
