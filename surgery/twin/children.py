"""Children of a module in a twin: those that are there at the current widths, in place of all that it has."""

from __future__ import annotations

from typing import Any

from torch import nn

from surgery.modules.passing import passed_on
from surgery.twin.elastic import Elastic, elastic_of, synced


def _get(self: nn.Module) -> dict[str, Any]:
    """Under a forward, the children that a small model has, by the names that they have there; outside, all."""
    children: dict[str, Any] = self.__dict__["_modules"]
    elastic = synced(self)
    if elastic is None or elastic.state.setting.full or not elastic.state.inside:
        return children
    found: dict[str, Any] = elastic.cached("_modules", lambda: _there(elastic, children))
    return found


def _put(self: nn.Module, value: Any) -> None:
    self.__dict__["_modules"] = value


CHILDREN = property(_get, _put)


def _there(elastic: Elastic, children: dict[str, Any]) -> dict[str, Any]:
    plan, widths = elastic.state.plan, elastic.state.setting.current
    assert plan is not None
    return plan.units.children_of(elastic.path, children, widths)


def left_out(module: nn.Module, args: Any, kwargs: Any) -> tuple[bool, Any]:
    """Whether a module is left out at the current widths, and what it hands on then in the place of a result."""
    elastic = elastic_of(module)
    if elastic is None or elastic.passing is None:
        return False, None
    elastic.state.sync()  # in a backward pass, which computes it again
    plan = elastic.state.plan
    if plan is None or elastic.state.setting.full:
        return False, None
    if plan.units.there(elastic.path, elastic.state.setting.current):
        return False, None
    return True, passed_on(elastic.passing, args, kwargs)
