"""From prompts to labels: which mismatches change the outcome of a task."""

from hf_autojudge.labeling.annotated import Annotated
from hf_autojudge.labeling.autojudge import AutoJudge, find_important_tokens
from hf_autojudge.labeling.feature_store import store_features
from hf_autojudge.labeling.features import MismatchFeatures, collect_features
from hf_autojudge.labeling.imported import import_labels
from hf_autojudge.labeling.label import label
from hf_autojudge.labeling.record import LabelledPrompt, Mismatch
from hf_autojudge.labeling.selfjudge import SelfJudge
from hf_autojudge.labeling.store import LabelStore
from hf_autojudge.labeling.tasks import Task

__all__ = [
    "Annotated",
    "AutoJudge",
    "LabelStore",
    "LabelledPrompt",
    "Mismatch",
    "MismatchFeatures",
    "SelfJudge",
    "Task",
    "collect_features",
    "find_important_tokens",
    "import_labels",
    "label",
    "store_features",
]
