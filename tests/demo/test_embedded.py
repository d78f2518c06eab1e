"""The embedded pair is small, solves what it should, and decodes losslessly at threshold 0."""

import pytest
import torch

from hf_autojudge import ExactMatchRule
from hf_autojudge.demo.embedded import PAIR, load_pair
from hf_autojudge.demo.task import word_problems_task


@pytest.fixture(scope="module")
def pair():
    return load_pair()


def test_size_and_format():
    files = [path for path in PAIR.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 10e6
    assert {path.suffix for path in files} <= {".json", ".jsonl", ".safetensors"}


@pytest.mark.slow
def test_the_target_solves_and_the_draft_half_solves(pair):
    target, draft, tokenizer = pair
    task = word_problems_task()
    correct = {"target": 0, "draft": 0}
    for sample in task.load("validation", 40):
        ids = torch.tensor([task.prompt(sample, tokenizer)])
        for name, model in (("target", target), ("draft", draft)):
            out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=task.max_new_tokens)
            answer = tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)
            correct[name] += task.is_correct(answer, sample)
    assert correct["target"] >= 36 and 8 <= correct["draft"] <= 34


def test_threshold_zero_writes_the_targets_answers(pair):
    target, draft, tokenizer = pair
    task = word_problems_task()
    for sample in task.load("validation", 5):
        ids = torch.tensor([task.prompt(sample, tokenizer)])
        settings = {"attention_mask": torch.ones_like(ids), "max_new_tokens": task.max_new_tokens}
        plain = target.generate(ids, **settings)
        judged = target.generate(ids, assistant_model=draft, judge=ExactMatchRule(), **settings)
        assert torch.equal(plain, judged)
