"""Random programs for jitting: source of a function of arrays and scalars and of its callees, with options drawn for each.

The same text runs in three ways: jitted with its options, as plain Python on numbers, and as plain Python that tape records.
What is not here: the judges (`test_jitted_random.py`).
"""

import linecache
import math
import re

import numpy as np
from numba import float32, float64, njit

FASTMATH = ("True", '{"reassoc", "nsz"}', '{"nnan", "ninf", "nsz"}', '{"contract", "arcp", "afn"}')
SLICES = ((None, None, -1), (None, None, -2), (None, None, 2), (1, None, None), (None, -1, 3), (3, None, -1), (-1, 0, -2),
          (None, -1, None), (1, -1, None), (None, None, 4), (-2, None, -3), (2, 5, None), (None, 3, None), (None, None, None))
UNARY = ("math.sin({0})", "np.tanh({0})", "np.exp(-np.square({0}))", "math.sqrt(1.0 + np.square({0}))", "np.arctan({0})",
         "abs({0})", "-{0}", "{0} ** 2", "{0} ** 3", "(0.6 + abs({0})) ** -2", "math.log1p(np.square({0}))",
         "1.0 / (1.5 + np.square({0}))", "np.cos({0})", "{0} / 3", "{0} ** 2.0", "np.sqrt(abs({0}) + 0.3)",
         "2.5 % (1.2 + np.square({0}))", "{0} % 0.7", "np.cbrt(np.square({0}) + 0.1)", "(abs({0}) + 0.4) ** 0.5",
         "1.3 ** np.tanh({0})")
BINARY = ("({0} + {1})", "({0} - {1})", "{0} * {1}", "{0} / (2.0 + np.square({1}))", "math.hypot({0}, 1.0 + np.square({1}))",
          "max({0}, {1})", "min({0}, {1})", "(np.square({0}) + 0.5) ** np.tanh({1})", "np.arctan2({0}, 1.0 + np.square({1}))",
          "np.maximum({0}, {1})", "np.logaddexp({0}, {1})", "math.pow(0.4 + abs({0}), math.sin({1}))")
MAPS = ("np.sin({0})", "np.tanh({0})", "np.exp(-np.square({0}))", "np.sqrt(1.0 + np.square({0}))", "np.abs({0})", "-{0}",
        "{0} ** 2", "{0} ** 3", "{0}[::-1]", "{0}.copy()", "np.cumsum({0}) * 0.3", "np.clip({0}, -0.8, 0.9)",
        "(np.abs({0}) + 0.5) ** -1.5", "{0} / 3", "1.0 / (1.2 + np.square({0}))", "np.ascontiguousarray({0})",
        "np.where({0} > 0.1, 0.3, a[0])")
PAIRS = ("({0} + {1})", "({0} - {1})", "{0} * {1}", "{0} / (2.0 + np.square({1}))", "np.hypot({0}, {1} + 2.0)",
         "np.maximum({0}, {1})", "np.minimum({0}, {1})", "np.where({1} > 0.2, {0}, 0.4)", "np.where({1} < 0.0, 0.4, {0})",
         "(np.abs({0}) + 0.4) ** np.tanh({1})", "np.arctan2({0}, 1.0 + np.square({1}))")
REDUCTIONS = ("np.sum({0})", "{0}.sum()", "np.max({0})", "np.min({0})", "np.mean({0})", "{0}.max()",
              "np.prod(1.0 + 0.2 * {0})", "np.std({0})", "np.var({0})", "np.sum({0} * {1})", "np.linalg.norm({0} * 1.0)",
              "np.dot({0} * 1.0, {1} * 1.0)")
INTEGERS = ("({0} * 3 + {1}) % 5", "{0} // 2 + 1", "-7 % ({0} + {1} + 1)", "{0} ** 2 - {1}", "({0} + {1}) & 3",
            "abs({0} - 4)", "max({0}, {1})", "({0} << 1) // 3", "-({0} + 1) // 2")


class Body:
    """The lines of one function, written statement by statement.

    Parameters
    ----------
    rng : numpy.random.Generator
        What draws.
    scalars, integers : list of str
        Names of floats and of integers (all positive) that may be read.
    arrays : dict
        The length of each array that may be read; keys are expressions.
    callees : dict
        Functions that may be called: "scalar", "pair" (both of two floats), "maker" (its value is the length of its array),
        "writer".
    """

    def __init__(self, rng, scalars, integers, arrays, callees):
        self.rng, self.callees = rng, callees
        self.scalars, self.integers, self.arrays = list(scalars), list(integers), dict(arrays)
        self.owners = {name: name for name in arrays}  # whose memory an array is
        self.written, self.names, self.declarable = [], 0, []  # arrays that may be written; how many names; floats for `locals`
        self.lines, self.indent, self.overlaps = [], "    ", False

    # ---------------------------------------------------------------- drawing

    def pick(self, options):
        return options[int(self.rng.integers(len(options)))]

    def chance(self, probability):
        return self.rng.random() < probability

    def new(self, letter):
        self.names += 1
        return f"{letter}{self.names}"

    def add(self, line):
        self.lines.append(self.indent + line)

    def slice(self, length):
        """Text and length of a slice that holds something."""
        while True:
            drawn = slice(*self.pick(SLICES))
            found = len(range(length)[drawn])
            if found:
                start, stop, step = ("" if part is None else str(part) for part in (drawn.start, drawn.stop, drawn.step))
                return f"{start}:{stop}:{step}" if step else f"{start}:{stop}", found

    # ---------------------------------------------------------------- expressions

    def integer(self):
        if self.chance(0.5):
            return str(self.pick([*self.integers, "2", "3"]))
        return "(" + self.pick(INTEGERS).format(self.pick(self.integers), self.pick([*self.integers, "2"])) + ")"

    def cell(self):
        name = self.pick(list(self.arrays))
        length = self.arrays[name]
        if self.chance(0.3):
            return f"{name}[{self.integer()} % {length}]"
        return f"{name}[{self.rng.integers(-length, length)}]"

    def leaf(self):
        kind = self.rng.random()
        if kind < 0.55:
            return self.pick(self.scalars)
        return self.cell() if kind < 0.85 else self.integer() if kind < 0.92 else f"{self.rng.uniform(-2, 2):.3f}"

    def scalar(self, depth=2):
        if depth == 0 or self.chance(0.15):
            return self.leaf()
        kind = self.rng.random()
        if kind < 0.35:
            return "(" + self.pick(UNARY).format(self.scalar(depth - 1)) + ")"
        if kind < 0.7:
            return "(" + self.pick(BINARY).format(self.scalar(depth - 1), self.scalar(depth - 1)) + ")"
        if kind < 0.85:
            length = self.pick(list(self.arrays.values()))
            reductions = REDUCTIONS[:-1] if self.single else REDUCTIONS
            return self.pick(reductions).format(self.array(length, 1), self.array(length, 0))
        if kind < 0.92 and "scalar" in self.callees:
            return f"scalar(a, {self.scalar(depth - 1)}, {self.leaf()})"
        return f"({self.scalar(depth - 1)} if {self.condition()} else {self.scalar(depth - 1)})"

    def condition(self):
        test = f"{self.leaf()} {self.pick(('<', '>', '<=', '>='))} {self.rng.normal():.3f}"
        if self.chance(0.3):
            return (f"{self.pick(('not ', ''))}({test}) {self.pick(('and', 'or'))} "
                    f"{self.integer()} {self.pick(('==', '!=', '<', '>'))} 2")
        return test

    def part(self, length, avoid=None):
        """An array, or a slice of one, of a length; not of the memory `avoid`."""
        found = [name for name, n in self.arrays.items() if n == length and self.owners[name] != avoid]
        for name, n in self.arrays.items():
            if self.owners[name] != avoid:
                for _ in range(3):
                    text, size = self.slice(n)
                    found += [f"{name}[{text}]"] * (size == length)
        return self.pick(found) if found else f"(np.arange({length}.0) * {self.pick(self.scalars)})"

    def array(self, length, depth=2, avoid=None):
        if depth == 0:
            return self.part(length, avoid)
        kind = self.rng.random()
        if kind < 0.35:
            return "(" + self.pick(MAPS).format(self.array(length, depth - 1, avoid)) + ")"
        if kind < 0.65:
            pair = self.pick(PAIRS), self.array(length, depth - 1, avoid), self.array(length, depth - 1, avoid)
            return f"({pair[0].format(*pair[1:])})"
        if kind < 0.8:
            pair = [self.array(length, depth - 1, avoid), self.leaf()]
            return "(" + self.pick(PAIRS[:4]).format(*(pair if self.chance(0.6) else pair[::-1])) + ")"
        if kind < 0.87 and self.callees.get("maker") == length:
            return f"maker(a, {self.array(length, 0, avoid)}, {self.leaf()})"
        return self.part(length, avoid)

    # ---------------------------------------------------------------- statements

    def block(self, head, statements, scalars=(), integers=()):
        """A compound statement; names that it binds are not known behind it."""
        kept = [list(self.scalars), list(self.integers), dict(self.arrays), list(self.written)]
        self.add(head)
        self.indent += "    "
        self.scalars += scalars
        self.integers += integers
        for statement in statements:
            statement()
        self.indent = self.indent[4:]
        self.scalars, self.integers, self.arrays, self.written = kept

    def own(self, name, length, owner=None):
        self.arrays[name] = length
        self.owners[name] = owner or name
        self.written.append(name)

    def bind(self):
        name = self.new("s")
        self.add(f"{name} = {self.scalar(3)}")
        self.scalars.append(name)
        self.declarable.append(name)

    def change(self):
        """A scalar of the function's own, or a cell, in place."""
        own = [name for name in self.scalars if name[0] in "stxypq"]
        kind = self.rng.random()
        if kind < 0.5 and own:
            self.add(self.pick(("{0} += {1}", "{0} -= {1}", "{0} *= 0.5 + np.tanh({1})", "{0} = {0} / (1.5 + ({1}) ** 2)",
                                "{0} = {1} - 0.3 * {0}")).format(self.pick(own), self.scalar()))
        elif self.written:
            name = self.pick(self.written)
            place = f"{name}[{self.rng.integers(-self.arrays[name], self.arrays[name])}]"
            self.add(f"{place} {self.pick(('=', '+=', '-=', '*='))} {self.scalar()}")
        else:
            self.bind()

    def retype(self):
        """A name that is an integer first and a float later, in a branch or in a loop."""
        name = self.new("t")
        self.add(f"{name} = {self.integer()}")
        if self.chance(0.4):
            self.add(f"{name} = {name} * {self.scalar()}")
        else:
            head = self.pick((f"if {self.condition()}:", f"for i{name} in range({self.integer()} % 4):"))
            self.block(head, [lambda: self.add(f"{name} = {name} * 0.5 + {self.scalar()}")])
        self.scalars.append(name)

    def count(self):
        name = self.new("k")
        self.add(f"{name} = {self.integer()} % 11")
        if self.chance(0.3):
            self.add(f"{name} {self.pick(('+=', '*=', '-='))} {self.integer()}")
        self.integers.append(name)

    def make(self):
        name, length = self.new("b"), int(self.rng.integers(2, 8))
        kind = self.rng.random()
        if kind < 0.3:
            self.add(f"{name} = {self.array(length)} * 1.0")
            self.own(name, length)
        elif kind < 0.45:
            self.add(f"{name} = np.zeros({length}@@)")
            self.own(name, length)
        else:
            self.unwritten(name, length)

    def unwritten(self, name, length):
        """An array of np.empty, of which only what is written is read."""
        self.add(f"{name} = np.empty({length}@@)")
        text, size = self.slice(length)
        kind = self.rng.random()
        if kind < 0.35:
            self.add(f"{name}[{text}] = {self.array(size)}")
        elif kind < 0.5:
            self.add(f"{name}[{text}] = {self.scalar()}")
        else:
            index, part = self.new("i"), range(length)[slice(*(int(p) if p else None for p in text.split(":")))]
            self.block(f"for {index} in range({part.start}, {part.stop}, {part.step}):",
                       [lambda: self.add(f"{name}[{index}] = {self.scalar()}")], integers=[index])
        view = self.new("v")
        self.add(f"{view} = {name}[{text}]")
        self.own(view, size, name)

    def view(self):
        """A view of an array that may be written, or another name of it."""
        if not self.written:
            return self.make()
        source, name = self.pick(self.written), self.new("v")
        text, size = self.slice(self.arrays[source])
        if self.chance(0.1):
            self.add(f"{name} = {source}")
            size = self.arrays[source]
        else:
            self.add(f"{name} = {source}[{text}]")
        return self.own(name, size, self.owners[source])

    def store(self):
        """An array written in place: whole, a slice, or a slice of a slice."""
        if not self.written:
            return self.make()
        target = self.pick(self.written)
        owner, size = self.owners[target], self.arrays[target]
        for _ in range(int(self.rng.integers(0, 3))):
            text, size = self.slice(size)
            target += f"[{text}]"
        operator = self.pick(("=", "=", "=", "+=", "-=", "*=", "/="))
        if target in self.written:
            target += self.pick(("[:]", "[...]" if operator == "=" else "", "[::-1]"))  # Numba has no augmented [...]
        # NumPy makes a copy where what is read overlaps what is written, Numba does not.
        aliased = self.chance(0.1)
        value = self.scalar() if self.chance(0.25) else self.array(size, 2, None if aliased else owner)
        self.overlaps |= aliased and operator != "="
        form = {"/=": "2.0 + np.square({})", "*=": "0.3 + np.tanh({})"}.get(operator, "{}")
        return self.add(f"{target} {operator} {form.format(value)}")

    def branch(self):
        name = self.new("s")
        self.block(f"if {self.condition()}:", [self.statement, lambda: self.add(f"{name} = {self.scalar()}")])
        if self.chance(0.3):
            self.block(f"elif {self.condition()}:", [lambda: self.add(f"{name} = {self.scalar()}"), self.change])
        self.block("else:", [lambda: self.add(f"{name} = {self.scalar()}")])
        self.scalars.append(name)

    def loop(self):
        if not self.written:
            self.make()
        name, total = self.pick(self.written), self.new("s")
        length, i = self.arrays[name], self.new("i")
        head = self.pick((f"range({length})", f"range({length} - 1, -1, -1)", f"range(0, {length}, 3)",
                          f"range({length} - 1, 0, -2)", f"range({self.integer()} % {length})", f"range(1, {length}, 2)"))
        self.add(f"{total} = {self.leaf()} * 1.0")
        steps = [lambda: self.add(f"{name}[{i}] {self.pick(('=', '+=', '*='))} np.sin({self.scalar(1)} * {name}[{i} - 1])"),
                 lambda: self.add(f"{total} = 0.7 * np.sin({total}) + {self.scalar()}"), self.statement, self.change,
                 lambda: self.block(f"if {self.condition()}:", [lambda: self.add(self.pick(("continue", "break")))])]
        self.block(f"for {i} in {head}:", [self.pick(steps) for _ in range(2)] + [steps[self.rng.integers(2)]], [total], [i])
        self.scalars.append(total)

    def iterate(self):
        """A loop over the elements of an array."""
        name, total, value, i = self.pick(list(self.arrays)), self.new("s"), self.new("e"), self.new("i")
        text, _ = self.slice(self.arrays[name])
        self.add(f"{total} = {self.scalar(1)} * 1.0")
        head = self.pick((f"for {value} in {name}[{text}]:", f"for {i}, {value} in enumerate({name}):"))
        self.block(head, [lambda: self.add(f"{total} += np.tanh({value} * {self.scalar(1)})")], [total, value],
                   [i] if "enumerate" in head else [])
        self.scalars.append(total)

    def repeat(self):
        """A while loop that ends by a value or by its count."""
        name, k = self.new("s"), self.new("k")
        self.add(f"{name} = abs({self.scalar(1)}) + 0.5")
        self.add(f"{k} = 0")
        self.block(f"while {name} > {self.rng.uniform(0.05, 0.6):.3f} and {k} < 5:",
                   [lambda: self.add(f"{name} *= {self.rng.uniform(0.3, 0.9):.3f} + 0.1 * np.tanh({self.scalar(1)})"),
                    self.change, lambda: self.add(f"{name} = abs({name})"), lambda: self.add(f"{k} += 1")], [name])
        self.scalars.append(name)
        self.integers.append(k)

    def call(self):
        kinds = [kind for kind in ("pair", "writer", "maker") if kind in self.callees]
        if not kinds:
            return self.bind()
        kind = self.pick(kinds)
        if kind == "pair":
            names = self.new("s"), self.new("s")
            self.add(f"{', '.join(names)} = pair(a, {self.scalar(1)}, {self.scalar(1)})")
            self.scalars += names
            return None
        length = self.callees["maker"]
        targets = [name for name in self.written if self.arrays[name] == length]
        if kind == "writer" and targets:
            target = self.pick(targets)
            return self.add(f"writer(a, {target}, {self.array(length, 1, self.owners[target])}, {self.scalar(1)})")
        name = self.new("b")
        self.add(f"{name} = maker(a, {self.array(length, 1)}, {self.scalar(1)})")
        return self.own(name, length)

    def swap(self):
        """Names of scalars, or of arrays, that trade places."""
        pairs = [[name for name in self.scalars if name[0] == "s"]]
        arrays = [name for name in self.written if name[0] == "b"]
        pairs += [[name for name in arrays if self.arrays[name] == n] for n in set(self.arrays.values())]
        names = self.pick([group for group in pairs if len(group) > 1] or [()])
        if len(names) < 2 or self.single:
            return
        first, second = self.rng.choice(names, 2, replace=False)
        self.add(f"{first}, {second} = {second}, {first} * 0.5")
        for name, owner in self.owners.items():  # views of one are views of the other from here on
            self.owners[name] = first if owner == second else owner

    def narrow(self):
        """Numbers in single precision; needs a program that allows it."""
        if self.chance(0.5):
            name = self.new("s")
            self.add(f"{name} = np.float32({self.scalar()}) * {self.leaf()}")
            self.scalars.append(name)
        else:
            name, length = self.new("b"), int(self.rng.integers(2, 6))
            self.add(f"{name} = ({self.array(length, 1)}).astype(np.float32) * np.float32(0.75)")
            self.own(name, length)

    single = False

    def statement(self):
        kinds = [self.bind, self.change, self.retype, self.count, self.make, self.make, self.view, self.view, self.store,
                 self.store, self.store, self.swap, self.call, self.call, self.iterate]
        if len(self.indent) < 12:
            kinds += [self.branch, self.loop, self.loop, self.repeat]
        if self.single:
            kinds += [self.narrow, self.narrow]
        self.pick(kinds)()

    def ending(self):
        """An expression of what is known at the end."""
        weights = self.rng.uniform(0.2, 1, 5)
        sums = [f"{weight:.2f} * np.sum({name})" for name, weight in zip(self.written[-5:], weights, strict=False)]
        return " + ".join([*dict.fromkeys(self.scalars[-5:]), *sums])


def options(rng, declarable, single):
    """The text of the options of one function."""
    drawn = []
    if rng.random() < 0.3:
        drawn.append(f"fastmath={FASTMATH[rng.integers(len(FASTMATH))]}")
    if rng.random() < 0.4:
        drawn.append('error_model="numpy"')
    if rng.random() < 0.4:
        drawn.append(f"boundscheck={bool(rng.random() < 0.7)}")
    if declarable and rng.random() < 0.4:
        drawn.append(f"locals={{{str(rng.choice(declarable))!r}: float{32 if single and rng.random() < 0.7 else 64}}}")
    return ", ".join(drawn)


def function(rng, head, body, ending, single, count):
    """The text of one function: its statements, and the last one."""
    body.single = single
    for _ in range(count):
        body.statement()
    body.add(ending(body))
    text = "\n".join([f"@njit({options(rng, body.declarable, single)})", f"def {head}:", *body.lines, "\n"])
    return text, body.overlaps


def scalar_body(rng, callees):
    """A callee of two floats, with an array of its own."""
    body = Body(rng, ["p", "q"], ["2"], {"a": 6}, callees)
    body.add("c = np.zeros(3@@)")
    body.own("c", 3)
    body.add("c[0] = p")
    if rng.random() < 0.4:
        body.block(f"if p < {rng.normal():.2f}:", [lambda: body.add(f"c[1:] = {body.scalar()}")])
    return body


def program(rng, single, statements):
    """Source of `program(a, m, x, y, n)` and of its callees, and whether something reads what it writes in one operation."""
    length, callees, made = int(rng.integers(3, 6)), {}, []

    def add(*args):
        made.append(function(rng, *args, single, int(rng.integers(0, 3))))

    if rng.random() < 0.4:
        body, early = scalar_body(rng, callees), rng.random() < 0.4
        if early:
            body.block(f"if q < {rng.normal():.2f}:", [lambda: body.add(f"return {body.scalar()} + 0.0")])
        add("scalar(a, p, q)", body, lambda b: f"return {b.ending()}")
        callees["scalar"] = True
    if rng.random() < 0.35:
        add("pair(a, p, q)", scalar_body(rng, dict(callees)), lambda b: f"return {b.ending()}, np.sin({b.scalar()})")
        callees["pair"] = True
    if rng.random() < 0.45:
        body = Body(rng, ["p"], ["2"], {"a": 6, "w": length}, dict(callees))
        add("maker(a, w, p)", body, lambda b: f"return {b.array(length)} * 1.0")
        callees["maker"] = length
        if rng.random() < 0.6:
            body = Body(rng, ["p"], ["2"], {"a": 6, "w": length, "z": length}, dict(callees))
            body.written.append("z")
            add("writer(a, z, w, p)", body, lambda b: f"z[::-1] = {b.array(length)}")
            callees["writer"] = True
    body = Body(rng, ["x", "y"], ["n"], {"a": 6, "m[1]": 4, "m[:, 2]": 3, "m[::-1, 0]": 3, "m[2, ::-2]": 2}, callees)
    made.append(function(rng, "program(a, m, x, y, n)", body, lambda b: f"return {b.ending()}", single, statements))
    return "\n".join(text for text, _ in made), any(overlaps for _, overlaps in made)


def recordable(text):
    """The source as tape can record it."""
    text = re.sub(r"np\.arange\((\d+\.0)\)", r"(np.arange(\1) + 0.0 * a[0])", text)  # which may be written to
    text = re.sub(r"np\.(float32|ascontiguousarray)\(", "1.0 * (", text)
    return text.replace("@@", ", like=a").replace("math.pow", "np.power").replace("math.", "np.")


class Drawn:
    """The program of a seed, its arguments, and how it may be judged.

    Attributes
    ----------
    source : str
        The text, for messages.
    jitted, plain : callable
        The jitted function, and the one that tape can record.
    args : tuple
        Two arrays, two floats and an integer.
    single, fast, overlaps : bool
        Whether it computes in single precision in places, has fast-math flags, or reads what it writes in one operation.
    """

    def __init__(self, seed):
        rng = np.random.default_rng(seed)
        for _ in range(100):
            self.single = bool(rng.random() < 0.25)
            self.args = (rng.normal(size=6).astype(np.float32 if self.single else float), rng.normal(size=(3, 4)),
                         *rng.normal(size=2).tolist(), int(rng.integers(1, 5)))
            text, self.overlaps = program(rng, self.single, int(rng.integers(3, 8)))
            self.source = text.replace("@@", "")
            unjitted = {"njit": lambda **_: lambda f: f}
            self.plain = _executed(recordable(text), f"<plain random program {seed}>", unjitted)["program"]
            if self._is_tame():
                break
        else:
            raise ValueError(f"seed {seed}: no program of moderate values in 100")
        self.fast = "fastmath" in self.source
        self.jitted = _executed(self.source, f"<random program {seed}>", {"njit": njit})["program"]

    def given(self, step=0.0, directions=None):
        """New arguments, `step` along the directions."""
        moved = [x + step * d for x, d in zip(self.args[:4], directions, strict=True)] if directions else self.args[:4]
        return *(np.array(x) if np.ndim(x) else x for x in moved), self.args[4]

    def _is_tame(self):
        """Whether the value and its slopes are moderate."""
        try:
            with np.errstate(all="ignore"):
                x, there = (float(self.plain(*self.given(h, [1.0, 1.0, 1.0, 1.0]))) for h in (0.0, 1e-7))
        except (ZeroDivisionError, OverflowError):
            return False
        return math.isfinite(x) and abs(x) < 1e4 and abs(there - x) < 1e-3


def _executed(source, name, space):
    linecache.cache[name] = (len(source), None, source.splitlines(True), name)
    space |= {"np": np, "math": math, "float32": float32, "float64": float64}
    exec(compile(source, name, "exec"), space)
    return space
