"""Tasks whose answers are programs: consent, the code of an answer, and cached results."""

import pytest

from hf_autojudge.tasks import humaneval_task, mbpp_task
from hf_autojudge.tasks.programs import fenced_code, passes

CORRECT, WRONG = "def double(x):\n    return 2 * x\n", "def double(x):\n    return x\n"


FUTURE = "from __future__ import annotations\n"


@pytest.mark.parametrize("make", [mbpp_task, humaneval_task])
def test_no_program_is_run_without_consent(make, monkeypatch):
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
        (f"Here:\n```python\n{CORRECT}```\nIt doubles.", CORRECT),
        (f"```\n{CORRECT}```", CORRECT),
        (f"```py\n{CORRECT}```\nUse it:\n```python\nprint(double(2))\n```", CORRECT),
        (f"```python\n{WRONG}```\nNo, better:\n```python\n{CORRECT}```\n```python\ndouble(3)\n```", CORRECT),
        (f"```python\n{CORRECT}", CORRECT),  # cut off
        ("```bash\nls\n```\n```python\nx = 1\n```", "x = 1\n"),
        ("```python\nx = 1\n```\n```python\ny = 1\n```", "x = 1\n"),
        ("1. Write it:\n   ```python\n   def double(x):\n       return 2 * x\n   ```\n2. Done.", CORRECT),
        ("- ```python\n  def double(x):\n      return 2 * x\n  ```", CORRECT),
        ("   ```python\ndef double(x):\n    return 2 * x\n   ```", CORRECT),
        ("```python\n    def double(x):\n        return 2 * x\n```", CORRECT),
        ("  ```python\n      return 2 * x\n  ```", "    return 2 * x\n"),  # a body
        (f"```python\n{CORRECT[:-1]}```\nIt doubles.", CORRECT[:-1]),
        (f"Not ```x = 1``` but\n```python\n{CORRECT}```", CORRECT),
        ("no code", None),
        ("", None),
    ],
)
def test_fenced_code(text, code):
    assert fenced_code(text, ["double"]) == code


@pytest.mark.parametrize(
    ("blocks", "correct"),
    [
        (["def twice(x):\n    return 2 * x\n", "def double(x):\n    return twice(x)\n"], True),
        (["def two():\n    return TWO\n", "TWO = 2", "import os", "def double(x):\n    return two() * x\n"], True),
        (["from operator import mul as by\n", FUTURE + "def double(x: No):\n    return by(x, 2)\n"], True),
        ([FUTURE + "import math\n", "def double(x):\n    return math.prod((x, 2))\n"], True),
        (["def by(x):\n    return 0\n", "def by(x):\n    return 2 * x\n", "def double(x):\n    return by(x)\n"], True),
        ([WRONG, CORRECT], True),
        (["def double(x: No):\n    return x\n", CORRECT], True),  # the mistake that it corrects would raise
        (["import numpy\nassert double(2) == 5\nx = 1 / 0\n", CORRECT], True),  # not needed
        (["max = 3\n", "def double(x):\n    return max(x, 2 * x)\n"], True),
        (["this is no Python (\n", CORRECT], True),
        (["def twice(x):\n    return x\n", "def double(x):\n    return twice(x)\n"], False),
        (["def double(x):\n    return twice(x)\n", "def twice(x):\n    return 2 * x\n"], False),  # only what precedes
    ],
)
def test_helpers_in_separate_blocks(blocks, correct, consent, mbpp):
    answer = "\n".join(f"Now:\n```python\n{block}```" for block in blocks)
    assert mbpp_task().is_correct(answer, mbpp) == correct


def test_results_are_cached(consent, mbpp, monkeypatch):
    runs = []

    class Result:
        passed = True

    monkeypatch.setattr("hf_autojudge.tasks.programs.run_program", lambda s: runs.append(s) or Result())
    passes.cache_clear()
    task = mbpp_task()
    for i in range(3):
        assert task.same_outcome(mbpp, CORRECT, f"x = {i}")
    assert task.same_outcome(mbpp, "same", "same")
    assert len(runs) == 4
    passes.cache_clear()
