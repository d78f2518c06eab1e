"""Logits processors over several positions and sequences, and sampling."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Any

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
    following = torch.cat([sequences.ids[:, :0], *candidates], dim=-1)
    first = following.shape[1] - logits.shape[1] + 1  # candidates before the first position of `logits`
    processed = []
    for i, end in enumerate(sequences.ends):  # sequences differ in length, so one at a time
        ids = torch.cat([sequences.ids[i : i + 1, :end], following[i : i + 1]], dim=-1)
        one = LogitsProcessorList(_of_sequence(p, sequences.indices[i]) for p in processors)
        positions = range(logits.shape[1])
        processed.append(
            torch.stack([one(ids[:, : end + first + j], logits[i : i + 1, j].clone()) for j in positions], dim=1)
        )
    return torch.cat(processed)


def _of_sequence(processor: Any, index: int) -> Any:
    """The processor for one sequence of the batch: a repetition penalty knows the padding of each."""
    lengths = getattr(processor, "prompt_ignore_length", None)
    if isinstance(lengths, torch.Tensor):
        processor = copy(processor)
        processor.prompt_ignore_length = lengths[index : index + 1]
    return processor
