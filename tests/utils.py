"""Small random models, heads, prompts and calls that several test modules share."""

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

from hf_autojudge import AutoJudgeHead
from tests.reference import Head

PAD = 0
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
ALL_FEATURES = ("draft_token.draft", "draft_token.target", "previous.draft", "previous.target")
DEFAULT = ("draft_token.draft", "draft_token.target")
FEATURES = [DEFAULT, ("draft_token.target",), ("previous.target", "draft_token.draft"), ("previous.draft",)]


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


def unlike_pair(architecture):
    """Two models that often disagree."""
    return make_model(architecture, 32, 2, seed=3), make_model(architecture, 32, 2, seed=4)


def same_outcome(a, b):
    return sum(a) % 3 == sum(b) % 3


def some_prompts(n):
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(3, VOCAB, (3 + i % 6,), generator=generator) for i in range(n)]


def random_head(features, seed, hidden=32):
    generator = torch.Generator().manual_seed(seed)
    size = hidden * len(features)
    head = Head(
        weight=torch.randn(size, generator=generator) / size**0.5,
        bias=0.1,
        mean=torch.randn(size, generator=generator) * 0.1,
        scale=torch.rand(size, generator=generator) + 0.5,
        features=features,
    )
    ours = AutoJudgeHead.from_linear(
        head.weight.numpy(),
        head.bias,
        head.mean,
        head.scale,
        features=features,
        draft_hidden_size=hidden,
        target_hidden_size=hidden,
        vocab_size=VOCAB,
    )
    return head, ours


def prompt_ids(seed, length=9):
    return torch.randint(3, VOCAB, (length,), generator=torch.Generator().manual_seed(seed)).tolist()


def decode(target, draft, prompt, judge, k, **kwargs):
    out = target.generate(
        torch.tensor([prompt]),
        assistant_model=draft,
        judge=judge,
        num_assistant_tokens=k,
        do_sample=False,
        return_dict_in_generate=True,
        **kwargs,
    )
    return out.sequences[0].tolist(), out.judge_stats


def padded(prompts):
    """Left-padded ids and their mask."""
    longest = max(map(len, prompts))
    ids = torch.tensor([[PAD] * (longest - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])
    return {"input_ids": ids, "attention_mask": mask}


def together_and_alone(target, draft, prompts, judge, **call):
    """New tokens of each row, decoded together and one at a time, and both stats."""
    call |= {"assistant_model": draft, "judge": judge, "return_dict_in_generate": True, "pad_token_id": PAD}
    inputs = padded(prompts)
    out = target.generate(**inputs, **call)
    width = inputs["input_ids"].shape[1]
    together = [row[width:].tolist() for row in out.sequences]
    alone, stats = [], None
    for prompt in prompts:
        one = target.generate(torch.tensor([prompt]), **(call | {"cache_implementation": None}))
        alone.append(one.sequences[0, len(prompt) :].tolist())
        stats = one.judge_stats if stats is None else stats + one.judge_stats
    longest = max(map(len, alone))
    alone = [row + [PAD] * (longest - len(row)) for row in alone]
    return together, alone, out.judge_stats, stats
