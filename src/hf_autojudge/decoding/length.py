"""How many candidates a row drafts in a round."""

from __future__ import annotations

from typing import Literal

Schedule = Literal["constant", "heuristic", "heuristic_transient"]


class Length:
    """Decides, for one row, when drafting stops: after a number of candidates, constant or, with a heuristic schedule,
    2 more after a fully accepted window and 1 less after any other, as in transformers; and after a candidate of low
    probability.

    Args:
        num_tokens (`int`): Candidates a round, to begin with.
        schedule (`str`, *optional*, defaults to `"constant"`): Each call starts afresh, so `"heuristic_transient"` is
            `"heuristic"`.
        confidence_threshold (`float`, *optional*, defaults to `0`): Stop after a candidate to which the draft gave a
            lower probability; 0 never stops. The threshold stays as it is (transformers moves it between rounds).

    Attributes:
        count (`int`): Candidates of this round so far.
        open (`bool`): Whether another one is wanted.
    """

    def __init__(self, num_tokens: int, schedule: Schedule = "constant", confidence_threshold: float = 0.0) -> None:
        self.num_tokens = num_tokens
        self.schedule = schedule
        self.confidence_threshold = confidence_threshold
        self.count = 0
        self.open = False

    def begin(self, limit: int) -> None:
        """A round of at most `limit` candidates begins."""
        self.count = 0
        self._most = min(self.num_tokens, limit)
        self.open = self._most > 0

    def add(self, probability: float, ends: bool) -> None:
        """One more candidate; `ends` says that it is an end token. `probability` is looked at with a confidence
        threshold only."""
        self.count += 1
        self.open = self.count < self._most and not ends and probability >= self.confidence_threshold

    def update(self, accepted: int) -> None:
        """So many candidates of the round were kept."""
        if self.schedule != "constant":
            self.num_tokens = self.num_tokens + 2 if accepted == self.count else max(1, self.num_tokens - 1)
