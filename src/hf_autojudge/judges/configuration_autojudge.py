"""The configuration of a judge head, published with its weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from typing import Any

from transformers import PretrainedConfig

from hf_autojudge.judges.base import check_threshold
from hf_autojudge.judges.distributions import SCALARS

FEATURES = ("draft_token.draft", "draft_token.target", "previous.draft", "previous.target")
"""Names of the hidden states a head can read: the position of the mismatch's draft token, or the position before it
(which predicted it), in the draft or in the target."""


def reads_draft(feature: str) -> bool:
    """Whether a feature needs a draft model."""
    return feature.endswith(".draft") or feature == "scalar.kl"


class AutoJudgeConfig(PretrainedConfig):
    """Configuration of an [`AutoJudgeHead`].

    Args:
        features (`Sequence[str]`, *optional*, defaults to `("draft_token.draft", "draft_token.target")`): What
            the head reads, of [`FEATURES`] and [`SCALARS`], in the order in which it is concatenated. AutoJudge's
            default is DD+DT (arXiv 2504.20039).
        target_hidden_size (`int`, *optional*, defaults to `0`): Width of the target's last hidden state.
        draft_hidden_size (`int`, *optional*, defaults to `0`): Width of the draft's last hidden state.
        hidden_size (`int`, *optional*, defaults to `0`): Width of the one hidden layer; 0 for a linear head.
        vocab_size (`int`, *optional*): Size of the target's vocabulary; `None` skips the check.
        target (`str`, *optional*): Repository (or path) of the target.
        target_revision (`str`, *optional*): Its revision.
        draft (`str`, *optional*): Repository (or path) of the draft.
        draft_revision (`str`, *optional*): Its revision.
        num_candidate_tokens (`int`, *optional*): Candidate tokens per round that the judge was calibrated with; the
            default when neither the call nor a model's generation config names a number.
        confidence_threshold (`float`, *optional*): Probability of a candidate, in [0, 1], below which drafting stops;
            the default when neither the call nor a model's generation config names an
            `assistant_confidence_threshold`.
        threshold (`float`, *optional*, defaults to `0.5`): A mismatch is accepted if its importance is below it; in
            [0, 1].
        thresholds (`list[dict]`, *optional*): The calibration table, one entry per threshold.
        task (`str`, *optional*): Name of the task whose outcome defined the labels.
        versions (`dict[str, str]`, *optional*): Versions of the packages that made the head.
    """

    model_type = "autojudge"

    features: Sequence[str] = FEATURES[:2]
    target_hidden_size: int = 0
    draft_hidden_size: int = 0
    hidden_size: int = 0
    vocab_size: int | None = None
    target: str | None = None
    target_revision: str | None = None
    draft: str | None = None
    draft_revision: str | None = None
    num_candidate_tokens: int | None = None
    confidence_threshold: float | None = None
    threshold: float = 0.5
    thresholds: list[dict[str, Any]] = field(default_factory=list)
    task: str | None = None
    versions: dict[str, str] = field(default_factory=dict)

    def __post_init__(self, **kwargs: Any) -> None:
        self.features = list(self.features)
        self.threshold = check_threshold(self.threshold)
        self.thresholds = self.thresholds or []
        self.versions = self.versions or {}
        known = FEATURES + SCALARS
        if not self.features or not set(self.features).issubset(known):
            raise ValueError(f"A judge reads one or more of the features {list(known)}; got {self.features}.")
        if self.hidden_size < 0:
            raise ValueError(f"hidden_size is the width of the hidden layer, 0 for none; got {self.hidden_size}.")
        if self.confidence_threshold is not None and not 0 <= self.confidence_threshold <= 1:
            raise ValueError(f"confidence_threshold is a probability in [0, 1]; got {self.confidence_threshold}.")
        super().__post_init__(**kwargs)

    @property
    def input_size(self) -> int:
        """Width of the concatenated features."""
        widths = {"target": self.target_hidden_size, "draft": self.draft_hidden_size}
        return sum(1 if name in SCALARS else widths[name.split(".")[1]] for name in self.features)
