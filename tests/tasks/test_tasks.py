"""All tasks can be pickled."""

import pytest

from hf_autojudge.tasks import (
    annotated_answers_task,
    gsm8k_task,
    humaneval_task,
    math_task,
    mbpp_task,
    multiple_choice_task,
)


@pytest.mark.parametrize(
    "make",
    [
        gsm8k_task,
        pytest.param(math_task, marks=pytest.mark.slow),
        mbpp_task,
        humaneval_task,
        multiple_choice_task,
        annotated_answers_task,
    ],
)
def test_tasks_can_be_sent_to_other_machines(make, consent, mbpp, humaneval):
    """As labelling on a Ray cluster does, also after a use, which starts the process of `math`."""
    cloudpickle = pytest.importorskip("cloudpickle")
    if make is math_task:
        pytest.importorskip("math_verify")
    task = make("data") if make is annotated_answers_task else make()
    sample = {**mbpp, **humaneval, "choices": ["x", "y"]}
    for _ in range(2):
        copy = cloudpickle.loads(cloudpickle.dumps(task))
        assert (copy.name, copy.threads) == (task.name, task.threads)
        for either in (task, copy):
            assert either.same_outcome(sample, r"\boxed{7}", r"\boxed{7}")
            assert make is not math_task or either.same_outcome(sample, r"\boxed{7}", r"\boxed{7.0}")
