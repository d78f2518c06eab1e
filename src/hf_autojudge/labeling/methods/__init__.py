"""The labelling methods, one file each: what makes a mismatch important."""

from hf_autojudge.labeling.methods.annotated import Annotated
from hf_autojudge.labeling.methods.autojudge import AutoJudge
from hf_autojudge.labeling.methods.base import Job, LabelingMethod
from hf_autojudge.labeling.methods.selfjudge import SelfJudge

__all__ = ["Annotated", "AutoJudge", "Job", "LabelingMethod", "SelfJudge"]
