"""Judge decoding for transformers: `model.generate(..., assistant_model=draft, judge=judge)`.

Importing the package lets `generate` take `judge=`; [`disable`] undoes that.
"""

from hf_autojudge.decoding import JudgedDecoding, JudgeStats
from hf_autojudge.integration import disable, enable
from hf_autojudge.judges import AutoJudgeConfig, AutoJudgeHead, ExactMatchRule, Judge, KLRule, TopKRule, Window
from hf_autojudge.provenance import __version__
from hf_autojudge.runners import free_static_caches

__all__ = [
    "AutoJudgeConfig",
    "AutoJudgeHead",
    "ExactMatchRule",
    "Judge",
    "JudgeStats",
    "JudgedDecoding",
    "KLRule",
    "TopKRule",
    "Window",
    "__version__",
    "disable",
    "enable",
    "free_static_caches",
]

enable()
