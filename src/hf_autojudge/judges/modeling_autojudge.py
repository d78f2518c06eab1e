"""The trained judge: standardize the features, one linear layer, a sigmoid (AutoJudge, arXiv 2504.20039, section 3);
with a hidden layer in between, if the config says so."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoModel, PreTrainedModel

from hf_autojudge.judges.base import Read, Window, check_threshold
from hf_autojudge.judges.configuration_autojudge import FEATURES, SCALARS, AutoJudgeConfig, reads_draft
from hf_autojudge.judges.distributions import distribution_scalars


class AutoJudgeHead(PreTrainedModel):
    """A head on hidden states: `importance = sigmoid(linear(z))` with `z = (x - mean) / scale`, or
    `sigmoid(linear(gelu(hidden(z))))` with a hidden layer.

    Load one with `AutoJudgeHead.from_pretrained(...)` and hand it to `generate(..., judge=head)`. Computes in float32
    whatever the models' dtype. Weights are read and written as safetensors only.

    Attributes:
        mean, scale (`torch.FloatTensor` of shape `(input_size,)`): Standardisation buffers.
        hidden (`nn.Linear`, *optional*): Weight `(hidden_size, input_size)` and bias `(hidden_size,)`, on standardised
            features; `None` for a linear head.
        linear (`nn.Linear`): Weight `(1, hidden_size or input_size)` and bias `(1,)`.
    """

    config_class = AutoJudgeConfig
    base_model_prefix = "autojudge"
    main_input_name = "features"

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, config: AutoJudgeConfig) -> None:
        super().__init__(config)
        self.register_buffer("mean", torch.zeros(config.input_size))
        self.register_buffer("scale", torch.ones(config.input_size))
        self.hidden = nn.Linear(config.input_size, config.hidden_size) if config.hidden_size else None
        self.linear = nn.Linear(config.hidden_size or config.input_size, 1)
        self.post_init()

    @classmethod
    def from_linear(
        cls,
        weight: Any,
        bias: Any,
        mean: Any,
        scale: Any,
        features: Sequence[str] = FEATURES[:2],
        draft_hidden_size: int = 0,
        target_hidden_size: int = 0,
        threshold: float = 0.5,
        hidden: tuple[Any, Any] | None = None,
        **config: Any,
    ) -> AutoJudgeHead:
        """Build a head from numbers, for instance those of a scikit-learn pipeline.

        Args:
            weight (`torch.Tensor` or `numpy.ndarray` of shape `(n,)` or `(1, n)`): On standardised features, in the
                order of `features`, n being `input_size`; or on the hidden layer.
            bias (`float` or array of one element): Added to the weighted sum.
            mean, scale (`torch.Tensor` or `numpy.ndarray` of shape `(input_size,)`): Features become `(x - mean) /
                scale`.
            features (`Sequence[str]`, *optional*, defaults to `("draft_token.draft", "draft_token.target")`): Order of
                concatenation.
            draft_hidden_size, target_hidden_size (`int`): Widths of the two models' last hidden states.
            threshold (`float`, *optional*, defaults to `0.5`): In [0, 1].
            hidden (`tuple` of two arrays, *optional*): Weight `(hidden_size, input_size)` and bias `(hidden_size,)` of
                a hidden layer.
            config: Further fields of [`AutoJudgeConfig`].

        Raises:
            ValueError: If a shape does not fit the hidden sizes, or a number is not finite.
        """
        head = cls(
            AutoJudgeConfig(
                features=features,
                draft_hidden_size=draft_hidden_size,
                target_hidden_size=target_hidden_size,
                threshold=threshold,
                hidden_size=0 if hidden is None else len(hidden[1]),
                **config,
            )
        )
        given = [
            ("weight", weight, head.linear.weight),
            ("bias", bias, head.linear.bias),
            ("mean", mean, head.mean),
            ("scale", scale, head.scale),
        ]
        if hidden is not None and head.hidden is not None:
            given += [("hidden weight", hidden[0], head.hidden.weight), ("hidden bias", hidden[1], head.hidden.bias)]
        for name, numbers, place in given:
            value = torch.as_tensor(numbers).detach().float()
            if value.numel() != place.numel():
                raise ValueError(
                    f"`{name}` has {value.numel()} numbers, but the features {list(features)} with draft_hidden_size="
                    f"{draft_hidden_size} and target_hidden_size={target_hidden_size} need {place.numel()}."
                )
            with torch.no_grad():
                place.copy_(value.reshape(place.shape))
        head._check_numbers("the given numbers")
        return head.eval()

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike, *args: Any, **kwargs: Any) -> Any:
        """Load a judge from the Hub or a folder; arguments as in `PreTrainedModel.from_pretrained`.

        Raises:
            ValueError: If the weights are corrupt, truncated, incomplete or of other shapes than the config says.
        """
        wants_info = kwargs.pop("output_loading_info", False)
        kwargs["use_safetensors"] = True
        try:
            head, info = super().from_pretrained(
                pretrained_model_name_or_path, *args, output_loading_info=True, **kwargs
            )
        except (SafetensorError, RuntimeError, EOFError, UnicodeDecodeError) as error:
            raise ValueError(
                f"The judge's weights in {pretrained_model_name_or_path!s} cannot be read ({error}): the file is "
                "corrupt, truncated or not a judge's; download or save it again."
            ) from error
        wrong = {name: sorted(map(str, info[name])) for name in ("missing_keys", "mismatched_keys") if info[name]}
        if wrong:
            raise ValueError(
                f"The judge's weights in {pretrained_model_name_or_path!s} do not fit its config: {wrong}; "
                "download or save it again."
            )
        head._check_numbers(str(pretrained_model_name_or_path))
        return (head, info) if wants_info else head

    def _check_numbers(self, origin: str) -> None:
        for name, tensor in self.state_dict().items():
            if not tensor.isfinite().all():
                raise ValueError(
                    f"The judge's `{name}` in {origin} holds numbers that are not finite; fit or save it again."
                )
        if not (self.scale > 0).all():
            raise ValueError(f"The judge's `scale` in {origin} must be positive; fit or save it again.")

    @property
    def reads(self) -> frozenset[Read]:
        names: dict[str, Read] = {"draft": "draft_hidden", "target": "target_hidden"}
        found = {names[feature.split(".")[1]] for feature in self.config.features if feature not in SCALARS}
        for feature in set(self.config.features).intersection(SCALARS):
            found |= {"target_logits", "draft_logits"} if reads_draft(feature) else {"target_logits"}
        return frozenset(found)

    @property
    def threshold(self) -> float:
        return float(self.config.threshold)

    @property
    def num_assistant_tokens(self) -> int | None:
        return self.config.num_candidate_tokens

    @property
    def assistant_confidence_threshold(self) -> float | None:
        """Probability of a candidate below which drafting stops, as tuned for the judge; `None` if it was not."""
        return self.config.confidence_threshold

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Logits of importance.

        Args:
            features (`torch.Tensor` of shape `(..., input_size)`): The concatenated features, any float dtype.

        Returns:
            `torch.FloatTensor` of shape `(...)`; `sigmoid` of it is the importance.
        """
        z = (features.float() - self.mean.float()) / self.scale.float()
        if self.hidden is not None:
            z = nn.functional.gelu(nn.functional.linear(z, self.hidden.weight.float(), self.hidden.bias.float()))
        return nn.functional.linear(z, self.linear.weight.float(), self.linear.bias.float())[..., 0]

    def importance(self, window: Window) -> torch.Tensor:
        """Probability that each candidate token, if it is a mismatch, changes the outcome: float32, shape `(B, K)`."""
        positions = {"draft_token": slice(1, None), "previous": slice(None, -1)}
        scalars = [feature for feature in self.config.features if feature in SCALARS]
        if scalars:
            assert window.target_logits is not None
            values = distribution_scalars(
                scalars, window.draft_tokens, window.target_logits[:, :-1], window.draft_logits
            )
        columns = []
        for feature in self.config.features:
            if feature in SCALARS:
                columns.append(values[..., scalars.index(feature), None].to(self.mean.device))
                continue
            position, model = feature.split(".")
            hidden = window.target_hidden if model == "target" else window.draft_hidden
            assert hidden is not None
            columns.append(hidden[:, positions[position]].to(self.mean.device).float())
        return self(torch.cat(columns, dim=-1)).sigmoid()

    def accept(self, window: Window, threshold: float | None = None) -> torch.Tensor:
        """See [`Judge.accept`]. Threshold 1 accepts everything, also where the importance rounds to 1."""
        threshold = self.threshold if threshold is None else check_threshold(threshold)
        if threshold in (0.0, 1.0):
            return torch.full_like(window.draft_tokens, bool(threshold), dtype=torch.bool)
        return (self.importance(window) < threshold).to(window.draft_tokens.device)

    def check_models(self, target_hidden_size: int, draft_hidden_size: int | None, vocab_size: int) -> None:
        config, reads = self.config, self.reads
        if "draft_hidden" in reads and draft_hidden_size is None:
            raise ValueError(
                f"This judge reads draft states (features {config.features}), but this candidate source has none; "
                "pass `assistant_model=`, or use a judge that reads the target only."
            )
        for applies, role, what, expected, given in (
            ("target_hidden" in reads, "target", "states of size", config.target_hidden_size, target_hidden_size),
            ("draft_hidden" in reads, "draft", "states of size", config.draft_hidden_size, draft_hidden_size),
            (config.vocab_size is not None, "target", "a vocabulary of size", config.vocab_size, vocab_size),
        ):
            if applies and expected != given:
                raise ValueError(
                    f"This judge was trained for the {role} {getattr(config, role) or '(not named)'}, with {what} "
                    f"{expected}; got {given}. Use that {role}, or a judge trained for this one."
                )


AutoConfig.register(AutoJudgeConfig.model_type, AutoJudgeConfig, exist_ok=True)
AutoModel.register(AutoJudgeConfig, AutoJudgeHead, exist_ok=True)
