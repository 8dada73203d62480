"""How the cost of a gradient on Dask grows with processes and shards: ``python -m bench.shards`` prints the page's tables.

Logistic regression of 50 parameters. Each cluster computes the gradient of the same data, whose bits must be the same. Beside
the time of the clock stand seconds of processors, which other work on the machine changes less.
"""

from __future__ import annotations

import os
import pathlib
import sys
import time
from typing import NamedTuple

import numpy as np

import tape

ROOT = pathlib.Path(__file__).parent.parent
COLUMNS = 50
PROCESSES = (1, 2, 4, 8)
SHARDS = (1, 16, 256)


def loss(w, x, y):
    """Sum over the samples of one shard."""
    return np.sum(np.logaddexp(0.0, -y * (x @ w)))


class Cost(NamedTuple):
    """Seconds of one evaluation: by the clock at best, of processors here (client and scheduler) and in the workers."""

    clock: float
    here: float
    workers: float

    def __str__(self):
        return " | ".join(f"{1e3 * seconds:.1f}" for seconds in self)


def evaluations(workers: int, rows: int, shards: int, rounds: int) -> tuple[Cost, bytes]:
    """What a value and gradient costs on a cluster of so many processes, each of one thread; and the gradient's bits."""
    import dask
    import dask.array
    import distributed

    environment = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with dask.config.set({"distributed.nanny.environ": environment}), distributed.LocalCluster(
            n_workers=workers, threads_per_worker=1, dashboard_address=None) as cluster, distributed.Client(cluster) as client:
        random = dask.array.random.default_rng(0)
        x = random.normal(size=(rows, COLUMNS), chunks=(rows // shards, COLUMNS))
        y = dask.array.sign(random.normal(size=rows, chunks=rows // shards))
        f, w = tape.dask.value_and_grad(loss, x, y), np.full(COLUMNS, 0.1)
        for _ in range(3):
            f(w)
        samples, busy, own = [], client.run(time.process_time), time.process_time()
        for _ in range(rounds):
            start = time.perf_counter()
            _, gradient = f(w)
            samples.append(time.perf_counter() - start)
        own = time.process_time() - own
        there = sum(client.run(time.process_time).values()) - sum(busy.values())
        return Cost(min(samples), own / rounds, there / rounds), gradient.tobytes()


HEAD = "ms by the clock | of processors, client and scheduler | of processors, workers |\n|---|---|---|---|"


def main(rounds: int = 15) -> None:
    """Measure, and print the two tables."""
    rows = 64 * 10_000
    print(f"{os.cpu_count()} cores, {rows} rows of {COLUMNS}, 64 shards")
    print(f"| processes | {HEAD}")
    bits = set()
    for workers in PROCESSES:
        cost, gradient = evaluations(workers, rows, 64, rounds)
        bits.add(gradient)
        print(f"| {workers} | {cost} |", flush=True)
    assert len(bits) == 1, "the numbers depend on the number of processes"
    print(f"| shards of 100 rows, 2 processes | {HEAD}")
    for shards in SHARDS:
        print(f"| {shards} | {evaluations(2, 100 * shards, shards, rounds)[0]} |", flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
