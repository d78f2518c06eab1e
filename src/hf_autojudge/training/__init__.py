"""From labels to a calibrated judge."""

from hf_autojudge.training.calibrate import ThresholdChoice, calibration_table, choose_threshold
from hf_autojudge.training.fit import FitResult, fit

__all__ = ["FitResult", "ThresholdChoice", "calibration_table", "choose_threshold", "fit"]
