"""From prompts to labels: which mismatches change the outcome of a task."""

from hf_autojudge.labeling.imported import import_labels
from hf_autojudge.labeling.local import find_important_tokens, label_samples
from hf_autojudge.labeling.methods.annotated import Annotated
from hf_autojudge.labeling.methods.autojudge import AutoJudge
from hf_autojudge.labeling.methods.selfjudge import SelfJudge
from hf_autojudge.labeling.records import LabelledPrompt, Mismatch
from hf_autojudge.labeling.store import LabelStore

__all__ = [
    "Annotated",
    "AutoJudge",
    "LabelStore",
    "LabelledPrompt",
    "Mismatch",
    "SelfJudge",
    "find_important_tokens",
    "import_labels",
    "label_samples",
]
