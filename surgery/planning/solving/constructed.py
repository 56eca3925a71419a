"""Integers that no run has read, for what reads them otherwise: another branch, another method, an export.

Where the constructor computes such an integer from what follows the widths, it follows, and holds what the constructor
of a model of these widths would give it. Arguments are found from what they have become: `heads` of a
`nn.Linear(c, heads * head_width)` from the features that the layer has.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TypeAlias

from torch import nn

from surgery.adapters.base import adapter_class, attribute_path
from surgery.axes.formulas import Agreed, Arithmetic, Attribute, Constant, Origin, invert, leaves
from surgery.axes.samples import spread
from surgery.axes.sizes import COMPARISONS, Size
from surgery.capture.callsites import line
from surgery.modules.code.bytecode import mentions
from surgery.modules.constructor.read import constructed
from surgery.modules.constructor.values import Built, Constructed, Given, Value
from surgery.nested import fold
from surgery.planning.analysis import Analysis, group_axes
from surgery.planning.solving.expressions import Expressions, Key

MOST = 4  # expressions of which one may be right
POINTS = 64  # widths at which expressions are compared
Options: TypeAlias = "list[Origin]"


def follow_constructors(expressions: Expressions) -> tuple[dict[Key, Origin], list[str]]:
    """Formulas for integers that no run has read, and a note for each that code reads and that may not follow."""
    makers, formulas, notes = _Makers(expressions), dict[Key, Origin](), dict[str, str]()
    for key, made, value, where in _unread(expressions):
        options = [one for one in makers.evaluate(key[0], made) if makers.at_full_width(one) == value]
        elastic = [one for one in options if expressions.features_in(one)]
        if elastic and len(options) <= MOST:
            formulas[key] = options[0] if len(options) == 1 else Agreed(tuple(options), value)
        if len(options) != 1 and (elastic or makers.depends(key[0], made)):
            notes.setdefault(where, _note(expressions.analysis, key, value, where, bool(elastic)))
    return formulas, [note for note in notes.values() if note]


def _note(analysis: Analysis, key: Key, value: int, where: str, follows: bool) -> str:
    """What is to be known of an integer that may not be what code needs; nothing where no code mentions it."""
    cls, name = type(analysis.modules[key[0]]), key[1][0]
    if not mentions(cls, {name}):
        return ""
    unread = f"{cls.__name__}.{name} ({where}), which the example inputs do not read,"
    if follows:
        return f"{unread} stands for several widths: it follows where they are equal, and is {value} elsewhere"
    return f"{unread} stays {value}: it is computed from a width, and nothing says how it follows"


def _unread(expressions: Expressions) -> Iterator[tuple[Key, Origin, int, str]]:
    """The integers of modules that no run has read and nothing states: what they are made of, and in which line."""
    analysis = expressions.analysis
    read = {*_read(analysis), *analysis.read}
    elsewhere = {name for module in analysis.modules.values() for name in constructed(module).elsewhere}
    for path, module in analysis.modules.items():
        if path in analysis.layers or path in analysis.transparent:
            continue
        held = [name for name, value in vars(module).items() if type(value) in (int, tuple, list) and name[:1] != "_"]
        made = constructed(module) if held else Constructed()
        for keys, origin in made.integers():
            value = _held(module, keys)
            known = (path, keys) in expressions.formulas or (path, keys) in read or keys[0] in elsewhere
            if value is not None and not known and any(isinstance(leaf, Given) for leaf in leaves(origin)):
                yield (path, keys), origin, value, line(made.lines[keys[0]]) if keys[0] in made.lines else ""


def _held(module: nn.Module, keys: Iterable[object]) -> int | None:
    value: object = vars(module)
    for key in keys:
        try:
            value = value[key]  # type: ignore[index]
        except (LookupError, TypeError):
            return None
    return value if type(value) is int else None


def _read(analysis: Analysis) -> Iterator[Key]:
    """The attributes that runs have read: as arguments of calls, as numbers, or to compare them with other sizes.

    How one compares with a number that is written out (`self.groups > 1`) says no more than which way the code goes.
    """
    origins = [origin for one in analysis.constraints for origin in (one.origin, one.target)]
    for capture in analysis.captures:
        for decision in (branch.decision for branch in capture.branches):
            if decision.sign not in COMPARISONS or not isinstance(decision.right, Constant):
                origins += [decision.left, decision.right]
        for node in capture.graph.nodes:
            if node.op != "placeholder":
                origins += [size.origin for size in fold((node.args, node.kwargs), Size)]
    for origin in origins:
        for leaf in leaves(origin):
            if isinstance(leaf, Attribute):
                yield leaf.module, leaf.path


class _Makers:
    """What the arguments of constructors are, over the axes of an analysis."""

    def __init__(self, expressions: Expressions):
        self.expressions, self.modules = expressions, expressions.analysis.modules
        self.points = spread(group_axes(expressions.analysis), POINTS)
        self.known: dict[str, list[tuple[Origin, Origin]]] = {}
        self.solved: dict[tuple[str, Given, bool], Options] = {}

    def at_full_width(self, option: Origin) -> int:
        return self.expressions.values(option, self.points)[0]

    def depends(self, path: str, origin: Origin) -> bool:
        """Whether some of what an integer is computed from follows the widths."""
        inner = [part for leaf in leaves(origin) for part in (leaf, *(leaf.of if isinstance(leaf, Given) else ()))]
        return any(self.expressions.features_in(one) for part in inner for one in self.evaluate(path, part))

    def evaluate(self, path: str, origin: Origin, up: bool = True) -> Options:
        """What an expression of the constructor of one module may come to."""
        stated = [target for made, target in self.stated(path) if made == origin]
        if stated:
            return self.distinct(stated)
        if isinstance(origin, Arithmetic):
            if origin.sign != "*" and any(isinstance(side, Constant) for side in (origin.left, origin.right)):
                return []  # a number of blocks, a size of patches: what such a share stands for, nothing tells
            sides = self.evaluate(path, origin.left, up), self.evaluate(path, origin.right, up)
            return self.distinct(Arithmetic(origin.sign, *pair) for pair in itertools.product(*sides))
        return self.solve(path, origin, up) if isinstance(origin, Given) else [origin]

    def distinct(self, options: Iterable[Origin]) -> Options:
        """Options that differ at some widths."""
        found: dict[tuple[int, ...], Origin] = {}
        for option in itertools.islice(options, MOST**2):
            try:
                found.setdefault(tuple(self.expressions.values(option, self.points)), option)
            except ArithmeticError:
                continue
        return list(found.values())

    def stated(self, path: str) -> list[tuple[Origin, Origin]]:
        """Expressions of the constructor of one module that are known: what its attributes and its parts hold."""
        if path not in self.known:
            self.known[path] = []  # what asks for it meanwhile does without
            made = constructed(self.modules[path])
            own = [(origin, (path, keys)) for keys, origin in made.integers()]
            formulas = self.expressions.formulas
            self.known[path] = [(origin, formulas[key]) for origin, key in own if key in formulas]
            self.known[path] += [pair for pair in self.parts(path, made) if not isinstance(pair[0], Constant)]
        return self.known[path]

    def parts(self, path: str, made: Constructed) -> Iterator[tuple[Origin, Origin]]:
        """What the parts of a module say of the expressions that they were given."""
        for relative, built in made.modules():
            for child in self.paths(path, relative, built):
                yield from self.fixed(child, built)
                for leaf in dict.fromkeys(leaf for origin, _ in self.stated(child) for leaf in leaves(origin)):
                    given = _inside(built.given.get(leaf.name), leaf) if isinstance(leaf, Given) else None
                    if given is not None and isinstance(leaf, Given):
                        yield from ((given, target) for target in self.solve(child, leaf, up=False))

    def fixed(self, child: str, built: Built) -> Iterator[tuple[Origin, Origin]]:
        """What a layer was given for an attribute that does not follow: a size of kernels, a number of layers."""
        module = self.modules[child]
        cls, adapter = type(module), adapter_class(type(module))
        if adapter is None and not cls.__module__.startswith("torch.nn."):
            return
        sizes = {attribute_path(name)[0] for _, name in adapter(module).attributes()} if adapter is not None else set()
        for name, given in built.given.items():
            held = vars(module).get(name)
            value = held[0] if isinstance(held, tuple) and len(set(held)) == 1 else held
            follows = name in sizes or (child, (name,)) in self.expressions.formulas
            if isinstance(given, Origin) and type(value) is int and not follows:
                yield given, Constant(value)

    def paths(self, path: str, relative: str, built: Built) -> Iterator[str]:
        """The modules that a constructor has made at a relative path, in which `*` is any item."""
        outer, star, _ = f"{path}.{relative}".lstrip(".").partition(".*")
        found = (
            [f"{outer}.{name}" for name in self.modules[outer]._modules] if star and outer in self.modules else [outer]
        )
        yield from (one for one in found if one in self.modules and type(self.modules[one]) is built.cls)

    def solve(self, path: str, leaf: Given, up: bool) -> Options:
        """What an argument of the constructor of one module may be."""
        key = path, leaf, up
        if key not in self.solved:
            self.solved[key] = []  # what asks for it meanwhile does without
            stated = self.stated(path)
            found = self.distinct(target for origin, target in stated if origin == leaf)
            found = found or self.distinct(one for pair in stated for one in self.inverted(path, leaf, *pair))
            either = [self.evaluate(path, one, up) for one in constructed(self.modules[path]).either.get(leaf, ())]
            if not found and all(either):
                found = self.distinct(one for options in either for one in options)
            self.solved[key] = found or (self.above(path, leaf) if up else [])
        return self.solved[key]

    def inverted(self, path: str, leaf: Given, origin: Origin, target: Origin) -> Iterator[Origin]:
        """What an argument must be so that an expression comes to what is known of it, at all widths."""
        others = [one for one in dict.fromkeys(leaves(origin)) if isinstance(one, Given) and one != leaf]
        if leaf not in leaves(origin):
            return
        for values in itertools.product(*(self.solve(path, one, up=False) for one in others)):
            filled = _filled(origin, dict(zip(others, values, strict=True)))
            found = invert(filled, leaf, target)
            if found is not None and len(self.distinct([_filled(filled, {leaf: found}), target])) == 1:
                yield found

    def above(self, path: str, leaf: Given) -> Options:
        """What an argument is by the constructor of the module around."""
        outer = path.rpartition(".")[0] if path else None
        while outer and isinstance(self.modules[outer], nn.Sequential | nn.ModuleList):
            outer = outer.rpartition(".")[0]
        if outer is None or outer not in self.modules:
            return []
        for relative, built in constructed(self.modules[outer]).modules():
            given = _inside(built.given.get(leaf.name), leaf)
            if given is not None and path in self.paths(outer, relative, built):
                return self.evaluate(outer, given)
        return []


def _inside(value: Value, leaf: Given) -> Origin | None:
    """What a leaf stands for, where its argument was given this value."""
    if isinstance(value, Given):
        return replace(value, steps=(*value.steps, *leaf.steps))
    return value if isinstance(value, Origin) and not leaf.steps else None


def _filled(origin: Origin, values: dict[Given, Origin]) -> Origin:
    """An expression with values in place of leaves."""
    if isinstance(origin, Arithmetic):
        return Arithmetic(origin.sign, _filled(origin.left, values), _filled(origin.right, values))
    return values.get(origin, origin) if isinstance(origin, Given) else origin
