"""The embedded pair's task."""

import pytest

from hf_autojudge.demo.task import word_problems_task


def test_can_be_sent_to_other_machines():
    """As labelling on a Ray cluster does."""
    cloudpickle = pytest.importorskip("cloudpickle")
    task = word_problems_task()
    for _ in range(2):
        copy = cloudpickle.loads(cloudpickle.dumps(task))
        assert (copy.name, copy.threads) == (task.name, task.threads)
        for either in (task, copy):
            assert either.same_outcome({}, r"\boxed{7}", r"\boxed{7}")


def test_splits():
    task = word_problems_task()
    assert task.load("train", 3) == task.load("train", 5)[:3] and len(task.load("test", None)) == 500
    assert all(task.is_correct(sample["answer"], sample) for sample in task.load("validation", 5))
    with pytest.raises(ValueError, match="must be train, validation or test; got 'training'"):
        task.load("training", 1)
