"""The trainer, and what stands beneath it: collect features, fit a head, calibrate judges."""

from hf_autojudge.training.arguments import JudgeTrainingArguments
from hf_autojudge.training.calibration import calibrate_threshold, calibration_table
from hf_autojudge.training.choosing import ThresholdChoice, choose_setting, choose_threshold, prompts_needed
from hf_autojudge.training.disjoint import check_disjoint
from hf_autojudge.training.feature_store import store_features
from hf_autojudge.training.features import MismatchFeatures, collect_features
from hf_autojudge.training.fitting import FitResult, fit_head
from hf_autojudge.training.from_store import fit_store
from hf_autojudge.training.grids import JudgeChoice, calibrate_judges
from hf_autojudge.training.reliability import plot_reliability
from hf_autojudge.training.trainer import JudgeTrainer
from hf_autojudge.training.tuning import DraftLengthChoice, tune_draft_length

__all__ = [
    "DraftLengthChoice",
    "FitResult",
    "JudgeChoice",
    "JudgeTrainer",
    "JudgeTrainingArguments",
    "MismatchFeatures",
    "ThresholdChoice",
    "calibrate_judges",
    "calibrate_threshold",
    "calibration_table",
    "check_disjoint",
    "choose_setting",
    "choose_threshold",
    "collect_features",
    "fit_head",
    "fit_store",
    "plot_reliability",
    "prompts_needed",
    "store_features",
    "tune_draft_length",
]
