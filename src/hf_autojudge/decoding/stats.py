"""What happened during one call of `generate(judge=...)`."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class JudgeStats:
    """Counts and times of judged decoding; add two to sum them.

    A batch counts as the sum of its sequences: a pass or round over four running sequences counts four. Only the times
    are those of the whole batch.

    Attributes:
        rounds (`int`): Rounds: propose, verify, accept, commit. A round has one target pass.
        target_calls, draft_calls (`int`): Forward passes, prefill's included. Passes inside a candidate generator of
            transformers are not counted.
        new_tokens (`int`): Tokens emitted.
        drafted (`int`): Candidate tokens verified.
        matched (`int`): Emitted candidates that the target would have chosen (or that passed the sampling test).
        accepted_by_judge (`int`): Emitted candidates that are mismatches which the judge accepted.
        histogram (`Counter[int]`): Number of rounds in which n candidates were accepted, by n.
        draft_seconds, target_seconds, other_seconds (`float`): Time to propose, in the target's passes, and for the
            rest.
    """

    rounds: int = 0
    target_calls: int = 0
    draft_calls: int = 0
    new_tokens: int = 0
    drafted: int = 0
    matched: int = 0
    accepted_by_judge: int = 0
    histogram: Counter[int] = field(default_factory=Counter)
    draft_seconds: float = 0.0
    target_seconds: float = 0.0
    other_seconds: float = 0.0

    def add_round(self, new_tokens: int, drafted: int, accepted: int, matched: int) -> None:
        """Count one round of one sequence: `accepted` candidates were emitted, `matched` of them the target's own."""
        self.rounds += 1
        self.target_calls += 1
        self.new_tokens += new_tokens
        self.drafted += drafted
        self.matched += matched
        self.accepted_by_judge += accepted - matched
        self.histogram[accepted] += 1

    def add_times(self, rounds: list[tuple[Any, Any, Any, Any]]) -> None:
        """Add the times of rounds: when each began, had its candidates, had the target's logits, and ended. Seconds,
        or CUDA events, which are waited for."""

        def seconds(start: Any, end: Any) -> float:
            return end - start if isinstance(start, float) else start.elapsed_time(end) / 1000

        if rounds and not isinstance(rounds[-1][-1], float):
            rounds[-1][-1].synchronize()
        self.draft_seconds += sum(seconds(began, proposed) for began, proposed, _, _ in rounds)
        self.target_seconds += sum(seconds(proposed, verified) for _, proposed, verified, _ in rounds)
        self.other_seconds += sum(seconds(verified, ended) for _, _, verified, ended in rounds)

    @property
    def accepted_per_target_call(self) -> float:
        """New tokens divided by target forward passes, prefill's round included; 0 before the first pass."""
        return self.new_tokens / self.target_calls if self.target_calls else 0.0

    @property
    def seconds(self) -> float:
        """Wall time of the decoding loop."""
        return self.draft_seconds + self.target_seconds + self.other_seconds

    def __add__(self, other: JudgeStats) -> JudgeStats:
        return JudgeStats(**{name: value + getattr(other, name) for name, value in vars(self).items()})

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, ready for JSON."""
        numbers = asdict(self) | {"accepted_per_target_call": self.accepted_per_target_call}
        return numbers | {"histogram": {str(n): self.histogram[n] for n in sorted(self.histogram)}}
