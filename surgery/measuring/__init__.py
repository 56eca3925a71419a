"""Scores of a twin at widths: which rows to measure, how often, where, and how they are kept.

Never: capture or planning; it asks a plan, and runs a twin.
"""
