"""The embedded pair is what it says, and the demo runs from end to end."""

import json

import pytest
import torch
from rich.console import Console

from hf_autojudge import AutoJudgeHead, ExactMatchRule
from hf_autojudge.demo.embedded import PAIR, load_pair
from hf_autojudge.demo.task import word_problems_task


@pytest.fixture(scope="module")
def pair():
    return load_pair()


def test_size_and_format():
    files = [path for path in PAIR.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 10e6
    assert {path.suffix for path in files} <= {".json", ".jsonl", ".safetensors"}


def test_the_target_solves_and_the_draft_half_solves(pair):
    target, draft, tokenizer = pair
    task = word_problems_task()
    rows = task.load("validation", 40)
    right = {"target": 0, "draft": 0}
    for row in rows:
        ids = torch.tensor([task.prompt(row, tokenizer)])
        for name, model in (("target", target), ("draft", draft)):
            out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=task.max_new_tokens)
            right[name] += task.is_correct(tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True), row)
    assert right["target"] >= 36 and 8 <= right["draft"] <= 34


def test_threshold_zero_writes_the_targets_answers(pair):
    target, draft, tokenizer = pair
    task = word_problems_task()
    for row in task.load("validation", 5):
        ids = torch.tensor([task.prompt(row, tokenizer)])
        settings = {"attention_mask": torch.ones_like(ids), "max_new_tokens": task.max_new_tokens}
        plain = target.generate(ids, **settings)
        judged = target.generate(ids, assistant_model=draft, judge=ExactMatchRule(), **settings)
        assert torch.equal(plain, judged)


def test_demo_from_end_to_end(tmp_path):
    from hf_autojudge.demo.run import run_demo

    console = Console(record=True, width=160)
    run_demo(tmp_path, seconds=35, num_assistant_tokens=16, console=console)
    text = console.export_text()
    assert "Validation AUC" in text and "accepted" in text
    head = AutoJudgeHead.from_pretrained(tmp_path / "judge")
    assert head.num_assistant_tokens == 16
    points = json.loads((tmp_path / "judge" / "frontier.json").read_text())["points"]
    assert {"plain greedy", "assisted (transformers)", "threshold 0", "top-2"} < {p["name"] for p in points}
    assert (tmp_path / "judge" / "README.md").read_text().startswith("---")
    page = (tmp_path / "answer.html").read_text()
    assert "<html" in page and "####" in page
