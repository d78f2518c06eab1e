"""The published judge of the embedded pair loads, belongs to that pair, accepts more tokens than threshold 0, and has
an up-to-date card."""

import shutil
from pathlib import Path

import pytest
import torch

from hf_autojudge import AutoJudgeHead
from hf_autojudge.demo.embedded import load_pair
from hf_autojudge.demo.task import word_problems_task
from hf_autojudge.hub import write_card

FOLDER = Path(__file__).parents[2] / "hub_cards" / "embedded-pair"


def test_its_card_is_up_to_date(tmp_path):
    copy = shutil.copytree(FOLDER, tmp_path / FOLDER.name)
    write_card(copy)
    assert (copy / "README.md").read_text() == (FOLDER / "README.md").read_text()


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
