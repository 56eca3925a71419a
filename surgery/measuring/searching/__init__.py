"""Widths for each axis within a budget: candidates by prediction, decided by evaluation.

Never: modules; it asks an evaluator for scores, and a cost model for costs.
"""
