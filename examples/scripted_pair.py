"""A pair with random weights whose draft is right exactly m times a round, at every width: for measuring speed.

Token i's embedding is loud enough to pass through all the random layers, and the output head answers it with token
i + 1 (modulo m + 1). The draft does the same, but after token m it says another one. So a round that starts after
token 0 accepts m candidates and ends in the target's 0, in any engine, with no hook or script at run time, while every
weight is read and used as in a trained model.
"""

from __future__ import annotations

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from hf_autojudge import AutoJudgeHead

LLAMA_8B = {
    "vocab_size": 128256,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
}
LLAMA_1B = LLAMA_8B | {
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "head_dim": 64,
}
TINY_TARGET = {
    "vocab_size": 1024,
    "hidden_size": 256,
    "intermediate_size": 1024,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
}
TINY_DRAFT = TINY_TARGET | {"num_hidden_layers": 1}
LOUD = 100.0  # RMS of a scripted embedding; the layers together add some 10


def scripted_pair(
    target: dict[str, int], draft: dict[str, int], accepted: int, device: str, dtype: torch.dtype
) -> tuple[PreTrainedModel, PreTrainedModel]:
    """Target and draft of the given shapes; `accepted` is m."""
    cycle = list(range(1, accepted + 1)) + [0]
    wrong = cycle[:-1] + [accepted + 1]
    return _model(target, cycle, device, dtype), _model(draft, wrong, device, dtype)


@torch.no_grad()
def _model(shape: dict[str, int], answers: list[int], device: str, dtype: torch.dtype) -> PreTrainedModel:
    torch.manual_seed(0)
    config = LlamaConfig(
        **shape, max_position_embeddings=8192, bos_token_id=None, eos_token_id=None, tie_word_embeddings=False
    )
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            model = LlamaForCausalLM(config).eval()
    finally:
        torch.set_default_dtype(default)
    loud = torch.randn(len(answers), config.hidden_size, device=device) * LOUD
    model.model.embed_tokens.weight[: len(answers)] = loud.to(dtype)
    model.lm_head.weight[answers] = (loud * 0.05 / LOUD).to(dtype)
    return model


def rejecting_head(target: PreTrainedModel, draft: PreTrainedModel) -> AutoJudgeHead:
    """A head of the default features that computes all it has to and calls every mismatch important."""
    sizes = {"draft_hidden_size": draft.config.hidden_size, "target_hidden_size": target.config.hidden_size}
    width = sum(sizes.values())
    weight = torch.randn(width) / width
    return AutoJudgeHead.from_linear(weight, 30.0, torch.zeros(width), torch.full((width,), 10.0), **sizes)
