"""A pair with random weights whose draft is right exactly m times a round, for measuring speed apart from quality.

The embedding of a scripted token is loud enough to pass through all the random layers, and the output head answers
token i with token i + 1 (modulo m + 1). The draft does the same, except that it answers token m with token m + 1 in
place of 0. A round that starts after token 0 therefore accepts m candidates and ends in the target's 0, whatever
decodes it. No hook runs, and every weight is read and used as in a trained model. Token m + 1 is answered like token
0: where it is kept, both models continue as before, as after a harmless mismatch.
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
LOUD = 100.0  # RMS of a scripted embedding; all layers together add about 10


def scripted_pair(
    target: dict[str, int], draft: dict[str, int], accepted: int, device: str, dtype: torch.dtype
) -> tuple[PreTrainedModel, PreTrainedModel]:
    """Build both models.

    Args:
        target, draft (`dict[str, int]`): Shapes: fields of [`LlamaConfig`].
        accepted (`int`): m, the number of candidates accepted in each round of more than m candidates.
        device (`str`)
        dtype (`torch.dtype`)

    Returns:
        Target and draft, without an end token.
    """
    cycle = list(range(1, accepted + 1)) + [0]
    wrong = cycle[:-1] + [accepted + 1]
    return _model(target, cycle, device, dtype), _model(draft, wrong, device, dtype)


def scripted_tokens(accepted: int, count: int) -> list[int]:
    """The first `count` tokens that the target writes after a prompt that ends in token 0."""
    return [(i + 1) % (accepted + 1) for i in range(count)]


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
    model.model.embed_tokens.weight[len(answers)] = loud[0].to(dtype)
    model.lm_head.weight[answers] = (loud * 0.05 / LOUD).to(dtype)
    return model


def rejecting_head(target: PreTrainedModel, draft: PreTrainedModel) -> AutoJudgeHead:
    """A head that reads the default features and finds every mismatch important."""
    sizes = {"draft_hidden_size": draft.config.hidden_size, "target_hidden_size": target.config.hidden_size}
    width = sum(sizes.values())
    weight = torch.randn(width) / width
    return AutoJudgeHead.from_linear(weight, 30.0, torch.zeros(width), torch.full((width,), 10.0), **sizes)
