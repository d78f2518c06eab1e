"""What a judge may be, what it sees of a sequence, and what is refused before anything is generated."""

from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from transformers import GenerationConfig

from hf_autojudge import (
    CascadeRule,
    DivergenceRule,
    EnsembleRule,
    ExactMatchRule,
    KLRule,
    RegretBudgetRule,
    RollbackRule,
    ThresholdsRule,
    TopKRule,
    after,
    all_of,
    any_of,
    budget,
    inside,
)
from hf_autojudge.evaluation.trace import trace_answer
from tests.decoding.test_rules_decode import HEAD, disturbed
from tests.decoding.test_static import counting
from tests.test_integration import LETTERS, make_tokenizer
from tests.utils import PAD, VOCAB, decode, make_model, padded, prompt_ids


@pytest.fixture(scope="module")
def close_pair():
    return disturbed(seed=2, by=0.12)


class Calls:
    """Counts the forward passes of a model."""

    def __init__(self, model, monkeypatch):
        self.number, forward = 0, type(model).forward

        def counting(this, *args, **kwargs):
            self.number += this is model
            return forward(this, *args, **kwargs)

        monkeypatch.setattr(type(model), "forward", counting)


READ_THE_DRAFT = [
    KLRule(1.0),
    DivergenceRule(),
    RollbackRule(),
    EnsembleRule(0.5),
    CascadeRule(),
    any_of(TopKRule(2), KLRule(1.0)),
    after(3, inside([5], [6], DivergenceRule())),
]


@pytest.mark.parametrize("judge", READ_THE_DRAFT, ids=str)
@pytest.mark.parametrize("with_draft", [False, True])
@pytest.mark.parametrize("do_sample", [False, True])
def test_prompt_lookup_has_no_distribution(close_pair, monkeypatch, judge, with_draft, do_sample):
    """Refused in one sentence, before the first pass, also where the prompt has nothing to look up."""
    target, draft = close_pair
    calls = Calls(target, monkeypatch)
    prompt = torch.tensor([[3, 4, 5, 6]])
    call = {"judge": judge, "prompt_lookup_num_tokens": 2, "max_new_tokens": 9, "do_sample": do_sample}
    with pytest.raises(ValueError, match=r"^This judge reads draft_\w+.*PromptLookup.*\.$") as caught:
        target.generate(prompt, **call, assistant_model=draft if with_draft else None)
    assert calls.number == 0 and "\n" not in str(caught.value)


@pytest.mark.parametrize("judge", READ_THE_DRAFT, ids=str)
def test_a_draft_with_another_tokenizer_has_none(close_pair, monkeypatch, judge):
    target, _ = close_pair
    calls = Calls(target, monkeypatch)
    tokenizers = {"tokenizer": make_tokenizer(LETTERS), "assistant_tokenizer": make_tokenizer(LETTERS[::-1])}
    call = {"assistant_model": make_model("llama", 16, 1, seed=5), "max_new_tokens": 9, **tokenizers}
    with pytest.raises(ValueError, match=r"^This judge reads draft_\w+.*DifferentTokenizers.*\.$"):
        target.generate(torch.tensor([prompt_ids(1)]), judge=judge, **call)
    assert calls.number == 0


def test_early_exit_has_one(close_pair):
    """transformers' own drafts come with their logits."""
    target, _ = close_pair
    prompt = torch.tensor([prompt_ids(1)])
    call = {"assistant_early_exit": 1, "max_new_tokens": 20, "return_dict_in_generate": True}
    loose = target.generate(prompt, judge=DivergenceRule(100), **call)
    assert loose.judge_stats.accepted_by_judge > 0
    plain = target.generate(prompt, max_new_tokens=20, do_sample=False)
    assert torch.equal(target.generate(prompt, judge=EnsembleRule(), **call).sequences, plain)
    assert not torch.equal(target.generate(prompt, judge=EnsembleRule(0.0), **call).sequences, plain)


def test_a_heads_draft_states_are_refused_through_composites(close_pair):
    target, _ = close_pair
    call = {"judge": after(2, budget(HEAD[1], 1)), "prompt_lookup_num_tokens": 2, "max_new_tokens": 9}
    with pytest.raises(ValueError, match="draft states"):
        target.generate(torch.tensor([prompt_ids(1)]), **call)


@pytest.mark.parametrize("cache", [None, "static"])
def test_composites_with_prompt_lookup(close_pair, cache):
    """What the window tells of the sequence is there for every candidate source."""
    target, _ = close_pair
    prompt = torch.tensor([[1, 5, 9, 13, 7, 5, 9, 13, 7, 5, 9]])
    call = {"prompt_lookup_num_tokens": 3, "max_new_tokens": 30, "eos_token_id": None, "cache_implementation": cache}
    plain = target.generate(prompt, max_new_tokens=30, do_sample=False, eos_token_id=None)
    loose = TopKRule(VOCAB)
    changed = target.generate(prompt, judge=loose, **call)
    assert not torch.equal(changed, plain)
    for judge in (after(30, loose), inside([1, 1], [2], loose), RegretBudgetRule(0)):
        assert torch.equal(target.generate(prompt, judge=judge, **call), plain)
    for judge in (after(0, loose), inside([9], [99], loose)):
        assert torch.equal(target.generate(prompt, judge=judge, **call), changed)
    out = target.generate(prompt, judge=after(4, loose), **call)
    assert torch.equal(out[0, :15], plain[0, :15]) and not torch.equal(out, plain)


class Looks:
    """A judge written before windows knew the sequence, and what it was given."""

    threshold = None
    num_assistant_tokens = 4

    def __init__(self, reads=("target_logits",)):
        self.reads, self.windows = frozenset(reads), []

    def accept(self, window, threshold=None):
        self.windows.append(window)
        return window.target_logits[:, :-1].argmax(-1) != window.draft_tokens  # accept every mismatch

    def check_models(self, target_hidden_size, draft_hidden_size, vocab_size):
        assert (target_hidden_size, draft_hidden_size, vocab_size) == (32, 32, VOCAB)


def test_an_older_judge_still_works(close_pair):
    target, draft = close_pair
    inputs = padded([prompt_ids(seed, 5 + seed) for seed in range(3)])
    call = {"assistant_model": draft, "max_new_tokens": 20, "pad_token_id": PAD, "eos_token_id": None}
    judge = Looks()
    assert torch.equal(
        target.generate(**inputs, judge=judge, **call),
        target.generate(**inputs, judge=TopKRule(VOCAB), num_assistant_tokens=4, **call),
    )
    for window in judge.windows:
        nothing = (
            window.tokens,
            window.num_new_tokens,
            window.target_hidden,
            window.draft_hidden,
            window.draft_logits,
        )
        assert nothing == (None,) * 5


@pytest.mark.parametrize("cache", [None, "static"])
def test_what_a_window_says_of_the_sequence(close_pair, cache):
    """The tokens of each sequence without padding, whether it is alone, in a batch, padded or not."""
    target, draft = close_pair
    prompts = [prompt_ids(seed, length) for seed, length in enumerate((9, 3, 14))]
    alone = {}
    call = {"assistant_model": draft, "max_new_tokens": 15, "pad_token_id": PAD, "cache_implementation": cache}

    def texts(judge):
        found = set()
        for window in judge.windows:
            for row, new in zip(window.tokens.tolist(), window.num_new_tokens[:, 0].tolist(), strict=True):
                text = [token for token in row if token != -1]
                assert row == [-1] * (len(row) - len(text)) + text
                found.add((tuple(text), new))
        return found

    for i, prompt in enumerate(prompts):
        judge = Looks(("target_logits", "tokens", "num_new_tokens"))
        target.generate(torch.tensor([prompt]), judge=judge, **call)
        alone[i] = texts(judge)
        assert all(list(text[: len(text) - new]) == prompt for text, new in alone[i])
        # Padded by hand: the cache of a single prompt stores the padding
        judge = Looks(("target_logits", "tokens", "num_new_tokens"))
        ids, mask = torch.tensor([[PAD] * 4 + prompt]), torch.tensor([[0] * 4 + [1] * len(prompt)])
        target.generate(ids, attention_mask=mask, judge=judge, **call)
        assert texts(judge) == alone[i]
    judge = Looks(("target_logits", "tokens", "num_new_tokens"))
    target.generate(**padded(prompts), judge=judge, **call)
    assert texts(judge) == set.union(*alone.values())


@pytest.mark.parametrize("where", ["call", "generation_config", "model"])
@pytest.mark.parametrize("judge", [ExactMatchRule(), EnsembleRule(0.5)], ids=str)
def test_transformers_own_ensemble_is_not_dropped_silently(close_pair, monkeypatch, where, judge):
    target, draft = close_pair
    calls = Calls(target, monkeypatch)
    call = {"max_new_tokens": 9}
    if where == "call":
        call["assistant_ensemble_weight"] = 0.5
    elif where == "generation_config":
        call = {"generation_config": GenerationConfig(max_new_tokens=9, assistant_ensemble_weight=0.5)}
    else:
        monkeypatch.setattr(target.generation_config, "assistant_ensemble_weight", 0.5)
    with pytest.raises(ValueError, match=r"^assistant_ensemble_weight=0.5 was given; .* EnsembleRule\(0.5\).*\.$"):
        target.generate(torch.tensor([prompt_ids(1)]), assistant_model=draft, judge=judge, **call)
    assert calls.number == 0


def test_thresholds_of_composites(close_pair):
    target, draft = close_pair
    head = HEAD[1]
    judge = after(3, all_of(budget(head, 50), TopKRule(VOCAB)))
    prompt = prompt_ids(2)
    plain = target.generate(torch.tensor([prompt]), max_new_tokens=24, do_sample=False)[0].tolist()
    assert decode(target, draft, prompt, judge, 5, max_new_tokens=24, judge_threshold=0.0)[0] == plain
    strict, loose = (
        decode(target, draft, prompt, judge, 5, max_new_tokens=24, judge_threshold=t)[1].accepted_by_judge
        for t in (0.3, 1.0)
    )
    own = decode(target, draft, prompt, judge, 5, max_new_tokens=24)
    assert own[0] == decode(target, draft, prompt, judge, 5, max_new_tokens=24, judge_threshold=head.threshold)[0]
    assert strict < loose
    for threshold in (-0.1, 1.5, float("nan")):
        with pytest.raises(ValueError, match=r"\[0, 1\]"):
            decode(target, draft, prompt, judge, 5, judge_threshold=threshold)
    for rules in (any_of(TopKRule(2), KLRule(1.0)), inside([1], [2], TopKRule(2)), RegretBudgetRule()):
        with pytest.raises(ValueError, match="without a threshold"):
            decode(target, draft, prompt, rules, 5, judge_threshold=0.5)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("cache", [None, "static"])
def test_the_host_looks_once_a_round(close_pair, monkeypatch, batch, cache):
    """Whatever the judge knows of the sequence; see the same test of the static caches."""
    target, draft = close_pair
    head = HEAD[1]
    prompts = [prompt_ids(seed, 7) for seed in range(batch)]
    judges = [
        inside([9], [10, 11], any_of(after(4, budget(head, 2.0)), RegretBudgetRule(4, 1), KLRule(1.0))),
        CascadeRule(0.02, "diff"),
        ThresholdsRule(0.2),
    ]
    looks = Counter()
    for name in ("tolist", "item", "__bool__", "__int__", "__float__", "__index__", "cpu", "numpy"):
        monkeypatch.setattr(torch.Tensor, name, counting(getattr(torch.Tensor, name), looks))
    for judge in judges:
        seen = []
        for new_tokens in (20, 70):
            looks.clear()
            call = {"max_new_tokens": new_tokens, "num_assistant_tokens": 4, "eos_token_id": None, "pad_token_id": PAD}
            call |= {"cache_implementation": cache, "return_dict_in_generate": True}
            stats = target.generate(**padded(prompts), assistant_model=draft, judge=judge, **call).judge_stats
            seen.append((looks["all"], stats.rounds))
        (few, rounds), (many, more_rounds) = seen
        assert 5 < many - few <= more_rounds - rounds if batch == 1 else 5 < many - few <= more_rounds


def test_a_class_is_no_judge(close_pair):
    target, draft = close_pair
    with pytest.raises(TypeError, match="got the class ExactMatchRule"):
        target.generate(torch.tensor([prompt_ids(1)]), assistant_model=draft, judge=ExactMatchRule)


def test_models_are_checked_through_composites(close_pair):
    target, _ = close_pair
    with pytest.raises(ValueError, match="16"):
        target.generate(
            torch.tensor([prompt_ids(1)]),
            assistant_model=make_model("llama", 16, 1, seed=1),
            judge=inside([5], [6], any_of(TopKRule(2), HEAD[1])),
            max_new_tokens=9,
        )


def test_answers_of_composites_are_traced(close_pair):
    target, draft = close_pair
    tokenizer = SimpleNamespace(decode=lambda ids, **_: " ".join(f"t{i}" for i in ids))
    for judge in (
        inside([9], [10], TopKRule(4)),
        after(4, any_of(budget(HEAD[1], 1.2), RegretBudgetRule(1, 1))),
        RegretBudgetRule(2, 1),
        EnsembleRule(0.5),
        CascadeRule(0.02, "diff"),
        ThresholdsRule(0.2),
    ):
        prompt = prompt_ids(3)
        ids, stats = decode(target, draft, prompt, judge, 5, max_new_tokens=20, eos_token_id=None)
        trace = trace_answer(target, draft, tokenizer, prompt, judge, max_new_tokens=20, num_assistant_tokens=5)
        new = [t.token for t in trace.tokens]
        assert new == ids[len(prompt) :][: len(new)]
        labels = [t.label for t in trace.tokens]
        assert labels.count("accepted") == trace.stats.accepted_by_judge
        assert labels.count("match") == trace.stats.matched
