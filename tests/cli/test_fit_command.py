"""`fit` writes a judge."""

import json

import pytest

from hf_autojudge import AutoJudgeHead


def test_fit_writes_a_judge(judge):
    config = AutoJudgeHead.from_pretrained(judge).config
    assert (config.target, config.draft) == ("hf_autojudge/embedded-target", "hf_autojudge/embedded-draft")
    assert config.num_candidate_tokens == 8 and config.task == "word_problems" and config.thresholds
    metrics = json.loads((judge / "fit.json").read_text())
    assert metrics["auc"] > 0.5 and 0 < metrics["brier_score"] < 0.25 and len(metrics["reliability"]) == 10


@pytest.mark.slow
def test_a_second_fit_with_a_hidden_layer_reads_the_features(run, judge, tmp_path):
    features = ("--feature", "draft_token.target", "--feature", "scalar.kl")
    folders = ("--labels-dir", judge / "labels", "--output-dir", tmp_path / "judge")
    finished = run("fit", *folders, *features, "--hidden-size", 4, "--validation-share", 0.4)
    assert finished.code == 0 and "hidden layer of 4" in " ".join(finished.stdout.split()), finished.stderr
    assert AutoJudgeHead.from_pretrained(tmp_path / "judge").config.hidden_size == 4
