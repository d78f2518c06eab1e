"""What the two models would write, answered for many sequences in one pass."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from transformers import PreTrainedModel

from hf_autojudge.labeling.noise import Noise
from hf_autojudge.labeling.prices import PassPrice
from hf_autojudge.runners import BatchedRunner, DynamicRunner, ModelRunner, PackedRunner

logger = logging.getLogger(__name__)

PASS_TOKENS = 16384  # maximum tokens in a pass: bounds the memory of prefills
PACKED_TOKENS = 1024  # the same where sequences are packed: a CPU gains nothing from longer passes
PASS_LOGITS = 4096  # maximum positions whose logits a pass keeps


@dataclass(frozen=True)
class PredictionRequest:
    """What would `model` write after each of the last `count` tokens of a sequence?

    Attributes:
        model (`str`): `"target"` or `"draft"`.
        tokens (`list[int]`): The sequence's token ids, prompt included.
        count (`int`): At least 1.
        noise ([`Noise`], *optional*): Draws the predicted tokens; without it they are the argmax.
        logprobs (`bool`, *optional*, defaults to `False`): Also return log-probabilities of the sequence's tokens.
        confidences (`bool`, *optional*, defaults to `False`): Also return the probabilities of the predicted tokens.
    """

    model: Literal["target", "draft"]
    tokens: list[int]
    count: int
    noise: Noise | None = None
    logprobs: bool = False
    confidences: bool = False


@dataclass(frozen=True)
class Prediction:
    """The answer to a [`PredictionRequest`].

    Attributes:
        tokens (`list[int]`): `count` tokens.
        logprobs (`list[float]`): If requested: log-probabilities, in nats, of the sequence's last `count - 1` tokens,
            each given those before it.
        confidences (`list[float]`): If requested: the model's probabilities of `tokens`.
    """

    tokens: list[int]
    logprobs: list[float]
    confidences: list[float] = field(default_factory=list)


class Predictor:
    """Answers requests to one model, for several sequences at a time. What a sequence has in common with the previous
    one in its slot of the batch is not computed again.

    On a CPU the sequences of a pass are packed, without padding. Else they are as wide as the widest needs; one that
    needs less runs some of its last tokens again, which changes nothing. A model that cannot run sequences at
    different positions in one pass runs one at a time (a warning says why).

    Args:
        model ([`PreTrainedModel`]): Decoder-only.
        num_sequences (`int`): Sequences at a time; its attribute is 1 if the model runs one at a time.
        max_length (`int`): The longest sequence, in tokens.
        num_predictable (`int`): Only tokens with ids below this are predicted.

    Attributes:
        num_tokens (`int`): Tokens that the model has read so far, without padding.
        price ([`PassPrice`]): Of its passes.
    """

    def __init__(self, model: PreTrainedModel, num_sequences: int, max_length: int, num_predictable: int) -> None:
        self._runner = _runner(model, num_sequences, max_length)
        self.num_sequences = 1 if isinstance(self._runner, DynamicRunner) else num_sequences
        self.num_tokens = 0
        self.price = PassPrice.guessed(model)
        self._num_predictable = num_predictable
        self._cached: list[list[int]] = [[] for _ in range(num_sequences)]  # what each slot of the batch holds

    def predict(self, requests: dict[int, PredictionRequest]) -> dict[int, Prediction]:
        """Answer one request for each of the given slots, 0 to `num_sequences - 1`."""
        uncached = {
            slot: len(request.tokens) - _num_shared(self._cached[slot], request) for slot, request in requests.items()
        }
        self.num_tokens += sum(uncached.values())
        if isinstance(self._runner, PackedRunner):
            passes = _in_order(uncached)
        else:
            most = PASS_LOGITS // max(request.count for request in requests.values())
            passes = _similar(uncached, self.price.overhead, most)
        predictions: dict[int, Prediction] = {}
        for slots in passes:
            chosen = [requests[slot] for slot in slots]
            began = time.perf_counter()
            logits, num_run = self._run(chosen, slots, [uncached[slot] for slot in slots])
            for slot, request in zip(slots, chosen, strict=True):
                self._cached[slot] = request.tokens
            answers = _predictions(logits[:, : self._num_predictable], chosen)  # waits for the device
            self.price.record(num_run, len(slots), time.perf_counter() - began)
            predictions |= zip(slots, answers, strict=True)
        return predictions

    def _run(
        self, requests: list[PredictionRequest], slots: list[int], uncached: list[int]
    ) -> tuple[torch.Tensor, int]:
        """Logits of the positions that the requests ask for, one request after the other, and the tokens run."""
        counts = [request.count for request in requests]
        if isinstance(self._runner, PackedRunner):
            rows = [request.tokens[-n:] for request, n in zip(requests, uncached, strict=True)]
            starts = [len(request.tokens) - n for request, n in zip(requests, uncached, strict=True)]
            return self._runner.forward(rows, starts, counts, slots), sum(uncached)
        width = max(uncached)
        last = [request.tokens[-width:] for request in requests]
        tokens = torch.tensor([[0] * (width - len(row)) + row for row in last])
        starts = [len(request.tokens) - width for request in requests]
        logits, _ = self._runner.forward(tokens, starts, max(counts), slots)
        return torch.cat([row[-count:] for row, count in zip(logits, counts, strict=True)]), tokens.numel()


def _runner(model: PreTrainedModel, num_sequences: int, max_length: int) -> PackedRunner | ModelRunner:
    try:
        return PackedRunner(model, num_sequences, max_length)
    except ValueError as not_packed:
        logger.debug("%s", not_packed)
    if num_sequences > 1:
        try:
            return BatchedRunner(model, num_sequences, max_length)
        except ValueError as error:
            logger.warning("Sequences of %s are run one at a time: %s", type(model).__name__, error)
    return DynamicRunner(model)


def _num_shared(cached: list[int], request: PredictionRequest) -> int:
    """Leading tokens of a sequence that need not be run again."""
    limit = min(len(cached), len(request.tokens) - request.count)
    if cached[:limit] == request.tokens[:limit]:
        return limit
    return next(i for i in range(limit) if cached[i] != request.tokens[i])


def _in_order(uncached: dict[int, int]) -> list[list[int]]:
    """Slots whose sequences are packed into a pass, as many as it takes."""
    passes: list[list[int]] = []
    room = 0
    for slot, tokens in uncached.items():
        if tokens > room:
            passes.append([])
            room = PACKED_TOKENS
        passes[-1].append(slot)
        room -= tokens
    return passes


def _similar(uncached: dict[int, int], pass_overhead: float, most: int) -> list[list[int]]:
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
    """From logits of the positions that the requests ask for, one request after the other, shape `(positions, V)`."""
    tokens = logits.argmax(-1)
    parts = logits.split([request.count for request in requests])
    for request, part, chosen in zip(requests, parts, tokens.split([len(part) for part in parts]), strict=True):
        if request.noise is not None:
            last = len(request.tokens)
            positions = torch.arange(last - request.count, last, device=logits.device)
            chosen.copy_(request.noise.choose(part, positions))
    confidences: list[float] = []
    if any(request.confidences for request in requests):
        chosen_logits = logits.gather(-1, tokens[:, None])[:, 0].float()
        confidences = (chosen_logits - logits.float().logsumexp(-1)).exp().tolist()
    host = tokens.tolist()
    predictions = []
    first = 0
    for request, part in zip(requests, parts, strict=True):
        logprobs: list[float] = []
        if request.logprobs:
            following = torch.tensor(request.tokens[len(request.tokens) - request.count + 1 :], device=logits.device)
            logprobs = part[:-1].float().log_softmax(-1).gather(-1, following[:, None])[:, 0].tolist()
        last = first + request.count
        predictions.append(Prediction(host[first:last], logprobs, confidences[first:last]))
        first = last
    return predictions
