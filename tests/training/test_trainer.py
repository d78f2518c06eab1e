"""The trainer does what the functions and the commands do, reports, and resumes."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import fields, replace
from pathlib import Path
from unittest.mock import patch

import pytest
from transformers import TrainerCallback

import hf_autojudge
from hf_autojudge import AutoJudgeHead, TopKRule
from hf_autojudge.demo.embedded import load_pair
from hf_autojudge.demo.task import word_problems_task
from hf_autojudge.evaluation.decoder import Decoder
from hf_autojudge.training import (
    DraftLengthChoice,
    JudgeTrainer,
    JudgeTrainingArguments,
    calibrate_threshold,
    fit_store,
    trainer,
)

EXAMPLE = Path(hf_autojudge.__file__).parents[2] / "examples" / "train_judge.py"
SMALL = {
    "max_train_samples": 12,
    "max_validation_samples": 2,
    "max_test_samples": 2,
    "validation_share": 0.4,
    "num_assistant_tokens": 8,
}


@pytest.fixture(scope="module")
def pair():
    return load_pair()


@pytest.fixture(scope="module")
def trained(pair, tmp_path_factory):
    """A trainer after `train`, and its folder."""
    folder = tmp_path_factory.mktemp("trained") / "judge"
    args = JudgeTrainingArguments(output_dir=str(folder), thresholds=[0.5], **SMALL)
    made = JudgeTrainer(*pair, word_problems_task(), args)
    return made, made.train(), folder


def test_train_equals_the_functions(trained, pair):
    made, choice, folder = trained
    target, draft, tokenizer = pair
    result = fit_store(target, draft, folder / "labels", 8, validation_share=0.4)
    task = word_problems_task()
    samples = task.load("validation", 2)
    expected, _ = calibrate_threshold(
        target, draft, tokenizer, task, samples, result.head, thresholds=[0.5], num_assistant_tokens=8
    )
    assert (choice.threshold, [row["accuracy_drop"] for row in choice.rows]) == (
        expected.threshold,
        [row["accuracy_drop"] for row in expected.rows],
    )
    result.head.config.threshold = expected.threshold
    saved = AutoJudgeHead.from_pretrained(folder)
    for name, value in result.head.state_dict().items():
        assert value.equal(saved.state_dict()[name]), name
    assert made.judge.threshold == saved.threshold == expected.threshold
    assert saved.config.thresholds == result.head.config.thresholds and saved.config.task == "word_problems"


def test_train_writes_the_reports(trained):
    _, choice, folder = trained
    fit, calibration = (json.loads((folder / f"{name}.json").read_text()) for name in ("fit", "calibration"))
    assert fit["labels"]["method"] == "autojudge" and 0 <= fit["auc"] <= 1
    assert calibration["reason"] == choice.reason and calibration["max_accuracy_drop"] == 0.01
    assert len(calibration["validation_prompts"]) == 2 and calibration["draft_length"] is None
    assert fit["log_loss"] > 0 and sum(row["count"] for row in fit["reliability"]) == fit["n_validation"]
    assert (folder / "reliability.png").exists()
    assert (folder / "README.md").read_text().startswith("---")


def test_test_prompts_that_the_judge_was_calibrated_on_are_refused(trained, pair, tmp_path):
    _, _, folder = trained
    task = word_problems_task()
    overlapping = replace(task, load=lambda split, n: [*task.load("validation", 1), *task.load(split, 2)])
    for output_dir, judge in ((folder, None), (tmp_path, AutoJudgeHead.from_pretrained(folder))):
        args = JudgeTrainingArguments(output_dir=str(output_dir), thresholds=[0.5], **SMALL)
        with pytest.raises(ValueError, match="1 of 3 test prompts are also validation prompts"):
            JudgeTrainer(*pair, overlapping, args, judge=judge).evaluate()


def test_the_draft_length_is_tuned_before_calibrating(trained, pair, tmp_path):
    head = AutoJudgeHead.from_pretrained(trained[2])
    head.config.num_candidate_tokens = None
    table = {row["threshold"]: row["recall"] for row in head.config.thresholds}
    tuned_at = []

    def tune(target, draft, tokenizer, task, samples, judge, **options):
        tuned_at.append(judge.threshold)
        assert len(samples) == 2
        judge.config.num_candidate_tokens, judge.config.confidence_threshold = 6, 0.25
        return DraftLengthChoice(6, 0.25, 100.0, [])

    options = SMALL | {"num_assistant_tokens": None, "tune_draft_length": True, "output_dir": str(tmp_path)}
    made = JudgeTrainer(*pair, word_problems_task(), JudgeTrainingArguments(**options), judge=head)
    with patch.object(trainer, "tune_draft_length", tune), patch.object(trainer, "calibrate_threshold") as calibrate:
        calibrate.side_effect = lambda *args, **_: (tuned_at.append("calibrated"), calibrate_threshold(*args))[1]
        with patch.object(head.config, "thresholds", head.config.thresholds[:2]):
            made.calibrate()
    assert table[tuned_at[0]] >= 0.95 and tuned_at[1:] == ["calibrated"]
    report = json.loads((tmp_path / "calibration.json").read_text())
    assert report["draft_length"]["num_assistant_tokens"] == report["settings"]["num_assistant_tokens"] == 6
    saved = AutoJudgeHead.from_pretrained(tmp_path)
    assert (saved.num_assistant_tokens, saved.config.confidence_threshold) == (6, 0.25)
    assert saved.threshold == 0.0  # two prompts support none


@pytest.mark.slow
def test_another_trainer_goes_on_from_the_folder(trained, pair):
    _, _, folder = trained
    args = JudgeTrainingArguments(output_dir=str(folder), thresholds=[0.5], **SMALL)
    frontier = JudgeTrainer(*pair, word_problems_task(), args).evaluate({"top-2": TopKRule(2)})
    assert {"plain greedy", "threshold 0", "AutoJudge, threshold 0.5", "top-2"} <= {p.name for p in frontier.points}
    assert json.loads((folder / "frontier.json").read_text())["settings"]["n"] == 2
    assert (folder / "frontier.png").exists()


@pytest.mark.parametrize(("verb", "calls"), [("calibrate", 3), ("evaluate", 7)])  # each strategy warms up first
def test_a_stopped_run_goes_on_and_other_settings_start_anew(trained, pair, tmp_path, verb, calls):
    def run(stop_after=None, **options):
        """Which strategies answered how many prompts, until the run was stopped."""
        decoded = []

        def decode(self, strategy, prompts, original=Decoder.decode):
            if len(decoded) == stop_after:
                raise KeyboardInterrupt
            decoded.append((strategy.name, len(prompts)))
            return original(self, strategy, prompts)

        args = SMALL | {"thresholds": [0.5], "max_new_tokens": 12, "output_dir": str(tmp_path)} | options
        head = AutoJudgeHead.from_pretrained(trained[2])
        made = JudgeTrainer(*pair, word_problems_task(), JudgeTrainingArguments(**args), judge=head)
        with patch.object(Decoder, "decode", decode):
            if stop_after is None:
                getattr(made, verb)()
            else:
                with pytest.raises(KeyboardInterrupt):
                    getattr(made, verb)()
        return decoded

    def folders():
        return sorted(tmp_path.glob(f"answers/{verb}-*"))

    run(stop_after=calls)
    (folder,) = folders()
    kept = (folder / "answers.jsonl").read_text()
    assert kept
    run()
    whole = (folder / "answers.jsonl").read_text()
    assert whole.startswith(kept) and len(whole) > len(kept)
    assert run() == [] and folders() == [folder]  # nothing is missing
    more = {"max_validation_samples": 3, "max_test_samples": 3}
    assert 0 < sum(n for _, n in run(**more)) < 3 * len(run(max_new_tokens=11, **more))
    assert len(folders()) == 2 and (folder / "answers.jsonl").read_text().startswith(whole)
    assert not (tmp_path / "answers" / "config.json").exists()


class Recorder(TrainerCallback):
    def __init__(self):
        self.events, self.logs = [], []

    def on_train_begin(self, args, state, control, **kwargs):
        self.events.append("begin")

    def on_log(self, args, state, control, logs=None, **kwargs):
        self.logs.append((state.global_step, logs))

    def on_train_end(self, args, state, control, **kwargs):
        self.events.append("end")


@pytest.mark.slow
def test_callbacks_and_tensorboard_get_the_figures(pair, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    recorder = Recorder()
    args = JudgeTrainingArguments(
        output_dir=str(tmp_path), max_train_samples=8, validation_share=0.4, report_to="tensorboard"
    )
    made = JudgeTrainer(*pair, word_problems_task(), args, callbacks=[recorder])
    store = made.label()
    result = made.fit()
    assert recorder.events == ["begin", "end"] * 2
    labels = [logs["label/mismatches"] for _, logs in recorder.logs if "label/mismatches" in logs]
    assert len(labels) == 8 and labels[-1] == sum(len(item.mismatches) for item in store.labelled())
    (folder,) = (tmp_path / "runs").iterdir()
    events = EventAccumulator(str(folder)).Reload()
    written = {tag: [event.value for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    assert written["train/label/mismatches"] == labels
    assert written["train/fit/validation_auc"] == pytest.approx([row["validation_auc"] for row in result.grid])
    assert json.loads(args.to_json_string())["report_to"] == "tensorboard"


def test_push_to_hub_uploads_the_folder(trained):
    made, _, folder = trained
    with patch.object(trainer, "push_judge") as push:
        made.push_to_hub()
        assert push.call_args.args == (str(folder), "judge")
        with patch.object(made.args, "hub_model_id", "org/x"), patch.object(made.args, "hub_private_repo", True):
            made.push_to_hub("Words")
    assert push.call_args.args == (str(folder), "org/x")
    assert push.call_args.kwargs == {"private": True, "token": None, "commit_message": "Words"}


def test_every_argument_has_a_help():
    assert all(len(field.metadata["help"]) > 10 for field in fields(JudgeTrainingArguments))


def test_the_token_is_not_reported():
    assert "hf_secret" not in JudgeTrainingArguments(hub_token="hf_secret").to_json_string()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "guess"}, "method must be one of autojudge, selfjudge, annotated; got 'guess'"),
        ({"max_train_samples": 0}, "max_train_samples must be at least 1; got 0"),
        ({"validation_share": 1}, "validation_share must be between 0 and 1; got 1"),
        ({"confidence": 0.5}, "confidence must be between 0.5 and 1"),
        ({"num_assistant_tokens": 8, "tune_draft_length": True}, "num_assistant_tokens is 8, but tune_draft_length"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        JudgeTrainingArguments(**options)


def test_what_is_missing_is_named(pair, tmp_path):
    made = JudgeTrainer(*pair, args=JudgeTrainingArguments(output_dir=str(tmp_path)))
    with pytest.raises(ValueError, match="holds no judge yet"):
        _ = made.judge
    with pytest.raises(ValueError, match="no task"):
        made.label()
    with pytest.raises(ValueError, match="not a label store"):
        made.fit()


def run(command, folder):
    """Start a command, on one thread, since sums of several threads are rounded otherwise."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL)


def run_killed(command, folder, num_prompts):
    """Run a command, kill it when the store holds `num_prompts` prompts, and run it again to its end."""
    process = run(command, folder)
    prompts = folder / "judge" / "labels" / "prompts"
    while len(list(prompts.glob("[0-9]*.parquet"))) < num_prompts:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert run(command, folder).wait() == 0


@pytest.mark.slow
def test_the_script_and_the_four_commands_resume_and_make_the_same_judge(tmp_path):
    script = EXAMPLE.read_text()
    assert len(script.splitlines()) <= 20
    for name, number, less in (("train", 200, 40), ("validation", 60, 4), ("test", 60, 1)):
        assert f"max_{name}_samples={number}" in script
        script = script.replace(f"max_{name}_samples={number}", f"max_{name}_samples={less}")
    by_script, by_commands = tmp_path / "script", tmp_path / "commands"
    for folder in (by_script, by_commands):
        folder.mkdir()
    (by_script / "train.py").write_text(script)
    run_killed([sys.executable, "train.py"], by_script, 3)
    program = [sys.executable, "-m", "hf_autojudge.cli"]
    run_killed([*program, "label", "--max-samples", "40"], by_commands, 3)
    for command in (
        ["fit", "--num-assistant-tokens", "16"],
        ["calibrate", "--max-samples", "4", "--num-assistant-tokens", "16"],
        ["evaluate", "--max-samples", "1", "--num-assistant-tokens", "16", "--threshold", "0.5"],
    ):
        assert run([*program, *command], by_commands).wait() == 0
    for name in ("model.safetensors", "config.json"):
        assert (by_script / "judge" / name).read_bytes() == (by_commands / "judge" / name).read_bytes()
    assert (by_commands / "judge" / "frontier.png").exists()
