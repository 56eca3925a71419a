"""The finished plan, as plain data: groups, layouts, formulas, widths, costs, and how a tensor is cut.

Never: capture, rules, planning or twin; whoever has a plan needs none of them.
"""

from surgery.plan.groups import Group
from surgery.plan.plan import Plan
from surgery.plan.table import notation

__all__ = ["Group", "Plan", "notation"]
