"""The configuration that a class builds given sizes from, by experiment: one field after another is fitted to them."""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
import types
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TypeAlias

import torch
from torch import Tensor, nn

from surgery.axes.formulas import Agreed, AttributePath, Origin, Steps
from surgery.configs.fields import Config, fields
from surgery.configs.voting import Place, Sizes, Slopes, slopes_between, wanted
from surgery.modules.plain_data import at, replaced

# What absent values are tried with: two sizes that most numbers of heads and groups divide, and classes so accept.
FEW, MANY = 24, 48
SHOWN = 4  # tensors named in a message


Formulas: TypeAlias = (
    "Sequence[tuple[str, AttributePath, Origin]]"  # the path of a module, an attribute of it, how it follows
)
SCALARS = (bool, int, float, str, type(None))


class Unfit(Exception):
    """Why no configuration tells of a model."""


class Arguments(types.SimpleNamespace):
    """The arguments of a constructor, as a configuration of a class that has none."""


def built_from_config(model: nn.Module, formulas: Formulas) -> bool:
    """Whether `type(model)(config)` makes a model: what else it needs, the model keeps under the arguments' names."""
    try:
        parameters = list(inspect.signature(type(model)).parameters.values())
    except (TypeError, ValueError):
        return False
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    first = [p.name for p in parameters if p.kind in kinds][:1]
    rest = [p for p in parameters if p.kind not in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)]
    needed = {p.name for p in rest if p.default is inspect.Parameter.empty}
    return first == ["config"] and needed - set(beside(model, formulas)) == {"config"}


def beside(model: nn.Module, formulas: Formulas) -> dict[str, object]:
    """The arguments of a model's class beside its configuration, as far as the model keeps them: plain values.

    Those that follow a width are left out: the configuration does not tell them, so a file would not.
    """
    follow = {path[0] for owner, path, _ in formulas if not owner}
    names = [name for name in inspect.signature(type(model)).parameters if name != "config" and name not in follow]
    return {name: vars(model)[name] for name in names if type(vars(model).get(name, ...)) in SCALARS}


@dataclass
class Fit:
    """The search for the configuration of one small model.

    Attributes:
        constants: whether integers of modules that follow no width decide as well, such as a width of heads that stays.
            Nothing tells that they matter, so they are asked where shapes leave it open.
    """

    small: nn.Module
    formulas: Formulas
    config: Config
    constants: bool = field(init=False, default=False)
    target: Sizes = field(init=False)
    make: Callable[[Config], nn.Module] = field(init=False)

    def __post_init__(self) -> None:
        self.target = self.sizes(self.small)
        self.make = self.maker()

    def maker(self) -> Callable[[Config], nn.Module]:
        """What builds models with the small one's tensors: a part may be switched by an argument (`pooler=False`).

        Other arguments beside the configuration are what the model keeps under their names.
        """
        cls: Callable[..., nn.Module] = type(self.small)
        if isinstance(self.config, Arguments):
            return lambda arguments: cls(**vars(arguments))
        given = inspect.signature(cls).parameters.values()
        switches: dict[str, bool] = {one.name: not one.default for one in given if type(one.default) is bool}
        kept = beside(self.small, self.formulas)
        for told in [kept, {}] if kept else [{}]:
            for switch in ({}, *({name: value} for name, value in switches.items())):
                self.make = functools.partial(cls, **(told | switch))
                with contextlib.suppress(Unfit):
                    self.build(self.config)
                    return self.make
        return functools.partial(cls, **kept)

    def run(self) -> Config:
        """The configuration from which `make` gives these shapes. Raises Unfit where none was found."""
        found = list(fields(self.config))
        numbers = [path for path, value in found if value is not None and value > 1]
        config, wrong = self.fit(self.config, numbers)
        if wrong:  # a size that follows another one unless it is told: absent values are told first
            told, more = self.told([path for path, value in found if value is None])
            if more:
                config, wrong = self.fit(told, [*numbers, *more])
        if wrong:
            raise Unfit(self.said(wrong))
        return config

    def of(self, known: Mapping[Steps, Fraction]) -> Config:
        """The configuration with these numbers. Raises Unfit where they are no integers, or give other shapes."""
        config = self.config
        for path, value in known.items():
            if value.denominator != 1:
                raise Unfit(f"{path} would be {value}")
            config = replaced(config, path, int(value))
        wrong = self.wrong(self.build(config))
        if of_tensors({place: 0 for place in wrong}):
            raise Unfit(self.said(wrong))
        return config

    def with_constants(self) -> Config:
        """`run`, where integers of modules that follow no width decide as well."""
        self.constants = True
        self.target = self.sizes(self.small)
        return self.run()

    def fit(self, config: Config, paths: list[Steps]) -> tuple[Config, list[Place]]:
        """One field after another, each from the sizes that it alone still decides. And what does not fit then."""
        sizes = self.build(config)
        undecided = {path: effect for path in paths if (effect := self.effect(config, path, sizes))}
        while undecided and self.wrong(sizes):
            deciders = Counter(place for effect in undecided.values() for place in effect)
            path = max(undecided, key=lambda path: _clarity(undecided[path], deciders))
            slopes = self.effect(config, path, sizes)
            own = {place: slope for place, slope in slopes.items() if deciders[place] == 1} or slopes
            del undecided[path]
            config, sizes = self.settled(config, path, sizes, own)
        return config, list(of_tensors({place: 0 for place in self.wrong(sizes)}))

    def settled(self, config: Config, path: Steps, sizes: Sizes, slopes: Slopes) -> tuple[Config, Sizes]:
        """A configuration whose field is what the sizes with these slopes want, as far as that mends them."""
        for value in wanted(at(config, path), sizes, self.target, slopes):
            try:
                tried = replaced(config, path, value)
                new = self.build(tried)
            except Unfit:
                continue
            if len(slopes.keys() & self.wrong(new)) < len(slopes.keys() & self.wrong(sizes)):
                config, sizes = tried, new
        return config, sizes

    def effect(self, config: Config, path: Steps, sizes: Sizes) -> Slopes:
        """How fast each size grows with a field. Twice and half of it keep what divides it, and go first."""
        value = at(config, path)
        for other in (2 * value, value // 2, value + 1, value - 1, 3 * value):
            if other < 1 or other == value:
                continue
            try:
                new = self.build(replaced(config, path, other))
            except Unfit:
                continue
            return slopes_between(sizes, new, other - value)
        return {}

    def told(self, paths: list[Steps]) -> tuple[Config, list[Steps]]:
        """The configuration with a number in place of absent values that a number can replace, and which those are."""
        config, found = self.config, []
        sizes = self.build(config)
        for path in paths:
            try:
                few, many = (self.build(replaced(config, path, number)) for number in (FEW, MANY))
            except Unfit:
                continue
            slopes = slopes_between(few, many, MANY - FEW)
            needs = {FEW + (sizes[p] - few[p]) / slope for p, slope in slopes.items() if p in sizes}
            if len(needs) == 1 and (need := needs.pop()) == int(need) and need >= 1:
                tried = replaced(config, path, int(need))
                if self.build(tried) == sizes:
                    config = tried
                    found.append(path)
        return config, found

    def build(self, config: Config) -> Sizes:
        """The sizes that the class gives a model. Raises Unfit where it refuses, or makes other tensors."""
        sizes = self.sizes(self.hollow(config))
        if set(of_tensors(sizes)) != set(of_tensors(self.target)):
            raise Unfit("its class builds other tensors from it")
        return sizes

    def names(self, config: Config) -> frozenset[str]:
        """The names of the tensors that the class gives a model. Raises Unfit where it refuses."""
        return frozenset(name for name, _ in tensors_of(self.hollow(config)))

    def hollow(self, config: Config) -> nn.Module:
        """The model that the class makes, on the meta device. Raises Unfit where it refuses."""
        try:
            with torch.device("meta"):
                return self.make(copy.deepcopy(config))
        except Exception as error:
            raise Unfit(f"{type(self.small).__name__}(config) fails on the meta device: {error}") from error

    def sizes(self, model: nn.Module) -> Sizes:
        """The shape of every tensor, and the attributes that follow widths (what shapes leave open: heads x width)."""
        found: Sizes = {(name, i): size for name, tensor in tensors_of(model) for i, size in enumerate(tensor.shape)}
        modules = dict(model.named_modules())
        for owner, path, formula in self.formulas:
            if isinstance(formula, Agreed):
                continue  # its class may give it any of several numbers
            try:
                value = at(vars(modules[owner])[path[0]], path[1:])
            except (LookupError, TypeError):
                continue
            if type(value) is int:
                found[owner, path] = value
        return found | self._constants(modules) if self.constants else found

    def _constants(self, modules: Mapping[str, nn.Module]) -> Sizes:
        """The integers of modules that follow no width."""
        follow = {(owner, path[0]) for owner, path, _ in self.formulas}
        return {
            (owner, (name,)): value
            for owner, module in modules.items()
            for name, value in vars(module).items()
            if type(value) is int and (owner, name) not in follow
        }

    def wrong(self, sizes: Sizes) -> list[Place]:
        return [place for place, size in self.target.items() if sizes.get(place, size) != size]

    def said(self, wrong: list[Place]) -> str:
        names = list(dict.fromkeys(name for name, _ in wrong))
        shapes = {name: [size for (n, _), size in of_tensors(self.target).items() if n == name] for name in names}
        listed = ", ".join(f"{name} {shapes[name]}" for name in names[:SHOWN])
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        return f"it cannot express {listed}{more}"


def _clarity(effect: Slopes, deciders: Counter[Place]) -> tuple[int, int]:
    """How clear it is what a field must be: how many sizes it alone decides, then how few it decides in all."""
    return sum(deciders[place] == 1 for place in effect), -len(effect)


def tensors_of(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The parameters and buffers of a model under all of their names."""
    yield from model.named_parameters(remove_duplicate=False)
    yield from model.named_buffers(remove_duplicate=False)


def of_tensors(sizes: Sizes) -> Sizes:
    """The sizes that are of tensors."""
    return {place: size for place, size in sizes.items() if isinstance(place[1], int)}
