"""The demo runs from end to end."""

import json

import pytest
from rich.console import Console

from hf_autojudge import AutoJudgeHead
from hf_autojudge.demo.embedded import load_pair
from hf_autojudge.demo.run import run_demo
from hf_autojudge.demo.task import word_problems_task
from hf_autojudge.training.disjoint import prompt_digests


@pytest.mark.slow
def test_demo_from_end_to_end(tmp_path):
    console = Console(record=True, width=160)
    run_demo(tmp_path, seconds=35, num_assistant_tokens=16, console=console)
    text = console.export_text()
    assert "Validation AUC" in text and "accepted" in text
    head = AutoJudgeHead.from_pretrained(tmp_path / "judge")
    assert head.num_assistant_tokens == 16
    calibration = json.loads((tmp_path / "judge" / "calibration.json").read_text())
    asked = word_problems_task().load("validation", calibration["settings"]["n"])
    assert calibration["validation_prompts"] == prompt_digests(asked, word_problems_task(), load_pair()[2])
    points = json.loads((tmp_path / "judge" / "frontier.json").read_text())["points"]
    assert {"plain greedy", "assisted (transformers)", "threshold 0", "top-2"} < {p["name"] for p in points}
    assert (tmp_path / "judge" / "README.md").read_text().startswith("---")
    page = (tmp_path / "answer.html").read_text()
    assert "<html" in page and "####" in page
