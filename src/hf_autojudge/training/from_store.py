"""From a label store to a head, ready to be published."""

from __future__ import annotations

import os
from typing import Any

import torch
import transformers

import hf_autojudge
from hf_autojudge.labeling.features import collect_features
from hf_autojudge.labeling.store import LabelStore
from hf_autojudge.training.calibrate import calibration_table
from hf_autojudge.training.fit import FitResult, fit


def fit_store(
    target: Any,
    draft: Any,
    labels: str | os.PathLike,
    window: int | None = None,
    **fit_options: Any,
) -> FitResult:
    """Fit a head on a label store: collect the features, fit, and fill the head's config.

    Args:
        target, draft ([`PreTrainedModel`]): The pair the labels were made with.
        labels (`str` or `Path`): Folder of a [`LabelStore`].
        window (`int`, *optional*): Candidate tokens a round to decode with by default.
        fit_options: Further arguments of [`fit`].

    Raises:
        ValueError: If the store was made with other models, is empty, or cannot be fitted on.
    """
    store = LabelStore(labels)
    for role, model in (("target", target), ("draft", draft)):
        if store.settings[role] != model.config.name_or_path:
            raise ValueError(
                f"The labels in {store.folder} were made with the {role} {store.settings[role]!r}; got "
                f"{model.config.name_or_path!r}. Name the same models."
            )
    result = fit(
        collect_features(target, draft, store.labelled()),
        window=window,
        target=target.config.name_or_path,
        target_revision=getattr(target.config, "_commit_hash", None),
        draft=draft.config.name_or_path,
        draft_revision=getattr(draft.config, "_commit_hash", None),
        vocab_size=target.config.get_text_config().vocab_size,
        task=store.settings["task"],
        versions={m.__name__: m.__version__ for m in (hf_autojudge, transformers, torch)},
        **fit_options,
    )
    result.head.config.thresholds = calibration_table(result.validation_scores, result.validation_important)
    return result
