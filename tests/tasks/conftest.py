"""What the tests of several tasks share: consent, samples, prompts as strings, and data files."""

import json

import pytest

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


class StringTokenizer:
    """A tokenizer whose only token is the whole string, with or without a chat template."""

    def __init__(self, chat_template):
        self.chat_template = chat_template

    def __call__(self, text):
        return {"input_ids": [text]}

    def apply_chat_template(self, messages, add_generation_prompt, return_dict):
        return {"input_ids": ["user: " + messages[0]["content"]]}


@pytest.fixture
def prompt_of():
    """A function that returns the prompt of a task's sample as a string."""

    def prompt_of(task, sample, chat=True):
        (text,) = task.prompt(sample, StringTokenizer("template" if chat else None))
        return text

    return prompt_of


@pytest.fixture
def data_file(tmp_path):
    """A function that writes samples to a file and returns its path."""

    def write(name, samples):
        path = tmp_path / name
        path.write_text("\n".join(map(json.dumps, samples)))
        return str(path)

    return write


@pytest.fixture
def consent(monkeypatch):
    """Allows running generated programs."""
    monkeypatch.setenv("HF_ALLOW_CODE_EVAL", "1")


@pytest.fixture
def mbpp():
    return MBPP


@pytest.fixture
def humaneval():
    return HUMANEVAL
