"""The configuration that a model keeps: what its class builds it from, or the arguments of its constructor."""

from __future__ import annotations

import inspect
from collections.abc import Mapping

from torch import nn

from surgery.configs.fields import Config
from surgery.configs.fitting import Arguments, Formulas, built_from_config
from surgery.modules.plain_data import is_plain_data


def config_of(model: nn.Module, formulas: Formulas) -> Config | None:
    """The object that `type(model)(config)` builds the model from, or the arguments of that call; None without either.

    A class may keep its arguments by itself and give them as a mapping, by a property `config`.
    """
    config = vars(model).get("config")
    if built_from_config(model, formulas):
        return config if is_plain_data(config) else None
    kept = inspect.getattr_static(type(model), "config", None)
    given = model.config if isinstance(kept, property) else None
    if not isinstance(given, Mapping):
        return None
    names = inspect.signature(type(model)).parameters
    arguments = Arguments(**{name: given[name] for name in names if name in given})
    return arguments if is_plain_data(arguments) else None


def keeping(built: nn.Module) -> dict[str, object]:
    """The attribute in which a model keeps its configuration, and that."""
    return {name: value for name, value in vars(built).items() if value is built.config}
