"""From a label store to a head, ready to be published."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from hf_autojudge.labeling.store import LabelStore
from hf_autojudge.provenance import versions
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
    """Fit a head on a label store: collect the features, fit, and fill the head's config.

    Args:
        target ([`PreTrainedModel`]): The one the labels were made with.
        draft ([`PreTrainedModel`], *optional*): Likewise, if the labels were made with one. `None` for a head that
            reads the target alone.
        labels (`str` or `Path`): Folder of a [`LabelStore`].
        window (`int`, *optional*): Candidate tokens a round to decode with by default.
        folder (`str` or `Path`, *optional*): Where the features are kept; what it holds is not collected again. The
            store's `features/` by default, `features-target/` without a draft.
        collect (`Sequence[str]`, *optional*): Features to collect, if the folder is new; by default all that the
            models have, so that a later fit may read others.
        fit_options: Further arguments of [`fit`].

    Raises:
        ValueError: If the store was made with other models, is empty, or cannot be fitted on.
    """
    store = LabelStore(labels)
    for role, model in (("target", target), ("draft", draft)):
        made_with = store.settings.get(role)
        if model is not None and made_with is not None and made_with != model.config.name_or_path:
            raise ValueError(
                f"The labels in {store.folder} were made with the {role} {made_with!r}; got "
                f"{model.config.name_or_path!r}. Name the same models."
            )
    if folder is None:
        folder = store.folder / ("features-target" if draft is None else "features")
    result = fit_head(
        store_features(target, draft, store.labelled(), folder, collect),
        num_candidate_tokens=num_assistant_tokens,
        target=target.config.name_or_path,
        target_revision=getattr(target.config, "_commit_hash", None),
        draft=store.settings.get("draft") if draft is None else draft.config.name_or_path,
        draft_revision=None if draft is None else getattr(draft.config, "_commit_hash", None),
        vocab_size=target.config.get_text_config().vocab_size,
        task=store.settings["task"],
        versions=versions("transformers", "torch"),
        **fit_options,
    )
    result.head.config.thresholds = calibration_table(result.validation_scores, result.validation_important)
    return result
