"""Engines of others: their executors, and callbacks for their training loops.

Never: what is not public, apart from what finds the wrapped model inside of another module. Each module imports the
library that it is for, so none is imported from here.
"""
