"""Running commands in this process, and a judge that they made."""

import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from unittest.mock import patch

import pytest

from hf_autojudge.cli import main
from hf_autojudge.labeling import LabelStore


@dataclass
class Finished:
    code: int
    stdout: str
    stderr: str


@pytest.fixture(scope="session")
def run():
    """A function that runs `hf-autojudge` with the given arguments."""

    def run(*arguments):
        stdout, stderr = StringIO(), StringIO()
        with (
            redirect_stdout(stdout),
            redirect_stderr(stderr),
            patch.object(sys, "argv", ["hf-autojudge", *map(str, arguments)]),
            pytest.raises(SystemExit) as stop,
        ):
            main()
        return Finished(stop.value.code or 0, stdout.getvalue(), stderr.getvalue())

    return run


@pytest.fixture(scope="session")
def judge(run, tmp_path_factory):
    """Folder of a judge made by `label`, interrupted and resumed, and `fit`."""
    folder = tmp_path_factory.mktemp("cli")
    output_dir = ("--output-dir", folder / "judge")
    assert run("label", *output_dir, "--max-samples", 3).code == 0
    resumed = run("label", *output_dir, "--max-samples", 12)
    assert resumed.code == 0 and "12 prompts" in resumed.stdout
    assert len(LabelStore(folder / "judge" / "labels").load()) == 12
    fitted = run("fit", *output_dir, "--validation-share", 0.4, "--num-assistant-tokens", 8)
    assert fitted.code == 0, fitted.stderr
    assert "validation AUC" in fitted.stdout
    return folder / "judge"
