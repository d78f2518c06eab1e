"""What the two models would write, answered for many sequences in one pass."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from transformers import PreTrainedModel

from hf_autojudge.labeling.noise import Noise
from hf_autojudge.runners import BatchedRunner, DynamicRunner, ModelRunner

logger = logging.getLogger(__name__)

PASS_TOKENS = 16384  # maximum tokens in a pass: bounds the memory of prefills
PASS_LOGITS = 4096  # maximum positions whose logits a pass keeps
PASS_OVERHEAD = {"cpu": 32}  # what a pass costs beyond its tokens, in tokens
PASS_OVERHEAD_ELSEWHERE = 512  # on accelerators


@dataclass(frozen=True)
class PredictionRequest:
    """What would `model` write after each of the last `count` tokens of a sequence?

    Attributes:
        model (`str`): `"target"` or `"draft"`.
        tokens (`list[int]`): The sequence's token ids, prompt included.
        count (`int`): At least 1.
        noise ([`Noise`], *optional*): Draws the predicted tokens; without it they are the argmax.
        logprobs (`bool`, *optional*, defaults to `False`): Also return log-probabilities of the sequence's tokens.
    """

    model: Literal["target", "draft"]
    tokens: list[int]
    count: int
    noise: Noise | None = None
    logprobs: bool = False


@dataclass(frozen=True)
class Prediction:
    """The answer to a [`PredictionRequest`].

    Attributes:
        tokens (`list[int]`): `count` tokens.
        logprobs (`list[float]`): If requested: log-probabilities, in nats, of the sequence's last `count - 1` tokens,
            each given those before it.
    """

    tokens: list[int]
    logprobs: list[float]


class Predictor:
    """Answers requests to one model, for several sequences at a time. What a sequence has in common with the previous
    one in its slot of the batch is not computed again.

    Sequences of a pass are as wide as the widest needs; one that needs less runs some of its last tokens again, which
    changes nothing. A model that cannot run sequences at different positions in one pass runs one at a time (a warning
    says why).

    Args:
        model ([`PreTrainedModel`]): Decoder-only.
        num_sequences (`int`): Sequences at a time; its attribute is 1 if the model runs one at a time.
        max_length (`int`): The longest sequence, in tokens.
        num_predictable (`int`): Only tokens with ids below this are predicted.

    Attributes:
        num_tokens (`int`): Tokens that the model has read so far, without padding.
    """

    def __init__(self, model: PreTrainedModel, num_sequences: int, max_length: int, num_predictable: int) -> None:
        self._runner: ModelRunner | None = None
        if num_sequences > 1:
            try:
                self._runner = BatchedRunner(model, num_sequences, max_length)
            except ValueError as error:
                logger.warning("Sequences of %s are run one at a time: %s", type(model).__name__, error)
        if self._runner is None:
            num_sequences = 1
            self._runner = DynamicRunner(model)
        self.num_sequences = num_sequences
        self.num_tokens = 0
        self._num_predictable = num_predictable
        self._pass_overhead = PASS_OVERHEAD.get(model.device.type, PASS_OVERHEAD_ELSEWHERE)
        self._cached: list[list[int]] = [[] for _ in range(num_sequences)]  # what each slot of the batch holds

    def predict(self, requests: dict[int, PredictionRequest]) -> dict[int, Prediction]:
        """Answer one request for each of the given slots, 0 to `num_sequences - 1`."""
        uncached = {
            slot: len(request.tokens) - _num_shared(self._cached[slot], request) for slot, request in requests.items()
        }
        self.num_tokens += sum(uncached.values())
        most = PASS_LOGITS // max(request.count for request in requests.values())
        predictions: dict[int, Prediction] = {}
        for slots in _similar(uncached, self._pass_overhead, most):
            width = max(uncached[slot] for slot in slots)
            predictions |= zip(slots, self._run([requests[slot] for slot in slots], slots, width), strict=True)
        return predictions

    def _run(self, requests: list[PredictionRequest], slots: list[int], width: int) -> list[Prediction]:
        assert self._runner is not None
        last = [request.tokens[-width:] for request in requests]
        tokens = torch.tensor([[0] * (width - len(row)) + row for row in last])
        starts = [len(request.tokens) - width for request in requests]
        logits, _ = self._runner.forward(tokens, starts, max(request.count for request in requests), slots)
        for slot, request in zip(slots, requests, strict=True):
            self._cached[slot] = request.tokens
        return _predictions(logits[..., : self._num_predictable], requests)


def _num_shared(cached: list[int], request: PredictionRequest) -> int:
    """Leading tokens of a sequence that need not be run again."""
    limit = min(len(cached), len(request.tokens) - request.count)
    if cached[:limit] == request.tokens[:limit]:
        return limit
    return next(i for i in range(limit) if cached[i] != request.tokens[i])


def _similar(uncached: dict[int, int], pass_overhead: int, most: int) -> list[list[int]]:
    """Slots whose sequences share a pass, at most `most`: one more pass costs `pass_overhead` tokens, a sequence
    costs as many tokens as the widest one."""
    if not uncached:
        return []
    order = sorted(uncached, key=lambda slot: -uncached[slot])
    widest = uncached[order[0]]
    gain, cut = max(((widest - uncached[slot]) * (len(order) - i), i) for i, slot in enumerate(order))
    count = max(1, min(cut if gain > pass_overhead else len(order), most, PASS_TOKENS // widest))
    rest = {slot: uncached[slot] for slot in order[count:]}
    return [sorted(order[:count]), *_similar(rest, pass_overhead, most)]


def _predictions(logits: torch.Tensor, requests: Sequence[PredictionRequest]) -> list[Prediction]:
    """From logits at the last positions of every sequence, shape `(sequences, n, V)`."""
    n = logits.shape[1]
    tokens = logits.argmax(-1)
    for i, request in enumerate(requests):
        if request.noise is not None:
            positions = torch.arange(len(request.tokens) - request.count, len(request.tokens), device=logits.device)
            tokens[i, n - request.count :] = request.noise.choose(logits[i, n - request.count :], positions)
    logprobs: list[list[float]] = [[] for _ in requests]
    for i, request in enumerate(requests):
        if request.logprobs:
            following = torch.tensor(request.tokens[len(request.tokens) - request.count + 1 :], device=logits.device)
            distribution = logits[i, n - request.count : n - 1].float().log_softmax(-1)
            logprobs[i] = distribution.gather(-1, following[:, None])[:, 0].tolist()
    host = tokens.tolist()
    return [Prediction(host[i][n - request.count :], logprobs[i]) for i, request in enumerate(requests)]
