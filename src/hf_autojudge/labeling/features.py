"""Hidden states of labelled mismatches: what a head is fitted on."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from hf_autojudge.decoding.passes import CachedModel, rewindable_cache, unwrap_peft
from hf_autojudge.files import replacing
from hf_autojudge.judges.configuration_autojudge import FEATURES
from hf_autojudge.labeling.record import LabelledPrompt


@dataclass(frozen=True)
class MismatchFeatures:
    """Features and labels of N mismatches.

    Attributes:
        states (`dict[str, torch.FloatTensor]`): For each feature name of [`AutoJudgeConfig`], shape `(N, hidden
            size)`, float32.
        important (`torch.BoolTensor` of shape `(N,)`): The labels.
        prompt (`torch.LongTensor` of shape `(N,)`): Which prompt each mismatch is from: prompts, not mismatches, are
            split.
    """

    states: dict[str, torch.Tensor]
    important: torch.Tensor
    prompt: torch.Tensor

    def matrix(self, features: Iterable[str]) -> torch.Tensor:
        """The named features side by side: float32, shape `(N, sum of hidden sizes)`."""
        return torch.cat([self.states[name] for name in features], dim=-1)

    def save(self, path: str | os.PathLike) -> None:
        """Write a safetensors file."""
        with replacing(path) as beside:
            save_file({**self.states, "important": self.important, "prompt": self.prompt}, beside)

    @classmethod
    def load(cls, path: str | os.PathLike) -> MismatchFeatures:
        """Read what [`save`] wrote.

        Raises:
            ValueError: If the file is missing or damaged.
        """
        try:
            tensors = load_file(path)
            important, prompt = tensors.pop("important"), tensors.pop("prompt")
        except (SafetensorError, FileNotFoundError, KeyError) as error:
            raise ValueError(f"{path} holds no features ({error}); collect them again from the labels.") from error
        return cls(tensors, important, prompt)


def collect_features(
    target: PreTrainedModel,
    draft: PreTrainedModel,
    labelled: Iterable[LabelledPrompt],
) -> MismatchFeatures:
    """Read both models' last hidden states at every mismatch, with the draft's token in place.

    One teacher-forced pass of each model over the final response serves all unimportant mismatches, whose draft tokens
    stand in it. For an important one, whose draft token does not, that token is run once more on the cached prefix. So
    the states are those a judge sees when it decides.

    Returns:
        [`MismatchFeatures`] on the CPU, all four features, mismatches in order of prompt and position.
    """
    models = {"target": unwrap_peft(target), "draft": unwrap_peft(draft)}
    collected: dict[str, list[torch.Tensor]] = {name: [] for name in FEATURES}
    important: list[bool] = []
    prompt: list[int] = []
    for index, item in enumerate(labelled):
        important += [m.important for m in item.mismatches]
        prompt += [index] * len(item.mismatches)
        for name, model in models.items():
            at_token, before = _states(model, item)
            collected[f"draft_token.{name}"].append(at_token)
            collected[f"previous.{name}"].append(before)
    states = {name: torch.cat(rows) for name, rows in collected.items() if rows}
    return MismatchFeatures(states, torch.tensor(important, dtype=torch.bool), torch.tensor(prompt, dtype=torch.long))


@torch.no_grad()
def _states(model: PreTrainedModel, item: LabelledPrompt) -> tuple[torch.Tensor, torch.Tensor]:
    """States at the draft's tokens and at the positions before them: both `(mismatches, hidden size)`, float32, on the
    CPU."""
    passes = CachedModel(model, rewindable_cache(model))
    text = [*item.prompt, *item.response]
    rows = len(item.response) + 1  # from the prompt's last token on
    with passes.record_hidden():
        _, hidden = passes.forward(torch.tensor([text], device=model.device), rows)
        assert hidden is not None
        whole = hidden[0].float().cpu()
        at_token = {}
        for m in reversed(item.mismatches):  # from the end, so that taking back is enough
            if m.important:
                passes.rollback(passes.length - (len(item.prompt) + m.position))
                _, hidden = passes.forward(torch.tensor([[m.draft_token]], device=model.device), rows=1)
                assert hidden is not None
                at_token[m.position] = hidden[0, 0].float().cpu()
            else:
                at_token[m.position] = whole[m.position + 1]
    empty = whole.new_zeros(0, whole.shape[-1])
    return (
        torch.stack([at_token[m.position] for m in item.mismatches]) if at_token else empty,
        torch.stack([whole[m.position] for m in item.mismatches]) if at_token else empty,
    )
