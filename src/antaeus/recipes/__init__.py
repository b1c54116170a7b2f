"""The published methods, one file each. `RECIPES` is the one list from which users choose by name."""

from __future__ import annotations

from antaeus.recipes.base import Recipe
from antaeus.recipes.em_inf import EMInf
from antaeus.recipes.rlvr import RLVR
from antaeus.recipes.ttrl import TTRL
from antaeus.recipes.ttt import TTT
from antaeus.recipes.ttt_arc import TTTArc
from antaeus.recipes.ttt_distill import TTTDistill

RECIPES: dict[str, type[Recipe]] = {recipe.name: recipe for recipe in (TTRL, RLVR, EMInf, TTT, TTTDistill, TTTArc)}
