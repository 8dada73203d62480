"""matmul, dot, inner, outer, tensordot, vdot and einsum against NumPy, over ranks, batches and layouts of the operands."""

import itertools

import numpy as np
import pytest

import tape


def drawn(shape, seed):
    return np.random.default_rng([seed, len(shape)]).uniform(-1.0, 1.0, shape)


def assert_agrees(f, *args, order=2):
    expected = f(*args)
    recorded = tape.record(f, *args)
    for at in (args, [x * 0.5 + 0.1 if x.dtype.kind == "f" else x for x in args]):
        at = [np.asarray(y).astype(x.dtype) for x, y in zip(args, at, strict=True)]
        got, wanted = recorded.forward(*at), f(*at)
        assert np.asarray(got).dtype == np.asarray(wanted).dtype
        assert np.shape(got) == np.shape(wanted)
        single = np.asarray(wanted).dtype == np.float32
        np.testing.assert_allclose(got, wanted, rtol=1e-4 if single else 1e-12, atol=1e-5 if single else 1e-13)
    if np.asarray(expected).dtype.kind == "f" and all(x.dtype.kind == "f" for x in args):
        tape.check_grads(f, args, order=order)
        for gradient, x in zip(tape.vjp(f, *args)[1](expected), args, strict=True):
            assert gradient.dtype == x.dtype


MATMUL = [
    ((3,), (3,)),
    ((3,), (3, 2)),
    ((2, 3), (3,)),
    ((2, 3), (3, 4)),
    ((5, 2, 3), (3, 4)),
    ((2, 3), (5, 3, 4)),
    ((5, 2, 3), (5, 3, 4)),
    ((5, 2, 3), (1, 3, 4)),
    ((2, 1, 2, 3), (4, 3, 2)),
    ((2, 1, 2, 3), (1, 3, 3, 2)),
    ((3,), (5, 3, 2)),
    ((5, 2, 3), (3,)),
    ((1, 3), (3, 1)),
    ((3, 1), (1, 3)),
    ((1, 1), (1, 1)),
    ((0, 3), (3, 2)),
    ((2, 0), (0, 3)),
    ((2, 3), (3, 0)),
    ((0, 2, 3), (3, 2)),
    ((0,), (0,)),
    ((0,), (0, 2)),
    ((2, 3), (0, 3, 2)),
    ((1, 2, 3), (4, 3, 2)),
    ((2, 1), (1,)),
    ((1,), (1,)),
]


@pytest.mark.parametrize(("a", "b"), MATMUL)
def test_matmul_of_all_ranks(a, b):
    assert_agrees(lambda x, y: x @ y, drawn(a, 1), drawn(b, 2))
    x, y = drawn(a, 3), drawn(b, 4)
    assert_agrees(lambda x: x @ y, x, order=1)
    assert_agrees(lambda y: x @ y, y, order=1)


LAYOUTS = {
    "transposed": lambda x: np.swapaxes(np.swapaxes(x, -1, -2).copy(), -1, -2),
    "reversed": lambda x: x[..., ::-1, ::-1],
    "every other": lambda x: np.repeat(np.repeat(x, 2, -1), 2, -2)[..., ::2, ::2],
    "batch last": lambda x: np.moveaxis(np.moveaxis(x, 0, -1).copy(), -1, 0),
    "plain": lambda x: x,
}


@pytest.mark.parametrize(("left", "right"), list(itertools.product(LAYOUTS, LAYOUTS)))
@pytest.mark.parametrize(
    ("a", "b"), [((2, 3), (3, 4)), ((2, 2, 3), (2, 3, 2)), ((3, 1), (1, 2)), ((1, 3), (3, 1)), ((1, 2, 3), (3, 1))]
)
def test_matmul_of_all_layouts(left, right, a, b):
    x, y = drawn(a, 1), drawn(b, 2)
    left, right = LAYOUTS[left], LAYOUTS[right]
    assert_agrees(lambda x, y: left(x) @ right(y), x, y, order=1)
    assert_agrees(np.matmul, left(x), right(y), order=1)


@pytest.mark.parametrize(
    "f",
    [
        lambda x: x.T @ x,
        lambda x: x @ x.T,
        lambda x: (x.T @ x) @ x.T,
        lambda x: x @ (x.T @ x[:, :1]),
        lambda x: np.broadcast_to(x[:1], (3, 4)) @ x.T,
        lambda x: x[:, 1:3].T @ x[:, ::2],
        lambda x: x[0] @ x[1],
        lambda x: x[0] @ x.T,
        lambda x: x.T[1] @ x,
        lambda x: x @ x[0][::-1],
        lambda x: np.reshape(x, (2, 2, 3)) @ np.reshape(x, (2, 3, 2)),
        lambda x: x @ np.arange(4),
        lambda x: np.arange(3.0) @ x,
        lambda x: x @ np.ones((4, 2)),
        lambda x: [1.0, 2.0, 3.0] @ x,
        lambda x: (x @ x.T) @ (x @ x.T),
    ],
)
def test_matmul_of_views_of_one_array(f):
    assert_agrees(f, drawn((3, 4), 1))


@pytest.mark.parametrize(
    ("a", "b"), list(itertools.product([(), (3,), (2, 3), (4, 2, 3), (2, 1, 2, 3)], [(), (3,), (3, 2), (4, 3, 2), (2, 3, 1)]))
)
def test_dot(a, b):
    assert_agrees(np.dot, drawn(a, 1), drawn(b, 2), order=1)


@pytest.mark.parametrize(("a", "b"), list(itertools.product([(), (3,), (2, 3), (4, 2, 3)], [(), (3,), (5, 3), (2, 1, 3)])))
def test_inner(a, b):
    assert_agrees(np.inner, drawn(a, 1), drawn(b, 2), order=1)


@pytest.mark.parametrize(("a", "b"), list(itertools.product([(), (3,), (2, 3), (0,)], repeat=2)))
def test_outer(a, b):
    assert_agrees(np.outer, drawn(a, 1), drawn(b, 2))


@pytest.mark.parametrize(
    ("a", "b", "axes"),
    [
        ((2, 3, 4), (3, 4, 5), 2),
        ((2, 3), (3, 4), 1),
        ((2, 3), (4,), 0),
        ((2, 3, 4), (4, 3, 2), ([1, 2], [1, 0])),
        ((2, 3, 4), (5, 3), (1, 1)),
        ((2, 3, 4), (4, 5, 2), ([-1, 0], [0, -1])),
        ((3, 3), (3, 3), ([0, 1], [1, 0])),
        ((2, 3), (2, 3), 2),
        ((), (3,), 0),
        ((2, 0), (0, 3), 1),
        ((2, 3, 4), (3, 2), ((1, 0), (0, 1))),
    ],
)
def test_tensordot(a, b, axes):
    assert_agrees(lambda x, y: np.tensordot(x, y, axes), drawn(a, 1), drawn(b, 2))


EINSUM = [
    ("i->", (3,)),
    ("i->i", (3,)),
    ("ij->ji", (2, 3)),
    ("ij->i", (2, 3)),
    ("ij->j", (2, 3)),
    ("ij->", (2, 3)),
    ("ii->", (3, 3)),
    ("ii->i", (3, 3)),
    ("ii", (3, 3)),
    ("ij", (2, 3)),
    ("ba", (2, 3)),
    ("iij->j", (2, 2, 3)),
    ("iji->ij", (2, 3, 2)),
    ("iii->i", (2, 2, 2)),
    ("...", (2, 3)),
    ("...i->...", (2, 3)),
    ("i...->...i", (2, 3, 4)),
    ("...ii->...i", (2, 3, 3)),
    ("ijk->kji", (2, 3, 4)),
    ("i,i", (3,), (3,)),
    ("i,i->i", (3,), (3,)),
    ("i,j", (2,), (3,)),
    ("i,j->ji", (2,), (3,)),
    ("i,j->", (2,), (3,)),
    ("i,j->i", (2,), (3,)),
    ("ij,jk", (2, 3), (3, 4)),
    ("ij,jk->ki", (2, 3), (3, 4)),
    ("ij,jk->", (2, 3), (3, 4)),
    ("ij,kj->ik", (2, 3), (4, 3)),
    ("ji,jk", (3, 2), (3, 4)),
    ("ij,j", (2, 3), (3,)),
    ("ij,i", (2, 3), (2,)),
    ("ij,ij", (2, 3), (2, 3)),
    ("ij,ij->ij", (2, 3), (2, 3)),
    ("ij,ij->i", (2, 3), (2, 3)),
    ("ij,ji->", (2, 3), (3, 2)),
    ("ij,ji", (2, 3), (3, 2)),
    ("bij,bjk->bik", (2, 2, 3), (2, 3, 2)),
    ("bij,jk->bik", (2, 2, 3), (3, 2)),
    ("bij,bj->bi", (2, 2, 3), (2, 3)),
    ("bij,bij->b", (2, 2, 3), (2, 2, 3)),
    ("abc,cd->abd", (2, 3, 4), (4, 2)),
    ("abc,acd->bd", (2, 3, 4), (2, 4, 2)),
    ("bhqd,bhkd->bhqk", (2, 2, 3, 2), (2, 2, 4, 2)),
    ("ijk,ilm->jlkm", (2, 3, 2), (2, 2, 3)),
    ("ii,i->i", (3, 3), (3,)),
    ("ii,jj->ij", (2, 2), (3, 3)),
    ("...ij,...jk->...ik", (2, 2, 3), (2, 3, 2)),
    ("...ij,...jk", (2, 3), (4, 3, 2)),
    ("i...,i...->...", (2, 3), (2, 3)),
    ("...,...", (2, 3), (3,)),
    ("...i,i", (2, 3), (3,)),
    ("ij...,jk...->ik...", (2, 3, 2), (3, 2, 2)),
    (",", (), ()),
    (",i", (), (3,)),
    ("i,->i", (3,), ()),
    (" i j , j k -> i k ", (2, 3), (3, 2)),
    ("aab,b->a", (2, 2, 3), (3,)),
    ("ab,cd->dbca", (2, 3), (2, 2)),
    ("ij,j->ij", (2, 3), (3,)),
    ("ij,jk,kl", (2, 3), (3, 4), (4, 2)),
    ("ij,jk,kl->li", (2, 3), (3, 4), (4, 2)),
    ("i,ij,j", (2,), (2, 3), (3,)),
    ("i,i,i", (3,), (3,), (3,)),
    ("i,j,k->ijk", (2,), (3,), (2,)),
    ("ij,ik,il->jkl", (2, 2), (2, 3), (2, 2)),
    ("i,i,i->i", (3,), (3,), (3,)),
    ("ab,bc,cd,de->ae", (2, 2), (2, 3), (3, 2), (2, 2)),
    ("ij,kl,mn->", (2, 2), (2, 3), (2, 2)),
    ("bij,bjk,bkl->bil", (2, 2, 2), (2, 2, 3), (2, 3, 2)),
    ("ij,jk->ik", (0, 3), (3, 2)),
    ("ij,jk->ik", (2, 0), (0, 2)),
    ("ij,jk->ik", (1, 3), (3, 1)),
    ("ij->j", (0, 2)),
    ("ik,kj,ij->", (2, 3), (3, 2), (2, 2)),
]


@pytest.mark.parametrize("case", EINSUM, ids=str)
def test_einsum(case):
    subscripts, *shapes = case
    assert_agrees(lambda *arrays: np.einsum(subscripts, *arrays), *(drawn(shape, k) for k, shape in enumerate(shapes)), order=2)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(300))
def test_random_einsum(seed):
    check_random_einsum(seed)


@pytest.mark.parametrize("seed", range(300, 340))
def test_some_random_einsum(seed):
    check_random_einsum(seed)


def check_random_einsum(seed):
    random = np.random.default_rng(seed)
    sizes = dict(zip("abcde", random.integers(1, 4, 5), strict=True))
    terms = ["".join(random.choice(list("abcde"), random.integers(1, 4))) for _ in range(random.integers(1, 4))]
    letters = sorted(set("".join(terms)))
    output = "".join(random.permutation([c for c in letters if random.random() < 0.5]))
    subscripts = ",".join(terms) + ("->" + output if random.random() < 0.8 else "")
    arrays = [drawn(tuple(sizes[c] for c in term), k) for k, term in enumerate(terms)]
    assert_agrees(lambda *a: np.einsum(subscripts, *a), *arrays, order=1)


@pytest.mark.parametrize(
    "case",
    [("ij,jk->ik", (2, 3), (3, 2)), ("i,i", (3,), (3,)), ("ij->i", (2, 3)), ("ij,jk,kl", (2, 3), (3, 4), (4, 2))],
    ids=str,
)
def test_einsum_in_single_precision_and_with_constants(case):
    subscripts, *shapes = case
    arrays = [drawn(shape, k) for k, shape in enumerate(shapes)]
    assert_agrees(lambda *a: np.einsum(subscripts, *a), *(x.astype(np.float32) for x in arrays), order=1)
    assert_agrees(lambda x: np.einsum(subscripts, x, *arrays[1:]), arrays[0])
    assert_agrees(lambda x: np.einsum(subscripts, *arrays[:-1], x), arrays[-1])
    assert_agrees(lambda *a: np.einsum(subscripts, *a), *(np.rint(3 * x).astype(int) for x in arrays))
    assert_agrees(lambda *a: np.einsum(subscripts, *a, optimize=False), *arrays, order=1)


@pytest.mark.parametrize(
    "f", [lambda x, y: x @ y, np.dot, np.inner, lambda x, y: np.tensordot(x, y, 1), lambda x, y: np.outer(x, y), np.vdot]
)
@pytest.mark.parametrize(
    "kinds",
    [(np.float32, np.float32), (np.float32, np.float64), (np.int64, np.float64), (np.int64, np.int64), (bool, np.float64)],
)
def test_dtypes_of_products(f, kinds):
    x, y = (np.arange(1, 4).astype(kind) for kind in kinds)
    assert_agrees(f, x, y, order=1)
    if kinds[1] != np.int64:
        assert_agrees(lambda y: f(x, y), y, order=1)


@pytest.mark.parametrize(
    ("f", "a", "b"),
    [
        (np.matmul, (2, 3), (2, 3)),
        (np.matmul, (), (3,)),
        (np.matmul, (3,), ()),
        (np.matmul, (3,), (2,)),
        (np.matmul, (2, 2, 3), (3, 3, 2)),
        (np.dot, (2, 3), (2, 3)),
        (np.inner, (3,), (2,)),
        (lambda x, y: np.tensordot(x, y, 1), (2, 3), (2,)),
        (lambda x, y: np.einsum("ij,jk", x, y), (2, 3), (2, 3)),
        (lambda x, y: np.einsum("ij,jk", x, y), (2,), (2, 3)),
        (lambda x, y: np.einsum("ij", x, y), (2, 3), (2, 3)),
        (lambda x, y: np.einsum("ij,jk->il", x, y), (2, 3), (3, 3)),
        (np.vdot, (2,), (3,)),
        (lambda x, y: np.einsum("i,j->ii", x, y), (2,), (3,)),
    ],
)
def test_wrong_shapes_are_refused_as_by_numpy(f, a, b):
    x, y = drawn(a, 1), drawn(b, 2)
    with pytest.raises(ValueError):  # noqa: PT011  NumPy words it differently for each
        f(x, y)
    with pytest.raises(ValueError, match=r"\d|dimension|einsum|einstein"):
        tape.record(f, x, y)


def test_products_of_large_matrices():
    x, y = drawn((60, 70), 1), drawn((70, 50), 2)
    np.testing.assert_allclose(tape.vjp(np.matmul, x, y)[0], x @ y, rtol=1e-12)
    w = drawn((60, 50), 3)
    a, b = tape.vjp(np.matmul, x, y)[1](w)
    np.testing.assert_allclose(a, w @ y.T, rtol=1e-11)
    np.testing.assert_allclose(b, x.T @ w, rtol=1e-11)


def test_zeros_pass_no_infinity_to_other_operands():
    x = np.array([[1.0, 0.0]])
    gradient = tape.grad(lambda x: (x @ np.array([2.0, 3.0]))[0] * 1.0)(x)
    np.testing.assert_array_equal(gradient, [[2.0, 3.0]])
