"""The configuration of a small model: the one that its class builds these very shapes from, or word that none does.

A model that holds a plain data object as `config`, and whose class is built as `type(model)(config)`, should be the
model that its configuration tells of: tools save one and build the other. No names of fields are known here. The class
is built on the meta device with one integer changed at a time, which shows what follows it; the integers are then
fitted to the small model, and the result is believed only if it builds the same tensors and gives the same outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Hashable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from torch import nn

from surgery.axes.formulas import Steps
from surgery.configs.building import built_over, unlike
from surgery.configs.fewer import Fewer, named_now
from surgery.configs.fields import Config, differs, entries, written_and_read
from surgery.configs.fitting import Arguments, Fit, Formulas, Unfit
from surgery.configs.kept import config_of, keeping
from surgery.errors import InputError, ProofError
from surgery.modules.inputs import Examples
from surgery.modules.plain_data import at, is_plain_data, replaced
from surgery.modules.verify import compare
from surgery.plan.plan import Plan
from surgery.plan.ties import told
from surgery.refitting.statistics import apart
from surgery.shrinking.parts import first_calls, outermost

SAVE = "save_pretrained"


INSTEAD = "Write the model with surgery.save(small, path) and read it with surgery.load(path, full_model, inputs)"


@dataclass(frozen=True)
class Refused:
    """Stands for a method that would write what cannot be read again."""

    reason: str

    def __call__(self, *_: object, **__: object) -> None:
        raise InputError(self.reason)


@dataclass(frozen=True)
class _Part:
    """A small model, or a part of one, of which a configuration may tell.

    Attributes:
        module: the part.
        formulas: how its attributes follow, by the paths that its modules have.
        examples: what it is run on.
        tolerance: of its outputs.
        fewer: the modules that it has of the whole one's; None where it has all.
        known: numbers of its configuration.
    """

    module: nn.Module
    formulas: Formulas
    examples: Examples
    tolerance: float | None
    fewer: Fewer | None
    known: Mapping[Steps, Fraction] = field(default_factory=dict)

    @property
    def hint(self) -> str:
        """What may be wrong where modules were left out."""
        lists = () if self.fewer is None else self.fewer.lists
        if not lists:
            return ""
        return (
            f". Its class makes modules by their number, and this model has kept some of {'; '.join(map(str, lists))}: "
            "an order (set_depth_order) or a granularity that keeps their pattern may do"
        )


def settle_config(
    small: nn.Module,
    plan: Plan,
    widths: Mapping[str, int],
    examples: Examples,
    tolerance: float | None,
    whole: Callable[[], nn.Module],
) -> str | None:
    """Make `small.config` tell the sizes of a small model, or return why no configuration of its class can.

    Then `config` stays as it was, and `save_pretrained`, where the class has one, raises InputError with the reason.
    Where the model has no configuration that fits, those of its parts are fitted. What `whole` gives is asked for where
    the small model has fewer modules: the model of full size, whose tensors may be on the meta device.
    """
    if dict(widths) == plan.full():
        return None
    written = hasattr(type(small), SAVE)
    _refuse_parts(small)
    formulas = named_now(plan.formulas, plan.units, widths)
    kept = written or config_of(small, formulas) is not None
    if not kept and not any(outermost(small, SAVE)):
        return None
    shorter = any(widths[name] < group.size for name, group in plan.units.groups.items())
    fewer = Fewer(whole(), "", plan.units, plan.formulas, widths) if shorter else None
    model = _Part(small, formulas, examples, tolerance, fewer, told(plan.ties, plan.groups, widths))
    reason = _settled(model) if kept else None
    if reason is not None or not written:
        _settle_parts(model)
    return reason


def _settled(part: _Part) -> str | None:
    """Fit the configuration of a model or a part, or let it refuse to be saved, and return why."""
    module = part.module
    config = config_of(module, part.formulas)
    try:
        if config is None:
            raise Unfit("its class is not built from a config alone")
        _fit(part, config)
    except Unfit as unfit:
        reason = f"no config of {type(module).__name__} gives this small model: {unfit}. {INSTEAD}"
        if hasattr(type(module), SAVE):
            vars(module)[SAVE] = Refused(reason)
        return reason
    if isinstance(vars(module).get(SAVE), Refused):
        del vars(module)[SAVE]
    return None


def _settle_parts(model: _Part) -> None:
    """Fit the configurations of parts that can be saved by themselves, and of whatever holds the same object."""
    small, formulas = model.module, model.formulas
    parts = dict(outermost(small, SAVE))
    if not parts:
        return
    before = {path: vars(part).get("config") for path, part in parts.items()}
    for path, run in first_calls(apart(small), parts, model.examples).items():
        inside = [(o[len(path) + 1 :], name, how) for o, name, how in formulas if f"{o}.".startswith(f"{path}.")]
        fewer = None if model.fewer is None else model.fewer.part(path)
        if _settled(_Part(parts[path], inside, run, model.tolerance, fewer)) is None:
            old = before[path]
            if old is not None and sum(other is old for other in before.values()) == 1:
                _share(small, old, vars(parts[path])["config"])


def _share(small: nn.Module, old: Config, new: Config) -> None:
    """Let modules around a part, which hold its old configuration, hold the new one."""
    for module in small.modules():
        vars(module).update({name: new for name, value in vars(module).items() if value is old and old is not None})


def _fit(part: _Part, old: Config) -> None:
    """Find the configuration, and let the part hold it. Raises Unfit where there is none, or its class refuses it.

    How many modules there are goes first, then the numbers that are `known`. Where shapes leave it open, integers that
    follow no width may tell.
    """
    reasons = []
    ways: list[Callable[[Fit], Config]] = [Fit.run, Fit.with_constants]
    try:
        config, known = (old, part.known) if part.fewer is None else part.fewer.start(old, part.known)
        for find in [lambda fit: fit.of(known), *ways] if known else ways:
            try:
                fit = Fit(part.module, part.formulas, config)
                _check(part, old, find(fit), fit.make)
                return
            except Unfit as unfit:
                reasons.append(unfit)
    except Unfit:
        raise
    except Exception as error:  # classes of configurations check themselves wherever they are touched
        raise Unfit(f"its config refuses these sizes ({type(error).__name__}: {error})") from error
    raise reasons[-2]  # of what shapes tell; that of integers says less


def _refuse_parts(small: nn.Module) -> None:
    """Parts that could be saved by themselves say that their configuration was not fitted."""
    for path, module in small.named_modules():
        if path and hasattr(type(module), SAVE):
            vars(module)[SAVE] = Refused(
                f"{path} is a part of a small model, and its config still tells the full sizes. {INSTEAD}"
            )


def _check(part: _Part, old: Config, config: Config, make: Callable[[Config], nn.Module]) -> None:
    """Build a model from a configuration, with the small one's tensors, and compare; then let `small` hold it."""
    small = part.module
    kept = written_and_read(config)
    changed = {path for path, value in entries(config) if differs(old, path, value)}
    if any(differs(kept, path, at(config, path)) for path in changed):
        raise Unfit("a config with its sizes is not the same when it is written and read again")
    try:
        built = built_over(make, config, small.state_dict(), small.training)
    except Exception as error:
        raise Unfit(f"what its class builds from it does not take its state_dict ({error})") from error
    other = unlike(dict(small.named_buffers()), built)
    if other is not None:
        raise Unfit(f"it has the right shapes, but {other}, which no checkpoint holds, has other values{part.hint}")
    built.to(next(small.parameters()).device)
    try:
        compare(small, built, part.examples, part.tolerance, ("the small model", "the model that its config builds"))
    except ProofError as error:
        raise Unfit(f"one with the right shapes computes something else ({error}){part.hint}") from error
    rates = [(path, vars(m)["p"], vars(built.get_submodule(path))["p"]) for path, m in _dropouts(small)]
    if any(mine != theirs for _, mine, theirs in rates):
        path, mine, theirs = next(rate for rate in rates if rate[1] != rate[2])
        raise Unfit(f"one with the right shapes drops {theirs} at {path}, where this one drops {mine}{part.hint}")
    apart = None if part.fewer is None else part.fewer.unlike(small, built)
    if apart is not None:
        raise Unfit(f"one with the right shapes has modules that are not alike: {apart}{part.hint}")
    _hold(small, built, config, {path[-1] for path in changed})


def _dropouts(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """The layers that drop features in training, which no output tells."""
    return [(path, m) for path, m in model.named_modules() if isinstance(m, nn.modules.dropout._DropoutNd)]


def _hold(small: nn.Module, built: nn.Module, config: Config, names: Container[Hashable]) -> None:
    """Give every module the configuration that the class would: one object where it would share one."""
    if isinstance(config, Arguments):
        vars(small).update(keeping(built))
        return
    shared: dict[int, Config] = {id(built.config): config}
    modules: dict[str, nn.Module] = dict(small.named_modules())
    for path, other in built.named_modules():
        for name, theirs in vars(other).items():
            mine = vars(modules[path]).get(name) if path in modules else None
            if mine is None or type(mine) is not type(theirs) or not is_plain_data(theirs):
                continue
            for steps, value in entries(theirs):
                if steps[-1] in names and differs(mine, steps, value):
                    mine = replaced(mine, steps, value)
            known = shared.setdefault(id(theirs), mine)
            vars(modules[path])[name] = known if vars(known) == vars(mine) else mine
