"""From a model and example inputs to a plan: rules and adapters applied to recorded runs, solved, tried, named, frozen.

Never: training, shrinking, measuring or curves.
"""


