"""Judges: what decides which mismatches are accepted."""

from hf_autojudge.judges.base import Judge, Window
from hf_autojudge.judges.compose import after, all_of, any_of, at_threshold, budget, inside
from hf_autojudge.judges.configuration_autojudge import AutoJudgeConfig
from hf_autojudge.judges.modeling_autojudge import AutoJudgeHead
from hf_autojudge.judges.pair_rules import DivergenceRule, KLRule, RegretBudgetRule, RollbackRule
from hf_autojudge.judges.parsing import parse_rule
from hf_autojudge.judges.rules import (
    CleanRunRule,
    ExactMatchRule,
    MarginRule,
    RatioRule,
    RelaxedTopNRule,
    TopKRule,
    TypicalRule,
)
from hf_autojudge.judges.sampling_rules import (
    BlockVerification,
    CascadeRule,
    EnsembleRule,
    LenienceRule,
    ThresholdsRule,
)

__all__ = [
    "AutoJudgeConfig",
    "AutoJudgeHead",
    "BlockVerification",
    "CascadeRule",
    "CleanRunRule",
    "DivergenceRule",
    "EnsembleRule",
    "ExactMatchRule",
    "Judge",
    "KLRule",
    "LenienceRule",
    "MarginRule",
    "RatioRule",
    "RegretBudgetRule",
    "RelaxedTopNRule",
    "RollbackRule",
    "ThresholdsRule",
    "TopKRule",
    "TypicalRule",
    "Window",
    "after",
    "all_of",
    "any_of",
    "at_threshold",
    "budget",
    "inside",
    "parse_rule",
]
