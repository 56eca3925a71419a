"""Small models as source: a Python module that needs no part of this library, and a safetensors file beside it.

Never: training, measuring or curves.
"""
