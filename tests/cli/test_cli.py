"""The command line: the four verbs and generate, on the embedded pair; errors in one line."""

import json
import subprocess
import sys

import pytest

from hf_autojudge import AutoJudgeHead
from hf_autojudge.cli import main
from hf_autojudge.cli.options import parse_rule
from hf_autojudge.labeling import LabelStore

VERBS = ("label", "fit", "calibrate", "evaluate", "generate", "import", "demo")


def run(*arguments, folder=None):
    command = [sys.executable, "-m", "hf_autojudge.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder)


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    """A judge made by the first two verbs."""
    folder = tmp_path_factory.mktemp("cli")
    assert run("label", folder / "labels", "--limit", 3).returncode == 0
    resumed = run("label", folder / "labels", "--limit", 12)
    assert resumed.returncode == 0 and "12 prompts" in resumed.stdout
    assert len(LabelStore(folder / "labels").load()) == 12
    fitted = run("fit", folder / "labels", folder / "judge", "--validation-share", 0.4, "--num-assistant-tokens", 8)
    assert fitted.returncode == 0, fitted.stderr
    assert "validation AUC" in fitted.stdout
    return folder / "judge"


def test_fit_writes_a_judge(judge):
    config = AutoJudgeHead.from_pretrained(judge).config
    assert (config.target, config.draft) == ("hf_autojudge/embedded-target", "hf_autojudge/embedded-draft")
    assert config.num_candidate_tokens == 8 and config.task == "word_problems" and config.thresholds
    assert json.loads((judge / "fit.json").read_text())["auc"] > 0.5


def test_calibrate_evaluate_generate(judge, tmp_path):
    done = run("calibrate", judge, "--limit", 4)
    assert done.returncode == 0, done.stderr
    assert "do not support" in done.stdout and "prompts" in done.stdout, (
        "four prompts cannot show a drop below 1 point"
    )
    assert AutoJudgeHead.from_pretrained(judge).threshold == 0.0
    done = run(
        "evaluate", judge, "--limit", 3, "--threshold", 0.5, "--rule", "topk:2", "--rule", "kl:0.5", "--out", tmp_path
    )
    assert done.returncode == 0, done.stderr
    names = [point["name"] for point in json.loads((tmp_path / "frontier.json").read_text())["points"]]
    assert {"plain greedy", "assisted (transformers)", "threshold 0", "topk:2", "kl:0.5"} < set(names)
    assert (tmp_path / "frontier.png").stat().st_size > 10_000 and (judge / "README.md").exists()
    done = run("generate", judge, "Question: Ann has 3 apples.", "--threshold", 0.3, "--max-new-tokens", 20)
    assert done.returncode == 0 and "accepted per target" in done.stdout, done.stderr


def test_marked_answers_make_a_judge_of_the_target_alone(tmp_path):
    numbers = range(3, 9)
    rows = [
        {"prompt": f"Ann has {i} apples and gets {j}.", "answer": f"Ann has {i + j + (j % 2)} apples.", "wrong": wrong}
        for i in numbers
        for j in numbers
        for wrong in ([[8, 9]] if j % 2 else [],)
    ]
    (tmp_path / "answers.jsonl").write_text("\n".join(map(json.dumps, rows)))
    done = run("label", "labels", "--method", "annotated", "--data", "answers.jsonl", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    done = run("fit", "labels", "judge", "--validation-share", 0.4, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    head = AutoJudgeHead.from_pretrained(tmp_path / "judge")
    assert list(head.config.features) == ["draft_token.target"] and head.config.draft_hidden_size == 0
    done = run("calibrate", "judge", folder=tmp_path)
    assert done.returncode == 2 and "name one with --task" in done.stderr


def test_a_second_fit_with_a_hidden_layer_reads_the_features(judge, tmp_path):
    options = ("--hidden-size", 4, "--features", "draft_token.target,scalar.kl", "--validation-share", 0.4)
    done = run("fit", judge.parent / "labels", tmp_path / "judge", *options)
    assert done.returncode == 0 and "hidden layer of 4" in " ".join(done.stdout.split()), done.stderr
    assert AutoJudgeHead.from_pretrained(tmp_path / "judge").config.hidden_size == 4


def test_selfjudge_labels(tmp_path):
    done = run("label", "labels", "--method", "selfjudge", "--threshold", 3, "--limit", 3, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    settings = LabelStore(tmp_path / "labels").settings
    assert (settings["method"], settings["threshold"], settings["suffix"]) == ("selfjudge", 3, 20)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fit", "nothing", "out"], "not a label store"),
        (["evaluate", "nothing"], "nothing"),
        (["label", "out", "--task", "sums"], "one of gsm8k, math"),
        (["label", "out", "--target", "org/only-one"], "both --target and --draft"),
        (["label", "out", "--limit", "0"], "limit"),
        (["label", "out", "--limit", "few"], "--limit"),
        (["label", "out", "--dtype", "int4"], "int4"),
        (["label", "out", "--device", "cudaa"], "cudaa"),
        (["label", "out", "--task", "gsm8k", "--data", "broken.jsonl"], "broken.jsonl"),
        (["label", "out", "--task", "gsm8k", "--data", "columns.jsonl"], "lacks ['question']"),
        (["label", "out", "--task", "mbpp"], "HF_ALLOW_CODE_EVAL"),
        (["label", "out", "--method", "guess"], "autojudge, selfjudge, annotated"),
        (["label", "out", "--method", "annotated"], "needs --data"),
        (["label", "out", "--engine", "slurm"], "local or ray"),
        (["label", "out", "--rollouts", "-1"], "rollouts must be at least 0"),
        (["import", "tokens.pt", "out", "--target", "a", "--draft", "b"], "is a pickle"),
        (["fit", "labels", "out", "--validation-share", "2"], "validation-share"),
        (["frobnicate"], "frobnicate"),
    ],
)
def test_errors_are_one_line_and_exit_code_2(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.jsonl").write_text('{"question": ')
    (tmp_path / "columns.jsonl").write_text('{"text": "x", "answer": "1"}')
    monkeypatch.setattr(sys, "argv", ["hf-autojudge", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("Error: ") and message in last


def test_rules_are_parsed():
    from hf_autojudge import KLRule, TopKRule

    assert parse_rule("topk:3") == TopKRule(3) and parse_rule("kl:0.25") == KLRule(0.25)
    for wrong in ("topk", "topk:x", "kl:-1", "mlp:3"):
        with pytest.raises(ValueError, match="--rule"):
            parse_rule(wrong)


def test_help_teaches(monkeypatch, capsys):
    for arguments in ([], *([verb] for verb in VERBS)):
        monkeypatch.setattr(sys, "argv", ["hf-autojudge", *arguments, "--help"])
        with pytest.raises(SystemExit) as stop:
            main()
        assert not stop.value.code
        text = capsys.readouterr().out
        assert all(verb in text for verb in (VERBS if not arguments else arguments))
