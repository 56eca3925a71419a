"""Configurations: plain data objects that classes build models of given sizes from.

Never: twins, small models, and of plans only which modules come and go. What sizes a model has is told from outside.
"""
