"""Judges made of judges: any or all of several, only inside a span, only after the first tokens, within a budget."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from hf_autojudge.judges.base import Judge, Read, Window, check_threshold, num_budgets, spent_with
from hf_autojudge.judges.rules import check_whole


@dataclass(frozen=True)
class _Composite:
    """What all composites share: they read what their judges read, and pass a threshold on to those that have one.

    Raises:
        TypeError: If one of the judges is none.
        ValueError: If there is no judge, or one that changes what is verified.
    """

    judges: tuple[Judge, ...]

    def __post_init__(self) -> None:
        name = type(self).__name__
        if not self.judges:
            raise ValueError(f"{name} needs at least one judge.")
        for judge in self.judges:
            if isinstance(judge, type) or not isinstance(judge, Judge):
                raise TypeError(f"{name} takes judges; got {judge!r}.")
            if any(hasattr(judge, hook) for hook in ("target_weight", "passes", "verify_block")):
                raise ValueError(f"{judge!r} changes the standard test, so it cannot be combined with other judges.")

    @property
    def reads(self) -> frozenset[Read]:
        return frozenset().union(*(judge.reads for judge in self.judges))

    @property
    def threshold(self) -> float | None:
        """Of the first judge that has one."""
        return self._first("threshold")

    @property
    def num_assistant_tokens(self) -> int | None:
        """Of the first judge that names a number."""
        return self._first("num_assistant_tokens")

    @property
    def assistant_confidence_threshold(self) -> float | None:
        """Of the first judge that names one."""
        return self._first("assistant_confidence_threshold")

    def _first(self, name: str) -> Any:
        values = (getattr(judge, name, None) for judge in self.judges)
        return next((value for value in values if value is not None), None)

    @property
    def num_budgets(self) -> int:
        return sum(map(num_budgets, self.judges))

    def check_models(self, target_hidden_size: int, draft_hidden_size: int | None, vocab_size: int) -> None:
        for judge in self.judges:
            judge.check_models(target_hidden_size, draft_hidden_size, vocab_size)

    def _answers(self, window: Window, threshold: float | None) -> list[torch.Tensor]:
        """What each judge accepts."""
        return [
            judge.accept(own, None if judge.threshold is None else threshold)
            for judge, own in zip(self.judges, self._windows(window), strict=True)
        ]

    def _windows(self, window: Window) -> list[Window]:
        """The window of each judge, with its own budgets only."""
        sizes = list(map(num_budgets, self.judges))
        if not any(sizes):
            return [window] * len(sizes)
        assert window.spent is not None
        return [replace(window, spent=spent) for spent in window.spent.split(sizes, dim=-1)]

    def costs(self, window: Window) -> torch.Tensor:
        """See [`Spender.costs`]: those of the judges, side by side."""
        pairs = zip(self.judges, self._windows(window), strict=True)
        return torch.cat([judge.costs(own) for judge, own in pairs if num_budgets(judge)], dim=-1)  # type: ignore[attr-defined]


@dataclass(frozen=True)
class AnyOf(_Composite):
    """Accepts what at least one of several judges accepts. A budget counts each accepted mismatch, whichever judge
    accepted it."""

    def accept(self, window: Window, threshold: float | None = None) -> torch.Tensor:
        return torch.stack(self._answers(window, threshold)).any(0)


@dataclass(frozen=True)
class AllOf(_Composite):
    """Accepts what all of several judges accept."""

    def accept(self, window: Window, threshold: float | None = None) -> torch.Tensor:
        return torch.stack(self._answers(window, threshold)).all(0)


@dataclass(frozen=True)
class Inside(_Composite):
    """Accepts what its judge accepts between two marks, and nothing elsewhere; see [`inside`]."""

    start_ids: tuple[int, ...] = ()
    end_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        # A negative one stands for padding in the window; text would never be found
        ids = all(isinstance(token, int) and token >= 0 for token in (*self.start_ids, *self.end_ids))
        if not ids or not self.start_ids or not self.end_ids or self.start_ids == self.end_ids:
            raise ValueError(
                f"inside needs two different marks of at least one token id each; got start_ids="
                f"{list(self.start_ids)} and end_ids={list(self.end_ids)}."
            )

    @property
    def reads(self) -> frozenset[Read]:
        return super().reads | {"tokens"}

    def accept(self, window: Window, threshold: float | None = None) -> torch.Tensor:
        (accepted,) = self._answers(window, threshold)
        assert window.tokens is not None
        sequence = torch.cat([window.tokens, window.draft_tokens], dim=-1)
        start, end = _last_end(sequence, self.start_ids), _last_end(sequence, self.end_ids)
        # Marks that end together: the longer one holds the other
        within = (start > end) | ((start == end) & (start >= 0) & (len(self.start_ids) > len(self.end_ids)))
        before = window.tokens.shape[1] - 1
        return accepted & within[:, before:-1]  # whether the token before a candidate is inside


def _last_end(sequence: torch.Tensor, mark: Sequence[int]) -> torch.Tensor:
    """For each position the last one, up to it, at which the mark ends; -1 if there is none. Shape as `sequence`."""
    found = torch.ones_like(sequence, dtype=torch.bool)
    for i, token in enumerate(reversed(mark)):
        shifted = torch.nn.functional.pad(sequence, (i, 0), value=-1)[:, : sequence.shape[1]]
        found &= shifted == token
    places = torch.arange(sequence.shape[1], device=sequence.device).expand_as(sequence)
    return places.where(found, -1).cummax(-1).values


@dataclass(frozen=True)
class After(_Composite):
    """Accepts what its judge accepts after the first `n` new tokens; see [`after`]."""

    n: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole(self, 0, n=self.n)

    @property
    def reads(self) -> frozenset[Read]:
        return super().reads | {"num_new_tokens"}

    def accept(self, window: Window, threshold: float | None = None) -> torch.Tensor:
        (accepted,) = self._answers(window, threshold)
        assert window.num_new_tokens is not None
        place = torch.arange(accepted.shape[1], device=accepted.device)
        return accepted & (window.num_new_tokens + place >= self.n)


@dataclass(frozen=True)
class Budget(_Composite):
    """Accepts what its judge accepts while the sum of accepted importances stays within a limit; see [`budget`]."""

    limit: float = math.inf

    def __post_init__(self) -> None:
        super().__post_init__()
        if not hasattr(self.judges[0], "importance"):
            raise TypeError(f"budget needs a judge with importances, such as AutoJudgeHead; got {self.judges[0]!r}.")
        if isinstance(self.limit, str) or not self.limit >= 0:  # also catches NaN
            raise ValueError(f"budget needs a limit of at least 0; got {self.limit!r}.")

    @property
    def reads(self) -> frozenset[Read]:
        return super().reads | {"spent"}

    @property
    def num_budgets(self) -> int:
        return 1

    def costs(self, window: Window) -> torch.Tensor:
        """See [`Spender.costs`]: the importances."""
        return self.judges[0].importance(window).to(window.draft_tokens.device)[..., None]  # type: ignore[attr-defined]

    def accept(self, window: Window, threshold: float | None = None) -> torch.Tensor:
        accepted = self.judges[0].accept(window, threshold)
        return accepted & (spent_with(window, self.costs(window))[..., 0] <= self.limit) & (self.limit > 0)


@dataclass(frozen=True)
class AtThreshold(_Composite):
    """A judge at one threshold, as a rule without one; see [`at_threshold`]."""

    at: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_threshold(self.at)
        if self.judges[0].threshold is None:
            raise ValueError(f"{self.judges[0]!r} is a rule without a threshold; change its own arguments instead.")

    @property
    def threshold(self) -> None:
        """None: it is fixed."""

    def accept(self, window: Window, threshold: float | None = None) -> torch.Tensor:
        return self.judges[0].accept(window, self.at)


def at_threshold(judge: Judge, threshold: float) -> AtThreshold:
    """A judge that accepts what `judge` accepts at a threshold, to be compared with others in one run.

    Raises:
        ValueError: If the judge has no threshold, or it is not in [0, 1].
    """
    return AtThreshold((judge,), threshold)


def any_of(*judges: Judge) -> AnyOf:
    """A judge that accepts a mismatch if at least one of `judges` does."""
    return AnyOf(judges)


def all_of(*judges: Judge) -> AllOf:
    """A judge that accepts a mismatch if all of `judges` do."""
    return AllOf(judges)


def inside(start_ids: Sequence[int], end_ids: Sequence[int], judge: Judge) -> Inside:
    """A judge that accepts what `judge` accepts between two marks, for instance the token ids of `<think>` and
    `</think>`, and verifies exactly elsewhere. A mark counts when it is complete, in the prompt too, and from the next
    candidate of the same round on.

    Args:
        start_ids, end_ids (`Sequence[int]`): Token ids of the marks.
        judge ([`Judge`]): Decides inside.

    Raises:
        ValueError: If a mark is empty, holds something else than token ids, or both are equal.
    """
    return Inside((judge,), tuple(start_ids), tuple(end_ids))


def after(n: int, judge: Judge) -> After:
    """A judge that verifies the first `n` new tokens exactly and then accepts what `judge` accepts. Lossy verification
    harms refusals long before accuracy, and the first 1 to 8 tokens verified exactly restore most of them (arXiv
    2610.08678; only its summary was read).

    Raises:
        ValueError: If `n` is not a whole number of at least 0.
    """
    return After((judge,), n)


def budget(judge: Judge, limit: float) -> Budget:
    """A judge that accepts what `judge` accepts as long as the sum of the accepted mismatches' importances, over one
    request and for each sequence of a batch, stays at most `limit`. A head's importance is the probability that a
    mismatch changes the outcome, so `limit` bounds their expected number. 0 accepts nothing.

    Args:
        judge ([`AutoJudgeHead`]): Or another judge with a method `importance`.
        limit (`float`): At least 0.

    Raises:
        TypeError: If the judge has no importances.
        ValueError: If the limit is negative.
    """
    return Budget((judge,), limit)
