"""The published judge of the embedded pair loads, belongs to that pair, and accepts more tokens than threshold 0."""

from pathlib import Path

import pytest
import torch

from hf_autojudge import AutoJudgeHead
from hf_autojudge.demo.embedded import load_pair
from hf_autojudge.demo.task import word_problems_task

FOLDER = Path(__file__).parents[2] / "hub_cards" / "embedded-pair"


@pytest.mark.slow
def test_the_published_judge():
    judge = AutoJudgeHead.from_pretrained(FOLDER)
    target, draft, tokenizer = load_pair()
    task = word_problems_task()
    accepted = {0.0: 0.0, judge.threshold: 0.0}
    for sample in task.load("validation", 8):
        ids = torch.tensor([task.prompt(sample, tokenizer)])
        settings = {"attention_mask": torch.ones_like(ids), "max_new_tokens": task.max_new_tokens}
        for threshold in accepted:
            out = target.generate(
                ids,
                assistant_model=draft,
                judge=judge,
                judge_threshold=threshold,
                return_dict_in_generate=True,
                **settings,
            )
            accepted[threshold] += out.judge_stats.accepted_per_target_call
            assert out.judge_stats.drafted > 0 and max(out.judge_stats.histogram) <= judge.num_assistant_tokens == 32
    assert accepted[judge.threshold] > 1.2 * accepted[0.0]
