"""`label` with the methods other than the default, which the `judge` fixture runs."""

import json

import pytest

from hf_autojudge import AutoJudgeHead
from hf_autojudge.labeling import LabelStore


def test_annotated_answers_make_a_judge_of_the_target_alone(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    numbers = range(3, 9)
    samples = [
        {"prompt": f"Ann has {i} apples and gets {j}.", "answer": f"Ann has {i + j + (j % 2)} apples.", "wrong": wrong}
        for i in numbers
        for j in numbers
        for wrong in ([[8, 9]] if j % 2 else [],)
    ]
    (tmp_path / "answers.jsonl").write_text("\n".join(map(json.dumps, samples)))
    finished = run("label", "--method", "annotated", "--dataset", "answers.jsonl")
    assert finished.code == 0, finished.stderr
    finished = run("fit", "--validation-share", 0.4)
    assert finished.code == 0, finished.stderr
    head = AutoJudgeHead.from_pretrained(tmp_path / "judge")
    assert list(head.config.features) == ["draft_token.target"] and head.config.draft_hidden_size == 0
    finished = run("calibrate")
    assert finished.code == 2 and "name one with --task" in finished.stderr


def test_labels_for_correctness(run, tmp_path):
    options = ("--labels-dir", tmp_path, "--max-samples", 3)
    finished = run("label", *options, "--outcome", "correct")
    assert finished.code == 0, finished.stderr
    assert "important, 0 helpful (a wrong answer became right)." in " ".join(finished.stdout.split())
    store = LabelStore(tmp_path)
    assert store.settings["outcome"] == "correct"
    finished = run("label", *options)
    assert finished.code == 2 and "outcome was 'correct' and is now 'same'" in " ".join(finished.stderr.split())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--outcome", "right"), "--outcome must be 'same' or 'correct'; got 'right'"),
        (
            ("--outcome", "correct", "--method", "selfjudge"),
            "--outcome must be 'same' with the method selfjudge; got 'correct'",
        ),
    ],
)
def test_bad_outcomes(run, tmp_path, options, message):
    finished = run("label", "--labels-dir", tmp_path / "labels", *options)
    assert finished.code == 2 and message in " ".join(finished.stderr.split())
    assert not (tmp_path / "labels").exists()


def test_selfjudge_labels(run, tmp_path):
    options = ("--method", "selfjudge", "--max-log-likelihood-drop", 3, "--max-samples", 3)
    finished = run("label", "--labels-dir", tmp_path, *options)
    assert finished.code == 0, finished.stderr
    settings = LabelStore(tmp_path).settings
    found = (settings["method"], settings["max_log_likelihood_drop"], settings["num_suffix_tokens"])
    assert found == ("selfjudge", 3, 20)
