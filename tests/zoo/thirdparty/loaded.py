"""Imports what the rows of the tables call, as far as it is installed: once, for all processes that are forked."""

from __future__ import annotations

import contextlib
import warnings

from . import RECIPES

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    for recipe in RECIPES.values():
        with contextlib.suppress(Exception):
            recipe.model.found()
