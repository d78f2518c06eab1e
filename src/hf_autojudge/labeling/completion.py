"""Completing an answer in few passes: an earlier answer or the draft guesses its next tokens, the target verifies."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

from hf_autojudge.labeling.noise import Noise
from hf_autojudge.labeling.predictions import Prediction, PredictionRequest
from hf_autojudge.labeling.speculation import MAX_CANDIDATES, Kind, Speculation

REALIGN = (3, 2, 1)  # last tokens that must agree before an earlier answer is followed again; the longest first
CONFIDENCES = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)  # of the draft: guesses between two are alike

Requests = Generator[PredictionRequest, Prediction, tuple[list[int], list[Kind]]]


@dataclass(frozen=True)
class Limits:
    """Where an answer ends. Lengths are in tokens, and `max_length` includes the prompt."""

    prompt_length: int
    max_length: int
    end_tokens: frozenset[int]

    def reached(self, tokens: Sequence[int]) -> bool:
        """Whether a sequence has ended: by an end token, or by its length."""
        return len(tokens) >= self.max_length or (len(tokens) > self.prompt_length and tokens[-1] in self.end_tokens)


@dataclass(frozen=True)
class Alignment:
    """A known sequence that is followed: its tokens from `position` on are guesses. It was found where `matched` last
    tokens agreed, and has agreed with `run` tokens since then."""

    source: Sequence[int]
    position: int
    name: str
    matched: int
    run: int = 0

    def guesses(self) -> list[int]:
        """The tokens that follow in the source."""
        return list(self.source[self.position : self.position + MAX_CANDIDATES])

    def kinds(self, count: int) -> list[Kind]:
        """Of the first guesses."""
        runs = range(self.run, self.run + count)
        return [(self.name, self.matched, run) if run < 4 else (self.name, "long", run.bit_length()) for run in runs]

    def after(self, tokens: Sequence[int]) -> Alignment | None:
        """The alignment after these further tokens; `None` if the source has others."""
        if list(self.source[self.position : self.position + len(tokens)]) != list(tokens):
            return None
        return replace(self, position=self.position + len(tokens), run=self.run + len(tokens))


def complete(
    tokens: Sequence[int],
    earlier: Sequence[int],
    limits: Limits,
    speculation: Speculation,
    noise: Noise | None = None,
    is_enough: Callable[[list[int]], bool] | None = None,
) -> Generator[PredictionRequest, Prediction, list[int]]:
    """Let the target complete a sequence, prompt included, greedily or drawing by `noise`, until it reaches the limits
    or `is_enough` says that it need not be completed further. Returns the whole sequence.

    After a swap the target often writes what it wrote before. So an `earlier` sequence of the same prompt guesses the
    next tokens; where the two have diverged, the last tokens are looked up in it (re-aligned) or in the sequence
    itself (prompt lookup decoding, Saxena 2023), or the draft guesses, whichever saves more by what `speculation`
    knows. Only the target's own tokens are kept: guesses change the number of passes, not the answer.
    """
    tokens = list(tokens)
    alignment: Alignment | None = Alignment(earlier, len(tokens), "earlier", 0)
    while not limits.reached(tokens) and not (is_enough is not None and is_enough(tokens)):
        alignment = alignment or _realigned(tokens, earlier)
        guesses, kinds = yield from _guesses(tokens, earlier, alignment, limits, speculation, noise)
        prediction = yield PredictionRequest("target", tokens + guesses, len(guesses) + 1, noise)
        length = len(tokens)
        for num_taken, token in enumerate(prediction.tokens):
            tokens.append(token)
            if limits.reached(tokens) or token not in guesses[num_taken : num_taken + 1]:
                break
        num_taken = sum(
            1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(guesses, tokens[length:], strict=False))
        )
        speculation.record(kinds, num_taken, len(tokens) - length)
        alignment = alignment.after(tokens[length:])
    return tokens


def _guesses(
    tokens: list[int],
    earlier: Sequence[int],
    alignment: Alignment,
    limits: Limits,
    speculation: Speculation,
    noise: Noise | None,
) -> Requests:
    """The next tokens, and of which kinds these guesses are. The draft guesses as long as that saves more than to
    follow a known sequence from there."""
    room = min(MAX_CANDIDATES, limits.max_length - len(tokens) - 1)
    guesses: list[int] = []
    kinds: list[Kind] = []
    probability = 1.0
    while len(guesses) < room and not (guesses and guesses[-1] in limits.end_tokens):
        known = alignment.guesses()[: room - len(guesses)]
        following = alignment.kinds(len(known))
        count, saved = speculation.worth(following, probability)
        if not speculation.has_draft or saved >= speculation.worth_drafting(probability, not guesses):
            return guesses + known[:count], kinds + following[:count]
        request = PredictionRequest("draft", tokens + guesses, 1, noise, confidences=True)
        prediction = yield request
        (token,), (confidence,) = prediction.tokens, prediction.confidences
        agrees = token == known[0] if known else None
        kind = ("draft", agrees, sum(confidence >= border for border in CONFIDENCES))
        probability *= speculation.rate(kind, confidence)
        if not speculation.is_worth_verifying(probability):
            break
        guesses.append(token)
        kinds.append(kind)
        alignment = alignment.after([token]) or _realigned(tokens + guesses, earlier)
    return guesses, kinds


def _realigned(tokens: list[int], earlier: Sequence[int]) -> Alignment:
    """A sequence and the position in it that follows the last tokens of `tokens`: in the earlier one the position
    nearest to the end of `tokens`, in `tokens` itself the latest. An empty one if there is none."""
    earlier = list(earlier)
    for n in REALIGN:
        tail = tokens[-n:]
        ends = [i + n for i in range(len(earlier) - n) if earlier[i : i + n] == tail]
        if ends:
            return Alignment(earlier, min(ends, key=lambda end: abs(end - len(tokens))), "earlier", n)
        for i in range(len(tokens) - n - 1, -1, -1):
            if tokens[i : i + n] == tail:
                return Alignment(tokens[:], i + n, "prompt lookup", n)
    return Alignment([], 0, "prompt lookup", 0)
