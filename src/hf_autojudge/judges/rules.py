"""Rules that read the target's distribution alone. None is trained.

p is the softmax of the target's logits z before any logits processor, x the draft's token, a mismatch. A new rule is a
short class, its name in [`parse_rule`](hf_autojudge.judges.parsing) and a section in `docs/rules.md`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch

from hf_autojudge.judges.base import Read, Window
from hf_autojudge.judges.distributions import entropy, rank


class Rule:
    """What all rules share: no threshold, no preferred number of candidate tokens, no model sizes."""

    reads: ClassVar[frozenset[Read]] = frozenset()
    threshold: ClassVar[float | None] = None
    num_assistant_tokens: ClassVar[int | None] = None

    def accept(self, window: Window, threshold: float | None = None) -> torch.Tensor:
        """See [`Judge.accept`]. No mismatch, unless a rule says otherwise."""
        return torch.zeros_like(window.draft_tokens, dtype=torch.bool)

    def check_models(self, target_hidden_size: int, draft_hidden_size: int | None, vocab_size: int) -> None:
        """Rules work with models of any size."""


def check_range(rule: Rule, low: float, high: float, *, include_low: bool = True, **values: float) -> None:
    """Raise `ValueError` if a value is not a number in [low, high], or in (low, high] without `include_low`."""
    for name, value in values.items():
        # Command lines may give a word; the comparison also catches NaN
        if isinstance(value, str) or not low <= value <= high or (value == low and not include_low):
            bounds = f"at least {low:g}" if math.isinf(high) else f"in {'[' if include_low else '('}{low:g}, {high:g}]"
            raise ValueError(f"{type(rule).__name__} needs {name} {bounds}; got {value!r}.")


def check_whole(judge: object, low: int, **values: int) -> None:
    """Raise `ValueError` if a value is not a whole number of at least `low`."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < low:
            raise ValueError(f"{type(judge).__name__} needs a whole number {name} of at least {low}; got {value!r}.")


def target_log_probs(window: Window) -> tuple[torch.Tensor, torch.Tensor]:
    """The target's log-probabilities that predicted the candidates, shape `(B, K, V)`, and those of the draft's
    tokens, shape `(B, K)`."""
    assert window.target_logits is not None
    log_p = window.target_logits[:, :-1].log_softmax(-1)
    return log_p, log_p.gather(-1, window.draft_tokens[..., None])[..., 0]


@dataclass(frozen=True)
class ExactMatchRule(Rule):
    """Accepts no mismatch: ordinary, lossless speculative decoding (Leviathan et al., arXiv 2211.17192)."""


@dataclass(frozen=True)
class TopKRule(Rule):
    """Accepts a token that is among the target's `k` most likely ones; the lossy baseline of AutoJudge (arXiv
    2504.20039, section 4). Tokens of equal logit share the better rank.

    Args:
        k (`int`): Largest accepted rank; 1 is [`ExactMatchRule`] up to ties.
    """

    k: int
    reads: ClassVar[frozenset[Read]] = frozenset({"target_logits"})

    def __post_init__(self) -> None:
        check_whole(self, 1, k=self.k)

    def accept(self, window: Window, threshold: float | None = None) -> torch.Tensor:
        assert window.target_logits is not None
        logits = window.target_logits[:, :-1]
        token_logits = logits.gather(-1, window.draft_tokens[..., None])[..., 0]
        known = (logits.amax(-1) < math.inf) & (token_logits > -math.inf)  # false for NaN anywhere
        return (rank(logits, window.draft_tokens) < self.k) & known


@dataclass(frozen=True)
class RatioRule(Rule):
    """Accepts a token if p(x) / max p >= `k` (AdaptiveSpec, arXiv 2609.02897; the greedy form of lenience, arXiv
    2211.17192, appendix A.5, and of the cascades' TokenV3, arXiv 2405.19261).

    AdaptiveSpec's text was not at hand: checked against TokenV3 in the code of arXiv 2405.19261 (google-research,
    `speculative_cascades_gemma.ipynb`).

    Args:
        k (`float`, *optional*, defaults to `0.5`): In [0, 1].
    """

    k: float = 0.5
    reads: ClassVar[frozenset[Read]] = frozenset({"target_logits"})

    def __post_init__(self) -> None:
        check_range(self, 0, 1, k=self.k)

    def accept(self, window: Window, threshold: float | None = None) -> torch.Tensor:
        log_p, log_p_token = target_log_probs(window)
        return (log_p_token - log_p.amax(-1)).exp() >= self.k


@dataclass(frozen=True)
class TypicalRule(Rule):
    """Accepts a token if p(x) > min(`epsilon`, `delta` * exp(-H(p))), H being the entropy in nats (typical
    acceptance, Medusa, arXiv 2401.10774, section 2.3.1; its code: `medusa/model/utils.py`, `evaluate_posterior`).

    Medusa's code adds 1e-5 to the probabilities inside the entropy's logarithm, which is left out here.

    Args:
        epsilon (`float`, *optional*, defaults to `0.09`): In [0, 1].
        delta (`float`, *optional*, defaults to `0.3`): At least 0.
    """

    epsilon: float = 0.09
    delta: float = 0.3
    reads: ClassVar[frozenset[Read]] = frozenset({"target_logits"})

    def __post_init__(self) -> None:
        check_range(self, 0, 1, epsilon=self.epsilon)
        check_range(self, 0, math.inf, delta=self.delta)

    def accept(self, window: Window, threshold: float | None = None) -> torch.Tensor:
        log_p, log_p_token = target_log_probs(window)
        return log_p_token.exp() > (self.delta * (-entropy(log_p)).exp()).clamp(max=self.epsilon)


@dataclass(frozen=True)
class MarginRule(Rule):
    """Accepts the target's runner-up if z2 / z1 > `theta`, z1 and z2 being its two largest logits (MARS, arXiv
    2601.15498). Where z1 <= 0 the ratio means nothing, and no mismatch is accepted.

    The authors' code (`mars/model/utils.py`, `evaluate_posterior`) relaxes in sampling only and divides processed
    logits; this is the rule of the paper, on logits before any processor, also in greedy decoding.

    Args:
        theta (`float`, *optional*, defaults to `0.9`): In [0, 1].
    """

    theta: float = 0.9
    reads: ClassVar[frozenset[Read]] = frozenset({"target_logits"})

    def __post_init__(self) -> None:
        check_range(self, 0, 1, theta=self.theta)

    def accept(self, window: Window, threshold: float | None = None) -> torch.Tensor:
        assert window.target_logits is not None
        logits = window.target_logits[:, :-1]
        best = logits.amax(-1)
        ratio = logits.gather(-1, window.draft_tokens[..., None])[..., 0] / best
        return (rank(logits, window.draft_tokens) <= 1) & (best > 0) & (ratio > self.theta) & best.isfinite()


@dataclass(frozen=True)
class RelaxedTopNRule(Rule):
    """Accepts a token that is among the target's `n` best with p(x) >= max p - `delta` (TensorRT-LLM's relaxed
    acceptance, `mtpKernels.cu`, `mtpRelaxedAcceptanceKernel`). There it applies between `<think>` and `</think>`
    only: use [`inside`].

    Args:
        n (`int`, *optional*, defaults to `10`): At least 1.
        delta (`float`, *optional*, defaults to `0.6`): In [0, 1].
    """

    n: int = 10
    delta: float = 0.6
    reads: ClassVar[frozenset[Read]] = frozenset({"target_logits"})

    def __post_init__(self) -> None:
        check_whole(self, 1, n=self.n)
        check_range(self, 0, 1, delta=self.delta)

    def accept(self, window: Window, threshold: float | None = None) -> torch.Tensor:
        assert window.target_logits is not None
        log_p, log_p_token = target_log_probs(window)
        close = log_p_token.exp() >= log_p.exp().amax(-1) - self.delta
        return close & (rank(window.target_logits[:, :-1], window.draft_tokens) < self.n)


@dataclass(frozen=True)
class CleanRunRule(Rule):
    """Accepts a mismatch if the target is unsure there and the draft is right afterwards: the entropy of the target's
    `num_entropy_tokens` largest probabilities is at least `min_entropy`, and the next `w` - 1 candidates match. The
    last `w` candidates of a round are verified exactly (FLy, arXiv 2511.22972).

    Follows the authors' code (AMD-AGI/FLy, `fly/models/FLy.py`): entropy in nats of the three largest probabilities,
    not normalised, and `w` - 1 followers. The paper divides the whole entropy by log V and asks for `w` followers.

    Args:
        min_entropy (`float`, *optional*, defaults to `0.3`): In nats; at least 0.
        w (`int`, *optional*, defaults to `6`): At least 1. Rounds of fewer than `w` + 1 candidates are exact.
        num_entropy_tokens (`int`, *optional*, defaults to `3`): `None` for the whole distribution's entropy.
    """

    min_entropy: float = 0.3
    w: int = 6
    num_entropy_tokens: int | None = 3
    reads: ClassVar[frozenset[Read]] = frozenset({"target_logits"})

    def __post_init__(self) -> None:
        check_range(self, 0, math.inf, min_entropy=self.min_entropy)
        check_whole(self, 1, w=self.w)
        if self.num_entropy_tokens is not None:
            check_whole(self, 1, num_entropy_tokens=self.num_entropy_tokens)

    def accept(self, window: Window, threshold: float | None = None) -> torch.Tensor:
        log_p, _ = target_log_probs(window)
        if self.num_entropy_tokens is not None:
            log_p = log_p.topk(min(self.num_entropy_tokens, log_p.shape[-1]), dim=-1).values
        matches = ~window.mismatches & window.is_candidate
        place = torch.arange(matches.shape[1], device=matches.device)
        clean = torch.ones_like(matches)
        for distance in range(1, self.w):
            clean &= matches.roll(-distance, dims=1)  # what wraps around is too close to the end anyway
        far_enough = place + self.w < window.is_candidate.sum(-1, keepdim=True)
        return (entropy(log_p) >= self.min_entropy) & clean & far_enough
