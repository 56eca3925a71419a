"""Whether a layer does what its adapter declares: the trials of `surgery.check_adapter`.

Never: plans, or models of more than the one layer.
"""
