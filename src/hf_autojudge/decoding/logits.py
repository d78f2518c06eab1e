"""Logits processors over several positions and sequences, and sampling."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import LogitsProcessorList

from hf_autojudge.decoding.sequences import Sequences

# Names of transformers' processors that read the logits only, so all positions go through them at once
_READ_LOGITS_ONLY = ("LogitsWarper", "LogitNormalization")


def sample(probabilities: torch.Tensor) -> torch.Tensor:
    """Draw one index from each distribution, shape `(..., V)`: shape `(..., 1)`.

    As `torch.multinomial`, without its host-device synchronization (exponential race, as in gpt-fast)."""
    return (probabilities / torch.empty_like(probabilities).exponential_()).argmax(-1, keepdim=True)


def process(
    processors: LogitsProcessorList, sequences: Sequences, candidates: Sequence[torch.Tensor], logits: torch.Tensor
) -> torch.Tensor:
    """Apply logits processors at several positions, as transformers does in assisted decoding. Those that read tokens
    see one sequence at a time.

    Args:
        processors ([`LogitsProcessorList`])
        sequences ([`Sequences`]): A sequence reaches the processors with the padding in front of its prompt, as in
            `generate`.
        candidates (sequence of `torch.LongTensor` of shape `(A, ...)`): What follows the sequences, k tokens in all.
        logits (`torch.FloatTensor` of shape `(A, n, V)`): The last of them follow all k candidates, those before one
            candidate fewer each.
    """
    module = LogitsProcessorList.__module__
    if all(type(p).__module__ == module and type(p).__name__.endswith(_READ_LOGITS_ONLY) for p in processors):
        return processors(sequences.ids, logits.flatten(0, 1)).view(logits.shape)
    following = torch.cat([sequences.ids[:, :0], *(c.to(sequences.ids.device) for c in candidates)], dim=-1)
    first = following.shape[1] - logits.shape[1] + 1  # candidates before the first position of `logits`
    processed = []
    for i, end in enumerate(sequences.ends):  # sequences differ in length, so one at a time
        ids = torch.cat([sequences.prefix(i, end), following[i : i + 1]], dim=-1).to(logits.device)
        positions = range(logits.shape[1])
        one = logits[i : i + 1]
        processed.append(torch.stack([processors(ids[:, : end + first + j], one[:, j].clone()) for j in positions], 1))
    return torch.cat(processed)
