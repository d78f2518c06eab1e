"""What every way to label gives: one record for each prompt."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Mismatch:
    """A position where the draft would have written another token than the target.

    Attributes:
        position (`int`): Counted from the first new token, 0.
        target_token, draft_token (`int`): What each of the two wrote.
        important (`bool`): Whether the draft's token changes the outcome.
        importance (`float`, *optional*): A soft label in [0, 1]: how sure that is. Defaults to 1 for an important
            mismatch and 0 for another.
    """

    position: int
    target_token: int
    draft_token: int
    important: bool
    importance: float = -1.0

    def __post_init__(self) -> None:
        if self.importance == -1.0:
            object.__setattr__(self, "importance", float(self.important))

    def __getitem__(self, name: str) -> Any:
        """The field of that name: records read alike here and as rows of a stored data set."""
        return getattr(self, name)


@dataclass(frozen=True)
class LabelledPrompt:
    """The labels of one prompt.

    Attributes:
        prompt (`list[int]`): Token ids.
        mismatches (`list[Mismatch]`): In order of position.
        reference (`list[int]`): The target's greedy answer, an end token included.
        response (`list[int]`): The answer the labels are read on. From the search: the last accepted answer, with the
            draft's token at every unimportant mismatch and the target's elsewhere.
    """

    prompt: list[int]
    mismatches: list[Mismatch]
    reference: list[int]
    response: list[int]

    def __getitem__(self, name: str) -> Any:
        """The field of that name: records read alike here and as rows of a stored data set."""
        return getattr(self, name)

    def to_row(self) -> dict[str, Any]:
        """Plain lists and dicts, one row of a data set."""
        return asdict(self)

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> LabelledPrompt:
        """The inverse of [`to_row`]."""
        return cls(
            prompt=list(row["prompt"]),
            mismatches=[Mismatch(**m) for m in row["mismatches"]],
            reference=list(row["reference"]),
            response=list(row["response"]),
        )
