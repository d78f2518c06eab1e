"""What is spent is what the emitted mismatches cost, recomputed from the text alone; no sequence spends more."""

import copy
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_autojudge import RegretBudgetRule, TopKRule, after, any_of, budget, inside
from hf_autojudge.judges.base import Window
from tests.decoding.test_rules_decode import HEAD, disturbed
from tests.reference import run
from tests.utils import PAD, padded, prompt_ids

# The sum below and the loop's are of the same numbers, but in another order, and of passes with another width
ROUNDING = 1e-4


@pytest.fixture(scope="module")
def close_pair():
    return disturbed(seed=2, by=0.12)


def costs_of_text(target, draft, ids, num_prompt):
    """Regret and importance of each new token that is not the target's own choice: whole texts, no cache."""
    logits, target_hidden = run(target, ids)
    plain_head, _ = HEAD
    _, draft_hidden = run(draft, ids)
    found = []
    for place in range(num_prompt, len(ids)):
        z = logits[place - 1]
        if int(z.argmax()) != ids[place]:
            x = torch.cat([draft_hidden[place], target_hidden[place]])
            importance = torch.sigmoid(
                ((x - plain_head.mean) / plain_head.scale) @ plain_head.weight + plain_head.bias
            )
            found.append((float(z.max() - z[ids[place]]), float(importance)))
    return found


class Books:
    """A judge that decides as another one does and keeps what the loop says of each sequence."""

    def __init__(self, judge):
        self.judge, self.reads = judge, judge.reads | {"tokens", "num_new_tokens"}
        self.threshold, self.num_assistant_tokens, self.check_models = judge.threshold, None, judge.check_models
        self.num_budgets, self.costs = judge.num_budgets, judge.costs
        self.entries = []

    def accept(self, window: Window, threshold=None):
        self.entries += zip(
            window.tokens.tolist(), window.num_new_tokens[:, 0].tolist(), window.spent.tolist(), strict=True
        )
        return self.judge.accept(window, threshold)


def generate(target, draft, prompts, judge, **call):
    """Each sequence without padding, up to its end."""
    inputs = padded(prompts)
    call = {"max_new_tokens": 24, "num_assistant_tokens": 6, "eos_token_id": None, "pad_token_id": PAD} | call
    out = target.generate(**inputs, assistant_model=draft, judge=judge, **call)
    width, eos = inputs["input_ids"].shape[1], set(call["eos_token_id"] or ())
    found = []
    for prompt, row in zip(prompts, out.tolist(), strict=True):
        new = row[width:]
        ends = [i for i, token in enumerate(new) if token in eos]
        found.append(prompt + (new[: ends[0] + 1] if ends else new))
    return found


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10**6),
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=4),
    k=st.integers(1, 8),
    new=st.integers(1, 24),
    eos=st.sets(st.integers(0, 47), min_size=1, max_size=5),
    bonus=st.booleans(),
    static=st.booleans(),
)
def test_the_books_are_right_in_every_round(close_pair, seed, lengths, k, new, eos, bonus, static):
    """Before each round, of each sequence, from its text so far; sequences end in different rounds."""
    target, draft = close_pair
    judge = Books(any_of(RegretBudgetRule(3, 1, 3), budget(HEAD[1], 1.5), TopKRule(2)))
    prompts = [prompt_ids(seed + i, n) for i, n in enumerate(lengths)]
    call = {"max_new_tokens": new, "num_assistant_tokens": k, "eos_token_id": sorted(eos), "bonus_token": bonus}
    generate(target, draft, prompts, judge, **call, cache_implementation="static" if static else None)
    for tokens, num_new, spent in judge.entries:
        text = [token for token in tokens if token >= 0]
        assert text[: len(text) - num_new] in prompts
        costs = costs_of_text(target, draft, text, len(text) - num_new)
        assert spent == pytest.approx([sum(c) for c in zip(*costs, strict=True)] or [0, 0], abs=ROUNDING)


def spend(target, draft, kind, generations, batch=20):
    """Random prompts and limits; what each generation spent, its limit, and the text."""
    rng = random.Random(generations)
    which = {"regret": 0, "importance": 1}[kind]
    for number in range(generations // batch):
        limit = rng.choice([0.3, 1.0, rng.uniform(0, 6)])
        judge = RegretBudgetRule(limit, 3, 9) if kind == "regret" else budget(HEAD[1], limit)
        prompts = [prompt_ids(rng.randrange(10**6), rng.randint(1, 12)) for _ in range(batch)]
        call = {
            "num_assistant_tokens": rng.randint(2, 8),
            "eos_token_id": rng.choice([None, rng.sample(range(3, 48), 3)]),
            "judge_threshold": rng.choice([None, 1.0, 0.7]) if kind == "importance" else None,
            "cache_implementation": rng.choice([None, "static"]) if number % 10 == 0 else None,
        }
        for prompt, ids in zip(prompts, generate(target, draft, prompts, judge, **call), strict=True):
            yield sum(cost[which] for cost in costs_of_text(target, draft, ids, len(prompt))), limit


@pytest.mark.parametrize("generations", [100, pytest.param(1000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["regret", "importance"])
def test_a_limit_is_never_exceeded(close_pair, kind, generations):
    spent = list(spend(*close_pair, kind, generations))
    assert len(spent) == generations
    assert all(amount <= limit + ROUNDING for amount, limit in spent)
    assert sum(amount > 0.5 * limit for amount, limit in spent) > generations / 5  # the limits are felt


def test_without_a_limit_more_is_spent(close_pair):
    target, draft = close_pair
    prompts = [prompt_ids(seed, 3 + seed) for seed in range(8)]
    for judge, which in ((RegretBudgetRule(1e9, 3, 9), 0), (budget(HEAD[1], 1e9), 1)):
        texts = generate(target, draft, prompts, judge)
        amounts = [
            sum(cost[which] for cost in costs_of_text(target, draft, ids, len(prompt)))
            for prompt, ids in zip(prompts, texts, strict=True)
        ]
        assert max(amounts) > 3


@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize(
    "judge", [RegretBudgetRule(0), RegretBudgetRule(9, 0), budget(HEAD[1], 0)], ids=lambda j: type(j).__name__
)
def test_nothing_to_spend_is_greedy(close_pair, judge, static):
    target, draft = close_pair
    prompts = [prompt_ids(seed, 3 + seed) for seed in range(6)]
    call = {"judge_threshold": 1.0} if judge.threshold is not None else {}
    texts = generate(target, draft, prompts, judge, **call, cache_implementation="static" if static else None)
    for prompt, ids in zip(prompts, texts, strict=True):
        call = {"max_new_tokens": 24, "do_sample": False, "eos_token_id": None}
        assert ids == target.generate(torch.tensor([prompt]), **call)[0].tolist()


@pytest.mark.slow
@pytest.mark.parametrize(
    "judge", [RegretBudgetRule(0), RegretBudgetRule(9, 0), budget(HEAD[1], 0)], ids=lambda j: type(j).__name__
)
def test_nothing_to_spend_is_greedy_over_1000_generations(close_pair, judge, batch=20):
    """In batches of prompts of many lengths, with any number of candidates. In float64: among so many tokens, two have
    logits that float32 orders in one way in a pass over one token and in the other way in a pass over several."""
    target, draft = (copy.deepcopy(model).double() for model in close_pair)
    rng, same = random.Random(5), 0
    for _ in range(1000 // batch):
        prompts = [prompt_ids(rng.randrange(10**6), rng.randint(1, 12)) for _ in range(batch)]
        call = {"num_assistant_tokens": rng.randint(1, 8), "eos_token_id": rng.sample(range(3, 48), 2)}
        call["judge_threshold"] = None if judge.threshold is None else 1.0
        texts = generate(target, draft, prompts, judge, **call)
        for prompt, ids in zip(prompts, texts, strict=True):
            ends = {"eos_token_id": call["eos_token_id"], "pad_token_id": PAD}
            greedy = target.generate(torch.tensor([prompt]), max_new_tokens=24, do_sample=False, **ends)
            assert ids == greedy[0].tolist()
            same += 1
    assert same == 1000


def test_a_tie_costs_nothing_and_is_not_accepted_without_a_budget():
    """Two tokens of the same weights: the target's best are always two, the draft prefers the other one."""
    target, draft = disturbed(seed=2, by=0.0)
    with torch.no_grad():
        for model in (target, draft):
            model.lm_head.weight[40:] = model.lm_head.weight[8:16]
        draft.lm_head.weight[40:] *= 1.01
    prompt = prompt_ids(3)
    exact = target.generate(torch.tensor([prompt]), max_new_tokens=24, do_sample=False, eos_token_id=None)[0].tolist()
    tied = generate(target, draft, [prompt], RegretBudgetRule(1e-9, 1e-9, 9))[0]
    assert tied != exact and generate(target, draft, [prompt], RegretBudgetRule(0))[0] == exact
    costs = costs_of_text(target, draft, tied, len(prompt))
    assert any(regret == 0 for regret, _ in costs) and all(regret <= 1e-9 for regret, _ in costs)


def test_spans_and_starts_spend_only_where_they_judge(close_pair):
    """A budget inside `inside` or `after` pays for what it accepts and nothing else."""
    target, draft = close_pair
    head = HEAD[1]
    prompts = [prompt_ids(seed, 3 + seed) for seed in range(8)]
    for judge in (after(8, budget(head, 1.0)), inside([7], [9, 11], budget(head, 1.0)), any_of(budget(head, 1.0))):
        for prompt, ids in zip(prompts, generate(target, draft, prompts, judge), strict=True):
            assert sum(cost for _, cost in costs_of_text(target, draft, ids, len(prompt))) <= 1 + ROUNDING
