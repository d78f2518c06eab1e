"""Logits processors over several positions and rows at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import (
    EpsilonLogitsWarper,
    EtaLogitsWarper,
    LogitNormalization,
    LogitsProcessorList,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)

from hf_autojudge.decoding.text import Text

# These look at the logits alone, so all positions go through at once
_READ_NO_TEXT = (
    EpsilonLogitsWarper,
    EtaLogitsWarper,
    LogitNormalization,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)


def process(
    processors: LogitsProcessorList, text: Text, candidates: Sequence[torch.Tensor], logits: torch.Tensor
) -> torch.Tensor:
    """Apply logits processors to rows of logits, as transformers does in assisted decoding. Those that read the text
    see one row of the batch at a time.

    Args:
        processors ([`LogitsProcessorList`]): With none, `logits` comes back as it is.
        text ([`Text`]): A row reaches the processors with the padding in front of its prompt, as in `generate`.
        candidates (sequence of `torch.LongTensor` of shape `(A, ...)`): What follows the text, k tokens in all.
        logits (`torch.FloatTensor` of shape `(A, n, V)`): The last of them follows all k candidates, each one before
            it one candidate fewer.
    """
    if not processors:
        return logits
    if all(type(p) in _READ_NO_TEXT for p in processors):
        return processors(text.ids, logits.flatten(0, 1)).view(logits.shape)
    after = torch.cat([text.ids[:, :0], *candidates], dim=-1)
    first = after.shape[1] - logits.shape[1] + 1  # candidates before the first row of logits
    processed = []
    for row, end in enumerate(text.ends):  # rows are of different lengths, so one at a time
        ids = torch.cat([text.prefix(row, end), after[row : row + 1].to(text.ids.device)], dim=-1).to(logits.device)
        one = logits[row : row + 1]
        steps = range(logits.shape[1])
        processed.append(torch.stack([processors(ids[:, : end + first + i], one[:, i].clone()) for i in steps], dim=1))
    return torch.cat(processed)
