"""Judges: what decides which mismatches are accepted."""

from hf_autojudge.judges.base import Judge, Window
from hf_autojudge.judges.configuration_autojudge import AutoJudgeConfig
from hf_autojudge.judges.modeling_autojudge import AutoJudgeHead
from hf_autojudge.judges.rules import ExactMatchRule, KLRule, TopKRule

__all__ = ["AutoJudgeConfig", "AutoJudgeHead", "ExactMatchRule", "Judge", "KLRule", "TopKRule", "Window"]
