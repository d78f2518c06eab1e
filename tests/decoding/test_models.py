"""Models with habits of their own: right, or refused in one sentence."""

import pytest
import torch
from transformers import (
    CamembertConfig,
    CamembertForCausalLM,
    GPTNeoConfig,
    GPTNeoForCausalLM,
    OpenAIGPTConfig,
    OpenAIGPTLMHeadModel,
    Phi3Config,
    Phi3ForCausalLM,
)

from hf_autojudge import ExactMatchRule, TopKRule
from tests.utils import PAD, SHAPE, VOCAB, make_model, make_pair, padded, prompt_ids, together_and_alone

STATIC = {"cache_implementation": "static"}
GREEDY = {"max_new_tokens": 20, "do_sample": False, "eos_token_id": None, "pad_token_id": PAD}


def equals_plain(model, prompt, **call):
    plain = model.generate(torch.tensor([prompt]), **(GREEDY | call))
    judged = {"assistant_model": model, "judge": ExactMatchRule(), "num_assistant_tokens": 4}
    return torch.equal(plain, model.generate(torch.tensor([prompt]), **GREEDY, **judged, **call))


def test_phi3_beyond_its_short_rotary_factors():
    torch.manual_seed(0)
    parameters = {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [4.0] * 4, "rope_theta": 1e4}
    config = Phi3Config(
        **SHAPE,
        num_key_value_heads=2,
        max_position_embeddings=128,
        original_max_position_embeddings=32,
        rope_parameters=parameters,
        initializer_range=0.25,
        pad_token_id=0,
    )
    model = Phi3ForCausalLM(config).eval()
    assert equals_plain(model, prompt_ids(1, 40))
    call = {"assistant_model": model, "judge": ExactMatchRule(), **GREEDY}
    with pytest.raises(ValueError, match="longer than 32 tokens.*max_length=40"):
        model.generate(**padded([prompt_ids(1, 20), prompt_ids(2, 9)]), **call)


def test_positions_that_do_not_count_from_zero():
    torch.manual_seed(0)
    config = CamembertConfig(
        **SHAPE,
        max_position_embeddings=128,
        is_decoder=True,
        initializer_range=0.25,
    )
    model = CamembertForCausalLM(config).eval()
    assert equals_plain(model, prompt_ids(1))
    names = set(model.state_dict())
    with pytest.raises(ValueError, match="not its direct child module"):
        equals_plain(model, prompt_ids(1), **STATIC)
    assert set(model.state_dict()) == names


def test_models_that_are_refused():
    torch.manual_seed(0)
    neo = GPTNeoForCausalLM(
        GPTNeoConfig(
            vocab_size=VOCAB,
            hidden_size=32,
            num_layers=2,
            num_heads=4,
            attention_types=[[["global", "local"], 1]],
            window_size=6,
            max_position_embeddings=128,
        )
    ).eval()
    assert equals_plain(neo, prompt_ids(1))
    with pytest.raises(ValueError, match="mask of another kind \\(local\\)"):
        equals_plain(neo, prompt_ids(1), **STATIC)
    old = OpenAIGPTLMHeadModel(OpenAIGPTConfig(vocab_size=VOCAB, n_embd=32, n_layer=1, n_head=2)).eval()
    with pytest.raises(ValueError, match="OpenAIGPT.*roll"):
        equals_plain(old, prompt_ids(1))


def test_the_end_of_a_table_of_learned_positions():
    target, draft = make_pair("gpt2")  # 256 positions
    call = {"num_assistant_tokens": 8, "eos_token_id": None, "max_length": 256, "max_new_tokens": None}
    prompts = [prompt_ids(seed, 245 - 2 * seed) for seed in range(3)]
    for cache in ({}, STATIC):
        together, alone, *_ = together_and_alone(target, draft, prompts[:1], TopKRule(2), **call, **cache)
        assert together == alone
        inputs = padded(prompts)
        out = target.generate(**inputs, assistant_model=draft, judge=TopKRule(2), pad_token_id=PAD, **call, **cache)
        assert out.shape == (3, 256)


def test_a_prompt_learning_adapter(llama_pair):
    peft = pytest.importorskip("peft")
    _, draft = llama_pair
    config = peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)
    model = peft.get_peft_model(make_model("llama", 32, 2, seed=0), config).eval()
    with pytest.raises(ValueError, match="prompt-learning adapter"):
        model.generate(
            input_ids=torch.tensor([prompt_ids(1)]), assistant_model=draft, judge=ExactMatchRule(), **GREEDY
        )


def test_positions_of_the_callers(llama_pair):
    target, draft = llama_pair
    ids = torch.tensor([prompt_ids(1)])
    call = {"assistant_model": draft, "judge": ExactMatchRule(), **GREEDY}
    positions = {"position_ids": torch.arange(ids.shape[1])[None] * 2}
    plain = target.generate(ids, **GREEDY, **positions)
    assert torch.equal(plain, target.generate(ids, **call, **positions))
    with pytest.raises(ValueError, match="position_ids were given that do not count from each prompt's first token"):
        target.generate(ids, **call, **positions, **STATIC)


def test_autocast_has_caches_of_its_own(llama_pair):
    target, _ = llama_pair
    for _ in range(2):
        assert equals_plain(target, prompt_ids(1), **STATIC)
        with torch.autocast("cpu", torch.bfloat16):
            target.generate(
                torch.tensor([prompt_ids(1)]), assistant_model=target, judge=ExactMatchRule(), **GREEDY, **STATIC
            )


def test_prompt_lookup_without_bonus_token_with_a_static_cache(llama_pair):
    target, _ = llama_pair
    prompt = torch.tensor([[*range(3, 15), 7, 8]])
    call = {"judge": ExactMatchRule(), "prompt_lookup_num_tokens": 3, "bonus_token": False, **GREEDY}
    call["max_new_tokens"] = 60
    assert torch.equal(target.generate(prompt, **call), target.generate(prompt, **call, **STATIC))


def test_processors_that_need_the_whole_batch(llama_pair):
    target, draft = llama_pair
    call = {"assistant_model": draft, "judge": ExactMatchRule(), "encoder_repetition_penalty": 1.5, **GREEDY}
    with pytest.raises(ValueError, match="EncoderRepetitionPenaltyLogitsProcessor needs the whole batch"):
        target.generate(**padded([prompt_ids(1), prompt_ids(2)]), **call)
    with pytest.raises(ValueError, match='assistant_early_exit.*"static"'):
        target.generate(torch.tensor([prompt_ids(1)]), judge=ExactMatchRule(), assistant_early_exit=1, **STATIC)
    with pytest.raises(ValueError, match='"offloaded".*several prompts'):
        target.generate(
            **padded([prompt_ids(1), prompt_ids(2)]),
            assistant_model=draft,
            judge=ExactMatchRule(),
            cache_implementation="offloaded",
        )
