"""Thresholds as text: as few digits as tell them apart."""

from __future__ import annotations

from collections.abc import Sequence


def threshold_labels(thresholds: Sequence[float], digits: int = 2) -> list[str]:
    """Each threshold with the same number of significant digits: at least `digits`, and as many as it takes for
    different thresholds to read differently.

    Args:
        thresholds (`Sequence[float]`): Those that are shown together, for instance the rows of a table.
        digits (`int`, *optional*, defaults to `2`): Smallest number of digits.
    """
    different = len(set(map(float, thresholds)))
    labels: list[str] = []
    for precision in range(digits, 18):  # 17 digits tell any two numbers apart
        labels = [f"{threshold:.{precision}g}" for threshold in thresholds]
        if len(set(labels)) == different:
            break
    return labels
