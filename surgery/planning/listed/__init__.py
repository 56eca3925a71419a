"""Groups whose units are modules: which lists of modules there are, and which of these may be left out.

It makes recordings and compares them. Never: the analysis, or twins.
"""
