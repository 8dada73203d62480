"""Other processes: what public functions return is pickled and copied as the call that made it, and computes the same there.

What is here: every kind of such objects, by `pickle` and `cloudpickle`, in pools of every kind; what they say of themselves.
What is not: forks while code compiles (`test_fork.py`).
"""

import copy
import functools
import inspect
import itertools
import os
import pathlib
import pickle
import subprocess
import sys

import numba
import numba.cloudpickle
import numpy as np
import portable
import pytest
from numba import njit

import tape

HERE = pathlib.Path(__file__).parent
X = np.array([0.3, -0.7, 1.1, 0.2])
V = np.array([1.0, 2.0, -1.0, 0.5])


def flat(results):
    """Results in one array, to be compared bit for bit."""
    leaves = results if isinstance(results, (tuple, list)) else [results]
    return np.concatenate([flat(x) if isinstance(x, (tuple, list)) else np.ravel(np.asarray(x, float)) for x in leaves])


def at(*args):
    """What calls a function with these arguments."""
    return functools.partial(_call, args)


def _call(args, function):
    return function(*args)


def swept(t):
    """What a tape computes: anew, and the adjoints after it."""
    value = t.forward(X)
    t.reverse()
    return [value, t.gradients, t.values, t.adjoints]


def read(t):
    """What a tape holds."""
    return [t.values, t.adjoints, t.grad_table[t.inputs[0]]]


def with_jvp(c):
    return [*c.value_and_grad(X), *c.jvp((X,), (V,)), c.value(X)]


def in_jitted_code(call):
    gradient = np.empty(4)
    value = njit(lambda x, gradient: call(x, gradient))(X, gradient)
    return [value, gradient]


def multiplied(operator):
    return operator.matvec(V)


def of_operation(f):
    return tape.grad(lambda x: np.sum(f(x)))(X)


def forward(t):
    return t.forward(X)


def said(w):
    return [w.data, w.requires_grad]


def of_column(pullback):
    return pullback(np.arange(8.0).reshape(2, 4))


def _reversed(f):
    t = tape.record(f, X)
    t.reverse(2.0)
    return t


OBJECTS = {
    "grad": (lambda: tape.grad(portable.wave), at(X)),
    "value_and_grad": (lambda: tape.value_and_grad(portable.wave, argnums=(0,), replay=False), at(X)),
    "grad of grad": (lambda: tape.grad(gradient_inside), at(2.0)),
    "jacobian": (lambda: tape.jacobian(portable.columns, mode="forward"), at(X)),
    "hessian": (lambda: tape.hessian(portable.wave), at(X)),
    "hvp": (lambda: tape.hvp(portable.wave), at(X, V)),
    "hessian_operator": (lambda: tape.hessian_operator(portable.wave, X), multiplied),
    "method": (lambda: tape.grad(portable.Model(X).loss), at(X)),
    "partial": (lambda: tape.grad(functools.partial(scaled, 2.0)), at(X)),
    "batch": (lambda: tape.batch(tape.value_and_grad(portable.wave)), at(np.stack([X, V]))),
    "batch, summed": (lambda: tape.batch(tape.grad(portable.wave), threads=1, sum=True), at(np.stack([X, V]))),
    "checkpoint": (lambda: tape.grad(summed_twice), at(X)),
    "decorated": (lambda: portable.slope, at(X)),
    "decorated twice": (lambda: portable.slopes, at(np.stack([X, V]))),
    "decorated jitted": (lambda: portable.jitted_slope, at(X)),
    "operation": (lambda: portable.softplus, of_operation),
    "operation in plain Python": (lambda: portable.noisy, of_operation),
    "jitted operation": (lambda: portable.cube, of_operation),
    "operations": (lambda: tape.grad(portable.with_operations), at(X)),
    "jitted": (lambda: tape.grad(portable.spring), at(X)),
    "jitted hessian": (lambda: tape.hessian(portable.spring), at(X)),
    "jitted hvp": (lambda: tape.hvp(portable.spring), at(X, V)),
    "jitted, kept on disk": (lambda: tape.grad(portable.kept_spring), at(X)),
    "jitted with operations": (lambda: tape.grad(portable.with_cubes), at(1.5)),
    "vjp": (lambda: tape.vjp(portable.columns, X)[1], of_column),
    "jitted vjp": (lambda: tape.vjp(portable.spring, X)[1], at(2.0)),
    "vjp through a solution": (lambda: tape.vjp(portable.solved, X)[1], at(2.0)),
    "tape": (lambda: tape.record(portable.wave, V), swept),
    "tape after its sweeps": (lambda: _reversed(portable.wave), read),
    "tape with a solution": (lambda: tape.record(portable.solved, V), swept),
    "tape with operations": (lambda: tape.record(portable.with_operations, V), swept),
    "tape with a loop": (lambda: tape.record(portable.looped, V), swept),
    "tape of a jitted function": (lambda: tape.record(portable.spring, V), swept),
    "tape of its gradient": (lambda: tape.record(portable.wave, V).build_grad(), forward),
    "compile": (lambda: tape.compile(portable.wave, V), with_jvp),
    "compile of jitted": (lambda: tape.compile(portable.spring, V), with_jvp),
    "compiled call": (lambda: tape.compile(portable.wave, V).value_and_grad, at(X)),
    "compiled call in jitted code": (lambda: tape.compile(portable.wave, V).njit.value_and_grad, in_jitted_code),
    "compiled pullback": (lambda: tape.compile(portable.columns, V).vjp(X)[1], of_column),
    "compiled lanes": (lambda: tape.compile(portable.wave, V, lanes=2).value_and_grad, at(np.stack([X, V, X]))),
    "variable": (lambda: tape.variable(X, requires_grad=True), said),
}
"""What makes each object, and what numbers it gives."""


def gradient_inside(x):
    return tape.grad(cubed)(x) * x


def cubed(x):
    return x**3


def scaled(scale, x):
    return np.sum(np.sin(scale * x))


def summed_twice(x):
    return np.sum(portable.twice(x))


WAYS = {"copy": copy.copy, "deepcopy": copy.deepcopy, "pickle": lambda x: pickle.loads(pickle.dumps(x))}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", OBJECTS)
def test_a_copy_gives_the_same_numbers(name, way):
    make, numbers = OBJECTS[name]
    made = make()
    copied = WAYS[way](made)
    assert type(copied) is type(made)
    if name == "tape after its sweeps":
        assert np.array_equal(flat(numbers(copied)), flat(numbers(made)))
    else:
        assert flat(numbers(copied)).tobytes() == flat(numbers(made)).tobytes()


LANDING = """
import pickle, sys
sys.path[:0] = [{path!r}]
import tape
with open({pickled!r}, "rb") as file:
    pairs = pickle.load(file)
results = {{name: numbers(pickle.loads(made)) for name, (made, numbers) in pairs.items()}}
with open({pickled!r}, "wb") as file:
    pickle.dump(results, file)
"""


def landed(folder, pairs, path=HERE):
    """What objects, given as pickles with what computes numbers of them, give in a process of its own."""
    file = folder / "pickled"
    file.write_bytes(pairs)
    program = LANDING.format(path=str(path), pickled=str(file))
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], env=environment, capture_output=True, text=True,
                          cwd=folder)
    assert done.returncode == 0, done.stderr
    return pickle.loads(file.read_bytes())


def compare(found):
    assert set(found) == set(OBJECTS)
    for name, (make, numbers) in OBJECTS.items():
        assert flat(found[name]).tobytes() == flat(numbers(make())).tobytes(), name


def test_everything_gives_the_same_numbers_in_another_process(tmp_path):
    pairs = pickle.dumps({name: (pickle.dumps(make()), numbers) for name, (make, numbers) in OBJECTS.items()})
    compare(landed(tmp_path, pairs))


def test_everything_lands_where_its_modules_are_not(tmp_path):
    """Code that travels along, as that of notebooks and scripts does."""
    cloudpickle = pytest.importorskip("cloudpickle")
    picklers, modules = (cloudpickle, numba.cloudpickle), (portable, sys.modules[__name__])  # Numba has one of its own
    for pickler, module in itertools.product(picklers, modules):
        pickler.register_pickle_by_value(module)
    try:
        pairs = cloudpickle.dumps({name: (cloudpickle.dumps(make()), numbers) for name, (make, numbers) in OBJECTS.items()})
    finally:
        for pickler, module in itertools.product(picklers, modules):
            pickler.unregister_pickle_by_value(module)
    compare(landed(tmp_path, pairs, path=tmp_path))


def test_arrays_out_of_a_pickle_run_by_native_code(monkeypatch):
    """Their dtypes are equal to NumPy's own, but not the same objects."""
    monkeypatch.setenv("TAPE_NATIVE", "always")
    x = pickle.loads(pickle.dumps(X))
    expected = tape.value_and_grad(lambda x: np.sum(np.sin(x) * x))(X)
    for make in (tape.value_and_grad, tape.value_and_grad):
        value, gradient = make(lambda x: np.sum(np.sin(x) * x))(x)
        assert value == expected[0]
        assert np.array_equal(gradient, expected[1])
    c = tape.compile(lambda x: np.sum(np.sin(x) * x), x)
    assert np.array_equal(c.value_and_grad(X)[1], c.value_and_grad(x)[1])


# ---------------------------------------------------------------------- pools

POOL = """
import functools, multiprocessing, sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
import numba, numpy as np, tape

@tape.value_and_grad
def loss(w, x):
    return np.sum(np.log1p(np.exp(-(x @ w)))) + 0.1 * np.sum(w**2)

@tape.operation
def bounded(x):
    return np.minimum(x, 1.0)

@bounded.bprop
def _(grad, out, x):
    return grad * (x < 1.0)

def use(x):
    return np.sum(bounded(np.sin(x)))

gradient_of_use = tape.grad(use)

@tape.grad
@numba.njit
def spring(x):
    return np.sum(np.cos(x) * x)

def main(kind):
    offset = np.array([0.1, -0.2, 0.3])
    closure = tape.grad(lambda x: np.sum(np.exp(x - offset)))
    at_w = functools.partial(loss, np.array([0.5, -0.3, 0.1]))
    work = [(at_w, np.random.default_rng(k).normal(size=(50, 3))) for k in range(6)]
    work += [(gradient_of_use, np.linspace(0, k, 5)) for k in range(1, 4)]
    work += [(spring, np.linspace(0, k, 5)) for k in range(1, 4)]
    expected = [f(x) for f, x in work]
    if kind in ("fork", "spawn"):
        with multiprocessing.get_context(kind).Pool(4) as pool:
            found = pool.starmap(call, work)
    elif kind in ("processes", "threads"):
        made = functools.partial(ProcessPoolExecutor, mp_context=multiprocessing.get_context("spawn"))
        with (made if kind == "processes" else ThreadPoolExecutor)(4) as pool:
            found = list(pool.map(call, *zip(*work)))
    else:
        import joblib
        work.append((closure, offset))
        expected.append(closure(offset))
        found = joblib.Parallel(n_jobs=4, backend=kind)(joblib.delayed(f)(x) for f, x in work)
    flat = lambda xs: b"".join(np.asarray(part).tobytes() for x in xs for part in (x if isinstance(x, tuple) else (x,)))
    assert len(found) == len(work) and flat(found) == flat(expected)
    print("the same")

def call(f, x):
    return f(x)

if __name__ == "__main__":
    main(sys.argv[1])
"""


def pool(folder, kind):
    """Run the program above, a script of the user's with everything in it."""
    (folder / "script.py").write_text(POOL)
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    done = subprocess.run([sys.executable, "script.py", kind], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.stdout == "the same\n", done.stderr


FORK = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")


@pytest.mark.parametrize("kind", [pytest.param("fork", marks=FORK), "threads"])
def test_a_pool_gives_the_numbers_of_one_process(tmp_path, kind):
    pool(tmp_path, kind)


@pytest.mark.parametrize("kind", ["loky", pytest.param("threading", marks=pytest.mark.slow)])
def test_joblib_gives_the_numbers_of_one_process(tmp_path, kind):
    pytest.importorskip("joblib")
    pool(tmp_path, kind)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["spawn", "processes"])
def test_processes_that_start_anew_give_the_numbers_of_one(tmp_path, kind):
    pool(tmp_path, kind)


# ---------------------------------------------------------------------- what lands


def test_by_its_name_a_decorated_function_stays_what_the_module_has():
    for way in WAYS.values():
        for made in (portable.slope, portable.slopes, portable.jitted_slope, portable.softplus, portable.cube, portable.twice):
            assert way(made) is made


def test_derivatives_of_one_function_share_its_lists():
    gradient = tape.grad(portable.wave)
    gradient(X)
    before = gradient.report()
    again = pickle.loads(pickle.dumps(gradient))
    again(X)
    assert again.report() == gradient.report()
    assert before.splitlines()[0] == again.report().splitlines()[0]


def test_a_deep_copy_of_a_bound_gradient_has_parameters_of_its_own():
    model = portable.Model([1.0, 2.0])
    gradient = tape.grad(model.loss)
    deep, shallow = copy.deepcopy(gradient), copy.copy(gradient)
    model.scale = np.array([3.0, 3.0])
    x = np.ones(2)
    assert deep(x).tolist() == [2.0, 8.0]
    assert shallow(x).tolist() == gradient(x).tolist() == [18.0, 18.0]


def test_a_copied_tape_has_buffers_of_its_own():
    t = _reversed(portable.wave)
    values, adjoints = t.values.copy(), t.adjoints.copy()
    for way in WAYS.values():
        other = way(t)
        other.forward(V)
        other.reverse()
        assert np.array_equal(t.values, values)
        assert np.array_equal(t.adjoints, adjoints)
        assert np.array_equal(other.gradients[0], tape.grad(portable.wave)(V))
        assert str(other) == str(t)


def test_a_compiled_function_is_frozen_where_it_lands(monkeypatch):
    c = tape.compile(portable.wave, V)
    frozen = c.value(X)
    kept = pickle.dumps(c)
    assert not pickle.loads(kept).changed()
    monkeypatch.setattr(portable, "SCALE", 2.0)
    other = pickle.loads(kept)
    assert other.changed()
    assert other.value(X) == frozen
    assert other.value(X) != portable.wave(X)


def test_a_compiled_function_takes_its_branches_along():
    def branching(x):
        return x**2 if x > 0 else -x

    c = tape.compile(branching, 1.0)
    assert c.value(-2.0) == 2.0
    other = copy.copy(c)
    assert len(other._branches) == 1
    assert (other.value(-2.0), other.value(3.0)) == (2.0, 9.0)


def test_methods_that_are_decorated_are_bound():
    model = portable.Model(1.0)
    assert portable.Model.own(X, None).tolist() == (3 * X**2).tolist()
    assert portable.Model.__dict__["own"].__get__(X)(model).tolist() == (3 * X**2).tolist()


STALE = """
import sys, numpy as np, numba, tape, inner

def make(df):
    @numba.njit(cache=True)
    def outer(x):
        return df(x)
    return outer

print(make(tape.grad(inner.f))(2.0))
"""


def test_a_kept_function_that_closes_over_a_derivative_is_not_stale(tmp_path):
    """Numba's key holds the pickle of what is closed over; the pickle of a derivative must not be the same for other code."""
    (tmp_path / "outer.py").write_text(STALE)
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent), "NUMBA_CACHE_DIR": str(tmp_path / "kept")}
    found = []
    for text in ("x * x", "x * x * x"):
        (tmp_path / "inner.py").write_text(f"import numba\n@numba.njit\ndef f(x):\n    return {text}\n")
        done = subprocess.run([sys.executable, "-B", "outer.py"], cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        found.append(float(done.stdout))
    assert found == [4.0, 12.0]


KEPT = """
import pickle, sys
import numpy as np
sys.path.insert(0, {path!r})
with open("pickled", "rb") as file:
    gradient = pickle.load(file)
gradient(np.ones(4))
print(sum(gradient.stats.cache_hits.values()), sum(gradient.stats.cache_misses.values()))
"""


def test_a_jitted_derivative_is_read_from_disk_where_it_lands(tmp_path):
    gradient = tape.grad(portable.kept_spring)
    gradient(X)
    (tmp_path / "pickled").write_bytes(pickle.dumps(gradient))
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    program = KEPT.format(path=str(HERE))
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stdout == "1 0\n", done.stderr


# ---------------------------------------------------------------------- what cannot go


def test_what_cannot_be_pickled_says_what():
    with pytest.raises((pickle.PicklingError, AttributeError), match="<lambda>"):
        pickle.dumps(tape.grad(lambda x: x**2))
    with pytest.raises(TypeError, match="a recorded array is of the recording"):
        tape.grad(lambda x: np.sum(pickle.loads(pickle.dumps(x))))(X)
    with pytest.raises(pickle.PicklingError, match="protocol 4"):
        pickle.dumps(portable.slope, protocol=2)
    with pytest.raises(TypeError, match="detach"):
        pickle.dumps(tape.variable(X, requires_grad=True) * 2.0)


def test_closures_travel_by_cloudpickle():
    cloudpickle = pytest.importorskip("cloudpickle")
    scale = 3.0
    for make in (tape.grad, tape.value_and_grad, tape.hessian):
        made = make(lambda x: np.sum(scale * x**3))
        assert flat(pickle.loads(cloudpickle.dumps(made))(X)).tobytes() == flat(made(X)).tobytes()


# ---------------------------------------------------------------------- what they say of themselves


def test_what_is_returned_says_what_it_is_of_what():
    line = inspect.getsourcelines(portable.wave)[1]
    of = rf"of wave at portable.py:{line}"
    assert repr(tape.grad(portable.wave)) == f"<tape.grad {of}, argnums=0>"
    assert repr(tape.jacobian(portable.wave, (0,), mode="forward")) == f"<tape.jacobian {of}, argnums=(0,), mode='forward'>"
    assert repr(tape.batch(tape.grad(portable.wave), (0,))) == f"<tape.batch of tape.grad {of}, argnums=0, in_axes=(0,)>"
    assert repr(tape.checkpoint(portable.wave)) == f"<tape.checkpoint {of}>"
    assert repr(tape.vjp(portable.wave, X)[1]) == f"<pullback of tape.vjp {of}>"
    assert repr(tape.record(portable.wave, X)).startswith(f"<tape.record {of}: ")
    assert repr(tape.compile(portable.wave, X)).startswith(f"<tape.compile {of}, argnums=0, for arguments of shapes (4,)")
    assert repr(tape.compile(portable.wave, X).value).startswith(f"<value of <tape.compile {of}")
    assert repr(tape.grad(np.sum)).startswith("<tape.grad of sum at fromnumeric.py:")
    assert repr(tape.grad(np.sin)) == "<tape.grad of sin, argnums=0>"
    spring = f"of spring at portable.py:{portable.spring.py_func.__code__.co_firstlineno}"
    assert repr(tape.hvp(portable.spring)) == f"<tape.hvp {spring}, argnums=0, jitted>"
    assert repr(portable.cube).startswith("<tape.operation of cube at portable.py:")
    assert repr(portable.softplus).startswith("<tape.operation of softplus at portable.py:")


def test_names_signatures_and_docstrings_are_the_functions_own():
    def energy(q, k: float = 2.0, *, scale=1.0) -> float:
        """The energy."""
        return np.sum(scale * k * q**2)

    gradient = tape.grad(energy)
    assert (gradient.__name__, gradient.__module__) == ("energy", __name__)
    assert str(inspect.signature(gradient)) == "(q, k: float = 2.0, *, scale=1.0)"
    assert inspect.signature(gradient).return_annotation is inspect.Signature.empty
    assert list(inspect.signature(tape.hvp(energy)).parameters) == ["q", "k", "v", "scale"]
    assert gradient.__doc__.startswith("tape.grad of energy at test_processes.py:")
    assert gradient.__doc__.endswith("\n\nThe energy.")
    assert inspect.signature(tape.checkpoint(energy)) == inspect.signature(energy)
    assert list(inspect.signature(tape.grad(portable.spring)).parameters) == ["x"]
    assert inspect.unwrap(gradient) is energy
