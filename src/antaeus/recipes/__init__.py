"""The published methods, one file each. `RECIPES` is the one list from which users choose by name."""

from __future__ import annotations

from antaeus.recipes.base import Recipe
from antaeus.recipes.distill import Distill
from antaeus.recipes.lmsi import LMSI
from antaeus.recipes.rest_em import ReSTEM
from antaeus.recipes.rlvr import RLVR
from antaeus.recipes.self_consistency import SelfConsistency
from antaeus.recipes.self_correct import SelfCorrect
from antaeus.recipes.star import STaR
from antaeus.recipes.ttrl import TTRL
from antaeus.recipes.verbalized import Verbalized

RECIPES: dict[str, type[Recipe]] = {recipe.name: recipe for recipe in (
    TTRL, RLVR, SelfConsistency, LMSI, STaR, ReSTEM, SelfCorrect, Distill, Verbalized,
)}  # fmt: skip
