"""The elastic model (once-for-all calls it a supernet): modules that run the slice at the widths that are set.

Never: capture, rules, planning or draws; it gets a plan, and is told its widths.
"""
