"""`calibrate` chooses a threshold only if the data support it."""

import json

import pytest

from hf_autojudge import AutoJudgeHead


@pytest.mark.slow
def test_calibrate_writes_the_threshold(run, judge):
    finished = run("calibrate", "--output-dir", judge, "--max-samples", 4)
    assert finished.code == 0, finished.stderr
    assert "do not support" in finished.stdout and "prompts" in finished.stdout, (
        "four prompts cannot show a drop below 1 point"
    )
    assert AutoJudgeHead.from_pretrained(judge).threshold == 0.0


@pytest.mark.slow
def test_the_choice_does_not_depend_on_the_batch_size(run, judge, tmp_path):
    limits = ("--max-accuracy-drop", 0.6, "--confidence", 0.6)  # such as few prompts support
    reports = []
    for batch_size in (1, 3):
        options = ("--judge", judge, "--output-dir", tmp_path / str(batch_size), "--batch-size", batch_size, *limits)
        finished = run("calibrate", *options, "--max-samples", 7, "--threshold", 0.1, "--threshold", 0.9)
        assert finished.code == 0, finished.stderr
        reports.append(json.loads((tmp_path / str(batch_size) / "calibration.json").read_text()))
    sizes = [report["settings"].pop("batch_size") for report in reports]
    commands = [report["settings"].pop("command") for report in reports]
    assert sizes == [1, 3] and "--batch-size 3" in commands[1]
    assert reports[0] == reports[1] and reports[0]["threshold"] > 0
    finished = run("calibrate", "--output-dir", judge, "--batch-size", 0)
    assert finished.code == 2 and "--batch-size must be at least 1; got 0" in finished.stderr


@pytest.mark.slow
def test_the_draft_length_is_tuned_and_written(run, judge, tmp_path):
    options = ("--judge", judge, "--output-dir", tmp_path, "--tune-draft-length", "--threshold", 0.3)
    finished = run("calibrate", *options, "--max-samples", 2, "--max-new-tokens", 40)
    assert finished.code == 0, finished.stderr
    config = AutoJudgeHead.from_pretrained(tmp_path).config
    assert config.num_candidate_tokens in (4, 8, 16, 32) and config.confidence_threshold in (0.0, 0.4, 0.6, 0.8)
    assert f"{config.num_candidate_tokens} candidate tokens, confidence" in " ".join(finished.stdout.split())
