"""Weights that fit without training: what readers of an axis can absorb, in which order units go, least-squares refits.

Never: gradients, labels, and names of models: it knows a plan, and runs of a model on batches.
"""
