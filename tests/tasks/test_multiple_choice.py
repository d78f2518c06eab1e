"""Multiple choice: the letter that an answer chooses, the correct letter, prompts."""

import pytest

from hf_autojudge.tasks import multiple_choice_task
from hf_autojudge.tasks.multiple_choice import chosen_letter, correct_letter

ARC = {"question": "Which?", "choices": {"text": ["x", "y"], "label": ["1", "2"]}, "answerKey": "2"}
MMLU = {"question": "Which?", "choices": ["x", "y", "z"], "answer": 2}


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("The answer is (B)", "B"),
        ("The answer is A. No, the answer is B.", "B"),
        ("The final answer is: **B**", "B"),
        ("**Answer:** B", "B"),
        ("Answer: **B. a dog**", "B"),
        ("Answer: B.", "B"),
        (r"thus $\boxed{B}$", "B"),
        (r"\boxed{\text{(B)}}", "B"),
        ("The correct option is B because it is", "B"),
        ("The answer is (B). (A) is wrong.", "B"),
        ("B", "B"),
        ("(A) is wrong, so (B)", "B"),
        ("**B**", "B"),
        ("B) Photosynthesis", "B"),
        ("A dog is B-like", None),
        ("The answer is a dog", None),
        ("Answer: A dog ran away", None),
        ("Option B is correct.", "B"),
        ("Option C is the correct answer.", "C"),
        ("B is correct.", "B"),
        ("Both (A) and (C) fail, so **B** is the best choice.", "B"),
        ("(b) is correct", "B"),
        ("'B' is right.", "B"),
        ("A is correct.", "A"),
        ("A is wrong and B is correct.", "B"),
        ("Is it B? Let us see whether option B is correct. (C)", "C"),
        ("B is not correct. It is (C).", "C"),
        ("B is right of the house", None),
        ("B is the wrong answer", None),
        ("The answer is A. Wait, B is correct.", "B"),
        ("B is correct? No. The answer is (C).", "C"),
        ("The answer is (b).", "B"),
        (r"\boxed{b}", "B"),
        ("The answer is “B”.", "B"),
        ("The answer is ‘B’", "B"),
        ("The answer is 'B'.", "B"),
        ("The answer is the letter C", "C"),
        ("The answer is the option (C) dog", "C"),
        ("The answer is B dog", "B"),
        ("The answer is A dog", "A"),
        ("The answer is A's dog", None),
        ("The answer is b", None),
        ("The answer is I think so", None),
        ("A dog is correct.", None),
        ("So the answer is (A) or (B).", None),
        ("The answer is A/B", None),
        ("The answer is A and B.", None),
        ("The answer is (a) or option (b)", None),
        ("The answer is (B) and A is wrong.", "B"),
        ("The answer is (A) or (B). No, the answer is (A).", "A"),
        ("Either A or B is correct.", None),
        ("I think that it is water.", None),
        ("The answer is (Z)", None),
        ("", None),
    ],
)
def test_chosen_letter(text, letter):
    assert chosen_letter(text, 5) == letter


@pytest.mark.parametrize("text", ["(", " ", "answer is (", "\n", "* ", "_", "A or ", "/"])
def test_repetitive_answers(text):
    """Small models repeat themselves. A search in quadratic time would take minutes to hours here."""
    assert chosen_letter(text * 200_000) is None


def test_outcomes(data_file, prompt_of):
    task = multiple_choice_task(data_file("arc.jsonl", [ARC] * 3))
    (sample, *_) = task.load("test", None)
    assert correct_letter(sample) == "B" and correct_letter(MMLU) == "C"
    assert correct_letter({**MMLU, "answer": "A"}) == "A"
    assert task.is_correct("The answer is (B).", sample) and not task.is_correct("The answer is (A).", sample)
    assert task.is_correct("**C**", MMLU) and not task.is_correct("no idea", MMLU)
    assert task.same_outcome(sample, "(A)", "The answer is A") and not task.same_outcome(sample, "(A)", "(B)")
    assert task.same_outcome(sample, "no idea", "The answer is (C)")  # there is no C
    assert "A. x\nB. y\n" in prompt_of(task, sample) and "C. z\n" in prompt_of(task, MMLU, chat=False)
    with pytest.raises(ValueError, match="'' is none of the choices"):
        correct_letter({**ARC, "answerKey": ""})
