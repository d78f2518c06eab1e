"""A target and a draft that label prompts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

from transformers import PreTrainedModel

from hf_autojudge.labeling.completion import Limits
from hf_autojudge.labeling.methods.base import Job, LabelingMethod
from hf_autojudge.labeling.predictions import Predictor
from hf_autojudge.labeling.progress import LabelingProgress
from hf_autojudge.labeling.records import LabelledPrompt
from hf_autojudge.labeling.scheduler import run_searches
from hf_autojudge.labeling.speculation import Speculation
from hf_autojudge.runners.base import end_tokens, unwrap_peft, vocab_size


class Pair:
    """The models that label.

    Args:
        target ([`PreTrainedModel`]): Decoder-only.
        draft ([`PreTrainedModel`], *optional*): With the same tokens. Not for labelling methods that need none.
        eos_token_id (`int` or sequence of `int`, *optional*): End tokens; those of the target's generation config by
            default.
    """

    def __init__(
        self,
        target: PreTrainedModel,
        draft: PreTrainedModel | None,
        eos_token_id: int | Sequence[int] | None = None,
    ) -> None:
        self.models = {"target": unwrap_peft(target)}
        if draft is not None:
            self.models["draft"] = unwrap_peft(draft)
        if eos_token_id is None:
            eos_token_id = self.models["target"].generation_config.eos_token_id
        self.end_tokens = end_tokens(eos_token_id)

    def limits(self, index: int, prompt: Sequence[int], max_new_tokens: int) -> Limits:
        """Where an answer to a prompt ends.

        Raises:
            ValueError: For an empty prompt, or a length limit below 1.
        """
        if max_new_tokens < 1:
            raise ValueError(f"max_new_tokens must be at least 1; got {max_new_tokens}.")
        if not prompt:
            raise ValueError(f"Prompt {index} is empty; pass at least one token.")
        return Limits(len(prompt), len(prompt) + max_new_tokens, self.end_tokens)

    def run(
        self,
        method: LabelingMethod,
        jobs: Sequence[Job],
        batch_size: int,
        threads: int = 0,
        progress: LabelingProgress | None = None,
    ) -> Iterator[tuple[int, LabelledPrompt]]:
        """Label prompts, `batch_size` at a time, and yield a job's index and its labels as each finishes. Outcomes are
        compared in `threads` threads, or with 0 in the caller's. `progress` is kept up to date.

        Raises:
            ValueError: For a batch size below 1, or a prompt that with its answer is longer than a table of learned
                positions.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1; got {batch_size}.")
        if not jobs:
            return
        progress = LabelingProgress(len(jobs)) if progress is None else progress
        longest = max(job.limits.max_length for job in jobs)
        for name, model in self.models.items():
            _check_positions(name, model, jobs)
        sizes = {name: vocab_size(model) for name, model in self.models.items()}
        # The draft proposes only tokens that both models have
        num_predictable = {"target": sizes["target"], "draft": min(sizes.values())}
        predictors = {
            name: Predictor(model, min(batch_size, len(jobs)), longest, num_predictable[name])
            for name, model in self.models.items()
        }
        speculation = Speculation({name: predictor.price for name, predictor in predictors.items()})
        progress.speculation = speculation
        searches = (method.search(progress.watched(replace(job, speculation=speculation))) for job in jobs)
        after_pass = partial(progress.after_pass, predictors["target"])
        for number, labels in run_searches(searches, predictors, threads, after_pass):
            progress.add(jobs[number].index, labels)
            yield jobs[number].index, labels


def _check_positions(name: str, model: PreTrainedModel, jobs: Sequence[Job]) -> None:
    config = model.config.get_text_config(decoder=True)
    most = getattr(config, "max_position_embeddings", None)
    if most is None or getattr(config, "rope_parameters", None) is not None:
        return
    for job in jobs:
        if job.limits.max_length > most:
            raise ValueError(
                f"Prompt {job.index} has {len(job.prompt)} tokens and its answer up to "
                f"{job.limits.max_length - len(job.prompt)}, but the {name} knows {most} positions; lower "
                "max_new_tokens or leave the prompt out."
            )
