"""Our modules of `evaluate`."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

OUTCOME_ACCURACY = Path(__file__).parent / "outcome_accuracy"
"""Folder that `evaluate.load` takes."""


def load_metric() -> Any:
    """Load `outcome_accuracy`, from the package's own files; needs no network.

    Returns:
        [`evaluate.Metric`] with `compute(predictions=, references=)`, see its file.

    Raises:
        ImportError: If `evaluate` is not installed.
    """
    try:
        import evaluate
    except ImportError as error:
        raise ImportError("Measuring accuracy needs the package evaluate: pip install hf_autojudge[eval].") from error
    # In memory and under an id of its own: two runs on one machine would otherwise wait for each other's lock
    return evaluate.load(str(OUTCOME_ACCURACY), keep_in_memory=True, experiment_id=uuid.uuid4().hex)
