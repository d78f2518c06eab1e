"""Metrics in the format of `evaluate`."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

OUTCOME_ACCURACY = Path(__file__).parent / "outcome_accuracy"
ACCEPTED_PER_TARGET_CALL = Path(__file__).parent / "accepted_per_target_call"
"""The folders to pass to `evaluate.load`."""


def load_metric(folder: Path = OUTCOME_ACCURACY) -> Any:
    """Load a metric from the package's own files, without network access.

    Args:
        folder (`Path`, *optional*): `OUTCOME_ACCURACY`, whose `compute` takes `predictions`, `references` and,
            optionally, `is_correct` and `threads`; or `ACCEPTED_PER_TARGET_CALL`, whose `compute` takes `new_tokens`
            and `target_calls`.

    Returns:
        [`evaluate.Metric`]
    """
    import evaluate  # takes a second

    # With files or a shared id, two processes on one machine would wait for each other's lock
    return evaluate.load(str(folder), keep_in_memory=True, experiment_id=uuid.uuid4().hex)
