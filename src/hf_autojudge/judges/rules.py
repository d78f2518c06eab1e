"""Training-free judges. A new rule is one short class here, exported in both `__init__`s, and one line in
`cli.loading.parse_rule` and in the README's table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from hf_autojudge.judges.base import Read, Window
from hf_autojudge.judges.distributions import kl_divergence, rank


class _Rule:
    """What all rules share: no threshold, no preferred number of candidate tokens, no model sizes."""

    reads: ClassVar[frozenset[Read]] = frozenset()
    threshold: ClassVar[float | None] = None
    num_assistant_tokens: ClassVar[int | None] = None

    def check_models(self, target_hidden_size: int, draft_hidden_size: int | None, vocab_size: int) -> None:
        """Rules work with models of any size."""


@dataclass(frozen=True)
class ExactMatchRule(_Rule):
    """Accepts no mismatch: ordinary, lossless speculative decoding (Leviathan et al., arXiv 2211.17192)."""

    def accept(self, window: Window, threshold: float | None = None) -> torch.Tensor:
        return torch.zeros_like(window.draft_tokens, dtype=torch.bool)


@dataclass(frozen=True)
class TopKRule(_Rule):
    """Accepts a token that is among the target's `k` most likely ones; the lossy baseline of AutoJudge (arXiv
    2504.20039, section 4). Tokens of equal logit share the better rank.

    Args:
        k (`int`): Largest accepted rank; 1 is [`ExactMatchRule`] up to ties.
    """

    k: int
    reads: ClassVar[frozenset[Read]] = frozenset({"target_logits"})

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError(f"TopKRule needs k >= 1; got {self.k}.")

    def accept(self, window: Window, threshold: float | None = None) -> torch.Tensor:
        assert window.target_logits is not None
        return rank(window.target_logits[:, :-1], window.draft_tokens) < self.k


@dataclass(frozen=True)
class KLRule(_Rule):
    """Accepts a token if the two distributions are close and the target is not sure of itself (JuDi, arXiv
    2601.04766): KL(target || draft) < `tau`, and the target's largest probability is at most `max_target_prob`.

    Both distributions are softmaxes of the models' logits before any logits processor, as JuDi's are.

    Args:
        tau (`float`): Largest divergence, in nats.
        max_target_prob (`float`, *optional*, defaults to `0.9`): Above it the target's choice always stands.
    """

    tau: float
    max_target_prob: float = 0.9
    reads: ClassVar[frozenset[Read]] = frozenset({"target_logits", "draft_logits"})

    def __post_init__(self) -> None:
        if not self.tau >= 0:
            raise ValueError(f"KLRule needs tau >= 0; got {self.tau}.")
        if not 0 <= self.max_target_prob <= 1:
            raise ValueError(f"KLRule needs max_target_prob in [0, 1]; got {self.max_target_prob}.")

    def accept(self, window: Window, threshold: float | None = None) -> torch.Tensor:
        assert window.target_logits is not None and window.draft_logits is not None
        # Models that share a tokenizer may pad their vocabularies differently: compare what both have
        shared = min(window.target_logits.shape[-1], window.draft_logits.shape[-1])
        log_p = window.target_logits[:, :-1, :shared].log_softmax(-1)
        log_q = window.draft_logits[..., :shared].log_softmax(-1)
        return (kl_divergence(log_p, log_q) < self.tau) & (log_p.exp().amax(-1) <= self.max_target_prob)
