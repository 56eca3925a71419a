"""From a model and example inputs to a plan: rules and adapters applied to recorded runs, solved, tried, named, frozen.

Never: training, shrinking, measuring or curves.
"""

from surgery.planning.make import analyse, make_plan

__all__ = ["analyse", "make_plan"]
