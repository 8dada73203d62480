"""The figures in print: Markdown tables. What is measured, and how, is in `contest.py` and `timing.py`."""

from __future__ import annotations

from bench import peers


def header(env: dict) -> str:
    """Return the lines above the tables."""
    versions = ", ".join(f"{name} {version}" for name, version in env["versions"].items() if version)
    machine = f"Python {env['python']}, {env['system']} {env['machine']}, {env['processor']}"
    return (f"{env['date']}, {machine}, {env['processors']} cores, one thread each\n{versions}\n"
            "Medians of one run, side by side, float64, gradients verified first; in brackets, how many times ours")


def start(seconds: dict, imports: dict) -> str:
    """Return the lines on how long a new process takes: ours cold and warm, where measured, and the peers' imports."""
    lines = []
    if seconds:
        lines.append(f"A new process: import tape {duration(seconds['import'])}, first gradient {duration(seconds['warm'])} "
                     f"with the kernels on disk, {duration(seconds['cold'])} where they compile (once for a machine)")
    if imports:
        lines.append("Imports: " + ", ".join(f"{name} {duration(s)}" for name, s in imports.items()))
    return "\n".join(lines)


def printed(rows: list[dict]) -> str:
    """Return two tables, of what each call costs and of what is paid once, and the footnotes."""
    names = [n for n in peers.NAMES if any(n in row["seconds"] for row in rows)]
    notes = [f"{row['name']}: {problem}" for row in rows for problem in row["problems"].values()]
    return "\n".join([*_aligned(_each_call(rows, names)), "", *_aligned(_once(rows)), *([""] if notes else []), *notes])


def _each_call(rows, names) -> list[list[str]]:
    lines = [["workload", "NumPy primal", "Numba primal", "tape value+gradient", "ratio to NumPy", *names]]
    for row in rows:
        seconds = row["seconds"]
        ours = seconds["tape"]
        jitted = duration(seconds["jitted"]) if "jitted" in seconds else "-"
        lines.append([row["title"], duration(seconds["primal"]), jitted, duration(ours), f"{ours / seconds['primal']:.1f}",
                      *(f"{duration(seconds[n])} ({seconds[n] / ours:.1f})" if n in seconds else "-" for n in names)])
    return lines


def _once(rows) -> list[list[str]]:
    names = [n for n in peers.NAMES if any(n in row["prepare"] for row in rows)]
    lines = [["paid once", "instructions", "tape forward", "tape record", *(f"{n} first call" for n in ["tape", *names])]]
    for row in rows:
        prepare = row["prepare"]
        lines.append([row["title"], str(row["instructions"]), duration(row["seconds"]["forward"]), duration(row["record"]),
                      duration(row["first"]), *(duration(prepare[n]) if n in prepare else "-" for n in names)])
    return lines


def _aligned(lines: list[list[str]]) -> list[str]:
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
