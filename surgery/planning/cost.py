"""What a model costs at given widths, predicted from the plan alone."""

from __future__ import annotations

from torch import nn

from surgery.errors import InputError
from surgery.modules.arguments import counted
from surgery.modules.inputs import Examples
from surgery.plan.costs import Cost
from surgery.plan.plan import Plan
from surgery.plan.widths import WidthSpec
from surgery.planning.make import make_plan
from surgery.twin.elastic import is_wrapped
from surgery.twin.setting import plan_of


@counted()
def cost(model_or_plan: nn.Module | Plan, widths: WidthSpec = 1.0, example_inputs: Examples | None = None) -> Cost:
    """The cost at the given widths, from the plan alone: nothing is run, unless a plain model must be analysed first.

    Raises InputError for a plain model without example inputs, WidthError for impossible widths.
    """
    plan = _plan(model_or_plan, example_inputs)
    return plan.cost_model.at(plan.widths(widths))


def _plan(model_or_plan: nn.Module | Plan, examples: Examples | None) -> Plan:
    if isinstance(model_or_plan, Plan):
        return model_or_plan
    if is_wrapped(model_or_plan):
        return plan_of(model_or_plan)
    if examples is None:
        raise InputError(
            f"{type(model_or_plan).__name__} is not wrapped: give example inputs to analyse it on, "
            "cost(model, widths, example_inputs=x)"
        )
    return make_plan(model_or_plan, examples)
