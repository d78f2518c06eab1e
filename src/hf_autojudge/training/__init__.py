"""From labels to a calibrated judge: collect features, fit a head, choose its threshold."""

from hf_autojudge.training.calibration import ThresholdChoice, calibrate_threshold, calibration_table, choose_threshold
from hf_autojudge.training.feature_store import store_features
from hf_autojudge.training.features import MismatchFeatures, collect_features
from hf_autojudge.training.fitting import FitResult, fit_head
from hf_autojudge.training.from_store import fit_store

__all__ = [
    "FitResult",
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
