"""The main job in its reduced form: it runs, verifies before it times, and keeps its figures."""

import json
import subprocess
import sys

import numpy as np
import pytest

from bench import digits, table
from bench.__main__ import main
from bench.timing import side_by_side
from bench.workload import VerificationError, Workload, verify_ours, verify_peer
from bench.workloads import all_workloads

SANE_ACCURACY = 0.8
"""What two epochs reach at least; chance is 0.1."""


@pytest.mark.parametrize("workload", all_workloads(), ids=lambda w: w.name)
def test_each_workload_has_a_right_gradient_and_is_timed(workload):
    row = table.measure(workload, rounds=1, quick=True, with_peers=False)
    assert row["seconds"]["tape"] > 0
    assert row["seconds"]["primal"] > 0
    assert row["instructions"] > 0


def test_a_wrong_gradient_is_caught_before_anything_is_timed():
    case = all_workloads()[0].make(True)
    _, gradient = case.ours()()
    wrong = _map_first(gradient, lambda leaf: leaf * 1.001)
    verify_ours(case, gradient)
    with pytest.raises(VerificationError, match="differences give"):
        verify_ours(case, wrong)
    with pytest.raises(VerificationError, match="differs from ours"):
        verify_peer(case, "a peer", gradient, wrong)


def test_a_peer_that_is_wrong_or_fails_gets_a_footnote_and_no_figure(monkeypatch):
    monkeypatch.setattr(table.peers, "installed", lambda: ["jax", "torch"])
    original = next(w for w in all_workloads() if w.name == "rosenbrock-10")

    def make(quick):
        case = original.make(quick)
        case.peers = {"jax": lambda: lambda: [np.zeros(10)], "torch": lambda: 1 / 0}
        return case

    row = table.measure(Workload("w", "w", make), rounds=1, quick=True)
    assert "differs from ours" in row["problems"]["jax"]
    assert "ZeroDivisionError" in row["problems"]["torch"]
    assert set(row["seconds"]) == {"primal", "tape"}
    assert "ZeroDivisionError" in table.printed([row])


def _map_first(tree, function):
    if isinstance(tree, dict):
        return {key: _map_first(value, function) for key, value in tree.items()}
    return tuple(_map_first(item, function) for item in tree) if isinstance(tree, tuple) else function(tree)


@pytest.mark.parametrize("activation", sorted(digits.ACTIVATIONS))
def test_the_network_learns_with_every_activation(activation):
    parameters, outcome = digits.train(digits.Settings(activation=activation, epochs=2, hidden=(32,)))
    assert outcome.accuracies[-1] > SANE_ACCURACY
    assert outcome.losses[-1] < outcome.losses[0]
    assert set(parameters) == {"W1", "b1", "W2", "b2"}


def test_dropout_draws_a_new_mask_each_step_from_one_recorded_list():
    settings = digits.Settings(hidden=(8,))
    parameters = digits.Network((64, 8, 10)).parameters
    X, labels = np.random.default_rng(0).random((16, 64)), np.arange(16) % 10
    import tape

    run = tape.value_and_grad(digits.loss)
    values = [float(run(parameters, X, labels, seed, settings)[0]) for seed in (0, 1, 0)]
    assert values[0] == values[2] != values[1]


def test_an_interrupted_training_keeps_what_there_is():
    def stopping(epochs):
        yield 0
        raise KeyboardInterrupt

    _, outcome = digits.train(digits.Settings(epochs=5, hidden=(8,)), stopping)
    assert outcome.interrupted
    assert len(outcome.losses) == 1


def test_the_command_keeps_figures_and_draws_the_curve(tmp_path):
    command = [sys.executable, "-m", "bench", "--quick", "--only", "digits,rosenbrock-10", "--no-peers",
               "--json", str(tmp_path / "figures.json"), "--picture", str(tmp_path / "curve.png")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert "Rosenbrock, n = 10" in done.stdout
    assert [row["name"] for row in figures["workloads"]] == ["rosenbrock-10"]
    assert figures["environment"]["versions"]["numpy"] == np.__version__
    assert len(figures["digits"]["losses"]) == 2
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_names(capsys):
    assert main(["--list"]) == 0
    names = capsys.readouterr().out.split()
    assert names == ["digits", *(w.name for w in all_workloads())]
    with pytest.raises(SystemExit, match="expected names among digits"):
        main(["--only", "nothing-of-the-kind"])


def test_contestants_take_turns():
    order = []
    side_by_side({name: lambda name=name: order.append(name) for name in "ab"}, rounds=2)
    changes = [x for x, y in zip(order, ["", *order], strict=False) if x != y]
    assert changes[-4:] == ["a", "b", "a", "b"]
