"""Loading samples: splits that share no samples, and errors."""

import pytest

from hf_autojudge.tasks import gsm8k_task


def test_splits_share_no_samples(data_file):
    samples = [{"question": f"q{i}", "answer": f"... #### {i}"} for i in range(35)]
    task = gsm8k_task(data_file("train.jsonl", samples))
    train, validation, test = (task.load(split, None) for split in ("train", "validation", "test"))
    assert len(train) == 32 and len(validation) == 3 and len(test) == 35
    assert not {sample["question"] for sample in train} & {sample["question"] for sample in validation}
    assert task.load("train", 4) == train[:4]
    assert task.is_correct("it is 7.0", train[7]) and not task.is_correct("8", train[7])


def test_unknown_split_and_missing_file(tmp_path):
    with pytest.raises(ValueError, match="training"):
        gsm8k_task(str(tmp_path)).load("training", 1)
    with pytest.raises(ValueError, match=r"no file .*x\.jsonl"):
        gsm8k_task(str(tmp_path / "x.jsonl")).load("train", 1)
