"""The main job in its reduced form: it runs, verifies before it times, and keeps its figures. No time is asserted."""

import json
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
from counting import Counter

import tape
from bench import command, contest, digits, functions, groups, race, timing, workloads
from bench.verification import VerificationError, verify_ours, verify_peer
from bench.workload import Case, Limit, Workload

SANE_ACCURACY = 0.8
"""What two epochs reach at least; chance is 0.1."""

ALL = workloads.all_workloads()
EACH = [pytest.param(w, id=w.name, marks=pytest.mark.slow if w.group is groups.NJIT and w.name != "oscillator" else ())
        for w in ALL if w.group in (groups.RECORDED, groups.NJIT)]
"""All workloads of `contest`; of the jitted functions, which compile for seconds, continuous integration runs one."""

SLOW_NATIVE = ("native-compile-gradient", "native-compile-regular", "native-lanes-vectors", "native-lanes-exp",
               "native-threads", "native-digits-1024", "native-rosenbrock-1000", "native-exp-sum")
NATIVE = [pytest.param(w, id=w.name, marks=pytest.mark.slow if w.name in SLOW_NATIVE else ())
          for w in ALL if w.group is groups.NATIVE]
"""Rows of native code; continuous integration runs one of each kind."""

QUICK_FUNCTIONS = ("numpy-multiply", "numpy-max-axis-0", "numpy-partition-x-k-k", "numpy-convolve-with-16",
                   "numpy-x-10-10-times-2", "numpy-y-positions-x")
FUNCTIONS = [pytest.param(w, id=w.name, marks=() if w.name in QUICK_FUNCTIONS else pytest.mark.slow)
             for w in ALL if w.group is groups.NUMPY]
"""NumPy's functions, each compiled twice; continuous integration runs some."""


def named(name):
    """The workload of that name."""
    return next(w for w in ALL if w.name == name)


def bench(*options, folder):
    """Run the command as users do, in `folder`."""
    root = pathlib.Path(command.__file__).parent.parent
    return subprocess.run([sys.executable, "-c", "import runpy, sys; sys.path.insert(0, sys.argv.pop(1)); "
                           "runpy.run_module('bench', run_name='__main__', alter_sys=True)", str(root), *options],
                          capture_output=True, text=True, check=False, cwd=folder)


# ---------------------------------------------------------------------- verification


@pytest.mark.parametrize("workload", EACH)
def test_each_workload_is_right_and_is_timed(workload):
    row = contest.measure(workload, rounds=1, quick=True)
    assert row["deviation"]["tape"] < 1e-6
    assert {"primal", "tape"} <= set(row["seconds"]) == set(row["least"]) == set(row["cores"])
    assert all(row["seconds"][name] >= row["least"][name] > 0 for name in row["seconds"])
    jitted = workload.group is groups.NJIT
    assert ("forward" in row["seconds"], row["instructions"] is None, row["record"] is None) == (not jitted, jitted, jitted)
    assert (row["compile"] is None, row["compile limit"] is None) == (not jitted, not jitted)
    assert (row["limit"] is None) == (workload.limit is None)
    assert workload.make(True).exact is not None
    assert row["title"] in workload.group.printed([row])


@pytest.mark.parametrize("workload", NATIVE)
def test_each_row_of_native_code_is_right_and_has_limits(workload):
    row = race.measure(workload, rounds=1, quick=True)
    made = workload.make(True)
    assert made.exact is not None
    if made.missing:
        assert row["problems"]["tape"] == made.missing
    else:
        assert row["deviation"]["tape"] < 1e-6
        assert {"tape", *made.rivals, *made.values, *made.free} == set(row["seconds"])
        assert [bound["than"] for bound in row["bounds"]] == [bound.than for bound in made.bounds]
        assert any(bound.than in made.peers or not bound.than or bound.than in row["seconds"] for bound in made.bounds)
    printed = groups.NATIVE.printed([row])
    assert all(str(bound) in printed for bound in made.bounds) or made.missing


@pytest.mark.parametrize("workload", FUNCTIONS)
def test_each_function_of_numpy_is_right_in_both_engines(workload):
    row = functions.measure(workload, rounds=1, quick=True)
    assert set(row["deviation"]) == set(functions.ENGINES)
    assert max(row["deviation"].values()) < 1e-6
    assert set(row["seconds"]) == {"numpy", "eager", "native forward", "native backward", "sweeps forward", "sweeps backward"}
    assert f"| {row['title']} " in workload.group.printed([row])


def test_a_function_of_numpy_whose_rule_is_wrong_is_not_timed(monkeypatch):
    from tape.rules import arrays

    def row_of(rule):
        monkeypatch.setitem(arrays.FUNCTIONS, np.diff, rule)
        return functions.measure(Workload("w", "w", lambda quick: functions.Call(np.diff, (np.arange(50.0) ** 2,))), 1, True)

    assert row_of(lambda x: x[1:] - x[:-1])["deviation"]["native"] < 1e-6
    with pytest.raises(VerificationError, match="our value"):
        row_of(lambda x: 1.001 * x[1:] - x[:-1])
    with pytest.raises(VerificationError, match="our gradient"):
        row_of(lambda x: x[1:] - tape.stop_gradient(x[:-1]))


@pytest.mark.parametrize("engine", ["Native", "Sweeps"])
def test_a_wrong_adjoint_of_either_engine_is_caught(engine, monkeypatch):
    right = getattr(functions, engine).both
    monkeypatch.setattr(getattr(functions, engine), "both", lambda self: tuple(1.001 * a for a in right(self)))
    with pytest.raises(VerificationError, match="our gradient"):
        functions.measure(Workload("w", "w", lambda quick: functions.Call(np.square, (np.arange(50.0),))), 1, True)


def test_a_function_beyond_its_limits_is_marked():
    seconds = {"numpy": 1.0, "eager": 1.9, "native forward": 2.1, "native backward": 2.9, "sweeps forward": 0.5,
               "sweeps backward": 3.1}
    row = {"title": "f", "seconds": seconds, "over": functions.over(seconds), "problems": {}, "note": "for a reason"}
    assert row["over"] == ["native forward", "sweeps backward"]
    printed = groups.NUMPY.printed([row])
    assert "2.1 s (2.10, OVER)" in printed
    assert "2.9 s (2.90)" in printed
    assert "f: for a reason" in printed
    assert [cell.strip() for cell in printed.split("within the limit")[1].splitlines()[0].split("|")[1:-1]] == [
        "0 of 1", "1 of 1", "1 of 1", "0 of 1", "1 of 1"]


def test_limits_are_met_or_not():
    for bound, jax, met in ((race.Bound("jax", faster=6.0), 12.1, True), (race.Bound("jax", faster=6.0), 11.9, False),
                            (race.Bound("jax", times=2.0), 1.1, True), (race.Bound("jax", times=2.0), 0.9, False),
                            (race.Bound(seconds=2.1), 1.0, True), (race.Bound(seconds=1.9), 1.0, False)):
        row = {"name": "w", "title": "w", "seconds": {"tape": 2.0, "jax": jax}, "problems": {}, "bounds": []}
        row["bounds"] = [bound.judged(row["seconds"])]
        assert row["bounds"][0]["met"] is met
        assert ("NOT MET" in groups.NATIVE.printed([row])) is not met
    assert race.Bound("jax", faster=6.0).judged({"tape": 1.0})["met"] is None


def test_a_row_of_native_code_that_is_wrong_is_not_timed():
    right = lambda x: (np.sum(x), (np.ones_like(x),))
    options = {"function": np.sum, "args": (np.arange(1.0, 4.0),), "exact": lambda x: (np.ones(3),)}
    workload = lambda **more: Workload("w", "w", lambda quick: race.Race(**options, **more), groups.NATIVE)
    assert race.measure(workload(derivative=lambda: right), 1, True)["deviation"]["tape"] < 1e-6
    with pytest.raises(VerificationError, match="our gradient"):
        race.measure(workload(derivative=lambda: lambda x: (np.sum(x), (2 * x,))), 1, True)
    with pytest.raises(VerificationError, match="our value"):
        race.measure(workload(derivative=lambda: right, values={"another": lambda: 7.0}), 1, True)
    with pytest.raises(VerificationError, match="by hand: its gradient"):
        race.measure(workload(derivative=lambda: right, rivals={"by hand": lambda: lambda: (np.zeros(3),)}), 1, True)
    peers = {"torch.nn": lambda: lambda: (np.zeros(3),)}
    row = race.measure(workload(derivative=lambda: right, peers=peers), 1, True, ["torch"])
    assert "torch.nn" in row["problems"]
    assert "torch.nn" not in row["seconds"]
    row = race.measure(workload(missing="no such thing"), 1, True)
    assert "w: no such thing" in groups.NATIVE.printed([row])
    assert "not measured" in groups.NATIVE.printed([row])


def _map_first(tree, function):
    if isinstance(tree, dict):
        return {key: _map_first(value, function) if k == 0 else value for k, (key, value) in enumerate(tree.items())}
    if isinstance(tree, tuple):
        return (_map_first(tree[0], function), *tree[1:])
    return function(tree)


@pytest.mark.parametrize("workload", EACH)
@pytest.mark.parametrize("exact", [True, False], ids=["by hand", "by differences"])
def test_a_wrong_gradient_is_caught(workload, exact):
    case = workload.make(True)
    value, gradient = case.ours()()
    wrong = _map_first(gradient, lambda leaf: leaf * 1.001)
    if not exact:
        case.exact = None
    with pytest.raises(VerificationError, match="our gradient"):
        verify_ours(case, value, wrong)
    with pytest.raises(VerificationError, match=r"a peer: its gradient is .* where ours is .*leaf 0, component"):
        verify_peer("a peer", gradient, wrong)


def test_one_wrong_component_among_many_is_caught_and_named():
    case = named("rosenbrock-100000").make(False)
    value, (gradient,) = case.ours()()
    verify_ours(case, value, (gradient,))
    gradient[70_000] += 1e-5 * np.max(np.abs(gradient))
    with pytest.raises(VerificationError, match="70000"):
        verify_ours(case, value, (gradient,))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_gradient_or_a_value_that_is_not_finite_is_caught(bad):
    case = named("logistic").make(True)
    value, (gradient,) = case.ours()()
    with pytest.raises(VerificationError, match="our value"):
        verify_ours(case, bad, (gradient,))
    gradient[3] = bad
    with pytest.raises(VerificationError):
        verify_ours(case, value, (gradient,))
    with pytest.raises(VerificationError):
        verify_peer("a peer", np.zeros_like(gradient), gradient)


def test_a_primal_that_is_another_function_is_caught():
    case = named("mixture").make(True)
    plain = case.plain
    case.plain = lambda *args: plain(*args) + 1.0
    value, gradient = case.ours()()
    with pytest.raises(VerificationError, match="our value"):
        verify_ours(case, value, gradient)


@pytest.mark.parametrize("workload", [w for w in ALL if w.group in (groups.RECORDED, groups.NJIT) and w.make(True).plain],
                         ids=lambda w: w.name)
def test_the_primal_calls_nothing_of_ours(workload, monkeypatch):
    case = workload.make(True)
    for name in ("relu", "sigmoid", "logsumexp", "dropout"):
        monkeypatch.setattr(tape, name, None)
    case.primal()


def test_a_workload_whose_gradient_is_wrong_fails_the_run_and_is_not_timed(monkeypatch, capsys):
    case = Case(np.sum, (np.ones(3),), exact=lambda x: np.zeros(3))
    rows = [Workload("wrong", "wrong", lambda quick: case), named("rosenbrock-10")]
    monkeypatch.setattr(command, "all_workloads", lambda: rows)
    assert command.main(["--quick", "--no-peers", "--only", "wrong,rosenbrock"]) == 1
    out, err = capsys.readouterr()
    assert "WRONG wrong: our gradient" in err
    assert "| wrong" not in out
    assert "Rosenbrock" in out


def test_a_workload_whose_gradient_fails_is_told_and_the_others_run(monkeypatch, capsys):
    def fails(x):
        raise tape.NotDifferentiable("no such luck")

    rows = [Workload("failing", "failing", lambda quick: Case(fails, (np.ones(3),))), named("rosenbrock-10")]
    monkeypatch.setattr(command, "all_workloads", lambda: rows)
    assert command.main(["--quick", "--no-peers", "--only", "failing,rosenbrock"]) == 1
    out, err = capsys.readouterr()
    assert "WRONG failing: no such luck" in err
    assert "Rosenbrock" in out


# ---------------------------------------------------------------------- jitted functions


def test_a_group_is_selected_by_its_name_and_has_tables_of_its_own(monkeypatch, capsys, tmp_path):
    rows = [named("rosenbrock-10"), named("oscillator")]
    monkeypatch.setattr(command, "all_workloads", lambda: rows)
    assert command.main(["--quick", "--no-peers", "--only", "njit", "--json", str(tmp_path / "figures.json")]) == 0
    figures = json.loads((tmp_path / "figures.json").read_text())
    (row,) = figures["workloads"]
    assert (row["name"], row["group"], row["limit"]["text"]) == ("oscillator", "njit", "3 x")
    assert row["limit"]["seconds"] == pytest.approx(3 * row["seconds"]["primal"])
    assert figures["compiler"].keys() == {"primal", "derivative"}
    out = capsys.readouterr().out
    assert "| jitted primal |" in out
    assert "| primal compiles |" in out
    assert "NumPy primal" not in out


def test_the_groups_hold_all_workloads(monkeypatch):
    assert {group.name for group in groups.GROUPS} == {"recorded", "njit", "native", "numpy"}
    chosen = []
    monkeypatch.setattr(command, "_compare", lambda workloads, options, report: chosen.append([w.name for w in workloads]) or 0)
    for options in ("recorded", "njit", "njit,heat", "heat", "rosen", "native", "numpy"):
        command.main(["--only", options])
    recorded, jitted, both, exact, beginning, native, numpy = chosen
    assert [*recorded, *jitted, *native, *numpy] == [w.name for w in ALL]
    assert {"heat", "mixture"} <= set(recorded)
    assert {"oscillator", "lorenz", "nbody", "logistic-loop", "black-scholes", "heat-loop", "scalar-inside",
            "scalar-python"} == set(jitted)
    assert both == ["heat", *jitted]
    assert exact == ["heat"]
    assert beginning == ["rosenbrock-10", "rosenbrock-1000", "rosenbrock-100000"]


def test_groups_that_take_long_run_when_they_are_chosen(monkeypatch):
    chosen = []
    monkeypatch.setattr(command, "_train", lambda options, report: 0)
    monkeypatch.setattr(command, "_compare", lambda workloads, options, report: chosen.extend(workloads) or 0)
    command.main([])
    assert {w.group for w in chosen} == {groups.RECORDED, groups.NJIT}


def test_a_time_beyond_its_limit_is_marked():
    row = {"name": "w", "title": "w", "seconds": {"primal": 1e-6, "tape": 2.5e-6}, "prepare": {}, "problems": {},
           "compile": 0.1, "first": 2.0}
    cases = ((Limit(2.0), Limit(20.0), (True, False)), (Limit(2.0, 1e-6), Limit(8.0, 0.3), (False, True)))
    for limit, compiling, marks in cases:
        row["limit"] = {"seconds": limit.of(1e-6), "text": str(limit)}
        row["compile limit"] = {"seconds": compiling.of(0.1), "text": str(compiling)}
        each, once = groups.NJIT.printed([row]).split("\n\n")[1:3]
        assert ("(OVER)" in each, "(OVER)" in once) == marks
        assert str(limit) in each


def test_the_time_of_a_loop_is_divided_by_its_calls(monkeypatch):
    figures = timing.Figures(3.0, 2.0, 1.0)
    monkeypatch.setattr(contest, "side_by_side", lambda contestants, *_: dict.fromkeys(contestants, figures))
    case = Case(np.sum, (np.ones(3),), exact=lambda x: (np.ones(3),), calls=10)
    row = contest.measure(Workload("w", "w", lambda quick: case, limit=Limit(2.0)), rounds=1, quick=True)
    assert set(row["seconds"].values()) == {0.3}
    assert set(row["least"].values()) == {0.2}
    assert row["limit"]["seconds"] == 0.6


# ---------------------------------------------------------------------- peers


def test_a_peer_that_is_wrong_or_fails_gets_a_footnote_and_no_figure():
    case = named("rosenbrock-10").make(True)
    case.peers = {"jax": lambda: lambda: [np.zeros(10)], "torch": lambda: 1 / 0}
    row = contest.measure(Workload("w", "w", lambda quick: case), rounds=1, quick=True, names=["jax", "torch", "casadi"])
    assert "where ours is" in row["problems"]["jax"]
    assert "ZeroDivisionError" in row["problems"]["torch"]
    assert set(row["seconds"]) == {"primal", "jitted", "tape", "forward"}
    assert "w: torch: ZeroDivisionError" in groups.RECORDED.printed([row])


def test_peers_that_are_missing_or_broken_are_no_error(monkeypatch):
    from bench import peers

    def broken(name):
        raise OSError("no such library\nsecond line")

    monkeypatch.setattr(peers.importlib.util, "find_spec", lambda name: object() if name == "torch" else None)
    monkeypatch.setattr(peers.importlib, "import_module", broken)
    assert peers.load() == ({}, {"torch": "OSError: no such library"})


def test_a_cell_without_a_figure_is_a_dash():
    case = named("heat").make(True)
    case.peers = {"jax": lambda: lambda: case.ours()()[1]}
    rows = [contest.measure(Workload("w", "w", lambda quick: case), 1, True, ["jax"]),
            contest.measure(named("logistic"), 1, True)]
    each, once = groups.RECORDED.printed(rows).split("\n\n")[1:3]
    assert each.splitlines()[3].split("|")[3].strip() == "-" == each.splitlines()[3].split("|")[-2].strip()
    assert once.splitlines()[3].split("|")[-2].strip() == "-"


def test_contestants_take_turns_and_the_first_changes():
    order = []
    timing.side_by_side({name: lambda name=name: order.append(name) for name in "abc"}, rounds=2)
    changes = [x for x, y in zip(order, ["", *order], strict=False) if x != y]
    assert "".join(changes).endswith("abcbca")


# ---------------------------------------------------------------------- the network


@pytest.mark.parametrize("activation", sorted(digits.ACTIVATIONS))
def test_the_network_learns_with_every_activation(activation):
    parameters, outcome = digits.train(digits.Settings(activation=activation, epochs=2, hidden=(32,)))
    assert outcome.accuracies[-1] > SANE_ACCURACY
    assert outcome.losses[-1] < outcome.losses[0]
    assert set(parameters) == {"W1", "b1", "W2", "b2"}


def test_training_is_the_same_each_time():
    first, second = (digits.train(digits.Settings(epochs=1, hidden=(8,))) for _ in range(2))
    assert first[1] == second[1]
    assert all(np.array_equal(first[0][name], second[0][name]) for name in first[0])


def test_dropout_draws_a_new_mask_each_step_from_one_recorded_list():
    # A list that grows would be a variable that changes, and have the function recorded at each call.
    calls = Counter()

    def loss(*args):
        calls.note()
        return digits.loss(*args)

    parameters = digits.Network((64, 8, 10)).parameters
    X, labels = np.random.default_rng(0).random((16, 64)), np.arange(16) % 10
    run = tape.value_and_grad(loss)
    values = [float(run(parameters, X, labels, seed, digits.Settings(hidden=(8,)))[0]) for seed in (0, 1, 0)]
    assert values[0] == values[2] != values[1]
    assert calls.runs == 1


def test_an_interrupted_training_keeps_what_there_is(tmp_path, monkeypatch, capsys):
    original = digits.train

    def stopped(settings, progress):
        def stopping(epochs):
            yield 0
            raise KeyboardInterrupt

        return original(settings, stopping)

    monkeypatch.setattr(digits, "train", stopped)
    figures, curve = tmp_path / "figures.json", tmp_path / "curve.png"
    status = command.main(["--quick", "--no-peers", "--hidden", "8", "--json", str(figures), "--picture", str(curve)])
    assert status == command.INTERRUPTED
    kept = json.loads(figures.read_text())
    assert kept["digits"]["interrupted"]
    assert len(kept["digits"]["losses"]) == 1
    assert "workloads" not in kept
    assert curve.read_bytes().startswith(b"\x89PNG")
    assert "1 epochs" in capsys.readouterr().out


def test_an_interrupted_table_is_printed_as_far_as_it_got(tmp_path, monkeypatch, capsys):
    def stop(quick):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "all_workloads", lambda: [named("rosenbrock-10"), Workload("later", "later", stop)])
    status = command.main(["--quick", "--no-peers", "--only", "rosenbrock,later", "--json", str(tmp_path / "figures.json")])
    assert status == command.INTERRUPTED
    assert "Rosenbrock, n = 10" in capsys.readouterr().out
    assert len(json.loads((tmp_path / "figures.json").read_text())["workloads"]) == 1


# ---------------------------------------------------------------------- the command


def test_the_command_keeps_figures_and_draws_the_curve(tmp_path):
    done = bench("--quick", "--only", "digits,rosenbrock", "--no-peers", "--json", "figures.json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["digits.png", "figures.json"]
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert [row["name"] for row in figures["workloads"]] == ["rosenbrock-10", "rosenbrock-1000", "rosenbrock-100000"]
    for row in figures["workloads"]:
        assert row["seconds"].keys() == {"primal", "jitted", "tape", "forward"}
        assert all(isinstance(row[key], float) for key in ("record", "first"))
        assert f"| {row['title']}" in done.stdout
    assert figures["environment"]["versions"]["numpy"] == np.__version__
    assert figures["environment"]["threads"] == 1
    assert figures["environment"]["processor"] in done.stdout
    assert figures["digits"]["accuracies"][-1] > SANE_ACCURACY
    assert len(figures["digits"]["losses"]) == 2
    assert "test accuracy" in done.stdout
    assert (tmp_path / "digits.png").read_bytes().startswith(b"\x89PNG")


def test_names(capsys):
    assert command.main(["--list"]) == 0
    names = ["digits", *(w.name for w in ALL), "startup", "recorded", "njit", "native", "numpy"]
    assert capsys.readouterr().out.split() == names


@pytest.mark.parametrize(("options", "complaint"), [
    (["--only", "nothing-of-the-kind"],
     "expected names among digits, .*startup, recorded, njit, native, numpy, got 'nothing-of-the-kind'"),
    (["--only", "heat,"], "expected names among .* got ''"),
    (["--json", "no/such/folder/figures.json"], "expected a file in a folder that exists"),
    (["--hidden", "64,many"], "expected a whole number above zero, got 'many'"),
    (["--epochs", "0"], "expected a whole number above zero, got '0'"),
    (["--dropout", "1"], r"expected a number in \[0, 1\), got '1'"),
])
def test_options_that_make_no_sense_are_refused_before_anything_runs(options, complaint, capsys):
    with pytest.raises(SystemExit):
        command.main(options)
    assert re.search(complaint, capsys.readouterr().err)


@pytest.mark.parametrize("package", ["sklearn", "matplotlib", "tqdm"])
def test_a_missing_package_is_named_with_what_installs_it(package, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, package, None)
    assert command.main([]) == 2
    message = capsys.readouterr().err
    assert package in message
    assert 'pip install "wengert[bench]"' in message


def test_a_workload_is_added_by_one_file(tmp_path, monkeypatch):
    (tmp_path / "one_more.py").write_text("from bench.workload import Case, Workload\n"
                                          "WORKLOADS = [Workload('one-more', 'one more', lambda quick: None)]\n")
    monkeypatch.setattr(workloads, "__path__", [*workloads.__path__, str(tmp_path)])
    assert "one-more" in [w.name for w in workloads.all_workloads()]
    sys.modules.pop("bench.workloads.one_more")
