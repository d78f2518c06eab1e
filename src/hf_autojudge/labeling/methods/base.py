"""What a labelling method is, and what it gets for one prompt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from hf_autojudge.labeling.completion import Limits
from hf_autojudge.labeling.records import LabelledPrompt
from hf_autojudge.labeling.scheduler import Search
from hf_autojudge.labeling.speculation import Speculation

SameOutcome = Callable[[list[int], list[int]], bool]


@dataclass(frozen=True)
class Job:
    """One prompt to label.

    Attributes:
        index (`int`): Of its sample in the data.
        prompt (`list[int]`): Token ids.
        limits ([`Limits`]): Where an answer ends.
        same_outcome (`Callable[[list[int], list[int]], bool]`): Whether two answers (new token ids) have the same
            outcome.
        settled (`Callable[[list[int]], bool]`, *optional*): Whether an unfinished answer (new token ids) has an
            outcome that nothing written after it can change.
        is_correct (`Callable[[list[int]], bool]`, *optional*): Whether an answer (new token ids) is right. `None` if
            the sample's right answer is not known.
        speculation ([`Speculation`], *optional*): Chooses the guesses of a completion's next tokens. Of the run; by
            default there is no draft to guess.
        found ([`LabelledPrompt`], *optional*): What a search that was stopped has found: this one continues it.
        on_progress (`Callable[[LabelledPrompt], None]`, *optional*): Called with what has been found so far: when the
            target's answer is known, and after each mismatch. A search given it as `found` continues from there.
    """

    index: int
    prompt: list[int]
    limits: Limits
    same_outcome: SameOutcome
    settled: Callable[[list[int]], bool] | None = None
    is_correct: Callable[[list[int]], bool] | None = None
    speculation: Speculation = field(default_factory=Speculation)
    found: LabelledPrompt | None = None
    on_progress: Callable[[LabelledPrompt], None] = lambda found: None


class LabelingMethod(Protocol):
    """A labelling method: a value whose fields are its settings."""

    def search(self, job: Job) -> Search[LabelledPrompt]:
        """Label one prompt."""
        ...

    def settings(self) -> dict[str, Any]:
        """What the labels depend on, ready for JSON; `method` names the labelling method."""
        ...
