"""Which guesses of a completion's next tokens are worth verifying, from what guesses were taken before and what passes
cost. Guesses change the number of passes, never the tokens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import repeat
from typing import Any

from hf_autojudge.labeling.prices import PassPrice

MAX_CANDIDATES = 64
PRIOR_WEIGHT = 8  # guesses that a rate's first estimate is worth
FIRST_ESTIMATES = {"draft": 0.8, "earlier": 0.7, "prompt lookup": 0.3}
MEMORY = 2000  # written tokens after which what a token cost counts a third
FIRST_TOKENS = 64  # written tokens before their cost is trusted

Kind = tuple[Any, ...]
"""Of a guess: its source, `"earlier"`, `"prompt lookup"` or `"draft"`, and what else its chances depend on."""


class Speculation:
    """Prices of a run's passes, and how often the guesses of each kind were taken.

    A guess is worth verifying if the probability that it and all before it are taken, times what a token costs on
    average in this run, exceeds what its verification (and drafting) costs: Dinkelbach's rule (1967) for the largest
    number of tokens in a given time.

    Args:
        prices (`Mapping[str, PassPrice]`, *optional*): Of `"target"` and, if it may guess, `"draft"`. Without, a pass
            costs as much as 32 tokens in it.

    Attributes:
        has_draft (`bool`): Whether a draft may guess.
        counts (`dict[str, list[int]]`): For each source of guesses, how many were verified and how many were taken.
        written (`int`): Tokens written by the target.
    """

    def __init__(self, prices: Mapping[str, PassPrice] | None = None) -> None:
        self._prices: Mapping[str, PassPrice] = {"target": PassPrice()} if prices is None else prices
        self.has_draft = "draft" in self._prices
        self.counts: dict[str, list[int]] = {}
        self.written = 0
        self._taken: dict[Kind, tuple[int, int]] = {}  # by kind of guess: taken, decided
        self._seconds_seen = 0.0
        self._recent = (0.0, 0.0)  # seconds, tokens

    def token_price(self) -> float:
        """Seconds that a written token costs on average."""
        seconds, tokens = self._recent
        if self.written >= FIRST_TOKENS and seconds > 0:
            return seconds / tokens
        target = self._prices["target"]
        return target.fixed / target.num_sequences + 2 * target.per_token

    def verification_price(self) -> float:
        """Seconds that one more token in a pass of the target costs."""
        return self._prices["target"].per_token

    def drafting_price(self, first: bool) -> float:
        """Seconds of one more pass of the draft: the first of a round is shared by all searches that write, another
        one by those that took part in the last."""
        draft = self._prices["draft"]
        return draft.per_token + draft.fixed / (self._prices["target"] if first else draft).num_sequences

    def rate(self, kind: Kind, first_estimate: float | None = None) -> float:
        """The probability that a guess of a kind is taken if those before it are."""
        taken, decided = self._taken.get(kind, (0, 0))
        if first_estimate is None:
            first_estimate = FIRST_ESTIMATES[kind[0]]
        return (taken + PRIOR_WEIGHT * first_estimate) / (decided + PRIOR_WEIGHT)

    def is_worth_verifying(self, probability: float) -> bool:
        """Whether a guess is, given the probability that it and all before it are taken."""
        return probability * self.token_price() > self.verification_price()

    def worth(self, kinds: Iterable[Kind], probability: float) -> tuple[int, float]:
        """How many guesses are worth verifying, given the probability that all before them are taken, and the seconds
        that this saves."""
        token_price, price = self.token_price(), self.verification_price()
        count, saved = 0, 0.0
        for kind in kinds:
            probability *= self.rate(kind)
            if (gain := probability * token_price - price) <= 0:
                break
            count, saved = count + 1, saved + gain
        return count, saved

    def worth_drafting(self, probability: float, first: bool) -> float:
        """The seconds that drafting on saves, given the probability that all guesses before are taken."""
        token_price, price = self.token_price(), self.verification_price() + self.drafting_price(first)
        rate, saved = self.rate(("draft",)), 0.0
        for _ in repeat(None, MAX_CANDIDATES):
            probability *= rate
            if (gain := probability * token_price - price) <= 0:
                break
            saved += gain
        return saved

    def record(self, kinds: Sequence[Kind], num_taken: int, written: int) -> None:
        """Add a verification: of the guesses of these kinds the first `num_taken` were taken, and the
        target wrote `written` tokens."""
        for i, kind in enumerate(kinds):
            counts = self.counts.setdefault(kind[0], [0, 0])
            counts[0] += 1
            counts[1] += i < num_taken
            if i <= num_taken:  # nothing is known of guesses after a wrong one
                for name in (kind, kind[:1]):
                    taken, decided = self._taken.get(name, (0, 0))
                    self._taken[name] = taken + (i < num_taken), decided + 1
        self.written += written
        seconds = sum(price.seconds for price in self._prices.values())
        decay = (1 - 1 / MEMORY) ** written
        self._recent = (
            decay * self._recent[0] + seconds - self._seconds_seen,
            decay * self._recent[1] + written,
        )
        self._seconds_seen = seconds
