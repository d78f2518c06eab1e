"""Tasks: prompts, outcomes, and splits that share no rows."""

import json

import pytest

from hf_autojudge.tasks import gsm8k_task
from hf_autojudge.tasks.gsm8k import final_number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("so 3 + 4 = 7\n#### 7", "7"),
        ("#### 1,200", "1200"),
        ("#### 5\nno, #### 6.50", "6.5"),
        ("#### -3.0", "-3"),
        ("the total is $1,234.", "1234"),
        ("thus \\boxed{42} apples, 7 left", "42"),
        ("#### $18", "18"),
        ("no number at all", None),
        ("", None),
        ("1,000,000", "1000000"),
    ],
)
def test_final_number(text, number):
    assert final_number(text) == number


def test_splits_share_no_rows(tmp_path):
    path = tmp_path / "train.jsonl"
    rows = [{"question": f"q{i}", "answer": f"... #### {i}"} for i in range(35)]
    path.write_text("\n".join(map(json.dumps, rows)))
    task = gsm8k_task(str(path))
    train, validation, test = (task.load(split, None) for split in ("train", "validation", "test"))
    assert len(train) == 32 and len(validation) == 3 and len(test) == 35
    assert not {r["question"] for r in train} & {r["question"] for r in validation}
    assert task.load("train", 4) == train[:4]
    assert task.is_correct("it is 7.0", train[7]) and not task.is_correct("8", train[7])
    assert task.same_outcome({}, "a 3", "b 3.0") and not task.same_outcome({}, "3", "none")


def test_unknown_split_and_missing_file(tmp_path):
    with pytest.raises(ValueError, match="training"):
        gsm8k_task(str(tmp_path)).load("training", 1)
    with pytest.raises(ValueError, match=r"no file .*x\.jsonl"):
        gsm8k_task(str(tmp_path / "x.jsonl")).load("train", 1)
