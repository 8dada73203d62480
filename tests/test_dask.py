"""Many machines, on Dask: batches, sums over shards, and loops, in one process and on a small cluster of processes."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import scipy.optimize

import tape

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")
distributed = pytest.importorskip("distributed")

ROOT = pathlib.Path(tape.__file__).parent.parent
RANDOM = np.random.default_rng(0)
X, Y = RANDOM.normal(size=(230, 4)), RANDOM.normal(size=230)
PARAMS = {"w": np.array([0.3, -0.2, 0.1, 0.5]), "b": (0.25,)}


def loss(params, x, y):
    """Of logistic regression, over some samples."""
    margin = (x @ params["w"] + params["b"][0]) * np.sign(y)
    return np.sum(np.log1p(np.exp(-margin))) + 0.01 * len(y) * np.sum(params["w"] ** 2)


def data(rows=50):
    """In shards of so many rows."""
    return da.from_array(X, chunks=(rows, 3)), da.from_array(Y, chunks=70)


def flat(tree):
    if isinstance(tree, dict):
        tree = tuple(tree.values())
    return np.concatenate([flat(x) for x in tree]) if isinstance(tree, (tuple, list)) else np.ravel(np.asarray(tree, float))


def same(one, other):
    """Whether two results are equal to the last bit."""
    return flat(one).tobytes() == flat(other).tobytes()


@pytest.fixture(autouse=True)
def in_one_process():
    """Where a test does not ask for a cluster."""
    with dask.config.set(scheduler="synchronous"):
        yield


@pytest.fixture(scope="module")
def cluster():
    """Three processes of one thread."""
    variables = {"PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests")))}
    with (dask.config.set({"distributed.nanny.environ": variables}),
          distributed.LocalCluster(n_workers=3, threads_per_worker=1, processes=True, dashboard_address=None) as made):
        yield made


@pytest.fixture
def client(cluster):
    with distributed.Client(cluster) as made, dask.config.set(scheduler="dask.distributed"):
        yield made


def by_hand(params, rows=50):
    """Values and gradients of shards, added up in one process without Dask: all at once, as there are no more than eight."""
    f, total = tape.value_and_grad(loss), None
    for first in range(0, len(X), rows):
        value, gradient = f(params, X[first : first + rows].copy(), Y[first : first + rows].copy())
        part = [value, gradient["w"], gradient["b"][0]]
        total = part if total is None else [a + b for a, b in zip(total, part, strict=True)]
    return total[0], {"w": total[1], "b": (total[2],)}


# ---------------------------------------------------------------------- values and gradients


def test_shards_add_up_as_by_hand_to_the_last_bit(monkeypatch):
    f = tape.dask.value_and_grad(loss, *data())
    assert f.shards == 5
    found = f(PARAMS)
    monkeypatch.setenv("TAPE_NATIVE", "always")
    assert same(found, by_hand(PARAMS))
    assert list(found[1]) == ["w", "b"]
    assert isinstance(found[1]["b"], tuple)


def test_the_sum_is_that_of_the_whole():
    value, gradient = tape.dask.value_and_grad(loss, *data(7))(PARAMS)
    expected = tape.value_and_grad(loss)(PARAMS, X, Y)
    np.testing.assert_allclose(value, expected[0], rtol=1e-13)
    np.testing.assert_allclose(flat(gradient), flat(expected[1]), rtol=1e-11)


def test_time_does_not_change_bits(monkeypatch):
    """As when a list is run by the sweeps until machine code pays."""
    f = tape.dask.value_and_grad(loss, *data(115))
    first = f(PARAMS)
    assert all(same(f(PARAMS), first) for _ in range(30))
    with dask.config.set(scheduler="threads"):
        assert all(same(f(PARAMS), first) for _ in range(3))
    monkeypatch.setenv("TAPE_NATIVE", "0")
    swept = tape.dask.value_and_grad(lambda *args: loss(*args), *data(115))
    np.testing.assert_allclose(flat(swept(PARAMS)), flat(first), rtol=1e-12)


@tape.operation
def after_a_while(x):
    """The argument, after a time that nobody knows."""
    time.sleep(os.urandom(1)[0] / 20_000)
    return x + 0.0


@after_a_while.bprop
def _(grad, out, x):
    return grad


def waiting_loss(params, x, y):
    return loss({**params, "w": after_a_while(params["w"])}, x, y)


def test_workers_give_the_bits_of_one_process_whoever_is_first(client):
    with dask.config.set(scheduler="synchronous"):
        expected = tape.dask.value_and_grad(waiting_loss, *data(11))(PARAMS)
    f = tape.dask.value_and_grad(waiting_loss, *data(11))
    for _ in range(4):
        assert same(f(PARAMS), expected)
    used = client.run(lambda: len(sys.modules["tape.dask"]._functions) if "tape.dask" in sys.modules else 0)
    assert sum(count > 0 for count in used.values()) > 1


def test_closures_are_sent_as_they_are_now(client):
    scale = 1.0
    f = tape.dask.value_and_grad(lambda w, x: scale * np.sum(w * x), da.from_array(Y, chunks=100))
    assert np.isclose(f(2.0)[1], Y.sum())
    scale = 3.0
    assert np.isclose(f(2.0)[1], 3.0 * Y.sum())


def test_a_jitted_loss():
    from numba import njit

    @njit
    def jitted(w, x):
        total = 0.0
        for row in range(x.shape[0]):
            total += (x[row] * w - 1.0) ** 2
        return total

    value, gradient = tape.dask.value_and_grad(jitted, da.from_array(Y, chunks=100))(2.0)
    np.testing.assert_allclose([value, gradient], [np.sum((Y * 2 - 1) ** 2), np.sum(2 * (Y * 2 - 1) * Y)], rtol=1e-12)


def test_what_is_no_dask_array_is_given_to_every_shard():
    def scaled(w, part, scale, power):
        return np.sum(scale * (w * part["y"]) ** power)

    f = tape.dask.value_and_grad(scaled, {"y": da.from_array(Y, chunks=100)}, np.array(0.5), 2)
    np.testing.assert_allclose(f(3.0), (4.5 * np.sum(Y**2), 3.0 * np.sum(Y**2)), rtol=1e-12)


def test_shards_may_be_made_where_they_are_needed():
    made = []

    def load(first):
        made.append(first)
        return X[first : first + 100], Y[first : first + 100]

    f = tape.dask.value_and_grad(loss, [dask.delayed(load)(k) for k in (0, 100, 200)])
    value, gradient = f(PARAMS)
    f(PARAMS)
    assert sorted(made) == [0, 100, 200]  # once: they are kept
    expected = tape.value_and_grad(loss)(PARAMS, X, Y)
    np.testing.assert_allclose(flat((value, gradient)), flat(expected), rtol=1e-11)


def test_single_precision_stays():
    x = da.from_array(Y.astype(np.float32), chunks=100)
    value, gradient = tape.dask.value_and_grad(lambda w, x: np.sum(w * x), x)(np.ones(1, np.float32))
    assert (value.dtype, gradient.dtype) == (np.float32, np.float32)


@pytest.mark.parametrize(("arguments", "message"), [
    ((X,), "expected Dask arrays"),
    ((), "got nothing"),
    ((da.from_array(X), da.from_array(Y[:9])), "expected Dask arrays of 230 rows"),
    ((da.from_array(np.array(1.0)),), "leading axis"),
    ((da.from_array(Y, chunks=50)[da.from_array(Y, chunks=50) > 0],), "compute_chunk_sizes"),
])
def test_data_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        tape.dask.value_and_grad(loss, *arguments)


def test_other_mistakes_are_told():
    with pytest.raises(tape.NotDifferentiable, match="expected a function"):
        tape.dask.value_and_grad(3.0, *data())
    with pytest.raises(tape.NotDifferentiable, match="scalar"):
        tape.dask.value_and_grad(lambda w, x: w * x, da.from_array(Y))(1.0)
    with pytest.raises(tape.NotDifferentiable, match="parameters of floats"):
        tape.dask.minimize(loss, 1, data())
    with pytest.raises(ValueError, match="args=\\(\\)"):
        tape.dask.minimize(tape.dask.value_and_grad(loss, *data()), PARAMS, data())
    with pytest.raises(ValueError, match="shards >= 1"):
        tape.dask.sgd(loss, PARAMS, data(), shards=0)


def test_it_says_what_it_is():
    assert repr(tape.dask.value_and_grad(loss, *data())).startswith("<tape.dask.value_and_grad of loss at test_dask.py:")


WITHOUT = """
import sys
import tape
assert "dask" not in sys.modules and "distributed" not in sys.modules
sys.modules["dask"] = None
try:
    tape.dask.value_and_grad(abs, 1.0)
except ImportError as error:
    print(error)
"""


def test_without_dask_the_extra_is_named():
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", WITHOUT], env=environment, capture_output=True, text=True)
    assert "pip install 'wengert[dask]'" in done.stdout, done.stderr


# ---------------------------------------------------------------------- loops


def test_minimize_finds_what_scipy_finds(capsys):
    found = tape.dask.minimize(loss, PARAMS, data(), verbose=2, options={"gtol": 1e-9, "ftol": 1e-15})

    def whole(v):
        value, gradient = tape.value_and_grad(loss)({"w": v[:4], "b": (v[4],)}, X, Y)
        return value, flat(gradient)

    expected = scipy.optimize.minimize(whole, flat(PARAMS), jac=True, method="L-BFGS-B", options={"gtol": 1e-9, "ftol": 1e-15})
    assert found.success
    np.testing.assert_allclose(flat(found.x), expected.x, atol=1e-6)
    assert list(found.x) == ["w", "b"]
    assert found.x["w"].shape == found.jac["w"].shape == (4,)
    assert isinstance(found.x["b"][0], float)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == found.nit // 2
    assert lines[0].startswith("iteration 2: value ")


@pytest.mark.parametrize("method", ["BFGS", "CG", "trust-constr", "SLSQP"])
def test_other_methods_of_scipy(method):
    x = da.from_array(Y, chunks=100)
    found = tape.dask.minimize(lambda w, x: np.sum((w - x) ** 2), np.array([3.0]), (x,), method=method)
    np.testing.assert_allclose(found.x, [Y.mean()], atol=1e-5)


def test_callbacks_are_called_as_scipys_are():
    seen, results = [], []
    tape.dask.minimize(loss, PARAMS, data(), callback=seen.append)
    tape.dask.minimize(loss, PARAMS, data(), callback=lambda intermediate_result: results.append(intermediate_result))
    assert len(seen) == len(results) > 2
    assert same(seen[-1], results[-1].x)
    np.testing.assert_allclose(results[0].fun, tape.value_and_grad(loss)(results[0].x, X, Y)[0])

    def stop(params):
        raise StopIteration

    assert tape.dask.minimize(loss, PARAMS, data(), callback=stop).nit == 1
    assert tape.dask.sgd(loss, PARAMS, data(), callback=stop).nit == 1


def interrupted(at):
    """A callback that presses Ctrl-C at an iteration, and what it has seen."""
    seen = []

    def callback(params):
        seen.append(params)
        if len(seen) == at:
            signal.raise_signal(signal.SIGINT)

    return callback, seen


@pytest.mark.parametrize("loop", [tape.dask.minimize, tape.dask.sgd])
def test_what_was_reached_stays_after_an_interrupt(loop):
    callback, seen = interrupted(3)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background
    try:
        found = loop(loss, PARAMS, data(), callback=callback)
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(seen) == found.nit == 3
    assert (found.success, found.status) == (False, 99)
    assert "Ctrl-C" in found.message
    assert same(found.x, seen[-1])


def test_sgd_descends_as_by_hand():
    step, momentum = 0.3, 0.5
    found = tape.dask.sgd(loss, PARAMS, data(), step=lambda k: step / (1 + k), momentum=momentum, epochs=2, shards=2, seed=4)
    x, velocity, k = flat(PARAMS), np.zeros(5), 0
    random = np.random.default_rng(4)
    f = tape.value_and_grad(loss)
    for _ in range(2):
        order = random.permutation(5)
        for first in range(0, 5, 2):
            rows = np.concatenate([np.arange(230)[50 * s : 50 * s + 50] for s in order[first : first + 2]])
            _, gradient = f({"w": x[:4], "b": (x[4],)}, X[rows], Y[rows])
            velocity = momentum * velocity - step / (1 + k) * flat(gradient) / len(rows)
            x, k = x + velocity, k + 1
    np.testing.assert_allclose(flat(found.x), x, rtol=1e-10)
    assert (found.nit, found.nfev, found.success) == (2, 6, True)


def test_loops_on_workers_give_the_bits_of_one_process(client):
    for loop, options in ((tape.dask.minimize, {}), (tape.dask.sgd, {"epochs": 2, "shards": 3})):
        with dask.config.set(scheduler="synchronous"):
            expected = loop(loss, PARAMS, data(), **options)
        found = loop(loss, PARAMS, data(), **options)
        assert same(found.x, expected.x)
        assert found.nit == expected.nit


def test_a_worker_that_is_lost_changes_nothing(client):
    """It ends in the middle of a run, with its part of the data; Dask computes that again elsewhere."""
    with dask.config.set(scheduler="synchronous"):
        expected = tape.dask.minimize(loss, PARAMS, data(23))
    processes, seen, lost = client.run(os.getpid), [], []

    def callback(params):
        seen.append(params)
        if len(seen) == 2:
            lost.append(max(processes, key=lambda worker: len(client.has_what()[worker])))
            assert client.has_what()[lost[0]]
            os.kill(processes[lost[0]], getattr(signal, "SIGKILL", signal.SIGTERM))

    found = tape.dask.minimize(loss, PARAMS, data(23), callback=callback)
    assert same(found.x, expected.x)
    assert len(seen) > 3
    assert lost[0] not in client.scheduler_info()["workers"]


# ---------------------------------------------------------------------- batches


@pytest.mark.parametrize("chunks", [(230, 4), (50, 3), ((1, 200, 29), (4,))])
def test_a_batch_over_dask_arrays_is_a_dask_array(chunks):
    f = tape.batch(tape.value_and_grad(lambda w, x, y: (np.sum(np.tanh(w * x)) - y) ** 2), in_axes=(None, 0, 0))
    w = np.linspace(0.5, 1.0, 4)
    values, gradients = f(w, da.from_array(X, chunks=chunks), da.from_array(Y, chunks=41))
    assert isinstance(values, da.Array)
    assert (values.shape, gradients.shape, gradients.dtype) == ((230,), (230, 4), np.float64)
    expected = f(w, X, Y)
    assert same(dask.compute(values, gradients), expected)
    assert same((values[:3].compute(), (gradients.sum(axis=0) * 0 + 1).compute()), (expected[0][:3], np.ones(4)))


def test_a_batch_computes_nothing_before_it_is_asked():
    loaded = []

    def load(n):
        loaded.append(n)
        return X[:n]

    x = da.from_delayed(dask.delayed(load)(20), (20, 4), float)
    f = tape.batch(lambda x: {"sum": np.sum(x), "parts": (x**2, np.exp(x[0]))})
    result = f(x)
    total = tape.batch(tape.grad(lambda x: np.sum(x**3)), sum=True)(x)
    assert loaded == []
    assert result["parts"][0].shape == (20, 4)
    assert np.array_equal(result["parts"][1].compute(), f(X[:20])["parts"][1])
    assert np.array_equal(total.compute(), tape.batch(tape.grad(lambda x: np.sum(x**3)), sum=True)(X[:20]))


def test_a_batch_on_workers(client):
    f = tape.batch(tape.grad(lambda x: np.sum(np.sin(x) * x)))
    assert np.array_equal(f(da.from_array(X, chunks=50)).compute(), f(X))


def test_batches_that_do_not_fit_are_refused():
    x = da.from_array(X, chunks=50)
    f = tape.batch(lambda w, x: np.sum(w * x), in_axes=(None, 0))
    with pytest.raises(ValueError, match="the same for all samples"):
        f(x, x)
    with pytest.raises(ValueError, match="from_array"):
        tape.batch(lambda w, x: np.sum(w * x))(X, x)
    with pytest.raises(ValueError, match="keyword"):
        tape.batch(lambda x, w: np.sum(w * x))(x, w=x)
    with pytest.raises(ValueError, match="rows"):
        tape.batch(lambda w, x: np.sum(w * x))(x, x[:7])
