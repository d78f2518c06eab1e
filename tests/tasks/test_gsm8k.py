"""GSM8K: the final number of an answer, and outcomes."""

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


def test_outcomes():
    task = gsm8k_task()
    sample = {"question": "q7", "answer": "... #### 7"}
    assert task.is_correct("it is 7.0", sample) and not task.is_correct("8", sample)
    assert task.same_outcome({}, "a 3", "b 3.0") and not task.same_outcome({}, "3", "none")
