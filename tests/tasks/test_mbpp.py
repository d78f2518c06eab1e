"""MBPP: outcomes, both versions of the data set, prompts, loading."""

import pytest

from hf_autojudge.tasks import mbpp_task

CORRECT, WRONG = "def double(x):\n    return 2 * x\n", "def double(x):\n    return x\n"


def test_outcomes(consent, mbpp):
    task = mbpp_task()
    correct, wrong, prose = f"```python\n{CORRECT}```", f"```python\n{WRONG}```", "I cannot."
    assert task.is_correct(correct, mbpp) and not task.is_correct(wrong, mbpp) and not task.is_correct(prose, mbpp)
    assert task.is_correct(CORRECT + "[DONE]\nand more", mbpp)
    assert task.is_correct(mbpp["code"], mbpp)
    assert task.same_outcome(mbpp, correct, "```python\ndef double(y):\n    return y + y\n```")
    assert not task.same_outcome(mbpp, correct, wrong)
    assert task.same_outcome(mbpp, wrong, prose)
    assert not task.is_correct("```python\nimport sys\ndef double(x): sys.exit(0)\n```", mbpp)


def test_sanitized_version(consent, prompt_of):
    sample = {
        "prompt": "Halve.",
        "test_imports": ["import math"],
        "test_list": ["assert halve(math.pi * 2) == math.pi"],
    }
    task = mbpp_task()
    assert task.is_correct("```python\ndef halve(x):\n    return x / 2\n```", sample)
    assert "Halve." in prompt_of(task, sample)


def test_prompt_shows_the_tests(consent, mbpp, prompt_of):
    chat, plain = prompt_of(mbpp_task(), mbpp), prompt_of(mbpp_task(), mbpp, chat=False)
    assert chat.startswith("user: You are an expert") and mbpp["text"] in chat and mbpp["test_list"][1] in chat
    assert plain.endswith("[BEGIN]\n") and mbpp["code"] not in chat + plain


def test_loading(consent, mbpp, data_file):
    task = mbpp_task(data_file("mbpp.jsonl", [mbpp] * 20))
    assert len(task.load("train", None)) == 18 and len(task.load("validation", None)) == 2
    with pytest.raises(ValueError, match="lacks.*test_list"):
        mbpp_task(data_file("other.jsonl", [{"text": "x"}])).load("test", None)
