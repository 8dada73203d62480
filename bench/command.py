"""The command line: which parts run, in which order, and where their figures go. What they do is in the other modules."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib
import json
import pathlib
import sys
import time

from bench import contest, digits, environment, functions, peers, picture, race, table
from bench.groups import GROUPS, NATIVE, NJIT, NUMPY
from bench.verification import VerificationError
from bench.workloads import all_workloads
from compiled.announcing import announced
from compiled.sweeps import building
from tape import TapeError

NEEDED_ACCURACY = 0.97
ROUNDS, QUICK_ROUNDS = 15, 3
INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmarks; returns the exit status: 0, or 1 when a check failed, or 2 when something is missing."""
    for package in ("matplotlib", "sklearn", "tqdm"):
        try:
            importlib.import_module(package)
        except ImportError as error:
            print(f"python -m bench needs {error.name or package}, which cannot be imported ({error}): "
                  'pip install "wengert[bench]"', file=sys.stderr)
            return 2
    workloads = all_workloads()
    names = ["digits", *(w.name for w in workloads), "startup"]
    groups = {group.name: [w.name for w in workloads if w.group is group] for group in GROUPS}
    usual = ["digits", *(w.name for w in workloads if w.group.default), "startup"]
    options = _parser(names, groups, usual).parse_args(arguments)
    if options.list:
        print("\n".join([*names, *groups]))
        return 0
    report = {"first gradient": contest.first_gradient(), "environment": environment.environment()}
    with announced("the kernels of the sweeps, which some rows are about; once on this machine"):
        for _ in building.build(("float64",), ("forward", "reverse")):
            pass
    status = 0
    try:
        if "digits" in options.only:
            status |= _train(options, report)
        rows = [w for w in workloads if w.name in options.only]
        if rows or "startup" in options.only:
            status |= _compare(rows, options, report)
    except KeyboardInterrupt:
        print("interrupted: what was finished is kept", file=sys.stderr)
        status = INTERRUPTED
    if options.json:
        _write(options.json, report)
    return status


def _parser(names: list[str], groups: dict[str, list[str]], usual: list[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Trains a network on handwritten digits, then "
                                     "compares gradients: verified, and timed side by side with the peers that are installed.")

    def chosen(text):
        """Names that are, or begin with, the wanted ones, and those of the wanted groups."""
        found = []
        for wanted in text.split(","):
            fitting = [wanted] if wanted in names else groups.get(wanted)
            fitting = fitting or [name for name in names if wanted and name.startswith(wanted)]
            if not fitting:
                raise argparse.ArgumentTypeError(f"expected names among {', '.join([*names, *groups])}, got {wanted!r}")
            found += fitting
        return found

    default = digits.Settings()
    parser.add_argument("--only", metavar="NAME,...", type=chosen, default=usual,
                        help="only these: names, beginnings of names, or groups of workloads, as --list gives them "
                             "(default: all but the groups native and numpy, which take longer)")
    parser.add_argument("--list", action="store_true", help="print the names, then those of groups, and stop")
    parser.add_argument("--json", metavar="FILE", type=_file, help="keep all figures in this file")
    parser.add_argument("--quick", action="store_true", help="small sizes and few rounds: a check that everything runs")
    parser.add_argument("--no-peers", action="store_true", help="leave the other libraries out")
    parser.add_argument("--picture", metavar="FILE", type=_file, default=pathlib.Path("digits.png"),
                        help="where the loss curve goes (default: %(default)s)")
    group = parser.add_argument_group("the digits network")
    group.add_argument("--activation", choices=sorted(digits.ACTIVATIONS), default=default.activation)
    group.add_argument("--hidden", metavar="N,...", type=_widths, default=default.hidden,
                       help=f"widths (default: {','.join(map(str, default.hidden))})")
    group.add_argument("--dropout", metavar="RATE", type=_rate, default=default.dropout, help="(default: %(default)s)")
    group.add_argument("--epochs", metavar="N", type=_count, default=None, help=f"(default: {default.epochs})")
    return parser


def _file(text: str) -> pathlib.Path:
    """A file that can be written: found out now, and not when the figures are there."""
    path = pathlib.Path(text)
    if not path.absolute().parent.is_dir() or path.is_dir():
        raise argparse.ArgumentTypeError(f"expected a file in a folder that exists, got {text!r}")
    return path


def _count(text: str) -> int:
    if not text.strip().isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number above zero, got {text!r}")
    return int(text)


def _widths(text: str) -> tuple[int, ...]:
    return tuple(_count(part) for part in text.split(",") if part.strip())


def _rate(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0.0 <= float(text) < 1.0:
            return float(text)
    raise argparse.ArgumentTypeError(f"expected a number in [0, 1), got {text!r}")


def _train(options, report: dict) -> int:
    """Train, draw, print; returns 1 where the default settings fall short. Ctrl-C is passed on when everything is kept."""
    from tqdm import tqdm

    epochs = options.epochs or (2 if options.quick else digits.Settings.epochs)
    settings = digits.Settings(hidden=options.hidden, activation=options.activation, dropout=options.dropout, epochs=epochs)
    start = time.perf_counter()
    _, outcome = digits.train(settings, lambda epochs: tqdm(epochs, desc="digits", unit="epoch"))
    seconds = time.perf_counter() - start
    accuracy = outcome.accuracies[-1] if outcome.accuracies else 0.0
    passed = accuracy >= NEEDED_ACCURACY
    report["digits"] = {"settings": dataclasses.asdict(settings), "losses": outcome.losses, "accuracies": outcome.accuracies,
                        "seconds": seconds, "interrupted": outcome.interrupted, "passed": passed}
    if outcome.losses:
        picture.draw(outcome, settings, options.picture)
        print(f"digits: {len(outcome.losses)} epochs in {seconds:.1f} s, test accuracy {100 * accuracy:.2f} % "
              f"({'at least' if passed else 'BELOW'} {100 * NEEDED_ACCURACY:.0f} %), curve in {options.picture}")
    if outcome.interrupted:
        raise KeyboardInterrupt
    return int(settings == digits.Settings() and not passed)


def _compare(workloads, options, report: dict) -> int:
    """Measure and print; returns 1 where a gradient of ours is wrong or fails. After Ctrl-C what was measured is printed."""
    alone = options.no_peers or (workloads and all(workload.group is NUMPY for workload in workloads))
    report["imports"], failures = ({}, {}) if alone else peers.load()
    report["workloads"], report["startup"], report["compiler"], report["wrong"] = [], {}, {}, []
    try:
        _measure(workloads, options, report)
        if "startup" in options.only:
            report["startup"] = environment.startup()
    finally:
        start = table.start(report["startup"], report["imports"], report["compiler"])
        print("\n".join(filter(None, [table.header(report["environment"]), start,
                                      *(f"{name} cannot be used: {problem}" for name, problem in failures.items())])))
        for group in GROUPS:
            rows = [row for row in report["workloads"] if row["group"] == group.name]
            if rows:
                print(f"\n{group.printed(rows)}")
        for text in report["wrong"]:
            print(f"WRONG {text}", file=sys.stderr)
    return int(bool(report["wrong"]))


def _measure(workloads, options, report: dict) -> None:
    from tqdm import tqdm

    measures = {NATIVE: race.measure, NUMPY: functions.measure}
    if any(workload.group is NJIT for workload in workloads):
        report["compiler"] = contest.first_compilation()
    rounds = [_rounds(workload, options.quick) for workload in workloads]
    with tqdm(total=sum(rounds), unit="round", disable=not workloads) as bar:
        for number, workload in enumerate(workloads):
            bar.set_description(workload.name)
            measure = measures.get(workload.group, contest.measure)
            try:
                report["workloads"].append(measure(workload, rounds[number], options.quick, report["imports"], bar.update))
            except (VerificationError, TapeError) as error:
                report["wrong"].append(f"{workload.name}: {error}")
            bar.update(sum(rounds[: number + 1]) - bar.n)


def _rounds(workload, quick):
    if quick:
        return QUICK_ROUNDS
    return functions.ROUNDS if workload.group is NUMPY else ROUNDS


def _write(path: pathlib.Path, report: dict) -> None:
    """Write the figures, all or nothing."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(report, indent=1), encoding="utf-8")
    partial.replace(path)
