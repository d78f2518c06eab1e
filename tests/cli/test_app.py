"""The program starts, its help names the commands, and its errors are one line."""

import importlib
import subprocess
import sys

import pytest

VERBS = ("label", "fit", "calibrate", "evaluate", "generate", "import", "demo")


def test_python_m_starts_it():
    command = [sys.executable, "-m", "hf_autojudge.cli", "--help"]
    finished = subprocess.run(command, capture_output=True, text=True)
    assert finished.returncode == 0 and all(verb in finished.stdout for verb in VERBS), finished.stderr


def test_a_missing_extra_is_named(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("hf_autojudge.cli")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "typer", None)
    with pytest.raises(SystemExit, match=r"typer.*pip install 'hf_autojudge\[demo\]'"):
        importlib.import_module("hf_autojudge.cli")


def test_help_teaches(run):
    for arguments in ([], *([verb] for verb in VERBS)):
        finished = run(*arguments, "--help")
        assert finished.code == 0
        assert all(verb in finished.stdout for verb in (VERBS if not arguments else arguments))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fit", "nothing", "out"], "not a label store"),
        (["evaluate", "nothing"], "nothing"),
        (["label", "out", "--task", "sums"], "one of gsm8k, math"),
        (["label", "out", "--target", "org/only-one"], "both --target and --draft"),
        (["label", "out", "--max-samples", "0"], "max-samples"),
        (["label", "out", "--max-samples", "few"], "--max-samples"),
        (["label", "out", "--dtype", "int4"], "int4"),
        (["label", "out", "--device", "cudaa"], "cudaa"),
        (["label", "out", "--task", "gsm8k", "--dataset", "broken.jsonl"], "broken.jsonl"),
        (["label", "out", "--task", "gsm8k", "--dataset", "columns.jsonl"], "lacks ['question']"),
        (["label", "out", "--task", "mbpp"], "HF_ALLOW_CODE_EVAL"),
        (["label", "out", "--method", "guess"], "autojudge, selfjudge, annotated"),
        (["label", "out", "--method", "annotated"], "needs --dataset"),
        (["label", "out", "--engine", "slurm"], "local or ray"),
        (["label", "out", "--rollouts", "-1"], "rollouts must be at least 0"),
        (["import", "tokens.pt", "out", "--target", "a", "--draft", "b"], "is a pickle"),
        (["fit", "labels", "out", "--validation-share", "2"], "validation-share"),
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
