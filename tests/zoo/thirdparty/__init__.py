"""Models of other packages: a table a kind."""

from __future__ import annotations

from ..recipe import Recipe
from . import audio, diffusion, graphs, restoration, segmentation, sequences, tabular, vision, vits

TABLES = (segmentation, vision, vits, restoration, diffusion, audio, sequences, tabular, graphs)
RECIPES: dict[str, Recipe] = {name: recipe for table in TABLES for name, recipe in table.RECIPES.items()}
