"""The benchmark scripts run as they are, on the embedded pair and two samples, and go on from their answers."""

import json
import runpy
import sys
from pathlib import Path

import pytest

from hf_autojudge.demo.embedded import PAIR

ROOT = Path(__file__).parents[2]
SAMPLES = {
    "gsm8k": {"question": "Ann has 3 apples and gets 4. How many has she?", "answer": "#### 7"},
    "math": {"problem": "What is $3 + 4$?", "solution": "It is $\\boxed{7}$.", "level": "Level 1", "type": "Algebra"},
    "mbpp": {"text": "Write a function that adds.", "test_list": ["assert add(3, 4) == 7"]},
    "spec_bench": {"turns": ["Add 3 and 4.", "Now add 5."], "category": "math"},
}


def script(name):
    return ROOT / "examples" / f"benchmark_{name}.py"


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A function that runs a script on two samples."""

    def run(name, *options):
        first = SAMPLES[name]
        second = first | ({"category": "writing"} if name == "spec_bench" else {})
        (tmp_path / "samples.jsonl").write_text("\n".join(map(json.dumps, (first, second, first))))
        models = ("--target", PAIR / "target", "--draft", PAIR / "draft", "--judge", ROOT / "hub_cards/embedded-pair")
        settings = ("--rule", "topk:2", "--rule", "typical", "--batch-size", 2, "--max-new-tokens", 12)
        machine = (
            "--dtype",
            "float32",
            "--device",
            "cpu",
            "--folder",
            tmp_path / "answers",
            "--out",
            tmp_path / "out",
        )
        data = ("--dataset", tmp_path / "samples.jsonl", "--max-samples", 2)
        arguments = (script(name), *models, *settings, *machine, *data, *options)
        monkeypatch.setattr(sys, "argv", list(map(str, arguments)))
        monkeypatch.syspath_prepend(ROOT / "examples")  # as Python does for a script
        runpy.run_path(str(script(name)), run_name="__main__")

    return run


@pytest.mark.parametrize("name", SAMPLES)
def test_scripts_are_short(name):
    assert len(script(name).read_text().splitlines()) < 60


@pytest.mark.slow
@pytest.mark.parametrize("name", SAMPLES)
def test_a_script_measures_and_goes_on(name, run, tmp_path, capsys):
    options = ("--allow-code-execution",) if name == "mbpp" else ()
    run(name, *options)
    printed = capsys.readouterr().out
    kept = (tmp_path / "answers" / "answers.jsonl").read_text()
    run(name, *options)
    assert (tmp_path / "answers" / "answers.jsonl").read_text() == kept
    assert capsys.readouterr().out == printed and "TopKRule(k=2)" in printed
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")
    report = json.loads((tmp_path / "out.json").read_text())
    if name == "spec_bench":
        rows = {(row["category"], row["judge"]): row for row in report}
        assert {category for category, _ in rows} == {"math", "writing", "all"} and len(rows) == 3 * 7
        assert rows["all", "threshold 0"]["equal"] == rows["math", "plain greedy"]["equal"] == 1
        assert rows["all", "plain greedy"]["n"] == 2 and rows["math", "TopKRule(k=2)"]["n"] == 1
        assert rows["all", "plain greedy"]["accepted_per_target_call"] == 1
        assert rows["all", "draft alone"]["accepted_per_target_call"] is None
        assert rows["writing", "TopKRule(k=2)"]["tokens_per_second"] > 0
    else:
        names = [point["name"] for point in report["points"]]
        assert report["settings"]["task"] == name and report["settings"]["n"] == 2
        assert "TopKRule(k=2)" in names and any(found.startswith("AutoJudge, threshold") for found in names)


def test_programs_run_only_with_consent(run, monkeypatch):
    monkeypatch.delenv("HF_ALLOW_CODE_EVAL", raising=False)
    with pytest.raises(ValueError, match="HF_ALLOW_CODE_EVAL"):
        run("mbpp")
