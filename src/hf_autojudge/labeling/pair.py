"""A target and a draft at work on jobs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from transformers import GenerationConfig, PreTrainedModel

from hf_autojudge.labeling.completion import Limits
from hf_autojudge.labeling.methods.base import Job, LabelingMethod
from hf_autojudge.labeling.predictions import make_reader
from hf_autojudge.labeling.records import LabelledPrompt
from hf_autojudge.labeling.scheduler import Search, run_together
from hf_autojudge.runners.base import end_tokens, unwrap_peft, vocab_size

SKETCHED = 2  # times the batch: prompts the draft answers at the same time, ahead of the search


class Pair:
    """The models that label.

    Args:
        target ([`PreTrainedModel`]): Decoder-only.
        draft ([`PreTrainedModel`], *optional*): With the same tokens. Not for ways that do without.
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
        self.ends = end_tokens(eos_token_id)

    def limits(self, index: int, prompt: Sequence[int], max_new_tokens: int) -> Limits:
        """Where an answer to a prompt ends.

        Raises:
            ValueError: For an empty prompt, or a length limit below 1.
        """
        if max_new_tokens < 1:
            raise ValueError(f"max_new_tokens must be at least 1; got {max_new_tokens}.")
        if not prompt:
            raise ValueError(f"Prompt {index} is empty; pass at least one token.")
        return Limits(len(prompt), len(prompt) + max_new_tokens, self.ends)

    def run(
        self, method: LabelingMethod, jobs: Sequence[Job], batch_size: int, threads: int = 0
    ) -> Iterator[tuple[int, LabelledPrompt]]:
        """Label prompts, many at a time.

        Args:
            way ([`LabelingMethod`])
            jobs (`Sequence[Job]`)
            batch_size (`int`): Jobs at the same time.
            threads (`int`, *optional*, defaults to `0`): Threads that compare outcomes; 0: this one.

        Yields:
            A job's index and its labels, as each is done.

        Raises:
            ValueError: For a batch size below 1, or a prompt that with its answer is longer than a table of learned
                positions.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1; got {batch_size}.")
        if not jobs:
            return
        longest = max(job.limits.max_length for job in jobs)
        for name, model in self.models.items():
            _check_positions(name, model, jobs)
        shared = min(vocab_size(model) for model in self.models.values())
        vocabulary = {"target": vocab_size(self.models["target"]), "draft": shared}
        readers = {
            name: make_reader(model, min(batch_size, len(jobs)), longest, vocabulary[name])
            for name, model in self.models.items()
        }
        places = min(reader.texts for reader in readers.values())
        for number, found in run_together(self._searches(method, jobs, places), readers, threads):
            yield jobs[number].index, found

    def _searches(self, method: LabelingMethod, jobs: Sequence[Job], places: int) -> Iterator[Search[LabelledPrompt]]:
        block = SKETCHED * places
        for first in range(0, len(jobs), block):
            for job in self._sketched(jobs[first : first + block]):
                yield method.search(job)

    def _sketched(self, jobs: Sequence[Job]) -> Sequence[Job]:
        """Jobs with the draft's own answers: cheap, and often much like the target's."""
        if "draft" not in self.models:
            return jobs
        draft = self.models["draft"]
        width = max(len(job.prompt) for job in jobs)
        pads = [width - len(job.prompt) for job in jobs]
        top = vocab_size(draft) - 1
        ids = torch.tensor([[0] * pad + job.prompt for pad, job in zip(pads, jobs, strict=True)]).clamp(max=top)
        mask = torch.tensor([[0] * pad + [1] * (width - pad) for pad in pads])
        config = GenerationConfig(
            max_new_tokens=max(job.limits.max_length - len(job.prompt) for job in jobs),
            eos_token_id=sorted(self.ends) or None,
            pad_token_id=min(self.ends, default=0),
            do_sample=False,
        )
        own = draft.generation_config  # `generate` would fill in from it what `config` leaves open
        draft.generation_config = config
        try:
            written = draft.generate(ids.to(draft.device), attention_mask=mask.to(draft.device)).tolist()
        finally:
            draft.generation_config = own
        return [replace(job, sketch=row[pad:]) for job, row, pad in zip(jobs, written, pads, strict=True)]


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
