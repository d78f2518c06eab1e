"""What a head reads of labelled mismatches: collected, saved, read back."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from hf_autojudge.decoding.passes import CachedModel, rewindable_cache
from hf_autojudge.judges.configuration_autojudge import FEATURES, SCALARS, reads_draft
from hf_autojudge.judges.distributions import distribution_scalars
from hf_autojudge.labeling.records import LabelledPrompt
from hf_autojudge.provenance import replacing
from hf_autojudge.runners.base import unwrap_peft, vocab_size

SEGMENT = 256  # tokens a pass: logits of a whole answer would be gigabytes


@dataclass(frozen=True)
class MismatchFeatures:
    """Features and labels of N mismatches.

    Attributes:
        states (`dict[str, torch.Tensor]`): For each feature's name, shape `(N, hidden size)` in the model's dtype; for
            scalars `(N, 1)`, float32.
        important (`torch.BoolTensor` of shape `(N,)`): The labels.
        prompt (`torch.LongTensor` of shape `(N,)`): Which prompt each mismatch is from: prompts, not mismatches, are
            split.
        importance (`torch.FloatTensor` of shape `(N,)`, *optional*): Soft labels in [0, 1]; `important` by default.
    """

    states: dict[str, torch.Tensor]
    important: torch.Tensor
    prompt: torch.Tensor
    importance: torch.Tensor | None = None

    def __len__(self) -> int:
        """N."""
        return len(self.important)

    @property
    def soft(self) -> torch.Tensor:
        """The soft labels: float32, shape `(N,)`."""
        return self.important.float() if self.importance is None else self.importance

    def matrix(self, features: Iterable[str]) -> torch.Tensor:
        """The named features side by side: float32, shape `(N, sum of hidden sizes)`."""
        return torch.cat([self.states[name].float() for name in features], dim=-1)

    def save(self, path: str | os.PathLike, metadata: dict[str, str] | None = None) -> None:
        """Write a safetensors file, whole or not at all."""
        tensors = {**self.states, "important": self.important, "prompt": self.prompt, "importance": self.soft}
        with replacing(path) as beside:
            save_file(tensors, beside, metadata)

    @classmethod
    def load(cls, path: str | os.PathLike) -> MismatchFeatures:
        """Read what [`save`] wrote. The tensors stay in the file (memory-mapped) until they are used.

        Raises:
            ValueError: If the file is missing or damaged.
        """
        try:
            tensors = load_file(path)
            important, prompt = tensors.pop("important"), tensors.pop("prompt")
        except (SafetensorError, FileNotFoundError, KeyError) as error:
            raise ValueError(f"{path} holds no features ({error}); collect them again from the labels.") from error
        importance = tensors.pop("importance", None)
        return cls(tensors, important, prompt, importance)


def joined(parts: Sequence[MismatchFeatures]) -> MismatchFeatures:
    """One for several: rows below rows.

    Raises:
        ValueError: If there are none.
    """
    if not parts:
        raise ValueError("There are no labelled prompts to collect features of; label some first.")
    return MismatchFeatures(
        {name: torch.cat([part.states[name] for part in parts]) for name in parts[0].states},
        torch.cat([part.important for part in parts]),
        torch.cat([part.prompt for part in parts]),
        torch.cat([part.soft for part in parts]),
    )


def collect_features(
    target: PreTrainedModel,
    draft: PreTrainedModel | None,
    labelled: Iterable[LabelledPrompt],
    features: Sequence[str] | None = None,
) -> MismatchFeatures:
    """Read at every mismatch, with the draft's token in place, what a judge sees when it decides there.

    One teacher-forced run of each model over the response serves all mismatches whose draft tokens stand in it. A
    draft token that does not stand there is run once more on the cached prefix.

    Args:
        target ([`PreTrainedModel`])
        draft ([`PreTrainedModel`], *optional*): `None` to read the target alone, as Judge Decoding does (arXiv
            2501.19309).
        labelled (iterable of [`LabelledPrompt`])
        features (`Sequence[str]`, *optional*): Names of [`FEATURES`] and [`SCALARS`]; by default all that these models
            have.

    Returns:
        [`MismatchFeatures`] on the CPU, mismatches in order of prompt and position. For what does not fit into memory
        see [`store_features`](hf_autojudge.training.feature_store).

    Raises:
        ValueError: If there are no prompts, a name is unknown, or a feature needs a draft and there is none.
    """
    return joined(list(features_by_prompt(target, draft, labelled, features)))


def available_features(draft: PreTrainedModel | None) -> tuple[str, ...]:
    """All features that a target has, with a draft or without."""
    return tuple(name for name in FEATURES + SCALARS if draft is not None or not reads_draft(name))


def features_by_prompt(
    target: PreTrainedModel,
    draft: PreTrainedModel | None,
    labelled: Iterable[LabelledPrompt],
    features: Sequence[str] | None = None,
    first: int = 0,
) -> Iterator[MismatchFeatures]:
    """[`collect_features`], prompt by prompt. Prompts count from `first`."""
    known = available_features(draft)
    names = known if features is None else tuple(features)
    if unknown := [name for name in names if name not in known]:
        raise ValueError(
            f"The features {unknown} cannot be collected {'without' if draft is None else 'with'} a draft; there are "
            f"{list(known)}."
        )
    models = {}
    if not all(name.endswith(".draft") for name in names):
        models["target"] = unwrap_peft(target)
    if any(map(reads_draft, names)):
        models["draft"] = unwrap_peft(draft)
    for index, item in enumerate(labelled, start=first):
        yield MismatchFeatures(
            _read(models, item, names),
            torch.tensor([m.important for m in item.mismatches], dtype=torch.bool),
            torch.full((len(item.mismatches),), index, dtype=torch.long),
            torch.tensor([m.importance for m in item.mismatches], dtype=torch.float32),
        )


@torch.no_grad()
def _read(models: dict[str, PreTrainedModel], item: LabelledPrompt, names: Sequence[str]) -> dict[str, torch.Tensor]:
    """The named features of one prompt, on the CPU. Sample r belongs to the text up to the r-th new token, so a mismatch
    at position p was predicted by row p, and its draft token, if it stands in the response, is that of row p + 1."""
    scalars = [name for name in names if name in SCALARS]
    tokens = torch.tensor([m.draft_token for m in item.mismatches], dtype=torch.long)
    positions = torch.tensor([m.position for m in item.mismatches], dtype=torch.long)
    text = torch.tensor([[*item.prompt, *item.response]])
    before, count = len(item.prompt) - 1, len(item.response) + 1
    runs = {name: CachedModel(model, rewindable_cache(model)) for name, model in models.items()}
    whole: dict[str, list[torch.Tensor]] = {name: [] for name in runs}
    values = torch.empty(len(tokens), len(scalars))
    found: dict[str, torch.Tensor] = {}
    with ExitStack() as stack:
        for run in runs.values():
            stack.enter_context(run.record_hidden())
        for start in range(0, count, SEGMENT):
            rows = min(SEGMENT, count - start)
            here = (positions >= start) & (positions < start + rows)
            logits = {}
            for name, run in runs.items():
                new = text[:, run.length : before + start + rows]
                every, hidden = _forward(run, new, rows)
                whole[name].append(hidden[0])
                logits[name] = every[0, (positions[here] - start).to(every.device)] if scalars else every[0, :0]
            if scalars:
                device = logits["target"].device
                theirs = logits["draft"].to(device) if "draft" in logits else None
                values[here] = distribution_scalars(scalars, tokens[here].to(device), logits["target"], theirs).cpu()
        for name, run in runs.items():
            states = torch.cat(whole.pop(name))
            index = positions.to(states.device)
            if f"previous.{name}" in names:
                found[f"previous.{name}"] = states[index].cpu()
            if f"draft_token.{name}" in names:
                at_token = states[(index + 1).clamp(max=count - 1)]
                # from the end, so that taking back is enough
                for i in sorted(range(len(item.mismatches)), key=lambda i: -item.mismatches[i].position):
                    m = item.mismatches[i]
                    if item.response[m.position : m.position + 1] != [m.draft_token]:
                        run.rollback(run.length - (before + 1 + m.position))
                        at_token[i] = _forward(run, tokens[None, i, None], rows=1)[1][0, 0]
                found[f"draft_token.{name}"] = at_token.cpu()
    found |= {name: values[:, i : i + 1] for i, name in enumerate(scalars)}
    return {name: found[name].contiguous() for name in names}


def _forward(run: CachedModel, tokens: torch.Tensor, rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    # a token that this model lacks must not crash it
    logits, hidden = run.forward(tokens.to(run.model.device).clamp(max=vocab_size(run.model) - 1), rows)
    assert hidden is not None
    return logits, hidden
