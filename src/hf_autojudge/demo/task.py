"""The embedded pair's task: synthetic word problems (see `hf_autojudge.demo.problems`)."""

from __future__ import annotations

from transformers import PreTrainedTokenizerBase

from hf_autojudge.demo import problems
from hf_autojudge.tasks.base import Sample, Task

DEFAULT_SAMPLES = 500  # problems are generated, so a split has no end


def prompt(sample: Sample, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Token ids of the problem's prompt."""
    return tokenizer(problems.prompt(sample["question"]))["input_ids"]


def same_outcome(_sample: Sample, reference: str, answer: str) -> bool:
    return problems.final_number(reference) == problems.final_number(answer)


def load(split: str, max_samples: int | None) -> list[Sample]:
    """The first problems of a split, as samples with the columns `question` and `answer`."""
    if split not in ("train", "validation", "test"):
        raise ValueError(f"The split must be train, validation or test; got {split!r}.")
    made = problems.make_problems(split, max_samples or DEFAULT_SAMPLES)
    return [{"question": problem.question, "answer": problem.answer} for problem in made]


def word_problems_task(max_new_tokens: int = 240) -> Task:
    """The task of the embedded pair. By default a split has 500 samples.

    Args:
        max_new_tokens (`int`, *optional*, defaults to `240`): Maximum length of an answer, in tokens.
    """
    return Task("word_problems", prompt, same_outcome, load, max_new_tokens)
