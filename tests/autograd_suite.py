"""autograd's own tests, run on tape: `python -m tests.autograd_suite DIRECTORY [pytest options]`.

The directory is the `tests` folder of a source distribution of autograd 1.7 or later (``pip download autograd --no-deps
--no-binary autograd``); their files are read where they lie. Here are the names that they import, each in terms of tape's, and
the list of what is left out and why. autograd itself is not needed. What is not here: tests of our own.

Their `check_grads` becomes `tape.check_grads` (component by component, in the modes and to the order that the test asks for).
Cases with complex arguments are left out one by one; a test that has no others counts as skipped.
"""

from __future__ import annotations

import collections
import itertools
import pathlib
import sys
import types

import numpy as np
import pytest
import scipy.integrate
import scipy.linalg
import scipy.special
import scipy.stats

import tape
from tape.recording.arguments import leaves_of, with_leaves
from tape.recording.arrays import RecordedArray

LEFT_OUT = {
    "test_complex.py": "complex numbers",
    "test_fft.py": "complex numbers: Fourier transforms",
    "test_performance.py": "internals",
    "test_vspaces.py": "internals: their vector spaces",
    "test_tests.py": "internals: messages of their checker; ours is tested with corrupted partials in test_instructions.py",
    "test_direct.py::test_grad_complex_output": "complex numbers",
    "test_direct.py::test_holomorphic_grad": "complex numbers",
    "test_graphs.py::test_complex_": "complex numbers",
    "test_graphs.py::test_assignment_raises_error": "convention: assignment to recorded arrays is differentiated here",
    "test_logic.py::test_falseyness": "complex numbers",
    "test_logic.py::test_no_": "internals: their table of primitives",
    "test_logic.py::test_unimplemented_falseyness": "internals: their table of primitives",
    "test_misc.py::test_const_graph": "internals: how often their cache evaluates a function",
    "test_misc.py::test_flatten_complex": "complex numbers",
    "test_numpy.py::test_numpy_version": "internals: their numpy wrapper",
    "test_wrappers.py::test_deprecated_": "internals: deprecated names",
    "test_wrappers.py::test_dtypes": "half, extended and complex precision",
    "test_wrappers.py::test_custom_where": "internals: their wrapper of numpy.where, on plain lists and with keywords",
    "test_wrappers.py::test_wrapped_name_and_docs": "internals: texts of their docstrings",
    "test_linalg.py::test_eig_": "complex numbers: eigenvalues of matrices that are not symmetric",
    "test_scipy.py::test_odeint": "scipy.integrate",
    **{f"test_scipy.py::test_{name}_": "scipy.stats"
       for name in ("chi2", "beta", "gamma", "norm", "poisson", "t", "mvn", "dirichlet")},
}
"""File, or file and start of the test's name → why it is not run."""


# ---------------------------------------------------------------------- checks of derivatives

MODES = {"fwd": "forward", "rev": "reverse"}


class Cases:
    """How many checks the running test has made, and how many it left out because an argument is complex."""

    made = complex = 0


def _is_complex(x) -> bool:
    return any(np.iscomplexobj(leaf) for leaf in leaves_of(x)[0] if not isinstance(leaf, RecordedArray))


def _of_selected(operate):
    """autograd's calling convention: ``operator(fun, argnum, ...)(*args, **kwargs)`` acts on the arguments chosen."""

    def operator(fun, argnum=0, *settings, **named):
        numbers = [argnum] if isinstance(argnum, int) else list(argnum)

        def call(*args, **kwargs):
            def of_selected(*selected):
                chosen = dict(zip(numbers, selected, strict=True))
                return fun(*(chosen.get(k, x) for k, x in enumerate(args)), **kwargs)

            selected = tuple(args[k] for k in numbers)
            if isinstance(argnum, int):
                return operate(of_selected, selected[0], *settings, **named)
            return operate(lambda x: of_selected(*x), selected, *settings, **named)

        return call

    return operator


def _check(f, x, modes=("fwd", "rev"), order=2):
    if _is_complex(x) or (not isinstance(x, RecordedArray) and _is_complex(f(x))):
        Cases.complex += 1
        return
    Cases.made += 1
    tape.check_grads(f, (x,), order=order, modes=[MODES[mode] for mode in modes])


check_grads = _of_selected(_check)


def combo_check(fun, *settings, **named):
    """Check the function at every combination of the values listed for each argument."""

    def check(*args, **kwargs):
        for values in itertools.product(*args):
            for keywords in itertools.product(*kwargs.values()):
                if _is_complex(values):
                    Cases.complex += 1
                else:
                    check_grads(fun, *settings, **named)(*values, **dict(zip(kwargs, keywords, strict=True)))

    return check


def scalar_close(a, b):
    """Two numbers agree to 1e-6."""
    return abs(a - b) < 1e-6 or abs(a - b) / abs(a + b) < 1e-6


def check_equivalent(x, y):
    """Two nested containers have the same structure, shapes and values."""
    (left, structure), (right, other) = leaves_of(x), leaves_of(y)
    assert structure == other
    for a, b in zip(left, right, strict=True):
        assert np.shape(a) == np.shape(b)
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


# ---------------------------------------------------------------------- derivatives


def _scalar(f):
    """A result with one element, of whatever shape, as the number that `tape.grad` expects."""

    def number(*args):
        result = f(*args)
        return np.reshape(result, ()) if np.shape(result) else result

    return number


def _seed_of(value, fill):
    leaves, structure = leaves_of(value)
    return with_leaves(structure, [np.full(np.shape(leaf), fill)[()] for leaf in leaves])


def _value_and_grad(f, x):
    value, gradient = tape.value_and_grad(_scalar(f))(x)
    return value, gradient


def _make_vjp(f, x):
    value, pullback = tape.vjp(f, x)
    return lambda seed: pullback(seed)[0], value


def _make_jvp(f, x):
    return lambda v: tape.jvp(f, (x,), (v,))


def _elementwise_grad(f, x):
    pullback, value = _make_vjp(f, x)
    return pullback(_seed_of(value, 1.0))


def _grad_and_aux(f, x):
    pullback, (_, aux) = _make_vjp(f, x)
    return pullback((1.0, _seed_of(aux, 0.0))), aux


def _hessian_tensor_product(fun, argnum=0):
    return lambda *args: tape.hvp(_scalar(fun), argnum)(*args)


def _tensor_jacobian_product(fun, argnum=0):
    def product(*args):
        *args, tensor = args
        return tape.jacobian(lambda *a: np.tensordot(tensor, fun(*a), axes=np.ndim(tensor)), argnum)(*args)

    return product


def _make_ggnvp(f, g=lambda y: 0.5 * np.sum(y**2, axis=-1), f_argnum=0):
    def of_one(f, x):
        pullback, value = _make_vjp(f, x)
        return lambda v: pullback(tape.hvp(g)(value, tape.jvp(f, (x,), (v,))[1]))

    return _of_selected(of_one)(f, f_argnum)


DERIVATIVES = {
    "grad": _of_selected(lambda f, x: _value_and_grad(f, x)[1]),
    "value_and_grad": _of_selected(_value_and_grad),
    "grad_and_aux": _of_selected(_grad_and_aux),
    "elementwise_grad": _of_selected(_elementwise_grad),
    "deriv": _of_selected(lambda f, x: tape.jvp(f, (x,), (_seed_of(x, 1.0),))[1]),
    "jacobian": _of_selected(lambda f, x: tape.jacobian(f)(x)),
    "hessian": _of_selected(lambda f, x: tape.hessian(_scalar(f))(x)),
    "make_vjp": _of_selected(_make_vjp),
    "make_jvp": _of_selected(_make_jvp),
    "make_hvp": _of_selected(lambda f, x: (lambda v: tape.hvp(_scalar(f))(x, v), tape.grad(_scalar(f))(x))),
    "make_ggnvp": _make_ggnvp,
    "hessian_tensor_product": _hessian_tensor_product,
    "hessian_vector_product": _hessian_tensor_product,
    "tensor_jacobian_product": _tensor_jacobian_product,
    "vector_jacobian_product": _tensor_jacobian_product,
    "checkpoint": tape.checkpoint,
}


# ---------------------------------------------------------------------- their numpy


def _found(x):
    """A recorded array in nested lists, which NumPy's own dispatch does not look into."""
    if isinstance(x, (list, tuple)):
        return next(filter(lambda found: found is not None, map(_found, x)), None)
    return x if isinstance(x, RecordedArray) else None


def _array(x, *args, **kwargs):
    found = _found(x)
    return np.array(x, *args, **kwargs) if found is None else np.array(x, *args, like=found, **kwargs)


def _of_lists(function):
    """A NumPy function whose first argument may be a list of recorded values."""
    return lambda x, *args, **kwargs: function(_array(x) if isinstance(x, (list, tuple)) else x, *args, **kwargs)


class _Joined:
    """numpy.r_ and numpy.c_ of recorded arrays: NumPy's write into plain arrays."""

    def __init__(self, join):
        self.join = join

    def __getitem__(self, items):
        items = items if isinstance(items, tuple) else (items,)
        return self.join([np.r_[item] if isinstance(item, slice) else item for item in items])


class _Int64(np.int64):
    """numpy.int64 that is called to convert a recorded array."""

    def __new__(cls, x):
        return x.astype(np.int64)


def _make_diagonal(d, offset=0, axis1=0, axis2=1):
    """The last axis on the diagonal of two."""
    return d[..., None] * np.eye(d.shape[-1])


def _convolve(a, b, axes=None, dot_axes=((), ()), mode="full"):
    """Convolution over pairs of axes, product over others; the axes of the result: those of a, those of b, the convolved."""
    if axes is None:
        return tape.scipy.signal.convolve(a, b, mode)
    (over_a, over_b), (dot_a, dot_b) = (map(list, pair) for pair in (axes, dot_axes))
    sizes = [np.shape(b)[k] for k in over_b]
    pads = dict(zip(over_a, sizes if mode != "valid" else [1] * len(sizes), strict=True))
    padded = np.pad(a, [(pads.get(k, 1) - 1,) * 2 for k in range(a.ndim)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, sizes, axis=over_a) if sizes else padded
    result = np.tensordot(windows, np.flip(b, tuple(over_b)), (list(range(a.ndim, windows.ndim)) + dot_a, over_b + dot_b))
    kept = [k for k in range(a.ndim) if k not in dot_a]
    result = np.moveaxis(result, [kept.index(k) for k in over_a], range(result.ndim - len(over_a), result.ndim))
    if mode == "same":
        middle = [slice((m - 1) // 2, (m - 1) // 2 + a.shape[k]) for k, m in zip(over_a, sizes, strict=True)]
        result = result[(..., *middle)]
    return result


def _isinstance(x, kind):
    return isinstance(np.empty(0) if isinstance(x, RecordedArray) else x, kind)


def _flatten(tree):
    """Nested containers as one vector, and the function that undoes it."""
    leaves, structure = leaves_of(tree)
    shapes = [np.shape(leaf) for leaf in leaves]
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])

    def unflatten(vector):
        parts = np.split(vector, ends[:-1]) if leaves else []
        return with_leaves(structure, [np.reshape(p, s) if s else p[0] for p, s in zip(parts, shapes, strict=True)])

    flat = [_array(leaf).reshape(-1) for leaf in leaves]
    return np.concatenate(flat) if flat else np.zeros(0), unflatten


def _module(name, fallback=None, **names):
    """Put a module of these names where `import` finds it; what it lacks comes from `fallback`."""
    module = types.ModuleType(name)
    module.__path__ = []
    vars(module).update(names)

    def attribute(key):
        if key.startswith("__"):
            raise AttributeError(key)
        return None if fallback is None else getattr(fallback, key)

    module.__getattr__ = attribute
    sys.modules[name] = module
    parent, _, child = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], child, module)
    return module


def _public(module):
    return {name: getattr(module, name) for name in getattr(module, "__all__", ())}


def install():
    """Make `import autograd` and its submodules give tape."""
    builtin = {"isinstance": _isinstance, "tuple": tuple, "list": list, "dict": dict, "type": type}
    _module("autograd", **DERIVATIVES, **builtin)
    numpy_names = {"array": _array, "r_": _Joined(np.concatenate), "c_": _Joined(np.column_stack),
                   "make_diagonal": _make_diagonal,
                   "append": lambda a, values, axis=None: np.append(_array(a), _array(values), axis), "int64": _Int64}
    numpy_names.update({name: _of_lists(getattr(np, name)) for name in ("mean", "std", "var")})
    _module("autograd.numpy", np, **numpy_names)
    _module("autograd.numpy.random", np.random)
    _module("autograd.numpy.linalg", np.linalg, norm=_of_lists(np.linalg.norm), _dot=np.matmul,
            T=lambda x: np.swapaxes(x, -1, -2))
    _module("autograd.scipy")
    _module("autograd.scipy.special", scipy.special, **_public(tape.scipy.special))
    _module("autograd.scipy.linalg", scipy.linalg, **_public(getattr(tape.scipy, "linalg", None)))
    _module("autograd.scipy.signal", convolve=_convolve)
    _module("autograd.scipy.integrate", scipy.integrate)
    _module("autograd.scipy.stats", scipy.stats)
    _module("autograd.scipy.stats.multivariate_normal", scipy.stats.multivariate_normal)
    _module("autograd.builtins", **builtin)
    _module("autograd.misc", flatten=_flatten, const_graph=None)
    _module("autograd.test_util", check_grads=check_grads, combo_check=combo_check, scalar_close=scalar_close,
            check_equivalent=check_equivalent)
    _module("autograd.core", make_vjp=_make_vjp)
    _module("autograd.wrap_util", unary_to_nary=_of_selected)
    _module("autograd.extend")
    _module("autograd.tracer", isbox=lambda x: isinstance(x, RecordedArray))


# ---------------------------------------------------------------------- as a plugin of pytest

RESULTS: dict = collections.defaultdict(collections.Counter)


def pytest_configure(config):
    """The names are there before a test file is imported."""
    install()


def pytest_ignore_collect(collection_path, config):
    """Leave out whole files."""
    return True if collection_path.name in LEFT_OUT else None


def pytest_collection_modifyitems(config, items):
    """Leave out single tests, and say why."""
    for item in items:
        name = f"{item.path.name}::{item.name}"
        reason = next((why for start, why in LEFT_OUT.items() if name.startswith(start)), None)
        if reason:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """A test all of whose cases are complex counts as skipped."""
    Cases.made = Cases.complex = 0
    result = yield
    if Cases.complex and not Cases.made:
        pytest.skip("complex numbers")
    return result


def pytest_runtest_logreport(report):
    """Count by file."""
    if report.when == "call" or report.outcome == "skipped":
        RESULTS[pathlib.Path(report.location[0]).name][report.outcome] += 1


def pytest_terminal_summary(terminalreporter):
    """Print the counts, and the files left out."""
    for name, counts in sorted(RESULTS.items()):
        terminalreporter.write_line(f"{name:24}" + ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items())))
    for name, reason in LEFT_OUT.items():
        if name.endswith(".py"):
            terminalreporter.write_line(f"{name:24}left out: {reason}")


def main(arguments: list[str]) -> int:
    """Run the tests in the directory given first; what follows goes to pytest."""
    if not arguments:
        print(__doc__)
        return 2
    directory, *options = arguments
    return pytest.main([directory, f"--rootdir={directory}", "-c", "/dev/null", "-p", "tests.autograd_suite", "-p",
                        "no:cacheprovider", *options])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
