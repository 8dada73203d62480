"""The table of gradient workloads: verified, timed side by side, printed, kept."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import time

import tape
from bench import peers
from bench.timing import side_by_side
from bench.workload import VerificationError, Workload, verify_ours, verify_peer

PACKAGES = ("numba", "numpy", "scipy", *peers.NAMES)


def measure(workload: Workload, rounds: int, quick: bool, with_peers: bool = True) -> dict:
    """Verify and time one workload.

    Returns
    -------
    dict
        "seconds": median seconds of a call of "primal", "tape" and each peer that is installed and can do it; "record" and
        "prepare": seconds of our first call and of each peer's first (recording, tracing, compiling); "problems": why a
        peer has no figure; "instructions": length of our list.

    Raises
    ------
    VerificationError
        When our own gradient is wrong.
    """
    case = workload.make(quick)
    start = time.perf_counter()
    ours = case.ours()
    _, gradient = ours()
    record = time.perf_counter() - start
    verify_ours(case, gradient)
    contestants, prepare, problems = {"primal": case.primal, "tape": ours}, {}, {}
    for name in peers.installed() if with_peers else []:
        if name not in case.peers:
            continue
        try:
            start = time.perf_counter()
            run = case.peers[name]()
            theirs = run()
            prepare[name] = time.perf_counter() - start
            verify_peer(case, name, gradient, theirs)
            contestants[name] = run
        except VerificationError as error:
            problems[name] = str(error)
        except Exception as error:  # a peer's failure is a footnote, whatever it is
            problems[name] = f"{name}: {type(error).__name__}: {error}".splitlines()[0][:200]
    return {
        "name": workload.name, "title": workload.title, "seconds": side_by_side(contestants, rounds), "record": record,
        "prepare": prepare, "problems": problems, "instructions": len(tape.record(case.function, *case.args)),
    }


def first_gradient() -> float:
    """Return the seconds of the first gradient in this process: loading the kernels, or compiling them."""
    start = time.perf_counter()
    tape.grad(lambda x: x * x)(1.0)
    return time.perf_counter() - start


def environment() -> dict:
    """Return date, machine, versions and thread counts."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "date": datetime.date.today().isoformat(), "python": platform.python_version(), "system": platform.system(),
        "machine": platform.machine(), "processor": _processor(), "processors": os.cpu_count(), "threads": 1,
        "versions": versions,
    }


def _processor() -> str:
    """Name of the processor, where the system tells."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def header(env: dict) -> str:
    """Return the lines above the table."""
    versions = ", ".join(f"{name} {version}" for name, version in env["versions"].items() if version)
    machine = f"Python {env['python']}, {env['system']} {env['machine']}, {env['processor']}, one thread"
    return (f"{env['date']}, {machine}\n{versions}\n"
            "Medians of one run, side by side, gradients verified first; a peer's column: its time, and how many times ours")


def printed(rows: list[dict]) -> str:
    """Return the table as text in Markdown."""
    names = [n for n in peers.NAMES if any(n in row["seconds"] for row in rows)]
    titles = ["workload", "NumPy primal", "tape value+gradient", "ratio", *names, "instructions", "record",
              *(f"{n} prepare" for n in names)]
    lines = [titles, ["---"] * len(titles)]
    for row in rows:
        seconds = row["seconds"]
        ours = seconds["tape"]
        cells = [row["title"], duration(seconds["primal"]), duration(ours), f"{ours / seconds['primal']:.1f}"]
        cells += [f"{duration(seconds[n])} ({seconds[n] / ours:.1f} x)" if n in seconds else "-" for n in names]
        cells += [str(row["instructions"]), duration(row["record"])]
        cells += [duration(row["prepare"][n]) if n in row["prepare"] else "-" for n in names]
        lines.append(cells)
    widths = [max(len(line[k]) for line in lines) for k in range(len(titles))]
    text = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines]
    notes = [f"{row['name']}: {problem}" for row in rows for problem in row["problems"].values()]
    return "\n".join(text + notes)


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
