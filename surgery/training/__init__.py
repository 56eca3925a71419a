"""Everything until a twin is trained: wrap, how widths are drawn, a step at several widths, what is distilled.

Never: shrinking, measuring or curves.
"""
