"""Who decides which mismatches may stay."""

from hf_autojudge.judges.base import Judge
from hf_autojudge.judges.configuration_autojudge import AutoJudgeConfig
from hf_autojudge.judges.modeling_autojudge import AutoJudgeHead
from hf_autojudge.judges.rules import ExactMatchRule, KLRule, TopKRule
from hf_autojudge.judges.window import Window

__all__ = ["AutoJudgeConfig", "AutoJudgeHead", "ExactMatchRule", "Judge", "KLRule", "TopKRule", "Window"]
