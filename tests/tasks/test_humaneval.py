"""HumanEval: outcomes, prompts, loading."""

import pytest

from hf_autojudge.tasks import humaneval_task


def test_outcomes(consent, humaneval):
    task = humaneval_task()
    whole = "```python\ndef total(xs: List[int]) -> int:\n    return helper(sum(xs)) - 1\n```"
    body = humaneval["canonical_solution"] + "\n\nprint(total([undefined]))\n"
    lines = "# Total\n\nfrom __future__ import annotations\ndef total(xs: Unknown):\n    return sum(xs)\n"
    short = "   ys = xs\n    return sum(ys)\n"  # decoded by a tokenizer that drops the first space
    for correct in (
        f"```python\n{lines}```",
        short,
        " return sum(xs)",
        lines[:-1],
        whole,
        body,
        f"```python\n{humaneval['canonical_solution']}```",
        "Sure.\n" + whole + "\nDone.",
    ):
        assert task.is_correct(correct, humaneval)
    for wrong in (
        "    return 0\n",
        "",
        "   ys = xs\n   return sum(ys)\n",
        "I cannot.",
        "    import os; os._exit(0)\n",
        "    return sum(xs",
    ):
        assert not task.is_correct(wrong, humaneval)
        assert not task.same_outcome(humaneval, whole, wrong)
    assert task.same_outcome(humaneval, whole, body) and task.same_outcome(humaneval, "", "    return 0\n")


def test_prompt_is_the_head_of_the_function(consent, humaneval, prompt_of):
    assert prompt_of(humaneval_task(), humaneval, chat=False) == humaneval["prompt"]
    assert humaneval["prompt"] in prompt_of(humaneval_task(), humaneval)


def test_loading(consent, humaneval, data_file):
    assert len(humaneval_task(data_file("humaneval.jsonl", [humaneval] * 3)).load("train", 2)) == 2
    with pytest.raises(ValueError, match="has a test split only, and no 'train'; use the task mbpp"):
        humaneval_task().load("train", 5)
