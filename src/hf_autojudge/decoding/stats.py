"""What happened during one call of `generate(judge=...)`."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import torch


@dataclass
class JudgeStats:
    """Counts and times of judged decoding; add two to sum them.

    A batch counts as the sum of its rows: a pass or round over four unfinished rows counts four. Only the times are
    those of the whole batch.

    Attributes:
        rounds (`int`): Rounds of draft and verification.
        target_calls, draft_calls (`int`): Forward passes, prefill's included. What a candidate source of transformers
            runs inside itself is not counted.
        new_tokens (`int`): Tokens emitted.
        drafted (`int`): Candidate tokens verified.
        matched (`int`): Emitted candidates that the target would have chosen (or that passed the sampling test).
        accepted_by_judge (`int`): Emitted candidates that are mismatches which the judge accepted.
        histogram (`Counter[int]`): How many rounds kept n candidates, by n.
        draft_seconds, target_seconds, other_seconds (`float`): Time inside the draft's part, inside the target's
            passes, and elsewhere.
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
        """Count one round of one row: `accepted` candidates were emitted, `matched` of them the target's own."""
        self.rounds += 1
        self.new_tokens += new_tokens
        self.drafted += drafted
        self.matched += matched
        self.accepted_by_judge += accepted - matched
        self.histogram[accepted] += 1

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
        row = asdict(self) | {"accepted_per_target_call": self.accepted_per_target_call}
        return row | {"histogram": {str(n): self.histogram[n] for n in sorted(self.histogram)}}


class Stopwatch:
    """Sums the time spent in named parts. On CUDA it places events and reads them once, at the end."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._device = device
        self._spans: dict[str, list[tuple[Any, Any]]] = {}

    def _now(self) -> Any:
        if not self._cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count the time inside the `with` block for `name`."""
        start = self._now()
        yield
        self._spans.setdefault(name, []).append((start, self._now()))

    def seconds(self, name: str) -> float:
        """Sum of the parts called `name`."""
        spans = self._spans.get(name, [])
        if not self._cuda:
            return sum(end - start for start, end in spans)
        torch.cuda.synchronize()
        return sum(start.elapsed_time(end) for start, end in spans) / 1000
