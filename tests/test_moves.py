"""How far calls walk through the house stays within limits; see `bench.moves`."""

import sys

import pytest

from bench.moves import FOLDERS, walk, walks

LIMITS = {"traced gradient, first call": 252, "traced gradient, warm call": 15, "traced gradient, warm call by native code": 15}
"""Moves between files at most."""


@pytest.fixture(scope="module")
def found():
    return walks()


@pytest.mark.parametrize("name", LIMITS)
def test_calls_do_not_walk_far(found, name):
    assert found[name].moves <= LIMITS[name], "\n".join(
        f"{count} from {one} to {other}: {function}" for (one, other, function), count in found[name].ways.most_common())


def test_all_calls_that_are_told_of_are_followed(found):
    assert all(one.calls > 0 and one.rooms > 0 and one.moves > 0 for one in found.values())


def test_calls_and_returns_are_moves():
    """Two files of a folder that is ours: one calls the other twice, which calls back once."""
    folder = FOLDERS[0] + "moves_of_a_test"
    space = {}
    one = "def outer(inner, back):\n    inner(back)\n    inner(back)\n\ndef back():\n    pass\n"
    exec(compile(one, folder + "/one.py", "exec"), space)
    exec(compile("def inner(back):\n    back()\n", folder + "/two.py", "exec"), space)
    before = sys.getprofile()
    one = walk(lambda: space["outer"](space["inner"], space["back"]))
    assert (one.calls, one.rooms, one.moves) == (5, 2, 8)
    assert sys.getprofile() is before
