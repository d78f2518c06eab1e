"""The trainer, and what stands beneath it: collect features, fit a head, choose its threshold."""

from hf_autojudge.training.arguments import JudgeTrainingArguments
from hf_autojudge.training.calibration import ThresholdChoice, calibrate_threshold, calibration_table, choose_threshold
from hf_autojudge.training.feature_store import store_features
from hf_autojudge.training.features import MismatchFeatures, collect_features
from hf_autojudge.training.fitting import FitResult, fit_head
from hf_autojudge.training.from_store import fit_store
from hf_autojudge.training.trainer import JudgeTrainer

__all__ = [
    "FitResult",
    "JudgeTrainer",
    "JudgeTrainingArguments",
    "MismatchFeatures",
    "ThresholdChoice",
    "calibrate_threshold",
    "calibration_table",
    "choose_threshold",
    "collect_features",
    "fit_head",
    "fit_store",
    "store_features",
]
