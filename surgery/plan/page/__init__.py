"""A plan as one page that draws the model: modules as boxes, parameters as rectangles, kinds of groups as colours.

Never: Plan, which has `report` as a method; a page is made of what `surgery/plan/facts.py` lists.
"""
