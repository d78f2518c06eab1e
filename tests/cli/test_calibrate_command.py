"""`calibrate` chooses a threshold only if the data support it."""

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
