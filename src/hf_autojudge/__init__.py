"""Judge decoding for transformers: `model.generate(..., assistant_model=draft, judge=judge)`.

Importing the package lets `generate` take `judge=`; [`disable`] undoes that.
"""

from hf_autojudge.decoding import JudgedDecoding, JudgeStats
from hf_autojudge.integration import disable, enable
from hf_autojudge.judges import (
    AutoJudgeConfig,
    AutoJudgeHead,
    BlockVerification,
    CascadeRule,
    CleanRunRule,
    DivergenceRule,
    EnsembleRule,
    ExactMatchRule,
    Judge,
    KLRule,
    LenienceRule,
    MarginRule,
    RatioRule,
    RegretBudgetRule,
    RelaxedTopNRule,
    RollbackRule,
    ThresholdsRule,
    TopKRule,
    TypicalRule,
    Window,
    after,
    all_of,
    any_of,
    at_threshold,
    budget,
    inside,
    parse_rule,
)
from hf_autojudge.provenance import __version__
from hf_autojudge.runners import free_static_caches

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
    "JudgeStats",
    "JudgedDecoding",
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
    "__version__",
    "after",
    "all_of",
    "any_of",
    "at_threshold",
    "budget",
    "disable",
    "enable",
    "free_static_caches",
    "inside",
    "parse_rule",
]

enable()
