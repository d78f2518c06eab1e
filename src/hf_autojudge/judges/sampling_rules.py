"""Rules that change the standard test itself: when a sampled candidate passes, or which distribution it is verified
against. None is trained.

p and q are the target's and the draft's probabilities after the logits processors (temperature, top-p, ...), x is the
draft's token, u a uniform random number. Where a rule verifies against another distribution, the token that follows a
rejection is drawn from what remains of that one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch

from hf_autojudge.judges.base import Read, Window
from hf_autojudge.judges.rules import RatioRule, Rule, check_range, target_log_probs


@dataclass(frozen=True)
class LenienceRule(Rule):
    """In sampling, accepts a candidate if u < p(x) / (`lenience` q(x)); in greedy decoding, a mismatch if p(x) >=
    `lenience` max p (Leviathan et al., arXiv 2211.17192, appendix A.5). 1 is exact in sampling.

    After a rejection the next token is drawn from norm(max(p - q, 0)), as in google-research's
    `speculative_cascades_gemma.ipynb`; the appendix does not say.

    Args:
        lenience (`float`, *optional*, defaults to `1.0`): In (0, 1].
    """

    lenience: float = 1.0
    reads: ClassVar[frozenset[Read]] = frozenset({"target_logits"})

    def __post_init__(self) -> None:
        check_range(self, 0, 1, include_low=False, lenience=self.lenience)

    def passes(self, p: torch.Tensor, q: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
        """See [`SamplingTest.passes`]."""
        return u * self.lenience * q < p

    def accept(self, window: Window, threshold: float | None = None) -> torch.Tensor:
        return RatioRule(self.lenience).accept(window) & (self.lenience < 1)


@dataclass(frozen=True)
class ThresholdsRule(Rule):
    """Accepts a candidate with p(x) >= `single`, and in sampling also if u <= p(x) / `accumulated`, whatever q is;
    after a rejection the next token is drawn from p without x (SGLang's `--speculative-accept-threshold-single` and
    `-acc`, `speculative_sampling.cuh`, for a chain of candidates). 1 and 1 is exact.

    Args:
        single (`float`, *optional*, defaults to `1.0`): In [0, 1].
        accumulated (`float`, *optional*, defaults to `1.0`): In (0, 1].
    """

    single: float = 1.0
    accumulated: float = 1.0
    reads: ClassVar[frozenset[Read]] = frozenset({"target_logits"})
    residual_without_candidate: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_range(self, 0, 1, single=self.single)
        check_range(self, 0, 1, include_low=False, accumulated=self.accumulated)

    def passes(self, p: torch.Tensor, q: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
        """See [`SamplingTest.passes`]."""
        return (u * self.accumulated <= p) & (p > 0) | (p >= self.single)

    def accept(self, window: Window, threshold: float | None = None) -> torch.Tensor:
        return (target_log_probs(window)[1].exp() >= self.single) & (self.single < 1)


@dataclass(frozen=True)
class EnsembleRule(Rule):
    """Verifies against `weight` p + (1 - `weight`) q instead of p (transformers' `assistant_ensemble_weight`,
    `generation/utils.py`; DIVERSED, arXiv 2604.07622, learns the weight). The bonus token is the target's. 1 is exact.

    Args:
        weight (`float`, *optional*, defaults to `1.0`): Of the target, in [0, 1].
    """

    weight: float = 1.0
    reads: ClassVar[frozenset[Read]] = frozenset({"draft_scores"})

    def __post_init__(self) -> None:
        check_range(self, 0, 1, weight=self.weight)

    def target_weight(self, window: Window, p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
        """See [`Mixture.target_weight`]."""
        return torch.full_like(p[..., 0], self.weight)


Deferral = Literal["chow", "diff", "opt"]


@dataclass(frozen=True)
class CascadeRule(Rule):
    """Verifies against q where the draft is trusted and against p elsewhere (speculative cascades, arXiv 2405.19261).
    The draft is trusted if its largest probability is

    - `"chow"`: at least 1 - `alpha` (equation 2);
    - `"diff"`: at least max p - `alpha` (equation 5);
    - `"opt"`: at least max p - `alpha` TV(p, q), TV being the total variation distance (equation 10).

    As in the authors' notebook (google-research, `speculative_cascades_gemma.ipynb`), the maxima are those before
    the logits processors, the distance is that after them. The bonus token is the target's.

    Args:
        alpha (`float`, *optional*, defaults to `0.2`): At least -1; a larger one trusts the draft more often. 0 is
            exact with `"chow"`, -1 with `"diff"`.
        deferral (`str`, *optional*, defaults to `"chow"`): `"chow"`, `"diff"` or `"opt"`.
    """

    alpha: float = 0.2
    deferral: Deferral = "chow"
    reads: ClassVar[frozenset[Read]] = frozenset({"target_logits", "draft_logits", "draft_scores"})

    def __post_init__(self) -> None:
        check_range(self, -1, math.inf, alpha=self.alpha)
        if self.deferral not in get_args(Deferral):
            raise ValueError(
                f"CascadeRule needs a deferral of {', '.join(get_args(Deferral))}; got {self.deferral!r}."
            )

    def target_weight(self, window: Window, p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
        """See [`Mixture.target_weight`]: 0 where the draft is trusted, else 1."""
        assert window.draft_logits is not None
        log_p, _ = target_log_probs(window)
        sure = window.draft_logits.softmax(-1).amax(-1)
        if self.deferral == "chow":
            # Only rounding takes the largest probability to 1
            bar = torch.full_like(sure, 1 - self.alpha if self.alpha > 0 else math.inf)
        elif self.deferral == "diff":
            bar = log_p.exp().amax(-1) - self.alpha
        else:
            bar = log_p.exp().amax(-1) - self.alpha * (q - p).clamp(min=0).sum(-1)
        return (~(sure >= bar)).to(p.dtype)


@dataclass(frozen=True)
class BlockVerification(Rule):
    """Verifies sampled candidates together instead of one after the other (arXiv 2403.10444, algorithm 2). Lossless,
    and accepts at least as many on average. Greedy decoding is exact matching."""

    verify_block: ClassVar[bool] = True
