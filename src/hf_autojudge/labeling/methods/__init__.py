"""The labelling methods, one file each."""

from hf_autojudge.labeling.methods.annotated import Annotated
from hf_autojudge.labeling.methods.autojudge import AutoJudge, find_important_tokens
from hf_autojudge.labeling.methods.base import Job, LabelingMethod
from hf_autojudge.labeling.methods.selfjudge import SelfJudge

__all__ = ["Annotated", "AutoJudge", "Job", "LabelingMethod", "SelfJudge", "find_important_tokens"]
