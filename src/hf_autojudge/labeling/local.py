"""The first verb: label the samples of a task in this process, into a store, resumably."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_autojudge.labeling.methods.autojudge import AutoJudge
from hf_autojudge.labeling.methods.base import Job, LabelingMethod, SameOutcome
from hf_autojudge.labeling.pair import Pair
from hf_autojudge.labeling.progress import LabelingProgress
from hf_autojudge.labeling.records import LabelledPrompt
from hf_autojudge.labeling.store import LabelStore
from hf_autojudge.progress import Progress
from hf_autojudge.provenance import model_names
from hf_autojudge.tasks.base import Sample, Task

logger = logging.getLogger(__name__)


def label_samples(
    target: PreTrainedModel,
    draft: PreTrainedModel | None,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    samples: Sequence[Sample],
    folder: str | os.PathLike,
    *,
    method: LabelingMethod | None = None,
    max_new_tokens: int | None = None,
    batch_size: int = 16,
    seconds: float | None = None,
    progress: bool = True,
    on_prompt: Callable[[LabelingProgress], None] | None = None,
) -> LabelStore:
    """Label samples of a task and keep the labels in a [`LabelStore`]; samples already labelled there are skipped. A
    run may be stopped at any time and resumed: the labels of a prompt are written as soon as it is done, and what the
    search of an unfinished prompt has found is kept after each mismatch.

    Args:
        target ([`PreTrainedModel`])
        draft ([`PreTrainedModel`], *optional*): `None` only for [`Annotated`], which needs none.
        tokenizer ([`PreTrainedTokenizerBase`]): The target's.
        task ([`Task`]): Makes prompts and compares outcomes.
        samples (`Sequence[Sample]`): Training samples; a sample's index is its position here.
        folder (`str` or `Path`): The store.
        method ([`LabelingMethod`], *optional*): [`AutoJudge`] (default), [`SelfJudge`] or [`Annotated`], with their
            settings.
        max_new_tokens (`int`, *optional*): Maximum length of an answer, in tokens; the task's by default.
        batch_size (`int`, *optional*, defaults to `16`): Prompts at a time. In float32 the labels do not depend on it.
        seconds (`float`, *optional*): Stop after the first prompt that is done after this time.
        progress (`bool`, *optional*, defaults to `True`): Show the mismatches found, the target's speed and the time
            left: in a bar or, where standard error is no terminal, in a line every 30 seconds.
        on_prompt (`Callable[[LabelingProgress], None]`, *optional*): Called after each labelled prompt.

    Returns:
        The [`LabelStore`].

    Raises:
        ValueError: If the store was made with other settings or other samples, a prompt is empty, or the method needs
            right answers and a sample has none.
    """
    method = AutoJudge() if method is None else method
    check_right_answers(method, task, samples)
    limit = task.max_new_tokens if max_new_tokens is None else max_new_tokens
    store = LabelStore(
        folder,
        store_settings(target, draft, task.name, limit, method),
        {"batch_size": batch_size, "rows": len(samples)},
    )
    pair = Pair(target, draft)
    jobs = [
        make_job(pair, index, prompt, samples[index], task, tokenizer, limit, store)
        for index, prompt in samples_to_label(store, task, samples, tokenizer)
    ]
    done = len(samples) - len(jobs)
    begun = sum(job.found.share_searched for job in jobs if job.found)
    with labeling_progress(len(samples), done, seconds, progress, begun) as state:
        for index, labels in pair.run(method, jobs, batch_size, task.threads, state):
            store.add(index, labels)
            if on_prompt is not None:
                on_prompt(state)
            if seconds is not None and state.seconds > seconds:
                break
    warn_of_cut_off_answers(store, pair.end_tokens)
    return store


def warn_of_cut_off_answers(store: LabelStore, end_tokens: Collection[int]) -> None:
    """Say how many answers reached the length limit, if any did: their outcomes may be missing."""
    if cut := store.num_cut_off(end_tokens):
        logger.warning(
            "%d of %d answers of the target were cut off at max_new_tokens = %d, so their outcomes may be missing; "
            "raise it (--max-new-tokens) and label into another folder.",
            cut,
            len(store.done()),
            store.settings["max_new_tokens"],
        )


def check_right_answers(method: LabelingMethod, task: Task, samples: Sequence[Sample]) -> None:
    """Raise a `ValueError` if the method needs right answers and a sample has none."""
    if isinstance(method, AutoJudge) and method.outcome == "correct":
        for index, sample in enumerate(samples):
            if not task.has_right_answer(sample):
                raise ValueError(
                    f"outcome 'correct' needs right answers, but the task {task.name} has no function `correct` and "
                    f"sample {index} no `answer`; use outcome 'same'."
                )


@contextmanager
def labeling_progress(
    num_prompts: int, done: int, seconds: float | None, show: bool, begun: float = 0.0
) -> Iterator[LabelingProgress]:
    """The progress of a run, shown whenever it changes. Earlier runs have done `done` prompts and, of others, parts
    that add up to `begun`."""
    total, unit, initial = (num_prompts, "prompts", done + begun) if seconds is None else (seconds, "s", 0)
    with Progress("Labelling", total, unit, initial, disable=not show) as bar:
        yield LabelingProgress(num_prompts, done, on_change=lambda state: state.show(bar, seconds))


def samples_to_label(
    store: LabelStore, task: Task, samples: Sequence[Sample], tokenizer: PreTrainedTokenizerBase
) -> Iterator[tuple[int, list[int]]]:
    """Index and prompt of the samples that the store lacks.

    Raises:
        ValueError: If the store was made with other samples.
    """
    done = store.prompts()
    for index, sample in enumerate(samples):
        prompt = list(task.prompt(sample, tokenizer))
        if index not in done:
            yield index, prompt
        elif done[index] != prompt:
            raise ValueError(
                f"Prompt {index} in {store.folder} differs from sample {index} of the data; choose another folder."
            )


def make_job(
    pair: Pair,
    index: int,
    prompt: list[int],
    sample: Sample,
    task: Task,
    tokenizer: PreTrainedTokenizerBase,
    max_new_tokens: int,
    store: LabelStore,
) -> Job:
    """The job of labelling one sample. It continues what a stopped run has found, and keeps what it finds."""

    def text(ids: list[int]) -> str:
        return str(tokenizer.decode(ids, skip_special_tokens=True))

    settled = task.settled
    return Job(
        index,
        prompt,
        pair.limits(index, prompt, max_new_tokens),
        lambda reference, answer: task.same_outcome(sample, text(reference), text(answer)),
        None if settled is None else lambda ids: settled(text(ids)),
        (lambda ids: task.is_correct(text(ids), sample)) if task.has_right_answer(sample) else None,
        found=store.unfinished(index, prompt),
        on_progress=lambda found: store.add_unfinished(index, found),
    )


def store_settings(target: Any, draft: Any, task: str, max_new_tokens: int, method: LabelingMethod) -> dict[str, Any]:
    """What labels depend on."""
    dtype = str(target.dtype).removeprefix("torch.")
    return (
        model_names(target, draft)
        | {"dtype": dtype, "task": task, "max_new_tokens": max_new_tokens}
        | method.settings()
    )


def find_important_tokens(
    target: PreTrainedModel,
    draft: PreTrainedModel,
    prompts: Sequence[torch.Tensor | Sequence[int]],
    same_outcome: SameOutcome,
    max_new_tokens: int,
    eos_token_id: int | Sequence[int] | None = None,
    batch_size: int = 16,
    **options: Any,
) -> list[LabelledPrompt]:
    """Mine labels of prompts by AutoJudge's search: see [`AutoJudge`].

    Args:
        target, draft ([`PreTrainedModel`]): Decoder-only models with the same tokens. Mismatches are restricted to
            tokens that both have.
        prompts (sequence of 1-D `torch.LongTensor` or lists of `int`): Token ids.
        same_outcome (`Callable[[list[int], list[int]], bool]`): Whether two answers (new token ids: the reference's,
            the alternative's) have the same outcome.
        max_new_tokens (`int`): Length limit of an answer, counted from the prompt.
        eos_token_id (`int` or sequence of `int`, *optional*): End tokens; an answer ends in one or at the length
            limit. Defaults to those of the target's generation config.
        batch_size (`int`, *optional*, defaults to `16`): Searches at a time. In float32 the labels do not
            depend on it.
        options: Of [`AutoJudge`], but `outcome`: only a task knows right answers.

    Returns:
        One [`LabelledPrompt`] for each prompt, in order.

    Raises:
        ValueError: For an empty prompt, a length limit or a batch size below 1, or a sequence longer than a model's
            table of learned positions, or `outcome="correct"`.
    """
    pair = Pair(target, draft, eos_token_id)
    ids = [prompt.tolist() if isinstance(prompt, torch.Tensor) else list(prompt) for prompt in prompts]
    jobs = [Job(i, prompt, pair.limits(i, prompt, max_new_tokens), same_outcome) for i, prompt in enumerate(ids)]
    return [labels for _, labels in sorted(pair.run(AutoJudge(**options), jobs, batch_size))]
