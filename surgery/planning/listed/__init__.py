"""Groups whose units are modules: which lists of modules there are, and which of these may be left out.

Never: a twin, or a plan that is finished.
"""
