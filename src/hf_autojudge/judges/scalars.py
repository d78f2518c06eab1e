"""Numbers that say how the two distributions stand to a draft token: the same at decoding and at training."""

from __future__ import annotations

from collections.abc import Sequence

import torch

LIMIT = 100.0  # nats; a masked token's log-probability of -inf must not reach the head


def distribution_scalars(
    names: Sequence[str],
    draft_tokens: torch.Tensor,
    target_logits: torch.Tensor,
    draft_logits: torch.Tensor | None = None,
) -> torch.Tensor:
    """The named scalars of draft tokens, from the logits that predicted them, before any logits processor.

    - `"scalar.kl"`: KL(target‖draft) in nats, over the tokens that both models have;
    - `"scalar.entropy"`: of the target's distribution, in nats;
    - `"scalar.logprob"`: the target's log-probability of the draft token, in nats;
    - `"scalar.rank"`: log(1 + number of tokens that the target finds likelier);
    - `"scalar.margin"`: log-probability of the target's best token less that of the draft token, in nats.

    Values are cut off at 100 nats.

    Args:
        names (`Sequence[str]`): Of [`SCALARS`](hf_autojudge.judges.configuration_autojudge), in the wanted order.
        draft_tokens (`torch.LongTensor` of shape `(..., K)`)
        target_logits (`torch.Tensor` of shape `(..., K, V)`): Row i predicted token i.
        draft_logits (`torch.Tensor` of shape `(..., K, V')`, *optional*): The draft's; needed by `"scalar.kl"` only.

    Returns:
        `torch.FloatTensor` of shape `(..., K, len(names))`.
    """
    target_logits = target_logits.float()
    log_p = target_logits.log_softmax(-1)
    chosen = log_p.gather(-1, draft_tokens[..., None])
    columns = []
    for name in names:
        if name == "scalar.kl":
            assert draft_logits is not None
            # Models that share a tokenizer may pad their vocabularies differently: compare what both have.
            shared = min(target_logits.shape[-1], draft_logits.shape[-1])
            common = log_p if shared == log_p.shape[-1] else target_logits[..., :shared].log_softmax(-1)
            column = _expectation(common, common - draft_logits[..., :shared].float().log_softmax(-1))
        elif name == "scalar.entropy":
            column = _expectation(log_p, -log_p)
        elif name == "scalar.logprob":
            column = chosen[..., 0]
        elif name == "scalar.rank":
            # counted on the logits: the logarithms round
            logit = target_logits.gather(-1, draft_tokens[..., None])
            column = (target_logits > logit).sum(-1).float().log1p()
        else:
            column = log_p.amax(-1) - chosen[..., 0]
        columns.append(column.clamp(-LIMIT, LIMIT))
    return torch.stack(columns, dim=-1)


def _expectation(log_p: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    p = log_p.exp()
    return (p * values).masked_fill(p == 0, 0.0).sum(-1)  # 0 * inf counts 0
