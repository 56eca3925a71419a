"""Callbacks for the training loops of others: what draws remember goes into their checkpoints, numbers into their logs.

Each module imports the library that it is named after. Never: anything of the library that is not
public, apart from what finds the wrapped model inside of another module.
"""
