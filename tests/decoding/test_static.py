"""Static caches and compiled passes: the same tokens, no recompilation, one look of the host a round."""

import copy
import gc
import weakref
from collections import Counter

import pytest
import torch
from examples.scripted_pair import TINY_DRAFT, TINY_TARGET, rejecting_head, scripted_pair
from torch._dynamo.utils import counters
from transformers import CompileConfig

from hf_autojudge import ExactMatchRule, JudgeStats, KLRule, TopKRule, free_static_caches
from hf_autojudge.runners.compiled import CompiledRunner
from hf_autojudge.runners.slot_cache import SlotMapping
from tests.utils import DEFAULT, FEATURES, PAD, make_model, make_pair, padded, prompt_ids, random_head


def decode(target, draft, judge, prompts, **call):
    settings = {"max_new_tokens": 30, "num_assistant_tokens": 4, "pad_token_id": PAD, "return_dict_in_generate": True}
    return target.generate(**padded(prompts), assistant_model=draft, judge=judge, **(settings | call))


def test_compiled_equals_eager_and_never_compiles_again(pair):
    target, draft = (copy.deepcopy(model) for model in pair)
    _, judge = random_head(DEFAULT, seed=3)
    call = {"judge_threshold": 0.5, "eos_token_id": None}
    config = {"cache_implementation": "static", "compile_config": CompileConfig(backend="eager", fullgraph=True)}
    counters.clear()
    for new_tokens in (30, 12, 30, 60):
        prompts = [prompt_ids(new_tokens, 6 + new_tokens // 10)]
        eager = decode(target, draft, judge, prompts, max_new_tokens=new_tokens, **call)
        compiled = decode(target, draft, judge, prompts, max_new_tokens=new_tokens, **call, **config)
        assert torch.equal(eager.sequences, compiled.sequences)
        assert eager.judge_stats.histogram == compiled.judge_stats.histogram
    assert counters["stats"]["unique_graphs"] == 2  # the draft's step and the verification
    assert not counters["recompiles"] and not counters["graph_break"]


def test_a_compiled_batch_whose_rows_end(llama_pair):
    target, draft = (copy.deepcopy(model) for model in llama_pair)
    prompts = [prompt_ids(seed, 3 + 2 * seed) for seed in range(5)]
    call = {"eos_token_id": list(range(30, 36)), "max_new_tokens": 40}
    config = {"cache_implementation": "static", "compile_config": CompileConfig(backend="eager", fullgraph=True)}
    counters.clear()
    for judge in (TopKRule(2), KLRule(0.8)):
        eager = decode(target, draft, judge, prompts, **call)
        compiled = decode(target, draft, judge, prompts, **call, **config)
        assert torch.equal(eager.sequences, compiled.sequences)
    assert counters["stats"]["unique_graphs"] == 3  # a draft whose states nobody reads has two steps
    assert not counters["recompiles"] and not counters["graph_break"]


def counting(method, looks):
    def look(self, *args, **kwargs):
        looks["all"] += 1
        return method(self, *args, **kwargs)

    return look


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("judge", ["rule", "head"])
def test_the_host_looks_once_a_round(llama_pair, batch, judge, monkeypatch):
    """Counted on the CPU, with the draft's look for end tokens, which accelerators do not take, out of the way."""
    target, draft = llama_pair
    judge = TopKRule(2) if judge == "rule" else random_head(DEFAULT, seed=3)[1]
    looks = Counter()
    for name in ("tolist", "item", "__bool__", "__int__", "__float__", "__index__", "cpu", "numpy"):
        monkeypatch.setattr(torch.Tensor, name, counting(getattr(torch.Tensor, name), looks))
    prompts = [prompt_ids(seed, 7) for seed in range(batch)]
    for static_cache in ({}, {"cache_implementation": "static"}):
        seen = []
        for new_tokens in (20, 70):
            looks.clear()
            stats = decode(
                target, draft, judge, prompts, max_new_tokens=new_tokens, eos_token_id=None, **static_cache
            ).judge_stats
            calls = stats.target_calls if batch == 1 else None
            seen.append((looks["all"], calls))
        if batch == 1:
            assert seen[1][0] - seen[0][0] == seen[1][1] - seen[0][1] > 5
        else:  # rounds of the batch: fewer than those of its rows, at least a third of them
            assert 5 < seen[1][0] - seen[0][0] <= stats.rounds


@pytest.mark.parametrize("features", FEATURES)
def test_prompts_of_one_token_and_windows_of_one(llama_pair, features):
    target, draft = llama_pair
    _, judge = random_head(features, seed=1)
    for new_tokens in (1, 2, 9):
        call = {"max_new_tokens": new_tokens, "num_assistant_tokens": 1, "judge_threshold": 0.5}
        eager = decode(target, draft, judge, [prompt_ids(4, 1)], **call)
        fixed = decode(target, draft, judge, [prompt_ids(4, 1)], **call, cache_implementation="static")
        assert torch.equal(eager.sequences, fixed.sequences)


def test_prompt_lookup_with_a_static_cache(llama_pair):
    target, _ = llama_pair
    prompt = torch.tensor([[1, 5, 9, 13, 7, 5, 9, 13, 7, 5, 9]])
    call = {"judge": TopKRule(3), "prompt_lookup_num_tokens": 3, "max_new_tokens": 30}
    assert torch.equal(target.generate(prompt, **call), target.generate(prompt, **call, cache_implementation="static"))


def test_a_sampled_call_ends_in_a_valid_text(llama_pair):
    target, draft = llama_pair
    torch.manual_seed(0)
    call = {"do_sample": True, "temperature": 0.7, "top_p": 0.9, "eos_token_id": None, "max_new_tokens": 20}
    out = decode(target, draft, TopKRule(2), [[5, 6], [7, 8, 9]], cache_implementation="static", **call)
    assert out.sequences.shape == (2, 23) and out.judge_stats.new_tokens == 40


def test_caches_are_kept_reused_and_freed(monkeypatch):
    target, draft = make_pair("llama", seed=5)
    made = []
    original = CompiledRunner.__init__
    monkeypatch.setattr(CompiledRunner, "__init__", lambda self, *a: (made.append(a), original(self, *a))[1])
    call = {"judge": ExactMatchRule(), "cache_implementation": "static"}
    for n in (10, 20, 100):
        decode(target, draft, prompts=[prompt_ids(1)], max_new_tokens=n, **call)
    assert len(made) == 2  # one for each model
    decode(target, draft, prompts=[prompt_ids(1), prompt_ids(2)], **call)
    assert len(made) == 4  # another batch size
    decode(target, draft, prompts=[prompt_ids(1)], max_new_tokens=400, **call)
    assert len(made) == 6  # a longer text than fits
    free_static_caches(target)
    decode(target, draft, prompts=[prompt_ids(1)], **call)
    assert len(made) == 7
    gone = weakref.ref(target)
    del target, made[:]
    gc.collect()
    assert gone() is None  # what is kept for a model does not keep the model


def test_an_error_within_a_call_does_no_harm(llama_pair):
    target, draft = llama_pair

    class Breaks(KLRule):
        def accept(self, window, threshold=None):
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        decode(target, draft, Breaks(1.0), [prompt_ids(1)], cache_implementation="static")
    plain = target.generate(torch.tensor([prompt_ids(1)]), max_new_tokens=30, do_sample=False)
    out = decode(target, draft, ExactMatchRule(), [prompt_ids(1)], cache_implementation="static")
    assert torch.equal(out.sequences, plain)


def test_what_a_static_cache_cannot_do(llama_pair, monkeypatch):
    target, draft = llama_pair
    call = {"prompts": [prompt_ids(1)], "judge": ExactMatchRule(), "cache_implementation": "static"}
    with pytest.raises(ValueError, match='"flex_attention".*no 4-D mask'):
        monkeypatch.setattr(target.config, "_attn_implementation_internal", "flex_attention")
        free_static_caches(target)
        decode(target, draft, **call)
    monkeypatch.undo()
    monkeypatch.setitem(vars(target), "forward", target.forward)  # as accelerate does
    with pytest.raises(ValueError, match="forward method.*was replaced"):
        decode(target, draft, **call)


@pytest.mark.parametrize("accepted", [1, 3, 5])
def test_the_scripted_pair_accepts_what_it_says(accepted):
    target, draft = scripted_pair(TINY_TARGET, TINY_DRAFT, accepted, "cpu", torch.float32)
    stats = JudgeStats()
    for judge in (ExactMatchRule(), rejecting_head(target, draft)):
        ids = torch.tensor([[700, 800, 0]])
        call = {"num_assistant_tokens": 5, "max_new_tokens": 8 * (accepted + 1), "return_dict_in_generate": True}
        out = target.generate(ids, assistant_model=draft, judge=judge, do_sample=False, **call)
        assert out.sequences[0, 3:].tolist() == [*range(1, accepted + 1), 0] * 8
        stats += out.judge_stats
    assert stats.rounds == 16 and stats.accepted_by_judge == 0 and set(stats.histogram) == {accepted}


def test_a_draft_of_another_architecture():
    target, draft = make_model("gemma2", 32, 2, seed=1), make_model("gpt2", 32, 1, seed=2)
    prompts = [prompt_ids(seed, 4 + 9 * seed) for seed in range(3)]
    plain = [target.generate(torch.tensor([p]), max_new_tokens=20, do_sample=False)[0, len(p) :] for p in prompts]
    for cache in (None, "static"):
        out = decode(target, draft, ExactMatchRule(), prompts, cache_implementation=cache, max_new_tokens=20)
        for row, expected in zip(out.sequences, plain, strict=True):
            assert row[22 : 22 + len(expected)].tolist() == expected.tolist()


def test_caches_go_with_the_call(monkeypatch):
    """Without waiting for the collector of cycles: they may be most of a GPU's memory."""
    target, draft = make_pair("llama", seed=6)
    made = []
    original = SlotMapping.__init__
    monkeypatch.setattr(
        SlotMapping, "__init__", lambda self, *a: (made.append(weakref.ref(self)), original(self, *a))[1]
    )
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            decode(target, draft, ExactMatchRule(), [prompt_ids(1), prompt_ids(2)])
        assert len(made) == 6 and not any(table() for table in made)
        for k in range(1, 8):
            call = {"num_assistant_tokens": k, "cache_implementation": "static"}
            decode(target, draft, ExactMatchRule(), [prompt_ids(1)], **call)
        assert sum(table() is not None for table in made) == 5  # the draft's one, and four of the target
        free_static_caches(target)
        free_static_caches(draft)
        assert not any(table() for table in made)
    finally:
        gc.enable()


@pytest.mark.parametrize("max_length", [250, 253, 256])
def test_a_sequence_near_the_end_of_the_cache_drafts_along(llama_pair, max_length):
    """Its surplus candidates must not be written behind the last slot."""
    target, draft = llama_pair
    prompts = [prompt_ids(seed, length) for seed, length in enumerate((max_length - 12, 9, 30))]
    call = {"max_new_tokens": None, "max_length": max_length, "num_assistant_tokens": 20, "eos_token_id": None}
    batched = decode(target, draft, TopKRule(2), prompts, **call)
    static = decode(target, draft, TopKRule(2), prompts, **call, cache_implementation="static")
    assert torch.equal(batched.sequences, static.sequences)
