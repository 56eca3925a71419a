"""Engines of others: their executors and callbacks.

Never: anything but the public names; each module imports the library that it is for, so none is imported from here.
"""
