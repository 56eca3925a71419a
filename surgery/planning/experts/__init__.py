"""Experts: axes along which a router chooses, told by experiment to be axes like any other.

Never: a twin, or a plan that is finished.
"""
