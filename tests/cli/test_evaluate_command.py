"""`evaluate` writes the frontier, its picture and the card."""

import json

import pytest


@pytest.mark.slow
def test_evaluate_writes_the_reports(run, judge, tmp_path):
    rules = ("--rule", "topk:2", "--rule", "kl:0.5")
    finished = run("evaluate", judge, "--max-samples", 3, "--threshold", 0.5, *rules, "--out", tmp_path)
    assert finished.code == 0, finished.stderr
    names = [point["name"] for point in json.loads((tmp_path / "frontier.json").read_text())["points"]]
    assert {"plain greedy", "assisted (transformers)", "threshold 0", "topk:2", "kl:0.5"} < set(names)
    assert (tmp_path / "frontier.png").stat().st_size > 10_000 and (judge / "README.md").exists()
