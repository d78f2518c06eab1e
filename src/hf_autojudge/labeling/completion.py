"""Completing an answer in few passes: earlier answers propose its next tokens, the target verifies them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

from hf_autojudge.labeling.noise import Noise
from hf_autojudge.labeling.predictions import Prediction, PredictionRequest

MAX_CANDIDATES = 32
FIRST_CANDIDATES = 6  # at the start, and after a pass that accepted none
REALIGN = (3, 2, 1)  # last tokens that must agree before an earlier answer is followed again; the longest first


@dataclass(frozen=True)
class Limits:
    """Where an answer ends. Lengths are in tokens, and `max_length` includes the prompt."""

    prompt_length: int
    max_length: int
    end_tokens: frozenset[int]

    def reached(self, tokens: Sequence[int]) -> bool:
        """Whether a sequence has ended: by an end token, or by its length."""
        return len(tokens) >= self.max_length or (len(tokens) > self.prompt_length and tokens[-1] in self.end_tokens)


def complete(
    tokens: Sequence[int],
    earlier: Sequence[int],
    limits: Limits,
    noise: Noise | None = None,
    is_enough: Callable[[list[int]], bool] | None = None,
) -> Generator[PredictionRequest, Prediction, list[int]]:
    """Let the target complete a sequence, prompt included, greedily or drawing by `noise`, until it reaches the limits
    or `is_enough` says that it need not be completed further. Returns the whole sequence.

    After a swap the target mostly writes what it wrote before. So an `earlier` sequence of the same prompt proposes
    the next tokens; where the two have diverged, the last tokens are looked up in it (re-aligned) or in the sequence
    itself (prompt lookup decoding, Saxena 2023). Only the target's own tokens are kept: proposals change the number of
    passes, not the answer.
    """
    tokens = list(tokens)
    source: Sequence[int] = earlier
    position: int | None = len(tokens)  # where the source continues, while it agrees
    width = FIRST_CANDIDATES
    while not limits.reached(tokens) and not (is_enough is not None and is_enough(tokens)):
        if position is None:
            source, position = _realigned(tokens, earlier)
        candidates = list(source[position : position + min(width, limits.max_length - len(tokens) - 1)])
        prediction = yield PredictionRequest("target", tokens + candidates, len(candidates) + 1, noise)
        for accepted, token in enumerate(prediction.tokens):
            tokens.append(token)
            if limits.reached(tokens) or token not in candidates[accepted : accepted + 1]:
                break
        position += accepted + 1
        if not candidates or list(source[position - 1 : position]) != tokens[-1:]:
            position = None
        width = min(MAX_CANDIDATES, 2 * width) if accepted == len(candidates) else FIRST_CANDIDATES
    return tokens


def _realigned(tokens: list[int], earlier: Sequence[int]) -> tuple[Sequence[int], int]:
    """A sequence and the position in it that follows the last tokens of `tokens`: in the earlier one the position
    nearest to the end of `tokens`, in `tokens` itself the latest. Its end, where nothing follows, if there is none."""
    earlier = list(earlier)
    for n in REALIGN:
        tail = tokens[-n:]
        ends = [i + n for i in range(len(earlier) - n) if earlier[i : i + n] == tail]
        if ends:
            return earlier, min(ends, key=lambda end: abs(end - len(tokens)))
        for i in range(len(tokens) - n - 1, -1, -1):
            if tokens[i : i + n] == tail:
                return tokens, i + n
    return tokens, len(tokens)
