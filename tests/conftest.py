"""No network, one thread, and small random pairs of several architectures."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_EVALUATE_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

torch.set_num_threads(1)

VOCAB = 48
ARCHITECTURES = ("llama", "qwen3", "mistral", "gemma2", "gpt2")
WINDOW = 12  # of the sliding-window models: shorter than the texts


SHAPE = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}


def make_model(architecture: str, hidden: int, layers: int, seed: int, vocab: int = VOCAB):
    """A random model in fp32, in eval mode, whose choices vary along the text."""
    torch.manual_seed(seed)
    shape = SHAPE | {
        "vocab_size": vocab,
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": layers,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "initializer_range": 0.25,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    if architecture == "llama":
        model = LlamaForCausalLM(LlamaConfig(**shape))
    elif architecture == "qwen3":
        model = Qwen3ForCausalLM(Qwen3Config(**shape, head_dim=hidden // 4))
    elif architecture == "mistral":
        model = MistralForCausalLM(MistralConfig(**shape, sliding_window=WINDOW))
    elif architecture == "gemma2":
        model = Gemma2ForCausalLM(
            Gemma2Config(**shape, head_dim=hidden // 4, sliding_window=WINDOW, query_pre_attn_scalar=hidden // 4)
        )
    else:
        model = GPT2LMHeadModel(
            GPT2Config(
                vocab_size=vocab,
                n_embd=hidden,
                n_layer=layers,
                n_head=4,
                n_positions=256,
                initializer_range=0.25,
                bos_token_id=1,
                eos_token_id=2,
            )
        )
    return model.eval()


def make_pair(architecture: str, seed: int = 0):
    """A target, and a draft that often agrees with it: the target's own weights, disturbed, where the shapes allow."""
    target = make_model(architecture, hidden=32, layers=2, seed=seed)
    draft = make_model(architecture, hidden=32, layers=2, seed=seed)
    torch.manual_seed(seed + 1)
    with torch.no_grad():
        for parameter in draft.parameters():
            parameter.add_(0.25 * parameter.std(correction=0) * torch.randn_like(parameter))
    return target, draft


@pytest.fixture(params=ARCHITECTURES, scope="session")
def pair(request):
    return make_pair(request.param)


@pytest.fixture(scope="session")
def llama_pair():
    return make_pair("llama")
