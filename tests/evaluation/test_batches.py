"""Answers in batches equal those one by one, in float32."""

import pytest
import torch
from transformers import BloomConfig, BloomForCausalLM

from hf_autojudge import KLRule, TopKRule
from hf_autojudge.demo.embedded import load_pair
from hf_autojudge.demo.task import word_problems_task
from hf_autojudge.evaluation import measure_frontier
from hf_autojudge.evaluation.decoder import Decoder
from hf_autojudge.evaluation.strategies import ASSISTED
from hf_autojudge.tasks.base import Task
from tests.utils import VOCAB

SAMPLES = [{"ids": [1, *range(3, 4 + i % 5), 20 + i], "answer": f"w{i}"} for i in range(9)]
EXACT_FIELDS = ("accuracy", "accepted", "accepted_ratio", "lost_share", "mean_new_tokens", "length_cap_hits")


@pytest.fixture(scope="module")
def long_task():
    return Task(
        "toy", lambda sample, _: sample["ids"], lambda _, a, b: a[:30] == b[:30], lambda split, n: SAMPLES[:n], 24
    )


def assert_same(one_by_one, batched, n):
    assert [p.name for p in one_by_one.points] == [p.name for p in batched.points]
    assert one_by_one.settings["n"] == batched.settings["n"] == n
    for expected, point in zip(one_by_one.points, batched.points, strict=True):
        asked = slice(point.n)
        for name in ("correct", "new_tokens", "target_calls", "capped"):
            columns = [getattr(f.questions[point.name], name) for f in (one_by_one, batched)]
            assert columns[0][asked] == columns[1], (point.name, name)
        if point.name != ASSISTED:
            assert point.n == n and point.acceptance_by_position == expected.acceptance_by_position
            for name in EXACT_FIELDS:
                assert getattr(point, name) == getattr(expected, name)
                if name not in ("mean_new_tokens", "length_cap_hits"):
                    assert getattr(point, f"{name}_interval") == getattr(expected, f"{name}_interval")


@pytest.fixture(scope="module")
def arguments(llama_pair, head, tokenizer, long_task):
    return (*llama_pair, tokenizer, long_task, SAMPLES, {"head": head, "kl": KLRule(1.0)}, [0.5])


@pytest.fixture(scope="module")
def one_by_one(arguments):
    return measure_frontier(*arguments, progress=False)


@pytest.mark.parametrize("num_timed", [1, 3, 16])
def test_batches_equal_one_by_one(arguments, one_by_one, num_timed):
    batched = measure_frontier(*arguments, batch_size=4, num_timed=num_timed, progress=False)
    assert_same(one_by_one, batched, len(SAMPLES))
    assert len({n for q in one_by_one.questions.values() for n in q.new_tokens}) > 3
    timed = min(num_timed, len(SAMPLES))
    assert batched[ASSISTED].n == timed and batched.settings["num_timed"] == timed
    assert all(len(q.seconds) == timed for q in batched.questions.values())


def test_the_number_of_calls(llama_pair, tokenizer, long_task, monkeypatch):
    """Timed questions alone, the others in batches of at most 4; and each strategy once before, to warm up."""
    sizes = []

    def decode(self, strategy, prompts, original=Decoder.decode):
        sizes.append(len(prompts))
        return original(self, strategy, prompts)

    monkeypatch.setattr(Decoder, "decode", decode)
    arguments = (*llama_pair, tokenizer, long_task, SAMPLES, {}, ())
    options = {"baselines": False, "progress": False}
    measure_frontier(*arguments, batch_size=4, num_timed=2, **options)
    assert sizes == [1, 1, 1, 4, 3]
    sizes.clear()
    measure_frontier(*arguments, **options)
    assert sizes == [1] * (1 + len(SAMPLES))
    sizes.clear()
    found = measure_frontier(*arguments, batch_size=4, num_timed=2, seconds=0, **options)
    assert sizes == [1, 1] and found.settings["n"] == 1


def test_models_that_take_no_batches(tokenizer, long_task):
    torch.manual_seed(0)
    shape = {"vocab_size": VOCAB, "hidden_size": 32, "n_layer": 1, "n_head": 4, "eos_token_id": 2}
    pair = [BloomForCausalLM(BloomConfig(**shape)).eval() for _ in range(2)]
    options = {"max_new_tokens": 6, "baselines": False, "progress": False}
    with pytest.warns(UserWarning, match="answered one at a time.*BloomForCausalLM") as caught:
        found = measure_frontier(*pair, tokenizer, long_task, SAMPLES[:3], TopKRule(2), batch_size=4, **options)
    assert found.settings["batch_size"] == 1 and found.settings["num_timed"] == 3
    assert len([w for w in caught if "one at a time" in str(w.message)]) == 1


@pytest.mark.slow
def test_batches_of_the_embedded_pair_equal_one_by_one():
    target, draft, tokenizer = load_pair()
    task = word_problems_task()
    judges = {"top-2": TopKRule(2), "kl": KLRule(1.0)}
    arguments = (target, draft, tokenizer, task, task.load("test", 17), judges)
    options = {"num_assistant_tokens": 16, "progress": False}
    one_by_one = measure_frontier(*arguments, **options)
    assert_same(one_by_one, measure_frontier(*arguments, batch_size=16, num_timed=1, **options), 17)
    assert 0 < one_by_one["draft alone"].accuracy < 1
