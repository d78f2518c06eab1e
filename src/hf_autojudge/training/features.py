"""The features of labelled mismatches: what a judge sees when it decides on them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from hf_autojudge.judges.configuration_autojudge import FEATURES, SCALARS, reads_draft
from hf_autojudge.judges.distributions import distribution_scalars
from hf_autojudge.labeling.records import LabelledPrompt
from hf_autojudge.provenance import replacing
from hf_autojudge.runners.base import HiddenStates, unwrap_peft
from hf_autojudge.runners.dynamic import DynamicRunner

SEGMENT = 256  # tokens per forward pass: the logits of a whole response would take gigabytes


@dataclass(frozen=True)
class MismatchFeatures:
    """Features and labels of N mismatches.

    Attributes:
        states (`dict[str, torch.Tensor]`): By name of the feature: hidden states of shape `(N, hidden size)` in the
            model's dtype, scalars of shape `(N, 1)` in float32.
        important (`torch.BoolTensor` of shape `(N,)`): The labels.
        prompt (`torch.LongTensor` of shape `(N,)`): Index of the prompt that each mismatch belongs to. Training and
            validation are split by prompts.
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
    def soft_labels(self) -> torch.Tensor:
        """The soft labels: float32, shape `(N,)`."""
        return self.important.float() if self.importance is None else self.importance

    def matrix(self, features: Iterable[str]) -> torch.Tensor:
        """The named features, concatenated: float32, shape `(N, sum of the features' sizes)`."""
        return torch.cat([self.states[name].float() for name in features], dim=-1)

    def save(self, path: str | os.PathLike, metadata: dict[str, str] | None = None) -> None:
        """Write a safetensors file atomically."""
        tensors = {**self.states, "important": self.important, "prompt": self.prompt, "importance": self.soft_labels}
        with replacing(path) as beside:
            save_file(tensors, beside, metadata)

    @classmethod
    def load(cls, path: str | os.PathLike) -> MismatchFeatures:
        """Read what [`save`] wrote. The tensors are memory-mapped.

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


def concatenate(parts: Sequence[MismatchFeatures]) -> MismatchFeatures:
    """Join the mismatches of several parts, in order.

    Raises:
        ValueError: If there are no parts.
    """
    if not parts:
        raise ValueError("There are no labelled prompts to collect features of; label some first.")
    return MismatchFeatures(
        {name: torch.cat([part.states[name] for part in parts]) for name in parts[0].states},
        torch.cat([part.important for part in parts]),
        torch.cat([part.prompt for part in parts]),
        torch.cat([part.soft_labels for part in parts]),
    )


def collect_features(
    target: PreTrainedModel,
    draft: PreTrainedModel | None,
    labelled: Iterable[LabelledPrompt],
    features: Sequence[str] | None = None,
) -> MismatchFeatures:
    """Collect the features of every mismatch, as a judge sees them: with the draft's token in the sequence.

    Each model reads the response once, which gives the features of all mismatches whose draft token is in the
    response. For any other mismatch the models also read its draft token after the cached tokens before it.

    Args:
        target ([`PreTrainedModel`]): The model the labels were made with.
        draft ([`PreTrainedModel`], *optional*): Likewise. `None` to read the target alone, as Judge Decoding does
            (arXiv 2501.19309).
        labelled (iterable of [`LabelledPrompt`]): The labels.
        features (`Sequence[str]`, *optional*): Names from [`FEATURES`] and [`SCALARS`]; by default all that the given
            models have.

    Returns:
        [`MismatchFeatures`] on the CPU, in order of prompt and position. For more features than fit into memory see
        [`store_features`](hf_autojudge.training.feature_store).

    Raises:
        ValueError: If there are no prompts, a name is unknown, or a feature needs a draft and there is none.
    """
    return concatenate(list(features_by_prompt(target, draft, labelled, features)))


def available_features(draft: PreTrainedModel | None) -> tuple[str, ...]:
    """Names of all features that can be collected of a target, with a draft or without."""
    return tuple(name for name in FEATURES + SCALARS if draft is not None or not reads_draft(name))


def features_by_prompt(
    target: PreTrainedModel,
    draft: PreTrainedModel | None,
    labelled: Iterable[LabelledPrompt],
    features: Sequence[str] | None = None,
    first: int = 0,
) -> Iterator[MismatchFeatures]:
    """[`collect_features`], one prompt at a time. `first` is the index of the first prompt."""
    known = available_features(draft)
    names = known if features is None else tuple(features)
    if unknown := [name for name in names if name not in known]:
        raise ValueError(
            f"The features {unknown} cannot be collected {'without' if draft is None else 'with'} a draft; choose "
            f"from {list(known)}."
        )
    models = {}
    if not all(name.endswith(".draft") for name in names):
        models["target"] = unwrap_peft(target)
    if any(map(reads_draft, names)):
        models["draft"] = unwrap_peft(draft)
    for index, item in enumerate(labelled, start=first):
        with ExitStack() as stack:
            hidden = {role: stack.enter_context(HiddenStates(model)) for role, model in models.items()}
            runners = {role: DynamicRunner(model, hidden_states=hidden[role]) for role, model in models.items()}
            states = _read(runners, item, names)
        yield MismatchFeatures(
            states,
            torch.tensor([m.important for m in item.mismatches], dtype=torch.bool),
            torch.full((len(item.mismatches),), index, dtype=torch.long),
            torch.tensor([m.importance for m in item.mismatches], dtype=torch.float32),
        )


@torch.no_grad()
def _read(runners: dict[str, DynamicRunner], item: LabelledPrompt, names: Sequence[str]) -> dict[str, torch.Tensor]:
    """The named features of one prompt, on the CPU, read by runners that hold nothing yet."""
    sequence = torch.tensor([*item.prompt, *item.response])
    first = len(item.prompt) - 1  # the position that predicts the first token of the response
    predicted_at = torch.tensor([first + m.position for m in item.mismatches], dtype=torch.long)
    draft_tokens = torch.tensor([m.draft_token for m in item.mismatches], dtype=torch.long)
    scalars = [name for name in names if name in SCALARS]
    values = torch.empty(len(draft_tokens), len(scalars))
    collected: dict[str, list[torch.Tensor]] = {role: [] for role in runners}
    for begin in range(first, len(sequence), SEGMENT):
        end = min(begin + SEGMENT, len(sequence))
        start = 0 if begin == first else begin
        here = (predicted_at >= begin) & (predicted_at < end)
        logits = {}
        for role, runner in runners.items():
            segment_logits, hidden = runner.forward(sequence[None, start:end], [start], logits_to_keep=end - begin)
            assert hidden is not None
            collected[role].append(hidden[0])
            if scalars:
                logits[role] = segment_logits[0, (predicted_at[here] - begin).to(segment_logits.device)]
        if scalars:
            device = logits["target"].device
            draft_logits = logits["draft"].to(device) if "draft" in logits else None
            tokens = draft_tokens[here].to(device)
            values[here] = distribution_scalars(scalars, tokens, logits["target"], draft_logits).cpu()

    found = {name: values[:, i : i + 1] for i, name in enumerate(scalars)}
    for role, runner in runners.items():
        states = torch.cat(collected.pop(role))
        index = (predicted_at - first).to(states.device)
        if f"previous.{role}" in names:
            found[f"previous.{role}"] = states[index].cpu()
        if f"draft_token.{role}" in names:
            at_draft_token = states[(index + 1).clamp(max=len(states) - 1)]
            # From the last mismatch to the first, so that the cache holds the response up to each of them
            for i in predicted_at.argsort(descending=True).tolist():
                m = item.mismatches[i]
                if item.response[m.position : m.position + 1] != [m.draft_token]:
                    _, hidden = runner.forward(draft_tokens[None, i, None], [first + m.position + 1], logits_to_keep=1)
                    assert hidden is not None
                    at_draft_token[i] = hidden[0, 0]
            found[f"draft_token.{role}"] = at_draft_token.cpu()
    return {name: found[name].contiguous() for name in names}
