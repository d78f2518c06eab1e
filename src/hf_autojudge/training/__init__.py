"""From labels to a calibrated judge."""

from hf_autojudge.training.calibrate import ThresholdChoice, calibrate, calibration_table, choose_threshold
from hf_autojudge.training.fit import FitResult, fit
from hf_autojudge.training.from_store import fit_store

__all__ = ["FitResult", "ThresholdChoice", "calibrate", "calibration_table", "choose_threshold", "fit", "fit_store"]
