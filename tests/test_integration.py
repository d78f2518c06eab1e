"""How `judge=` reaches `generate`: routing, outputs, sources, and clear errors."""

import string

import pytest
import torch
from tokenizers import Tokenizer, decoders, models
from transformers import (
    GenerationConfig,
    GenerationMixin,
    Lfm2Config,
    Lfm2ForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MaxLengthCriteria,
    OPTConfig,
    OPTForCausalLM,
    PreTrainedTokenizerFast,
    StaticCache,
    StoppingCriteria,
    T5Config,
    T5ForConditionalGeneration,
)
from transformers.generation import GenerateDecoderOnlyOutput
from transformers.generation.streamers import BaseStreamer

import hf_autojudge
from hf_autojudge import AutoJudgeHead, ExactMatchRule, JudgedDecoding, KLRule, TopKRule
from tests.utils import SHAPE, VOCAB, make_model, make_pair

PROMPT = torch.tensor([[1, 5, 9, 13, 7, 5, 9]])


def head(threshold=0.5, draft=32, target=32, **config):
    torch.manual_seed(0)
    size = draft + target
    return AutoJudgeHead.from_linear(
        torch.randn(size) / 8,
        0.0,
        torch.zeros(size),
        torch.ones(size),
        draft_hidden_size=draft,
        target_hidden_size=target,
        threshold=threshold,
        **config,
    )


LETTERS = string.ascii_letters[:VOCAB]


def make_tokenizer(letters):
    """One letter a token, no special tokens added."""
    made = Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, merges=[]))
    made.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token=letters[2], pad_token=letters[0])


@pytest.fixture(scope="module")
def tokenizer():
    return make_tokenizer(LETTERS)


def test_without_judge_generate_is_transformers_own(llama_pair):
    target, _ = llama_pair
    wrapped = GenerationMixin.generate
    hf_autojudge.enable()
    assert GenerationMixin.generate is wrapped, "enabling twice changes nothing"
    with_wrapper = target.generate(PROMPT, max_new_tokens=12, do_sample=False)
    hf_autojudge.disable()
    try:
        assert GenerationMixin.generate is wrapped._without_judge
        assert torch.equal(with_wrapper, target.generate(PROMPT, max_new_tokens=12, do_sample=False))
        with pytest.raises(ValueError, match="judge"):
            target.generate(PROMPT, judge=ExactMatchRule())
    finally:
        hf_autojudge.enable()
    assert wrapped.__name__ == "generate" and wrapped.__doc__ == wrapped._without_judge.__doc__


def test_custom_generate_is_the_same(llama_pair):
    target, draft = llama_pair
    settings = {"max_new_tokens": 25, "num_assistant_tokens": 4, "return_dict_in_generate": True}
    a = target.generate(PROMPT, judge=head(), assistant_model=draft, **settings)
    b = target.generate(PROMPT, custom_generate=JudgedDecoding(head(), assistant_model=draft), **settings)
    assert torch.equal(a.sequences, b.sequences)
    assert a.judge_stats.drafted == b.judge_stats.drafted > 0


def test_output_class_and_scores(llama_pair):
    target, draft = llama_pair
    settings = {"max_new_tokens": 20, "return_dict_in_generate": True, "output_scores": True, "output_logits": True}
    settings["repetition_penalty"] = 1.2
    ours = target.generate(PROMPT, judge=ExactMatchRule(), assistant_model=draft, **settings)
    plain = target.generate(PROMPT, **settings)
    assert type(ours) is GenerateDecoderOnlyOutput and type(ours.judge_stats) is hf_autojudge.JudgeStats
    assert torch.equal(ours.sequences, plain.sequences)
    assert len(ours.scores) == len(plain.scores) == len(ours.logits)
    for a, b in [*zip(ours.scores, plain.scores, strict=True), *zip(ours.logits, plain.logits, strict=True)]:
        assert torch.allclose(a, b, atol=1e-4)
    stats = ours.judge_stats
    row = stats.to_dict()
    assert row["accepted_per_target_call"] == stats.new_tokens / stats.target_calls
    assert stats.draft_seconds > 0 and stats.target_seconds > 0 and stats.other_seconds > 0
    assert (stats + stats).drafted == 2 * stats.drafted


def test_criteria_see_scores_and_lengths_as_in_generate(llama_pair):
    target, draft = llama_pair
    seen = {"plain": [], "judged": []}

    class Looks(StoppingCriteria):
        def __init__(self, name):
            self.name = name

        def __call__(self, input_ids, scores, **kwargs):
            seen[self.name].append((input_ids.shape[1], len(scores), int(scores[-1].argmax())))
            return torch.full((1,), len(scores) == 13)

    settings = {"output_scores": True, "return_dict_in_generate": True, "max_new_tokens": 20, "eos_token_id": None}
    plain = target.generate(PROMPT, stopping_criteria=[Looks("plain")], **settings)
    settings |= {"assistant_model": draft, "judge": ExactMatchRule(), "num_assistant_tokens": 5}
    judged = target.generate(PROMPT, stopping_criteria=[Looks("judged")], **settings)
    assert torch.equal(plain.sequences, judged.sequences) and judged.sequences.shape[1] == PROMPT.shape[1] + 13
    assert seen["judged"] == seen["plain"] and len(judged.scores) == 13
    short = target.generate(PROMPT, stopping_criteria=[MaxLengthCriteria(max_length=11)], **settings)
    assert short.sequences.shape[1] == 11


class Recorder(BaseStreamer):
    def __init__(self):
        self.pieces, self.ended = [], False

    def put(self, value):
        self.pieces.append(value.flatten().tolist())

    def end(self):
        self.ended = True


def test_streamer(llama_pair):
    target, draft = llama_pair
    for call in (
        lambda s: target.generate(PROMPT, judge=head(), assistant_model=draft, streamer=s, max_new_tokens=20),
        lambda s: target.generate(
            PROMPT, custom_generate=JudgedDecoding(head(), draft, streamer=s), max_new_tokens=20
        ),
    ):
        recorder = Recorder()
        out = call(recorder)
        assert recorder.ended and recorder.pieces[0] == PROMPT[0].tolist()
        assert sum(recorder.pieces, []) == out[0].tolist() and len(recorder.pieces) > 2


@pytest.mark.parametrize("where", ["call", "generation_config", "model"])
def test_stop_strings_end_at_the_same_token(pair, tokenizer, where, monkeypatch):
    target, draft = pair
    plain = target.generate(PROMPT, max_new_tokens=30, eos_token_id=None, do_sample=False)[0].tolist()
    for stop_at in (12, 15, 20):
        stop = LETTERS[plain[stop_at - 1]] + LETTERS[plain[stop_at]]
        settings = {"assistant_model": draft, "tokenizer": tokenizer, "num_assistant_tokens": 6}
        expected = target.generate(
            PROMPT, max_new_tokens=30, eos_token_id=None, stop_strings=stop, tokenizer=tokenizer
        )
        limits = {"max_new_tokens": 30, "eos_token_id": None}
        if where == "call":
            settings |= limits | {"stop_strings": stop}
        elif where == "generation_config":
            settings["generation_config"] = GenerationConfig(max_new_tokens=30, stop_strings=stop, eos_token_id=-1)
        else:
            monkeypatch.setattr(target.generation_config, "stop_strings", stop)
            settings |= limits
        out = target.generate(PROMPT, judge=ExactMatchRule(), **settings)
        monkeypatch.undo()
        assert torch.equal(out, expected)
        assert out.shape[1] < 37


def test_draft_options_of_the_call_win(llama_pair, monkeypatch):
    target, draft = llama_pair
    base = {"assistant_model": draft, "judge": ExactMatchRule(), "max_new_tokens": 30, "eos_token_id": None}
    base["return_dict_in_generate"] = True

    def drafted_first_round(**settings):
        out = target.generate(PROMPT, **(base | {"max_new_tokens": 40} | settings))
        return out.judge_stats.drafted / out.judge_stats.rounds, out.judge_stats

    assert target.generate(PROMPT, **(base | {"max_new_tokens": 2}), num_assistant_tokens=6).judge_stats.drafted == 1
    monkeypatch.setattr(draft.generation_config, "num_assistant_tokens", 3)
    assert max(drafted_first_round()[1].histogram) <= 3
    monkeypatch.setattr(target.generation_config, "num_assistant_tokens", 2)
    assert drafted_first_round()[0] <= 2
    assert drafted_first_round(num_assistant_tokens=5)[0] > 3
    assert drafted_first_round(generation_config=GenerationConfig(num_assistant_tokens=1, max_new_tokens=40))[0] <= 1
    constant = drafted_first_round(num_assistant_tokens=5)[1]
    confident = drafted_first_round(num_assistant_tokens=5, assistant_confidence_threshold=0.9)[1]
    heuristic = drafted_first_round(num_assistant_tokens=5, num_assistant_tokens_schedule="heuristic")[1]
    assert confident.drafted < constant.drafted and heuristic.drafted != constant.drafted
    monkeypatch.undo()
    windowed = head(num_candidate_tokens=2, threshold=0.0)
    assert drafted_first_round(judge=windowed)[0] <= 2


def test_prompt_lookup(llama_pair):
    target, _ = llama_pair
    prompt = torch.tensor([[1, 5, 9, 13, 7, 5, 9, 13, 7, 5, 9]])
    plain = target.generate(prompt, max_new_tokens=30, do_sample=False)
    ours = target.generate(prompt, judge=ExactMatchRule(), prompt_lookup_num_tokens=3, max_new_tokens=30)
    assert torch.equal(plain, ours)
    loose = target.generate(
        prompt, judge=TopKRule(VOCAB), prompt_lookup_num_tokens=3, max_new_tokens=30, return_dict_in_generate=True
    )
    assert loose.judge_stats.accepted_by_judge > 0 and loose.judge_stats.draft_calls == 0


def test_a_draft_with_another_tokenizer(llama_pair, tokenizer):
    """Through transformers' own translation; the vocabulary is the target's, shuffled."""
    target, _ = llama_pair
    other = make_tokenizer(LETTERS[:3] + LETTERS[:2:-1])
    draft = make_model("llama", 16, 1, seed=5)
    plain = target.generate(PROMPT, max_new_tokens=15, do_sample=False)
    tokenizers = {"tokenizer": tokenizer, "assistant_tokenizer": other}
    settings = {"assistant_model": draft, "max_new_tokens": 15, "num_assistant_tokens": 3, **tokenizers}
    out = target.generate(PROMPT, judge=ExactMatchRule(), **settings)
    assert torch.equal(out, plain)
    with pytest.raises(ValueError, match="draft states"):
        target.generate(PROMPT, judge=head(draft=16), **settings)


def test_early_exit_source(llama_pair):
    target, _ = llama_pair
    plain = target.generate(PROMPT, max_new_tokens=15, do_sample=False)
    out = target.generate(PROMPT, judge=ExactMatchRule(), assistant_early_exit=1, max_new_tokens=15)
    assert torch.equal(out, plain)


def test_a_draft_with_a_padded_vocabulary(llama_pair, tokenizer):
    target, _ = llama_pair
    plain = target.generate(PROMPT, max_new_tokens=20, do_sample=False)
    for size in (VOCAB - 8, VOCAB + 8):
        draft = make_model("llama", 16, 1, seed=3, vocab=size)
        for judge in (ExactMatchRule(), KLRule(0.0)):
            settings = {"assistant_model": draft, "judge": judge, "max_new_tokens": 20, "num_assistant_tokens": 4}
            with pytest.raises(ValueError, match=f"{VOCAB}.*{size}"):
                target.generate(PROMPT.clamp(max=30), **settings)
            both = {"tokenizer": tokenizer, "assistant_tokenizer": tokenizer}
            assert torch.equal(target.generate(PROMPT, **settings, **both), plain)
            sampled = target.generate(PROMPT, do_sample=True, **settings, **both)
            assert sampled.max() < VOCAB


def test_peft_models(llama_pair):
    peft = pytest.importorskip("peft")
    models_ = []
    for seed in (0, 1):
        config = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj", "lm_head"], init_lora_weights=False)
        torch.manual_seed(seed)
        models_.append(peft.get_peft_model(make_model("llama", 32, 2, seed), config, adapter_name="a").eval())
    target, draft = models_
    plain = target.generate(input_ids=PROMPT, max_new_tokens=20, do_sample=False)
    ours = target.generate(input_ids=PROMPT, max_new_tokens=20, judge=ExactMatchRule(), assistant_model=draft)
    assert torch.equal(plain, ours)
    merged = [m.merge_and_unload().eval() for m in models_]
    judge = head(0.6)
    settings = {"max_new_tokens": 20, "judge": judge, "num_assistant_tokens": 4}
    a = merged[0].generate(PROMPT, assistant_model=merged[1], **settings)
    models_ = []
    for seed in (0, 1):
        config = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj", "lm_head"], init_lora_weights=False)
        torch.manual_seed(seed)
        models_.append(peft.get_peft_model(make_model("llama", 32, 2, seed), config, adapter_name="a").eval())
    b = models_[0].generate(input_ids=PROMPT, assistant_model=models_[1], **settings)
    assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"assistant_model": None}, "assistant_model"),
        ({"num_beams": 2}, "num_beams=2"),
        ({"num_return_sequences": 3, "do_sample": True}, "num_return_sequences=3"),
        ({"judge_threshold": 1.5}, "1.5"),
        ({"judge_threshold": float("nan")}, "nan"),
        ({"judge_threshold": -0.1}, "-0.1"),
        ({"use_cache": False}, "use_cache"),
        ({"num_assistant_tokens": 0}, "at least 1; got 0"),
        ({"num_assistant_tokens": 2.5}, "whole number.*2.5"),
        ({"num_assistant_tokens": "3"}, "whole number.*'3'"),
        ({"guidance_scale": 1.5}, "guidance_scale"),
        ({"judge": KLRule(1.0), "prompt_lookup_num_tokens": 3}, "draft_logits"),
        ({"assistant_confidence_threshold": 2.0}, "2.0"),
        ({"num_assistant_tokens_schedule": "weekly"}, "weekly"),
        ({"inputs": torch.zeros(1, 0, dtype=torch.long)}, "empty"),
        (
            {"past_key_values": StaticCache(make_model("llama", 32, 2, 0).config, max_cache_len=20)},
            'StaticCache.*cache_implementation="static"',
        ),
        (
            {"cache_implementation": "static", "num_assistant_tokens_schedule": "heuristic"},
            'schedule="heuristic".*static',
        ),
        ({"stop_strings": "t5"}, "tokenizer"),
        ({"judge": head(draft=16)}, "16.*32"),
        ({"judge": head(target=24)}, "24.*32"),
        ({"judge": head(vocab_size=99)}, f"99.*{VOCAB}"),
        ({"judge": KLRule(1.0), "judge_threshold": 0.5}, "without a threshold"),
        ({"custom_generate": lambda *a: None}, "drop one"),
        ({"output_hidden_states": True, "return_dict_in_generate": True}, "output_hidden_states"),
    ],
)
def test_bad_input_gets_a_clear_error(llama_pair, settings, message):
    target, draft = llama_pair
    call = {"inputs": PROMPT, "assistant_model": draft, "judge": head(), "max_new_tokens": 5} | settings
    with pytest.raises(ValueError, match=message) as caught:
        target.generate(**call)
    assert "\n" not in str(caught.value)


def test_a_judge_of_the_wrong_type(llama_pair):
    with pytest.raises(TypeError, match="from_pretrained"):
        llama_pair[0].generate(PROMPT, judge="org/judge", assistant_model=llama_pair[1])


def test_sources_without_draft_states(llama_pair):
    target, _ = llama_pair
    with pytest.raises(ValueError, match="draft states"):
        target.generate(PROMPT, judge=head(), prompt_lookup_num_tokens=3)
    with pytest.raises(ValueError, match="draft_logits"):
        target.generate(PROMPT, judge=KLRule(1.0), prompt_lookup_num_tokens=3)


def test_the_last_token_of_a_sampled_text_is_sampled(llama_pair):
    """Early exit proposes nothing where only one token is left; that one comes from the target's distribution."""
    target, _ = llama_pair
    settings = {"do_sample": True, "temperature": 5.0, "top_k": 0, "max_new_tokens": 1, "assistant_early_exit": 1}
    torch.manual_seed(0)
    last = {int(target.generate(PROMPT, judge=ExactMatchRule(), **settings)[0, -1]) for _ in range(20)}
    assert len(last) > 5


def test_token_type_ids():
    target, draft = make_pair("gpt2")
    settings = {"token_type_ids": torch.zeros_like(PROMPT), "max_new_tokens": 20}
    plain = target.generate(PROMPT, **settings)
    assert torch.equal(plain, target.generate(PROMPT, assistant_model=draft, judge=ExactMatchRule(), **settings))


def test_a_head_that_reads_another_width_than_the_config_says():
    config = OPTConfig(
        vocab_size=VOCAB,
        hidden_size=32,
        word_embed_proj_dim=16,
        ffn_dim=64,
        num_hidden_layers=2,
        num_attention_heads=2,
    )
    torch.manual_seed(0)
    model = OPTForCausalLM(config).eval()
    out = model.generate(PROMPT, assistant_model=model, judge=head(draft=16, target=16), max_new_tokens=8)
    assert out.shape[1] > PROMPT.shape[1]


def test_models_that_cannot_be_rolled_back(llama_pair):
    mamba = MambaForCausalLM(MambaConfig(vocab_size=VOCAB, hidden_size=16, num_hidden_layers=1, state_size=4)).eval()
    with pytest.raises(ValueError, match="recurrent state"):
        mamba.generate(PROMPT, judge=ExactMatchRule(), assistant_model=llama_pair[1], max_new_tokens=4)
    with pytest.raises(ValueError, match="recurrent state"):
        llama_pair[0].generate(PROMPT, judge=ExactMatchRule(), assistant_model=mamba, max_new_tokens=4)
    lfm2 = Lfm2ForCausalLM(Lfm2Config(**SHAPE, num_key_value_heads=2, layer_types=["conv", "full_attention"])).eval()
    with pytest.raises(ValueError, match="cannot be rolled back"):
        llama_pair[0].generate(PROMPT, judge=ExactMatchRule(), assistant_model=lfm2, max_new_tokens=4)
    t5 = T5ForConditionalGeneration(
        T5Config(vocab_size=VOCAB, d_model=16, d_ff=16, num_layers=1, num_heads=2, d_kv=8, decoder_start_token_id=0)
    )
    with pytest.raises(ValueError, match="encoder-decoder"):
        t5.generate(PROMPT, judge=ExactMatchRule(), assistant_model=llama_pair[1], max_new_tokens=4)
