"""All settings of a [`JudgeTrainer`]."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from hf_autojudge.judges.configuration_autojudge import FEATURES, SCALARS
from hf_autojudge.labeling import Annotated, AutoJudge, SelfJudge
from hf_autojudge.labeling.methods.base import LabelingMethod
from hf_autojudge.tasks.base import Sample

METHODS = ("autojudge", "selfjudge", "annotated")


def _field(default: Any, help: str) -> Any:
    """A field as in transformers' `TrainingArguments`: the command line and the documentation show its help."""
    return field(default=default, metadata={"help": help})


@dataclass
class JudgeTrainingArguments:
    """Settings of the four verbs: label, fit, calibrate and evaluate. Each field documents its unit and its default in
    its metadata; `hf-autojudge <verb> --help` shows the same texts.

    Raises:
        ValueError: If a value is out of range.
    """

    output_dir: str = _field("judge", "Folder of the judge: weights, config, reports and card.")
    labels_dir: str | None = _field(None, "Folder of the labels. Default: labels in the output folder.")

    max_train_samples: int | None = _field(
        None, "Maximum number of training samples to label. Default: all of the task."
    )
    max_validation_samples: int | None = _field(
        None, "Maximum number of validation samples to calibrate on. Default: all of the task."
    )
    max_test_samples: int | None = _field(
        None, "Maximum number of test samples to evaluate on. Default: all of the task."
    )
    max_new_tokens: int | None = _field(None, "Maximum length of an answer, in tokens. Default: the task's.")
    num_assistant_tokens: int | None = _field(
        None,
        "Number of candidate tokens in a round; calibrate stores it in the judge. Default: the models', then the "
        "judge's, then 20.",
    )
    tune_draft_length: bool = _field(
        False,
        "Before calibrating, choose the number of candidate tokens and the draft's confidence threshold by tokens/s "
        "on the first 32 validation samples, and store them in the judge.",
    )
    seed: int = _field(0, "Seed of everything random: rollouts, the validation split, the order of measurements.")

    method: str = _field("autojudge", "Labelling method: autojudge, selfjudge or annotated.")
    outcome: str = _field(
        "same",
        "What the labels protect: same (the outcome of the target's own answer) or correct (right answers; what turns "
        "a wrong answer right is helpful) (autojudge).",
    )
    rollouts: int = _field(
        0, "Number of additional sampled completions for each mismatch, for soft labels (autojudge)."
    )
    temperature: float = _field(0.7, "Temperature of the rollouts, above 0 (autojudge).")
    max_log_likelihood_drop: float = _field(
        5.0, "Loss of log-likelihood, in nats, above which a mismatch is important (selfjudge)."
    )
    num_suffix_tokens: int = _field(20, "Number of tokens after the swapped one that are scored (selfjudge).")
    label_batch_size: int = _field(16, "Number of prompts labelled at the same time, on each worker.")

    features: list[str] | None = _field(
        None,
        "Names of what the head reads: draft_token or previous, dot draft or target; scalar.kl, scalar.entropy, "
        "scalar.logprob, scalar.rank, scalar.margin. Default: both models' hidden states at the draft's token, or "
        "only the target's if the labels were made without a draft.",
    )
    hidden_size: int = _field(0, "Number of units in the hidden layer; 0 for a linear head.")
    soft_labels: bool = _field(False, "Fit on the labels' shares from rollouts instead of hard labels.")
    validation_share: float = _field(
        0.1, "Share of the labelled prompts on which the fit is validated, between 0 and 1."
    )
    balanced: bool | None = _field(
        None, "Give both classes the same total weight. Default: only for annotated answers."
    )

    max_accuracy_drop: float = _field(
        0.01, "Largest accepted drop in accuracy, as a share between 0 and 1: 0.01 is one percentage point."
    )
    confidence: float = _field(0.9, "One-sided confidence that the drop is not larger, between 0.5 and 1.")
    thresholds: list[float] | None = _field(
        None,
        "Thresholds to measure, importance between 0 and 1. Default: those of the judge's table, in evaluate its own, "
        "too.",
    )

    eval_batch_size: int = _field(
        16,
        "Number of samples answered at the same time, to calibrate and to evaluate; in float32 the answers do not "
        "depend on it. Evaluate measures tokens/s on up to 16 samples, one at a time; with 1, on all.",
    )

    report_to: str | list[str] = _field(
        "none", "Names of the services to report figures to, as in transformers: tensorboard, wandb, ..., all or none."
    )
    run_name: str | None = _field(None, "Name of the run in these services. Default: the service's.")

    push_to_hub: bool = _field(False, "Upload the judge to the Hub afterwards.")
    hub_model_id: str | None = _field(
        None, "Repository on the Hub, organization/name. Default: the name of the output folder, in your account."
    )
    hub_private_repo: bool | None = _field(None, "Make a new repository private. Default: the organization's setting.")
    hub_token: str | None = _field(None, "Access token of the Hub. Default: that of `hf auth login`.")

    def __post_init__(self) -> None:
        for name in ("max_train_samples", "max_validation_samples", "max_test_samples", "max_new_tokens"):
            self._check(name, "at least 1", lambda value: value is None or value >= 1)
        self._check("num_assistant_tokens", "at least 1", lambda value: value is None or value >= 1)
        self._check("label_batch_size", "at least 1", lambda value: value >= 1)
        self._check("eval_batch_size", "at least 1", lambda value: value >= 1)
        self._check("hidden_size", "at least 0", lambda value: value >= 0)
        self._check("validation_share", "between 0 and 1", lambda value: 0 < value < 1)
        self._check("max_accuracy_drop", "between 0 and 1", lambda value: 0 < value < 1)
        self._check("confidence", "between 0.5 and 1", lambda value: 0.5 < value < 1)
        self._check("thresholds", "between 0 and 1", lambda values: all(0 <= value <= 1 for value in values or ()))
        known = (*FEATURES, *SCALARS)
        self._check("features", f"of {', '.join(known)}", lambda names: set(names or ()).issubset(known))
        if self.tune_draft_length and self.num_assistant_tokens is not None:
            raise ValueError(
                f"num_assistant_tokens is {self.num_assistant_tokens}, but tune_draft_length chooses it; give one of "
                "the two."
            )
        self._check("method", f"one of {', '.join(METHODS)}", lambda value: value in METHODS)
        if self.method != "autojudge":
            self._check("outcome", f"'same' with the method {self.method}", lambda value: value == "same")

        if self.method == "autojudge":
            AutoJudge(self.rollouts, self.temperature, self.seed, self.outcome)  # raises
        elif self.method == "selfjudge":
            SelfJudge(self.max_log_likelihood_drop, self.num_suffix_tokens)

    def _check(self, name: str, expected: str, is_good: Any) -> None:
        if not is_good(getattr(self, name)):
            raise ValueError(f"{name} must be {expected}; got {getattr(self, name)!r}.")

    @property
    def labels_folder(self) -> Path:
        """Folder of the labels."""
        return Path(self.output_dir) / "labels" if self.labels_dir is None else Path(self.labels_dir)

    def labeling_method(self, samples: Sequence[Sample], tokenizer: PreTrainedTokenizerBase) -> LabelingMethod:
        """The labelling method with its settings. `samples` and `tokenizer` are those to label, for `annotated`."""
        if self.method == "selfjudge":
            return SelfJudge(self.max_log_likelihood_drop, self.num_suffix_tokens)
        if self.method == "annotated":
            return Annotated(samples, tokenizer)
        return AutoJudge(self.rollouts, self.temperature, self.seed, self.outcome)

    def to_dict(self) -> dict[str, Any]:
        """All fields, the access token hidden. Reporting services of transformers ask for it."""
        return asdict(self) | ({"hub_token": "<HUB_TOKEN>"} if self.hub_token else {})

    to_sanitized_dict = to_dict

    def to_json_string(self) -> str:
        """[`to_dict`] as JSON. Reporting services of transformers ask for it."""
        return json.dumps(self.to_dict(), indent=2)
