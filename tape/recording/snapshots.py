"""What variables hold at some time, and whether they hold it still, as is asked before each replay.

What is here: contents that can be compared, and quick looks that spare comparing them. What is not: which variables a function
reads (`freshness.py`), whose code they are from (`ownership.py`), and generators that no variable holds (`random_states.py`).
"""

from __future__ import annotations

import array
import collections
import enum
import itertools
import operator
import random
import types

import numpy as np

from compiled.native.comparison import Pieces, memcmp
from tape.recording.foreign import PACKAGES, contents_of, is_sparse
from tape.recording.made import MadeFunction
from tape.recording.ownership import MACHINERY, file_of, is_library
from tape.recording.random_states import random_state

DEPTH = 150
"""How deep containers and attributes are followed; each is visited once."""

MOST_OBJECTS = 20_000
"""Objects that are looked through for one function at most."""


IMMUTABLE = (int, float, complex, str, bytes, bool, type(None), np.generic)
FUNCTIONS = (types.FunctionType, types.MethodType, MadeFunction)
OPAQUE = (type, types.ModuleType, types.BuiltinFunctionType, types.CodeType, np.ufunc)
_CONTAINERS = (tuple, frozenset, list, collections.deque, dict)
_VIEWS = (types.MappingProxyType, type({}.keys()), type({}.values()), type({}.items()))
_WRAPPERS = (collections.ChainMap, collections.UserDict, collections.UserList, enum.Enum)
"""Containers, and members of enumerations, that the standard library writes in Python: its code, which nobody follows, reads
attributes."""


class Snapshot:
    """What variables held at some time.

    Parameters
    ----------
    readers : list of callable
        What reads each variable.
    names : frozenset or None
        Of the attributes that count, None for all.
    arguments : sequence
        More objects, which are handed in at each look.

    As long as they hold the same objects, and these the same ones, it is enough to see that, and to compare the bytes of arrays
    (`_Checks`); otherwise contents are compared.
    """

    def __init__(self, readers, names, arguments=()):
        look = Look(names, keep=True)
        self._readers, self._names = readers, names
        self._content = self._read(look, arguments)
        self._checks = _Checks(readers, names, arguments, look.arrays)

    def __eq__(self, other):
        return isinstance(other, Snapshot) and self._content == other._content

    __hash__ = None

    def holds(self, arguments=()) -> bool:
        """Whether the variables, and these arguments, hold now what they held then."""
        if self._checks.hold(arguments):
            return True
        exact = self._checks.exact
        look = Look(self._names, keep=exact)
        if self._read(look, arguments) != self._content:
            return False
        if exact:  # other objects that hold the same
            self._checks = _Checks(self._readers, self._names, arguments, look.arrays)
        return True

    def _read(self, look, arguments) -> list:
        """What is held now, in a form that compares equal as long as nothing changes."""
        return [*(look.content(read(), DEPTH) for read in self._readers), *(look.content(value, DEPTH) for value in arguments)]


class _Checks:
    """A list of quick looks that say that nothing has changed; where they fail something may have.

    Attributes
    ----------
    exact : bool
        Whether they can say so at all: not where something is reached that only its contents tell.
    """

    def __init__(self, readers, names, arguments, arrays):
        self.exact, self._known, self._seen, self._names = True, arrays, set(), names
        self._variables, self._arguments = [(read, read()) for read in readers], tuple(arguments)
        self._sequences, self._mappings, self._objects, self._attributes = [], [], [], []
        self._arrays, self._others = [], []  # those whose bytes can be compared where they lie, and others
        self._copies = []  # keeps alive that of which only the address is noted
        for _, value in self._variables:
            self._walk(value, DEPTH)
        for value in self._arguments:
            self._walk(value, DEPTH)
        self._known = None
        self._has_insides = bool(self._sequences or self._mappings or self._objects or self._arrays or self._others)
        self._columns()

    def _columns(self):
        """What was noted of each object, attribute and array as columns, for looks without a loop of Python's."""
        dicts = [row for row in self._objects if row[2] is not None]
        self._objects = _columns(self._objects, 4)[:3]
        self._dicts, self._lengths = [own for _, _, own, _ in dicts], [count for *_, count in dicts]
        self._attributes = _columns(self._attributes, 3)
        self._arrays, self._shapes, pieces = _columns(self._arrays, 3)
        self._pieces = Pieces(pieces)

    def hold(self, arguments) -> bool:
        """Whether all that was reached is still there, and as it was."""
        if self.exact and not self._variables and not arguments and not self._arguments:
            return True  # the commonest case: nothing is read beside arrays and numbers
        if not self.exact or len(arguments) != len(self._arguments) or not all(map(operator.is_, arguments, self._arguments)):
            return False
        for read, value in self._variables:
            if read() is not value:
                return False
        if not self._has_insides:
            return True  # numbers and code
        return self._same_objects() and self._same_items() and self._same_arrays()

    def _same_objects(self) -> bool:
        values, kinds, dicts = self._objects
        if not (all(map(operator.is_, map(type, values), kinds)) and all(map(operator.is_, map(_dict_of, values), dicts))
                and list(map(len, self._dicts)) == self._lengths):
            return False
        values, names, items = self._attributes
        return all(map(operator.is_, map(getattr, values, names, itertools.repeat(self)), items))

    def _same_items(self) -> bool:
        for value, items in self._sequences:
            if len(value) != len(items) or not all(map(operator.is_, value, items)):
                return False
        for value, keys, items in self._mappings:
            if (len(value) != len(items) or not all(map(operator.is_, value.values(), items))
                    or not all(map(operator.is_, value, keys))):
                return False
        return True

    def _same_arrays(self) -> bool:
        return (list(map(_SHAPE, self._arrays)) == self._shapes and self._pieces.are_equal()
                and all(_Array(value, keep=False) == kept for value, kept in self._others))

    def _walk(self, value, depth):
        """Note what is to be looked at, as `Look.content` goes through it."""
        if isinstance(value, (*IMMUTABLE, *FUNCTIONS)) or id(value) in self._seen:
            return
        self._seen.add(id(value))
        if isinstance(value, np.ndarray):
            self._note_array(value)
            return
        if depth == 0 or (isinstance(value, OPAQUE) and not is_method_in_c(value)):
            return
        if isinstance(value, _CONTAINERS):
            items = self._note_container(value)
        elif _is_told_by_contents(value):
            self.exact, items = False, ()
        else:
            items = self._note_object(value)
        for item in items:
            self._walk(item, depth - 1)

    def _note_container(self, value) -> tuple:
        """Note what can change of a container; returns its items."""
        self.exact &= not _dict_of(value)  # attributes beside them
        items = tuple(value.values() if isinstance(value, dict) else value)
        if isinstance(value, dict):
            self._mappings.append((value, tuple(value), items))
        elif isinstance(value, (list, collections.deque)):
            self._sequences.append((value, items))
        return items

    def _note_object(self, value) -> tuple:
        """Note an object and its attributes, which are returned."""
        attributes, own = attributes_of(value, self._names), _dict_of(value)
        self._objects.append((value, type(value), own, len(own or ())))
        self._attributes += [(value, name, item) for name, item in attributes.items()]
        return tuple(attributes.values())

    def _note_array(self, value):
        if value.dtype == object:
            self.exact = False
            return
        kept = self._known.get(id(value))
        if kept is None:  # made anew each time it is asked for
            self.exact = False
        elif value.flags.c_contiguous and memcmp is not None:
            self._arrays.append((value, value.shape, (value.ctypes.data, kept.array.ctypes.data, value.nbytes)))
            self._copies.append(kept)
        else:
            self._others.append((value, kept))


_SHAPE = operator.attrgetter("shape")


def _dict_of(value):
    return getattr(value, "__dict__", None)


def _columns(rows, count):
    return tuple(map(list, zip(*rows, strict=True))) if rows else ([],) * count


class _Array:
    """An array that is compared by its bytes, so that NaN equals NaN and -0.0 differs from 0.0."""

    __slots__ = ("array",)
    __hash__ = None

    def __init__(self, array: np.ndarray, keep: bool):
        self.array = array.copy() if keep else np.ascontiguousarray(array)

    def __eq__(self, other):
        if not isinstance(other, _Array):
            return False
        a, b = self.array, other.array
        if a.shape != b.shape or a.dtype != b.dtype:
            return False
        if a.nbytes <= SMALL_ARRAY:
            return a.tobytes() == b.tobytes()
        word = np.uint64 if a.nbytes % 8 == 0 else np.uint8
        return bool((a.reshape(-1).view(word) == b.reshape(-1).view(word)).all())


SMALL_ARRAY = 4096
"""Bytes up to which Python's own comparison is the faster one."""


def is_method_in_c(value) -> bool:
    """Whether this is a method, written in C, of an object: `generator.random`, `list.pop`."""
    return isinstance(value, types.BuiltinMethodType) and not isinstance(value.__self__, (types.ModuleType, type, type(None)))


class NeverEqual:
    """What is looked at anew each time: what a look would change, and what nothing holds."""

    __hash__ = None

    def __eq__(self, other):
        return False


def _is_told_by_contents(value) -> bool:
    """Whether only its contents tell whether an object has changed: generators, buffers, sets."""
    return isinstance(value, (NeverEqual, bytearray, array.array, memoryview, np.random.Generator, np.random.RandomState,
                              random.Random, set, *_VIEWS)) or hasattr(type(value), "__next__") or is_method_in_c(value) or (
                                  type(value).__module__.startswith(PACKAGES))


class Look:
    """One look at all that is reached.

    Parameters
    ----------
    names : frozenset or None
        Names of the attributes that are followed; None for all.
    keep : bool
        Whether arrays are copied, so that contents stay when these change.

    Attributes
    ----------
    arrays : dict
        Arrays by their id: what compares with their contents.
    """

    def __init__(self, names, keep: bool):
        self._names, self.keep, self.arrays = names, keep, {}
        self._seen: dict = {}  # objects visited before, by their id

    def content(self, value, depth):
        """Something that compares equal exactly when `value` holds the same."""
        if isinstance(value, (float, np.floating)):
            return type(value), float(value).hex()
        if isinstance(value, IMMUTABLE):
            return type(value), value
        if isinstance(value, np.ndarray):
            return self._content_of_array(value, depth)
        if isinstance(value, FUNCTIONS):
            # The function itself, which lives on in the snapshot: another one may lie where a freed one was.
            return value
        if _is_told_by_contents(value) and not isinstance(value, set):
            return self._own_content(value, depth)
        if depth == 0 or isinstance(value, OPAQUE):
            return id(value)
        if id(value) in self._seen:
            return self._seen[id(value)][0]
        if len(self._seen) > MOST_OBJECTS:
            return NeverEqual()  # too much to look through; a function that reads it is recorded at each call
        self._seen[id(value)] = f"visit {len(self._seen)}", value  # which is kept alive, so that its number stays its own
        if isinstance(value, (list, tuple, set, frozenset, collections.deque)):
            return type(value), [self.content(item, depth - 1) for item in value], self._content_beside(value, depth)
        if isinstance(value, dict):
            beside = self._content_beside(value, depth)
            return beside, [(id(key) if not isinstance(key, IMMUTABLE) else key, self.content(item, depth - 1))
                    for key, item in value.items()]
        attributes = attributes_of(value, self._names)
        return (type(value), self.content(attributes, depth - 1)) if attributes else id(value)

    def _content_beside(self, value, depth):
        """Attributes of a container of a class of the user's."""
        own = _dict_of(value)
        return self.content(attributes_of(value, self._names), depth - 1) if own else None

    def _content_of_array(self, value, depth):
        if value.dtype == object:
            return value.shape, self.content(value.ravel().tolist(), depth - 1) if depth > 0 else id(value)
        known = self.arrays.get(id(value))
        if known is None:
            known = self.arrays[id(value)] = _Array(value, self.keep)
        return known

    def _own_content(self, value, depth):
        if isinstance(value, np.random.Generator):
            return repr(value.bit_generator.state)
        if isinstance(value, np.random.RandomState):
            return random_state(value.get_state(legacy=False))
        if isinstance(value, random.Random):
            return value.getstate()
        if is_method_in_c(value):
            return value.__name__, self.content(value.__self__, depth)
        if isinstance(value, (bytearray, array.array, memoryview)):
            return type(value), bytes(value)
        if type(value).__module__.startswith(PACKAGES) and depth > 0:
            held = contents_of(value)
            return (type(value), self.content(held, depth - 1)) if held is not None else id(value)
        if isinstance(value, _VIEWS) and depth > 0:
            held = dict if isinstance(value, types.MappingProxyType) else list
            return type(value), self.content(held(value), depth - 1)
        return NeverEqual()


def attributes_of(value, names) -> dict:
    """What an object keeps under these names (None for all) in its dict and in slots; nothing of what is the machinery's."""
    if (file_of(type(value)) or "").startswith(MACHINERY):
        return {}
    own = getattr(value, "__dict__", None)
    slots = [name for kind in type(value).__mro__ for name in _slots(kind) if hasattr(value, name)]
    found = {**{name: getattr(value, name) for name in slots}, **(own if isinstance(own, dict) else {})}
    if names is None or isinstance(value, _WRAPPERS) or is_sparse(value):
        return found
    return {name: item for name, item in found.items() if name in names}


def _slots(kind):
    """Names of the attributes that a class of the user's keeps in slots."""
    slots = kind.__dict__.get("__slots__", ())
    names = (slots,) if isinstance(slots, str) else slots
    return [name for name in names if name not in ("__dict__", "__weakref__")] if not is_library(file_of(kind)) else []


def part_of(function, part):
    """A part of a function, which is not kept alive by that."""
    return getattr(function(), part, None)
