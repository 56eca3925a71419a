"""Configurations: plain data objects that classes build models of given sizes from.

Never: plans, twins, small models. What sizes a model has is told from outside.
"""
