"""The program starts, its help names the commands, and its errors are one line."""

import inspect
import subprocess
import sys
from inspect import Parameter
from typing import get_args

import pytest
from typer.models import OptionInfo

from hf_autojudge import __version__
from hf_autojudge.cli.app import app

MODELS = ("--target-model-name-or-path", "a", "--draft-model-name-or-path", "b")
VERBS = ("label", "fit", "calibrate", "evaluate", "generate", "import", "demo")


def test_python_m_starts_it():
    command = [sys.executable, "-m", "hf_autojudge.cli", "--help"]
    finished = subprocess.run(command, capture_output=True, text=True)
    assert finished.returncode == 0 and all(verb in finished.stdout for verb in VERBS), finished.stderr


def test_help_teaches(run):
    for arguments in ([], *([verb] for verb in VERBS)):
        finished = run(*arguments, "--help")
        assert finished.code == 0
        assert all(verb in finished.stdout for verb in (VERBS if not arguments else arguments))


def test_every_option_says_its_default_and_its_unit():
    """Where `None` stands for a default, the help says which one; a number's help names its unit."""
    units = ("number", "tokens", "share", "between", "temperature", "seed", "nats", "minutes")
    for command in app.registered_commands:
        for parameter in inspect.signature(command.callback, eval_str=True).parameters.values():
            kind, option = get_args(parameter.annotation)
            if not isinstance(option, OptionInfo):
                continue
            where = f"{command.callback.__name__}, {parameter.name}: {option.help}"
            shown = option.show_default and parameter.default not in (None, Parameter.empty)
            assert shown or "Default: " in option.help, where
            numeric = not {int, float, list[float]}.isdisjoint({kind, *get_args(kind)})
            assert not numeric or any(unit in option.help.lower() for unit in units), where


def test_version(run):
    finished = run("--version")
    assert finished.code == 0 and finished.stdout.strip() == __version__


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fit"], "not a label store"),
        (["fit", "--labels-dir", "nothing"], "not a label store"),
        (["fit", "--validation-share", "2"], "--validation-share must be between 0 and 1; got 2.0"),
        (["evaluate", "--output-dir", "nothing"], "holds no judge yet; run `hf-autojudge fit --output-dir nothing`"),
        (["calibrate", "--threshold", "2"], "--threshold must be between 0 and 1; got [2.0]"),
        (["fit", "--feature", "logits"], "--feature must be of draft_token.draft"),
        (["evaluate", "--judge", "nothing"], "nothing"),
        (["evaluate", "--rule", "topk:many"], "--rule topk:many"),
        (["calibrate", "--confidence", "1"], "--confidence must be between 0.5 and 1; got 1.0"),
        (["generate", "nothing", "Hello"], "nothing"),
        (["label", "--task", "sums"], "one of gsm8k, math"),
        (["label", "--target-model-name-or-path", "org/only-one"], "--draft-model-name-or-path"),
        (["label", "--draft-model-name-or-path", "org/only-one"], "--target-model-name-or-path"),
        (["label", "--max-samples", "0"], "--max-samples must be at least 1; got 0"),
        (["label", "--max-samples", "few"], "--max-samples"),
        (["label", "--batch-size", "0"], "--batch-size must be at least 1; got 0"),
        (["label", "--dtype", "int4"], "int4"),
        (["label", "--device", "cudaa"], "cudaa"),
        (["label", "--task", "gsm8k", "--dataset", "broken.jsonl"], "broken.jsonl"),
        (["label", "--task", "gsm8k", "--dataset", "columns.jsonl"], "lacks ['question']"),
        (["label", "--task", "mbpp"], "HF_ALLOW_CODE_EVAL"),
        (["label", "--method", "guess"], "--method must be one of autojudge, selfjudge, annotated; got 'guess'"),
        (["label", "--method", "annotated"], "needs --dataset"),
        (["label", "--engine", "slurm"], "local or ray"),
        (["label", "--rollouts", "-1"], "rollouts must be at least 0"),
        (["label", "--report-to", "paper"], "paper is not supported"),
        (["label", "--target", "org/target"], "--target"),
        (["label", "folder"], "folder"),
        (["import", "tokens.pt", *MODELS], "is a pickle"),
        (["import", "tokens.json"], "--target-model-name-or-path"),
        (["frobnicate"], "frobnicate"),
    ],
)
def test_errors_are_one_line_and_exit_code_2(run, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.jsonl").write_text('{"question": ')
    (tmp_path / "columns.jsonl").write_text('{"text": "x", "answer": "1"}')
    finished = run(*arguments)
    assert finished.code == 2
    last = finished.stderr.strip().splitlines()[-1]
    assert last.startswith("Error: ") and message in last
