"""The configuration of a small model: the one that its class builds these very shapes from, or word that none does.

A model that holds a plain data object as `config`, and whose class is built as `type(model)(config)`, should be the
model that its configuration tells of: tools save one and build the other. No names of fields are known here. The class
is built on the meta device with one integer changed at a time, which shows what follows it; the integers are then
fitted to the small model, and the result is believed only if it builds the same tensors and gives the same outputs.
"""

from __future__ import annotations

import copy
import inspect
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import nn

from surgery.axes.formulas import Field
from surgery.errors import InputError, ProofError
from surgery.modules.inputs import Examples
from surgery.modules.plain_data import LONGEST, is_plain_data, replaced
from surgery.modules.verify import compare
from surgery.plan.plan import Plan

Path: TypeAlias = "tuple[Any, ...]"  # the steps to an integer in a configuration
Place: TypeAlias = "tuple[str, Any]"  # a tensor and a dimension, or a module and the path of an attribute
Sizes: TypeAlias = "dict[Place, int]"
SAVE = "save_pretrained"
SHOWN = 4  # tensors named in a message


@dataclass(frozen=True)
class Refused:
    """Stands for a method that would write what cannot be read again."""

    reason: str

    def __call__(self, *_: Any, **__: Any) -> None:
        raise InputError(self.reason)


class _Unfit(Exception):
    """Why no configuration tells of a model."""


def settle_config(
    small: nn.Module, plan: Plan, widths: Mapping[str, int], examples: Examples, tolerance: float | None
) -> str | None:
    """Make `small.config` tell the sizes of a small model, or return why no configuration of its class can.

    Then `config` stays as it was, and `save_pretrained`, where the class has one, raises InputError with the reason.
    """
    config = vars(small).get("config")
    written, built = hasattr(type(small), SAVE), _built_from_config(type(small))
    if dict(widths) == plan.full() or not is_plain_data(config) or not (written or built):
        return None
    try:
        if not built:
            raise _Unfit("its class is not built from a config alone")
        with torch.random.fork_rng(devices=[]):
            fitted = _Fit(small, plan, config).run()
            _check(small, fitted, examples, tolerance)
    except _Unfit as unfit:
        reason = (
            f"no config of {type(small).__name__} gives this small model: {unfit}. Its config still tells the full "
            "sizes. Write it with surgery.save(small, path) and read it with surgery.load(path, full_model, inputs)"
        )
        if written:
            vars(small)[SAVE] = Refused(reason)
        return reason
    if isinstance(vars(small).get(SAVE), Refused):
        del vars(small)[SAVE]
    return None


def _built_from_config(cls: Any) -> bool:
    """Whether `cls(config)` makes a model: its only required argument has that name."""
    try:
        parameters = list(inspect.signature(cls).parameters.values())
    except (TypeError, ValueError):
        return False
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    plain = [p for p in parameters if p.kind in kinds]
    rest = [p for p in parameters if p not in plain and p.kind is inspect.Parameter.KEYWORD_ONLY]
    needed = [p.name for p in (*plain, *rest) if p.default is inspect.Parameter.empty]
    return needed == ["config"] and plain[:1] != [] and plain[0].name == "config"


def fields(config: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """The integers and the absent values of a configuration: its own, in nested ones, and in lists."""
    if type(config) is int or config is None:
        yield path, config
    elif type(config) in (list, tuple) and len(config) <= LONGEST:
        for i, item in enumerate(config):
            if type(item) is int:
                yield (*path, i), item
    elif is_plain_data(config):
        for name, value in vars(config).items():
            if not name.startswith("_"):
                yield from fields(value, (*path, Field(name)))


def _at(value: Any, path: Path) -> Any:
    for step in path:
        value = vars(value)[step.name] if isinstance(step, Field) else value[step]
    return value


@dataclass
class _Fit:
    """The search for the configuration of one small model."""

    small: nn.Module
    plan: Plan
    config: Any
    target: Sizes = field(init=False)

    def __post_init__(self) -> None:
        self.target = self.sizes(self.small)

    def sizes(self, model: nn.Module) -> Sizes:
        """The shape of every tensor, and the attributes that follow widths (what shapes leave open: heads x width)."""
        tensors = (*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False))
        found: Sizes = {(name, i): size for name, tensor in tensors for i, size in enumerate(tensor.shape)}
        modules = dict(model.named_modules())
        for owner, path, _ in self.plan.formulas:
            try:
                value = _at(vars(modules[owner])[path[0]], path[1:])
            except (LookupError, TypeError):
                continue
            if type(value) is int:
                found[owner, path] = value
        return found

    def build(self, config: Any) -> Sizes:
        """The sizes that the class gives a model. Raises _Unfit where it refuses, or makes other tensors."""
        try:
            with torch.device("meta"):
                sizes = self.sizes(type(self.small)(copy.deepcopy(config)))
        except Exception as error:
            raise _Unfit(f"{type(self.small).__name__}(config) fails on the meta device: {error}") from error
        if set(_tensors(sizes)) != set(_tensors(self.target)):
            raise _Unfit("its class builds other tensors from it")
        return sizes

    def run(self) -> Any:
        """The configuration that gives these shapes. Raises _Unfit where none was found."""
        found = list(fields(self.config))
        numbers = {path: value for path, value in found if value is not None and value > 1}
        config, wrong = self.fit(self.config, list(numbers))
        if wrong:  # a size that follows another one unless it is told: absent values are told first
            told, more = self.told([path for path, value in found if value is None])
            if more:
                config, wrong = self.fit(told, [*numbers, *more])
        if wrong:
            raise _Unfit(self.said(wrong))
        return config

    def said(self, wrong: list[Place]) -> str:
        names = list(dict.fromkeys(name for name, _ in wrong))
        shapes = {name: [size for (n, _), size in _tensors(self.target).items() if n == name] for name in names}
        listed = ", ".join(f"{name} {shapes[name]}" for name in names[:SHOWN])
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        return f"it cannot express {listed}{more}"

    def fit(self, config: Any, paths: list[Path]) -> tuple[Any, list[Place]]:
        """One field after another, each from the sizes that it alone still decides. And what does not fit then."""
        sizes = self.build(config)
        open_ = {path: effect for path in paths if (effect := self.effect(config, path, sizes))}
        while open_ and self.wrong(sizes):
            deciders = Counter(place for effect in open_.values() for place in effect)
            best = max(open_, key=lambda path: (sum(deciders[p] == 1 for p in open_[path]), -len(open_[path])))
            slopes = self.effect(config, best, sizes)
            sole = {place: slope for place, slope in slopes.items() if deciders[place] == 1} or slopes
            del open_[best]
            for value in self.values(_at(config, best), sizes, sole):
                try:
                    tried = replaced(config, best, value)
                    new = self.build(tried)
                except _Unfit:
                    continue
                if len(sole.keys() & self.wrong(new)) < len(sole.keys() & self.wrong(sizes)):
                    config, sizes = tried, new
        return config, list(_tensors({place: 0 for place in self.wrong(sizes)}))

    def wrong(self, sizes: Sizes) -> list[Place]:
        return [place for place, size in self.target.items() if sizes.get(place, size) != size]

    def effect(self, config: Any, path: Path, sizes: Sizes) -> dict[Place, float]:
        """How fast each size grows with a field."""
        value = _at(config, path)
        for other in (2 * value, value // 2, value + 1, value - 1, 3 * value):
            if other < 1 or other == value:
                continue
            try:
                new = self.build(replaced(config, path, other))
            except _Unfit:
                continue
            return {p: (new[p] - n) / (other - value) for p, n in sizes.items() if new.get(p, n) != n}
        return {}

    def values(self, value: int, sizes: Sizes, slopes: Mapping[Place, float]) -> list[int]:
        """What sizes want a field to be, by the number of those that do."""
        votes: Counter[int] = Counter()
        for place, slope in slopes.items():
            size, goal = sizes[place], self.target.get(place, sizes[place])
            for wanted in {value + (goal - size) / slope, value * size / goal if slope < 0 else 0}:
                if wanted >= 1 and wanted == int(wanted):
                    votes[int(wanted)] += 1
        return [wanted for wanted, _ in votes.most_common(3)]

    def told(self, paths: list[Path]) -> tuple[Any, list[Path]]:
        """The configuration with a number in place of absent values that a number can replace, and which those are."""
        config, found = self.config, []
        sizes = self.build(config)
        for path in paths:
            try:
                few = self.build(replaced(config, path, 24))
                many = self.build(replaced(config, path, 48))
            except _Unfit:
                continue
            slopes = {p: (many[p] - n) / 24 for p, n in few.items() if many.get(p, n) != n}
            wants = {24 + (sizes[p] - few[p]) / slope for p, slope in slopes.items() if p in sizes}
            if len(wants) == 1 and (want := wants.pop()) == int(want) and want >= 1:
                tried = replaced(config, path, int(want))
                if self.build(tried) == sizes:
                    config = tried
                    found.append(path)
        return config, found


def _tensors(sizes: Sizes) -> Sizes:
    """The sizes that are of tensors."""
    return {place: size for place, size in sizes.items() if isinstance(place[1], int)}


def _check(small: nn.Module, config: Any, examples: Examples, tolerance: float | None) -> None:
    """Build a model from a configuration, with the small one's tensors, and compare; then let `small` hold it."""
    kept = _written_and_read(config)
    changed = {path for path, value in fields(config) if _differs(vars(small)["config"], path, value)}
    if any(_differs(kept, path, _at(config, path)) for path in changed):
        raise _Unfit("a config with its sizes is not the same when it is written and read again")
    try:
        built = type(small)(copy.deepcopy(config)).train(small.training)
        built.load_state_dict(small.state_dict(), assign=True)
    except Exception as error:
        raise _Unfit(f"what its class builds from it does not take its state_dict ({error})") from error
    buffers = dict(built.named_buffers())
    for name, own in small.named_buffers():
        if not torch.allclose(own, buffers[name].to(own), rtol=1e-5, atol=1e-8, equal_nan=True):
            raise _Unfit(f"it has the right shapes, but {name}, which no checkpoint holds, has other values")
    built.to(next(small.parameters()).device)
    try:
        compare(small, built, examples, tolerance, ("the small model", "the model that its config builds"))
    except ProofError as error:
        raise _Unfit(f"one with the right shapes computes something else ({error})") from error
    _hold(small, built, config, {path[-1] for path in changed})


def _differs(config: Any, path: Path, value: Any) -> bool:
    try:
        return bool(_at(config, path) != value)
    except (LookupError, TypeError):
        return True


def _written_and_read(config: Any) -> Any:
    """What files keep of a configuration, where its class knows how to write and read it."""
    if hasattr(config, "to_dict") and hasattr(type(config), "from_dict"):
        return type(config).from_dict(config.to_dict())
    return config


def _hold(small: nn.Module, built: nn.Module, config: Any, names: set[Any]) -> None:
    """Give every module the configuration that the class would: one object where it would share one."""
    shared: dict[int, Any] = {id(built.config): config}
    modules: dict[str, Any] = dict(small.named_modules())
    for path, other in built.named_modules():
        for name, theirs in vars(other).items():
            mine = vars(modules[path]).get(name) if path in modules else None
            if mine is None or type(mine) is not type(theirs) or not is_plain_data(theirs):
                continue
            for steps, value in fields(theirs):
                if steps[-1] in names and _differs(mine, steps, value):
                    mine = replaced(mine, steps, value)
            known = shared.setdefault(id(theirs), mine)
            vars(modules[path])[name] = known if vars(known) == vars(mine) else mine
