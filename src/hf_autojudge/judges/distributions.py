"""Numbers that compare the target's and the draft's distributions: the only copy, for rules, heads and training."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

SCALARS = ("scalar.kl", "scalar.entropy", "scalar.logprob", "scalar.rank", "scalar.margin")
"""Names of the scalar features a head can read, see [`distribution_scalars`]."""

LIMIT = 100.0  # nats; a masked token's log-probability of -inf must not reach the head


def kl_divergence(log_p: torch.Tensor, log_q: torch.Tensor) -> torch.Tensor:
    """KL(p || q) in nats of log-probabilities of shape `(..., V)` over the same tokens: shape `(...)`."""
    return _expectation(log_p, log_p - log_q)


def js_divergence(log_p: torch.Tensor, log_q: torch.Tensor, reverse: bool = False) -> torch.Tensor:
    """Jensen-Shannon divergence in nats of log-probabilities of shape `(..., V)`: shape `(...)`. With m = (p + q) / 2
    it is KL(p || m) / 2 + KL(q || m) / 2; `reverse` swaps the arguments of both."""
    log_m = torch.logaddexp(log_p, log_q) - math.log(2)
    if reverse:
        return (kl_divergence(log_m, log_p) + kl_divergence(log_m, log_q)) / 2
    return (kl_divergence(log_p, log_m) + kl_divergence(log_q, log_m)) / 2


def total_variation(log_p: torch.Tensor, log_q: torch.Tensor) -> torch.Tensor:
    """Half the sum of |p - q| of log-probabilities of shape `(..., V)`: shape `(...)`, in [0, 1]."""
    return (log_p.exp() - log_q.exp()).abs().sum(-1) / 2


def entropy(log_p: torch.Tensor) -> torch.Tensor:
    """Entropy in nats of log-probabilities of shape `(..., V)`: shape `(...)`."""
    return _expectation(log_p, -log_p)


def rank(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Number of tokens with a larger logit than the given ones. Tokens of equal logit share the better rank.

    Args:
        logits (`torch.FloatTensor` of shape `(..., V)`)
        tokens (`torch.LongTensor` of shape `(...)`)

    Returns:
        `torch.LongTensor` of shape `(...)`; 0 for the likeliest token.
    """
    return (logits > logits.gather(-1, tokens[..., None])).sum(-1)


def distribution_scalars(
    names: Sequence[str],
    draft_tokens: torch.Tensor,
    target_logits: torch.Tensor,
    draft_logits: torch.Tensor | None = None,
) -> torch.Tensor:
    """The named scalars of draft tokens, from the logits that predicted them, before any logits processor.

    - `"scalar.kl"`: KL(target || draft) in nats, over the tokens that both models have;
    - `"scalar.entropy"`: of the target's distribution, in nats;
    - `"scalar.logprob"`: the target's log-probability of the draft token, in nats;
    - `"scalar.rank"`: log(1 + number of tokens that the target finds likelier);
    - `"scalar.margin"`: log-probability of the target's best token minus that of the draft token, in nats.

    Values are clamped to +-100.

    Args:
        names (`Sequence[str]`): Of [`SCALARS`], in the wanted order.
        draft_tokens (`torch.LongTensor` of shape `(..., K)`)
        target_logits (`torch.Tensor` of shape `(..., K, V)`): Index i predicted token i.
        draft_logits (`torch.Tensor` of shape `(..., K, V')`, *optional*): The draft's; needed by `"scalar.kl"` only.

    Returns:
        `torch.FloatTensor` of shape `(..., K, len(names))`.
    """
    target_logits = target_logits.float()
    log_p = target_logits.log_softmax(-1)
    log_p_draft_token = log_p.gather(-1, draft_tokens[..., None])[..., 0]
    columns = []
    for name in names:
        if name == "scalar.kl":
            assert draft_logits is not None
            # Models that share a tokenizer may pad their vocabularies differently: compare what both have
            shared = min(target_logits.shape[-1], draft_logits.shape[-1])
            common = log_p if shared == log_p.shape[-1] else target_logits[..., :shared].log_softmax(-1)
            column = kl_divergence(common, draft_logits[..., :shared].float().log_softmax(-1))
        elif name == "scalar.entropy":
            column = entropy(log_p)
        elif name == "scalar.logprob":
            column = log_p_draft_token
        elif name == "scalar.rank":
            column = rank(target_logits, draft_tokens).float().log1p()  # on the logits: the logarithms round
        else:
            column = log_p.amax(-1) - log_p_draft_token
        columns.append(column.clamp(-LIMIT, LIMIT))
    return torch.stack(columns, dim=-1)


def _expectation(log_p: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    p = log_p.exp()
    return (p * values).masked_fill(p == 0, 0.0).sum(-1)  # 0 * inf counts 0
