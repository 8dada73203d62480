"""The digits network's training step as native code, with batches of 128 and 1,024."""

import functools

import numpy as np

import tape
from bench.digits import Network
from bench.groups import NATIVE
from bench.peers import with_jax, with_torch
from bench.race import Bound, Race
from bench.workload import Workload
from bench.workloads import digits_step

STEP = 1e-8
"""Of the differences: among 200,000 ReLUs some change sides in a longer one."""


def _make(batch):
    def make(quick):
        from sklearn.datasets import load_digits

        X, labels = load_digits(return_X_y=True)
        count = 32 if quick else batch
        args = (Network((64, 128, 64, 10)).parameters, X[:count] / 16.0, labels[:count].astype(np.int64))
        peers = {"jax": with_jax(digits_step._peer_loss, args), "torch": with_torch(digits_step._torch, args)}
        if not quick:
            peers["torch.compile"] = with_torch(digits_step._torch, args, compiled=True)
        return Race(digits_step._loss, args, step=STEP, plain=functools.partial(digits_step._peer_loss, np),
                    exact=digits_step._gradient,
                    derivative=lambda: tape.compile(digits_step._loss, *args).value_and_grad, peers=peers,
                    bounds=tuple(Bound(name, faster=1.0) for name in peers))

    return make


WORKLOADS = [Workload(f"native-digits-{batch}", f"digits network 64-128-64-10, batch {batch:,}", _make(batch), NATIVE)
             for batch in (128, 1024)]
