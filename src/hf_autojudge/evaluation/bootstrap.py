"""Bootstrap intervals over questions."""

from __future__ import annotations

import numpy as np

Interval = tuple[float, float]


class Bootstrap:
    """Percentile bootstrap (Efron and Tibshirani 1993, chapter 13): 95% intervals from resampled questions.

    Every quantity is computed on the same resamples, so that differences and ratios of two methods are paired.

    Args:
        n (`int`): Number of questions.
        seed (`int`, *optional*, defaults to `0`)
        resamples (`int`, *optional*, defaults to `1000`)
    """

    def __init__(self, n: int, seed: int = 0, resamples: int = 1000) -> None:
        draws = np.random.default_rng(seed).integers(n, size=(resamples, n))
        # How often each resample holds each question: a sum over a resample is then one matrix product
        self.counts = np.stack([np.bincount(row, minlength=n) for row in draws]).astype(np.float64)

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Sum of the questions' values, `(n,)`, in each resample: `(resamples,)`."""
        return self.counts @ np.asarray(values, dtype=np.float64)

    @staticmethod
    def interval(statistic: np.ndarray) -> Interval:
        """From the 2.5th to the 97.5th percentile of a statistic of each resample."""
        low, high = np.percentile(statistic, (2.5, 97.5))
        return float(low), float(high)
