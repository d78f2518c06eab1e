"""Rules that compare the target with the draft, or spend a budget. None is trained.

p and q are the softmaxes of the target's logits z and the draft's before any logits processor, x is the draft's token.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch

from hf_autojudge.judges.base import Read, Window, spent_with
from hf_autojudge.judges.distributions import js_divergence, kl_divergence, total_variation
from hf_autojudge.judges.rules import Rule, check_range, check_whole, target_log_probs

Divergence = Literal["js", "kl", "tv", "js_reversed", "kl_reversed"]


def _both_log_probs(window: Window) -> tuple[torch.Tensor, torch.Tensor]:
    """log p and log q over the tokens that both models have (models that share a tokenizer may pad their vocabularies
    differently), each of shape `(B, K, V)`."""
    assert window.target_logits is not None and window.draft_logits is not None
    log_p, log_q = window.target_logits[:, :-1].log_softmax(-1), window.draft_logits.log_softmax(-1)
    shared = min(log_p.shape[-1], log_q.shape[-1])
    # The whole rows come first, since a number that is none may be one of the other tokens'
    if log_p.shape[-1] > shared:
        log_p = log_p[..., :shared].log_softmax(-1)
    if log_q.shape[-1] > shared:
        log_q = log_q[..., :shared].log_softmax(-1)
    return log_p, log_q


@dataclass(frozen=True)
class KLRule(Rule):
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
        check_range(self, 0, math.inf, tau=self.tau)
        check_range(self, 0, 1, max_target_prob=self.max_target_prob)

    def accept(self, window: Window, threshold: float | None = None) -> torch.Tensor:
        log_p, log_q = _both_log_probs(window)
        return (kl_divergence(log_p, log_q) < self.tau) & (log_p.exp().amax(-1) <= self.max_target_prob)


@dataclass(frozen=True)
class DivergenceRule(Rule):
    """Accepts a mismatch if a divergence of p and q is at most `max_divergence` (fuzzy speculative decoding, arXiv
    2502.20704).

    `"js"` is the Jensen-Shannon divergence, KL(p || m) / 2 + KL(q || m) / 2 with m = (p + q) / 2, `"kl"` is
    KL(p || q), `"tv"` the total variation distance. The authors' code (`fsd_utils.py`) computes what are here
    `"js_reversed"`, KL(m || p) / 2 + KL(m || q) / 2, and `"kl_reversed"`, KL(q || p), under the names of the former;
    and it decides so for matches too, and draws from p at a rejection. Here, as in the paper's later variant, the
    standard test comes first.

    Args:
        max_divergence (`float`, *optional*, defaults to `0.26`): In nats; for `"tv"` in [0, 1]. (The authors' README
            uses 0.4 with `"js_reversed"`.)
        kind (`str`, *optional*, defaults to `"js"`): `"js"`, `"kl"`, `"tv"`, `"js_reversed"` or `"kl_reversed"`.
    """

    max_divergence: float = 0.26
    kind: Divergence = "js"
    reads: ClassVar[frozenset[Read]] = frozenset({"target_logits", "draft_logits"})

    def __post_init__(self) -> None:
        check_range(self, 0, math.inf, max_divergence=self.max_divergence)
        if self.kind not in get_args(Divergence):
            raise ValueError(f"DivergenceRule needs a kind of {', '.join(get_args(Divergence))}; got {self.kind!r}.")

    def accept(self, window: Window, threshold: float | None = None) -> torch.Tensor:
        log_p, log_q = _both_log_probs(window)
        if self.kind == "tv":
            divergence = total_variation(log_p, log_q)
        elif self.kind.startswith("js"):
            divergence = js_divergence(log_p, log_q, reverse=self.kind == "js_reversed")
        else:
            divergence = kl_divergence(log_p, log_q) if self.kind == "kl" else kl_divergence(log_q, log_p)
        return divergence <= self.max_divergence


@dataclass(frozen=True)
class RollbackRule(Rule):
    """Accepts a token if the target does not find it too unlikely, -log p(x) <= `max_loss`, and the draft was sure
    enough up to it: its largest probability was at least `min_confidence` at this and all earlier candidates of the
    round (BiLD, arXiv 2302.07863; its code: `modeling_t5.py`, rollback and fallback policy).

    BiLD's code stops drafting at an unsure token and looks at the first token above the loss only; here each mismatch
    is decided for itself, and matches stay in any case.

    Args:
        max_loss (`float`, *optional*, defaults to `8.0`): In nats; at least 0. (The authors' code: 5.)
        min_confidence (`float`, *optional*, defaults to `0.35`): In [0, 1]. (The authors' code: 0.6.)
    """

    max_loss: float = 8.0
    min_confidence: float = 0.35
    reads: ClassVar[frozenset[Read]] = frozenset({"target_logits", "draft_logits"})

    def __post_init__(self) -> None:
        check_range(self, 0, math.inf, max_loss=self.max_loss)
        check_range(self, 0, 1, min_confidence=self.min_confidence)

    def accept(self, window: Window, threshold: float | None = None) -> torch.Tensor:
        assert window.draft_logits is not None
        _, log_p_token = target_log_probs(window)
        sure = window.draft_logits.softmax(-1).amax(-1) >= self.min_confidence
        return (-log_p_token <= self.max_loss) & sure.long().cumprod(-1).bool()


@dataclass(frozen=True)
class RegretBudgetRule(Rule):
    """Accepts mismatches within a budget of regret (ASD, arXiv 2608.03447; huggingface/transformers issue 48636).

    The regret of x_i is r_i = max z - z(x_i). A mismatch is accepted if what the sequence has spent, with r_i, is at
    most `budget`; if r_i / (K - i) <= `max_regret_per_token`, K being the number of candidates in the round and i
    counted from 0; and if it is at most the `max_per_round`-th mismatch of the round. Any of the three at 0 is exact.

    The authors' code (`asd/budget.py`) allows 1e-9 more than the budget; here it is never exceeded. z are the logits
    before any processor.

    Args:
        budget (`float`, *optional*, defaults to `2.06`): In logits, for one request; at least 0. (The authors'
            released configuration: 8.)
        max_regret_per_token (`float`, *optional*, defaults to `0.25`): At least 0.
        max_per_round (`int`, *optional*, defaults to `2`): At least 0.
    """

    budget: float = 2.06
    max_regret_per_token: float = 0.25
    max_per_round: int = 2
    reads: ClassVar[frozenset[Read]] = frozenset({"target_logits", "spent"})
    num_budgets: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_range(self, 0, math.inf, budget=self.budget, max_regret_per_token=self.max_regret_per_token)
        check_whole(self, 0, max_per_round=self.max_per_round)

    def costs(self, window: Window) -> torch.Tensor:
        """See [`Spender.costs`]: the regrets."""
        assert window.target_logits is not None
        logits = window.target_logits[:, :-1]
        best = logits.amax(-1, keepdim=True)
        best = best.where(best < math.inf, math.nan)  # next to an infinite logit every regret is unknown
        return best - logits.gather(-1, window.draft_tokens[..., None])

    def accept(self, window: Window, threshold: float | None = None) -> torch.Tensor:
        costs = self.costs(window)
        place = torch.arange(costs.shape[1], device=costs.device)
        remaining = window.is_candidate.sum(-1, keepdim=True) - place
        return (
            (spent_with(window, costs)[..., 0] <= self.budget)
            & (costs[..., 0] <= self.max_regret_per_token * remaining)
            & (window.mismatches.cumsum(-1) <= self.max_per_round)
            & (self.budget > 0 and self.max_regret_per_token > 0)
        )
