"""How the cost of a gradient on Dask grows with processes and shards: ``python -m bench.shards`` prints the page's tables.

Logistic regression of 50 parameters. Each cluster computes the gradient of the same data, whose bits must be the same.
"""

from __future__ import annotations

import os
import pathlib
import statistics
import sys
import time

import numpy as np

import tape

ROOT = pathlib.Path(__file__).parent.parent
COLUMNS = 50
PROCESSES = (1, 2, 4, 8)
SHARDS = (1, 8, 64, 256)


def loss(w, x, y):
    """Sum over the samples of one shard."""
    return np.sum(np.logaddexp(0.0, -y * (x @ w)))


def evaluations(workers: int, rows: int, shards: int, rounds: int) -> tuple[float, bytes]:
    """Median seconds of a value and gradient on a cluster of so many processes, each of one thread; and the gradient's bits."""
    import dask
    import dask.array
    import distributed

    environment = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with dask.config.set({"distributed.nanny.environ": environment}), distributed.LocalCluster(
            n_workers=workers, threads_per_worker=1, dashboard_address=None) as cluster, distributed.Client(cluster):
        random = dask.array.random.default_rng(0)
        x = random.normal(size=(rows, COLUMNS), chunks=(rows // shards, COLUMNS))
        y = dask.array.sign(random.normal(size=rows, chunks=rows // shards))
        f, w = tape.dask.value_and_grad(loss, x, y), np.full(COLUMNS, 0.1)
        for _ in range(3):
            f(w)
        samples = []
        for _ in range(rounds):
            start = time.perf_counter()
            _, gradient = f(w)
            samples.append(time.perf_counter() - start)
        return statistics.median(samples), gradient.tobytes()


def main(rounds: int = 15) -> None:
    """Measure, and print the two tables."""
    rows = 64 * 10_000
    print(f"{os.cpu_count()} cores, {rows} rows of {COLUMNS}, 64 shards")
    print("| processes | ms an evaluation |")
    print("|---|---|")
    bits = set()
    for workers in PROCESSES:
        seconds, gradient = evaluations(workers, rows, 64, rounds)
        bits.add(gradient)
        print(f"| {workers} | {1e3 * seconds:.0f} |", flush=True)
    assert len(bits) == 1, "the numbers depend on the number of processes"
    print("| shards of 100 rows, 2 processes | ms an evaluation |")
    print("|---|---|")
    for shards in SHARDS:
        print(f"| {shards} | {1e3 * evaluations(2, 100 * shards, shards, rounds)[0]:.1f} |", flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
