"""Tasks whose answers are programs, formulas or letters: prompts, outcomes, consent, splits."""

import json
import threading
import time

import pytest

from hf_autojudge.demo.task import word_problems_task
from hf_autojudge.tasks import (
    annotated_answers_task,
    gsm8k_task,
    humaneval_task,
    math_task,
    mbpp_task,
    multiple_choice_task,
)
from hf_autojudge.tasks.competition_math import MathComparer, boxed
from hf_autojudge.tasks.multiple_choice import chosen_letter, right_letter
from hf_autojudge.tasks.programs import fenced_code, passes

MBPP = {
    "text": "Write a function to double a number.",
    "code": "def double(x):\r\n  return 2 * x",
    "test_list": ["assert double(2) == 4", "assert double(Box(3)) == 6"],
    "test_setup_code": "class Box(int):\n    pass",
    "task_id": 1,
}
HUMANEVAL = {
    "prompt": '''from typing import List


def helper(x):
    return x + 1


def total(xs: List[int]) -> int:
    """Sum."""
''',
    "test": "def check(candidate):\n    assert candidate([1, 2]) == 3\n",
    "entry_point": "total",
    "canonical_solution": "    return sum(xs)\n",
}
RIGHT, WRONG = "def double(x):\n    return 2 * x\n", "def double(x):\n    return x\n"


class Words:
    """A tokenizer that gives the text back, with or without a chat template."""

    def __init__(self, chat_template):
        self.chat_template = chat_template

    def __call__(self, text):
        return {"input_ids": [text]}

    def apply_chat_template(self, messages, add_generation_prompt, return_dict):
        return {"input_ids": ["user: " + messages[0]["content"]]}


def text_of(task, row, chat=True):
    (text,) = task.prompt(row, Words("template" if chat else None))
    return text


def write(path, rows):
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


@pytest.fixture
def consent(monkeypatch):
    monkeypatch.setenv("HF_ALLOW_CODE_EVAL", "1")


@pytest.mark.parametrize("make", [mbpp_task, humaneval_task])
def test_nothing_is_run_without_consent(make, monkeypatch):
    monkeypatch.delenv("HF_ALLOW_CODE_EVAL", raising=False)
    with pytest.raises(
        ValueError, match="allow_code_execution=True .*--allow-code-execution.* or .* HF_ALLOW_CODE_EVAL=1"
    ):
        make()
    monkeypatch.setenv("HF_ALLOW_CODE_EVAL", "0")
    with pytest.raises(ValueError, match="programs that models wrote"):
        make()
    assert make(allow_code_execution=True).threads > 0
    monkeypatch.setenv("HF_ALLOW_CODE_EVAL", "1")
    assert make().threads > 0


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (f"Here:\n```python\n{RIGHT}```\nIt doubles.", RIGHT),
        (f"```\n{RIGHT}```", RIGHT),
        (f"```py\n{RIGHT}```\nUse it:\n```python\nprint(double(2))\n```", RIGHT),
        (f"```python\n{WRONG}```\nNo, better:\n```python\n{RIGHT}```\n```python\ndouble(3)\n```", RIGHT),
        (f"```python\n{RIGHT}", RIGHT),  # cut off
        ("```bash\nls\n```\n```python\nx = 1\n```", "x = 1\n"),
        ("```python\nx = 1\n```\n```python\ny = 1\n```", "x = 1\n"),
        ("1. Write it:\n   ```python\n   def double(x):\n       return 2 * x\n   ```\n2. Done.", RIGHT),
        ("- ```python\n  def double(x):\n      return 2 * x\n  ```", RIGHT),
        ("   ```python\ndef double(x):\n    return 2 * x\n   ```", RIGHT),
        ("```python\n    def double(x):\n        return 2 * x\n```", RIGHT),
        ("  ```python\n      return 2 * x\n  ```", "    return 2 * x\n"),  # a body
        (f"```python\n{RIGHT[:-1]}```\nIt doubles.", RIGHT[:-1]),
        (f"Not ```x = 1``` but\n```python\n{RIGHT}```", RIGHT),
        ("no code", None),
        ("", None),
    ],
)
def test_fenced_code(text, code):
    assert fenced_code(text, ["double"]) == code


FUTURE = "from __future__ import annotations\n"


@pytest.mark.parametrize(
    ("blocks", "right"),
    [
        (["def twice(x):\n    return 2 * x\n", "def double(x):\n    return twice(x)\n"], True),
        (["def two():\n    return TWO\n", "TWO = 2", "import os", "def double(x):\n    return two() * x\n"], True),
        (["from operator import mul as by\n", FUTURE + "def double(x: No):\n    return by(x, 2)\n"], True),
        ([FUTURE + "import math\n", "def double(x):\n    return math.prod((x, 2))\n"], True),
        (["def by(x):\n    return 0\n", "def by(x):\n    return 2 * x\n", "def double(x):\n    return by(x)\n"], True),
        ([WRONG, RIGHT], True),
        (["def double(x: No):\n    return x\n", RIGHT], True),  # what it corrects would raise
        (["import numpy\nassert double(2) == 5\nx = 1 / 0\n", RIGHT], True),  # not needed
        (["max = 3\n", "def double(x):\n    return max(x, 2 * x)\n"], True),
        (["this is no Python (\n", RIGHT], True),
        (["def twice(x):\n    return x\n", "def double(x):\n    return twice(x)\n"], False),
        (["def double(x):\n    return twice(x)\n", "def twice(x):\n    return 2 * x\n"], False),  # only what precedes
    ],
)
def test_helpers_in_blocks_of_their_own(blocks, right, consent):
    answer = "\n".join(f"Now:\n```python\n{block}```" for block in blocks)
    assert mbpp_task().is_correct(answer, MBPP) == right


def test_mbpp_outcomes(consent):
    task = mbpp_task()
    right, wrong, prose = f"```python\n{RIGHT}```", f"```python\n{WRONG}```", "I cannot."
    assert task.is_correct(right, MBPP) and not task.is_correct(wrong, MBPP) and not task.is_correct(prose, MBPP)
    assert task.is_correct(RIGHT + "[DONE]\nand more", MBPP)
    assert task.is_correct(MBPP["code"], MBPP)
    assert task.same_outcome(MBPP, right, "```python\ndef double(y):\n    return y + y\n```")
    assert not task.same_outcome(MBPP, right, wrong)
    assert task.same_outcome(MBPP, wrong, prose)
    assert not task.is_correct("```python\nimport sys\ndef double(x): sys.exit(0)\n```", MBPP)


def test_sanitized_mbpp(consent):
    row = {"prompt": "Halve.", "test_imports": ["import math"], "test_list": ["assert halve(math.pi * 2) == math.pi"]}
    task = mbpp_task()
    assert task.is_correct("```python\ndef halve(x):\n    return x / 2\n```", row)
    assert "Halve." in text_of(task, row)


def test_prompts_show_the_tests(consent):
    chat, plain = text_of(mbpp_task(), MBPP), text_of(mbpp_task(), MBPP, chat=False)
    assert chat.startswith("user: You are an expert") and MBPP["text"] in chat and MBPP["test_list"][1] in chat
    assert plain.endswith("[BEGIN]\n") and MBPP["code"] not in chat + plain
    assert text_of(humaneval_task(), HUMANEVAL, chat=False) == HUMANEVAL["prompt"]
    assert HUMANEVAL["prompt"] in text_of(humaneval_task(), HUMANEVAL)


def test_humaneval_outcomes(consent):
    task = humaneval_task()
    whole = "```python\ndef total(xs: List[int]) -> int:\n    return helper(sum(xs)) - 1\n```"
    body = HUMANEVAL["canonical_solution"] + "\n\nprint(total([undefined]))\n"
    future = f"```python\n# Total\n\n{FUTURE}def total(xs: Unknown):\n    return sum(xs)\n```"
    short = "   ys = xs\n    return sum(ys)\n"  # as tokenizers decode it that drop the first space
    for right in (
        future,
        short,
        " return sum(xs)",
        future[10:-4],
        whole,
        body,
        f"```python\n{HUMANEVAL['canonical_solution']}```",
        "Sure.\n" + whole + "\nDone.",
    ):
        assert task.is_correct(right, HUMANEVAL)
    for wrong in (
        "    return 0\n",
        "",
        "   ys = xs\n   return sum(ys)\n",
        "I cannot.",
        "    import os; os._exit(0)\n",
        "    return sum(xs",
    ):
        assert not task.is_correct(wrong, HUMANEVAL)
        assert not task.same_outcome(HUMANEVAL, whole, wrong)
    assert task.same_outcome(HUMANEVAL, whole, body) and task.same_outcome(HUMANEVAL, "", "    return 0\n")


def test_outcomes_are_remembered(consent, monkeypatch):
    runs = []

    class Result:
        passed = True

    monkeypatch.setattr("hf_autojudge.tasks.programs.run_program", lambda s: runs.append(s) or Result())
    passes.cache_clear()
    task = mbpp_task()
    for i in range(3):
        assert task.same_outcome(MBPP, RIGHT, f"x = {i}")
    assert task.same_outcome(MBPP, "same", "same")
    assert len(runs) == 4
    passes.cache_clear()


def test_loading(consent, tmp_path):
    task = mbpp_task(write(tmp_path / "mbpp.jsonl", [MBPP] * 20))
    assert len(task.load("train", None)) == 18 and len(task.load("validation", None)) == 2
    assert len(humaneval_task(write(tmp_path / "he.jsonl", [HUMANEVAL] * 3)).load("train", 2)) == 2
    with pytest.raises(ValueError, match="has a test split only, and no 'train'; use the task mbpp"):
        humaneval_task().load("train", 5)
    with pytest.raises(ValueError, match="lacks.*test_list"):
        mbpp_task(write(tmp_path / "other.jsonl", [{"text": "x"}])).load("test", None)


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        (r"so \boxed{\frac{1}{2}}.", r"\frac{1}{2}"),
        (r"\boxed{1}, no, \boxed{ 2 }", "2"),
        (r"\boxed{1", None),
        ("none", None),
        (r"\boxed{}", ""),
        (r"\boxed{5.}", "5"),
        (r"\boxed{0.33...}", "0.33..."),
    ],
)
def test_boxed(text, inside):
    assert boxed(text) == inside


def test_math_outcomes():
    pytest.importorskip("math_verify")
    task, row = math_task(), {"problem": "Halve 1.", "solution": r"It is $\boxed{\frac{1}{2}}$."}
    assert task.is_correct(r"\boxed{0.5}", row) and task.is_correct(r"Thus \boxed{\dfrac12}", row)
    assert task.same_outcome(row, r"\boxed{5}", r"so \boxed{5.}")
    assert not task.is_correct(r"\boxed{2}", row) and not task.is_correct("I do not know", row)
    assert task.same_outcome(row, r"\boxed{\{1, 2\}}", r"\boxed{\{2,1\}}")
    assert task.same_outcome(row, "nothing", "none at all") and not task.same_outcome(row, "nothing", r"\boxed{1}")
    assert task.same_outcome(row, r"a \boxed{9^{9^{9^9}}}", r"b \boxed{9^{9^{9^9}}}")  # never parsed
    found = []
    other = threading.Thread(target=lambda: found.append(task.same_outcome(row, r"\boxed{2^{10}}", r"\boxed{1024}")))
    other.start()
    other.join()
    assert found == [True]
    assert row["problem"] in text_of(task, row) and "boxed" in text_of(task, row, chat=False)


def test_math_does_not_hang():
    pytest.importorskip("math_verify")
    comparer = MathComparer(seconds=1.0)
    assert not comparer.same(r"\boxed{9^{9^{9^9}}}", r"\boxed{7}")
    assert comparer.same(r"\boxed{7}", r"\boxed{7.0}")  # by a new process
    assert comparer._process is not None
    comparer._process.kill()
    comparer._process.wait()
    assert not comparer.same(r"\boxed{7}", r"\boxed{7}")
    assert comparer.same(r"\boxed{7}", r"\boxed{7}")


def test_math_needs_its_library(monkeypatch):
    monkeypatch.setattr("hf_autojudge.tasks.competition_math.find_spec", lambda _: None)
    with pytest.raises(ImportError, match="pip install"):
        math_task()


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


@pytest.mark.parametrize(
    "make",
    [
        gsm8k_task,
        math_task,
        mbpp_task,
        humaneval_task,
        multiple_choice_task,
        word_problems_task,
        annotated_answers_task,
    ],
)
def test_tasks_can_be_sent_to_other_machines(make, consent):
    """As the cluster engine does; also after a use, which starts the process of `math`."""
    cloudpickle = pytest.importorskip("cloudpickle")
    if make is math_task:
        pytest.importorskip("math_verify")
    task = make("data") if make is annotated_answers_task else make()
    row = {**MBPP, **HUMANEVAL, "choices": ["x", "y"]}
    for _ in range(2):
        copy = cloudpickle.loads(cloudpickle.dumps(task))
        assert (copy.name, copy.threads) == (task.name, task.threads)
        for one in (task, copy):
            assert one.same_outcome(row, r"\boxed{7}", r"\boxed{7}")
            assert make is not math_task or one.same_outcome(row, r"\boxed{7}", r"\boxed{7.0}")


@pytest.mark.parametrize("text", ["(", " ", "answer is (", "\n", "* ", "_", "A or ", "/"])
def test_letters_of_repetitive_texts(text):
    """Cut-off answers of small models repeat themselves; the search must not take time with the length's square."""
    began = time.perf_counter()
    assert chosen_letter(text * 20000) is None
    assert time.perf_counter() - began < 5


ARC = {"question": "Which?", "choices": {"text": ["x", "y"], "label": ["1", "2"]}, "answerKey": "2"}
MMLU = {"question": "Which?", "choices": ["x", "y", "z"], "answer": 2}


def test_multiple_choice(tmp_path):
    task = multiple_choice_task(write(tmp_path / "arc.jsonl", [ARC] * 3))
    (row, *_) = task.load("test", None)
    assert right_letter(row) == "B" and right_letter(MMLU) == "C" and right_letter({**MMLU, "answer": "A"}) == "A"
    assert task.is_correct("The answer is (B).", row) and not task.is_correct("The answer is (A).", row)
    assert task.is_correct("**C**", MMLU) and not task.is_correct("no idea", MMLU)
    assert task.same_outcome(row, "(A)", "The answer is A") and not task.same_outcome(row, "(A)", "(B)")
    assert task.same_outcome(row, "no idea", "The answer is (C)")  # there is no C
    assert "A. x\nB. y\n" in text_of(task, row) and "C. z\n" in text_of(task, MMLU, chat=False)
    with pytest.raises(ValueError, match="'' is none of the choices"):
        right_letter({**ARC, "answerKey": ""})
