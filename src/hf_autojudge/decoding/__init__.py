"""One round of judged decoding, and the loop around it."""

from hf_autojudge.decoding.loop import JudgedDecoding
from hf_autojudge.decoding.stats import JudgeStats

__all__ = ["JudgeStats", "JudgedDecoding"]
