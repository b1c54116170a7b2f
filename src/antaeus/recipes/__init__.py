"""The published methods, one file each. `RECIPES` is the one list from which users choose by name, by rungs."""

from __future__ import annotations

from antaeus.recipes.base import Recipe
from antaeus.recipes.continual import Continual
from antaeus.recipes.distill import Distill
from antaeus.recipes.em_ft import EMFT
from antaeus.recipes.em_inf import EMInf
from antaeus.recipes.em_rl import EMRL
from antaeus.recipes.entropy import Entropy
from antaeus.recipes.evol_rl import EvolRL
from antaeus.recipes.intuitor import Intuitor
from antaeus.recipes.lmsi import LMSI
from antaeus.recipes.mm_upt import MMUPT
from antaeus.recipes.one_shot_em import OneShotEM
from antaeus.recipes.rent import RENT
from antaeus.recipes.rest_em import ReSTEM
from antaeus.recipes.rlvr import RLVR
from antaeus.recipes.seal import SEAL
from antaeus.recipes.seal_arc import SealArc
from antaeus.recipes.self_consistency import SelfConsistency
from antaeus.recipes.self_correct import SelfCorrect
from antaeus.recipes.srt import SRT
from antaeus.recipes.star import STaR
from antaeus.recipes.ttrl import TTRL
from antaeus.recipes.ttt import TTT
from antaeus.recipes.ttt_arc import TTTArc
from antaeus.recipes.ttt_distill import TTTDistill
from antaeus.recipes.urlvr import URLVR
from antaeus.recipes.verbalized import Verbalized

_LISTED = (
    RLVR,
    SelfConsistency, LMSI, STaR, ReSTEM, SelfCorrect, Distill,
    TTRL, SRT, EvolRL, MMUPT,
    EMFT, EMRL, Entropy, RENT, OneShotEM, Intuitor, URLVR, EMInf, Verbalized,
    TTT, TTTDistill, TTTArc,
    SEAL, SealArc, Continual,
)  # fmt: skip
RECIPES: dict[str, type[Recipe]] = {recipe.name: recipe for recipe in _LISTED}
