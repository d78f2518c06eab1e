"""Fit a head on a label store."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from hf_autojudge.labeling.store import LabelStore
from hf_autojudge.provenance import model_names, versions
from hf_autojudge.training.calibration import calibration_table
from hf_autojudge.training.feature_store import store_features
from hf_autojudge.training.fitting import FitResult, fit_head


def fit_store(
    target: Any,
    draft: Any | None,
    labels: str | os.PathLike,
    num_assistant_tokens: int | None = None,
    folder: str | os.PathLike | None = None,
    collect: Sequence[str] | None = None,
    **fit_options: Any,
) -> FitResult:
    """Collect the features of a label store, fit a head on them, and complete the head's config for publication.

    Args:
        target ([`PreTrainedModel`]): The model the labels were made with.
        draft ([`PreTrainedModel`], *optional*): Likewise, if the labels were made with a draft. `None` for a head that
            reads the target alone.
        labels (`str` or `Path`): Folder of a [`LabelStore`].
        num_assistant_tokens (`int`, *optional*): Candidate tokens per round, the head's default when decoding.
        folder (`str` or `Path`, *optional*): Where the features are stored; see [`store_features`]. Defaults to
            `features/` in the label store, without a draft `features-target/`.
        collect (`Sequence[str]`, *optional*): Features to collect into a new folder. By default all that the given
            models have, so that a later fit can read other features.
        fit_options: Further arguments of [`fit_head`].

    Raises:
        ValueError: If the store was made with other models, holds no labels, or [`fit_head`] refuses its labels.
    """
    store = LabelStore(labels)
    models: dict[str, Any] = model_names(target, draft)
    for role in ("target", "draft"):
        made_with, given = store.settings.get(role), models[role]
        if made_with is not None and given is not None and made_with != given:
            raise ValueError(
                f"The labels in {store.folder} were made with the {role} {made_with!r}; got {given!r}. Pass the "
                "models that the labels were made with."
            )
    if draft is None:
        models["draft"] = store.settings.get("draft")
    if folder is None:
        folder = store.folder / ("features-target" if draft is None else "features")
    result = fit_head(
        store_features(target, draft, store.labelled(), folder, collect),
        num_candidate_tokens=num_assistant_tokens,
        vocab_size=target.config.get_text_config().vocab_size,
        task=store.settings["task"],
        versions=versions("transformers", "torch"),
        **models,
        **fit_options,
    )
    result.head.config.thresholds = calibration_table(result.validation_scores, result.validation_important)
    return result
