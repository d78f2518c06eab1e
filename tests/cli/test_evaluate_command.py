"""`evaluate` writes the frontier, its picture and the card."""

import json

import pytest


@pytest.mark.slow
def test_evaluate_writes_the_reports(run, judge, tmp_path):
    rules = ("--rule", "topk:2", "--rule", "kl:0.5")
    options = ("--output-dir", tmp_path, "--max-samples", 3, "--threshold", 0.5, "--batch-size", 2)
    for chosen, count in (((), 5), (rules, 7)):  # the rules are added to the answers of the first run
        finished = run("evaluate", "--judge", judge, *options, *chosen)
        assert finished.code == 0, finished.stderr
        (answers,) = tmp_path.glob("answers/evaluate-*/answers.jsonl")
        assert len(answers.read_text().splitlines()) == 3 * count
    names = [point["name"] for point in json.loads((tmp_path / "frontier.json").read_text())["points"]]
    assert {"plain greedy", "assisted (transformers)", "threshold 0", "topk:2", "kl:0.5"} < set(names)
    assert (tmp_path / "frontier.png").stat().st_size > 10_000 and not (tmp_path / "README.md").exists()


def test_the_report_of_another_judge_does_not_mix_with_that_of_this_one(run, judge):
    finished = run("evaluate", "--judge", "org/judge", "--output-dir", judge)
    assert finished.code == 2 and "another --output-dir" in finished.stderr
