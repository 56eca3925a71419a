"""From a twin to plain models: sliced and proven, reordered, their configuration fitted, saved and loaded.

Never: training, measuring or curves.
"""
