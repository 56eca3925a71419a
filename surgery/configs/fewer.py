"""A small model that has a part of the modules of a whole one: its names, and what its configuration has to say."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction

from torch import nn

from surgery.axes import layout
from surgery.axes.formulas import Agreed, LayoutSize, Origin, Picked, Rank, Steps, leaves
from surgery.configs.fields import Config
from surgery.configs.fitting import Fit, Formulas, tensors_of
from surgery.configs.kept import config_of
from surgery.configs.shorter import Names, Shortening, Shorter
from surgery.plan.units import Units

PLAIN = (bool, int, float, str, type(None))


def named_now(formulas: Formulas, units: Units, widths: Mapping[str, int]) -> Formulas:
    """Formulas by what their modules are called in a small model; those of modules that are gone are left out."""
    named = ((units.name(owner, widths), path, how) for owner, path, how in formulas)
    return [(owner, path, how) for owner, path, how in named if owner is not None]


@dataclass(frozen=True)
class Fewer:
    """The modules that a small model, or a part of it, has of a whole one.

    Attributes:
        whole: the whole model. Its tensors may be on the meta device.
        path: of the part in the whole model.
        units: the modules that come and go.
        formulas: how attributes of the whole model follow.
        widths: those of the small model.
        known: names of tensors that were asked for before.
    """

    whole: nn.Module
    path: str
    units: Units
    formulas: Formulas
    widths: Mapping[str, int]
    known: dict[tuple[str, ...], Names] = field(default_factory=dict)

    @property
    def lists(self) -> tuple[Shorter, ...]:
        """The lists in it that are shorter than in the whole model."""
        return tuple(
            Shorter(name, group.size, group.kept(self.widths[name]), tuple(self._ends(name)))
            for name, group in self.units.groups.items()
            if self.widths[name] < group.size and any(_inside(listed.path, self.path) for listed in group.lists)
        )

    def part(self, path: str) -> Fewer:
        """The same of a part of the model, by the path that it has in the small one."""
        now = {self.units.name(name, self.widths): name for name, _ in self.whole.named_modules(remove_duplicate=False)}
        return replace(self, path=now[path], known={})

    def _ends(self, name: str) -> Iterator[Steps]:
        """The paths, in the configuration of some module, of what follows which units are there."""
        for _, path, formula in self.formulas:
            if len(path) > 1 and name in _groups(formula):
                yield path[1:]

    def within(self) -> list[tuple[str, tuple[str, *tuple[Hashable, ...]], Origin]]:
        """The formulas of the part, by the paths that its modules have in the whole one."""
        return [(_below(o, self.path), path, how) for o, path, how in self.formulas if _inside(o, self.path)]

    def wanted(self, shorter: Collection[str]) -> Names:
        """The names of the part's tensors where these lists are shorter, and all others whole."""
        key = tuple(sorted(shorter))
        if key not in self.known:
            self.known[key] = frozenset(self._names({name: self.widths[name] for name in shorter}))
        return self.known[key]

    def _names(self, widths: Mapping[str, int]) -> Iterator[str]:
        part = self.whole.get_submodule(self.path)
        above = self.units.name(self.path, widths) or ""
        for name, _ in tensors_of(part):
            now = self.units.name(f"{self.path}.{name}".lstrip("."), widths)
            if now is not None:
                yield _below(now, above)

    def start(self, config: Config, known: Mapping[Steps, Fraction]) -> tuple[Config, dict[Steps, Fraction]]:
        """A configuration, and the numbers in it that are known, for as many modules as there are.

        Raises Unfit where no number or list of it says how many there are.
        """
        lists = self.lists
        if not lists:
            return config, dict(known)
        part, formulas = self.whole.get_submodule(self.path), self.within()
        fit = Fit(part, formulas, config_of(part, formulas))
        search = Shortening(fit.config, lists, fit.names, self.wanted)
        search.run()
        return search.applied(config), search.moved(known)

    def unlike(self, small: nn.Module, built: nn.Module) -> str | None:
        """How a built model's modules differ from ours in what the units of a list do not have alike."""
        mine, theirs = dict(small.named_modules()), dict(built.named_modules())
        above = self.units.name(self.path, self.widths) or ""
        for path, name in self._particular():
            now = self.units.name(path, self.widths)
            if now is None or (at := _below(now, above)) not in mine:
                continue
            ours, other = (_held(modules.get(at), name) for modules in (mine, theirs))
            if ours != other:
                return f"{at}.{name} is {other!r} in it, and {ours!r} here"
        return None

    def _particular(self) -> Iterator[tuple[str, str]]:
        """The attributes that units of one list do not have alike, and the modules that they are of.

        Those that follow widths are left out: sizes are compared by themselves.
        """
        apart = {(owner, path[0]) for owner, path, how in self.formulas if not isinstance(how, Rank)}
        for one in self.lists:
            for listed in self.units.groups[one.name].lists:
                children = [listed.child(name) for names in listed.units for name in names]
                for name, values in self._by_name(children).items():
                    if any(value != next(iter(values.values())) for value in values.values()):
                        yield from ((path, name[1]) for path in values if (path, name[1]) not in apart)

    def _by_name(self, children: Collection[str]) -> dict[tuple[str, str], dict[str, object]]:
        """What children hold: for each module below them and each attribute of it, the value of each child."""
        found: dict[tuple[str, str], dict[str, object]] = {}
        for path, module in self.whole.named_modules():
            for child in children:
                if _inside(path, child):
                    for name in (CLASS, *(name for name in vars(module) if name != "training")):
                        found.setdefault((_below(path, child), name), {})[path] = _held(module, name)
        return found


CLASS = "__class__"


def _held(module: nn.Module | None, name: str) -> object:
    """What a module holds under a name, as far as it is plain; by its class it is told whether there is one."""
    if name == CLASS:
        return type(module).__name__
    value = None if module is None else vars(module).get(name)
    return value if _is_plain(value) else None


def _is_plain(value: object) -> bool:
    if isinstance(value, list | tuple):
        return all(_is_plain(item) for item in value)
    return type(value) in PLAIN


def _groups(formula: Origin) -> Iterator[str]:
    """The groups of modules whose number or choice a formula follows."""
    if isinstance(formula, Picked):
        yield formula.group
    elif not isinstance(formula, Agreed):
        for leaf in leaves(formula):
            if isinstance(leaf, LayoutSize):
                yield from layout.groups(leaf.layout)


def _inside(path: str, above: str) -> bool:
    return not above or f"{path}.".startswith(f"{above}.")


def _below(path: str, above: str) -> str:
    return path[len(above) + 1 :] if above else path
