"""The code of modules: which names it uses, where a call stands in its source, and functions with some sizes replaced.

Never: anything that runs a model.
"""
