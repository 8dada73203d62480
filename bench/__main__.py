"""`python -m bench`: trains the digits network, then prints the table of gradient workloads."""

from __future__ import annotations

import os

# One thread for everybody, said before any of them is imported.
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"):
    os.environ.setdefault(_variable, "1")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

import argparse
import dataclasses
import json
import pathlib
import sys
import time

NEEDED_ACCURACY = 0.97
DIGITS = "digits"


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmarks; returns the exit status."""
    try:
        import matplotlib  # noqa: F401
        import sklearn  # noqa: F401
        import tqdm  # noqa: F401
    except ImportError as error:
        print(f"python -m bench needs {error.name}; pip install \"wengert[bench]\"", file=sys.stderr)
        return 2
    from bench.table import first_gradient
    from bench.workloads import all_workloads

    workloads = all_workloads()
    options = _parser(workloads).parse_args(arguments)
    names = [DIGITS, *(w.name for w in workloads)]
    if options.list:
        print("\n".join(names))
        return 0
    chosen = _chosen(options.only, names)
    report, failed = {"kernels": first_gradient()}, False
    try:
        if DIGITS in chosen:
            report["digits"] = _train(options)
            failed = not (report["digits"]["passed"] or options.quick)
        rows = [w for w in workloads if w.name in chosen]
        if rows:
            failed = _measure(rows, options, report) or failed
    except KeyboardInterrupt:
        print("\ninterrupted: what was finished is kept", file=sys.stderr)
        failed = True
    if options.json:
        _write(options.json, report)
    return int(failed)


def _parser(workloads) -> argparse.ArgumentParser:
    from bench.digits import ACTIVATIONS, Settings

    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", metavar="NAME,...", help="only these: names, or beginnings of names, as --list gives them")
    parser.add_argument("--list", action="store_true", help="print the names and stop")
    parser.add_argument("--json", metavar="FILE", type=pathlib.Path, help="keep all figures in this file")
    parser.add_argument("--quick", action="store_true", help="small sizes and few rounds: a check that everything runs")
    parser.add_argument("--no-peers", action="store_true", help="leave the other libraries out")
    parser.add_argument("--picture", metavar="FILE", type=pathlib.Path, default=pathlib.Path("digits.png"),
                        help="where the loss curve goes (default: %(default)s)")
    group = parser.add_argument_group("the digits network")
    group.add_argument("--activation", choices=sorted(ACTIVATIONS), default=Settings.activation)
    group.add_argument("--hidden", metavar="N,...", default=",".join(map(str, Settings.hidden)),
                       help="widths (default: %(default)s)")
    group.add_argument("--dropout", type=float, default=Settings.dropout)
    group.add_argument("--epochs", type=int, default=None, help=f"(default: {Settings.epochs})")
    return parser


def _chosen(only: str | None, names: list[str]) -> list[str]:
    """Names that begin with one of the wanted ones; an unknown one ends the program with the list."""
    if only is None:
        return names
    chosen = []
    for wanted in only.split(","):
        found = [name for name in names if name == wanted] or [name for name in names if name.startswith(wanted) and wanted]
        if not found:
            raise SystemExit(f"--only: expected names among {', '.join(names)}, got {wanted!r}")
        chosen += found
    return chosen


def _train(options) -> dict:
    from tqdm import tqdm

    from bench import digits, picture

    hidden = tuple(int(n) for n in options.hidden.split(",") if n)
    epochs = options.epochs if options.epochs is not None else 2 if options.quick else digits.Settings.epochs
    settings = digits.Settings(hidden=hidden, activation=options.activation, dropout=options.dropout, epochs=epochs)
    start = time.perf_counter()
    _, outcome = digits.train(settings, lambda epochs: tqdm(epochs, desc="digits", unit="epoch"))
    seconds = time.perf_counter() - start
    if outcome.losses:
        picture.draw(outcome, settings, options.picture)
    accuracy = outcome.accuracies[-1] if outcome.accuracies else 0.0
    passed = accuracy >= NEEDED_ACCURACY
    print(f"digits: {len(outcome.losses)} epochs in {seconds:.1f} s, test accuracy {100 * accuracy:.2f} % "
          f"({'at least' if passed else 'BELOW'} {100 * NEEDED_ACCURACY:.0f} %), curve in {options.picture}")
    return {"settings": dataclasses.asdict(settings), "losses": outcome.losses, "accuracies": outcome.accuracies,
            "seconds": seconds, "interrupted": outcome.interrupted, "passed": passed}


def _measure(workloads, options, report) -> bool:
    """Measure and print; returns whether a gradient of ours was wrong."""
    from tqdm import tqdm

    from bench import table
    from bench.workload import VerificationError

    report["environment"] = table.environment()
    report["workloads"], failed = [], False
    for workload in tqdm(workloads, desc="workloads"):
        try:
            report["workloads"].append(table.measure(workload, 3 if options.quick else 15, options.quick, not options.no_peers))
        except VerificationError as error:
            print(f"{workload.name}: {error}", file=sys.stderr)
            failed = True
    print(table.header(report["environment"]))
    print(f"Kernels: {table.duration(report['kernels'])} to the first gradient of this process "
          "(loading them from disk; about ten seconds where they compile for the first time)")
    print()
    print(table.printed(report["workloads"]))
    return failed


def _write(path: pathlib.Path, report: dict) -> None:
    """Write the figures, all or nothing."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(report, indent=1), encoding="utf-8")
    partial.replace(path)


if __name__ == "__main__":
    sys.exit(main())
